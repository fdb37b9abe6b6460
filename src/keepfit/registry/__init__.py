"""Versions and their aliases: a fold over the facts of one pipeline."""

from keepfit.registry.allowed import held_back, promotable
from keepfit.registry.state import State
from keepfit.registry.versions import Counts, Looks, Recipe, Rollout, Service, Side, Version

__all__ = [
    "Counts",
    "Looks",
    "Recipe",
    "Rollout",
    "Service",
    "Side",
    "State",
    "Version",
    "held_back",
    "promotable",
]
