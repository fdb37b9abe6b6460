"""Linear estimators of scikit-learn, with what prepares their columns, folded into one product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keepfit.server.quick import Answer, Answerer, Encoder, Row, encoded

if TYPE_CHECKING:
    import numpy as np

    from keepfit.learners.dense import Dense
    from keepfit.learners.encoding import Column
    from keepfit.learners.sklearn import EstimatorModel

NUMBERS = (
    *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"),
    *("SGDRegressor", "HuberRegressor", "BayesianRidge", "Lars", "LassoLars"),
)
"""Estimators whose answer is the product itself."""


@dataclass(frozen=True, slots=True)
class Product:
    """Weights of one output: ``slopes`` of numbers, what a gap adds, and what a category adds.

    A gap that is None is left to the model itself.
    """

    start: float
    slopes: tuple[float, ...]
    gaps: tuple[float | None, ...]
    codes: tuple[tuple[float, ...] | None, ...]

    def of(self, values: Sequence[float]) -> float | None:
        """Return the product for a row; None where the model itself has to answer."""
        total = self.start
        for value, slope, gap, codes in zip(
            values, self.slopes, self.gaps, self.codes, strict=True
        ):
            if value != value:
                if gap is None:
                    return None
                total += gap
            elif codes is None:
                total += slope * value
            else:
                total += codes[int(value)]
        return total


class Folded:
    """Answers with folded products, and with the model itself where one may not be used."""

    alone = True

    def __init__(self, model: EstimatorModel, products: tuple[Product, ...]) -> None:
        self.model = model
        self._products = products
        self._encoder = Encoder(model)
        self._slow: Answerer = encoded(model)

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        values = self._encoder.values(row)
        found = [product.of(values) for product in self._products]
        if None in found:
            return self._slow.one(row)
        return self._scores([one for one in found if one is not None])

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the scores of rows."""
        return self._slow.many(rows)

    def _scores(self, decided: Sequence[float]) -> Answer:
        if self.model.task == "regression":
            return decided[0]
        if len(decided) == 1:
            return _logistic(decided[0])
        most = max(decided)
        powers = [math.exp(one - most) for one in decided]
        total = sum(powers)
        return tuple(power / total for power in powers)


def folded(model: EstimatorModel) -> tuple[Product, ...] | None:
    """Return a model as products, or None where it is no linear one of the known kinds."""
    estimator, before = model.estimator, []
    if _named(estimator, "sklearn.pipeline", "Pipeline"):
        *before, estimator = (step for _, step in estimator.steps)
    if not _linear(estimator):
        return None
    weights = _weights(estimator)
    if model.head.raw:
        return _scaled(model, before, weights)
    dense = model.head.dense
    if dense is None or dense.scale != "standard" or before:
        return None
    columns = model.head.encoding.columns
    return tuple(_spread(dense, columns, *one) for one in weights)


def _named(estimator: Any, module: str, *names: str) -> bool:
    kind = type(estimator)
    return kind.__module__.startswith(module) and kind.__name__ in names


def _linear(estimator: Any) -> bool:
    module = "sklearn.linear_model"
    if _named(estimator, module, *NUMBERS):
        return getattr(estimator, "coef_", None) is not None and estimator.coef_.ndim == 1
    if _named(estimator, module, "SGDClassifier"):
        return estimator.loss == "log_loss" and len(estimator.classes_) == 2
    if not _named(estimator, module, "LogisticRegression", "LogisticRegressionCV"):
        return False
    one_by_one = estimator.solver == "liblinear" or getattr(estimator, "multi_class", "") == "ovr"
    return len(estimator.classes_) == 2 or not one_by_one


def _weights(estimator: Any) -> list[tuple[np.ndarray, float]]:
    """Return the coefficients and the constant of each output."""
    import numpy as np

    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    constants = np.broadcast_to(np.atleast_1d(estimator.intercept_), (len(coefficients),))
    return [(row, float(start)) for row, start in zip(coefficients, constants, strict=True)]


def _spread(dense: Dense, columns: Sequence[Column], weights: np.ndarray, start: float) -> Product:
    """Fold the scaling of numbers and the columns of categories into the weights."""
    slopes, gaps = [0.0] * len(columns), [0.0] * len(columns)
    codes: list[tuple[float, ...] | None] = [None] * len(columns)
    parts = zip(dense.numbers, dense.fill, dense.shift, dense.width, strict=True)
    for at, (place, fill, shift, width) in enumerate(parts):
        weight = float(weights[at])
        slopes[place] = weight / width
        start -= weight * shift / width
        gaps[place] = weight / width * fill
    first = len(dense.numbers)
    for place, frequent in dense.spread.items():
        wide = dense.origins().count(place)
        own = weights[first : first + wide]
        rest = float(own[len(frequent)]) if wide > len(frequent) else 0.0
        by_code = dict(zip(frequent, map(float, own), strict=False))
        codes[place] = tuple(
            by_code.get(code, rest) for code in range(max(frequent, default=-1) + 1)
        )
        first += wide
    return Product(start, tuple(slopes), tuple(gaps), tuple(codes))


def _scaled(
    model: EstimatorModel, before: Sequence[Any], weights: list[tuple[np.ndarray, float]]
) -> tuple[Product, ...] | None:
    """Fold the scalers of a scikit-learn pipeline, whose columns all are numbers."""
    columns = model.head.encoding.columns
    if any(column.kind not in ("number", "boolean") for column in columns):
        return None
    if not all(_named(step, "sklearn.preprocessing", *_SCALERS) for step in before):
        return None
    products = []
    for slopes, start in weights:
        for step in reversed(before):
            if getattr(step, "clip", False):
                return None
            factor, offset = _affine(step, len(slopes))
            start += float(slopes @ offset)
            slopes = slopes * factor
        none = (None,) * len(columns)
        products.append(Product(start, tuple(slopes.tolist()), none, none))
    return tuple(products)


_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")


def _affine(step: Any, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a scaler multiplies columns with, and adds then."""
    import numpy as np

    if type(step).__name__ == "MinMaxScaler":
        return step.scale_, step.min_
    scale, center = getattr(step, "scale_", None), getattr(step, "mean_", None)
    if center is None:
        center = getattr(step, "center_", None)
    factor = np.ones(width) if scale is None else 1.0 / scale
    return factor, np.zeros(width) if center is None else -center * factor


def _logistic(decided: float) -> float:
    if decided >= 0:
        return 1.0 / (1.0 + math.exp(-decided))
    power = math.exp(decided)
    return power / (1.0 + power)
