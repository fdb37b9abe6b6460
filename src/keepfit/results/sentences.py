"""Facts as lines that a person reads: what happened, why, and what it cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keepfit import facts
from keepfit.clock import humanise
from keepfit.facts import Answer, Entry, Outcome
from keepfit.results import adoptions, approvals, samples
from keepfit.results.line import Line
from keepfit.rollouts import told

CAUSES = {
    "EachStep": "trained",
    "Every": "schedule",
    "AfterRows": "rows",
    "OnEvent": "event",
    "OnDrift": "drift",
    "OnDecay": "decay",
    "Pays": "pays",
    "AtLeast": "several",
    "hand": "by hand",
    "max_age": "age",
}
"""What a trigger is called where there is room for one word."""

OWN = frozenset({"first", "max_age", "hand"})
"""Reasons to train that are no trigger's."""


class Story:
    """Tells facts in their order, and remembers what a later line needs of an earlier fact.

    Examples
    --------
    >>> from keepfit.clock import utc
    >>> story = Story()
    >>> paused = facts.Paused(reason="holidays")
    >>> print(story.line(Entry(pipeline="churn", seq=1, at=utc("2024-07-01"), fact=paused)))
    2024-07-01 00:00  ‖ paused          holidays
    """

    def __init__(self) -> None:
        self._causes: dict[int, str] = {}
        self._started: dict[str, facts.TrainingStarted] = {}
        self._judged: dict[str, facts.Judged] = {}
        self._rolled: set[str] = set()
        self._warned: dict[bool, tuple[set[tuple[str, str | None]], int]] = {}
        self._waiting = ""

    def line(self, entry: Entry) -> Line:
        """Return the line of the next fact."""
        return _LINES[type(entry.fact)](self, entry.fact, entry.at)

    def lines(self, entries: Iterable[Entry]) -> list[Line]:
        """Return a line for each fact, in order."""
        return [self.line(entry) for entry in entries]

    # What arrived -----------------------------------------------------------------------

    def _arrived(self, fact: facts.Arrived, at: datetime) -> Line:
        parts = [f"{counted(fact.rows, 'row')}"]
        if fact.labels != fact.rows:
            parts.append(counted(fact.labels, "label"))
        if fact.from_ is not None and fact.to is not None:
            parts.append(f"{fact.from_:%Y-%m-%d} → {fact.to:%Y-%m-%d}")
        odd = (("late", fact.late), ("corrected", fact.corrections), ("double", fact.duplicates))
        parts.extend(f"{count:,} {what}" for what, count in odd if count)
        return Line(at, "·", f"batch {fact.batch}", ", ".join(parts), tone="dim", loud=False)

    def _found(self, fact: facts.Found, at: datetime) -> Line:
        warned = [finding for finding in fact.findings if finding.outcome == Outcome.WARN]
        blocked = [finding for finding in fact.findings if finding.outcome == Outcome.BLOCK]
        keys = {(finding.check, finding.column) for finding in warned}
        before, batch = self._warned.get(fact.failing, (set(), 0))
        if fact.failing and fact.batch > batch + 1:  # with a batch between that was answered whole
            before = set()
        fresh = [one for one in warned if (one.check, one.column) not in before]
        self._warned[fact.failing] = keys, fact.batch
        if blocked or warned:
            told = blocked or fresh or warned
            return Line(
                at,
                "!",
                "blocked" if blocked else "warned",
                some([finding.message for finding in told]),
                tone="warn",
                # A block is told by the quarantine it leads to; a standing warning once.
                loud=not blocked and bool(fresh),
            )
        passed = sum(finding.outcome == Outcome.PASS for finding in fact.findings)
        return Line(
            at, "·", "checked", f"{counted(passed, 'finding')} passed", tone="dim", loud=False
        )

    def _quarantined(self, fact: facts.Quarantined, at: datetime) -> Line:
        reasons = fact.reason.split("; ")
        return Line(
            at, "!", "quarantined", some(reasons), cost=counted(fact.rows, "row"), tone="warn"
        )

    def _overridden(self, fact: facts.Overridden, at: datetime) -> Line:
        what = "the changed schema" if fact.what == "schema" else f"batch {fact.batch}"
        return Line(at, "!", "accepted", f"{what}, by {fact.by}: {fact.reason}", tone="warn")

    def _signalled(self, fact: facts.Signalled, at: datetime) -> Line:
        data = "".join(f", {key} {value}" for key, value in fact.data.items())
        return Line(at, "◇", "event", f"{fact.event}{data}")

    # How it goes ------------------------------------------------------------------------

    def _scored(self, fact: facts.Scored, at: datetime) -> Line:
        if fact.value is None:
            text = f"{fact.version} on batch {fact.batch}: {fact.reason or 'no value'}"
        else:
            value = metric(fact.metric, fact.value, fact.low, fact.high)
            text = f"{value}, {fact.version} on {counted(fact.n, 'row')}"
        text += left_out(fact.unknown, "wrong on") + left_out(fact.unlearnt)
        text += f", {counted(fact.failed, 'row')} not answered" if fact.failed else ""
        return Line(at, "·", "scored", text, tone="dim", loud=False)

    def _compared(self, fact: facts.Compared, at: datetime) -> Line:
        values = ", ".join(f"{name} {figure(value)}" for name, value in fact.values.items())
        text = f"{fact.metric} of {values}, on {counted(fact.n, 'row')}"
        return Line(at, "·", "compared", text, tone="dim", loud=False)

    def _estimated(self, fact: facts.Estimated, at: datetime) -> Line:
        value = metric(fact.metric, fact.value, fact.low, fact.high)
        text = f"{value}, {fact.version} on {counted(fact.n, 'row')} without labels yet"
        return Line(at, "·", "estimated", text, tone="dim", loud=False)

    def _advanced(self, fact: facts.DetectorAdvanced, at: datetime) -> Line:
        worst = f", most {moved(fact.columns[0])}" if fact.columns else ""
        text = (
            f"{fact.drifted} columns beyond their limit{worst}" if fact.drifted else f"quiet{worst}"
        )
        return Line(at, "·", "watched", text, tone="dim", loud=False)

    def _drifted(self, fact: facts.Drifted, at: datetime) -> Line:
        first = moved(fact.columns[0]) if fact.columns else fact.detector
        return Line(
            at, "◆", "drift", f"{first} ({len(fact.columns)} of {fact.of} columns)", tone="warn"
        )

    def _assessed(self, fact: facts.Assessed, at: datetime) -> Line:
        text = f"{fact.verdict}: {some(fact.reasons)}" if fact.reasons else fact.verdict
        return Line(at, "·", "assessed", text, tone="dim", loud=False)

    def _probed(self, fact: facts.Probed, at: datetime) -> Line:
        gap = f"{figure(fact.gap, sign=True)} ± {figure(fact.error)}"
        losses = f"old rows lose {figure(fact.stale)} by {fact.loss}, fresh {figure(fact.fresh)}"
        text = f"{losses} ({gap}), on {counted(fact.rows, 'row')}"
        spent = f", {lasted(fact.cost.cpu_seconds)} of CPU" if fact.cost.cpu_seconds else ""
        return Line(at, "·", "probed", f"{text}{spent}; {fact.reason}", tone="dim", loud=False)

    def _decided(self, fact: facts.Decided, at: datetime) -> Line:
        decision = fact.decision
        if decision.train:
            if fact.turn is not None:
                self._causes[fact.turn] = cause(decision)
            return Line(at, "▸", "decided", f"train: {decision.reason}", loud=False)
        waiting = waits(decision)
        fresh, self._waiting = waiting is not None and waiting != self._waiting, waiting or ""
        if waiting is not None:
            return Line(at, "…", "waiting", waiting, tone="dim", loud=fresh)
        return Line(at, "·", "decided", f"no: {decision.reason}", tone="dim", loud=False)

    # What was trained -------------------------------------------------------------------

    def _training_started(self, fact: facts.TrainingStarted, at: datetime) -> Line:
        self._started[fact.version] = fact
        told = "" if fact.forecast is None else f"~{lasted(fact.forecast.seconds)}"
        text = data(fact) + left_out(fact.snapshot.unlearnt)
        return Line(at, "▹", f"{fact.version} training", text, cost=told, tone="dim", loud=False)

    def _trained(self, fact: facts.Trained, at: datetime) -> Line:
        started = self._started.get(fact.version)
        why = (
            "final"
            if started and started.final_of
            else self._causes.get(started.turn if started else 0, "trained")
        )
        text = data(started) if started else f"{len(fact.features)} features"
        # What is wrong first: a line may be cut.
        text = "; ".join([*(one.message for one in fact.findings), text])
        cost = lasted(fact.cost.wall_seconds)
        loud = not self._small(fact.version)
        return Line(at, "▲", f"{fact.version} {why}", text, cost=cost, loud=loud)

    def _small(self, version: str) -> bool:
        """Return whether a version is an update of the champion, which comes with every step."""
        started = self._started.get(version)
        return started is not None and started.start == "champion" and started.update != "all"

    def _failed(self, fact: facts.TrainingFailed, at: datetime) -> Line:
        # What was wrong comes first; where in the code, or what to do about it, behind a blank line.
        message = fact.message.strip().splitlines()
        text = f"{fact.reason}: {message[0]}" if message else fact.reason
        cost = lasted(fact.cost.wall_seconds)
        started = self._started.get(fact.version)
        if fact.reason == facts.UNLEARNT and started is not None and started.retry_of is None:
            # It is run once more at once: what comes of that is told.
            return Line(at, "↻", f"{fact.version} again", text, cost=cost, tone="dim", loud=False)
        return Line(at, "✕", f"{fact.version} failed", text, cost=cost, tone="bad")

    def _judged_line(self, fact: facts.Judged, at: datetime) -> Line:
        if fact.during:
            return self._looked(fact, at)
        self._judged[fact.version] = fact
        text = deciding(fact.verdicts, fact.answer)
        if fact.answer == Answer.PROMOTE:
            loud = not self._small(fact.version)
            return Line(at, "✓", f"{fact.version} passed", text, tone="good", loud=loud)
        if fact.answer == Answer.REFUSE:
            return Line(at, "✕", f"{fact.version} refused", text, tone="bad")
        return Line(at, "…", f"{fact.version} waiting", text, tone="dim")

    def _looked(self, fact: facts.Judged, at: datetime) -> Line:
        """Return the line of a look at live rows; what follows from it is told by the next fact."""
        rows = f"on {counted(fact.rows, 'live row')} beside {fact.champion}"
        text = f"{deciding(fact.verdicts, fact.answer)}, {rows}"
        mark = {Answer.PROMOTE: "✓", Answer.REFUSE: "✕", Answer.NOT_ENOUGH: "·"}[fact.answer]
        if fact.during == "approval" and fact.answer == Answer.REFUSE:
            return Line(at, mark, f"{fact.version} refused", f"while it waited: {text}", tone="bad")
        return Line(at, mark, f"{fact.version} compared", text, tone="dim", loud=False)

    def _rolled_out(self, fact: facts.RolledOut, at: datetime) -> Line:
        self._rolled.add(fact.version)
        length = humanise(fact.until - (fact.began or at))
        more = f", stage {fact.stage} of {fact.stages}" if fact.stages > 1 else ""
        text = f"{told(fact.share)} beside {fact.champion}, for {length} at least{more}"
        loud = not self._small(self._behind(fact.version))
        return Line(at, "◐", f"{fact.version} rolled out", text, loud=loud)

    def _behind(self, version: str) -> str:
        """Return the version that passed the gate, which a final one is made of."""
        started = self._started.get(version)
        return started.final_of or version if started else version

    def _promoted(self, fact: facts.Promoted, at: datetime) -> Line:
        judged = self._judged.get(fact.version)
        replaces = f"replaces {fact.previous}" if fact.previous else ""
        if fact.by != "keepfit":
            against = ", against its gate" if fact.forced else ""
            text = ", ".join(
                part for part in (replaces, f"by {fact.by}{against}: {fact.reason}") if part
            )
        elif fact.version in self._rolled:
            text = f"{replaces} {fact.reason}"
        elif judged is not None and judged.value is not None and judged.champion_value is not None:
            values = f"{figure(judged.value)} against {figure(judged.champion_value)}"
            text = f"{replaces}; {judged.metric} {values}"
        else:
            text = f"{replaces}; {fact.reason}" if replaces else "the first champion"
        # A final update says little; what stands behind it passed the gate a moment before.
        loud = fact.by != "keepfit" or not self._small(self._behind(fact.version))
        return Line(at, "●", f"{fact.version} promoted", text, tone="good", loud=loud)

    def _rolled_back(self, fact: facts.RolledBack, at: datetime) -> Line:
        by = "" if fact.by == "keepfit" else f", by {fact.by}"
        to = f"to {fact.to}" if fact.share is None else f"{fact.to} stays"
        return Line(at, "↩", f"{fact.version} rolled back", f"{to}{by}: {fact.reason}", tone="bad")

    def _paused(self, fact: facts.Paused, at: datetime) -> Line:
        return Line(at, "‖", "paused", by(fact.by, fact.reason), tone="warn")

    def _resumed(self, fact: facts.Resumed, at: datetime) -> Line:
        return Line(at, "▶", "resumed", by(fact.by, fact.reason), tone="good")


