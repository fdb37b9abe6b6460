"""How deep what a client sends is nested: all that reads it later would go as deep."""

from __future__ import annotations

import re

from keepfit.facts.depth import DEEPEST

_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*+"', re.DOTALL)
_OPENS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def shallow(body: bytes) -> bool:
    """Return whether JSON is nested no deeper than it may be, in time that grows with its length.

    Examples
    --------
    >>> shallow(b'{"a": [[1]], "b": "[[["}'), shallow(b"[" * 33 + b"]" * 33)
    (True, False)
    """
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return True
    left = _TEXT.sub(b"", body).translate(_OPENS, _OTHERS)
    for _ in range(DEEPEST):
        left = left.replace(b"[]", b"")
    return not left
