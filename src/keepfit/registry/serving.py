"""What becomes of versions once they passed their gate: rolled out, promoted, taken back."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.facts import Judged, Promoted, RolledBack, RolledOut
from keepfit.registry.versions import Rollout, Service

if TYPE_CHECKING:
    from keepfit.registry.state import State


def looked(state: State, fact: Judged) -> None:
    """Count a look at live rows."""
    rollout, service = state.rollout, state.service
    if rollout is not None and rollout.fact.version == fact.version:
        (rollout.early if fact.during == "rollout" else rollout.last).take(fact)
    elif service is not None and service.version == fact.version:
        service.looks.take(fact)


def rolled_out(state: State, fact: RolledOut, at: datetime) -> None:
    """Begin a rollout, or take it to its next stage."""
    if state.rollout is not None and state.rollout.fact.rollout == fact.rollout:
        state.rollout.fact, state.rollout.since = fact, at
        return
    supersede(state, fact.version)
    state.leave(fact.version, "rolling out")
    state.rollout = Rollout(fact=fact, since=at, batch=state.batch)


def promoted(state: State, fact: Promoted, at: datetime) -> None:
    """Make a version champion, and end whatever rollout is on."""
    end_rollout(state, "superseded")
    version = state.versions[fact.version]
    version.reference = version.reference or fact.reference
    follow(state, version.turn)
    state.asked, state.asked_before = [], state.asked
    supersede(state, fact.version)
    crown(state, fact.version, at)
    if state.previous is not None:
        state.service = Service(version=fact.version, previous=state.previous, batch=state.batch)
    state.counts.promoted += 1
    state.since.append(fact)


def supersede(state: State, name: str) -> None:
    """Let go of what waits beside a version of the same turn."""
    turn = state.versions[name].turn
    for other in [one for one in state.waiting if state.versions[one].turn == turn]:
        state.leave(other, "superseded")


def end_rollout(state: State, became: str) -> None:
    """End the rollout that is on, if there is one, and say what became of its version."""
    if state.rollout is not None:
        state.versions[state.rollout.fact.version].state = became
        state.rollout, state.fresh = None, True


def follow(state: State, turn: int) -> None:
    """Follow what the recipes of a turn made, where it was more than one, and one from scratch.

    What is followed already still is, where the only window of the turn is that of one step. Where it
    is another, as of a leader that is trained again by itself, the windows of an earlier turn still are
    that has several: few rows would not tell them apart before.
    """
    made = [one for one in state.of_turn(turn) if one.artifact and one.final_of is None]
    fresh = {one.artifact: one.name for one in made}
    windows = [one for one in made if one.start == "scratch"]
    if len(fresh) > 1 and windows:
        known = [state.versions[name] for name in state.followed]
        lasting = sum(one.lasting for one in windows)
        if lasting:
            # What a training gives beside an update is told by the newest one.
            known = [one for one in known if one.lasting]
        turns = Counter(one.turn for one in known if one.lasting)
        still = {turn for turn, many in turns.items() if lasting < min(many, 2)}
        state.followed = [one.name for one in known if one.turn in still] + list(fresh.values())


def rolled_back(state: State, fact: RolledBack, at: datetime) -> None:
    """Take back the version that is being rolled out, or the champion."""
    state.counts.rolled_back += 1
    state.since.append(fact)
    if fact.share is not None:
        end_rollout(state, "rolled back")
        return
    # What is being rolled out was held against the champion that is taken back.
    end_rollout(state, "superseded")
    crown(state, fact.to, at)
    state.versions[fact.version].state = "rolled back"
    # A version that was rolled back never becomes previous.
    state.previous, state.service = None, None
    state.asked, state.asked_before = [], []
    state.undone.append((at, fact.version))


def crown(state: State, name: str, at: datetime) -> None:
    """Make a version champion, and the one before previous."""
    _withdraw(state)
    if state.previous is not None:
        state.versions[state.previous].state = "retired"
    if state.champion is not None:
        state.versions[state.champion].state = "previous"
    state.previous, state.champion = state.champion, name
    state.versions[name].state = "champion"
    state.versions[name].promoted_at = at
    state.reigns.append((at, name))
    state.anchor = state.anchor or state.versions[name].reference
    before = state.versions.get(state.previous or "")
    if before is not None and before.reference == state.versions[name].reference:
        return
    state.moved = {}
    # What adds up against a reference begins anew with another; what was said is not.
    lasting = ("anchor", "muted", "held", "since")
    state.detectors = {
        detector: {key: known[key] for key in lasting if known.get(key)}
        for detector, known in state.detectors.items()
    }


def _withdraw(state: State) -> None:
    """Ask no person any longer: what a version passed, it passed against another champion."""
    if state.request is not None:
        name, state.request = state.request.version, None
        if name in state.waiting:
            state.versions[name].state = "waiting"
