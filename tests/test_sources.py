"""What sources make of the rows and files they meet."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from keepfit import sources
from keepfit.batch import Batch, restored, shortened
from keepfit.errors import ConfigError, SchemaMismatch, SourceError
from keepfit.lake import Delta, Landed
from tests.worlds import DAY, START, live, pipeline, play, stream

ROLES = {"id": "id", "time": "time", "label": "label"}
NOW = START + 100 * DAY


def rows(*ids: int, day: int = 0, **columns: Any) -> pl.DataFrame:
    """Return a row an hour from a day on, with a feature and a label."""
    times = [START + day * DAY + timedelta(hours=hour) for hour in range(len(ids))]
    frame = pl.DataFrame(
        {
            "id": pl.Series(ids, dtype=pl.Int64),
            "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "x": [float(one) for one in ids],
            "label": [one % 2 for one in ids],
        }
    )
    return frame.with_columns(pl.lit(value).alias(name) for name, value in columns.items())


def reads(
    source: Any, cursor: str | None = None, *, now: datetime = NOW, every: timedelta = DAY
) -> list[Batch]:
    """Return all batches that a source has at a moment."""
    batches = []
    while not (batch := source.read(cursor, now=now, every=every)).empty:
        batches.append(batch)
        cursor = batch.cursor
    return batches


def ids(*batches: Batch) -> list[Any]:
    return [one for batch in batches for one in batch.rows["_id"].to_list()]


def labels(*batches: Batch) -> list[tuple[Any, Any]]:
    return [pair for batch in batches for pair in batch.labels.select("_id", "_label").iter_rows()]


def said(*batches: Batch) -> str:
    return "\n".join(f"{one.outcome.value}: {one.message}" for b in batches for one in b.findings)


def landed(folder: Path, *batches: Batch) -> list[Landed]:
    lake = Delta(folder)
    first = lake.last() + 1
    return [lake.land(batch, number) for number, batch in enumerate(batches, first)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rows"
    made.mkdir()
    return made


def parquet(folder: Path, **roles: Any) -> sources.Parquet:
    return sources.Parquet(folder, **(ROLES | roles))


def drop(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    path = folder / f"{name}.parquet"
    frame.write_parquet(path)
    return path


# Windows of event time -------------------------------------------------------------------


def test_late_rows_come_with_the_next_batch_and_are_counted(folder: Path, tmp_path: Path) -> None:
    drop(folder, "a", rows(1, 2, day=5))
    first = reads(parquet(folder))
    drop(folder, "b", pl.concat([rows(3, day=1), rows(4, day=6)]))
    then = reads(parquet(folder), first[-1].cursor)
    assert [ids(batch) for batch in then] == [[3, 4]]
    assert then[0].watermark > first[0].watermark
    assert [one.late for one in landed(tmp_path / "lake", *first, *then)] == [0, 1]


def test_late_rows_alone_leave_the_watermark_where_it_is(folder: Path) -> None:
    drop(folder, "a", rows(1, 2, day=5))
    first = reads(parquet(folder))
    drop(folder, "b", rows(3, day=1))
    then = reads(parquet(folder), first[-1].cursor)
    assert ids(*then) == [3]
    assert then[0].watermark == first[-1].watermark


def test_rows_out_of_order_come_in_order(folder: Path) -> None:
    frame = pl.concat([rows(1, 2, 3), rows(4, 5, day=3)])
    drop(folder, "a", frame.sample(fraction=1.0, shuffle=True, seed=1))
    assert [ids(batch) for batch in reads(parquet(folder))] == [[1, 2, 3], [4, 5]]


def test_rows_of_the_future_wait_until_they_have_happened(folder: Path) -> None:
    drop(folder, "a", pl.concat([rows(1), rows(2, day=5)]))
    first = reads(parquet(folder), now=START + DAY)
    assert ids(*first) == [1]
    assert not first[0].backlog
    assert ids(*reads(parquet(folder), first[-1].cursor, now=START + 6 * DAY)) == [2]


def test_a_clock_that_goes_back_brings_nothing_twice_and_nothing_from_later(folder: Path) -> None:
    drop(folder, "a", pl.concat([rows(1, 2, day=0), rows(3, day=4), rows(9, day=9)]))
    first = reads(parquet(folder), now=START + 5 * DAY)
    drop(folder, "b", pl.concat([rows(4, day=1), rows(5, day=3)]))
    back = reads(parquet(folder), first[-1].cursor, now=START + 2 * DAY)
    assert ids(*first) == [1, 2, 3]
    assert ids(*back) == [4]
    assert back[-1].watermark == first[-1].watermark
    assert ids(*reads(parquet(folder), back[-1].cursor)) == [5, 9]


@pytest.mark.parametrize(
    "clock",
    [
        pl.col("time").dt.replace_time_zone(None),
        pl.col("time").dt.convert_time_zone("Asia/Tokyo"),
        pl.col("time").dt.cast_time_unit("ns"),
        pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        pl.when(pl.col("id") > 1)
        .then(pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S"))
        .otherwise(pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ],
    ids=["without a zone", "Tokyo", "nanoseconds", "text", "texts of two kinds"],
)
def test_however_times_are_written_they_are_the_same(clock: pl.Expr) -> None:
    plain = reads(sources.Frame(rows(1, 2, 3), **ROLES))
    other = reads(sources.Frame(rows(1, 2, 3).with_columns(clock.alias("time")), **ROLES))
    assert [b.rows.to_dicts() for b in other] == [b.rows.to_dicts() for b in plain]


def test_times_without_a_zone_are_said_to_be_utc_once(folder: Path) -> None:
    for day in range(3):
        frame = rows(day, day=day).with_columns(pl.col("time").dt.replace_time_zone(None))
        drop(folder, f"{day}", frame)
    batches = reads(parquet(folder))
    once = "pass: `time` has no zone and is taken as UTC"
    assert [said(batch) for batch in batches] == [once, "", ""]


def test_dates_are_the_beginning_of_their_day() -> None:
    frame = rows(1, day=3).with_columns(pl.col("time").dt.date())
    assert reads(sources.Frame(frame, **ROLES))[0].rows["_time"].to_list() == [START + 3 * DAY]


def test_texts_that_are_no_times_are_left_out_and_told() -> None:
    texts = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S")
    frame = rows(1, 2, 3).with_columns(
        pl.when(pl.col("id") == 2).then(pl.lit("soon")).otherwise(texts).alias("time")
    )
    batches = reads(sources.Frame(frame, **ROLES))
    assert ids(*batches) == [1, 3]
    assert "got 1 value such as 'soon'" in said(*batches)


def test_a_file_without_any_time_brings_no_row_and_says_so(folder: Path) -> None:
    drop(folder, "a", rows(1, 2).with_columns(pl.lit(None).alias("time")))
    batch = parquet(folder).read(None, now=NOW, every=DAY)
    assert batch.empty
    assert "2 rows of a.parquet with no id or no time left out" in said(batch)


# Ids, duplicates and labels --------------------------------------------------------------


def test_the_same_row_again_is_a_duplicate(folder: Path, tmp_path: Path) -> None:
    drop(folder, "a", rows(1, 2))
    first = reads(parquet(folder))
    drop(folder, "b", pl.concat([rows(1, 2).tail(1), rows(3, day=2)]))
    found = landed(tmp_path / "lake", *first, *reads(parquet(folder), first[-1].cursor))
    assert [(one.rows, one.duplicates, one.corrections) for one in found] == [(2, 0, 0), (1, 1, 0)]


def test_a_row_that_comes_again_with_a_label_brings_the_label(folder: Path, tmp_path: Path) -> None:
    without = rows(1, 2).with_columns(pl.lit(None, pl.Int64).alias("label"))
    drop(folder, "a", without)
    first = reads(parquet(folder))
    drop(folder, "b", rows(1, 2))
    found = landed(tmp_path / "lake", *first, *reads(parquet(folder), first[-1].cursor))
    assert [(one.rows, one.labels, one.corrections) for one in found] == [(2, 0, 0), (0, 2, 0)]


@pytest.mark.parametrize("column", ["label", "x"])
def test_a_row_that_comes_again_otherwise_is_a_correction(
    folder: Path, tmp_path: Path, column: str
) -> None:
    drop(folder, "a", rows(1, 2))
    first = reads(parquet(folder))
    drop(folder, "b", rows(1, 2).with_columns(pl.lit(7).cast(rows(1).schema[column]).alias(column)))
    found = landed(tmp_path / "lake", *first, *reads(parquet(folder), first[-1].cursor))
    assert [one.corrections for one in found] == [0, 2]
    again = found[-1].revised, found[-1].relabelled
    assert again == ((2, 0) if column == "x" else (0, 2))


def test_of_rows_with_one_id_in_one_batch_the_last_file_counts(folder: Path) -> None:
    drop(folder, "a", rows(1, 2))
    drop(folder, "b", rows(1, 2, x=0.5))
    batch = reads(parquet(folder))[0]
    assert batch.rows["x"].to_list() == [0.5, 0.5]
    assert ids(batch) == [1, 2]


def test_ids_and_labels_may_be_text(folder: Path) -> None:
    frame = rows(1, 2).with_columns(
        pl.format("row {}", "id").alias("id"), pl.lit("yes", pl.Categorical).alias("label")
    )
    drop(folder, "a", frame)
    batches = reads(parquet(folder))
    assert labels(*batches) == [("row 1", "yes"), ("row 2", "yes")]


@pytest.mark.parametrize("missing", [None, float("nan")], ids=["null", "not a number"])
def test_labels_that_are_all_missing_are_no_labels(missing: float | None) -> None:
    batches = reads(sources.Frame(rows(1, 2, label=missing), **ROLES))
    assert ids(*batches) == [1, 2]
    assert labels(*batches) == []


def test_without_an_id_column_rows_have_the_same_ids_in_any_order(folder: Path) -> None:
    frame = pl.concat([rows(1, 2, 3), rows(1, 2, 3).head(1)]).drop("id")
    source = {"time": "time", "label": "label"}
    first = reads(sources.Frame(frame, **source))
    other = reads(sources.Frame(frame.reverse(), **source))
    assert ids(*first) == ids(*other)
    assert sum(one.endswith("-1") for one in ids(*first)) == 1
    assert len(set(ids(*first))) == 4


def test_without_an_id_column_a_file_delivered_twice_counts_once(folder: Path) -> None:
    for name in ("a", "copy of a"):
        drop(folder, name, rows(1, 2, 3).drop("id"))
    batches = reads(sources.Parquet(folder, time="time", label="label"))
    assert len(ids(*batches)) == 3


def test_without_an_id_column_a_label_that_comes_later_is_of_the_same_row(folder: Path) -> None:
    frame = rows(1, 2).drop("id")
    source = sources.Parquet(folder, time="time", label="label")
    drop(folder, "a", frame.with_columns(pl.lit(None, pl.Int64).alias("label")))
    first = reads(source)
    drop(folder, "b", frame)
    assert ids(*reads(source, first[-1].cursor)) == ids(*first)


def test_rows_with_lists_and_bytes_have_ids_too() -> None:
    frame = rows(1, 2).drop("id").with_columns(pl.lit(b"\xff").alias("raw"), pl.concat_list("x"))
    assert len(set(ids(*reads(sources.Frame(frame, time="time"))))) == 2


# Columns ---------------------------------------------------------------------------------


def test_a_missing_column_is_named_with_its_file_and_the_nearest(folder: Path) -> None:
    drop(folder, "a", rows(1).rename({"label": "labels"}))
    with pytest.raises(SchemaMismatch, match=r"`label` is missing from a\.parquet") as caught:
        parquet(folder).read(None, now=NOW, every=DAY)
    assert "`labels`" in str(caught.value.hint)


def test_of_many_columns_an_error_names_the_first_and_how_many_more(folder: Path) -> None:
    drop(folder, "a", rows(1).rename({"label": "q"}).with_columns(**{f"x{i}": 0 for i in range(9)}))
    with pytest.raises(SchemaMismatch, match=r"a\.parquet, which has id, time, .*, x3 and 5 more"):
        parquet(folder).read(None, now=NOW, every=DAY)


def test_a_new_column_in_a_later_file_is_missing_in_the_rows_before(folder: Path) -> None:
    drop(folder, "a", rows(1))
    drop(folder, "b", rows(2, z=0.5))
    batch = reads(parquet(folder))[0]
    assert batch.rows["z"].to_list() == [None, 0.5]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(1, 0.5, [1.0, 0.5]), (1, "a", ["1", "a"]), (None, 0.5, [None, 0.5])],
    ids=["whole and broken", "number and text", "missing and number"],
)
def test_types_that_differ_between_files_give_way_to_the_wider(
    folder: Path, one: Any, other: Any, both: list[Any]
) -> None:
    drop(folder, "a", rows(1, z=one))
    drop(folder, "b", rows(2, z=other))
    assert reads(parquet(folder))[0].rows["z"].to_list() == both
    assert parquet(folder).history().rows["z"].to_list() == both


def test_types_that_cannot_be_joined_are_named_with_their_files(folder: Path) -> None:
    drop(folder, "a", rows(1, z=b"1"))
    drop(folder, "b", rows(2, z=1))
    expected = r"`z` is Binary in a\.parquet and Int\d+ in b\.parquet"
    with pytest.raises(SchemaMismatch, match=expected):
        parquet(folder).read(None, now=NOW, every=DAY)
    with pytest.raises(SchemaMismatch, match=expected):
        parquet(folder).history()


def test_a_file_of_no_rows_lends_no_types_to_the_others(folder: Path) -> None:
    (folder / "a.csv").write_text("id,time,x,label\n")
    rows(1, 2).write_csv(folder / "b.csv")
    source = sources.Csv(folder, **ROLES)
    assert reads(source)[0].rows.schema["x"] == pl.Float64
    assert source.history().rows.schema["x"] == pl.Float64


# Files that are not whole, or not there --------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"PAR1", b"garbage" * 50], ids=["empty", "cut", "junk"])
def test_a_file_that_cannot_be_read_is_told_until_it_can(folder: Path, content: bytes) -> None:
    drop(folder, "a", rows(1))
    (folder / "b.parquet").write_bytes(content)
    source = parquet(folder)
    first = reads(source)
    assert ids(*first) == [1]
    assert "b.parquet cannot be read" in said(*first)
    idle = source.read(first[-1].cursor, now=NOW, every=DAY)
    assert "b.parquet cannot be read" in said(idle)
    drop(folder, "b", rows(2, day=1))
    then = reads(source, first[-1].cursor)
    assert ids(*then) == [2]
    assert said(*then) == ""


def test_many_files_that_cannot_be_read_are_one_finding(folder: Path) -> None:
    drop(folder, "a", rows(1))
    for number in range(30):
        (folder / f"b{number:02}.parquet").write_bytes(b"junk")
    assert "b00.parquet and 29 more cannot be read" in said(*reads(parquet(folder)))


def test_a_history_leaves_out_what_cannot_be_read_and_says_so(folder: Path) -> None:
    drop(folder, "a", rows(1))
    (folder / "b.parquet").write_bytes(b"junk")
    history = parquet(folder).history()
    assert ids(history) == [1]
    assert "b.parquet cannot be read" in said(history)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """Yield a folder, as a user to whom modes of files apply."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield made
    finally:
        if root:
            os.seteuid(0)
        for path in made.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(made)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_a_file_that_may_not_be_read_is_told_until_it_may(as_nobody: Path) -> None:
    path = drop(as_nobody, "a", rows(1))
    path.chmod(0o000)
    source = parquet(as_nobody)
    closed = source.read(None, now=NOW, every=DAY)
    assert "a.parquet cannot be read" in said(closed)
    path.chmod(0o600)
    assert ids(*reads(source, closed.cursor)) == [1]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_a_folder_that_may_not_be_listed_is_told(as_nobody: Path) -> None:
    inner = as_nobody / "inner"
    inner.mkdir()
    drop(as_nobody, "a", rows(1))
    inner.chmod(0o000)
    assert "folder inner cannot be listed: Permission denied" in said(*reads(parquet(as_nobody)))


