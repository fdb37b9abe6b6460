"""Every lake keeps the contract of its door: the one on disk, and the one over a history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.lakes import HOUR, hour, labels_of, said, some_batch

from keepfit.batch import ARRIVED_AT, BATCH, ID, LABEL, SCORE, TIME, VERSION, Batch
from keepfit.errors import ConfigError, VersionUnknown
from keepfit.lake import Delta, Lake, Replay

HISTORY = some_batch(
    # Row 2 is corrected in the third batch, row 4 arrives late, row 6 has no label.
    [(n, n, n, 10 * n) for n in (1, 2, 3, 5, 6)] + [(4, 4, 5.5, 40), (2, 2, 5.5, 22)],
    # Row 1 gets its label at once and another one later.
    [(1, 0, 1), (2, 1, 3), (3, 0, 4), (1, 1, 5), (4, 1, 6), (5, 0, 6)],
)
ENDS = (2, 4, 6)
"""When the three reads take place."""


@pytest.fixture
def batches() -> list[Batch]:
    """What a source over the history hands out."""
    source, cursor, found = Replay(HISTORY).source(), None, []
    for end in ENDS:
        batch = source.read(cursor, now=hour(end), every=HOUR)
        found.append(batch)
        cursor = batch.cursor
    return found


LAKES: dict[str, Callable[[Path], Lake]] = {
    "on disk": Delta,
    "over a history": lambda _: Replay(HISTORY).lake(),
}


@pytest.fixture(params=list(LAKES))
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return LAKES[request.param](tmp_path / "lake")


@pytest.fixture
def lake(empty: Lake, batches: list[Batch]) -> Lake:
    for number, batch in enumerate(batches, start=1):
        empty.land(batch, number)
    return empty


def everything(lake: Lake) -> list[Any]:
    """Return all that a lake says."""
    return [
        lake.last(),
        [lake.landed(n) for n in lake.batches()],
        [lake.batch(n).rows() for n in lake.batches()],
        [lake.scored(n, hour(at)).rows() for n in lake.batches() for at in range(8)],
        [lake.labelled(as_of=hour(at), until_batch=n).rows() for n in range(4) for at in range(8)],
    ]


def test_an_empty_lake_has_nothing(empty: Lake) -> None:
    assert (empty.last(), empty.batches(), empty.landed(1), empty.problems()) == (0, [], None, [])
    assert labels_of(empty, 9) == {}


def test_what_landed_is_described(lake: Lake, batches: list[Batch]) -> None:
    assert (lake.last(), lake.batches(), lake.problems()) == (3, [1, 2, 3], [])
    landed = [lake.landed(n) for n in (1, 2, 3)]
    assert lake.landed(4) is None
    assert all(one is not None for one in landed)
    told = [(one.rows, one.labels, one.corrections, one.late) for one in landed if one]
    assert told == [(2, 1, 0, 0), (1, 2, 0, 0), (4, 3, 2, 1)]
    assert [one.cursor for one in landed if one] == [batch.cursor for batch in batches]
    assert [one.watermark for one in landed if one] == [hour(end) for end in ENDS]
    assert [(one.from_, one.to) for one in landed if one][2] == (hour(2), hour(6))


def test_digests_are_of_the_content(lake: Lake, tmp_path: Path, batches: list[Batch]) -> None:
    other = Delta(tmp_path / "other")
    for number, batch in enumerate(batches, start=1):
        landed = lake.landed(number)
        assert landed is not None
        assert other.land(batch, number).digest == landed.digest
    digests = {landed.digest for n in lake.batches() if (landed := lake.landed(n))}
    assert len(digests) == 3


def test_the_same_number_again_changes_nothing(lake: Lake, batches: list[Batch]) -> None:
    before = everything(lake)
    for number, batch in enumerate(batches, start=1):
        assert lake.land(batch, number) == lake.landed(number)
    assert everything(lake) == before


def test_a_number_that_was_passed_over_is_refused(empty: Lake, batches: list[Batch]) -> None:
    empty.land(batches[0], 2)
    with pytest.raises(ConfigError, match="expected the batch after 2, got 1"):
        empty.land(batches[1], 1)
    assert empty.batches() == [2]


def test_a_batch_is_in_order_of_time_and_id(lake: Lake) -> None:
    for number in lake.batches():
        rows = lake.batch(number)
        assert rows.columns == [ID, TIME, ARRIVED_AT, BATCH, "x"]
        assert rows.rows() == rows.sort(TIME, ID).rows()
        assert rows.get_column(BATCH).unique().to_list() == [number]
    assert lake.batch(3).get_column(ID).to_list() == [2, 4, 5, 6]


def test_a_batch_that_never_landed_is_unknown(lake: Lake) -> None:
    for ask in (
        lambda: lake.batch(4),
        lambda: lake.scored(4, hour(9)),
        lambda: lake.predict_land(4, said([1])),
        lambda: lake.batch(0),
    ):
        with pytest.raises(VersionUnknown, match="no batch [04] has landed"):
            ask()


def test_labelled_rows_are_in_order_and_in_one_piece(lake: Lake) -> None:
    found = lake.labelled(as_of=hour(9), until_batch=3)
    assert found.columns == [ID, TIME, BATCH, LABEL, "x"]
    assert found.rows() == found.sort(TIME, ID).rows()
    assert found.n_chunks() == 1
    assert found.get_column(LABEL).null_count() == 0
    some = lake.labelled(as_of=hour(9), until_batch=3, excluded=[2], after=hour(1))
    assert some.n_chunks() == 1


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (0.9, {}),
        (1, {1: (10, 0)}),
        (2.9, {1: (10, 0)}),
        (3, {1: (10, 0), 2: (20, 1)}),
        (4, {1: (10, 0), 2: (20, 1), 3: (30, 0)}),
        (5, {1: (10, 1), 2: (20, 1), 3: (30, 0)}),
        (5.5, {1: (10, 1), 2: (22, 1), 3: (30, 0)}),
        (6, {1: (10, 1), 2: (22, 1), 3: (30, 0), 4: (40, 1), 5: (50, 0)}),
    ],
)
def test_everything_is_as_of_a_moment(
    lake: Lake, as_of: float, expected: dict[int, tuple[int, int]]
) -> None:
    assert labels_of(lake, as_of) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"until_batch": 0}, {}),
        ({"until_batch": 1}, {1: (10, 0)}),
        ({"until_batch": 2}, {1: (10, 0), 2: (20, 1), 3: (30, 0)}),
        ({"excluded": [1]}, {2: (22, 1), 3: (30, 0), 4: (40, 1), 5: (50, 0)}),
        ({"excluded": [2]}, {1: (10, 1), 4: (40, 1), 5: (50, 0)}),
        ({"excluded": [3]}, {1: (10, 0), 2: (20, 1), 3: (30, 0)}),
        ({"excluded": [1, 2, 3]}, {}),
        ({"after": hour(3)}, {4: (40, 1), 5: (50, 0)}),
        ({"before": hour(3)}, {1: (10, 1), 2: (22, 1), 3: (30, 0)}),
        ({"after": hour(1), "before": hour(2)}, {2: (22, 1)}),
        ({"after": hour(5)}, {}),
    ],
)
def test_batches_and_times_bound_what_is_labelled(
    lake: Lake, asked: dict[str, Any], expected: dict[int, tuple[int, int]]
) -> None:
    assert labels_of(lake, 9, **asked) == expected


def test_a_batch_is_scored_with_the_labels_known_then(lake: Lake) -> None:
    lake.predict_land(1, said([1, 2], "v1"))
    scored = [lake.scored(1, hour(at)) for at in (0, 1, 3, 5)]
    assert all(one.columns == [ID, TIME, VERSION, SCORE, LABEL] for one in scored)
    assert [one.get_column(LABEL).to_list() for one in scored] == [
        [None, None],
        [0, None],
        [0, 1],
        [1, 1],
    ]
    assert scored[0].select(ID, VERSION, SCORE).rows() == [(1, "v1", 0.0), (2, "v1", 0.1)]


def test_predictions_land_once(lake: Lake) -> None:
    lake.predict_land(3, said([]).cast({ID: pl.Int64, SCORE: pl.Float64}))
    assert lake.scored(3, hour(9)).get_column(VERSION).to_list() == [None] * 4
    lake.predict_land(3, said([4, 6], "v1"))
    lake.predict_land(3, said([2, 4, 5, 6], "v2"))
    assert lake.scored(3, hour(9)).get_column(VERSION).to_list() == [None, "v1", None, "v1"]
    assert lake.scored(2, hour(9)).get_column(VERSION).to_list() == [None]


def test_what_lands_later_changes_no_answer_about_before(empty: Lake, batches: list[Batch]) -> None:
    then = []
    for number, batch in enumerate(batches, start=1):
        empty.land(batch, number)
        then.append(empty.labelled(as_of=hour(ENDS[number - 1]), until_batch=number).rows())
    for number, rows in enumerate(then, start=1):
        assert empty.labelled(as_of=hour(ENDS[number - 1]), until_batch=number).rows() == rows
    assert [len(rows) for rows in then] == [1, 3, 5]


def test_both_lakes_say_the_same(tmp_path: Path, batches: list[Batch]) -> None:
    said_by = []
    for make in LAKES.values():
        lake = make(tmp_path / "lake")
        for number, batch in enumerate(batches, start=1):
            lake.land(batch, number)
            lake.predict_land(number, said(batch.rows.get_column(ID).to_list()))
        said_by.append(everything(lake))
    assert said_by[0] == said_by[1]
