"""Columns as numbers: what a model learnt about its columns, kept with the model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from keepfit.batch import RESERVED
from keepfit.errors import SchemaMismatch, TrainingError, nearest
from keepfit.profile import CATEGORIES, kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

NEARLY_ALL = 0.95
"""Share of distinct texts from which a column names rows and does not describe them."""

FEW = 50
"""Distinct texts up to which a column is kept, however few rows there are."""

FEW_ROWS = 65_536
"""Rows up to which numbers are copied as they are; of more a query with threads is quicker."""

LARGEST = 3.4028234663852886e38
"""The largest number of single precision: one beyond is missing to every model, as an infinite one is.

Trees of scikit-learn and of XGBoost read single precision and refuse all rows for one that it does
not hold, and squares of such numbers leave linear models none to work with.
"""

GONE = "gone"
"""The kind of a column that a donor had and the rows of the transfer have not."""

_TRUTHS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}


class Column(msgspec.Struct, frozen=True):
    """One feature: its name, its kind, and the categories in the order of their codes."""

    name: str
    kind: str
    categories: tuple[str, ...] = ()


class Encoding(msgspec.Struct, frozen=True):
    """How rows become numbers, learnt from the rows of a scratch training.

    Codes of categories never change afterwards: a warm start keeps the champion's encoding,
    and a value it has not seen is missing until the next scratch training. (LightGBM left
    alone gives codes anew, and its old trees then read other categories.) ``dropped`` says
    which columns no model was given, and why.
    """

    columns: tuple[Column, ...]
    dropped: dict[str, str] = {}

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns the model needs."""
        return tuple(column.name for column in self.columns if column.kind != GONE)

    @property
    def categorical(self) -> list[int]:
        """The places of the columns that hold codes of categories."""
        return [i for i, column in enumerate(self.columns) if column.kind == "category"]

    @classmethod
    def learn(cls, rows: pl.DataFrame, *, raw: bool = False) -> Encoding:
        """Learn the encoding of rows; keepfit's own columns are left out.

        With ``raw`` every column that has values is kept, and categories are not learnt:
        for estimators that prepare columns themselves.

        Raises
        ------
        TrainingError
            No column is of use.
        """
        types = {name: dtype for name, dtype in rows.schema.items() if name not in RESERVED}
        counted = _count(rows, types)
        columns: list[Column] = []
        dropped: dict[str, str] = {}
        for name, dtype in types.items():
            kind = kind_of(dtype)
            present, distinct = counted[name]
            reason = _useless(dtype, present, distinct, raw)
            if reason is not None:
                dropped[name] = reason
            elif kind == "category" and not raw:
                columns.append(Column(name, kind, _categories(rows, name, distinct)))
            else:
                columns.append(Column(name, kind))
        if not columns:
            why = "; ".join(f"`{name}`: {reason}" for name, reason in dropped.items())
            raise TrainingError(
                f"expected a column to learn from, got none ({why or 'no columns'})"
            )
        return cls(tuple(columns), dropped)

    def adapted(self, rows: pl.DataFrame, *, grow: bool) -> Encoding:
        """Return this encoding for rows of another stream, every place and code as it was.

        A column that they lack is missing in each row. With ``grow`` columns and categories
        that are new come after those there are; without it new categories are missing, and
        new columns are left out.

        Raises
        ------
        TrainingError
            The rows have none of the columns.
        """
        theirs = Encoding.learn(rows)
        found = {column.name: column for column in theirs.columns}
        columns = [_adapted(column, found.get(column.name), grow) for column in self.columns]
        if columns and all(column.kind == GONE for column in columns):
            raise TrainingError(
                f"expected rows with a column of {', '.join(map(repr, self.features[:3]))} "
                f"and others that the donor knows, got {', '.join(map(repr, list(found)[:3]))}",
                hint="start from scratch, or rename columns in the source",
            )
        known = {column.name for column in columns}
        new = [one for name, one in found.items() if name not in known]
        dropped = theirs.dropped | {
            one.name: "the donor knew another kind of values under this name"
            for one in columns
            if one.kind == GONE and one.name in found
        }
        if grow:
            return Encoding((*columns, *new), dropped)
        unused = {one.name: "the donor has no place for it" for one in new}
        return Encoding(tuple(columns), dropped | unused)

    def matrix(self, rows: pl.DataFrame) -> np.ndarray:
        """Return rows as a column-major matrix of float64, NaN where a value is missing.

        A number that is infinite, or greater than any of single precision, counts as missing.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        import polars as pl

        types, nothing = self._types(rows), pl.Null()
        arrive = tuple(types.get(column.name, nothing) for column in self.columns)
        if rows.height <= FEW_ROWS and _plain(self.columns, arrive):
            return _copied(rows, self.columns)
        numbers = rows.select(_table(self.columns, arrive)).cast(pl.Float64)
        return numbers.to_numpy(order="fortran", writable=True)

    def raw(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns as they are, in the kinds they had in training.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        types = self._types(rows)
        return rows.select(_as_kind(column, types[column.name]) for column in self.columns)

    def _types(self, rows: pl.DataFrame) -> dict[str, pl.DataType]:
        """Return the types of rows, once every column is there."""
        # A schema takes several times as long to make.
        types = dict(zip(rows.columns, rows.dtypes, strict=True))
        missing = [name for name in self.features if name not in types]
        if not missing:
            return types
        free = [name for name in types if name not in self.features and name not in RESERVED]
        near = nearest(missing[0], free)
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SchemaMismatch(
            f"column `{missing[0]}`{more} is missing "
            f"(the model needs {len(self.columns)} columns, {rows.width} here)",
            hint=f"the nearest new column is `{near}`; rename it in the source"
            if near
            else "bring it back; a value that is not known may be missing, a column may not",
        )


def _adapted(column: Column, theirs: Column | None, grow: bool) -> Column:
    """Return a donor's column for rows of another stream, which have it as ``theirs``, or not."""
    if theirs is None or _sort(column) != _sort(theirs):
        # What is a number here and a text or a moment there is not the same thing.
        return Column(column.name, GONE)
    return extended(column, theirs) if grow else column


