"""Tensors of the Open Inference Protocol: every datatype there and back, and what is none."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.errors import ConfigError, TooLarge
from keepfit.server.tensors import (
    FORMS,
    Inference,
    Output,
    Tensor,
    packed,
    read,
    rows_of,
    unpacked,
    written,
)


@pytest.mark.parametrize("datatype", sorted(FORMS))
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_numbers_go_there_and_back(datatype: str, data: st.DataObject) -> None:
    kind = np.dtype(FORMS[datatype])
    if kind.kind == "b":
        one: Any = st.booleans()
    elif kind.kind == "f":
        one = st.floats(width=kind.itemsize * 8, allow_nan=False, allow_infinity=False)  # type: ignore[call-overload]
    else:
        one = st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    values = data.draw(st.lists(one))
    assert unpacked(datatype, packed(datatype, values), "x") == values


@given(st.lists(st.text()))
@settings(deadline=None, max_examples=50)
def test_texts_go_there_and_back(values: list[str]) -> None:
    assert unpacked("BYTES", packed("BYTES", values), "x") == values


def test_a_short_float_is_the_upper_half_of_a_long_one() -> None:
    whole = np.array([1.0, -2.5, 0.15625], "<f4").view("<u4")
    assert unpacked("BF16", (whole >> 16).astype("<u2").tobytes(), "x") == [1.0, -2.5, 0.15625]


def test_what_is_no_finite_number_is_missing() -> None:
    content = np.array([1.5, math.nan, math.inf]).tobytes()
    assert unpacked("FP64", content, "x") == [1.5, None, None]


def body(*tensors: dict[str, Any], tail: bytes = b"", **more: Any) -> tuple[bytes, str]:
    head = msgspec.json.encode({"inputs": list(tensors), **more})
    return head + tail, str(len(head))


def tensor(size: Any, datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    extra = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": name, "shape": [2], "datatype": datatype, **extra}


def test_binary_inputs_lie_one_behind_the_other_with_json_between() -> None:
    tail = np.array([1, 2], "<f4").tobytes() + packed("BYTES", ["a", "b"])
    plain = {"name": "y", "shape": [2], "datatype": "INT64", "data": [3, 4]}
    content, length = body(tensor(8), plain, tensor(10, "BYTES", "kind"), tail=tail)
    rows = rows_of(read(content, length).inputs, ["x", "y", "kind"])
    assert rows == [{"x": 1.0, "y": 3, "kind": "a"}, {"x": 2.0, "y": 4, "kind": "b"}]


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (b"{}", None),
        (b"[", None),
        (b"{}", "3"),
        (b"{}", "-1"),
        (b"{}", "two"),
        (b"{}", "9" * 5_000),
        body(tensor(8), tail=b"1234567"),
        body(tensor(8), tail=b"123456789"),
        body(tensor(7), tail=b"1234567"),
        body(tensor(-1), tail=b""),
        body(tensor(True), tail=b"1"),
        body(tensor("8"), tail=b"12345678"),
        body(tensor(None)),
        body(tensor(8, "FP128"), tail=b"12345678"),
        body(tensor(3, "BYTES"), tail=b"123"),
        body(tensor(5, "BYTES"), tail=b"\xff\xff\xff\xff1"),
        body(tensor(5, "BYTES"), tail=b"\x01\x00\x00\x00\xff"),
    ],
    ids=lambda one: repr(one)[:40] if isinstance(one, bytes) else str(one),
)
def test_what_does_not_fit_is_told(content: bytes, length: str | None) -> None:
    with pytest.raises(ConfigError, match="expected"):
        read(content, length)


@given(st.binary(max_size=200), st.none() | st.integers(0, 250).map(str))
@settings(deadline=None, max_examples=200)
def test_no_body_is_anything_but_read_or_refused(content: bytes, length: str | None) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(read(content, length), Inference)


OUTPUTS = (Output("p", "FP64", [2], [0.25, 0.5]), Output("id", "BYTES", [2], ["a", "b"]))


def test_outputs_are_binary_where_that_is_asked_for() -> None:
    asked = Inference([], parameters={"binary_data_output": True})
    content, head = written({"model_name": "m"}, OUTPUTS, asked)
    told = msgspec.json.decode(content[:head])
    assert [one["parameters"]["binary_data_size"] for one in told["outputs"]] == [16, 10]
    assert np.frombuffer(content[head : head + 16]).tolist() == [0.25, 0.5]
    assert unpacked("BYTES", content[head + 16 :], "id") == ["a", "b"]


def test_outputs_are_those_asked_for_in_that_order_each_in_its_form() -> None:
    asked = read(
        *body(
            outputs=[{"name": "id"}, {"name": "p", "parameters": {"binary_data": True}}],
            parameters={"binary_data_output": True},
        )
    )
    content, head = written({}, OUTPUTS, asked)
    told = msgspec.json.decode(content[:head])["outputs"]
    assert [(one["name"], "data" in one) for one in told] == [("id", True), ("p", False)]
    asked = read(*body(outputs=[{"name": "q"}]))
    with pytest.raises(ConfigError, match="expected outputs among p, id, got 'q'"):
        written({}, OUTPUTS, asked)


@pytest.mark.parametrize(
    "inputs",
    [
        [Tensor("all", [2, 3], "FP64", [1, 2, 3, 4, 5, 6])],
        [Tensor("all", [2, 2], "FP64", [1, 2, 3])],
        [Tensor("all", [-1, 2], "FP64", [])],
        [Tensor("x", [1], "FP64", [1]), Tensor("y", [2], "FP64", [1, 2])],
        [Tensor("x", [1], "FP64", [1]), Tensor("x", [1], "FP64", [2])],
        [Tensor("x", [-1], "FP64", [1])],
        [Tensor("x", [2], "FP64", [[1], [2]])],
        [Tensor("x", [2, 1], "FP64", [[1], 2])],
        [Tensor("x", [1, 1], "FP64", [[[1]]])],
        [Tensor("x", [1], "FP64", [{"a": 1}])],
        [Tensor("x", [10**4_000] * 8, "FP64", [1])],
        [Tensor("x", [1] * 9, "FP64", [1])],
    ],
    ids=[
        "width", "few", "negative", "lengths", "twice", "shape", "deeper", "mixed", "deep", "object",
        "large", "dimensions",
    ],
)  # fmt: skip
def test_tensors_that_are_no_rows_are_told(inputs: list[Tensor]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        rows_of(inputs, ["x", "y"])


@pytest.mark.parametrize(
    "inputs",
    [
        [Tensor("x", [20_000], "FP64", [1] * 20_000)],
        [Tensor("all", [20_000, 2], "FP64", [1] * 40_000)],
    ],
    ids=["columns", "matrix"],
)
def test_more_rows_than_a_request_may_hold_are_not_made(inputs: list[Tensor]) -> None:
    with pytest.raises(TooLarge, match="expected at most 10,000 in a request, got 20,000"):
        rows_of(inputs, ["x", "y"])


class Counted(list[Any]):
    """A list that counts how often its items are asked for."""

    asked = 0

    def __iter__(self) -> Iterator[Any]:
        Counted.asked += 1
        return super().__iter__()


def test_a_tensor_is_flattened_in_as_many_passes_as_its_shape_has_lengths() -> None:
    deep: Any = 1
    for _ in range(800):
        deep = [deep]
    Counted.asked = 0
    with pytest.raises(ConfigError, match=r"expected 1 values for shape \[1\] of 'x', got 3"):
        rows_of([Tensor("x", [1], "FP64", Counted([deep, 0, 0]))], ["x"])
    assert Counted.asked == 0
    flat = rows_of([Tensor("x", [2, 1, 1], "FP64", [[[1]], [[2]]])], ["x"])
    assert flat == [{"x": 1}, {"x": 2}]


def test_a_shape_of_many_lengths_is_refused_before_it_is_multiplied() -> None:
    shape = [2**62] * 40_000
    with pytest.raises(ConfigError, match="of at most 8 lengths") as told:
        rows_of([Tensor("x", shape, "FP64", [1])], ["x"])
    assert len(told.value.message) < 300
