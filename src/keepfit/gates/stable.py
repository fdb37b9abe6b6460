"""A gate on the scores themselves: who acts on them must not be surprised."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.gates.moves import moved
from keepfit.gates.paired import HOLDOUT, is_number, length_of, plain
from keepfit.parts import Part
from keepfit.protocols import Comparison

ENOUGH = 100
"""Rows below which nothing is said of a rate."""


@dataclass(frozen=True, repr=False)
class StableScores(Part):
    """Refuse a challenger whose scores lie too far from the champion's on the same rows.

    A better ranking may come with other scores, and what is decided by a fixed cut-off then
    changes overnight: twice as many reviews, half as many loans. Beside a gate on the metric
    this one holds the rate at which scores reach a cut-off, or without one at every cut-off
    (the Kolmogorov-Smirnov distance). Where a challenger is better but its scores moved,
    recalibrate it rather than lose it.

    Parameters
    ----------
    within
        The move that is not minded: of the rate at the cut-off, or at the worst one.
    at
        The cut-off; all of them when not given. Several classes have no single one: of them all
        are looked at too, and the verdict says so.
    holdout
        As for `NoWorse`.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> StableScores(at=0.5).name
    'Scores at 0.5000 move by at most 0.0500'
    """

    within: float = 0.05
    at: float | None = None
    _: KW_ONLY
    holdout: float | str = HOLDOUT

    paired: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (is_number(self.within) and 0 < self.within < 1):
            raise ConfigError(
                f"StableScores: expected within to be a share between 0 and 1, got {self.within!r}"
            )
        if self.at is not None and not is_number(self.at):
            raise ConfigError(f"StableScores: expected at to be a number, got {self.at!r}")
        length_of(self.holdout, "StableScores")

    @property
    def name(self) -> str:
        """The gate with its bound."""
        where = "" if self.at is None else f" at {plain(self.at)}"
        return f"Scores{where} move by at most {plain(self.within)}"

    def judge(self, comparison: Comparison) -> Verdict:
        """Return promote or refuse with how far scores move; not enough evidence on few rows."""
        from keepfit.metrics.evidence import finite_rows

        rows = len(comparison.labels)
        if comparison.champion is None:
            return self._verdict(Answer.PROMOTE, "no champion yet", rows)
        if rows < ENOUGH:
            return self._verdict(Answer.NOT_ENOUGH, f"{rows:,} rows, needs {ENOUGH}", rows)
        whole = finite_rows(comparison.challenger).all()
        if whole and not finite_rows(comparison.champion).any():
            return self._verdict(Answer.PROMOTE, "the champion gives no finite score", rows)
        found = moved(comparison, self.at)
        if found is None:
            return self._verdict(Answer.REFUSE, "scores that are not finite", rows)
        if self.at is None or found.before is None or found.now is None:
            move = found.distance
            said = f"the rate at the worst cut-off moves by {plain(move)}"
            if self.at is not None:
                said = f"several classes have no rate at {plain(self.at)}; {said}"
        else:
            move = abs(found.now - found.before)
            said = f"the rate at {plain(self.at)} goes from {plain(found.before)} to {plain(found.now)}"
        answer = Answer.PROMOTE if move <= self.within else Answer.REFUSE
        return Verdict(
            gate=self.name,
            answer=answer,
            reason=f"{said}, {plain(self.within)} allowed",
            value=move,
            rows=rows,
        )

    def _verdict(self, answer: Answer, reason: str, rows: int) -> Verdict:
        return Verdict(gate=self.name, answer=answer, reason=reason, rows=rows)
