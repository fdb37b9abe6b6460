"""What a client says to a server and makes of its answers, apart from how that travels.

Each act is a generator: it yields what to send, or the seconds to wait before it goes on, and is
told what came of it. So one description serves a client that blocks and one that does not.
"""

from __future__ import annotations

import email.utils
import random
import secrets
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from keepfit.errors import (
    AccessDenied,
    ConfigError,
    KeepfitError,
    SchemaMismatch,
    Unreachable,
    VersionUnknown,
)
from keepfit.server.shapes import Answer, Answers, Health, Heard, IdColumn, Labelled, Problem, Taken

T = TypeVar("T")
Row: TypeAlias = Mapping[str, Any]

AT_ONCE = 1_000
"""Rows that are sent in one request."""

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds before the first repetition at most, and before any."""

PATIENCE = 60.0
"""Seconds that a server may ask a client to wait; where it asks for more, that is told."""

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed: the server was busy, or not there."""

_JSON = "application/json"
_BATCH = "application/cloudevents-batch+json"
_KINDS: dict[int, type[KeepfitError]] = {
    400: ConfigError,
    401: AccessDenied,
    403: AccessDenied,
    404: VersionUnknown,
    413: ConfigError,
    422: SchemaMismatch,
}


class Ask(NamedTuple):
    """A request."""

    method: str
    path: str
    body: bytes = b""
    kind: str = _JSON


class Got(NamedTuple):
    """A response."""

    status: int
    body: bytes
    retry_after: str | None = None


class Lost(NamedTuple):
    """No response: whether the server did what it was asked is not known."""

    reason: str


Steps: TypeAlias = Generator[Ask | float, Any, T]


class Talk:
    """The acts of a client of one pipeline.

    Parameters
    ----------
    pipeline
        Its name.
    retries
        How often a request is sent again.

    Raises
    ------
    ConfigError
        The name is none, or the number is negative.
    """

    def __init__(self, pipeline: str, retries: int) -> None:
        if not pipeline or "/" in pipeline:
            raise ConfigError(f"expected the name of a pipeline, got {pipeline!r}")
        if retries < 0:
            raise ConfigError(f"expected 0 retries or more, got {retries!r}")
        self.pipeline, self.retries = pipeline, retries
        self._ids: IdColumn | None = None

    def predict(self, rows: Any) -> Steps[Any]:
        """Ask for predictions: one for a row, a list for rows."""
        if isinstance(rows, Mapping):
            (row,) = yield from self._named([rows])
            body = yield from self._insist(f"/predict/{self.pipeline}", row)
            return _read(body, Answer)
        found: list[Answer] = []
        for part in _parts(rows):
            named = yield from self._named(part)
            body = yield from self._insist(f"/predict/{self.pipeline}", named)
            told = _read(body, Answers)
            found += [_versioned(one, told.version) for one in told.predictions]
        return found

    def rows(self, rows: Any) -> Steps[list[int | str]]:
        """Send rows that no prediction is asked of, and return their ids."""
        ids: list[int | str] = []
        for part in _parts([rows] if isinstance(rows, Mapping) else rows):
            named = yield from self._named(part)
            ids += _read((yield from self._insist(f"/rows/{self.pipeline}", named)), Taken).ids
        return ids

    def labels(self, labels: Any) -> Steps[Labelled]:
        """Send labels, and return what they were."""
        total = Labelled(0, 0, 0, [])
        for part in _parts([labels] if isinstance(labels, Mapping) else labels):
            path = f"/labels/{self.pipeline}"
            total = _sum(total, _read((yield from self._insist(path, part)), Labelled))
        return total

    def events(self, events: Any) -> Steps[Heard]:
        """Send events; those without an id are given one before they leave."""
        total = Heard(0, 0)
        for part in _parts([events] if isinstance(events, Mapping) else events):
            whole = [_event(one) for one in part]
            told = _read((yield from self._insist("/events", whole, _BATCH)), Heard)
            total = Heard(total.accepted + told.accepted, total.repeated + told.repeated)
        return total

    # --------------------------------------------------------------------------------------

    def _named(self, rows: Sequence[Row]) -> Steps[list[Row]]:
        """Give ids to the rows that have none: with one a row may be sent again, and is one row."""
        if self._ids is None:
            body = yield from self._tried(Ask("GET", "/health"))
            self._ids = _read(body, Health).id
        column, kind = self._ids.column or "id", self._ids.kind
        return [row if row.get(column) is not None else {**row, column: _id(kind)} for row in rows]

    def _insist(self, path: str, value: Any, kind: str = _JSON) -> Steps[bytes]:
        return (yield from self._tried(Ask("POST", path, _written(value), kind)))

    def _tried(self, ask: Ask) -> Steps[bytes]:
        """Send a request until it is answered, and return what the answer holds."""
        turn = 0
        while True:
            got: Got | Lost = yield ask
            if isinstance(got, Got) and got.status == 200:
                return got.body
            wait = waited(got, turn)
            if wait is None or wait > PATIENCE or turn == self.retries:
                raise _problem(ask, got, turn + 1)
            turn += 1
            yield wait