def test_an_empty_folder_and_none_at_all_say_what_was_looked_for(folder: Path) -> None:
    for place in (folder, folder / "gone", folder / "*.parquet"):
        batch = parquet(place).read(None, now=NOW, every=DAY)
        assert batch.empty
        assert "no .parquet files at" in said(batch)
        with pytest.raises(SourceError, match=r"no \.parquet files at"):
            parquet(place).history()


def test_a_folder_of_files_of_another_kind_names_the_source_that_reads_them(folder: Path) -> None:
    rows(1).write_csv(folder / "a.csv")
    batch = parquet(folder).read(None, now=NOW, every=DAY)
    assert "but a.csv, which sources.Csv reads" in said(batch)
    drop(folder, "b", rows(1))
    (folder / "a.csv").unlink()
    batch = sources.Csv(folder, **ROLES).read(None, now=NOW, every=DAY)
    assert "no .csv files at" in said(batch)
    assert "but b.parquet, which sources.Parquet reads" in said(batch)


def test_a_folder_that_disappears_is_told_and_comes_back_unread(folder: Path) -> None:
    drop(folder, "a", pl.concat([rows(1), rows(2, day=3)]))
    source = parquet(folder)
    cursor = source.read(None, now=NOW, every=DAY).cursor
    folder.rename(folder.with_name("away"))
    gone = source.read(cursor, now=NOW, every=DAY)
    assert gone.empty
    assert "no .parquet files at" in said(gone)
    assert gone.cursor == cursor
    folder.with_name("away").rename(folder)
    assert ids(*reads(source, cursor)) == [2]


