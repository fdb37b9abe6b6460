"""The Open Inference Protocol v2: tensors in, tensors out, in JSON and in its binary form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from keepfit import __version__
from keepfit.errors import VersionUnknown
from keepfit.learners.models import FittedModel
from keepfit.server import exploring, tensors
from keepfit.server.desk import Desk, label_refused
from keepfit.server.models import Serving
from keepfit.server.quick import Answer, Row
from keepfit.server.replies import Reply, Send, answered, refused
from keepfit.server.split import Mixed, Split, Told
from keepfit.server.tensors import Inference, Output
from keepfit.server.values import bounded

DATATYPES = {"number": "FP64", "boolean": "BOOL", "category": "BYTES", "time": "BYTES"}
"""What a column of each kind is as a tensor; a time is text, as in JSON."""

Handler = Callable[[Request], Awaitable[Reply]]
Guard = Callable[[str, Handler], Any]


def routes(desk: Desk, guard: Guard) -> list[Route]:
    """Return the routes of the protocol."""
    doors = _Doors(desk)
    model = "/v2/models/{model}"
    paths: Sequence[tuple[str, str, str, Handler]] = (
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
        Route(path, guard(role, _worded(handler)), methods=[method])
        for path, method, role, handler in paths
    ]


def _worded(handler: Handler) -> Handler:
    """Return a handler whose errors are told in the protocol's form: a text, and nothing else."""

    async def worded(request: Request) -> Reply:
        try:
            reply = await handler(request)
        except Exception as error:
            reply = refused(error)
        return texted(reply)

    return worded


def texted(reply: Reply) -> Reply:
    """Return an error of the house in the protocol's form, and any other reply as it is."""
    if reply.status < 400:
        return reply
    told = msgspec.json.decode(reply.body)["error"]
    text = "\n".join(filter(None, (told["message"], told.get("hint"))))
    return reply._replace(body=msgspec.json.encode({"error": text}))


class _Doors:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def server(self, request: Request) -> Reply:
        told = {"name": "keepfit", "version": __version__, "extensions": ["binary_tensor_data"]}
        return answered(told)

    async def live(self, request: Request) -> Reply:
        return answered({"live": True})

    async def ready(self, request: Request) -> Reply:
        self.desk.serving()
        return answered({"ready": True})

    async def model(self, request: Request) -> Reply:
        serving = self._asked(request)
        return answered(
            {
                "name": self.desk.name,
                "versions": [one.version for one in self._at_work()],
                "platform": "keepfit",
                "inputs": [
                    {"name": name, "datatype": datatype, "shape": [-1]}
                    for name, datatype in inputs_of(serving.answerer.model).items()
                ],
                "outputs": [
                    {"name": one.name, "datatype": one.datatype, "shape": [-1, *one.shape[1:]]}
                    for one in (
                        *outputs_of(serving, [], [], []),
                        *exploring.outputs_of(self.desk, [], []),
                    )
                ],
            }
        )

    async def model_ready(self, request: Request) -> Reply:
        serving = self._asked(request)
        return answered({"name": self.desk.name, "ready": True, "version": serving.version})

    async def infer(self, request: Request) -> Reply:
        from keepfit.server.app import body_of, later

        serving = self._asked(request)
        if serving is not self.desk.serving():
            raise VersionUnknown(
                f"expected {self.desk.serving().version}, which serves, got {serving.version!r}",
                hint="a challenger answers its share of the requests that name no version",
            )
        body = await body_of(request)
        if isinstance(body, Reply):
            return body
        asked = tensors.read(body, request.headers.get(tensors.LENGTH))
        rows = tensors.rows_of(asked.inputs, serving.answerer.model.features)
        bounded(rows, self.desk.roles, serving)
        if not request.state.caller.may_label and (name := self.desk.labelled(rows)):
            return label_refused(name)
        pinned = "version" in request.path_params
        return await later(lambda send: self._answer(rows, serving, asked, pinned, send))

    def _answer(
        self, rows: list[Row], serving: Serving, asked: Inference, pinned: bool, send: Send
    ) -> None:
        """Answer rows, each by whom it falls to, unless the request names who is to answer all."""
        desk, challenger = self.desk, self.desk.follower.challenger
        send = desk.counters.timed("infer", send)
        if challenger is None or pinned:
            desk.answer(rows, serving, lambda one: _telling(desk, one, asked), send)
            return
        # One tensor has one type and one shape: with other classes nobody answers beside another.
        alike = challenger.serving.classes == serving.classes
        mixed = _telling_each(desk, serving, asked) if alike else None
        split = Split(desk, serving, challenger, lambda one: _telling(desk, one, asked), mixed)
        desk.split(rows, split, send)

    def _at_work(self) -> list[Serving]:
        """Return what serves, and what is being rolled out beside it."""
        challenger = self.desk.follower.challenger
        return [self.desk.serving(), *([] if challenger is None else [challenger.serving])]

    def _asked(self, request: Request) -> Serving:
        """Return what was asked for, when it is at work."""
        found = self._at_work()
        name, version = request.path_params["model"], request.path_params.get("version")
        if name != self.desk.name:
            raise VersionUnknown(f"expected the model {self.desk.name!r}, got {name!r}")
        for serving in found:
            if version in (None, serving.version):
                return serving
        raise VersionUnknown(
            f"expected {found[0].version}, which serves, got {version!r}",
            hint=f"/promote makes {version} serve, if there is such a version",
        )


