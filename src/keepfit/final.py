"""The last fit of a winner: it learns the rows that judged it too, before it serves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from keepfit import afresh, facts
from keepfit.facts import Answer, Judged, TrainingStarted
from keepfit.learners.novel import learnable
from keepfit.waiting import alike

if TYPE_CHECKING:
    from keepfit.challenger import Challenger
    from keepfit.registry import Version
    from keepfit.turn import Turn


class FinalFit:
    """The part of a turn that lets a winner learn its holdout.

    No rows are left to judge what comes of it but those it learnt (`keepfit.learnt`): where it
    answers them worse than its winner, which was judged on them without having seen them, it
    went wrong, and the winner serves as it passed.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn, self.loop = turn, turn.loop

    def follows(self, version: Version) -> bool:
        """Whether a version that passes is fitted once more before it serves."""
        trial = version.judged_from is not None and not version.final_of
        return trial and self.loop.pipeline.final_fit is not None

    def begin(self, version: Version, at: datetime) -> TrainingStarted | None:
        """Return the training that lets a winner learn its holdout too; None where there is none."""
        if not self.follows(version):
            return None
        whole = self.loop.pipeline.final_fit == "all"
        challenger = self._again(version) if whole else self._updating(version)
        since = version.snapshot.since if whole else version.snapshot.to
        if challenger is None:
            return None
        changed = version.snapshot.changed
        moment = self.turn.selecting(at, since, version.seed, changed)
        model = self.loop.scorer.model(version)
        # What passed the gate is a model of its classes: the last fit adds none.
        pool = learnable(
            self.loop.labelled(at), model.classes, closed=True, every=model.task != "regression"
        )
        rows = challenger.select.select(pool.rows, moment)
        if rows.height < 2 or (challenger.update == "leaves" and alike(rows)):
            return None
        parent = None if whole else version.name
        started = self.turn.started(
            at, 0, challenger, rows, since, None, version.name, parent, pool.unlearnt, changed
        )
        return replaced(started, afresh=version.afresh if whole else "")

    def _again(self, version: Version) -> Challenger | None:
        """Return the recipe of a winner as it ran."""
        challenger = self.turn.challenger(version)
        return challenger.afresh() if challenger is not None and version.afresh else challenger

    def _updating(self, version: Version) -> Challenger | None:
        """Return the recipe that lets a winner learn its holdout, if that can go on at all."""
        every = (one for one in self.loop.pipeline.challengers if one.updates)
        return next((one for one in every if not afresh.full(self.loop, one, version)), None)

    def passed(self, final: Version, champion: Version, at: datetime) -> None:
        """Release a winner that learnt its holdout too, unless a person changed the champion since."""
        winner = self._winner(final)
        against = champion.name if winner.judged is None else winner.judged.champion
        if against != champion.name:
            reason = f"{winner.name} was held against {against}, and {champion.name} serves now"
            self.loop.append_decision([refused(final, champion, "Current", reason)], at)
            return
        self.turn.release([], final, f"{winner.name} fitted on its holdout too", at)

    def failed(self, final: Version, at: datetime) -> None:
        """Promote a winner as it passed the gate, where its final fit failed."""
        champion, winner = self.loop.state.champion, self._winner(final)
        reason = f"as it passed; its final fit {final.name} failed"
        while self.loop.state.champion == champion:
            begun = self.loop.release.begin(winner, reason, at)
            if self.loop.append_decision([begun], at):
                return

    def _winner(self, final: Version) -> Version:
        return self.loop.state.versions[final.final_of or ""]


def refused(version: Version, champion: Version, gate: str, reason: str, rows: int = 0) -> Judged:
    """Return the verdict on a version that is not worth comparing."""
    verdict = facts.Verdict(gate=gate, answer=Answer.REFUSE, reason=reason, rows=rows)
    return Judged(
        version=version.name,
        answer=Answer.REFUSE,
        verdicts=(verdict,),
        champion=champion.name,
        rows=rows,
    )
