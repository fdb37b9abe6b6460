"""What a metric is expected to be when the labels are known only as chances.

Each function returns the expected value and the *pull* of each row on it: its derivative
with respect to that row's chance, from which every interval is made. Means over rows are
exact. Ratios of counts are the ratio of what both are expected to be, which differs from
the expected ratio by a term of the order of one over the rows of the rarer class.
With chances of 0 and 1 all of them are the metrics themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import ConfigError, nearest

Array = NDArray[np.float64]

LEAST = float(np.finfo(np.float64).eps)
"""Scores are no nearer to 0 and 1 than this, and a class expected less often does not occur."""

NOTHING = float("nan")

ROWS = ("accuracy", "brier", "log_loss")
CLAIMS = ("balanced_accuracy", "f1", "precision", "recall")
RANKS = ("average_precision", "roc_auc")
METRICS = tuple(sorted((*ROWS, *CLAIMS, *RANKS)))
LOSSES = ("brier", "log_loss")


class Expected(NamedTuple):
    """An expected value, and the pull of each row's label on it."""

    value: float
    pulls: Array


def known(metric: str, metrics: Sequence[str] = METRICS) -> str:
    """Return the metric's name, if it is one of those that can be estimated.

    Raises
    ------
    ConfigError
        It is not.
    """
    if not isinstance(metric, str):
        raise ConfigError(
            f"expected the name of a metric, got {type(metric).__name__}",
            hint="name what is given: estimate(scores, features=rows, metric='accuracy')",
        )
    if metric in metrics:
        return metric
    near = nearest(str(metric), metrics)
    raise ConfigError(
        f"expected one of the metrics that can be estimated here, got {metric!r}",
        hint=f"the nearest is {near!r}" if near else f"these are: {', '.join(metrics)}",
    )


def checked(metrics: Sequence[str], of: Sequence[str] = METRICS) -> None:
    """Raise a `ConfigError` for what is no list of metrics that can be estimated."""
    if isinstance(metrics, str) or not metrics:
        raise ConfigError(f"expected a list of metrics, got {metrics!r}")
    for metric in metrics:
        known(metric, of)


def binary(metric: str, scores: Array, chances: Array) -> Expected:
    """Return the expected metric of scores in rising order, each with the chance of a 1."""
    if metric in RANKS:
        return _RANKED[metric](scores, chances)
    # An even chance goes to the first class, as in `keepfit.metrics`.
    claimed = scores > 0.5
    if metric in CLAIMS:
        return _claimed(metric, claimed, chances)
    if metric == "accuracy":
        if_one, if_zero = claimed.astype(np.float64), (~claimed).astype(np.float64)
    elif metric == "brier":
        if_one, if_zero = (1 - scores) ** 2, scores**2
    else:
        given = np.clip(scores, LEAST, 1 - LEAST)
        if_one, if_zero = -np.log(given), -np.log1p(-given)
    pulls = if_one - if_zero
    return Expected(float((if_zero + chances * pulls).mean()), pulls / scores.size)


def multiclass(metric: str, scores: Array, chances: Array) -> Expected:
    """Return the expected metric of a column of scores and of chances per class.

    Pulls are a column per class too. A mean over the classes that occur counts each class
    by the chance that it does.
    """
    if metric in ROWS:
        return _of_rows(metric, scores, chances)
    predicted = scores.argmax(axis=1)
    # Of one class against the rest, the mean of both recalls would count the rest k times.
    single = "recall" if metric == "balanced_accuracy" else metric
    values, weights = np.empty(scores.shape[1]), np.empty(scores.shape[1])
    pulls = np.zeros(scores.shape)
    for code in range(scores.shape[1]):
        claimed = predicted == code
        found = _against_rest(single, scores[:, code], claimed, chances[:, code])
        values[code] = found.value
        weights[code] = _occurs(single, claimed, chances[:, code])
        pulls[:, code] = found.pulls
    weights[np.isnan(values)] = 0
    total = weights.sum()
    if not total > 0:
        return Expected(NOTHING, pulls)
    weights /= total
    value = float(np.where(weights > 0, weights * values, 0).sum())
    return Expected(value, np.where(weights > 0, pulls * weights, 0))


def _of_rows(metric: str, scores: Array, chances: Array) -> Expected:
    """Return the expected mean over rows, from what each row counts if its class is the one."""
    if metric == "accuracy":
        counts = (scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])).astype(np.float64)
    elif metric == "brier":
        counts = (scores**2).sum(axis=1, keepdims=True) - 2 * scores + 1
    else:
        counts = -np.log(np.clip(scores, LEAST, 1 - LEAST))
    return Expected(float((chances * counts).sum(axis=1).mean()), counts / len(scores))


