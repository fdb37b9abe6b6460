"""The journal: durable before it is answered, in one order, whoever writes and whoever dies."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.errors import KeepfitError
from keepfit.journal import ANSWER, EVENT, LABEL, ROW, Fate, Journal, New, Outcome, Writer
from keepfit.journal.entries import packed
from keepfit.journal.writer import HELD
from tests.waits import until

CHILD = Path(__file__).with_name("killed_journal.py")


def answer(id_: int | str, at: int = 0, scores: float | bytes | None = 0.5) -> New:
    return New(ANSWER, id_, at, "v1", scores, b'{"amount": 1}')


def label(id_: int | str, value: bytes, at: int = 0) -> New:
    return New(LABEL, id_, at, None, None, value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "churn.db"


def test_what_was_written_is_read_in_order_with_its_scores(path: Path) -> None:
    writer = Writer(path)
    several = New(ANSWER, "b", 2, "v2", packed((0.25, 0.75)), b"{}")
    assert writer.write([answer("a", 1), several]) == ()
    writer.write([New(ROW, 7, 3, None, None, b"{}")])
    writer.close()
    journal = Journal(path)
    kept = journal.after(0)
    assert [(one.position, one.kind, one.id, one.at) for one in kept] == [
        (1, ANSWER, "a", 1),
        (2, ANSWER, "b", 2),
        (3, ROW, 7, 3),
    ]
    assert [one.scores for one in kept] == [0.5, (0.25, 0.75), None]
    assert [one.position for one in journal.after(1, limit=1)] == [2]
    assert [one.id for one in journal.after(0, kinds=(ROW,))] == [7]
    assert list(journal.answers(["b", "x", 7])) == [("b", "v2", (0.25, 0.75))]
    journal.close()


def test_a_label_is_accepted_repeated_corrected_or_waits_for_its_row(path: Path) -> None:
    writer = Writer(path)
    writer.write([answer("a")])
    told = writer.write([label("a", b"1"), label("a", b"1"), label("a", b"0"), label("x", b"1")])
    assert told == (Fate.ACCEPTED, Fate.REPEATED, Fate.CORRECTED, Fate.WAITING)
    # Back to the first value is a correction of the correction.
    assert writer.write([label("a", b"1"), label("x", b"1")]) == (Fate.CORRECTED, Fate.REPEATED)
    writer.close()
    journal = Journal(path)
    assert [(one.id, one.body) for one in journal.after(0, kinds=(LABEL,))] == [
        ("a", b"1"),
        ("a", b"0"),
        ("x", b"1"),
        ("a", b"1"),
    ]
    journal.close()


def test_a_correction_is_known_after_what_it_corrects(path: Path) -> None:
    writer = Writer(path)
    for at, body, fate in (
        (100, b"1", Fate.WAITING),
        (60, b"0", Fate.CORRECTED),
        (60, b"0", Fate.REPEATED),
        (101, b"1", Fate.CORRECTED),
        (500, b"0", Fate.CORRECTED),
    ):
        assert writer.write([label("a", body)._replace(at=at)]) == (fate,)
    writer.close()
    journal = Journal(path)
    kept = [(one.at, one.body) for one in journal.after(0, kinds=(LABEL,))]
    assert kept == [(100, b"1"), (101, b"0"), (102, b"1"), (500, b"0")]
    journal.close()


def test_a_label_in_one_group_with_its_row_finds_it(path: Path) -> None:
    writer = Writer(path)
    told: list[Outcome] = []
    # While the first is being written the others wait, and become one group.
    for entries in ([answer(0)], [answer(1)], [label(1, b"1")], [answer(2)], [label(3, b"1")]):
        assert writer.submit(entries, told.append)
    writer.close()
    assert told == [(), (), (Fate.ACCEPTED,), (), (Fate.WAITING,)]


def test_an_event_counts_once(path: Path) -> None:
    writer = Writer(path)
    event = New(EVENT, "shop 17", 0, None, None, b"{}")
    assert writer.write([event]) == (Fate.ACCEPTED,)
    assert writer.write([event._replace(body=b"{ }")]) == (Fate.REPEATED,)
    writer.close()


def test_when_too_much_waits_no_more_is_taken_and_nothing_is_lost(path: Path) -> None:
    holder = Journal(path)
    holder.connection.execute("BEGIN IMMEDIATE")
    writer = Writer(path, most=10)
    told: list[Outcome] = []
    taken = [writer.submit([answer(id_)], told.append) for id_ in range(25)]
    assert sum(taken) == 10
    assert writer.waiting == 10
    holder.connection.execute("ROLLBACK")
    until(lambda: not writer.waiting)
    assert writer.submit([answer(99)], told.append)
    writer.close()
    assert told == [()] * 11
    assert [one.id for one in holder.after(0)] == [*(i for i in range(25) if taken[i]), 99]
    holder.close()


class Turns:
    """A thread's turns, as an event loop gives them: what is to be done soon, one turn at a time."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def __call__(self, do: Callable[[], None]) -> None:
        self._soon.append(do)

    def turn(self) -> bool:
        """Do what was to be done, and return whether there was anything."""
        due, self._soon = self._soon, []
        for do in due:
            do()
        return bool(due)


