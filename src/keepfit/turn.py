"""One turn of training: start the challengers, finish them, judge them, promote the best."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replaced

from keepfit import (
    afresh,
    costs,
    explore,
    footprint,
    gates,
    learners,
    maturity,
    relevance,
    unknown,
    winner,
)
from keepfit.allowance import Allowance
from keepfit.approval import Asking
from keepfit.batch import CARRIED, TIME, border
from keepfit.facts import (
    Answer,
    Donor,
    Fact,
    Judged,
    TrainingFailed,
    TrainingStarted,
)
from keepfit.final import FinalFit, refused
from keepfit.first import First
from keepfit.halving import Halving
from keepfit.learners.novel import without
from keepfit.learnt import again
from keepfit.metrics import value_of
from keepfit.past import PER_STRETCH, TO_SHOW, number, scored_past, stretches
from keepfit.plan import Chosen, Plan, Why
from keepfit.protocols import Comparison, Learner, Moment, Past, Task
from keepfit.registry import Version
from keepfit.standing import Standings
from keepfit.training import taken, train

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger
    from keepfit.loop import Loop

MICROSECOND = timedelta(microseconds=1)
SMALLEST = 100
"""Rows of a window below which it is not tried beside one that has more."""

GROWTH = 1.25
"""A challenger without enough evidence is judged again when its holdout has grown by this factor."""


class Turn:
    """The part of the loop that trains and judges."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.asking = loop, Asking(loop)
        self.last_fit, self.allowance, self.halving = FinalFit(self), Allowance(self), Halving(self)
        self.first = First(self)
        self._rows: dict[str, pl.DataFrame] = {}
        self._past: tuple[Any, pl.DataFrame] | None = None

    # Start ------------------------------------------------------------------------------

    def plan(self, now: datetime, *, why: Why = Why.ASKED, budget: bool = False) -> Plan:
        """Return which recipes would run now, on which rows, and why the others would not.

        With ``budget`` those do not whose forecast breaks the pipeline's budget.
        """
        loop, state = self.loop, self.loop.state
        champion = state.versions.get(state.champion or "")
        labelled = loop.labelled(now)
        cut = None if champion is None else self._cut(labelled, champion)
        pool = labelled if cut is None else _before(labelled, cut - loop.pipeline.embargo)
        since = None if champion is None else champion.snapshot.to
        standings = self.standings()
        moment = self.selecting(now, since, loop.pipeline.seed, standings.level.since)
        able = [self._able(one, pool, moment) for one in standings.runnable()]
        if unknown.due(loop, {name for one in able for name in one.new}):
            why = Why.ALARM
        held = standings.held({one.challenger.name: one.rows for one in able}, why)
        chosen = [one for one in able if one.rows.height and not held[one.challenger.name]]
        chosen.sort(key=lambda one: one.cost)
        if champion is None:
            # Nothing serves yet: the recipe that sees the most rows goes first, or a shorter window of it.
            chosen = self.first.beside(chosen, standings.enough)
        if budget:
            if champion is None and self.allowance.held(chosen):
                chosen = chosen[-1:]
            dear = self.allowance.held(chosen)
            held |= dear
            chosen = [one for one in chosen if one.challenger.name not in dear]
        held = {name: said for name, said in held.items() if said}
        return Plan(tuple(chosen), held, cut, moment.changed, standings.level.told)

    def _able(self, challenger: Challenger, pool: pl.DataFrame, moment: Moment) -> Chosen:
        """Return a recipe with the rows that it would train on."""
        challenger, found, fresh = afresh.begins(self.loop, challenger, pool)
        if fresh:
            # As if nothing had been trained before: its newest rows alone are too few then.
            moment = replace(moment, since=None, relevance=None)
        rows = challenger.select.select(found.rows, moment)
        cost = challenger.cost(rows.height)
        return Chosen(challenger, rows, cost, found.unlearnt, moment.since, fresh, found.new)

    def start(self, now: datetime, plan: Plan) -> list[Fact]:
        """Return the facts that start a turn: one training per recipe, the cheapest first."""
        self._rows = {}
        begun: dict[str, Fact] = {}
        for one in plan.chosen:
            place, told = len(begun), one.unlearnt
            started = self.started(
                now,
                place,
                one.challenger,
                one.rows,
                one.since,
                plan.cut,
                unlearnt=told,
                changed=plan.changed,
            )
            # While a window still reaches the first row, it is the same training as another.
            begun.setdefault(started.key, replaced(started, afresh=one.afresh))
        return list(begun.values())

    def standings(self) -> Standings:
        """Return what the facts so far say of each recipe."""
        state = self.loop.state
        return Standings(
            state,
            self.loop.pipeline.challengers,
            greater_is_better=self.loop.scorer.greater_is_better(state),
            enough=SMALLEST,
        )

    def _cut(self, labelled: pl.DataFrame, champion: Version) -> datetime | None:
        """Return the event time from which labelled rows are kept from training, to judge on."""
        holdout = gates.holdout(self.loop.pipeline.gate)
        if holdout is None:
            return None
        times = labelled.get_column(TIME)
        new = times.slice(border(times, champion.snapshot.to, "right"))
        if new.is_empty():
            return champion.snapshot.to + MICROSECOND
        if isinstance(holdout, timedelta):
            newest: datetime = new[-1]
            return max(newest - holdout, champion.snapshot.to) + MICROSECOND
        first: datetime = new[min(int(new.len() * (1 - holdout)), new.len() - 1)]
        return first

    def started(
        self,
        now: datetime,
        place: int,
        challenger: Challenger,
        rows: pl.DataFrame,
        since: datetime | None,
        cut: datetime | None,
        final_of: str | None = None,
        parent: str | None = None,
        unlearnt: Mapping[str, int] | None = None,
        changed: datetime | None = None,
    ) -> TrainingStarted:
        """Return the fact that starts a training of a recipe on rows, as its record."""
        loop, state = self.loop, self.loop.state
        version = f"v{len(state.versions) + place + 1}"
        if challenger.start == "champion":
            parent = parent or state.champion
        until = maturity.until(loop, now, None if cut is None else cut - loop.pipeline.embargo)
        snapshot = taken(loop, challenger, rows, now, until, since, changed, unlearnt or {})
        self._rows[version] = rows
        donor = None
        if challenger.donor is not None:
            before = now if loop.simulated else None
            donor = challenger.donor.resolve(loop.pipeline.home, loop.memory.artifacts, before)
        start, update = _kind(challenger, parent)
        return TrainingStarted(
            version=version,
            turn=state.turn if final_of else state.turn + 1,
            challenger=challenger.name,
            snapshot=snapshot,
            start=start,
            update=update,
            seed=loop.pipeline.seed,
            ready_at=now + loop.training_time,
            key=self._key(challenger, snapshot.digest, start, update, self._origin(parent, donor)),
            parent=parent,
            judged_from=cut,
            final_of=final_of,
            donor=donor,
            forecast=self.forecast(challenger, rows.height, parent),
        )

    def forecast(
        self, challenger: Challenger, rows: int, parent: str | None
    ) -> costs.Forecast | None:
        """Return what a training is expected to cost; None before the first."""
        kind = costs.recipe(self._learner(challenger).fingerprint, *_kind(challenger, parent))
        return costs.forecast(self.loop.state.spent, rows=rows, recipe=kind)

    def _key(self, challenger: Challenger, rows: str, start: str, update: str, before: str) -> str:
        """Return what makes two trainings the same: recipe, rows and weights, start and seed."""
        learner, asked = self._learner(challenger), self.loop.pipeline
        weighed = () if asked.explore is None else (repr(asked.explore),)
        parts = (learner.fingerprint, rows, start, update, before, str(asked.seed), *weighed)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _origin(self, parent: str | None, donor: Donor | None) -> str:
        """Return the digest of the model that a training starts from; of none an empty text."""
        if donor is not None:
            return donor.artifact
        return self.loop.state.versions[parent].artifact if parent else ""

    def _learner(self, challenger: Challenger) -> Learner:
        return challenger.learner or self.loop.pipeline.learner

    # Finish -----------------------------------------------------------------------------

    def due(self, now: datetime) -> bool:
        """Whether a training should be over by now, or challengers are still to be judged."""
        state = self.loop.state
        return any(state.versions[name].ready_at <= now for name in state.training)

    def finish(self, now: datetime) -> None:
        """Run the trainings that are due, then judge what waits."""
        loop = self.loop
        while loop.state.paused is None and self.due(now):
            name = next(n for n in loop.state.training if loop.state.versions[n].ready_at <= now)
            version = loop.state.versions[name]
            at = self._moment(version, now)
            if self.first.sampled(version, at) or self.halving.sampled(version, at):
                continue
            ended = train(loop, version)
            ended, retried = self.allowance.retry(version, ended, again(loop, version, ended))
            if retried is not None:
                self._rows[retried.version] = self.rows_of(version)
            loop.append(
                [ended] if retried is None else [ended, retried], self._moment(version, now)
            )
            if isinstance(ended, TrainingFailed) and version.final_of and retried is None:
                self.last_fit.failed(version, self._moment(version, now))
            if not loop.state.training:
                self.judge(self._moment(version, now))
        if loop.state.waiting and not loop.state.training and loop.state.paused is None:
            self.judge(now)

    def _moment(self, version: Version, now: datetime) -> datetime:
        return version.ready_at if self.loop.simulated else self.loop.clock.now()

    def task(self, version: Version, learner: Learner, rows: pl.DataFrame | None = None) -> Task:
        """Return the training of a version, as its record says, or on a part of its rows."""
        before = self._origin(version.parent, version.donor)
        return Task(
            learner=learner,
            rows=self._weighed(self.rows_of(version) if rows is None else rows, learner),
            start=version.start,
            update=version.update,
            previous=self.loop.scorer.content(before) if before else None,
            seed=version.seed,
            expected=self.loop.state.longest(version),
        )

    def _weighed(self, rows: pl.DataFrame, learner: Learner) -> pl.DataFrame:
        """Return rows with what they weigh; to who does not heed that, as often as they weigh."""
        asked = self.loop.pipeline.explore
        if not learners.weighs(learner):
            rows = explore.repeated(rows, asked).drop(CARRIED, strict=False)
        return explore.weighted(rows, asked)

    def rows_of(self, version: Version, before: datetime | None = None) -> pl.DataFrame:
        """Return the rows a version is trained on, or those that it would have been before a moment."""
        kept = self._rows.get(version.name)
        if kept is not None and before is None:
            return kept
        snapshot = version.snapshot
        lake = self.loop.memory.lake
        labelled = self.loop.columns(
            explore.observed(
                lake.labelled(
                    as_of=snapshot.as_of,
                    until_batch=snapshot.batch,
                    excluded=snapshot.excluded,
                    before=snapshot.as_of,
                )
            )
        )
        pool = labelled if snapshot.until is None else _before(labelled, snapshot.until)
        pool = pool if before is None else _before(pool, before)
        pool = without(pool, snapshot.unlearnt)
        challenger = self.challenger(version)
        if challenger is None:
            return pool
        moment = self.selecting(snapshot.as_of, snapshot.since, snapshot.seed, snapshot.changed)
        return challenger.select.select(pool, moment)

    def selecting(
        self, at: datetime, since: datetime | None, seed: int, changed: datetime | None
    ) -> Moment:
        """Return the moment that a selection is told, with what rows are worth to the next model."""
        state = self.loop.state
        found = Moment(as_of=at, since=since, seed=seed, every=self.loop.every, changed=changed)
        if since is None or state.champion is None:
            return found
        task = self.loop.scorer.model(state.versions[state.champion]).task
        return replace(found, relevance=relevance.relevance_of(task, seed=seed))

    def challenger(self, version: Version) -> Challenger | None:
        """Return the recipe a version was trained by; None when the pipeline no longer has it."""
        named = (one for one in self.loop.pipeline.challengers if one.name == version.challenger)
        return next(named, None)

    # Judge ------------------------------------------------------------------------------

    def judge(self, at: datetime) -> None:
        """Put the waiting challengers before the gate, and release the best that passes.

        While another is being rolled out they wait: only one is held against the champion. One
        that waits for a person waits for nothing else; the others are judged as ever.
        """
        loop, state = self.loop, self.loop.state
        if not state.waiting or state.rollout is not None or self.asking.go_on(at):
            return
        waiting = self.asking.unasked()
        if not waiting:
            return
        champion = state.versions.get(state.champion or "")
        if champion is None or not loop.pipeline.gate:
            reason = "no champion yet" if champion is None else "no gate"
            self.asking.passed([], self.standings().ungated(waiting), reason, at)
            return
        final = next((version for version in waiting if version.final_of), None)
        if final is not None:
            self.last_fit.passed(final, champion, at)
            return
        self._compare(waiting, champion, at)

    def _compare(self, waiting: list[Version], champion: Version, at: datetime) -> None:
        judged = [one for version in waiting if (one := self._judged(version, champion, at))]
        self._past = None
        passed = [one for one in judged if one.answer == Answer.PROMOTE]
        if not passed:
            if judged:
                self.loop.append(judged, at)
            return
        learnt = unknown.learnt(self.loop, passed, champion)
        best = winner.best(self.standings(), passed, learnt, self.asking.others)
        version = self.loop.state.versions[best.version]
        reason = best.verdicts[0].reason if best.verdicts else "no gate but a person"
        self.asking.passed(judged, version, reason, at)

    def _judged(self, version: Version, champion: Version, at: datetime) -> Judged | None:
        loop = self.loop
        if version.artifact == champion.artifact:
            return refused(version, champion, "Differs", "the same model as the champion")
        since = max(version.judged_from or champion.snapshot.to, champion.snapshot.to + MICROSECOND)
        rows = loop.labelled(at, after=since - MICROSECOND)
        before = version.judged
        again = before is not None and before.champion == champion.name
        if before is not None and again and rows.height < before.rows * GROWTH:
            return None
        state, both = loop.state, (version.artifact, champion.artifact)
        level = version.looked(champion.name), self._rivals(version)
        key = "judged", both, version.snapshot.to, since, at, state.batch, state.excluded, level
        found = loop.scorer.once(key, lambda: self._answered(version, champion, rows, at))
        return replaced(found, version=version.name, champion=champion.name)

    def _answered(self, version: Version, champion: Version, rows: Any, at: datetime) -> Judged:
        """Return what the gates say of a version beside the champion, on labelled rows."""
        loop = self.loop
        new, old = loop.scorer.model(version), loop.scorer.model(champion)
        judges = any(isinstance(gate, gates.NoForgetting) for gate in loop.pipeline.gate)
        try:
            past = stretches(
                loop.scorer,
                self._past_of(version, at),
                new,
                old,
                at_most=PER_STRETCH if judges else TO_SHOW,
                explore=loop.pipeline.explore,
            )
            (look, passed), rivals = version.looked(champion.name), self._rivals(version)
            comparison = self.comparison(
                rows, new, old, look=look, passed=passed, challengers=rivals, past=past
            )
        except Exception as error:
            # Where the champion lacks a column too, that is another matter.
            old.predict(rows.clear())
            return refused(version, champion, "Answers", f"it cannot: {error!r}", rows.height)
        comparison = footprint.measured(loop, comparison, version, champion)
        verdicts = tuple(gate.judge(comparison) for gate in self.asking.others)
        value, champion_value = self.values(comparison)
        return Judged(
            version=version.name,
            answer=gates.combine(verdicts),
            verdicts=verdicts,
            champion=champion.name,
            rows=rows.height,
            look=comparison.look,
            metric=comparison.metric.name,
            value=value,
            champion_value=champion_value,
            scores=gates.moved(comparison),
            past=tuple(scored_past(comparison.metric, one) for one in past),
        )

    def _past_of(self, version: Version, at: datetime) -> pl.DataFrame:
        """Return the labelled rows that a version may have learnt; those of its turn are the same."""
        asked = at, version.snapshot.to, self.loop.state.batch
        if self._past is None or self._past[0] != asked:
            self._past = asked, self.loop.labelled(at, before=version.snapshot.to)
        return self._past[1]

    def _rivals(self, version: Version) -> int:
        """Return how many challengers share the level of a version's turn; the same at every look."""
        turn = self.loop.state.of_turn(version.turn)
        again = (one.final_of or one.retry_of or one.state == "skipped" for one in turn)
        return max(1, sum(not one for one in again))

    def comparison(
        self,
        rows: pl.DataFrame,
        new: Any,
        old: Any,
        *,
        look: int,
        passed: tuple[str, ...] = (),
        challengers: int = 1,
        past: tuple[Past, ...] = (),
    ) -> Comparison:
        """Return two models on the same labelled rows, for gates to judge by."""
        import numpy as np

        metric, labels, ours, theirs = unknown.beside(self.loop.scorer, new, old, rows)
        kept = np.ones(labels.size, dtype=bool) if new.task == "regression" else labels >= 0
        weights = explore.weights(rows, self.loop.pipeline.explore)
        return Comparison(
            metric=metric,
            labels=labels[kept],
            challenger=ours[kept],
            champion=theirs[kept],
            times=rows.get_column(TIME).to_numpy().view(np.int64)[kept],
            rows=rows if kept.all() else rows.filter(kept),
            weights=None if weights is None else weights[kept],
            look=look,
            passed=passed,
            challengers=challengers,
            past=past,
        )

    def values(self, comparison: Comparison) -> tuple[float | None, float | None]:
        """Return the metric of the challenger and of the champion, None where it is not defined."""
        metric, labels, weights = comparison.metric, comparison.labels, comparison.weights
        new, old = (
            None if scores is None else number(value_of(metric, labels, scores, weights))
            for scores in (comparison.challenger, comparison.champion)
        )
        return new, old

    def release(self, judged: list[Judged], version: Version, reason: str, at: datetime) -> None:
        """Let a version that passed take over, or first learn its holdout too."""
        loop = self.loop
        final = self.last_fit.begin(version, at)
        unpaid = "" if final is None else self.allowance.refuses(final, version)
        if unpaid:
            final, reason = None, f"{reason}; as it passed, without a final fit: {unpaid}"
        new = [*judged, final or loop.release.begin(version, reason, at)]
        # Where a person has written meanwhile, it waits, and is judged as things stand now.
        if loop.append_decision(new, at) and final is None:
            self._rows = {}


def _kind(challenger: Challenger, parent: str | None) -> tuple[str, str]:
    """Return the start and the update of a recipe's training, as its record has them."""
    own = parent or challenger.start in ("pretrained", "transfer")
    update = challenger.update if parent or challenger.donor is not None else "all"
    return challenger.start if own else "scratch", update


def _before(rows: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    return rows.slice(0, border(rows.get_column(TIME), moment, "left"))
