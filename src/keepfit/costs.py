"""What a training will cost, forecast from what the ones before it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from keepfit.clock import humanise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NEWEST = 32
"""Trainings that a forecast looks back on: a machine or a library may have changed since."""

LEVEL = 0.9
"""The share of trainings whose cost is to lie in the interval of its forecast."""

LINEAR = 1.0
"""How cost is taken to grow with rows until trainings say otherwise: in proportion."""

DOUBT = math.log(2.0) ** 2
"""The weight of that belief, as one pair of trainings of which one had twice the rows has it."""

UNSURE = math.log(1.3)
"""How far the costs of equal trainings are taken to scatter, as a standard deviation of logarithms."""

BELIEVED = 3
"""The degrees of freedom that belief counts for."""

STEEPEST = 2.0
LEAST = 1e-3


class Training(msgspec.Struct, frozen=True):
    """A training that has ended: its recipe (see `recipe`), its rows and its CPU seconds."""

    recipe: str
    rows: int
    seconds: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many CPU seconds a training is expected to take, with an interval.

    ``trainings`` counts those it rests on; ``akin`` says that they were of other recipes,
    because this one has not run yet.
    """

    seconds: float
    low: float
    high: float
    trainings: int
    akin: bool = False


def recipe(code: str, start: str, update: str) -> str:
    """Return what makes the costs of two trainings comparable: learner, start and update.

    Parameters
    ----------
    code
        The learner's fingerprint.
    start, update
        As the training's record has them.
    """
    return f"{code} {start} {update}"


def forecast(history: Iterable[Training], *, rows: int, recipe: str) -> Forecast | None:
    """Return what a training of a recipe on so many rows will cost; None before the first.

    The logarithm of the cost is a line over the logarithm of the rows. Its slope is the
    weighted median of the slopes between pairs of trainings, which a few odd ones do not move,
    together with a slope of one, in proportion to the rows, that counts less the more the rows
    of past trainings differ. A recipe that has not run yet is forecast from the
    others.

    Parameters
    ----------
    history
        Past trainings, oldest first.
    rows
        How many rows the training will see.
    recipe
        As `recipe` writes it.

    References
    ----------
    Sen, Estimates of the regression coefficient based on Kendall's tau (1968); the weights are
    Scholz's, Weighted median regression estimates (1978).

    Examples
    --------
    >>> past = [Training("a", rows, rows / 1_000) for rows in (1_000, 2_000, 4_000)]
    >>> round(forecast(past, rows=8_000, recipe="a").seconds, 1)
    8.0
    """
    known = [one for one in history if one.rows > 0]
    own = [one for one in known if one.recipe == recipe]
    used = (own or known)[-NEWEST:]
    if not used:
        return None
    x = [math.log(one.rows) for one in used]
    y = [math.log(max(one.seconds, LEAST)) for one in used]
    slope = _slope(x, y)
    levels = [b - slope * a for a, b in zip(x, y, strict=True)]
    level = median(levels)
    at = math.log(max(rows, 1))
    centre = level + slope * at
    half = _half_width(x, levels, level, at)
    return Forecast(
        seconds=math.exp(centre),
        low=math.exp(centre - half),
        high=math.exp(centre + half),
        trainings=len(used),
        akin=not own,
    )


def took(seconds: float) -> str:
    """Return seconds as a person reads them, few of them too.

    Examples
    --------
    >>> took(2.8), took(0.0042), took(0.0)
    ('2.8 s', '4.2 ms', '0 s')
    """
    if 0 < seconds < 0.0995:  # two digits of more are a tenth of a second
        return f"{seconds * 1_000:.2g} ms"
    return humanise(timedelta(seconds=seconds))


def too_dear(forecasts: Mapping[str, Forecast | None], left: float) -> dict[str, str]:
    """Return by name why trainings do not start: their forecasts are more than is left.

    Parameters
    ----------
    forecasts
        What each training is expected to cost, in the order in which they would run; each that
        starts takes its share away. None is not known yet, and starts where anything is left.
    left
        CPU seconds.
    """
    held: dict[str, str] = {}
    for name, told in forecasts.items():
        if told is None:
            if left <= 0:
                held[name] = "the budget has no CPU seconds left"
        elif told.seconds > left:
            asked, there = took(told.seconds), took(left)
            held[name] = f"forecast at {asked} of CPU, and the budget has {there} left"
        else:
            left -= told.seconds
    return held


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return by which power cost grows with rows."""
    import numpy as np

    first, second = _pairs(len(x))
    both = np.array([x, y])
    runs, rises = both[:, second] - both[:, first]
    apart = runs != 0
    if not apart.all():
        runs, rises = runs[apart], rises[apart]
    slopes = np.append(LINEAR, rises / runs)
    weights = np.append(DOUBT, runs**2)
    return min(max(_weighted_median(slopes, weights), 0.0), STEEPEST)


@lru_cache(maxsize=NEWEST)
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of the first and of the second of each pair of so many."""
    import numpy as np

    return np.triu_indices(count, 1)


def _weighted_median(values: Floats, weights: Floats) -> float:
    import numpy as np

    half = sum(weights.tolist()) / 2
    order = np.lexsort((weights, values))
    left = np.subtract.accumulate(np.append(half, weights[order]))[1:]
    over = np.append(np.flatnonzero(left <= 0), left.size - 1)
    return float(values[order[over[0]]])


def _half_width(x: Sequence[float], levels: Sequence[float], level: float, at: float) -> float:
    """Return half the interval of the logarithm, wider the further from the trainings seen."""
    count, mean = len(x), sum(x) / len(x)
    # 1.4826 makes the median deviation of normal values their standard deviation.
    scatter = 1.4826 * median(abs(one - level) for one in levels)
    freedom = BELIEVED + count - 1
    variance = (BELIEVED * UNSURE**2 + (count - 1) * scatter**2) / freedom
    spread = sum((one - mean) ** 2 for one in x) + DOUBT
    width = math.sqrt(variance * (1 + 1 / count + (at - mean) ** 2 / spread))
    return _quantile(freedom) * width


@lru_cache(maxsize=NEWEST)
def _quantile(freedom: int) -> float:
    """Return the width of an interval of `LEVEL` in standard deviations, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
