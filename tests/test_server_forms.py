"""Rows of a known form are answered and kept as they are when each is read as a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier

from keepfit import learners
from keepfit.batch import Roles
from keepfit.journal import Sheet
from keepfit.journal.sheets import apart
from keepfit.server.desk import Desk
from keepfit.server.forms import KNOWN, SHORT, Forms
from keepfit.server.models import Pointer, Serving
from keepfit.server.quick import AT_ONCE, quickest
from keepfit.server.replies import Reply

ROLES = Roles(label="late", id="id", time="at")
DEEP = msgspec.json.decode(b"[" * 900 + b"]" * 900)
NUMBERS = st.none() | st.integers(-(10**20), 10**20) | st.floats(-9, 9)
ROW = st.fixed_dictionaries(
    {
        "note": st.none() | st.text() | st.lists(st.integers(0, 9)),
        "b": NUMBERS | st.sampled_from(["1.5", "x"]),
        "at": st.none() | st.sampled_from(["2024-03-09T12:00:00Z", "soon", 7]),
        "a": NUMBERS,
        "id": st.none() | st.text(max_size=2) | st.integers(0, 9),
        "kind": st.none() | st.sampled_from(["u", "v", "w", 3]),
    }
)


@cache
def serving() -> Serving:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "_id": np.arange(300),
            "a": rng.normal(size=300),
            "b": rng.normal(size=300),
            "kind": rng.choice(["u", "v"], size=300),
        }
    ).with_columns(_label=(pl.col("a") + (pl.col("kind") == "u") > 0).cast(pl.Int64))
    model = learners.resolve(LGBMClassifier(n_estimators=9, verbosity=-1)).fit(
        frame, start="scratch", update="all", previous=None, seed=0
    )
    return Serving(Pointer("v1", "digest", "text"), quickest(model))


class Fixed:
    """One version that serves, and nobody that challenges it."""

    challenger = None

    def __init__(self) -> None:
        self.current = serving()


class Pad:
    """Keeps what it is given, as a writer would."""

    waiting = 0

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def submit(self, entries: Any, done: Callable[[Any], None]) -> bool:
        self.kept.append(entries)
        done(())
        return True


def desk() -> Desk:
    made: Any = Desk("p", ROLES, Fixed(), Pad(), None)  # type: ignore[arg-type]
    found: Desk = made
    return found


def asked(desk: Desk, body: Any) -> tuple[Reply, Any]:
    """Return the reply to a body, and what was kept of it, if anything was."""
    told: list[Reply] = []
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    desk.predict(content, "application/json", told.append)
    kept: Any = desk.writer.kept  # type: ignore[attr-defined]
    last = kept.pop() if kept else None
    (reply,) = told
    return reply, last


def rows_of(sheet: Sheet) -> list[Any]:
    return [msgspec.json.decode(one) for one in apart(sheet.body)]


def learned(rows: list[dict[str, Any]]) -> Desk:
    """Return a desk that knows the form of rows."""
    made = desk()
    names = list(rows[0])
    plain = {"note": None, "b": 1, "at": None, "a": 2, "id": "x", "kind": "u"}
    asked(made, [{name: plain[name] for name in names}] * 2)
    assert made._forms[True][1]._last.names == tuple(names)  # type: ignore[union-attr]
    return made


@given(st.lists(ROW, min_size=1, max_size=4))
@settings(deadline=None)
def test_rows_of_a_known_form_are_answered_and_kept_as_others_are(
    rows: list[dict[str, Any]],
) -> None:
    for row, id_ in zip(rows, "pqrs", strict=False):
        row["id"] = row["id"] or id_  # ids that are made differ from call to call
    slow, kept = asked(desk(), {"rows": rows})
    names = list(rows[0])
    listed = {"names": names, "rows": [[row[name] for name in names] for row in rows]}
    for body in (rows, listed):
        quick, keeps = asked(learned(rows), body)
        assert quick == slow
        if kept is not None:
            assert (keeps.ids, keeps.versions, keeps.scores) == (
                kept.ids,
                kept.versions,
                kept.scores,
            )
            assert rows_of(keeps) == rows_of(kept)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"a": ...}, 422),
        ({"more": 1}, 200),
        ({"_id": 1}, 422),
        ({"at": "soon"}, 422),
        ({"at": 2**70}, 422),
        ({"at": [1]}, 422),
        ({"at": "2199-01-01T00:00:00Z"}, 422),
        ({"at": "+12000-01-01T00:00:00Z"}, 422),
        ({"at": "9999-12-31T23:59:59-14:00"}, 422),
        ({"at": "0000-06-01T00:00:00Z"}, 422),
        ({"a": 10**400}, 422),
        ({"kind": 2**70}, 422),
        ({"note": 2**64}, 422),
        ({"note": 2**64 - 1}, 200),
        ({"note": DEEP}, 422),
        ({"a": 2**70}, 200),
        ({"id": [1]}, 422),
    ],
)
def test_rows_that_are_not_of_the_form_are_answered_as_ever(
    change: dict[str, Any], status: int
) -> None:
    good = {"a": 1.0, "b": 2, "kind": "u", "at": None, "id": "x", "note": None}
    bad = {name: value for name, value in (good | change).items() if value is not ...}
    reply, kept = asked(learned([good]), [good, bad])
    assert reply == asked(desk(), {"rows": [good, bad]})[0]
    assert reply.status == status
    if status == 200:
        assert rows_of(kept) == [good, bad]


@pytest.mark.parametrize("body", [b"[", b"[]", b"[1]", b"[[]]", b"[{}]", b'[{"a":1}', b"[{]"])
def test_bodies_that_begin_as_rows_and_are_none_are_told_as_ever(body: bytes) -> None:
    good = {"a": 1.0, "b": 2, "kind": "u"}
    assert asked(learned([good]), body)[0] == asked(desk(), body)[0]


@pytest.mark.parametrize("count", [1, 2, AT_ONCE])
def test_ids_are_given_to_rows_of_a_known_form(count: int) -> None:
    good = {"a": 1.0, "b": 2, "kind": "u"}
    reply, kept = asked(learned([good]), [good] * count)
    told = [one["id"] for one in msgspec.json.decode(reply.body)["predictions"]]
    assert told == kept.ids
    assert len(set(told)) == count


def test_no_more_forms_are_known_than_a_few() -> None:
    forms = Forms(serving(), ROLES)
    for place in range(KNOWN + 5):
        row = {"a": 1, "b": 2, "kind": "u", f"more{place}": 0}
        forms.learn([row, row])
    assert len(forms._known) == KNOWN
    assert forms.read(msgspec.json.encode([row])) is None


@pytest.mark.parametrize("rows", [[{"a": 1}], [{"a": 1}, {"b": 1}], [{"a": 1}, {"a": 2}]])
def test_a_form_without_what_the_model_needs_is_not_learnt(rows: list[dict[str, Any]]) -> None:
    forms = Forms(serving(), ROLES)
    forms.learn(rows)
    assert forms.read(msgspec.json.encode(rows)) is None


def test_a_long_body_is_read_in_the_other_way_at_once() -> None:
    forms = Forms(serving(), ROLES)
    row = {"a": 1, "b": 2, "kind": "u"}
    forms.learn([row, row])
    assert forms.read(msgspec.json.encode([row])) is not None
    assert forms.read(msgspec.json.encode([row]) + b" " * SHORT) is None


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x01b"])
def test_names_that_no_struct_takes_are_read_in_the_other_way(name: str) -> None:
    row = {"a": 1.0, "b": 2, "kind": "u", name: 1}
    made = desk()
    for _ in range(2):
        reply, kept = asked(made, [row, row])
        assert reply.status == 200
        assert rows_of(kept) == [row, row]


@pytest.mark.parametrize("change", [{"late": 1}, {"_id": 1}, {"A": 1}])
def test_a_form_with_a_label_or_names_that_may_not_be_is_not_learnt(change: dict[str, int]) -> None:
    row = {"a": 1, "b": 2, "kind": "u"} | change
    forms = Forms(serving(), ROLES)
    forms.learn([row, row])
    assert forms.read(msgspec.json.encode([row])) is None