def test_files_may_be_taken_away_once_they_were_read(folder: Path) -> None:
    path = drop(folder, "a", rows(1))
    first = reads(parquet(folder))
    path.unlink()
    idle = parquet(folder).read(first[-1].cursor, now=NOW, every=DAY)
    assert idle.empty
    assert said(idle) == ""
    drop(folder, "b", rows(2, day=1))
    assert ids(*reads(parquet(folder), first[-1].cursor)) == [2]


def test_what_is_hidden_or_still_being_written_elsewhere_is_left_alone(folder: Path) -> None:
    for name in (".tmp", "_temporary", "_delta_log"):
        (folder / name).mkdir()
        drop(folder / name, "a", rows(9))
    drop(folder, "_b", rows(8))
    (folder / "2024" / "01").mkdir(parents=True)
    drop(folder / "2024" / "01", "c", rows(1))
    assert ids(*reads(parquet(folder))) == [1]


def test_the_last_line_of_a_csv_is_read_when_it_has_an_end(folder: Path) -> None:
    path = folder / "a.csv"
    rows(1, 2, 3).write_csv(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    source = sources.Csv(path, **ROLES)
    first = reads(source)
    assert ids(*first) == [1, 2]
    assert "the last line of a.csv has no end" in said(*first)
    path.write_bytes(whole)
    assert 3 in ids(*reads(source, first[-1].cursor))


# Which files were read -------------------------------------------------------------------


def test_a_file_that_was_read_is_not_opened_again(folder: Path) -> None:
    paths = [drop(folder, f"{day}", rows(day, day=day)) for day in range(3)]
    cursor = reads(parquet(folder))[-1].cursor
    for path in paths:
        seen = path.stat()
        path.write_bytes(b"x" * seen.st_size)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    idle = parquet(folder).read(cursor, now=NOW, every=DAY)
    assert idle.empty
    assert said(idle) == ""
    assert idle.cursor == cursor


def test_a_file_that_keeps_an_old_time_of_change_is_not_missed(folder: Path) -> None:
    drop(folder, "a", rows(1, day=1))
    cursor = reads(parquet(folder))[-1].cursor
    old = drop(folder, "0", rows(2, day=0))
    os.utime(old, (0, 0))
    moved = folder.with_name("moved")
    moved.mkdir()
    os.utime(drop(moved, "c", rows(3, day=0)), (0, 0))
    moved.rename(folder / "moved")
    assert sorted(ids(*reads(parquet(folder), cursor))) == [2, 3]


def test_a_file_written_again_is_read_again(folder: Path, tmp_path: Path) -> None:
    drop(folder, "a", rows(1, 2))
    first = reads(parquet(folder))
    drop(folder, "a", pl.concat([rows(1, 2), rows(3, day=1)]))
    then = reads(parquet(folder), first[-1].cursor)
    found = landed(tmp_path / "lake", *first, *then)
    assert sum(one.rows for one in found) == 3
    assert sum(one.corrections for one in found) == 0


def test_a_file_written_again_when_half_read_loses_nothing(folder: Path, tmp_path: Path) -> None:
    drop(folder, "a", pl.concat([rows(1), rows(2, day=4)]))
    first = parquet(folder).read(None, now=NOW, every=DAY)
    drop(folder, "a", pl.concat([rows(1, 5), rows(2, day=4), rows(3, day=5)]))
    then = reads(parquet(folder), first.cursor)
    assert sum(one.rows for one in landed(tmp_path / "lake", first, *then)) == 4


def test_a_file_that_cannot_be_read_for_a_while_is_gone_on_with(folder: Path) -> None:
    path = drop(folder, "a", pl.concat([rows(1), rows(2, day=4)]))
    first = parquet(folder).read(None, now=NOW, every=DAY)
    path.rename(folder.with_name("away"))
    drop(folder, "b", rows(3, day=2))
    then = parquet(folder).read(first.cursor, now=NOW, every=DAY)
    folder.with_name("away").rename(path)
    assert ids(first, then, *reads(parquet(folder), then.cursor)) == [1, 3, 2]


def test_rows_that_move_to_another_disk_with_their_times_are_not_read_again(folder: Path) -> None:
    (folder / "inner").mkdir()
    drop(folder / "inner", "a", rows(1))
    cursor = reads(parquet(folder))[-1].cursor
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    assert reads(parquet(other), cursor) == []
    assert reads(sources.Parquet(f"{other}/**/*.parquet", **ROLES), cursor) == []


# Cursors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cursor", ["", "gibberish", "3:4", "[]", '{"done":"x"}', '{"done":"x","origin":0}']
)
def test_a_cursor_that_is_not_understood_is_refused(folder: Path, cursor: str) -> None:
    drop(folder, "a", rows(1))
    single = parquet(folder)
    for source in (single, sources.WithLabels(single, parquet(folder))):
        with pytest.raises(ConfigError, match="expected a cursor of this source, got"):
            source.read(cursor, now=NOW, every=DAY)