_LINES: dict[type[facts.Fact], Callable[[Story, Any, datetime], Line]] = {
    facts.Arrived: Story._arrived,
    facts.Found: Story._found,
    facts.Quarantined: Story._quarantined,
    facts.Overridden: Story._overridden,
    facts.Signalled: Story._signalled,
    facts.Scored: Story._scored,
    facts.Estimated: Story._estimated,
    facts.Compared: Story._compared,
    facts.DetectorAdvanced: Story._advanced,
    facts.Drifted: Story._drifted,
    facts.Assessed: Story._assessed,
    facts.Probed: Story._probed,
    facts.Decided: Story._decided,
    facts.TrainingStarted: Story._training_started,
    facts.Sampled: samples.told,
    facts.Trained: Story._trained,
    facts.Adopted: adoptions.adopted,
    facts.TrainingFailed: Story._failed,
    facts.Judged: Story._judged_line,
    facts.ApprovalAsked: approvals.asked,
    facts.Approved: approvals.answered,
    facts.Declined: approvals.answered,
    facts.RolledOut: Story._rolled_out,
    facts.Promoted: Story._promoted,
    facts.RolledBack: Story._rolled_back,
    facts.Paused: Story._paused,
    facts.Resumed: Story._resumed,
}


def sentence(entry: Entry) -> Line:
    """Return the line of a fact on its own; `Story` knows what came before, and says more."""
    return Story().line(entry)


