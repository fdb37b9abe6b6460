"""What is said of a version that was trained elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit import facts
from keepfit.results.line import Line

if TYPE_CHECKING:
    from keepfit.registry import Version


def adopted(story: Any, fact: facts.Adopted, at: datetime) -> Line:
    """Return the line of a model that became a version, by whose hand and why."""
    text = f"{fact.origin.uri} ({fact.origin.flavor}), by {fact.by}: {fact.reason}"
    return Line(at, "▲", f"{fact.version} adopted", text)


def told(version: Version) -> list[str]:
    """Return where a version comes from, and which rows may have taught it."""
    origin = version.origin
    if origin is None:
        return []
    run = f", run {origin.run[:8]}" if origin.run else ""
    day = f"{version.snapshot.to:%Y-%m-%d}"
    return [
        f"{origin.uri}, opened by {origin.flavor}{run}, files {origin.digest[:8]}",
        f"its training rows are unknown: all to {day} may have been among them",
        f"rows after {day} judge it; scores on earlier ones may flatter it",
    ]
