"""How the gap between a champion and a fresh model opens with the rows that come."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keepfit.facts import Arrived, Probed
from keepfit.protocols import Evidence

CAUTION = 1.0
"""Standard errors by which a gap is lowered, where a training is as dear as what is at stake."""

STRANGE = 2.0
"""Standard deviations from the usual beyond which a measured gap speaks for itself."""

_SMALLEST = 1e-9
"""An error below which none is told from none."""

_SEVERAL = 4
"""Probes that tell what is usual."""


class Gap(NamedTuple):
    """What a fresh model loses less a row, and how unsure that is."""

    value: float
    error: float

    def sure(self, rows: int, price: float) -> float:
        """Return the gap lowered by its standard error; nothing where it is not above zero then.

        At stake is one standard error on each of the rows. Where a training costs less than
        that, doubt is dearer than a training in vain, and the gap is lowered by as much less.
        """
        stake = self.error * rows
        caution = CAUTION * min(1.0, price / stake) if stake > 0 else 0.0
        bound = self.value - caution * self.error
        return bound if math.isfinite(bound) and bound > 0 else 0.0

    def drawn_to(self, usual: Gap | None) -> Gap:
        """Return the gap drawn to what is usual, as far as it is the less sure of the two.

        One that contradicts the usual is left alone: the stream has changed.
        """
        if usual is None or min(self.error, usual.error) < _SMALLEST:
            return self
        if abs(self.value - usual.value) > STRANGE * math.hypot(self.error, usual.error):
            return self
        own, other = self.error**-2, usual.error**-2
        return Gap((own * self.value + other * usual.value) / (own + other), (own + other) ** -0.5)


class Rate(NamedTuple):
    """How fast a gap opens as a rule, per row: the mean, and how far a single one may lie off."""

    mean: float
    error: float

    @classmethod
    def of(cls, probes: Sequence[Probed]) -> Rate | None:
        """Return the usual rate that some probes tell; None where they are too few.

        Rates differ from reign to reign beyond the errors of measurement; by how much is
        estimated from their scatter (DerSimonian and Laird, Meta-analysis in clinical trials,
        1986).
        """
        known = [one for one in probes if one.age > 0 and one.error >= _SMALLEST]
        if len(known) < _SEVERAL:
            return None
        rates = [one.gap / one.age for one in known]
        weights = [(one.age / one.error) ** 2 for one in known]
        total = sum(weights)
        mean = sum(w * rate for w, rate in zip(weights, rates, strict=True)) / total
        scatter = sum(w * (rate - mean) ** 2 for w, rate in zip(weights, rates, strict=True))
        spread = total - sum(w * w for w in weights) / total
        between = max(0.0, scatter - (len(known) - 1)) / spread if spread > 0 else 0.0
        weights = [1 / (1 / w + between) for w in weights]
        total = sum(weights)
        mean = sum(w * rate for w, rate in zip(weights, rates, strict=True)) / total
        return cls(mean, math.sqrt(between + 1 / total))

    def at(self, age: int) -> Gap:
        """Return the gap to expect after so many rows."""
        return Gap(self.mean * age, self.error * age)


@dataclass(frozen=True, slots=True)
class Course:
    """How the gap to a fresh model has gone since the last training."""

    rows: int
    """Rows that came since the last training."""
    step: float
    """Rows of a usual batch."""
    probes: tuple[Probed, ...]
    """The probes since the last training, oldest first."""
    before: tuple[Probed, ...]
    """The probes of earlier champions, oldest first."""

    @classmethod
    def of(cls, evidence: Evidence) -> Course:
        """Return the course that the facts tell."""
        sizes = [fact.rows for fact in evidence.facts if isinstance(fact, Arrived)]
        probes = [
            fact
            for fact in evidence.facts
            if isinstance(fact, Probed) and fact.version == evidence.champion
        ]
        return cls(
            rows=sum(sizes),
            step=statistics.median(sizes) if sizes else 0.0,
            probes=tuple(probes),
            before=tuple(evidence.probed),
        )

    @property
    def newest(self) -> Probed | None:
        """The newest probe, of this champion or of those before."""
        return (self.probes or self.before or (None,))[-1]

    @property
    def last(self) -> Probed:
        """The newest probe of this champion; there must be one."""
        return self.probes[-1]

    @property
    def gap(self) -> Gap:
        """The gap by the newest probe, drawn to what was usual before."""
        return self._gap(len(self.probes) - 1)

    @property
    def at_most(self) -> float | None:
        """How large the gap may be by now, at its upper bound; None where nothing tells."""
        rate = Rate.of((*self.before, *self.probes))
        usual = None if rate is None else rate.at(self.rows)
        bounds = [] if usual is None else [usual.value + STRANGE * usual.error]
        if self.probes:
            last = self.last
            # What was measured may have been luck, and the gap may have begun to open since.
            gap = max(0.0, last.gap) + STRANGE * last.error
            bounds.append(gap * self.rows / max(last.age, 1))
        return max(bounds, default=None)

    def sure(self, price: float) -> float:
        """Return what a fresh model loses less a row, as far as it is sure enough at a price."""
        return self.gap.sure(self.rows, price)

    @property
    def regret(self) -> float:
        """What a fresh model would have lost less on the rows since the last training, for sure.

        The champion was fresh at its training: between probes, and from there to the first,
        the gap is taken to open evenly.
        """
        lost, then, before = 0.0, 0, 0.0
        for place, probe in enumerate(self.probes):
            gap = self._gap(place).sure(probe.age, math.inf)
            lost += max(0, probe.age - then) * (before + gap) / 2
            then, before = max(then, probe.age), gap
        return lost + max(0, self.rows - then) * before

    def saved(self, price: float) -> float:
        """Return what training now would save on as many rows as came since the last training.

        The fresh model is taken to age as this one did, and to lose as much meanwhile.
        """
        return max(0.0, self.sure(price) * self.rows - self.regret)

    def _gap(self, place: int) -> Gap:
        probe = self.probes[place]
        rate = Rate.of((*self.before, *self.probes[:place]))
        usual = None if rate is None else rate.at(probe.age)
        return Gap(probe.gap, probe.error).drawn_to(usual)
