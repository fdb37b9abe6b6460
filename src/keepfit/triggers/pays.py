"""The trigger that weighs what a training would save against what it costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeGuard

from keepfit.errors import ConfigError
from keepfit.facts import AnyFact, Decision, Drifted, Probed, Scored
from keepfit.protocols import Evidence
from keepfit.triggers.ageing import Course
from keepfit.triggers.joins import Rule

LEAST = 200
"""New labelled rows without which nothing is probed: half of them judge."""

GROWTH = 1.25
"""How far the rows since the last training must have grown for the next probe."""

COSTS = 4
"""Probes that tell what one costs; before so many, one is taken however dear it is."""

POINT = 0.01
STRIKING = 2.0
"""Standard deviations by which a window must be worse than those before to ask for a probe."""

_USUAL = 4
"""Windows before it that such a window is compared with."""


@dataclass(frozen=True, repr=False)
class Pays(Rule):
    """Train when what a fresh model would save is worth more than the training costs.

    What it would save is measured with *probes*: a small model trained on rows as a training
    would take them now, against the same one trained on rows like the champion's, both on the
    newest rows with mature labels. The difference is drawn to how the gap opened in the reigns
    before, as far as it is the less sure of the two and does not contradict it, and lowered by
    its standard error, or by less where a training costs less than that error is worth. The
    next chance is taken to come after as many rows as came since the last training, and the
    fresh model to age as this one did; training then saves the gap on these rows, less what was
    lost since the last training while the gap grew. It pays when that, or what was lost
    already, reaches the price. For a gap that grows evenly both come at the same moment, the
    best one; a gap that opens at once is seen by the first, and the second bounds what waiting
    can cost (ski rental).

    A probe is taken at first, then with every quarter more rows, unless even a gap at its upper
    bound would not pay; when drift or a striking window asks for it; and before a training, so
    that it rests on the newest rows. Its CPU seconds are paid for like those of a training.
    Where the newest probes cost more than a turn of training, which such a probe might spare, a
    training takes its place from the fourth probe on: it is the cheaper way to know, and the
    gate measures what it gained. Put a maximum age under the whole,
    ``Pipeline(…, trigger=Pays(), max_age="90d")``: what probes cannot see, such as free text
    and images, ages too.

    Parameters
    ----------
    per_error
        The price of one unit of loss: of a wrong row, where the metric is accuracy.
    per_cpu_second
        The price of a CPU second of training; a turn's seconds are forecast from those before.
    cost
        What a row costs, where the metric is no mean over rows (roc_auc): the name of a metric
        that is, or a function of labels and scores that returns one number per row, labels
        being codes of classes or values.
    worth
        Without prices: the share of the compute of training with every batch that one point of
        the metric, held over as many batches, is worth: a quarter of it unless stated. One
        point is 0.01, or a hundredth of the loss of the best constant answer. What pays then
        follows from counts of rows alone, and is the same on every machine, but for whether a
        probe is dearer than a training; with prices all follows the CPU seconds measured.

    Raises
    ------
    ConfigError
        One price is given without the other, or a number is out of its range.

    Examples
    --------
    >>> Pays(), Pays(per_error=2.5, per_cpu_second=0.00001, cost="log_loss")
    (Pays(), Pays(per_error=2.5, per_cpu_second=1e-05, cost="log_loss"))

    References
    ----------
    Žliobaitė, Budka and Stahl, Towards cost-sensitive adaptation: when is it worth updating
    your predictive model? (2015); Karlin, Manasse, Rudolph and Sleator, Competitive snoopy
    caching (1988), for the bound of ski rental.
    """

    reads_estimates: ClassVar[bool] = False

    per_error: float | None = field(default=None, kw_only=True)
    per_cpu_second: float | None = field(default=None, kw_only=True)
    cost: str | Callable[[Any, Any], Any] | None = field(default=None, kw_only=True)
    worth: float = field(default=0.25, kw_only=True)

    def __post_init__(self) -> None:
        if (self.per_error is None) != (self.per_cpu_second is None):
            raise ConfigError(
                f"Pays: expected both prices or none, got per_error={self.per_error!r} "
                f"and per_cpu_second={self.per_cpu_second!r}",
                hint="they are in the same currency; only their ratio matters",
            )
        if self.per_error is not None and not 0 < self.per_error < math.inf:
            raise ConfigError(f"Pays: expected per_error above zero, got {self.per_error!r}")
        if self.per_cpu_second is not None and not 0 <= self.per_cpu_second < math.inf:
            raise ConfigError(
                f"Pays: expected per_cpu_second of zero or more, got {self.per_cpu_second!r}"
            )
        if not 0 < self.worth < math.inf:
            raise ConfigError(f"Pays: expected worth above zero, got {self.worth!r}")
        if self.cost is not None and not isinstance(self.cost, str) and not callable(self.cost):
            raise ConfigError(
                f"Pays: expected cost to be a metric's name or a function, got {self.cost!r}",
                hint='cost="log_loss", or a function of labels and scores: one number per row',
            )

    def __repr__(self) -> str:
        text = super().__repr__()
        if callable(self.cost):
            # Where a function lies in memory is no part of what it does.
            text = text.replace(repr(self.cost), getattr(self.cost, "__name__", "cost"))
        return text

    # Probes -----------------------------------------------------------------------------

    def wants_probe(self, evidence: Evidence) -> str:
        """Return why the loop should probe now; ``""`` when it need not, or a training is cheaper."""
        return "" if _dear(evidence) else self._asks(evidence)

    def _asks(self, evidence: Evidence) -> str:
        """Return why what a fresh model would gain should be measured now; ``""`` if not."""
        if evidence.champion is None or evidence.labelled < LEAST:
            return ""
        course = Course.of(evidence)
        if not course.probes:
            return "" if self._cannot_pay(course) else "the first since the last training"
        sign = _sign(evidence, course.last)
        if sign:
            return sign
        if course.rows > course.last.age and self._pays(course, self._price(course)):
            return f"by the probe of batch {course.last.batch} training would pay by now"
        if course.rows < GROWTH * course.last.age or self._cannot_pay(course):
            return ""
        return (
            f"{course.rows:,} rows since the last training, {course.last.age:,} at the last probe"
        )

    def _cannot_pay(self, course: Course) -> bool:
        """Return whether training would not pay even if the gap were at its upper bound now."""
        price, most = self._price(course), course.at_most
        if price is None or most is None:
            return False
        return most * course.rows + course.regret < price

    # The decision -----------------------------------------------------------------------

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        if evidence.champion is None:
            return self._no("no champion yet")
        course, dear = Course.of(evidence), _dear(evidence)
        asked = self._asks(evidence) if dear else ""
        if asked:
            return Decision(
                train=True,
                trigger=self.name,
                reason=f"in the place of a probe, which {dear}: {asked}",
            )
        if not course.probes and dear and evidence.labelled >= LEAST:
            return self._no(
                f"by earlier probes no gap can be wide enough to pay yet; another {dear}"
            )
        if not course.probes:
            labelled = f"{evidence.labelled:,} new labelled rows, {LEAST:,} asked for"
            return self._no(f"what a fresh model would gain is not measured yet: {labelled}")
        price = self._price(course)
        if price is None:
            return self._no("what a training costs is not known yet: none has ended")
        train = self._pays(course, price)
        return Decision(
            train=train,
            trigger=self.name,
            reason=self._reason(course, price, train),
            evidence=self._evidence(course, price),
        )

    def _pays(self, course: Course, price: float | None) -> bool:
        """Return whether training saves, or would have saved, its price."""
        if price is None or not course.sure(price) > 0:
            return False
        return max(course.saved(price), course.regret) >= price

    def _no(self, reason: str) -> Decision:
        return Decision(train=False, trigger=self.name, reason=reason)

    def _price(self, course: Course) -> float | None:
        """Return the loss whose saving pays for a turn of training; None where nothing tells."""
        probe = course.newest
        if probe is None:
            return None
        if self.per_error is None or self.per_cpu_second is None:
            return probe.scale * course.step * POINT / self.worth
        if probe.training_seconds is None:
            return None
        return probe.training_seconds * self.per_cpu_second / self.per_error

    def _reason(self, course: Course, price: float, train: bool) -> str:
        probe, gap = course.last, course.gap
        unit = "errors" if probe.loss == "accuracy" else f"of {probe.loss}"
        told = f"training {'pays' if train else 'does not pay'}: "
        if train and course.saved(price) < price:
            lost = f"{_number(course.regret)} {unit}"
            told += f"it would have saved {lost} on the {course.rows:,} rows since the last one"
        else:
            told += f"it would save {_number(course.saved(price))} {unit} on the next {course.rows:,} rows"
        told += f", {_number(price)} pay for it{self._priced(course)}; by {probe.recipe} "
        told += f"a fresh model loses {probe.gap:.4f} ± {probe.error:.4f} less a row"
        told += f" on {probe.rows:,} rows"
        if gap.value != probe.gap:
            told += f", {gap.value:.4f} ± {gap.error:.4f} beside earlier probes"
        sure = course.sure(price)
        return f"{told}, {f'{sure:.4f} of it counts' if sure else 'none of it counts'}"

    def _priced(self, course: Course) -> str:
        """Return where the price comes from, in the user's words."""
        if self.per_error is None or course.last.training_seconds is None:
            return ""
        seconds = _number(course.last.training_seconds)
        return f" ({seconds} CPU s at {self.per_cpu_second:g}, {self.per_error:g} a unit of loss)"

    def _evidence(self, course: Course, price: float) -> dict[str, Any]:
        probe = course.last
        known = {
            "saved": course.saved(price),
            "price": price,
            "regret": course.regret,
            "ahead": course.rows,
            "gap": probe.gap,
            "error": probe.error,
            "sure": course.sure(price),
            "loss": probe.loss,
            "probes": len(course.probes),
            "earlier_probes": len(course.before),
        }
        if self.per_error is not None:
            known["training_seconds"] = probe.training_seconds
        return known


