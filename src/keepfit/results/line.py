"""One line of what people read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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

    def __str__(self) -> str:
        cost = f"  {self.cost}" if self.cost else ""
        return f"{self.at:%Y-%m-%d %H:%M}  {self.glyph} {self.what:<14}  {self.text}{cost}"
