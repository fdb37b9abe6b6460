"""The loop: one step runs the line once, on live data and on the past alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from keepfit import explore, facts, interrupts, maturity
from keepfit.batch import ID, LABEL, Batch, as_came, complete, shortened
from keepfit.clock import Clock, SimulatedClock
from keepfit.errors import LeaseLost, LedgerConflict, VersionUnknown
from keepfit.facts import Entry, Fact, Finding, Outcome
from keepfit.lake import Landed
from keepfit.ledger import Lease
from keepfit.ledger.steps import Stepping
from keepfit.plan import Why
from keepfit.probes import Prober
from keepfit.protocols import CheckContext, Evidence, Source
from keepfit.registry import State
from keepfit.release import Release
from keepfit.rollouts import told
from keepfit.scoring import Scorer
from keepfit.turn import Turn
from keepfit.watch import Watch

if TYPE_CHECKING:
    from keepfit.home import Memory
    from keepfit.pipeline import Pipeline
    from keepfit.profile import Profile

DAY = timedelta(days=1)
SAVED_EVERY = 256
"""Facts after which the folded state is cached in the ledger."""

FOLD = "state-16"
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: its facts, in order, and whether more is waiting."""

    at: datetime
    entries: tuple[Entry, ...] = ()
    backlog: bool = False
    findings: tuple[Finding, ...] = field(default=())
    held_by: str | None = None

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not self.entries

    def __repr__(self) -> str:
        if self.held_by:
            return f"Step at {self.at:%Y-%m-%d %H:%M}: {self.held_by}"
        if self.idle:
            return f"Step at {self.at:%Y-%m-%d %H:%M}: nothing new"
        kinds = ", ".join(entry.fact.kind for entry in self.entries)
        return f"Step at {self.at:%Y-%m-%d %H:%M}: {len(self.entries)} facts ({kinds})"


