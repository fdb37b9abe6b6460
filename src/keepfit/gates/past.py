"""A gate on the past: what was known must not be forgotten."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.gates.paired import HOLDOUT, check_within, is_number, length_of, plain, unminded
from keepfit.parts import Part
from keepfit.protocols import Comparison, Past


@dataclass(frozen=True, repr=False)
class NoForgetting(Part):
    """Refuse a challenger shown to be worse than the champion on a stretch of the past.

    A model that learns the newest rows only may lose what comes back: a season, a kind of
    customer. The past is cut into stretches of equal size, and on none of them may the
    challenger be shown to be worse by more than ``within``. Rows that a model was trained on
    count in its favour; a window that leaves them out shows as forgetting, which is what is
    measured. On a stream whose concept changes for good, forgetting is right: leave this
    gate out there.

    Parameters
    ----------
    within
        The loss on a stretch that is not minded, in units of the metric. None for twice what `NoWorse`
        does not mind: 0.02 where the metric is a share, 4 % of what the champion reaches on the
        stretch where it is a loss or has no bound.
    level
        1 minus the share of challengers that are refused although they lost no more.
    holdout
        As for `NoWorse`.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> NoForgetting().name, NoForgetting(0.02).name
    ('Forgets nothing', 'Forgets nothing beyond 0.0200')
    """

    within: float | None = None
    _: KW_ONLY
    level: float = 0.95
    holdout: float | str = HOLDOUT

    paired: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.within is not None:
            check_within(self.within, "NoForgetting")
        if not (is_number(self.level) and 0.5 <= self.level < 1):
            raise ConfigError(
                f"NoForgetting: expected a level from 0.5 to below 1, got {self.level!r}"
            )
        length_of(self.holdout, "NoForgetting")

    @property
    def name(self) -> str:
        """The gate with its margin."""
        return "Forgets nothing" + ("" if self.within is None else f" beyond {plain(self.within)}")

    def judge(self, comparison: Comparison) -> Verdict:
        """Return refuse where forgetting is shown, promote where it is not."""
        from keepfit.metrics.evidence import finite_rows

        if not finite_rows(comparison.challenger).all():
            return self._verdict(Answer.REFUSE, "scores that are not finite")
        if comparison.champion is None:
            return self._verdict(Answer.PROMOTE, "no champion yet")
        judged = [self._judged(comparison, past) for past in comparison.past]
        shown = [one for one in judged if one is not None]
        if not shown:
            return self._verdict(Answer.PROMOTE, "no past that could be forgotten yet")
        return min(shown, key=lambda one: (one.answer != Answer.REFUSE, one.value or 0.0))

    def _judged(self, comparison: Comparison, past: Past) -> Verdict | None:
        from keepfit.metrics.evidence import gain_of

        found = gain_of(
            comparison.metric, past.labels, past.challenger, past.champion, past.weights
        )
        if found is None:
            return None
        tail = (1 - self.level) / max(1, len(comparison.past) * comparison.challengers)
        low, high = found.bounds(tail)
        within = self.within
        if within is None:
            within = 2 * unminded(comparison.metric, past.labels, past.champion, past.weights)
        forgot = high < -within
        value = found.mean.mean
        span = f"{past.from_:%Y-%m-%d} to {past.to:%Y-%m-%d}"
        figures = f"{plain(value, sign=True)} [{plain(low, sign=True)}, {plain(high, sign=True)}]"
        return Verdict(
            gate=self.name,
            answer=Answer.REFUSE if forgot else Answer.PROMOTE,
            reason=f"{figures} on {span}, {plain(-within, sign=True)} allowed",
            value=value,
            low=low,
            high=high,
            rows=len(past.labels),
        )

    def _verdict(self, answer: Answer, reason: str) -> Verdict:
        return Verdict(gate=self.name, answer=answer, reason=reason)
