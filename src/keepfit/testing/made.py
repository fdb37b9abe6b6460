"""Rows and facts made up to put checks, detectors, triggers and selections to the test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.facts import Arrived, Decided, Found, decode, encode

if TYPE_CHECKING:
    import polars as pl

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def rows(count: int, *, seed: int) -> pl.DataFrame:
    """Return rows of every type of column, a minute apart."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    times = pl.Series([START + timedelta(minutes=i) for i in range(count)], dtype=time_type())
    return pl.DataFrame(
        {
            "_id": pl.Series(range(count), dtype=pl.Int64),
            "_time": times,
            "_arrived_at": times,
            "number": rng.normal(size=count),
            "whole": rng.integers(0, 50, count),
            "text": rng.choice(["a", "b", "c"], count),
            "flag": rng.random(count) < 0.5,
            "holes": np.where(rng.random(count) < 0.3, np.nan, rng.normal(size=count)),
            "constant": [1.0] * count,
            "empty": pl.Series([None] * count, dtype=pl.Float64),
        }
    )


def batches() -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield batches as they should be and as they should not, each with what it is called."""
    import polars as pl

    whole = rows(300, seed=2)
    number = pl.col("number")
    yield "300 rows", whole
    yield "no rows", whole.clear()
    yield "one row", whole.head(1)
    yield "a column gone", whole.drop("number", "text")
    yield "a new column", whole.with_columns(new=number)
    yield "text for numbers", whole.with_columns(number.cast(pl.String))
    yield "all missing", whole.with_columns(pl.lit(None).alias(name) for name in ("number", "text"))
    yield "infinite values", whole.with_columns(number / 0.0)
    yield (
        "one wild value",
        whole.with_columns(
            pl.when(pl.col("_id") == 7).then(1e300).otherwise(number).alias("number")
        ),
    )
    yield "new categories", whole.with_columns(text=pl.lit("new"))
    yield "a list column", whole.with_columns(number=pl.concat_list("number", "holes"))
    yield "no features", whole.select("_id", "_time", "_arrived_at")


def numbers(count: int, modulus: int) -> pl.Series:
    """Return the numbers below ``modulus`` again and again."""
    import polars as pl

    return pl.Series([i % modulus for i in range(count)], dtype=pl.Int64)


def time_type() -> pl.DataType:
    """Return the type of every column of instants."""
    import polars as pl

    return pl.Datetime("us", "UTC")


def arrived(number: int) -> Arrived:
    """Return the fact that a batch of one day arrived."""
    return Arrived(
        batch=number,
        rows=300,
        labels=300,
        cursor="",
        digest="",
        from_=START + (number - 1) * DAY,
        to=START + number * DAY,
    )


def kept(fact: Found | Decided, where: str) -> None:
    """Assert that the ledger can hold a fact."""
    assert decode(encode(fact)) == fact, f"{where}: the ledger does not give back what it was given"
