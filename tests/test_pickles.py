"""Pickles that depend on content alone: what is written anew, operation by operation."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

from keepfit import pickles
from keepfit.opcodes import ordered

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["", "a", "b", "é", "\ud800", "𐀀", "x" * 300]),
    st.text(max_size=5),
    st.binary(max_size=300),
    st.sets(st.text(max_size=3)),
    st.frozensets(st.text(max_size=3)),
    st.sets(st.one_of(st.integers(), st.text(max_size=3))),
    # Numbers that fall in one place of a table.
    st.sets(st.one_of(st.none(), st.integers(0, 9).map(lambda one: 8 * one))),
    st.frozensets(st.one_of(st.booleans(), st.floats(allow_nan=False))),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=5),
        inner.map(lambda one: [one, one]),
    ),
    max_leaves=30,
)


PLAIN = {
    "text", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
}  # fmt: skip


def shown(content: bytes) -> list[tuple[str, Any]]:
    """Return what a pickle does, step by step: what is kept as its number, texts where they are used."""
    steps: list[tuple[str, Any]] = []
    kept: list[tuple[str, Any]] = []
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "FRAME":
            continue
        if "BINUNICODE" in operation.name:
            steps.append(("text", argument))
        elif operation.name == "MEMOIZE":
            kept.append(steps[-1] if steps[-1][0] == "text" else ("kept", len(kept)))
        elif operation.name.endswith("BINGET"):
            steps.append(kept[argument])
        else:
            steps.append((operation.name, argument))
    return steps


def numbered(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return steps with what is kept counted by its first use, and texts in sets in order."""
    places: dict[Any, int] = {}
    found: list[tuple[str, Any]] = []
    marks: list[int] = []
    for kind, argument in steps:
        if kind == "MARK":
            marks.append(len(found) + 1)
        elif kind in ("TUPLE", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET", "DICT", "LIST"):
            first = marks.pop()
            inside = found[first:]
            if kind in ("ADDITEMS", "FROZENSET") and all(one[0] in PLAIN for one in inside):
                found[first:] = sorted(inside, key=repr)
        known = kind == "kept"
        found.append((kind, places.setdefault(argument, len(places)) if known else argument))
    return found


@given(VALUES)
def test_a_pickle_written_anew_does_the_same_with_texts_in_order(value: Any) -> None:
    content = pickles.dumps_once(value)
    anew = ordered(content)
    assert numbered(shown(anew)) == numbered(shown(content))
    again = pickle.loads(anew)
    assert again == value
    assert type(again) is type(value)
    # Each text is stored once, and what is written anew already stays as it is.
    stored = [
        one for operation, one, _ in pickletools.genops(anew) if "BINUNICODE" in operation.name
    ]
    assert len(stored) == len(set(stored))
    assert ordered(anew) == anew


@given(VALUES)
def test_equal_values_have_equal_bytes_wherever_they_come_from(value: Any) -> None:
    content = pickles.dumps(value)
    assert pickles.dumps(pickle.loads(content)) == content


LARGE = """
import hashlib
from keepfit import pickles
words = {f"word {number}" for number in range(5_000)} | set(range(0, 9_000, 8)) | {None, 0.5}
value = [words, {"a", 1}, words, frozenset(words), {("a", 1), ("b", 2)} & {("b", 2)}, "word 7"]
assert pickles.loads(pickles.dumps(value)) == value
print(hashlib.sha256(pickles.dumps(value)).hexdigest())
"""


def test_large_sets_have_the_same_bytes_in_every_process() -> None:
    told = {
        subprocess.check_output(
            [sys.executable, "-c", LARGE], env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("0", "1", "2")
    }
    assert len(told) == 1


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, GradientBoostingClassifier])
def test_a_model_has_the_same_bytes_after_it_was_opened(kind: Any) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(300, 4))
    model = kind(random_state=0).fit(rows, rows[:, 0] > 0)
    content = pickles.dumps(model)
    opened = pickles.loads(content)
    assert pickles.dumps(opened) == content
    assert np.array_equal(opened.predict_proba(rows), model.predict_proba(rows))
