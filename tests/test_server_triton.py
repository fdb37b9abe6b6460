"""A client that nobody here wrote, against the endpoints of the Open Inference Protocol."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier

from tests.served import Served, opened
from tests.test_server import said

ROWS = [
    {"x": 0.5, "y": -1.0, "kind": "a"},
    {"x": 1.5, "y": 2.0, "kind": "b"},
    {"x": -2.0, "y": 0.0, "kind": "never seen"},
]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from opened(tmp_path_factory.mktemp("v2"), LGBMClassifier(n_estimators=5, verbosity=-1))


@pytest.fixture(scope="module")
def triton() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tritonclient.http")


@pytest.fixture
def client(trees: Served, triton: Any) -> Iterator[Any]:
    made = triton.InferenceServerClient(f"127.0.0.1:{trees.port}")
    yield made
    made.close()


def inputs(triton: Any, *, binary: bool) -> list[Any]:
    frame = pl.DataFrame(ROWS)
    found = []
    for name, datatype, kind in (
        ("x", "FP64", np.float64),
        ("y", "FP32", np.float32),
        ("kind", "BYTES", np.object_),
    ):
        tensor = triton.InferInput(name, [len(ROWS)], datatype)
        tensor.set_data_from_numpy(frame[name].to_numpy().astype(kind), binary_data=binary)
        found.append(tensor)
    return found


def test_it_finds_the_server_and_the_model_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("churn")
    assert client.is_model_ready("churn", "v1")
    assert not client.is_model_ready("churn", "v99")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]


def test_it_is_told_what_the_model_takes_and_gives(client: Any) -> None:
    told = client.get_model_metadata("churn", "v1")
    assert told["versions"] == ["v1"]
    assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [
        ("x", "FP64"),
        ("y", "FP64"),
        ("kind", "BYTES"),
    ]
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["outputs"]] == [
        ("prediction", "INT64", [-1]),
        ("probability", "FP64", [-1]),
        ("id", "BYTES", [-1]),
        ("version", "BYTES", [-1]),
    ]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("version", ["", "v1"], ids=["newest", "named"])
def test_it_is_answered_as_the_model_answers(
    client: Any, triton: Any, trees: Served, binary: bool, version: str
) -> None:
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("probability", "prediction", "id")
    ]
    found = client.infer(
        "churn", inputs(triton, binary=binary), version, outputs=outputs, request_id="7"
    )
    assert found.as_numpy("probability").tolist() == said(trees, ROWS)
    likely = [int(one >= 0.5) for one in said(trees, ROWS)]
    assert found.as_numpy("prediction").tolist() == likely
    assert len(set(found.as_numpy("id").tolist())) == len(ROWS)
    told = found.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == ("churn", "v1", "7")


def test_all_outputs_come_binary_when_none_is_named(
    client: Any, triton: Any, trees: Served
) -> None:
    found = client.infer("churn", inputs(triton, binary=True))
    assert found.as_numpy("probability").tolist() == said(trees, ROWS)
    assert all("data" not in one for one in found.get_response()["outputs"])


def test_one_tensor_with_all_numbers_is_taken_in_the_order_of_the_columns(
    client: Any, triton: Any, trees: Served
) -> None:
    tensor = triton.InferInput("input", [2, 3], "FP64")
    tensor.set_data_from_numpy(np.array([[0.5, -1.0, np.nan], [1.5, 2.0, np.nan]]))
    found = client.infer("churn", [tensor]).as_numpy("probability").tolist()
    assert found == said(trees, [{**row, "kind": None} for row in ROWS[:2]])


def test_what_is_wrong_is_told_as_an_error_of_its_own(client: Any, triton: Any) -> None:
    for name, version, outputs, message in (
        ("other", "", None, "expected the model 'churn'"),
        ("churn", "v99", None, "expected v1, which serves, got 'v99'"),
        ("churn", "", [triton.InferRequestedOutput("none")], "expected outputs among"),
    ):
        with pytest.raises(triton.InferenceServerException, match=message):
            client.infer(name, inputs(triton, binary=True), version, outputs=outputs)


def test_errors_are_texts_in_every_place(trees: Served) -> None:
    for method, path, status in (
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/churn/versions/v9", 404),
        ("POST", "/v2/models/churn/infer", 400),
    ):
        found, told = trees.ask(method, path, {})
        assert (found, told["error"][:8]) == (status, "expected"), path