@dataclass(slots=True)
class Fold:
    """Quiet facts added up, to be told in one line now and then."""

    batches: int = 0
    rows: int = 0
    from_: datetime | None = None
    to: datetime | None = None
    scored: list[facts.Scored] = field(default_factory=list)

    def add(self, fact: facts.Fact) -> None:
        """Take in a fact; kinds that do not add up are left out."""
        if isinstance(fact, facts.Arrived) and fact.rows:
            self.batches += 1
            self.rows += fact.rows
            self.from_ = self.from_ or fact.from_
            self.to = fact.to or self.to
        elif isinstance(fact, facts.Scored) and fact.value is not None:
            self.scored.append(fact)

    def line(self, at: datetime) -> Line:
        """Return what was added up: rows, and the mean of the metric over its windows."""
        span = (
            humanise(rounded(self.to - self.from_))
            if self.to and self.from_ and self.to > self.from_
            else ""
        )
        text = counted(self.rows, "row")
        if self.batches > 1:
            text += f" in {self.batches} batches"
        if self.scored:
            text += f", {metric(self.scored[-1].metric, *mean(self.scored))}"
        return Line(at, "·", span or counted(self.batches, "batch"), text, tone="dim")


def mean(scored: Sequence[facts.Scored]) -> tuple[float, float | None, float | None]:
    """Return the mean over windows with an interval, the windows taken as independent.

    A window weighs as many rows as it has: a last one of four rows says little. The arms below
    and above the values are pooled each for itself, so that the interval of a mean stays where
    those of its parts are: no area under a curve reaches beyond one.

    References
    ----------
    Zou and Donner, Construction of confidence limits about effect measures (2008).
    """
    known = [one for one in scored if one.value is not None]
    rows = sum(one.n for one in known)
    centre = sum(one.n * (one.value or 0.0) for one in known) / rows
    arms = [
        (one.n * (one.value - one.low), one.n * (one.high - one.value))
        for one in known
        if one.value is not None and one.low is not None and one.high is not None
    ]
    if len(arms) < len(known):
        return centre, None, None
    below, above = (math.hypot(*side) / rows for side in zip(*arms, strict=True))
    return centre, centre - below, centre + above


