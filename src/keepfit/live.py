"""Two versions on live rows: what a rollout goes on by, and what a promotion is undone by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from keepfit import gates
from keepfit.batch import BATCH
from keepfit.facts import Answer, Judged, Verdict

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop
    from keepfit.protocols import Comparison
    from keepfit.registry import Looks, Version

    Judges = Callable[[Comparison], tuple[Verdict, ...]]

NEW = 100
"""Labelled live rows that must be new, for another look at whether they show harm."""

GROWTH = 1.25
"""The gate judges again when there are so many times as many live rows as before."""


class Live:
    """What two versions make of live rows.

    Both answer every labelled live row here, so that what is compared is paired, whoever was
    answered by which. Live rows came after a batch, neither version was trained on them, and
    their labels are mature. What is new is looked at with every step, and all of them each
    time they have doubled, for whether a version does harm (`gates.harm`): the one sees what
    turns bad from one day to the next, the other what is a little worse all the time. At the
    end of a rollout the pipeline's gate judges by all of them, as it does by a holdout.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def rows(self, version: Version, other: Version, batch: int, now: datetime) -> pl.DataFrame:
        """Return the live rows of two versions, from after a batch."""
        import polars as pl

        delay = self.loop.source.roles.label_delay
        before = now if delay is None else now - delay
        rows: pl.DataFrame = self.loop.labelled(now, after=_learnt(version, other), before=before)
        return rows.filter(pl.col(BATCH) > batch)

    def harm(
        self, version: Version, other: Version, batch: int, looks: Looks, now: datetime, during: str
    ) -> Judged | None:
        """Return whether a version does harm beside another; None as long as too little is new."""
        least = looks.seen + max(NEW, looks.wait)
        if self._at_most(version, other, now) < least:
            return None
        rows = self.rows(version, other, batch, now)
        if rows.height < least:
            return None
        newest = rows.height - looks.seen if looks.seen else 0
        parts = [(rows.tail(newest), looks.newest)] if newest else []
        if rows.height >= 2 * looks.rows:
            parts.append((rows, looks.count))
        shown = [
            self._judged(version, other, part, count + 1, during, self._harmful)
            for part, count in parts
        ]
        verdicts = tuple(verdict for one in shown for verdict in one.verdicts)
        return replaced(
            shown[-1],
            answer=gates.combine(verdicts),
            verdicts=verdicts,
            rows=rows.height,
            newest=newest,
        )

    def last(
        self, version: Version, other: Version, rows: pl.DataFrame, looks: Looks
    ) -> Judged | None:
        """Return what the gate says at the end of a rollout; None as long as too little is new."""
        if not rows.height or rows.height < GROWTH * looks.rows:
            return None
        gate = partial(self._gate, looks.passed)
        return self._judged(version, other, rows, looks.count + 1, "end of rollout", gate)

    def answers(self, version: Version, other: Version, batch: int, now: datetime) -> bool:
        """Return whether a version can answer the newest live row at all."""
        newest = self.rows(version, other, batch, now).tail(1)
        try:
            self.loop.scorer.model(version).predict(newest)
        except Exception:  # as when a column that it knows has gone
            return False
        return True

    def _at_most(self, version: Version, other: Version, now: datetime) -> int:
        """Return how many live rows there may be, which costs less than to read them."""
        state = self.loop.state
        return self.loop.memory.lake.count_labelled(
            as_of=now,
            until_batch=state.batch,
            excluded=state.excluded,
            after=_learnt(version, other),
        )

    def _harmful(self, comparison: Comparison) -> tuple[Verdict, ...]:
        # Looks at what is new and looks at all of them: two series.
        return (gates.harm(self.loop.pipeline.gate, comparison, series=2),)

    def _gate(self, passed: tuple[str, ...], comparison: Comparison) -> tuple[Verdict, ...]:
        comparison = dataclasses.replace(comparison, passed=passed)
        # What a person was asked for is not asked for again: such a gate says that it is not live.
        asked = [one for one in self.loop.pipeline.gate if getattr(one, "live", True)]
        return tuple(gate.judge(comparison) for gate in asked)

    def _judged(
        self,
        version: Version,
        other: Version,
        rows: pl.DataFrame,
        look: int,
        during: str,
        judges: Judges,
    ) -> Judged:
        scorer, turns = self.loop.scorer, self.loop.turns
        try:
            comparison = turns.comparison(
                rows, scorer.model(version), scorer.model(other), look=look
            )
        except Exception as error:
            verdicts: tuple[Verdict, ...] = (_raised(error, rows.height),)
            values: tuple[float | None, float | None] = (None, None)
            metric = None
        else:
            verdicts, values = judges(comparison), turns.values(comparison)
            metric = comparison.metric.name
        return Judged(
            version=version.name,
            answer=gates.combine(verdicts),
            verdicts=verdicts,
            champion=other.name,
            rows=rows.height,
            look=look,
            metric=metric,
            value=values[0],
            champion_value=values[1],
            during=during,
        )


def _learnt(version: Version, other: Version) -> datetime:
    return max(version.snapshot.to, other.snapshot.to)


def _raised(error: Exception, rows: int) -> Verdict:
    reason = f"it cannot answer: {type(error).__name__}: {error}"
    return Verdict(gate="Answers", answer=Answer.REFUSE, reason=reason, rows=rows)
