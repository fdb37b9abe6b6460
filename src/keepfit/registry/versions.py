"""What is kept of a version and of the recipe that made it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from keepfit import costs
from keepfit.facts import (
    Answer,
    ApprovalAsked,
    Approved,
    Cost,
    Declined,
    Donor,
    Finding,
    Judged,
    Origin,
    RolledOut,
    Sampled,
    Snapshot,
    Transferred,
    Verdict,
)

KEPT = 64
"""Batches remembered: those let in for the checks, and what was reached on the latest."""

TRIED = 64
"""Batches remembered with which a recipe ran: what was tried before is as good as not tried."""

FIRST = 4
"""Windows that a version served first, and that tell what it promises where no gate does."""

BRIEF = "Sliding(1)"
"""The selection of the rows of one step alone: of use, if at all, for the step after it."""

ASKED = 8
"""Decisions to train remembered of a champion's reign, and of the one before."""


class Version(msgspec.Struct, kw_only=True):
    """An immutable trained model: its data, code, parent and seed, and what became of it.

    ``state`` is one of training, skipped, failed, waiting (for its gate's evidence), waiting for approval,
    refused, passed (but another was better), superseded, rolling out, champion, previous, retired,
    rolled back. ``watermark`` is the event time that had been read when its training started, by
    which a budget counts it. ``first`` holds what it reached in the first windows it served, by
    batch.
    """

    name: str
    turn: int
    challenger: str
    snapshot: Snapshot
    start: str
    update: str
    seed: int
    key: str
    started_at: datetime
    ready_at: datetime
    watermark: datetime | None = None
    trigger: str = ""
    parent: str | None = None
    judged_from: datetime | None = None
    final_of: str | None = None
    retry_of: str | None = None
    afresh: str = ""
    donor: Donor | None = None
    origin: Origin | None = None
    transferred: Transferred | None = None
    forecast: costs.Forecast | None = None
    sampled: Sampled | None = None
    state: str = "training"
    artifact: str = ""
    reference: str = ""
    code: str = ""
    cost: Cost = msgspec.field(default_factory=Cost)
    parameters: dict[str, Any] = {}
    packages: dict[str, str] = {}
    features: tuple[str, ...] = ()
    learnt: float | None = None
    findings: tuple[Finding, ...] = ()
    trained_at: datetime | None = None
    promoted_at: datetime | None = None
    judged: Judged | None = None
    first: dict[int, float] = {}
    message: str = ""

    @property
    def updated(self) -> bool:
        """Whether it is the champion before it, gone on from, and not a map of its scores alone."""
        return self.start == "champion" and self.update != "calibration"

    @property
    def brief(self) -> bool:
        """Whether it learnt the rows of one step alone."""
        return self.start == "scratch" and self.snapshot.selection == BRIEF

    @property
    def lasting(self) -> bool:
        """Whether it was trained from scratch, and on the rows of more than one step."""
        return self.start == "scratch" and not self.brief

    def scored(self, batch: int, value: float | None) -> None:
        """Keep what it reached in a window, if that is among the first; labels are corrected."""
        asked = batch in self.first or len(self.first) < FIRST
        if asked and value is not None and math.isfinite(value):
            self.first[batch] = value

    def looked(self, champion: str) -> tuple[int, tuple[str, ...]]:
        """Return the number of the next look beside a champion, and the gates passed at the last.

        A look that measured nothing spent nothing, and is not counted.
        """
        before = self.judged
        if before is None or before.champion != champion:
            return 1, ()
        measured = any(verdict.low is not None for verdict in before.verdicts)
        return before.look + measured, passed(before.verdicts)


