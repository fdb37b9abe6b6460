"""Digests of frames, and rows that lack nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit.batch import complete, digest, spread

DAY = datetime(2024, 3, 9, tzinfo=UTC)
COLUMNS: dict[str, tuple[list[Any], Any]] = {
    "integers": ([1, 2, 3], pl.Int32),
    "numbers": ([1.0, 2.5, 0.0], pl.Float64),
    "truths": ([True, False, True], pl.Boolean),
    "texts": (["a", "", "ż"], pl.String),
    "categories": (["a", "b", "a"], pl.Categorical),
    "decimals": ([Decimal("1.25"), Decimal("2.00"), Decimal("0.10")], pl.Decimal(10, 2)),
    "moments": ([DAY + timedelta(days=i) for i in range(3)], pl.Datetime("us", "UTC")),
    "days": ([DAY.date() + timedelta(days=i) for i in range(3)], pl.Date),
    "lists": ([[1], [], [2, 3]], pl.List(pl.Int64)),
}


def column(kind: str, *, change: bool = False, gap: bool = False) -> pl.DataFrame:
    values, dtype = COLUMNS[kind]
    values = values[:1] * 3 if change else list(values)
    if gap:
        values[1] = None
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype)})


@pytest.mark.parametrize("gap", [False, True], ids=["whole", "gap"])
@pytest.mark.parametrize("kind", sorted(COLUMNS))
def test_the_same_values_have_the_same_digest_and_others_another(kind: str, gap: bool) -> None:
    whole = column(kind, gap=gap)
    in_pieces = pl.concat([whole.head(1), whole.tail(2)], rechunk=False)
    assert digest(whole) == digest(column(kind, gap=gap)) == digest(in_pieces)
    assert digest(whole) != digest(column(kind, change=True))
    assert digest(whole) != digest(whole.rename({"x": "y"}))
    assert digest(column(kind)) != digest(column(kind, gap=True))


def test_a_digest_without_a_column_is_that_of_the_frame_without_it() -> None:
    frame = pl.DataFrame({"x": [1, 2], "y": ["a", "b"], "z": [0.5, 1.5]})
    assert digest(frame, without=("y",)) == digest(frame.drop("y"))
    assert digest(frame, without=("y",)) != digest(frame)


def test_rows_are_complete_where_named_columns_have_a_value() -> None:
    frame = pl.DataFrame({"x": [1, None, 3], "y": [None, 2, 3], "z": [1, 2, None]})
    assert complete(frame, "x")["x"].to_list() == [1, 3]
    assert complete(frame, "x", "y")["x"].to_list() == [3]
    whole = frame.tail(1)
    assert complete(whole, "x", "y") is whole


@pytest.mark.parametrize("rhythm", [2, 3, 7, 24, 48])
@pytest.mark.parametrize("times", [1, 2, 24])
def test_rows_evenly_spread_keep_no_rhythm(rhythm: int, times: int) -> None:
    rows = 2_000 * rhythm * times + times
    found = spread(rows, 2_000)
    assert (np.diff(found) > 0).all()
    assert np.abs(found - np.linspace(0, rows, found.size, endpoint=False)).max() < 2 * rows / 2_000
    seen = np.bincount(found % rhythm, minlength=rhythm)
    assert seen.min() > 0.5 * found.size / rhythm


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 95, 1_001])
def test_rows_evenly_spread_are_as_many_as_asked_for(rows: int) -> None:
    found = spread(rows, 10)
    assert found.size == min(rows, 10)
    assert (np.diff(found) > 0).all()
    assert found.size == 0 or (found[0] >= 0 and found[-1] < rows)