def inputs_of(model: Any) -> dict[str, str]:
    """Return the datatype of each column that a model reads."""
    columns = model.head.encoding.columns if isinstance(model, FittedModel) else ()
    known = {column.name: DATATYPES.get(column.kind, "FP64") for column in columns}
    return {name: known.get(name, "FP64") for name in model.features}


def outputs_of(
    serving: Serving,
    ids: Sequence[int | str],
    answers: Sequence[Answer],
    versions: Sequence[str],
) -> list[Output]:
    """Return what is said of rows: the prediction, how likely it is, their ids, and who says so.

    ``versions`` may differ from row to row; their classes are those of ``serving``.
    """
    count, classes = len(answers), serving.classes
    datatype = _datatype(classes)
    found = [Output("prediction", datatype, [count], [_chosen(serving, a) for a in answers])]
    if classes:
        shape = [count, len(classes)] if serving.task == "multiclass" else [count]
        flat = [v for a in answers for v in (a if isinstance(a, tuple) else (a,))]
        found.append(Output("probability", "FP64", shape, flat))
    found.append(Output("id", "BYTES", [count], list(map(str, ids))))
    return [*found, Output("version", "BYTES", [count], list(versions))]


def _datatype(classes: Sequence[Any]) -> str:
    kinds = {type(one) for one in classes} or {float}
    names = {bool: "BOOL", int: "INT64", float: "FP64"}
    return names.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def _telling(desk: Desk, serving: Serving, asked: Inference) -> Told:
    """Return what writes a response in which one version answered all rows."""
    each = _telling_each(desk, serving, asked)
    return lambda ids, answers: each(ids, answers, [serving] * len(ids))


def _telling_each(desk: Desk, named: Serving, asked: Inference) -> Mixed:
    """Return what writes a response; it has one ``model_version``, and a ``version`` a row."""

    def told(ids: list[int | str], answers: list[Answer], servings: list[Serving]) -> Reply:
        head = {"model_name": desk.name, "model_version": named.version}
        if asked.id is not None:
            head["id"] = asked.id
        versions = [one.version for one in servings]
        outputs = [
            *outputs_of(named, ids, answers, versions),
            *exploring.outputs_of(desk, ids, answers),
        ]
        body, length = tensors.written(head, outputs, asked)
        return Reply(200, body, head=length)

    return told


def _chosen(serving: Serving, answer: Answer) -> Any:
    if isinstance(answer, tuple):
        return serving.classes[max(range(len(answer)), key=answer.__getitem__)]
    return serving.classes[answer >= 0.5] if serving.classes else answer