class Looks(msgspec.Struct):
    """How often live rows were looked at, and how many there were at the last look.

    ``newest`` counts the looks at what was new alone, ``seen`` is how many rows there were at
    the last one; ``wait`` is how many more it takes, where fewer measured nothing. ``passed``
    names the gates that were passed at the last look.
    """

    count: int = 0
    rows: int = 0
    newest: int = 0
    seen: int = 0
    wait: int = 0
    passed: tuple[str, ...] = ()

    def take(self, fact: Judged) -> None:
        """Count a look; one that measured nothing spent nothing."""
        measured = [verdict.low is not None for verdict in fact.verdicts]
        if fact.newest:
            self.newest += measured[0]
            self.wait = self.wait if measured[0] else 2 * fact.newest
        self.seen = fact.rows
        if not fact.newest or len(measured) > 1:
            self.count += any(measured[-1:])
            self.rows = fact.rows
            self.passed = passed(fact.verdicts)


def passed(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return the gates that were passed by what was measured; of one name, all of them."""
    others = {one.gate for one in verdicts if one.answer != Answer.PROMOTE or one.low is None}
    return tuple(dict.fromkeys(one.gate for one in verdicts if one.gate not in others))


class Rollout(msgspec.Struct, kw_only=True):
    """A challenger on its way to become champion.

    ``batch`` is the newest when it began, ``since`` when its stage did. ``early`` are looks that
    ask whether it does harm, ``last`` those that may promote it.
    """

    fact: RolledOut
    since: datetime
    batch: int
    early: Looks = msgspec.field(default_factory=Looks)
    last: Looks = msgspec.field(default_factory=Looks)


class Request(msgspec.Struct, kw_only=True):
    """A version that waits for a person, since when, and what a person has ``said`` of it.

    ``batch`` is the newest when it was asked about; ``looks`` are those at later rows, for
    whether it does harm.
    """

    fact: ApprovalAsked
    since: datetime
    batch: int
    said: Approved | Declined | None = None
    said_at: datetime | None = None
    looks: Looks = msgspec.field(default_factory=Looks)

    @property
    def version(self) -> str:
        """The version that waits."""
        return self.fact.version


class Service(msgspec.Struct, kw_only=True):
    """A champion beside the one it replaced, from the batch on that came after its promotion."""

    version: str
    previous: str
    batch: int
    looks: Looks = msgspec.field(default_factory=Looks)


class Side(msgspec.Struct, frozen=True):
    """What recipes reached side by side on a batch: the metric by recipe, of ``n`` rows.

    Of each that was trained from scratch, ``kept`` is what the champion before it would have reached,
    updated with the same rows, ``new`` the share of its rows that are newer than those which that
    champion was trained on from scratch, and ``ages`` the batches from its training to this one; of
    a holdout only where labels are late.
    """

    n: int
    values: dict[str, float]
    kept: dict[str, float] = {}
    batch: int = 0
    turn: int = 0
    new: dict[str, float] = {}
    ages: dict[str, int] = {}


class Recipe(msgspec.Struct):
    """How often a challenger ran, its newest version, and how often in a row it failed.

    ``tried`` are the batches with which it ran lately, the newest last.
    """

    trainings: int = 0
    last: str = ""
    failures: int = 0
    tried: list[int] = []

    def ran(self, batch: int) -> None:
        """Keep that it ran with a batch."""
        self.trainings += 1
        if batch not in self.tried[-1:]:
            self.tried = [*self.tried[-TRIED + 1 :], batch]


class Counts(msgspec.Struct):
    """How often things happened, for summaries.

    ``rows`` and ``labels`` count each id once. ``skipped`` are versions that parts of their rows
    kept from being trained. ``fit_cpu_seconds`` are those of trainings, of such parts and of
    probes, which ``probe_cpu_seconds`` are of them.
    """

    rows: int = 0
    labels: int = 0
    trainings: int = 0
    promoted: int = 0
    refused: int = 0
    rolled_back: int = 0
    failed: int = 0
    skipped: int = 0
    quarantined: int = 0
    fit_cpu_seconds: float = 0.0
    probe_cpu_seconds: float = 0.0
