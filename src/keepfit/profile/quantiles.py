"""A summary of how numbers are spread: small, mergeable, with a stated error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

POINTS = 1_024
"""Points kept: a share read between two of them is off by at most 1/1024."""

TAIL = 8
"""Points kept at either end whatever their share, so that one wild value has its own."""


class Quantiles(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """How many numbers lie below and up to each of some points.

    Up to `POINTS` numbers are kept as they are; of more, points at even shares and the
    outermost ones. At the points of numbers seen at once the shares are exact; those of
    merged summaries carry an ``error``. Between points no share is off by more than
    ``error + resolution``, so that a Kolmogorov-Smirnov distance is not either.

    References
    ----------
    Greenwald and Khanna, Power-conserving computation of order-statistics over sensor
    networks (2004), for merging and pruning summaries.

    Examples
    --------
    >>> import numpy as np
    >>> spread = Quantiles.of(np.arange(100_000.0))
    >>> spread.count, len(spread.points) < 1_100, spread.resolution < 1 / 1_000
    (100000, True, True)
    """

    count: int
    packed: bytes
    error: float = 0.0

    @classmethod
    def of(cls, ordered: np.ndarray) -> Quantiles:
        """Summarise finite numbers, in rising order."""
        import numpy as np

        points = np.unique(ordered[places(ordered.size)]).astype(np.float64)
        below, upto = ranks_of(ordered, points)
        return cls.at_points(ordered.size, points, below, upto, gaps_of(ordered, points, upto))

    @classmethod
    def at_points(
        cls, count: int, points: np.ndarray, below: np.ndarray, upto: np.ndarray, gaps: np.ndarray
    ) -> Quantiles:
        """Return the summary of numbers that were counted at its points.

        ``gaps`` are the sums of distances of the numbers in each interval to its end.
        """
        lean = _lean(points, below, upto, gaps)
        return cls(count=int(count), packed=_packed(points, below, upto, lean))

    @classmethod
    def merge(cls, parts: Sequence[Quantiles]) -> Quantiles:
        """Return the summary of all that the parts summarise.

        Its error is at most the mean of the parts' errors and resolutions, by their counts;
        merging many parts at once costs no more than merging two.
        """
        import numpy as np

        parts = [part for part in parts if part.count]
        if len(parts) < 2:
            return parts[0] if parts else cls(count=0, packed=b"")
        count = sum(part.count for part in parts)
        points = np.unique(np.concatenate([part.points for part in parts]))
        ranks = [part.ranks(points) for part in parts]
        below = np.sum([rank[0] for rank in ranks], axis=0)
        upto = np.sum([rank[1] for rank in ranks], axis=0)
        areas = np.sum([p._areas(points, *r) for p, r in zip(parts, ranks, strict=True)], axis=0)
        kept = _kept(below, upto, count)
        points, below, upto = points[kept], below[kept], upto[kept]
        if points.size > 1:
            areas = np.add.reduceat(areas[: kept[-1]], kept[:-1])
        with np.errstate(over="ignore", invalid="ignore"):
            inside = areas - upto[:-1] * np.diff(points)
        error = sum(part.count * (part.error + part.resolution) for part in parts) / count
        lean = _lean(points, below, upto, inside)
        return cls(count=count, packed=_packed(points, below, upto, lean), error=float(error))

    def within(self, reach: tuple[float, float]) -> bool:
        """Return whether all numbers lie from the one end of a reach to the other."""
        return bool(reach[0] <= self.points[0] and self.points[-1] <= reach[1])

    def drawn(self, reach: tuple[float, float]) -> Quantiles:
        """Return the summary with all numbers drawn into a reach."""
        import numpy as np

        if self.within(reach):
            return self
        points = self.points.clip(*reach)
        kept, first = np.unique(points, return_index=True)
        last = np.append(first[1:], points.size) - 1
        packed = _packed(kept, self.below[first], self.upto[last], self.lean[last])
        return Quantiles(count=self.count, packed=packed, error=self.error)

    def thinned(self) -> Quantiles:
        """Return a summary with every second point, and those at either end."""
        import numpy as np

        last = self.points.size - 1
        kept = np.unique(np.concatenate([
            np.arange(0, last + 1, 2), np.arange(TAIL), last - np.arange(TAIL)
        ]).clip(0, last))  # fmt: skip
        points, below, upto = self.points[kept], self.below[kept], self.upto[kept]
        with np.errstate(over="ignore", invalid="ignore"):
            areas = np.add.reduceat(self.areas, kept[:-1]) if kept.size > 1 else self.areas
            gaps = areas - upto[:-1] * np.diff(points)
        lean = _lean(points, below, upto, gaps)
        packed = _packed(points, below, upto, lean)
        return Quantiles(count=self.count, packed=packed, error=self.error)

    @cached_property
    def _rows(self) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self.packed, dtype="<f8").reshape(4, -1)

    @property
    def points(self) -> np.ndarray:
        """The points, rising, each once."""
        row: np.ndarray = self._rows[0]
        return row

    @property
    def below(self) -> np.ndarray:
        """How many numbers are less than each point."""
        row: np.ndarray = self._rows[1]
        return row

    @property
    def upto(self) -> np.ndarray:
        """How many numbers are not greater than each point."""
        row: np.ndarray = self._rows[2]
        return row

    @property
    def lean(self) -> np.ndarray:
        """How the numbers between each point and the next lie: 0 at the next, 1 at the point."""
        row: np.ndarray = self._rows[3]
        return row

    @cached_property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """The shares of numbers less than, and not greater than, each point."""
        return self.below / self.count, self.upto / self.count

    @cached_property
    def widths(self) -> np.ndarray:
        """The distances between neighbouring points."""
        import numpy as np

        with np.errstate(over="ignore"):
            widths: np.ndarray = np.diff(self.points)
        return widths

    @cached_property
    def areas(self) -> np.ndarray:
        """The integral of ``upto`` from each point to the next."""
        import numpy as np

        between = self.below[1:] - self.upto[:-1]
        with np.errstate(over="ignore", invalid="ignore"):
            areas: np.ndarray = self.widths * (self.upto[:-1] + between * self.lean[:-1])
        return areas

    @cached_property
    def resolution(self) -> float:
        """The greatest share of numbers that lie between two neighbouring points."""
        if self.points.size < 2:
            return 0.0
        return float((self.below[1:] - self.upto[:-1]).max()) / self.count

    def ranks(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many numbers are less than, and not greater than, others.

        Between two points the numbers there are taken as evenly spread.
        """
        import numpy as np

        points, last = self.points, self.points.size - 1
        before = np.searchsorted(points, at, side="right") - 1
        inside = np.clip(before, 0, max(0, last - 1))
        low, high = points[inside], points[np.minimum(inside + 1, last)]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            part = (at / 2 - low / 2) / (high / 2 - low / 2)
        part = np.clip(np.nan_to_num(part, nan=0.5), 0.0, 1.0)
        start = self.upto[inside]
        between = start + part * (self.below[np.minimum(inside + 1, last)] - start)
        between = np.where(before < 0, 0.0, np.where(before >= last, self.count, between))
        same = (before >= 0) & (points[np.maximum(before, 0)] == at)
        place = np.maximum(before, 0)
        return (
            np.where(same, self.below[place], between),
            np.where(same, self.upto[place], between),
        )

    def _areas(self, points: np.ndarray, below: np.ndarray, upto: np.ndarray) -> np.ndarray:
        """Return the integral of ``upto`` from each of the points to the next; ours are among them.

        ``below`` and ``upto`` are the `ranks` of the points.
        """
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):
            even: np.ndarray = np.diff(points) * (upto[:-1] + below[1:]) / 2
        places = np.searchsorted(points, self.points)
        whole = np.flatnonzero(np.diff(places) == 1)
        even[places[whole]] = self.areas[whole]
        return even

    def at(self, shares: np.ndarray) -> np.ndarray:
        """Return the numbers at shares from 0 to 1: of those kept, the first that reaches it."""
        import numpy as np

        place = np.searchsorted(self.upto, shares * self.count, side="left")
        found: np.ndarray = self.points[np.minimum(place, self.points.size - 1)]
        return found

    @cached_property
    def even(self) -> np.ndarray:
        """An even grid of quantiles, from the least to the greatest."""
        import numpy as np

        wanted = min(self.count, POINTS)
        return self.at((np.arange(wanted) + 0.5) / wanted) if wanted else np.empty(0)


