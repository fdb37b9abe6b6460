"""When a backtest steps: the grid of moments through a history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.clock import duration, utc
from keepfit.errors import ConfigError, SourceError

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.pipeline import Pipeline

STEPS = 100
"""Steps a backtest takes through the history when no cadence is stated."""

WARM_UP = 0.1
"""Share of the rows that trains the first model when no start is stated."""

STRAY = 0.01
"""Share of the rows at either end whose times say nothing of the usual step: one may be misdated."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The first and the last row, when labels end, when the first model is trained, and the step."""

    first: datetime
    last: datetime
    end: datetime
    since: datetime
    every: timedelta
    training_time: timedelta

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        history: Batch,
        since: str | datetime | None,
        every: str | timedelta | None,
        training_time: str | timedelta,
    ) -> Plan:
        """Return the plan of a history.

        Raises
        ------
        SourceError
            There is nothing to read.
        ConfigError
            ``since`` lies outside the history, or there is one moment only.
        """
        arrived = history.rows.get_column("_arrived_at").sort()
        if arrived.is_empty():
            raise SourceError(
                f"expected rows to replay, got none from {pipeline.source!r}",
                hint="`keepfit check FILE` shows what the source finds",
            )
        first, last = arrived[0], arrived[-1]
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        if first == last:
            raise ConfigError(
                f"expected rows from more than one moment, got {arrived.len()} rows at {first:%Y-%m-%d %H:%M}",
                hint="name the column of event times: time=",
            )
        step = duration(every) if every is not None else pipeline.every or _step(arrived)
        start = _warm(arrived) if since is None else utc(since)
        if not first < start <= last:
            raise ConfigError(
                f"expected since to be after the first row and not after the last, got {start:%Y-%m-%d %H:%M}",
                hint=f"the rows run from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}",
            )
        known = history.labels.get_column("_known_at").max()
        end = max(last, known) if isinstance(known, datetime) else last
        end = max(end, last + (pipeline.source.roles.label_delay or timedelta(0)))
        return cls(first, last, end, start, step, duration(training_time))

    @property
    def steps(self) -> int:
        """Steps from the first training to the last row."""
        return max(1, -(-(self.last - self.since) // self.every))

    def moments(self) -> list[datetime]:
        """Return the moments of the steps: a grid through ``since``, until the last row is in."""
        before = -(-(self.since - self.first) // self.every)
        moment = self.since - (before - 1) * self.every
        grid = []
        while moment < self.last + self.every:
            grid.append(moment)
            moment += self.every
        return grid


def _step(arrived: pl.Series) -> timedelta:
    """Return the step that takes rows as they mostly come through in so many steps."""
    span = (_quantile(arrived, 1 - STRAY) - _quantile(arrived, STRAY)) / (1 - 2 * STRAY)
    return (span or arrived[-1] - arrived[0]) / STEPS


def _warm(arrived: pl.Series) -> datetime:
    """Return when enough rows have come to train the first model.

    It hangs on rows and not on time, of which a single misdated row takes most. Where the first
    moment brought as many, time tells.
    """
    first, last = arrived[0], arrived[-1]
    start = _quantile(arrived, WARM_UP)
    return start if start > first else first + (last - first) * WARM_UP


def _quantile(arrived: pl.Series, share: float) -> datetime:
    """Return the moment up to which a share of rows in order has come, between two in proportion."""
    place = share * (arrived.len() - 1)
    below: datetime = arrived[int(place)]
    above: datetime = arrived[min(int(place) + 1, arrived.len() - 1)]
    return below + (above - below) * (place - int(place))
