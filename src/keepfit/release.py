"""How a version comes to serve: stage by stage, on evidence of live rows, and back again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from keepfit import facts, rollouts
from keepfit.clock import humanise
from keepfit.errors import RollbackFailed
from keepfit.facts import Answer, Fact, Judged
from keepfit.live import Live
from keepfit.training import described

if TYPE_CHECKING:
    from keepfit.loop import Loop
    from keepfit.registry import Rollout, Service, Version

PATIENCE = 1.0
"""How long evidence is waited for at the end of a rollout, as a share of the rollout's length."""


class Release:
    """The part of the loop that rolls out what passed, watches it, and takes it back.

    A stage lasts as long as it says, and then the next begins, unless the challenger fails to
    answer or is shown to do harm. After the last one, and the time that labels take, the gate
    judges by the rows that came since the rollout began. A champion that fails what the version
    before it answers is taken back as well, whether or not there was a rollout. A server may take
    either back at any moment: what is decided here holds only if nobody has written meanwhile.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop, self.live = loop, Live(loop)

    # Begin --------------------------------------------------------------------------------

    def begin(self, version: Version, reason: str, at: datetime) -> Fact:
        """Return the fact by which a version begins to take over: at once where no stage is asked for."""
        champion = self.loop.state.champion
        if champion is None or not self.loop.pipeline.rollout:
            return facts.Promoted(
                version=version.name,
                reason=reason,
                previous=champion,
                reference=described(self.loop, version),
            )
        name = f"{self.loop.pipeline.name}/{version.name}/{self.loop.state.seq}"
        staged = self._staged(version.name, champion, name, 0, self._moment(at))
        return replaced(staged, reason=reason)

    def _staged(
        self, version: str, champion: str, rollout: str, place: int, at: datetime
    ) -> facts.RolledOut:
        stages = self.loop.pipeline.rollout or ()
        stage, last = stages[place], place + 1 >= len(stages)
        # Labels decide at the end: those of rows from before the last stage's are there by then.
        until = at + stage.length + (self._delay() if last else timedelta(0))
        return facts.RolledOut(
            version=version,
            champion=champion,
            rollout=rollout,
            share=stage.share,
            stage=place + 1,
            stages=len(stages),
            until=until,
            limit=until + PATIENCE * self._length() if last else until,
            unit=self.loop.pipeline.unit,
            began=at,
        )

    def _moment(self, now: datetime) -> datetime:
        """Return the time by which stages are counted: that of the rows, while they are a backlog.

        So a backlog is treated as it would have been when it happened.
        """
        watermark = self.loop.state.watermark
        if not self.loop.backlog or watermark is None:
            return now
        return min(now, watermark)

    def _delay(self) -> timedelta:
        return self.loop.source.roles.label_delay or timedelta(0)

    def _length(self) -> timedelta:
        lengths = (stage.length for stage in self.loop.pipeline.rollout or ())
        return sum(lengths, self._delay())

    # Go on --------------------------------------------------------------------------------

    def due(self, now: datetime) -> bool:
        """Whether a stage should be over by now, or a server has taken back one too many."""
        state = self.loop.state
        if state.paused is not None:
            return False
        over = state.rollout is not None and now >= state.rollout.fact.until
        return over or bool(self._too_many(now))

    def left(self, now: datetime) -> Iterator[timedelta]:
        """Yield how long the stage that is on lasts at least, where that is not over."""
        rollout = self.loop.state.rollout
        if rollout is not None and now < rollout.fact.until:
            yield rollout.fact.until - now

    def advance(self, now: datetime) -> None:
        """Take the rollout to its next stage, to its end, or back; and watch what was promoted."""
        state = self.loop.state
        self._break(now)
        if state.service is not None and not self._failing(state.service, now):
            self._serve(now)
        if state.rollout is None or self._harmful(state.rollout, now):
            return
        fact, moment = state.rollout.fact, self._moment(now)
        if state.paused is not None or moment < fact.until:
            return
        if fact.stage < len(self.loop.pipeline.rollout or ()):
            following = self._staged(fact.version, fact.champion, fact.rollout, fact.stage, moment)
            self.loop.append_decision([following], now)
        else:
            self._end(state.rollout, now)

    def _harmful(self, rollout: Rollout, now: datetime) -> bool:
        """Take a challenger back that fails to answer, or is shown to do harm; say whether it was."""
        versions = self.loop.state.versions
        version, champion = versions[rollout.fact.version], versions[rollout.fact.champion]
        faults = self.loop.scorer.faults.get(rollout.fact.rollout)
        if faults is not None and faults.too_many:
            self._take_back(rollout, [], faults.reason, now)
            return True
        judged = self.live.harm(version, champion, rollout.batch, rollout.early, now, "rollout")
        if judged is None:
            return False
        if judged.answer == Answer.REFUSE:
            self._take_back(rollout, [judged], _said("worse", judged), now)
            return True
        self.loop.append_decision([judged], now)
        return False

    def _end(self, rollout: Rollout, now: datetime) -> None:
        """Let the gate judge by live rows: promote, take back, or wait while that is allowed."""
        versions = self.loop.state.versions
        version, champion = versions[rollout.fact.version], versions[rollout.fact.champion]
        if not self.loop.pipeline.gate:
            self._promote(rollout, [], "no gate", now)
            return
        rows = self.live.rows(version, champion, rollout.batch, now)
        judged = self.live.last(version, champion, rows, rollout.last)
        new: list[Fact] = [] if judged is None else [judged]
        if judged is not None and judged.answer == Answer.PROMOTE:
            why = judged.verdicts[0].reason if judged.verdicts else "no gate on live rows"
            self._promote(rollout, new, why, now)
        elif judged is not None and judged.answer == Answer.REFUSE:
            self._take_back(rollout, new, _said("not good enough", judged), now)
        elif self._moment(now) >= rollout.fact.limit:
            waited = humanise((1 + PATIENCE) * self._length())
            reason = f"{rows.height:,} labelled live rows in {waited} are not enough evidence"
            self._take_back(rollout, new, reason, now)
        elif new:
            self.loop.append_decision(new, now)

    def _promote(self, rollout: Rollout, judged: list[Fact], why: str, now: datetime) -> None:
        fact = rollout.fact
        promoted = facts.Promoted(
            version=fact.version,
            reason=f"after {_stages(self.loop.pipeline.rollout or ())}; {why}",
            previous=fact.champion,
            reference=described(self.loop, self.loop.state.versions[fact.version]),
        )
        self.loop.append_decision([*judged, promoted], now)

    def _take_back(self, rollout: Rollout, judged: list[Fact], reason: str, now: datetime) -> None:
        fact = rollout.fact
        back = facts.RolledBack(
            version=fact.version, to=fact.champion, reason=reason, share=fact.share
        )
        self.loop.append_decision([*judged, back], now)

    # After promotion ----------------------------------------------------------------------

    def _failing(self, service: Service, now: datetime) -> bool:
        """Take a champion back that fails too often what the one before answers; say whether so."""
        faults = self.loop.scorer.faults.get(self.loop.state.promotion)
        if faults is None or not faults.too_many:
            return False
        versions = self.loop.state.versions
        self._undo(versions[service.version], versions[service.previous], [], faults.reason, now)
        return True

    def _serve(self, now: datetime) -> None:
        """Hold the champion against the one it replaced; make that one champion again if need be."""
        service, versions = self.loop.state.service, self.loop.state.versions
        if service is None or self.loop.pipeline.rollout is None:
            return
        version, before = versions[service.version], versions[service.previous]
        judged = self.live.harm(version, before, service.batch, service.looks, now, "service")
        if judged is None:
            return
        if judged.answer != Answer.REFUSE:
            self.loop.append_decision([judged], now)
        elif self.live.answers(before, version, service.batch, now):
            reason = _said(f"worse than {before.name}", judged)
            self._undo(version, before, [judged], reason, now)

    def _undo(
        self, version: Version, before: Version, judged: list[Fact], reason: str, now: datetime
    ) -> None:
        """Make the version before champion again, once it has answered stored rows as it did."""
        try:
            rows = verified(self.loop, before)
        except RollbackFailed as error:
            new = list(judged)
            if self.loop.state.paused is None:
                why = f"{version.name} is {reason}" if judged else f"{version.name} fails: {reason}"
                new.append(facts.Paused(reason=f"{why}; but {error.message}"))
            if new:
                self.loop.append_decision(new, now)
            return
        back = facts.RolledBack(version=version.name, to=before.name, reason=reason, rows=rows)
        if self.loop.append_decision([*judged, back], now):
            self._break(now)

    def _break(self, now: datetime) -> None:
        """Pause where too many promotions were taken back within the period, by whomever."""
        undone = self._too_many(now)
        if undone and self.loop.state.paused is None:
            many = "1 promotion was" if len(undone) == 1 else f"{len(undone)} promotions were"
            period = humanise(self.loop.pipeline.breaker[1])
            reason = f"{many} taken back within {period}: {', '.join(undone)}"
            self.loop.append_decision([facts.Paused(reason=reason)], now)

    def _too_many(self, now: datetime) -> list[str]:
        """Return the versions that were taken back within the period, where that is too many."""
        if not self.loop.state.undone:
            return []
        most, period = self.loop.pipeline.breaker
        undone = [name for at, name in self.loop.state.undone if at > now - period]
        return undone if len(undone) >= most else []


def verified(loop: Loop, version: Version) -> int:
    """Return how many stored rows a version answers as it did when it served.

    Raises
    ------
    RollbackFailed
        It answers otherwise.
    """
    for arrived in reversed(loop.state.let_in):
        rows = loop.memory.lake.batch(arrived.batch)
        stored = loop.memory.lake.scored(arrived.batch, loop.clock.now())
        count = loop.scorer.verify(version, rows, stored)
        if count:
            return count
    loop.scorer.model(version)
    return 0


def _said(what: str, judged: Judged) -> str:
    refused = [one for one in judged.verdicts if one.answer == Answer.REFUSE]
    newest = judged.newest and refused[0] is judged.verdicts[0]
    rows = f"the newest {judged.newest:,}" if newest else f"{judged.rows:,}"
    return f"{what} on {rows} live rows: {refused[0].reason}"


def _stages(stages: Iterable[rollouts.Stage]) -> str:
    """Return stages in words: ``shadow 1 d, canary 5 % 3 d``."""
    return ", ".join(f"{rollouts.told(one.share)} {humanise(one.length)}" for one in stages)
