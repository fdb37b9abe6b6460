"""What the server answers, as types: from them the OpenAPI document is made."""

from __future__ import annotations

from typing import Any

import msgspec

Cell = bool | int | float | str
Id = int | str


class Said(msgspec.Struct):
    """What is wrong, and what to do about it."""

    message: str
    hint: str | None = None


class Problem(msgspec.Struct):
    """An error."""

    error: Said


class InferenceProblem(msgspec.Struct):
    """An error, in the form of the Open Inference Protocol."""

    error: str


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row's answer: ``probability`` of the second of two classes, ``probabilities`` of several.

    Where only what passes gets a label: whether the row does, whether by chance, and with what
    probability.
    """

    id: Id
    prediction: Cell
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    version: str | None = None
    passes: bool | None = msgspec.field(default=None, name="pass")
    explored: bool | None = None
    pass_probability: float | None = None


class Answers(msgspec.Struct):
    """The answers of several rows, in their order.

    While a challenger answers a share of the rows each names its version.
    """

    predictions: list[Answer]
    version: str | None = None


class Rows(msgspec.Struct):
    """Rows, in a list."""

    rows: list[dict[str, Any]]


class Named(msgspec.Struct):
    """Rows, as a list of values for each, in the order of the names."""

    names: list[str]
    rows: list[list[Any]]


class Columns(msgspec.Struct):
    """Rows, as a list per column, all of one length."""

    columns: dict[str, list[Any]]


class Taken(msgspec.Struct):
    """Rows that are kept, and the ids they have."""

    accepted: int
    ids: list[Id]


class Labelled(msgspec.Struct):
    """What labels were: new, known, corrections, or of rows that nobody knows yet."""

    accepted: int
    repeated: int
    corrected: int
    waiting: list[Id]


class Heard(msgspec.Struct):
    """Events that are new, and those that came before."""

    accepted: int
    repeated: int


class Event(msgspec.Struct):
    """A CloudEvent 1.0; it may have other attributes too."""

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    data: Any = None


class IdColumn(msgspec.Struct):
    """Where a row's id stands, and whether ids are kept as ``number`` or ``text``."""

    column: str | None
    kind: str


class Health(msgspec.Struct):
    """How the server is."""

    live: bool
    ready: bool
    serving: str | None
    problem: str | None
    id: IdColumn


class Live(msgspec.Struct):
    """The server runs."""

    live: bool


class Ready(msgspec.Struct):
    """A champion serves."""

    ready: bool


class Stands(msgspec.Struct):
    """How the pipeline stands after a person's hand."""

    pipeline: str
    champion: str | None
    previous: str | None
    paused: str | None


class Server(msgspec.Struct):
    """What serves, of which version, with which extensions of the protocol."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(msgspec.Struct):
    """Whether a version is ready."""

    name: str
    ready: bool
    version: str


class TensorMetadata(msgspec.Struct):
    """A tensor's name, type and shape; -1 is a length that may vary."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferenceAnswer(msgspec.Struct):
    """The tensors of an answer, of which ``version`` says for each row who answered it.

    Where a champion and its challenger both did, ``model_version`` is the champion's.
    """

    model_name: str
    model_version: str
    outputs: list[dict[str, Any]]
    id: str | None = None
