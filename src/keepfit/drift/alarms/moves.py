"""From signed moves of columns to values per direction that are about standard normal.

A distance grows with the square of a small change, where blocks differ anyway; a signed move
grows with the change itself. As in `scores`, there are any number of leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.drift.alarms.scores import (
    DOUBT,
    FREEDOM,
    SAMPLED,
    SHORT,
    explained,
    lag,
    normal,
    regular,
)

Array = NDArray[np.float64]

DIRECTIONS = ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0), (2, 1.0))
"""The measures and signs that are bet on; of missing values, only that there are more."""

SHARES = (1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3)
"""How much of a column's moves each direction is: a third for each measure."""

_NOISE = np.array([1 / 12, 1 / 48, 1 / 4])
"""The most that sampling adds to the variance of a measure, times the rows."""

_DISCRETE = np.array([1.0, 1.0, 2.0])
"""What two rows may add to a measure, times the rows: as much says little."""

_DOUBT_OF_MANY = 0.3
"""Standard errors that a move is given for each power of e that there are columns."""

_ALIKE = 0.6
"""The greatest autocorrelation of blocks that is allowed for."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How far blocks usually move; arrays end in (1, columns, measures).

    ``between`` and ``noise`` make up the variance of a move, the second divided by the rows.
    ``alike`` is the lag-1 autocorrelation of each measure, over all columns. ``regular`` is how
    much of each follows the calendar instead of chance, from 0 to 1.
    """

    blocks: int
    most: Array
    between: Array
    noise: Array
    alike: Array
    regular: Array


def usual(moves: Array, sizes: Array, least: Array | float = 0.0) -> Usual:
    """Return how far blocks usually move, from their moves against the rest of the blocks.

    Parameters
    ----------
    moves
        Ends in (blocks, columns, measures); NaN where a column has no such measure, or a
        block no value. What fewer than half of the blocks have is not known.
    sizes
        Ends in (blocks,): the rows of each block.
    least
        What sampling adds to the variance of each measure of each column, times the rows:
        blocks that are more alike do not show that chance can do less.
    """
    blocks = moves.shape[-3]
    there = np.isfinite(moves).mean(axis=-3, keepdims=True) >= 0.5
    moves = np.where(np.isfinite(moves), moves, 0.0)
    rows = 1 / np.mean(1 / sizes, axis=-1)[..., None, None, None]
    # A block lies blocks / (blocks - 1) times as far from the rest as from the whole.
    square = np.sum(moves**2, axis=-3, keepdims=True) * (blocks - 1) / blocks**2
    noise = np.minimum(square * rows, _NOISE)
    carried = np.moveaxis(lag(np.moveaxis(moves, -1, -3)), -3, -1)
    many = np.maximum(1, there.sum(axis=-2, keepdims=True))
    alike = np.sum(carried * there, axis=-2, keepdims=True) / many
    return Usual(
        blocks=blocks,
        most=sizes.max(axis=-1, keepdims=True),
        between=np.where(there, square - noise / rows, np.nan),
        noise=np.maximum(noise, SAMPLED * np.asarray(least)),
        regular=regular(square, rows, np.asarray(least)),
        alike=np.clip(alike, 0.0, _ALIKE),
    )


def directions(usual: Usual, moves: Array, sizes: Array, share: Array | float = 0.0) -> Array:
    """Return what each direction of each column says, as normal values whose sums may be bet on.

    A predictive t value turned into a normal one, less what a short reference does not know
    of its own middle; autocorrelation is taken out as `scores.steadied` does. The result
    ends in (batches, columns, directions); NaN where there is no move. ``share`` is that of
    the rows by which batch and reference are not whole.
    """
    moves = explained(moves, np.asarray(share), usual.regular)
    rows = np.minimum(sizes, usual.most)[..., None, None]
    variance = usual.between + usual.noise / rows + (_DISCRETE / rows) ** 2
    away = moves / np.sqrt(variance * (1 + 1 / usual.blocks))
    found = normal(away, min(usual.blocks - 1.0, FREEDOM))
    steady = found * np.sqrt((1 - usual.alike) / (1 + usual.alike))
    signed = [sign * steady[..., measure] for measure, sign in DIRECTIONS]
    doubt = DOUBT + _DOUBT_OF_MANY * np.log(moves.shape[-2])
    doubt *= (1 + SHORT / usual.blocks) / np.sqrt(usual.blocks)
    return np.asarray(np.stack(signed, axis=-1) - doubt, dtype=np.float64)
