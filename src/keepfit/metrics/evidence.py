"""What gates judge on: a metric, or its difference between two models, over blocks of time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import ConfigError, nearest
from keepfit.metrics import value_of
from keepfit.metrics.base import Array, Labels, Weights, pulled
from keepfit.metrics.series import MOST, Mean, block_means, edges, interval, mean_of

if TYPE_CHECKING:
    from keepfit.protocols import Comparison, Metric

BLOCK = 4
"""Rows a block holds at least, for metrics that are means over rows."""

SMALL = 20
"""Rows a block holds at least, for a metric that is computed block by block."""

RARE = 4
"""Rows of the rarer class that such a block holds at least."""

GREAT = 1e100
"""Values from which on their squares, and sums of these, may be beyond all numbers."""

OTHER = "other"
"""The name of small slices that are judged together."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean over blocks of time, oriented so that more is better.

    ``slack`` is what a single row can move the mean where a loss is 0 or 1.
    """

    mean: Mean
    slack: float

    def bounds(self, tail: float) -> tuple[float, float]:
        """Return the bounds that leave a share of probability beyond each of them.

        Losses of 0 and 1 that seldom differ look more certain than they are, and certain
        where they never differ; a row on the other side is added for each bound, which for
        no difference at all gives about the rule of three (Hanley and Lippman-Hand 1983).
        """
        error = float(np.hypot(self.mean.error, self.slack))
        low, high = interval(replace(self.mean, error=error), tail)
        return low - self.slack, high + self.slack


def gain_of(
    metric: Metric,
    labels: Labels,
    challenger: Array,
    champion: Array | None = None,
    weights: Weights = None,
) -> Gain | None:
    """Return the challenger's gain over the champion, or without one its own value, over time.

    Rows are in order of event time. None when they make fewer than two blocks. Where only one of
    the two has losses too great for a number, the gain is infinite; where both have, there is none.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _gain(metric, labels, challenger, champion, weights)


def _gain(
    metric: Metric, labels: Labels, challenger: Array, champion: Array | None, weights: Weights
) -> Gain | None:
    if len(labels) < 2 * BLOCK:
        return None
    sign = 1.0 if metric.greater_is_better else -1.0
    ours = _rows(metric, labels, challenger, weights)
    theirs = None if champion is None else _rows(metric, labels, champion, weights)
    if ours is None or (champion is not None and theirs is None):
        return _block_by_block(metric, labels, challenger, champion, sign, weights)
    certain = _certain(ours, theirs)
    if certain is not None:
        return certain
    gains = pulled(sign * (ours if theirs is None else ours - theirs), weights)
    if not np.isfinite(gains).all():
        return None
    found = _over_time(gains, labels, metric)
    if found is None:
        return None
    most = 1 / gains.size if weights is None else float(weights.max() / weights.sum())
    slack = most if _zero_or_one(ours) else 0.0
    return Gain(replace(found, mean=float(gains.mean())), slack)