def test_what_comes_turn_after_turn_is_committed_together(path: Path) -> None:
    groups: list[int] = []
    turns = Turns()
    writer = Writer(path, deliver=lambda told: groups.append(len(told)), soon=turns)
    for id_ in range(8):
        assert writer.submit([answer(id_)], lambda outcome: None)
        turns.turn()
    assert (writer.waiting, groups) == (8, [])
    while turns.turn():
        pass
    until(lambda: not writer.waiting)
    # What comes later is held anew, and an end does not wait for the next turn.
    assert writer.submit([answer(99)], lambda outcome: None)
    writer.close()
    assert groups == [8, 1]
    turns.turn()
    assert groups == [8, 1]


def test_what_is_held_is_bounded_however_much_comes(path: Path) -> None:
    told: list[Outcome] = []
    turns = Turns()
    writer = Writer(path, soon=turns)
    for id_ in range(HELD):
        assert writer.submit([answer(id_)], told.append)
    # Without a single turn: they are as many as are committed at once.
    until(lambda: len(told) == HELD)
    assert writer.submit([answer(HELD + id_) for id_ in range(HELD)], told.append)
    until(lambda: len(told) == HELD + 1)
    while turns.turn():
        pass
    writer.close()
    assert told == [()] * (HELD + 1)


def test_a_submission_above_the_bound_is_taken_when_nothing_else_waits(path: Path) -> None:
    writer = Writer(path, most=3)
    assert writer.write([answer(id_) for id_ in range(100)]) == ()
    writer.close()


def test_what_cannot_be_kept_is_no_reason_to_refuse_others(path: Path) -> None:
    writer = Writer(path)
    told: list[Outcome] = []
    for id_ in (1, 2**70, 3):
        assert writer.submit([answer(id_)], told.append)
    writer.close()
    assert (told[0], told[2]) == ((), ())
    assert isinstance(told[1], OverflowError)
    assert not Writer.submit(writer, [answer(4)], told.append)


def test_several_writers_and_a_trim_share_one_order(path: Path) -> None:
    def write(first: int) -> None:
        writer = Writer(path)
        for id_ in range(first, first + 200):
            writer.write([answer(id_, at=id_)])
        writer.close()

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1_000, 2_000)]
    for thread in threads:
        thread.start()
    journal = Journal(path)
    read: list[int | str] = []
    position = 0
    while len(read) < 600:
        new = journal.after(position)
        read += [one.id for one in new]
        position = new[-1].position if new else position
    for thread in threads:
        thread.join()
    assert len(set(read)) == 600
    assert journal.last() == 600
    old = [one for one in journal.after(0) if one.at < 1_000 and one.position < 600]
    assert len(old) in (199, 200)  # the newest stays, whoever wrote it
    assert journal.trim(600, before=1_000) == len(old)
    assert journal.trim(position=journal.after(0)[9].position, before=9_999) == 10
    assert len(journal.after(0)) == 590 - len(old)
    journal.close()


