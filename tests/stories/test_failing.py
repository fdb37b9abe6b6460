"""A champion that raises on rows: for a week on some of them, or from one day on on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.stories.test_rollout import of
from tests.worlds import START, live, pipeline, play, source, stream

from keepfit import Challenger, Ledger, drift, rollouts, selection, triggers
from keepfit.facts import (
    Assessed,
    Entry,
    Estimated,
    Finding,
    Found,
    Promoted,
    RolledBack,
    RolledOut,
    Scored,
    Trained,
    TrainingFailed,
)
from keepfit.gates import NoWorse, StableScores
from keepfit.loop import Loop
from keepfit.registry import State
from keepfit.results.sentences import Story

WEEK = range(20, 27)
"""The days on which every fiftieth row has an infinite value."""


class Odd(ClassifierMixin, BaseEstimator):
    """Raises where a day is beyond those it learnt by more than five, as a table of its own would."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Odd:
        self.classes_ = np.unique(y)
        self.inner_ = LogisticRegression().fit(X[:, :2], y)
        self.last_ = X[:, 2].max() + 5
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        if (X[:, 2] > self.last_).any():
            raise KeyError("a day that is in no table")
        return self.inner_.predict_proba(X[:, :2])

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class OddValues(RegressorMixin, Odd):
    """The same of numbers."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> OddValues:
        self.inner_, self.last_ = LinearRegression().fit(X[:, :2], y), X[:, 2].max() + 5
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        if (X[:, 2] > self.last_).any():
            raise KeyError("a day that is in no table")
        return self.inner_.predict(X[:, :2])


def days(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(day=(pl.col("time") - START).dt.total_days().cast(pl.Float64))


def infinite(frame: pl.DataFrame, on: range = WEEK) -> pl.DataFrame:
    odd = (pl.col("id") % 50 == 7) & pl.col("day").is_between(on[0], on[-1])
    return frame.with_columns(
        pl.when(odd).then(float("inf")).otherwise("x").alias("x"),
    )


def scaled() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression())


def failures(entries: list[Entry]) -> list[Finding]:
    return [
        one for entry in of(entries, Found) if entry.fact.failing for one in entry.fact.findings
    ]


def scored(entries: list[Entry]) -> dict[int, Scored]:
    return {entry.fact.batch: entry.fact for entry in of(entries, Scored)}


def folded(loop: Loop) -> None:
    """The state of the loop is the one that another process would fold."""
    assert loop.state.dumps() == State().fold(loop.memory.ledger.facts("churn")).dumps()


def test_infinities_for_a_week_are_told_of_and_the_loop_goes_on(tmp_path: Path) -> None:
    made = pipeline(
        source(infinite(days(stream(45)))),
        tmp_path,
        learner=scaled(),
        features=["x", "y"],
        trigger=triggers.Every("10d"),
        challengers=[Challenger(select=selection.Sliding("8d"))],
        gate=NoWorse(),
        checks=[],
    )
    loop = live(made)
    entries = play(loop, 46)
    folded(loop)
    told = failures(entries)
    assert sum(one.value for one in told) == 2 * len(WEEK)
    assert all(": ValueError: Input X contains infinity" in one.message for one in told)
    after = scored(entries)
    wrong = [one for one in after.values() if one.failed]
    assert sum(one.failed for one in wrong) == 2 * len(WEEK)
    assert all(one.value is not None for one in after.values() if one.n > 1)
    usual = np.mean([one.value for one in after.values() if one.value and not one.failed])
    assert np.mean([one.value for one in wrong]) < usual - 0.005
    # A window of which more than a hundredth is such rows cannot be learnt; others can.
    assert of(entries, TrainingFailed)
    last = of(entries, TrainingFailed)[-1].at
    assert [one for one in of(entries, Promoted) if one.at > last]


def test_ten_infinite_rows_are_left_out_of_training_and_told_of(tmp_path: Path) -> None:
    odd = (pl.col("day") == 20) & (pl.col("id") % 10 == 7)
    frame = days(stream(45)).with_columns(pl.when(odd).then(float("inf")).otherwise("x").alias("x"))
    assert frame["x"].is_infinite().sum() == 10
    made = pipeline(
        source(frame),
        tmp_path,
        learner=scaled(),
        features=["x", "y"],
        trigger=triggers.Every("5d"),
        challengers=[Challenger(select=selection.Expanding())],
        gate=NoWorse(),
        checks=[],
    )
    loop = live(made)
    entries = play(loop, 46)
    folded(loop)
    assert not of(entries, TrainingFailed)
    trained = [one.fact for one in of(entries, Trained)]
    told = [one for one in trained if one.findings]
    assert 0 < len(told) < len(trained)
    assert {one.findings[0].value for one in told} == {10}
    assert told == trained[-len(told) :]
    version = told[-1].version
    message = told[-1].findings[0].message
    assert message in " ".join(str(made.why(version)).split())
    assert message in " ".join(str(made.status()).split())
    assert made.status().findings == told[-1].findings
    assert any("hold infinite values in `x`" in line.text for line in Story().lines(entries))
    assert made.reproduce(version).same


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_champion_that_raises_on_everything_is_replaced(tmp_path: Path, kind: str) -> None:
    numbers = kind == "numbers"
    frame = days(stream(30))
    if numbers:
        frame = frame.with_columns(label=pl.col("x") + 0.5 * pl.col("y"))
    made = pipeline(
        source(frame),
        tmp_path,
        learner=OddValues() if numbers else Odd(),
        metric="mae" if numbers else "accuracy",
        features=["x", "y", "day"],
        trigger=triggers.OnDecay(),
        gate=[NoWorse(), StableScores(0.05)],
    )
    loop = live(made)
    entries = play(loop, 31)
    folded(loop)
    assert loop.state.champion not in (None, "v1")
    told = failures(entries)
    assert told
    assert all("rows: KeyError: 'a day that is in no table'" in one.message for one in told)
    worst = [one for one in scored(entries).values() if one.failed == one.n > 1]
    assert worst
    assert all(one.value is not None for one in worst)
    if not numbers:
        assert {one.value for one in worst} == {0.0}


def test_rows_that_neither_can_answer_are_no_fault_of_a_challenger(tmp_path: Path) -> None:
    """A rollout goes through the week of infinities, as the champion does."""
    made = pipeline(
        source(infinite(days(stream(30)))),
        tmp_path,
        learner=scaled(),
        features=["x", "y"],
        trigger=triggers.Every("8d"),
        challengers=[Challenger(select=selection.Sliding("8d"))],
        gate=NoWorse(within=0.1),
        rollout=[rollouts.Shadow("3d"), rollouts.Canary(0.3, "8d")],
    )
    made.backtest(compare=False)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        entries = list(ledger.facts("churn"))
    (begun, *_), told = of(entries, RolledOut), of(entries, Found)
    failed = [one for one in told if one.fact.failing]
    ended = next(one for one in of(entries, Promoted) if one.fact.version == begun.fact.version)
    assert any(begun.at < one.at <= ended.at for one in failed)
    assert not of(entries, RolledBack)


def test_whatever_looks_at_a_champion_that_fails_rows_goes_on(tmp_path: Path) -> None:
    # Each model that a day brings is asked for all of them, a row that it fails again and again.
    odd = infinite(days(stream(34)), WEEK[:3])
    made = pipeline(
        source(odd, label_delay="2d"),
        tmp_path,
        learner=scaled(),
        metric="accuracy",
        features=["x", "y"],
        trigger=triggers.Every("9d")
        | triggers.OnDecay()
        | triggers.OnRelevance()
        | triggers.OnDrift(drift.ADWIN(on="loss"))
        | triggers.OnDrift(drift.ADWIN(on="score")),
        challengers=[
            Challenger(select=selection.Sliding("8d")),
            Challenger(select=selection.Sliding("12d")),
        ],
    )
    result = made.backtest(compare="all", jobs=1)
    assert all(one.value is not None for one in result.policies)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        entries = list(ledger.facts("churn"))
    assert failures(entries)
    assert of(entries, Assessed)
    assert of(entries, Estimated)
    # Of rows that are not answered nothing is estimated: a batch with too many of them has none.
    failed = {
        one.fact.batch: failures([one])[0].value for one in of(entries, Found) if failures([one])
    }
    assert max(failed.values()) > 1
    assert all(failed.get(one.fact.batch, 0) <= 1 for one in of(entries, Estimated))