def _over_time(gains: Array, labels: Labels, metric: Metric) -> Mean | None:
    """Return the mean of gains of rows, in blocks of time; None where they make only one.

    Of a metric that each class has a part in, gains are what rows pull on it, and rare rows pull
    hardest: a block is then cut by these, and counts for the sum of its rows' pulls, not for
    their mean, which one that happens to hold few rows would lead.
    """
    if not getattr(metric, "by_class", False):
        return _mean(block_means(gains, edges(gains.size, min(MOST, gains.size // BLOCK))))
    cuts = _cuts(labels)
    if cuts.size < 3:
        return None
    overall = float(gains.mean())
    sums = np.add.reduceat(gains - overall, cuts[:-1])
    return _mean(overall + sums * ((cuts.size - 1) / gains.size))


def _certain(ours: Array, theirs: Array | None) -> Gain | None:
    """Return the gain that is infinite, because only one of the two is infinitely bad somewhere."""
    lost, won = (one is not None and bool(np.isinf(one).any()) for one in (ours, theirs))
    if lost == won:
        return None
    return Gain(Mean(-np.inf if lost else np.inf, 0.0, 1.0, float(MOST), MOST), 0.0)


def _mean(values: Array) -> Mean:
    """Return the mean of values in order of time; of those whose squares are no numbers, in a unit."""
    greatest = float(np.abs(values).max())
    if greatest < GREAT:
        return mean_of(values)
    found = mean_of(values / greatest)
    return replace(found, mean=found.mean * greatest, error=found.error * greatest)


def _rows(metric: Metric, labels: Labels, scores: Array, weights: Weights) -> Array | None:
    """Return values per row whose weighted mean is the metric, or None when it is no such mean."""
    contributions = getattr(metric, "contributions", None)
    if contributions is not None:
        own: Array | None = contributions(labels, scores, *_given(weights))
        return own
    losses = metric.losses(labels, scores)
    if losses is None:
        return None
    value, mean = metric.value(labels, scores), float(losses.mean())
    if np.isclose(value, mean, rtol=1e-9, atol=1e-12):
        return losses
    return 1 - losses if np.isclose(value, 1 - mean, rtol=1e-9, atol=1e-12) else None


def _zero_or_one(values: Array) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _block_by_block(
    metric: Metric,
    labels: Labels,
    challenger: Array,
    champion: Array | None,
    sign: float,
    weights: Weights,
) -> Gain | None:
    cuts = _cuts(labels)
    ours = sign * _by_block(metric, labels, challenger, cuts, weights)
    theirs = None if champion is None else sign * _by_block(metric, labels, champion, cuts, weights)
    certain = _certain(ours, theirs)
    if certain is not None:
        return certain
    values = ours if theirs is None else ours - theirs
    defined = values[np.isfinite(values)]
    return Gain(_mean(defined), 0.0) if defined.size > 1 else None


def _by_block(
    metric: Metric, labels: Labels, scores: Array, cuts: NDArray[np.intp], weights: Weights
) -> Array:
    parts = [slice(*ends) for ends in itertools.pairwise(cuts.tolist())]
    own = [None if weights is None else weights[part] for part in parts]
    pairs = zip(parts, own, strict=True)
    return np.array([value_of(metric, labels[part], scores[part], some) for part, some in pairs])


def _given(weights: Weights) -> tuple[Array, ...]:
    """Return weights as an argument more, none where all rows weigh the same."""
    return () if weights is None else (weights,)


def _cuts(labels: Labels) -> NDArray[np.intp]:
    """Return where to cut rows so that every block has its share of the rarer of two classes."""
    most = max(1, min(MOST, labels.size // SMALL))
    if labels.dtype.kind not in "iub" or labels.max(initial=0) > 1:
        return edges(labels.size, most)
    ones = int((labels == 1).sum())
    rarer = np.flatnonzero(labels == (2 * ones <= labels.size))
    most = max(1, min(most, rarer.size // RARE))
    firsts = rarer[edges(rarer.size, most)[1:-1]]
    return np.concatenate([[0], firsts, [labels.size]]).astype(np.intp)


class Group(NamedTuple):
    """Rows that are judged together: all of them, or those of a slice."""

    column: str | None = None
    label: str | None = None
    rows: NDArray[np.intp] | None = None
    size: int = 0

    @property
    def said(self) -> str:
        """The slice as a verdict names it, in front of its figures."""
        return "" if self.label is None else f"{self.column} {self.label}: "

    def of(self, comparison: Comparison) -> tuple[Any, Any, Any, Any]:
        """Return labels and scores of the group, the champion's or None, and weights or None."""
        one = comparison
        whole = (one.labels, one.challenger, one.champion, one.weights)
        if self.rows is None:
            return whole
        labels, challenger, champion, weights = (
            None if part is None else part[self.rows] for part in whole
        )
        return labels, challenger, champion, weights


def groups(comparison: Comparison, column: str | None, *, alone: int) -> tuple[list[Group], str]:
    """Return the groups to judge, and what to say of slices joined or left out.

    Slices with ``alone`` rows stand alone. The others together are one more, unless they do
    not come to as many and there is another.

    Raises
    ------
    ConfigError
        The rows have no such column.
    """
    if column is None:
        return [Group(size=len(comparison.labels))], ""
    names, codes = _slices(comparison, column)
    large = np.bincount(codes, minlength=len(names)) >= alone
    found = [
        Group(column, names[code], rows := np.flatnonzero(codes == code), rows.size)
        for code in np.flatnonzero(large).tolist()
    ]
    rest = np.flatnonzero(~large[codes])
    if not rest.size:
        return found, ""
    together = rest.size >= alone or not found
    if together:
        found.append(Group(column, OTHER, rest, rest.size))
    done = f"judged together as {OTHER}" if together else "left out"
    return found, f"; {int((~large).sum())} of {len(names)} with fewer than {alone} rows {done}"


def _slices(comparison: Comparison, column: str) -> tuple[list[str], NDArray[np.intp]]:
    """Return the values of a column as texts, and for each row which of them it has."""
    import polars as pl

    if column not in comparison.rows.columns:
        near = nearest(column, comparison.rows.columns)
        raise ConfigError(
            f"expected a column to slice by, got {column!r}, which the rows do not have",
            hint=f"the nearest is {near!r}" if near else None,
        )
    texts = comparison.rows.get_column(column).cast(pl.String).fill_null("missing")
    return texts.unique().sort().to_list(), texts.rank("dense").to_numpy().astype(np.intp) - 1


def cleaned(comparison: Comparison) -> Comparison:
    """Return the rows that have a label and a champion's score, in order of event time."""
    labels, champion = comparison.labels, comparison.champion
    kept = np.ones(len(labels), dtype=bool)
    if labels.dtype.kind == "f":
        kept &= np.isfinite(labels)
    if champion is not None:
        kept &= finite_rows(champion)
    if kept.all() and not bool((comparison.times[1:] < comparison.times[:-1]).any()):
        return comparison
    order = np.flatnonzero(kept)[np.argsort(comparison.times[kept], kind="stable")]
    return replace(
        comparison,
        labels=labels[order],
        challenger=comparison.challenger[order],
        champion=None if champion is None else champion[order],
        times=comparison.times[order],
        rows=comparison.rows[order] if comparison.rows.width else comparison.rows,
        weights=None if comparison.weights is None else comparison.weights[order],
    )


def finite_rows(scores: Array | None) -> NDArray[np.bool_]:
    """Return for each row whether all its scores are finite."""
    finite: NDArray[np.bool_] = np.isfinite(np.empty(0) if scores is None else scores)
    return finite if finite.ndim == 1 else np.asarray(finite.all(axis=1))
