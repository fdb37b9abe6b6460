"""Numbers counted at the points of summaries without sorting them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from keepfit.profile.counting import Between, Counts, Reach, beyond, wide
from keepfit.profile.quantiles import Quantiles
from keepfit.profile.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np

CELLS = 8
"""Cells for each point of a summary."""

LEAST = 1_024
"""Cells of a summary with few points, which may lie unevenly."""

SEARCHED = 0.02
"""The share of a reference's numbers that cells may leave to be searched for; above, sorting pays."""

_TRIMMED = (0.0, 0.001, 0.005)
"""Shares at either end that the cells leave out, tried in turn: wild values stretch the range."""


class Range(NamedTuple):
    """Where a column's cells begin, and how many there are to a unit.

    ``searched`` is the share of the reference's numbers next to points that share a cell.
    """

    low: float
    scale: float
    searched: float


def range_of(spread: Quantiles) -> Range:
    """Return the range of cells that leaves the fewest numbers to be searched for."""
    import numpy as np

    points, (below, upto) = spread.points, spread.shares
    size = max(LEAST, CELLS * points.size)
    best = Range(0.0, 1.0, 1.0)
    for trimmed in _TRIMMED:
        low, high = spread.at(np.array([trimmed, 1 - trimmed])).tolist()
        width = high - low
        if not 0 < width < np.inf or not 0 < size / width < np.inf:
            continue
        cells = Scratch().cells(points, low, size / width, size)
        shared = cells[1:] == cells[:-1]
        crowded = np.append(shared, False) | np.append(False, shared)
        searched = float((upto - below)[crowded].sum() + (below[1:] - upto[:-1])[shared].sum())
        if searched < best.searched:
            best = Range(low, size / width, searched)
        if not searched:
            break
    return best


class Ranks(NamedTuple):
    """Numbers of several columns at the points of a summary each; a row a column.

    ``below`` and ``upto`` are how many of ``sizes`` finite numbers are less than, and not
    greater than, each point; a short row goes on with its last count. ``apart`` is the
    Kolmogorov-Smirnov distance to the summary, 0 without numbers.
    """

    sizes: np.ndarray
    infinite: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    apart: np.ndarray


