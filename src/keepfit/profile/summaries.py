"""Summaries of many columns side by side, and how far a batch lies from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from keepfit.profile.counting import EVERYWHERE, Counts, Reach, wide
from keepfit.profile.quantiles import POINTS, Quantiles, distances

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
        below, upto = (wide(one, self._width) / sizes for one in (batch.below, batch.upto))
        left, right = self._below - below, self._upto - upto
        gaps = wide(batch.gaps, self._width - 1, 0.0) / sizes
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(self._areas - (upto[:, :-1] * self._widths + gaps))
            self._cross(apart, left, right, batch)
            moved = apart.sum(axis=1) + batch.outside[:, 0] / batch.sizes
            near = np.where(self._inside > 0, apart * self._inside, 0.0).sum(axis=1)
            near += batch.outside[:, 1] / batch.sizes
        ks = np.maximum(np.abs(left).max(axis=1), np.abs(right).max(axis=1))
        found = zip(ks.tolist(), moved.tolist(), near.tolist(), strict=True)
        return [self._exact(k, batch) or Distances(*one) for k, one in enumerate(found)]

    def _cross(self, apart: np.ndarray, left: np.ndarray, right: np.ndarray, batch: Counts) -> None:
        """Set the areas of intervals in which the two cross, which are not their difference.

        One that may hold much of the distance is looked into, the others are taken as straight.
        """
        import numpy as np

        [there] = (right[:, :-1] * left[:, 1:] < 0).ravel().nonzero()
        rows, i = np.divmod(there, max(1, self._width - 1))
        widths, start, end = self._widths[rows, i], right[rows, i], left[rows, i + 1]
        steep = np.abs(start) + np.abs(end)
        apart[rows, i] = widths * (start * start + end * end) / (2 * steep)
        far = widths * steep > 0.02 * apart.sum(axis=1)[rows]
        for row, k in zip(rows[far].tolist(), i[far].tolist(), strict=True):
            apart[row, k] = _crossing(self.spreads[row], k, batch, row)

    def _exact(self, row: int, batch: Counts) -> Distances | None:
        """Return the distances to a summary that keeps all its numbers, of which there are few."""
        import numpy as np

        spread, reach = self.spreads[row], self.reaches[row]
        if spread.count > POINTS:
            return None
        ordered = batch.between[row](-np.inf, np.inf)
        came = Quantiles.of(ordered)
        ks, moved = distances(spread, came)
        if spread.within(reach) and came.within(reach):
            return Distances(ks, moved, moved)
        near = distances(spread.drawn(reach), Quantiles.of(ordered.clip(*reach)))[1]
        return Distances(ks, moved, near)


def _crossing(spread: Quantiles, i: int, batch: Counts, row: int) -> float:
    """Return the area between the two within one interval, number by number."""
    import numpy as np

    start, end = spread.points[i : i + 2].tolist()
    inner = batch.between[row](start, end)
    low, high = float(spread.upto[i]) / spread.count, float(spread.below[i + 1]) / spread.count
    slope = (high - low) / (end - start)
    ours = np.empty(inner.size + 2)
    ours[0], ours[1:-1], ours[-1] = low, low + slope * (inner - start), high
    theirs = np.arange(batch.upto[row, i], batch.upto[row, i] + inner.size + 1) / batch.sizes[row]
    before, after = ours[:-1] - theirs, ours[1:] - theirs
    if slope:
        # The integral of |x| is x|x| / 2, and x rises as ours does.
        return float((after * np.abs(after) - before * np.abs(before)).sum() / (2 * slope))
    widths = np.diff(inner, prepend=start, append=end)
    return float((widths * np.abs(before)).sum())
