"""How triggers are joined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn, cast

from keepfit.errors import ConfigError
from keepfit.facts import Decision
from keepfit.parts import Part
from keepfit.protocols import Detector, Evidence, Trigger

if TYPE_CHECKING:
    from keepfit.triggers.pays import Pays


class Rule(Part, ABC):
    """Base of triggers: joins with ``|``, ``&`` and ``~``.

    A trigger of one's own is a frozen dataclass with ``decide`` and without memory.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class AfterLabels(Rule):
    ...     rows: int
    ...
    ...     def decide(self, evidence: Evidence) -> Decision:
    ...         reason = f"{evidence.labelled} labelled rows, {self.rows} asked for"
    ...         train = evidence.labelled >= self.rows
    ...         return Decision(train=train, trigger=self.name, reason=reason)
    >>> AfterLabels(100) & ~AfterLabels(200)
    AfterLabels(100) & ~AfterLabels(200)
    """

    @abstractmethod
    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""

    def __or__(self, other: Trigger) -> AnyOf:
        return AnyOf(*_flat(AnyOf, self, other))

    def __ror__(self, other: Trigger) -> AnyOf:
        return AnyOf(*_flat(AnyOf, other, self))

    def __and__(self, other: Trigger) -> AllOf:
        return AllOf(*_flat(AllOf, self, other))

    def __rand__(self, other: Trigger) -> AllOf:
        return AllOf(*_flat(AllOf, other, self))

    def __invert__(self) -> Rule:
        return Not(self)

    def __bool__(self) -> NoReturn:
        # `a or b` would silently be a.
        raise ConfigError(
            f"expected a decision, got the trigger {self!r} where true or false is asked",
            hint="join triggers with | & ~, not with `or`, `and`, `not`",
        )


@dataclass(frozen=True, init=False, repr=False)
class _Joined(Rule):
    """Base of triggers made of others; all parts are asked, and all are recorded."""

    reads_estimates: ClassVar[bool] = False

    triggers: tuple[Trigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        object.__setattr__(self, "triggers", tuple(_checked(trigger) for trigger in triggers))

    @property
    def _needs(self) -> int:
        raise NotImplementedError

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        parts = tuple(trigger.decide(evidence) for trigger in self.triggers)
        yes = [part.reason for part in parts if part.train]
        no = [part.reason for part in parts if not part.train]
        train = len(yes) >= self._needs
        return Decision(
            train=train,
            trigger=self.name,
            reason="; ".join(yes if train else no),
            evidence={"yes": len(yes), "needs": self._needs, "of": len(parts)},
            parts=parts,
        )


class AnyOf(_Joined):
    """Train when any of the triggers says so; written ``a | b``.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnDecay
    >>> Every("28d") | OnDecay()
    Every("28d") | OnDecay()
    """

    def __init__(self, *triggers: Trigger) -> None:
        super().__init__(*triggers)
        _no_negation(self.triggers, "|")

    def __repr__(self) -> str:
        return " | ".join(_inside(trigger) for trigger in self.triggers)

    @property
    def _needs(self) -> int:
        return 1


class AllOf(_Joined):
    """Train when all of the triggers say so; written ``a & b`` or ``a & ~b``.

    Examples
    --------
    >>> from keepfit.triggers import AfterRows, Every
    >>> Every("7d") & AfterRows(1_000)
    Every("7d") & AfterRows(1000)
    """

    def __repr__(self) -> str:
        return " & ".join(_inside(trigger) for trigger in self.triggers)

    @property
    def _needs(self) -> int:
        return len(self.triggers)


@dataclass(frozen=True, init=False, repr=False)
class AtLeast(_Joined):
    """Train when at least so many of the triggers say so.

    Raises
    ------
    ConfigError
        The count is below one or above the number of triggers, or one is a negation.

    Examples
    --------
    >>> from keepfit.triggers import AfterRows, Every, OnDrift
    >>> AtLeast(2, Every("28d"), OnDrift(), AfterRows(10_000))
    AtLeast(2, Every("28d"), OnDrift(), AfterRows(10000))
    """

    n: int

    def __init__(self, n: int, *triggers: Trigger) -> None:
        super().__init__(*triggers)
        _no_negation(self.triggers, "AtLeast")
        if not 1 <= n <= len(triggers):
            raise ConfigError(
                f"AtLeast: expected a count from 1 to the {len(triggers)} triggers, got {n!r}"
            )
        object.__setattr__(self, "n", n)

    def __repr__(self) -> str:
        return f"AtLeast({self.n}, {', '.join(repr(trigger) for trigger in self.triggers)})"

    @property
    def _needs(self) -> int:
        return self.n


@dataclass(frozen=True, repr=False)
class Not(Rule):
    """Hold back while a trigger says yes; written ``~a``, and only beside another in ``&``.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnEvent
    >>> Every("7d") & ~OnEvent("freeze")
    Every("7d") & ~OnEvent("freeze")
    """

    reads_estimates: ClassVar[bool] = False

    trigger: Trigger

    def __repr__(self) -> str:
        return f"~{_inside(self.trigger)}"

    def __invert__(self) -> Rule:
        return cast(Rule, self.trigger)

    def decide(self, evidence: Evidence) -> Decision:
        """Return yes or no, with the reason and what it rests on."""
        part = self.trigger.decide(evidence)
        return Decision(
            train=not part.train,
            trigger=self.name,
            reason=f"{'held back: ' if part.train else ''}{part.reason}",
            parts=(part,),
        )


def resolved(trigger: Trigger) -> Trigger:
    """Return a trigger that may stand alone.

    Raises
    ------
    ConfigError
        The argument is no trigger, or it is a list, a class or a lone negation.
    """
    checked = _checked(trigger)
    _no_negation((checked,), "the whole trigger")
    return checked


def detectors(trigger: Trigger) -> tuple[Detector, ...]:
    """Return the drift detectors that a trigger names, once each.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnDrift
    >>> detectors(Every("28d") | OnDrift())
    ()
    """
    named = (getattr(part, "detector", None) for part in _tree(trigger))
    # A dict, because it keeps the order in which the user wrote them.
    return tuple({detector.name: detector for detector in named if detector is not None}.values())


def budgets(trigger: Trigger) -> tuple[str, ...]:
    """Return the budgets of alarms that a trigger names in place of a detector, once each.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnDrift
    >>> budgets(Every("28d") | OnDrift())
    ('1 per 90d',)
    """
    named = (getattr(part, "budget_of_alarms", None) for part in _tree(trigger))
    return tuple(dict.fromkeys(budget for budget in named if budget is not None))


def assessed(trigger: Trigger) -> bool:
    """Return whether a trigger asks what each batch means to the champion.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnRelevance
    >>> assessed(Every("28d")), assessed(Every("28d") | OnRelevance())
    (False, True)
    """
    return any(getattr(part, "asks_relevance", False) for part in _tree(trigger))


def probing(trigger: Trigger) -> tuple[Pays, ...]:
    """Return the parts of a trigger that ask what a fresh model would gain.

    Examples
    --------
    >>> from keepfit.triggers import Every, Pays
    >>> probing(Every("28d")), probing(Every("28d") | Pays())
    ((), (Pays(),))
    """
    asking = (part for part in _tree(trigger) if hasattr(part, "wants_probe"))
    return tuple(cast("Pays", part) for part in asking)


def estimated(trigger: Trigger) -> bool:
    """Return whether a trigger may look at estimates of performance; one's own may.

    Examples
    --------
    >>> from keepfit.triggers import Every, OnDecay
    >>> estimated(Every("28d")), estimated(Every("28d") | OnDecay())
    (False, True)
    """
    return any(getattr(part, "reads_estimates", True) for part in _tree(trigger))


def _tree(trigger: Trigger) -> Iterator[Trigger]:
    yield trigger
    inner = getattr(trigger, "triggers", None) or (getattr(trigger, "trigger", None),)
    for part in inner:
        if part is not None:
            yield from _tree(part)


def _checked(trigger: Trigger) -> Trigger:
    if isinstance(trigger, list | tuple | set):
        raise ConfigError(
            f"expected one trigger, got a {type(trigger).__name__} of {len(trigger)}",
            hint="write a | b for any of them, a & b for all",
        )
    if isinstance(trigger, type):
        raise ConfigError(
            f"expected a trigger, got the class {trigger.__name__}",
            hint=f"write triggers.{trigger.__name__}(...)",
        )
    if not callable(getattr(trigger, "decide", None)):
        raise ConfigError(
            f"expected a trigger, got {trigger!r}", hint='such as triggers.Every("28d")'
        )
    return trigger


def _negated(trigger: Trigger) -> bool:
    if isinstance(trigger, AllOf):
        return all(_negated(part) for part in trigger.triggers)
    return isinstance(trigger, Not)


def _no_negation(triggers: tuple[Trigger, ...], where: str) -> None:
    negation = next((trigger for trigger in triggers if _negated(trigger)), None)
    if negation is not None:
        raise ConfigError(
            f"expected {negation!r} beside another trigger in &, got it in {where}",
            hint="a negation alone is true nearly always: write a & ~b",
        )


def _flat(kind: type[_Joined], *triggers: Trigger) -> Iterator[Trigger]:
    for trigger in triggers:
        yield from trigger.triggers if type(trigger) is kind else (trigger,)


def _inside(trigger: Trigger) -> str:
    """Return a trigger as a part of another, in brackets where ``|`` or ``&`` would be torn."""
    return f"({trigger!r})" if isinstance(trigger, AnyOf | AllOf) else repr(trigger)
