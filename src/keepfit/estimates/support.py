"""Where a reference has been: which values of a number are like those seen."""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from keepfit.batch import spread

Array = NDArray[np.float64]

WIDE = 0.02
"""Share of the range from which a stretch without any value is an empty region."""

MOST = 200_000
"""Values that tell how wide the tails are; the ends are those of all."""


class Support(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Stretches of numbers in which the reference has values, from ``starts`` to ``ends``."""

    starts: tuple[float, ...]
    ends: tuple[float, ...]

    def outside(self, values: Array) -> NDArray[np.bool_]:
        """Return, for each value, whether it is unlike any seen; NaN is not a value."""
        if len(self.starts) < 2:  # the usual case, at a fifth of the cost
            low, high = (*self.starts, *self.ends) if self.starts else (np.inf, -np.inf)
            return np.asarray((values < low) | (values > high))
        place = self._starts.searchsorted(values, side="right") - 1
        inside = (place >= 0) & (values <= self._ends[place])
        return np.asarray(~inside & ~np.isnan(values))

    def share_outside(self, ordered: Array) -> float:
        """Return the share of values in rising order that are unlike any seen."""
        upto = ordered.searchsorted(self._ends, side="right").sum()
        return (
            1 - float(upto - ordered.searchsorted(self._starts, side="left").sum()) / ordered.size
        )

    @cached_property
    def _starts(self) -> Array:
        return np.array(self.starts, dtype=np.float64)

    @cached_property
    def _ends(self) -> Array:
        return np.array(self.ends, dtype=np.float64)


def support(values: Array, *, gaps: bool) -> Support:
    """Return where values lie, with margins that a fresh draw from them hardly ever leaves.

    Of n values the outermost root of n span a tail; half of its width is the margin at
    either end. In an exponential tail a fresh value is beyond it with a chance of
    n to the power of -5/4. With ``gaps``, the middle half of a wide stretch without values
    is outside too: a fresh value is in a given one with a chance of less than 1/n.
    """
    found = _finite(values)
    if gaps or not found.size:
        return stretched(np.sort(found), gaps=gaps)
    low, high = float(found.min()), float(found.max())
    some = found[spread(found.size, MOST)]
    # The same share of fewer values lies as far within, about.
    inner = -(-_inner(found.size) * some.size // found.size)
    found = some
    found.partition([inner, found.size - 1 - inner])
    return _within(low, float(found[inner]), float(found[found.size - 1 - inner]), high)


def _finite(values: Array) -> Array:
    """Return the finite values, without a copy where all are."""
    # A sum is finite only where all values are, and takes a fifth of looking at each.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return values
    return values[np.isfinite(values)]


def stretched(ordered: Array, *, gaps: bool) -> Support:
    """Return the `support` of finite values in rising order."""
    if not ordered.size:
        return Support(starts=(), ends=())
    inner = _inner(ordered.size)
    low, high = float(ordered[0]), float(ordered[-1])
    found = _within(low, float(ordered[inner]), float(ordered[-1 - inner]), high)
    if not gaps:
        return found
    steps = np.diff(ordered)
    wide = np.flatnonzero(steps > WIDE * max(high - low, 1.0))
    quarter = steps[wide] / 4
    return Support(
        starts=(*found.starts, *(ordered[wide + 1] - quarter).tolist()),
        ends=(*(ordered[wide] + quarter).tolist(), *found.ends),
    )


def _inner(rows: int) -> int:
    """Return how many of the outermost values span a tail."""
    return min(rows - 1, int(np.ceil(rows**0.5)))


def _within(low: float, above: float, below: float, high: float) -> Support:
    """Return the stretch from the least to the greatest value, with a margin at either end."""
    return Support(starts=(low - (above - low) / 2,), ends=(high + (high - below) / 2,))
