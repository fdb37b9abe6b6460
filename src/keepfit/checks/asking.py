"""What the checks share: how they ask, and how they word and grade what they found."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit.batch import RESERVED, TIME
from keepfit.errors import ConfigError
from keepfit.facts import Finding, Outcome
from keepfit.parts import Part

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

ALPHA = 0.001
"""The share of sound batches in which chance alone may make a check warn."""

_SHOWN = 20
"""Findings that a check gives at most, the worst ones; the rest are counted."""

_ORDER = (Outcome.BLOCK, Outcome.WARN, Outcome.PASS, Outcome.NOT_APPLICABLE)


@dataclass(frozen=True, repr=False)
class Asking(Part, ABC):
    """Base of checks that look at the rows of a batch.

    Parameters
    ----------
    severity
        ``"block"``: what is broken blocks the batch; ``"warn"``: it only warns.
    """

    severity: str = field(default="block", kw_only=True)

    def __post_init__(self) -> None:
        one_of(self, "severity", self.severity, ("block", "warn"))

    @property
    def name(self) -> str:
        """The check's name, as findings show it."""
        return type(self).__name__

    def check(self, batch: Batch, context: CheckContext) -> Sequence[Finding]:
        """Return one finding or more; with nothing to say, pass or not applicable."""
        if batch.rows.is_empty():
            return (self._not_applicable("no rows in the batch"),)
        return _shortened([self._graded(found) for found in self._ask(batch, context)])

    @abstractmethod
    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        """Yield one finding or more about a batch that has rows."""

    def _graded(self, found: Finding) -> Finding:
        if found.outcome == Outcome.BLOCK and self.severity == "warn":
            from msgspec.structs import replace

            return replace(found, outcome=Outcome.WARN)
        return found

    def _found(self, outcome: Outcome, message: str, **place: Any) -> Finding:
        return Finding(check=self.name, outcome=outcome, message=message, **place)

    def _block(self, message: str, **place: Any) -> Finding:
        return self._found(Outcome.BLOCK, message, **place)

    def _warn(self, message: str, **place: Any) -> Finding:
        return self._found(Outcome.WARN, message, **place)

    def _pass(self, message: str, **place: Any) -> Finding:
        return self._found(Outcome.PASS, message, **place)

    def _not_applicable(self, message: str, **place: Any) -> Finding:
        return self._found(Outcome.NOT_APPLICABLE, message, **place)


def worst(findings: Iterable[Finding]) -> Outcome:
    """Return the worst outcome among findings; of none at all, not applicable.

    Examples
    --------
    >>> worst([Finding(check="Fresh", outcome=Outcome.PASS, message="2 h old")])
    <Outcome.PASS: 'pass'>
    """
    outcomes = {finding.outcome for finding in findings}
    return next((outcome for outcome in _ORDER if outcome in outcomes), Outcome.NOT_APPLICABLE)


def one_of(part: object, argument: str, value: object, known: Sequence[str]) -> None:
    """Raise a `ConfigError` for an argument that is none of the known words."""
    if value not in known:
        words = " or ".join(f'"{word}"' for word in known)
        name = type(part).__name__
        raise ConfigError(f"{name}: expected {argument} to be {words}, got {value!r}")


def share(part: object, argument: str, value: float | None) -> None:
    """Raise a `ConfigError` for an argument that is no share from 0 to 1."""
    if value is not None and not 0.0 <= value <= 1.0:
        raise ConfigError(
            f"{type(part).__name__}: expected {argument} to be a share from 0 to 1, got {value!r}"
        )


def names(part: object, columns: Sequence[str] | None) -> None:
    """Raise a `ConfigError` for columns that are not a list of names."""
    if isinstance(columns, str):
        raise ConfigError(
            f"{type(part).__name__}: expected a list of columns, got {columns!r}",
            hint=f"write columns=[{columns!r}]",
        )


def features(rows: pl.DataFrame) -> list[str]:
    """Return the columns that are not keepfit's own."""
    return [name for name in rows.columns if name not in RESERVED]


def exceeds(found: int, rows: int, expected: float, questions: int) -> bool:
    """Return whether a count is beyond what chance makes of an expected share.

    Chernoff's bound: chance alone reaches the count with a probability of at most
    exp(-rows * KL(found/rows, expected)); that level is spent over all questions.
    """
    seen = found / rows
    if seen <= expected:
        return False
    if expected <= 0:
        return True
    rest = (1 - seen) * math.log((1 - seen) / (1 - expected)) if seen < 1 else 0.0
    divergence = seen * math.log(seen / expected) + rest
    return rows * divergence > math.log(max(1, questions) / ALPHA)


def where(rows: pl.DataFrame) -> str:
    """Return the event times that rows span, as people write them."""
    if TIME not in rows.columns:
        return f"{rows.height:,} rows"
    times = rows.get_column(TIME)
    first, last = times.min(), times.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return f"{rows.height:,} rows"
    end = "%H:%M" if first.date() == last.date() else "%Y-%m-%d %H:%M"
    return f"rows {first:%Y-%m-%d %H:%M} to {last.strftime(end)}"


def percent(value: float) -> str:
    """Return a share in per cent; one that is not zero never reads as zero."""
    if 0 < value < 0.0005:
        return "< 0.1 %"
    return f"{100 * value:.1f} %".replace(".0 %", " %")


def _shortened(findings: list[Finding]) -> Sequence[Finding]:
    if len(findings) <= _SHOWN:
        return tuple(findings)
    ordered = sorted(findings, key=lambda found: _ORDER.index(found.outcome))
    kept, rest = ordered[: _SHOWN - 1], ordered[_SHOWN - 1 :]
    message = f"and {len(rest):,} more findings like these"
    return (*kept, Finding(check=rest[0].check, outcome=worst(rest), message=message))
