"""Bets against "nothing has changed", added up over batches in an e-detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZES = (0.5, 1.0, 2.0, 3.5)
"""Shifts that the bets suit, in standard deviations: of those that persist, and abrupt ones."""

COLUMN = 1.0
"""The shift that the bets on single columns suit: one that a batch alone does not show."""

NORMAL = 0.84
"""A value below this is as usual: four in five batches of a stream that does not change."""

CALM = 3
"""Batches in a row that must be as usual before an alarm is over."""

_MOST = 1e12
"""A sum beyond any threshold is cut, so that it stays a number in the ledger."""


def bet(sums: Array, values: Array, sizes: Sequence[float] = SIZES) -> Array:
    """Return the Shiryaev-Roberts sums, one per value and size of bet, after one more batch.

    exp(size x - size²/2) is a fair bet on a standard normal x, the one that grows fastest
    when x has shifted by that size.
    """
    shifts = np.array(sizes)
    won = np.minimum(values[..., None] * shifts - shifts**2 / 2, 25.0)
    return np.asarray(np.minimum((sums + 1) * np.exp(won), _MOST), dtype=np.float64)


def bet_each(sums: Array, values: Array) -> Array:
    """Return the Shiryaev-Roberts sums, one per column, after one more batch."""
    return bet(sums[..., None], values, (COLUMN,))[..., 0]


def evidence(sums: Array, each: Array, shares: Array) -> Array:
    """Return the mean of all sums, half of it of the columns': a mixture is a detector again.

    In a score of all columns, a small shift of one is lost in the noise of the others batch
    after batch; in its own sum it adds up.
    """
    return np.asarray((sums.mean(axis=(-2, -1)) + each @ shares) / 2, dtype=np.float64)
