"""XGBoost, CatBoost, River and trees of scikit-learn in a pipeline: trained, gone on from, killed, served."""

from __future__ import annotations

import numbers
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from tests.worlds import DAY, START, pipeline, stream

from keepfit import Challenger, Ledger, executors, gates, learners, load, selection, triggers
from keepfit.facts import Promoted, Scored, Trained, TrainingFailed, TrainingStarted
from keepfit.protocols import Task
from keepfit.testing.learners import rows_to_learn


def boosted(family: str) -> Any:
    package = pytest.importorskip(family)
    if family == "xgboost":
        return package.XGBClassifier(n_estimators=20, max_depth=3)
    return package.CatBoostClassifier(iterations=20, depth=3)


def trees(family: str) -> Any:
    if family == "histograms":
        return HistGradientBoostingClassifier(max_iter=20, max_depth=3)
    if family == "forest":
        return RandomForestClassifier(15, max_depth=6)
    return GradientBoostingClassifier(n_estimators=20)


def streaming(rate: float = 0.1) -> Any:
    pytest.importorskip("river")
    from river import compose, linear_model, optim, preprocessing

    numeric = compose.SelectType(numbers.Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numeric + texts) | linear_model.LogisticRegression(optim.SGD(rate))


def model_of(family: str) -> Any:
    if family in TREES:
        return trees(family)
    return streaming() if family == "river" else boosted(family)


ROUNDS = {"xgboost": "n_estimators", "catboost": "iterations"}
TREES = ["histograms", "forest", "gradient"]
FAMILIES = ["xgboost", "catboost", "river"]


@pytest.mark.parametrize(
    ("family", "update"),
    [
        ("xgboost", "all"),
        ("xgboost", "leaves"),
        ("catboost", "all"),
        ("river", "all"),
        *((one, "leaves") for one in TREES),
    ],
)
def test_a_pipeline_trains_goes_on_from_its_champion_and_serves(
    family: str, update: str, tmp_path: Path
) -> None:
    frame = stream(40, per_day=60, flip_at=20)
    made = pipeline(
        frame,
        tmp_path / "home",
        learner=model_of(family),
        trigger=triggers.Every("4d"),
        challengers=[
            Challenger(select=selection.Sliding("4d"), start="champion", update=update),
            Challenger(select=selection.Sliding("8d")),
        ],
        gate=gates.NoWorse(within=0.1),
    )
    made.backtest(since=START + 8 * DAY, compare=False)
    with Ledger(tmp_path / "home" / "backtest" / "ledger.db") as ledger:
        facts = [entry.fact for entry in ledger.facts("churn")]
    failed = [fact.message for fact in facts if isinstance(fact, TrainingFailed)]
    # An update that learnt less than others is tried once more, and found to be sound.
    known = ("scratch is due", "learnt less than half of what is usual")
    assert all(any(one in message for one in known) for message in failed), failed
    begun = {fact.version: fact for fact in facts if isinstance(fact, TrainingStarted)}
    trained = {fact.version: fact for fact in facts if isinstance(fact, Trained)}
    went_on = [name for name in trained if begun[name].start == "champion"]
    assert len(went_on) >= 2
    assert {begun[name].update for name in went_on} == {update}
    promoted = [fact.version for fact in facts if isinstance(fact, Promoted)]
    assert len(promoted) >= 2
    scores = [fact.value for fact in facts if isinstance(fact, Scored)]
    assert np.mean(scores[-5:]) > 0.8

    assert set(promoted) & set(went_on)

    serving = load("churn@champion", home=tmp_path / "home" / "backtest")
    rows = frame.drop("label", "id", "time").tail(50)
    said = serving.predict(rows)
    assert said["probability"].is_between(0.0, 1.0, closed="none").all()
    gaps = rows.with_columns(kind=pl.lit(None, dtype=pl.String), x=None)
    assert serving.predict(gaps)["probability"].is_finite().all()


# In the worker ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local() -> Iterator[executors.Local]:
    with executors.Local() as executor:
        executor.warm_up()
        yield executor


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_gives_the_same_bytes_here_and_in_the_worker(
    family: str, local: executors.Local
) -> None:
    learner, rows = learners.resolve(model_of(family)), rows_to_learn("binary")
    given = Task(learner=learner, rows=rows, seed=11)
    here, there = executors.Inline().run(given), local.run(given)
    assert here.reason is there.reason is None, (here.message, there.message)
    assert here.model == there.model
    assert family in there.packages
    again = Task(learner=learner, rows=rows, start="champion", previous=here.model, seed=11)
    assert executors.Inline().run(again).model == local.run(again).model != here.model


@pytest.mark.parametrize("family", ["xgboost", "catboost"])
def test_a_killed_training_leaves_nothing_behind(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    endless = boosted(family).set_params(**{ROUNDS[family]: 10_000_000})
    with executors.Local(seconds=1.0) as executor:
        task = Task(learner=learners.resolve(endless), rows=rows_to_learn("binary"), seconds=1.0)
        result = executor.run(task)
    assert result.reason == "timed out"
    assert result.model is None
    assert os.listdir(work) == os.listdir(scratch) == []
