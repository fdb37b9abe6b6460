"""The write-ahead log brought into the journal's file, beside the commits and not within one.

SQLite does it within the commit that finds the log long, and everyone who waits for that one
waits for megabytes: 125 ms where others took 15. Here a thread does most of it meanwhile, and
the commit after it has little left. Only a log that is in the file whole begins anew.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

PAGES = 4_000
"""Pages of the log between two checkpoints, as far as they can be counted."""

PAGE = 4_096
EACH = 5
"""Pages that a commit writes again, however little it brings: the ends of table and index."""

LEFT = 128
"""Pages that may be left to a commit."""

ROUNDS = 5


class Checkpoints:
    """When it is time, and the thread that does it.

    Parameters
    ----------
    path
        The journal's file.
    connection
        The writer's own; its commits checkpoint no more.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection = path, connection
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._pages = 0.0
        self._due, self._nearly = threading.Event(), threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="keepfit checkpoint", daemon=True)
        self._thread.start()

    def written(self, size: int) -> None:
        """Count the bytes that a commit wrote; call it after each, in the writer's thread."""
        self._pages += EACH + size / PAGE
        if self._nearly.is_set():
            self._nearly.clear()
            self._pages = 0.0
            passed(self._connection)
        elif self._pages > PAGES and not self._due.is_set():
            self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            while not self._closed:
                self._due.wait()
                # What is written meanwhile is left for the next round, which has less to do.
                for _ in range(ROUNDS):
                    if self._closed or passed(connection) <= LEFT:
                        break
                self._nearly.set()
                # Before it is looked whether to end: that is said by the same event.
                self._due.clear()


def passed(connection: sqlite3.Connection) -> int:
    """Bring into the file what nobody holds up, and return how many pages of the log are left."""
    with suppress(sqlite3.OperationalError):  # another process is at it
        _, pages, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(pages - done)
    return 0