class Loop:
    """A pipeline bound to its memory and a clock.

    ``training_time`` is how long a training takes on a simulated clock; ``start_at`` keeps
    the first training back until then, and after ``end_at`` nothing is trained; ``checked`` is
    what the checks found by batch, where they need not be asked; ``listen`` hears every fact.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        memory: Memory,
        clock: Clock,
        *,
        source: Source | None = None,
        every: timedelta | None = None,
        training_time: timedelta = timedelta(0),
        start_at: datetime | None = None,
        end_at: datetime | None = None,
        scorer: Scorer | None = None,
        checked: Mapping[int, Sequence[Finding]] | None = None,
        listen: Callable[[Entry], None] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.memory = memory
        self.clock = clock
        self.source = source or pipeline.source
        self.every = every or pipeline.every or DAY
        self.training_time = training_time
        self.start_at, self.end_at = start_at, end_at or datetime.max.replace(tzinfo=UTC)
        self.checked = checked
        self.listen = listen
        self.scorer = scorer or Scorer(memory.artifacts, pipeline.metric)
        self.turns = Turn(self)
        self.watcher = Watch(self)
        self.prober = Prober(self)
        self.release = Release(self)
        self.backlog = False
        self.steps = Stepping(memory.ledger, pipeline.name)
        self.state = self._folded()
        self.scorer.settle(self.state.metric)
        self._saved = self.state.seq
        self._lease: Lease | None = None
        self._written: list[Entry] = []
        self._first: tuple[int, Profile] | None = None
        self.complete: tuple[tuple[datetime, int, tuple[int, ...]], datetime] | None = None

    @property
    def simulated(self) -> bool:
        """Whether this loop runs on the past."""
        return isinstance(self.clock, SimulatedClock)

    # One step ---------------------------------------------------------------------------

    @interrupts.held()
    def step(self, now: datetime | None = None) -> Step:
        """Run the line once: collect, check, watch, decide, train, judge, promote."""
        given, now = now, now or self.clock.now()
        self._written = []
        cursor = self.refold().cursor
        batch = self._read(cursor, now)
        if batch.empty and not self._due(now):
            return Step(now, findings=batch.findings)
        try:
            with self.holding():
                self.recover()
                if self.state.cursor != cursor:
                    batch = self._read(self.state.cursor, now)
                now = given or max(now, self.clock.now())  # what was read came before, and counts
                self.backlog = batch.backlog
                self.turns.finish(now)
                findings = self.collect(batch, now)
                self.check(findings, now)
                self.watch(now)
                self.release.advance(now)
                self.decide(now)
                self.turns.finish(now)
        except LeaseLost as error:
            return Step(now, tuple(self._written), held_by=error.message)
        return Step(now, tuple(self._written), batch.backlog, batch.findings)

    def _read(self, cursor: str | None, now: datetime) -> Batch:
        with interrupts.free():
            return self.source.read(cursor, now=now, every=self.every)

    def _due(self, now: datetime) -> bool:
        state = self.state
        return (
            state.fresh
            or state.decided < state.batch
            or self.turns.due(now)
            or self.turns.asking.due(now)
            or self.release.due(now)
            or any(self._overdue(arrived, now) for arrived in state.unscored)
            or self._landed_unseen()
        )

    def _overdue(self, arrived: facts.Arrived, now: datetime) -> bool:
        delay = self.source.roles.label_delay
        return delay is not None and arrived.to is not None and now >= arrived.to + delay

    def _landed_unseen(self) -> bool:
        return not self.simulated and self.memory.lake.last() > self.state.batch

    def recover(self) -> None:
        """Write the fact of a batch that landed when its writer was killed before it could."""
        number = self.state.batch + 1
        landed = None if self.simulated else self.memory.lake.landed(number)
        if landed is not None:
            self.append([_arrived(landed)], self.clock.now())

    def collect(self, batch: Batch, now: datetime) -> tuple[Finding, ...]:
        """Land what the source brought, once, and return what the source found."""
        if batch.empty or self.state.decided < self.state.batch:
            # A step that was cut short is ended first; the source hands the batch out again.
            return ()
        number = self.state.batch + 1
        kept = replace(batch, cursor=shortened(batch.cursor, self.state.cursor))
        landed = self.memory.lake.land(kept, number)
        self.append([_arrived(landed)], now)
        return batch.findings

    def check(self, found: Sequence[Finding], now: datetime) -> None:
        """Put the checks' questions to the newest batch; a block sets it apart whole."""
        state = self.state
        if state.checked >= state.batch or state.pending is None:
            return
        number, findings = state.batch, list(found)
        if state.pending.rows and self.checked is not None:
            findings.extend(self.checked.get(number, ()))
        elif state.pending.rows:
            lost, retyped = state.pending.lost, state.pending.retyped
            rows = as_came(self.memory.lake.batch(number), lost, retyped, state.accepted)
            labels = complete(self.memory.lake.scored(number, now)[[ID, LABEL]], LABEL)
            rows, watermark = self.columns(rows), state.watermark
            came = Batch(rows=rows, labels=labels, cursor="", watermark=watermark)
            context = self.context(number, now)
            for check in self.pipeline.checks:
                findings.extend(check.check(came, context))
            findings.extend(maturity.told(self, now))
        answers: list[Fact] = [facts.Found(batch=number, findings=tuple(findings))]
        blocked = [finding for finding in findings if finding.outcome == Outcome.BLOCK]
        if blocked:
            reason = "; ".join(finding.message for finding in blocked)
            answers.append(facts.Quarantined(batch=number, rows=state.pending.rows, reason=reason))
        self.append(answers, now)

    def watch(self, now: datetime) -> None:
        """Predict what came, score what has matured, estimate the rest, and measure drift."""
        failed = self.watcher.predict()
        scored = self.watcher.score(now)
        seen: list[Fact] = [
            *failed,
            *scored,
            *self.watcher.compare(scored),
            *self.watcher.losses(now, scored),
            *self.watcher.estimate(now, scored),
            *self.watcher.drift(),
        ]
        seen.extend(self.watcher.assess(now, seen))
        if seen:
            self.append(seen, now)
        # What the trigger asks for depends on what was just seen.
        probed = self.prober.probe(now) if now <= self.end_at else []
        if probed:
            self.append(probed, now)

    def decide(self, now: datetime) -> None:
        """Ask the trigger, and write down what it said and why."""
        for _ in range(ATTEMPTS):
            state = self.state
            if state.decided >= state.batch and not state.fresh:
                return
            decision = self.decision(now)
            plan = None
            if decision.train:
                plan = self.turns.plan(now, why=Why.of(decision), budget=True)
            if plan is not None:
                decision = plan.told(decision)
            decided: list[Fact] = [
                facts.Decided(
                    batch=state.batch,
                    decision=decision,
                    watermark=state.watermark,
                    turn=state.turn + 1 if decision.train else None,
                )
            ]
            if plan is not None and decision.train:
                decided.extend(self.turns.start(now, plan))
            if self.append_decision(decided, now):
                return
        raise LedgerConflict(
            f"another process kept writing to the ledger of {self.pipeline.name!r} while this one decided",
            hint="let one process run the loop: `keepfit status` names who holds it",
        )

    @interrupts.orderly()
    @interrupts.held()
    def train(self, reason: str) -> Step:
        """Train now, whatever the trigger says.

        Raises
        ------
        VersionUnknown
            There are no rows yet.
        """
        now = self.clock.now()
        self._written = []
        with self.holding():
            state = self.refold()
            if state.batch == 0:
                raise VersionUnknown(
                    "nothing has arrived yet to train on", hint="`keepfit run FILE --once` collects"
                )
            decision = facts.Decision(train=True, trigger="hand", reason=reason)
            decided = facts.Decided(
                batch=state.batch, decision=decision, watermark=state.watermark, turn=state.turn + 1
            )
            started = self.turns.start(now, self.turns.plan(now))
            self.append([decided, *started], now, expected=state.seq)
            self.turns.finish(now)
        return Step(now, tuple(self._written))

    @interrupts.orderly()
    def run(self, *, once: bool, poll: timedelta) -> Step:
        """Step until interrupted, or (``once``) until nothing is waiting; return the last step."""
        came = False
        while True:
            step, before = self.step(), came
            if step.held_by is None:
                self.steps.come_through(self.clock.now())
            landed = any(isinstance(entry.fact, facts.Arrived) for entry in step.entries)
            came = landed and not step.backlog
            # Where rows never cease to come, those of the last moments wait for the next look:
            # a row costs a step as much as thousands do.
            steady = came and before and not once
            if step.backlog or (step.entries and step.held_by is None and not steady):
                continue
            if once:
                return step
            self.clock.sleep(min(poll, self.every, *self.release.left(self.clock.now())))
            came = False

    # What the stages look at ------------------------------------------------------------

    def columns(self, rows: Any) -> Any:
        """Return rows with keepfit's own columns and the pipeline's features only."""
        features, exclude = self.pipeline.features, self.pipeline.exclude
        if features is None and not exclude:
            return rows
        kept = [
            name
            for name in rows.columns
            if name.startswith("_")
            or (name not in exclude if features is None else name in features)
        ]
        return rows.select(kept)

    def labelled(self, as_of: datetime, **bounds: Any) -> Any:
        """Return the rows with complete labels at a moment, without those in quarantine.

        Nor are those among them that were stopped: few of their labels ever come to be known. A row
        that says to be of later than that moment counts from then on, whatever its label says.
        """
        until = maturity.horizon(self, as_of)
        bounds["before"] = min(bounds.get("before") or until, until)
        rows = self.memory.lake.labelled(
            as_of=as_of, until_batch=self.state.batch, excluded=self.state.excluded, **bounds
        )
        return self.columns(explore.observed(rows))

    def context(self, number: int, now: datetime) -> CheckContext:
        """Return what the checks may look at beside a batch."""
        state = self.state
        return CheckContext(
            now=now,
            roles=self.source.roles,
            number=number,
            reference=self._reference(),
            arrived=tuple(state.let_in),
            every=self.every,
            schema_accepted=state.schema_accepted == number,
            champion=self.scorer.champion(state),
            repeated=0 if state.pending is None else state.pending.repeated,
        )

    def _reference(self) -> Profile | None:
        from keepfit.profile import Profile

        state = self.state
        if state.champion is not None and state.versions[state.champion].reference:
            return self.scorer.reference(state.versions[state.champion].reference).profile
        if not state.let_in:
            return None
        first = state.let_in[0].batch
        if self._first is None or self._first[0] != first:
            self._first = first, Profile.of(self.columns(self.memory.lake.batch(first)))
        return self._first[1]

    def decision(self, now: datetime) -> facts.Decision:
        """Return whether to train now, and why."""
        state = self.state
        if state.paused is not None:
            return facts.Decision(train=False, trigger="pause", reason=f"paused: {state.paused}")
        if state.training:
            ready = max(state.versions[name].ready_at for name in state.training)
            reason = f"{', '.join(state.training)} is being trained until {ready:%Y-%m-%d %H:%M}"
            return facts.Decision(train=False, trigger="training", reason=reason)
        if state.champion is None and self.start_at is not None and now < self.start_at:
            reason = f"the backtest starts on {self.start_at:%Y-%m-%d}"
            return facts.Decision(train=False, trigger="start", reason=reason)
        if now > self.end_at:
            reason = "the backtest has no rows left that a new model could answer"
            return facts.Decision(train=False, trigger="end", reason=reason)
        if state.first_at is None or state.watermark is None:
            return facts.Decision(train=False, trigger="data", reason="no rows have arrived yet")
        if state.rollout is not None:
            fact = state.rollout.fact
            reason = f"{fact.version} is being rolled out, {told(fact.share)}: one at a time"
            return facts.Decision(train=False, trigger="rollout", reason=reason)
        rest = self.turns.standings().rest()
        if rest:
            return facts.Decision(train=False, trigger="back-off", reason=rest)
        return self.pipeline.trigger.decide(self.evidence(now))

    def evidence(self, now: datetime) -> Evidence:
        """Return what the trigger may look at."""
        state = self.state
        champion = state.expected
        first = state.first_at or now
        return Evidence(
            now=now,
            watermark=state.watermark or first,
            first_at=first,
            trained_at=state.trained_at,
            champion=None if champion is None else champion.name,
            trained_to=None if champion is None else champion.snapshot.to,
            labelled=maturity.count(self, now, state.learnt_to),
            learnt=0 if (root := state.root(champion)) is None else root.snapshot.rows,
            labelled_to=state.labelled_to,
            promised=None if champion is None or champion.judged is None else champion.judged.value,
            greater_is_better=self.scorer.greater_is_better(state),
            facts=tuple(state.since),
            first={} if champion is None else dict(champion.first),
            asked=tuple(state.asked),
            asked_before=tuple(state.asked_before),
            trainings=tuple(state.trainings),
            probe_costs=tuple(state.probe_costs),
            waiting=tuple(state.waiting),
            probed=tuple(state.probes),
            every=self.every,
        )

    # The ledger -------------------------------------------------------------------------

    def refold(self) -> State:
        """Take in what others wrote, and return what all facts add up to."""
        self.state.fold(self.memory.ledger.facts(self.pipeline.name, after=self.state.seq))
        return self.state

    def _folded(self) -> State:
        cached = self.memory.ledger.fold(self.pipeline.name, FOLD)
        state = State()
        if cached is not None:
            try:
                state = State.loads(cached[1])
            except (
                ValueError,
                RecursionError,
            ):  # another version's: fold again from the first fact
                state = State()
        return state.fold(self.memory.ledger.facts(self.pipeline.name, after=state.seq))

    def append(self, new: Sequence[Fact], at: datetime, *, expected: int | None = None) -> None:
        """Write facts in one transaction, fold them, and let listeners hear them."""
        interrupts.check()
        name = self.pipeline.name
        ledger = self.memory.ledger
        entries = ledger.appended(name, new, at=at, expected_seq=expected, lease=self._lease)
        if entries and entries[0].seq != self.state.seq + 1:
            entries = list(ledger.facts(name, after=self.state.seq))
        self.state.fold(entries)
        self._written.extend(entries)
        if self.state.seq - self._saved >= SAVED_EVERY and not self.simulated:
            self._save()
        if self.listen is not None:
            for entry in entries:
                self.listen(entry)

    def _save(self) -> None:
        """Cache what the facts add up to; where an event holds what no cache can, do without."""
        self._saved = self.state.seq
        with suppress(OverflowError, RecursionError):  # such as a number of thirty digits
            body = self.state.dumps()
            self.memory.ledger.save_fold(self.pipeline.name, FOLD, self._saved, body)

    def append_decision(self, new: Sequence[Fact], at: datetime) -> bool:
        """Write facts that hold only if nobody else has written; where somebody has, take that in."""
        try:
            self.append(new, at, expected=self.state.seq)
        except LedgerConflict:
            self.refold()
            return False
        return True

    def holding(self) -> AbstractContextManager[object]:
        """Return a context in which no other process decides for this pipeline."""
        if self.simulated or self._lease is not None:
            return nullcontext()
        return _Held(self)


def _arrived(landed: Landed) -> facts.Arrived:
    told = asdict(landed)
    return facts.Arrived(batch=told.pop("number"), **told)


class _Held:
    """The loop's lease, taken for the length of a step."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        lease = self.loop.memory.ledger.lease(self.loop.pipeline.name)
        lease.__enter__()
        self.loop._lease = lease
        self.loop.refold()

    def __exit__(self, *exc: object) -> None:
        lease, self.loop._lease = self.loop._lease, None
        if lease is not None:
            lease.__exit__(None, None, None)
