"""What a row may hold, found without a look at each value, and told where it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.batch import Roles
from keepfit.errors import SchemaMismatch
from keepfit.facts.depth import DEEPEST
from keepfit.server.nesting import shallow
from keepfit.server.values import MOST_COLUMNS, bounded, checked, distinct

ROLES = Roles(label="late", id="id", time="at", known_at="known")

JSON = st.recursive(
    st.none() | st.integers(0, 9) | st.text(alphabet='[]{}"\\a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("[]{}", max_size=3), inner),
    max_leaves=20,
)


def nested(value: Any, times: int) -> Any:
    for place in range(times):
        value = [value] if place % 2 else {"a": value}
    return value


def depth(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


@given(JSON, st.integers(0, 40))
def test_depth_is_told_from_the_bytes_as_it_is_from_the_value(value: Any, times: int) -> None:
    deep = nested(value, times)
    assert shallow(msgspec.json.encode(deep)) == (depth(deep) <= DEEPEST)


def test_brackets_in_texts_hide_no_depth() -> None:
    assert not shallow(b'["]",' * 33 + b"1" + b"]" * 33)
    assert shallow(msgspec.json.encode(["[" * 100, {"[{": "\\"}]))


def looked_at(rows: list[dict[str, Any]]) -> bool:
    bounded(rows, ROLES, None)
    return checked(rows, ROLES, None)


FAR = (datetime.now(UTC) + timedelta(days=400)).isoformat()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "before year 1": ({"at": "0000-06-01T00:00:00Z"}, "expected a time since year 1 in `at`"),
    "long before year 1": ({"at": "-5000-06-01T00:00:00Z"}, "a time since year 1 in `at`"),
    "before year 1 in UTC": ({"at": "0001-01-01T00:00:00+14:00"}, "since year 1 in `at`"),
    "after year 9999": ({"at": "+12000-01-01T00:00:00Z"}, "up to a year from now in `at`"),
    "after year 9999 in UTC": ({"at": "9999-12-31T23:59:59-14:00"}, "up to a year from now"),
    "far ahead": ({"at": FAR}, "up to a year from now in `at`"),
    "a list for a time": ({"at": [1]}, "expected a time in `at`, got [1]"),
    "known before year 1": ({"known": "0000-06-01T00:00:00Z"}, "since year 1 in `known`"),
    "known tomorrow": (
        {"late": 1, "known": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
        "expected a time up to now in `known`, when the label became known",
    ),
    "a label that is several": ({"late": [1]}, "expected a label of type"),
    "a label of 400 digits": ({"late": 10**400}, "expected a label of type"),
    "60 digits": ({"z": 10**60}, "expected a whole number up to 64 bits in `z`, got 1000"),
    "65 bits": ({"z": 2**64}, "expected a whole number up to 64 bits in `z`"),
    "two cases": ({"Z": 1, "z": 1}, "expected columns that differ in more than case, got `Z`"),
    "a case of the id's": ({"ID": 1}, "columns that differ in more than case"),
    "keepfit's own": ({"_Label": 1}, "expected other names than keepfit's own, got `_Label`"),
    "deep": ({"z": nested(1, 33)}, "expected a value in `z` nested at most 32 deep"),
    "too deep to be written": ({"z": nested(1, 900)}, "a value in `z` nested at most 32 deep"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("beside", [0, 3])
def test_what_could_not_land_is_told_with_its_column(name: str, beside: int) -> None:
    change, message = REFUSED[name]
    good = {"id": 1, "a": 0.5}
    for _ in range(2):  # what is known of names that came before does not let more through
        with pytest.raises(SchemaMismatch) as told:
            looked_at([good] * beside + [good | change])
        assert message in told.value.message


@pytest.mark.parametrize(
    "row",
    [
        {"z": 2**64 - 1},
        {"z": -(2**63)},
        {"z": nested(1, DEEPEST)},
        {"at": "0001-01-01T00:00:00Z"},
        {"at": None, "known": None, "late": None},
        {"late": 0.5, "known": "2024-03-09T12:00:00Z"},
        {"": 1, "a.b`'": 2, "ä": 3, "日本": 4},
        {},
    ],
    ids=str,
)
def test_what_can_land_is_taken_as_it_is(row: dict[str, Any]) -> None:
    kept = dict(row)
    assert not looked_at([row])
    assert not looked_at([row, row])
    assert row == kept


def test_names_are_bounded() -> None:
    rows = [{f"c{place}": 1} for place in range(MOST_COLUMNS + 1)]
    checked(rows[:-1], ROLES, None)
    with pytest.raises(SchemaMismatch, match="expected at most 10,000 columns, got 10,001"):
        checked(rows, ROLES, None)


def test_letters_that_are_one_without_case_are_one_name() -> None:
    with pytest.raises(SchemaMismatch, match="`STRASSE` and `straße`"):
        distinct(["straße", "STRASSE"])
