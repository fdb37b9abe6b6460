"""How far scores move when one model takes another's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit.facts import ScoresMoved
from keepfit.protocols import Comparison

if TYPE_CHECKING:
    import numpy as np

CUT_OFF = 0.5


def moved(comparison: Comparison, at: float | None = CUT_OFF) -> ScoresMoved | None:
    """Return how far the challenger's scores lie from the champion's on the same rows.

    None without a champion, without rows, or with scores that are not finite. The rate at a
    cut-off is that of two classes and of numbers.
    """
    import numpy as np

    theirs, ours = comparison.champion, comparison.challenger
    if theirs is None or not len(ours) or theirs.shape != ours.shape:
        return None
    if not (np.isfinite(theirs).all() and np.isfinite(ours).all()):
        return None
    if ours.ndim == 2:
        columns = range(ours.shape[1])
        return ScoresMoved(
            distance=max(_distance(theirs[:, code], ours[:, code]) for code in columns)
        )
    if at is None:
        return ScoresMoved(distance=_distance(theirs, ours))
    return ScoresMoved(
        distance=_distance(theirs, ours),
        at=at,
        before=float((theirs >= at).mean()),
        now=float((ours >= at).mean()),
    )


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of the shares above any cut-off (Kolmogorov and Smirnov)."""
    import numpy as np

    both = np.concatenate([first, second])
    shares = [
        np.searchsorted(np.sort(one), both, side="right") / one.size for one in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())
