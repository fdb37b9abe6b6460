"""The same loop on the past, next to never, every few steps and always."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from keepfit import facts, metrics, triggers
from keepfit.artifacts import Artifacts
from keepfit.batch import Batch
from keepfit.challenger import Challenger
from keepfit.clock import SimulatedClock, duration, humanise, utc
from keepfit.errors import ConfigError, SourceError
from keepfit.home import Memory
from keepfit.lake import Replay
from keepfit.ledger import Ledger
from keepfit.loop import Loop
from keepfit.protocols import CheckContext, Evidence
from keepfit.scoring import Scorer

if TYPE_CHECKING:
    import polars as pl

    from keepfit.facts import Decision, Entry, Finding
    from keepfit.pipeline import Pipeline
    from keepfit.protocols import Metric

STEPS = 100
"""Steps a backtest takes through the history when no cadence is stated."""

WARM_UP = 0.1
"""Share of the history that trains the first model when no start is stated."""

EVERY_STEPS = 4
"""Steps between the trainings of the scheduled policy."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the metric: the rows of one step, scored by what served them."""

    from_: datetime | None
    to: datetime | None
    n: int
    value: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the window as JSON can hold it."""
        return {"from": _iso(self.from_), "to": _iso(self.to), "n": self.n, "value": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one way of deciding was worth: the mean over windows, and what it cost."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    trainings: int
    promoted: int
    refused: int
    rolled_back: int
    fit_cpu_seconds: float
    windows: tuple[Window, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON can hold it."""
        return {
            "policy": self.name,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "trainings": self.trainings,
            "promoted": self.promoted,
            "refused": self.refused,
            "rolled_back": self.rolled_back,
            "fit_cpu_seconds": self.fit_cpu_seconds,
            "windows": [window.to_dict() for window in self.windows],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What continuous training would have been worth on the past.

    ``ledger`` is the folder of the facts, one pipeline per policy.
    """

    pipeline: str
    metric: str
    rows: int
    from_: datetime
    to: datetime
    policies: tuple[Policy, ...]
    ledger: Path

    def __getitem__(self, policy: str) -> Policy:
        """Return a policy by name."""
        for one in self.policies:
            if one.name == policy:
                return one
        raise KeyError(policy)

    def to_dict(self) -> dict[str, Any]:
        """Return the backtest as one JSON object."""
        return {
            "pipeline": self.pipeline,
            "metric": self.metric,
            "rows": self.rows,
            "from": _iso(self.from_),
            "to": _iso(self.to),
            "policies": [policy.to_dict() for policy in self.policies],
        }

    def to_frame(self) -> pl.DataFrame:
        """Return a frame with one row per policy and window."""
        import polars as pl

        rows = [
            {"policy": policy.name, "from": w.from_, "to": w.to, "n": w.n, "value": w.value}
            for policy in self.policies
            for w in policy.windows
        ]
        moment = pl.Datetime("us", "UTC")
        schema: dict[str, Any] = {
            "policy": pl.String,
            "from": moment,
            "to": moment,
            "n": pl.Int64,
            "value": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema)

    def __repr__(self) -> str:
        return f"{self.headline()}\n\n{self.table()}"

    def headline(self) -> str:
        """Return the backtest in one line."""
        return (
            f"{self.pipeline} · backtest {self.from_:%Y-%m-%d} → {self.to:%Y-%m-%d} · "
            f"{self.rows:,} rows · {self.metric}"
        )

    def table(self) -> str:
        """Return one line per policy: what it reached, and what it took."""
        width = max(12, *(len(policy.name) for policy in self.policies))
        heads = ("trainings", "promoted", "refused", "rolled back")
        lines = [f"{'policy':<{width}} {self.metric:>10}   {'   '.join(heads)}   {'train CPU':>11}"]
        for policy in self.policies:
            value = "n/a" if policy.value is None else f"{policy.value:.3f}"
            counts = (policy.trainings, policy.promoted, policy.refused, policy.rolled_back)
            cells = "   ".join(
                f"{count:>{len(head)}}" for count, head in zip(counts, heads, strict=True)
            )
            cost = humanise(timedelta(seconds=policy.fit_cpu_seconds))
            lines.append(f"{policy.name:<{width}} {value:>10}   {cells}   {cost:>11}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backtest is."""

    policy: str
    at: datetime
    done_rows: int
    rows: int


def backtest(
    pipeline: Pipeline,
    *,
    since: str | datetime | None = None,
    every: str | timedelta | None = None,
    training_time: str | timedelta = "0s",
    compare: bool = True,
    listen: Callable[[Entry], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Backtest:
    """Run the loop over the past, and the policies to compare it with.

    Rows arrive and labels become known when they did; at each moment the model that would
    have been serving answers. Models that policies have in common are trained once, and
    kept: a backtest that was interrupted goes on quickly when it is run again.

    Parameters
    ----------
    pipeline
        What to run.
    since
        When the first model is trained; after a tenth of the history when not given.
    every
        How far one step reaches; the pipeline's, else one per cent of the history.
    training_time
        How long a training takes on the simulated clock; until it is over the old model serves.
    compare
        Whether to run ``never``, ``every …`` and ``always`` too.
    listen
        Called with every fact of the pipeline's own run, in order.
    progress
        Called after every step of every policy.

    Raises
    ------
    SourceError
        There is nothing to read.
    ConfigError
        ``since`` lies outside the history, or there is one moment only.
    """
    history = pipeline.source.history()
    plan = _Plan.of(pipeline, history, since, every, training_time)
    replay = Replay(history, roles=pipeline.source.roles)
    folder = pipeline.home / "backtest"
    artifacts = Artifacts(folder / "artifacts")
    ledger_file = folder / f"ledger-{os.getpid()}.db"
    ledger = Ledger(ledger_file, durable=False)
    scorer = Scorer(artifacts, pipeline.metric, shared=True)
    pipeline.executor  # noqa: B018  made once here, so that every policy shares the worker
    policies = []
    try:
        for policy in _policies(pipeline, plan.every, ledger, compare):
            loop = Loop(
                policy,
                Memory(ledger, replay.lake(), artifacts),
                SimulatedClock(plan.first),
                source=replay.source(),
                every=plan.every,
                training_time=plan.training_time,
                start_at=_start(policy, pipeline, ledger, plan),
                scorer=scorer,
                listen=listen if policy.name == pipeline.name else None,
            )
            _play(loop, plan, history.rows.height, progress)
            policies.append(_summed(loop, ledger))
    finally:
        ledger.close()
        _settle(ledger_file, folder / "ledger.db")
    return Backtest(
        pipeline=pipeline.name,
        metric=scorer.last_metric.name if scorer.last_metric else str(pipeline.metric or ""),
        rows=history.rows.height,
        from_=plan.first,
        to=plan.last,
        policies=tuple(policies),
        ledger=folder,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    first: datetime
    last: datetime
    end: datetime
    since: datetime
    every: timedelta
    training_time: timedelta

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        history: Batch,
        since: str | datetime | None,
        every: str | timedelta | None,
        training_time: str | timedelta,
    ) -> _Plan:
        arrived = history.rows.get_column("_arrived_at")
        if arrived.is_empty():
            raise SourceError(
                f"expected rows to replay, got none from {pipeline.source!r}",
                hint="`keepfit check FILE` shows what the source finds",
            )
        first, last = arrived.min(), arrived.max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        if first == last:
            raise ConfigError(
                f"expected rows from more than one moment, got {arrived.len()} rows at {first:%Y-%m-%d %H:%M}",
                hint="name the column of event times: time=",
            )
        span = last - first
        step = duration(every) if every is not None else pipeline.every or span / STEPS
        start = first + span * WARM_UP if since is None else utc(since)
        if not first < start <= last:
            raise ConfigError(
                f"expected since to be after the first row and not after the last, got {start:%Y-%m-%d %H:%M}",
                hint=f"the rows run from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}",
            )
        known = history.labels.get_column("_known_at").max()
        end = max(last, known) if isinstance(known, datetime) else last
        end = max(end, last + (pipeline.source.roles.label_delay or timedelta(0)))
        return cls(first, last, end, start, step, duration(training_time))

    def moments(self) -> list[datetime]:
        """Return the moments of the steps: a grid through ``since``, until the last row is in."""
        before = -(-(self.since - self.first) // self.every)
        moment = self.since - (before - 1) * self.every
        grid = []
        while moment < self.last + self.every:
            grid.append(moment)
            moment += self.every
        return grid


class _Never:
    """Trains once and never again."""

    reads_estimates: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Decision:
        """Return no."""
        return facts.Decision(train=False, trigger="Never()", reason="trained once, never again")


class _Recorded:
    """Repeats what the pipeline's own checks found, so that all policies see the same rows."""

    name = "Recorded"

    def __init__(self, ledger: Ledger, pipeline: str) -> None:
        found = (entry.fact for entry in ledger.facts(pipeline, kind="Found"))
        self._findings = {f.batch: f.findings for f in found if isinstance(f, facts.Found)}

    def check(self, batch: Batch, context: CheckContext) -> Sequence[Finding]:
        """Return the findings the pipeline's own run has about this batch."""
        return self._findings.get(context.number, ())


def _policies(pipeline: Pipeline, every: timedelta, ledger: Ledger, compare: bool) -> Any:
    yield pipeline
    if not compare:
        return
    schedule = EVERY_STEPS * every
    plain: list[tuple[str, Any]] = [
        ("never", _Never()),
        (f"every {humanise(schedule)}", triggers.Every(schedule)),
        ("always", triggers.AfterRows(1)),
    ]
    for name, trigger in plain:
        yield pipeline.changed(
            name=name if name != pipeline.name else f"{name} (policy)",
            trigger=triggers.Guarded(trigger, enough=1),
            challengers=(Challenger(),),
            gate=(),
            checks=(_Recorded(ledger, pipeline.name),),
            detectors=(),
            final_fit=None,
        )


def _start(policy: Pipeline, own: Pipeline, ledger: Ledger, plan: _Plan) -> datetime:
    """Return when a policy trains first: the others when the pipeline itself did, so that windows match."""
    if policy.name == own.name:
        return plan.since
    first = ledger.facts(own.name, kind="TrainingStarted", limit=1)
    return first[0].at if len(first) else plan.end + plan.every


def _play(loop: Loop, plan: _Plan, total: int, progress: Callable[[Progress], None] | None) -> None:
    clock = loop.clock
    assert isinstance(clock, SimulatedClock)
    for moment in plan.moments():
        clock.sleep(moment - clock.now())
        loop.step()
        if progress is not None:
            progress(Progress(loop.pipeline.name, moment, loop.state.counts.rows, total))
    while loop.state.unscored and clock.now() < plan.end:
        clock.sleep(plan.every)
        loop.step()


def _summed(loop: Loop, ledger: Ledger) -> Policy:
    scored = (entry.fact for entry in ledger.facts(loop.pipeline.name, kind="Scored"))
    windows = tuple(
        Window(fact.from_, fact.to, fact.n, fact.value)
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
        windows=windows,
    )


def _mean(
    windows: Sequence[Window], metric: Metric | None
) -> tuple[float | None, tuple[float, float] | None]:
    values = [window.value for window in windows if window.value is not None]
    if not values:
        return None, None
    value, low, high = metrics.summary(values, metric=metric)
    return value, (low, high) if low == low else None


def _settle(written: Path, kept: Path) -> None:
    """Put a finished ledger where the next reader looks for it; two backtests do not mix."""
    if not written.exists():
        return
    for suffix in ("-wal", "-shm"):
        Path(f"{kept}{suffix}").unlink(missing_ok=True)
    os.replace(written, kept)
    for suffix in ("-wal", "-shm"):
        Path(f"{written}{suffix}").unlink(missing_ok=True)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
