"""The database under the ledger: opening it, transactions, and errors a person can act on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keepfit.errors import ConfigError, ExtraMissing, KeepfitError, LedgerConflict
from keepfit.migrations import HEAD, upgrade

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long to wait for another writer of the same SQLite file."""

_FORMS = 'a folder (".keepfit"), a file ("ledger.db"), ":memory:" or "postgresql://user@host/name"'
_inherited: list[object] = []  # connections of a parent process: closing them here would harm it


class Store:
    """One database: a SQLite file, a SQLite database in memory, or PostgreSQL.

    Nothing is opened or created before the first use, and reading alone creates no file.
    Every thread has a connection of its own.

    Parameters
    ----------
    where
        The folder, file or URL.
    durable
        Whether an append survives a loss of power.

    Raises
    ------
    ConfigError
        The text names no place that a ledger can be.
    """

    def __init__(self, where: str | os.PathLike[str], *, durable: bool = True) -> None:
        self.durable = durable
        self.path: Path | None = None
        self.url: str | None = None
        self._locate(where)
        self._engine: Engine | None = None
        self._process = os.getpid()
        self._kept: sqlite3.Connection | None = None
        in_memory = (self.path, self.url) == (None, None)
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.RLock() if in_memory else contextlib.nullcontext()
        )
        self._opening = threading.RLock()
        self._local = threading.local()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False

    def _locate(self, where: str | os.PathLike[str]) -> None:
        text = os.fspath(where)
        if text in (":memory:", "sqlite://", "sqlite:///:memory:"):
            return
        if text.startswith("sqlite:///") and "?" not in text:
            self.path = Path(text.removeprefix("sqlite:///")).absolute()
        elif text.split("://")[0] in ("postgresql", "postgres", "postgresql+psycopg"):
            self.url = "postgresql+psycopg://" + text.split("://", 1)[1]
        elif "://" in text or not text:
            raise ConfigError(
                f"expected a place for the ledger, got {text!r}", hint=f"write {_FORMS}"
            )
        else:
            path = Path(text).expanduser()
            is_file = path.suffix in (".db", ".sqlite", ".sqlite3") or path.is_file()
            self.path = (path if is_file else path / "ledger.db").absolute()

    def __str__(self) -> str:
        """Return where the ledger is, without a password."""
        if self.url is None:
            return str(self.path or ":memory:")
        from sqlalchemy import make_url

        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=True)

    @property
    def exists(self) -> bool:
        """Whether there may be something to read."""
        return self._engine is not None or self.path is None or self.path.exists()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Return what some reading finds; a connection that was lost is opened anew, once.

        Raises
        ------
        KeepfitError
            The database cannot be read.
        """
        return self._transact(work, lock=None)

    def write(self, work: Callable[[Connection], T], *, lock: str) -> T:
        """Run some writing in one transaction, alone among the writers of a pipeline.

        Raises
        ------
        LedgerConflict
            Another writer appended the same number first.
        KeepfitError
            The database cannot be written.
        """
        return self._transact(work, lock=lock)

    def leave(self) -> None:
        """Close the connection of the calling thread."""
        with self._turn:
            connection, raw = self._held()
            # An interrupt may have come anywhere, even in here: whatever is left of the
            # connection must let go of its locks.
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.close()
            if raw is not None:
                _roll_back(raw, None)
                raw.close()
            self._local.connection = self._local.raw = None

    def close(self) -> None:
        """Close every connection; a database in memory is gone."""
        with self._turn, self._opening:
            self._closed = True
            for connection in list(self._connections):
                connection.close()
            self._connections.clear()
            self._local = threading.local()
            if self._kept is not None:
                _close_kept(self._kept)

    def _transact(self, work: Callable[[Connection], T], *, lock: str | None) -> T:
        from sqlalchemy.exc import DBAPIError

        for last_try in (False, True):
            began = False
            with self._turn:
                connection = self._connection()
                try:
                    transaction = connection.begin()
                    if lock is not None:
                        self._lock(connection, lock)
                        began = True
                    result = work(connection)
                    transaction.commit()
                    return result
                except DBAPIError as error:
                    self.leave()  # a commit that failed may have left its transaction open
                    if error.connection_invalidated and not began and not last_try:
                        continue
                    raise self.explain(error) from error
                except KeepfitError:
                    transaction.rollback()
                    raise
                except BaseException as error:
                    self.leave()
                    if isinstance(error.__context__, KeyboardInterrupt):
                        raise error.__context__ from None  # SQLAlchemy tripped over the interrupt
                    raise
        raise AssertionError("unreachable")

    @staticmethod
    def _lock(connection: Connection, name: str) -> None:
        """Be the only writer: of the file in SQLite, of one pipeline in PostgreSQL."""
        from keepfit.ledger import tables

        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(tables.lock_pipeline, {"name": name})

    def _held(self) -> tuple[Connection | None, sqlite3.Connection | None]:
        """Return this thread's connection, and SQLite's own beneath it."""
        local = self._local
        return getattr(local, "connection", None), getattr(local, "raw", None)

    def _connection(self) -> Connection:
        held, raw = self._held()
        if held is None or self._process != os.getpid():
            return self._connect()
        if held.closed or held.invalidated or held.in_transaction():
            broken = True
        else:
            broken = raw is not None and raw.in_transaction
        if broken:  # an interrupt came in the middle of a transaction
            self.leave()
            return self._connect()
        return held

    def _connect(self) -> Connection:
        with self._opening:
            if self._closed:
                raise KeepfitError(
                    f"the ledger {self} is closed", hint="open it again with Ledger(…)"
                )
            if self._process != os.getpid():
                _inherited.extend((self._engine, *self._connections))
                self._engine, self._connections = None, weakref.WeakSet()
                self._local, self._process = threading.local(), os.getpid()
            connection = self._open()
            self._connections.add(connection)
            self._local.connection = connection
            return connection

    def _open(self) -> Connection:
        """Return a new connection; the first one finds the tables current or makes them so."""
        from sqlalchemy.exc import DBAPIError

        engine = self._engine or self._create_engine()
        try:
            connection = engine.connect()
            if self._engine is None:
                try:
                    self._prepare(connection)
                except BaseException:
                    connection.close()
                    raise
        except DBAPIError as error:
            raise self.explain(error) from error
        self._engine = engine
        return connection

    def _create_engine(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import NullPool

        if self.url is None:
            self._make_home()
            engine = create_engine(
                "sqlite://",
                creator=self._open_sqlite,
                poolclass=NullPool,
                pool_reset_on_return=None,  # transactions end where this module says so
            )
            if self.path is not None:
                event.listen(engine, "close", _roll_back)
            return engine
        try:
            engine = create_engine(self.url, poolclass=NullPool)
        except ImportError as error:
            raise ExtraMissing(
                f"a ledger on PostgreSQL needs the package `psycopg`: {error}",
                hint='pip install "keepfit[postgresql]"',
            ) from error
        if not self.durable:
            event.listen(engine, "connect", _commit_without_waiting)
        return engine

    def _make_home(self) -> None:
        if self.path is None:
            if self._kept is None:
                self._kept = _open_memory()
                weakref.finalize(self, _close_kept, self._kept)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KeepfitError(
                f"the folder {self.path.parent} for the ledger cannot be made: {error.strerror}",
                hint="choose a folder that you may write to, or set KEEPFIT_LEDGER",
            ) from error

    def _open_sqlite(self) -> sqlite3.Connection:
        if self._kept is None:
            self._local.raw = _open_file(str(self.path), durable=self.durable)
        else:
            _roll_back(self._kept, None)  # what an interrupt in another thread left behind
            self._local.raw = self._kept
        return self._local.raw  # type: ignore[no-any-return]

    def _prepare(self, connection: Connection) -> None:
        """Create or migrate the tables, unless they are current."""
        with connection.begin():
            if self._version(connection) == HEAD:
                return
        with connection.begin():
            self._lock(connection, "")
            version = self._version(connection)  # others may have been quicker
            if version is None:
                self._create_tables(connection)
            elif version < HEAD:
                upgrade(connection, to=HEAD)
            elif version > HEAD:
                raise KeepfitError(
                    f"the ledger {self} has version {version}, this keepfit knows up to {HEAD}",
                    hint="a newer keepfit wrote it: pip install --upgrade keepfit",
                )

    @staticmethod
    def _version(connection: Connection) -> str | None:
        from keepfit.ledger import tables

        if not connection.dialect.has_table(connection, tables.version.name):
            return None
        return connection.execute(tables.one_version).scalar()

    def _create_tables(self, connection: Connection) -> None:
        from keepfit.ledger import tables

        if connection.dialect.has_table(connection, tables.facts.name):
            raise KeepfitError(
                f"the database {self} has a table `facts` that is not a ledger's",
                hint="choose another file, database or schema (?options=-csearch_path=keepfit)",
            )
        tables.metadata.create_all(connection, checkfirst=False)
        connection.execute(tables.version.insert(), {"version_num": HEAD})

    def explain(self, error: DBAPIError) -> KeepfitError:
        """Return a database's error as one that says what to do."""
        from sqlalchemy.exc import IntegrityError

        if isinstance(error, IntegrityError):
            return LedgerConflict(
                "another writer appended to the ledger first",
                hint="read the new facts, fold them and decide again",
            )
        if self.url is not None:
            return KeepfitError(
                f"the ledger {self} cannot be used: {error.orig}",
                hint="check that the server runs and that the URL is right",
            )
        code = getattr(error.orig, "sqlite_errorname", "")
        for name, (what, hint) in _SQLITE.items():
            if code.startswith(name):
                return KeepfitError(f"the ledger {self} {what} ({error.orig})", hint=hint)
        return KeepfitError(f"the ledger {self} cannot be used: {error.orig}")


_SQLITE: dict[str, tuple[str, str]] = {
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
    import sqlite3

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


def _open_memory() -> sqlite3.Connection:
    """Return a database in memory, which lasts as long as its one connection.

    The threads take turns with it, and closing it waits until the ledger is closed.
    """
    import sqlite3

    class Kept(sqlite3.Connection):
        def close(self) -> None:
            """Stay open."""

        def create_function(self, *_args: Any, **_options: Any) -> None:
            """Do without: SQLAlchemy's are not used, and SQLite refuses while a cursor is open."""

    return sqlite3.connect(":memory:", factory=Kept, isolation_level=None, check_same_thread=False)


def _close_kept(connection: sqlite3.Connection) -> None:
    import sqlite3

    sqlite3.Connection.close(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on; SQLite does not wait by itself for others who do the same."""
    import sqlite3

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


def _roll_back(connection: Any, _record: object) -> None:
    """Give locks back before closing: SQLite closes only when the last cursor is gone."""
    with contextlib.suppress(Exception):
        connection.rollback()


def _commit_without_waiting(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()
