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
    Finding,
    Origin,
    PastScored,
    ScoresMoved,
    Snapshot,
    Transferred,
    Verdict,
)

UNLEARNT = "not learnt"
"""The reason of a training that failed because its model does not answer its rows as it should."""


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
    ``retry_of`` names the version that did not learn its rows, where this is the same training
    once more. ``afresh`` says why a recipe that goes on from the champion began from scratch.
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
    retry_of: str | None = None
    afresh: str = ""


class Sampled(Fact, frozen=True, kw_only=True):
    """A recipe was tried on parts of its rows, beside the others of its turn.

    ``rows`` are those of the largest part, ``cost`` is that of all. Where it was ``skipped``, it is
    not trained on all rows, and its training ends here; ``reason`` is what the parts told. Before the
    first model it is ``ahead`` where it leads then, as it did better than one of more rows.
    """

    version: str
    rows: int
    reason: str
    cost: Cost
    skipped: bool = False
    ahead: bool = False


class Trained(Fact, frozen=True, kw_only=True):
    """A training ended with a model.

    ``learnt`` is by what share the loss on its rows is smaller than what would serve without it
    makes of them; None where that is not known. ``reference`` is what its rows look like; "" where
    that is said of its last fit. ``findings`` say which of its rows it was not taught, and why.
    """

    version: str
    artifact: str
    reference: str
    cost: Cost
    code: str
    parameters: dict[str, Any] = {}
    packages: dict[str, str] = {}
    features: tuple[str, ...] = ()
    transferred: Transferred | None = None
    learnt: float | None = None
    findings: tuple[Finding, ...] = ()


class Adopted(Fact, frozen=True, kw_only=True):
    """A model that was trained elsewhere became a version.

    Rows up to ``trained_to`` may have taught it: a person ``stated`` that moment, or it is when
    the model was registered.
    """

    version: str
    artifact: str
    origin: Origin
    trained_to: datetime
    reason: str
    by: str
    stated: bool = False
    features: tuple[str, ...] = ()
    packages: dict[str, str] = {}


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
    stretches of the past, oldest first, which either may have been trained on. ``during`` is
    empty at the gate itself. It is ``"rollout"`` for a look at live rows that asks only whether
    the version does harm, ``"end of rollout"`` for one that may promote it, and ``"service"``
    for one at the rows since it was promoted; ``champion`` is then the version before. ``"approval"``
    is a look at the rows that come while a person is waited for. Where
    ``newest`` is not zero, the first verdict is on so many of the newest rows, and the
    second, if there is one, on all of them.
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
    during: str = ""
    newest: int = 0


class RolledOut(Fact, frozen=True, kw_only=True):
    """A rollout began, or went to its next stage; ``champion`` answers all that it does not.

    ``rollout`` is its id, of which with the ``unit`` it is drawn who is answered by
    ``version``: a ``share`` of zero is a shadow. The stage is number ``stage`` of ``stages``; it
    ends at ``until`` at the earliest, and the last one at ``limit`` at the latest, both counted
    from ``began``: the moment of the fact, or that of the rows where they are a backlog.
    ``reason`` says with the first stage why the version takes over.
    """

    version: str
    champion: str
    rollout: str
    share: float
    stage: int
    stages: int
    until: datetime
    limit: datetime
    unit: str | None = None
    began: datetime | None = None
    reason: str = ""


class Promoted(Fact, frozen=True, kw_only=True):
    """A version became champion; the one before became previous.

    ``reference`` is what its training rows look like, where `Trained` did not say: it serves
    without the last fit that was to follow.
    """

    version: str
    reason: str
    previous: str | None = None
    by: str = "keepfit"
    forced: bool = False
    reference: str = ""


class RolledBack(Fact, frozen=True, kw_only=True):
    """A version was taken back.

    It was champion, and ``to``, which served before, is champion again; or it was being rolled
    out, at a ``share`` of units, and ``to`` is champion as it was.
    """

    version: str
    to: str
    reason: str
    by: str = "keepfit"
    rows: int = 0
    share: float | None = None