def test_what_is_kept_of_a_cursor_does_not_grow_with_the_files(folder: Path) -> None:
    source = sources.Csv(folder, **ROLES)
    cursor, kept = None, []
    for day in range(400):
        rows(day, day=day).write_csv(folder / f"{day:04}.csv")
        batch = source.read(cursor, now=START + 500 * DAY, every=DAY)
        told = shortened(batch.cursor, cursor)
        assert restored(told, cursor) == batch.cursor
        cursor = batch.cursor
        kept.append(len(told))
    assert len(cursor) > 400 * 16
    assert max(kept[100:]) <= max(kept[:100])
    assert max(kept) < 300


def test_a_file_that_grows_for_long_does_not_lengthen_the_cursor(folder: Path) -> None:
    source = sources.Csv(folder / "a.csv", **ROLES)
    cursor, lengths = None, []
    for number in range(1, 200):
        rows(*range(number)).write_csv(folder / "a.csv")
        cursor = source.read(cursor, now=NOW, every=100 * DAY).cursor
        lengths.append(len(cursor))
    assert max(lengths) < 1_500


def test_a_cursor_is_restored_only_against_the_one_it_was_shortened_against() -> None:
    before, after = "a" * 400, "a" * 400 + "b"
    assert restored(shortened(after, before), before) == after
    with pytest.raises(SourceError, match="goes on from the batch before"):
        restored(shortened(after, before), "a" * 399)


