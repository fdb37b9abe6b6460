"""Labels that no champion has learnt: which of them are classes, and which are too few to be one."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.batch import LABEL
from keepfit.learners.labels import codes, surely_among
from keepfit.profile import kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ENOUGH = 20
"""Labelled rows without which a label that nobody has learnt is no class."""

SHARE = 0.01
"""The share of the labels that a new class must reach, unless one that is known is rarer."""


@dataclass(frozen=True, slots=True)
class Learnable:
    """Labelled rows that a model can learn, and how many were left out, by their label.

    ``new`` names the classes that were not known yet.
    """

    rows: pl.DataFrame
    unlearnt: dict[str, int] = field(default_factory=dict)
    new: frozenset[str] = frozenset()


def classifies(learner: Any) -> bool:
    """Return whether a learner is known to learn classes, as far as it says.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression, Ridge
    >>> from keepfit.learners import resolve
    >>> classifies(resolve(LogisticRegression())), classifies(resolve(Ridge()))
    (True, False)
    """
    return bool(getattr(learner, "classifies", False))


def learnable(
    rows: pl.DataFrame, classes: Sequence[Any], *, closed: bool = False, every: bool = True
) -> Learnable:
    """Return the rows, in order of time, whose label is a class.

    A label is one when it is among the classes that are known, or when there is enough of it:
    20 rows, the newest 20 of which are at least a hundredth of the labels since the first of
    them, or as many as the rarest known class has among all. Everything follows from labels
    that were known at the moment that is asked about.

    Parameters
    ----------
    classes
        What the champion has learnt. Where there is none, the labels that are at least a
        hundredth as frequent as the median one, and the two most frequent, are known.
    closed
        A model that goes on from the champion has no place for other classes, however many
        rows they have.
    every
        Whether to look at labels at all: a regression has no classes.
    """
    if not every or rows.is_empty():
        return Learnable(rows)
    labels = rows.get_column(LABEL)
    known = tuple(classes) or _frequent(labels)
    other = strangers(labels, known)
    if other is None:
        return Learnable(rows)
    names = named(labels)
    counts = dict(names.filter(other).value_counts().sort(LABEL).iter_rows())
    new: frozenset[str] = frozenset()
    if not closed:
        needed = min(SHARE, _rarest(labels, known))
        new = frozenset(name for name, n in counts.items() if _enough(names == name, n, needed))
        counts = {name: n for name, n in counts.items() if name not in new}
    return Learnable(without(rows, counts), counts, new)


def strangers(labels: pl.Series, classes: Sequence[Any]) -> pl.Series | None:
    """Return which labels are there and none of the classes; None where no label is."""
    import polars as pl

    if not classes or surely_among(labels, tuple(classes)):
        return None
    other = codes(labels, tuple(classes)) < 0
    if not other.any():
        return None
    there = labels.is_finite() if labels.dtype.is_float() else labels.is_not_null()
    found = pl.Series(other) & there.fill_null(False)
    return found if found.any() else None


def counted(labels: pl.Series, classes: Sequence[Any]) -> dict[str, int]:
    """Return how often labels are there that are none of the classes, by label."""
    other = strangers(labels, classes)
    if other is None:
        return {}
    return dict(named(labels).filter(other).value_counts().sort(labels.name).iter_rows())


def without(rows: pl.DataFrame, labels: Collection[str]) -> pl.DataFrame:
    """Return rows without those that have one of the labels, written as `named` writes them."""
    if not labels:
        return rows
    return rows.filter(~named(rows.get_column(LABEL)).is_in(list(labels)).fill_null(False))


def named(labels: pl.Series) -> pl.Series:
    """Return labels as text, alike whether a whole number is kept as integer or as float."""
    import polars as pl

    if labels.dtype.is_float():
        whole = labels.cast(pl.Int64, strict=False).cast(pl.String)
        same = (labels == labels.round()).fill_null(False)
        return whole.zip_with(same, labels.cast(pl.String))
    return labels.cast(pl.String)


def _frequent(labels: pl.Series) -> tuple[Any, ...]:
    """Return the labels that are classes where nothing has been learnt yet."""
    import polars as pl

    there = labels.drop_nulls()
    if kind_of(there.dtype) not in ("number", "boolean", "category") or there.is_empty():
        return ()
    if there.dtype.is_float():
        there = there.filter(there.is_finite() & (there == there.round())).cast(pl.Int64)
    elif kind_of(there.dtype) == "category":
        there = there.cast(pl.String)
    counts = there.value_counts(name="#").sort("#", there.name, descending=[True, False])
    if counts.height < 3:
        return tuple(sorted(counts.get_column(there.name).to_list()))
    least = SHARE * statistics.median(counts.get_column("#").to_list())
    kept = max(2, int((counts.get_column("#") >= least).sum()))
    return tuple(sorted(counts.get_column(there.name).head(kept).to_list()))


def _rarest(labels: pl.Series, known: Sequence[Any]) -> float:
    """Return the share of the rarest known class that has rows at all."""
    import numpy as np

    places = codes(labels, tuple(known))
    counts = np.bincount(places[places >= 0], minlength=1)
    return float(counts[counts > 0].min(initial=labels.len())) / labels.len()


def _enough(here: pl.Series, count: int, share: float) -> bool:
    """Return whether a label is a class: its newest rows are many among the newest of all."""
    if count < ENOUGH:
        return False
    places: np.ndarray = here.fill_null(False).arg_true().to_numpy()
    return bool(ENOUGH / (here.len() - int(places[-ENOUGH])) >= share)
