"""What the budget has left for trainings, asked before each of them starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from keepfit import costs
from keepfit.challenger import distinct
from keepfit.facts import UNLEARNT, Fact, TrainingFailed, TrainingStarted
from keepfit.triggers import Guarded

if TYPE_CHECKING:
    from keepfit.plan import Chosen
    from keepfit.registry import Version
    from keepfit.turn import Turn


class Allowance:
    """The part of a turn that asks the budget: for its recipes, a second try, and the last fit.

    What still runs has started, and counts by its forecast until its cost is known. A turn that
    a person asked for is not held to the budget, and nor is what comes of it; it counts for others.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn, self.loop = turn, turn.loop

    def held(self, chosen: Sequence[Chosen]) -> dict[str, str]:
        """Return by name why recipes of a turn do not start.

        Seconds pay for the cheapest first. Where trainings are counted they cost the same, and
        the recipes that have done best go first, then the cheapest.

        Parameters
        ----------
        chosen
            The recipes that would run, the cheapest first.
        """
        many, seconds = self._left()
        if many is None and seconds is None:
            return {}
        # Two that are one training are paid once.
        same = distinct((one.challenger, one.rows) for one in chosen)
        paid = [one for one in chosen if same[one.challenger.name] == one.challenger.name]
        held = self._dear(paid, many, seconds, same)
        return {name: held[first] for name, first in same.items() if first in held}

    def _dear(
        self,
        chosen: Sequence[Chosen],
        many: int | None,
        seconds: float | None,
        same: Mapping[str, str],
    ) -> dict[str, str]:
        """Return by name why recipes do not start, each of which is a training of its own."""
        if seconds is not None:
            return costs.too_dear(
                {one.challenger.name: self._forecast(one) for one in chosen}, seconds
            )
        best = {same[name] for name in self.turn.standings().preferred() if name in same}
        names = sorted((one.challenger.name for one in chosen), key=lambda name: name not in best)
        paid, left = names[:many], "no training" if not many else _trainings(many)
        said = f"the budget has {left} left" + (f", for {', '.join(paid)}" if paid else "")
        return dict.fromkeys(names[many:], said)

    def refuses(self, started: TrainingStarted, of: Version, ended: Fact | None = None) -> str:
        """Return why the budget does not pay for a training; ``""`` where it does.

        Parameters
        ----------
        started
            The training, which has not been written down.
        of
            The version that it fits once more.
        ended
            How a training ended, where that has not been written down either.
        """
        first = self.loop.state.versions[of.final_of] if of.final_of else of
        if first.trigger == "hand":
            return ""
        many, seconds = self._left(ended)
        if seconds is not None:
            return costs.too_dear({"": started.forecast}, seconds).get("", "")
        return "the budget has no training left" if many == 0 else ""

    def pays(self, seconds: float) -> bool:
        """Return whether the budget has so many CPU seconds left, beside what has started."""
        left = self._left()[1]
        return left is None or seconds <= left

    def retry(
        self, version: Version, ended: Fact, retried: TrainingStarted | None
    ) -> tuple[Fact, TrainingStarted | None]:
        """Return how a training ended, and the one that tries it once more if that is paid for."""
        why = "" if retried is None else self.refuses(retried, version, ended)
        if not why or not isinstance(ended, TrainingFailed):
            return ended, retried
        message = f"{ended.message}; it is not run once more: {why}"
        return replaced(ended, reason=f"{UNLEARNT} once", message=message), None

    def _forecast(self, one: Chosen) -> costs.Forecast | None:
        goes_on = one.challenger.start == "champion"
        parent = self.loop.state.champion if goes_on else None
        return self.turn.forecast(one.challenger, one.rows.height, parent)

    def _left(self, ended: Fact | None = None) -> tuple[int | None, float | None]:
        """Return the trainings and the CPU seconds that are left; None where they are not counted."""
        state, guard = self.loop.state, self.loop.pipeline.trigger
        if not isinstance(guard, Guarded) or state.watermark is None:
            return None, None
        spent = [*state.trainings, *(self._running(name, ended) for name in state.training)]
        paid = [*spent, *state.probe_costs]
        return guard.trainings_left(spent, state.watermark), guard.left(paid, state.watermark)

    def _running(self, name: str, ended: Fact | None) -> tuple[datetime, float]:
        """Return a training that has started as a budget counts it."""
        version = self.loop.state.versions[name]
        at = version.watermark or version.started_at
        if isinstance(ended, TrainingFailed) and ended.version == name:
            return at, ended.cost.cpu_seconds
        return at, 0.0 if version.forecast is None else version.forecast.seconds


def _trainings(many: int) -> str:
    return "1 training" if many == 1 else f"{many} trainings"