@pytest.mark.parametrize("cursor", ["", "~", "~[1]", "line\n" * 200, "x" * 1_000])
@pytest.mark.parametrize("before", [None, "", "line\n" * 100, "x" * 500 + "\ny"])
def test_any_cursor_comes_back_as_it_was(cursor: str, before: str | None) -> None:
    assert restored(shortened(cursor, before), before) == cursor


class Killed(Exception):
    """The process is gone."""


class DyingLake:
    """A real lake whose process is killed as soon as a batch has landed."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def land(self, *given: Any, **options: Any) -> None:
        self.inner.land(*given, **options)
        raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_process_killed_between_landing_and_its_fact_is_gone_on_from(
    folder: Path, tmp_path: Path
) -> None:
    frame, kills = stream(24, 20), 0
    for day, part in enumerate(frame.iter_slices(20)):
        drop(folder, f"{day:02}", part)
    for _ in range(48):  # every other step ends the one that was cut short
        loop = live(pipeline(parquet(folder), tmp_path / "home", enough=10_000), NOW)
        loop.memory = replace(loop.memory, lake=DyingLake(loop.memory.lake))
        try:
            loop.step()
        except Killed:
            kills += 1
    assert kills == 24
    loop = live(pipeline(parquet(folder), tmp_path / "home", enough=10_000), NOW)
    play(loop, 2)
    arrived = [entry.fact for entry in loop.memory.ledger.facts("churn", kind="Arrived")]
    assert [fact.batch for fact in arrived] == list(range(1, 25))
    assert [(fact.rows, fact.duplicates) for fact in arrived] == [(20, 0)] * 24
    assert max(len(fact.cursor) for fact in arrived) < 300
    assert len(loop.state.cursor or "") > 24 * 16


# Labels from elsewhere -------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    made = tmp_path / "answers"
    made.mkdir()
    return made


def joined(folder: Path, answers: Path, **roles: Any) -> sources.WithLabels:
    given = {"id": "id", "time": "known", "label": "label"} | roles
    return sources.WithLabels(
        sources.Parquet(folder, id="id", time="time"), sources.Parquet(answers, **given)
    )


def answer(*ids: int, label: int = 1, day: int = 1) -> pl.DataFrame:
    return rows(*ids, day=day).select("id", known="time", label=pl.lit(label))


@pytest.mark.parametrize("first", ["rows", "labels"])
def test_labels_may_come_before_their_rows_or_after(
    folder: Path, answers: Path, tmp_path: Path, first: str
) -> None:
    parts = {
        "rows": lambda: drop(folder, "a", rows(1, 2).drop("label")),
        "labels": lambda: drop(answers, "a", answer(1, 2)),
    }
    parts.pop(first)()
    early = reads(joined(folder, answers))
    parts.popitem()[1]()
    late = reads(joined(folder, answers), early[-1].cursor)
    landed(tmp_path / "lake", *early, *late)
    known = Delta(tmp_path / "lake").labelled(as_of=NOW, until_batch=9)
    assert known.select("_id", "_label").rows() == [(1, 1), (2, 1)]


def test_a_label_that_comes_again_otherwise_corrects_the_one_before(
    folder: Path, answers: Path, tmp_path: Path
) -> None:
    drop(folder, "a", rows(1).drop("label"))
    drop(answers, "a", answer(1, label=1))
    first = reads(joined(folder, answers))
    drop(answers, "b", answer(1, label=0, day=3))
    then = reads(joined(folder, answers), first[-1].cursor, now=NOW + DAY)
    assert [one.corrections for one in landed(tmp_path / "lake", *first, *then)] == [0, 1]
    lake = Delta(tmp_path / "lake")
    found = lake.labelled(as_of=NOW + DAY, until_batch=9)
    assert found["_label"].to_list() == [0]
    assert lake.labelled(as_of=NOW, until_batch=9)["_label"].to_list() == [1]


def test_labels_from_elsewhere_are_known_at_their_own_time(folder: Path, answers: Path) -> None:
    drop(folder, "a", rows(1).drop("label"))
    drop(answers, "a", answer(1, day=7))
    source = joined(folder, answers, label_delay="3d")
    assert source.history().labels["_known_at"].to_list() == [START + 7 * DAY]
    assert source.history().labels["_time"].to_list() == [None]
    assert source.roles.label_delay == 3 * DAY
    assert labels(*reads(source, now=START + 6 * DAY)) == []


def test_a_source_that_lends_its_labels_stays_as_it_was_made(answers: Path, folder: Path) -> None:
    drop(answers, "a", answer(1, 2))
    own = sources.Parquet(answers, id="id", time="known", label="label", label_delay="3d")
    sources.WithLabels(sources.Parquet(folder, id="id", time="time"), own)
    assert ids(own.history()) == [1, 2]
    assert own.roles.label_delay == 3 * DAY


def test_what_is_kept_of_a_joined_cursor_does_not_grow(folder: Path, answers: Path) -> None:
    source, cursor, kept = joined(folder, answers), None, []
    for day in range(60):
        drop(folder, f"{day:02}", rows(day, day=day).drop("label"))
        drop(answers, f"{day:02}", answer(day, day=day))
        batch = source.read(cursor, now=START + 70 * DAY, every=DAY)
        kept.append(len(shortened(batch.cursor, cursor)))
        cursor = batch.cursor
    assert max(kept[20:]) <= max(kept[:20]) < 500


def test_a_label_is_known_when_its_column_says_and_not_before_it_came() -> None:
    frame = rows(1, 2).with_columns(
        pl.Series("known", [START + 5 * DAY, START + 50 * DAY], dtype=pl.Datetime("us", "UTC"))
    )
    source = sources.Frame(frame, **ROLES, known_at="known")
    assert source.history().labels["_known_at"].to_list() == [START + 5 * DAY, START + 50 * DAY]
    now = START + 10 * DAY
    batch = reads(source, now=now)[0]
    assert batch.labels["_known_at"].to_list() == [now, START + 50 * DAY]


# Tables in memory ------------------------------------------------------------------------


def test_polars_pandas_and_arrow_tables_give_the_same_batches() -> None:
    frame = stream(3, 40).with_columns(
        pl.when(pl.col("id") % 3 == 0).then(None).otherwise(pl.col("label")).alias("label")
    )
    plain = reads(sources.Frame(frame, **ROLES))
    for other in (frame.lazy(), frame.to_pandas(), frame.to_arrow()):
        batches = reads(sources.Frame(other, **ROLES))
        assert [b.rows.to_dicts() for b in batches] == [b.rows.to_dicts() for b in plain]
        assert labels(*batches) == labels(*plain)


def test_another_frame_of_the_same_height_is_read() -> None:
    first = reads(sources.Frame(rows(1, 2), **ROLES))
    assert reads(sources.Frame(rows(1, 2), **ROLES), first[-1].cursor) == []
    assert ids(*reads(sources.Frame(rows(3, 4), **ROLES), first[-1].cursor)) == [3, 4]


@pytest.mark.parametrize(
    "wrong", [{"time": None}, {"time": ""}, {"id": 3}, {"label": ""}, {"label_delay": "soon"}]
)
def test_what_is_written_wrongly_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a"):
        sources.Parquet("rows", **(ROLES | wrong))


@pytest.mark.parametrize("separator", ["", "::", "ß", None])
def test_a_separator_is_one_character(separator: Any) -> None:
    with pytest.raises(ConfigError, match="expected one ASCII character"):
        sources.Csv("rows.csv", **ROLES, separator=separator)


# Far ahead of the clock -----------------------------------------------------------------


def test_rows_of_a_far_future_wait_and_are_told_of(tmp_path: Path) -> None:
    rows(1, 2).write_parquet(tmp_path / "now.parquet")
    rows(3, 4, 5, day=3_000).write_parquet(tmp_path / "odd.parquet")
    source = sources.Parquet(tmp_path, **ROLES)
    (batch,) = reads(source)
    assert batch.rows.get_column("_id").to_list() == [1, 2]
    (found,) = batch.findings
    assert found.message == (
        "3 rows of odd.parquet are of a time far ahead of the clock, up to 2032-03-19: "
        "each is read when its time has come"
    )
    waiting = source.read(batch.cursor, now=NOW, every=DAY)
    assert waiting.empty
    assert waiting.findings == batch.findings
    later = source.read(batch.cursor, now=START + 3_001 * DAY, every=DAY)
    assert later.rows.get_column("_id").to_list() == [3, 4, 5]
    assert later.findings == ()


def test_rows_that_are_planned_wait_and_need_no_word(tmp_path: Path) -> None:
    rows(1, 2).write_parquet(tmp_path / "now.parquet")
    rows(3, day=110).write_parquet(tmp_path / "planned.parquet")
    (batch,) = reads(sources.Parquet(tmp_path, **ROLES))
    assert batch.findings == ()
