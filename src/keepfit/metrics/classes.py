"""Metrics of classification, for two classes or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.metrics.areas import (
    auc,
    auc_pulls,
    auc_with_error,
    average_precision,
    placements,
    precision_pulls,
)
from keepfit.metrics.base import (
    NO_BOUNDS,
    NOTHING,
    Array,
    Base,
    Bounds,
    Labels,
    MeanLoss,
    Weights,
    around_sections,
    around_share,
    averaged,
    pulled,
    wilson,
    worth,
)

BINS = 128
RESAMPLES = 200
LEAST = float(np.finfo(np.float64).eps)


class Classification(Base):
    """A metric of classification that is no mean over rows: each class has its own."""

    tasks = ("binary", "multiclass")
    by_class = True


class RocAuc(Classification):
    """The share of pairs, one row of each class, that the scores put in order; a tie is half.

    With several classes it is the mean over the classes that occur, each against the rest.
    Its interval is that of DeLong, DeLong and Clarke-Pearson (1988), computed as Sun and Xu
    (2014) do, on the scale of log odds.

    Examples
    --------
    >>> import numpy as np
    >>> RocAuc().value(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """

    name = "roc_auc"

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        if scores.ndim == 1:
            return auc(labels == 1, scores, weights)
        each = [auc(labels == code, scores[:, code], weights) for code in range(scores.shape[1])]
        return _mean_of_defined(each)

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array | None:
        """Return values per row whose weighted mean is the metric: placements, about the area."""
        value = self._value(labels, scores, weights)
        if scores.ndim == 1:
            return _about(value, [auc_pulls(labels == 1, scores, weights)])
        codes = range(scores.shape[1])
        return _about(
            value, [auc_pulls(labels == code, scores[:, code], weights) for code in codes]
        )

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        if weights is not None:
            return self._weighted_interval(labels, scores, level, weights)
        if scores.ndim == 2:
            return self._interval_of_several(labels, scores, level)
        positive = labels == 1
        rarer = min(int(positive.sum()), int((~positive).sum()))
        if rarer < 2:
            return NO_BOUNDS
        above, below = placements(np.sort(scores[positive]), np.sort(scores[~positive]))
        error = (above.var(ddof=1) / above.size + below.var(ddof=1) / below.size) ** 0.5
        return around_share(float(above.mean()), float(error), rarer, level)

    def _weighted_interval(
        self, labels: Labels, scores: Array, level: float, weights: Array
    ) -> Bounds:
        if scores.ndim == 2:
            return around_sections(self.value, labels, scores, level, weights)
        positive = labels == 1
        rarer = min(int(positive.sum()), int((~positive).sum()))
        if rarer < 2:
            return NO_BOUNDS
        value, error = auc_with_error(positive, scores, weights)
        rows = min(worth(0, weights[positive]), worth(0, weights[~positive]))
        return around_share(value, error, rows, level)

    def _interval_of_several(self, labels: Labels, scores: Array, level: float) -> Bounds:
        counts = np.bincount(labels.astype(np.intp), minlength=scores.shape[1])
        some = np.flatnonzero((counts > 1) & (counts < labels.size - 1))
        if not some.size:
            return NO_BOUNDS
        pulls = np.mean([auc_pulls(labels == code, scores[:, code]) for code in some], axis=0)
        value = self._value(labels, scores, None)
        return around_share(value, _error(pulls), int(counts[some].min()), level)


class AveragePrecision(Classification):
    """The area under precision over recall, summed in steps.

    With several classes it is the mean over the classes that occur, each against the rest.
    Its interval is from 200 Poisson resamples of the rows, drawn per bin of scores; where rows
    weigh differently it is from ten sections of them.

    Examples
    --------
    >>> import numpy as np
    >>> AveragePrecision().value(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.83...
    """

    name = "average_precision"

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        if scores.ndim == 1:
            return average_precision(labels == 1, scores, weights)
        codes = range(scores.shape[1])
        return _mean_of_defined(
            [average_precision(labels == code, scores[:, code], weights) for code in codes]
        )

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array | None:
        """Return values per row whose weighted mean is the metric, by the delta method."""
        value = self._value(labels, scores, weights)
        if scores.ndim == 1:
            return _about(value, [precision_pulls(labels == 1, scores, weights)])
        codes = range(scores.shape[1])
        each = [precision_pulls(labels == code, scores[:, code], weights) for code in codes]
        return _about(value, each)

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        if scores.ndim == 2 or weights is not None:
            return around_sections(self.value, labels, scores, level, weights)
        positive = labels == 1
        found = int(positive.sum())
        if found < 2:
            return NO_BOUNDS
        error = _resampled_error(positive, scores)
        return around_share(self._value(labels, scores, None), error, found, level)


class LogLoss(MeanLoss):
    """The mean of minus the logarithm of the probability given to the true class.

    Examples
    --------
    >>> import numpy as np
    >>> LogLoss().value(np.array([0, 1]), np.array([0.5, 0.5]))
    0.693...
    """

    name = "log_loss"
    tasks = ("binary", "multiclass")

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the loss of each row, less is better."""
        if scores.ndim == 1:
            given = np.where(labels == 1, scores, 1 - scores)
        else:
            given = np.take_along_axis(scores, labels.astype(np.intp)[:, None], axis=1)[:, 0]
        return np.asarray(-np.log(np.clip(given, LEAST, 1 - LEAST)))


class Accuracy(MeanLoss):
    """The share of rows whose most probable class is the true one; Wilson's interval.

    Examples
    --------
    >>> import numpy as np
    >>> Accuracy().value(np.array([0, 1, 1, 1]), np.array([0.2, 0.4, 0.7, 0.9]))
    0.75
    """

    name = "accuracy"
    tasks = ("binary", "multiclass")
    greater_is_better = True
    reach = (0.0, 1.0)

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return 1 for each row that is wrong, 0 for each that is right."""
        return np.asarray(_predicted(scores) != labels, dtype=np.float64)

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array:
        """Return 1 for each row that is right, 0 for each that is wrong."""
        return np.asarray(_predicted(scores) == labels, dtype=np.float64)

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        return averaged(np.asarray(_predicted(scores) == labels, dtype=np.float64), weights)

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        return wilson(self._value(labels, scores, weights), worth(len(labels), weights), level)


class Brier(MeanLoss):
    """The mean squared distance of probabilities from what happened.

    With several classes the squares of all of them are added, so it lies between 0 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> Brier().value(np.array([0, 1]), np.array([0.5, 0.5]))
    0.25
    """

    name = "brier"
    tasks = ("binary", "multiclass")

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the loss of each row, less is better."""
        if scores.ndim == 1:
            return np.asarray((scores - (labels == 1)) ** 2)
        happened = labels[:, None] == np.arange(scores.shape[1])
        return np.asarray(((scores - happened) ** 2).sum(axis=1))


class BalancedAccuracy(Classification):
    """The mean over the classes that occur of the share of their rows that is right.

    Examples
    --------
    >>> import numpy as np
    >>> BalancedAccuracy().value(np.array([0, 1, 1, 1, 1]), np.array([0.2, 0.4, 0.1, 0.7, 0.9]))
    0.75
    """

    name = "balanced_accuracy"

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        right, rows = self._counts(labels, scores, weights)
        return float((right[rows > 0] / rows[rows > 0]).mean())

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array:
        """Return values per row whose weighted mean is the metric, by the delta method."""
        right, rows = self._counts(labels, scores, weights)
        codes, met = labels.astype(np.intp), rows > 0
        share = np.divide(right, rows, out=np.zeros(rows.size), where=met)
        pulls = ((_predicted(scores) == codes) - share[codes]) * (rows.sum() / rows[codes])
        return np.asarray(share[met].mean() + pulls / met.sum())

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        right, rows = self._counts(labels, scores, weights)
        right, rows = right[rows > 0], rows[rows > 0]
        if weights is not None:
            # As many rows as those of each class are worth, with the same share right.
            squares = np.bincount(labels.astype(np.intp), weights=weights**2)
            right, rows = right * rows / squares[squares > 0], rows**2 / squares[squares > 0]
        # One right and one wrong more, so that a rare class that is all right is not certain.
        share = (right + 1) / (rows + 2)
        error = float(np.sqrt((share * (1 - share) / rows).sum())) / rows.size
        value = self._value(labels, scores, weights)
        return around_share(value, error, float(rows.min()), level)

    def _counts(self, labels: Labels, scores: Array, weights: Weights) -> tuple[Array, Array]:
        codes = labels.astype(np.intp)
        width = 2 if scores.ndim == 1 else scores.shape[1]
        hit = _predicted(scores) == codes
        own = None if weights is None else weights[hit]
        right = np.bincount(codes[hit], own, minlength=width)
        rows = np.bincount(codes, weights, minlength=width)
        return right.astype(np.float64), rows.astype(np.float64)


class F1(Classification):
    """The harmonic mean of precision and recall of the second class; the mean over several.

    NaN when no row is of the class and none is taken for it.

    Examples
    --------
    >>> import numpy as np
    >>> F1().value(np.array([0, 1, 1, 1]), np.array([0.2, 0.4, 0.7, 0.9]))
    0.8
    """

    name = "f1"

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        parts = _hits(labels, scores, weights)
        return _mean_of_defined([both / either for both, either, _, _ in parts])

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array | None:
        """Return values per row whose weighted mean is the metric, by the delta method."""
        total = len(labels) if weights is None else weights.sum()
        pulls = [
            (hit - both / either * met) * (total / either)
            for both, either, hit, met in _hits(labels, scores, weights)
        ]
        return _about(self._value(labels, scores, weights), pulls)

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        parts = _hits(labels, scores, weights)
        if not parts:
            return NO_BOUNDS
        rows = self.contributions(labels, scores, weights)
        error = NOTHING if rows is None else _error(pulled(rows, weights))
        least = min(either for _, either, _, _ in parts) / 2
        if weights is not None:
            least *= worth(0, weights) / float(weights.sum())
        return around_share(self._value(labels, scores, weights), error, least, level)


def _predicted(scores: Array) -> NDArray[Any]:
    # An even chance goes to the first class, as scikit-learn's argmax does.
    return np.asarray(scores > 0.5 if scores.ndim == 1 else scores.argmax(axis=1)).astype(np.intp)


def _mean_of_defined(each: list[float]) -> float:
    some = [one for one in each if one == one]
    return float(np.mean(some)) if some else NOTHING


def _about(value: float, each: list[Array]) -> Array | None:
    """Return a value plus the mean pull of each row on it, over the classes that have one."""
    some = [pulls for pulls in each if pulls.size and pulls[0] == pulls[0]]
    return value + np.asarray(np.mean(some, axis=0)) if some else None


def _error(pulls: Array) -> float:
    """Return the standard error of an estimate from the pull of each row on it."""
    return float(pulls.std(ddof=1)) / pulls.size**0.5 if pulls.size > 1 else NOTHING


def _resampled_error(positive: NDArray[np.bool_], scores: Array) -> float:
    """Return the standard error of average precision over Poisson resamples of the rows.

    A bin's count in a resample is Poisson too, so bins are drawn instead of rows.
    """
    order = np.argsort(-scores, kind="stable")
    cuts = np.linspace(0, scores.size, min(BINS, scores.size) + 1).astype(np.intp)[:-1]
    found = np.add.reduceat(positive[order].astype(np.int64), cuts)
    rows = np.diff(np.append(cuts, scores.size))
    generator = np.random.default_rng(0)
    hits = generator.poisson(found, size=(RESAMPLES, found.size))
    misses = generator.poisson(rows - found, size=hits.shape)
    reached = hits.cumsum(axis=1)
    precision = reached / np.maximum((hits + misses).cumsum(axis=1), 1)
    total = reached[:, -1]
    areas = (hits * precision).sum(axis=1)[total > 0] / total[total > 0]
    return float(areas.std(ddof=1)) if areas.size > 1 else NOTHING


def _hits(
    labels: Labels, scores: Array, weights: Weights
) -> list[tuple[float, float, Array, Array]]:
    """Return, per class that occurs, twice its hits and its rows plus its claims; then per row."""
    predicted = _predicted(scores)
    codes = (1,) if scores.ndim == 1 else range(scores.shape[1])
    parts = []
    for code in codes:
        true, claimed = labels == code, predicted == code
        hit, met = 2.0 * (true & claimed), true.astype(np.float64) + claimed
        own = np.ones(met.size) if weights is None else weights
        either = float(own @ met)
        if either > 0:
            parts.append((float(own @ hit), either, hit, met))
    return parts
