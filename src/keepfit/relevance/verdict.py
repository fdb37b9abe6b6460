"""What a batch means to the champion: ignore it, keep it, learn from it, or set it apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepfit.facts import Assessed, ColumnDrift, Finding, Outcome
from keepfit.relevance.memory import RowMemory, Told
from keepfit.relevance.usual import Usual, trials

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ALPHA = 0.001
"""How often chance alone may make a batch harmful, or more informative than usual.

A batch is learnt from when it is harmful, or new and informative: on a stream that does not
change at most about one batch in 500 is.
"""

FLOOR = 0.05
"""How far the informative share must exceed the usual one to count, however many rows."""

HEAVY = 0.5
"""The share of the champion's importance on columns that moved, from which they may do harm."""

REDUNDANT = 0.9
"""The share of near duplicates from which a harmless batch teaches nothing."""

BROKEN = 0.5
"""How much the share of values lost, or beyond all known ones, grows in a column that broke."""

WEIGHTY = 0.05
"""The share of the champion's importance from which a broken column makes a batch broken."""

_LEVEL = 0.95
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a metric changed for the worse: above zero is worse, ``low`` a bound at 95 %.

    ``margin`` is the worsening that is put up with; ``estimated`` says that labels are missing.
    """

    metric: str
    value: float
    low: float
    margin: float = 0.0
    estimated: bool = False

    @property
    def harmful(self) -> bool:
        """Whether the worsening exceeds its margin beyond chance."""
        from scipy.stats import norm

        # The bound was made for 95 %; the same error takes us to the level promised here.
        error = max(0.0, self.value - self.low) / norm.isf((1 - _LEVEL) / 2)
        return bool(self.value - norm.isf(ALPHA) * error > self.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the loop knows of a batch beside its rows, as far as it knows it.

    Parameters
    ----------
    findings
        What the checks said.
    scores, labels
        What the champion said of the rows, and their labels as `Model.codes` gives them;
        a label that is not known is -1, or NaN in regression.
    memory
        Where the champion's training rows lay.
    told
        How well a domain classifier told the rows from the training rows; None to ask memory.
    moved
        What a drift detector found, column by column.
    together
        How many batches, up to this one, it looked at as one.
    weights
        The importance of columns to the champion; they need not add up to one.
    change
        How the metric changed, realised or estimated.
    usual
        How certain and how right the champion is as a rule.
    """

    findings: Sequence[Finding] = ()
    scores: np.ndarray | None = None
    labels: np.ndarray | None = None
    memory: RowMemory | None = None
    told: Told | None = None
    moved: Sequence[ColumnDrift] = ()
    together: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    change: Change | None = None
    usual: Usual | None = None


