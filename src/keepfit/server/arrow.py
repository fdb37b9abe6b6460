"""Rows of an Arrow stream: what its headers say is bounded before anything is made of it.

A stream of 224 bytes may say that it holds 300 million rows, and one of a few kilobytes may be
gigabytes once it is decompressed. The headers are FlatBuffers, as the Arrow columnar format 1.5
lays them out (Message.fbs and Schema.fbs), of which only lengths and types are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from keepfit.errors import ConfigError, KeepfitError, TooLarge
from keepfit.facts.depth import DEEPEST
from keepfit.server.limits import MOST_ROWS, few

if TYPE_CHECKING:
    import polars as pl

MOST_CELLS = 2_000_000
"""Values of all columns of a request together, those in lists and dictionaries too."""

MOST_DECODED = 32 * 1024 * 1024
"""Bytes that they take once decompressed, and bytes of all their texts."""

MOST_COLUMNS = 10_000
_MOST_MESSAGES = MOST_ROWS + 1_000
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_CONTINUED = 0xFFFFFFFF
_UNHELD = {11: "Interval", 14: "Union", 17: "Map", 22: "RunEndEncoded"}
_LAST_HELD = 24
"""Types up to views of texts are read; those of `_UNHELD`, and newer ones, are not."""


def rows(body: bytes) -> list[dict[str, Any]]:
    """Return the rows of an Arrow stream as JSON would hold them.

    What is kept of a row does so not depend on how it was sent.

    Raises
    ------
    ConfigError
        It is none, or holds what no JSON does.
    TooLarge
        It holds more than a request may.
    """
    _bounded(body)
    import polars as pl

    try:
        frame = pl.read_ipc_stream(body)
        if sum(map(_text_bytes, frame.get_columns())) > MOST_DECODED:
            raise _too_large()
        found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(frame.to_dicts()))
    except KeepfitError:
        raise
    # Polars panics at some streams, which is no Exception; and Python has no time of year 10000.
    except (Exception, pl.exceptions.PanicException) as error:
        text = str(error).partition("\n")[0]
        raise ConfigError(f"expected an Arrow stream, got: {text[:200]}", hint=_HINT) from None
    return found


_HINT = "columns of numbers, texts, booleans and times are read, and lists and structs of them"


def _text_bytes(values: pl.Series) -> int:
    """Return how long the texts of a column are: those of a dictionary count where they stand."""
    import polars as pl

    dtype = values.dtype
    if isinstance(dtype, pl.Struct):
        return sum(map(_text_bytes, values.struct.unnest().get_columns()))
    if isinstance(dtype, pl.List | pl.Array):
        return _text_bytes(values.explode())
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return int(values.cat.len_bytes().sum())
    if dtype == pl.String:
        return int(values.str.len_bytes().sum())
    return int(values.bin.size().sum()) if dtype == pl.Binary else 0


def _too_large() -> TooLarge:
    return TooLarge(
        f"expected an Arrow stream of at most {MOST_CELLS:,} values and {MOST_DECODED:,} bytes "
        "once it is decompressed, got more",
        hint="send fewer rows at once",
    )


# What the headers say -------------------------------------------------------------------------


class _Table(NamedTuple):
    """A table of a FlatBuffer: where it lies, and where what its fields say is found."""

    content: bytes
    at: int

    def field(self, number: int) -> int | None:
        """Return where a field lies, None where it has its default."""
        vtable = self.at - _number("<i", self.content, self.at)
        place = 4 + 2 * number
        if place >= _number("<H", self.content, vtable):
            return None
        offset = _number("<H", self.content, vtable + place)
        return self.at + offset if offset else None

    def number(self, number: int, form: str) -> int:
        """Return what a field says in a form of `struct`, zero where it does not."""
        at = self.field(number)
        return 0 if at is None else _number(form, self.content, at)

    def table(self, number: int) -> _Table | None:
        """Return the table that a field points to."""
        at = self.field(number)
        return None if at is None else _pointed(self.content, at)

    def vector(self, number: int, width: int) -> range:
        """Return where the elements of a field lie, each so many bytes wide."""
        at = self.field(number)
        if at is None:
            return range(0)
        first = at + _number("<I", self.content, at) + 4
        length = _number("<I", self.content, first - 4)
        if length * width > len(self.content):
            raise struct.error("a vector is longer than what it lies in")
        return range(first, first + length * width, width)


def _number(form: str, content: bytes, at: int) -> int:
    if at < 0:
        raise struct.error("a place before the beginning")
    found: int = struct.unpack_from(form, content, at)[0]
    return found


def _pointed(content: bytes, at: int) -> _Table:
    return _Table(content, at + _number("<I", content, at))


def _bounded(body: bytes) -> None:
    """Raise where a stream says that it holds too much.

    Raises
    ------
    ConfigError
        It is no stream, or of types that are not read.
    TooLarge
        It does.
    """
    count = cells = size = 0
    try:
        for number, (header, kind, content) in enumerate(_messages(body)):
            if kind == _SCHEMA:
                _fields(header)
                continue
            batch = header.table(1) if kind == _DICTIONARY else header
            if batch is None or kind not in (_DICTIONARY, _BATCH):
                continue
            count += _length(batch.number(0, "<q")) if kind == _BATCH else 0
            cells += sum(_length(_number("<q", batch.content, at)) for at in batch.vector(1, 16))
            size += sum(_sizes(batch, content))
            few(count)
            if cells > MOST_CELLS or size > MOST_DECODED or number > _MOST_MESSAGES:
                raise _too_large()
    except struct.error as error:
        raise ConfigError(f"expected an Arrow stream, got: {error}", hint=_HINT) from None


def _messages(body: bytes) -> Iterator[tuple[_Table, int, bytes]]:
    """Yield each message's header, of which kind it is, and what comes behind it."""
    at = 0
    while at < len(body):
        length = _number("<I", body, at)
        at += 4
        if length == _CONTINUED:
            length = _number("<I", body, at)
            at += 4
        if not length:
            return
        message = _pointed(body[at : at + length], 0)
        behind = _length(message.number(3, "<q"))
        at += length
        header = message.table(2)
        if header is None or at + behind > len(body):
            raise struct.error("a message ends before its end")
        yield header, message.number(1, "<B"), body[at : at + behind]
        at += behind


