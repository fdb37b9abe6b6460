"""Features as columns of numbers, encoded as the reference has taught."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keepfit.batch import RESERVED, from_pandas
from keepfit.errors import ConfigError, SchemaMismatch, nearest
from keepfit.estimates.support import Support, support

if TYPE_CHECKING:
    import polars as pl

Array = NDArray[np.float64]

CATEGORIES = 1_000
"""Categories that are told apart, the most frequent ones."""

PRIOR = 20.0
"""Rows at the overall mean that a category's own mean is weighed against."""


class Feature(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One column: where its numbers lie, or the place of each category; whether any is missing.

    Categories are in the order of their mean label, so that a cut parts them by what they
    mean. ``complete`` says that all categories of the reference are among them.
    """

    name: str
    missing: bool
    support: Support | None = None
    categories: tuple[str, ...] = ()
    complete: bool = True

    def encoded(self, column: pl.Series) -> tuple[Array, NDArray[np.bool_]]:
        """Return the column as numbers, and which of its values are unlike any seen."""
        import polars as pl

        if self.support is not None:
            values = _numbers(column)
            odd = self.support.outside(values)
            return values, odd if self.missing else odd | np.isnan(values)
        texts = column.cast(pl.String)
        places = texts.replace_strict(
            self._names, self._places, default=None, return_dtype=pl.Float64
        )
        values = places.to_numpy().astype(np.float64, copy=False)
        absent = texts.is_null().to_numpy()
        odd = np.isnan(values) & ~absent if self.complete else np.zeros(values.size, dtype=bool)
        return values, odd if self.missing else odd | absent

    @cached_property
    def _names(self) -> pl.Series:
        import polars as pl

        return pl.Series(self.categories, dtype=pl.String)

    @cached_property
    def _places(self) -> pl.Series:
        import polars as pl

        return pl.Series(range(len(self.categories)), dtype=pl.Float64)


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a reference; those of times and of nested values are left out."""

    columns: tuple[Feature, ...]

    def encoded(self, features: Any, rows: int) -> tuple[list[Array], NDArray[np.bool_]]:
        """Return a batch as lists of numbers, and which rows are unlike any seen.

        Raises
        ------
        SchemaMismatch
            A column of the reference is missing or has another kind.
        """
        frame = as_frame(features, rows)
        odd = np.zeros(rows, dtype=bool)
        found: list[Array] = []
        for feature in self.columns:
            values, unlike = feature.encoded(self._column(frame, feature))
            found.append(values)
            odd |= unlike
        return found, odd

    def _column(self, frame: pl.DataFrame, feature: Feature) -> pl.Series:
        if feature.name not in frame.columns:
            near = nearest(feature.name, frame.columns)
            hint = f"the nearest column is `{near}`" if near else None
            raise SchemaMismatch(
                f"column `{feature.name}` of the reference is missing from the batch",
                hint=hint if frame.width else "give the rows' features too: features=rows",
            )
        column = frame.get_column(feature.name)
        kind = "number" if feature.support is not None else "category"
        if _kind(column) != kind and column.null_count() < column.len():
            raise SchemaMismatch(
                f"column `{feature.name}` was a {kind} in the reference, got {column.dtype}"
            )
        return column


def features_of(features: Any, labels: Array) -> tuple[Features, list[Array]]:
    """Return what the columns of a reference are like, and the columns as numbers."""
    frame = as_frame(features, labels.size)
    found = [
        _feature(column, labels)
        for column in frame.iter_columns()
        if _kind(column) and column.name not in RESERVED
    ]
    made = Features(columns=tuple(found))
    return made, made.encoded(frame, labels.size)[0]


def as_frame(features: Any, rows: int) -> pl.DataFrame:
    """Return a Polars, pandas or Arrow table as the first; a matrix gets the names 0, 1, 2.

    None has no columns.

    Raises
    ------
    ConfigError
        There are more or fewer rows than scores, or it is neither table nor matrix.
    """
    import polars as pl

    if features is None:
        return pl.DataFrame()
    if isinstance(features, pl.DataFrame):
        frame = features
    elif hasattr(features, "iloc") and hasattr(features, "columns"):
        frame = from_pandas(features)
    elif hasattr(features, "__arrow_c_stream__"):
        frame = pl.DataFrame(features)
    else:
        matrix = np.asarray(features)
        if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
            raise ConfigError(
                "expected features as a Polars, pandas or Arrow table or a matrix of numbers, "
                f"got {type(features).__name__} of shape {matrix.shape} and type {matrix.dtype}"
            )
        frame = pl.DataFrame(matrix, schema=[str(place) for place in range(matrix.shape[1])])
    if frame.width and frame.height != rows:
        raise ConfigError(
            f"expected a row of features per score, got {frame.height:,} and {rows:,}"
        )
    return frame


def _kind(column: pl.Series) -> str:
    """Return how a column is treated; "" for one that is left out."""
    import polars as pl

    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return "number"
    return "category" if column.dtype in (pl.String, pl.Categorical, pl.Enum) else ""


def _numbers(column: pl.Series) -> Array:
    import polars as pl

    return column.cast(pl.Float64).to_numpy().astype(np.float64, copy=False)


def _feature(column: pl.Series, labels: Array) -> Feature:
    if _kind(column) == "number":
        values = _numbers(column)
        return Feature(
            name=column.name,
            missing=bool(np.isnan(values).any()),
            support=support(values, gaps=False),
        )
    import polars as pl

    counted = (
        pl.DataFrame({"category": column.cast(pl.String), "label": labels})
        .drop_nulls("category")
        .group_by("category")
        .agg(pl.len().alias("rows"), pl.col("label").sum().alias("label"))
        .sort("rows", "category", descending=[True, False])
    )
    kept = counted.head(CATEGORIES)
    overall = float(labels.mean()) if labels.size else 0.0
    mean = (pl.col("label") + PRIOR * overall) / (pl.col("rows") + PRIOR)
    return Feature(
        name=column.name,
        missing=column.null_count() > 0,
        categories=tuple(kept.sort(mean, "category").get_column("category").to_list()),
        complete=counted.height == kept.height,
    )
