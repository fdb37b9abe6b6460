"""Bets against "nothing has changed", added up over batches in an e-detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZES = (0.5, 1.0, 2.0, 3.5)
"""Shifts that the bets suit, in standard deviations: of those that persist, and abrupt ones."""

NORMAL = 0.84
"""A value below this is as usual: four in five batches of a stream that does not change."""

CALM = 3
"""Batches in a row that must be as usual before an alarm is over."""

_MOST = 1e12
"""A sum beyond any threshold is cut, so that it stays a number in the ledger."""


def bet(sums: Array, values: Array) -> Array:
    """Return the Shiryaev-Roberts sums, one per value and size of bet, after one more batch.

    exp(size x - size²/2) is a fair bet on a standard normal x, the one that grows fastest
    when x has shifted by that size.
    """
    sizes = np.array(SIZES)
    won = np.minimum(values[..., None] * sizes - sizes**2 / 2, 25.0)
    return np.asarray(np.minimum((sums + 1) * np.exp(won), _MOST), dtype=np.float64)


def evidence(sums: Array) -> Array:
    """Return the mean of the sums over values and bets: a mixture is a detector again."""
    return np.asarray(sums.mean(axis=(-2, -1)), dtype=np.float64)
