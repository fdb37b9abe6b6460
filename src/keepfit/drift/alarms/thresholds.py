"""How much evidence an alarm takes: a table that `benchmarks/alarm_thresholds.py` simulates.

Keys are columns and blocks of the reference; values are thresholds for `BATCHES` batches
per acceptable alarm. Each is the greatest over worlds that differ in how alike neighbouring
blocks are (block effects with an autocorrelation of 0 to 0.6), how alike columns are, how
heavy tails are, and how much of a distance is sampling noise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

BATCHES = (5, 10, 20, 45, 90)

LEAST = 3
"""Blocks below which a reference says nothing about what is usual."""

NEVER = 1e15
"""More evidence than there can be."""

_COLUMNS = (5, 50, 500)

_BLOCKS = (3, 4, 6, 8, 13, 26, 52, 104)

_TABLE: dict[tuple[int, int], tuple[float, ...]] = {
    (5, 3): (0.412, 1.22, 2.52, 5.19, 22.1),
    (5, 4): (0.412, 1.22, 2.52, 7.45, 22.1),
    (5, 6): (0.412, 1.22, 2.52, 10.7, 65.3),
    (5, 8): (0.412, 1.22, 3.61, 15.4, 93.8),
    (5, 13): (0.287, 1.75, 5.19, 22.1, 278),
    (5, 26): (0.2, 1.75, 5.19, 22.1, 135),
    (5, 52): (0.2, 1.75, 5.19, 22.1, 93.8),
    (5, 104): (0.2, 1.75, 5.19, 22.1, 65.3),
    (50, 3): (0.2, 0.85, 2.52, 7.45, 822),
    (50, 4): (0.2, 0.85, 2.52, 31.7, 5.02e03),
    (50, 6): (0.287, 0.85, 2.52, 45.5, 7.2e03),
    (50, 8): (0.287, 0.85, 3.61, 45.5, 5.02e03),
    (50, 13): (0.2, 1.22, 5.19, 65.3, 7.2e03),
    (50, 26): (0.2, 1.75, 7.45, 93.8, 3.49e03),
    (50, 52): (0.2, 1.75, 7.45, 45.5, 399),
    (50, 104): (0.2, 1.75, 7.45, 31.7, 193),
    (500, 3): (0.287, 0.592, 1.75, 7.45, 193),
    (500, 4): (0.2, 0.412, 2.52, 135, 2.68e05),
    (500, 6): (0.2, 1.22, 3.61, 45.5, 5.02e03),
    (500, 8): (0.2, 1.22, 5.19, 135, 6.31e04),
    (500, 13): (0.2, 1.22, 5.19, 93.8, 3.06e04),
    (500, 26): (0.2, 1.22, 10.7, 93.8, 3.49e03),
    (500, 52): (0.2, 1.75, 7.45, 65.3, 1.18e03),
    (500, 104): (0.2, 1.75, 7.45, 31.7, 193),
}


def threshold(columns: int, blocks: int, batches: float) -> float:
    """Return the evidence at which one alarm per so many batches is kept.

    Between the entries the logarithm is interpolated. Beyond the greatest budget it goes on
    with its last slope, one at least: the mean time to an alarm grows no slower than the
    threshold of an e-detector (Shin, Ramdas and Rinaldo 2022). A reference of fewer than
    three blocks never alarms.

    Examples
    --------
    >>> threshold(5, 13, 30) < threshold(5, 13, 90)
    True
    >>> threshold(5, 2, 30) == NEVER
    True
    """
    if blocks < LEAST:
        return NEVER
    over_columns = []
    for many in _COLUMNS:
        over_blocks = [_of_batches(_TABLE[many, some], batches) for some in _BLOCKS]
        over_columns.append(_between(_BLOCKS, over_blocks, blocks))
    return min(NEVER, math.exp(_between(_COLUMNS, over_columns, columns)))


def _of_batches(row: Sequence[float], batches: float) -> float:
    logs = [math.log(value) for value in row]
    if batches <= BATCHES[-1]:
        return _between(BATCHES, logs, batches)
    slope = (logs[-1] - logs[-2]) / math.log(BATCHES[-1] / BATCHES[-2])
    return logs[-1] + max(1.0, slope) * math.log(batches / BATCHES[-1])


def _between(places: Sequence[int], values: Sequence[float], place: float) -> float:
    """Interpolate on the logarithm of the place; outside, the nearest value stands."""
    if place <= places[0]:
        return values[0]
    if place >= places[-1]:
        return values[-1]
    right = bisect_right(places, place)
    low, high = places[right - 1], places[right]
    share = math.log(place / low) / math.log(high / low)
    return values[right - 1] + share * (values[right] - values[right - 1])
