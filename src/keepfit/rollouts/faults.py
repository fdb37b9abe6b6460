"""How many faults of a challenger are too many: answers that fail, are no numbers, or come too late."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINDED = 0.01
"""The share of faulty answers that is not minded."""

WRONGLY = 0.001
"""The share of rollouts with no more faults than that which are ended all the same."""

_RATES = (0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Faults:
    """How many answers a challenger gave, how many were faults, and what the last one was.

    The rule is a test that holds at any moment: the likelihood of what was seen under rates
    of faults from 2 to 100 %, weighted evenly, over that under 1 %. As long as the rate is at
    most 1 %, this ratio ever reaches 1,000 in at most one of a thousand rollouts (Ville 1939),
    however often it is looked at. Two faults in the first two answers are enough; of a
    challenger that fails every tenth time, about fifty answers.

    Examples
    --------
    >>> Faults(2, 2).too_many, Faults(1, 1).too_many, Faults(10, 1_000).too_many
    (True, False, False)
    """

    faults: int = 0
    answers: int = 0
    last: str = ""

    def __add__(self, other: Faults) -> Faults:
        return Faults(
            self.faults + other.faults, self.answers + other.answers, other.last or self.last
        )

    @property
    def too_many(self) -> bool:
        """Whether more answers are faults than is put up with."""
        return self.faults > 0 and self._evidence() >= 1 / WRONGLY

    @property
    def reason(self) -> str:
        """What there is to say of them."""
        noun = "answer" if self.answers == 1 else "answers"
        return f"{self.faults:,} of {self.answers:,} {noun} failed: {self.last}"

    def _evidence(self) -> float:
        """Return the ratio of the two likelihoods; that of a rate of 1 has no right answer in it."""
        right = self.answers - self.faults
        ratio = 0.0 if right else _exp(self.faults * -math.log(MINDED))
        for rate in _RATES:
            wrong = self.faults * math.log(rate / MINDED)
            ratio += _exp(wrong + right * (math.log1p(-rate) - math.log1p(-MINDED)))
        return ratio / (len(_RATES) + 1)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
