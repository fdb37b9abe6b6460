"""What the ledger may hold: one frozen struct per kind."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from keepfit.costs import Forecast


class Outcome(StrEnum):
    """What a check says of a batch."""

    PASS = "pass"
    WARN = "warn"
    BLOCK = "block"
    NOT_APPLICABLE = "not applicable"


class Answer(StrEnum):
    """What a gate says of a challenger."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    NOT_ENOUGH = "not enough evidence"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check's answer about a batch, with value, limit and place."""

    check: str
    outcome: Outcome
    message: str
    column: str | None = None
    value: float | str | None = None
    limit: float | str | None = None
    hint: str | None = None


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one column has moved from its reference."""

    column: str
    method: str
    value: float
    limit: float

    @property
    def drifted(self) -> bool:
        """Whether the column moved further than the limit."""
        return self.value > self.limit


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a trigger says, why, and what that rests on; a joined trigger shows its parts."""

    train: bool
    trigger: str
    reason: str
    evidence: dict[str, Any] = {}
    parts: tuple[Decision, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which rows a version was trained on: a filter over immutable rows, and a digest.

    The rows are those of batches up to ``batch`` without ``excluded``, whose label was
    known at ``as_of``, whose event time is below ``until``, as ``selection`` chose them
    with ``seed``. ``from_`` and ``to`` are the event times of the first and the last row.
    """

    batch: int
    as_of: datetime
    selection: str
    rows: int
    digest: str
    from_: datetime
    to: datetime
    until: datetime | None = None
    since: datetime | None = None
    excluded: tuple[int, ...] = ()
    seed: int = 0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a training took, measured; outside the equality of two backtests."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one gate says of a challenger: value with interval, what was needed, on how many rows.

    ``value`` is the challenger's gain over the champion (positive is better), or the
    quantity the gate names; ``needs`` is the bound that ``low`` had to reach.
    """

    gate: str
    answer: Answer
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    needs: float | None = None
    rows: int = 0
    slice: str | None = None


class ScoresMoved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a challenger's scores lie from the champion's on the same rows.

    ``distance`` is the largest difference of the shares above any cut-off; ``before`` and
    ``now`` are the champion's and the challenger's shares at the cut-off ``at``.
    """

    distance: float
    at: float | None = None
    before: float | None = None
    now: float | None = None


class PastScored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How challenger and champion do on a stretch of the past; a ``gain`` is positive."""

    from_: datetime
    to: datetime
    n: int
    value: float | None = None
    champion_value: float | None = None
    gain: float | None = None


class Donor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The version of another pipeline that a training starts from.

    ``artifact`` is the digest of its model, of which this pipeline keeps a copy. ``missing``
    says why there is none.
    """

    pipeline: str
    version: str
    artifact: str = ""
    missing: str = ""


class Transferred(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model took over from its donor, or from the champion it recalibrates, and what is new.

    ``categories`` counts the values of each column that the donor had not seen; ``unused``
    names columns that the donor's form has no place for; ``parts`` says how its trees, layers
    or coefficients fared, in words; ``share`` is the part of the model that was taken over.
    """

    columns: tuple[str, ...] = ()
    new_columns: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    gone_columns: tuple[str, ...] = ()
    categories: dict[str, int] = {}
    parts: tuple[str, ...] = ()
    share: float | None = None


class Fact(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str, omit_defaults=True
):
    """Something that happened; the base of every kind."""

    @property
    def kind(self) -> str:
        """The name of the kind."""
        return type(self).__name__


class Arrived(Fact, frozen=True, kw_only=True):
    """A batch of rows and labels landed in the lake.

    ``cursor`` says where its source goes on; a long one as what differs from the batch before.
    ``lost`` names columns the lake knows and the batch did not have, ``retyped`` those whose
    values came in another kind and were not kept, with that type.
    """

    batch: int
    rows: int
    labels: int
    cursor: str
    digest: str
    from_: datetime | None = None
    to: datetime | None = None
    watermark: datetime | None = None
    duplicates: int = 0
    corrections: int = 0
    late: int = 0
    lost: tuple[str, ...] = ()
    retyped: dict[str, str] = {}


class Found(Fact, frozen=True, kw_only=True):
    """The checks' findings about a batch."""

    batch: int
    findings: tuple[Finding, ...]


class Quarantined(Fact, frozen=True, kw_only=True):
    """A batch was set apart whole: it never trains and never becomes reference."""

    batch: int
    rows: int
    reason: str


class Scored(Fact, frozen=True, kw_only=True):
    """How a version did on a batch whose labels are mature."""

    batch: int
    version: str
    metric: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    from_: datetime | None = None
    to: datetime | None = None
    reason: str | None = None


class Estimated(Fact, frozen=True, kw_only=True):
    """How a version is expected to have done on a batch whose labels are still to come.

    ``trust`` is the belief put in it, from 0 to 1, and ``unlike`` the share of rows unlike
    anything it was learnt from.
    """

    batch: int
    version: str
    metric: str
    value: float
    n: int
    low: float
    high: float
    trust: float
    unlike: float
    from_: datetime | None = None
    to: datetime | None = None


class Compared(Fact, frozen=True, kw_only=True):
    """How versions did, or would have done, on a batch that none of them was trained on.

    ``values`` holds the metric by version: of the champion that served, and of those that
    different recipes made in one turn, of which the gate let one serve.
    """

    batch: int
    metric: str
    n: int
    values: dict[str, float]


class DetectorAdvanced(Fact, frozen=True, kw_only=True):
    """A detector looked at a batch: the columns that moved most, worst first.

    ``state`` is what it goes on from with the next batch, where evidence adds up; then
    ``evidence`` is held against ``threshold``, and ``provisional`` says that the reference
    is short for the rate of false alarms that it promises.
    """

    batch: int
    detector: str
    columns: tuple[ColumnDrift, ...]
    drifted: int = 0
    state: dict[str, Any] = {}
    evidence: float | None = None
    threshold: float | None = None
    provisional: bool = False


class Drifted(Fact, frozen=True, kw_only=True):
    """A detector raised an alarm: columns that had not drifted before."""

    batch: int
    detector: str
    columns: tuple[ColumnDrift, ...]
    of: int
    rows_to: datetime | None = None


class Assessed(Fact, frozen=True, kw_only=True):
    """What a batch means to the champion, and what to do with it.

    ``verdict`` is ``"ignore"``, ``"keep"``, ``"learn"`` or ``"quarantine"``. ``new`` is the
    AUC with which the batch is told from the champion's training rows (0.5: not at all);
    ``harm`` the change of the metric for the worse, ``estimated`` while labels are missing;
    ``informative`` the share of rows on which the champion is uncertain or wrong;
    ``redundant`` the share of rows much like ones it was trained on. None: not measured.
    """

    batch: int
    version: str
    verdict: str
    reasons: tuple[str, ...]
    rows: int
    valid: bool = True
    new: float | None = None
    harm: float | None = None
    estimated: bool = False
    informative: float | None = None
    redundant: float | None = None


class Probed(Fact, frozen=True, kw_only=True):
    """What a fresh model would gain, measured with small models: the probes.

    One probe learnt from rows like the champion's, one from rows as a training would take them
    now, by ``recipe``; both answered the same ``rows`` labelled rows, the newest, that neither
    had seen. ``stale`` and ``fresh`` are their mean losses, ``gap`` what the fresh one loses
    less, a row, with its standard ``error``. ``scale`` is the loss of the best answer that is
    the same for all rows, 1 where losses are rights and wrongs. ``drawn`` counts the rows that
    each probe learnt from, ``age`` those that had come since the last training;
    ``training_seconds`` is the forecast CPU of a turn of training.
    """

    batch: int
    version: str
    reason: str
    recipe: str
    loss: str
    rows: int
    stale: float
    fresh: float
    gap: float
    error: float
    scale: float = 1.0
    drawn: tuple[int, ...] = (0, 0)
    age: int = 0
    from_: datetime | None = None
    to: datetime | None = None
    training_seconds: float | None = None
    cost: Cost = Cost()


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


class Paused(Fact, frozen=True, kw_only=True):
    """The loop goes on collecting and scoring, and neither trains nor promotes."""

    reason: str
    by: str = "keepfit"


class Resumed(Fact, frozen=True, kw_only=True):
    """A pause ended."""

    reason: str
    by: str = "keepfit"


class Overridden(Fact, frozen=True, kw_only=True):
    """A person decided otherwise: let a quarantined batch or a changed schema in."""

    what: str
    reason: str
    by: str
    batch: int | None = None


class Signalled(Fact, frozen=True, kw_only=True):
    """An event from outside."""

    event: str
    data: dict[str, Any] = {}


AnyFact: TypeAlias = (
    Arrived
    | Found
    | Quarantined
    | Scored
    | Estimated
    | Compared
    | DetectorAdvanced
    | Drifted
    | Assessed
    | Probed
    | Decided
    | TrainingStarted
    | Trained
    | TrainingFailed
    | Judged
    | Promoted
    | RolledBack
    | Paused
    | Resumed
    | Overridden
    | Signalled
)
"""Every kind of fact."""

KINDS: dict[str, type[Fact]] = {kind.__name__: kind for kind in Fact.__subclasses__()}
"""Kinds by name."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyFact] = msgspec.json.Decoder(AnyFact)


def encode(fact: Fact) -> bytes:
    """Return a fact as JSON, its kind in the field ``kind``."""
    return _encoder.encode(fact)


def decode(body: bytes | str) -> AnyFact:
    """Return the fact that JSON holds.

    Raises
    ------
    msgspec.ValidationError
        The JSON is not one of the kinds.
    """
    return _decoder.decode(body)


def comparable(fact: Fact) -> Fact:
    """Return a fact without what was measured, to compare two backtests."""
    if isinstance(fact, Trained | TrainingFailed):
        return msgspec.structs.replace(fact, cost=Cost())
    if isinstance(fact, TrainingStarted) and fact.forecast is not None:
        return msgspec.structs.replace(fact, forecast=None)
    if isinstance(fact, Probed):
        return msgspec.structs.replace(fact, cost=Cost(), training_seconds=None)
    return fact


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A fact in its place in the ledger."""

    pipeline: str
    seq: int
    at: datetime
    fact: AnyFact
