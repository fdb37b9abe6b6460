"""Streams made up for tests, and loops over them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from keepfit import Challenger, Pipeline, executors, sources
from keepfit.clock import SimulatedClock
from keepfit.facts import Entry
from keepfit.loop import Loop

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EVE = START - timedelta(microseconds=1)
"""Days later a day is over and the first row of the next has not come: it would be a batch alone."""


def stream(
    days: int = 60,
    per_day: int = 100,
    *,
    seed: int = 0,
    flip_at: int | None = None,
    noise: float = 0.5,
    shift_at: int | None = None,
) -> pl.DataFrame:
    """Return rows of two numbers and a category; the label flips its meaning on day ``flip_at``."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    at = np.arange(n) * (86_400_000_000 // per_day)
    day = np.arange(n) // per_day
    x = rng.normal(size=n)
    if shift_at is not None:
        x = x + 3.0 * (day >= shift_at)
    y = rng.normal(size=n)
    kind = rng.choice(["a", "b", "c"], size=n)
    sign = np.where(day >= flip_at, -1.0, 1.0) if flip_at is not None else 1.0
    label = (sign * (x - x.mean() + 0.5 * y) + noise * rng.normal(size=n) > 0).astype(np.int64)
    epoch = int(START.timestamp() * 1_000_000)
    return pl.DataFrame(
        {
            "id": np.arange(n),
            "time": pl.Series(at + epoch).cast(pl.Datetime("us", "UTC")),
            "x": x,
            "y": y,
            "kind": kind,
            "label": label,
        }
    )


def source(frame: pl.DataFrame, **roles: Any) -> sources.Frame:
    """Return a source over a made-up stream."""
    return sources.Frame(frame, **({"id": "id", "time": "time", "label": "label"} | roles))


def pipeline(frame: Any, home: Path, **parts: Any) -> Pipeline:
    """Return a small pipeline that trains in this process."""
    roles = parts.pop("roles", {})
    given = source(frame, **roles) if isinstance(frame, pl.DataFrame) else frame
    defaults: dict[str, Any] = {
        "metric": "roc_auc",
        "every": "1d",
        "home": home,
        "executor": executors.Inline(),
        "challengers": [Challenger()],
    }
    learner = parts.pop("learner", None)
    learner = LogisticRegression() if learner is None else learner
    return Pipeline("churn", given, learner, **(defaults | parts))


def live(made: Pipeline, start: datetime = EVE) -> Loop:
    """Return a live loop on real stores, whose clock the test moves."""
    return Loop(made, made.memory(), MovedClock(start))


class MovedClock:
    """A wall clock that a test moves by hand: to the loop it is live, not a backtest."""

    def __init__(self, start: datetime) -> None:
        self.inner = SimulatedClock(start)

    def now(self) -> datetime:
        """Return the moment."""
        return self.inner.now()

    def sleep(self, length: timedelta) -> None:
        """Move on."""
        self.inner.sleep(length)


def play(loop: Loop, days: int, every: timedelta = DAY) -> list[Entry]:
    """Step once a day, and return all facts."""
    entries: list[Entry] = []
    for _ in range(days):
        loop.clock.sleep(every)
        step = loop.step()
        entries.extend(step.entries)
        while step.backlog:
            step = loop.step()
            entries.extend(step.entries)
    return entries


def kinds(entries: list[Entry]) -> list[str]:
    """Return the kinds of facts, in order."""
    return [entry.fact.kind for entry in entries]
