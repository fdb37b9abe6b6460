"""What metrics share: guards, intervals and their formulas."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtrit

Array = NDArray[np.float64]
Labels = NDArray[Any]
Bounds = tuple[float, float]
Weights: TypeAlias = Array | None
"""What each row weighs, None where all weigh the same."""

NOTHING = float("nan")
NO_BOUNDS = (NOTHING, NOTHING)
SECTIONS = 10


class Base:
    """A metric: answers NaN for no rows and for scores that are not finite.

    ``contributions`` are values per row whose mean is the metric; gates use them to see how
    a difference between two models goes over time. Where rows weigh differently, means are
    divided by the sum of the weights (Hájek 1971), and intervals follow the spread of each
    row's pull on the estimate.
    """

    name: str
    greater_is_better: bool = True
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass", "regression")
    reach: ClassVar[Bounds] = (0.0, 1.0)

    @property
    def weighs(self) -> bool:
        """Whether rows may weigh differently: `value` takes weights, as one of the user's may not."""
        return "weights" in inspect.signature(self.value).parameters

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def value(self, labels: Labels, scores: Array, weights: Weights = None) -> float:
        """Return the metric; NaN where it is not defined."""
        return self._value(labels, scores, weights) if usable(scores) else NOTHING

    def interval(
        self, labels: Labels, scores: Array, level: float = 0.95, weights: Weights = None
    ) -> Bounds:
        """Return a confidence interval, as if rows were independent; NaN where there is none."""
        if not usable(scores):
            return NO_BOUNDS
        low, high = self._interval(labels, scores, level, weights)
        return max(low, self.reach[0]), min(high, self.reach[1])

    def losses(self, labels: Labels, scores: Array) -> Array | None:
        """Return the loss of each row, less is better; None when the metric has none."""
        return None

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array | None:
        """Return values per row whose weighted mean is the metric; None when it has none."""
        return None

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        raise NotImplementedError

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        raise NotImplementedError


class MeanLoss(Base):
    """A metric that is the mean of a loss per row."""

    greater_is_better = False
    reach = (0.0, float("inf"))

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the loss of each row, less is better."""
        raise NotImplementedError

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array:
        """Return values per row whose weighted mean is the metric."""
        return self.losses(labels, scores)

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        return averaged(self.losses(labels, scores), weights)

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        values = self.contributions(labels, scores, weights)
        return around_mean(pulled(values, weights), level)


def usable(scores: Array) -> bool:
    """Return whether there are scores, all of them finite."""
    return len(scores) > 0 and bool(np.isfinite(scores).all())


def averaged(values: Array, weights: Weights) -> float:
    """Return the mean of values that may weigh differently (Hájek 1971)."""
    return float(values.mean() if weights is None else np.average(values, weights=weights))


def pulled(values: Array, weights: Weights) -> Array:
    """Return values whose plain mean, with its standard error, is that of weighted values.

    Each is the weighted mean and what its row pulls it away: the linearisation of a ratio of
    two sums (Särndal, Swensson and Wretman 1992, chapter 5).
    """
    if weights is None:
        return values
    mean = averaged(values, weights)
    return np.asarray(mean + weights / weights.mean() * (values - mean))


def worth(rows: int, weights: Weights) -> float:
    """Return how many rows of equal weight are as good as some of different ones (Kish 1965)."""
    return float(rows) if weights is None else float(weights.sum() ** 2 / (weights**2).sum())


def around_mean(values: Array, level: float) -> Bounds:
    """Return the t interval of the mean of independent values."""
    n = values.size
    if n < 2:
        return NO_BOUNDS
    mean = float(values.mean())
    reach = -float(stdtrit(n - 1, (1 - level) / 2)) * float(values.std(ddof=1)) / n**0.5
    return mean - reach, mean + reach


def around_share(value: float, error: float, rows: float, level: float) -> Bounds:
    """Return the interval of an estimate between 0 and 1 from its standard error.

    On the scale of log odds, where it cannot leave its range. Where the error is zero
    (everything right, everything wrong) it is that of a share of ``rows``.
    """
    if not 0 < value < 1 or not error > 0:
        return wilson(value, rows, level)
    centre = logit(value)
    reach = float(ndtri((1 + level) / 2)) * error / (value * (1 - value))
    return float(expit(centre - reach)), float(expit(centre + reach))


def wilson(share: float, rows: float, level: float) -> Bounds:
    """Return the interval of a share of rows (Wilson 1927)."""
    if not rows > 0:
        return NO_BOUNDS
    z = float(ndtri((1 + level) / 2))
    scale = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5
    # A share of 1 must not lie above its own bound by a rounding error.
    return min(share, centre - half), max(share, centre + half)


def around_sections(
    value: Callable[[Labels, Array, Weights], float],
    labels: Labels,
    scores: Array,
    level: float,
    weights: Weights = None,
) -> Bounds:
    """Return an interval of any metric from its values on ten interleaved sections of the rows.

    It costs about one evaluation more, where a bootstrap costs hundreds; NaN when a section
    has no value (sectioning: Asmussen and Glynn 2007).
    """
    if len(scores) < 2 * SECTIONS:
        return NO_BOUNDS
    each = [None if weights is None else weights[i::SECTIONS] for i in range(SECTIONS)]
    parts = np.array(
        [value(labels[i::SECTIONS], scores[i::SECTIONS], own) for i, own in enumerate(each)]
    )
    centre = value(labels, scores, weights)
    error = float(parts.std(ddof=1)) / SECTIONS**0.5
    reach = -float(stdtrit(SECTIONS - 1, (1 - level) / 2)) * error
    return centre - reach, centre + reach
