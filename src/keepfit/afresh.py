"""Warm starts that cannot go on: their recipe begins afresh.

Either the champion has grown too large, or there is a class that it has no place for and that no
other recipe of the pipeline would learn.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from keepfit import learners
from keepfit.learners import novel

if TYPE_CHECKING:
    import polars as pl

    from keepfit.challenger import Challenger
    from keepfit.learners.novel import Learnable
    from keepfit.loop import Loop
    from keepfit.registry import Version


def begins(
    loop: Loop, challenger: Challenger, pool: pl.DataFrame
) -> tuple[Challenger, Learnable, str]:
    """Return a recipe as it runs, the rows that it can learn, and why it begins afresh, or ``""``."""
    why = _due(loop, challenger)
    if why:
        challenger = challenger.afresh()
    found = _learnable(loop, challenger, pool)
    if not found.unlearnt or _opens(loop, challenger):
        return challenger, found, why
    whole = _learnable(loop, challenger.afresh(), pool)
    why = _placeless(loop, challenger, whole.new)
    return (challenger.afresh(), whole, why) if why else (challenger, found, "")


def _learnable(loop: Loop, challenger: Challenger, pool: pl.DataFrame) -> Learnable:
    """Return the rows whose label is a class that a recipe can learn."""
    champion = loop.state.versions.get(loop.state.champion or "")
    if champion is None:
        learner = challenger.learner or loop.pipeline.learner
        return novel.learnable(pool, (), every=novel.classifies(learner))
    model = loop.scorer.model(champion)
    return novel.learnable(
        pool,
        model.classes,
        closed=challenger.start == "champion" and not _opens(loop, challenger),
        every=model.task != "regression",
    )


def _due(loop: Loop, challenger: Challenger) -> str:
    """Return why a recipe that goes on from the champion begins from scratch, or ``""``."""
    champion = loop.state.versions.get(loop.state.champion or "")
    if champion is None or not challenger.updates or challenger.update != "all":
        return ""
    if full(loop, challenger, champion) or _refused(loop, challenger, champion):
        return f"{champion.name} has grown as large as warm starts may make it"
    return ""


def _opens(loop: Loop, challenger: Challenger) -> bool:
    """Return whether a recipe may learn classes unknown to the model that it starts from, if any."""
    learner = challenger.learner or loop.pipeline.learner
    fresh = challenger.start in ("scratch", "pretrained")
    return fresh or learners.opens(learner, challenger.update)


def _placeless(loop: Loop, challenger: Challenger, new: Collection[str]) -> str:
    """Return why new classes let a recipe that has no place for them begin from scratch, or ``""``.

    They do not where another recipe may learn them. Where that comes to nothing, warm starts go on
    for one turn, for 3, for 7 and so on, before it is tried again.

    Parameters
    ----------
    new
        The labels that are classes by now and unknown to the champion.
    """
    every = loop.pipeline.challengers
    if not new or not challenger.updates or any(_opens(loop, one) for one in every):
        return ""
    why = f"has no place for {', '.join(f'`{one}`' for one in sorted(new))}"
    tried = {
        one.turn
        for one in loop.state.versions.values()
        if one.challenger == challenger.name and one.afresh.endswith(why)
    }
    if tried and loop.state.turn - max(tried) < 2 ** len(tried) - 1:
        # A learner of two classes fails; where all moves, what learnt all rows so far is refused.
        return ""
    return f"{loop.state.champion} {why}"


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
