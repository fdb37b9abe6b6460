"""Summaries of many columns side by side, and how far a batch lies from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from keepfit.profile.counting import EVERYWHERE, Counts, Reach, wide
from keepfit.profile.quantiles import POINTS, Quantiles, area, distances, straight

if TYPE_CHECKING:
    import numpy as np


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
        self, spreads: Sequence[Quantiles], reaches: Sequence[Reach] | None = None
    ) -> None:
        import numpy as np

        self.spreads = spreads
        self.reaches = reaches or [EVERYWHERE] * len(spreads)
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

    def distances(self, batch: Counts) -> list[Distances]:
        """Return how far each column of a batch lies from its summary.

        The Wasserstein distance adds up the numbers between the points, so that it is right
        where an interval is wide: next to a wild value, or between two clusters.
        """
        import numpy as np

        sizes = batch.sizes[:, None].astype(np.float64)
        below, upto = wide(batch.below, self._width), wide(batch.upto, self._width)
        left, right = self._below - below / sizes, self._upto - upto / sizes
        start, end, widths = right[:, :-1], left[:, 1:], self._widths
        gaps = wide(batch.gaps, self._width - 1, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(self._areas - (upto[:, :-1] * widths + gaps) / sizes)
            crossing = start * end < 0
            apart[crossing] = straight(widths[crossing], start[crossing], end[crossing])
            # An interval in which the two cross is looked into where it may hold much of the
            # distance.
            reach = widths * (np.abs(start) + np.abs(end))
            far = reach > 0.02 * apart.sum(axis=1, keepdims=True)
            for row, i in np.argwhere(crossing & far).tolist():
                apart[row, i] = _crossing(self.spreads[row], i, batch, row)
            moved = apart.sum(axis=1) + batch.outside[:, 0] / batch.sizes
            near = np.where(self._inside > 0, apart * self._inside, 0.0).sum(axis=1)
            near += batch.outside[:, 1] / batch.sizes
        ks = np.maximum(np.abs(left).max(axis=1), np.abs(right).max(axis=1))
        found = zip(ks.tolist(), moved.tolist(), near.tolist(), strict=True)
        return [self._exact(k, batch) or Distances(*one) for k, one in enumerate(found)]

    def _exact(self, row: int, batch: Counts) -> Distances | None:
        """Return the distances to a summary that keeps all its numbers, of which there are few."""
        import numpy as np

        spread, reach = self.spreads[row], self.reaches[row]
        if spread.count > POINTS:
            return None
        ordered = batch.between[row](-np.inf, np.inf)
        ks, moved = distances(spread, Quantiles.of(ordered))
        near = distances(spread.drawn(reach), Quantiles.of(ordered.clip(*reach)))[1]
        return Distances(ks, moved, near)


def _crossing(spread: Quantiles, i: int, batch: Counts, row: int) -> float:
    """Return the area between the two within one interval, number by number."""
    import numpy as np

    ends = spread.points[i : i + 2]
    inner = batch.between[row](ends[0], ends[1])
    points = np.concatenate([ends[:1], inner, ends[1:]])
    low, high = spread.upto[i] / spread.count, spread.below[i + 1] / spread.count
    ours = low + (high - low) * (points - points[0]) / (points[-1] - points[0])
    theirs = (batch.upto[row, i] + np.arange(inner.size + 1)) / batch.sizes[row]
    return area(np.diff(points), ours[:-1] - theirs, ours[1:] - theirs)
