"""The lake on disk: what lands once stays, and every answer is as of a moment."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from keepfit.batch import BATCH, ID, LABEL, SCORE, TIME, VERSION
from keepfit.errors import ConfigError, KeepfitError, LeaseLost, SchemaMismatch, VersionUnknown
from keepfit.lake import Delta, tables
from keepfit.lake.log import Log
from keepfit.lake.tables import Table
from tests.lakes import hour, labels_of, said, some_batch, some_labels, some_rows


@pytest.fixture
def lake(tmp_path: Path) -> Delta:
    return Delta(tmp_path / "lake")


def again(lake: Delta) -> Delta:
    """Return the lake as another process opens it."""
    return Delta(repr(lake).removeprefix("Delta('").removesuffix("')"))


def folder(lake: Delta) -> Path:
    return Path(repr(lake).removeprefix("Delta('").removesuffix("')"))


def commits(lake: Delta) -> dict[str, int]:
    """Return the newest commit of each table there is."""
    names = ("rows", "labels", "predictions")
    there = [name for name in names if (folder(lake) / name).exists()]
    return {name: DeltaTable(str(folder(lake) / name)).version() for name in there}


def answers(lake: Delta, numbers: int) -> list[Any]:
    """Return what a lake says to a round of questions."""
    asked = [{"until_batch": n, "excluded": [n - 1], "after": hour(n)} for n in range(numbers + 1)]
    return [
        lake.last(),
        lake.batches(),
        [lake.batch(n).rows() for n in lake.batches()],
        [lake.scored(n, hour(5)).rows() for n in lake.batches()],
        [lake.labelled(as_of=hour(5 + i), **one).rows() for i, one in enumerate(asked)],
        [lake.count_labelled(as_of=hour(5 + i), **one) for i, one in enumerate(asked)],
    ]


def filled(lake: Delta, upto: int, since: int = 1) -> Delta:
    """Land batches of three rows, each with labels of the batch before and a correction."""
    for n in range(since, upto + 1):
        rows = [(10 * n + i, n, n + 0.1, i) for i in range(3)]
        if n > 1:
            rows.append((10 * (n - 1), n - 1, n + 0.2, 100 + n))
        labels = [(10 * (n - 1) + i, i % 2, n + 0.3) for i in range(3)] if n > 1 else []
        lake.land(some_batch(rows, labels, cursor=str(n)), n)
        lake.predict_land(n, said([10 * n + i for i in range(3)]))
    return lake


# Landing ------------------------------------------------------------------------------------


def test_the_same_number_twice_lands_once(lake: Delta) -> None:
    batch = some_batch([(1, 0, 1, 5), (2, 1, 1, 6)], [(1, 0, 1)], cursor="a", watermark=1)
    first = lake.land(batch, 1)
    before = commits(lake)
    assert lake.land(batch, 1) == first
    assert again(lake).land(batch, 1) == first
    assert commits(lake) == before
    assert (first.rows, first.labels, first.cursor, first.watermark) == (2, 1, "a", hour(1))
    assert (first.from_, first.to) == (hour(0), hour(1))


def test_an_older_number_answers_with_what_landed_then_whatever_it_brings(lake: Delta) -> None:
    first = lake.land(some_batch([(1, 0, 1, 5)]), 1)
    lake.land(some_batch([(2, 1, 2, 5)]), 2)
    assert lake.land(some_batch([(9, 0, 1, 9)]), 1) == first
    assert lake.batch(1).get_column(ID).to_list() == [1]
    assert lake.last() == 2


def test_a_number_that_was_passed_over_is_refused(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    lake.land(some_batch([(2, 1, 2, 5)]), 3)
    with pytest.raises(ConfigError, match="batch after 3, got 2, which was passed over"):
        lake.land(some_batch([(3, 1, 2, 5)]), 2)
    assert lake.batches() == [1, 3]


def test_numbers_begin_at_one(lake: Delta) -> None:
    with pytest.raises(ConfigError, match="number of 1 or more, got 0"):
        lake.land(some_batch([(1, 0, 1, 5)]), 0)


def test_rows_the_lake_holds_already_are_counted_and_dropped(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5), (2, 0, 1, 6)]), 1)
    landed = lake.land(some_batch([(1, 0, 2, 5), (2, 0, 2, 7), (3, 0, 2, 8)]), 2)
    assert (landed.rows, landed.duplicates, landed.corrections) == (2, 1, 1)
    assert lake.batch(2).get_column(ID).to_list() == [2, 3]


def test_rows_older_than_the_watermark_before_are_late(lake: Delta) -> None:
    lake.land(some_batch([(1, 5, 5, 0)], watermark=5), 1)
    landed = lake.land(some_batch([(2, 4.9, 6, 0), (3, 5, 6, 0), (4, 6, 6, 0)], watermark=6), 2)
    assert landed.late == 1
    silent = lake.land(some_batch([(5, 5.5, 7, 0)]), 3)
    assert (silent.late, silent.watermark) == (1, hour(6))


def test_a_batch_of_labels_alone_lands(lake: Delta) -> None:
    landed = lake.land(some_batch([], [(1, 1, 1)]), 1)
    assert (landed.rows, landed.labels, landed.from_) == (0, 1, None)
    assert lake.batches() == [1]
    assert lake.batch(1).is_empty()
    assert again(lake).last() == 1


def test_sources_count_their_batches_apart(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    lake.land(some_batch([], [(1, 1, 2)], cursor="labels"), 2, source="labels")
    assert (lake.last(), lake.last(source="labels")) == (1, 2)
    landed = again(lake).landed(2, source="labels")
    assert landed is not None
    assert landed.cursor == "labels"
    assert lake.landed(2) is None


def test_a_lake_nobody_landed_in_is_empty(lake: Delta) -> None:
    assert (lake.last(), lake.batches(), lake.landed(1), lake.problems()) == (0, [], None, [])
    assert labels_of(lake, 9) == {}
    with pytest.raises(VersionUnknown, match="no batch 1 has landed"):
        lake.batch(1)


# As of a moment -----------------------------------------------------------------------------


def test_a_label_waits_for_its_row_and_a_row_for_its_label(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(2, 1, 1)]), 1)
    assert labels_of(lake, 9) == {}
    lake.land(some_batch([(2, 0, 2, 6)], [(1, 0, 2)]), 2)
    assert labels_of(lake, 9) == {1: (5, 0), 2: (6, 1)}
    assert labels_of(again(lake), 9) == {1: (5, 0), 2: (6, 1)}


def test_a_label_that_came_alone_gets_the_event_time_of_its_row(lake: Delta) -> None:
    lake.land(some_batch([(1, 0.5, 1, 5)]), 1)
    lake.land(some_batch([], [(1, 1, 2), (7, 1, 2)]), 2)
    kept = DeltaTable(str(folder(lake) / "labels")).to_pyarrow_table()
    found = dict(pl.DataFrame(kept).select(ID, TIME).rows())
    assert found == {1: hour(0.5), 7: None}


def test_a_corrected_label_counts_from_when_it_was_known(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    landed = lake.land(some_batch([], [(1, 1, 2)]), 2)
    assert (landed.labels, landed.corrections) == (1, 1)
    assert labels_of(lake, 1.9) == {1: (5, 0)}
    assert labels_of(lake, 2) == {1: (5, 1)}
    assert labels_of(lake, 9, until_batch=1) == {1: (5, 0)}
    assert labels_of(lake, 9, excluded=[2]) == {1: (5, 0)}


def test_a_label_that_says_the_same_again_is_dropped(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    landed = lake.land(some_batch([], [(1, 0, 2)]), 2)
    assert (landed.labels, landed.corrections) == (0, 0)
    back = lake.land(some_batch([], [(1, 1, 3), (1, 0, 4)]), 3)
    assert (back.labels, back.corrections) == (2, 2)
    assert [labels_of(lake, at)[1][1] for at in (2, 3, 4)] == [0, 1, 0]


def test_corrected_features_count_from_when_they_arrived(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    landed = lake.land(some_batch([(1, 0, 2, 50)]), 2)
    assert (landed.rows, landed.corrections) == (1, 1)
    assert labels_of(lake, 1.9) == {1: (5, 0)}
    assert labels_of(lake, 2) == {1: (50, 0)}
    assert [lake.batch(n).get_column("x").item() for n in (1, 2)] == [5, 50]


def test_a_correction_can_move_a_row_in_time(lake: Delta) -> None:
    lake.land(some_batch([(1, 1, 2, 5), (2, 3, 3, 6)], [(1, 0, 2), (2, 0, 3)]), 1)
    lake.land(some_batch([(1, 8, 9, 5)]), 2)
    assert set(labels_of(lake, 8, after=hour(2))) == {2}
    assert set(labels_of(lake, 9, after=hour(2))) == {1, 2}
    assert set(labels_of(lake, 9, after=hour(5))) == {1}
    assert set(labels_of(lake, 9, after=hour(5), excluded=[2])) == set()


def test_of_batches_in_quarantine_neither_rows_nor_labels_count(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5), (2, 0, 1, 5)], [(1, 0, 1)]), 1)
    lake.land(some_batch([(1, 0, 2, 50)], [(2, 1, 2)]), 2)
    assert labels_of(lake, 9) == {1: (50, 0), 2: (5, 1)}
    assert labels_of(lake, 9, excluded=[2]) == {1: (5, 0)}
    assert labels_of(lake, 9, excluded=[1]) == {}
    assert labels_of(lake, 9, excluded=[1, 2]) == {}


def test_a_label_that_is_repeated_with_its_row_survives_the_quarantine_of_the_first(
    lake: Delta,
) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    lake.land(some_batch([(1, 0, 2, 6)], [(1, 0, 2)]), 2)
    assert labels_of(lake, 9, excluded=[1]) == {1: (6, 0)}


@pytest.mark.parametrize(("as_of", "there"), [(1.999, False), (2.0, True), (2.001, True)])
def test_a_moment_holds_what_was_known_or_had_arrived_at_it(
    tmp_path: Path, as_of: float, there: bool
) -> None:
    for name, arrived, known in (("known", 1, 2), ("arrived", 2, 1), ("both", 2, 2)):
        lake = Delta(tmp_path / name)
        lake.land(some_batch([(1, 0, arrived, 5)], [(1, 0, known)]), 1)
        assert bool(labels_of(lake, as_of)) is there
        label = lake.scored(1, hour(as_of)).get_column(LABEL).item()
        assert (label is not None) is (as_of >= known)


def test_bounds_of_event_time_leave_out_the_first_and_hold_the_last(lake: Delta) -> None:
    lake.land(some_batch([(n, n, 9, 0) for n in range(5)], [(n, 0, 9) for n in range(5)]), 1)
    assert set(labels_of(lake, 9, after=hour(1))) == {2, 3, 4}
    assert set(labels_of(lake, 9, after=hour(1), before=hour(3))) == {2, 3}
    assert set(labels_of(lake, 9, after=hour(4))) == set()
    assert set(labels_of(lake, 9, after=hour(0))) == {1, 2, 3, 4}
    assert set(labels_of(lake, 9, after=hour(3), before=hour(1))) == set()


# Types --------------------------------------------------------------------------------------


def test_a_new_column_is_missing_in_older_rows_on_disk_and_in_memory(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    rows = some_rows((2, 1, 2, 6)).with_columns(pl.lit("a").alias("kind"))
    lake.land(some_batch(rows, some_labels((2, 1, 2))), 2)
    for one in (lake, again(lake)):
        assert one.batch(1).select("x", "kind").rows() == [(5, None)]
        found = one.labelled(as_of=hour(9), until_batch=2)
        assert found.select(ID, "x", "kind").rows() == [(1, 5, None), (2, 6, "a")]
    assert lake.batch(1).schema == again(lake).batch(1).schema


def test_a_column_that_went_away_is_missing_in_newer_rows(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    lake.land(some_batch(some_rows((2, 1, 2, 6)).drop("x")), 2)
    for one in (lake, again(lake)):
        assert one.batch(2).get_column("x").to_list() == [None]


def test_a_column_without_any_value_is_kept_until_it_has_one(lake: Delta) -> None:
    void = some_rows((1, 0, 1, 5)).with_columns(pl.lit(None).alias("note"))
    lake.land(some_batch(void), 1)
    for one in (lake, again(lake)):
        assert one.batch(1).schema["note"] == pl.Null
    lake.land(some_batch(some_rows((2, 1, 2, 6)).with_columns(note=pl.lit("a"))), 2)
    for one in (lake, again(lake)):
        assert one.batch(1).schema["note"] == pl.String
        assert [one.batch(n).get_column("note").item() for n in (1, 2)] == [None, "a"]


def test_whole_numbers_that_turn_into_fractions_widen_their_column(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)], [(1, 0, 1)]), 1)
    assert lake.batch(1).schema["x"] == pl.Int64
    lake.land(some_batch(some_rows((2, 1, 2, 3.0)), some_labels((2, 1, 2))), 2)
    assert lake.batch(2).schema["x"] == pl.Int64
    lake.land(some_batch(some_rows((3, 2, 3, 2.5)), some_labels((3, 1, 3))), 3)
    for one in (lake, again(lake)):
        assert [one.batch(n).get_column("x").item() for n in (1, 2, 3)] == [5.0, 3.0, 2.5]
        assert labels_of(one, 9) == {1: (5.0, 0), 2: (3.0, 1), 3: (2.5, 1)}
        assert one.land(some_batch([(1, 0, 9, 5)]), 1).rows == 1
        assert one.problems() == []


def test_a_row_is_the_same_when_its_numbers_come_in_another_type(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    landed = lake.land(some_batch(some_rows((1, 0, 2, 5.0))), 2)
    assert (landed.duplicates, landed.corrections) == (1, 0)


def test_text_in_a_column_of_numbers_is_missing(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    lake.land(some_batch(some_rows((2, 1, 2, "7"), (3, 1, 2, "?"))), 2)
    assert lake.batch(2).get_column("x").to_list() == [7, None]


def test_ids_may_be_any_text(lake: Delta) -> None:
    ids = ["a", "", "ä ö", "1", '{"a": [1]}', "'; drop table rows --", "\x1f", "🦉"]
    rows = some_rows(*((one, n, n, n) for n, one in enumerate(ids)))
    lake.land(some_batch(rows, some_labels(*((one, 1, 9) for one in ids))), 1)
    assert lake.land(some_batch(rows), 2).duplicates == len(ids)
    assert labels_of(again(lake), 9) == {one: (n, 1) for n, one in enumerate(ids)}


def test_ids_that_change_their_type_are_refused(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    assert lake.land(some_batch(some_rows(("2", 1, 2, 6))), 2).rows == 1
    with pytest.raises(SchemaMismatch, match="expected ids of type Int64 as before, got String"):
        lake.land(some_batch(some_rows(("x", 1, 2, 6))), 3)
    assert lake.last() == 2


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [("X", [1], "differ in more than case"), ("y", [object()], "which cannot be kept")],
)
def test_columns_that_cannot_be_kept_are_refused_before_anything_is_written(
    lake: Delta, name: str, values: list[Any], words: str
) -> None:
    rows = some_rows((1, 0, 1, 5)).with_columns(pl.Series(name, values))
    with pytest.raises(SchemaMismatch, match=words):
        lake.land(some_batch(rows, some_labels((1, 0, 1))), 1)
    assert not folder(lake).exists() or commits(lake) == {}


@pytest.mark.parametrize("label", [1, 0.5, "yes", True])
def test_labels_keep_their_type(lake: Delta, label: Any) -> None:
    lake.land(some_batch(some_rows((1, 0, 1, 5)), some_labels((1, label, 1))), 1)
    for one in (lake, again(lake)):
        assert labels_of(one, 9) == {1: (5, label)}
        found = one.scored(1, hour(9)).get_column(LABEL).item()
        assert (found, type(found)) == (label, type(label))


# Predictions --------------------------------------------------------------------------------


def test_predictions_land_once(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5), (2, 1, 1, 6)], [(2, 1, 2)]), 1)
    assert lake.scored(1, hour(9)).select(VERSION, SCORE).rows() == [(None, None)] * 2
    lake.predict_land(1, said([1, 2], "v1"))
    before = commits(lake)
    lake.predict_land(1, said([1, 2], "v2", [0.9, 0.9]))
    again(lake).predict_land(1, said([1, 2], "v3", [0.9, 0.9]))
    assert commits(lake) == before
    for one in (lake, again(lake)):
        scored = one.scored(1, hour(9))
        assert scored.columns == [ID, TIME, VERSION, SCORE, LABEL]
        assert scored.drop(TIME).rows() == [(1, "v1", 0.0, None), (2, "v1", 0.1, 1)]
        assert one.scored(1, hour(1)).get_column(LABEL).to_list() == [None, None]


def test_predictions_of_an_older_batch_may_land_after_those_of_a_newer(lake: Delta) -> None:
    filled(lake, 1)
    lake.land(some_batch([(50, 2, 2, 0)]), 2)
    lake.land(some_batch([(60, 3, 3, 0)]), 3)
    lake.predict_land(3, said([60], "v3"))
    lake.predict_land(2, said([50], "v2"))
    for one in (lake, again(lake)):
        one.predict_land(2, said([50], "v9"))
        found = [one.scored(n, hour(9)).get_column(VERSION).item() for n in (2, 3)]
        assert found == ["v2", "v3"]


def test_what_has_just_landed_is_asked_for_without_reading_it_back(
    lake: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(lake, 4)
    answers(lake, 4)
    read: list[Any] = []
    scan = pl.scan_parquet
    monkeypatch.setattr(pl, "scan_parquet", lambda *a, **b: read.append(a) or scan(*a, **b))
    filled(lake, 5, since=5)
    lake.labelled(as_of=hour(9), until_batch=5)
    lake.count_labelled(as_of=hour(9), until_batch=5, after=hour(1))
    lake.scored(5, hour(9))
    assert read == []
    again(lake).batch(5)
    assert read
    # What is large is read again, and stands in the way of nothing.
    monkeypatch.setattr(tables, "HELD_BYTES", 0)
    filled(lake, 6, since=6)
    read.clear()
    lake.labelled(as_of=hour(9), until_batch=6)
    assert read
    assert answers(lake, 6) == answers(again(lake), 6)


def test_what_is_held_is_what_was_written(lake: Delta) -> None:
    """Whatever was held is read from the files where others have written, or a column came."""
    for n in range(1, 9):
        # Another process has landed every third batch, and nothing was said of the one before.
        by = again(lake) if n % 3 == 0 else lake
        rows = [(10 * n + i, n, n + 0.1, i) for i in range(3)]
        batch = some_batch(rows, [(10 * n, 1, n + 0.3)], cursor=str(n))
        if n > 4:
            batch = replace(batch, rows=batch.rows.with_columns(new=pl.lit(0.5)))
        by.land(batch, n)
        if n % 3 == 2:
            by.predict_land(n, said([10 * n]))
            by.predict_land(n - 1, said([10 * n - 10]))
        assert answers(lake, n) == answers(again(lake), n)


def test_predictions_of_several_classes_come_back_as_they_were(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5), (2, 1, 1, 6)]), 1)
    scores = [[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]]
    lake.predict_land(1, said([1, 2], scores=scores))
    for one in (lake, again(lake)):
        assert one.scored(1, hour(9)).get_column(SCORE).to_list() == scores


def test_rows_without_a_prediction_have_none(lake: Delta) -> None:
    lake.land(some_batch([(1, 0, 1, 5), (2, 1, 1, 6)]), 1)
    lake.predict_land(1, said([2]))
    for one in (lake, again(lake)):
        assert one.scored(1, hour(9)).get_column(VERSION).to_list() == [None, "v1"]


# The index, the log and other processes -----------------------------------------------------


@pytest.fixture
def compacting(monkeypatch: pytest.MonkeyPatch) -> int:
    """Compact often, so that few batches show what many do."""
    monkeypatch.setattr(tables, "COMPACT_EVERY", 5)
    monkeypatch.setattr(tables, "LARGE_EVERY", 2)
    return 5


def test_compaction_changes_no_answer(tmp_path: Path, compacting: int) -> None:
    filled(often := Delta(tmp_path / "often"), 3 * compacting)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "COMPACT_EVERY", 10**6)
        filled(seldom := Delta(tmp_path / "seldom"), 3 * compacting)
    assert answers(often, 12) == answers(seldom, 12)
    assert answers(again(often), 12) == answers(seldom, 12)
    files = [len(DeltaTable(str(folder(one) / "rows")).file_uris()) for one in (often, seldom)]
    assert files[0] < files[1] == 3 * compacting
    assert often.problems() == []


def test_the_log_does_not_grow_with_history(lake: Delta, compacting: int) -> None:
    filled(lake, 8 * compacting)
    for name, newest in commits(lake).items():
        log = [one for one in os.listdir(folder(lake) / name / "_delta_log") if one[0].isdigit()]
        assert newest > 8 * compacting - 5
        assert len(log) <= 3 * compacting


def test_a_handle_that_slept_through_compactions_wakes_up(lake: Delta, compacting: int) -> None:
    filled(lake, 3)
    asleep = again(lake)
    assert asleep.last() == 3
    filled(lake, 6 * compacting, since=4)
    assert answers(asleep, 9) == answers(again(lake), 9)
    filled(asleep, 6 * compacting + 1, since=6 * compacting + 1)
    assert lake.last() == 6 * compacting + 1
    assert answers(lake, 9) == answers(again(lake), 9)


@pytest.mark.parametrize("damage", ["deleted", "torn", "empty", "older format"])
def test_an_index_that_is_gone_or_broken_is_built_again(
    tmp_path: Path, compacting: int, damage: str
) -> None:
    last = 2 * compacting + 3
    first = filled(Delta(tmp_path), last)
    before, newest = answers(first, 9), first.landed(last)
    del first
    gc.collect()  # and with it the connection
    damaged(tmp_path / "index.db", damage)
    fresh = Delta(tmp_path)
    assert answers(fresh, 9) == before
    assert fresh.landed(last) == newest
    assert fresh.land(some_batch([(10, 1, 50, 102)], [(10, 0, 50)]), 20).duplicates == 1


def damaged(index: Path, how: str) -> None:
    if how == "older format":
        with closing(sqlite3.connect(index)) as connection:
            connection.execute("PRAGMA user_version = 99")
    elif how == "deleted":
        index.unlink()
    else:
        index.write_bytes(b"" if how == "empty" else b"no database" * 1000)


def test_an_index_is_built_again_of_a_lake_without_labels(tmp_path: Path) -> None:
    Delta(tmp_path).land(some_batch([(1, 0, 1, 5)]), 1)
    (tmp_path / "index.db").unlink()
    assert Delta(tmp_path).land(some_batch([(1, 0, 2, 5)]), 2).duplicates == 1


def test_what_the_log_forgot_is_said_when_the_index_is_lost(
    lake: Delta, tmp_path: Path, compacting: int
) -> None:
    filled(lake, 6 * compacting)
    fresh = Delta(folder(lake), index=tmp_path / "other.db")
    assert fresh.land(some_batch(), 6 * compacting + 1).rows == 0
    with pytest.raises(ConfigError, match="landed so long ago that the log no longer describes"):
        fresh.land(some_batch([(9, 9, 9, 9)]), 1)
    assert fresh.batches() == list(range(1, 6 * compacting + 2))


def test_labels_that_landed_without_rows_are_caught_up_with(lake: Delta, tmp_path: Path) -> None:
    lake.land(some_batch([(1, 0, 1, 5)]), 1)
    asleep = Delta(folder(lake), index=tmp_path / "asleep.db")
    assert labels_of(asleep, 9) == {}
    lake.land(some_batch([], [(1, 1, 2)]), 2)
    for one in (asleep, Delta(folder(lake), index=tmp_path / "new.db")):
        assert labels_of(one, 9) == {1: (5, 1)}
        assert one.scored(1, hour(9)).get_column(LABEL).to_list() == [1]
        assert one.problems() == []


def test_a_batch_without_rows_is_remembered_when_log_and_index_are_lost(
    lake: Delta, tmp_path: Path, compacting: int
) -> None:
    filled(lake, 1)
    lake.land(some_batch([], [(10, 1, 2)]), 2)
    filled(lake, 6 * compacting, since=4)
    fresh = Delta(folder(lake), index=tmp_path / "other.db")
    assert fresh.batch(2).is_empty()
    assert fresh.batches() == lake.batches() == [1, 2, *range(4, 6 * compacting + 1)]
    with pytest.raises(VersionUnknown, match="no batch 3"):
        fresh.batch(3)


def test_an_index_ahead_of_its_tables_forgets_what_they_do_not_hold(
    lake: Delta, tmp_path: Path
) -> None:
    filled(lake, 2)
    early = answers(lake, 4)
    shutil.copytree(folder(lake), tmp_path / "backup", ignore=shutil.ignore_patterns("index.db*"))
    filled(lake, 5, since=3)
    for name in ("rows", "labels", "predictions"):
        shutil.rmtree(folder(lake) / name)
        shutil.copytree(tmp_path / "backup" / name, folder(lake) / name)
    fresh = again(lake)
    assert answers(fresh, 4) == early
    assert fresh.land(some_batch([(30, 3, 4, 0)]), 3).rows == 1


def test_an_index_of_other_tables_is_not_believed(tmp_path: Path) -> None:
    index = tmp_path / "index.db"
    filled(Delta(tmp_path / "one", index=index), 3)
    other = Delta(tmp_path / "two", index=index)
    assert other.batches() == []
    assert other.land(some_batch([(10, 1, 1.1, 0)]), 1).rows == 1


def test_two_handles_land_in_turn_and_see_each_other(lake: Delta) -> None:
    other = again(lake)
    for n in range(1, 7):
        filled(lake if n % 2 else other, n, since=n)
        assert lake.last() == other.last() == n
        assert lake.landed(n) == other.landed(n)
    assert answers(lake, 6) == answers(other, 6) == answers(again(lake), 6)


def test_a_batch_another_process_landed_meanwhile_is_not_landed_again(lake: Delta) -> None:
    filled(lake, 1)
    other = again(lake)
    assert other.last() == 1
    batch = some_batch([(77, 2, 2, 0)])
    assert other.land(batch, 2) == lake.land(batch, 2)
    assert labels_of(lake, 9) == labels_of(other, 9)


def one_table(tmp_path: Path) -> Table:
    table = Table(str(tmp_path / "rows"), {}, (BATCH, TIME))
    table.refresh()
    return table


def commit(table: Table, number: int) -> None:
    rows = some_rows((number, number, number, 0)).with_columns(
        pl.lit(number, pl.Int64).alias(BATCH)
    )
    table.append(rows, app="rows", number=number, note={})
    table.compact(dict)


def test_of_two_that_commit_the_same_number_one_loses(tmp_path: Path) -> None:
    commit(first := one_table(tmp_path), 1)
    second = one_table(tmp_path)
    commit(second, 2)
    with pytest.raises(LeaseLost, match="another process wrote"):
        commit(first, 2)
    first.refresh()
    assert first.number("rows") == 2
    assert first.collect(first.scan()).height == 2


def test_a_commit_beyond_which_the_log_was_trimmed_is_lost_and_said_so(
    tmp_path: Path, compacting: int
) -> None:
    commit(first := one_table(tmp_path), 1)
    second = one_table(tmp_path)
    for n in range(2, 4 * compacting):
        commit(second, n)
    with pytest.raises(LeaseLost, match="another process wrote"):
        commit(first, 2)
    first.refresh()
    assert first.number("rows") == 4 * compacting - 1
    assert first.collect(first.scan()).get_column(ID).is_duplicated().sum() == 0


def test_a_log_ends_where_no_commit_follows(tmp_path: Path) -> None:
    commit(table := one_table(tmp_path), 1)
    log = Log(str(tmp_path / "rows"))
    assert log.ends_at(table.version)
    assert not log.ends_at(table.version + 1)
    commit(table, 2)
    assert not log.ends_at(table.version - 1)
    assert log.ends_at(table.version)


# What goes wrong ----------------------------------------------------------------------------


class DiesBeforeRows(Delta):
    def _commit_rows(self, *args: Any) -> None:
        raise KeyboardInterrupt


class DiesBeforeIndex(Delta):
    def _keep_in_index(self, *args: Any) -> None:
        raise KeyboardInterrupt


def test_a_landing_cut_short_between_labels_and_rows_is_completed(tmp_path: Path) -> None:
    filled(Delta(tmp_path / "lake"), 1)
    batch = some_batch([(20, 2, 2.1, 0)], [(10, 1, 2.2), (11, 0, 2.2)])
    with pytest.raises(KeyboardInterrupt):
        DiesBeforeRows(tmp_path / "lake").land(batch, 2)
    lake = Delta(tmp_path / "lake")
    assert lake.last() == 1
    assert "batch 2 has landed its labels and not its rows" in lake.problems()[0]
    assert labels_of(lake, 9) == {}
    assert lake.scored(1, hour(9)).get_column(LABEL).null_count() == 3
    more = some_batch([(20, 2, 2.1, 0)], [(10, 1, 2.2), (11, 0, 2.2), (12, 1, 2.3)])
    landed = lake.land(more, 2)
    assert (landed.rows, landed.labels, landed.corrections) == (1, 3, 0)
    assert lake.problems() == []
    kept = pl.DataFrame(DeltaTable(str(tmp_path / "lake" / "labels")).to_pyarrow_table())
    assert sorted(kept.get_column(ID)) == [10, 11, 12]


def test_a_landing_cut_short_before_the_index_has_landed(tmp_path: Path) -> None:
    filled(Delta(tmp_path / "lake"), 1)
    with pytest.raises(KeyboardInterrupt):
        DiesBeforeIndex(tmp_path / "lake").land(
            some_batch([(20, 2, 2.1, 0)], [(10, 1, 2.2)], cursor="2"), 2
        )
    lake = Delta(tmp_path / "lake")
    before = commits(lake)
    landed = lake.land(some_batch([(20, 2, 2.1, 0), (21, 2, 2.1, 0)], cursor="later"), 2)
    assert (landed.rows, landed.cursor) == (1, "2")
    assert commits(lake) == before
    assert labels_of(lake, 9) == {10: (0, 1)}


def test_a_data_file_that_is_gone_is_a_problem_and_an_error_that_says_which(lake: Delta) -> None:
    filled(lake, 2)
    gone = next((folder(lake) / "rows").glob("*.parquet"))
    gone.unlink()
    fresh = again(lake)
    assert fresh.problems() == [
        f"{folder(lake)}/rows: 1 data files are gone, such as {folder(lake)}/rows/{gone.name}"
    ]
    with pytest.raises(KeepfitError, match="cannot read .*/rows"):
        fresh.labelled(as_of=hour(9), until_batch=2)


def test_a_path_that_is_a_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(KeepfitError, match="cannot .* the lake|cannot .*lake") as caught:
        Delta(tmp_path / "lake").land(some_batch([(1, 0, 1, 5)]), 1)
    assert caught.value.hint


CHILD = """
import os, resource, signal, sys, tempfile
from tests.lakes import some_batch
from keepfit.errors import KeepfitError
from keepfit.lake import Delta

