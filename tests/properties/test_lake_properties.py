"""Whatever lands, every lake answers as plain lists would, and nothing comes from the future."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.lakes import HOUR, START, hour, said, some_batch, some_labels, some_rows

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, SCORE, TIME, VERSION, Batch
from keepfit.clock import SimulatedClock
from keepfit.lake import Delta, Lake, Landed, Replay, tables

IDS = range(6)
LONG_AGO = START - HOUR


@pytest.fixture(scope="module", autouse=True)
def _compacting() -> Iterator[None]:
    """Compact after every third commit: a few batches then meet what thousands do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "COMPACT_EVERY", 3)
        patched.setattr(tables, "LARGE_EVERY", 2)
        yield


# The same in plain Python -------------------------------------------------------------------


class Row(NamedTuple):
    id: Any
    time: datetime
    arrived: datetime
    batch: int
    x: Any


class Label(NamedTuple):
    id: Any
    label: int
    known: datetime
    batch: int


class Question(NamedTuple):
    as_of: datetime
    until_batch: int
    excluded: Collection[int]
    after: datetime | None
    before: datetime | None


@dataclass
class Lists:
    """A lake that looks through everything, every time."""

    rows: list[Row] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    said: dict[int, dict[Any, tuple[str, float]]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    replaced: set[Any] = field(default_factory=set)
    """Ids of which a version never landed, as another came in the same batch."""

    def land(self, batch: Batch, number: int) -> tuple[int, ...]:
        """Land a batch; return how many rows, labels, duplicates and corrections it had.

        Then, how many of its new rows and of its new labels have an id that had one already.
        """
        came = [
            Row(r[ID], r[TIME], r[ARRIVED_AT], number, r["x"])
            for r in batch.rows.iter_rows(named=True)
        ]
        held = {row.id: self.version(row.id) for row in came}
        repeated = [row for row in came if self._same(held[row.id], row)]
        new = [row for row in came if row not in repeated]
        corrected = sum(held[row.id] is not None for row in new)
        labels, changed, relabelled = self._new_labels(batch, number, {row.id for row in new})
        self.rows += new
        self.labels += labels
        self.numbers.append(number)
        counted = len(new), len(labels), len(repeated), corrected + changed
        return *counted, corrected, relabelled

    @staticmethod
    def _same(held: Row | None, row: Row) -> bool:
        return held is not None and (held.time, held.x) == (row.time, row.x)

    def _new_labels(
        self, batch: Batch, number: int, came: set[Any]
    ) -> tuple[list[Label], int, int]:
        wanted = {
            (r[KNOWN_AT], r[ID]): Label(r[ID], r[LABEL], r[KNOWN_AT], number)
            for r in batch.labels.iter_rows(named=True)
        }
        before: dict[Any, Label | None] = {}
        kept, corrections, again = [], 0, 0
        for _, label in sorted(wanted.items()):
            first = label.id not in before
            last = self.label(label.id) if first else before[label.id]
            before[label.id] = label
            repeated = last is not None and last.label == label.label
            if repeated and not (first and label.id in came):
                continue
            if any(one[:3] == label[:3] for one in self.labels):
                continue
            kept.append(label)
            corrections += last is not None and not repeated
            again += last is not None
        return kept, corrections, again

    def version(self, key: Any, **asked: Any) -> Row | None:
        """Return the newest version of a row."""
        found = [r for r in self.rows if r.id == key and self._counts(r.arrived, r.batch, **asked)]
        return max(found, key=lambda row: (row.arrived, row.batch), default=None)

    def label(self, key: Any, **asked: Any) -> Label | None:
        """Return the newest label of a row."""
        found = [one for one in self.labels if one.id == key]
        found = [one for one in found if self._counts(one.known, one.batch, **asked)]
        return max(found, key=lambda one: (one.known, one.batch), default=None)

    @staticmethod
    def _counts(
        at: datetime,
        batch: int,
        as_of: datetime | None = None,
        until_batch: int = 10**9,
        excluded: Collection[int] = (),
    ) -> bool:
        return (as_of is None or at <= as_of) and batch <= until_batch and batch not in excluded

    def labelled(self, asked: Question) -> list[Any]:
        """Return what `Lake.labelled` promises."""
        among = {"as_of": asked.as_of, "until_batch": asked.until_batch}
        found = []
        for key in {row.id for row in self.rows}:
            row = self.version(key, excluded=asked.excluded, **among)
            label = self.label(key, excluded=asked.excluded, **among)
            if row is None or label is None:
                continue
            if asked.after is not None and row.time <= asked.after:
                continue
            if asked.before is not None and row.time > asked.before:
                continue
            found.append((row.id, row.time, row.batch, label.label, row.x))
        return sorted(found, key=lambda one: (one[1], one[0]))

    def once(self) -> set[Any]:
        """Return the ids of rows that came once, with one label at most."""
        several = {one.id for one in self.labels if sum(o.id == one.id for o in self.labels) > 1}
        ids = [row.id for row in self.rows]
        return {key for key in ids if ids.count(key) == 1} - several - self.replaced

    def known(self, asked: Question) -> list[Any]:
        """Return what `Lake.labels` promises of rows that came once, with one label at most."""
        among = {"excluded": asked.excluded, "until_batch": asked.until_batch}
        found = []
        for key in self.once():
            row = self.version(key, as_of=asked.as_of, **among)
            label = self.label(key, as_of=asked.as_of, **among)
            if row is not None and row.time > (asked.after or LONG_AGO):
                told = (None, None) if label is None else (label.label, label.known)
                found.append((row.id, row.time, row.arrived, *told))
        return sorted(found, key=lambda one: (one[1], one[0]))

    def batch(self, number: int) -> list[Row]:
        """Return what `Lake.batch` promises."""
        return sorted((r for r in self.rows if r.batch == number), key=lambda r: (r.time, r.id))

    def scored(self, number: int, as_of: datetime) -> list[Any]:
        """Return what `Lake.scored` promises."""
        found = []
        for row in self.batch(number):
            label = self.label(row.id, as_of=as_of)
            version, score = self.said.get(number, {}).get(row.id, (None, None))
            found.append((row.id, row.time, version, score, label and label.label))
        return found


def agree(lake: Lake, lists: Lists, asked: Question) -> None:
    """Ask a lake everything, and compare with plain lists."""
    everything = asked._asdict()
    expected = lists.labelled(asked)
    found = lake.labelled(**everything)
    assert found.columns[:4] == [ID, TIME, BATCH, LABEL]
    assert found.select(ID, TIME, BATCH, LABEL, *_x(found)).rows() == expected
    assert lake.count_labelled(**everything) == len(expected)
    everything.pop("before")
    assert lake.count_labelled(**everything) == len(lists.labelled(asked._replace(before=None)))
    newest = lake.labels(**everything | {"after": asked.after or LONG_AGO})
    assert newest.columns == [ID, TIME, ARRIVED_AT, LABEL, KNOWN_AT]
    assert newest.get_column(ID).is_unique().all()
    assert newest.filter(pl.col(ID).is_in(list(lists.once()))).rows() == lists.known(asked)
    assert lake.last() == max(lists.numbers, default=0)
    assert lake.batches() == lists.numbers
    for number in lists.numbers:
        rows = lake.batch(number)
        assert rows.select(ID, TIME, ARRIVED_AT, BATCH, *_x(rows)).rows() == lists.batch(number)
        scored = lake.scored(number, asked.as_of).select(ID, TIME, VERSION, SCORE, LABEL)
        assert scored.rows() == lists.scored(number, asked.as_of)


def _x(frame: pl.DataFrame) -> list[str]:
    return ["x"] if "x" in frame.columns else []


# What may come ------------------------------------------------------------------------------

hours = st.integers(0, 20).map(lambda half: hour(half / 2))
questions = st.builds(
    Question,
    as_of=hours,
    until_batch=st.integers(0, 8),
    excluded=st.sets(st.integers(1, 7), max_size=2),
    after=st.none() | hours,
    before=st.none() | hours,
)


@dataclass
class Delivery:
    """One batch, what is done to the lake before it comes, and what is asked afterwards."""

    rows: list[tuple[int, float, float, int | None]]
    labels: list[tuple[int, int, float]]
    gap: int
    before: str
    asked: list[Question]
    answered: list[int]


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Return a few batches: the same ids come again, corrected, late and out of order."""
    found = []
    for n in range(1, draw(st.integers(1, 6)) + 1):
        near = st.integers(2 * n - 2, 2 * n + 2).map(lambda half: half / 2)
        times = st.integers(0, 6).map(float)
        rows = draw(
            st.dictionaries(
                st.sampled_from(IDS), st.tuples(times, near, st.none() | st.integers(0, 2))
            )
        )
        labels = draw(
            st.lists(
                st.tuples(st.sampled_from(IDS), st.integers(0, 1), near),
                max_size=5,
                unique_by=lambda label: (label[0], label[2]),
            )
        )
        found.append(
            Delivery(
                [(key, *row) for key, row in rows.items()],
                labels,
                gap=draw(st.sampled_from([1, 1, 1, 2])),
                before=draw(st.sampled_from(["", "", "reopen", "another", "lose the index"])),
                asked=draw(st.lists(questions, max_size=2)),
                answered=draw(st.lists(st.sampled_from(IDS), unique=True)),
            )
        )
    return found


def delivered(one: Delivery, text: bool) -> Batch:
    """Return a delivery as a batch, with ids that are numbers or text."""
    rows = some_rows(*one.rows, kind=pl.Int64).with_columns(pl.col(ID).cast(pl.Int64))
    labels = some_labels(*one.labels, ids=pl.Int64, kind=pl.Int64)
    if text:
        rows, labels = (
            frame.with_columns(pl.format("id {}", ID).alias(ID)) for frame in (rows, labels)
        )
    return some_batch(rows, labels)


# What holds ---------------------------------------------------------------------------------


@settings(max_examples=30)
@given(deliveries(), st.booleans(), st.lists(questions, min_size=1, max_size=4))
def test_a_lake_on_disk_answers_as_plain_lists_would(
    some: list[Delivery], text: bool, last: list[Question]
) -> None:
    with TemporaryDirectory() as home:
        lists, number, index = Lists(), 0, 0
        lake = Delta(home)
        for one in some:
            if one.before == "reopen":
                lake = Delta(home, index=Path(home) / f"index-{index}.db")
            elif one.before == "lose the index":
                index += 1
                lake = Delta(home, index=Path(home) / f"index-{index}.db")
            number += one.gap
            batch = delivered(one, text)
            # Another process may land what this handle does not know of.
            by = Delta(home, index=Path(home) / "other.db") if one.before == "another" else lake
            landed = by.land(batch, number)
            counted = landed.rows, landed.labels, landed.duplicates, landed.corrections
            assert (*counted, landed.revised, landed.relabelled) == lists.land(batch, number)
            assert lake.landed(number) == lake.land(batch, number) == landed
            answer(lake, lists, number, one, text)
            for asked in one.asked:
                agree(lake, lists, asked)
        for asked in last:
            agree(lake, lists, asked)
            agree(Delta(home), lists, asked)
        assert lake.problems() == []


def answer(lake: Lake, lists: Lists, number: int, one: Delivery, text: bool) -> None:
    """Land predictions for some rows of a batch, twice."""
    ids = [f"id {key}" for key in one.answered] if text else one.answered
    if not ids:
        return
    lake.predict_land(number, said(ids, f"v{number}"))
    lake.predict_land(number, said(ids, "v0"))
    lists.said[number] = {key: (f"v{number}", i / 10) for i, key in enumerate(ids)}


@st.composite
def histories(draw: st.DrawFn) -> Batch:
    """Return rows and labels as a source's whole history: versions, corrections, late labels."""
    halves = st.integers(0, 16)
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(IDS), halves, st.integers(0, 4), st.integers(0, 2)),
            min_size=1,
            max_size=14,
            unique_by=lambda row: (row[0], row[1] + row[2]),
        )
    )
    labels = draw(
        st.lists(
            st.tuples(st.sampled_from(IDS), st.integers(0, 1), halves),
            max_size=12,
            unique_by=lambda label: (label[0], label[2]),
        )
    )
    return some_batch(
        some_rows(*((key, at / 2, (at + delay) / 2, x) for key, at, delay, x in rows)),
        some_labels(*((key, y, at / 2) for key, y, at in labels), ids=pl.Int64, kind=pl.Int64),
    )