def _against_rest(
    metric: str, scores: Array, claimed: NDArray[np.bool_], chances: Array
) -> Expected:
    if metric in CLAIMS:
        return _claimed(metric, claimed, chances)
    order = np.argsort(scores, kind="stable")
    found = _RANKED[metric](scores[order], chances[order])
    pulls = np.empty(scores.size)
    pulls[order] = found.pulls
    return Expected(found.value, pulls)


def _occurs(metric: str, claimed: NDArray[np.bool_], chances: Array) -> float:
    """Return the chance that the metric of one class is defined."""
    if metric == "precision" or (metric == "f1" and claimed.any()):
        return float(claimed.any())
    with np.errstate(divide="ignore"):
        never = float(np.exp(np.log1p(-np.minimum(chances, 1)).sum()))
        always = float(np.exp(np.log(np.maximum(chances, 0)).sum()))
    return 1 - never - (always if metric == "roc_auc" else 0)


def _claimed(metric: str, claimed: NDArray[np.bool_], chances: Array) -> Expected:
    """Return an expected ratio of counts of the rows that are, and are taken to be, of a class."""
    said, ones = float(claimed.sum()), float(chances.sum())
    hits = float(chances[claimed].sum())
    zeros = claimed.size - ones
    if metric == "precision":
        return _ratio(hits, said, claimed.astype(np.float64))
    if metric == "recall":
        return _ratio(hits, ones, np.asarray(claimed - _over(hits, ones)))
    if metric == "f1":
        return _ratio(2 * hits, said + ones, np.asarray(2 * claimed - _over(2 * hits, said + ones)))
    if not ones > LEAST or not zeros > LEAST:  # one class: the recall of that one alone
        right = hits if ones > LEAST else claimed.size - said
        return Expected(right / claimed.size, np.zeros(claimed.size))
    right = zeros - (said - hits)
    recall, other = hits / ones, right / zeros
    pulls = (claimed - recall) / ones - (~claimed - other) / zeros
    return Expected((recall + other) / 2, pulls / 2)


def _over(part: float, whole: float) -> float:
    return part / whole if whole > LEAST else NOTHING


def _ratio(part: float, whole: float, pulls: Array) -> Expected:
    return Expected(_over(part, whole), pulls / whole if whole > LEAST else np.zeros(pulls.size))


def _roc_auc(scores: Array, chances: Array) -> Expected:
    """Return the expected share of pairs in order: expected such pairs over expected pairs."""
    rest = 1 - chances
    ones = float(chances.sum())
    zeros = scores.size - ones
    unsure = float(chances @ rest)
    pairs = ones * zeros - unsure
    if not pairs > LEAST * scores.size:
        return Expected(NOTHING, np.zeros(scores.size))
    starts, sizes = _ties(scores)
    if starts is None:
        middle: Any = np.arange(0.5, scores.size)
        ordered = float(chances @ (np.cumsum(rest) - rest))
    else:
        middle = np.repeat(starts + sizes / 2, sizes)
        of_ones = np.add.reduceat(chances, starts)
        of_zeros = sizes - of_ones
        ordered = float(of_ones @ (np.cumsum(of_zeros) - of_zeros / 2)) - unsure / 2
    area = ordered / pairs
    lean = chances - 0.5
    # d/dy of (zeros below - ones above), less the area times d/dy of the pairs.
    pulls = (middle + lean - ones - area * (zeros - ones + 2 * lean)) / pairs
    return Expected(area, pulls)


def _average_precision(scores: Array, chances: Array) -> Expected:
    """Return the expected area under precision over recall, summed in steps from the top."""
    ones = float(chances.sum())
    if not ones > LEAST:
        return Expected(NOTHING, np.zeros(scores.size))
    falling = chances[::-1]
    starts, sizes = _ties(scores[::-1])
    if starts is None:
        starts, sizes = np.arange(scores.size), np.ones(scores.size, dtype=np.intp)
    found = np.add.reduceat(falling, starts)
    # A label is its own square, so the product of a step and the sum up to it has more than
    # the product of their means.
    own = np.add.reduceat(falling * (1 - falling), starts)
    taken = starts + sizes
    upto = np.cumsum(found)
    area = float(((found * upto + own) / taken).sum()) / ones
    later = np.cumsum((found / taken)[::-1])[::-1]
    pulls = np.repeat(upto / taken + later - area, sizes)
    pulls += (1 - 2 * falling) / np.repeat(taken, sizes)
    return Expected(area, (pulls / ones)[::-1])


def _ties(scores: Array) -> tuple[Any, Any]:
    """Return where equal scores start and how many they are, or None when none are equal."""
    new = scores[1:] != scores[:-1]
    if new.all():
        return None, None
    starts = np.append(0, np.flatnonzero(new) + 1)
    return starts, np.diff(np.append(starts, scores.size))


_RANKED = {"average_precision": _average_precision, "roc_auc": _roc_auc}