# Words ----------------------------------------------------------------------------------


def cause(decision: facts.Decision) -> str:
    """Return in one word why a decision is to train."""
    # What needs no trigger to fire outranks the parts that fired beside it.
    own = decision.trigger in OWN
    leaf = decision if own else next(_leaves(decision), decision)
    name = re.match(r"\w+", leaf.trigger)
    return CAUSES.get(name[0], name[0].lower()) if name else "trained"


def _leaves(decision: facts.Decision) -> Iterator[facts.Decision]:
    fired = [part for part in decision.parts if part.train]
    if not fired:
        yield decision
    for part in fired:
        yield from _leaves(part)


def waits(decision: facts.Decision) -> str | None:
    """Return what a no waits for, when something has fired that cannot train yet."""
    if decision.evidence.get("waiting"):
        # How far the labels have come changes with every batch; what is waited for does not.
        return decision.reason.rpartition("waiting ")[2].split(", ")[0]
    held = decision.evidence.get("held_by")
    if held and any(part.train for part in decision.parts):
        return f"held by {', '.join(held)}"
    return next((found for part in decision.parts if (found := waits(part)) is not None), None)


def data(started: facts.TrainingStarted) -> str:
    """Return which rows a training takes, by which recipe."""
    snapshot = started.snapshot
    text = f"{counted(snapshot.rows, 'row')} to {snapshot.to:%Y-%m-%d}, {started.challenger}"
    return f"{text}, but from scratch: {started.afresh}" if started.afresh else text


