"""Where a reference has been: which values of a number are like those seen."""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDE = 0.02
"""Share of the range from which a stretch without any value is an empty region."""


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
    ordered = np.sort(values[np.isfinite(values)])
    if not ordered.size:
        return Support(starts=(), ends=())
    inner = min(ordered.size - 1, int(np.ceil(ordered.size**0.5)))
    low, high = float(ordered[0]), float(ordered[-1])
    starts = [low - (float(ordered[inner]) - low) / 2]
    ends = [high + (high - float(ordered[-1 - inner])) / 2]
    if gaps:
        steps = np.diff(ordered)
        wide = np.flatnonzero(steps > WIDE * max(high - low, 1.0))
        quarter = steps[wide] / 4
        ends = [*(ordered[wide] + quarter).tolist(), *ends]
        starts = [*starts, *(ordered[wide + 1] - quarter).tolist()]
    return Support(starts=tuple(starts), ends=tuple(ends))
