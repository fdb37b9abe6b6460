"""How certain and how right a champion is as a rule, to see rows on which it is less so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

UNCERTAIN = 0.8
"""A row is uncertain when the champion is less sure of it than of this share of usual rows."""

WRONG = 0.9
"""A row is wrong when its loss exceeds that of this share of usual rows."""

_CLOSEST = 1e-6


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What a champion's answers are like on rows that it was not trained on.

    ``doubt`` and ``loss`` are the bounds above which a row counts as uncertain and as wrong,
    None where that was not measured. ``uncertain`` is the share of usual rows above the
    first, ``either`` the share above one of them.

    Examples
    --------
    >>> import numpy as np
    >>> scores, labels = np.linspace(0, 1, 1001), np.arange(1001) > 500
    >>> usual = Usual.of(scores, labels.astype(int))
    >>> usual.informative(np.array([0.02, 0.5, 0.98]), np.array([-1, -1, 0])).tolist()
    [False, True, True]
    """

    rows: int
    doubt: float | None = None
    loss: float | None = None
    uncertain: float = 0.0
    either: float = 0.0
    regression: bool = False

    @classmethod
    def of(
        cls, scores: np.ndarray, labels: np.ndarray | None = None, *, regression: bool = False
    ) -> Usual:
        """Learn from scores on rows that the champion was not trained on, and their labels.

        Labels are codes of classes, -1 for one that is not known, or values with NaN.
        """
        import numpy as np

        doubts = None if regression else doubt_of(scores)
        doubt = None if doubts is None or not doubts.size else float(np.quantile(doubts, UNCERTAIN))
        losses = np.empty(0) if labels is None else loss_of(scores, labels, regression=regression)
        there = losses[np.isfinite(losses)]
        loss = float(np.quantile(there, WRONG)) if there.size else None
        found = cls(rows=len(scores), doubt=doubt, loss=loss, regression=regression)
        uncertain = found._uncertain(scores)
        known = np.isfinite(losses) if losses.size else np.zeros(len(scores), dtype=bool)
        either = found.informative(scores, labels)
        return msgspec.structs.replace(
            found,
            uncertain=float(uncertain.mean()) if len(scores) else 0.0,
            either=float(either[known].mean()) if known.any() else 0.0,
        )

    def informative(self, scores: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return whether the champion is uncertain or wrong about each row."""
        import numpy as np

        marked = self._uncertain(scores)
        if labels is None or self.loss is None:
            return marked
        losses = loss_of(scores, labels, regression=self.regression)
        # A comparison with NaN, a label that is not known, is false.
        with np.errstate(invalid="ignore"):
            return marked | (losses > self.loss)

    def expected(self, scores: np.ndarray, labels: np.ndarray | None = None) -> float:
        """Return the share that is informative as a rule, of rows with as many labels."""
        import numpy as np

        if labels is None or self.loss is None or not len(scores):
            return self.uncertain
        losses = loss_of(scores, labels, regression=self.regression)
        known = float(np.isfinite(losses).mean())
        return known * self.either + (1 - known) * self.uncertain

    def _uncertain(self, scores: np.ndarray) -> np.ndarray:
        import numpy as np

        if self.doubt is None:
            return np.zeros(len(scores), dtype=bool)
        return np.asarray(doubt_of(scores) > self.doubt)


def doubt_of(scores: np.ndarray) -> np.ndarray:
    """Return how little each most likely class leads over the second: 0 sure, 1 undecided."""
    import numpy as np

    if scores.ndim == 1:
        return np.asarray(1 - np.abs(2 * scores - 1))
    best = np.sort(scores, axis=1)
    return np.asarray(1 - (best[:, -1] - best[:, -2]) if scores.shape[1] > 1 else best[:, 0] * 0)


def loss_of(scores: np.ndarray, labels: np.ndarray, *, regression: bool = False) -> np.ndarray:
    """Return the log loss, or the absolute error, of each row; NaN where the label is not known."""
    import numpy as np

    if regression:
        return np.asarray(np.abs(labels - scores))
    known = labels >= 0
    codes = np.where(known, labels, 0).astype(np.int64)
    if scores.ndim == 1:
        given = np.where(codes == 1, scores, 1 - scores)
    else:
        given = np.take_along_axis(scores, codes[:, None], axis=1)[:, 0]
    return np.where(known, -np.log(np.clip(given, _CLOSEST, 1.0)), np.nan)


def trials(share: float, usual: int, rows: int, alpha: float) -> float:
    """Return how far above a share chance takes another one, both being counted on few rows."""
    from scipy.stats import norm

    if not usual or not rows:
        return 1.0
    # A success and a failure are added: a share of nothing at all is not sure to be nothing.
    share = (share * usual + 1) / (usual + 2)
    return float(norm.isf(alpha)) * math.sqrt(share * (1 - share) * (1 / usual + 1 / rows))
