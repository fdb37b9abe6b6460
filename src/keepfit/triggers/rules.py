"""Triggers that read one thing: the calendar, the rows, an event, a drift detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from keepfit.clock import count_rate, cron_after, duration, is_cron
from keepfit.errors import ConfigError
from keepfit.facts import (
    Arrived,
    Assessed,
    ColumnDrift,
    Decision,
    Drifted,
    Overridden,
    Quarantined,
    Signalled,
)
from keepfit.protocols import Detector, Evidence
from keepfit.triggers.joins import Rule

_SHOWN = 5
"""Columns or events that a decision names."""

_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, repr=False)
class Every(Rule):
    """Train at equal distances of event time, or when a cron expression is due.

    Distances are a grid from the first row on; a training for another reason does not move
    it. A backlog that crosses several points trains once.

    Parameters
    ----------
    interval
        A duration such as ``"28d"``, or a cron expression (UTC) such as ``"0 3 * * 1"``.

    Raises
    ------
    ConfigError
        The interval is neither, or it is zero.

    Examples
    --------
    >>> Every("28d"), Every("0 3 * * 1")
    (Every("28d"), Every("0 3 * * 1"))
    """

    reads_estimates: ClassVar[bool] = False

    interval: str | timedelta

    def __post_init__(self) -> None:
        if isinstance(self.interval, str) and is_cron(self.interval):
            cron_after(self.interval, _ANY_DAY)
        elif not duration(self.interval):
            raise ConfigError(f"Every: expected an interval above zero, got {self.interval!r}")

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        base = evidence.trained_at or evidence.first_at
        due = self._due(base, evidence.first_at)
        train = due is not None and evidence.watermark >= due
        when = "never" if due is None else _date(due)
        last = "the first row" if evidence.trained_at is None else "the last training"
        return Decision(
            train=train,
            trigger=self.name,
            reason=f"{'due since' if train else 'next due'} {when}, {last} was {_date(base)}",
            evidence={"due": when, "watermark": _date(evidence.watermark)},
        )

    def _due(self, base: datetime, first: datetime) -> datetime | None:
        if isinstance(self.interval, str) and is_cron(self.interval):
            return cron_after(self.interval, base)
        length = duration(self.interval)
        try:
            return first + max(1, (base - first) // length + 1) * length
        except OverflowError:  # beyond the year 9999
            return None


@dataclass(frozen=True, repr=False)
class EachStep(Rule):
    """Train with every step of the pipeline's cadence that brought labels.

    The default, for recipes that cost little or say by themselves when they are due, such
    as those a pipeline takes when it names none. A step read in several parts trains once.

    Examples
    --------
    >>> EachStep()
    EachStep()
    """

    reads_estimates: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        since = None if evidence.trained_at is None else evidence.watermark - evidence.trained_at
        # Steps hold rows up to anywhere within them, so what counts is more than half a step.
        early = since is not None and evidence.every is not None and since < evidence.every / 2
        rows = f"{evidence.labelled:,} new labelled row{'' if evidence.labelled == 1 else 's'}"
        return Decision(
            train=evidence.labelled > 0 and not early,
            trigger=self.name,
            reason=f"{rows}, in the step that was trained with already" if early else rows,
            evidence={"rows": evidence.labelled},
        )


@dataclass(frozen=True, repr=False)
class AfterRows(Rule):
    """Train once so many rows have arrived since the last training.

    Rows of quarantined batches do not count. With ``labelled`` those count that are newer
    than the last training's and have their label.

    Raises
    ------
    ConfigError
        The number of rows is below one.

    Examples
    --------
    >>> AfterRows(10_000), AfterRows(500, labelled=True)
    (AfterRows(10000), AfterRows(500, labelled=True))
    """

    reads_estimates: ClassVar[bool] = False

    rows: int
    labelled: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"AfterRows: expected 1 row or more, got {self.rows!r}")

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        rows = evidence.labelled if self.labelled else _arrived(evidence)
        kind = "labelled rows" if self.labelled else "rows"
        return Decision(
            train=rows >= self.rows,
            trigger=self.name,
            reason=f"{rows:,} new {kind}, {self.rows:,} asked for",
            evidence={"rows": rows, "needs": self.rows},
        )


@dataclass(frozen=True, repr=False)
class OnEvent(Rule):
    """Train when an event has been signalled from outside; any event, or one by name.

    Raises
    ------
    ConfigError
        The name is empty or no text.

    Examples
    --------
    >>> OnEvent("new_prices")
    OnEvent("new_prices")
    """

    reads_estimates: ClassVar[bool] = False

    event: str | None = None

    def __post_init__(self) -> None:
        if self.event is not None and not (isinstance(self.event, str) and self.event.strip()):
            raise ConfigError(
                f"OnEvent: expected the name of an event, got {self.event!r}",
                hint="OnEvent() heeds any event, OnEvent('prices') those of one type",
            )

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        signals = [fact.event for fact in evidence.facts if isinstance(fact, Signalled)]
        seen = [event for event in signals if self.event in (None, event)]
        asked = "event" if self.event is None else f"event `{self.event}`"
        names = ", ".join(f"`{name}`" for name in list(dict.fromkeys(seen))[:_SHOWN])
        return Decision(
            train=bool(seen),
            trigger=self.name,
            reason=f"signalled: {names}" if seen else f"no {asked} since the last training",
            evidence={"events": len(seen)},
        )


@dataclass(frozen=True, repr=False)
class OnDrift(Rule):
    """Train when a detector saw drift, and the drifted rows have their labels.

    Drift shows before its labels do: the trigger decides when it sees drift and waits until
    labels reach the last of the rows that showed it, because a training before that would
    learn from the old world.

    Parameters
    ----------
    detector
        What measures drift; None for `drift.Alarms` with the budget, and then any counts.
    at_least
        Columns that must have drifted since the last training.
    alarms
        How often a false alarm is acceptable on data that does not change, where no detector
        is named.

    Raises
    ------
    ConfigError
        The detector is none, or the number of columns is below one.

    Examples
    --------
    >>> OnDrift(), OnDrift(at_least=3)
    (OnDrift(), OnDrift(at_least=3))
    """

    reads_estimates: ClassVar[bool] = False

    detector: Detector | None = None
    at_least: int = field(default=1, kw_only=True)
    alarms: str = field(default="1 per 90d", kw_only=True)

    def __post_init__(self) -> None:
        fits = isinstance(self.detector, Detector) and not isinstance(self.detector, type)
        if self.detector is not None and not fits:
            raise ConfigError(
                f"OnDrift: expected a drift detector, got {self.detector!r}",
                hint="write triggers.OnDrift(drift.KS())",
            )
        if self.at_least < 1:
            raise ConfigError(f"OnDrift: expected at_least=1 or more, got {self.at_least!r}")
        count_rate(self.alarms, "OnDrift: alarms")

    @property
    def budget_of_alarms(self) -> str | None:
        """The budget of alarms; None where a detector has limits of its own."""
        return self.alarms if self.detector is None else None

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        named = None if self.detector is None else self.detector.name
        columns: dict[str, ColumnDrift] = {}
        for fact in evidence.facts:
            if not isinstance(fact, Drifted) or named not in (None, fact.detector):
                continue
            columns |= {one.column: one for one in fact.columns if one.drifted}
            if len(columns) >= self.at_least:
                return self._seen(fact, list(columns.values()), evidence)
        seen = f"{len(columns)} columns drifted, {self.at_least} asked for"
        return Decision(
            train=False,
            trigger=self.name,
            reason=seen if columns else "no drift since the last training",
            evidence={"columns": list(columns)[:_SHOWN], "drifted": len(columns)},
        )

    def _seen(self, fact: Drifted, columns: Sequence[ColumnDrift], evidence: Evidence) -> Decision:
        labelled_to, rows_to = evidence.labelled_to, fact.rows_to
        ready = _labels_reached(rows_to, evidence)
        shown = ", ".join(f"{one.column} {one.method} {one.value:.2f}" for one in columns[:_SHOWN])
        reason = f"{shown} ({len(columns)} of {fact.of} columns drifted)"
        if not ready:
            reason += f"; waiting for labels of the drifted rows{_awaited(rows_to, evidence)}"
        return Decision(
            train=ready,
            trigger=self.name,
            reason=reason,
            evidence={
                "batch": fact.batch,
                "columns": [one.column for one in columns[:_SHOWN]],
                "drifted": len(columns),
                "waiting": not ready,
                "rows_to": None if rows_to is None else _date(rows_to),
                "labelled_to": None if labelled_to is None else _date(labelled_to),
            },
        )


@dataclass(frozen=True, repr=False)
class OnRelevance(Rule):
    """Train when the batches worth learning from hold enough rows, and these have labels.

    A batch counts when it was assessed against the champion with the verdict *learn*: it
    does harm, or it is new and the champion is less certain of it than as a rule. As for
    `OnDrift`, the training waits until labels reach the last of the rows.

    Parameters
    ----------
    rows
        The rows that such batches must hold since the last training.
    share
        The least share they must be of all rows since the last training, beside that.

    Raises
    ------
    ConfigError
        The number of rows is below one, or the share is not from 0 to 1.

    Examples
    --------
    >>> OnRelevance(), OnRelevance(2_000, share=0.5)
    (OnRelevance(), OnRelevance(2000, share=0.5))
    """

    rows: int = 500
    share: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError(f"OnRelevance: expected 1 row or more, got {self.rows!r}")
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"OnRelevance: expected a share from 0 to 1, got {self.share!r}")

    @property
    def asks_relevance(self) -> bool:
        """Whether batches have to be assessed for it."""
        return True

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        worth = _worth_learning(evidence)
        needs = max(self.rows, math.ceil(self.share * _arrived(evidence)))
        rows = 0
        for fact in worth:
            rows += fact.rows
            if rows >= needs:
                return self._reached(fact, worth, needs, evidence)
        return Decision(
            train=False,
            trigger=self.name,
            reason=f"{rows:,} rows worth learning from, {needs:,} asked for",
            evidence={"rows": rows, "needs": needs, "batches": len(worth)},
        )

    def _reached(
        self, fact: Assessed, worth: Sequence[Assessed], needs: int, evidence: Evidence
    ) -> Decision:
        """Answer once enough rows came, of which those of one fact were the last to be needed."""
        ends = [
            one.to for one in evidence.facts if isinstance(one, Arrived) if one.batch == fact.batch
        ]
        rows_to = ends[-1] if ends else None
        ready = _labels_reached(rows_to, evidence)
        rows = sum(one.rows for one in worth)
        newest = worth[-1]
        reason = f"{rows:,} rows in {len(worth)} batches worth learning from"
        if newest.reasons:
            reason += f": {'; '.join(newest.reasons)}"
        if not ready:
            reason += f"; waiting for their labels{_awaited(rows_to, evidence)}"
        return Decision(
            train=ready,
            trigger=self.name,
            reason=reason,
            evidence={
                "batch": fact.batch,
                "rows": rows,
                "needs": needs,
                "batches": len(worth),
                "waiting": not ready,
                "rows_to": None if rows_to is None else _date(rows_to),
            },
        )


def _worth_learning(evidence: Evidence) -> list[Assessed]:
    """Return the newest word on each batch that is worth learning from, oldest first.

    What an earlier champion had to learn is not counted: the one that serves may know it.
    """
    latest: dict[int, Assessed] = {}
    apart: set[int] = set()
    for fact in evidence.facts:
        if isinstance(fact, Assessed) and fact.version == evidence.champion:
            latest[fact.batch] = fact
        elif isinstance(fact, Quarantined):
            apart.add(fact.batch)
        elif isinstance(fact, Overridden) and fact.batch is not None:
            apart.discard(fact.batch)
    found = (fact for _, fact in sorted(latest.items()))
    return [fact for fact in found if fact.verdict == "learn" and fact.batch not in apart]


def _labels_reached(rows_to: datetime | None, evidence: Evidence) -> bool:
    """Return whether rows up to a moment have their labels; of unknown ones, whether any has."""
    if rows_to is None:
        return evidence.labelled > 0
    return evidence.labelled_to is not None and evidence.labelled_to >= rows_to


def _awaited(rows_to: datetime | None, evidence: Evidence) -> str:
    """Return up to where labels are waited for, and how far they have come."""
    until = "" if rows_to is None else f" to {_date(rows_to)}"
    known = evidence.labelled_to
    return f"{until}, {'none yet' if known is None else f'labelled to {_date(known)}'}"


def _arrived(evidence: Evidence) -> int:
    rows: dict[int, int] = {}
    apart: set[int] = set()
    for fact in evidence.facts:
        if isinstance(fact, Arrived):
            rows[fact.batch] = fact.rows
        elif isinstance(fact, Quarantined):
            apart.add(fact.batch)
        elif isinstance(fact, Overridden) and fact.batch is not None:
            apart.discard(fact.batch)
    return sum(count for batch, count in rows.items() if batch not in apart)


def _date(moment: datetime) -> str:
    """Return a moment as people write it, without a time of day where it is midnight."""
    text = moment.strftime("%Y-%m-%d %H:%M")
    return text.removesuffix(" 00:00")
