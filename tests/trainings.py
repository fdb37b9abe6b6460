"""Trainings of one estimator on made-up rows, for the tests of learners."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from keepfit import learners


def fit(estimator: Any, rows: pl.DataFrame, previous: Any = None, update: str = "all") -> Any:
    """Return the model of a training from scratch, or from a champion where one is given."""
    start = "scratch" if previous is None else "champion"
    learner = learners.resolve(estimator)
    return learner.fit(rows, start=start, update=update, previous=previous, seed=3)


def labelled(labels: Any, **columns: Any) -> pl.DataFrame:
    """Return rows with labels and columns."""
    return pl.DataFrame({"_label": labels, **columns})


def groups(shares: dict[str, float], height: int, seed: int) -> pl.DataFrame:
    """Return rows whose label follows the group: common in the first, rare in the others."""
    random = np.random.default_rng(seed)
    names = random.choice(list(shares), height)
    chance = np.array([shares[name] for name in names])
    return labelled(
        (random.random(height) < chance).astype(int), group=names, noise=random.random(height)
    )


def accuracy(model: Any, rows: pl.DataFrame) -> float:
    """Return the share of rows whose label is the likeliest class."""
    scores = model.predict(rows)
    chosen = (scores > 0.5).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    return float((chosen == model.codes(rows["_label"])).mean())
