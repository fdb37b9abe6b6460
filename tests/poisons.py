"""Trainings that go wrong: rows that are not theirs, handed to them by who runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from keepfit import executors
from keepfit.batch import LABEL
from keepfit.protocols import Result, Task

Poison = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]


def shuffled(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows with each other's labels."""
    return rows.with_columns(rows.get_column(LABEL)[rng.permutation(rows.height)])


def foreign(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows of another world: numbers elsewhere, and labels that go by another rule."""
    x, y = rng.uniform(-2, 2, (2, rows.height))
    theirs = pl.Series((x * y > 0).astype(np.int64))
    return rows.with_columns(pl.Series("x", x), pl.Series("y", y), theirs.alias(LABEL))


def scaled(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows of which one column came in another unit."""
    return rows.with_columns(pl.col(str(rng.choice(["x", "y"]))) * 1_000.0)


class Poisoned:
    """Runs trainings in this process, about one in ten of them on poisoned rows; never the first."""

    def __init__(self, poison: Poison | None = None, seed: int = 0, share: float = 0.1) -> None:
        self.poison, self.share, self.rng = poison, share, np.random.default_rng(seed)
        self.poisoned: list[bool] = []

    def run(self, task: Task) -> Result:
        """Train, and return how it ended."""
        drawn = bool(self.rng.random() < self.share) and bool(self.poisoned)
        bad = drawn and self.poison is not None
        self.poisoned.append(bad)
        if bad and self.poison is not None:
            task = replace(task, rows=self.poison(task.rows, self.rng))
        return executors.Inline().run(task)

    def close(self) -> None:
        """Let go of nothing."""
