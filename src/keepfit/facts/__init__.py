"""What the ledger may hold: one frozen struct per kind."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from keepfit.facts.base import Fact
from keepfit.facts.hands import (
    JOURNAL,
    NOT_SERVED,
    OWN_EVENTS,
    ApprovalAsked,
    Approved,
    Declined,
    Overridden,
    Paused,
    Resumed,
    Signalled,
)
from keepfit.facts.parts import (
    Answer,
    ColumnDrift,
    Cost,
    Decision,
    Donor,
    Finding,
    Origin,
    Outcome,
    PastScored,
    ScoresMoved,
    Snapshot,
    Transferred,
    Verdict,
)
from keepfit.facts.rows import (
    FAILING,
    Arrived,
    Assessed,
    Compared,
    DetectorAdvanced,
    Drifted,
    Estimated,
    Found,
    Probed,
    Quarantined,
    Scored,
)
from keepfit.facts.versions import (
    UNLEARNT,
    Adopted,
    Decided,
    Judged,
    Promoted,
    RolledBack,
    RolledOut,
    Sampled,
    Trained,
    TrainingFailed,
    TrainingStarted,
)

__all__ = [
    "Adopted",
    "Answer",
    "AnyFact",
    "ApprovalAsked",
    "Approved",
    "Arrived",
    "Assessed",
    "ColumnDrift",
    "Compared",
    "Cost",
    "Decided",
    "Decision",
    "Declined",
    "DetectorAdvanced",
    "Donor",
    "Drifted",
    "Entry",
    "Estimated",
    "FAILING",
    "Fact",
    "Finding",
    "Found",
    "Judged",
    "JOURNAL",
    "KINDS",
    "NOT_SERVED",
    "OWN_EVENTS",
    "UNLEARNT",
    "Origin",
    "Outcome",
    "Overridden",
    "PastScored",
    "Paused",
    "Probed",
    "Promoted",
    "Quarantined",
    "Resumed",
    "RolledBack",
    "RolledOut",
    "Sampled",
    "Scored",
    "ScoresMoved",
    "Signalled",
    "Snapshot",
    "Trained",
    "TrainingFailed",
    "TrainingStarted",
    "Transferred",
    "Verdict",
    "comparable",
    "decode",
    "encode",
]

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
    | Sampled
    | Trained
    | Adopted
    | TrainingFailed
    | Judged
    | ApprovalAsked
    | Approved
    | Declined
    | RolledOut
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
    if isinstance(fact, Sampled | Trained | TrainingFailed):
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
