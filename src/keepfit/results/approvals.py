"""What people read of a version that waits for one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from keepfit import facts
from keepfit.results import page
from keepfit.results.line import Line

if TYPE_CHECKING:
    from keepfit.facts import Entry
    from keepfit.registry import State
    from keepfit.results.sentences import Story


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A version that a person is asked about, and what was ``said`` that no step has taken up yet."""

    version: str
    challenger: str
    passed: str
    since: datetime
    until: datetime
    said: str = ""

    @classmethod
    def of(cls, state: State) -> Awaited | None:
        """Return the version that waits for a person, if there is one."""
        request = state.request
        if request is None:
            return None
        return cls(
            version=request.version,
            challenger=state.versions[request.version].challenger,
            passed=request.fact.reason,
            since=request.since,
            until=request.fact.until,
            said="" if request.said is None else _said(request.said),
        )

    def lines(self) -> list[str]:
        """Return since when it waits, until when, and what to type."""
        head = (
            f"{self.version} ({self.challenger}) waits for a person since {page.day(self.since)}, "
            f"until {page.day(self.until)}: {self.passed}"
        )
        if self.said:
            return [head, f"{self.said}; the loop's next step takes it up"]
        return [head, f"{command(self.version)} lets it go on, `keepfit refuse` ends it"]


def command(version: str) -> str:
    """Return what a person types to approve a version."""
    return f"`keepfit approve {version} --reason …`"


def asked(story: Story, fact: facts.ApprovalAsked, at: datetime) -> Line:
    """Return the line of a request; the line of its gate before it says until when it waits."""
    instead = f", instead of {fact.replaces}" if fact.replaces else ""
    text = f"{command(fact.version)}{instead}"
    return Line(at, "?", f"{fact.version} to approve", text, tone="warn")


def answered(story: Story, fact: facts.Approved | facts.Declined, at: datetime) -> Line:
    """Return the line of what a person said."""
    text = f"by {fact.by}: {fact.reason}"
    if isinstance(fact, facts.Approved):
        return Line(at, "✓", f"{fact.version} approved", text, tone="good")
    return Line(at, "✕", f"{fact.version} declined", text, tone="bad")


def concerns(fact: facts.Fact, version: str) -> bool:
    """Return whether a fact is about a person's word on a version."""
    if isinstance(fact, facts.ApprovalAsked):
        return version in (fact.version, fact.replaces)
    return isinstance(fact, facts.Approved | facts.Declined) and fact.version == version


def told(version: str, entries: Iterable[Entry]) -> list[str]:
    """Return the chain of facts by which a person was asked about a version."""
    lines = []
    for entry in entries:
        fact, day = entry.fact, page.day(entry.at)
        if isinstance(fact, facts.ApprovalAsked) and fact.version == version:
            instead = f", instead of {fact.replaces}" if fact.replaces else ""
            lines.append(f"? asked for on {day}, until {page.day(fact.until)}{instead}")
        elif isinstance(fact, facts.ApprovalAsked) and fact.replaces == version:
            lines.append(f"{fact.version} passed too, and waits in its place since {day}")
        elif isinstance(fact, facts.Approved | facts.Declined) and fact.version == version:
            mark = "✓" if isinstance(fact, facts.Approved) else "✕"
            lines.append(f"{mark} {_said(fact)}, on {day}")
    return lines


def _said(fact: facts.Approved | facts.Declined) -> str:
    did = "approved" if isinstance(fact, facts.Approved) else "refused"
    return f"{did} by {fact.by}: {fact.reason}"
