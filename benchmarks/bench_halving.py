"""Many recipes on many rows: what it saves to try them on parts of their rows first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import lightgbm as lgb
import numpy as np
import polars as pl
from peers import say
from peers.report import table
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from stream_models import lived

BATCHES, EVERY = 60, 10
DAY = 86_400_000_000


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    from keepfit import halving

    rows = 90_000 if quick else 300_000
    yield from [
        "## Many recipes on many rows",
        "",
        f"{rows:,} rows in {BATCHES} batches, a batch a day; which of ten numbers matter, and how, "
        f"turns once, half way. Six recipes are asked for every {EVERY} days: LightGBM with 60 trees "
        "on all rows and on those of 20 days, a forest of 10 trees, one tree, logistic regression and "
        "naive Bayes. CPU is that of all fits, of parts of rows too; accuracy in per cent.",
        "",
    ]
    frame = stream(rows)
    found = []
    for name, least in (("as they come", 2**63), ("on parts of their rows first", halving.MANY)):
        say(name)
        with mock.patch.object(halving, "MANY", least):
            told = lived("many", frame, recipes()[0].learner, metric="accuracy", **parts())
        counts = (f"{told.trainings}", f"{told.promoted}", f"{told.fit_cpu_seconds:.1f} s")
        found.append([name, f"{100 * float(told.value):.2f}", *counts])
    yield from table(["recipes are trained", "accuracy", "trainings", "promoted", "CPU"], found)
    yield ""


def stream(rows: int) -> pl.DataFrame:
    """Return rows whose label hangs on products and steps of numbers, by other ones after a half."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 10))
    turned = np.arange(rows) >= rows // 2
    first = x[:, 0] * x[:, 1] + np.where(x[:, 2] > 0.5, 1.0, -0.4) + np.sin(2 * x[:, 3])
    later = x[:, 1] * x[:, 4] + np.where(x[:, 2] > 0.5, 1.0, -0.4) + np.sin(2 * x[:, 5])
    score = np.where(turned, later, first) + 0.3 * x[:, 6] + 0.5 * rng.normal(size=rows)
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    times = start + np.arange(rows) * (BATCHES * DAY // rows)
    return pl.DataFrame({f"x{i}": x[:, i] for i in range(10)}).with_columns(
        id=pl.Series(np.arange(rows)),
        time=pl.Series(times).cast(pl.Datetime("us", "UTC")),
        label=pl.Series((score > 0).astype(np.int64)),
    )


def recipes() -> list[Any]:
    """Return six recipes, of which some cannot win."""
    from keepfit import Challenger, selection

    def trees() -> Any:
        return lgb.LGBMClassifier(n_estimators=60, n_jobs=1, random_state=0, verbose=-1)

    forest = RandomForestClassifier(10, min_samples_leaf=10, n_jobs=1, random_state=0)
    every = [
        ("naive Bayes", GaussianNB()),
        ("logistic regression", LogisticRegression()),
        ("one tree", DecisionTreeClassifier(min_samples_leaf=20, random_state=0)),
        ("forest", forest),
        ("LightGBM", trees()),
    ]
    window = Challenger(selection.Sliding(20), learner=trees(), name="LightGBM, 20 days")
    return [*(Challenger(learner=one, name=name) for name, one in every), window]


def parts() -> dict[str, Any]:
    """Return what a pipeline has beside source, estimator, metric and cadence."""
    from keepfit import gates, triggers

    return {
        "challengers": recipes(),
        "trigger": triggers.Every(f"{EVERY}d"),
        "gate": gates.NoWorse(),
        "checks": [],
    }
