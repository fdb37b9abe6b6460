"""Summaries of many columns side by side, and how far a batch lies from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from keepfit.profile.quantiles import (
    POINTS,
    Quantiles,
    area,
    distances,
    gaps_of,
    ranks_of,
    straight,
)

if TYPE_CHECKING:
    import numpy as np


class Counted(NamedTuple):
    """Numbers in rising order, counted at the points of a summary.

    ``below`` and ``upto`` are how many of them are less than, and not greater than, each
    point; ``gaps`` the sums of distances of the numbers in each interval to its end.
    """

    ordered: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    gaps: np.ndarray


def counts_at(spread: Quantiles, ordered: np.ndarray) -> Counted:
    """Return numbers in rising order, of which there are some, counted at a summary's points."""
    below, upto = ranks_of(ordered, spread.points)
    return Counted(ordered, below, upto, gaps_of(ordered, spread.points, upto))


class Distances(NamedTuple):
    """How far a batch lies from a summary: ``near`` is the Wasserstein distance within a reach."""

    ks: float
    wasserstein: float
    near: float


class Summaries:
    """Summaries of several columns side by side, to be compared with a batch at once.

    The sums are the same for every column, and the calls would cost more than they do.
    ``reaches`` say from where to where values count for each column's ``near``: beyond, it
    only counts that a value lies there. Everything counts where none are given.
    """

    def __init__(
        self, spreads: Sequence[Quantiles], reaches: Sequence[tuple[float, float]] | None = None
    ) -> None:
        import numpy as np

        self.spreads = spreads
        self.reaches = reaches or [(-np.inf, np.inf)] * len(spreads)
        self._width = max((one.points.size for one in spreads), default=0)
        points = self._side_by_side([one.points for one in spreads])
        self._below = self._side_by_side([one.shares[0] for one in spreads])
        self._upto = self._side_by_side([one.shares[1] for one in spreads])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._widths = np.diff(points)
            low, high = np.array(self.reaches, dtype=np.float64).reshape(-1, 2).T[..., None]
            inside = np.minimum(points[:, 1:], high) - np.maximum(points[:, :-1], low)
            self._inside = np.clip(np.nan_to_num(inside / self._widths, nan=0.0), 0.0, 1.0)
        self._areas = np.zeros_like(self._widths)
        for row, one in zip(self._areas, spreads, strict=True):
            row[: one.areas.size] = one.areas / max(1, one.count)

    def _side_by_side(self, lines: Sequence[np.ndarray]) -> np.ndarray:
        """Return lines as rows of one table; a short one goes on with its last value."""
        import numpy as np

        table = np.empty((len(lines), self._width))
        for row, line in zip(table, lines, strict=True):
            row[: line.size] = line
            row[line.size :] = line[-1]
        return table

    def distances(self, batch: Sequence[Counted]) -> list[Distances]:
        """Return how far each column of a batch lies from its summary.

        The Wasserstein distance adds up the numbers between the points, so that it is right
        where an interval is wide: next to a wild value, or between two clusters.
        """
        import numpy as np

        sizes = np.array([[one.ordered.size] for one in batch], dtype=np.float64)
        upto = self._side_by_side([one.upto for one in batch])
        left = self._below - self._side_by_side([one.below for one in batch]) / sizes
        right = self._upto - upto / sizes
        start, end, widths = right[:, :-1], left[:, 1:], self._widths
        gaps = np.zeros_like(widths)
        for row, one in zip(gaps, batch, strict=True):
            row[: one.gaps.size] = one.gaps
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(self._areas - (upto[:, :-1] * widths + gaps) / sizes)
            crossing = start * end < 0
            apart[crossing] = straight(widths[crossing], start[crossing], end[crossing])
            # An interval in which the two cross is looked into where it may hold much of the
            # distance.
            reach = widths * (np.abs(start) + np.abs(end))
            far = reach > 0.02 * apart.sum(axis=1, keepdims=True)
            for row, i in np.argwhere(crossing & far).tolist():
                apart[row, i] = _crossing(self.spreads[row], i, batch[row])
            moved = apart.sum(axis=1)
            near = np.where(self._inside > 0, apart * self._inside, 0.0).sum(axis=1)
        ks = np.maximum(np.abs(left).max(axis=1), np.abs(right).max(axis=1))
        found = zip(ks.tolist(), moved.tolist(), near.tolist(), strict=True)
        return [
            self._whole(k, one, Distances(*each))
            for k, (one, each) in enumerate(zip(batch, found, strict=True))
        ]

    def _whole(self, place: int, batch: Counted, found: Distances) -> Distances:
        """Return distances with what lies beyond the outermost points; exact ones of few numbers."""
        spread, reach = self.spreads[place], self.reaches[place]
        if spread.count <= POINTS:
            ks, moved = distances(spread, Quantiles.of(batch.ordered))
            drawn = Quantiles.of(batch.ordered.clip(*reach))
            return Distances(ks, moved, distances(spread.drawn(reach), drawn)[1])
        if not batch.below[0] and batch.upto[-1] == batch.ordered.size:
            return found
        ks, moved, near = found
        return Distances(ks, moved + _outside(spread, batch), near + _outside(spread, batch, reach))


def _outside(
    spread: Quantiles, batch: Counted, reach: tuple[float, float] = (-float("inf"), float("inf"))
) -> float:
    """Return what numbers beyond the outermost points add to the area, as far as they count."""
    import numpy as np

    points, ordered, first, last = spread.points, batch.ordered, batch.below[0], batch.upto[-1]
    low, high = np.clip(points[[0, -1]], *reach)
    total = 0.0
    if first:
        total += float((low - ordered[:first].clip(*reach)).sum())
    if last < ordered.size:
        total += float((ordered[last:].clip(*reach) - high).sum())
    return total / ordered.size


def _crossing(spread: Quantiles, i: int, batch: Counted) -> float:
    """Return the area between the two within one interval, number by number."""
    import numpy as np

    upto, size = int(batch.upto[i]), batch.ordered.size
    inner = batch.ordered[upto : batch.below[i + 1]]
    points = np.concatenate([spread.points[i : i + 1], inner, spread.points[i + 1 : i + 2]])
    low, high = spread.upto[i] / spread.count, spread.below[i + 1] / spread.count
    ours = low + (high - low) * (points - points[0]) / (points[-1] - points[0])
    theirs = (upto + np.arange(inner.size + 1)) / size
    return area(np.diff(points), ours[:-1] - theirs, ours[1:] - theirs)
