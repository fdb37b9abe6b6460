"""Triggers: rules that say when to train.

A trigger is a pure function of the facts since the last decision to train and of the
clock. Join them with ``|`` (any), ``&`` (all), ``~`` (not, only beside another in ``&``)
and ``AtLeast``; guards such as a cool-down go around the whole.
"""

from __future__ import annotations

from keepfit.protocols import Trigger
from keepfit.triggers.decay import OnDecay
from keepfit.triggers.guards import Guarded
from keepfit.triggers.joins import (
    AllOf,
    AnyOf,
    AtLeast,
    Not,
    Rule,
    assessed,
    budgets,
    detectors,
    estimated,
    resolved,
)
from keepfit.triggers.rules import AfterRows, Every, OnDrift, OnEvent, OnRelevance

__all__ = [
    "AfterRows",
    "AllOf",
    "AnyOf",
    "AtLeast",
    "Every",
    "Guarded",
    "Not",
    "OnDecay",
    "OnDrift",
    "OnEvent",
    "OnRelevance",
    "Rule",
    "assessed",
    "budgets",
    "default",
    "detectors",
    "estimated",
    "resolve",
]


def default() -> Trigger:
    """Return the trigger of a pipeline that names none: every 30 days, or on decay.

    Examples
    --------
    >>> default()
    Every("30d") | OnDecay()
    """
    return Every("30d") | OnDecay()


def resolve(trigger: Trigger | None) -> Trigger:
    """Return a trigger as the loop uses it; None is the default one.

    Raises
    ------
    ConfigError
        The argument is no trigger, or it is a list, a class or a lone negation.
    """
    return default() if trigger is None else resolved(trigger)
