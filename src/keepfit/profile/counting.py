"""How many numbers lie below and up to the points of summaries, and how far from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from keepfit.profile.quantiles import Quantiles, gaps_of, ranks_of

if TYPE_CHECKING:
    import numpy as np

Between: TypeAlias = Callable[[float, float], "np.ndarray"]
"""Returns the numbers inside an open interval, in rising order."""

Reach: TypeAlias = tuple[float, float]
"""From where to where it counts how far a number lies out; beyond, only that it lies there.

The reference's median lies within.
"""

EVERYWHERE: Reach = (-float("inf"), float("inf"))


@dataclass(slots=True)
class Counts:
    """Numbers of several columns, counted at the points of a summary each; a row a column.

    ``below`` and ``upto`` are how many of ``sizes`` finite numbers are less than, and not
    greater than, each point; a short row goes on with its last count. ``gaps`` are the sums
    of distances of the numbers in each interval to its end. ``outside`` are the sums of
    distances of the numbers beyond the outermost points to these, and the same within a
    reach. ``infinite`` numbers are left out of all of it.
    """

    sizes: np.ndarray
    infinite: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    gaps: np.ndarray
    outside: np.ndarray
    between: list[Between]

    @classmethod
    def joined(cls, parts: Sequence[Counts]) -> Counts:
        """Return the columns of several parts side by side."""
        import numpy as np

        if len(parts) == 1:
            return parts[0]
        width = max(part.below.shape[1] for part in parts)
        return cls(
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.infinite for part in parts]),
            np.concatenate([wide(part.below, width) for part in parts]),
            np.concatenate([wide(part.upto, width) for part in parts]),
            np.concatenate([wide(part.gaps, width - 1, 0.0) for part in parts]),
            np.concatenate([part.outside for part in parts]),
            [one for part in parts for one in part.between],
        )

    def some(self, rows: Sequence[int]) -> Counts:
        """Return some of the columns."""
        if len(rows) == len(self.between):
            return self
        chosen = list(rows)
        return Counts(
            self.sizes[chosen],
            self.infinite[chosen],
            self.below[chosen],
            self.upto[chosen],
            self.gaps[chosen],
            self.outside[chosen],
            [self.between[k] for k in chosen],
        )


def wide(table: np.ndarray, width: int, filled: float | None = None) -> np.ndarray:
    """Return a table with so many columns: what is new repeats the last one, or has a value."""
    import numpy as np

    more = width - table.shape[1]
    if more <= 0:
        return table[:, :width]
    new = table[:, -1:] if filled is None else np.full((len(table), 1), filled, table.dtype)
    return np.concatenate([table, new.repeat(more, axis=1)], axis=1)


def counts_at(
    spread: Quantiles, ordered: np.ndarray, reach: Reach = EVERYWHERE, infinite: int = 0
) -> Counts:
    """Return finite numbers in rising order, of which there are some, counted at a summary's points."""
    import numpy as np

    points = spread.points
    below, upto = ranks_of(ordered, points)
    less, greater = ordered[: below[0]], ordered[upto[-1] :]
    return Counts(
        np.array([ordered.size]),
        np.array([infinite]),
        below[None],
        upto[None],
        gaps_of(ordered, points, upto)[None],
        np.array([beyond(points, reach, less, greater)]),
        [_between(ordered)],
    )


def _between(ordered: np.ndarray) -> Between:
    def between(low: float, high: float) -> np.ndarray:
        start, end = ordered.searchsorted(low, side="right"), ordered.searchsorted(high)
        return ordered[start:end]

    return between


def beyond(
    points: np.ndarray, reach: Reach, less: np.ndarray, greater: np.ndarray
) -> tuple[float, float]:
    """Return the sum of distances of numbers beyond the outermost points, plain and within a reach."""
    import numpy as np

    (start, end), (low, high) = points[[0, -1]].tolist(), reach
    plain = near = 0.0
    with np.errstate(over="ignore"):
        for apart, room in ((start - less, start - low), (greater - end, high - end)):
            if apart.size:
                total = float(apart.sum())
                plain += total
                within = total if apart.max() <= room else apart.clip(0.0, max(0.0, room)).sum()
                near += float(within)
    return plain, near
