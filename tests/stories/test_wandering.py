"""A pipeline without settings, where the concept is another one with each batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, executors, sources

FIRST = 25
START = datetime(2024, 1, 1, tzinfo=UTC)
LEARNERS = {
    "a line": LogisticRegression(),
    "with leaves": LGBMClassifier(n_estimators=20, num_leaves=7, verbosity=-1, random_state=0),
}


def frame(features: np.ndarray, labels: np.ndarray, per_day: int) -> pl.DataFrame:
    count = len(labels)
    times = [START + timedelta(days=i / per_day) for i in range(count)]
    return pl.DataFrame(
        {"id": np.arange(count), "time": times, "a": features[:, 0], "b": features[:, 1]}
    ).with_columns(label=labels)


def rotating(days: int, per_day: int, degrees: float) -> pl.DataFrame:
    """Return rows of two classes, whose border turns by as many degrees a day."""
    noise = np.random.default_rng(6)
    rows = noise.normal(size=(days * per_day, 2))
    angle = np.radians(degrees) * np.arange(len(rows)) / per_day
    score = rows[:, 0] * np.cos(angle) + rows[:, 1] * np.sin(angle)
    return frame(rows, (score + 0.3 * noise.logistic(size=len(rows)) > 0).astype(int), per_day)


def lived(rows: pl.DataFrame, learner: Any, home: Path) -> tuple[float, list[Any]]:
    made = Pipeline(
        "prices",
        sources.Frame(rows, id="id", time="time", label="label"),
        learner,
        metric="accuracy",
        every="1d",
        home=home,
        executor=executors.Inline(),
    )
    found: list[Any] = []
    made.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    made.close()
    late = [fact.value for fact in found if fact.kind == "Scored" and fact.batch > FIRST]
    return float(np.mean(late)), found


def by_hand(rows: pl.DataFrame, learner: Any, days: int, per_day: int) -> float:
    """Return what a learner reaches that each day learns the day before."""
    features, labels = rows.select("a", "b").to_numpy(), rows.get_column("label").to_numpy()
    found = []
    for day in range(FIRST, days):
        known, ahead = (slice(at * per_day, (at + 1) * per_day) for at in (day - 1, day))
        said = clone(learner).fit(features[known], labels[known]).predict(features[ahead])
        found.append(np.mean(said == labels[ahead]))
    return float(np.mean(found))


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_what_holds_for_a_day_alone_is_learnt_from_the_day_before(
    tmp_path: Path, learner: Any
) -> None:
    rows = rotating(60, 250, 40)
    value, found = lived(rows, learner, tmp_path)
    # Five days turn by more than half a circle: of them nothing can be learnt. The newest fifth
    # of a day judges, and is learnt too where updates are cheap.
    assert value > by_hand(rows, learner, 60, 250) - 0.05
    late = [f for f in found if f.kind == "TrainingStarted" and f.snapshot.batch > 35]
    assert sum(fact.challenger == "Sliding(1)" for fact in late) >= 20, "with nearly every batch"
