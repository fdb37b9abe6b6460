"""A gate that holds back only what is shown to do harm."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from keepfit.facts import Answer, Verdict
from keepfit.gates.paired import Within
from keepfit.protocols import Comparison

if TYPE_CHECKING:
    from keepfit.metrics.evidence import Group


@dataclass(frozen=True, repr=False)
class Fresher(Within):
    """Pass a challenger unless it is shown to be worse than the champion by a margin.

    For trainings that are many and small, such as leaf updates with every batch: few new
    rows cannot prove that a model is no worse, and waiting for proof costs what the fresher
    model would have gained. A training gone wrong (labels shuffled, a column scaled) shows on
    few rows. Of challengers that are worse by no more than ``within``, at most the share
    1 - ``level`` is refused; there is one look, and no answer *not enough evidence* once
    there are labelled rows to look at.

    Parameters
    ----------
    within
        The loss that is not minded, in units of the metric; left out as for `NoWorse`.
    level
        1 minus the share of harmless challengers that may be refused.
    slice, holdout
        As for `NoWorse`.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> Fresher(within=0.02).name
    'Not shown to be worse than champion within 0.0200'
    """

    _: KW_ONLY
    level: float = 0.95
    min_blocks: int = 2
    looks: int = 1

    @property
    def name(self) -> str:
        """The gate with its margin."""
        return f"Not shown to be worse than champion{self._margin()}{self._in_each()}"

    def _judged(self, comparison: Comparison, part: Group, needs: float, parts: int) -> Verdict:
        from keepfit.metrics.evidence import gain_of

        found = gain_of(comparison.metric, *part.of(comparison))
        if found is None:
            reason = f"{part.said}{part.size:,} rows are too few to show any harm"
            return self._verdict(Answer.PROMOTE, reason, part.size, part.label)
        low, high = found.bounds((1 - self.level) / max(1, comparison.challengers) / parts)
        worse = high < needs
        answer = Answer.REFUSE if worse else Answer.PROMOTE
        figures = (found.mean.mean, low, high, needs)
        return self._measured(comparison.metric, part, answer, "", figures)
