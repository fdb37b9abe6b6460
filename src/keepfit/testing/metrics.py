"""What every metric promises, as a check that one of your own can be put to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.protocols import Metric

if TYPE_CHECKING:
    import numpy as np


def check_metric(metric: Metric, task: str) -> None:
    """Check that a metric does what the loop asks of it.

    Raises
    ------
    AssertionError
        It does not; the message says what.

    Examples
    --------
    >>> from keepfit import metrics
    >>> check_metric(metrics.get("roc_auc", task="binary"), "binary")
    """
    import numpy as np

    assert isinstance(metric.name, str), f"{metric!r}: its name is no text"
    assert metric.name, f"{metric!r} has no name"
    assert isinstance(metric.greater_is_better, bool), f"{metric.name}: no direction"
    labels, good, bad = scored(task, rows=400)
    _check_values(metric, labels, good, bad)
    _check_interval(metric, labels, good)
    _check_losses(metric, labels, good)
    if getattr(metric, "weighs", False):
        _check_weights(metric, labels, good)
    empty = metric.value(labels[:0], good[:0])
    assert np.isnan(empty), f"{metric.name}: no rows should give NaN, got {empty!r}"
    broken = good.copy()
    broken[3] = np.nan
    found = metric.value(labels, broken)
    assert np.isnan(found), f"{metric.name}: a score of NaN should give NaN, got {found!r}"


def scored(task: str, *, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, scores that know something of them, and scores that know less."""
    import numpy as np

    generator = np.random.default_rng(seed)
    noise = generator.normal(size=rows)
    if task == "regression":
        values = 10 + generator.normal(size=rows)
        return values, values + 0.1 * noise, values + 2.0 * noise
    if task == "binary":
        labels = generator.integers(0, 2, size=rows)
        near = np.clip(0.5 + 0.3 * (2 * labels - 1) + 0.2 * noise, 0.01, 0.99)
        return labels, near, np.clip(0.5 + 0.4 * noise, 0.01, 0.99)
    labels = generator.integers(0, 3, size=rows)
    wide = generator.dirichlet([1.0, 1.0, 1.0], size=rows)
    near = wide + 0.6 * (labels[:, None] == np.arange(3))
    return labels, near / near.sum(axis=1, keepdims=True), wide


def _check_values(metric: Metric, labels: Any, good: Any, bad: Any) -> None:
    import numpy as np

    before = labels.copy(), good.copy()
    value, worse = metric.value(labels, good), metric.value(labels, bad)
    assert isinstance(value, float), f"{metric.name}: expected a float, got {value!r}"
    better = value > worse if metric.greater_is_better else value < worse
    assert better, f"{metric.name}: better scores gave {value!r}, worse ones {worse!r}"
    order = np.random.default_rng(0).permutation(len(labels))
    again = metric.value(labels[order], good[order])
    assert np.isclose(again, value), f"{metric.name}: depends on the order of rows"
    same = np.array_equal(before[0], labels) and np.array_equal(before[1], good)
    assert same, f"{metric.name}: changed its arguments"


def _check_interval(metric: Metric, labels: Any, good: Any) -> None:
    import numpy as np

    value = metric.value(labels, good)
    low, high = metric.interval(labels, good, 0.95)
    if np.isnan(low) and np.isnan(high):
        return
    assert low <= value <= high, f"{metric.name}: {value!r} is outside [{low!r}, {high!r}]"
    narrow = metric.interval(labels, good, 0.5)
    inside = low <= narrow[0] and narrow[1] <= high
    assert inside, f"{metric.name}: the interval at 50 % is wider than that at 95 %"
    assert metric.interval(labels, good, 0.95) == (low, high), f"{metric.name}: not repeatable"


def _check_weights(metric: Any, labels: Any, good: Any) -> None:
    import numpy as np

    times = np.arange(len(labels)) % 3 + 1
    value = metric.value(labels, good, times.astype(np.float64))
    whole = metric.value(np.repeat(labels, times), np.repeat(good, times, axis=0))
    assert np.isclose(value, whole), f"{metric.name}: a row that weighs three is not worth three"
    low, high = metric.interval(labels, good, 0.95, times.astype(np.float64))
    known = np.isnan([low, high]).all() or low <= value <= high
    assert known, f"{metric.name}: {value!r} is outside [{low!r}, {high!r}] where rows weigh"


def _check_losses(metric: Metric, labels: Any, good: Any) -> None:
    import numpy as np

    losses = metric.losses(labels, good)
    if losses is None:
        return
    assert losses.shape == (len(labels),), f"{metric.name}: expected one loss per row"
    assert np.isfinite(losses).all(), f"{metric.name}: losses of finite scores are not finite"