class Cells:
    """The points of several summaries in even cells, in which numbers find their places.

    A subtraction and a multiplication lead to a number's cell, and the points before the cell
    to the point that comes next, with which it is compared; in a cell that holds several they
    are searched. None of it lets a greater number come before a smaller one, rounding
    included, so that the counts are those of the sorted numbers.

    A number's place is how many points are less than it, and how many are not greater: twice
    as many as it reaches, and one less where it is the last of these itself.

    Parameters
    ----------
    spreads, ranges, reaches
        The summaries, the range of cells of each, and how far out numbers count.
    """

    def __init__(
        self,
        spreads: Sequence[Quantiles],
        ranges: Sequence[Range],
        reaches: Sequence[Reach],
    ) -> None:
        import numpy as np

        self._spreads, self._reaches = spreads, reaches
        self._points = [one.points for one in spreads]
        self._ends = [one[[0, -1]].tolist() for one in self._points]
        width = max(one.size for one in self._points)
        self._table = np.concatenate([wide(one[None], width) for one in self._points])
        with np.errstate(over="ignore"):
            self._widths = np.diff(self._table)
        # The places of a row: between the points, and on them.
        self._stride = 2 * width + 1
        self._limit = len(spreads) * self._stride
        self._low = np.array([[one.low] for one in ranges])
        self._scale = np.array([[one.scale] for one in ranges])
        self._size = max(LEAST, CELLS * width)
        self._first = np.arange(len(spreads))[:, None] * self._size
        self._place = np.empty((len(spreads), self._size), dtype=np.intp)
        # What comes next: nothing behind the last point, and for those to be searched.
        self._next = np.full(self._limit + 1, np.nan)
        scratch = Scratch()
        for k, points in enumerate(self._points):
            self._fill(k, points, scratch)
        self._crowded = bool((self._place == self._limit).any())

    def _fill(self, k: int, points: np.ndarray, scratch: Scratch) -> None:
        import numpy as np

        cells = scratch.cells(points, self._low[k], self._scale[k], self._size)
        held = np.bincount(cells, minlength=self._size)
        first = k * self._stride
        self._place[k] = first + 2 * (np.cumsum(held) - held)
        self._place[k, held > 1] = self._limit
        self._next[first : first + 2 * points.size : 2] = points

    def count(
        self,
        blocks: Iterable[np.ndarray],
        between: list[Between],
        scratch: Scratch | None = None,
    ) -> Counts:
        """Return numbers, a row of each block for each summary, counted at its points.

        What is not finite is set apart. ``between`` finds the numbers of each row.
        """
        scratch = scratch or Scratch()
        tally = _Tally(self._table, self._widths)
        for block in blocks:
            self._add(tally, block, scratch)
        sizes, below, upto, gaps = tally.counts([one.size for one in self._points])
        return Counts(sizes, tally.infinite, below, upto, gaps, tally.outside, between)

    def ranks(self, numbers: np.ndarray, scratch: Scratch) -> Ranks:
        """Return numbers, a row for each summary, ranked at its points, and no more than that."""
        import numpy as np

        infinite = apart = np.zeros(len(numbers), dtype=np.intp)
        finite = np.isfinite(numbers)
        if not finite.all():
            infinite = np.isinf(numbers).sum(axis=1)
            apart = numbers.shape[1] - finite.sum(axis=1)
            # Counted as beyond the last point, and taken off there.
            numbers = np.where(finite, numbers, np.inf)
        places = self.find(numbers, scratch).ravel()
        held = np.bincount(places, minlength=self._limit).reshape(len(numbers), -1)
        sizes, reached = _ranks(held, [one.size for one in self._points], apart)
        gaps = reached / np.maximum(1, sizes)[:, None]
        gaps -= self._shares
        furthest = np.where(sizes > 0, np.abs(gaps, out=gaps).max(axis=1), 0.0)
        return Ranks(sizes, infinite, reached[:, ::2], reached[:, 1::2], furthest)

    @cached_property
    def _shares(self) -> np.ndarray:
        """The shares of the summaries below and up to each point, in turn."""
        import numpy as np

        shares = np.empty((len(self._spreads), 2 * self._table.shape[1]))
        for row, one in zip(shares, self._spreads, strict=True):
            for first, line in enumerate(one.shares):
                row[first::2] = wide(line[None], self._table.shape[1])
        return shares

    def _add(self, tally: _Tally, numbers: np.ndarray, scratch: Scratch) -> None:
        """Count one block."""
        import numpy as np

        low, high = numbers.min(axis=1), numbers.max(axis=1)
        # What is not finite shows in one of them.
        finite = np.isfinite(low) & np.isfinite(high)
        if not finite.all():
            infinite = np.isinf(numbers).sum(axis=1)
            tally.infinite += infinite
            tally.apart += infinite + np.isnan(numbers).sum(axis=1)
            # Counted as beyond the last point, and taken off there.
            numbers = np.where(np.isfinite(numbers), numbers, np.inf)
            low, high = numbers.min(axis=1), numbers.max(axis=1)
        scratch.add(tally.totals, self.find(numbers, scratch), numbers)
        self._outside(tally, numbers, low.tolist(), high.tolist())

    def find(self, numbers: np.ndarray, scratch: Scratch) -> np.ndarray:
        """Return the place of each number, which holds until the next call.

        They count on from row to row, so that every row has places of its own.
        """
        import numpy as np

        cells = scratch.cells(numbers, self._low, self._scale, self._size)
        if len(self._points) > 1:
            cells += self._first
        place = scratch.taken(self._place, cells)
        following = scratch.taken(self._next, place)
        reached = (numbers >= following).view(np.int8)
        reached += (numbers > following).view(np.int8)
        # Made as wide as the places first, which takes less than to add both as they are.
        np.copyto(cells, reached)
        place += cells
        if self._crowded:
            self._search(numbers, place)
        return place

    def _search(self, numbers: np.ndarray, place: np.ndarray) -> None:
        """Find the places of numbers whose cells hold several points."""
        import numpy as np

        place = place.ravel()
        at = np.flatnonzero(place >= self._limit)
        if not at.size:
            return
        found, rows = numbers.ravel()[at], at // numbers.shape[1]
        starts = rows.searchsorted(np.arange(len(numbers) + 1)).tolist()
        reached = np.concatenate(
            [
                points.searchsorted(found[start:end], side="right")
                for points, start, end in zip(self._points, starts, starts[1:], strict=False)
            ]
        )
        reached = 2 * reached + rows * self._stride
        # The last point reached is what came next at the place before it.
        place[at] = reached - (self._next.take(reached - 2, mode="wrap") == found)

    def _outside(
        self, tally: _Tally, numbers: np.ndarray, low: list[float], high: list[float]
    ) -> None:
        """Add how far numbers beyond the outermost points lie from these; ``low`` is the least."""
        import numpy as np

        for k, (row, (start, end)) in enumerate(zip(numbers, self._ends, strict=True)):
            if low[k] >= start and high[k] <= end:
                continue
            less = row[row < start] if low[k] < start else row[:0]
            greater = row[row > end] if high[k] > end else row[:0]
            if high[k] == np.inf:
                greater = greater[np.isfinite(greater)]
            tally.outside[k] += beyond(self._points[k], self._reaches[k], less, greater)


