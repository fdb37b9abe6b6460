"""What cannot land is left out and told; everything else lands, once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keepfit import sources
from keepfit.facts import Arrived, Finding, Found
from keepfit.home import open_memory
from keepfit.journal import ANSWER, LABEL, ROW, Kept, New, Writer, journal_of
from keepfit.landing import served
from keepfit.landing.unfit import SEVERAL, landing
from keepfit.landing.values import as_label, plain, times
from keepfit.loop import Loop
from tests.servers import World, labels, micro, sent
from tests.worlds import DAY, START, MovedClock, pipeline

GOOD = {"x": 0.5, "y": 0.5, "kind": "a"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.steps()
    return world


def row(world: World, id_: int | str, **values: Any) -> New:
    at = micro(world.clock.now())
    return New(ANSWER, id_, at, "v1", 0.5, msgspec.json.encode(GOOD | values))


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def told(facts: Sequence[Any]) -> list[Finding]:
    found = [one for fact in facts if isinstance(fact, Found) for one in fact.findings]
    return [one for one in found if one.check == "served"]


@pytest.mark.parametrize(
    "time",
    [
        "0000-06-01T00:00:00Z",
        "-5000-01-01T00:00:00Z",
        "+12000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_time_beyond_reckoning_leaves_out_its_row_alone(world: World, time: str) -> None:
    world.write([row(world, 9_001), row(world, 9_002, time=time, label=1), row(world, 9_003)])
    facts = world.steps()
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [2]
    assert [(one.value, "9002" in one.message) for one in told(facts)] == [(1, True)]
    assert {9_001, 9_003} <= set(world.lake().get_column("_id"))
    world.write([row(world, 9_004)])
    assert [fact.rows for fact in world.steps() if isinstance(fact, Arrived)] == [1]


@pytest.mark.parametrize("body", [b"9" * 60, b"9" * 400, b"18446744073709551615", b'"abc"', b"[1]"])
def test_a_label_that_is_none_is_left_out_and_told(world: World, body: bytes) -> None:
    at = micro(world.clock.now())
    world.write([*labels([5, 6], 1, world.clock.now()), New(LABEL, 7, at, None, None, body)])
    facts = world.steps()
    assert [one.value for one in told(facts)] == [1]
    assert "a label sent" in told(facts)[0].message


def test_labels_of_all_sizes_together_land_but_for_those_that_are_none(world: World) -> None:
    at = micro(world.clock.now())
    sizes = [b"1", b"18446744073709551615", b"1844674407370955161500", b"true"]
    world.write(
        [New(LABEL, 20 + i, at, None, None, body) for i, body in enumerate(sizes)]
        + [row(world, 9_001, label=10**60), row(world, 9_002, label=True)]
    )
    facts = world.steps()
    assert [one.value for one in told(facts)] == [3]
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [2]
    number = world.loop.memory.lake.last()
    kept = world.loop.memory.lake.scored(number, world.clock.now() + DAY)
    assert kept.get_column("_label").to_list() == [None, 1]
    assert kept.schema["_label"] == pl.Int64


def test_a_body_that_is_too_deep_or_no_object_is_left_out(world: World) -> None:
    at = micro(world.clock.now())
    bodies = [b'{"x":1,"y":1,"kind":"a","z":%s}' % deep(5_000), b"[1]", b"{", b'{"x":1,"y":1}']
    world.write([New(ROW, 9_000 + i, at, None, None, body) for i, body in enumerate(bodies)])
    facts = world.steps()
    assert sum(one.value or 0 for one in told(facts)) == 3
    assert 9_003 in world.lake().get_column("_id")


def test_what_cannot_land_does_not_outrank_the_source(world: World) -> None:
    at = micro(world.clock.now())
    late = world.frame.slice(1_000, 60)
    ids = late.get_column("id").to_list()
    deeply = b'{"x":1,"y":1,"kind":"a","z":%s}' % deep(5_000)
    world.write([New(ANSWER, id_, at, "v1", 0.5, deeply) for id_ in ids[:30]])
    world.write([row(world, id_, time="0000-06-01T00:00:00Z") for id_ in ids[30:]])
    world.steps()
    late.write_parquet(world.folder / "late.parquet")
    world.steps()
    assert set(ids) <= set(world.lake().get_column("_id"))


def test_entries_none_of_which_can_land_are_told_and_passed(world: World) -> None:
    now = world.clock.now()
    at = micro(now)
    world.write(
        [New(ROW, f"text {i}", at, None, None, msgspec.json.encode(GOOD)) for i in range(200)]
    )
    world.write([New(ROW, 9_001, micro(now + DAY), None, None, msgspec.json.encode(GOOD))])
    world.clock.sleep(2 * DAY)
    facts = world.steps()
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [0, 1]
    assert [one.value for one in told(facts)] == [200]
    assert world.steps() == []


def test_after_a_crash_what_is_left_out_is_left_out_once(world: World) -> None:
    world.write([row(world, 9_001), row(world, 9_002, time="0000-06-01T00:00:00Z")])
    loop = world.loop
    batch = loop.source.read(loop.state.cursor, now=world.clock.now(), every=loop.every)
    loop.memory.lake.land(batch, loop.state.batch + 1)
    world.write([row(world, 9_003), row(world, 9_004, time="0000-06-01T00:00:00Z")])
    world.loop = world.opened()
    facts = world.steps()
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [1, 1]
    landed = world.lake().get_column("_id")
    assert landed.n_unique() == landed.len()
    assert {9_001, 9_003} <= set(landed)
    assert not {9_002, 9_004} & set(landed)


class Bare:
    """A home in which nothing has landed, whose source has no rows yet."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "rows").mkdir()
        source = sources.Parquet(str(tmp_path / "rows"), id="id", time="time", label="label")
        self.made = pipeline(source, tmp_path / "home")
        memory = open_memory(self.made.home, "churn")
        self.clock = MovedClock(START)
        self.loop = Loop(self.made, memory, self.clock, **served(self.made, memory))

    def write(self, *bodies: bytes, kind: int = ROW, ids: Sequence[int | str] = ()) -> None:
        writer = Writer(journal_of(self.made.home, "churn"))
        at = micro(self.clock.now())
        numbered = ids or range(1, len(bodies) + 1)
        writer.write(
            [
                New(kind, id_, at, None, None, body)
                for id_, body in zip(numbered, bodies, strict=True)
            ]
        )
        writer.close()


