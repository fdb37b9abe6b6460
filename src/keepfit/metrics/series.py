"""The mean of values that follow each other in time, with an error that respects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

MOST = 64
"""Blocks that rows are cut into at the start."""

COARSEST = 16
"""Neighbouring blocks are not joined into fewer than these: their error would be a guess."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, its standard error, the degrees of freedom behind it, and what carries it.

    ``blocks`` counts the values; ``effective`` is how many independent ones they are worth, at
    the block length where these are fewest: of 64 values, 32 at most.
    """

    mean: float
    error: float
    freedom: float
    effective: float
    blocks: int


def mean_of(values: Array | Sequence[float]) -> Mean:
    """Return the mean of two or more values in order of time, with its standard error.

    Neighbours may be alike. From the lag-1 autocorrelation r of the values, corrected for
    the bias of short series (Marriott and Pope 1954), n values are worth
    n (1 - r) / (1 + r) independent ones (Bartlett 1946; Zwiers and von Storch 1995). Noise
    within blocks hides slow changes, which a lag of one block then does not show, so
    neighbours are also joined in pairs, and these again, down to 16; the block length with
    the greatest error is the one used. This holds for stationary series whose memory is
    short beside their length: below about eight effective values do not trust it.
    """
    levels = [np.asarray(values, dtype=np.float64)]
    overall = float(levels[0].mean())
    while levels[-1].size >= 2 * COARSEST:
        last = levels[-1]
        levels.append(last[last.size % 2 :].reshape(-1, 2).mean(axis=1))
    measured = [_measured(level) for level in levels]
    error, freedom, _ = max(measured)
    # Of 16 values the autocorrelation is too rough a figure to count with, where there are more.
    counted = [level for level in levels if level.size >= 2 * COARSEST] or levels
    return Mean(
        mean=overall,
        error=error,
        freedom=freedom,
        effective=min(effective for _, _, effective in measured[: len(counted)]),
        blocks=levels[0].size,
    )


def _measured(values: Array) -> tuple[float, float, float]:
    """Return (standard error, degrees of freedom, effective values) at one block length."""
    n = values.size
    away = values - values.mean()
    total = float(away @ away)
    r = float(away[1:] @ away[:-1]) / total if total > 0 else 0.0
    corrected = _worth(n, r + (1 + 3 * r) / n)
    error = float(np.sqrt(total / (n - 1) / corrected))
    return error, max(corrected - 1, min(7.0, n - 1)), _worth(n, r)


def _worth(n: int, r: float) -> float:
    r = min(max(r, 0.0), 0.95)
    return n * (1 - r) / (1 + r)


def interval(found: Mean, tail: float) -> tuple[float, float]:
    """Return the bounds that leave a share of probability beyond each of them."""
    reach = -float(stdtrit(found.freedom, tail)) * found.error
    return found.mean - reach, found.mean + reach


def edges(rows: int, most: int = MOST) -> NDArray[np.intp]:
    """Return where to cut rows into blocks of equal counts, one row each at least."""
    return np.linspace(0, rows, min(rows, most) + 1).round().astype(np.intp)


def block_means(values: Array, cuts: NDArray[np.intp]) -> Array:
    """Return the mean of each block of values."""
    return np.add.reduceat(values, cuts[:-1]) / np.diff(cuts)
