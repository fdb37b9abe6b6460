"""What a pipeline is given, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from keepfit import clock, learners
from keepfit.challenger import Challenger, default
from keepfit.errors import ConfigError
from keepfit.explore import Explore
from keepfit.protocols import Learner, Source

FINAL_FITS = ("all", "update")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def named(name: str) -> str:
    """Return a pipeline's name.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    if not _NAME.fullmatch(str(name)):
        raise ConfigError(
            f"expected a pipeline's name, got {name!r}",
            hint="a letter, then letters, digits, _ and -; at most 64 in all",
        )
    return name


def sourced(source: Source, labels: Source | None) -> Source:
    """Return a source with its labels, joined where they come from a second one.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    for value, what in ((source, "source"), (labels, "labels")):
        if value is not None and not isinstance(value, Source):
            raise ConfigError(
                f"expected a source for {what}, got {type(value).__name__}",
                hint='wrap it: sources.Frame(frame, time="seen_at", label="churned") or sources.Parquet("events/", …)',
            )
    if labels is not None:
        from keepfit.sources import WithLabels

        return WithLabels(source, labels)
    if source.roles.label is None:
        raise ConfigError(
            f"expected a label, got none in {source!r}",
            hint='name its column, label="churned", or pass labels=, a second source joined by id',
        )
    return source


def metric(value: Any) -> Any:
    """Return a metric that is known.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    from keepfit import metrics

    if value is not None:
        metrics.known(value)
    return value


def columns(
    features: Sequence[str] | None, exclude: Sequence[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the columns to learn from, or those to leave out.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    for value in (features, exclude):
        if isinstance(value, str):
            raise ConfigError(
                f"expected a list of columns, got the text {value!r}", hint=f"write [{value!r}]"
            )
    if features is not None and exclude:
        raise ConfigError("expected features or exclude, got both", hint="leave one of them out")
    if features is not None and not features:
        raise ConfigError(
            "expected at least one feature, got an empty list", hint="leave features out to use all"
        )
    return (None if features is None else tuple(features)), tuple(exclude)


def unit(column: str | None) -> str | None:
    """Return the column whose values a canary keeps together.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    if column is not None and (not isinstance(column, str) or not column):
        raise ConfigError(f"expected unit to be a column, got {column!r}")
    return column


def explore(value: Explore | None, metric: Any) -> Explore | None:
    """Return what is explored, once the metric can weigh rows.

    Raises
    ------
    ConfigError
        It is written wrongly, or the metric takes no weights.
    """
    if value is None:
        return None
    if not isinstance(value, Explore):
        raise ConfigError(
            f"expected explore to be an Explore, got {value!r}",
            hint="write explore=Explore(0.05, passes_below=0.4)",
        )
    from keepfit import metrics

    if not metrics.weighs(metric):
        raise ConfigError(
            f"expected a metric that takes weights beside explore=, got {metric!r}",
            hint="the built-in ones do, and functions that take sample_weight",
        )
    return value


def breaker(text: str) -> tuple[int, timedelta]:
    """Return how many champions may be taken back, and within what time.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    return clock.count_rate(text, "breaker")


def positive(what: str, length: timedelta) -> timedelta:
    """Return a length of time above zero.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    if length <= timedelta(0):
        raise ConfigError(f"expected {what} to be longer than nothing, got {length}")
    return length


def challengers(
    value: Challenger | Sequence[Challenger] | None, learner: Learner
) -> tuple[Challenger, ...]:
    """Return the recipes, each with a name of its own; the default ones when none is given.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    listed = (
        default(learner)
        if value is None
        else [value]
        if isinstance(value, Challenger)
        else list(value)
    )
    if not listed:
        raise ConfigError(
            "expected at least one challenger, got an empty list", hint="leave challengers out"
        )
    for challenger in listed:
        if not isinstance(challenger, Challenger):
            raise ConfigError(
                f"expected a Challenger, got {challenger!r}",
                hint=f"write challengers=[Challenger(select={challenger!r})]",
            )
        learners.validate(challenger.learner or learner, challenger.start, challenger.update)
    if all(challenger.update == "calibration" for challenger in listed):
        raise ConfigError(
            "expected a challenger that trains the first model, got calibration alone",
            hint="add Challenger() beside it",
        )
    names = [challenger.name for challenger in listed]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"expected challengers that differ, got {name!r} twice", hint="give each a name="
            )
    return tuple(listed)


def final_fit(value: str | None, challengers: Sequence[Challenger], *, default: bool) -> str | None:
    """Return how a winner learns its holdout.

    Raises
    ------
    ConfigError
        It is written wrongly.
    """
    updates = any(one.updates for one in challengers)
    if value is None:
        return "update" if default and updates else None
    if value not in FINAL_FITS:
        raise ConfigError(
            f"expected final_fit to be {' or '.join(map(repr, FINAL_FITS))}, or None, got {value!r}"
        )
    if value == "update" and not updates:
        raise ConfigError(
            "expected a recipe that updates the champion beside final_fit='update', got none",
            hint='add Challenger(select=selection.SinceLast(), start="champion", update="leaves")',
        )
    return value
