"""How a person is asked before a version serves, and what is made of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from keepfit import facts, gates
from keepfit.clock import duration
from keepfit.facts import Answer, Judged

if TYPE_CHECKING:
    from keepfit.loop import Loop
    from keepfit.protocols import Gate
    from keepfit.registry import Request, Version


class Asking:
    """The part of the loop that waits for a person.

    What a person says is a fact, written without the loop; the next step takes it up. A request
    stands by its own fact, also where the pipeline no longer has the gate. What is written here
    holds only if nobody has written meanwhile, so that no answer is lost.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    @property
    def gate(self) -> gates.Approval | None:
        """The gate by which a person is asked, if there is one."""
        found = (one for one in self.loop.pipeline.gate if isinstance(one, gates.Approval))
        return next(found, None)

    @property
    def others(self) -> list[Gate]:
        """The gates that ask no person."""
        return [one for one in self.loop.pipeline.gate if not isinstance(one, gates.Approval)]

    def unasked(self) -> list[Version]:
        """Return the versions that wait for the other gates."""
        state = self.loop.state
        asked = None if state.request is None else state.request.version
        return [state.versions[name] for name in state.waiting if name != asked]

    # Ask ----------------------------------------------------------------------------------

    def passed(self, judged: list[Judged], version: Version, reason: str, at: datetime) -> None:
        """Release what the other gates let through, or ask a person about it first.

        In a backtest there is nobody to ask: it is taken as approved.
        """
        gate = self.gate
        if gate is not None and not self.loop.simulated:
            self._ask(gate, judged, version, reason, at)
            return
        if gate is not None:
            assumed = gate.assumed()
            judged = [
                _with(assumed, one) if one.answer == Answer.PROMOTE else one for one in judged
            ]
        self.loop.turns.release(judged, version, reason, at)

    def _ask(
        self,
        gate: gates.Approval,
        judged: Sequence[Judged],
        version: Version,
        reason: str,
        at: datetime,
    ) -> None:
        """Write that a version waits for a person, instead of the one that did until then."""
        state = self.loop.state
        until = at + duration(gate.expires)
        passed = next((one for one in judged if one.version == version.name), None)
        verdict = gate.heard(None, until=until, at=at)
        held = _with(verdict, passed or _unjudged(version))
        asked = facts.ApprovalAsked(
            version=version.name,
            reason=reason,
            until=until,
            remind=duration(gate.remind),
            replaces=None if state.request is None else state.request.version,
        )
        rest = [one for one in judged if one is not passed]
        self.loop.append_decision([*rest, held, asked], at)

    # Go on --------------------------------------------------------------------------------

    def due(self, now: datetime) -> bool:
        """Whether a person has answered, or should have by now."""
        request = self.loop.state.request
        return (
            request is not None
            and self.loop.state.paused is None
            and (request.said is not None or now >= request.fact.until)
        )

    def go_on(self, at: datetime) -> bool:
        """Take up what a person said; return whether the version that waited begins to take over."""
        request = self.loop.state.request
        if request is None:
            return False
        version = self.loop.state.versions[request.version]
        gate = self.gate or gates.Approval()
        verdict = gate.heard(request.said, until=request.fact.until, at=at)
        if verdict.answer == Answer.NOT_ENOUGH:
            self._look(request, version, at)
            return False
        judged = _with(verdict, version.judged or _unjudged(version))
        if verdict.answer == Answer.PROMOTE:
            why = f"{verdict.reason}; {request.fact.reason}"
            self.loop.turns.release([judged], version, why, at)
            return True
        self.loop.append_decision([judged], at)
        return False

    def _look(self, request: Request, version: Version, at: datetime) -> None:
        """Look at the rows that came meanwhile, for whether it does harm."""
        champion = self.loop.state.versions.get(self.loop.state.champion or "")
        if champion is None:
            return
        live = self.loop.release.live
        judged = live.harm(version, champion, request.batch, request.looks, at, "approval")
        if judged is not None:
            self.loop.append_decision([judged], at)


def _unjudged(version: Version) -> Judged:
    """Return the verdict on a first version, which no gate compares with anything."""
    return Judged(version=version.name, answer=Answer.NOT_ENOUGH, verdicts=())


def _with(verdict: facts.Verdict, judged: Judged) -> Judged:
    """Return a gate's verdicts with a person's in its place."""
    rest = [one for one in judged.verdicts if one.gate != verdict.gate]
    return replaced(judged, answer=verdict.answer, verdicts=(*rest, verdict))
