"""Measures of how good scores are: by name, with intervals, over windows of time.

A metric is named, ``"roc_auc"``; made, ``metrics.Pinball(0.9)``; or a function of labels and
scores. Labels are codes of classes, or values; scores are probabilities of the second class,
one column of probabilities per class, or values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from keepfit import lazy
from keepfit.errors import ConfigError, nearest

if TYPE_CHECKING:
    from keepfit.metrics.classes import (
        F1,
        Accuracy,
        AveragePrecision,
        BalancedAccuracy,
        Brier,
        LogLoss,
        RocAuc,
    )
    from keepfit.metrics.custom import Function, Scorer
    from keepfit.metrics.prequential import Prequential, Window
    from keepfit.metrics.values import MAE, MAPE, R2, RMSE, Pinball
    from keepfit.protocols import Metric

__all__ = [
    "F1",
    "MAE",
    "MAPE",
    "R2",
    "RMSE",
    "Accuracy",
    "AveragePrecision",
    "BalancedAccuracy",
    "Brier",
    "Function",
    "LogLoss",
    "Pinball",
    "Prequential",
    "RocAuc",
    "Scorer",
    "Summary",
    "Window",
    "default_for",
    "get",
    "known",
    "mature",
    "summary",
]

TASKS = ("binary", "multiclass", "regression")

NAMES = {
    "roc_auc": "RocAuc",
    "log_loss": "LogLoss",
    "accuracy": "Accuracy",
    "balanced_accuracy": "BalancedAccuracy",
    "f1": "F1",
    "average_precision": "AveragePrecision",
    "brier": "Brier",
    "mae": "MAE",
    "rmse": "RMSE",
    "mape": "MAPE",
    "r2": "R2",
    "pinball": "Pinball",
}
"""The built-in metrics, by the name that a pipeline gives."""

# The classes need NumPy, which `import keepfit` must not load: they come when first asked for.
_HOMES = {
    **dict.fromkeys(
        ("RocAuc", "LogLoss", "Accuracy", "BalancedAccuracy", "F1", "AveragePrecision", "Brier"),
        "classes",
    ),
    **dict.fromkeys(("MAE", "RMSE", "MAPE", "R2", "Pinball"), "values"),
    **dict.fromkeys(("Function", "Scorer"), "custom"),
    **dict.fromkeys(("Prequential", "Window"), "prequential"),
}

__getattr__ = lazy.names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)


class Summary(NamedTuple):
    """A mean over windows with its interval; NaN where there is none."""

    mean: float
    low: float
    high: float


def default_for(task: str) -> str:
    """Return the name of the metric that a task is judged by when nobody names one.

    Raises
    ------
    ConfigError
        There is no such task.

    Examples
    --------
    >>> default_for("binary"), default_for("multiclass"), default_for("regression")
    ('roc_auc', 'log_loss', 'mae')
    """
    _check_task(task)
    return {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}[task]


def known(spec: str | Metric | Callable[..., float] | None) -> None:
    """Check that a metric can be had, before the task is known.

    Raises
    ------
    ConfigError
        No metric has this name, or what was given is none.
    """
    if isinstance(spec, str):
        if spec not in NAMES:
            _scorer_named(spec)
    elif spec is not None and not _is_metric(spec) and not _is_scorer(spec) and not callable(spec):
        raise _not_a_metric(spec)


def get(
    spec: str | Metric | Callable[..., float] | None = None,
    *,
    task: str,
    classes: Sequence[Any] = (),
) -> Metric:
    """Return the metric that a pipeline names, for its task.

    Parameters
    ----------
    spec
        A name, ours or that of one of scikit-learn's scorers; a metric; a scorer made with
        ``make_scorer``; or a function of labels and scores, of which more is better unless
        its attribute ``greater_is_better`` or a name that ends in ``_loss`` or ``_error``
        says otherwise. None is the task's default.
    task
        ``"binary"``, ``"multiclass"`` or ``"regression"``.
    classes
        The labels behind the codes, for scorers that ask for one by name.

    Raises
    ------
    ConfigError
        No metric has this name, or it does not fit the task.

    Examples
    --------
    >>> get("roc_auc", task="binary").greater_is_better
    True
    """
    _check_task(task)
    if spec is None:
        spec = default_for(task)
    if isinstance(spec, str) and spec in NAMES:
        metric: Metric = __getattr__(NAMES[spec])()
    else:
        metric = _made(spec, tuple(classes))
    tasks = getattr(metric, "tasks", TASKS)
    if task not in tasks:
        raise ConfigError(
            f"expected a metric for a {task} task, got {metric.name!r}, "
            f"which is for {' and '.join(tasks)}",
            hint=f"these fit: {', '.join(_fitting(task))}",
        )
    return metric


def weighs(spec: str | Metric | Callable[..., float] | None) -> bool:
    """Return whether rows may weigh differently in a metric that a pipeline names.

    Examples
    --------
    >>> def worst(labels, scores):
    ...     return float(abs(labels - scores).max())
    >>> weighs("roc_auc"), weighs("neg_mean_absolute_error"), weighs(worst)
    (True, True, False)
    """
    if spec is None or (isinstance(spec, str) and spec in NAMES):
        return True
    return bool(getattr(_made(spec, ()), "weighs", False))


def value_of(metric: Metric, labels: Any, scores: Any, weights: Any = None) -> float:
    """Return a metric of rows that may weigh differently; NaN where it is not defined.

    It is infinite where the sums it consists of are too great for a number.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return metric.value(labels, scores, *_more(metric, weights))


