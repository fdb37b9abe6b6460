"""Whatever is answered with 200 lands: through a server, its journal, and a step of the loop."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from tests.served import JSON, ROW_, Served, opened

from keepfit.server.landed import LandedIds
from keepfit.server.rows import ARROW

BINARY = {"content-type": ARROW}
SLOWLY = settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    learner = LGBMClassifier(n_estimators=5, verbosity=-1)
    yield from opened(tmp_path_factory.mktemp("door"), learner)


def landing(served: Served, ids: list[int | str]) -> set[int | str]:
    """Take a step of the loop, and return those of some ids that the lake has now."""
    served.world.steps()
    made = served.world.made
    return LandedIds(made.home, made.name)(ids)


def answered(served: Served, path: str, body: bytes, headers: dict[str, str]) -> list[int]:
    """Return the ids of rows that are kept, where they are; what is refused is told well."""
    status, told = served.ask("POST", path, body, headers)
    assert status in (200, 400, 413, 422), told
    if status != 200:
        assert "expected" in str(told["error"])
        return []
    if "outputs" in told:
        return [int(one) for one in told["outputs"][-2]["data"]]
    if "ids" in told:
        return list(told["ids"])
    return [one["id"] for one in told.get("predictions", [told])]


# Rows -------------------------------------------------------------------------------------

TIMES = st.sampled_from(
    [
        "2024-05-01T00:00:00Z",
        "0000-06-01T00:00:00Z",
        "-5000-06-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00Z",
        "+12000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "2090-01-01T00:00:00Z",
        "2024-05-01",
        "2024-02-30",
        "12:00",
    ]
)
WHOLE = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1])
    | st.sampled_from([10, 60, 309, 400, 4_299]).map(lambda digits: 10**digits)
)
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
) | st.integers(1, 970).map(lambda depth: msgspec.Raw(b"[" * depth + b"]" * depth))
VALUE = (
    st.none()
    | st.booleans()
    | WHOLE
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | TIMES
    | NESTED
)
NAMES = st.sampled_from(["z", "Z", "X", "ID", "_x", "_label", "_Score", "", 'a"b', "a\x01b", "ä"])
LABEL = st.sampled_from([0, 1, 0.0, True, False, 0.5, "abc", "1", [], 2**63, 10**60, 1e300, -1])


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rows of one form, of which each may hold what it should not."""
    more = draw(st.dictionaries(NAMES, VALUE, max_size=2))
    forms = {**ROW_, **({"time": "2024-05-01T00:00:00Z"} if draw(st.booleans()) else {}), **more}
    changes = st.fixed_dictionaries(
        {},
        optional={
            "x": VALUE, "kind": VALUE, "time": TIMES | VALUE, "label": LABEL | VALUE,
            "z": VALUE, **dict.fromkeys(more, VALUE),
        },
    )  # fmt: skip
    return [forms | draw(changes) for _ in range(draw(st.integers(1, 3)))]


