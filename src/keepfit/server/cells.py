"""Values of JSON as the numbers a model reads, without a frame.

They are the numbers that `Encoding.matrix` makes of a frame of that one row, to the last bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from keepfit.landing.texts import NUMBER
from keepfit.learners.encoding import GONE, LARGEST, Column

Cell = Callable[[Any], float]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TRUTHS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
_LARGEST = 2**63
NAN = math.nan


def cells(columns: Sequence[Column]) -> list[Cell]:
    """Return what makes a number of a value, for each column."""
    return [_cell(column) for column in columns]


def _cell(column: Column) -> Cell:
    if column.kind == "category":
        return _coded(column.categories)
    if column.kind == GONE:
        return nothing
    return {"number": number, "boolean": truth, "time": seconds}[column.kind]


def _single(value: Any) -> float:
    """Return a missing value for one that is not of the kind; several are a mistake.

    Raises
    ------
    TypeError
        They are several; who knows the column says so.
    """
    if isinstance(value, list | dict):
        raise TypeError
    return NAN


def nothing(value: Any) -> float:
    """Return a missing value, whatever comes."""
    return NAN


def number(value: Any) -> float:
    """Return a number; text that is one counts as one.

    Examples
    --------
    >>> number(3), number(" 2.5 "), number(None), number("a lot"), number(True)
    (3.0, 2.5, nan, nan, 1.0)
    """
    if isinstance(value, float):
        return _bounded(value)
    if isinstance(value, int):
        return _bounded(float(value))
    if isinstance(value, str) and NUMBER.fullmatch(text := value.strip()):
        return _bounded(float(text))
    return _single(value)


def _bounded(value: float) -> float:
    return value if -LARGEST <= value <= LARGEST else NAN


def truth(value: Any) -> float:
    """Return one for what is true and zero for what is not."""
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower(), NAN)
    return number(value)


def seconds(value: Any) -> float:
    """Return text that is a time as seconds since 1970.

    Examples
    --------
    >>> seconds("1970-01-02T00:00:00.5Z"), seconds("1970-01-02"), seconds(7), seconds("soon")
    (86400.5, 86400.0, nan, nan)
    """
    if not isinstance(value, str):
        return _single(value)
    if _MOMENT.fullmatch(value):
        try:
            return ((datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND) / 1e6
        except (ValueError, OverflowError):
            pass
    return _parsed(value)


def _parsed(text: str) -> float:
    """Return a time that is written in another way, read as the model's encoding reads it."""
    import polars as pl

    read = pl.Series([text]).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    found = read.dt.epoch("us").item()
    return NAN if found is None else found / 1e6


def _coded(categories: Sequence[str]) -> Cell:
    codes = {category: float(code) for code, category in enumerate(categories)}

    def code(value: Any) -> float:
        if isinstance(value, str):
            return codes.get(value, NAN)
        if isinstance(value, bool):
            return codes.get("true" if value else "false", NAN)
        if isinstance(value, int):
            return codes.get(str(value), NAN)
        if not isinstance(value, float):
            return _single(value)
        text = _fraction(value)
        return NAN if text is None else codes.get(text, NAN)

    return code


def _fraction(value: float) -> str | None:
    """Return a number with a point as the text that it is as a category, if it is one."""
    if value.is_integer():
        return str(int(value)) if -_LARGEST <= value < _LARGEST else None
    text = repr(value)
    if "e" not in text:
        return text
    import polars as pl

    return str(pl.Series([value]).cast(pl.String).item())