def interval_of(
    metric: Metric, labels: Any, scores: Any, weights: Any = None
) -> tuple[float, float]:
    """Return the confidence interval of a metric of rows that may weigh differently."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        more = _more(metric, weights)
        return metric.interval(labels, scores, *((0.95, *more) if more else ()))


def _more(metric: Metric, weights: Any) -> tuple[Any, ...]:
    """Return weights as an argument more, where rows weigh differently and the metric minds."""
    return () if weights is None or not getattr(metric, "weighs", False) else (weights,)


def summary(
    values: Sequence[float], level: float = 0.95, *, metric: Metric | None = None
) -> Summary:
    """Return the mean of a metric over consecutive windows, with a confidence interval.

    Windows are not independent: a bad week follows a bad week. The interval widens with the
    autocorrelation measured between them (`keepfit.metrics.series`). Windows without a
    value are left out; fewer than two have no interval. Of a metric that is given, the
    interval stays where its values can be.

    Examples
    --------
    >>> summary([0.70, 0.72, float("nan"), 0.71, 0.69]).mean
    0.705
    """
    from keepfit.metrics.series import interval, mean_of

    finite = [value for value in values if value == value]
    if len(finite) < 2:
        alone = finite[0] if finite else float("nan")
        return Summary(alone, float("nan"), float("nan"))
    found = mean_of(finite)
    low, high = interval(found, (1 - level) / 2)
    least, most = getattr(metric, "reach", (-math.inf, math.inf))
    return Summary(found.mean, max(low, least), min(high, most))


def mature(
    known: int,
    total: int,
    *,
    to: datetime,
    now: datetime,
    label_delay: timedelta | None,
    share: float = 0.99,
) -> bool:
    """Return whether the labels of a window are complete enough to score it.

    They are when the stated share of its rows has one, or when the stated label delay has
    passed since its newest row: what has not come by then is not waited for.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    >>> mature(98, 100, to=noon, now=noon, label_delay=None)
    False
    >>> mature(98, 100, to=noon, now=noon + timedelta(hours=6), label_delay=timedelta(hours=6))
    True
    """
    return known >= share * total or (label_delay is not None and now >= to + label_delay)


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise ConfigError(f"expected a task, one of {', '.join(map(repr, TASKS))}, got {task!r}")


def _fitting(task: str) -> list[str]:
    return [name for name, kind in NAMES.items() if task in __getattr__(kind).tasks]


def _is_metric(spec: Any) -> TypeGuard[Metric]:
    parts = ("name", "greater_is_better", "value", "interval", "losses")
    return not isinstance(spec, type) and all(hasattr(spec, part) for part in parts)


def _is_scorer(spec: Any) -> bool:
    return all(hasattr(spec, part) for part in ("_score_func", "_sign", "_response_method"))


def _made(spec: Any, classes: tuple[Any, ...]) -> Metric:
    from keepfit.metrics.custom import Function, Scorer

    if isinstance(spec, str):
        return Scorer(_scorer_named(spec), classes=classes, name=spec.removeprefix("neg_"))
    if _is_scorer(spec):
        return Scorer(spec, classes=classes)
    if _is_metric(spec):
        return spec
    if callable(spec) and not isinstance(spec, type):
        return Function(spec)
    raise _not_a_metric(spec)


def _not_a_metric(spec: Any) -> ConfigError:
    made = f"{spec.__name__}()" if isinstance(spec, type) else None
    return ConfigError(
        f"expected a metric, a name or a function of labels and scores, got {spec!r}",
        hint=f"make one: {made}" if made else f"names are {', '.join(NAMES)}",
    )


def _scorer_named(name: str) -> Any:
    """Return scikit-learn's scorer of a name that is none of ours."""
    from sklearn.metrics import get_scorer, get_scorer_names

    if name in get_scorer_names():
        return get_scorer(name)
    near = nearest(name, [*NAMES, *get_scorer_names()])
    raise ConfigError(
        f"expected a metric, got {name!r}",
        hint=f"the nearest is {near!r}" if near else f"names are {', '.join(NAMES)}",
    )