how, path = sys.argv[1:]
n = 20_000 if how == "full" else 1
batch = some_batch([(i, 2, 2, i * 7919 % 20_011) for i in range(n)], [(1, 0, 2)])
with tempfile.TemporaryDirectory() as folder:
    Delta(folder).land(batch, 1)  # whoever may read less can import less
if how == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
elif os.geteuid() == 0:
    os.setuid(65534)
try:
    Delta(path).land(batch, 2)
except KeepfitError as error:
    print(error.message)
    print(error.hint)
else:
    print("landed")
"""


def in_a_child(how: str, lake: Delta) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how, str(folder(lake))],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="limits and rights are those of POSIX")
@pytest.mark.parametrize(
    ("how", "hint"), [("full", "the disk is full"), ("read-only", "this user .* write there")]
)
def test_a_disk_that_takes_nothing_is_said_and_loses_nothing(how: str, hint: str) -> None:
    with TemporaryDirectory() as home:  # pytest's own folders are closed to all but one user
        os.chmod(home, 0o755)
        lake = filled(Delta(f"{home}/lake"), 1)
        before = answers(lake, 3)
        with closed(folder(lake)) if how == "read-only" else nullcontext():
            message, found = in_a_child(how, lake)
        assert message.startswith("cannot ")
        assert re.search(hint, found)
        assert answers(again(lake), 3) == before
        assert again(lake).land(some_batch([(20, 2, 2, 0)], [(10, 1, 2)]), 2).rows == 1


@contextmanager
def closed(top: Path) -> Iterator[None]:
    """Let nobody write into a folder."""
    rights = {path: path.stat().st_mode for path in (top, *top.rglob("*"))}
    for path, mode in rights.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in rights.items():
            path.chmod(mode)