def _sort(column: Column) -> str:
    """Return what the values of a column are; true and false are numbers to a model."""
    return "number" if column.kind == "boolean" else column.kind


def extended(column: Column, theirs: Column) -> Column:
    """Return a column with the categories of another behind its own, whose codes stay."""
    if column.kind != "category":
        return column
    new = [one for one in theirs.categories if one not in set(column.categories)]
    return Column(column.name, column.kind, (*column.categories, *new))


def _count(rows: pl.DataFrame, types: dict[str, pl.DataType]) -> dict[str, tuple[int, int]]:
    """Return (present, distinct) values per column; distinct is counted for texts alone."""
    import polars as pl

    wanted: list[pl.Expr] = []
    for place, (name, dtype) in enumerate(types.items()):
        column = pl.col(name)
        present = within(column).sum() if dtype.is_float() else column.count()
        wanted.append(present.alias(f"present {place}"))
        if kind_of(dtype) == "category":
            wanted.append(column.drop_nulls().n_unique().alias(f"distinct {place}"))
    if not wanted:
        return {}
    found = rows.select(wanted).row(0, named=True)
    return {
        name: (found[f"present {place}"], found.get(f"distinct {place}", 0))
        for place, name in enumerate(types)
    }


def _useless(dtype: pl.DataType, present: int, distinct: int, raw: bool) -> str | None:
    """Return why a column is left out, or None where it is not."""
    kind = kind_of(dtype)
    if kind == "other":
        return f"values of type {dtype}"
    if not present:
        return "all values are missing"
    if not raw and kind == "category" and distinct > FEW and distinct >= NEARLY_ALL * present:
        return f"nearly every value is different ({distinct:,} of {present:,})"
    return None


def _categories(rows: pl.DataFrame, name: str, distinct: int) -> tuple[str, ...]:
    """Return the categories in sorted order, of very many the most frequent ones."""
    import polars as pl

    texts = rows.get_column(name).drop_nulls().cast(pl.String)
    if distinct > CATEGORIES:
        order = ["count", name]
        counted = texts.value_counts().sort(order, descending=[True, False])
        return tuple(counted.get_column(name).head(CATEGORIES).sort().to_list())
    return tuple(texts.unique().sort().to_list())


@lru_cache(maxsize=32)
def _table(columns: tuple[Column, ...], types: tuple[pl.DataType, ...]) -> list[pl.Expr]:
    """Return columns as numbers; kept, because making expressions takes longer than a few rows do."""
    return [_cells(column, dtype) for column, dtype in zip(columns, types, strict=True)]


@lru_cache(maxsize=32)
def _plain(columns: tuple[Column, ...], types: tuple[pl.DataType, ...]) -> bool:
    """Return whether all columns are numbers and arrive as such."""
    kinds = all(column.kind == "number" for column in columns)
    return kinds and all(dtype.is_float() or dtype.is_integer() for dtype in types)


