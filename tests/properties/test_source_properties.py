"""However rows are delivered, a source hands each out once, in its window, and none too early."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worlds import START

from keepfit import sources
from keepfit.batch import Batch, restored, shortened

HOUR = timedelta(hours=1)
HOURS = 200
END = START + (HOURS + 1) * HOUR
ROLES = {"id": "id", "time": "time", "label": "label"}
HASHED = {"time": "time", "label": "label"}

hours = st.lists(st.integers(0, HOURS), min_size=1, max_size=40)
cadences = st.integers(1, 70).map(lambda n: n * HOUR)
seeds = st.integers(0, 1_000)


def made(at: list[int]) -> pl.DataFrame:
    """Return a row for each hour, told apart by its feature."""
    return pl.DataFrame(
        {
            "id": pl.Series(range(len(at)), dtype=pl.Int64),
            "time": pl.Series([START + hour * HOUR for hour in at], dtype=pl.Datetime("us", "UTC")),
            "x": [0.5 * number for number in range(len(at))],
            "label": [None if number % 3 == 0 else number % 2 for number in range(len(at))],
        }
    )


def split(frame: pl.DataFrame, parts: int, seed: int) -> list[pl.DataFrame]:
    """Return the rows in disorder, dealt out to files of which some may be empty."""
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    which = pl.Series([hash((seed, row)) % parts for row in range(frame.height)])
    return [shuffled.filter(which == part) for part in range(parts)]


def drop(folder: str, name: str, frame: pl.DataFrame) -> None:
    frame.write_parquet(Path(folder) / f"{name}.parquet")


def reads(source: Any, cursor: str | None, now: datetime, every: timedelta) -> list[Batch]:
    """Return all batches that a source has at a moment; each is the same when it is read twice."""
    batches = []
    while True:
        batch = source.read(cursor, now=now, every=every)
        again = source.read(cursor, now=now, every=every)
        assert_same(batch, again)
        assert restored(shortened(batch.cursor, cursor), cursor) == batch.cursor
        if batch.empty:
            assert not batch.backlog
            return batches
        batches.append(batch)
        cursor = batch.cursor


def assert_same(one: Batch, other: Batch) -> None:
    assert one.rows.equals(other.rows)
    assert one.labels.equals(other.labels)
    assert (one.cursor, one.watermark, one.backlog) == (
        other.cursor,
        other.watermark,
        other.backlog,
    )
    assert one.findings == other.findings


def told(batches: list[Batch]) -> list[Any]:
    return [key for batch in batches for key in batch.rows.select("_time", "x").rows()]


def expected(frame: pl.DataFrame) -> list[Any]:
    return sorted(frame.select("time", "x").rows())


@given(at=hours, parts=st.integers(1, 6), seed=seeds, every=cadences, hashed=st.booleans())
@settings(max_examples=60)
def test_any_split_into_files_gives_every_row_once_and_the_same_windows(
    at: list[int], parts: int, seed: int, every: timedelta, hashed: bool
) -> None:
    frame = made(at)
    roles = HASHED if hashed else ROLES
    whole = reads(sources.Frame(frame, **roles), None, END, every)
    with TemporaryDirectory() as folder:
        for number, part in enumerate(split(frame, parts, seed)):
            drop(folder, str(number), part)
        batches = reads(sources.Parquet(folder, **roles), None, END, every)
    assert sorted(told(batches)) == expected(frame)
    assert [batch.rows.rows() for batch in batches] == [batch.rows.rows() for batch in whole]
    assert [sorted(b.labels.rows()) for b in batches] == [sorted(b.labels.rows()) for b in whole]
    assert [batch.watermark for batch in batches] == [batch.watermark for batch in whole]


@given(at=hours, every=cadences, steps=st.lists(st.integers(1, 60), max_size=8))
@settings(max_examples=60)
def test_rows_delivered_in_order_have_the_windows_of_those_delivered_at_once(
    at: list[int], every: timedelta, steps: list[int]
) -> None:
    frame = made(sorted(at))
    origin = START + min(at) * HOUR
    with TemporaryDirectory() as folder:
        batches: list[Batch] = []
        done = origin
        cursor = None
        # Files come when the window they end with is over, as a nightly export does.
        for number, step in enumerate([*steps, HOURS]):
            end = done + step * every
            drop(folder, f"{number:02}", frame.filter(pl.col("time").is_between(done, end, "left")))
            done = end
            batches += reads(sources.Parquet(folder, **ROLES), cursor, max(done, END), every)
            cursor = batches[-1].cursor if batches else None
    whole = reads(sources.Frame(frame, **ROLES), None, END, every)
    assert [batch.rows["_id"].to_list() for batch in batches] == [
        batch.rows["_id"].to_list() for batch in whole
    ]


@given(
    at=hours,
    every=cadences,
    parts=st.integers(1, 6),
    seed=seeds,
    clock=st.lists(st.integers(-20, HOURS), min_size=1, max_size=8),
    restart=st.booleans(),
)
@settings(max_examples=80)
def test_whatever_comes_when_and_whatever_the_clock_says_nothing_is_lost_doubled_or_too_early(
    at: list[int], every: timedelta, parts: int, seed: int, clock: list[int], restart: bool
) -> None:
    frame = made(at)
    files = split(frame, parts, seed)
    with TemporaryDirectory() as folder:
        source = sources.Parquet(folder, **ROLES)
        batches: list[Batch] = []
        cursor, watermark = None, None
        moments = [START + hour * HOUR for hour in clock]
        for number, now in enumerate([*moments, *[END] * len(files)]):
            if number < len(files):
                drop(folder, str(number), files[number])
                # Times of change that say nothing: files are copied, and clocks differ.
                os.utime(Path(folder) / f"{number}.parquet", (seed % (number + 2),) * 2)
            source = sources.Parquet(folder, **ROLES) if restart else source
            for batch in reads(source, cursor, now, every):
                assert all(time <= now for time in batch.rows["_time"])
                assert watermark is None or batch.watermark is None or batch.watermark >= watermark
                cursor, watermark = batch.cursor, batch.watermark or watermark
                batches.append(batch)
    assert sorted(told(batches)) == expected(frame)


@given(at=hours, every=cadences, seed=seeds, rewrites=st.lists(st.integers(0, 3), max_size=8))
@settings(max_examples=40)
def test_files_that_grow_bring_every_row_and_repeat_none_under_another_id(
    at: list[int], every: timedelta, seed: int, rewrites: list[int]
) -> None:
    frame = made(at)
    files = split(frame, 4, seed)
    with TemporaryDirectory() as folder:
        found: set[Any] = set()
        cursor = None
        for number, which in enumerate([*rewrites, 0, 1, 2, 3]):
            share = files[which].head(number + 1) if number < len(rewrites) else files[which]
            drop(folder, str(which), share)
            for batch in reads(sources.Parquet(folder, **ROLES), cursor, END, every):
                found |= set(batch.rows.select("_id", "_time", "x").rows())
                cursor = batch.cursor
    assert found == set(frame.select("id", "time", "x").rows())


@given(
    lines=st.lists(st.text(max_size=300), max_size=4),
    before=st.one_of(st.none(), st.lists(st.text(max_size=300), max_size=4)),
    shared=st.text(max_size=600),
)
def test_any_cursor_is_restored_from_what_was_kept_of_it(
    lines: list[str], before: list[str] | None, shared: str
) -> None:
    cursor = shared + "\n".join(lines)
    other = None if before is None else shared + "\n".join(before)
    assert restored(shortened(cursor, other), other) == cursor
