"""The file of a journal: SQLite, read by the loop and written by each worker of the server.

All workers share one file, so that positions are one order and an id is looked for in one
place. Two processes with a file each write a tenth more than with one file between them.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keepfit.errors import KeepfitError
from keepfit.journal.entries import ANSWER, ROW, SHEET, Kept, Scores, unpacked
from keepfit.journal.sheets import reader

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id NOT NULL,
    at INTEGER NOT NULL, version TEXT, scores, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_id ON entries (id);
CREATE INDEX IF NOT EXISTS entries_events ON entries (position) WHERE kind = 4;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
FORMAT = 1
PATIENCE = 30.0
"""Seconds that a writer waits for another one."""

SLICE = 5_000
"""Entries that are trimmed at once: writers wait no longer than that takes."""

_ALL = "SELECT position, kind, id, at, version, scores, body FROM entries"

if sys.platform != "win32":  # there writers wait for each other by asking again
    import fcntl


def journal_of(home: Path, pipeline: str) -> Path:
    """Return where the journal of a pipeline lies."""
    return home / "journal" / f"{pipeline}.db"


class Journal:
    """A journal that is open, to read from and to look after.

    One thread at a time may use it.

    Parameters
    ----------
    path
        The file, which is made when it is not there.

    Raises
    ------
    KeepfitError
        It cannot be opened, or another version of keepfit wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connected(path)
        self._turn = Turn(path)

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r}, {self.last()} entries so far)"

    @property
    def identity(self) -> str:
        """What tells this journal from one that lay here before, or on another machine."""
        return str(self.mark("identity"))

    def last(self) -> int:
        """Return the position of the newest entry that was ever written, zero without any."""
        query = "SELECT coalesce(max(position), 0) FROM entries"
        return int(self.connection.execute(query).fetchone()[0])

    def after(
        self, position: int, *, kinds: Sequence[int] = (), limit: int = 100_000
    ) -> list[Kept]:
        """Return the entries behind a position, in order."""
        among = " OR ".join(f"kind = {kind}" for kind in kinds) or f"kind != {SHEET}"
        query = f"{_ALL} WHERE position > ? AND ({among}) ORDER BY position LIMIT ?"
        rows = self.connection.execute(query, (position, limit)).fetchall()
        body_of = reader(self._body)
        return [_kept(row, body) for row in rows if (body := body_of(row[0], row[-1])) is not None]

    def answers(self, ids: Iterable[int | str]) -> Iterator[tuple[int | str, str, Scores]]:
        """Yield id, version and scores of the answers that some ids were given, oldest first."""
        query = (
            "SELECT e.id, e.version, e.scores FROM entries e JOIN json_each(?) j ON e.id = j.value"
            f" WHERE e.kind = {ANSWER} ORDER BY e.position"
        )
        for id_, version, scores in self.connection.execute(query, (json.dumps(list(ids)),)):
            yield id_, version, unpacked(scores)

    def bodies(self, ids: Iterable[int | str]) -> Iterator[tuple[int | str, bytes]]:
        """Yield id and body of the rows that were answered, oldest first."""
        query = (
            "SELECT e.position, e.id, e.body FROM entries e JOIN json_each(?) j ON e.id = j.value"
            f" WHERE e.kind = {ANSWER} ORDER BY e.position"
        )
        found = self.connection.execute(query, (json.dumps(list(ids)),)).fetchall()
        body_of = reader(self._body)
        for position, id_, kept in found:
            body = body_of(position, kept)
            if body is not None:
                yield id_, body

    def rows(
        self, ids: Iterable[int | str], *, until: int
    ) -> Iterator[tuple[int | str, int, bytes]]:
        """Yield id, moment and body of the rows sent up to a position, oldest first."""
        query = (
            "SELECT e.position, e.id, e.at, e.body FROM entries e"
            " JOIN json_each(?) j ON e.id = j.value"
            f" WHERE e.kind IN ({ANSWER}, {ROW}) AND e.position <= ? ORDER BY e.position"
        )
        found = self.connection.execute(query, (json.dumps(list(ids)), until)).fetchall()
        body_of = reader(self._body)
        for position, id_, at, kept in found:
            body = body_of(position, kept)
            if body is not None:
                yield id_, at, body

    def _body(self, position: int) -> bytes | None:
        query = "SELECT body FROM entries WHERE position = ?"
        found = self.connection.execute(query, (position,)).fetchone()
        return found[0] if found else None

    def trim(self, position: int, *, before: int) -> int:
        """Forget the entries up to a position that are older than a moment; return how many.

        What has landed is kept for a while: a label that comes late is told from one that
        nobody knows, and what was answered outranks what is predicted again. The newest entry
        stays: the next one's position follows from it, and none is given twice. (SQLite's
        AUTOINCREMENT would keep that apart, for a page more in each commit.)
        """
        query = (
            "DELETE FROM entries WHERE position IN"
            " (SELECT position FROM entries WHERE position <= ? AND at < ?"
            "  AND position < (SELECT max(position) FROM entries)"
            f" ORDER BY position LIMIT {SLICE})"
        )
        total = 0
        while True:
            with self._turn, writing(self.connection):
                gone = self.connection.execute(query, (position, before)).rowcount
            total += gone
            if gone < SLICE:
                return total

    def mark(self, name: str) -> int | str | None:
        """Return what stands under a name beside the entries, or None."""
        return marked(self.connection, name)

    def set_mark(self, name: str, value: int | str) -> None:
        """Keep a value under a name."""
        with self._turn, writing(self.connection):
            mark(self.connection, name, value)

    def marks(self, beginning: str) -> dict[str, int | str]:
        """Return what stands under all names that begin so."""
        query = "SELECT name, value FROM marks WHERE substr(name, 1, ?) = ?"
        return dict(self.connection.execute(query, (len(beginning), beginning)))

    def unmark(self, beginning: str) -> None:
        """Forget what stands under all names that begin so."""
        query = "DELETE FROM marks WHERE substr(name, 1, ?) = ?"
        with self._turn, writing(self.connection):
            self.connection.execute(query, (len(beginning), beginning))

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()
        self._turn.close()


