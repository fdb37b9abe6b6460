"""Whatever is appended, the ledger gives it back: same facts, same order, no gaps."""

from __future__ import annotations

import types
import typing
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.facts import KINDS, Fact, decode, encode
from keepfit.ledger import Ledger

START = datetime(2024, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
lengths = st.timedeltas(timedelta(0), timedelta(days=36_500))
plain = st.none() | st.booleans() | numbers | floats | texts
json_values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
scalars: dict[Any, st.SearchStrategy[Any]] = {
    int: numbers,
    float: floats,
    str: texts,
    bool: st.booleans(),
    datetime: moments,
    timedelta: lengths,
    type(None): st.none(),
    Any: json_values,
}


def values(annotation: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field, from its annotation."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in scalars:
        return scalars[annotation]
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(part, depth) for part in inner])
    if origin is tuple:
        if depth > 1:  # a decision has parts that are decisions
            return st.just(())
        return st.lists(values(inner[0], depth + 1), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(texts, values(inner[1], depth), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    return structs(annotation, depth)


def structs(kind: type[Any], depth: int = 0) -> st.SearchStrategy[Any]:
    fields = {field.name: values(field.type, depth) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


facts: st.SearchStrategy[Fact] = st.one_of([structs(kind) for kind in KINDS.values()])
appends = st.lists(st.tuples(st.lists(facts, max_size=3), moments), max_size=5)


@given(facts)
def test_every_fact_is_the_same_after_it_was_encoded(fact: Fact) -> None:
    assert decode(encode(fact)) == fact


@settings(max_examples=40)
@given(appends)
def test_what_is_appended_is_what_is_read(appended: list[tuple[list[Fact], datetime]]) -> None:
    with Ledger(":memory:", durable=False) as ledger:
        expected: list[tuple[int, datetime, Fact]] = []
        for some, at in appended:
            last = ledger.append("churn", some, at=at, expected_seq=len(expected))
            expected += [(len(expected) + n, at, fact) for n, fact in enumerate(some, start=1)]
            assert last == ledger.seq("churn") == len(expected)
        read = [(entry.seq, entry.at, entry.fact) for entry in ledger.facts("churn")]
        assert read == expected
        assert ledger.check() == []
        assert ledger.facts("churn").to_frame().height == len(expected)


@settings(max_examples=30)
@given(
    st.lists(facts, max_size=8),
    st.integers(0, 10),
    st.none() | st.sets(st.sampled_from(sorted(KINDS))),
    st.none() | st.integers(0, 9),
    st.booleans(),
)
def test_reading_with_filters_is_reading_all_and_then_filtering(
    some: list[Fact], after: int, kinds: set[str] | None, limit: int | None, newest_first: bool
) -> None:
    with Ledger(":memory:", durable=False) as ledger:
        ledger.append("churn", some, at=START)
        entries = list(ledger.facts("churn"))
        expected = [
            entry
            for entry in (reversed(entries) if newest_first else entries)
            if entry.seq > after and (kinds is None or entry.fact.kind in kinds)
        ][:limit]
        found = ledger.facts(
            "churn", after=after, kind=kinds, limit=limit, newest_first=newest_first
        )
        assert list(found) == expected


@settings(max_examples=30)
@given(st.lists(facts, max_size=8), st.integers(0, 8))
def test_facts_appended_in_two_parts_are_the_facts_appended_at_once(
    some: list[Fact], cut: int
) -> None:
    with Ledger(":memory:", durable=False) as ledger:
        ledger.append("once", some, at=START)
        ledger.append("parts", some[:cut], at=START)
        ledger.append("parts", some[cut:], at=START)
        once, parts = ledger.facts("once"), ledger.facts("parts")
        assert [(e.seq, e.at, e.fact) for e in once] == [(e.seq, e.at, e.fact) for e in parts]