def distances(first: Quantiles, second: Quantiles) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov and the Wasserstein-1 distance of two summaries.

    Exact where both keep all their numbers. Without numbers on either side both are 0.
    """
    import numpy as np

    if not first.count or not second.count:
        return 0.0, 0.0
    points = np.union1d(first.points, second.points)
    ours, theirs = first.ranks(points), second.ranks(points)
    left = ours[0] / first.count - theirs[0] / second.count
    right = ours[1] / first.count - theirs[1] / second.count
    areas = first._areas(points, *ours), second._areas(points, *theirs)
    apart = areas[0] / first.count - areas[1] / second.count
    return _greatest(left, right), _area(np.diff(points), right[:-1], left[1:], apart)


def ranks_of(ordered: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of some numbers, in rising order, are less than and up to each point."""
    import numpy as np

    below = np.searchsorted(ordered, points, side="left")
    # Where a point is none of the numbers, as many are below it as up to it.
    [tied] = (ordered.take(below, mode="clip") == points).nonzero()
    if not tied.size:
        return below, below
    upto = below.copy()
    upto[tied] = np.searchsorted(ordered, points[tied], side="right")
    return below, upto


def gaps_of(ordered: np.ndarray, points: np.ndarray, upto: np.ndarray) -> np.ndarray:
    """Return for each interval between points the sum of distances of its numbers to its end."""
    import numpy as np

    starts = upto[:-1]
    held = upto[1:] - starts
    [filled] = held.nonzero()
    gaps = np.zeros(held.size)
    if filled.size:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.add.reduceat(ordered[: upto[-1]], starts[filled])
            # The numbers at an interval's end add nothing: their distance to it is zero.
            gaps[filled] = np.maximum(0.0, held[filled] * points[1:][filled] - sums)
    return gaps


