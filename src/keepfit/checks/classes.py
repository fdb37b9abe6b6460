"""The check of labels: whether they are classes that the champion knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.batch import ID, LABEL
from keepfit.checks.asking import Asking, percent
from keepfit.facts import Finding

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

_SHOWN = 3


@dataclass(frozen=True, repr=False)
class Classes(Asking):
    """Whether the labels are classes that the champion has learnt.

    Warns of labels that are none of them, such as a 7 among 0 and 1. Rows with such a label
    count neither in training nor in scores, until there are enough of them to be a class: 20
    rows, the newest 20 of which are at least a hundredth of the labels since the first of them
    (or as many as the rarest known class has). Recipes that start from scratch learn it then;
    those that go on from the champion have no place for it until a champion knows it. How many
    were left out is kept with each training. It looks at the labels that are known when their
    rows arrive; those that come later are counted when the batch is scored.

    Examples
    --------
    >>> Classes(), Classes(severity="block")
    (Classes(), Classes(severity="block"))
    """

    severity: str = field(default="warn", kw_only=True)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        model = context.champion
        if model is None:
            yield self._not_applicable("no champion yet, and no classes that it knows")
            return
        if not model.classes:
            yield self._not_applicable("the labels are values, and no classes")
            return
        labels = _there(batch.labels)
        if labels.is_empty():
            yield self._not_applicable("no row of the batch has its label yet")
            return
        other = model.codes(labels.get_column(LABEL)) < 0
        if not other.any():
            many = f"{labels.height:,} labels" if labels.height > 1 else "1 label"
            yield self._pass(f"{many} of the {len(model.classes)} classes the champion knows")
            return
        yield self._block(
            _told(labels, other, model.classes),
            column=context.roles.label,
            value=float(other.mean()),
            limit=0.0,
            hint="correct them by their id; until they are enough to be a class they are left out",
        )


def _there(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the labels that say something: neither missing nor infinite."""
    import polars as pl

    values = labels.get_column(LABEL)
    if values.dtype.is_float():
        return labels.filter(pl.col(LABEL).is_finite())
    return labels.drop_nulls(LABEL) if values.null_count() else labels


def _told(labels: pl.DataFrame, other: np.ndarray, classes: tuple[Any, ...]) -> str:
    """Return how many labels are which, and the ids of the first ones."""
    import polars as pl

    found = labels.filter(pl.Series(other))
    counts = found.get_column(LABEL).cast(pl.String).value_counts(name="#")
    counts = counts.sort("#", LABEL, descending=[True, False])
    which = [f"`{name[:40]}`" for name in counts.get_column(LABEL).head(_SHOWN + 1).to_list()]
    ids = [repr(one) for one in found.get_column(ID).head(_SHOWN + 1).to_list()]
    return (
        f"{_some(which)} {'is' if counts.height == 1 else 'are'} none of the champion's "
        f"{len(classes)} classes: {found.height:,} of {labels.height:,} labels "
        f"({percent(found.height / labels.height)}; id {_some(ids)})"
    )


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", …" if len(texts) > _SHOWN else "")
