"""So much per length of time, as ``"1 per 90d"`` or ``"600s per 30d"``."""

from __future__ import annotations

import re
from datetime import timedelta

from keepfit.clock import duration
from keepfit.errors import ConfigError

_RATE = re.compile(r"(?P<amount>\S+)\s+per\s+(?P<period>\S+)")


def rate(text: object, what: str) -> tuple[int | timedelta, timedelta]:
    """Return the amount, a count or a length of time, and the period of a rate.

    Raises
    ------
    ConfigError
        The text is no rate, or one of its parts is zero.

    Examples
    --------
    >>> rate("3 per 30d", "budget")
    (3, datetime.timedelta(days=30))
    """
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"{what}: expected a rate, got {text!r}", hint='write "3 per 30d" or "600s per 30d"'
        )
    amount = match["amount"]
    many = int(amount) if amount.isdecimal() else duration(amount)
    period = duration(match["period"])
    if not many or not period:
        raise ConfigError(f"{what}: expected a rate above zero over some time, got {text!r}")
    return many, period
