"""Homes in which a model serves, and what a server wrote into their journals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from keepfit import sources, triggers
from keepfit.home import open_memory
from keepfit.journal import ANSWER, LABEL, New, Writer, journal_of
from keepfit.landing import served
from keepfit.loop import Loop
from tests.worlds import DAY, START, MovedClock, pipeline, stream

SECOND = timedelta(seconds=1)


def micro(moment: datetime) -> int:
    return (moment - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(microseconds=1)


def sent(frame: pl.DataFrame, version: str, scores: Sequence[float], at: datetime) -> list[New]:
    """Return rows as a server keeps them, one a second."""
    rows = frame.drop("time", "label").to_dicts()
    return [
        New(
            ANSWER,
            row["id"],
            micro(at + i * SECOND),
            version,
            scores[i],
            msgspec.json.encode({name: value for name, value in row.items() if name != "id"}),
        )
        for i, row in enumerate(rows)
    ]


def labels(ids: Sequence[int], value: int, at: datetime) -> list[New]:
    return [New(LABEL, id_, micro(at), None, None, str(value).encode()) for id_ in ids]


class World:
    """A home in which ten days were trained on, and a server's journal."""

    def __init__(self, tmp_path: Path, days: int = 10, **parts: Any) -> None:
        self.frame = stream(20)
        first = self.frame.filter(pl.col("time") < START + days * DAY)
        self.folder = tmp_path / "rows"
        self.folder.mkdir()
        first.write_parquet(self.folder / "first.parquet")
        source = sources.Parquet(str(self.folder), id="id", time="time", label="label")
        # One training, so that it is known which version serves.
        parts = {"trigger": triggers.Every("3650d")} | parts
        self.made = pipeline(source, tmp_path / "home", **parts)
        self.clock = MovedClock(START + 30 * DAY)
        self.path = journal_of(self.made.home, "churn")
        self.loop = self.opened()

    def opened(self) -> Loop:
        memory = open_memory(self.made.home, "churn")
        return Loop(self.made, memory, self.clock, **served(self.made, memory))

    def write(self, entries: Sequence[New]) -> None:
        writer = Writer(self.path)
        writer.write(entries)
        writer.close()

    def steps(self) -> list[Any]:
        """Step until nothing waits, and return the facts."""
        found: list[Any] = []
        while True:
            step = self.loop.step()
            found += [entry.fact for entry in step.entries]
            if not step.backlog and step.idle:
                return found

    def lake(self) -> pl.DataFrame:
        batches = self.loop.memory.lake.batches()
        return pl.concat([self.loop.memory.lake.batch(one) for one in batches], how="diagonal")