def test_columns_that_differ_in_case_are_one_in_a_new_lake(tmp_path: Path) -> None:
    new = Bare(tmp_path)
    new.write(b'{"x":1,"X":2,"_ID":3,"big":%s}' % (b"9" * 60), b'{"X":1,"x":2}')
    facts = [entry.fact for entry in new.loop.step().entries]
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [2]
    assert {one.column for one in told(facts)} == {"X", "_ID"}
    assert new.loop.memory.lake.batch(1).get_column("big").to_list() == [1e60, None]


def test_a_new_lake_waits_for_what_can_land(tmp_path: Path) -> None:
    new = Bare(tmp_path)
    new.write(deep(5_000))
    assert new.loop.step().idle
    new.write(b'{"x":1}', ids=["a"])
    facts = [entry.fact for entry in new.loop.step().entries]
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [1]
    assert sum(one.value or 0 for one in told(facts)) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**70), 10**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["0000-01-01T00:00:00Z", "2024-01-05T00:00:00Z", "2024-01-05", "true", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["x", "X", "y", "kind", "label", "time", "id", "", "_id", "a b", "a\nb", "é"]
)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(
        st.dictionaries(NAMES | st.text(max_size=4), JSON, max_size=5), min_size=1, max_size=6
    ),
    st.lists(JSON, max_size=6),
    st.booleans(),
)
def test_whatever_json_was_taken_the_step_comes_through_and_each_lands_or_is_told(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    told_labels: list[Any],
    numbered: bool,
) -> None:
    new = Bare(tmp_path_factory.mktemp("home"))
    for first in (0, 100):  # into a new lake, and into one that has its columns
        ids: list[int | str] = [i if numbered else f"r{i}" for i in range(first, first + len(rows))]
        new.write(*map(msgspec.json.encode, rows), ids=ids)
        if told_labels:
            new.write(*map(msgspec.json.encode, told_labels), kind=LABEL)
        facts = [entry.fact for _ in range(3) for entry in new.loop.step().entries]
        landed = sum(fact.rows for fact in facts if isinstance(fact, Arrived))
        out = sum(one.value or 0 for one in told(facts) if one.message.startswith("a row"))
        assert landed + out == len(rows) or not facts
        new.clock.sleep(2 * DAY)
    new.loop.memory.close()


@given(
    st.sets(st.integers(0, 40)), st.sets(st.frozensets(st.integers(0, 40), min_size=2, max_size=2))
)
def test_what_nobody_has_thought_of_is_found_by_halves(
    alone: set[int], pairs: set[frozenset[int]]
) -> None:
    entries = [Kept(i, ROW, i, 0, None, None, b"") for i in range(41)]

    def make(some: Sequence[Kept]) -> list[int]:
        ids = {one.id for one in some}
        if ids & alone or any(pair <= ids for pair in pairs):
            pl.Series([object()], dtype=pl.Int64)  # whatever it is that Polars says
        return [one.position for one in some]

    made, left = landing(entries, make)
    assert sorted([*made, *(one.id for one in left)]) == list(range(41))
    assert not set(made) & alone
    assert alone <= {one.id for one in left}
    if not pairs:
        assert {one.id for one in left} == alone


@pytest.mark.parametrize(("count", "lost"), [(SEVERAL - 1, True), (SEVERAL, False)])
def test_where_not_one_of_several_lands_nothing_is_left_out(count: int, lost: bool) -> None:
    entries = [Kept(i, ROW, i, 0, None, None, b"") for i in range(count)]

    def make(some: Sequence[Kept]) -> list[int]:
        if some:
            raise ValueError("the lake is not what it was")
        return []

    with nullcontext() if lost else pytest.raises(ValueError, match="the lake is not"):
        made, left = landing(entries, make)
        assert (made, len(left)) == ([], count)


def test_times_are_read_in_whatever_form_each_is_written() -> None:
    texts = ["2024-01-01T00:00:00Z", "2024-01-02", "2024-01-03 00:00:00", "4th", None]
    days = [None if one is None else one.day for one in times(texts)]
    assert days == [1, 2, 3, None, None]


def test_labels_become_the_kind_that_the_lake_has() -> None:
    assert plain([True, 1, 0]).dtype == pl.Int64
    assert [as_label(one, pl.Boolean()) for one in (1, "true", "x")] == [True, True, None]
    assert [as_label(one, pl.String()) for one in (1, True, [1])] == ["1", "true", None]
    assert as_label(10**20, pl.Float64()) == 1e20


def test_passages_of_what_is_left_out_do_no_harm(world: World) -> None:
    rows = world.frame.slice(1_000, 3)
    entries = sent(rows, "v1", [0.1, 0.2, 0.3], world.clock.now())
    bad = [one._replace(body=b"{") for one in entries[:1]]
    world.write([*bad, *entries[1:]])
    world.clock.sleep(timedelta(hours=1))
    facts = world.steps()
    assert [fact.rows for fact in facts if isinstance(fact, Arrived)] == [2]
