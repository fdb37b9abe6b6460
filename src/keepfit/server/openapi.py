"""The OpenAPI document of a server, made from the types that it reads and answers with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from keepfit import __version__
from keepfit.server import shapes
from keepfit.server.app import Asked
from keepfit.server.events import BATCHED, STRUCTURED
from keepfit.server.rows import ARROW, Label
from keepfit.server.tensors import Inference

Schema = dict[str, Any]
_REF = "#/components/schemas/{name}"
_JSON, _BYTES = "application/json", "application/octet-stream"
_BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}

MEANINGS = {
    200: "Done.",
    400: "The request is not one of those the server takes.",
    401: "It has no token, or one that is unknown or revoked.",
    403: "Its token is not good for this.",
    404: "There is no such pipeline, version or model.",
    408: "It took too long to come.",
    409: "It cannot be done as things stand; `Retry-After` says when to come again.",
    413: "It is too large.",
    422: "Rows or labels are not as the pipeline has them.",
    500: "The server, or the model, has a fault.",
    503: "Nothing serves yet, too much waits, or the disk is full; `Retry-After` says when to come "
    "again.",
}


class Operation(NamedTuple):
    """What can be asked at a path: in words, by whom, with which types, and what comes of it."""

    summary: str
    role: str
    takes: tuple[Any, ...]
    gives: tuple[Any, ...]
    statuses: tuple[int, ...]


_TAKEN = (400, 404, 408, 413, 422, 500, 503)
_ASKED = (400, 404, 408, 409, 413, 422, 500, 503)
_LOOKED = (404, 500)
_ROWS = (dict[str, Any], list[dict[str, Any]], shapes.Rows, shapes.Named, shapes.Columns)
_ANSWERS = (shapes.Answer, shapes.Answers)
_EVENTS = (shapes.Event, list[shapes.Event])
_STANDS = (shapes.Stands,)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/predict/{pipeline}"): Operation("Answer rows", "predict", _ROWS, _ANSWERS, _TAKEN),
    ("POST", "/labels/{pipeline}"): Operation(
        "Keep labels, in any order and as often as they come",
        *("label", (Label, list[Label]), (shapes.Labelled,), _TAKEN),
    ),
    ("POST", "/rows/{pipeline}"): Operation(
        "Keep rows that nobody asks a prediction of",
        *("label", _ROWS, (shapes.Taken,), _TAKEN),
    ),
    ("POST", "/events"): Operation(
        "Keep CloudEvents, each once",
        *("label", _EVENTS, (shapes.Heard,), (400, 408, 413, 500, 503)),
    ),
    ("GET", "/status"): Operation("How the pipeline stands", "read", (), (dict,), _LOOKED),
    ("GET", "/why/{version}"): Operation("Why a version is as it is", "read", (), (dict,), _LOOKED),
    ("POST", "/promote"): Operation(
        "Make a version the champion", "operate", (Asked,), _STANDS, _ASKED
    ),
    ("POST", "/approve"): Operation(
        "Let a version go on that waits for a person", "operate", (Asked,), _STANDS, _ASKED
    ),
    ("POST", "/refuse"): Operation(
        "Refuse a version that waits for a person", "operate", (Asked,), _STANDS, _ASKED
    ),
    ("POST", "/rollback"): Operation(
        "Take back what is being rolled out, or the champion", "operate", (Asked,), _STANDS, _ASKED
    ),
    ("POST", "/pause"): Operation(
        "Neither train nor promote", "operate", (Asked,), _STANDS, _ASKED
    ),
    ("POST", "/resume"): Operation("End a pause", "operate", (Asked,), _STANDS, _ASKED),
    ("GET", "/metrics"): Operation("Metrics, as Prometheus reads them", "read", (), (str,), (500,)),
    ("GET", "/health"): Operation("How the server is", "", (), (shapes.Health,), (500,)),
    ("GET", "/health/live"): Operation("Whether it runs", "", (), (shapes.Live,), ()),
    ("GET", "/health/ready"): Operation(
        "Whether a champion serves", "", (), (shapes.Ready,), (500, 503)
    ),
    ("GET", "/openapi.json"): Operation("This document", "", (), (dict,), ()),
    ("GET", "/v2"): Operation("The server's name and version", "", (), (shapes.Server,), ()),
    ("GET", "/v2/health/live"): Operation("Whether it runs", "", (), (shapes.Live,), ()),
    ("GET", "/v2/health/ready"): Operation(
        "Whether a champion serves", "", (), (shapes.Ready,), (500, 503)
    ),
}
_MODEL = "/v2/models/{model}"
for _path in (_MODEL, f"{_MODEL}/versions/{{version}}"):
    OPERATIONS |= {
        ("GET", _path): Operation(
            "What the model takes and gives",
            *("read", (), (shapes.ModelMetadata,), (404, 500, 503)),
        ),
        ("GET", f"{_path}/ready"): Operation(
            "Whether the model answers", "", (), (shapes.ModelReady,), (404, 500, 503)
        ),
        ("POST", f"{_path}/infer"): Operation(
            "Answer tensors", "predict", (Inference,), (shapes.InferenceAnswer,), _TAKEN
        ),
    }


@cache
def document(pipeline: str) -> bytes:
    """Return the document of a server of one pipeline, as JSON.

    Examples
    --------
    >>> found = msgspec.json.decode(document("churn"))
    >>> found["paths"]["/predict/{pipeline}"]["post"]["responses"]["401"]["description"]
    'It has no token, or one that is unknown or revoked.'
    """
    kinds: list[Any] = [shapes.Problem, shapes.InferenceProblem]
    for one in OPERATIONS.values():
        kinds += [*one.takes, *one.gives]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    # Types of one union may all be structs here, which the package reads one by one.
    shown = iter(schemas)
    house, protocol = next(shown), next(shown)
    paths: Schema = {}
    for (method, path), one in OPERATIONS.items():
        takes, gives = ([next(shown) for _ in group] for group in (one.takes, one.gives))
        told = _operation(method, path, pipeline, one)
        problem = protocol if path.startswith("/v2") else house
        told["responses"] = _responses(path, one, _any(gives), problem)
        if takes:
            told["requestBody"] = {"required": True, "content": _content(path, takes)}
        paths.setdefault(path, {})[method.lower()] = told
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": f"keepfit: {pipeline}", "version": __version__},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _any(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _operation(method: str, path: str, pipeline: str, one: Operation) -> Schema:
    role = f" Needs a token with the role `{one.role}`, once there are tokens." if one.role else ""
    told: Schema = {
        "operationId": _named(method, path),
        "summary": one.summary,
        "description": f"{one.summary}.{role}",
    }
    # Without tokens nobody needs one: an empty requirement says so.
    if one.role:
        told["security"] = [{"token": []}, {}]
    places = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    if places:
        told["parameters"] = [_place(name, pipeline) for name in places]
    return told


def _named(method: str, path: str) -> str:
    words = [part.strip("{}").replace(".", "_") for part in path.split("/") if part]
    return "_".join([method.lower(), *words])


def _place(name: str, pipeline: str) -> Schema:
    known = {"example": pipeline} if name in ("pipeline", "model") else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **known}


def _content(path: str, takes: list[Schema]) -> Schema:
    content: Schema = {_JSON: {"schema": _any(takes)}}
    if path in ("/predict/{pipeline}", "/rows/{pipeline}"):
        content[ARROW] = _BINARY
    if path.endswith("/infer"):
        content[_BYTES] = _BINARY
    if path == "/events":
        one, several = takes
        content |= {STRUCTURED: {"schema": one}, BATCHED: {"schema": several}}
    return content


def _responses(path: str, one: Operation, gives: Schema, problem: Schema) -> Schema:
    kind = "text/plain" if one.gives == (str,) else _JSON
    statuses: Sequence[int] = sorted({*one.statuses, *((401, 403) if one.role else ())})
    told: Schema = {
        "200": {"description": MEANINGS[200], "content": {kind: {"schema": gives}}},
    }
    if path.endswith("/infer"):
        told["200"]["content"][_BYTES] = _BINARY
    for status in statuses:
        said: Schema = {
            "description": MEANINGS[status],
            "content": {_JSON: {"schema": problem}},
        }
        if status in (409, 503):
            said["headers"] = {"retry-after": {"schema": {"type": "integer"}}}
        if status == 401:
            said["headers"] = {"www-authenticate": {"schema": {"type": "string"}}}
        told[str(status)] = said
    return told
