"""The ledger in SQLite: in a file, or in memory."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.errors import DiskFull, KeepfitError, LedgerConflict
from keepfit.ledger.connection import Values

BUSY_SECONDS = 30.0
"""How long to wait for another writer of the same file."""


class SQLite:
    """A database in a file; without one in memory, as long as this lasts.

    Parameters
    ----------
    path
        The file, whose folder is made.
    durable
        Whether a commit survives a loss of power.
    """

    def __init__(self, path: Path | None, *, durable: bool) -> None:
        self._path, self._durable = path, durable
        self._kept: sqlite3.Connection | None = None

    def open(self) -> Opened:
        """Return a new connection.

        Raises
        ------
        KeepfitError
            The folder cannot be made.
        """
        if self._path is not None:
            self._make_folder(self._path.parent)
            return Opened(_open_file(str(self._path), durable=self._durable))
        if self._kept is None:
            self._kept = _open_memory()
            weakref.finalize(self, sqlite3.Connection.close, self._kept)
        _roll_back(self._kept)  # what an interrupt in another thread left behind
        return Opened(self._kept)

    def forget(self) -> None:
        """Let go of what is in memory."""
        if self._kept is not None:
            sqlite3.Connection.close(self._kept)

    @staticmethod
    def _make_folder(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KeepfitError(
                f"the folder {folder} for the ledger cannot be made: {error.strerror}",
                hint="choose a folder that you may write to, or set KEEPFIT_LEDGER",
            ) from error

    def lost(self, error: BaseException) -> bool:
        """Return whether the connection is gone: a file's never is."""
        return False

    def explain(self, error: BaseException, place: str) -> KeepfitError | None:
        """Return an error of SQLite's as one that says what to do; None for other errors."""
        if not isinstance(error, sqlite3.Error):
            return None
        if isinstance(error, sqlite3.IntegrityError):
            return LedgerConflict(
                "another writer appended to the ledger first",
                hint="read the new facts, fold them and decide again",
            )
        code = getattr(error, "sqlite_errorname", "")
        for name, (what, hint) in _TROUBLE.items():
            if code.startswith(name):
                kind = DiskFull if name == "SQLITE_FULL" else KeepfitError
                return kind(f"the ledger {place} {what} ({error})", hint=hint)
        return KeepfitError(f"the ledger {place} cannot be used: {error}")


class Opened:
    """A connection to SQLite."""

    kind = "sqlite"

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        # That of a thread that ended; but at the end of a forked process it is its parent's.
        weakref.finalize(self, raw.close).atexit = False

    @property
    def usable(self) -> bool:
        """Whether it is between two transactions."""
        return not self._raw.in_transaction

    def begin(self, lock: str | None) -> None:
        """Begin a transaction as the only writer of the file; reading needs none."""
        if lock is not None:
            self._raw.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End a transaction."""
        self._raw.commit()

    def rollback(self) -> None:
        """Break a transaction off."""
        self._raw.rollback()

    def close(self) -> None:
        """Give locks back, and close."""
        _roll_back(self._raw)  # SQLite closes only when the last cursor is gone
        self._raw.close()

    def execute(self, statement: str, values: Values | Sequence[Values] = ()) -> list[Any]:
        """Run a statement with values, or once for each of several; return the rows it finds."""
        if values and not isinstance(values, Mapping):
            self._raw.executemany(statement, [_kept(one) for one in values])
            return []
        return self._raw.execute(statement, _kept(values) if values else {}).fetchall()

    def has_table(self, name: str) -> bool:
        """Return whether there is such a table."""
        asked = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
        return bool(self.execute(asked, {"name": name}))

    def upgrade(self, to: str) -> None:
        """Bring the tables to a revision, and end the transaction that is open."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import StaticPool

        from keepfit.migrations import upgrade

        self._raw.rollback()  # as SQLAlchemy does when it connects
        engine = create_engine(
            "sqlite://",
            creator=lambda: self._raw,
            poolclass=StaticPool,
            pool_reset_on_return=None,  # transactions end where this module says so
        )
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection, to=to)


def _kept(values: Any) -> dict[str, Any]:
    """Return values as SQLite keeps them: it has no type for moments."""
    return {
        name: one.isoformat(timespec="microseconds") if isinstance(one, datetime) else one
        for name, one in values.items()
    }


_TROUBLE: dict[str, tuple[str, str]] = {
    "SQLITE_FULL": ("cannot grow: the disk is full", "free some space; nothing was half written"),
    "SQLITE_READONLY": (
        "is read-only",
        "let this user write to the file and to its folder, or work on a copy",
    ),
    "SQLITE_CANTOPEN": (
        "cannot be opened",
        "let this user write to the file and to its folder, or work on a copy",
    ),
    "SQLITE_PERM": ("may not be opened", "let this user write to the file and to its folder"),
    "SQLITE_NOTADB": (
        "is not a ledger, but a file of another kind",
        "check the path; if it was a ledger, restore it from a backup",
    ),
    "SQLITE_CORRUPT": ("is damaged", "`keepfit doctor` says where; restore it from a backup"),
    "SQLITE_BUSY": (
        f"was held by another process for more than {BUSY_SECONDS:g} s",
        "look for a process that is stuck, or for a tool that has the file open",
    ),
    "SQLITE_IOERR": ("cannot be read or written", "check the disk; is it a network drive?"),
}


def _open_file(path: str, *, durable: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions begin where this module says so
        check_same_thread=False,  # a ledger is closed by one thread for all
    )
    try:
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
    except BaseException:
        connection.close()
        raise
    return connection


class _Kept(sqlite3.Connection):
    """A database in memory, which lasts as long as its one connection.

    The threads take turns with it, and closing it waits until the ledger is closed.
    """

    def close(self) -> None:
        """Stay open."""

    def create_function(self, *_args: Any, **_options: Any) -> None:
        """Do without: SQLAlchemy's are not used, and SQLite refuses while a cursor is open."""


def _open_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", factory=_Kept, isolation_level=None, check_same_thread=False)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on; SQLite does not wait by itself for others who do the same."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = (error.sqlite_errorcode & 0xFF) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(Exception):
        connection.rollback()
