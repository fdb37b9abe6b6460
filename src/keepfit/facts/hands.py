"""Facts that come from outside the loop: what people decided, and events."""

from __future__ import annotations

from typing import Any

from keepfit.facts.base import Fact

NOT_SERVED = "not served"
"""The event by which a server says that a champion does not serve, and why."""


class Paused(Fact, frozen=True, kw_only=True):
    """The loop goes on collecting and scoring, and neither trains nor promotes."""

    reason: str
    by: str = "keepfit"


class Resumed(Fact, frozen=True, kw_only=True):
    """A pause ended."""

    reason: str
    by: str = "keepfit"


class Overridden(Fact, frozen=True, kw_only=True):
    """A person decided otherwise: let a quarantined batch or a changed schema in."""

    what: str
    reason: str
    by: str
    batch: int | None = None


class Signalled(Fact, frozen=True, kw_only=True):
    """An event from outside."""

    event: str
    data: dict[str, Any] = {}
