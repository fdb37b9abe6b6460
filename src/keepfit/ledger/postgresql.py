"""The ledger in PostgreSQL, through SQLAlchemy; imported at first use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from keepfit.errors import ExtraMissing, KeepfitError, LedgerConflict
from keepfit.ledger.connection import Values

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 27494))"
_HAS = (
    "SELECT 1 FROM pg_catalog.pg_class "
    "WHERE relname = :name AND relkind = 'r' AND pg_catalog.pg_table_is_visible(oid)"
)


class PostgreSQL:
    """A database on a server.

    Parameters
    ----------
    url
        Where it is.
    durable
        Whether a commit survives a loss of power.

    Raises
    ------
    ExtraMissing
        The package `psycopg` is not installed.
    """

    def __init__(self, url: str, *, durable: bool) -> None:
        try:
            self._engine = create_engine(url, poolclass=NullPool)
        except ImportError as error:
            raise ExtraMissing(
                f"a ledger on PostgreSQL needs the package `psycopg`: {error}",
                hint='pip install "keepfit[postgresql]"',
            ) from error
        if not durable:
            event.listen(self._engine, "connect", _commit_without_waiting)

    def open(self) -> Opened:
        """Return a new connection."""
        return Opened(self._engine.connect())

    def lost(self, error: BaseException) -> bool:
        """Return whether an error says that the server closed the connection."""
        return isinstance(error, DBAPIError) and error.connection_invalidated

    def explain(self, error: BaseException, place: str) -> KeepfitError | None:
        """Return an error of the server's as one that says what to do; None for other errors."""
        if not isinstance(error, DBAPIError):
            return None
        if isinstance(error, IntegrityError):
            return LedgerConflict(
                "another writer appended to the ledger first",
                hint="read the new facts, fold them and decide again",
            )
        return KeepfitError(
            f"the ledger {place} cannot be used: {error.orig}",
            hint="check that the server runs and that the URL is right",
        )


class Opened:
    """A connection to PostgreSQL."""

    kind = "postgresql"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def usable(self) -> bool:
        """Whether it is open, and between two transactions."""
        held = self._connection
        return not (held.closed or held.invalidated or held.in_transaction())

    def begin(self, lock: str | None) -> None:
        """Begin a transaction; with a lock as the only writer of one pipeline."""
        self._connection.begin()
        if lock is not None:
            self.execute(_LOCK, {"name": lock})

    def commit(self) -> None:
        """End a transaction."""
        self._connection.commit()

    def rollback(self) -> None:
        """Break a transaction off."""
        self._connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, statement: str, values: Values | Sequence[Values] = ()) -> list[Any]:
        """Run a statement with values, or once for each of several; return the rows it finds."""
        found = self._connection.execute(_parsed(statement), values or None)
        return [tuple(row) for row in found.fetchall()] if found.returns_rows else []

    def has_table(self, name: str) -> bool:
        """Return whether there is such a table."""
        return bool(self.execute(_HAS, {"name": name}))

    def upgrade(self, to: str) -> None:
        """Bring the tables to a revision, in the transaction that is open."""
        from keepfit.migrations import upgrade

        upgrade(self._connection, to=to)


@lru_cache(maxsize=64)
def _parsed(statement: str) -> TextClause:
    return text(statement)


def _commit_without_waiting(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()
