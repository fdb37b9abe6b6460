"""How keepfit without settings follows a concept that changes, beside each window in hindsight.

Streams are made up: five numbers, of which a weight each says what the label is, and the
weights change. Few long batches are the hard case: what a window of twenty holds is soon all
there is, and each batch that is answered by what used to be true counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
from peers import say
from peers.report import table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from stream_models import lived

FIRST, LAST = np.array([1.5, 1.0, 0.5, 0.0, 0.0]), np.array([0.0, 0.3, 0.5, 1.5, 1.0])
DAY = 86_400_000_000
SIZES = {"17 batches of 420 rows": (17, 420), "100 batches of 100 rows": (100, 100)}

Share = np.ndarray
"""How far into the stream a row lies, from 0 to 1, as a column."""

WORLDS: dict[str, Callable[[Share], np.ndarray]] = {
    "nothing changes": lambda u: FIRST + 0 * u,
    "turns around at the half": lambda u: np.where(u < 0.5, FIRST, -FIRST),
    "another one at 0.45": lambda u: np.where(u < 0.45, FIRST, LAST),
    "turns around at 0.4, and back at 0.7": lambda u: np.where(
        (u < 0.4) | (u >= 0.7), FIRST, -FIRST
    ),
    "slowly another one": lambda u: FIRST * (1 - 1.5 * u) + LAST * u,
}

LEARNERS: dict[str, Callable[[], Any]] = {
    "HistGradientBoosting": lambda: HistGradientBoostingClassifier(max_iter=30, random_state=0),
    "LightGBM": lambda: lgb.LGBMClassifier(n_estimators=30, verbose=-1, n_jobs=1, random_state=0),
    "LogisticRegression": LogisticRegression,
}


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    sizes = dict(list(SIZES.items())[:1]) if quick else SIZES
    worlds = dict(list(WORLDS.items())[:2]) if quick else WORLDS
    yield from [
        "## Concepts that change, made up",
        "",
        "ROC AUC, the mean over batches, with the number of trainings, leaves that learn between "
        "them too. Keepfit has no settings but source, estimator, metric and cadence; the windows "
        "are trained with every batch, without a gate. (best) marks the best window, and keepfit "
        "where it does no worse.",
        "",
    ]
    for size, (batches, per_batch) in sizes.items():
        rows = []
        for world, weights in worlds.items():
            for learner, make in LEARNERS.items():
                say(f"{size}: {world}, {learner}")
                frame = stream(weights, batches, per_batch)
                rows.append([world, learner, *_cells(frame, make)])
        yield from [f"### {size}", ""]
        yield from table(["what changes", "learner", "**keepfit**", *_windows()], rows)
        yield ""


def stream(weights: Callable[[Share], np.ndarray], batches: int, per_batch: int) -> pl.DataFrame:
    """Return rows, a batch a day, whose label follows weights that may change."""
    noise, size = np.random.default_rng(0), batches * per_batch
    x = noise.normal(size=(size, len(FIRST)))
    said = (x * weights((np.arange(size) / size)[:, None])).sum(axis=1)
    said += 0.7 * np.sin(2 * x[:, 0]) * x[:, 1]
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    times = pl.Series(start + np.arange(size) * (DAY // per_batch)).cast(pl.Datetime("us", "UTC"))
    label = (1.5 * said + noise.logistic(size=size) > 0).astype(int)
    columns = {f"x{i}": column for i, column in enumerate(x.T)}
    return pl.DataFrame({"id": np.arange(size), "time": times, **columns, "label": label})


def _windows() -> dict[str, dict[str, Any]]:
    """Return the settings that train a window with every batch, by what they are called."""
    from keepfit import Challenger, selection, triggers

    wanted = {"1 batch": selection.Sliding(1)}
    wanted |= {f"{n} batches": selection.Sliding(n) for n in (2, 5, 20)}
    return {
        name: {
            "trigger": triggers.AfterRows(1),
            "challengers": Challenger(select=select),
            "gate": [],
            "enough": 1,
        }
        for name, select in {**wanted, "all rows": selection.Expanding()}.items()
    }


def _cells(frame: pl.DataFrame, make: Callable[[], Any]) -> list[str]:
    """Return what keepfit reaches without settings, and each window."""
    settings = ({}, *_windows().values())
    lives = [lived("turns", frame, make(), metric="roc_auc", **parts) for parts in settings]
    found = [(float(told.value or 0.0), told.trainings) for told in lives]
    best = max(value for value, _ in found[1:])
    return [f"{value:.3f}{' (best)' if value >= best else ''} / {n}" for value, n in found]
