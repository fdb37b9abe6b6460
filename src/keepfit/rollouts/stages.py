"""The stages of a rollout, as a pipeline names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from keepfit.clock import duration, humanise
from keepfit.errors import ConfigError
from keepfit.parts import Part


class Stage(NamedTuple):
    """A stretch of a rollout: which share of units the challenger answers, for how long at least.

    A share of zero is a shadow: the challenger sees every row, and answers nobody.
    """

    share: float
    length: timedelta

    @property
    def kind(self) -> str:
        """Return ``"shadow"`` or ``"canary"``."""
        return "canary" if self.share else "shadow"


@dataclass(frozen=True, repr=False)
class Shadow(Part):
    """Let the challenger see every row and answer nobody.

    What it would have answered is compared with what the champion answered. A challenger
    that raises, or answers with no number, is found without any risk; one that is worse is
    found as labels come. One that is too slow is found by a server, in which somebody waits for
    each answer. The loop alone minds no slowness: it answers many rows at a time, where trees may
    take 500 times as long as a linear model, though for one row nobody notices the difference.

    Parameters
    ----------
    for_
        How long at least, as ``"1d"``.

    Raises
    ------
    ConfigError
        The length is none, or zero.

    Examples
    --------
    >>> Shadow("1d")
    Shadow("1d")
    """

    for_: str | timedelta

    def __post_init__(self) -> None:
        _length(self.for_, "Shadow")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage that this is."""
        return (Stage(0.0, duration(self.for_)),)


@dataclass(frozen=True, repr=False)
class Canary(Part):
    """Let the challenger answer a small share of units, and the champion all others.

    Who is in the share is a hash of the rollout and the unit: the same in every process, and
    after a restart. Where the challenger fails to answer, the champion does.

    Parameters
    ----------
    share
        Of the units, above 0 and below 1.
    for_
        How long at least, as ``"3d"``.

    Raises
    ------
    ConfigError
        An argument is out of its range.

    Examples
    --------
    >>> Canary(0.05, "3d")
    Canary(0.05, "3d")
    """

    share: float
    for_: str | timedelta

    def __post_init__(self) -> None:
        _share(self.share, "Canary")
        _length(self.for_, "Canary")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one stage that this is."""
        return (Stage(float(self.share), duration(self.for_)),)


@dataclass(frozen=True, repr=False)
class Ramp(Part):
    """Let the challenger answer one share of units after the other, each larger.

    Shares are nested: who is in at 5 % is in at 25 % too.

    Parameters
    ----------
    shares
        Of the units, each above 0 and below 1, in growing order.
    for_
        How long each of them lasts at least, as ``"1d"``.

    Raises
    ------
    ConfigError
        An argument is out of its range, or the shares do not grow.

    Examples
    --------
    >>> Ramp((0.05, 0.25, 0.5), "1d")
    Ramp((0.05, 0.25, 0.5), "1d")
    """

    shares: Sequence[float]
    for_: str | timedelta

    def __post_init__(self) -> None:
        if isinstance(self.shares, int | float | str) or not self.shares:
            raise ConfigError(
                f"Ramp: expected several shares, got {self.shares!r}",
                hint="write Ramp((0.05, 0.25, 0.5), …); for one share there is Canary",
            )
        for share in self.shares:
            _share(share, "Ramp")
        _length(self.for_, "Ramp")
        object.__setattr__(self, "shares", tuple(self.shares))
        _growing([float(share) for share in self.shares], "Ramp")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """A stage per share."""
        return tuple(Stage(float(share), duration(self.for_)) for share in self.shares)


Rollout: TypeAlias = Shadow | Canary | Ramp


def resolve(rollout: Any) -> tuple[Stage, ...]:
    """Return the stages that a pipeline names, in order: of one part, or of a list of them.

    Raises
    ------
    ConfigError
        What was given is no part of a rollout, or a later share is no larger.

    Examples
    --------
    >>> [stage.share for stage in resolve([Shadow("1d"), Ramp((0.1, 0.5), "1d")])]
    [0.0, 0.1, 0.5]
    """
    parts = list(rollout) if isinstance(rollout, list | tuple) else [rollout]
    for part in parts:
        if not isinstance(part, Shadow | Canary | Ramp):
            raise ConfigError(
                f"expected a stage of a rollout, got {part!r}",
                hint='write rollout=[rollouts.Shadow("1d"), rollouts.Canary(0.05, "3d")]',
            )
    stages = tuple(stage for part in parts for stage in part.stages)
    _growing([stage.share for stage in stages], "rollout")
    return stages


def told(share: float) -> str:
    """Return a stage in words.

    Examples
    --------
    >>> told(0.0), told(0.05), told(0.125)
    ('shadow', 'canary 5 %', 'canary 12.5 %')
    """
    return f"canary {share * 100:.3g} %" if share else "shadow"


def _growing(shares: list[float], what: str) -> None:
    for before, after in zip(shares, shares[1:], strict=False):
        if after <= before:
            raise ConfigError(
                f"{what}: expected each share to be larger than the one before, "
                f"got {told(after)} after {told(before)}",
                hint="a shadow comes first, then the smallest canary",
            )


def _share(share: Any, what: str) -> None:
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not 0 < share < 1:
        raise ConfigError(
            f"{what}: expected a share above 0 and below 1, got {share!r}",
            hint="0.05 is every twentieth unit; for none at all there is Shadow",
        )


def _length(length: str | timedelta, what: str) -> None:
    if not (found := duration(length)):
        raise ConfigError(f"{what}: expected a length above zero, got {humanise(found) or found}")
