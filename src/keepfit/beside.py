"""What recipes reached side by side: which does better, and whether trainings pay."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from keepfit.registry import Side

ENOUGH = 5
"""Batches without which no recipe is held to do better than another."""

FRESH, STALE = 4, 16
"""Batches after a training on which its recipes are compared, at least and at most.

What is compared is windows, and not how models age: updates and the next training see to that.
"""

TELLING = 1_000
"""Rows on which they are, where so few batches have fewer: small ones tell little each."""

LATELY = 4
"""Trainings whose batches tell whether trainings do better than updates."""

RECENT = LATELY * FRESH
"""Newest batches that tell what is usual lately."""

TOLD = 0.15
"""The share of new rows from which on a training tells whether trainings pay: one that learnt nearly
the rows of the model before it does as well, however well it would pay to wait less."""

ALIKE = 1.25
"""Two recipes of which one sees fewer than so many times the rows of the other are alike."""

MEMORY = 0.97
"""What a batch counts less with each batch that follows it."""


class Trained(NamedTuple):
    """How much better than updates trainings did, in standard errors; and whether on rows enough to tell."""

    gain: float
    telling: bool


class Beside:
    """What recipes reached side by side on batches that they had not learnt.

    Parameters
    ----------
    sides
        What they reached, batch by batch, the newest last.
    sign
        1 where the greater value is the better one, else -1.
    brief
        The recipes of a single step. They would be trained with every batch, so that what they
        reach on others than the next one, and the holdout before it, says nothing.
    """

    def __init__(self, sides: Sequence[Side], sign: float, *, brief: Collection[str] = ()) -> None:
        self.sides, self.sign, self.brief = sides, sign, brief
        self._gains: dict[tuple[str, str | None], float | None] = {}

    def gain(self, name: str, other: str | None = None) -> float | None:
        """Return how much better a recipe did than another, in standard errors; None: unknown.

        Without another, than updates of the champion before it.
        """
        if (name, other) not in self._gains:
            found = [(one, one.values[name] - before) for one, before in self._pairs(name, other)]
            self._gains[name, other] = self._errors(found)
        return self._gains[name, other]

    def trained(self, name: str) -> Trained | None:
        """Return how much better than updates its trainings did lately, of those that tell; else None."""
        found = [
            (one, one.values[name] - before)
            for one, before in self._pairs(name, None)
            if one.new.get(name, 1.0) >= TOLD
        ]
        size = min(RECENT, len(found))
        most = min(LATELY * STALE, len(found))
        while size < most and not _tell(found[-size:]):
            size += 1
        gain = self._errors(found[-size:])
        return None if gain is None else Trained(gain, _tell(found[-size:]))

    def turns(self, name: str, other: str) -> set[int]:
        """Return the turns in which two recipes were asked about the same holdout."""
        return {one.turn for one, _ in self._pairs(name, other)} - {0}

    def _pairs(self, name: str, other: str | None) -> list[tuple[Side, float]]:
        """Return where both were asked at the same age, with what the other one reached."""
        # Where labels come late, batches before the training are answered too, which none serves.
        brief = not {name, other}.isdisjoint(self.brief)
        found = []
        for one in self.sides:
            before = one.kept.get(name) if other is None else one.values.get(other)
            if name not in one.values or before is None:
                continue
            age, others = one.ages.get(name), one.ages.get(other or name)
            known = others if age is None else age
            if known is None or (others in (None, known) and (known == 1 or not brief)):
                found.append((one, before))
        return found

    def _errors(self, found: Sequence[tuple[Side, float]]) -> float | None:
        if len(found) < ENOUGH:
            return None
        return standard_errors([self.sign * gain for _, gain in found], [one for one, _ in found])


def _tell(found: Sequence[tuple[Side, float]]) -> bool:
    """Return whether batches have rows enough to tell a small gain from none; fewer batches, in proportion."""
    return sum(one.n for one, _ in found) * RECENT >= LATELY * TELLING * min(RECENT, len(found))


def standard_errors(gains: Sequence[float], pairs: Sequence[Side]) -> float:
    """Return a mean of gains over batches in its standard errors; newer batches count more."""
    size = len(pairs)
    weights = [one.n * MEMORY ** (size - 1 - i) for i, one in enumerate(pairs)]
    total = sum(weights)
    mean = sum(w * gain for w, gain in zip(weights, gains, strict=True)) / total
    away = [gain - mean for gain in gains]
    spread = sum(w * one * one for w, one in zip(weights, away, strict=True)) / total
    effective = total**2 / sum(w * w for w in weights)
    error = math.sqrt(spread / max(effective - 1, 1))
    return mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
