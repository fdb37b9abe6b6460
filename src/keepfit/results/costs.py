"""What trainings cost and what the next will, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit import costs
from keepfit.costs import Forecast, took
from keepfit.results.sentences import counted

if TYPE_CHECKING:
    from keepfit.registry import State, Version


def forecasted(told: Forecast) -> str:
    """Return a forecast with its interval and what it rests on.

    Examples
    --------
    >>> forecasted(Forecast(seconds=3.1, low=2.0, high=4.8, trainings=7))
    'forecast 3.1 s [2 s, 4.8 s] from 7 trainings'
    """
    of = " of other recipes" if told.akin else ""
    return (
        f"forecast {took(told.seconds)} [{took(told.low)}, {took(told.high)}] "
        f"from {counted(told.trainings, 'training')}{of}"
    )


def newest(state: State) -> Version | None:
    """Return the newest version whose training has ended with a model."""
    return next((one for one in reversed(state.versions.values()) if one.artifact), None)


def upcoming(state: State) -> Forecast | None:
    """Return what the trainings in progress will cost, or one like the newest would."""
    running = [state.versions[name].forecast for name in state.training]
    told = [one for one in running if one is not None]
    if told:
        return told[0] if len(told) == 1 else _together(told)
    last = newest(state)
    if last is None or running:
        return None
    kind = costs.recipe(last.code, last.start, last.update)
    return costs.forecast(state.spent, rows=last.snapshot.rows, recipe=kind)


def _together(told: list[Forecast]) -> Forecast:
    """Return several forecasts as one; their ends add up, since what slows one slows all."""
    return Forecast(
        seconds=sum(one.seconds for one in told),
        low=sum(one.low for one in told),
        high=sum(one.high for one in told),
        trainings=max(one.trainings for one in told),
        akin=any(one.akin for one in told),
    )
