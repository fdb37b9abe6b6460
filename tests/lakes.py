"""Batches made up for the tests of the lake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from keepfit.batch import ARRIVED_AT, ID, KNOWN_AT, LABEL, SCORE, TIME, VERSION, Batch
from keepfit.lake import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIMES = pl.Datetime("us", "UTC")


def hour(number: float) -> datetime:
    """Return the moment so many hours after the start."""
    return START + timedelta(hours=number)


def some_rows(*entries: tuple[Any, float, float, Any], kind: Any = None) -> pl.DataFrame:
    """Return rows from ``(id, hour of the event, hour of arrival, x)``."""
    return pl.DataFrame(
        {
            ID: pl.Series([entry[0] for entry in entries], strict=False),
            TIME: pl.Series([hour(entry[1]) for entry in entries], dtype=TIMES),
            ARRIVED_AT: pl.Series([hour(entry[2]) for entry in entries], dtype=TIMES),
            "x": pl.Series([entry[3] for entry in entries], dtype=kind),
        }
    )


def some_labels(
    *entries: tuple[Any, Any, float], ids: Any = None, kind: Any = None
) -> pl.DataFrame:
    """Return labels from ``(id, label, hour from which it was known)``."""
    return pl.DataFrame(
        {
            ID: pl.Series([entry[0] for entry in entries], dtype=ids),
            LABEL: pl.Series([entry[1] for entry in entries], dtype=kind),
            TIME: pl.Series([None] * len(entries), dtype=TIMES),
            KNOWN_AT: pl.Series([hour(entry[2]) for entry in entries], dtype=TIMES),
        }
    )


def some_batch(
    rows: pl.DataFrame | Iterable[tuple[Any, float, float, Any]] = (),
    labels: pl.DataFrame | Iterable[tuple[Any, Any, float]] = (),
    *,
    cursor: str = "",
    watermark: float | None = None,
) -> Batch:
    """Return a batch of rows and labels given as frames, or as `some_rows` takes them."""
    if not isinstance(rows, pl.DataFrame):
        rows = some_rows(*rows, kind=pl.Int64)
        rows = rows if rows.height else rows.with_columns(pl.col(ID).cast(pl.Int64))
    if not isinstance(labels, pl.DataFrame):
        labels = some_labels(*labels, ids=rows.schema[ID], kind=pl.Int64)
    return Batch(
        rows=rows.sort(TIME, ID),
        labels=labels,
        cursor=cursor,
        watermark=None if watermark is None else hour(watermark),
    )


def said(ids: Iterable[Any], version: str = "v1", scores: Iterable[Any] | None = None) -> Any:
    """Return predictions of a version for some ids."""
    ids = list(ids)
    scores = [i / 10 for i in range(len(ids))] if scores is None else list(scores)
    return pl.DataFrame({ID: ids, VERSION: [version] * len(ids), SCORE: scores})


def labels_of(lake: Lake, as_of: float, **asked: Any) -> dict[Any, tuple[Any, Any]]:
    """Return ``{id: (x, label)}`` of what was labelled at an hour; its count is counted, too."""
    asked = {"until_batch": 10**6} | asked
    found = lake.labelled(as_of=hour(as_of), **asked)
    assert lake.count_labelled(as_of=hour(as_of), **asked) == found.height
    return {row[ID]: (row["x"], row[LABEL]) for row in found.iter_rows(named=True)}
