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
    few rows. There is no answer *not enough evidence* once there are labelled rows to look at,
    so that this gate alone looks once. Of challengers that are worse by no more than
    ``within``, at most the share 1 - ``level`` is refused then. Where another gate makes one
    wait, it is looked at again with more rows, and refused where they show harm: for that at
    most the same share is refused wrongly once more, over all later looks, of which the first
    spends half and each one after it half of what is left.

    Parameters
    ----------
    within
        The loss that is not minded, in units of the metric; left out as for `NoWorse`.
    level
        1 minus the share of harmless challengers that may be refused at the first look, and
        again over all later ones.
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
        low, high = found.bounds(self._tail(comparison) / parts)
        worse = high < needs
        answer = Answer.REFUSE if worse else Answer.PROMOTE
        figures = (found.mean.mean, low, high, needs)
        return self._measured(comparison.metric, part, answer, "", figures)

    def _bound(self, answer: Answer, needs: str) -> str:
        # A gain below the bound passes as long as the interval reaches above it.
        return f"all below {needs}" if answer == Answer.REFUSE else f"not all below {needs}"

    def _tail(self, comparison: Comparison) -> float:
        """Return the share of wrong refusals that one bound of this look may have."""
        share = 0.5 ** (comparison.look - 1)
        return (1 - self.level) * share / max(1, comparison.challengers)

    def _late(self, comparison: Comparison, look: int) -> bool:
        # Nothing has to be shown here, so that no look is the last one.
        return False
