"""Facts that come from outside the loop: what people decided, and events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from keepfit.facts.base import Fact

NOT_SERVED = "not served"
"""The event by which a server says that a champion does not serve, and why."""

OWN_EVENTS = (NOT_SERVED,)
"""Events that keepfit itself writes: nobody else's may be named so."""

JOURNAL = "journal"
"""What the data of an event from outside names: the journal that it came by, and where in it."""


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


class ApprovalAsked(Fact, frozen=True, kw_only=True):
    """A version passed the other gates, and waits for a person to approve it until ``until``.

    ``reason`` says what it passed, ``remind`` how often people are told again, and ``replaces``
    names the version that waited until then, if one did.
    """

    version: str
    reason: str
    until: datetime
    remind: timedelta
    replaces: str | None = None


class Approved(Fact, frozen=True, kw_only=True):
    """A person lets a version go on that waited for it."""

    version: str
    reason: str
    by: str


class Declined(Fact, frozen=True, kw_only=True):
    """A person refuses a version that waited to be approved."""

    version: str
    reason: str
    by: str


class Signalled(Fact, frozen=True, kw_only=True):
    """An event from outside, or one of keepfit's own (`OWN_EVENTS`)."""

    event: str
    data: dict[str, Any] = {}

    @property
    def own(self) -> bool:
        """Whether it is keepfit's own: it did not come over the network under such a name."""
        return self.event in OWN_EVENTS and JOURNAL not in self.data
