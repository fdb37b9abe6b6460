"""What the server took becomes rows, labels and predictions of the lake, each once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.facts import Arrived, Found, Scored
from keepfit.journal import ANSWER, LABEL, ROW, Journal, New
from keepfit.landing import Place, served
from keepfit.landing.values import as_stored, plain
from tests.servers import World, labels, micro, sent
from tests.worlds import DAY, pipeline, stream


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.steps()
    return world


def new_rows(world: World, first: int = 1_000, count: int = 60) -> pl.DataFrame:
    return world.frame.slice(first, count)


def test_rows_that_were_served_land_with_what_they_were_answered(world: World) -> None:
    now = world.clock.now()
    rows = new_rows(world)
    scores = [i / 100 for i in range(rows.height)]
    world.write(sent(rows, "v1", scores, now))
    world.clock.sleep(timedelta(hours=1))
    arrived = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert [(fact.rows, fact.labels) for fact in arrived] == [(60, 0)]
    number = arrived[0].batch
    landed = world.loop.memory.lake.batch(number)
    assert landed.get_column("x").to_list() == rows.get_column("x").to_list()
    assert landed.get_column("_time")[0] == now
    kept = world.loop.memory.lake.scored(number, world.clock.now())
    assert kept.get_column("_score").to_list() == scores
    assert kept.get_column("_version").unique().to_list() == ["v1"]


def test_labels_that_come_late_score_what_was_served(world: World) -> None:
    now = world.clock.now()
    rows = new_rows(world)
    world.write(sent(rows, "v1", [0.9] * 30 + [0.1] * 30, now))
    world.steps()
    ids = rows.get_column("id").to_list()
    world.write([*labels(ids[:30], 1, now + DAY), *labels(ids[30:], 0, now + DAY)])
    world.clock.sleep(2 * DAY)
    scored = [fact for fact in world.steps() if isinstance(fact, Scored) and fact.n == 60]
    assert [(fact.version, fact.value) for fact in scored] == [("v1", 1.0)]


def test_a_new_process_lands_nothing_twice_and_forgets_nothing(world: World) -> None:
    now = world.clock.now()
    rows = new_rows(world)
    entries = sent(rows, "v1", [0.5] * 60, now)
    world.write(entries[:25])
    world.clock.sleep(timedelta(hours=1))
    world.steps()
    world.write([*entries[25:], *labels([1_000, 5], 1, now)])
    world.loop = world.opened()
    world.steps()
    world.loop = world.opened()
    assert world.steps() == []
    ids = world.lake().get_column("_id")
    assert ids.n_unique() == ids.len() == 1_060


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_row_that_is_sent_again_after_it_landed_is_the_same_row(
    world: World, version: str
) -> None:
    now = world.clock.now()
    rows = new_rows(world)
    world.write(sent(rows, "v1", [0.5] * 60, now))
    world.clock.sleep(timedelta(hours=1))
    world.steps()
    for _ in range(2):
        again = sent(rows.select(rows.columns[::-1]), version, [0.7] * 60, world.clock.now())
        world.write(again + again[:9])
        world.clock.sleep(timedelta(hours=1))
        (arrived,) = [fact for fact in world.steps() if isinstance(fact, Arrived)]
        assert (arrived.rows, arrived.duplicates, arrived.corrections) == (0, 60, 0)
    lake, at = world.loop.memory.lake, world.clock.now()
    kept = pl.concat([lake.scored(one, at) for one in lake.batches()], how="diagonal_relaxed")
    assert kept.get_column("_id").n_unique() == kept.height == 1_060
    served = kept.filter(pl.col("_id") >= 1_000).sort("_id")
    assert served.get_column("_score").to_list() == [0.5] * 60
    assert served.get_column("_time")[0] == now


def test_a_row_that_is_sent_again_with_its_label_or_another_value_says_so(world: World) -> None:
    row = {"x": 0.5, "y": 0.5, "kind": "a"}
    found = []
    for told in (row, row | {"label": 1}, row | {"x": 0.75}):
        at = micro(world.clock.now())
        world.write([New(ROW, 9_000, at, None, None, msgspec.json.encode(told))])
        world.clock.sleep(timedelta(hours=1))
        (arrived,) = [fact for fact in world.steps() if isinstance(fact, Arrived)]
        found.append((arrived.rows, arrived.labels, arrived.duplicates, arrived.corrections))
    assert found == [(1, 0, 0, 0), (0, 1, 1, 0), (1, 0, 0, 1)]


def asked(id_: int, x: float, score: float, at: datetime, **more: Any) -> New:
    row = {"x": x, "y": 0.5, "kind": "a"} | more
    return New(ANSWER, id_, micro(at), "v1", score, msgspec.json.encode(row))


def kept(world: World, id_: int) -> list[tuple[float, Any, Any]]:
    """Return value, score and label of an id, of each of its rows that a reader sees."""
    lake, at = world.loop.memory.lake, world.clock.now()
    parts = [lake.batch(one).join(lake.scored(one, at), on="_id") for one in lake.batches()]
    found = pl.concat(parts, how="diagonal_relaxed").filter(pl.col("_id") == id_)
    return found.select("x", "_score", "_label").rows()


def test_a_row_that_is_asked_about_again_changes_nothing_that_is_known(world: World) -> None:
    source = [x for x, _, _ in kept(world, 7)]
    assert source != [99.0]
    at = world.clock.now()
    world.write(
        [asked(7, 99.0, 0.25, at), asked(9_000, 0.5, 0.25, at), asked(9_000, 0.75, 0.5, at)]
    )
    world.clock.sleep(timedelta(hours=1))
    (arrived,) = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert (arrived.rows, arrived.duplicates, arrived.corrections) == (1, 1, 0)
    world.write([asked(9_000, 1.5, 0.75, world.clock.now(), label=1)])
    world.clock.sleep(timedelta(hours=1))
    (arrived,) = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert (arrived.rows, arrived.labels, arrived.corrections) == (0, 1, 0)
    assert [x for x, _, _ in kept(world, 7)] == source
    assert kept(world, 9_000) == [(0.5, 0.25, 1)]


@pytest.mark.parametrize("together", [True, False])
def test_a_row_that_is_sent_corrects_the_one_that_was_asked_about(
    world: World, together: bool
) -> None:
    at, row = world.clock.now(), {"x": 0.75, "y": 0.5, "kind": "a"}
    world.write([asked(9_000, 0.5, 0.25, at)])
    if not together:
        world.clock.sleep(timedelta(hours=1))
        world.steps()
    at = world.clock.now() + timedelta(seconds=1)
    world.write([New(ROW, 9_000, micro(at), None, None, msgspec.json.encode(row))])
    world.write([asked(9_000, 1.5, 0.5, at + timedelta(seconds=1))])
    world.clock.sleep(timedelta(hours=1))
    (arrived,) = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert (arrived.rows, arrived.corrections) == (1, int(not together))
    lake = world.loop.memory.lake
    newest = lake.batch(arrived.batch).filter(pl.col("_id") == 9_000)
    assert newest.get_column("x").to_list() == [0.75]


def test_a_crash_between_landing_and_the_fact_lands_once(world: World) -> None:
    world.write(sent(new_rows(world), "v1", [0.5] * 60, world.clock.now()))
    batch = world.loop.source.read(
        world.loop.state.cursor, now=world.clock.now(), every=world.loop.every
    )
    world.loop.memory.lake.land(batch, world.loop.state.batch + 1)
    world.write(sent(new_rows(world, 1_060), "v1", [0.5] * 60, world.clock.now()))
    world.loop = world.opened()
    arrived = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert [fact.rows for fact in arrived] == [60, 60]
    assert world.lake().get_column("_id").n_unique() == 1_120


def test_a_backlog_of_days_is_landed_day_by_day(world: World) -> None:
    now = world.clock.now()
    for day in range(3):
        rows = new_rows(world, 1_000 + 20 * day, 20)
        world.write(sent(rows, "v1", [0.5] * 20, now + day * DAY))
    world.clock.sleep(5 * DAY)
    arrived = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert [fact.rows for fact in arrived] == [20, 20, 20]


def test_source_and_server_take_turns(world: World) -> None:
    now = world.clock.now()
    for part in range(3):
        new_rows(world, 1_100 + part * 10, 10).write_parquet(world.folder / f"more{part}.parquet")
        world.write(sent(new_rows(world, 1_200 + part * 10, 10), "v1", [0.5] * 10, now))
    arrived = [fact for fact in world.steps() if isinstance(fact, Arrived)]
    assert sum(fact.rows for fact in arrived) == 60
    assert world.lake().get_column("_id").n_unique() == 1_060


def test_what_was_served_outranks_what_the_source_says_later(world: World) -> None:
    rows = new_rows(world)
    world.write(sent(rows, "v1", [0.5] * 60, world.clock.now()))
    world.steps()
    changed = rows.with_columns(x=pl.when(pl.col("id") < 1_010).then(99.0).otherwise("x"))
    changed.write_parquet(world.folder / "second.parquet")
    facts = world.steps()
    arrived = [fact for fact in facts if isinstance(fact, Arrived)]
    assert [(fact.rows, fact.labels) for fact in arrived] == [(0, 60)]
    kept = world.lake().filter(pl.col("_id") >= 1_000)
    assert kept.sort("_id").get_column("x").to_list() == rows.get_column("x").to_list()
    told = [one for fact in facts if isinstance(fact, Found) for one in fact.findings]
    assert [one.message for one in told if one.check == "skew"] == [
        "`x` differs from what was served in 10 of 60 rows"
    ]


def test_a_column_that_only_clients_know_is_left_out_and_told(world: World) -> None:
    body = msgspec.json.encode({"x": "1.5", "y": None, "kind": 3, "joke": 1, "label": 1})
    world.write([New(ROW, "7777", micro(world.clock.now()), None, None, body)])
    facts = world.steps()
    row = world.lake().filter(pl.col("_id") == 7777).to_dicts()[0]
    assert (row["x"], row["y"], row["kind"]) == (1.5, None, "3")
    assert "joke" not in row
    told = [one for fact in facts if isinstance(fact, Found) for one in fact.findings]
    assert [one.column for one in told if one.check == "served"] == ["joke"]
    assert [fact.labels for fact in facts if isinstance(fact, Arrived)] == [1]


def test_a_value_that_its_column_cannot_hold_is_told(world: World) -> None:
    now = micro(world.clock.now())
    bodies = [b'{"x": "far", "y": 1, "kind": "a"}', b'{"x": null, "y": "2", "kind": 3}']
    world.write([New(ROW, 7_777 + i, now, None, None, body) for i, body in enumerate(bodies)])
    facts = world.steps()
    landed = world.lake().filter(pl.col("_id") >= 7_777).sort("_id")
    assert landed.get_column("x").to_list() == [None, None]
    told = [one for fact in facts if isinstance(fact, Found) for one in fact.findings]
    assert [(one.column, one.value, one.message) for one in told if one.check == "served"] == [
        (
            "x",
            0.5,
            "`x` was sent as another kind than the lake has in 1 of 2 rows, such as 'far': "
            "it counts as missing there",
        )
    ]


def test_ids_that_the_lake_cannot_keep_do_not_hold_up_the_others(world: World) -> None:
    now = micro(world.clock.now())
    ids = ["a17", 1, "9001", "1" * 30, -(2**63) + 1, "²"]
    world.write([New(ROW, id_, now, None, None, b'{"x": 1, "y": 1, "kind": "a"}') for id_ in ids])
    world.write([New(LABEL, "b2", now, None, None, b"1"), *labels([9001], 1, world.clock.now())])
    facts = world.steps()
    arrived = [fact for fact in facts if isinstance(fact, Arrived)]
    assert sum(fact.labels for fact in arrived) == 1
    assert {9001, -(2**63) + 1} <= set(world.lake().get_column("_id"))
    told = [one for fact in facts if isinstance(fact, Found) for one in fact.findings]
    assert [one.value for one in told if one.check == "served"] == [4]


def test_a_journal_that_was_lost_is_begun_anew(world: World) -> None:
    world.write(sent(new_rows(world), "v1", [0.5] * 60, world.clock.now()))
    world.steps()
    for file in world.path.parent.iterdir():
        file.unlink()
    world.loop = world.opened()
    assert world.steps() == []
    world.write(sent(new_rows(world, 1_060, 5), "v1", [0.5] * 5, world.clock.now()))
    assert [fact.rows for fact in world.steps() if isinstance(fact, Arrived)] == [5]


def test_without_a_journal_the_source_is_read_as_it_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    now, every = world.clock.now(), world.loop.every
    alone = world.made.source.read(None, now=now, every=every)
    both = world.loop.source.read(None, now=now, every=every)
    assert alone.cursor == both.cursor
    assert alone.rows.equals(both.rows)
    assert not world.path.exists()


def test_a_source_without_an_id_has_no_server(tmp_path: Path) -> None:
    made = pipeline(stream(3), tmp_path / "home", roles={"id": None})
    assert served(made, made.memory()) == {}


def test_trimmed_entries_stay_landed(world: World) -> None:
    world.write(sent(new_rows(world), "v1", [0.5] * 60, world.clock.now()))
    world.steps()
    journal = Journal(world.path)
    landed = Place.of(world.loop.state.cursor).behind(journal.identity)
    assert journal.trim(landed, before=micro(world.clock.now() + DAY)) == 59  # and the newest
    journal.close()
    assert world.steps() == []


@given(
    st.text("0123456789abcdef", min_size=1),
    st.integers(0, 2**62),
    st.booleans(),
    st.none() | st.text(min_size=1),
)
def test_a_place_is_its_cursor(
    identity: str, position: int, turn: bool, source: str | None
) -> None:
    place = Place(identity, position, turn, source)
    assert Place.of(place.cursor()) == place


JSON = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()


@given(
    st.lists(JSON | st.lists(st.integers())),
    st.sampled_from([pl.Float64, pl.Int64, pl.Boolean, pl.String, pl.Date, pl.List(pl.Int64)]),
)
def test_whatever_json_holds_becomes_a_column_of_the_lakes_kind(
    values: list[Any], dtype: pl.DataType
) -> None:
    found = as_stored(values, dtype() if isinstance(dtype, type) else dtype)
    assert found.len() == len(values)
    plain(values)


def test_a_row_of_a_far_future_is_told_of_and_learnt_from_when_its_time_has_come(
    world: World,
) -> None:
    now, ahead = world.clock.now(), world.clock.now() + 300 * DAY
    body = {"id": 7_000, "x": 0.5, "y": 0.0, "kind": "a", "time": ahead.isoformat(), "label": 1}
    world.write([New(ROW, 7_000, micro(now), None, None, msgspec.json.encode(body))])
    world.clock.sleep(timedelta(hours=1))
    told = [
        one.message
        for fact in world.steps()
        if isinstance(fact, Found)
        for one in fact.findings
        if one.check == "served"
    ]
    assert told == [
        f"1 of the rows sent have a time far ahead of the clock, up to {ahead:%Y-%m-%d}: "
        "each is learnt from when its time has come"
    ]
    loop = world.loop
    assert 7_000 not in loop.labelled(world.clock.now()).get_column("_id")
    assert 7_000 in loop.labelled(ahead + 2 * DAY).get_column("_id")
    assert loop.state.watermark is not None
    assert loop.state.watermark < ahead
