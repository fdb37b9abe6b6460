"""What is kept of a version and of the recipe that made it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from keepfit import costs
from keepfit.facts import Cost, Donor, Judged, Snapshot, Transferred


class Version(msgspec.Struct, kw_only=True):
    """An immutable trained model: its data, code, parent and seed, and what became of it.

    ``state`` is one of training, failed, waiting (for its gate's evidence), refused,
    passed (but another was better), superseded, champion, previous, retired, rolled back.
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
    trigger: str = ""
    parent: str | None = None
    judged_from: datetime | None = None
    final_of: str | None = None
    donor: Donor | None = None
    transferred: Transferred | None = None
    forecast: costs.Forecast | None = None
    state: str = "training"
    artifact: str = ""
    reference: str = ""
    code: str = ""
    cost: Cost = msgspec.field(default_factory=Cost)
    parameters: dict[str, Any] = {}
    packages: dict[str, str] = {}
    features: tuple[str, ...] = ()
    trained_at: datetime | None = None
    promoted_at: datetime | None = None
    judged: Judged | None = None
    message: str = ""


class Side(msgspec.Struct, frozen=True):
    """What recipes reached side by side on a batch: the metric by recipe, of ``n`` rows."""

    n: int
    values: dict[str, float]


class Recipe(msgspec.Struct):
    """How often a challenger ran, its newest version, and how often in a row it failed."""

    trainings: int = 0
    last: str = ""
    failures: int = 0


class Counts(msgspec.Struct):
    """How often things happened, for summaries."""

    rows: int = 0
    labels: int = 0
    trainings: int = 0
    promoted: int = 0
    refused: int = 0
    rolled_back: int = 0
    failed: int = 0
    quarantined: int = 0
    fit_cpu_seconds: float = 0.0
