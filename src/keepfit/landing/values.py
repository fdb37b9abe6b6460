"""Values of JSON as columns: whatever was sent becomes one of the lake's kinds, or is none.

Imported only when rows are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC as WITH_ZONE
from datetime import datetime
from typing import Any

import polars as pl

from keepfit.landing.texts import NUMBER
from keepfit.profile import kind_of

UTC = pl.Datetime("us", "UTC")
TRUTHS = {"true": True, "false": False, "1": True, "0": False}
WHOLE = 2**63
"""Whole numbers from minus this one up to it are what a column of the lake holds."""


def times(values: Sequence[Any]) -> pl.Series:
    """Return times in UTC from text; null where there is none."""
    texts = pl.Series([one if isinstance(one, str) else None for one in values], dtype=pl.String)
    if texts.null_count() == texts.len():
        return pl.Series([None] * len(values), dtype=UTC)
    found = texts.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    lost = (found.is_null() & texts.is_not_null()).arg_true()
    if lost.is_empty():
        return found
    # All are read in the form of the first of them; what is written otherwise is read by itself.
    return found.scatter(lost, pl.Series([_time(one) for one in texts.gather(lost)], dtype=UTC))


def _time(text: str) -> datetime | None:
    """Return the time that a text is, or None."""
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=WITH_ZONE) if time.tzinfo is None else time.astimezone(WITH_ZONE)
    except (ValueError, OverflowError):
        return None


def plain(values: Sequence[Any]) -> pl.Series:
    """Return values in the one type that they all have, or as text."""
    kinds = {type(one) for one in values if one is not None}
    if not kinds:
        return pl.Series(values, dtype=pl.Null)
    if kinds in ({bool}, {str}):
        return pl.Series(values)
    if kinds <= {bool, int, float}:
        return _numbers([as_number(one) for one in values])
    return pl.Series([None if one is None else as_text(one) for one in values], dtype=pl.String)


def as_stored(values: Sequence[Any], dtype: pl.DataType | None) -> pl.Series:
    """Return values of JSON as a column of the kind that the lake has, null where one is none."""
    if dtype is None or dtype == pl.Null:
        return plain(values)
    kind = kind_of(dtype)
    if kind == "time":
        return times(values).cast(dtype, strict=False)
    if kind == "other":
        return _nested(values, dtype)
    convert: Callable[[Any], Any] = {
        "number": as_number,
        "boolean": as_truth,
        "category": as_text,
    }[kind]
    found = [convert(one) for one in values]
    if kind == "number":
        return _numbers(found)
    return pl.Series(found, dtype=pl.Boolean if kind == "boolean" else pl.String)


def _nested(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return lists or records, null where a value is none of this type."""
    found = []
    for one in values:
        try:
            found.append(pl.Series([one], dtype=dtype).item())
        except (
            Exception,
            pl.exceptions.PanicException,
        ):  # whatever Polars says of one that is none
            found.append(None)
    return pl.Series(found, dtype=dtype)


def _numbers(numbers: Sequence[float | None]) -> pl.Series:
    fractions = any(isinstance(one, float) for one in numbers)
    return pl.Series(numbers, dtype=pl.Float64 if fractions else pl.Int64, strict=False)


def as_label(value: Any, dtype: pl.DataType | None) -> Any:
    """Return the label that a value of JSON is among those of a kind, or None where it is none.

    Examples
    --------
    >>> as_label(True, pl.Int64()), as_label("abc", pl.Int64()), as_label(10**60, None)
    (1, None, None)
    """
    kind = "other" if dtype is None or dtype == pl.Null else kind_of(dtype)
    if kind == "number" and isinstance(value, bool | int | float | str):
        number = as_number(value)
        # Beyond what a column of whole numbers holds it would be another number.
        whole = dtype is not None and dtype.is_integer()
        return None if whole and number is not None and abs(number) >= WHOLE else number
    if kind == "boolean":
        return as_truth(value)
    if kind == "category":
        return as_text(value)
    beyond = isinstance(value, int) and not -WHOLE <= value < WHOLE
    return None if beyond or isinstance(value, list | dict) else value


def as_number(value: Any) -> float | None:
    """Return the number that a value of JSON is, or None.

    Examples
    --------
    >>> as_number(3), as_number(" 2.5 "), as_number(True), as_number("a lot"), as_number([1])
    (3, 2.5, 1, None, None)
    >>> as_number(2**63), as_number(10**400)
    (9.223372036854776e+18, None)
    """
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if NUMBER.fullmatch(text) else math.nan
        return number if math.isfinite(number) else None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -WHOLE <= value < WHOLE:
        return _beyond(value)
    return value if isinstance(value, int | float) else None


def _beyond(whole: int) -> float | None:
    """Return a whole number that no column of them holds as one with a fraction, or None."""
    try:
        return float(whole)
    except OverflowError:
        return None


def as_truth(value: Any) -> bool | None:
    """Return the truth that a value of JSON is, or None."""
    if isinstance(value, str):
        return TRUTHS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def as_text(value: Any) -> str | None:
    """Return the category that a value of JSON is, or None: 3, 3.0 and "3" are one.

    Examples
    --------
    >>> as_text(3), as_text(3.0), as_text("3"), as_text(True), as_text(0.5), as_text([1])
    ('3', '3', '3', 'true', '0.5', None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else None
