"""How deep what comes from outside may be nested, and the rest of what already is deeper.

Whatever reads, prints or keeps a value follows it into its depth, and each has a limit of its own.
"""

from __future__ import annotations

import re

DEEPEST = 32
"""Lists and objects that may lie one in another."""

_LEFT_OUT = '"…"'
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def shallow(text: str, most: int = DEEPEST) -> str:
    """Return JSON in which an ellipsis stands for what is nested deeper than it may be.

    The same text where nothing is. It takes time in proportion to its length, and no recursion.

    Examples
    --------
    >>> shallow('{"a": [[1], [[2, "]"]], 3]}', 3)
    '{"a": [[1], ["…"], 3]}'
    """
    if text.count("[") + text.count("{") <= most:
        return text
    depth, kept, parts = 0, 0, []
    for mark in _MARKS.finditer(text):
        sign = mark[0]
        if sign in "[{":
            depth += 1
            if depth == most + 1:
                parts += [text[kept : mark.start()], _LEFT_OUT]
        elif sign in "]}":
            if depth == most + 1:
                kept = mark.end()
            depth -= 1
    return "".join([*parts, text[kept:]]) if parts else text