@given(st.lists(rows(), min_size=1, max_size=6), st.data())
@SLOWLY
def test_rows_that_are_answered_land(
    served: Served, requests: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    ids: list[int | str] = []
    for found in requests:
        path = data.draw(st.sampled_from(["/predict/churn", "/rows/churn"]))
        body: Any = found[0] if len(found) == 1 and data.draw(st.booleans()) else found
        if data.draw(st.booleans()):
            # Before it: rows of a form that is known from then on.
            plain = {name: ROW_.get(name) for name in found[0]}
            ids += answered(served, path, msgspec.json.encode([plain, plain]), JSON)
        ids += answered(served, path, msgspec.json.encode(body), JSON)
    assert landing(served, ids) == set(ids)


# Arrow ------------------------------------------------------------------------------------

COLUMNS: dict[str, st.SearchStrategy[pl.Series]] = {
    "whole": st.integers(-(2**63), 2**63 - 1).map(lambda one: pl.Series([one])),
    "natural": st.integers(0, 2**64 - 1).map(lambda one: pl.Series([one], dtype=pl.UInt64)),
    "wide": st.integers(-(2**100), 2**100).map(lambda one: pl.Series([one], dtype=pl.Int128)),
    "number": st.floats().map(lambda one: pl.Series([one])),
    "text": st.text(max_size=5).map(lambda one: pl.Series([one])),
    "bytes": st.binary(max_size=5).map(lambda one: pl.Series([one])),
    "moment": st.integers(-(2**63), 2**63 - 1).map(
        lambda one: pl.Series([one]).cast(pl.Datetime("us"))
    ),
    "zoned": st.integers(-(10**15), 10**15).map(
        lambda one: pl.Series([one]).cast(pl.Datetime("us", "Europe/Berlin"))
    ),
    "day": st.integers(-(2**31), 2**31 - 1).map(
        lambda one: pl.Series([one], dtype=pl.Int32).cast(pl.Date)
    ),
    "span": st.integers(-(2**63), 2**63 - 1).map(
        lambda one: pl.Series([one]).cast(pl.Duration("us"))
    ),
    "some": st.lists(st.integers(0, 9), max_size=3).map(
        lambda one: pl.Series([one], dtype=pl.List(pl.Int8))
    ),
    "more": st.text(max_size=3).map(lambda one: pl.Series([{"a": one}])),
    "none": st.just(pl.Series([None])),
    "category": st.text(max_size=3).map(lambda one: pl.Series([one], dtype=pl.Categorical)),
}


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw an Arrow stream of columns of any type, some of whose bytes may be others."""
    frame = pl.DataFrame({name: [value] for name, value in ROW_.items()})
    for name in draw(st.lists(st.sampled_from(["x", "kind", "time", "label", "z"]), max_size=2)):
        column = draw(COLUMNS[draw(st.sampled_from(sorted(COLUMNS)))])
        frame = frame.with_columns(column.alias(name))
    sink = io.BytesIO()
    compression: Any = draw(st.sampled_from(["uncompressed", "lz4", "zstd"]))
    frame.write_ipc_stream(sink, compression=compression)
    body = bytearray(sink.getvalue())
    places = st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255))
    for place, value in draw(st.lists(places, max_size=2)):
        body[place] = value
    return bytes(body)


@given(st.lists(streams(), min_size=1, max_size=8))
@SLOWLY
def test_rows_of_arrow_that_are_answered_land(served: Served, bodies: list[bytes]) -> None:
    ids: list[int | str] = []
    for place, body in enumerate(bodies):
        path = ("/predict/churn", "/rows/churn")[place % 2]
        with contextlib.suppress(msgspec.ValidationError):
            ids += answered(served, path, body, BINARY)
    assert landing(served, ids) == set(ids)


# The Open Inference Protocol --------------------------------------------------------------

TYPES = st.sampled_from(["FP64", "INT64", "UINT64", "BOOL", "BYTES", "FP16"])


@st.composite
def inferences(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Draw a request of the protocol, in JSON or with a binary tensor behind it."""
    inputs: list[dict[str, Any]] = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
        for name, value in ROW_.items()
    ]
    inputs += [
        {"name": name, "shape": [1], "datatype": draw(TYPES), "data": [draw(VALUE)]}
        for name in draw(st.lists(st.sampled_from(["z", "time", "label", "Z"]), max_size=2))
    ]
    changed = inputs[draw(st.integers(0, len(inputs) - 1))]
    shapes = st.lists(st.integers(-1, 2) | WHOLE, max_size=9)
    changed |= draw(
        st.fixed_dictionaries(
            {}, optional={"shape": shapes, "datatype": TYPES, "data": st.lists(VALUE, max_size=2)}
        )
    )
    if draw(st.booleans()):
        return msgspec.json.encode({"inputs": inputs}), JSON
    number = draw(st.integers(0, 2**64 - 1))
    size = {"binary_data_size": 8}
    inputs.append({"name": "u", "shape": [1], "datatype": draw(TYPES), "parameters": size})
    head = msgspec.json.encode({"inputs": inputs})
    return head + struct.pack("<Q", number), JSON | {
        "inference-header-content-length": str(len(head))
    }


@given(st.lists(inferences(), min_size=1, max_size=8))
@SLOWLY
def test_rows_of_tensors_that_are_answered_land(
    served: Served, requests: list[tuple[bytes, dict[str, str]]]
) -> None:
    ids: list[int | str] = []
    for body, headers in requests:
        ids += answered(served, "/v2/models/churn/infer", body, headers)
    assert landing(served, ids) == set(ids)


# Labels -----------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.none() | st.integers(-(10**7), 50)), min_size=1, max_size=5
    ),
    st.booleans(),
)
@SLOWLY
def test_the_label_that_was_sent_last_is_the_one_that_counts(
    served: Served, sent: list[tuple[int, int | None]], between: bool
) -> None:
    (id_,) = answered(served, "/predict/churn", msgspec.json.encode(ROW_), JSON)
    now = datetime.now(UTC)
    before = None
    for value, seconds in sent:
        label: dict[str, Any] = {"id": id_, "label": value}
        if seconds is not None:
            label["known_at"] = (now + timedelta(seconds=seconds)).isoformat()
        status, told = served.ask("POST", "/labels/churn", label)
        fate = "accepted" if before is None else "repeated" if before == value else "corrected"
        assert (status, told[fate], told["waiting"]) == (200, 1, [])
        before = value
        if between:
            served.world.steps()
    served.world.steps()
    lake, state = served.world.loop.memory.lake, served.world.loop.refold()
    known = lake.labelled(as_of=now + timedelta(days=1), until_batch=state.batch)
    assert known.filter(pl.col("_id") == id_).get_column("_label").to_list() == [before]


@given(st.lists(LABEL | VALUE, min_size=1, max_size=6))
@SLOWLY
def test_a_label_is_taken_or_refused_the_same_with_its_row_and_by_itself(
    served: Served, labels: list[Any]
) -> None:
    kept: dict[int, Any] = {}
    for label in labels:
        ids = answered(served, "/rows/churn", msgspec.json.encode(ROW_ | {"label": label}), JSON)
        status, _ = served.ask(
            "POST", "/labels/churn", msgspec.json.encode({"id": 5, "label": label})
        )
        assert bool(ids) == (status == 200 or label is None)
        kept |= dict.fromkeys(ids, label)
    served.world.steps()
    lake, state = served.world.loop.memory.lake, served.world.loop.refold()
    after = datetime.now(UTC) + timedelta(days=1)
    known = lake.labelled(as_of=after, until_batch=state.batch)
    assert known.schema["_label"] == pl.Int64()
    found = dict(known.select("_id", "_label").iter_rows())
    assert {id_: found.get(id_) for id_ in kept} == kept
