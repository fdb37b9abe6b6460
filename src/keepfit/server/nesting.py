"""How deep what a client sends is nested: all that reads it later would go as deep."""

from __future__ import annotations

import re

DEEPEST = 32
"""Lists and objects that may lie one in the other in a body, far below what any reader bears."""

_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*+"', re.DOTALL)
_OPENS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def shallow(body: bytes, rows: int = 1) -> bool:
    """Return whether JSON is nested no deeper than it may be, in time that grows with its length.

    ``rows`` is how many lists or objects of it lie beside one another: with them alone in it
    there is nothing to look at.

    Examples
    --------
    >>> shallow(b'{"a": [[1]], "b": "[[["}'), shallow(b"[" * 33 + b"]" * 33)
    (True, False)
    """
    if body.count(b"[") + body.count(b"{") - rows < DEEPEST:
        return True
    left = _TEXT.sub(b"", body).translate(_OPENS, _OTHERS)
    for _ in range(DEEPEST):
        left = left.replace(b"[]", b"")
    return not left
