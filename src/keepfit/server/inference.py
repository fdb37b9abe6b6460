"""The Open Inference Protocol v2, in JSON: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from keepfit import __version__
from keepfit.errors import ConfigError, VersionUnknown
from keepfit.server.desk import Desk
from keepfit.server.models import Serving
from keepfit.server.quick import Answer, Row
from keepfit.server.replies import Reply, Send, answered
from keepfit.server.split import Split

Guard = Callable[[str, Callable[[Request], Awaitable[Reply]]], Any]


class Tensor(msgspec.Struct):
    """A tensor, row-major; ``data`` may be flat or nested."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Inference(msgspec.Struct):
    """A request for answers."""

    inputs: list[Tensor]
    id: str | None = None


def routes(desk: Desk, guard: Guard) -> list[Route]:
    """Return the routes of the protocol."""
    doors = _Doors(desk)
    model = "/v2/models/{model}"
    paths: Sequence[tuple[str, str, str, Callable[[Request], Awaitable[Reply]]]] = (
        ("/v2", "GET", "", doors.server),
        ("/v2/health/live", "GET", "", doors.live),
        ("/v2/health/ready", "GET", "", doors.ready),
        (model, "GET", "read", doors.model),
        (f"{model}/ready", "GET", "", doors.model_ready),
        (f"{model}/infer", "POST", "predict", doors.infer),
        (f"{model}/versions/{{version}}", "GET", "read", doors.model),
        (f"{model}/versions/{{version}}/ready", "GET", "", doors.model_ready),
        (f"{model}/versions/{{version}}/infer", "POST", "predict", doors.infer),
    )
    return [
        Route(path, guard(role, handler), methods=[method]) for path, method, role, handler in paths
    ]


class _Doors:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def server(self, request: Request) -> Reply:
        return answered({"name": "keepfit", "version": __version__, "extensions": []})

    async def live(self, request: Request) -> Reply:
        return answered({"live": True})

    async def ready(self, request: Request) -> Reply:
        self.desk.serving()
        return answered({"ready": True})

    async def model(self, request: Request) -> Reply:
        serving = self._asked(request)
        several = serving.task == "multiclass"
        outputs = [{"name": "prediction", "datatype": _datatype(serving.classes), "shape": [-1]}]
        if serving.classes:
            shape = [-1, len(serving.classes)] if several else [-1]
            outputs.append({"name": "probability", "datatype": "FP64", "shape": shape})
        return answered(
            {
                "name": self.desk.name,
                "versions": [serving.version],
                "platform": "keepfit",
                "inputs": [
                    {"name": name, "datatype": "FP64", "shape": [-1]}
                    for name in serving.answerer.model.features
                ],
                "outputs": outputs,
            }
        )

    async def model_ready(self, request: Request) -> Reply:
        serving = self._asked(request)
        return answered({"name": self.desk.name, "ready": True, "version": serving.version})

    async def infer(self, request: Request) -> Reply:
        from keepfit.server.app import body_of, later

        serving = self._asked(request)
        body = await body_of(request)
        if isinstance(body, Reply):
            return body
        try:
            asked = msgspec.json.decode(body, type=Inference)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ConfigError(f"expected a request of the protocol v2, got: {error}") from None
        rows = rows_of(asked.inputs, serving.answerer.model.features)
        pinned = "version" in request.path_params
        return await later(lambda send: self._answer(rows, serving, asked.id, pinned, send))

    def _answer(
        self, rows: list[Row], serving: Serving, asked: str | None, pinned: bool, send: Send
    ) -> None:
        """Answer rows by one version: its name has one place in the protocol's response."""
        desk, challenger = self.desk, self.desk.follower.challenger
        send = desk.counters.timed("infer", send)
        if challenger is None or pinned:
            desk.answer(rows, serving, _telling(desk.name, serving, asked), send)
        else:
            split = Split(desk, serving, challenger, lambda one: _telling(desk.name, one, asked))
            desk.split(rows, split, send)

    def _asked(self, request: Request) -> Serving:
        """Return what serves, when it is what was asked for."""
        serving = self.desk.serving()
        name, version = request.path_params["model"], request.path_params.get("version")
        if name != self.desk.name:
            raise VersionUnknown(f"expected the model {self.desk.name!r}, got {name!r}")
        if version not in (None, serving.version):
            raise VersionUnknown(f"expected {serving.version}, which serves, got {version!r}")
        return serving


def rows_of(inputs: Sequence[Tensor], features: Sequence[str]) -> list[Row]:
    """Return tensors as rows: one tensor per column, or one with all features in their order.

    Raises
    ------
    ConfigError
        A tensor's data does not have its shape, or the tensors differ in their rows.

    Examples
    --------
    >>> rows_of([Tensor("input", [2, 2], "FP64", [1, 2, 3, 4])], ["x", "y"])
    [{'x': 1, 'y': 2}, {'x': 3, 'y': 4}]
    """
    if len(inputs) == 1 and inputs[0].name not in features:
        return _matrix(inputs[0], features)
    columns = {one.name: _flat(one) for one in inputs}
    if len({len(values) for values in columns.values()}) > 1:
        raise ConfigError("expected tensors with as many rows each, got several lengths")
    values = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def _matrix(tensor: Tensor, features: Sequence[str]) -> list[Row]:
    width = len(features)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise ConfigError(
            f"expected a tensor of shape [n, {width}], got {tensor.shape}",
            hint=f"the columns are {', '.join(features[:8])}, or send a tensor for each",
        )
    flat = _flat(tensor)
    return [
        dict(zip(features, flat[first : first + width], strict=True))
        for first in range(0, len(flat), width)
    ]


def _flat(tensor: Tensor) -> list[Any]:
    values: list[Any] = tensor.data
    while values and isinstance(values[0], list):
        values = [one for part in values for one in (part if isinstance(part, list) else [part])]
    expected = 1
    for length in tensor.shape:
        expected *= length
    if len(values) != expected:
        raise ConfigError(
            f"expected {expected} values for shape {tensor.shape} of {tensor.name!r}, got {len(values)}"
        )
    return values


def _datatype(classes: Sequence[Any]) -> str:
    kinds = {type(one) for one in classes}
    return {bool: "BOOL", int: "INT64", str: "BYTES"}[kinds.pop()] if kinds else "FP64"


def _telling(
    name: str, serving: Serving, asked: str | None
) -> Callable[[list[int | str], list[Answer]], Reply]:
    def told(ids: list[int | str], answers: list[Answer]) -> Reply:
        outputs = [
            _output(
                "prediction", _datatype(serving.classes), [_chosen(serving, a) for a in answers]
            ),
            _output("id", "BYTES", list(map(str, ids))),
        ]
        if serving.classes:
            flat = [v for a in answers for v in (a if isinstance(a, tuple) else (a,))]
            shape = [len(answers), len(serving.classes)] if len(flat) > len(answers) else None
            outputs.insert(1, _output("probability", "FP64", flat, shape))
        head = {"model_name": name, "model_version": serving.version, "outputs": outputs}
        return answered(head if asked is None else {**head, "id": asked})

    return told


def _output(
    name: str, datatype: str, data: list[Any], shape: list[int] | None = None
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def _chosen(serving: Serving, answer: Answer) -> Any:
    if isinstance(answer, tuple):
        return serving.classes[max(range(len(answer)), key=answer.__getitem__)]
    return serving.classes[answer >= 0.5] if serving.classes else answer
