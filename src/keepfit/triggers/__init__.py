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
    probing,
    resolved,
)
from keepfit.triggers.pays import Pays
from keepfit.triggers.rules import AfterRows, EachStep, Every, OnDrift, OnEvent, OnRelevance

__all__ = [
    "AfterRows",
    "AllOf",
    "AnyOf",
    "AtLeast",
    "EachStep",
    "Every",
    "Guarded",
    "Not",
    "OnDecay",
    "OnDrift",
    "OnEvent",
    "OnRelevance",
    "Pays",
    "Rule",
    "assessed",
    "budgets",
    "default",
    "detectors",
    "estimated",
    "probing",
    "resolve",
]


def default() -> Trigger:
    """Return the trigger of a pipeline that names none: each step, and recipes say when they run.

    Examples
    --------
    >>> default()
    EachStep()
    """
    return EachStep()


def resolve(trigger: Trigger | None) -> Trigger:
    """Return a trigger as the loop uses it; None is the default one.

    Raises
    ------
    ConfigError
        The argument is no trigger, or it is a list, a class or a lone negation.
    """
    return default() if trigger is None else resolved(trigger)
