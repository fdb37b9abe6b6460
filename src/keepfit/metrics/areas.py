"""The area under the curve of hits over false alarms, of all rows or block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keepfit.metrics.base import NOTHING, Array, Weights, averaged

Mask = NDArray[np.bool_]


def auc(positive: Mask, scores: Array, weights: Weights = None) -> float:
    """Return the share of pairs, one row of each class, in order; a tie is half."""
    if weights is not None:
        return _weighted(positive, scores, weights)
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    if not above.size or not below.size:
        return NOTHING
    pairs = above.size * below.size
    twice = below.searchsorted(above, "left").sum() + below.searchsorted(above, "right").sum()
    return float(twice) / (2 * pairs)


def _weighted(positive: Mask, scores: Array, weights: Array) -> float:
    """Return the area where a pair weighs the product of its rows' weights."""
    if positive.all() or not positive.any():
        return NOTHING
    above, below = scores[positive], scores[~positive]
    return averaged(_beaten(above, below, weights[~positive]), weights[positive])


def _beaten(rows: Array, others: Array, weights: Array) -> Array:
    """Return for each row what share of the others, by weight, lies below it; a tie is half."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    twice = sums[ranked.searchsorted(rows, "left")] + sums[ranked.searchsorted(rows, "right")]
    return np.asarray(twice / (2 * sums[-1]))


def auc_with_error(positive: Mask, scores: Array, weights: Array) -> tuple[float, float]:
    """Return the weighted area and its standard error, from each row's pull on it."""
    above, below = scores[positive], scores[~positive]
    heavy, light = weights[positive], weights[~positive]
    ours = _beaten(above, below, light)
    theirs = 1 - _beaten(below, above, heavy)
    area = averaged(ours, heavy)
    spread = (heavy * (ours - area) / heavy.sum(), light * (theirs - area) / light.sum())
    return area, float(np.sqrt(sum((part**2).sum() for part in spread)))


def auc_by_block(
    positive: Mask, scores: Array, cuts: NDArray[np.intp], weights: Weights = None
) -> Array:
    """Return the area of each block of rows, all sorted at once; NaN where there is one class."""
    sizes = np.diff(cuts)
    block = np.repeat(np.arange(sizes.size), sizes)
    order = np.lexsort((scores, block))
    block, scores = block[order], scores[order]
    new = np.append(True, (scores[1:] != scores[:-1]) | (block[1:] != block[:-1]))
    starts = np.flatnonzero(new)
    # Scores that tie within a block are one step; of each step, count what lies below it.
    own = np.ones(scores.size) if weights is None else weights[order]
    ones = np.add.reduceat(own * positive[order], starts)
    zeros = np.add.reduceat(own * ~positive[order], starts)
    block = block[starts]
    of_block = np.bincount(block, weights=zeros, minlength=sizes.size)
    below = np.cumsum(zeros) - zeros - (np.cumsum(of_block) - of_block)[block]
    twice = np.bincount(block, weights=ones * (2 * below + zeros), minlength=sizes.size)
    pairs = of_block * np.bincount(block, weights=ones, minlength=sizes.size)
    areas = np.full(sizes.size, NOTHING)
    return np.asarray(np.divide(twice, 2 * pairs, out=areas, where=pairs > 0))


def placements(above: Array, below: Array) -> tuple[Array, Array]:
    """Return, for each sorted score, the share of the other class that it is in order with."""
    lower = below.searchsorted(above, "left") + below.searchsorted(above, "right")
    higher = above.searchsorted(below, "left") + above.searchsorted(below, "right")
    return lower / (2 * below.size), 1 - higher / (2 * above.size)


def auc_pulls(positive: Mask, scores: Array) -> Array:
    """Return the pull of each row on the area under the curve: how far its placement is off."""
    rows, others = np.flatnonzero(positive), np.flatnonzero(~positive)
    rows, others = rows[np.argsort(scores[rows])], others[np.argsort(scores[others])]
    of_rows, of_others = placements(scores[rows], scores[others])
    area = of_rows.mean()
    pulls = np.empty(scores.size)
    pulls[rows] = (of_rows - area) * (scores.size / rows.size)
    pulls[others] = (of_others - area) * (scores.size / others.size)
    return pulls
