"""Long columns of numbers summarised as the sorted ones are, by sorting a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from keepfit.profile.cells import SEARCHED, Cells, range_of
from keepfit.profile.counting import EVERYWHERE
from keepfit.profile.quantiles import POINTS, Quantiles, places

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
    """Numbers of which some are known one by one, and the rest by how many lie between them.

    ``numbers`` rise, each once; ``below`` and ``held`` are how many of ``size`` are less than
    and equal to each. The rest lies in groups: ``at`` is how many of ``numbers`` are less
    than a group, ``groups`` how many numbers it holds, and ``sums`` what they add up to.
    """

    size: int
    numbers: Line
    below: Line
    held: Line
    at: Line
    groups: Line
    sums: Line

    def spread(self) -> Quantiles:
        """Return the summary, for which the numbers at its ranks must be known."""
        import numpy as np

        kept = np.unique(self.below.searchsorted(places(self.size), side="right") - 1)
        points, below = self.numbers[kept], self.below[kept]
        upto = below + self.held[kept]
        ends, last = points[1:], points.size - 1
        # The interval of a number is the one that it lies in or ends.
        place = np.zeros(self.numbers.size, dtype=np.intp)
        place[kept] = 1
        place = np.cumsum(place) - place - 1
        with np.errstate(over="ignore", invalid="ignore"):
            gaps = self.held[1:] * (ends[place[1:]] - self.numbers[1:])
            gaps = np.bincount(place[1:], gaps, minlength=last)
            rest = self.groups * ends[place[self.at]] - self.sums
            gaps += np.bincount(place[self.at], rest, minlength=last)
        return Quantiles.at_points(self.size, points, below, upto, np.maximum(0.0, gaps))


def sampled(rows: int) -> Line:
    """Return the places of numbers to draw from so many, spread by the golden ratio (Weyl, 1916)."""
    import numpy as np

    return (np.arange(SAMPLED) * 0.6180339887498949 % 1.0 * rows).astype(np.intp)


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
    held = np.bincount(_cells(rising, low, high), minlength=CELLS)
    if held[_wanted(held)].sum() > WORTH * rising.size:
        return None
    held, sums, cells = _tallied(blocks, low, high)
    wanted = _wanted(held)
    if not 0 < held[wanted].sum() <= WORTH * held.sum():
        return None
    numbers, counts = np.unique(_picked(blocks, cells, wanted), return_counts=True)
    return _with_groups(numbers, counts, _cells(numbers, low, high), held, sums)


def _picked(blocks: Blocks, cells: list[Line], wanted: Line) -> Line:
    """Return the numbers of some cells; the cells of all numbers are let go."""
    import numpy as np

    chosen = np.zeros(CELLS + 1, dtype=bool)
    chosen[wanted] = True
    cells.reverse()
    return np.concatenate([block[chosen.take(cells.pop(), mode="clip")] for block in blocks()])


def _cells(numbers: Line, low: float, high: float) -> Line:
    """Return the cell of each number; what lies beyond the range is in the outermost ones."""
    import numpy as np

    with np.errstate(over="ignore"):
        found: Line = np.subtract(numbers, low)
        found *= CELLS / (high - low)
    return np.clip(found, 0, CELLS - 1, out=found).astype(np.intp)


def _wanted(held: Line) -> Line:
    """Return the cells that hold the ranks of a summary's points, and the outermost ones."""
    import numpy as np

    reached = np.cumsum(held)
    cells = reached.searchsorted(places(int(reached[-1])), side="right")
    return np.unique(np.concatenate([[0], cells, [CELLS - 1]]))


def _tallied(blocks: Blocks, low: float, high: float) -> tuple[Line, Line, list[Line]]:
    """Return how many numbers each cell holds, what they add up to, and the cell of each."""
    import numpy as np

    held, sums = np.zeros(CELLS, dtype=np.intp), np.zeros(CELLS)
    cells = []
    for block in blocks():
        finite = np.isfinite(block)
        whole = finite.all()
        numbers = block if whole else block[finite]
        here = _cells(numbers, low, high)
        held += np.bincount(here, minlength=CELLS)
        with np.errstate(over="ignore", invalid="ignore"):
            sums += np.bincount(here, numbers, minlength=CELLS)
        small = here.astype(np.uint16)
        if not whole:
            # What is not finite has a cell that is never wanted.
            small = np.full(block.size, CELLS, dtype=np.uint16)
            small[finite] = here
        cells.append(small)
    return held, sums, cells


def _with_groups(numbers: Line, counts: Line, cells: Line, held: Line, sums: Line) -> Known:
    """Return numbers of chosen cells, and the other cells that hold any as groups."""
    import numpy as np

    different = np.bincount(cells, minlength=CELLS)
    first, local = np.cumsum(different) - different, np.cumsum(counts) - counts
    below = (np.cumsum(held) - held)[cells] + local - local[first[cells]]
    [groups] = ((different == 0) & (held > 0)).nonzero()
    return Known(int(held.sum()), numbers, below, counts, first[groups], held[groups], sums[groups])


def _counted(values: Line, blocks: Blocks) -> Known | None:
    """Count numbers of which there are few different ones; those that were not drawn are sorted."""
    import numpy as np

    points = Quantiles.of(values)
    place = range_of(points)
    if place.searched > SEARCHED:
        return None
    cells = Cells([points], [place], [EVERYWHERE])
    held, others, size = np.zeros(values.size + 1, dtype=np.intp), [], 0
    for block in blocks():
        finite = np.isfinite(block)
        numbers = block if finite.all() else block[finite]
        reached, point = (row[0] for row in cells.find(numbers[None]))
        same = numbers == point
        held += np.bincount(reached[same], minlength=held.size)
        others.append(numbers[~same])
        size += numbers.size
        if sum(one.size for one in others) > WORTH * size:
            return None
    return _one_by_one(size, values, held[1:], np.concatenate(others)) if size else None


def _one_by_one(size: int, values: Line, held: Line, others: Line) -> Known:
    """Return numbers of which all are known: some by how often they occur, and the others."""
    import numpy as np

    new, counts = np.unique(others, return_counts=True)
    numbers, counts = np.concatenate([values, new]), np.concatenate([held, counts])
    order = np.argsort(numbers)
    order = order[counts[order] > 0]
    numbers, counts = numbers[order], counts[order]
    none = np.empty(0, dtype=np.intp)
    return Known(size, numbers, np.cumsum(counts) - counts, counts, none, none, np.empty(0))
