"""A pickle's operations, read and written anew so that equal values have equal bytes."""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

_Token = bytes | tuple[bytes] | int
"""Operations as they are; a text by itself; the object kept as one of so many, or, inverted, its keeping."""

_ENCODED = {one.code: (one.arg.n if one.arg else 0) for one in pickletools.opcodes}
_WIDTHS = [_ENCODED.get(chr(code), 0) for code in range(256)]
"""Bytes of what follows an operation; below zero where it says by itself, or ends with its line."""

_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TEXTS = {pickle.SHORT_BINUNICODE[0]: 2, pickle.BINUNICODE[0]: 5, pickle.BINUNICODE8[0]: 9}
_CLOSING = {
    ord(one.code) for one in pickletools.opcodes if pickletools.markobject in one.stack_before
}
_SETS = {pickle.ADDITEMS[0], pickle.FROZENSET[0]}
_NUMBERS = {
    ord(one.code)
    for one in pickletools.opcodes
    if one.name in ("NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "LONG1", "LONG4")
    or one.name.startswith("BININT")
}
_FRAME, _MARK, _MEMOIZE = pickle.FRAME[0], pickle.MARK[0], pickle.MEMOIZE[0]
_GETS = {pickle.BINGET[0], pickle.LONG_BINGET[0]}
_TOLD = {_FRAME, _MARK, _MEMOIZE, *_TEXTS, *_GETS, *_CLOSING}


def ordered(content: bytes) -> bytes:
    """Return a pickle with every text stored once, and sets of texts and numbers in order.

    Which equal texts are one object depends on where they come from: Python shares those in
    code, and not those out of another pickle. The order of a set of texts differs from
    process to process, that of any with what was put in first.
    """
    return _written(_tokens(content))


def _tokens(content: bytes) -> list[_Token]:
    """Return a pickle's operations: texts by value, other objects by the order they are kept in."""
    tokens: list[_Token] = []
    kept: list[_Token] = []
    marks: list[int] = []
    first = place = 0
    closed = began = -1
    while place < len(content):
        code = content[place]
        width = _WIDTHS[code]
        end = place + 1 + width if width >= 0 else _end(content, place, width)
        if code not in _TOLD:
            place = end
            continue
        # What lies between is written as it is, in one piece.
        if code == _MARK:
            tokens.append(content[first:end])
            marks.append(len(tokens))
            first = end
        elif code in _CLOSING:
            opened = marks.pop()
            held = _plain([*tokens[opened:], content[first:place]]) if code in _SETS else None
            if held is not None:
                if code == pickle.ADDITEMS[0] and closed == opened - 2:
                    # A large set is written in parts, and is in order as a whole.
                    held += tokens[began:closed]
                    opened = began
                tokens[opened:] = [*sorted(held, key=_rank), content[place:end]]
                first, closed, began = end, len(tokens) - 1, opened
        else:
            if first < place:
                tokens.append(content[first:place])
            first = end
            if code in _TEXTS:
                tokens.append((content[place + _TEXTS[code] : end],))
            elif code == _MEMOIZE:
                if isinstance(tokens[-1], tuple):
                    kept.append(tokens[-1])
                else:
                    tokens.append(~len(kept))
                    kept.append(len(kept))
            elif code in _GETS:
                tokens.append(kept[int.from_bytes(content[place + 1 : end], "little")])
        place = end
    tokens.append(content[first:])
    return tokens


def _plain(tokens: list[_Token]) -> list[_Token] | None:
    """Return what a set holds one by one where that is nothing but texts and numbers, else None."""
    found: list[_Token] = []
    for one in tokens:
        if isinstance(one, int):
            return None
        if isinstance(one, tuple):
            found.append(one)
            continue
        place = 0
        while place < len(one):
            if one[place] not in _NUMBERS:
                return None
            width = _WIDTHS[one[place]]
            end = place + 1 + width if width >= 0 else _end(one, place, width)
            found.append(one[place:end])
            place = end
    return found


def _rank(token: _Token) -> tuple[bool, Any]:
    return isinstance(token, tuple), token


def _end(content: bytes, place: int, width: int) -> int:
    """Return where an operation ends that says by itself how long it is."""
    if width == pickletools.UP_TO_NEWLINE:
        return content.index(b"\n", place) + 1
    first = place + 1 + _COUNTS[width]
    return first + int.from_bytes(content[place + 1 : first], "little")


def _written(tokens: list[_Token]) -> bytes:
    parts: list[bytes] = []
    places: dict[_Token, int] = {}
    for one in tokens:
        if isinstance(one, bytes):
            parts.append(one)
        elif one in places:
            parts.append(_get(places[one]))
        else:
            kept = ~one if isinstance(one, int) else one
            if isinstance(one, tuple):
                parts.append(_text(one[0]))
            places[kept] = len(places)
            parts.append(pickle.MEMOIZE)
    return b"".join(parts)


def _get(place: int) -> bytes:
    if place < 256:
        return pickle.BINGET + place.to_bytes(1, "little")
    return pickle.LONG_BINGET + place.to_bytes(4, "little")


def _text(encoded: bytes) -> bytes:
    if len(encoded) < 256:
        return pickle.SHORT_BINUNICODE + len(encoded).to_bytes(1, "little") + encoded
    return pickle.BINUNICODE8 + len(encoded).to_bytes(8, "little") + encoded
