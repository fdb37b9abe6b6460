"""What a batch holds and what a step would make of it, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit import facts
from keepfit.facts import Finding, Outcome
from keepfit.results import page
from keepfit.results.sentences import counted, figure, metric

if TYPE_CHECKING:
    import polars as pl

    from keepfit.drift import DriftReport
    from keepfit.drift.report import Measured

MARKS = {Outcome.BLOCK: "✕", Outcome.WARN: "!", Outcome.PASS: "✓", Outcome.NOT_APPLICABLE: "–"}
WORST_FIRST = tuple(MARKS)
TOLD = (Outcome.BLOCK, Outcome.WARN)
"""Outcomes of which every finding is told; of the others, how many there are."""

SHOWN = 10
"""Columns of the table of drift."""

NAME = 24


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Checked:
    """What the next batch holds, and what a step would do with it; nothing is written.

    ``drift`` compares it with the champion's training rows, column by column; ``evidence``
    says where each detector would stand and ``alarms`` which of them would raise one.
    ``scored`` is the champion's realised performance on it, where its labels came with it,
    ``estimated`` the expected one; ``promised`` is what its gate saw. ``assessed`` is what
    the batch means to the champion. ``decision`` is the trigger's answer, and
    ``quarantined`` why the batch would be set apart.
    """

    pipeline: str
    batch: int
    rows: int = 0
    labels: int = 0
    from_: datetime | None = None
    to: datetime | None = None
    findings: tuple[Finding, ...] = ()
    champion: str | None = None
    promised: float | None = None
    drift: DriftReport | None = None
    evidence: tuple[facts.DetectorAdvanced, ...] = ()
    alarms: tuple[facts.Drifted, ...] = ()
    scored: facts.Scored | None = None
    estimated: facts.Estimated | None = None
    assessed: facts.Assessed | None = None
    quarantined: str | None = None
    decision: facts.Decision | None = None

    @property
    def blocked(self) -> bool:
        """Whether a check blocks the batch."""
        return any(one.outcome == Outcome.BLOCK for one in self.findings)

    @property
    def would(self) -> str:
        """What a step would do: ``"wait"``, ``"quarantine"``, ``"train"`` or ``"keep"``."""
        if self.decision is None:
            return "wait"
        if self.quarantined is not None:
            return "quarantine"
        return "train" if self.decision.train else "keep"

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        drift = self.drift
        told: dict[str, Any] = page.plain(
            {
                "pipeline": self.pipeline,
                "batch": self.batch,
                "rows": self.rows,
                "labels": self.labels,
                "from": self.from_,
                "to": self.to,
                "findings": self._worst_first(),
                "champion": self.champion,
                "promised": self.promised,
                "drift": [] if drift is None else drift.to_frame().to_dicts(),
                "detectors": [
                    {
                        "detector": one.detector,
                        "evidence": one.evidence,
                        "threshold": one.threshold,
                        "provisional": one.provisional,
                        "alarm": [moved.column for moved in self._alarm(one.detector)],
                    }
                    for one in self.evidence
                ],
                "scored": _performance(self.scored),
                "estimated": _performance(self.estimated),
                "assessed": self.assessed,
                "would": self.would,
                "reason": self._reason(),
            }
        )
        return told

    def to_frame(self) -> pl.DataFrame:
        """Return one row per column of the batch: how far it moved, by every statistic."""
        import polars as pl

        return pl.DataFrame() if self.drift is None else self.drift.to_frame()

    def __repr__(self) -> str:
        what = f"batch {self.batch}, {counted(self.rows, 'unread row')}"
        span = f", {page.span(self.from_, self.to)}" if self.rows else ""
        if self.decision is None:
            what, span = "nothing unread", ""
        parts = [f"{self.pipeline} · check · {what}{span}", self._checks(), self._columns()]
        parts.append(page.rows([(title, lines) for title, lines in self._titled() if lines]))
        return "\n\n".join(part for part in parts if part)

    def _worst_first(self) -> list[Finding]:
        return sorted(self.findings, key=lambda one: WORST_FIRST.index(one.outcome))

    def _alarm(self, detector: str) -> Sequence[facts.ColumnDrift]:
        return next((one.columns for one in self.alarms if one.detector == detector), ())

    # The page ---------------------------------------------------------------------------

    def _checks(self) -> str:
        listed = [outcome(one) for one in self._worst_first() if one.outcome in TOLD]
        counts = Counter(one.outcome for one in self.findings)
        several = ", ".join(
            f"{MARKS[kind]} {counts[kind]} {kind.value}"
            for kind in WORST_FIRST
            if counts[kind] and kind not in TOLD
        )
        return "\n".join([*listed, f"  {several}" if several else ""]).rstrip()

    def _columns(self) -> str:
        if self.drift is None or not self.drift.columns:
            return ""
        columns = self.drift.columns
        head = f"    {'column':<{NAME}} {'statistic':<14} {'value':>8} {'limit':>7} {'missing':>16}"
        lines = [head, *(_moved(one) for one in columns[:SHOWN])]
        rest = len(columns) - SHOWN
        if rest > 0:
            beyond = sum(one.drifted for one in columns[SHOWN:])
            state = f"{beyond} of them beyond their limit" if beyond else "within their limits"
            lines.append(f"    and {rest} more, {state}")
        if self.drift.new:
            lines.append(f"    not compared, new: {', '.join(self.drift.new[:SHOWN])}")
        return "\n".join(lines)

    def _titled(self) -> list[tuple[str, list[str]]]:
        return [
            ("drift", self._drift()),
            ("performance", self._performance()),
            ("relevance", self._relevance()),
            ("would", [f"{WOULD[self.would]}: {self._reason()}"] if self.decision else []),
        ]

    def _drift(self) -> list[str]:
        if self.drift is None:
            return []
        told = [
            f"{len(self.drift.drifted)} of {len(self.drift.columns)} columns beyond their limit, "
            f"against the rows {self.champion} was trained on"
        ]
        for one in self.evidence:
            if one.evidence is None or one.threshold is None:
                continue
            if not one.threshold:
                told.append(f"{one.detector}: waits until the batch is whole, or longer")
                continue
            where = f"{figure(one.evidence)} of {figure(one.threshold)}"
            short = "; provisional, the reference is short" if one.provisional else ""
            alarm = self._alarm(one.detector)
            raised = (
                f"an alarm: {', '.join(each.column for each in alarm[:4])}" if alarm else "no alarm"
            )
            told.append(f"{one.detector}: evidence {where}, {raised}{short}")
        return told

    def _performance(self) -> list[str]:
        told = []
        promised = "" if self.promised is None else f"; its gate saw {figure(self.promised)}"
        if self.scored is not None and self.scored.value is not None:
            one = self.scored
            value = metric(one.metric, self.scored.value, one.low, one.high)
            told.append(f"{value}, {one.version} on {counted(one.n, 'row')} with labels{promised}")
        elif self.estimated is not None:
            guess = self.estimated
            value = metric(guess.metric, guess.value, guess.low, guess.high)
            told.append(f"{value} is to be expected of {guess.version}{promised}")
            told.append(
                f"trust in that {guess.trust:.0%}; {guess.unlike:.1%} of the rows are unlike any it rests on"
            )
        elif self.champion is not None and self.rows and self.quarantined is None:
            told.append(f"{self.champion}: not known, and too few labelled rows to estimate it")
        return told

    def _relevance(self) -> list[str]:
        one = self.assessed
        if one is None:
            return []
        reasons = f": {'; '.join(one.reasons)}" if one.reasons else ""
        shares = [
            f"{share:.0%} {what}"
            for share, what in (
                (one.informative, "informative (the champion is unsure or wrong)"),
                (one.redundant, "redundant (much like training rows)"),
            )
            if share is not None
        ]
        return [f"{one.verdict}{reasons}", *([", ".join(shares)] if shares else [])]

    def _reason(self) -> str:
        if self.decision is None:
            return "nothing unread"
        return self.quarantined if self.quarantined is not None else self.decision.reason


WOULD = {
    "quarantine": "set the batch apart",
    "train": "let the batch in, and train",
    "keep": "let the batch in, and not train",
    "wait": "wait",
}


def outcome(finding: Finding) -> str:
    """Return a finding as a line with its mark, and its hint below."""
    hint = f"\n{'':>19}hint: {finding.hint}" if finding.hint else ""
    return f"  {MARKS[finding.outcome]} {finding.check:<14} {finding.message}{hint}"


def _moved(one: Measured) -> str:
    mark = "!" if one.drifted else " "
    name = one.column if len(one.column) <= NAME else f"{one.column[: NAME - 1]}…"
    missing = f"{one.missing_before:.1%} → {one.missing:.1%}"
    return f"  {mark} {name:<{NAME}} {one.method:<14} {one.value:>8.3f} {one.limit:>7.3f} {missing:>16}"


def _performance(fact: facts.Scored | facts.Estimated | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    shown = ("version", "metric", "value", "low", "high", "n", "trust", "unlike", "reason")
    return {name: getattr(fact, name) for name in shown if hasattr(fact, name)}
