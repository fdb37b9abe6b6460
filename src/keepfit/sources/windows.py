"""Pieces of rows, handed out window by window of event time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from keepfit.batch import ARRIVED_AT, ID, TIME, Batch, Roles
from keepfit.clock import duration
from keepfit.errors import ConfigError, SchemaMismatch, SourceError
from keepfit.facts import Finding, Outcome
from keepfit.sources.batches import (
    empty_rows,
    happened_at,
    joined,
    labels_of,
    once,
    read_at,
    repeated,
    rows_of,
)
from keepfit.sources.normal import normal, warning
from keepfit.sources.place import MICROSECOND, Place, key, micro, moment

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

FAR_AHEAD = int(timedelta(days=31) / timedelta(microseconds=1))
"""Microseconds from now up to which rows are rather planned than misdated."""

LOOK_HERE = "name a file, a folder or a glob that holds rows"


class Mark(NamedTuple):
    """What tells one state of a piece from another; ``touched`` also that it may be tried again."""

    content: str | tuple[int, ...]
    touched: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """The normal rows of a file, or of a frame, and what was found in them."""

    name: str
    mark: Mark
    rows: pl.DataFrame
    times: NDArray[np.int64]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A piece of which rows from ``start`` on have not been handed out."""

    piece: Piece
    start: int

    @property
    def new(self) -> bool:
        """Whether nothing of it has been handed out."""
        return self.start == 0

    def first(self, since: int | None = None) -> int | None:
        """Return the first unread event time, or the first that is not before another."""
        at = self.start if since is None else max(self.start, self.place(since))
        return int(self.piece.times[at]) if at < self.piece.times.size else None

    def place(self, time: int) -> int:
        """Return how many of the piece's rows lie before an event time."""
        return int(self.piece.times.searchsorted(time))

    def before(self, end: int) -> pl.DataFrame:
        """Return the unread rows before an event time."""
        return self.piece.rows.slice(self.start, max(0, self.place(end) - self.start))


