"""How far scores move when one model takes another's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit.facts import ScoresMoved
from keepfit.protocols import Comparison

if TYPE_CHECKING:
    import numpy as np

CUT_OFF = 0.5


def moved(comparison: Comparison, at: float | None = CUT_OFF) -> ScoresMoved | None:
    """Return how far the challenger's scores lie from the champion's on the same rows, as they weigh.

    None without a champion, without rows that weigh, or with scores that are not finite. The rate at a
    cut-off is that of two classes and of numbers.
    """
    import numpy as np

    theirs, ours = comparison.champion, comparison.challenger
    if theirs is None or not len(ours) or theirs.shape != ours.shape:
        return None
    if not (np.isfinite(theirs).all() and np.isfinite(ours).all()):
        return None
    weights = np.ones(len(ours)) if comparison.weights is None else comparison.weights
    if not weights.sum() > 0:
        return None
    if ours.ndim == 2:
        pairs = zip(theirs.T, ours.T, strict=True)
        return ScoresMoved(distance=max(_distance(*pair, weights) for pair in pairs))
    if at is None:
        return ScoresMoved(distance=_distance(theirs, ours, weights))
    return ScoresMoved(
        distance=_distance(theirs, ours, weights),
        at=at,
        before=float(np.average(theirs >= at, weights=weights)),
        now=float(np.average(ours >= at, weights=weights)),
    )


def _distance(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """Return the largest difference of the shares above any cut-off (Kolmogorov and Smirnov)."""
    import numpy as np

    both = np.concatenate([first, second])
    shares = []
    for one in (first, second):
        ordered = np.argsort(one)
        below = np.append(0.0, np.cumsum(weights[ordered]))
        shares.append(below[np.searchsorted(one[ordered], both, side="right")] / below[-1])
    return float(np.abs(shares[0] - shares[1]).max())
