"""Rows of one request, kept in one body: written as they came, and taken apart when they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

_rows = msgspec.json.Decoder(list[msgspec.Raw] | dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[Any])
_columns = msgspec.json.Decoder(dict[str, list[Any]])
_packed = msgspec.msgpack.Decoder(tuple[list[str], list[list[Any]]])
PACKED = 0x92
"""First byte of rows that `packed` made: MessagePack's of two values, which begins no JSON."""

KEPT = 16
"""Bodies that are kept apart in memory: rows of one are mostly asked for one after the other."""


def packed(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return rows that all have the same columns as a body that holds their names once.

    Raises
    ------
    OverflowError
        A whole number does not fit into 64 bits.
    """
    return msgspec.msgpack.encode((names, rows))


def apart(body: bytes) -> list[bytes]:
    """Return each row of a body as an object of JSON.

    A body is what `packed` makes, a list of objects, or an object: ``{"rows": […]}`` with such a
    list, ``{"columns": {…}}`` with a list for each column, or ``{"names": […], "rows": [[…]]}``
    with one for each row.

    Examples
    --------
    >>> apart(b'[{"a": 1}, {"a": 2}]')
    [b'{"a": 1}', b'{"a": 2}']
    >>> apart(b'{"columns": {"a": [1, 2]}}')
    [b'{"a":1}', b'{"a":2}']
    >>> apart(b'{"names": ["a"], "rows": [[1], [2]]}')
    [b'{"a":1}', b'{"a":2}']
    >>> apart(packed(["a"], [[1], [2]]))
    [b'{"a":1}', b'{"a":2}']
    """
    if body[0] == PACKED:
        return _joined(*_packed.decode(body))
    found = _rows.decode(body)
    if isinstance(found, dict) and found.keys() == {"rows"}:
        found = _rows.decode(found["rows"])
    if isinstance(found, list):
        return [bytes(one) for one in found]
    if "columns" in found:
        columns = _columns.decode(found["columns"])
        return _joined(list(columns), list(zip(*columns.values(), strict=True)))
    return _joined(_list.decode(found["names"]), _list.decode(found["rows"]))


def _joined(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bytes]:
    return [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows]


def reader(found: Callable[[int], bytes | None]) -> Callable[[int, int | bytes], bytes | None]:
    """Return what gives the body of an entry: its own, or its row of the one that it shares.

    ``found`` gives the body at a position, None when it was forgotten.
    """

    @lru_cache(KEPT)
    def whole(position: int) -> list[bytes] | None:
        body = found(position)
        return None if body is None else apart(body)

    def body_of(position: int, body: int | bytes) -> bytes | None:
        if not isinstance(body, int):
            return body
        rows = whole(position - body)
        return None if rows is None else rows[body - 1]

    return body_of
