"""Metrics of regression."""

from __future__ import annotations

import numpy as np

from keepfit.errors import ConfigError
from keepfit.metrics.base import (
    NOTHING,
    Array,
    Base,
    Bounds,
    Labels,
    MeanLoss,
    Weights,
    around_mean,
    averaged,
    pulled,
)

LEAST = float(np.finfo(np.float64).eps)


class MAE(MeanLoss):
    """The mean distance of values from labels.

    Examples
    --------
    >>> import numpy as np
    >>> MAE().value(np.array([10.0, 20.0]), np.array([12.0, 16.0]))
    3.0
    """

    name = "mae"
    tasks = ("regression",)

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the distance of each row."""
        return np.abs(labels - scores)


class MAPE(MeanLoss):
    """The mean distance of values from labels, as a share of the label.

    Examples
    --------
    >>> import numpy as np
    >>> MAPE().value(np.array([10.0, 20.0]), np.array([12.0, 16.0]))
    0.2
    """

    name = "mape"
    tasks = ("regression",)

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the distance of each row as a share of its label."""
        return np.asarray(np.abs(labels - scores) / np.maximum(np.abs(labels), LEAST))


class RMSE(MeanLoss):
    """The root of the mean squared distance; its losses per row are the squares.

    Examples
    --------
    >>> import numpy as np
    >>> RMSE().value(np.array([10.0, 20.0]), np.array([13.0, 16.0]))
    3.53...
    """

    name = "rmse"
    tasks = ("regression",)

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the squared distance of each row."""
        return np.asarray((labels - scores) ** 2)

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array:
        """Return values per row whose weighted mean is the metric: squares, by the delta method."""
        squares = self.losses(labels, scores)
        root = float(np.sqrt(averaged(squares, weights)))
        if not np.isfinite(root):
            return np.full_like(squares, root)
        return np.asarray(root + (squares - root**2) / (2 * root)) if root > 0 else squares

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        return float(np.sqrt(averaged(self.losses(labels, scores), weights)))


class R2(Base):
    """The share of the labels' variance that the values explain; NaN for constant labels.

    Examples
    --------
    >>> import numpy as np
    >>> R2().value(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """

    name = "r2"
    tasks = ("regression",)
    reach = (float("-inf"), 1.0)

    def contributions(self, labels: Labels, scores: Array, weights: Weights = None) -> Array | None:
        """Return values per row whose weighted mean is the metric, by the delta method."""
        spread = (labels - averaged(labels, weights)) ** 2
        variance = averaged(spread, weights)
        if not variance > 0:
            return None
        lost = (labels - scores) ** 2
        share = averaged(lost, weights) / variance
        if not np.isfinite(share):
            return np.full_like(lost, -share)
        return np.asarray(1 - share - (lost - share * spread) / variance)

    def _value(self, labels: Labels, scores: Array, weights: Weights) -> float:
        variance = averaged((labels - averaged(labels, weights)) ** 2, weights)
        return 1 - averaged((labels - scores) ** 2, weights) / variance if variance > 0 else NOTHING

    def _interval(self, labels: Labels, scores: Array, level: float, weights: Weights) -> Bounds:
        rows = self.contributions(labels, scores, weights)
        return (NOTHING, NOTHING) if rows is None else around_mean(pulled(rows, weights), level)


class Pinball(MeanLoss):
    """The loss that a quantile minimises (Koenker and Bassett 1978).

    Parameters
    ----------
    quantile
        Between 0 and 1: at 0.9, values that are too low cost nine times those too high.

    Raises
    ------
    ConfigError
        The quantile is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> Pinball(0.9).value(np.array([10.0]), np.array([8.0]))
    1.8
    """

    tasks = ("regression",)

    def __init__(self, quantile: float = 0.5) -> None:
        if not 0 < quantile < 1:
            raise ConfigError(f"expected a quantile between 0 and 1, got {quantile!r}")
        self.quantile = quantile
        self.name = f"pinball({quantile:g})"

    def __repr__(self) -> str:
        return f"Pinball({self.quantile!r})"

    def losses(self, labels: Labels, scores: Array) -> Array:
        """Return the loss of each row, less is better."""
        short = labels - scores
        return np.maximum(self.quantile * short, (self.quantile - 1) * short)