def connected(path: Path) -> sqlite3.Connection:
    """Open the file of a journal, durable at every commit.

    Raises
    ------
    KeepfitError
        It cannot be opened, or another version of keepfit wrote it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        # Writing back into the file is put off a little: it holds up the commit that does it.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        _prepare(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise KeepfitError(
            f"cannot open the journal at {path}: {error}",
            hint=_DAMAGED if _damaged(error) else _UNWRITABLE,
        ) from error
    return connection


_UNWRITABLE = "this user must be able to write there, on a disk of this machine with space"
_DAMAGED = (
    "it is damaged, or no journal: move it away with its -wal and -shm, and a new one begins; "
    "what it held that had not landed yet is lost, unless a backup has it"
)


def _damaged(error: Exception) -> bool:
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, for which SQLite does not wait when others are at the file."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    if version != 0:
        connection.close()
        raise KeepfitError(
            f"expected a journal of format {FORMAT} at {path}, got {version}",
            hint="a newer keepfit wrote it: let that one land what it holds",
        )
    with writing(connection):
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        query = "INSERT OR IGNORE INTO marks VALUES ('identity', ?)"
        connection.execute(query, (secrets.token_hex(4),))
        connection.execute(f"PRAGMA user_version = {FORMAT}")


class Turn:
    """Whose turn it is to write, among processes: they are woken in order and at once.

    SQLite alone has writers ask again and again, with growing pauses: one of two then waited
    up to 430 ms, and with turns 15 ms.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT, 0o644)
        self.close = weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> None:
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_UN)


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what is inside in one transaction that no other writer is in."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def marked(connection: sqlite3.Connection, name: str) -> int | str | None:
    """Return what stands under a name, or None."""
    found = connection.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def mark(connection: sqlite3.Connection, name: str, value: int | str) -> None:
    """Keep a value under a name."""
    connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))


def _kept(row: tuple[Any, ...], body: bytes) -> Kept:
    position, kind, id_, at, version, scores, _ = row
    return Kept(position, kind, id_, at, version, unpacked(scores), body)
