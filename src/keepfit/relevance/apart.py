"""How well one set of rows is told from another by the bins of its columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Array = NDArray[np.float64]

FLOOR = 0.05
"""How far an AUC may lie above 0.5 and be called alike, however many rows show it."""

ALPHA = 0.001
"""How often chance alone may take an AUC above its limit, floor apart."""

SHRINK = 30.0
"""Rows of both sides together that are added to either: rare bins tell little."""

_WIDTH = 64


def told_apart(there: Codes, here: Codes) -> tuple[float, float, list[int]]:
    """Return the AUC, its limit, and the places of the columns that tell most, worst first.

    Both are one line of codes below 64 per column. Naive Bayes learns on one half of the
    rows and is judged on the other, both ways, so that rows told by chance count nothing.
    """
    odds = [np.concatenate(halves, axis=1) for halves in zip(*_halves(there, here), strict=True)]
    theirs, ours = odds
    sizes = theirs.shape[1], ours.shape[1]
    auc = _auc(theirs.sum(axis=0), ours.sum(axis=0))
    limit = 0.5 + FLOOR + noise(*sizes)
    if auc <= limit:
        return auc, limit, []
    alone = [_auc(a, b) for a, b in zip(theirs, ours, strict=True)]
    bar = 0.5 + noise(*sizes, ALPHA / len(alone))
    guilty = [i for i in np.argsort(-np.array(alone), kind="stable").tolist() if alone[i] > bar]
    return auc, limit, guilty


def noise(reference: int, rows: int, alpha: float = ALPHA) -> float:
    """Return how far above 0.5 chance takes an AUC that halves share, where nothing differs.

    Twice the variance of the Mann-Whitney statistic, because each half is judged by what was
    learnt from the other.
    """
    from scipy.stats import norm

    variance = (reference + rows + 1) / (12 * reference * rows)
    return float(norm.isf(alpha)) * math.sqrt(2 * variance)


def _halves(there: Codes, here: Codes) -> list[tuple[Array, Array]]:
    """Return the log odds of every column, of rows of either side not learnt from."""
    found = []
    for half in (0, 1):
        theirs, ours = (_counts(side[:, 1 - half :: 2]) for side in (there, here))
        both = (theirs + ours + 1) / (theirs + ours + 1).sum(axis=1, keepdims=True)
        odds = np.log(_shares(ours, both) / _shares(theirs, both))
        judged = slice(half, None, 2)
        found.append((_looked_up(odds, there[:, judged]), _looked_up(odds, here[:, judged])))
    return found


def _counts(codes: Codes) -> Array:
    """Return how often each code occurs in each column."""
    columns = codes.shape[0]
    places = codes + _WIDTH * np.arange(columns)[:, None]
    counts = np.bincount(places.ravel(), minlength=_WIDTH * columns)
    return counts.reshape(columns, _WIDTH).astype(np.float64)


def _shares(counts: Array, both: Array) -> Array:
    return np.asarray((counts + SHRINK * both) / (counts.sum(axis=1, keepdims=True) + SHRINK))


def _looked_up(table: Array, codes: Codes) -> Array:
    return np.take_along_axis(table, codes.astype(np.int64), axis=1)


def _auc(negative: Array, positive: Array) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([negative, positive]))[negative.size :]
    return float((ranks.mean() - (positive.size + 1) / 2) / negative.size)