def waited(got: Got | Lost, turn: int) -> float | None:
    """Return the seconds before a request is sent again, or None where that would not help.

    They are drawn evenly from nothing to a bound that doubles ("full jitter", Brooker 2015), so
    that clients who were turned away together do not come back together. What the server asks
    for is waited for first.

    Examples
    --------
    >>> waited(Got(400, b""), 0) is None
    True
    >>> 7 <= waited(Got(503, b"", "7"), 0) <= 7.1
    True
    """
    jitter = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(turn, 60)))
    if isinstance(got, Lost):
        return jitter
    return _seconds(got.retry_after) + jitter if got.status in AGAIN else None


def _seconds(retry_after: str | None) -> float:
    """Return what ``Retry-After`` asks for: seconds, or the time until a date."""
    if not retry_after:
        return 0.0
    if retry_after.isdecimal() and retry_after.isascii():
        return float(retry_after)
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp() - time.time())


def _problem(ask: Ask, got: Got | Lost, times: int) -> KeepfitError:
    place = f"{ask.method} {ask.path}"
    often = "" if times == 1 else f", asked {times} times"
    if isinstance(got, Lost):
        return Unreachable(
            f"{place} got no answer{often}: {got.reason}", hint="is the server up, at this address?"
        )
    try:
        said = msgspec.json.decode(got.body, type=Problem).error
        message, hint = said.message, said.hint
    except msgspec.MsgspecError:
        message, hint = f"expected an answer of keepfit's, got {got.body[:60]!r}", None
    kind = Unreachable if got.status in AGAIN else _KINDS.get(got.status, KeepfitError)
    return kind(f"{message} ({place}: status {got.status}{often})", hint=hint)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unreachable(
            f"expected an answer of keepfit's, got {body[:60]!r}: {error}",
            hint="another server may be at this address",
        ) from None


def _written(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"expected values that JSON has, got: {error}") from None


def _plain(value: Any) -> Any:
    """Return a number of NumPy, which JSON does not know, as one of Python."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r}, of type {type(value).__name__}")


def _parts(rows: Any) -> Iterator[Sequence[Row]]:
    """Yield rows in portions that a server takes: a list of mappings, or a table."""
    if not isinstance(rows, list | tuple):
        from keepfit.predictor import table

        for part in table(rows).iter_slices(AT_ONCE):
            yield part.to_dicts()
        return
    for row in rows:
        if not isinstance(row, Mapping):
            raise ConfigError(f"expected mappings of names to values, got {row!r}")
    for first in range(0, len(rows), AT_ONCE):
        yield rows[first : first + AT_ONCE]


def _id(kind: str) -> str:
    """Return a new id; where the lake's may be numbers, one of 63 bits in digits."""
    return secrets.token_hex(16) if kind == "text" else str(secrets.randbits(63))


def _event(event: Row) -> dict[str, Any]:
    made = {"specversion": "1.0", "source": "keepfit.Client", "id": str(uuid.uuid4())}
    return made | dict(event)


def _versioned(one: Answer, version: str | None) -> Answer:
    return one if one.version is not None else msgspec.structs.replace(one, version=version)


def _sum(one: Labelled, other: Labelled) -> Labelled:
    return Labelled(
        one.accepted + other.accepted,
        one.repeated + other.repeated,
        one.corrected + other.corrected,
        one.waiting + other.waiting,
    )
