"""The database under the ledger: opening it, transactions, and errors a person can act on."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from keepfit.errors import ConfigError, KeepfitError
from keepfit.ledger import statements
from keepfit.ledger.connection import Connection, Database
from keepfit.ledger.sqlite import SQLite
from keepfit.migrations import HEAD, VERSION_TABLE

T = TypeVar("T")

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
        self._database: Database | None = None
        self._current = False
        self._process = os.getpid()
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
        return self._current or self.path is None or self.path.exists()

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
            connection = self._held()
            # An interrupt may have come anywhere, even in here: whatever is left of the
            # connection must let go of its locks.
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.close()
            self._local.connection = None

    def close(self) -> None:
        """Close every connection; a database in memory is gone."""
        with self._turn, self._opening:
            self._closed = True
            for connection in list(self._connections):
                connection.close()
            self._connections.clear()
            self._local = threading.local()
            if isinstance(self._database, SQLite):
                self._database.forget()

    def _transact(self, work: Callable[[Connection], T], *, lock: str | None) -> T:
        for last_try in (False, True):
            began = False
            with self._turn:
                connection = self._connection()
                try:
                    connection.begin(lock)
                    began = lock is not None
                    result = work(connection)
                    connection.commit()
                    return result
                except KeepfitError:
                    connection.rollback()
                    raise
                except BaseException as error:
                    self.leave()  # a commit that failed may have left its transaction open
                    if self._opened.lost(error) and not began and not last_try:
                        continue
                    self._explain(error)
                    raise
        raise AssertionError("unreachable")

    def _explain(self, error: BaseException) -> None:
        """Raise a database's error as one that says what to do."""
        said = self._opened.explain(error, str(self))
        if said is not None:
            raise said from error
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # a library tripped over the interrupt

    def _held(self) -> Connection | None:
        """Return this thread's connection."""
        return getattr(self._local, "connection", None)

    def _connection(self) -> Connection:
        held = self._held()
        if held is None or self._process != os.getpid():
            return self._connect()
        if not held.usable:  # an interrupt came in the middle of a transaction
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
                _inherited.extend((self._database, *self._connections))
                self._connections, self._local = weakref.WeakSet(), threading.local()
                self._database = None if self.url else self._database
                self._process = os.getpid()
            connection = self._open()
            self._connections.add(connection)
            self._local.connection = connection
            return connection

    def _open(self) -> Connection:
        """Return a new connection; the first one finds the tables current or makes them so."""
        try:
            connection = self._opened.open()
            if not self._current:
                try:
                    self._prepare(connection)
                except BaseException:
                    connection.close()
                    raise
        except KeepfitError:
            raise
        except Exception as error:
            self._explain(error)
            raise
        self._current = True
        return connection

    @property
    def _opened(self) -> Database:
        """The database, which connections are opened to."""
        if self._database is None:
            if self.url is None:
                self._database = SQLite(self.path, durable=self.durable)
            else:
                from keepfit.ledger.postgresql import PostgreSQL

                self._database = PostgreSQL(self.url, durable=self.durable)
        return self._database

    def _prepare(self, connection: Connection) -> None:
        """Create or migrate the tables, unless they are current."""
        connection.begin(None)
        found = _version(connection)
        connection.commit()
        if found == HEAD:
            return
        connection.begin("")
        version = _version(connection)  # others may have been quicker
        if version is None:
            self._create_tables(connection)
        elif version < HEAD:
            connection.upgrade(HEAD)
        elif version > HEAD:
            raise KeepfitError(
                f"the ledger {self} has version {version}, this keepfit knows up to {HEAD}",
                hint="a newer keepfit wrote it: pip install --upgrade keepfit",
            )
        connection.commit()

    def _create_tables(self, connection: Connection) -> None:
        if connection.has_table("facts"):
            raise KeepfitError(
                f"the database {self} has a table `facts` that is not a ledger's",
                hint="choose another file, database or schema (?options=-csearch_path=keepfit)",
            )
        for statement in statements.tables(connection.kind):
            connection.execute(statement)
        connection.execute(statements.INSERT_VERSION, {"version": HEAD})


def _version(connection: Connection) -> str | None:
    if not connection.has_table(VERSION_TABLE):
        return None
    found = connection.execute(statements.ONE_VERSION)
    return str(found[0][0]) if found else None