def _copied(rows: pl.DataFrame, columns: tuple[Column, ...]) -> np.ndarray:
    """Return columns of numbers as a matrix; for few rows a query takes longer than the copy."""
    import numpy as np

    table = np.empty((rows.height, len(columns)), order="F")
    for place, column in enumerate(columns):
        table[:, place] = rows.get_column(column.name).to_numpy()
    return bounded(table)


def within(numbers: pl.Expr) -> pl.Expr:
    """Return which numbers a model reads, and which are missing to it, infinite or too great."""
    return numbers.is_between(-LARGEST, LARGEST)


def bounded(table: np.ndarray) -> np.ndarray:
    """Return a matrix with NaN in place of what is too great, written to itself where it may be."""
    import numpy as np

    # Another table, to hold what is beyond, takes longer to get memory for than both looks take.
    flat = table.ravel("K")
    if np.fmax.reduce(flat, initial=0.0) > LARGEST or np.fmin.reduce(flat, initial=0.0) < -LARGEST:
        table = table if table.flags.writeable else table.copy()
        table[np.abs(table) > LARGEST] = np.nan
    return table


def _cells(column: Column, dtype: pl.DataType) -> pl.Expr:
    """Return the column as numbers, whatever type it arrives in."""
    import polars as pl

    source = pl.col(column.name)
    arrives = kind_of(dtype)
    nothing = pl.lit(None, dtype=pl.Float64).alias(column.name)
    if column.kind == GONE:
        return nothing
    if column.kind == "category":
        texts = _as_text(source, dtype)
        return nothing if texts is None else _coded(texts, column.categories).alias(column.name)
    if column.kind == "time":
        return _seconds(source, dtype) if arrives in ("time", "category") else nothing
    if arrives in ("number", "boolean"):
        return _finite(source, dtype)
    if arrives != "category":
        return nothing
    texts = source.cast(pl.String).str.strip_chars()
    if column.kind == "boolean":
        return texts.str.to_lowercase().replace_strict(
            _TRUTHS, default=None, return_dtype=pl.Float64
        )
    return _finite(texts.cast(pl.Float64, strict=False), pl.Float64())


def _finite(source: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    import polars as pl

    if dtype.is_integer() or dtype == pl.Boolean:
        return source
    number = source if dtype.is_float() else source.cast(pl.Float64, strict=False)
    return pl.when(within(number)).then(number)


def _as_text(source: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    import polars as pl

    kind = kind_of(dtype)
    if kind in ("category", "boolean", "time"):
        return source.cast(pl.String)
    if kind != "number":
        return None
    if dtype.is_integer():
        return source.cast(pl.String)
    # A column of whole numbers with a gap arrives as floats: 3.0 is the category "3".
    whole = source == source.round()
    return (
        pl.when(whole)
        .then(source.cast(pl.Int64, strict=False).cast(pl.String))
        .otherwise(source.cast(pl.String))
    )


def _coded(texts: pl.Expr, categories: tuple[str, ...]) -> pl.Expr:
    import polars as pl

    return texts.cast(pl.Enum(list(categories)), strict=False).to_physical()


def _seconds(source: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return a time as seconds: since 1970 for moments and dates, else as long as it is."""
    import polars as pl

    if kind_of(dtype) == "category":
        moment = source.cast(pl.String).str.to_datetime(
            time_unit="us", time_zone="UTC", strict=False
        )
        return moment.dt.epoch("us") / 1e6
    if dtype == pl.Date:
        return source.cast(pl.Int64) * 86_400.0
    if dtype == pl.Time:
        return source.cast(pl.Int64) / 1e9
    if dtype == pl.Duration:
        return source.cast(pl.Duration("us")).cast(pl.Int64) / 1e6
    return source.cast(pl.Datetime("us")).cast(pl.Int64) / 1e6


def _as_kind(column: Column, dtype: pl.DataType) -> pl.Expr:
    """Return the column in the kind it had in training; what cannot be read is missing."""
    import polars as pl

    source = pl.col(column.name)
    if kind_of(dtype) == column.kind:
        return source
    if column.kind == "category":
        texts = _as_text(source, dtype)
        return pl.lit(None, dtype=pl.String).alias(column.name) if texts is None else texts
    if column.kind == "time" and kind_of(dtype) == "category":
        return source.cast(pl.String).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    wanted = {"number": pl.Float64(), "boolean": pl.Boolean()}.get(
        column.kind, pl.Datetime("us", "UTC")
    )
    return _cells(column, dtype).cast(wanted, strict=False)
