"""The part of the loop that watches: predicts, scores, estimates, and measures drift."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit import answers, estimates, explore, facts, maturity, relevance, triggers, unknown
from keepfit.batch import ID, LABEL, RESERVED, SCORE, VERSION, complete
from keepfit.beside import FRESH, STALE, TELLING
from keepfit.errors import KeepfitError
from keepfit.facts import ColumnDrift, Fact
from keepfit.metrics import mature
from keepfit.partial import Parts
from keepfit.protocols import Advanced

if TYPE_CHECKING:
    import polars as pl

    from keepfit.drift import Reference
    from keepfit.loop import Loop
    from keepfit.protocols import Detector
    from keepfit.registry import Version

TAUGHT_BY = 20_000
"""Newest labelled rows that an estimate is learnt from at most."""

ENOUGH = 200
"""Labelled rows without which nothing is estimated."""

ANSWERED = 0.99
"""Of a batch's rows as many must be answered, or nothing is estimated: failing is no estimate."""

LEARNT_AGAIN = 1.1
"""An estimate is learnt again when its labelled rows have grown by this factor."""


class Watch:
    """Looks at what the champion does with each batch that was let in."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._taught: tuple[str, str, int, Any] | None = None
        self._remembered: tuple[str, relevance.RowMemory] | None = None
        self._known: tuple[str, relevance.Usual] | None = None
        self.parts = Parts(loop)

    def predict(self) -> list[Fact]:
        """Let the champion answer what came, keep the answers, and return which batches it failed.

        What raises on a row, or says no number, ends nothing: the row has no score, counts as
        answered wrong once its label is known, and a finding tells of it with every batch.
        """
        loop = self.loop
        found: list[Fact] = []
        for number in loop.state.unserved:
            rows = loop.memory.lake.batch(number)
            said = loop.scorer.predict(loop.state, number, rows)
            loop.memory.lake.predict_land(number, said)
            failed = tuple(answers.failed(said, loop.scorer.failures))
            if failed:
                found.append(facts.Found(batch=number, findings=failed))
        return found

    # Realised performance ---------------------------------------------------------------

    def score(self, now: datetime) -> list[Fact]:
        """Return how the champion did on each batch whose labels have matured."""
        scored: list[Fact] = []
        for arrived in self.loop.state.unscored:
            if self._early(arrived, now):
                continue
            rows = self._weighed(self.loop.memory.lake.scored(arrived.batch, now))
            known = rows.height - rows.get_column(LABEL).null_count()
            if self._mature(arrived, known, rows.height, now):
                scored.append(self.loop.scorer.score(self.loop.state, arrived, rows))
        return scored

    def _weighed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows that may come to have a label, with what they weigh."""
        return explore.weighted(explore.observed(rows), self.loop.pipeline.explore)

    def compare(self, scored: Sequence[Fact]) -> Sequence[Fact]:
        """Return what the recipes of one turn reach on batches just scored, beside the champion."""
        state = self.loop.state
        followed = [state.versions[name] for name in state.followed]
        found: list[facts.Compared] = []
        for fact in scored if followed else ():
            if not isinstance(fact, facts.Scored) or fact.value is None or fact.from_ is None:
                continue
            fresh = [
                one
                for one in followed
                if one.snapshot.to < fact.from_ and self._fresh(one, fact.batch, found)
            ]
            if not fresh:
                continue
            values = self._reached(fresh, fact) | {fact.version: fact.value}
            found.append(
                facts.Compared(batch=fact.batch, metric=fact.metric, n=fact.n, values=values)
            )
        return found

    def _fresh(self, version: Version, batch: int, found: Sequence[facts.Compared]) -> bool:
        """Return whether what a training made is compared on a batch still; ``found`` comes before it."""
        first = version.snapshot.batch
        if batch <= first + FRESH:
            return True
        # Two turns may be followed on one batch, which has its rows once.
        rows = {one.batch: one.n for one in self.loop.state.compared if not one.turn}
        rows |= {one.batch: one.n for one in found}
        return batch <= first + STALE and sum(n for at, n in rows.items() if at > first) < TELLING

    def _reached(self, versions: Sequence[Version], served: facts.Scored) -> dict[str, float]:
        """Return the metric of versions that do not serve on a batch, where it is defined."""
        loop, batch = self.loop, served.batch
        classes = {*unknown.names(loop.scorer.model(loop.state.versions[served.version]))}
        classes |= served.unknown.keys()
        rows = loop.memory.lake.batch(batch)
        known = loop.memory.lake.scored(batch, loop.clock.now()).get_column(LABEL)
        rows = self._weighed(complete(rows.hstack([known.alias(LABEL)]), LABEL))
        known = rows.get_column(LABEL)
        reached = {
            one.name: loop.scorer.reached(one, batch, rows, known, classes) for one in versions
        }
        return {name: value for name, value in reached.items() if value is not None}

    def _early(self, arrived: facts.Arrived, now: datetime) -> bool:
        delay = self.loop.source.roles.label_delay
        reached = arrived.to is None or now >= arrived.to
        return delay is not None and not reached and not self.loop.simulated

    def _mature(self, arrived: facts.Arrived, known: int, total: int, now: datetime) -> bool:
        delay = self.loop.source.roles.label_delay
        if arrived.to is None or mature(known, total, to=arrived.to, now=now, label_delay=delay):
            return True
        # Nobody said how late labels are: what two more batches did not bring is not waited for.
        age = self.loop.state.batch - arrived.batch
        return delay is None and ((age >= 2 and known >= 0.9 * total) or (age >= 10 and known > 0))

    # Estimated performance --------------------------------------------------------------

    def estimate(self, now: datetime, scored: list[Fact]) -> list[Fact]:
        """Return what to expect of each batch whose labels are still to come, once a batch.

        In a backtest nobody but the trigger looks at it.
        """
        state = self.loop.state
        if self.loop.simulated and not triggers.estimated(self.loop.pipeline.trigger):
            return []
        realised = {fact.batch for fact in scored if isinstance(fact, facts.Scored)}
        waiting = [
            arrived
            for arrived in state.unscored
            if arrived.batch > state.estimated and arrived.batch not in realised
        ]
        found = (self._estimated(arrived, now) for arrived in waiting)
        return [fact for fact in found if fact is not None]

    def _estimated(self, arrived: facts.Arrived, now: datetime) -> Fact | None:
        loop, state = self.loop, self.loop.state
        champion = state.versions[state.champion] if state.champion else None
        if champion is None or not loop.scorer.estimable(champion):
            return None
        served = loop.memory.lake.scored(arrived.batch, now)
        asked = served.filter(served.get_column(VERSION) == champion.name)
        own = complete(asked, SCORE)
        others = set(served.get_column(VERSION)) - {champion.name}
        if (
            not own.height
            or own.height < ANSWERED * asked.height
            or others - {state.rollout.fact.version if state.rollout else ""}
        ):
            return None
        method = "Weighted" if state.drifted else "CBPE"
        learnt = self._learnt(champion, method, now)
        if learnt is None:
            return None
        scores = loop.scorer.stored(champion, own.get_column(SCORE))
        estimate = loop.scorer.estimate(
            champion,
            learnt,
            scores,
            lambda: self._answered(arrived.batch, own.get_column(ID)),
        )
        figures = (estimate.value, estimate.low, estimate.high, estimate.trust, estimate.unlike)
        if not all(map(math.isfinite, figures)):
            return None
        trust = estimate.trust * estimates.Trust()(state.estimates)
        return facts.Estimated(
            batch=arrived.batch,
            version=champion.name,
            metric=estimate.metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n,
            from_=arrived.from_,
            to=arrived.to,
            trust=trust,
            unlike=estimate.unlike,
        )

    def _answered(self, batch: int, ids: pl.Series) -> pl.DataFrame:
        rows = self.loop.memory.lake.batch(batch)
        return rows if ids.len() == rows.height else rows.filter(rows.get_column(ID).is_in(ids))

    def _learnt(self, champion: Version, method: str, now: datetime) -> Any:
        """Return what estimates rest on: labelled rows that the champion was not trained on."""
        loop = self.loop
        count = maturity.count(loop, now, champion.snapshot.to)
        if count < ENOUGH:
            return None
        known = self._taught
        if known and known[:2] == (champion.name, method) and count < known[2] * LEARNT_AGAIN:
            return known[3]
        rows = loop.labelled(now, after=champion.snapshot.to).tail(TAUGHT_BY)
        self._taught = champion.name, method, count, self._fitted(champion, method, rows)
        return self._taught[3]

    def _fitted(self, champion: Version, method: str, rows: pl.DataFrame) -> Any:
        scorer = self.loop.scorer
        model = scorer.model(champion)
        metrics = (scorer.metric(model).name,)
        rows, scores = answers.answered(model, rows)
        labels = model.codes(rows.get_column(LABEL))
        features = rows.select(list(model.features))
        try:
            if model.task == "regression":
                return estimates.DLE(metrics=metrics).fit(labels, scores, features)
            kept = labels >= 0
            labels, scores = labels[kept], scores[kept]
            if method == "CBPE":
                return estimates.CBPE(metrics=metrics).fit(labels, scores)
            return estimates.Weighted(metrics=metrics).fit(labels, scores, features.filter(kept))
        except KeepfitError:
            # One class so far, or scores that are no probabilities: nothing to learn from yet.
            return None

    # Relevance --------------------------------------------------------------------------

    def assess(self, now: datetime, seen: Sequence[Fact]) -> list[Fact]:
        """Return what the newest batch means to the champion, where the trigger asks for it."""
        return self.assessed(now, seen) if triggers.assessed(self.loop.pipeline.trigger) else []

    def assessed(self, now: datetime, seen: Sequence[Fact]) -> list[Fact]:
        """Return what the newest batch means to the champion, once."""
        loop, state = self.loop, self.loop.state
        champion = state.versions.get(state.champion or "")
        newest = state.let_in[-1].batch if state.let_in else 0
        if champion is None or not champion.reference:
            return []
        if newest != state.batch or state.assessed >= newest:
            return []
        model = loop.scorer.model(champion)
        rows = loop.columns(loop.memory.lake.batch(newest))
        served = complete(loop.memory.lake.scored(newest, now), SCORE)
        answered = set(served.get_column(VERSION)) == {champion.name}
        looked = [
            fact
            for fact in seen
            if isinstance(fact, facts.DetectorAdvanced)
            and fact.batch == newest
            and not fact.state.get("held")  # it waits for more, and has said nothing yet
        ]
        importances = getattr(model, "importances", None)
        known = relevance.Known(
            scores=loop.scorer.stored(champion, served.get_column(SCORE)) if answered else None,
            labels=model.codes(served.get_column(LABEL)) if answered else None,
            memory=self._memory(champion),
            moved=[one for fact in looked for one in fact.columns],
            together=max((fact.together for fact in looked), default=1),
            weights={} if importances is None else importances(),
            change=self._change(champion, newest, seen),
            usual=self._usual(champion, now),
        )
        features = rows.select(name for name in rows.columns if name not in RESERVED)
        return [relevance.assess(newest, champion.name, features, known)]

    def _memory(self, champion: Version) -> relevance.RowMemory:
        """Return where the champion's training rows lay, as it was kept, or from the rows."""
        if self._remembered is None or self._remembered[0] != champion.name:
            reference = self.loop.scorer.reference(champion.reference)
            kept = reference.parts.get(relevance.KEPT)
            if kept is not None:
                memory = relevance.RowMemory.loads(kept)
            else:
                rows = explore.repeated(
                    self.loop.turns.rows_of(champion), self.loop.pipeline.explore
                )
                memory = relevance.RowMemory.fit(rows, reference.profile)
            self._remembered = champion.name, memory
        return self._remembered[1]

    def _usual(self, champion: Version, now: datetime) -> relevance.Usual | None:
        """Return what the champion's answers are like on rows it was not trained on."""
        loop = self.loop
        if self._known is not None and self._known[0] == champion.name:
            return self._known[1]
        rows = loop.labelled(now, after=champion.snapshot.to).tail(TAUGHT_BY)
        if rows.height < ENOUGH:
            return None
        model = loop.scorer.model(champion)
        rows, scores = answers.answered(model, rows)
        if rows.height < ENOUGH:
            return None
        usual = relevance.Usual.of(
            scores,
            model.codes(rows.get_column(LABEL)),
            regression=model.task == "regression",
        )
        self._known = champion.name, usual
        return usual

    def _change(
        self, champion: Version, batch: int, seen: Sequence[Fact]
    ) -> relevance.Change | None:
        """Return how the metric changed on a batch against what the gate promised."""
        judged = champion.judged
        if judged is None or judged.value is None:
            return None
        for fact in seen:
            if not isinstance(fact, facts.Scored | facts.Estimated) or fact.batch != batch:
                continue
            if fact.value is None or fact.low is None or fact.high is None:
                continue
            better = self.loop.scorer.greater_is_better(self.loop.state)
            worse = judged.value - fact.value if better else fact.value - judged.value
            least = judged.value - fact.high if better else fact.low - judged.value
            return relevance.Change(
                metric=fact.metric,
                value=worse,
                low=least,
                estimated=isinstance(fact, facts.Estimated),
            )
        return None

    # Drift ------------------------------------------------------------------------------

    def drift(self) -> list[Fact]:
        """Return how far the newest batch lies from the champion's training rows."""
        loop, state = self.loop, self.loop.state
        newest = state.let_in[-1].batch if state.let_in else 0
        champion = state.versions.get(state.champion or "")
        if champion is None or not champion.reference:
            return []
        if newest != state.batch or state.watched >= newest:
            return []
        reference = loop.scorer.reference(champion.reference)
        rows = loop.columns(loop.memory.lake.batch(newest))
        found: list[Fact] = []
        for detector in loop.pipeline.detectors:
            if not hasattr(detector, "on"):
                found.extend(self._advanced(detector, reference, rows, newest))
            elif detector.on != "loss":
                values = self._series(detector, rows, newest)
                found.extend(self._followed(detector, values, newest, state.let_in[-1].to))
        return found

    # Series -----------------------------------------------------------------------------

    def losses(self, now: datetime, scored: list[Fact]) -> list[Fact]:
        """Return what detectors of the champion's losses make of the batches just scored."""
        loop = self.loop
        followers = [one for one in loop.pipeline.detectors if getattr(one, "on", "") == "loss"]
        found: list[Fact] = []
        for fact in scored if followers else ():
            if not isinstance(fact, facts.Scored) or fact.version != loop.state.champion:
                continue
            rows = explore.observed(loop.memory.lake.scored(fact.batch, now))
            values = loop.scorer.errors(loop.state.versions[fact.version], rows, fact.unknown)
            for detector in followers:
                found.extend(self._followed(detector, values, fact.batch, fact.to, found))
        return found

    def _series(self, detector: Any, rows: pl.DataFrame, batch: int) -> Sequence[float]:
        if detector.on == "score":
            served = self.loop.memory.lake.scored(batch, self.loop.clock.now())
            champion = self.loop.state.versions[self.loop.state.champion or ""]
            scores = self.loop.scorer.stored(champion, served.get_column(SCORE).drop_nulls())
            values: Sequence[float] = (scores if scores.ndim == 1 else scores.max(axis=1)).tolist()
            return values
        found: Sequence[float] | None = detector.values(rows)
        return found or []

    def _followed(
        self,
        detector: Any,
        values: Sequence[float],
        batch: int,
        to: datetime | None,
        before: Sequence[Fact] = (),
    ) -> list[Fact]:
        """Return where a detector of a series stands after more values, and its alarm."""
        name = detector.name
        known = self.loop.state.detectors.get(name, {})
        for fact in before:
            if isinstance(fact, facts.DetectorAdvanced) and fact.detector == name:
                known = fact.state
        kept = known.get("at")
        state = b64decode(kept) if kept else self._begun(name)
        state, places = detector.advance(state, values)
        moved = (
            ColumnDrift(
                column=detector.on, method=type(detector).__name__, value=len(places), limit=0.5
            ),
        )
        found: list[Fact] = [
            facts.DetectorAdvanced(
                batch=batch,
                detector=name,
                columns=moved,
                drifted=int(bool(places)),
                state={"at": b64encode(state).decode()},
            )
        ]
        if places:
            found.append(facts.Drifted(batch=batch, detector=name, columns=moved, of=1, rows_to=to))
        return found

    def _begun(self, name: str) -> bytes | None:
        """Return where a detector stands after the champion's reference, if it has seen that."""
        state = self.loop.state
        champion = state.versions[state.champion or ""]
        if not champion.reference:
            return None
        return self.loop.scorer.reference(champion.reference).parts.get(name)

    # Columns ----------------------------------------------------------------------------

    def _advanced(
        self, detector: Detector, reference: Reference, rows: pl.DataFrame, batch: int
    ) -> list[Fact]:
        """Return what a detector says of a batch, and its alarm if it raises one."""
        state, name = self.loop.state, detector.name
        to = state.let_in[-1].to
        if hasattr(detector, "accumulate"):
            before = dict(state.detectors.get(name, {}))
            waits = self.parts.waiting(before, batch)
            together = self.parts.rows(waits.seen, batch, rows)
            if waits.over:
                said: Advanced = detector.accumulate(reference, together, before, self._anchor())
            else:
                columns = detector.check(reference, together)
                said = Advanced(columns=columns, state=before, waiting=True)
            moved, alarm = tuple(said.columns), tuple(said.alarm)
            to = to if waits.end is None else state.let_in[-2].to
            more: dict[str, Any] = {
                "state": {**said.state, **waits.left(judged=not said.waiting)},
                "evidence": said.evidence,
                "threshold": said.threshold,
                "provisional": said.provisional,
                "together": len(waits.seen),
            }
        else:
            moved, more = tuple(detector.check(reference, rows)), {}
            alarm = tuple(one for one in moved if one.drifted and one.column not in state.drifted)
        found: list[Fact] = [
            facts.DetectorAdvanced(
                batch=batch,
                detector=name,
                columns=moved[:20],
                drifted=sum(one.drifted for one in moved),
                **more,
            )
        ]
        if alarm:
            found.append(
                facts.Drifted(
                    batch=batch, detector=name, columns=alarm[:20], of=len(moved), rows_to=to
                )
            )
        return found

    def _anchor(self) -> Reference | None:
        """Return the reference of the first champion, where another serves."""
        state = self.loop.state
        champion = state.versions[state.champion or ""]
        if not state.anchor or state.anchor == champion.reference:
            return None
        return self.loop.scorer.reference(state.anchor)
