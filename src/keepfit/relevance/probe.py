"""A small model that is trained in a moment, to see what rows teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit.batch import RESERVED
from keepfit.profile import floats, kind_of

if TYPE_CHECKING:
    import polars as pl

Array = NDArray[np.float64]
Places = NDArray[np.int64]

CATEGORIES = 250
"""Categories of a column told apart, the most frequent ones; the classifier takes no more."""

CLASSES = 10
"""Classes told apart; the rarer ones are one."""

TREES = 30
LEAVES = 15
_CLOSEST = 1e-3


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as numbers; labels as codes of classes, or values divided by their spread."""

    matrix: Array
    labels: Array
    categories: tuple[int, ...]
    regression: bool

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.labels)

    @classmethod
    def of(cls, rows: pl.DataFrame, label: str, task: str) -> Table:
        """Read rows; columns that are neither numbers nor categories are left out."""
        columns: list[Array] = [np.zeros(rows.height)]
        categories: list[int] = []
        for values in rows.iter_columns():
            kind = kind_of(values.dtype)
            if values.name in RESERVED:
                continue
            if kind in ("number", "time"):
                there = floats(values).astype(np.float64)
                columns.append(np.where(np.isfinite(there), there, np.nan))
            elif kind in ("category", "boolean"):
                categories.append(len(columns))
                columns.append(_ranked(values, CATEGORIES))
        labels = rows.get_column(label)
        if task == "regression":
            answers = floats(labels).astype(np.float64)
            return cls(np.column_stack(columns), _scaled(answers), tuple(categories), True)
        return cls(np.column_stack(columns), _ranked(labels, CLASSES), tuple(categories), False)


@dataclass(frozen=True, slots=True)
class Probe:
    """A few boosted trees on some rows of a table."""

    table: Table
    model: Any
    only: float | None = None

    @classmethod
    def fit(cls, table: Table, places: Places, *, trees: int = TREES, rate: float = 0.1) -> Probe:
        """Train on the rows at some places."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if table.regression else HistGradientBoostingClassifier
        labels = table.labels[places]
        if not table.regression and (labels == labels[0]).all():
            return cls(table, None, float(labels[0]))
        model = kind(
            max_iter=trees,
            learning_rate=rate,
            max_leaf_nodes=LEAVES,
            categorical_features=table.categories or None,
            early_stopping=False,
            random_state=0,
        )
        return cls(table, model.fit(table.matrix[places], labels))

    def losses(self, places: Places) -> Array:
        """Return the log loss, or half the squared error, of the rows at some places."""
        labels = self.table.labels[places]
        if self.table.regression:
            # Half the square is a log loss too, of errors with the spread of the labels.
            return np.asarray((self.model.predict(self.table.matrix[places]) - labels) ** 2 / 2)
        given = np.zeros(len(places))
        if self.only is not None:
            given[labels == self.only] = 1.0
        else:
            scores = self.model.predict_proba(self.table.matrix[places])
            for place, code in enumerate(self.model.classes_):
                given[labels == code] = scores[labels == code, place]
        return np.asarray(-np.log(np.clip(given, _CLOSEST, 1.0)))


def _ranked(values: pl.Series, most: int) -> Array:
    """Return values as numbers, the most frequent one 0; rare ones share one, nulls are NaN."""
    import polars as pl

    texts = values.cast(pl.String)
    counted = (
        texts.drop_nulls().value_counts(name="#").sort("#", texts.name, descending=[True, False])
    )
    known = counted.get_column(texts.name).to_list()
    codes = [float(min(place, most - 1)) for place in range(len(known))]
    found = texts.replace_strict(known, codes, default=None, return_dtype=pl.Float64)
    return np.asarray(found.fill_null(float("nan")).to_numpy())


def _scaled(values: Array) -> Array:
    low, high = np.nanquantile(values, [0.25, 0.75])
    spread = (high - low) / 1.349 or float(np.nanstd(values)) or 1.0
    return np.asarray(values / spread)
