"""What goes around a trigger: cool-down, budget, enough data, a maximum age."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from keepfit.clock import duration, humanise, rate
from keepfit.errors import ConfigError
from keepfit.facts import Decision, TrainingFailed
from keepfit.parts import Part
from keepfit.protocols import Evidence, Trigger
from keepfit.triggers.joins import resolved

AT_FIRST = 100
"""Labelled rows that the first training needs, where nothing else is said."""

SHARE, FEWEST, MOST = 0.01, 10, 200
"""New rows that one after it needs: a share of what the champion was trained on, at least and at most.

Fewer teach nothing; but where each step brings few, as many as a large stream can wait for are weeks
of them, in which values may have left all that was learnt."""


@dataclass(frozen=True, repr=False)
class Guarded(Part):
    """A trigger within its guards; what the loop asks.

    The first training waits for enough labelled rows and, where tries of it failed, for the
    budget. After it, a yes of the trigger, or a champion past its maximum age, trains unless a guard holds it.
    Times count on the watermark, so that a backlog is treated as it would have been.

    Parameters
    ----------
    trigger
        The rule inside.
    cooldown
        The least event time between two decisions to train.
    budget
        The most trainings, ``"3 per 30d"``, or CPU seconds of them, ``"600s per 30d"``, in
        any period of that length. Each challenger's training counts, and so do one that is
        run once more, the final fit, and the seconds of `Pays`' probes. One whose forecast is
        more than the seconds that are left does not start, nor does a probe once none are
        left. Where fewer trainings are left than recipes would run, the ones that have done
        best go first, then the cheapest; where none is left for its final fit, a winner serves
        as it passed. A person may go beyond the budget.
    enough
        The new labelled rows that a training needs. When not given, a hundred for the first one,
        and for those after it one in a hundred of the rows that the champion was trained on, but
        at least 10 and at most 200; 200 while a challenger waits at the gate for evidence, and
        where it is not known what the champion was trained on.
    max_age
        The age of the champion's newest training row beyond which to train whatever the
        trigger says. A challenger that waits at the gate for evidence is waited for, as long
        as that since it was trained: another turn would take its place, and begin anew.

    Raises
    ------
    ConfigError
        A guard is written wrongly, or the trigger cannot stand alone.

    Examples
    --------
    >>> from keepfit.triggers import Every
    >>> Guarded(Every("28d"), cooldown="7d", budget="3 per 90d")
    Guarded(Every("28d"), cooldown="7d", budget="3 per 90d")
    """

    reads_estimates: ClassVar[bool] = False

    trigger: Trigger
    cooldown: str | timedelta | None = field(default=None, kw_only=True)
    budget: str | None = field(default=None, kw_only=True)
    enough: int | None = field(default=None, kw_only=True)
    max_age: str | timedelta | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        resolved(self.trigger)
        for length in (self.cooldown, self.max_age):
            if length is not None:
                duration(length)
        if self.budget is not None:
            rate(self.budget, "budget")
        if self.enough is not None and self.enough < 1:
            raise ConfigError(
                f"enough: expected 1 labelled row or more, got {self.enough!r}",
                hint="a training needs labelled rows that the last one had not",
            )

    @property
    def period(self) -> timedelta | None:
        """The length of time over which the budget counts trainings."""
        return None if self.budget is None else rate(self.budget, "budget")[1]

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        inner = self.trigger.decide(evidence)
        if evidence.champion is None:
            wanted, trigger, reason = True, "first", "no champion yet"
            held = [*self._back_off(evidence), *self._spent(evidence), *self._too_few(evidence)]
        else:
            aged = None if inner.train else self._aged(evidence)
            wanted = inner.train or aged is not None
            trigger = inner.trigger if aged is None else "max_age"
            reason = inner.reason if aged is None else aged
            held = list(self._held(evidence)) if wanted else []
            held += [] if aged is None else self._at_gate(evidence)
        names = [name for name, _ in held]
        if held:
            reason += "; held by " + ", ".join(f"{name} ({why})" for name, why in held)
        return Decision(
            train=wanted and not held,
            trigger=trigger,
            reason=reason,
            evidence={
                "labelled": evidence.labelled,
                "enough": self._needed(evidence),
                "held_by": names,
            },
            parts=(inner,),
        )

    def _held(self, evidence: Evidence) -> Iterator[tuple[str, str]]:
        yield from self._back_off(evidence)
        yield from self._cooling(evidence)
        yield from self._spent(evidence)
        yield from self._too_few(evidence)

    def _back_off(self, evidence: Evidence) -> Iterator[tuple[str, str]]:
        failures = [fact for fact in evidence.facts if isinstance(fact, TrainingFailed)]
        retry_at = failures[-1].retry_at if failures else None
        if retry_at is not None and evidence.now < retry_at:
            failed = f"{failures[-1].version} failed, again from {retry_at:%Y-%m-%d %H:%M}"
            yield "the back-off", failed

    def _cooling(self, evidence: Evidence) -> Iterator[tuple[str, str]]:
        if self.cooldown is None or evidence.trained_at is None:
            return
        since, least = evidence.watermark - evidence.trained_at, duration(self.cooldown)
        if since < least:
            yield (
                "the cool-down",
                f"{humanise(since)} since the last training, {humanise(least)} asked for",
            )

    def _spent(self, evidence: Evidence) -> Iterator[tuple[str, str]]:
        if self.budget is None:
            return
        most, _ = rate(self.budget, "budget")
        spent = self._within(evidence.trainings, evidence.watermark)
        if isinstance(most, timedelta):
            probes = sum(self._within(evidence.probe_costs, evidence.watermark))
            seconds = sum(spent) + probes
            if seconds >= most.total_seconds():
                told = f", {probes:.0f} of them on probes" if probes else ""
                yield "the budget", f"{seconds:.0f} CPU seconds spent{told}, {self.budget}"
        elif len(spent) >= most:
            yield "the budget", f"{len(spent)} trainings, {self.budget}"

    def _within(
        self, trainings: Sequence[tuple[datetime, float]], watermark: datetime
    ) -> list[float]:
        """Return the CPU seconds of each training that counts against the budget still."""
        period = self.period
        return [] if period is None else [cpu for at, cpu in trainings if watermark - at < period]

    def left(
        self, trainings: Sequence[tuple[datetime, float]], watermark: datetime | None
    ) -> float | None:
        """Return how many CPU seconds the budget has left; None where it counts none.

        Parameters
        ----------
        trainings
            Past trainings as (watermark at their start, CPU seconds), and probes as well.
        watermark
            The event time up to which the stream has been read.
        """
        most = None if self.budget is None else rate(self.budget, "budget")[0]
        if not isinstance(most, timedelta) or watermark is None:
            return None
        return max(0.0, most.total_seconds() - sum(self._within(trainings, watermark)))

    def trainings_left(
        self, trainings: Sequence[tuple[datetime, float]], watermark: datetime | None
    ) -> int | None:
        """Return how many trainings the budget has left; None where it counts none.

        Parameters
        ----------
        trainings, watermark
            As in `left`.
        """
        most = None if self.budget is None else rate(self.budget, "budget")[0]
        if not isinstance(most, int) or watermark is None:
            return None
        return max(0, most - len(self._within(trainings, watermark)))

    def _too_few(self, evidence: Evidence) -> Iterator[tuple[str, str]]:
        needed = self._needed(evidence)
        if evidence.labelled < needed:
            yield "too few labelled rows", f"{evidence.labelled:,} new, {needed:,} asked for"

    def _needed(self, evidence: Evidence) -> int:
        """Return how many new labelled rows a training needs."""
        if self.enough is not None:
            return self.enough
        if evidence.champion is None:
            return AT_FIRST
        if evidence.waiting or not evidence.learnt:
            # Another turn would take the place of who waits for evidence, which it may never have then;
            # and what came from elsewhere has learnt nobody knows how many.
            return MOST
        return min(max(round(SHARE * evidence.learnt), FEWEST), MOST)

    def _at_gate(self, evidence: Evidence) -> list[tuple[str, str]]:
        """Return that a challenger which is young enough may still take over."""
        if self.max_age is None or evidence.trained_at is None or not evidence.waiting:
            return []
        # A holdout keeps the newest rows from it: its age counts from when it was trained.
        since = evidence.watermark - evidence.trained_at
        told = f"{', '.join(evidence.waiting)} of {humanise(since)} ago waits there for evidence"
        return [("the gate", told)] if since <= duration(self.max_age) else []

    def _aged(self, evidence: Evidence) -> str | None:
        if self.max_age is None or evidence.trained_to is None:
            return None
        age, most = evidence.watermark - evidence.trained_to, duration(self.max_age)
        if age <= most:
            return None
        return f"the champion's newest row is {humanise(age)} old, {humanise(most)} allowed"
