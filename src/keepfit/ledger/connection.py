"""What the ledger asks of a database, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from keepfit.errors import KeepfitError

Values = Mapping[str, Any]


class Connection(Protocol):
    """One thread's connection; a moment may be a value of a statement.

    ``kind`` is ``"sqlite"`` or ``"postgresql"``.
    """

    kind: str

    @property
    def usable(self) -> bool:
        """Whether it is open, and between two transactions."""

    def begin(self, lock: str | None) -> None:
        """Begin a transaction; with a lock as the only writer, of the file or of one pipeline."""

    def commit(self) -> None:
        """End a transaction."""

    def rollback(self) -> None:
        """Break a transaction off."""

    def close(self) -> None:
        """Let go of the database and of every lock."""

    def execute(self, statement: str, values: Values | Sequence[Values] = ()) -> list[Any]:
        """Run a statement with values, or once for each of several; return the rows it finds."""

    def has_table(self, name: str) -> bool:
        """Return whether there is such a table."""

    def upgrade(self, to: str) -> None:
        """Bring the tables to a revision, in the transaction that is open."""


class Database(Protocol):
    """What connections are opened to."""

    def open(self) -> Connection:
        """Return a new connection."""

    def lost(self, error: BaseException) -> bool:
        """Return whether an error says that the connection is gone, and a new one may do."""

    def explain(self, error: BaseException, place: str) -> KeepfitError | None:
        """Return a database's error as one that says what to do; None for other errors."""


def moment(kept: Any) -> datetime:
    """Return what a database kept of a moment as one in UTC: its own, or ISO 8601 of fixed width."""
    found: datetime = datetime.fromisoformat(kept) if isinstance(kept, str) else kept
    return found.astimezone(UTC)
