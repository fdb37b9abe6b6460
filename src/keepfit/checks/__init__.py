"""Checks: questions about a batch, asked before it may train.

Broken data must not look like drift: a check blocks what a season cannot explain, and only
warns of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from keepfit.checks.asking import worst
from keepfit.checks.batches import Fresh, Unique, Volume
from keepfit.checks.classes import Classes
from keepfit.checks.columns import Nulls, Schema
from keepfit.checks.leakage import Leakage
from keepfit.checks.values import Range
from keepfit.errors import ConfigError
from keepfit.protocols import Check

__all__ = [
    "Classes",
    "Fresh",
    "Leakage",
    "Nulls",
    "Range",
    "Schema",
    "Unique",
    "Volume",
    "default",
    "resolve",
    "worst",
]


def default() -> tuple[Check, ...]:
    """Return the checks of a pipeline that names none.

    Examples
    --------
    >>> default()
    (Schema(), Nulls(), Unique(severity="warn", at_most=1.0), Classes())
    """
    return (Schema(), Nulls(), Unique(at_most=1.0, severity="warn"), Classes())


def resolve(checks: Check | Sequence[Check] | None) -> tuple[Check, ...]:
    """Return checks as the loop uses them: None is the default ones, an empty list none.

    Raises
    ------
    ConfigError
        One of them is no check, or a class.
    """
    if checks is None:
        return default()
    listed = list(checks) if isinstance(checks, Sequence) else [checks]
    for check in listed:
        if isinstance(check, type):
            raise ConfigError(
                f"checks: expected a check, got the class {check.__name__}",
                hint=f"write checks.{check.__name__}(...)",
            )
        if not isinstance(check, Check):
            raise ConfigError(
                f"checks: expected a check, got {check!r}",
                hint='such as checks=[checks.Schema(), checks.Fresh("6h")]',
            )
    return tuple(listed)
