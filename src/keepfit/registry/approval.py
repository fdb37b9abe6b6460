"""What becomes of a version that a person is asked about."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.facts import Answer, ApprovalAsked, Approved, Declined, Judged
from keepfit.registry.serving import supersede
from keepfit.registry.versions import Request

if TYPE_CHECKING:
    from keepfit.registry.state import State


def asked(state: State, fact: ApprovalAsked, at: datetime) -> None:
    """Let a version wait for a person, instead of the one that did until then."""
    if state.request is not None and state.request.version != fact.version:
        state.leave(state.request.version, "superseded")
    supersede(state, fact.version)
    state.waiting.append(fact.version)
    state.versions[fact.version].state = "waiting for approval"
    state.request = Request(fact=fact, since=at, batch=state.batch)


def answered(state: State, fact: Approved | Declined, at: datetime) -> None:
    """Take in what a person says; the first word counts."""
    request = state.request
    if request is not None and request.version == fact.version and request.said is None:
        request.said, request.said_at = fact, at


def looked(state: State, fact: Judged) -> None:
    """Count a look at rows that came while a version waits; refuse it where it does harm."""
    if state.request is None or state.request.version != fact.version:
        return
    state.request.looks.take(fact)
    if fact.answer == Answer.REFUSE:
        state.versions[fact.version].judged = fact
        state.leave(fact.version, "refused")
        state.counts.refused += 1
        state.request = None


def decided(state: State, fact: Judged) -> None:
    """End the request that a gate's last word is about."""
    request = state.request
    if request is not None and request.version == fact.version:
        state.request = None
