"""The ledger's tables and statements, for SQLite and PostgreSQL; imported at first use."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Dialect,
    Double,
    Index,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.types import TypeEngine

from keepfit.migrations import VERSION_TABLE


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: a native one in PostgreSQL, ISO 8601 of fixed width in SQLite."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of a database."""
        kind = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else String(32)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return a moment as the database keeps it."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return what the database kept as a moment in UTC."""
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC)


metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("facts_kind", "pipeline", "kind", "seq"),
)

folds = Table(
    "folds",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started", Double, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

version = Table(VERSION_TABLE, metadata, Column("version_num", String(32), primary_key=True))

# Statements are built once: building one costs more than running it on SQLite.
_of_pipeline = facts.c.pipeline == bindparam("pipeline")
last_seq = select(func.max(facts.c.seq)).where(_of_pipeline)
insert_facts = facts.insert()
all_pipelines = select(facts.c.pipeline).distinct().order_by(facts.c.pipeline)
every_fact = select(facts.c.pipeline, facts.c.seq, facts.c.kind, facts.c.body).order_by(
    facts.c.pipeline, facts.c.seq
)
one_fold = select(folds.c.seq, folds.c.body).where(
    folds.c.pipeline == bindparam("pipeline"), folds.c.name == bindparam("name")
)
insert_fold = folds.insert()
update_fold = folds.update().where(
    folds.c.pipeline == bindparam("of_pipeline"), folds.c.name == bindparam("of_name")
)
one_lease = select(leases).where(leases.c.pipeline == bindparam("pipeline"))
insert_lease = leases.insert()
update_lease = leases.update().where(leases.c.pipeline == bindparam("of_pipeline"))
one_version = select(version.c.version_num)
lock_pipeline = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name"), 0x6B66)))


@lru_cache(maxsize=16)
def some_facts(
    *, kinds: bool, since: bool, limit: bool, newest_first: bool
) -> Select[int, datetime, str]:
    """Return the statement that reads facts by the given filters."""
    found = select(facts.c.seq, facts.c.at, facts.c.body).where(
        _of_pipeline, facts.c.seq > bindparam("after")
    )
    if kinds:
        found = found.where(facts.c.kind.in_(bindparam("kinds", expanding=True)))
    if since:
        found = found.where(facts.c.at >= bindparam("since"))
    found = found.order_by(facts.c.seq.desc() if newest_first else facts.c.seq)
    return found.limit(bindparam("limit", type_=BigInteger)) if limit else found


@lru_cache(maxsize=2)
def now(dialect: str) -> Select[datetime]:
    """Return the statement that reads the database's clock.

    In PostgreSQL it is the moment of the statement: that of the transaction lies before
    the wait for a lock.
    """
    clock = {
        "postgresql": "clock_timestamp()",
        "sqlite": "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')",
    }[dialect]
    return select(literal_column(clock, Instant))
