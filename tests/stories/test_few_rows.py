"""A pipeline without settings, where each day brings few rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from tests.worlds import START, pipeline, stream

from keepfit.facts import AnyFact, Promoted, TrainingFailed

DAYS = 60
TREES = LGBMRegressor(n_estimators=40, num_leaves=7, verbosity=-1, random_state=0)


def climbing(per_day: int) -> pl.DataFrame:
    """Return a value that climbs beyond all that was seen, and its last three as features."""
    noise = np.random.default_rng(8)
    value = np.cumsum(noise.normal(0.15, 0.6, size=DAYS * per_day + 3))
    times = [START + timedelta(days=i / per_day) for i in range(DAYS * per_day)]
    before = {f"before{i}": value[3 - i : -i] for i in (1, 2, 3)}
    return pl.DataFrame({"id": np.arange(len(times)), "time": times, **before, "label": value[3:]})


def lived(rows: pl.DataFrame, home: Path, **parts: Any) -> tuple[float, int]:
    """Return the mean error by day, and from which day on something served."""
    made = pipeline(rows, home, learner=TREES, metric="mae", challengers=None, **parts)
    told = made.backtest(since=START + timedelta(days=10), compare=False)["churn"]
    made.close()
    known = [one for one in told.windows if one.value is not None]
    return float(np.mean([one.value for one in known])), (known[0].from_ - START).days


def by_hand(rows: pl.DataFrame, first: int, per_day: int) -> float:
    """Return the mean error by day of a learner that each day learns all days before."""
    features, labels = rows.drop("id", "time", "label").to_numpy(), rows["label"].to_numpy()
    found = []
    for day in range(first, DAYS):
        known, ahead = slice(day * per_day), slice(day * per_day, (day + 1) * per_day)
        said = clone(TREES).fit(features[known], labels[known]).predict(features[ahead])
        found.append(np.abs(said - labels[ahead]).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("per_day", [12, 40])
def test_a_value_that_climbs_is_followed_however_few_rows_a_day_brings(
    tmp_path: Path, per_day: int
) -> None:
    rows = climbing(per_day)
    value, first = lived(rows, tmp_path / "default")
    assert first == 10, "a hundred rows are enough for a first model"
    assert value < 1.35 * by_hand(rows, first, per_day)
    waiting, first = lived(rows, tmp_path / "waiting", enough=200)
    assert waiting > 1.35 * by_hand(rows, first, per_day), "so many rows are weeks of them"


def test_a_class_that_most_days_do_not_bring_is_waited_for_and_no_training_fails(
    tmp_path: Path,
) -> None:
    rows = stream(DAYS, 12).with_columns(label=(pl.col("x") > 1.5).cast(pl.Int64))
    learner = LGBMClassifier(n_estimators=20, num_leaves=7, verbosity=-1, random_state=0)
    made = pipeline(rows, tmp_path, learner=learner, metric="accuracy", challengers=None)
    found: list[AnyFact] = []
    made.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    made.close()
    failed = [fact.message for fact in found if isinstance(fact, TrainingFailed)]
    assert not [said for said in failed if "labels of two classes" in said]
    promoted = [fact.reason for fact in found if isinstance(fact, Promoted)]
    assert any("fitted on its holdout too" in said for said in promoted), "where it holds both"
    assert not all("fitted on its holdout too" in said for said in promoted[1:])
