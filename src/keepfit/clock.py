"""Time: durations, schedules, the wall clock and the simulated one."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from keepfit.errors import ConfigError

_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = re.compile(r"(\d+)\s*(s|min|h|d|w)")
_RATE = re.compile(r"(?P<amount>\S+)\s+per\s+(?P<period>\S+)")


def duration(text: str | timedelta) -> timedelta:
    """Return the length of time that a text such as ``"7d"`` names.

    Raises
    ------
    ConfigError
        The text is not a whole number and a unit, or the length is negative.

    Examples
    --------
    >>> duration("90s"), duration("2w")
    (datetime.timedelta(seconds=90), datetime.timedelta(days=14))
    """
    if isinstance(text, timedelta):
        if text < timedelta(0):
            raise ConfigError(f"expected a duration of zero or more, got {text!r}")
        return text
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"expected a duration, got {text!r}",
            hint='write a whole number and a unit: "90s", "15min", "6h", "7d" or "2w"',
        )
    try:
        return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ConfigError(f"expected a duration below 2.7 million years, got {text!r}") from None


def rate(text: object, what: str) -> tuple[int | timedelta, timedelta]:
    """Return the amount, a count or a length of time, and the period of a rate.

    Rates are written as ``"1 per 90d"`` or ``"600s per 30d"``.

    Raises
    ------
    ConfigError
        The text is no rate, or one of its parts is zero.

    Examples
    --------
    >>> rate("3 per 30d", "budget")
    (3, datetime.timedelta(days=30))
    """
    hint = 'write "3 per 30d" or "600s per 30d"'
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"{what}: expected a rate, got {text!r}", hint=hint)
    amount = match["amount"]
    try:
        many = int(amount) if amount.isdecimal() else duration(amount)
        period = duration(match["period"])
    except ConfigError as error:
        raise ConfigError(
            f"{what}: expected a rate, got {text!r}: {error.message}", hint=hint
        ) from None
    if not many or not period:
        raise ConfigError(
            f"{what}: expected a rate above zero over some time, got {text!r}", hint=hint
        )
    return many, period


def count_rate(text: object, what: str) -> tuple[int, timedelta]:
    """Return the count and the period of a rate at which something is counted.

    Raises
    ------
    ConfigError
        The text is no such rate, or one of its parts is zero.

    Examples
    --------
    >>> count_rate("1 per 90d", "alarms")
    (1, datetime.timedelta(days=90))
    """
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is not None and match["amount"].isdecimal() and int(match["amount"]):
        with contextlib.suppress(ConfigError):
            if period := duration(match["period"]):
                return int(match["amount"]), period
    raise ConfigError(
        f"{what}: expected a count above zero per length of time, got {text!r}",
        hint='write it as "1 per 90d"',
    )


def humanise(length: timedelta) -> str:
    """Return a length of time as a person writes it, in its two largest units.

    Examples
    --------
    >>> humanise(timedelta(days=28)), humanise(timedelta(seconds=151))
    ('28 d', '2 m 31 s')
    """
    seconds = length.total_seconds()
    if seconds < 0:
        return "-" + humanise(-length)
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    total = round(seconds)
    parts = [
        (total // 86400, "d"),
        (total // 3600 % 24, "h"),
        (total // 60 % 60, "m"),
        (total % 60, "s"),
    ]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def utc(moment: datetime | str) -> datetime:
    """Return a moment in UTC; a text is ISO 8601, and without a zone it is UTC.

    Raises
    ------
    ConfigError
        The text is not a date or a date and time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise ConfigError(
                f"expected a date or a date and time, got {moment!r}",
                hint='write it as "2024-01-31" or "2024-01-31T06:00:00Z"',
            ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def is_cron(text: str) -> bool:
    """Return whether a text has the five fields of a cron expression."""
    return len(text.split()) == 5


def cron_after(expression: str, moment: datetime) -> datetime:
    """Return the first moment after another at which a cron expression is due, in UTC.

    Raises
    ------
    ConfigError
        The expression is not one that cron knows, or it never comes due.
    """
    from cronsim import CronSim, CronSimError

    try:
        due: Iterator[datetime] = CronSim(expression, moment.astimezone(UTC))
        return next(due)
    except (CronSimError, StopIteration):
        raise ConfigError(
            f"expected a cron expression that comes due, got {expression!r}",
            hint='five fields, minute hour day month weekday: "0 3 * * 1" is Mondays at 03:00 UTC',
        ) from None


class Clock(Protocol):
    """Where a loop learns what time it is."""

    def now(self) -> datetime:
        """Return the moment, in UTC."""

    def sleep(self, length: timedelta) -> None:
        """Let a length of time pass."""


class WallClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Return the moment, in UTC."""
        return datetime.now(UTC)

    def sleep(self, length: timedelta) -> None:
        """Let a length of time pass."""
        time.sleep(max(0.0, length.total_seconds()))


class SimulatedClock:
    """A clock that moves only when it is told to.

    Examples
    --------
    >>> clock = SimulatedClock(utc("2024-01-01"))
    >>> clock.sleep(timedelta(days=1))
    >>> clock.now().isoformat()
    '2024-01-02T00:00:00+00:00'
    """

    def __init__(self, start: datetime) -> None:
        self._now = utc(start)

    def now(self) -> datetime:
        """Return the moment, in UTC."""
        return self._now

    def sleep(self, length: timedelta) -> None:
        """Let a length of time pass."""
        self._now += length