class _Tally:
    """Numbers by their places, a row a column; ``apart`` is how many are not finite.

    Parameters
    ----------
    points, widths
        The points of each column, and how far each lies from the next; a short row goes on
        with its last one.
    """

    def __init__(self, points: np.ndarray, widths: np.ndarray) -> None:
        import numpy as np

        rows, width = points.shape
        self._points, self._widths = points, widths
        # What the numbers at each place add up to, and how many there are behind the i.
        self.totals = np.zeros(rows * (2 * width + 1), dtype=np.complex128)
        self.outside = np.zeros((rows, 2))
        self.apart, self.infinite = (np.zeros(rows, dtype=np.intp) for _ in range(2))

    def counts(
        self, points: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the sizes, the counts below and up to each point, and the gaps.

        A row of fewer points than others goes on with the counts at its last one.
        """
        import numpy as np

        rows, width = self._points.shape
        totals = self.totals.reshape(rows, -1)
        held = totals.imag.astype(np.intp)
        sizes, reached = _ranks(held, points, self.apart)
        inside, sums = held[:, 2:-1:2], totals.real[:, 2:-1:2]
        with np.errstate(over="ignore", invalid="ignore"):
            gaps = np.maximum(0.0, inside * self._points[:, 1:] - sums)
            # Where nothing lies, an infinite width says nothing.
            gaps = np.fmin(gaps, inside * self._widths)
        for k, size in enumerate(points):
            if size < width:
                gaps[k, size - 1 :] = 0.0
        return sizes, reached[:, ::2], reached[:, 1::2], gaps


def _ranks(
    held: np.ndarray, points: Sequence[int], apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes, and the counts below and up to each point in turn, of what each place holds.

    ``apart`` is how many numbers of each row are not finite; they are held behind its last
    point, and taken off. A row of fewer points than others goes on with the counts at its last.
    """
    held[range(len(held)), [2 * size for size in points]] -= apart
    reached = held.cumsum(axis=1)
    sizes, reached = reached[:, -1].copy(), reached[:, :-1]
    for k, size in enumerate(points):
        last = 2 * size
        reached[k, last::2], reached[k, last + 1 :: 2] = reached[k, last - 2 : last]
    return sizes, reached
