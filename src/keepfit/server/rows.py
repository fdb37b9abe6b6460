"""What clients send: rows, labels and events, read and checked; ids given to rows without one."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

from keepfit.batch import Roles
from keepfit.errors import ConfigError, SchemaMismatch
from keepfit.server.limits import few
from keepfit.server.values import bounded, shown

if TYPE_CHECKING:
    from keepfit.server.models import Serving

Row = dict[str, Any]
ARROW = "application/vnd.apache.arrow.stream"
_NAMED = {"names", "rows"}

_decode = msgspec.json.Decoder().decode
_Plain: TypeAlias = (
    bool | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | str | None
)
_row = msgspec.json.Decoder(dict[str, _Plain]).decode
_list = msgspec.json.Decoder(list[dict[str, _Plain]]).decode
_TAG_BITS = 12


class _Listed(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, _Plain]]


_listed = msgspec.json.Decoder(_Listed).decode
_LISTED = b'{"rows":'


class Label(msgspec.Struct, forbid_unknown_fields=True):
    """A label: of which row, and when it became known, now where it does not say."""

    id: int | str
    label: bool | int | float | str
    known_at: datetime | None = None


_labels = msgspec.json.Decoder(Label | list[Label])


def read(body: bytes, kind: str, roles: Roles, serving: Serving | None) -> tuple[list[Row], bool]:
    """Return the rows of a request, and whether it was one row alone.

    One JSON object is a row; a list is rows; ``{"rows": [...]}`` too. ``{"columns": {...}}`` holds
    a list per column, and ``{"names": [...], "rows": [[...]]}`` one per row. With
    ``application/vnd.apache.arrow.stream`` it is an Arrow stream.

    Raises
    ------
    ConfigError
        The body is none of these.
    SchemaMismatch
        A value is nested too deep, or a whole number is too large.
    TooLarge
        They are more than a request may hold.
    """
    if kind.startswith(ARROW):
        from keepfit.server import arrow

        rows, alone = arrow.rows(body), False
    elif (plain := _of_plain(body)) is not None:
        return plain
    else:
        rows, alone = _of_any(body)
    bounded(rows, roles, serving)
    return rows, alone


def _of_plain(body: bytes) -> tuple[list[Row], bool] | None:
    """Return rows none of whose values there is anything to say of; None where there may be.

    To read them so takes no longer than to read them as anything, and no look at each later.
    """
    try:
        if body[:1] == b"[":
            found = _list(body)
        elif body[:8] == _LISTED:
            found = _listed(body).rows
        else:
            return [_row(body)], True
    except (msgspec.MsgspecError, RecursionError):
        return None
    few(len(found))
    return found, False


def _of_any(body: bytes) -> tuple[list[Row], bool]:
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"expected rows as JSON, got: {error}", hint=_FORMS) from None
    if isinstance(found, dict) and not _wrapped(found):
        return [found], True
    return _several(found, body), False


def _several(found: Any, body: bytes) -> list[Row]:
    if isinstance(found, dict):
        found = _unwrapped(found)
    if isinstance(found, list):
        few(len(found))
        if all(isinstance(row, dict) for row in found):
            return found
    raise ConfigError(f"expected rows as JSON objects, got {_shown(body)}", hint=_FORMS)


_FORMS = (
    'send {"amount": 12.5, …}, a list of such objects, {"columns": {"amount": [12.5, …]}}, '
    'or {"names": ["amount"], "rows": [[12.5], …]}'
)


def _wrapped(found: Row) -> bool:
    if len(found) == 1:
        return isinstance(found.get("rows"), list) or isinstance(found.get("columns"), dict)
    return found.keys() == _NAMED and all(isinstance(one, list) for one in found.values())


def _unwrapped(found: dict[str, Any]) -> Any:
    if "columns" in found:
        return _turned(found["columns"])
    return _named(found["names"], found["rows"]) if "names" in found else found["rows"]


def _named(names: list[Any], rows: list[Any]) -> list[Row]:
    few(len(rows))
    plain = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    if not plain or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise ConfigError("expected rows with a value for each of the names", hint=_FORMS)
    return [dict(zip(names, row, strict=False)) for row in rows]


def _turned(columns: dict[str, Any]) -> list[Row]:
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        raise ConfigError("expected columns that are lists of one length", hint=_FORMS)
    few(max(lengths, default=0))
    names = list(columns)
    return [dict(zip(names, row, strict=False)) for row in zip(*columns.values(), strict=False)]


def _shown(body: bytes) -> str:
    text = body[:60].decode(errors="replace")
    return repr(text if len(body) <= 60 else f"{text}…")


def labels(body: bytes) -> list[Label]:
    """Return the labels of a request: one object, or a list of them.

    Raises
    ------
    ConfigError
        The body holds something else.
    """
    try:
        found = _labels.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(
            f"expected labels as JSON, got: {error}",
            hint='send {"id": "a17", "label": 1}, or a list of such objects',
        ) from None
    return found if isinstance(found, list) else [found]


class Ids:
    """Ids of rows, in the one form that the lake keeps; new ones grow with time."""

    def __init__(self, kind: str = "") -> None:
        self.kind = kind
        self._tag = int.from_bytes(os.urandom(2), "big") >> (16 - _TAG_BITS)
        self._last = 0

    def of(self, value: Any) -> int | str:
        """Return an id as the lake keeps it.

        Raises
        ------
        SchemaMismatch
            It is no id, or the lake's ids are numbers and this is none.
        """
        if isinstance(value, str) and value:
            if self.kind != "number":
                return value
            if len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal():
                return self.of(int(value))
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return str(value) if self.kind == "text" else value
        wanted = "a whole number" if self.kind == "number" else "text or a whole number"
        raise SchemaMismatch(
            f"expected {wanted} as id, got {shown(value)}",
            hint="leave it out, and the answer names the id that the row was given",
        )

    def new(self) -> int | str:
        """Return an id that nobody has: the time in microseconds, and a tag of this process."""
        self._last = max(self._last + 1, time.time_ns() // 1_000)
        number = (self._last << _TAG_BITS) | self._tag
        return number if self.kind == "number" else f"{number:016x}"

    def several(self, count: int) -> list[int | str]:
        """Return as many ids that nobody has."""
        first = max(self._last + 1, time.time_ns() // 1_000)
        self._last = first + count - 1
        numbers = range(
            first << _TAG_BITS | self._tag, (first + count) << _TAG_BITS, 1 << _TAG_BITS
        )
        return [*numbers] if self.kind == "number" else [f"{one:016x}" for one in numbers]