def deciding(verdicts: Sequence[facts.Verdict], answer: Answer) -> str:
    """Return the figures of the verdict that decided, and how many more there were."""
    chosen = [verdict for verdict in verdicts if verdict.answer == answer] or list(verdicts)
    return figures(chosen[0]) if chosen else "no gate"


def figures(verdict: facts.Verdict) -> str:
    """Return a verdict's value with its interval, and what was needed.

    keepfit's own gates say all of that in their reason; a stranger's may not.
    """
    said = any(one in verdict.reason for one in (", needs ", "all below ", " allowed"))
    if verdict.value is None or said:
        return verdict.reason
    where = f"{verdict.slice}: " if verdict.slice else ""
    signed = not verdict.gate.startswith("AtLeast")
    text = figure(verdict.value, sign=signed)
    if verdict.low is not None and verdict.high is not None:
        text += f" [{figure(verdict.low, sign=signed)}, {figure(verdict.high, sign=signed)}]"
    elif verdict.low is not None:
        text += f" (at least {figure(verdict.low, sign=signed)})"
    if verdict.needs is not None:
        text += f", needs {figure(verdict.needs, sign=signed)}"
    if verdict.answer == Answer.NOT_ENOUGH:
        text += f"; {verdict.reason}"
    return where + text


def figure(value: float, *, sign: bool = False) -> str:
    """Return a number with as many digits as a reader needs; a difference with its sign.

    Examples
    --------
    >>> figure(0.8712), figure(0.00041, sign=True), figure(1234.5)
    ('0.871', '+0.0004', '1,234')
    """
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 4 if sign else 3
    if not sign and 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"


def metric(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """Return a metric with its interval: ``roc_auc 0.871 [0.866, 0.876]``."""
    interval = "" if low is None or high is None else f" [{figure(low)}, {figure(high)}]"
    return f"{name} {figure(value)}{interval}"


def moved(column: facts.ColumnDrift) -> str:
    """Return how far a column moved: ``plan_type: KS 0.31 > 0.12``, and no limit as zero."""
    sign, value, limit = ">" if column.drifted else "≤", column.value, column.limit
    digits = 2 if limit >= 0.005 else 4
    return f"{column.column}: {column.method} {value:.{digits}f} {sign} {limit:.{digits}f}"


def left_out(labels: Mapping[str, int], how: str = "without") -> str:
    """Return how many rows were left out for a label that is no class, as the end of a line."""
    if not labels:
        return ""
    return f"; {how} {counted(sum(labels.values()), 'row')} labelled {some(list(labels))}"


def some(texts: Sequence[str]) -> str:
    """Return the first of some texts, and how many more there are."""
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return texts[0] + more


def by(who: str, reason: str) -> str:
    """Return a reason with who gave it, where that is a person."""
    return reason if who == "keepfit" else f"by {who}: {reason}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 row``, ``2,204 rows``, ``2 batches``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith('ch') else 's'}"


def lasted(seconds: float) -> str:
    """Return a measured time, none when nothing was measured."""
    return humanise(timedelta(seconds=seconds)) if seconds else ""


def rounded(length: timedelta) -> timedelta:
    """Return a length of time to the day above a day, and to the minute below."""
    unit = timedelta(days=1) if length >= timedelta(days=1) else timedelta(minutes=1)
    return max(unit, round(length / unit) * unit)
