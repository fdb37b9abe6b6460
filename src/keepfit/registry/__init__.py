"""Versions and their aliases: a fold over the facts of one pipeline."""

from keepfit.registry.adopted import CHALLENGER
from keepfit.registry.allowed import answerable, held_back, promotable
from keepfit.registry.state import State
from keepfit.registry.versions import (
    Counts,
    Looks,
    Recipe,
    Request,
    Rollout,
    Service,
    Side,
    Version,
)

__all__ = [
    "CHALLENGER",
    "Counts",
    "Looks",
    "Recipe",
    "Request",
    "Rollout",
    "Service",
    "Side",
    "State",
    "Version",
    "answerable",
    "held_back",
    "promotable",
]
