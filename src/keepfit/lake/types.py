"""Which column types the lake keeps, and how others become one of them.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, RESERVED, TIME
from keepfit.errors import SchemaMismatch

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
UTC_MICROSECONDS = pl.Datetime("us", "UTC")
_NUMBERS: list[pl.DataType] = [
    pl.Boolean(),
    pl.Int8(),
    pl.Int16(),
    pl.Int32(),
    pl.Int64(),
    pl.Float32(),
    pl.Float64(),
]
_UNSIGNED: dict[pl.DataType, pl.DataType] = {
    pl.UInt8(): pl.Int16(),
    pl.UInt16(): pl.Int32(),
    pl.UInt32(): pl.Int64(),
}


def stored(dtype: pl.DataType) -> pl.DataType | None:
    """Return the type a column is kept as, or None when the lake cannot keep it.

    Examples
    --------
    >>> stored(pl.UInt8()), stored(pl.Categorical()), stored(pl.Duration("ms"))
    (Int16, String, Float64)
    """
    if dtype in _NUMBERS or dtype in (pl.String, pl.Date, pl.Binary, pl.Null):
        return dtype
    if dtype in _UNSIGNED:
        return _UNSIGNED[dtype]
    if dtype.is_integer():
        return pl.Int64()
    if dtype.is_float() or dtype.is_decimal() or dtype in (pl.Duration, pl.Time):
        return pl.Float64()
    if dtype in (pl.Categorical, pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return UTC_MICROSECONDS
    return _stored_nested(dtype)


def _stored_nested(dtype: pl.DataType) -> pl.DataType | None:
    if isinstance(dtype, pl.List | pl.Array):
        inner = stored(_instance(dtype.inner))
        return None if inner is None or inner == pl.Null else pl.List(inner)
    if isinstance(dtype, pl.Struct):
        parts = {part.name: stored(_instance(part.dtype)) for part in dtype.fields}
        known = {name: part for name, part in parts.items() if part is not None}
        return (
            pl.Struct(known) if len(known) == len(parts) and pl.Null not in known.values() else None
        )
    return None


def _instance(dtype: PolarsDataType) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def storable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame whose columns have types that the lake keeps.

    Unsigned and very wide integers become signed ones (or floats where they do not fit),
    categories text, durations and times of day seconds, zone-less times UTC.

    Raises
    ------
    SchemaMismatch
        A column's type cannot be kept, or two names differ only in case.
    """
    folded: dict[str, str] = {}
    for name in frame.columns:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise SchemaMismatch(
                f"expected column names that differ in more than case, got {other!r} and {name!r}",
                hint="rename one of them, or leave it out with columns=[…]",
            )
    changed = [
        _kept(frame.get_column(name))
        for name, dtype in frame.schema.items()
        if stored(dtype) != dtype
    ]
    return frame.with_columns(changed) if changed else frame


def _kept(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    kept = stored(dtype)
    if kept is None:
        raise SchemaMismatch(
            f"column {values.name!r} has the type {dtype}, which cannot be kept",
            hint="turn it into numbers or text, or leave it out with columns=[…]",
        )
    if isinstance(dtype, pl.Duration):
        return values.dt.total_microseconds() / 1e6
    if dtype == pl.Time:
        return values.to_physical() / 1e9
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if kept == pl.Int64 and values.cast(kept, strict=False).null_count() > values.null_count():
        return values.cast(pl.Float64)
    return values.cast(kept)


def wider(first: pl.DataType, second: pl.DataType) -> pl.DataType | None:
    """Return the type that holds the values of both, or None when they are of two kinds.

    Examples
    --------
    >>> wider(pl.Int64(), pl.Float32()), wider(pl.Int64(), pl.String())
    (Float64, None)
    """
    if first == second or second == pl.Null:
        return first
    if first == pl.Null:
        return second
    if first in _NUMBERS and second in _NUMBERS:
        low, high = sorted((first, second), key=_NUMBERS.index)
        exact = low in (pl.Boolean, pl.Int8, pl.Int16)
        return pl.Float64() if high == pl.Float32 and not exact else high
    if {first, second} == {pl.Date(), UTC_MICROSECONDS}:
        return UTC_MICROSECONDS
    return None


def conform(
    frame: pl.DataFrame, kept: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, dict[str, pl.DataType]]:
    """Cast columns to the types they are kept as, and say which of those are too narrow.

    A value that cannot be cast (text in a column of numbers) becomes null.

    Raises
    ------
    SchemaMismatch
        Ids are text where they were whole numbers before.
    """
    changed: list[pl.Series] = []
    widened: dict[str, pl.DataType] = {}
    for name, dtype in frame.schema.items():
        have = kept.get(name, dtype)
        if have == dtype:
            continue
        values = frame.get_column(name)
        if name == ID:
            changed.append(_ids(values, have))
            continue
        common = wider(have, dtype)
        narrowed = (
            values.cast(have, strict=False) if common in (None, have) else narrow(values, have)
        )
        if narrowed is None and common is not None:
            widened[name] = common
            narrowed = values.cast(common)
        if narrowed is not None:
            changed.append(narrowed)
    return (frame.with_columns(changed) if changed else frame), widened


def strayed(
    frame: pl.DataFrame, kept: Mapping[str, pl.DataType]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the kept columns that a frame lacks, and those it has in a type of another kind."""
    if frame.is_empty():
        return (), {}
    there = RESERVED | set(frame.columns)
    lost = tuple(name for name in kept if name not in there)
    retyped = {
        name: str(dtype)
        for name, dtype in storable(frame).schema.items()
        if name not in RESERVED and name in kept and wider(kept[name], dtype) is None
    }
    return lost, retyped


def narrow(values: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Return numbers in a narrower type when none of them changes, else None; NaN becomes null."""
    if values.dtype not in _NUMBERS or dtype not in _NUMBERS or dtype == pl.Boolean:
        return None
    exact = values.fill_nan(None) if values.dtype.is_float() else values
    cast = exact.cast(dtype, strict=False)
    if cast.null_count() > exact.null_count() or not cast.cast(exact.dtype).equals(exact):
        return None
    return cast


def _ids(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    cast = values.cast(dtype, strict=False)
    if cast.null_count() > values.null_count():
        raise SchemaMismatch(
            f"expected ids of type {dtype} as before, got {values.dtype} such as {values[0]!r}",
            hint="give the id column one type in every file of the source",
        )
    return cast


def microseconds(moment: datetime) -> int:
    """Return a moment as the number that columns of times hold."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(number: int) -> datetime:
    """Return the moment that a number in a column of times stands for."""
    return _EPOCH + number * _MICROSECOND


def no_rows() -> pl.DataFrame:
    """Return no rows and no labels, with the lake's own columns."""
    times = dict.fromkeys((TIME, ARRIVED_AT, KNOWN_AT), UTC_MICROSECONDS)
    return pl.DataFrame(schema={ID: pl.Int64(), LABEL: pl.Null(), BATCH: pl.Int64(), **times})


def together(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of both, with the columns of either."""
    return pl.concat([first, second], how="diagonal_relaxed")
