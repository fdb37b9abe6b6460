"""A lake with a batch beside it answers as if the batch had landed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from keepfit.batch import ID, SCORE, VERSION
from keepfit.errors import SchemaMismatch
from keepfit.lake import Delta
from keepfit.lake.unlanded import Unlanded
from tests.lakes import hour, some_batch, some_labels, some_rows

FIRST = some_batch(
    [(1, 0, 0, 10), (2, 1, 1, 20), (3, 2, 2, 30)], [(1, 1, 0), (2, 0, 1)], cursor="a", watermark=2
)
SECOND = some_batch(
    [(5, 5, 5, 50), (4, 4, 4, 40), (6, 1.5, 5, 60)],
    [(4, 1, 5), (5, 0, 9), (3, 1, 5)],
    cursor="b",
    watermark=5,
)
SCORES = pl.DataFrame({ID: [4, 5, 6], VERSION: "v1", SCORE: [0.4, 0.5, 0.6]})


@pytest.fixture
def both(tmp_path: Path) -> tuple[Unlanded, Delta]:
    real, beside = Delta(str(tmp_path / "real")), Delta(str(tmp_path / "beside"))
    for lake in (real, beside):
        lake.land(FIRST, 1)
    ahead = Unlanded(beside)
    assert ahead.land(SECOND, 2) == real.land(SECOND, 2)
    return ahead, real


def test_what_is_told_of_batches_is_the_same(both: tuple[Unlanded, Delta]) -> None:
    ahead, real = both
    assert (ahead.last(), ahead.batches()) == (real.last(), real.batches())
    assert ahead.landed(2) == real.landed(2)
    assert ahead.landed(3) is None
    for number in (1, 2):
        assert_frame_equal(ahead.batch(number), real.batch(number))
    assert ahead.problems() == []


@pytest.mark.parametrize("as_of", [5, 10])
def test_labels_and_predictions_are_the_same(both: tuple[Unlanded, Delta], as_of: int) -> None:
    ahead, real = both
    for lake in both:
        lake.predict_land(2, SCORES)
    for number in (1, 2):
        assert_frame_equal(ahead.scored(number, hour(as_of)), real.scored(number, hour(as_of)))


@pytest.mark.parametrize("after", [None, 1.7, 4])
@pytest.mark.parametrize("excluded", [(), (2,)])
def test_labelled_rows_of_the_batch_are_the_same(
    both: tuple[Unlanded, Delta], after: float | None, excluded: tuple[int, ...]
) -> None:
    ahead, real = both
    bounds = {"as_of": hour(10), "until_batch": 2, "excluded": excluded}
    later = None if after is None else hour(after)
    own = real.labelled(**bounds, after=later)
    found = ahead.labelled(**bounds, after=later)
    assert_frame_equal(found, own)
    assert ahead.count_labelled(**bounds, after=later) == own.height
    between = {**bounds, "after": later, "before": hour(4)}
    assert_frame_equal(ahead.labelled(**between), real.labelled(**between))
    assert ahead.count_labelled(**between) == real.labelled(**between).height


@pytest.mark.parametrize("as_of", [4, 10])
@pytest.mark.parametrize("excluded", [(), (2,)])
def test_when_labels_became_known_is_the_same(
    both: tuple[Unlanded, Delta], as_of: int, excluded: tuple[int, ...]
) -> None:
    ahead, real = both
    asked: Any = {"as_of": hour(as_of), "until_batch": 2, "excluded": excluded}
    for after in (0, 2):
        found = ahead.labels(**asked, after=hour(after))
        assert found.height or (after and excluded)
        assert_frame_equal(found, real.labels(**asked, after=hour(after)))


def test_nothing_is_written(tmp_path: Path) -> None:
    lake = Delta(str(tmp_path / "lake"))
    ahead = Unlanded(lake)
    landed = ahead.land(SECOND, 1)
    ahead.predict_land(1, SCORES)
    assert (landed.rows, ahead.last(), lake.last()) == (3, 1, 0)
    assert not (tmp_path / "lake").exists()


def test_a_batch_that_strayed_says_how(tmp_path: Path) -> None:
    lake = Delta(str(tmp_path / "lake"))
    lake.land(FIRST, 1)
    rows = some_rows((7, 6, 6, "text"), kind=pl.String)
    landed = Unlanded(lake).land(some_batch(rows, some_labels(ids=pl.Int64, kind=pl.Int64)), 2)
    assert landed.retyped == {"x": "String"}
    ahead = Unlanded(lake)
    assert ahead.land(some_batch(rows.drop("x")), 2).lost == ("x",)
    assert ahead.batch(2).columns == lake.batch(1).columns


@pytest.mark.parametrize("as_of", [5, 10])
def test_ids_that_come_as_text_are_the_numbers_they_were(tmp_path: Path, as_of: int) -> None:
    text = replace(
        SECOND,
        rows=SECOND.rows.cast({ID: pl.String}),
        labels=SECOND.labels.cast({ID: pl.String}),
    )
    real, beside = Delta(str(tmp_path / "real")), Delta(str(tmp_path / "beside"))
    for lake in (real, beside):
        lake.land(FIRST, 1)
    ahead = Unlanded(beside)
    assert ahead.land(text, 2) == real.land(text, 2)
    asked: Any = {"as_of": hour(as_of), "until_batch": 2}
    assert_frame_equal(ahead.scored(2, hour(as_of)), real.scored(2, hour(as_of)))
    assert_frame_equal(ahead.labelled(**asked), real.labelled(**asked))
    assert ahead.count_labelled(**asked) == real.count_labelled(**asked)


def test_ids_that_are_no_numbers_are_refused_as_when_they_land(tmp_path: Path) -> None:
    words = replace(
        SECOND,
        rows=SECOND.rows.with_columns(pl.format("a{}", ID).alias(ID)),
        labels=SECOND.labels.with_columns(pl.format("a{}", ID).alias(ID)),
    )
    real, beside = Delta(str(tmp_path / "real")), Delta(str(tmp_path / "beside"))
    for lake in (real, beside):
        lake.land(FIRST, 1)
    for lake in (real, Unlanded(beside)):
        with pytest.raises(SchemaMismatch, match="expected ids of type Int64 as before"):
            lake.land(words, 2)