def _sizes(batch: _Table, content: bytes) -> Iterator[int]:
    """Yield how many bytes each buffer of a batch is, once it is decompressed."""
    compressed = batch.field(3) is not None
    for place in batch.vector(2, 16):
        offset = _length(_number("<q", batch.content, place))
        length = _length(_number("<q", batch.content, place + 8))
        if offset + length > len(content):
            raise struct.error("a buffer ends behind its message")
        told = _number("<q", content, offset) if compressed and length else -1
        yield length if told == -1 else _length(told)


def _length(told: int) -> int:
    if told < 0:
        raise struct.error("a length below zero")
    return told


def _fields(schema: _Table) -> None:
    """Raise where a schema is too deep or too wide, or has a type that is not read.

    Raises
    ------
    ConfigError
        It is.
    """
    seen, waiting = 0, [(schema, 1, 0)]
    while waiting:
        table, children, depth = waiting.pop()
        for place in table.vector(children, 4):
            field = _pointed(table.content, place)
            seen += 1
            # Fields may point to the same children again and again.
            if seen > MOST_COLUMNS or depth > DEEPEST:
                raise ConfigError(
                    f"expected at most {MOST_COLUMNS:,} columns nested {DEEPEST} deep, got more"
                )
            kind = field.number(2, "<B")
            if kind in _UNHELD or kind > _LAST_HELD:
                told = _UNHELD.get(kind, f"type {kind}")
                raise ConfigError(f"expected columns such as JSON holds, got {told}", hint=_HINT)
            waiting.append((field, 5, depth + 1))
