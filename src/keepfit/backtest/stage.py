"""Where the policies of a backtest are played, one after the other or in several processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit import facts, metrics
from keepfit.backtest.outcome import Policy, Window
from keepfit.clock import SimulatedClock
from keepfit.home import Memory
from keepfit.loop import Loop

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts
    from keepfit.backtest.plan import Plan
    from keepfit.facts import Entry
    from keepfit.lake import Replay
    from keepfit.ledger import Ledger
    from keepfit.pipeline import Pipeline
    from keepfit.protocols import Metric
    from keepfit.scoring import Scorer

Listen = Callable[["Entry"], None]
Tell = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backtest is."""

    policy: str
    at: datetime
    done_rows: int
    rows: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One history and one store of models, which all policies share.

    ``own`` holds the facts of the pipeline's own run, which the others look at; ``ledger``
    takes the facts of what is played here. In one process they are the same.
    """

    pipeline: Pipeline
    plan: Plan
    replay: Replay
    rows: int
    own: Ledger
    ledger: Ledger
    artifacts: Artifacts
    scorer: Scorer
    kept: dict[str, Any] = field(default_factory=dict)
    """What one task read and the next may use."""

    def play(
        self, policy: Pipeline, *, listen: Listen | None = None, progress: Tell | None = None
    ) -> Policy:
        """Live one policy through the history, and return what it was worth."""
        self.scorer.faults.clear()  # those of one policy's versions are not those of another's
        loop = Loop(
            policy,
            Memory(self.ledger, self.replay.lake(), self.artifacts),
            SimulatedClock(self.plan.first),
            source=self.replay.source(),
            every=self.plan.every,
            training_time=self.plan.training_time,
            start_at=self._start(policy),
            # Where labels are late, what is trained while the last of them come serves no row.
            end_at=self.plan.moments()[-1],
            scorer=self.scorer,
            checked=None if policy.name == self.pipeline.name else self._checked(),
            listen=listen,
        )
        # Nobody else writes here, and a transaction costs more than the facts in it.
        with self.ledger.together():
            self._live(loop, progress)
        return _summed(loop, self.ledger)

    def told(self) -> dict[str, Any]:
        """Return what every backtest of this history says."""
        metric = self.scorer.last_metric
        return {
            "pipeline": self.pipeline.name,
            "metric": metric.name if metric else str(self.pipeline.metric or ""),
            "rows": self.rows,
            "from_": self.plan.first,
            "to": self.plan.last,
            "ledger": self.pipeline.home / "backtest",
        }

    def _start(self, policy: Pipeline) -> datetime:
        """Return when a policy trains first: the others when the pipeline itself did, so that windows match."""
        if policy.name == self.pipeline.name:
            return self.plan.since
        first = self.own.facts(self.pipeline.name, kind="TrainingStarted", limit=1)
        return first[0].at if len(first) else self.plan.end + self.plan.every

    def _checked(self) -> dict[int, tuple[facts.Finding, ...]]:
        """Return what the pipeline's own checks found in each batch, so that all see the same rows."""
        if "checked" not in self.kept:
            first: dict[int, tuple[facts.Finding, ...]] = {}
            for entry in self.own.facts(self.pipeline.name, kind="Found"):
                if isinstance(entry.fact, facts.Found):
                    # What comes after the checks' own tells of what served.
                    first.setdefault(entry.fact.batch, entry.fact.findings)
            self.kept["checked"] = first
        known: dict[int, tuple[facts.Finding, ...]] = self.kept["checked"]
        return known

    def _live(self, loop: Loop, progress: Tell | None) -> None:
        clock = loop.clock
        assert isinstance(clock, SimulatedClock)
        for moment in self.plan.moments():
            clock.sleep(moment - clock.now())
            loop.step()
            if progress is not None:
                rows = loop.state.counts.rows
                progress(Progress(loop.pipeline.name, moment, rows, self.rows))
        while loop.state.unscored and clock.now() < self.plan.end:
            clock.sleep(self.plan.every)
            loop.step()


def _summed(loop: Loop, ledger: Ledger) -> Policy:
    scored = (entry.fact for entry in ledger.facts(loop.pipeline.name, kind="Scored"))
    windows = tuple(
        Window(fact.from_, fact.to, fact.n, fact.value, fact.batch)
        for fact in scored
        if isinstance(fact, facts.Scored)
    )
    value, interval = _mean(windows, loop.scorer.last_metric)
    counts = loop.state.counts
    return Policy(
        name=loop.pipeline.name,
        value=value,
        interval=interval,
        trainings=counts.trainings,
        promoted=counts.promoted,
        refused=counts.refused,
        rolled_back=counts.rolled_back,
        fit_cpu_seconds=counts.fit_cpu_seconds,
        probe_cpu_seconds=counts.probe_cpu_seconds,
        **_undecided(ledger.facts(loop.pipeline.name, kind="Judged")),
        windows=windows,
        unscored=_unscored(loop, ledger, windows) if value is None else None,
    )


def _undecided(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return of how many challengers the gate did not know in the end, and which one it was."""
    judged = [entry.fact for entry in entries if isinstance(entry.fact, facts.Judged)]
    last = {fact.version: fact for fact in judged if not fact.during}
    unsure = [one for one in last.values() if one.answer == facts.Answer.NOT_ENOUGH]
    by = Counter(
        verdict.gate
        for one in unsure
        for verdict in one.verdicts
        if verdict.answer == facts.Answer.NOT_ENOUGH
    )
    named = by.most_common(1)[0][0] if by else None
    return {"judged": len(last), "undecided": len(unsure), "undecided_by": named}


def _unscored(loop: Loop, ledger: Ledger, windows: Sequence[Window]) -> str:
    """Return why no window has a value."""
    if windows:
        return (
            "the metric is not defined on any window: a longer step (every) puts more rows in each"
        )
    if loop.state.counts.promoted:
        return "no labels came for rows that a model answered"
    newest = [
        *ledger.facts(loop.pipeline.name, kind="TrainingFailed", newest_first=True, limit=1),
        *ledger.facts(loop.pipeline.name, kind=("Judged", "Decided"), newest_first=True, limit=1),
    ]
    fact = newest[0].fact if newest else None
    if isinstance(fact, facts.TrainingFailed):
        first, _, _ = fact.message.partition("\n")
        return f"training {fact.version} failed, {first}"
    if isinstance(fact, facts.Decided):
        return f"nothing was trained, {fact.decision.reason}"
    return "no model was promoted"


def _mean(
    windows: Sequence[Window], metric: Metric | None
) -> tuple[float | None, tuple[float, float] | None]:
    values = [window.value for window in windows if window.value is not None]
    if not values:
        return None, None
    value, low, high = metrics.summary(values, metric=metric)
    return value, (low, high) if low == low else None
