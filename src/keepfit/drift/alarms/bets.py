"""Bets against "nothing has changed", added up over batches in an e-detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.drift.alarms.moves import SHARES

Array = NDArray[np.float64]

SIZES = (0.5, 1.0, 2.0, 3.5)
"""Shifts that the bets suit, in standard deviations: of those that persist, and abrupt ones."""

COLUMN = 1.0
"""The shift that the bets on single columns suit: one that a batch alone does not show."""

COLUMNS = (1 / 2, 3 / 4)
"""How much of the evidence is the columns' own, without moves and with them; scores have the rest."""

MOVES = 2 / 3
"""How much of what a column says by itself is its moves, and not its distance."""

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
    shifts = np.array(sizes, dtype=values.dtype)
    won = np.minimum(values[..., None] * shifts - shifts**2 / 2, 25.0)
    added: Array = np.minimum((sums + 1) * np.exp(won), _MOST)
    return added


def bet_each(sums: Array, values: Array) -> Array:
    """Return the Shiryaev-Roberts sums, one per column, after one more batch."""
    return bet(sums[..., None], values, (COLUMN,))[..., 0]


def of_columns(each: Array, moves: Array, there: Array) -> Array:
    """Return what each column says by itself: the mean of its distance's sum and its moves'.

    Parameters
    ----------
    each
        The sums of the columns' distances; ends in (columns,).
    moves
        The sums of their moves; ends in (columns, directions).
    there
        Which of these there are: a category has no location.
    """
    shares = (MOVES * np.array(SHARES) * there).astype(moves.dtype)
    own: Array = (1 - MOVES) * each + np.einsum("...d,...d->...", moves, shares)
    own /= 1 - MOVES + shares.sum(axis=-1)
    return own


def evidence(sums: Array, columns: Array, shares: Array, *, moved: bool) -> Array:
    """Return the mean of all sums: a mixture of detectors is a detector again.

    In a score of all columns, a small shift of one is lost in the noise of the others batch
    after batch; in its own sum it adds up.
    """
    share = COLUMNS[moved]
    both = (1 - share) * sums.mean(axis=(-2, -1)) + share * (columns @ shares)
    return np.asarray(both, dtype=np.float64)
