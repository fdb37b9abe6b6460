"""How far estimates have earned to be believed, from the realised values that came later."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from keepfit.errors import ConfigError
from keepfit.estimates.inputs import check_level
from keepfit.parts import Part

POWER = 0.25
"""How a bet turns a small chance into a gain: ``POWER * chance ** (POWER - 1)``."""

LEAST = 0.001
"""The smallest chance that a bet pays for: one batch alone never takes all trust."""


@dataclass(frozen=True, repr=False)
class Trust(Part):
    """Says how far to believe estimates, from those whose realised value has come.

    Somebody who doubts the estimates bets against them, batch by batch. The chance that a
    value lies as far from its estimate as the realised one, given the interval, is turned
    into a gain that is fair when intervals hold: ``chance ** -0.75 / 4``, 0.25 when the
    estimate was right, 44 at most. Gains are multiplied, and start anew at 1 whenever they
    fall below it, so that old agreement does not hide new contradiction. Trust is 1 where
    nothing has been won and 0 from the limit on, on the scale of logarithms; it comes back
    when estimates agree again, within about a dozen batches. Where intervals hold, the mean
    number of batches until it first reaches 0 is the limit at least.

    Parameters
    ----------
    limit
        Gains at which trust is 0: how many batches pass, on average, until chance alone
        takes all trust.
    level
        The level of the intervals.

    Raises
    ------
    ConfigError
        The limit is not above 1, or the level not between 0 and 1.

    Examples
    --------
    >>> trust = Trust()
    >>> agreed, missed = (0.80, 0.78, 0.82, 0.805), (0.80, 0.78, 0.82, 0.70)
    >>> trust([agreed] * 10), round(trust([agreed] * 10 + [missed]), 2)
    (1.0, 0.45)
    >>> trust([agreed, missed, missed]), round(trust([missed, missed] + [agreed] * 10), 2)
    (0.0, 1.0)

    References
    ----------
    Vovk and Wang, E-values: calibration, combination and applications (2021); Shin, Ramdas
    and Rinaldo, E-detectors: a nonparametric framework for sequential change detection
    (2022).
    """

    limit: float = 1_000.0
    level: float = 0.95

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 1):
            raise ConfigError(f"expected a limit above 1, got {self.limit!r}")
        check_level(self.level)

    def __call__(self, pairs: Iterable[tuple[float, float, float, float]]) -> float:
        """Return the trust after (estimated, low, high, realised), oldest first.

        Pairs without a value or without an interval say nothing and are passed over.
        """
        most = math.log(self.limit)
        won = 0.0
        for pair in pairs:
            if not any(math.isnan(value) for value in pair):
                # Winnings stop at the limit, or trust lost for long would be slow to return.
                won = min(most, max(0.0, won + self._gain(*pair)))
        return 1 - won / most

    def _gain(self, estimated: float, low: float, high: float, realised: float) -> float:
        """Return the logarithm of what betting against the estimate has gained."""
        from scipy.special import ndtr, ndtri

        away = abs(realised - estimated)
        reach = high - estimated if realised > estimated else estimated - low
        if away == 0:
            chance = 1.0
        elif reach <= 0:
            chance = 0.0
        else:
            chance = 2 * float(ndtr(-away / reach * float(ndtri((1 + self.level) / 2))))
        return math.log(POWER) + (POWER - 1) * math.log(max(chance, LEAST))
