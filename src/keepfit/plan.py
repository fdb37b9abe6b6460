"""What a turn of training runs, on which rows, and why the rest does not."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from keepfit.facts import Decision

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger


ALARMS = ("OnDecay", "OnDrift", "OnEvent", "OnRelevance")


class Why(enum.IntEnum):
    """Why a turn of training is asked for, from the least reason to the greatest."""

    STEP = 0
    """One more step of the cadence brought labels."""

    ASKED = 1
    """A schedule, an amount of rows, a price or a person says so."""

    ALARM = 2
    """Something happened: drift, decay, an event."""

    @classmethod
    def of(cls, decision: Decision) -> Why:
        """Return the greatest reason among the triggers that said yes."""
        if decision.parts:
            return max((cls.of(part) for part in decision.parts if part.train), default=cls.ASKED)
        if decision.trigger.startswith("EachStep"):
            return cls.STEP
        return cls.ALARM if decision.trigger.startswith(ALARMS) else cls.ASKED


@dataclass(frozen=True, slots=True)
class Chosen:
    """A recipe that runs in a turn: its rows, and what it costs beside the others.

    ``unlearnt`` counts the rows left out before it chose, by the label that is no class.
    ``since`` is the event time of the newest row trained on before; ``afresh`` says why a recipe
    that goes on from the champion begins from scratch, on all that it would choose then; ``new``
    names classes among its rows that the champion does not know.
    """

    challenger: Challenger
    rows: pl.DataFrame
    cost: float
    unlearnt: Mapping[str, int] = field(default_factory=dict)
    since: datetime | None = None
    afresh: str = ""
    new: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """A turn of training: what runs, the cheapest first, and why the rest does not.

    ``cut`` is the event time from which rows are kept to judge on, ``changed`` that from which on
    what serves fell, ``fell`` says so while it has not come back.
    """

    chosen: tuple[Chosen, ...]
    held: Mapping[str, str] = field(default_factory=dict)
    cut: datetime | None = None
    changed: datetime | None = None
    fell: str = ""

    def told(self, decision: Decision) -> Decision:
        """Return a decision to train with the recipes that do not run; a no where none does."""
        told = {"fell": self.fell, "not_run": dict(self.held)}
        evidence = decision.evidence | {name: said for name, said in told.items() if said}
        if self.chosen:
            return replace(decision, evidence=evidence)
        said = "; ".join(dict.fromkeys(self.held.values()))
        reason = f"{decision.reason}; no recipe is due: {said or 'none has rows to learn from'}"
        return replace(decision, train=False, reason=reason, evidence=evidence)
