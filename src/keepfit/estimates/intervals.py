"""How far realised values may lie from what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri, stdtrit

from keepfit.metrics.base import around_share

Array = NDArray[np.float64]

BLOCKS = 10
"""Stretches of a reference that show how far estimates are off when time goes by."""

PER_BLOCK = 50
"""Rows of a stretch at least."""

ENOUGH = 100
"""Effective reference rows from which an estimate is trusted in full."""


def bounds(
    value: float, variance: float, n: int, level: float, *, share: bool
) -> tuple[float, float]:
    """Return the interval around a value, for a share or for a loss of no less than zero."""
    if value != value:
        return value, value
    error = variance**0.5
    if share:
        return around_share(value, error, n, level) if error or value in (0, 1) else (value, value)
    reach = float(ndtri((1 + level) / 2)) * error
    return max(0.0, value - reach), value + reach


def stretches(rows: int, most: int = BLOCKS) -> list[slice]:
    """Return a reference cut into consecutive stretches; none when there are too few rows."""
    count = min(most, rows // PER_BLOCK)
    cuts = np.linspace(0, rows, count + 1).round().astype(int).tolist() if count > 2 else [0]
    return [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def wander(pairs: list[tuple[float, float]]) -> float:
    """Return the variance between stretches of time that labels' chance does not explain.

    ``pairs`` hold, for stretches left out of the fit, how far the realised value was from
    the estimate, and the variance that was expected of it. There is none unless it is beyond
    the 95 % quantile of chance: a stream that does not change has none, in 19 of 20 cases.
    Of few stretches it is made larger, as Student's quantiles are than the normal ones.
    """
    told = [(away**2, variance) for away, variance in pairs if away == away and variance > 0]
    if len(told) < 3:
        return 0.0
    squares, expected = (float(mean) for mean in np.mean(told, axis=0))
    if squares <= expected * float(chdtri(len(told), 0.05)) / len(told):
        return 0.0
    return (squares - expected) * float(stdtrit(len(told), 0.975) / ndtri(0.975)) ** 2


def wanders(
    stretch: Callable[[slice], dict[str, tuple[float, float]]], rows: int
) -> dict[str, float]:
    """Return, per metric, the variance between stretches; those without any are left out."""
    pairs: dict[str, list[Any]] = {}
    for one in stretches(rows):
        for metric, pair in stretch(one).items():
            pairs.setdefault(metric, []).append(pair)
    found = {metric: wander(each) for metric, each in pairs.items()}
    return {metric: variance for metric, variance in found.items() if variance > 0}


def belief(unlike: float, effective: float) -> float:
    """Return the trust in an estimate before any realised value has been seen."""
    return (1 - unlike) * min(1.0, effective / ENOUGH)
