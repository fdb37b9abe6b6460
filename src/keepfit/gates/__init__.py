"""Gates: what a challenger must show before it may replace the champion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.gates.approval import Approval
from keepfit.gates.fresher import Fresher
from keepfit.gates.live import harm
from keepfit.gates.moves import moved
from keepfit.gates.paired import (
    HOLDOUT,
    SEVERITY,
    AtLeast,
    Beats,
    Measured,
    NoWorse,
    length_of,
)
from keepfit.gates.past import NoForgetting
from keepfit.gates.serving import FasterThan, Loads, SmallerThan
from keepfit.gates.stable import StableScores
from keepfit.protocols import Gate

__all__ = [
    "Approval",
    "AtLeast",
    "Beats",
    "FasterThan",
    "Fresher",
    "Loads",
    "NoForgetting",
    "NoWorse",
    "SmallerThan",
    "StableScores",
    "combine",
    "harm",
    "holdout",
    "moved",
    "resolve",
]


def resolve(gate: Gate | Iterable[Gate] | None) -> list[Gate]:
    """Return the gates a pipeline names: one, a list of them (all must pass), or the default.

    Raises
    ------
    ConfigError
        What was given is no gate, or a person is asked twice.

    Examples
    --------
    >>> resolve(None), resolve(Beats())
    ([NoWorse()], [Beats()])
    """
    if gate is None:
        return [NoWorse()]
    if isinstance(gate, Sequence) and not isinstance(gate, str):
        checked = [_checked(one) for one in gate]
        if sum(isinstance(one, Approval) for one in checked) > 1:
            raise ConfigError(
                f"expected one Approval at most, got {checked!r}",
                hint="one person's word decides: keep one of them",
            )
        return checked
    return [_checked(gate)]


def combine(verdicts: Iterable[Verdict]) -> Answer:
    """Return what the gates say together: promote when all do, refuse when one does.

    Examples
    --------
    >>> combine([]).value
    'promote'
    """
    answers = (verdict.answer for verdict in verdicts)
    return max(answers, key=SEVERITY.__getitem__, default=Answer.PROMOTE)


def holdout(gates: Iterable[Gate]) -> float | timedelta | None:
    """Return how many rows all gates together need: the largest share, or the longest time.

    A time outranks shares, since it was stated; None when there are no gates. `Approval` needs
    no rows, but a person who is asked alone wants to see figures.

    Examples
    --------
    >>> holdout([NoWorse(), Beats(holdout=0.3)])
    0.3
    """
    every = list(gates)
    measured = [gate for gate in every if not isinstance(gate, Approval)] or every
    asked = [length_of(getattr(gate, "holdout", HOLDOUT), "gate") for gate in measured]
    times = [one for one in asked if isinstance(one, timedelta)]
    return (
        max(times) if times else max((one for one in asked if isinstance(one, float)), default=None)
    )


def _checked(gate: Any) -> Gate:
    if isinstance(gate, Gate) and not isinstance(gate, type):
        return gate
    if isinstance(gate, type) and issubclass(gate, Measured):
        hint = f"make one: gates.{gate.__name__}({'0.7' if gate is AtLeast else ''})"
    else:
        hint = "write gate=gates.NoWorse(within=0.01), or a list of gates that must all pass"
    raise ConfigError(f"expected a gate, got {gate!r}", hint=hint)
