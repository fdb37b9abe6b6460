"""One line of what people read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_CONTROLS = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_CONTROL_OR_LINE = re.compile(f"[\\t\\n{_CONTROLS}]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text in which what controls a terminal or a log stands as it is written in Python.

    Events, reasons and names come from outside: what is printed of them must neither begin a line
    of its own, nor move the cursor, nor turn the direction of writing. With ``lines`` the ends of
    lines, and tabs, stay.

    Examples
    --------
    >>> print(printable("over\n2026-01-01 promoted \x1b[2J"))
    over\n2026-01-01 promoted \x1b[2J
    """
    if text.isprintable():
        return text
    controls = _CONTROL if lines else _CONTROL_OR_LINE
    return controls.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a narration: when, a mark, what happened, why, and what it cost.

    ``tone`` is ``good``, ``bad``, ``warn``, ``plain`` or ``dim``; ``loud`` lines are events,
    the others are worth showing only to who asks for everything.
    """

    at: datetime
    glyph: str
    what: str
    text: str
    cost: str = ""
    tone: str = "plain"
    loud: bool = True

    def __post_init__(self) -> None:
        """Keep what came from outside from being more than a part of this line."""
        for name in ("what", "text", "cost"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        cost = f"  {self.cost}" if self.cost else ""
        return f"{self.at:%Y-%m-%d %H:%M}  {self.glyph} {self.what:<14}  {self.text}{cost}"
