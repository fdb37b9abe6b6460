"""Rows of one request in one body, and the log brought into the file beside the commits."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.journal import ANSWER, LABEL, Fate, Journal, New, Sheet, Writer, checkpoint
from keepfit.journal.sheets import apart, packed

VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
ROWS = st.lists(
    st.fixed_dictionaries({"a": VALUES, "b": VALUES, "": VALUES}), min_size=1, max_size=5
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "churn.db"


def bodies_of(rows: list[dict[str, Any]]) -> list[bytes]:
    """Return all forms in which rows may come."""
    names = list(rows[0])
    forms = (
        rows,
        {"rows": rows},
        {"columns": {name: [row[name] for row in rows] for name in names}},
        {"names": names, "rows": [[row[name] for name in names] for row in rows]},
    )
    plain = [msgspec.json.encode(form) for form in forms]
    return [*plain, packed(names, [[row[name] for name in names] for row in rows])]


@given(ROWS)
@settings(deadline=None, max_examples=50)
def test_a_body_in_any_form_comes_apart_into_its_rows(rows: list[dict[str, Any]]) -> None:
    for body in bodies_of(rows):
        assert [msgspec.json.decode(one) for one in apart(body)] == rows


def test_rows_in_one_body_are_read_as_rows_of_their_own(path: Path) -> None:
    rows = [{"a": place, "b": "ü"} for place in range(150)]
    ids = [f"r{place}" for place in range(150)]
    scores = [place / 150 for place in range(150)]
    versions = ["v1", "v2"] * 75
    with contextlib.closing(Writer(path)) as writer:
        writer.write([New(ANSWER, "alone", 5, "v1", 0.5, b'{"a":1}')])
        for body in bodies_of(rows):
            assert writer.write(Sheet(ids, 7, versions, scores, body)) == ()
        assert writer.write([New(LABEL, "r149", 8, None, None, b"1")]) == (Fate.ACCEPTED,)
    with contextlib.closing(Journal(path)) as journal:
        kept = journal.after(0)
        assert [one.kind for one in kept] == [ANSWER] * 751 + [LABEL]
        assert kept[0].body == b'{"a":1}'
        for first in (1, 151, 301, 451, 601):
            part = kept[first : first + 150]
            assert [msgspec.json.decode(one.body) for one in part] == rows
            assert [(one.id, one.version, one.scores, one.at) for one in part] == [
                (*one, 7) for one in zip(ids, versions, scores, strict=True)
            ]
        half = journal.after(kept[75].position, kinds=(ANSWER,), limit=3)
        assert [msgspec.json.decode(one.body)["a"] for one in half] == [75, 76, 77]
        found = dict(journal.bodies(["r3", "alone", "nobody"]))
        assert {id_: msgspec.json.decode(body)["a"] for id_, body in found.items()} == {
            "r3": 3,
            "alone": 1,
        }


def test_rows_whose_body_was_forgotten_are_forgotten_too(path: Path) -> None:
    with contextlib.closing(Writer(path)) as writer:
        writer.write(Sheet(["a", "b"], 7, ["v1"] * 2, [0.1, 0.2], b'[{"x":1},{"x":2}]'))
    with contextlib.closing(Journal(path)) as journal:
        last = journal.last()
        assert journal.trim(last - 1, before=10) == 2
        assert journal.after(0) == []
        assert list(journal.bodies(["a", "b"])) == []
        assert journal.trim(last, before=10) == 0  # the newest stays


def test_answers_count_as_many_entries_as_rows(path: Path) -> None:
    writer = Writer(path, most=10)
    with contextlib.closing(writer):
        held = threading.Event()
        first = [New(ANSWER, 1, 1, "v1", 0.5, b"{}")]
        writer.submit(first, lambda outcome: held.wait(30) and None)
        many = Sheet(list(range(9)), 1, ["v1"] * 9, [0.5] * 9, b"[]")
        taken = [writer.submit(many, lambda outcome: None) for _ in range(2)]
        held.set()
    assert taken[-1] is False


def test_the_log_does_not_grow_without_end_while_it_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PAGES", 50)
    body = b'{"text": "%s"}' % (b"x" * 4_000)
    with contextlib.closing(Writer(path)) as writer:
        for place in range(1_500):
            writer.write([New(ANSWER, place, 1, "v1", 0.5, body)])
        log = path.with_name(f"{path.name}-wal").stat().st_size
    # Without checkpoints it would be above 1,500 bodies and the pages around them.
    assert log < 1_500 * 4_000
    with contextlib.closing(Journal(path)) as journal:
        assert len(journal.after(0)) == 1_500


def test_a_checkpoint_that_finds_another_at_work_leaves_it_the_log(path: Path) -> None:
    with contextlib.closing(Writer(path)) as writer:
        writer.write([New(ANSWER, 1, 1, "v1", 0.5, b"{}")])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entries").fetchone()
            writer.write([New(ANSWER, 2, 1, "v1", 0.5, b"{}")])
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                assert checkpoint.passed(other) > 0
        assert checkpoint.passed(writer._connection) == 0
