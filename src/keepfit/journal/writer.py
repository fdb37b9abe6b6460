"""Writing into a journal: whoever waits is written together, and told once that is on disk."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from keepfit.errors import KeepfitError
from keepfit.facts.depth import shallow
from keepfit.journal.checkpoint import Checkpoints
from keepfit.journal.entries import ANSWER, EVENT, LABEL, ROW, SHEET, Fate, New, Sheet
from keepfit.journal.file import Turn, connected, writing

GROUP = 2_000
"""Entries in one commit at most: with more, the first would wait for the last."""

HELD = 500
"""Entries with which it is not waited for more."""

OWN = 100
"""Bytes of an entry beside its body, about."""

WIDTHS = (64, 16, 4, 1)
"""Rows of one statement. Each statement hands Python's lock back and forth, not each row."""

Fates: TypeAlias = tuple[Fate, ...]
Outcome: TypeAlias = "Fates | Exception"
Done: TypeAlias = Callable[[Outcome], None]
Told: TypeAlias = list[tuple[Done, Outcome]]
_Stored: TypeAlias = "tuple[int, int | str, int, str | None, float | bytes | None, bytes | int]"


class _Submission(NamedTuple):
    entries: Sequence[New] | Sheet
    done: Done
    rows: int
    size: int


class Writer:
    """A thread that commits what was submitted since its last commit, all in one transaction.

    Parameters
    ----------
    path
        The journal's file.
    deliver
        Takes what to tell whom after each commit; called in the writer's thread, where it
        calls each one when nothing else is given.
    soon
        Calls a function in the submitting thread after what that has to do by now, as an event
        loop does. With it entries are held until the thread has nothing else to do: without,
        the first of several would be committed alone, and the others wait for that.
    most
        Entries that may wait; a submission beyond it is refused.
    most_bytes
        Their bodies' bytes.

    Raises
    ------
    KeepfitError
        The journal cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        deliver: Callable[[Told], None] | None = None,
        soon: Callable[[Callable[[], None]], object] | None = None,
        most: int = 20_000,
        most_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._connection = connected(path)
        self._turn = Turn(path)
        self._checkpoints = Checkpoints(path, self._connection)
        self._deliver, self._soon = deliver or _tell, soon
        self._most, self._most_bytes = most, most_bytes
        self._held: list[_Submission] = []
        self._held_entries = 0
        self._waiting: queue.SimpleQueue[list[_Submission] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._entries, self._bytes = 0, 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="keepfit journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many entries wait to be written."""
        return self._entries

    def submit(self, entries: Sequence[New] | Sheet, done: Done) -> bool:
        """Hand in entries that belong together; return False, and do nothing, when too many wait.

        ``done`` hears the fate of each label and event, in order, or the error that kept all
        of them from being written.
        """
        if isinstance(entries, Sheet):
            count, size = len(entries.ids) + len(entries.beside), len(entries.body)
        else:
            count = len(entries)
            size = len(entries[0].body) if count == 1 else sum(len(one.body) for one in entries)
        with self._lock:
            full = self._entries + count > self._most or self._bytes + size > self._most_bytes
            # One that is larger than the bound by itself is taken when nothing else waits.
            if self._closed or (full and self._entries):
                return False
            self._entries += count
            self._bytes += size
            self._held.append(_Submission(entries, done, count, size))
            self._held_entries += count
        if self._soon is None or self._held_entries >= HELD:
            self._hand_in()
        elif len(self._held) == 1:
            self._soon(partial(self._look, 1))
        return True

    def _look(self, before: int) -> None:
        """Hand in what is held, or look again where more has come since."""
        held = len(self._held)
        if held > before and self._soon is not None:
            self._soon(partial(self._look, held))
        else:
            self._hand_in()

    def _hand_in(self) -> None:
        with self._lock:
            if self._held:
                self._waiting.put(self._held)
                self._held, self._held_entries = [], 0

    def write(self, entries: Sequence[New]) -> Fates:
        """Hand in entries and wait until they are on disk.

        Raises
        ------
        KeepfitError
            They cannot be written, or too many wait.
        """
        told: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        if not self.submit(entries, told.put):
            raise KeepfitError("the journal takes no more for now", hint="try again in a second")
        outcome = told.get()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._hand_in()
        self._waiting.put(None)
        self._thread.join()
        self._checkpoints.close()
        self._connection.close()
        self._turn.close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group, more = self._group(first)
            told = self._commit(group)
            rows, size = sum(one.rows for one in group), sum(one.size for one in group)
            with self._lock:
                self._entries -= rows
                self._bytes -= size
            self._deliver(told)
            self._checkpoints.written(size + rows * OWN)
            if not more:
                return

    def _group(self, group: list[_Submission]) -> tuple[list[_Submission], bool]:
        """Return what is waiting, and whether there will be more."""
        while sum(one.rows for one in group) < GROUP:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                return group, True
            if more is None:
                return group, False
            group += more
        return group, True

    def _commit(self, group: list[_Submission]) -> Told:
        try:
            with self._turn, writing(self._connection):
                fates = self._write(group)
        except Exception as error:
            if len(group) == 1:
                return [(group[0].done, _worded(error))]
            # What cannot be kept of one caller is no reason to refuse the others.
            return [told for one in group for told in self._commit([one])]
        return [(one.done, found) for one, found in zip(group, fates, strict=True)]

    def _write(self, group: list[_Submission]) -> list[Fates]:
        plain: list[_Stored] = []
        fates: list[Fates] = []
        for one in group:
            entries = one.entries
            if isinstance(entries, Sheet):
                plain += _sheet(entries)
                fates.append(())
            elif entries and entries[0].kind in (LABEL, EVENT):
                # They are held against what is there, with what came just before them.
                self._insert(plain)
                plain = []
                fates.append(tuple(map(self._told, entries)))
            else:
                plain += entries
                fates.append(())
        self._insert(plain)
        return fates

    def _insert(self, entries: Sequence[_Stored]) -> None:
        first = 0
        for width in WIDTHS:
            while len(entries) - first >= width:
                values = list(chain.from_iterable(entries[first : first + width]))
                self._connection.execute(_INSERT[width], values)
                first += width

    def _told(self, entry: New) -> Fate:
        before = self._connection.execute(_NEWEST, (entry.id, entry.kind)).fetchone()
        fate = self._event_fate(entry) if entry.kind == EVENT else self._fate(entry, before)
        if fate is Fate.CORRECTED:
            # What is said later counts, whatever the clocks say: of two labels the lake takes the
            # one that became known last.
            entry = entry._replace(at=max(entry.at, before[1] + 1))
        if fate is not Fate.REPEATED:
            self._connection.execute(_INSERT[1], entry)
        return fate

    def _fate(self, entry: New, before: tuple[bytes, int] | None) -> Fate:
        """Return what becomes of an entry, of which the newest with its id and kind came before."""
        if before is not None:
            return Fate.REPEATED if before[0] == entry.body else Fate.CORRECTED
        known = self._connection.execute(_KNOWN, (entry.id,)).fetchone()
        return Fate.ACCEPTED if known else Fate.WAITING

    def _event_fate(self, entry: New) -> Fate:
        """Return whether an event is known: under its key, or under the one that was its until now.

        Two could make one of those keys, so that what lies there is asked who it is.
        """
        own = _named(entry.body)
        for key in {entry.id, f"{own.source} {own.id}"}:
            for (body,) in self._connection.execute(_EVENTS, (key,)):
                if _named(body) == own:
                    return Fate.REPEATED
        return Fate.ACCEPTED


