"""Numbers counted at the points of summaries without sorting them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

_TRIMMED = (0.001, 0.005, 0.0)
"""Shares at either end that the cells leave out, tried in turn: wild values stretch the range."""


class Range(NamedTuple):
    """Where a column's cells begin, and how many there are to a unit.

    ``searched`` is the share of the reference's numbers next to points that share a cell.
    """

    low: float
    scale: float
    searched: float


def range_of(spread: Quantiles) -> Range:
    """Return the range of cells that leaves few numbers to be searched for."""
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
        if searched <= SEARCHED:
            break
    return best


class Cells:
    """The points of several summaries in even cells, in which numbers find their places.

    A subtraction and a multiplication lead to a number's cell. One that holds a single point
    needs one comparison to say how many points the number reaches; in one that holds several
    they are searched. Neither step lets a greater number come before a smaller one, rounding
    included, so that the counts are those of the sorted numbers.

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
        self._ends = [one.points[[0, -1]].tolist() for one in spreads]
        width = max(one.points.size for one in spreads)
        # A number reaches none of the points up to all of them.
        self._stride = width + 1
        self._limit = len(spreads) * self._stride
        self._low = np.array([[one.low] for one in ranges])
        self._scale = np.array([[one.scale] for one in ranges])
        self._size = max(LEAST, CELLS * width)
        self._first = np.arange(len(spreads))[:, None] * self._size
        self._point = np.full((len(spreads), self._size), np.nan)
        self._place = np.empty((len(spreads), self._size), dtype=np.intp)
        # In front of the points is the place of what reaches none.
        self._points = np.zeros((len(spreads), self._stride))
        scratch = Scratch()
        for k, one in enumerate(spreads):
            self._points[k, 1:] = wide(one.points[None], width)
            self._fill(k, one.points, scratch)
        self._crowded = bool((self._place == self._limit).any())

    def _fill(self, k: int, points: np.ndarray, scratch: Scratch) -> None:
        import numpy as np

        cells = scratch.cells(points, self._low[k], self._scale[k], self._size)
        held = np.bincount(cells, minlength=self._size)
        self._place[k] = k * self._stride + np.cumsum(held) - held
        self._place[k, held > 1] = self._limit
        alone = held[cells] == 1
        self._point[k, cells[alone]] = points[alone]

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
        tally = _Tally(self._points)
        for block in blocks:
            self._add(tally, block, scratch)
        sizes, below, upto, gaps = tally.counts([one.points.size for one in self._spreads])
        return Counts(sizes, tally.infinite, below, upto, gaps, tally.outside, between)

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
        place, point = self.find(numbers, scratch)
        tally.add(place.ravel(), (numbers == point).ravel(), numbers, scratch)
        self._outside(tally, numbers, low.tolist(), high.tolist())

    def find(self, numbers: np.ndarray, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
        """Return how many points each number reaches, and the last of them that shares its cell.

        The first counts on from row to row, so that every row has places of its own; the
        second is NaN where there is none.
        """
        cells = scratch.cells(numbers, self._low, self._scale, self._size)
        if len(self._spreads) > 1:
            cells += self._first
        point, place = scratch.taken(self._point, cells), scratch.taken(self._place, cells)
        place += numbers >= point
        if self._crowded:
            self._search(numbers, place, point)
        return place, point

    def _search(self, numbers: np.ndarray, place: np.ndarray, point: np.ndarray) -> None:
        """Find the places of numbers whose cells hold several points."""
        import numpy as np

        place, point = place.ravel(), point.ravel()
        at = np.flatnonzero(place >= self._limit)
        if not at.size:
            return
        found, rows = numbers.ravel()[at], at // numbers.shape[1]
        starts = rows.searchsorted(np.arange(len(numbers) + 1)).tolist()
        reached = np.concatenate(
            [
                one.points.searchsorted(found[start:end], side="right")
                for one, start, end in zip(self._spreads, starts, starts[1:], strict=False)
            ]
        )
        place[at] = reached + rows * self._stride
        point[at] = np.where(reached > 0, self._points.ravel()[place[at]], np.nan)

    def _outside(
        self, tally: _Tally, numbers: np.ndarray, low: list[float], high: list[float]
    ) -> None:
        """Add how far numbers beyond the outermost points lie from these; ``low`` is the least."""
        import numpy as np

        for k, (row, one) in enumerate(zip(numbers, self._spreads, strict=True)):
            start, end = self._ends[k]
            if low[k] >= start and high[k] <= end:
                continue
            less = row[row < start] if low[k] < start else row[:0]
            greater = row[row > end] if high[k] > end else row[:0]
            greater = greater[np.isfinite(greater)]
            tally.outside[k] += beyond(one.points, self._reaches[k], less, greater)


class _Tally:
    """Numbers by how many of the points they reach, a row a column.

    ``tied`` counts those that are the last point they reach, ``apart`` what is not finite.

    Parameters
    ----------
    points
        The points of each column, behind the place of what reaches none.
    """

    def __init__(self, points: np.ndarray) -> None:
        import numpy as np

        self._points = points
        # What the numbers that are no point add up to, and how many numbers there are in all.
        self._totals = np.zeros(points.size, dtype=np.complex128)
        self.tied = np.zeros(points.size, dtype=np.intp)
        self.outside = np.zeros((len(points), 2))
        self.apart, self.infinite = (np.zeros(len(points), dtype=np.intp) for _ in range(2))

    def add(
        self, place: np.ndarray, equal: np.ndarray, numbers: np.ndarray, scratch: Scratch
    ) -> None:
        """Add numbers at their places."""
        import numpy as np

        ties = np.count_nonzero(equal)
        alike = ties == equal.size
        if not alike:
            scratch.add(self._totals, place, numbers)
        if ties:
            tied = np.bincount(place if alike else place[equal], minlength=self.tied.size)
            self.tied += tied
            with np.errstate(over="ignore", invalid="ignore"):
                self._totals += tied * 1j if alike else -tied * self._points.ravel()

    def counts(
        self, points: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the sizes, the counts below and up to each point, and the gaps.

        A row of fewer points than others goes on with the counts at its last one.
        """
        import numpy as np

        totals, tied = (one.reshape(self._points.shape) for one in (self._totals, self.tied))
        held = totals.imag.astype(np.intp)
        held[range(len(points)), points] -= self.apart
        reached = held.cumsum(axis=1)
        below, upto = reached[:, :-1], reached[:, :-1] + tied[:, 1:]
        inside, ends = (held - tied)[:, 1:-1], self._points[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            gaps = inside * ends[:, 1:] - totals.real[:, 1:-1]
            gaps = np.where(inside > 0, np.clip(gaps, 0.0, inside * np.diff(ends)), 0.0)
        for k, size in enumerate(points):
            last = size - 1
            below[k, last:], upto[k, last:], gaps[k, last:] = below[k, last], upto[k, last], 0.0
        return reached[:, -1].copy(), below, upto, gaps
