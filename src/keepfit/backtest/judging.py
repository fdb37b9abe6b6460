"""Which policy to take: the cheapest of those that cannot be told apart from the best."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepfit.metrics.series import interval, mean_of

TIE = 0.1
"""Costs that differ by less than this share are taken as the same."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one policy was worth than another, window by window; positive is better.

    The interval is that of the mean of paired differences, and respects that windows follow
    each other in time (`keepfit.metrics.series`); NaN with fewer than two windows.
    """

    value: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Whether the two can be told apart."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON can hold it."""
        known = not math.isnan(self.low)
        return {"value": self.value, "interval": [self.low, self.high] if known else None}

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:+.4f}"
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def difference(ours: Sequence[float], theirs: Sequence[float], *, sign: float) -> Difference:
    """Return how much more one policy was worth than another on the same windows.

    Examples
    --------
    >>> str(difference([0.8, 0.9, 0.8, 0.9], [0.7, 0.8, 0.7, 0.8], sign=1.0))
    '+0.1000 [+0.1000, +0.1000]'
    """
    gains = sign * (np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64))
    if gains.size < 2:
        mean = float(gains.mean()) if gains.size else math.nan
        return Difference(mean, math.nan, math.nan)
    found = mean_of(gains)
    low, high = interval(found, 0.025)
    return Difference(found.mean, low, high)


def margin(value: float, *, greater_is_better: bool) -> float:
    """Return a difference that is too small to matter, as `triggers.OnDecay` has it.

    0.01 where the metric is at most 1 and greater is better, and 2 % of its value elsewhere.
    """
    return 0.01 if greater_is_better and abs(value) <= 1 else 0.02 * abs(value)


def cheapest(
    values: Mapping[str, Sequence[float]],
    costs: Mapping[str, float],
    own: str,
    *,
    sign: float,
    within: float,
    idle: Collection[str] = (),
) -> str:
    """Return the policy to take.

    It is the cheapest of those whose mean lies within a margin of the best, and which are not
    shown to be worse, or shown to be worse by no more than the margin. Not to train needs more:
    that it is shown to cost no more than the margin, or that nothing was worth more. Among those
    that cost about the same the pipeline's own is kept, else the one that was worth most is taken.

    Parameters
    ----------
    values
        The value of each policy on each window.
    costs
        What each costs.
    own
        The pipeline's own policy.
    sign
        1 where more is better, -1 where less is.
    within
        The margin.
    idle
        The policies that trained once and not again.

    Examples
    --------
    >>> values = {"never": [0.5, 0.6, 0.5], "own": [0.8, 0.9, 0.7], "always": [0.8, 0.9, 0.71]}
    >>> costs = {"never": 1.0, "own": 2.0, "always": 50.0}
    >>> cheapest(values, costs, "own", sign=1.0, within=0.01)
    'own'
    """
    worth = {name: sign * float(np.mean(each)) for name, each in values.items()}
    best = max(worth, key=lambda name: worth[name])
    equal = []
    for name, each in values.items():
        beside = difference(each, values[best], sign=sign)
        if name in idle and worth[name] < worth[best]:
            good = beside.low >= -within  # a wide interval is no evidence for doing nothing
        else:
            good = worth[best] - worth[name] <= within and _as_good(beside, within)
        equal += [name] if good else []
    least = min(costs[name] for name in equal)
    cheap = [name for name in equal if costs[name] <= least * (1 + TIE)]
    return own if own in cheap else max(cheap, key=lambda name: worth[name])


def _as_good(beside_best: Difference, within: float) -> bool:
    return not beside_best.high < 0 or beside_best.low >= -within
