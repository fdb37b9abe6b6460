"""One screen about a pipeline: what serves, how current it is, what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from keepfit.clock import humanise
from keepfit.costs import Forecast, took
from keepfit.facts import Cost, Decision, Finding, Scored
from keepfit.registry import CHALLENGER, Counts, State, Version
from keepfit.results import costs, page
from keepfit.results.approvals import Awaited
from keepfit.results.failing import Failing, Stuck, unlearnt
from keepfit.results.performance import Performance
from keepfit.results.sentences import counted, deciding, rounded
from keepfit.rollouts import told as stage_told

if TYPE_CHECKING:
    import polars as pl

    from keepfit.ledger.steps import Steps


NEWEST = 3
"""Batches in quarantine that are shown one by one; those before them together, where more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A batch in quarantine."""

    batch: int
    rows: int
    from_: datetime | None
    to: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A challenger whose gate has not decided yet."""

    version: str
    challenger: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingOut:
    """A challenger on its way: at which stage it stands, and on how many rows it was compared."""

    version: str
    share: float
    stage: int
    stages: int
    since: datetime
    until: datetime
    rows: int

    @classmethod
    def of(cls, state: State) -> RollingOut | None:
        """Return the rollout that is on, if there is one."""
        if state.rollout is None:
            return None
        fact = state.rollout.fact
        return cls(
            version=fact.version,
            share=fact.share,
            stage=fact.stage,
            stages=fact.stages,
            since=state.rollout.since,
            until=fact.until,
            rows=max(state.rollout.early.rows, state.rollout.last.rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Status:
    """What serves, how current it is, what was decided last and what comes next.

    ``scored`` is the newest batch with its labels, ``performance`` how what serves does over the
    newest ones. ``staleness`` is the age of the newest row the champion was trained on, at ``asked_at``:
    the moment of asking, or the newest one the ledger knows of. Its training went on from
    ``started_from``, where that is not None, and changed what ``update`` names. ``cost`` is what the ``newest``
    training took and ``forecast`` what it was expected to; ``upcoming`` is the forecast of those
    that run, or of one more like it. ``drawn`` counts the rows of the latest batches that did not
    pass by themselves, and ``explored`` those of them that were let through at random. ``approval``
    is the version that waits for a person. ``failing`` tells of trainings that fail in a row, ``stuck`` of steps, and
    ``unlearnt`` counts the rows that the newest training left out, by the label that is no class;
    ``findings`` are what that training tells of its rows.
    """

    pipeline: str
    condition: str
    asked_at: datetime | None
    champion: str | None = None
    challenger: str | None = None
    serving_since: datetime | None = None
    trained_from: datetime | None = None
    trained_to: datetime | None = None
    trained_rows: int = 0
    started_from: str | None = None
    update: str = "all"
    staleness: timedelta | None = None
    previous: str | None = None
    rollout: RollingOut | None = None
    approval: Awaited | None = None
    batches: int = 0
    rows: int = 0
    labels: int = 0
    drawn: int = 0
    explored: int = 0
    watermark: datetime | None = None
    labelled_to: datetime | None = None
    scored: Scored | None = None
    performance: Performance | None = None
    decision: Decision | None = None
    decided_at: datetime | None = None
    training: tuple[str, ...] = ()
    ready_at: datetime | None = None
    waiting: tuple[Waiting, ...] = ()
    quarantined: tuple[Held, ...] = ()
    drifted: tuple[str, ...] = ()
    paused: str | None = None
    failing: Failing | None = None
    stuck: Stuck | None = None
    unlearnt: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    newest: str | None = None
    cost: Cost | None = None
    forecast: Forecast | None = None
    upcoming: Forecast | None = None
    counts: Counts

    @classmethod
    def of(
        cls, name: str, state: State, now: datetime | None = None, steps: Steps | None = None
    ) -> Status:
        """Return the status that a state shows, and how the loop comes through its steps."""
        champion = state.versions.get(state.champion or "")
        asked_at = now or _latest(state, champion)
        decided = state.last_decision
        trained, stuck = costs.newest(state), Stuck.of(steps)
        return cls(
            pipeline=name,
            condition=_condition(state) if stuck is None else "unhealthy",
            asked_at=asked_at,
            champion=state.champion,
            challenger=None if champion is None else champion.challenger,
            serving_since=None if champion is None else champion.promoted_at,
            trained_from=None if champion is None else champion.snapshot.from_,
            trained_to=None if champion is None else champion.snapshot.to,
            trained_rows=0 if champion is None else champion.snapshot.rows,
            started_from=None if champion is None else _origin(champion),
            update="all" if champion is None else champion.update,
            staleness=None
            if champion is None or asked_at is None
            else asked_at - champion.snapshot.to,
            previous=state.previous,
            rollout=RollingOut.of(state),
            approval=Awaited.of(state),
            batches=state.batch,
            rows=state.counts.rows,
            labels=state.counts.labels,
            drawn=sum(one.drawn for one in state.let_in),
            explored=sum(one.explored for one in state.let_in),
            watermark=state.watermark,
            labelled_to=state.labelled_to,
            scored=state.last_scored,
            performance=Performance.of(state),
            decision=None if decided is None else decided.decision,
            decided_at=None if decided is None else decided.watermark,
            training=tuple(state.training),
            ready_at=max((state.versions[one].ready_at for one in state.training), default=None),
            waiting=tuple(_waiting(state.versions[one]) for one in _unasked(state)),
            quarantined=tuple(
                Held(batch=one.batch, rows=one.rows, from_=one.from_, to=one.to)
                for one in state.quarantined
            ),
            drifted=tuple(state.drifted),
            paused=state.paused,
            failing=Failing.of(state),
            stuck=stuck,
            unlearnt={} if trained is None else trained.snapshot.unlearnt,
            findings=() if trained is None else trained.findings,
            newest=None if trained is None else trained.name,
            cost=None if trained is None else trained.cost,
            forecast=None if trained is None else trained.forecast,
            upcoming=costs.upcoming(state),
            counts=state.counts,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON can hold it."""
        shown = {one.name: getattr(self, one.name) for one in fields(self)}
        for several in ("waiting", "quarantined"):
            shown[several] = [
                {one.name.rstrip("_"): getattr(item, one.name) for one in fields(item)}
                for item in shown[several]
            ]
        for one in ("rollout", "approval", "failing", "stuck", "performance"):
            if (part := shown[one]) is not None:
                shown[one] = {named.name: getattr(part, named.name) for named in fields(part)}
        found: dict[str, Any] = page.plain(shown)
        return found

    def to_frame(self) -> pl.DataFrame:
        """Return one row, with a column per single value; what holds several is JSON text."""
        import msgspec
        import polars as pl

        row = self.to_dict()
        for name, value in row.items():
            if isinstance(value, dict | list):
                row[name] = msgspec.json.encode(value).decode()
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if isinstance(value, datetime | timedelta):
                row[name] = value
        return pl.DataFrame([row])

    def __repr__(self) -> str:
        return (
            f"{self.pipeline} · {self.condition}\n{self._summary()}\n\n{page.rows(self._titled())}"
        )

    def _summary(self) -> str:
        if self.champion is None:
            start = "Nothing serves yet" if self.rows else "No rows have arrived yet"
            if self.approval is not None:
                start += f": {self.approval.version} waits for a person"
            return f"{start}." if self.paused is None else f"{start}; paused: {self.paused}."
        told = [f"{self.champion} has served for {self._served()}."]
        if self.labelled_to is not None and self.asked_at is not None:
            behind = self.asked_at - self.labelled_to
            late = f", {_length(behind)} behind" if behind > timedelta(0) else ""
            told.append(f"Labels are complete to {page.day(self.labelled_to)}{late}.")
        if self.paused is not None:
            told.append(f"Paused: {self.paused}.")
        return " ".join(told)

    def _served(self) -> str:
        if (
            self.serving_since is None
            or self.asked_at is None
            or self.asked_at <= self.serving_since
        ):
            return "less than a minute"
        return _length(self.asked_at - self.serving_since)

    def _titled(self) -> list[tuple[str, list[str]]]:
        return [
            ("loop", [] if self.stuck is None else self.stuck.lines()),
            ("champion", self._champion()),
            ("approval", [] if self.approval is None else self.approval.lines()),
            ("rollout", self._rollout()),
            ("performance", self._performance()),
            ("data", self._data()),
            ("staleness", self._staleness()),
            ("decision", self._decision()),
            ("failing", [] if self.failing is None else self.failing.lines()),
            ("next", self._next()),
            ("cost", self._cost()),
            (
                "waiting",
                [f"{one.version} ({one.challenger}): {one.reason}" for one in self.waiting],
            ),
            ("quarantine", self._quarantine()),
            ("so far", self._so_far()),
        ]

    def _champion(self) -> list[str]:
        if self.champion is None:
            return ["none"]
        back = f"; {self.previous} is previous" if self.previous else ""
        data = (
            f"trained elsewhere, on rows to {page.day(self.trained_to)} at the latest"
            if self.challenger == CHALLENGER
            else f"trained on {counted(self.trained_rows, 'row')}, "
            f"{page.day(self.trained_from)} → {page.day(self.trained_to)}{self._way()}"
        )
        return [
            f"{self.champion}, {self.challenger}, since {page.day(self.serving_since)}{back}",
            data,
        ]

    def _way(self) -> str:
        """Return what the champion's training went on from, and what it left as it was."""
        if self.started_from is None:
            return ""
        part = "" if self.update == "all" else f", {self.update} only"
        return f", from {self.started_from}{part}"

    def _rollout(self) -> list[str]:
        one = self.rollout
        if one is None:
            return []
        compared = f"compared on {counted(one.rows, 'live row')}" if one.rows else "no labels yet"
        return [
            f"{one.version}, {stage_told(one.share)} since {page.day(one.since)}, "
            f"stage {one.stage} of {one.stages}, to {page.day(one.until)} at least; {compared}"
        ]

    def _performance(self) -> list[str]:
        if self.performance is not None:
            return self.performance.lines()
        if self.scored is not None:
            return [f"{self.scored.metric}: no value, {self.scored.reason}"]
        return ["not scored yet: no batch that it served has its labels"] if self.champion else []

    def _data(self) -> list[str]:
        if not self.batches:
            return ["none yet"]
        shown = [
            f"{counted(self.rows, 'row')} and {counted(self.labels, 'label')} "
            f"in {counted(self.batches, 'batch')}, to {page.day(self.watermark)}"
        ]
        if self.drifted:
            several = ", ".join(self.drifted[:4]) + (
                f" and {len(self.drifted) - 4} more" if self.drifted[4:] else ""
            )
            shown.append(f"beyond their drift limit: {several}")
        if self.scored is not None and self.scored.unknown:
            strange = ", ".join(f"`{name[:40]}`" for name in list(self.scored.unknown)[:3])
            rows = counted(sum(self.scored.unknown.values()), "row")
            shown.append(
                f"{self.scored.version} never learnt {strange}: wrong on {rows} of a batch"
            )
        if self.scored is not None and self.scored.failed:
            rows = f"{self.scored.failed:,} of {counted(self.scored.n, 'row')}"
            shown.append(f"{self.scored.version} could not answer {rows} of a batch: wrong on them")
        if self.unlearnt:
            shown.append(f"{self.newest} left out {unlearnt(self.unlearnt)}")
        shown.extend(f"{self.newest}: {one.message}" for one in self.findings)
        if self.drawn:
            share = 100 * self.explored / self.drawn
            shown.append(
                f"explored lately: {share:.1f} % of {counted(self.drawn, 'row')} to be stopped"
            )
        return shown

    def _staleness(self) -> list[str]:
        if self.staleness is None:
            return []
        newest = f"the newest row {self.champion} was trained on is of {page.day(self.trained_to)}"
        return [f"{_length(self.staleness)}: {newest}"]

    def _decision(self) -> list[str]:
        if self.decision is None:
            return ["none yet"]
        answer = "train" if self.decision.train else "no"
        return [f"{answer}, on rows to {page.day(self.decided_at)}: {self.decision.reason}"]

    def _next(self) -> list[str]:
        if self.paused is not None:
            return ["`keepfit resume --reason …` ends the pause"]
        if self.training:
            return [f"{', '.join(self.training)} trained by {page.day(self.ready_at)}, then judged"]
        if self.rollout is not None:
            return [f"{self.rollout.version} goes on, or back, as live rows get their labels"]
        if self.approval is not None:
            return [f"a person approves {self.approval.version}, or refuses it"]
        if self.waiting:
            return ["the gate looks again when more labels have come"]
        due = upcoming(self.decision)
        if due is not None:
            return [due]
        return ["the next batch is read, checked and scored, and the trigger asked again"]

    def _cost(self) -> list[str]:
        lines = []
        if self.cost is not None:
            before = "" if self.forecast is None else f", {costs.forecasted(self.forecast)}"
            lines.append(f"{self.newest} took {took(self.cost.cpu_seconds)} of CPU{before}")
        if self.upcoming is not None:
            what = ", ".join(self.training) or "the next like it"
            lines.append(f"{what}: {costs.forecasted(self.upcoming)}")
        return lines

    def _quarantine(self) -> list[str]:
        held = self.quarantined
        older, newest = (held[:-NEWEST], held[-NEWEST:]) if len(held) > NEWEST + 1 else ((), held)
        shown = [
            f"batch {one.batch}, {counted(one.rows, 'row')}, {page.span(one.from_, one.to)}"
            for one in newest
        ]
        if older:
            rows = counted(sum(one.rows for one in older), "row")
            shown.insert(0, f"{len(older)} batches up to {older[-1].batch}, {rows}")
        if shown:
            shown.append(
                f"`keepfit check FILE --accept {self.quarantined[-1].batch} --reason …` lets it in"
            )
        return shown

    def _so_far(self) -> list[str]:
        counts = self.counts
        several = (
            (counts.trainings, "training"),
            (counts.promoted, "promoted"),
            (counts.refused, "refused"),
            (counts.failed, "failed"),
            (counts.skipped, "skipped after a part of their rows"),
            (counts.rolled_back, "rolled back"),
            (counts.quarantined, "in quarantine"),
        )
        told = [
            counted(count, what) if what == "training" else f"{count} {what}"
            for count, what in several
            if count
        ]
        if counts.fit_cpu_seconds:
            probes = counts.probe_cpu_seconds
            cost = f"{humanise(timedelta(seconds=counts.fit_cpu_seconds))} of CPU"
            told.append(f"{cost}, of which probes {took(probes)}" if probes else cost)
        return [", ".join(told)] if told else []


def upcoming(decision: Decision | None) -> str | None:
    """Return when a trigger comes due, where one of its parts says so."""
    if decision is None:
        return None
    due = decision.evidence.get("due")
    if isinstance(due, str):
        return f"training is due on {due[:10]}, or sooner when another trigger fires"
    for part in decision.parts:
        if (found := upcoming(part)) is not None:
            return found
    return None


def _condition(state: State) -> str:
    if state.paused is not None:
        return "paused"
    if state.batch == 0:
        return "empty"
    if state.champion is None:
        if Failing.of(state) is not None:
            return "failing"
        return "training" if state.training else "collecting"
    if state.batch in state.excluded:
        return "blocked"
    return "healthy" if Failing.of(state) is None else "failing"


def _origin(version: Version) -> str | None:
    """Return the version whose model a training went on from."""
    if version.donor is not None:
        return f"{version.donor.pipeline}@{version.donor.version}"
    return version.parent if version.start == "champion" else None


def _latest(state: State, champion: Version | None) -> datetime | None:
    known = [state.watermark, None if champion is None else champion.promoted_at]
    return max((moment for moment in known if moment is not None), default=None)


def _unasked(state: State) -> list[str]:
    """Return the challengers whose gate has not decided yet, a person's word apart."""
    asked = None if state.request is None else state.request.version
    return [name for name in state.waiting if name != asked]


def _waiting(version: Version) -> Waiting:
    judged = version.judged
    reason = "to be judged" if judged is None else deciding(judged.verdicts, judged.answer)
    return Waiting(version=version.name, challenger=version.challenger, reason=reason)


def _length(length: timedelta) -> str:
    return humanise(rounded(length))
