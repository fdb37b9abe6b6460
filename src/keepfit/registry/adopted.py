"""What becomes known of a version that was trained elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.facts import Adopted, Snapshot
from keepfit.registry.versions import Version

if TYPE_CHECKING:
    from keepfit.registry.state import State

CHALLENGER = "adopted"
"""What stands in the place of the recipe, which nobody here knows."""


def adopted(state: State, fact: Adopted, at: datetime) -> None:
    """Take in a model as the version of a turn of its own, of which no rows are known."""
    snapshot = Snapshot(
        batch=state.batch,
        as_of=fact.trained_to,
        selection=fact.origin.uri,
        rows=0,
        digest="",
        from_=fact.trained_to,
        to=fact.trained_to,
    )
    state.turn += 1
    state.versions[fact.version] = Version(
        name=fact.version,
        turn=state.turn,
        challenger=CHALLENGER,
        snapshot=snapshot,
        start=CHALLENGER,
        update="all",
        seed=0,
        key=fact.origin.digest,
        started_at=at,
        ready_at=at,
        trained_at=at,
        trigger="hand",
        origin=fact.origin,
        state="waiting",
        artifact=fact.artifact,
        features=fact.features,
        packages=fact.packages,
    )
    # Triggers count from here: rows that came before are no news to it.
    state.trained_at = state.watermark
    state.waiting.append(fact.version)
