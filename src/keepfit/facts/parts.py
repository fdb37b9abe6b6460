"""What facts are made of: answers, findings, verdicts, snapshots."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


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
    ``changed`` is the event time from which on what served had fallen, the last time it did.
    ``unlearnt`` counts, by label, the rows left out of what was chosen from, because their label
    is none of the classes that are learnt.
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
    changed: datetime | None = None
    excluded: tuple[int, ...] = ()
    seed: int = 0
    unlearnt: dict[str, int] = {}


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


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a model comes from that was not trained here: a registered model of MLflow.

    ``digest`` is that of all its files, ``flavor`` the library that opened it.
    """

    uri: str
    model: str
    version: str
    digest: str
    flavor: str
    run: str = ""


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
