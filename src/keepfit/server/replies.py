"""What the server says: answers, and errors in the form of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from keepfit.errors import (
    ConfigError,
    DiskFull,
    GateRefused,
    KeepfitError,
    LeaseLost,
    LedgerConflict,
    NoChampion,
    RollbackFailed,
    SchemaMismatch,
    TooLarge,
    VersionUnknown,
)
from keepfit.server.traces import TRACES

if TYPE_CHECKING:
    from keepfit.server.models import Serving
    from keepfit.server.quick import Answer

STATUS: dict[type[KeepfitError], int] = {
    ConfigError: 400,
    SchemaMismatch: 422,
    TooLarge: 413,
    VersionUnknown: 404,
    NoChampion: 503,
    DiskFull: 503,
    GateRefused: 409,
    RollbackFailed: 409,
    LeaseLost: 409,
    LedgerConflict: 409,
}
"""The status of HTTP that each error is told with; 500 for all others."""

RETRY: dict[type[KeepfitError], int] = {NoChampion: 1, LeaseLost: 5, LedgerConflict: 1, DiskFull: 5}
"""Seconds after which what could not be done may be: the loop has ended its step, say."""

JSON = b"application/json"


class Reply(NamedTuple):
    """A response: status, body of JSON, and when to come again where that helps.

    ``head`` is how many bytes of the body are JSON where binary data follows.
    """

    status: int
    body: bytes
    retry_after: int | None = None
    head: int = 0


Send: TypeAlias = Callable[[Reply], None]


def said(status: int, message: str, hint: str | None = None, retry: int | None = None) -> Reply:
    """Return an error as a reply.

    Examples
    --------
    >>> said(404, "no such pipeline", "it is `churn`").body
    b'{"error":{"message":"no such pipeline","hint":"it is `churn`"}}'
    """
    told = {"message": message} if hint is None else {"message": message, "hint": hint}
    return Reply(status, msgspec.json.encode({"error": told}), retry)


def refused(error: Exception) -> Reply:
    """Return what went wrong as a reply; a fault of the server's own goes to its log."""
    if isinstance(error, KeepfitError):
        status = STATUS.get(type(error), 500)
        if status == 500:
            TRACES.write(error)
        return said(status, error.message, error.hint, RETRY.get(type(error)))
    TRACES.write(error)
    return said(500, f"{type(error).__name__}: {error}", "the server's log has the whole way there")


BUSY = said(
    503, "more is waiting to be written to disk than may wait", "try again in a second", retry=1
)
NONE = NoChampion(
    "nothing serves yet",
    hint="a champion serves once a process of its own has tried it, within a minute or so; "
    "GET /status says whether there is one, or the first is still to be trained",
)


def answered(value: Any) -> Reply:
    """Return a value as a reply."""
    return Reply(200, msgspec.json.encode(value))


class _Number(msgspec.Struct):
    """An answer that is a number."""

    id: int | str
    prediction: Any


class _Share(msgspec.Struct):
    """An answer that says how likely the second of two classes is."""

    id: int | str
    prediction: Any
    probability: Any


class Wording:
    """The answers of one version as JSON, of which most is the same for every row."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._classes = [msgspec.json.encode(one) for one in serving.classes]
        self._keys = [_key(one) for one in serving.classes]
        self._version = b',"version":' + msgspec.json.encode(serving.version)

    def one(self, id_: int | str, answer: Answer) -> bytes:
        """Return the response to a request with one row."""
        return b"{" + self._row(id_, answer) + self._version + b"}"

    def many(self, ids: list[int | str], answers: list[Answer]) -> bytes:
        """Return the response to a request with several rows."""
        return b'{"predictions":' + self._rows(ids, answers) + self._version + b"}"

    def _rows(self, ids: list[int | str], answers: list[Answer]) -> bytes:
        # An answer is a number, or one for each of more than two classes.
        pairs: Iterable[tuple[int | str, Any]] = zip(ids, answers, strict=True)
        classes = self._serving.classes
        if len(classes) > 2:
            return b"[" + b",".join([b"{%b}" % self._row(*pair) for pair in pairs]) + b"]"
        if not classes:
            return msgspec.json.encode([_Number(*pair) for pair in pairs])
        return msgspec.json.encode([_Share(id_, classes[one >= 0.5], one) for id_, one in pairs])

    def _row(self, id_: int | str, answer: Answer) -> bytes:
        name = b"%d" % id_ if isinstance(id_, int) else msgspec.json.encode(id_)
        if isinstance(answer, tuple):
            told = self._several(answer)
        elif self._classes:
            told = b'%b,"probability":%b' % (self._classes[answer >= 0.5], repr(answer).encode())
        else:
            told = repr(answer).encode()
        return b'"id":%b,"prediction":%b' % (name, told)

    def _several(self, answer: tuple[float, ...]) -> bytes:
        best = max(range(len(answer)), key=answer.__getitem__)
        shares = b",".join(
            key + repr(share).encode() for key, share in zip(self._keys, answer, strict=True)
        )
        return b'%b,"probabilities":{%b}' % (self._classes[best], shares)


def _key(label: Any) -> bytes:
    """Return a class as the name of a member, which JSON wants as text."""
    text = str(label).lower() if isinstance(label, bool) else str(label)
    return msgspec.json.encode(text) + b":"
