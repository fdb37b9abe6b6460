"""The ledger's tables and statements, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from functools import lru_cache

from keepfit.migrations import VERSION_TABLE

_TYPES = {
    "sqlite": {"instant": "VARCHAR(32)", "bytes": "BLOB", "number": "DOUBLE"},
    "postgresql": {
        "instant": "TIMESTAMP WITH TIME ZONE",
        "bytes": "BYTEA",
        "number": "DOUBLE PRECISION",
    },
}
"""A moment is a native one in PostgreSQL, and ISO 8601 of fixed width in SQLite."""

_TABLES = (
    """
    CREATE TABLE facts (
        pipeline TEXT NOT NULL,
        seq BIGINT NOT NULL,
        at {instant} NOT NULL,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (pipeline, seq)
    )
    """,
    "CREATE INDEX facts_kind ON facts (pipeline, kind, seq)",
    """
    CREATE TABLE folds (
        pipeline TEXT NOT NULL,
        name TEXT NOT NULL,
        seq BIGINT NOT NULL,
        body {bytes} NOT NULL,
        PRIMARY KEY (pipeline, name)
    )
    """,
    """
    CREATE TABLE leases (
        pipeline TEXT NOT NULL,
        token BIGINT NOT NULL,
        holder TEXT,
        host TEXT NOT NULL,
        pid BIGINT NOT NULL,
        started {number} NOT NULL,
        expires_at {instant} NOT NULL,
        PRIMARY KEY (pipeline)
    )
    """,
    f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num))",
)

ONE_VERSION = f"SELECT version_num FROM {VERSION_TABLE}"
INSERT_VERSION = f"INSERT INTO {VERSION_TABLE} (version_num) VALUES (:version)"

LAST_SEQ = "SELECT max(seq) FROM facts WHERE pipeline = :pipeline"
INSERT_FACTS = (
    "INSERT INTO facts (pipeline, seq, at, kind, body) VALUES (:pipeline, :seq, :at, :kind, :body)"
)
ALL_PIPELINES = "SELECT DISTINCT pipeline FROM facts ORDER BY pipeline"
EVERY_FACT = "SELECT pipeline, seq, kind, body FROM facts ORDER BY pipeline, seq"

ONE_FOLD = "SELECT seq, body FROM folds WHERE pipeline = :pipeline AND name = :name"
INSERT_FOLD = "INSERT INTO folds (pipeline, name, seq, body) VALUES (:pipeline, :name, :seq, :body)"
UPDATE_FOLD = (
    "UPDATE folds SET seq = :seq, body = :body WHERE pipeline = :pipeline AND name = :name"
)

ONE_LEASE = (
    "SELECT token, holder, host, pid, started, expires_at FROM leases WHERE pipeline = :pipeline"
)
INSERT_LEASE = (
    "INSERT INTO leases (pipeline, token, holder, host, pid, started, expires_at) "
    "VALUES (:pipeline, :token, :holder, :host, :pid, :started, :expires_at)"
)
UPDATE_LEASE = (
    "UPDATE leases SET token = :token, holder = :holder, host = :host, pid = :pid, "
    "started = :started, expires_at = :expires_at WHERE pipeline = :pipeline"
)
EXTEND_LEASE = "UPDATE leases SET expires_at = :expires_at WHERE pipeline = :pipeline"
FREE_LEASE = "UPDATE leases SET holder = NULL WHERE pipeline = :pipeline"

NOW = {
    "sqlite": "SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')",
    "postgresql": "SELECT clock_timestamp()",
}
"""The database's clock. In PostgreSQL the moment of the statement: that of the transaction lies
before the wait for a lock."""


def tables(kind: str) -> list[str]:
    """Return the statements that create the tables in a kind of database."""
    return [statement.format(**_TYPES[kind]) for statement in _TABLES]


@lru_cache(maxsize=32)
def some_facts(*, kinds: int, since: bool, limit: bool, newest_first: bool) -> str:
    """Return the statement that reads facts by the given filters; ``kinds`` counts them."""
    parts = ["SELECT seq, at, body FROM facts WHERE pipeline = :pipeline AND seq > :after"]
    if kinds:
        named = ", ".join(f":kind_{number}" for number in range(kinds))
        parts.append(f"AND kind IN ({named})")
    if since:
        parts.append("AND at >= :since")
    parts.append(f"ORDER BY seq {'DESC' if newest_first else 'ASC'}")
    if limit:
        parts.append("LIMIT :limit")
    return " ".join(parts)
