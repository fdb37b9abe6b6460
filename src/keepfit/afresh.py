"""Warm starts that cannot go on: where the champion has grown too large, its recipe begins afresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit import learners

if TYPE_CHECKING:
    from keepfit.challenger import Challenger
    from keepfit.loop import Loop
    from keepfit.registry import Version


def due(loop: Loop, challenger: Challenger) -> str:
    """Return why a recipe that goes on from the champion begins from scratch, or ``""``."""
    champion = loop.state.versions.get(loop.state.champion or "")
    if champion is None or not challenger.updates or challenger.update != "all":
        return ""
    if full(loop, challenger, champion) or _refused(loop, challenger, champion):
        return f"{champion.name} has grown as large as warm starts may make it"
    return ""


def full(loop: Loop, challenger: Challenger, version: Version) -> bool:
    """Return whether a version is too large for a recipe to let it grow once more."""
    grows = challenger.updates and challenger.update == "all"
    learner = challenger.learner or loop.pipeline.learner
    return grows and learners.full(learner, loop.scorer.model(version))


def _refused(loop: Loop, challenger: Challenger, champion: Version) -> bool:
    """Return whether the last training said so, by a learner that cannot be asked beforehand."""
    recipe = loop.state.recipes.get(challenger.name)
    last = None if recipe is None else loop.state.versions.get(recipe.last)
    return last is not None and last.parent == champion.name and learners.DUE in last.message
