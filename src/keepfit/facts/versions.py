"""Facts about versions: why they were trained, how they were judged, when they served."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from keepfit.costs import Forecast
from keepfit.facts.base import Fact
from keepfit.facts.parts import (
    Answer,
    Cost,
    Decision,
    Donor,
    PastScored,
    ScoresMoved,
    Snapshot,
    Transferred,
    Verdict,
)


class Decided(Fact, frozen=True, kw_only=True):
    """Whether to train, and why."""

    batch: int
    decision: Decision
    watermark: datetime | None = None
    turn: int | None = None


class TrainingStarted(Fact, frozen=True, kw_only=True):
    """A challenger's training began, on a snapshot, from a start.

    ``ready_at`` is when it will be over: at once in the live loop, later by the declared
    length of a training in a backtest. Rows from ``judged_from`` on are its holdout.
    ``final_of`` names the version that passed the gate and is fitted on all rows here.
    ``donor`` is where a transfer starts from, ``forecast`` what the training is expected to cost.
    """

    version: str
    turn: int
    challenger: str
    snapshot: Snapshot
    start: str
    update: str
    seed: int
    ready_at: datetime
    key: str
    parent: str | None = None
    judged_from: datetime | None = None
    final_of: str | None = None
    donor: Donor | None = None
    forecast: Forecast | None = None


class Trained(Fact, frozen=True, kw_only=True):
    """A training ended with a model."""

    version: str
    artifact: str
    reference: str
    cost: Cost
    code: str
    parameters: dict[str, Any] = {}
    packages: dict[str, str] = {}
    features: tuple[str, ...] = ()
    transferred: Transferred | None = None


class TrainingFailed(Fact, frozen=True, kw_only=True):
    """A training ended without a model."""

    version: str
    reason: str
    message: str
    cost: Cost
    retry_at: datetime | None = None


class Judged(Fact, frozen=True, kw_only=True):
    """A gate's verdicts on a challenger, on rows neither model was trained on.

    ``scores`` says how far the challenger's scores moved on them, ``past`` how both do on
    stretches of the past, oldest first, which either may have been trained on.
    """

    version: str
    answer: Answer
    verdicts: tuple[Verdict, ...]
    champion: str | None = None
    rows: int = 0
    look: int = 1
    metric: str | None = None
    value: float | None = None
    champion_value: float | None = None
    scores: ScoresMoved | None = None
    past: tuple[PastScored, ...] = ()


class Promoted(Fact, frozen=True, kw_only=True):
    """A version became champion; the one before became previous."""

    version: str
    reason: str
    previous: str | None = None
    by: str = "keepfit"
    forced: bool = False


class RolledBack(Fact, frozen=True, kw_only=True):
    """The champion was taken back; a version that served before is champion again."""

    version: str
    to: str
    reason: str
    by: str = "keepfit"
    rows: int = 0
