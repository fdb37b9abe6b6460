"""Who answers whom: a hash of the rollout and the unit, the same everywhere and at any time."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

_ALL = 2.0**64


class Assignment:
    """Says of each unit whether the challenger answers it.

    Parameters
    ----------
    rollout
        The rollout's id: another one draws other units.
    share
        Of the units. A larger share of the same rollout holds all units of a smaller one.

    Examples
    --------
    >>> fifth = Assignment("churn/v3/41", 0.2)
    >>> sum(fifth.takes(unit) for unit in range(10_000))
    1980
    >>> fifth.takes(7) == fifth.takes("7") == fifth.takes(7.0)
    True
    """

    __slots__ = ("_hash", "_limit")

    def __init__(self, rollout: str, share: float) -> None:
        self._hash = blake2b(f"{rollout}\n".encode(), digest_size=8)
        self._limit = share * _ALL

    def takes(self, unit: Any) -> bool:
        """Return whether the challenger answers a unit."""
        hashed = self._hash.copy()
        hashed.update(_text(unit).encode())
        return int.from_bytes(hashed.digest(), "big") < self._limit

    def of(self, units: Iterable[Any]) -> list[bool]:
        """Return for each of some units whether the challenger answers it."""
        return [self.takes(unit) for unit in units]


def _text(unit: Any) -> str:
    """Return a unit as text: a number is the same one whether it came as 7, 7.0 or ``"7"``."""
    if isinstance(unit, float) and unit.is_integer():
        return str(int(unit))
    return str(unit)