def read(history: Replay, steps: list[int]) -> Iterator[tuple[datetime, Batch]]:
    """Return what a source over a history hands out, at moments so many half hours apart."""
    source, clock, cursor = history.source(), SimulatedClock(START), None
    for step in steps:
        clock.sleep(step * HOUR / 2)
        batch = source.read(cursor, now=clock.now(), every=HOUR)
        cursor = batch.cursor
        if not batch.empty:
            yield clock.now(), batch


steps = st.lists(st.integers(1, 8), min_size=1, max_size=6)
PUT_BACK = some_batch(some_rows((1, 0, 0, 0), (1, 0, 1, 1), (1, 0, 1.5, 0)), [(1, 1, 0)])
"""A row that is changed and changed back between two reads."""


@settings(max_examples=30)
@example(PUT_BACK, [1, 3], [Question(hour(5), 9, (), None, None)])
@given(histories(), steps, st.lists(questions, min_size=1, max_size=4))
def test_a_replayed_history_answers_as_plain_lists_and_as_a_lake_on_disk_would(
    history: Batch, steps: list[int], asked: list[Question]
) -> None:
    ids = history.rows.get_column(ID)
    replay, lists = Replay(history), Lists(replaced=set(ids.filter(ids.is_duplicated())))
    with TemporaryDirectory() as home:
        delta, replayed = Delta(home), replay.lake()
        for number, (now, batch) in enumerate(read(replay, steps), start=1):
            landed = replayed.land(batch, number)
            assert delta.land(batch, number) == landed
            assert counts(landed) == lists.land(batch, number)
            for lake in (delta, replayed):
                lake.predict_land(number, said(batch.rows.get_column(ID)[:2].to_list()))
                agree(lake, lists_with(lists, number, batch), asked[0]._replace(as_of=now))
        for question in asked:
            agree(replayed, lists, question)
            agree(delta, lists, question)


