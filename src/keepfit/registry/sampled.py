"""What becomes known of a version whose recipe was tried on parts of its rows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.facts import Sampled

if TYPE_CHECKING:
    from keepfit.registry.state import State


def sampled(state: State, fact: Sampled, at: datetime) -> None:
    """Take in what a trial told, and cost; one that ends it is no training, and no failure."""
    version = state.versions[fact.version]
    version.sampled = fact
    state.counts.fit_cpu_seconds += fact.cost.cpu_seconds
    # As of a probe: a budget of CPU seconds pays for it, one of trainings does not.
    counted = version.watermark or state.trained_at
    if counted is not None:
        state.probe_costs.append((counted, fact.cost.cpu_seconds))
    if fact.ahead:
        state.outset = version.challenger
    if fact.skipped and state.champion is None:
        # It was tried for the first model alone, and waits for its next training no longer for it.
        recipe = state.recipes[version.challenger]
        recipe.trainings, recipe.tried, recipe.last = recipe.trainings - 1, recipe.tried[:-1], ""
    if fact.skipped:
        state.training.remove(fact.version)
        version.state, version.message, version.cost = "skipped", fact.reason, fact.cost
        state.counts.trainings -= 1
        state.counts.skipped += 1