class Windows:
    """A source made of pieces, each with a name and a mark that changes with its content.

    Subclasses say which pieces there are (`_marks`) and read one (`_load`).
    """

    def __init__(
        self,
        *,
        time: str,
        label: str | None = None,
        id: str | None = None,
        label_delay: str | timedelta | None = None,
        known_at: str | None = None,
        arrived_at: str | None = None,
    ) -> None:
        columns = {
            "time": time,
            "label": label,
            "id": id,
            "known_at": known_at,
            "arrived_at": arrived_at,
        }
        for part, column in columns.items():
            named = isinstance(column, str) and column
            if not named and (column is not None or part == "time"):
                raise ConfigError(f"expected a column's name for {part}, got {column!r}")
        self.roles = Roles(
            time=time,
            id=id,
            label=label,
            label_delay=None if label_delay is None else duration(label_delay),
            known_at=known_at,
            arrived_at=arrived_at,
        )
        self._loaded: dict[str, Piece] = {}
        self._unreadable: dict[str, tuple[Mark, str]] = {}
        self._keys: dict[str, tuple[Mark, tuple[str, str]]] = {}

    def _marks(self, told: list[Finding]) -> dict[str, Mark]:
        """Return the mark of each piece that is there, in the order they are read in."""
        raise NotImplementedError

    def _load(self, name: str, told: list[Finding]) -> pl.DataFrame:
        """Return the raw rows of a piece."""
        raise NotImplementedError

    def _nothing(self, place: Place) -> str | None:
        """Return what to say when no piece is there; None when that is as it should be."""
        raise NotImplementedError

    def history(self) -> Batch:
        """Return all rows and labels at once, with arrivals and knowledge as a backtest sees them.

        Raises
        ------
        SourceError
            There is nothing to read.
        SchemaMismatch
            A column that plays a part is missing, or has types that are not to be joined.
        """
        findings: list[Finding] = []
        marks = self._marked(Place.of(None), findings)
        self._unreadable.clear()
        pieces = list(self._pieces(marks))
        findings += [one for piece in pieces for one in piece.findings]
        findings += self._cannot_be_read(marks)
        if not any(piece.rows.height for piece in pieces):
            first = findings[0].message if findings else "no piece has any"
            raise SourceError(f"expected rows, got none: {first}", hint=LOOK_HERE)
        rows = joined([(piece.name, piece.rows) for piece in pieces])
        rows = happened_at(rows, self.roles.label_delay or timedelta(0))
        rows = rows.sort(ARRIVED_AT, TIME, ID, maintain_order=True)
        return Batch(
            rows=rows_of(once(rows, ID, ARRIVED_AT)),
            labels=labels_of(rows),
            cursor="",
            findings=tuple(dict.fromkeys(findings)),
        )

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return what is unread at a moment, at most one cadence of event time further.

        Raises
        ------
        ConfigError
            Another kind of source wrote the cursor.
        SchemaMismatch
            A column that plays a part is missing, or has types that are not to be joined.
        """
        place = Place.of(cursor)
        findings: list[Finding] = []
        marks = self._marked(place, findings)
        unread = list(self._unread(place, marks))
        findings += [*self._cannot_be_read(marks), *_far_ahead(unread, micro(now))]
        first = min((at for one in unread if (at := one.first()) is not None), default=None)
        if first is None or first > micro(now):
            findings += [f for one in unread if one.first() is None for f in one.piece.findings]
            return self._batch([], cursor or place.text(), None, findings, now)
        end = _window_end(place, unread, micro(now), every // MICROSECOND)
        taken = self._taken(place, unread, end, findings)
        waiting = (one.first(end) for one in unread)
        backlog = any(at is not None and at <= micro(now) for at in waiting)
        place.origin = first if place.origin is None else place.origin
        place.watermark = end if place.watermark is None else max(end, place.watermark)
        reached = moment(place.watermark)
        return self._batch(taken, place.text(), reached, findings, now, backlog=backlog)

    def _taken(
        self, place: Place, unread: list[Unread], end: int, findings: list[Finding]
    ) -> list[tuple[str, pl.DataFrame]]:
        """Hand out the unread rows before an event time, and note it in the place."""
        taken = []
        for one in unread:
            piece, rows = one.piece, one.before(end)
            keys = self._key(piece.name, piece.mark)
            finished = one.first(end) is None
            if one.new and (finished or rows.height):
                # That a zone is missing is said once, at the beginning of a stream.
                findings += [
                    f for f in piece.findings if f.outcome != Outcome.PASS or not place.begun
                ]
            if rows.height:
                taken.append((piece.name, rows))
            if finished:
                place.finish(*keys)
            elif rows.height:
                place.read_until(*keys, end)
        return taken

    def _batch(
        self,
        taken: list[tuple[str, pl.DataFrame]],
        cursor: str,
        watermark: datetime | None,
        findings: list[Finding],
        now: datetime,
        *,
        backlog: bool = False,
    ) -> Batch:
        rows = joined(taken) if taken else empty_rows()
        rows = read_at(rows, now, self.roles.label_delay or timedelta(0))
        kept = once(rows, ID)
        return Batch(
            rows=rows_of(kept).sort(TIME, ID),
            labels=labels_of(rows),
            cursor=cursor,
            watermark=watermark,
            findings=tuple(dict.fromkeys(findings)),
            backlog=backlog,
            repeated=0 if kept.height == rows.height else repeated(rows),
        )

    def _marked(self, place: Place, findings: list[Finding]) -> dict[str, Mark]:
        marks = self._marks(findings)
        if not marks and (nothing := self._nothing(place)):
            findings.append(warning(nothing, hint=LOOK_HERE))
        return marks

    def _unread(self, place: Place, marks: dict[str, Mark]) -> Iterator[Unread]:
        """Yield the pieces that can be read and have not been, wholly; and keep only those."""
        left = {
            name: mark for name, mark in marks.items() if not place.finished(*self._key(name, mark))
        }
        pieces = list(self._pieces(left))
        self._loaded = {piece.name: piece for piece in pieces}
        for piece in pieces:
            until = place.until(*self._key(piece.name, piece.mark))
            yield Unread(piece, 0 if until is None else int(piece.times.searchsorted(until)))

    def _pieces(self, marks: dict[str, Mark]) -> Iterator[Piece]:
        """Yield each piece that can be read."""
        for name, mark in marks.items():
            known = self._loaded.get(name)
            if known is not None and known.mark.content == mark.content:
                yield known
            elif self._unreadable.get(name, (None, ""))[0] != mark:
                piece = self._piece(name, mark)
                if piece is not None:
                    yield piece

    def _piece(self, name: str, mark: Mark) -> Piece | None:
        findings: list[Finding] = []
        try:
            rows = normal(self._load(name, findings), self.roles, shown(name), findings)
        except (ConfigError, SchemaMismatch):
            raise
        except FileNotFoundError:  # gone between listing and reading
            return None
        except Exception as error:  # whatever a reader says of a damaged file
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._unreadable[name] = mark, reason
            return None
        self._unreadable.pop(name, None)
        times = rows[TIME].to_physical().to_numpy()
        return Piece(name, mark, rows, times, tuple(findings))

    def _cannot_be_read(self, marks: dict[str, Mark]) -> Iterator[Finding]:
        """Yield one finding about all pieces that cannot be read, as long as that is so."""
        self._unreadable = {
            name: (mark, reason)
            for name, (mark, reason) in self._unreadable.items()
            if marks.get(name) == mark
        }
        if self._unreadable:
            name, (_, reason) = next(iter(self._unreadable.items()))
            others = len(self._unreadable) - 1
            more = f" and {others:,} more" if others else ""
            yield warning(
                f"{shown(name)}{more} cannot be read: {reason}",
                hint="it may still be being written, or not be this user's to read; "
                "it is tried again when it changes",
            )

    def _key(self, name: str, mark: Mark) -> tuple[str, str]:
        """Return what stands in a cursor for a piece and for its content."""
        # Thousands of files are asked for again at every read, and few of them have changed.
        known = self._keys.get(name)
        if known is None or known[0] != mark:
            known = self._keys[name] = mark, (key(name), key(str(mark.content)))
        return known[1]


def _window_end(place: Place, unread: list[Unread], now: int, every: int) -> int:
    """Return the end of the window of the first unread row on time; of late ones, the watermark.

    Windows are aligned to the first row of the stream and never reach past now, even when
    the clock went back behind the watermark.
    """
    times = (one.first(place.watermark) for one in unread)
    first = min((at for at in times if at is not None), default=None)
    if place.watermark is not None and (first is None or first > now):
        return min(place.watermark, now + 1)
    assert first is not None
    origin = first if place.origin is None else place.origin
    return min(origin + ((first - origin) // every + 1) * every, now + 1)


def _far_ahead(unread: list[Unread], now: int) -> Iterator[Finding]:
    """Yield what lies so far ahead of the clock that it is rather a mistake than a plan."""
    ahead = [
        one for one in unread if one.piece.times.size and one.piece.times[-1] > now + FAR_AHEAD
    ]
    if not ahead:
        return
    rows = sum(int(one.piece.times.size) - one.place(now + FAR_AHEAD + 1) for one in ahead)
    last = max(int(one.piece.times[-1]) for one in ahead)
    more = f" and {len(ahead) - 1:,} more" if len(ahead) > 1 else ""
    yield warning(
        f"{rows:,} rows of {shown(ahead[0].piece.name)}{more} are of a time far ahead of the clock, "
        f"up to {moment(last):%Y-%m-%d}: each is read when its time has come",
        hint="look at the clock, the year or the unit in which its times are written",
    )


def shown(name: str) -> str:
    """Return a piece's name as text that can be printed and kept."""
    return os.fsencode(os.path.basename(name)).decode(errors="replace")


def said(roles: Roles) -> str:
    """Return the arguments that name the parts of columns, as they are written."""
    told = {
        "time": roles.time,
        "label": roles.label,
        "id": roles.id,
        "known_at": roles.known_at,
        "arrived_at": roles.arrived_at,
    }
    return ", ".join(f"{name}={value!r}" for name, value in told.items() if value is not None)