def test_positions_go_on_after_all_that_may_be_was_trimmed(path: Path) -> None:
    writer = Writer(path)
    writer.write([answer(1), answer(2)])
    journal = Journal(path)
    identity = journal.identity
    assert journal.trim(2, before=1) == 1
    writer.write([answer(3)])
    writer.close()
    assert [one.position for one in journal.after(0)] == [2, 3]
    journal.close()
    again = Journal(path)
    assert (again.identity, again.last()) == (identity, 3)
    again.close()


def test_marks_stand_beside_the_entries(path: Path) -> None:
    journal = Journal(path)
    assert journal.mark("serving") is None
    journal.set_mark("serving", "v1")
    journal.set_mark("serving", "v2")
    assert journal.mark("serving") == "v2"
    journal.close()


def test_a_journal_of_a_newer_keepfit_is_left_alone(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(KeepfitError, match="expected a journal of format 1"):
        Journal(path)


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(KeepfitError, match="cannot open the journal"):
        Journal(tmp_path / "journal" / "churn.db")


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"0", b"1", b"2"])), max_size=30))
def test_of_labels_that_differ_every_one_is_kept_and_of_equal_ones_none_twice_in_a_row(
    tmp_path_factory: pytest.TempPathFactory, labels: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "churn.db"
    writer = Writer(path)
    told = writer.write([label(id_, value) for id_, value in labels])
    writer.close()
    journal = Journal(path)
    kept = [(one.id, one.body) for one in journal.after(0)]
    journal.close()
    newest: dict[int, bytes] = {}
    expected = []
    for (id_, value), fate in zip(labels, told, strict=True):
        assert (fate == Fate.REPEATED) == (newest.get(id_) == value)
        if newest.get(id_) != value:
            expected.append((id_, value))
        newest[id_] = value
    assert kept == expected


def killed(path: Path, first: int, told: int) -> set[int]:
    """Return the ids that a process was told are safe, before it was killed in mid-load."""
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(path), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    safe = [process.stdout.readline() for _ in range(told)]
    process.kill()
    safe += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return {int(line) for line in safe if line.endswith("\n")}


def test_what_was_told_to_be_safe_is_there_once_after_a_kill(path: Path) -> None:
    safe: set[int] = set()
    for turn, told in enumerate((1, 50, 2_000)):
        safe |= killed(path, turn * 10**9, told)
    journal = Journal(path)
    ids = [one.id for one in journal.after(0)]
    journal.close()
    assert len(safe) > 2_000
    assert len(ids) == len(set(ids))
    assert safe <= set(ids)


def test_events_are_found_without_reading_what_lies_between(path: Path) -> None:
    journal = Journal(path)
    plans: list[str] = []
    journal.connection.set_trace_callback(plans.append)
    journal.after(0, kinds=(EVENT,))
    journal.connection.set_trace_callback(None)
    (plan,) = journal.connection.execute(f"EXPLAIN QUERY PLAN {plans[0]}").fetchall()
    assert "entries_events" in plan[3]
    journal.close()


def test_an_event_under_its_former_key_is_known_and_is_no_other(path: Path) -> None:
    def event(key: str, source: str, id_: str) -> New:
        body = msgspec.json.encode({"source": source, "id": id_})
        return New(EVENT, key, 0, None, None, body)

    writer = Writer(path)
    # Both made this key once, and the second one was taken for the first.
    assert writer.write([event("a b c", "a b", "c")]) == (Fate.ACCEPTED,)
    assert writer.write([event(" 3 a b c", "a b", "c")]) == (Fate.REPEATED,)
    assert writer.write([event("a b c", "a", "b c")]) == (Fate.ACCEPTED,)
    assert writer.write([event("a b c", "a", "b c")]) == (Fate.REPEATED,)
    writer.close()