class _Named(msgspec.Struct):
    """What an event is told by."""

    source: str = ""
    id: str = ""


def _named(body: bytes) -> _Named:
    return msgspec.json.decode(shallow(body.decode()), type=_Named)


_COLUMNS = "INSERT INTO entries (kind, id, at, version, scores, body) VALUES "
_INSERT = {width: _COLUMNS + ", ".join(["(?, ?, ?, ?, ?, ?)"] * width) for width in WIDTHS}
_NEWEST = "SELECT body, at FROM entries WHERE id = ? AND kind = ? ORDER BY position DESC LIMIT 1"
_EVENTS = f"SELECT body FROM entries WHERE id = ? AND kind = {EVENT}"
_KNOWN = f"SELECT 1 FROM entries WHERE id = ? AND kind IN ({ANSWER}, {ROW}) LIMIT 1"


def _sheet(sheet: Sheet) -> list[_Stored]:
    """Return the body that rows share, behind it each row's entry with its place in it, and more."""
    count, at = len(sheet.ids), sheet.at
    columns = (sheet.ids, repeat(at, count), sheet.versions, sheet.scores)
    entries = zip(repeat(ANSWER, count), *columns, range(1, count + 1), strict=True)
    return [(SHEET, count, at, None, None, sheet.body), *entries, *sheet.beside]


def _tell(told: Told) -> None:
    for done, outcome in told:
        done(outcome)


def _worded(error: Exception) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    return KeepfitError(
        f"the journal cannot be written to: {error}", hint="the disk must have space"
    )