def lists_with(lists: Lists, number: int, batch: Batch) -> Lists:
    ids = batch.rows.get_column(ID)[:2].to_list()
    lists.said[number] = {key: ("v1", i / 10) for i, key in enumerate(ids)}
    return lists


def counts(landed: Landed) -> tuple[int, ...]:
    counted = landed.rows, landed.labels, landed.duplicates, landed.corrections
    return *counted, landed.revised, landed.relabelled


@settings(max_examples=25)
@given(histories(), steps, st.booleans(), st.none() | hours)
def test_what_lands_later_changes_no_answer_about_before(
    history: Batch, steps: list[int], on_disk: bool, after: datetime | None
) -> None:
    replay = Replay(history)
    with TemporaryDirectory() as home:
        lake: Lake = Delta(home) if on_disk else replay.lake()
        then = []
        for number, (now, batch) in enumerate(read(replay, steps), start=1):
            lake.land(batch, number)
            then.append((now, number, told(lake, now, number, after)))
            assert_past(lake, now, number)
        for now, number, answers in then:
            assert told(lake, now, number, after) == answers


def told(lake: Lake, now: datetime, number: int, after: datetime | None) -> list[Any]:
    """Return the answers about a moment, given what had landed by then."""
    known: dict[str, Any] = {"as_of": now, "until_batch": number, "after": after}
    return [
        lake.labelled(**known).rows(),
        lake.count_labelled(**known),
        [lake.batch(n).rows() for n in range(1, number + 1)],
        [lake.scored(n, now).rows() for n in range(1, number + 1)],
    ]


def assert_past(lake: Lake, now: datetime, number: int) -> None:
    """Look for a row that had not arrived."""
    found = lake.labelled(as_of=now, until_batch=number)
    for key, batch in found.select(ID, BATCH).rows():
        arrived = lake.batch(batch).filter(pl.col(ID) == key).get_column(ARRIVED_AT)
        assert arrived.max() <= now
