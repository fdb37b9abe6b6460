"""Trainings that go wrong: an executor hands one in ten of them rows that are not theirs.

The pipeline knows nothing of it. What it recorded are the right rows, and these it scores and
judges by; what was trained on others it can tell by its answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from keepfit import executors
from keepfit.batch import LABEL
from keepfit.protocols import Result, Task

ONE_IN = 10
"""Of so many trainings in a row one is poisoned, wherever it falls; not the first of all."""

SCALE = 1_000.0

Poison = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]


class Poisoned:
    """Runs trainings in this process, one in ten of them on poisoned rows.

    ``poisoned`` says of each training that was run, in order, whether it was one of these.
    """

    def __init__(self, poison: Poison | None, seed: int) -> None:
        self.poison, self.rng = poison, np.random.default_rng(seed)
        self.within = executors.Inline()
        self.poisoned: list[bool] = []
        self._drawn: list[bool] = []

    def run(self, task: Task) -> Result:
        """Train, and return how it ended."""
        bad = self.poison is not None and self._next()
        self.poisoned.append(bad)
        if bad and self.poison is not None:
            own = [name for name in task.rows.columns if not name.startswith("_")]
            rows = self.poison(task.rows.select(*own, LABEL), self.rng)
            task = replace(task, rows=task.rows.with_columns(rows))
        return self.within.run(task)

    def close(self) -> None:
        """Let go of what the executor holds: nothing."""

    def _next(self) -> bool:
        """Return whether the next training is poisoned: one in each ten is, the first never."""
        if not self.poisoned:
            return False
        if not self._drawn:
            self._drawn = (np.arange(ONE_IN) == self.rng.integers(ONE_IN)).tolist()
        return self._drawn.pop()


def shuffled(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows with each other's labels."""
    order = rng.permutation(rows.height)
    return rows.with_columns(rows.get_column(LABEL)[order])


def scaled(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows of which one column, drawn at random, came in another unit."""
    own = [name for name in rows.columns if name != LABEL]
    name = own[rng.integers(len(own))]
    return rows.with_columns(pl.col(name).cast(pl.Float64) * SCALE)


def foreign(other: pl.DataFrame) -> Poison:
    """Return the poison that puts rows of another stream in place of a training's.

    They come in their own order from a place drawn at random. Columns go by position: those
    that the other has too few of begin again with its first, and those too many are left out.
    """
    values = other.drop("id", "time", "label").cast(pl.Float64)

    def poison(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        own = [name for name in rows.columns if name != LABEL]
        places = (rng.integers(other.height) + np.arange(rows.height)) % other.height
        theirs = values[places]
        labels = other.get_column("label")[places].cast(rows.schema[LABEL])
        return pl.DataFrame(
            {
                **{name: theirs.to_series(i % theirs.width) for i, name in enumerate(own)},
                LABEL: labels,
            }
        )

    return poison
