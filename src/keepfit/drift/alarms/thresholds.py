"""How much evidence an alarm takes: a table that `benchmarks/alarm_thresholds.py` simulates.

Keys are columns and blocks of the reference; values are thresholds for `BATCHES` batches
per acceptable alarm, for references whose blocks look independent and for those whose
blocks look alike. Both together keep the budget in all of a number of worlds that differ in
how alike neighbouring blocks are (block effects with an autocorrelation of 0 to 0.6), how
alike columns are, how heavy tails are, and how much of a distance is sampling noise: that a
reference shows its likeness only roughly is a part of what is simulated. There are two
tables: for alarms that bet on distances alone, and for those that bet on moves as well.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

BATCHES = (5, 10, 20, 45, 90)

ALIKE = 0.3
"""Autocorrelation in a reference from which on it says that its blocks are alike.

Of distances, which have no sign, it is about the square of that of block effects.
"""

LEAST = 3
"""Blocks below which a reference says nothing about what is usual."""

NEVER = 1e15
"""More evidence than there can be."""

MOST_MOVED = 64
"""Columns up to which moves are bet on: of more, one or another is too badly known."""

_Table = dict[tuple[int, int], tuple[tuple[float, ...], tuple[float, ...]]]

_DISTANCES: _Table = {
    (1, 3): (
        (0.333, 0.454, 0.649, 0.988, 1.37),
        (0.651, 0.89, 1.22, 1.66, 1.66),
    ),
    (1, 4): (
        (0.454, 0.621, 1.05, 2.04, 3.89),
        (0.89, 1.22, 1.66, 2.27, 4.24),
    ),
    (1, 6): (
        (0.621, 1.03, 1.58, 3.02, 10.1),
        (1.22, 1.66, 3.1, 5.79, 10.8),
    ),
    (1, 8): (
        (0.788, 1.16, 2.34, 4.04, 19.5),
        (1.22, 2.27, 3.1, 7.91, 27.6),
    ),
    (1, 13): (
        (0.849, 1.6, 3.13, 5.52, 19.1),
        (1.66, 2.27, 4.24, 10.8, 27.6),
    ),
    (1, 26): (
        (1.16, 2.17, 4.28, 7.55, 14.1),
        (2.27, 4.24, 5.79, 14.8, 27.6),
    ),
    (1, 52): (
        (1.57, 3.13, 5.36, 10.3, 21.9),
        (2.27, 4.24, 7.91, 20.2, 37.7),
    ),
    (1, 104): (
        (1.73, 3.75, 6.86, 14.4, 33.4),
        (3.1, 5.79, 10.8, 27.6, 51.5),
    ),
    (5, 3): (
        (0.166, 0.237, 0.354, 0.511, 0.671),
        (0.651, 0.89, 1.22, 1.22, 1.22),
    ),
    (5, 4): (
        (0.198, 0.311, 0.483, 0.958, 1.17),
        (0.651, 1.22, 1.66, 1.66, 1.66),
    ),
    (5, 6): (
        (0.311, 0.527, 0.942, 1.9, 2.74),
        (1.22, 1.66, 3.1, 4.24, 7.91),
    ),
    (5, 8): (
        (0.311, 0.58, 1.03, 2.33, 3.99),
        (1.22, 2.27, 3.1, 5.79, 10.8),
    ),
    (5, 13): (
        (0.587, 1.03, 2.02, 5.16, 18.6),
        (1.66, 3.1, 7.91, 20.2, 51.5),
    ),
    (5, 26): (
        (0.792, 1.37, 2.11, 6, 18),
        (3.1, 4.24, 7.91, 20.2, 70.4),
    ),
    (5, 52): (
        (1.26, 2.02, 3.77, 8.2, 18.4),
        (4.24, 7.91, 14.8, 27.6, 70.4),
    ),
    (5, 104): (
        (1.65, 3.01, 5.39, 12.5, 24.6),
        (5.79, 10.8, 20.2, 37.7, 96.2),
    ),
    (50, 3): (
        (0.545, 1.1, 2.11, 8.56, 77.4),
        (1.22, 3.1, 7.91, 27.6, 96.2),
    ),
    (50, 4): (
        (0.475, 0.917, 1.83, 4.15, 8.71),
        (0.89, 1.22, 2.27, 4.24, 10.8),
    ),
    (50, 6): (
        (0.434, 0.81, 2.02, 7.65, 23.3),
        (1.66, 3.1, 7.91, 10.8, 70.4),
    ),
    (50, 8): (
        (0.424, 0.845, 2.47, 5.39, 41.5),
        (1.66, 3.1, 4.24, 20.2, 51.5),
    ),
    (50, 13): (
        (0.562, 1.12, 2.25, 10.3, 116),
        (1.66, 3.1, 7.91, 37.7, 335),
    ),
    (50, 26): (
        (0.82, 1.5, 3.77, 18, 160),
        (2.27, 4.24, 14.8, 70.4, 626),
    ),
    (50, 52): (
        (1.16, 1.84, 3.66, 9.63, 62.7),
        (4.24, 5.79, 10.8, 37.7, 245),
    ),
    (50, 104): (
        (1.54, 2.62, 5.34, 13.2, 45.9),
        (5.79, 7.91, 14.8, 51.5, 180),
    ),
    (500, 3): (
        (0.102, 0.102, 0.166, 0.198, 0.375),
        (0.187, 0.349, 0.349, 0.651, 0.651),
    ),
    (500, 4): (
        (0.424, 0.966, 2.34, 6.49, 30.4),
        (1.66, 1.66, 3.1, 14.8, 37.7),
    ),
    (500, 6): (
        (0.311, 0.898, 2.13, 6.23, 26.8),
        (1.22, 1.22, 2.27, 7.91, 96.2),
    ),
    (500, 8): (
        (0.331, 0.72, 1.74, 5, 71.7),
        (1.22, 2.27, 4.24, 14.8, 131),
    ),
    (500, 13): (
        (0.516, 0.792, 1.48, 3.36, 117),
        (1.66, 3.1, 5.79, 10.8, 458),
    ),
    (500, 26): (
        (0.792, 2.09, 5, 26.3, 85.7),
        (3.1, 5.79, 14.8, 51.5, 335),
    ),
    (500, 52): (
        (1.16, 2.57, 6.55, 20.5, 65.5),
        (4.24, 7.91, 20.2, 70.4, 245),
    ),
    (500, 104): (
        (1.4, 3.08, 6.98, 18.6, 47.9),
        (4.24, 10.8, 20.2, 51.5, 180),
    ),
}

_MOVES: _Table = {
    (1, 3): (
        (0.829, 1.46, 2.55, 6.58, 135),
        (1.59, 1.59, 3.17, 12.6, 200),
    ),
    (1, 4): (
        (1.12, 2.15, 5.8, 28.6, 3.92e03),
        (1.59, 3.17, 6.32, 50.2, 6.31e03),
    ),
    (1, 6): (
        (1.52, 3.03, 7.83, 50.2, 1.26e04),
        (2.24, 4.47, 12.6, 50.2, 1.26e04),
    ),
    (1, 13): (
        (1.65, 3.3, 7.18, 26.2, 745),
        (3.17, 6.32, 12.6, 35.5, 795),
    ),
    (1, 26): (
        (1.77, 3.3, 6.58, 16.7, 85.9),
        (3.17, 6.32, 12.6, 25.2, 141),
    ),
    (1, 52): (
        (1.88, 3.6, 6.88, 14.6, 40.4),
        (3.17, 6.32, 12.6, 25.2, 50.2),
    ),
    (1, 104): (
        (2.15, 3.92, 7.18, 15.6, 37.1),
        (3.17, 6.32, 12.6, 25.2, 50.2),
    ),
    (5, 3): (
        (0.259, 0.435, 0.588, 0.866, 1.22),
        (0.796, 0.796, 0.796, 1.59, 1.59),
    ),
    (5, 4): (
        (0.564, 0.904, 1.88, 6.3, 40.3),
        (1.12, 1.59, 3.17, 12.6, 100),
    ),
    (5, 6): (
        (0.683, 1.39, 4.47, 27.4, 1.17e03),
        (1.59, 3.17, 6.32, 50.2, 3.16e03),
    ),
    (5, 13): (
        (0.865, 1.65, 3.91, 25.1, 270),
        (3.17, 6.32, 12.6, 50.2, 563),
    ),
    (5, 26): (
        (1.2, 2.14, 4, 15.6, 82.3),
        (3.17, 6.32, 12.6, 35.5, 141),
    ),
    (5, 52): (
        (1.73, 2.78, 4.36, 11.3, 35.4),
        (4.47, 6.32, 12.6, 25.2, 100),
    ),
    (5, 104): (
        (1.8, 3.45, 5.78, 13.1, 26.1),
        (6.32, 6.32, 12.6, 25.2, 100),
    ),
    (50, 3): (
        (0.228, 0.435, 0.73, 1.39, 2.55),
        (0.796, 0.796, 0.796, 1.59, 3.17),
    ),
    (50, 4): (
        (0.308, 0.6, 1.33, 5.79, 26.8),
        (1.12, 1.59, 2.24, 8.93, 50.2),
    ),
    (50, 6): (
        (0.505, 1.08, 2.44, 24, 294),
        (1.59, 3.17, 6.32, 50.2, 795),
    ),
    (50, 13): (
        (0.829, 2.05, 6.3, 199, 1.56e04),
        (2.24, 3.17, 12.6, 399, 2.51e04),
    ),
    (50, 26): (
        (1.07, 2.05, 4.66, 39.4, 793),
        (3.17, 4.47, 12.6, 100, 1.59e03),
    ),
    (50, 52): (
        (1.39, 2.19, 3.83, 14.3, 56.9),
        (3.17, 6.32, 12.6, 35.5, 200),
    ),
    (50, 104): (
        (1.88, 2.9, 4.46, 10.1, 26.1),
        (3.17, 6.32, 12.6, 25.2, 100),
    ),
}


def threshold(
    columns: int, blocks: int, batches: float, *, alike: float, moved: bool = False
) -> float:
    """Return the evidence at which one alarm per so many batches is kept.

    ``alike`` is the autocorrelation found in the reference: from 0 to `ALIKE` the threshold
    rises from the lower entry to the upper one. ``moved`` says that moves are bet on beside
    distances.

    Between the entries the logarithm is interpolated. Beyond the greatest budget it goes on
    with its last slope, one at least: the mean time to an alarm grows no slower than the
    threshold of an e-detector (Shin, Ramdas and Rinaldo 2022). A reference of fewer than
    three blocks never alarms.

    Examples
    --------
    >>> threshold(5, 13, 30, alike=0.0) < threshold(5, 13, 90, alike=0.0)
    True
    >>> threshold(5, 2, 30, alike=0.0) == NEVER
    True
    """
    if blocks < LEAST:
        return NEVER
    table = _MOVES if moved else _DISTANCES
    there = _around(sorted({many for many, _ in table}), columns)
    seen = _around(sorted({some for _, some in table}), blocks)
    over_columns = []
    for many in there:
        over_blocks = [_of_alike(table[many, some], batches, alike) for some in seen]
        over_columns.append(_between(seen, over_blocks, blocks))
    return min(NEVER, math.exp(_between(there, over_columns, columns)))


def share(alike: float) -> float:
    """Return how far a reference is on the way from the lower threshold to the upper one."""
    return min(1.0, max(0.0, alike / ALIKE))


def _of_alike(rows: tuple[Sequence[float], Sequence[float]], batches: float, alike: float) -> float:
    low, high = (_of_batches(row, batches) for row in rows)
    return low + share(alike) * (high - low)


def _of_batches(row: Sequence[float], batches: float) -> float:
    logs = [math.log(value) for value in row]
    if batches <= BATCHES[-1]:
        return _between(BATCHES, logs, batches)
    slope = (logs[-1] - logs[-2]) / math.log(BATCHES[-1] / BATCHES[-2])
    return logs[-1] + max(1.0, slope) * math.log(batches / BATCHES[-1])


def _around(places: Sequence[int], place: float) -> Sequence[int]:
    """Return the places on either side of one, which are all that is interpolated between."""
    right = min(max(1, bisect_right(places, place)), len(places) - 1)
    return places[right - 1 : right + 1]


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
