"""The area under the curve of hits over false alarms, and what each row has to do with it."""

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
    pulls = weights / weights.sum() * auc_pulls(positive, scores, weights)
    return auc(positive, scores, weights), float(np.sqrt((pulls**2).sum()))


def placements(above: Array, below: Array) -> tuple[Array, Array]:
    """Return, for each sorted score, the share of the other class that it is in order with."""
    lower = below.searchsorted(above, "left") + below.searchsorted(above, "right")
    higher = above.searchsorted(below, "left") + above.searchsorted(below, "right")
    return lower / (2 * below.size), 1 - higher / (2 * above.size)


def auc_pulls(positive: Mask, scores: Array, weights: Weights = None) -> Array:
    """Return the pull of each row on the area under the curve: how far its placement is off.

    The structural components of DeLong, DeLong and Clarke-Pearson (1988), of the size at which
    their weighted mean over all rows, which is 0, has the error of the area. NaN where there is
    one class.
    """
    rows, others = np.flatnonzero(positive), np.flatnonzero(~positive)
    pulls = np.full(scores.size, NOTHING)
    if not rows.size or not others.size:
        return pulls
    if weights is not None:
        return _weighted_pulls(rows, others, scores, weights)
    rows, others = rows[np.argsort(scores[rows])], others[np.argsort(scores[others])]
    of_rows, of_others = placements(scores[rows], scores[others])
    area = of_rows.mean()
    pulls[rows] = (of_rows - area) * (scores.size / rows.size)
    pulls[others] = (of_others - area) * (scores.size / others.size)
    return pulls


def _weighted_pulls(
    rows: NDArray[np.intp], others: NDArray[np.intp], scores: Array, weights: Array
) -> Array:
    heavy, light, total = weights[rows], weights[others], weights.sum()
    ours = _beaten(scores[rows], scores[others], light)
    theirs = 1 - _beaten(scores[others], scores[rows], heavy)
    area = averaged(ours, heavy)
    pulls = np.empty(scores.size)
    pulls[rows] = (ours - area) * (total / heavy.sum())
    pulls[others] = (theirs - area) * (total / light.sum())
    return pulls


def average_precision(positive: Mask, scores: Array, weights: Weights = None) -> float:
    """Return the area under precision over recall, summed in steps; NaN without a positive row."""
    found, met, _ = _steps(positive, scores, weights)
    if not found[-1]:
        return NOTHING
    return float((np.diff(found, prepend=0) * (found / met)).sum() / found[-1])


def precision_pulls(positive: Mask, scores: Array, weights: Weights = None) -> Array:
    """Return the pull of each row on average precision: its derivative by the row's weight.

    Of the size at which their weighted mean over all rows, which is 0, has the error of the
    metric to first order. NaN without a positive row.
    """
    found, met, step = _steps(positive, scores, weights)
    if not found[-1]:
        return np.full(scores.size, NOTHING)
    new, precision = np.diff(found, prepend=0), found / met
    area = (new * precision).sum() / found[-1]
    # A row counts in the precision of its own step and of each one below it.
    gain = precision + np.cumsum((new / met)[::-1])[::-1]
    cost = np.cumsum((new * precision / met)[::-1])[::-1]
    own = positive * (gain[step] - area) - cost[step]
    return np.asarray(own * (met[-1] / found[-1]))


def _steps(
    positive: Mask, scores: Array, weights: Weights
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Return positives and rows from the top to each distinct score, and the step of each row."""
    order = np.argsort(-scores, kind="stable")
    new = np.diff(scores[order]) != 0
    ends = np.append(np.flatnonzero(new), scores.size - 1)
    step = np.empty(scores.size, dtype=np.intp)
    step[order] = np.append(0, np.cumsum(new))
    if weights is None:
        return np.cumsum(positive[order])[ends], ends + 1, step
    own = weights[order]
    return np.cumsum(own * positive[order])[ends], np.cumsum(own)[ends], step
