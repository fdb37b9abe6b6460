"""What is said of a version whose recipe was tried on parts of its rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from keepfit import facts
from keepfit.clock import humanise
from keepfit.results.line import Line


def told(story: Any, fact: facts.Sampled, at: datetime) -> Line:
    """Return the line of a trial: what it told, and whether that keeps a recipe from being trained."""
    mark, what = ("✕", "skipped") if fact.skipped else ("·", "tried")
    spent = fact.cost.wall_seconds
    cost = humanise(timedelta(seconds=spent)) if spent else ""
    what = f"{fact.version} {what}"
    return Line(at, mark, what, fact.reason, cost=cost, tone="dim", loud=fact.skipped)
