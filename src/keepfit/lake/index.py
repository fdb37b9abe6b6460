"""Which ids the lake holds, and their labels: a local SQLite file that may be thrown away.

It is a cache of the tables, brought up to date from them whenever it is behind.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from keepfit.errors import KeepfitError

_TABLES = """
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    id, batch INTEGER, hash INTEGER, time INTEGER, arrived INTEGER, PRIMARY KEY (id, batch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (
    id, known INTEGER, batch INTEGER, value, PRIMARY KEY (id, known, batch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS landed (app TEXT, number INTEGER, body TEXT, PRIMARY KEY (app, number))
WITHOUT ROWID;
"""
_FORMAT = 1
_AMONG = "IN (SELECT value FROM json_each(?))"

Row = tuple[Any, ...]


class Index:
    """The ids of a lake, in SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                # A torn file: everything in it can be read from the tables again.
                self._remove()
                return self._connect()
        except (OSError, sqlite3.Error) as error:
            raise KeepfitError(
                f"cannot open the index of the lake at {self._path}: {error}",
                hint="this user must be able to write there, and the disk must have space",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # A lost tail only leaves the index behind, and then it is caught up.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -65536")
        if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, _FORMAT):
            connection.close()
            raise sqlite3.DatabaseError("another format")
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        return connection

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").unlink()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do what is inside in one transaction.

        Raises
        ------
        KeepfitError
            The index cannot be written to.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise KeepfitError(
                f"cannot write to the index of the lake at {self._path}: {error}",
                hint="free some space, or delete the file: it is built again from the tables",
            ) from error

    def clear(self) -> None:
        """Forget everything."""
        for table in ("marks", "rows", "labels", "landed"):
            self._connection.execute(f"DELETE FROM {table}")

    def mark(self, name: str) -> Any:
        """Return a value kept under a name, or None."""
        found = self._connection.execute(
            "SELECT value FROM marks WHERE name = ?", (name,)
        ).fetchone()
        return found[0] if found else None

    def set_mark(self, name: str, value: int | str) -> None:
        """Keep a value under a name."""
        self._connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))

    def newest(self, table: str) -> int:
        """Return the highest batch among the rows or the labels; 0 when there is none."""
        return int(self.mark(f"{table}_batch") or 0)

    def add_rows(self, rows: Iterable[Row], number: int) -> None:
        """Keep ``(id, batch, hash, time, arrived)`` of rows of batches up to a number."""
        self._connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", rows)
        self.set_mark("rows_batch", max(number, self.newest("rows")))

    def add_labels(self, labels: Iterable[Row], number: int) -> None:
        """Keep ``(id, known, batch, value)`` of labels of batches up to a number."""
        self._connection.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", labels)
        self.set_mark("labels_batch", max(number, self.newest("labels")))

    def versions(self, ids: Sequence[Any]) -> list[Row]:
        """Return ``(id, batch, hash, time, arrived)`` of every version of some ids."""
        return self._find(f"SELECT * FROM rows WHERE id {_AMONG}", ids)

    def labels(self, ids: Sequence[Any]) -> list[Row]:
        """Return ``(id, known, batch, value)`` of every label of some ids."""
        return self._find(f"SELECT * FROM labels WHERE id {_AMONG}", ids)

    def _find(self, query: str, ids: Sequence[Any]) -> list[Row]:
        return self._connection.execute(query, (json.dumps(ids),)).fetchall()

    def keep_landed(self, app: str, number: int, body: str) -> None:
        """Keep what landed under a number."""
        self._connection.execute(
            "INSERT OR REPLACE INTO landed VALUES (?, ?, ?)", (app, number, body)
        )

    def keep_numbers(self, numbers: Iterable[int]) -> None:
        """Keep numbers that landed when nothing else is known of them."""
        query = "INSERT OR IGNORE INTO landed VALUES ('', ?, NULL)"
        self._connection.executemany(query, ((number,) for number in numbers))

    def landed(self, app: str, number: int) -> str | None:
        """Return what landed under a number, or None."""
        query = "SELECT body FROM landed WHERE app = ? AND number = ?"
        found = self._connection.execute(query, (app, number)).fetchone()
        return None if found is None else str(found[0])

    def corrections(self, number: int) -> int | None:
        """Return how many rows and labels of a batch came again; None when nobody noted it."""
        query = "SELECT sum(body ->> '$.corrections'), count(body) FROM landed WHERE number = ?"
        corrections, noted = self._connection.execute(query, (number,)).fetchone()
        return (corrections or 0) if noted else None

    def noted(self) -> list[int]:
        """Return the numbers that are known to have landed, in order."""
        query = "SELECT DISTINCT number FROM landed ORDER BY 1"
        return [number for (number,) in self._connection.execute(query)]

    def holds(self, number: int) -> bool:
        """Return whether a number has landed."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM landed WHERE number = ?)"
            " OR EXISTS (SELECT 1 FROM rows WHERE batch = ?)"
        )
        return bool(self._connection.execute(query, (number, number)).fetchone()[0])

    def numbers(self) -> list[int]:
        """Return the numbers of the batches with rows, or with a note that they landed."""
        query = "SELECT number FROM landed UNION SELECT DISTINCT batch FROM rows ORDER BY 1"
        return [number for (number,) in self._connection.execute(query)]


def index_path(url: str) -> Path:
    """Return where the index of a lake lies: beside local tables, else in the user's cache folder."""
    if "://" not in url:
        return Path(url) / "index.db"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "keepfit" / blake2b(url.encode(), digest_size=8).hexdigest() / "index.db"


def absolute(url: str) -> str:
    """Return a URL, or a folder's whole path, without a slash at its end."""
    if url.startswith("file://"):
        from urllib.parse import urlparse
        from urllib.request import url2pathname

        url = url2pathname(urlparse(url).path)
    return url.rstrip("/") if "://" in url else os.path.abspath(url)
