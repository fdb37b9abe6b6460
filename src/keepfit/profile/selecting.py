"""Long columns of numbers summarised as the sorted ones are, by sorting a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from keepfit.profile.cells import SEARCHED, Cells, range_of
from keepfit.profile.counting import EVERYWHERE
from keepfit.profile.quantiles import POINTS, Quantiles, gaps_of, places, ranks_of
from keepfit.profile.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np

    Line: TypeAlias = np.ndarray

Blocks: TypeAlias = "Callable[[], Iterator[np.ndarray]]"
"""Yields the numbers of a column from the beginning, block by block."""

CELLS = 65_535
"""Cells in which numbers are counted: about sixty for each point of a summary."""

SAMPLED = 16_384
"""Numbers drawn to see where a column lies."""

WORTH = 0.4
"""The share of numbers up to which sorting them is less work than sorting all."""

_TRIMMED = 0.002
"""The share at either end that the cells leave out, where wild values stretch the range."""


class Known(NamedTuple):
    """The summary of many numbers, and how many of them are known to differ."""

    spread: Quantiles
    distinct: int


@lru_cache(maxsize=4)
def sampled(rows: int) -> Line:
    """Return the places of numbers to draw from so many, spread by the golden ratio (Weyl, 1916)."""
    import numpy as np

    drawn: Line = (np.arange(SAMPLED) * 0.6180339887498949 % 1.0 * rows).astype(np.intp)
    drawn.flags.writeable = False
    return drawn


def known(sample: Line, blocks: Blocks) -> Known | None:
    """Return what a summary needs to know of finite numbers; None where sorting is less work.

    The ``sample`` only says where to look: whatever it holds, the answer is the same.
    What is not finite in the blocks is left out.
    """
    import numpy as np

    rising = np.sort(sample[np.isfinite(sample)])
    if rising.size < POINTS:
        return None
    values = rising[np.append(True, rising[1:] != rising[:-1])]
    return _counted(values, blocks) if values.size <= POINTS else _selected(rising, blocks)


def _selected(rising: Line, blocks: Blocks) -> Known | None:
    """Count numbers in even cells, then sort those of the cells that hold the wanted ranks."""
    import numpy as np

    low, high = rising[[int(rising.size * _TRIMMED), -1 - int(rising.size * _TRIMMED)]].tolist()
    if not 0 < high - low < np.inf or not CELLS / (high - low) < np.inf:
        return None
    grid = _Grid(low, CELLS / (high - low))
    drawn = grid.cells(rising)
    cells = np.unique(drawn[places(rising.size)])
    share = (drawn.searchsorted(cells, side="right") - drawn.searchsorted(cells)).sum()
    if share > WORTH * rising.size:
        return None
    totals = grid.totals(blocks)
    reached = totals.imag.cumsum()
    wanted = reached.searchsorted(places(int(reached[-1])), side="right")
    wanted = np.unique(np.concatenate([[0], wanted, [CELLS - 1]]))
    held = totals.imag[wanted].astype(np.intp)
    if not 0 < held.sum() <= WORTH * reached[-1]:
        return None
    # What lies from one of the wanted cells to the next is a group.
    totals[wanted] = 0
    groups = np.add.reduceat(totals, wanted)
    del totals, reached
    return _joined(grid.picked(blocks, wanted), held, groups)


class _Grid:
    """Even cells from a number on, so many to a unit."""

    def __init__(self, low: float, scale: float) -> None:
        self._low, self._scale = low, scale
        self._scratch = Scratch()

    def cells(self, numbers: Line) -> Line:
        """Return the cell of each number; what lies beyond the range is in the outermost ones."""
        return self._scratch.cells(numbers, self._low, self._scale, CELLS)

    def totals(self, blocks: Blocks) -> Line:
        """Return what the numbers in each cell add up to, and how many there are behind the i."""
        import numpy as np

        totals = np.zeros(CELLS, dtype=np.complex128)
        for numbers in _finite(blocks):
            self._scratch.add(totals, self.cells(numbers), numbers)
        return totals

    def picked(self, blocks: Blocks, wanted: Line) -> Line:
        """Return the numbers of some cells, in rising order."""
        import numpy as np

        chosen = np.zeros(CELLS, dtype=bool)
        chosen[wanted] = True
        found = np.concatenate(
            [one.compress(chosen.take(self.cells(one), mode="clip")) for one in _finite(blocks)]
        )
        found.sort()
        return found


def _finite(blocks: Blocks) -> Iterator[Line]:
    """Yield the finite numbers of each block."""
    import numpy as np

    for block in blocks():
        finite = np.isfinite(block)
        yield block if finite.all() else block[finite]


def _joined(rising: Line, held: Line, groups: Line) -> Known:
    """Return the summary of numbers known one by one, in rising order, and of groups between them.

    The numbers lie in cells: ``held`` is how many each holds, and ``groups`` what those behind
    it add up to, with how many they are behind the i. All ranks of the summary lie in cells.
    """
    import numpy as np

    sizes, ends = groups.imag.astype(np.intp), held.cumsum()
    ahead = sizes.cumsum() - sizes
    size = rising.size + int(sizes.sum())
    ranks = places(size)
    points = np.unique(rising[ranks - ahead[(ends + ahead).searchsorted(ranks, side="right")]])
    below, upto = ranks_of(rising, points)
    gaps = gaps_of(rising, points, upto)
    # A group lies in the interval that the last point up to the end of its cell begins.
    [there] = sizes.nonzero()
    place = upto.searchsorted(ends[there], side="right") - 1
    with np.errstate(over="ignore", invalid="ignore"):
        rest = sizes[there] * points[place + 1] - groups.real[there]
        gaps += np.bincount(place, rest, minlength=gaps.size)
    shift = ahead[ends.searchsorted(below, side="right")]
    spread = Quantiles.at_points(size, points, below + shift, upto + shift, np.maximum(0.0, gaps))
    return Known(spread, points.size)


def _counted(values: Line, blocks: Blocks) -> Known | None:
    """Count numbers of which there are few different ones; those that were not drawn are sorted."""
    import numpy as np

    points = Quantiles.of(values)
    place = range_of(points)
    if place.searched > SEARCHED:
        return None
    cells, scratch = Cells([points], [place], [EVERYWHERE]), Scratch()
    held, others = np.zeros(2 * values.size + 1, dtype=np.intp), [values[:0]]
    for numbers in _finite(blocks):
        place = cells.find(numbers[None], scratch)[0]
        counted = np.bincount(place, minlength=held.size)
        held += counted
        if counted[::2].any():
            others.append(numbers[place & 1 == 0])
        if held[::2].sum() > WORTH * held.sum():
            return None
    return _one_by_one(values, held[1::2], np.concatenate(others)) if held.any() else None


def _one_by_one(values: Line, held: Line, others: Line) -> Known:
    """Return the summary of numbers of which some are known by how often they occur."""
    import numpy as np

    new, counts = np.unique(others, return_counts=True)
    numbers, counts = np.concatenate([values, new]), np.concatenate([held, counts])
    order = np.argsort(numbers)
    order = order[counts[order] > 0]
    numbers, counts = numbers[order], counts[order]
    reached = counts.cumsum()
    size = int(reached[-1])
    kept = np.unique(reached.searchsorted(places(size), side="right"))
    points, upto = numbers[kept], reached[kept]
    # The interval of a number is the one that it lies in or ends.
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = counts[1:] * (points[1:].repeat(np.diff(kept)) - numbers[1:])
        gaps = np.add.reduceat(gaps, kept[:-1]) if kept.size > 1 else gaps
    return Known(Quantiles.at_points(size, points, upto - counts[kept], upto, gaps), numbers.size)
