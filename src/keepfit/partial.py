"""Batches that are a part of a cadence wait to be judged with the rest of it: a few days are no week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop

NEARLY = 0.95
"""Share of a cadence that a step as long as one covers at least: cron is seconds late, and once a
year an hour early; and the first row ever, from which cadences count, came after midnight."""

WHOLE = 0.8
"""Share of a cadence at whose end what waits is judged, where it began to wait within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The batches that a detector has not judged yet, the newest last, and since when they wait.

    ``seen`` are those that it looks at now; ``over`` says that it is to judge them, and ``end``, where
    that is without the newest, from when on that one waits.
    """

    batches: Sequence[int]
    since: datetime | None
    over: bool
    end: datetime | None = None

    @property
    def seen(self) -> Sequence[int]:
        """The batches that are looked at."""
        return self.batches if self.end is None else self.batches[:-1]

    def left(self, *, judged: bool) -> dict[str, Any]:
        """Return what a detector's state keeps of what waits on."""
        since = self.end if judged else self.since
        held = [one for one in self.batches if not judged or one not in self.seen]
        return {"held": held, "since": since and since.isoformat()} if held else {}


class Parts:
    """Which batches wait until they cover a cadence, for each detector whose evidence adds up.

    A live step that came before its cadence was over brought a part of it. Cadences count from the
    first row ever. Parts are judged at their ends: with the newest one that was read up to such an
    end, and without it where it began later. A step as long as a cadence is judged at once wherever
    it ends: it may never be read to such an end, as where it always comes minutes before, or in the
    night of a stream that has rows by day. So no more than two cadences wait.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._rows: tuple[Sequence[int], pl.DataFrame] | None = None

    def waiting(self, state: dict[str, Any], batch: int) -> Waiting:
        """Take from a detector's state what waits, and return it with the newest batch.

        On the past nothing waits for more: there, steps are as long as the cadence.
        """
        held, kept = state.pop("held", []), state.pop("since", None)
        found, every = self.loop.state, self.loop.every
        first, to, began = found.first_at, found.watermark, self._began()
        since = began if not held else first if kept is None else datetime.fromisoformat(kept)
        batches = [*held, batch]
        if self.loop.simulated or first is None or to is None or since is None or began is None:
            return Waiting(batches=batches, since=since, over=True)
        if to - began >= NEARLY * every:
            return Waiting(batches=batches, since=since, over=True)
        end = first + (to - first) // every * every
        over, newest = end - since >= WHOLE * every, found.let_in[-1].from_
        later = over and held and newest is not None and newest >= end
        return Waiting(batches=batches, since=since, over=over, end=end if later else None)

    def _began(self) -> datetime | None:
        """Return from when on the newest batch was read, less whole cadences without a row."""
        state = self.loop.state
        newest = state.let_in[-1]
        if state.watermark is None or newest.from_ is None:
            return None
        others = (*state.let_in[:-1], *state.quarantined)
        known = [one.watermark for one in others if one.watermark is not None]
        before = max(known, default=state.first_at or newest.from_)
        # Of rows that say to be of later than they were read nothing is known, and none is missing.
        silent = min(newest.from_, state.watermark) - before
        return before + max(silent // self.loop.every, 0) * self.loop.every

    def rows(self, seen: Sequence[int], batch: int, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of several batches, given those of the newest one.

        What was returned last is kept, so that no step of a loop reads again what waits.
        """
        import polars as pl

        if seen == [batch]:
            self._rows = None
            return rows
        known, parts = ([], []) if self._rows is None else (self._rows[0], [self._rows[1]])
        if known != seen[: len(known)]:
            known, parts = [], []
        lake = self.loop.memory.lake
        for number in seen[len(known) :]:
            parts.append(rows if number == batch else self.loop.columns(lake.batch(number)))
        found = pl.concat(parts, how="diagonal_relaxed", rechunk=True)
        self._rows = [*seen], found
        return found
