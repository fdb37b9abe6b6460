"""What a training would gain now, measured with small models trained in a moment: probes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from keepfit import costs, explore, facts, triggers
from keepfit.batch import TIME, border, spread
from keepfit.challenger import distinct
from keepfit.learners.novel import learnable
from keepfit.probes.losses import check, loss
from keepfit.probes.trial import FEWEST, Trial, threads
from keepfit.protocols import Moment

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger
    from keepfit.loop import Loop
    from keepfit.registry import Version

__all__ = ["Prober", "check"]

JUDGES = 500
"""The newest rows that judge both probes at least, where the newest batch holds fewer.

What they are, the fresh probe cannot learn: of several batches, a change would be seen late.
"""

ASKED = 2_000
"""Rows of the judging window that are asked at most, evenly spread."""

RECIPES = 3
"""Ways of choosing rows that are probed at most."""


class Prober:
    """The part of the loop that measures what a training would gain, where a trigger asks."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def probe(self, now: datetime) -> list[facts.Fact]:
        """Return what a fresh model would gain now, if a trigger has a reason to ask."""
        state = self.loop.state
        asking = triggers.probing(self.loop.pipeline.trigger)
        champion = state.versions.get(state.champion or "")
        if not asking or champion is None or state.training or state.paused is not None:
            return []
        if state.probed >= state.batch or state.labelled_to is None or self._spent():
            return []
        evidence = self.loop.evidence(now)
        reason = next((why for one in asking if (why := one.wants_probe(evidence))), "")
        found = self._probed(champion, asking[0].cost, reason, now) if reason else None
        return [] if found is None else [found]

    def _spent(self) -> bool:
        """Return whether the budget has no CPU seconds left, of trainings and of probes."""
        state = self.loop.state
        left = getattr(self.loop.pipeline.trigger, "left", None)
        paid = [*state.trainings, *state.probe_costs]
        return left is not None and left(paid, state.watermark) == 0

    def _probed(
        self, champion: Version, cost: Any, reason: str, now: datetime
    ) -> facts.Probed | None:
        threads()  # what is found once in a process is not the price of a probe
        loop, started = self.loop, time.process_time()
        model = loop.scorer.model(champion)
        name, losses = loss(loop.scorer.metric(model), cost, model)
        # Of rows that are not mature, those with a label are not like the others.
        known = loop.labelled(now, before=loop.state.labelled_to)
        # Old and fresh are compared in the champion's classes.
        known = learnable(known, model.classes, closed=True, every=model.task != "regression").rows
        labelled = self._weighed(known)
        seen = border(labelled.get_column(TIME), champion.snapshot.to, "right")
        judges = min((labelled.height - seen) // 2, max(self._step(), JUDGES))
        if judges < FEWEST:
            return None
        pool, judged = labelled.head(labelled.height - judges), labelled.tail(judges)
        judged = judged[spread(judges, ASKED)]
        chosen = self._chosen(pool, champion, now)
        trial = Trial(model, losses, judged, loop.pipeline.seed + loop.state.batch)
        measured = trial.best(self._learnt(champion, labelled), _distinct(chosen, champion))
        if measured is None:
            return None
        return facts.Probed(
            batch=loop.state.batch,
            version=champion.name,
            reason=reason,
            recipe=measured.recipe,
            loss=name,
            rows=measured.rows,
            stale=measured.stale,
            fresh=measured.fresh,
            gap=measured.gap,
            error=measured.error,
            scale=measured.scale,
            drawn=measured.drawn,
            age=sum(one.rows for one in loop.state.since if isinstance(one, facts.Arrived)),
            from_=judged.get_column(TIME)[0],
            to=judged.get_column(TIME)[-1],
            training_seconds=self._seconds(chosen),
            cost=facts.Cost(cpu_seconds=time.process_time() - started),
        )

    def _learnt(self, champion: Version, labelled: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that made the champion: of one that went on from others, theirs too."""
        import polars as pl

        first = self.loop.state.root(champion) or champion
        rows = self._weighed(self.loop.turns.rows_of(first))
        if first is champion:
            return rows
        between = pl.col(TIME) > first.snapshot.to, pl.col(TIME) <= champion.snapshot.to
        together: pl.DataFrame = pl.concat(
            [rows, labelled.filter(*between)], how="diagonal_relaxed"
        )
        return together

    def _weighed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows as often as they weigh: a probe learns from some, and all count alike."""
        return explore.repeated(rows, self.loop.pipeline.explore)

    def _step(self) -> int:
        """Return the rows of a usual batch."""
        return int(median(arrived.rows for arrived in self.loop.state.let_in))

    def _chosen(
        self, pool: pl.DataFrame, champion: Version, now: datetime
    ) -> list[tuple[Challenger, pl.DataFrame]]:
        """Return the rows that each recipe would train on now."""
        loop, standings = self.loop, self.loop.turns.standings()
        moment = Moment(
            as_of=now,
            since=champion.snapshot.to,
            seed=loop.pipeline.seed,
            every=loop.every,
            changed=standings.level.since,
        )
        return [(one, one.select.select(pool, moment)) for one in standings.worked()]

    def _seconds(self, chosen: Sequence[tuple[Challenger, pl.DataFrame]]) -> float | None:
        """Return the CPU seconds that a turn is forecast to take; None before any training."""
        spent, total = self.loop.state.spent, 0.0
        same = distinct(chosen)
        for challenger, rows in chosen:
            if same[challenger.name] != challenger.name:
                continue
            learner = challenger.learner or self.loop.pipeline.learner
            kind = costs.recipe(learner.fingerprint, challenger.start, challenger.update)
            told = costs.forecast(spent, rows=rows.height, recipe=kind)
            if told is None:
                return None
            total += told.seconds / (challenger.every or 1)
        return total


def _distinct(
    chosen: Sequence[tuple[Challenger, pl.DataFrame]], champion: Version
) -> dict[str, pl.DataFrame]:
    """Return the choices of rows to be probed, the champion's own first, no rows twice.

    A recipe that goes on from the champion sees few rows and keeps what the champion knows. A
    probe learns from scratch, and on these few it would show less than the recipe can do:
    such recipes are probed only where there are no others.
    """
    scratch = [(one, rows) for one, rows in chosen if one.start != "champion"]
    ordered = sorted(scratch or chosen, key=lambda one: one[0].name != champion.challenger)
    found: dict[str, pl.DataFrame] = {}
    seen: set[tuple[int, datetime]] = set()
    for challenger, rows in ordered:
        if rows.is_empty() or len(found) == RECIPES:
            continue
        key = rows.height, rows.get_column(TIME)[0]
        if key not in seen:
            seen.add(key)
            found.setdefault(repr(challenger.select), rows)
    return found