def _lean(points: np.ndarray, below: np.ndarray, upto: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return gaps as shares of what they are when all numbers lie at an interval's start."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        lean = gaps / ((below[1:] - upto[:-1]) * np.diff(points))
    lean = np.clip(np.nan_to_num(lean, nan=0.5, posinf=0.5, neginf=0.5), 0.0, 1.0)
    return np.append(lean, 0.5)[: points.size]


def _area(widths: np.ndarray, start: np.ndarray, end: np.ndarray, apart: np.ndarray) -> float:
    """Return the area between two distribution functions.

    ``start`` and ``end`` are their differences at the ends of each interval, ``apart`` the
    integral of the difference, which is the area where they do not cross.
    """
    import numpy as np

    crossing = start * end < 0
    if not crossing.any():
        return float(np.abs(apart).sum())
    straight = area(widths[crossing], start[crossing], end[crossing])
    return float(np.abs(apart[~crossing]).sum()) + straight


def area(widths: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Return the area under the absolute value of straight lines from start to end."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return float(straight(widths, start, end).sum())


def straight(widths: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the area under the absolute value of each straight line from start to end."""
    import numpy as np

    starts, ends = np.abs(start), np.abs(end)
    total = starts + ends
    crossing = (start * end) < 0
    if crossing.any():
        squares = starts * starts + ends * ends
        total = np.where(crossing, squares / np.where(crossing, total, 1.0), total)
    found: np.ndarray = widths * total / 2
    return found


def _greatest(left: np.ndarray, right: np.ndarray) -> float:
    return float(max(left.max(), -left.min(), right.max(), -right.min()))


@lru_cache(maxsize=16)
def places(size: int) -> np.ndarray:
    """Return the ranks of numbers in rising order that are kept as points.

    They lie at even shares, and ever closer towards either end. The columns of a table ask
    for the same ones.
    """
    import numpy as np

    even = np.arange(size) if size <= POINTS else _wanted(size - 1).round()
    ranks: np.ndarray = np.unique(even.astype(np.int64))
    ranks.flags.writeable = False
    return ranks


def _wanted(last: float) -> np.ndarray:
    """Return ranks from 0 to the last: at even distances, and ever closer towards either end."""
    import numpy as np

    even = np.linspace(0, last, POINTS)
    steps = np.arange(4 * max(1.0, np.log2(last / POINTS)))
    ends = np.concatenate([np.arange(TAIL), TAIL * 2 ** (steps / 4)])
    ends = ends[ends < 2 * last / POINTS]
    return np.unique(np.concatenate([even, ends, last - ends]))


def _kept(below: np.ndarray, upto: np.ndarray, count: int) -> np.ndarray:
    """Return places of the points to keep, so that no two are further apart than 1/POINTS."""
    import numpy as np

    if upto.size <= POINTS:
        return np.arange(upto.size)
    wanted = _wanted(count)
    reached = np.minimum(np.searchsorted(upto, wanted, side="left"), upto.size - 1)
    # The last point below a wanted share and the first that reaches it bound the gap.
    before = np.maximum(np.searchsorted(below, wanted, side="right") - 1, 0)
    ends = np.arange(TAIL)
    return np.unique(np.concatenate([reached, before, ends, upto.size - 1 - ends]))


def _packed(points: np.ndarray, below: np.ndarray, upto: np.ndarray, lean: np.ndarray) -> bytes:
    import numpy as np

    return np.stack([points, below, upto, lean]).astype("<f8").tobytes()