def assess(batch: int, version: str, rows: pl.DataFrame, known: Known) -> Assessed:
    """Say what a batch means to a champion, and why.

    *Quarantine*: a check blocked it; or a column that the champion leans on lost its values,
    or left all that was trained on, and the batch does harm. *Learn*: it does harm, or it is
    unlike the training rows and the champion is less certain, or less right, than it is as a
    rule. *Ignore*: it does no harm, and nine in ten of its rows are near duplicates of
    training rows. *Keep*: all else.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit.profile import Profile
    >>> rows = pl.DataFrame({"age": range(1000)})
    >>> memory = RowMemory.fit(rows, Profile.of(rows))
    >>> assess(7, "v1", rows, Known(memory=memory)).verdict
    'ignore'
    >>> worse = Change(metric="log_loss", value=0.2, low=0.1)
    >>> assess(8, "v1", rows, Known(memory=memory, change=worse)).reasons
    ('log_loss is worse by 0.200 (at least 0.100)',)
    """
    seen = _Seen.of(rows, known)
    verdict, reasons = seen.verdict(known)
    change = known.change
    return Assessed(
        batch=batch,
        version=version,
        verdict=verdict,
        reasons=tuple(reasons),
        rows=rows.height,
        valid=not seen.blocked,
        new=None if seen.told is None else seen.told.auc,
        harm=None if change is None or not math.isfinite(change.value) else change.value,
        estimated=change is not None and change.estimated,
        informative=None if seen.informative is None else seen.informative.share,
        redundant=seen.redundant,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Informative:
    """The share of rows on which the champion is uncertain or wrong, beside the usual one."""

    share: float
    usual: float
    limit: float

    @property
    def more(self) -> bool:
        return self.share > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was measured of a batch."""

    blocked: list[str]
    told: Told | None
    redundant: float | None
    informative: _Informative | None
    broken: list[str]
    heavy: tuple[float, list[str]]

    @classmethod
    def of(cls, rows: pl.DataFrame, known: Known) -> _Seen:
        memory, told = known.memory, known.told
        if told is None and memory is not None:
            told = memory.told(rows)
        return cls(
            blocked=[one.message for one in known.findings if one.outcome == Outcome.BLOCK],
            told=told,
            redundant=None if memory is None else memory.redundant(rows),
            informative=_informative(known),
            broken=_broken(rows, known),
            heavy=_heavy(known),
        )

    def verdict(self, known: Known) -> tuple[str, list[str]]:
        if self.blocked:
            return "quarantine", self.blocked
        harm = self._harm(known)
        if harm and self.broken:
            return "quarantine", [*self.broken, *harm]
        new = self.told is not None and self.told.apart
        more = self.informative is not None and self.informative.more
        if harm:
            return "learn", [*harm, *self._why_new(), *self._why_informative()]
        if new and more:
            return "learn", [*self._why_new(), *self._why_informative()]
        redundant = self.redundant is not None and self.redundant >= REDUNDANT
        if redundant and not new and not more:
            return "ignore", [f"{self.redundant:.0%} of the rows are much like training rows"]
        return "keep", self._why_kept()

    def _harm(self, known: Known) -> list[str]:
        change = known.change
        if change is not None:
            if not change.harmful:
                return []
            margin = f", {change.margin:.3f} allowed" if change.margin else ""
            how = "is estimated to be worse" if change.estimated else "is worse"
            return [
                f"{change.metric} {how} by {change.value:.3f} (at least {change.low:.3f}{margin})"
            ]
        share, columns = self.heavy
        # Where nobody can say what the drift does, it counts by what the champion leans on.
        if share < HEAVY:
            return []
        # A batch alone may be within limits that several of them together are beyond.
        where = f" in {known.together} batches together" if known.together > 1 else ""
        carry = "carries" if len(columns) == 1 else "carry"
        return [
            f"{_listed(columns)} moved{where}, which {carry} {share:.0%} of the champion's importance"
        ]

    def _why_new(self) -> list[str]:
        if self.told is None or not self.told.apart:
            return []
        text = f"told apart from the training rows with AUC {self.told.auc:.2f}"
        betray = "betrays" if len(self.told.columns) == 1 else "betray"
        return [f"{text}; {_listed(self.told.columns)} {betray} it" if self.told.columns else text]

    def _why_informative(self) -> list[str]:
        one = self.informative
        if one is None or not one.more:
            return []
        return [
            f"the champion is uncertain or wrong on {one.share:.0%} of the rows, "
            f"{one.usual:.0%} as a rule"
        ]

    def _why_kept(self) -> list[str]:
        why = [*self._why_new(), *self._why_informative()]
        own = "" if self.redundant is None else f"{1 - self.redundant:.0%} of its rows"
        if why:
            return [*why, f"{own} are near copies of no training row"] if own else why
        # One sentence: most rows of many columns are copies of none, and still of the same kind.
        alike = "nothing tells it from the training rows as a whole"
        return [f"{alike}, though {own} are near copies of none" if own else alike]


def _informative(known: Known) -> _Informative | None:
    usual, scores = known.usual, known.scores
    if usual is None or scores is None or not len(scores):
        return None
    marked = usual.informative(scores, known.labels)
    share = usual.expected(scores, known.labels)
    limit = share + FLOOR + trials(share, usual.rows, len(marked), ALPHA)
    return _Informative(share=float(marked.mean()), usual=share, limit=limit)


def _broken(rows: pl.DataFrame, known: Known) -> list[str]:
    """Return sentences on the columns that lost their values, or left all known ones."""
    if known.memory is None:
        return []
    shares = _shares(known.weights)
    return [
        f"{share:.0%} more values of {name} than before are missing or beyond all known ones"
        for name, share in known.memory.lost(rows).items()
        if share > BROKEN and (not shares or shares.get(name, 0.0) >= WEIGHTY)
    ]


def _heavy(known: Known) -> tuple[float, list[str]]:
    """Return the share of importance on columns that drifted, and these, the weightiest first."""
    shares = _shares(known.weights)
    drifted = [one.column for one in known.moved if one.drifted and shares.get(one.column)]
    drifted = sorted(set(drifted), key=lambda name: (-shares[name], name))
    return sum(shares[name] for name in drifted), drifted


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(max(0.0, value) for value in weights.values())
    return {name: max(0.0, value) / total for name, value in weights.items()} if total else {}


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_SHOWN])
    rest = len(names) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