def _dear(evidence: Evidence) -> str:
    """Return that a probe costs more than a turn of training, in words; ``""`` where not.

    A turn costs what the newest one took, or was forecast to take at the newest probe if that
    is more: it may be of fewer recipes than the next.
    """
    probes = [*evidence.probed, *(one for one in evidence.facts if isinstance(one, Probed))]
    if len(probes) < COSTS or not evidence.trainings:
        return ""
    newest = evidence.trainings[-1][0]
    took = sum(seconds for at, seconds in evidence.trainings if at == newest)
    turn = max(took, probes[-1].training_seconds or 0.0)
    probe = statistics.median(one.cost.cpu_seconds for one in probes[-COSTS:])
    # How many seconds they are is measured, and facts are to be the same on every machine.
    return "costs more CPU than a training" if probe > turn else ""


def _sign(evidence: Evidence, last: Probed) -> str:
    """Return what happened since the newest probe that asks for another; ``""`` for nothing."""
    since: Sequence[AnyFact] = evidence.facts
    since = since[next(place for place, fact in enumerate(since) if fact is last) + 1 :]
    drifted = next((fact for fact in since if isinstance(fact, Drifted)), None)
    if drifted is not None:
        return f"{drifted.detector} saw drift in batch {drifted.batch}"
    windows = [one for one in evidence.facts if _window_of(one, evidence.champion)]
    values = [one.value for one in windows if one.value is not None]
    if len(values) <= _USUAL or not any(_window_of(one, evidence.champion) for one in since):
        return ""
    usual, newest = values[:-1], values[-1]
    better = 1.0 if evidence.greater_is_better else -1.0
    worse = better * (statistics.fmean(usual) - newest)
    if worse <= STRIKING * statistics.stdev(usual):
        return ""
    return f"{windows[-1].metric} {newest:.3f}, {statistics.fmean(usual):.3f} before"


def _window_of(fact: AnyFact, champion: str | None) -> TypeGuard[Scored]:
    """Return whether a fact says how well the champion did."""
    if not isinstance(fact, Scored) or fact.version != champion:
        return False
    return fact.value is not None and math.isfinite(fact.value)


def _number(value: float) -> str:
    """Return a number of errors, or of seconds, with as many digits as it takes."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
