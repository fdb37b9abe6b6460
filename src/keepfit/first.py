"""Which window makes the first model: history, less its newest rows, is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keepfit import gates
from keepfit.batch import TIME, border
from keepfit.beside import ALIKE
from keepfit.facts import Cost, Sampled
from keepfit.halving import SURE, error_of, gain_on
from keepfit.training import cost_of, fitted

if TYPE_CHECKING:
    import polars as pl

    from keepfit.metrics.evidence import Gain
    from keepfit.plan import Chosen
    from keepfit.protocols import Comparison, Model
    from keepfit.registry import Version
    from keepfit.turn import Turn

TELLING = 500
"""Rows that judge at least; where the newest step holds fewer, those of the steps before it too."""


@dataclass(slots=True, eq=False)
class Entrant:
    """A window in the trial of a first turn: its rows before those that judge, and what came of it."""

    version: Version
    rows: pl.DataFrame
    cost: Cost
    model: Model | None = None
    told: str = ""


class First:
    """The part of a turn that picks the window of the first model.

    Nothing serves yet that would tell by falling that something has changed, and where history holds
    such a change, all of it makes a bad model that serves for long where batches are few. So each window
    that sees clearly fewer rows than the longest is trained beside it on what they would have seen a
    step or more ago, and asked about the rows since. The longest makes the first model, unless a
    shorter one does better for sure. Who does leads from then on; where it is the window of one
    step, which is of use for the next step alone, the best of those that do better than the longest.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn, self.loop = turn, turn.loop

    def beside(self, chosen: Sequence[Chosen], enough: int) -> list[Chosen]:
        """Return which recipes of a first turn run: the dearest, and those that differ in their window alone.

        Parameters
        ----------
        chosen
            Those that might, the cheapest first.
        enough
            Rows without which a window is not tried.
        """
        found = list(chosen[-1:])
        if not found or gates.holdout(self.loop.pipeline.gate) is None:
            return found
        longest = found[0]
        most = longest.rows.height - self._judging(longest.rows).height
        for one in reversed(chosen[:-1]):
            alike = (
                one.challenger.start == "scratch" and one.challenger.way == longest.challenger.way
            )
            if alike and enough <= ALIKE * one.rows.height < most:
                found.append(one)
                most = one.rows.height
        return found[::-1]

    def sampled(self, version: Version, at: datetime) -> bool:
        """Try the windows of a version's turn, once, if it is one to be tried; whether it was."""
        versions = self._entering(version)
        if len(versions) < 2:
            return False
        judging = self._judging(self.turn.rows_of(versions[0]))
        until = judging.get_column(TIME)[0] - self.loop.pipeline.embargo
        entrants = [self._entrant(one, until) for one in versions]
        best, lead = self._best(entrants, judging)
        self.loop.append([_fact(one, best, lead, judging.height) for one in entrants], at)
        return True

    def _judging(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of the newest steps that have enough of them; all where there are too few."""
        times = rows.get_column(TIME)
        every: timedelta = self.loop.every
        steps = (times[-1] - times[-min(TELLING, len(times))]) // every + 1
        return rows.slice(border(times, times[-1] - steps * every, "right"))

    def _entering(self, version: Version) -> list[Version]:
        """Return the windows of a first turn that are still to be trained, those of most rows first."""
        state = self.loop.state
        turn = [] if state.champion is not None else state.of_turn(version.turn)
        if any(one.sampled is not None or one.retry_of for one in turn):
            return []
        able = (one for one in turn if one.state == "training" and one.start == "scratch")
        return sorted(able, key=lambda one: one.snapshot.rows, reverse=True)

    def _entrant(self, version: Version, until: datetime) -> Entrant:
        """Return a window that is fitted on what it would have seen by then."""
        turn, loop = self.turn, self.loop
        rows = turn.rows_of(version, until)
        challenger = turn.challenger(version)
        one = Entrant(version, rows, Cost())
        if challenger is None or rows.is_empty():
            return one
        learner = challenger.learner or loop.pipeline.learner
        key = f"{version.key} {rows.height} rows until {until.isoformat()}"
        found = fitted(loop, key, lambda: turn.task(version, learner, rows))
        one.cost = cost_of(found)
        if not isinstance(found, dict):
            one.told = f"{found.reason}: {found.message.strip().partition(chr(10))[0]}"
            return one
        try:
            one.model = loop.scorer.load(found["artifact"])
        except Exception as error:  # a model of the user's own may fail in any way it likes
            one.told = f"it tells nothing: {error!r}"
        return one

    def _best(
        self, entrants: Sequence[Entrant], judging: pl.DataFrame
    ) -> tuple[Entrant, Entrant | None]:
        """Return which makes the first model, and which leads then, where it is not the longest."""
        longest, *others = [one for one in entrants if one.model is not None] or entrants
        best, lead, most = longest, longest, 0.0
        for one in others:
            comparison, gain = self._gain(one, longest, judging)
            if comparison is None or gain is None:
                one.told = one.told or f"not to be compared with {longest.version.challenger}"
                continue
            metric = comparison.metric.name
            values = zip((one, longest), self.turn.values(comparison), strict=True)
            for either, value in values:
                either.told = f"{metric} undefined" if value is None else f"{metric} {value:,.4g}"
            over = gain if best is longest else self._gain(one, best, judging)[1]
            if _sure(over):
                best = one
            if _sure(gain) and gain.mean.mean > most and not one.version.brief:
                lead, most = one, gain.mean.mean
        lead = lead if best.version.brief else best
        return best, None if lead is longest else lead

    def _gain(
        self, one: Entrant, other: Entrant, judging: pl.DataFrame
    ) -> tuple[Comparison | None, Gain | None]:
        if one.model is None or other.model is None:
            return None, None
        return gain_on(self.turn, judging, one.model, other.model)


def _sure(gain: Gain | None) -> bool:
    """Return whether a gain is no chance."""
    return gain is not None and gain.mean.mean > SURE * error_of(gain)


def _fact(one: Entrant, best: Entrant, lead: Entrant | None, judged: int) -> Sampled:
    """Return what came of a window, as it is kept."""
    told = f"on its rows before the newest {judged:,} ({one.rows.height:,}): {one.told}"
    if one is not best:
        beaten = one.version.snapshot.rows > best.version.snapshot.rows
        name = best.version.challenger
        told += f"; {name} did better" if beaten else f"; no better than {name} for sure"
    return Sampled(
        version=one.version.name,
        rows=one.rows.height,
        reason=told,
        cost=one.cost,
        skipped=one is not best,
        ahead=one is lead,
    )
