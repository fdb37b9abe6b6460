"""Whole lives of a pipeline under a simulated clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from tests.worlds import DAY, START, pipeline, stream

from keepfit import Challenger, Ledger, checks, errors, selection, triggers
from keepfit.facts import Decided, Judged, Promoted, Scored, Trained, TrainingStarted, comparable


def facts_of(home: Path, name: str = "churn") -> list:
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        return list(ledger.facts(name))


def of_kind(entries: list, kind: type) -> list:
    return [entry.fact for entry in entries if isinstance(entry.fact, kind)]


def test_a_quiet_stream_trains_once_and_stays_quiet(tmp_path: Path) -> None:
    made = pipeline(stream(60), tmp_path, trigger=triggers.OnDecay() | triggers.OnDrift())
    result = made.backtest()
    assert result["churn"].trainings == 1
    assert result["churn"].value == pytest.approx(result["always"].value, abs=0.02)
    assert result["always"].trainings > 50


def test_a_concept_that_flips_is_learnt_again(tmp_path: Path) -> None:
    made = pipeline(
        stream(80, flip_at=40),
        tmp_path,
        trigger=triggers.OnDecay(),
        challengers=[Challenger(select=selection.Sliding("5d"))],
    )
    result = made.backtest()
    assert result["churn"].value > result["never"].value + 0.2
    last = [window.value for window in result["churn"].windows][-5:]
    assert np.mean(last) > 0.9
    assert 2 <= result["churn"].trainings < 20


def test_no_window_is_scored_before_its_labels_are_known(tmp_path: Path) -> None:
    made = pipeline(
        stream(40), tmp_path, roles={"label_delay": "5d"}, trigger=triggers.Every("10d")
    )
    made.backtest()
    for entry in facts_of(tmp_path):
        if isinstance(entry.fact, Scored):
            assert entry.at >= entry.fact.to + timedelta(days=5) or entry.fact.n > 0.99 * 100
        if isinstance(entry.fact, TrainingStarted):
            assert entry.fact.snapshot.to <= entry.at - timedelta(days=5)


def test_rows_that_arrive_during_a_training_are_served_by_the_old_champion(tmp_path: Path) -> None:
    frame = stream(40)
    made = pipeline(frame, tmp_path, trigger=triggers.Every("10d"), gate=[])
    made.backtest(training_time="60h", compare=False)
    entries = facts_of(tmp_path)
    started = {
        entry.fact.version: entry.at for entry in entries if isinstance(entry.fact, TrainingStarted)
    }
    promoted = {
        entry.fact.version: entry.at for entry in entries if isinstance(entry.fact, Promoted)
    }
    assert len(promoted) >= 3
    for version, at in promoted.items():
        assert at == started[version] + timedelta(hours=60)
    ats = [entry.at for entry in entries]
    assert ats == sorted(ats)
    reigns = sorted((at, version) for version, at in promoted.items())
    for fact in of_kind(entries, Scored):
        serving = [version for at, version in reigns if at <= fact.from_]
        ended = [version for at, version in reigns if at <= fact.to]
        assert fact.version in {serving[-1] if serving else None, ended[-1] if ended else None}


def test_a_broken_day_is_quarantined_and_never_trains(tmp_path: Path) -> None:
    frame = stream(40)
    broken = (pl.col("time") >= START + 25 * DAY) & (pl.col("time") < START + 26 * DAY)
    frame = frame.with_columns(
        x=pl.when(broken).then(None).otherwise(pl.col("x")),
        y=pl.when(broken).then(1e6).otherwise(pl.col("y")),
    )
    made = pipeline(
        frame, tmp_path, trigger=triggers.Every("7d"), checks=[checks.Schema(), checks.Nulls()]
    )
    made.backtest(compare=False)
    entries = facts_of(tmp_path)
    held = [entry.fact.batch for entry in entries if entry.fact.kind == "Quarantined"]
    assert len(held) == 1
    later = [fact for fact in of_kind(entries, TrainingStarted) if fact.snapshot.batch >= held[0]]
    assert later
    assert all(fact.snapshot.excluded == (held[0],) for fact in later)
    assert held[0] not in [fact.batch for fact in of_kind(entries, Scored)]


@pytest.mark.parametrize("delay", ["1d", "9d"])
def test_every_policy_is_scored_on_the_same_windows_once_each(tmp_path: Path, delay: str) -> None:
    made = pipeline(
        stream(40, per_day=300),
        tmp_path,
        roles={"label_delay": delay},
        trigger=triggers.Every("7d"),
    )
    result = made.backtest()
    names = [policy.name for policy in result.policies]
    assert names == ["churn", "never", "every 4 d", "always"]
    spans = [[(w.from_, w.to, w.n) for w in policy.windows] for policy in result.policies]
    assert all(span == spans[0] for span in spans)
    assert len(spans[0]) > 25
    assert len(set(spans[0])) == len(spans[0])


def test_policies_share_the_models_they_have_in_common(tmp_path: Path) -> None:
    result = pipeline(
        stream(30), tmp_path, gate=[], enough=1, trigger=triggers.AfterRows(1)
    ).backtest()
    assert result["churn"].trainings == result["always"].trainings
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        trained = {
            name: [entry.fact.artifact for entry in ledger.facts(name, kind="Trained")]
            for name in ledger.pipelines()
        }
    assert trained["churn"] == trained["always"]
    assert set(trained["every 4 d"]) <= set(trained["always"])
    assert result["churn"].value == result["always"].value


def test_the_same_backtest_twice_gives_the_same_facts(tmp_path: Path) -> None:
    histories = []
    for name in ("one", "two"):
        made = pipeline(
            stream(50, flip_at=30),
            tmp_path / name,
            trigger=triggers.OnDecay() | triggers.Every("9d"),
        )
        made.backtest()
        histories.append([(e.seq, e.at, comparable(e.fact)) for e in facts_of(tmp_path / name)])
    assert histories[0] == histories[1]


def test_an_interrupted_backtest_goes_on_without_training_again(tmp_path: Path) -> None:
    made = pipeline(stream(40), tmp_path, trigger=triggers.Every("7d"))
    trained = []

    class Counting:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def run(self, task: object) -> object:
            if len(trained) == 3:
                trained.append("interrupted")
                raise KeyboardInterrupt
            trained.append("trained")
            return self.inner.run(task)

        def close(self) -> None: ...

    made._executor = Counting(made.executor)
    with pytest.raises(KeyboardInterrupt):
        made.backtest(compare=False)
    first = [
        entry.fact.key for entry in facts_of(tmp_path) if isinstance(entry.fact, TrainingStarted)
    ]
    result = made.backtest(compare=False)
    assert trained[:4] == ["trained"] * 3 + ["interrupted"]
    assert len(trained) - 1 == result["churn"].trainings
    assert [e.fact.key for e in facts_of(tmp_path) if isinstance(e.fact, TrainingStarted)][
        : len(first)
    ] == first


class Fragile(ClassifierMixin, BaseEstimator):
    """Learns, unless a row says that it must break."""

    def __init__(self, break_above: int = 10**9) -> None:
        self.break_above = break_above

    def fit(self, X: np.ndarray, y: np.ndarray) -> Fragile:
        if len(X) > self.break_above:
            raise RuntimeError("the solver gave up")
        self.inner_ = LogisticRegression().fit(np.nan_to_num(X), y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.inner_.predict(np.nan_to_num(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.inner_.predict_proba(np.nan_to_num(X))


def test_a_training_that_breaks_becomes_a_fact_and_the_champion_serves_on(tmp_path: Path) -> None:
    made = pipeline(
        stream(40),
        tmp_path,
        learner=Fragile(break_above=1500),
        trigger=triggers.Every("5d"),
        gate=[],
    )
    result = made.backtest(compare=False)
    entries = facts_of(tmp_path)
    failed = [entry.fact for entry in entries if entry.fact.kind == "TrainingFailed"]
    assert failed
    assert failed[0].reason == "raised"
    assert "the solver gave up" in failed[0].message
    assert len(of_kind(entries, Trained)) >= 2
    assert len(result["churn"].windows) > 30
    assert all(window.value > 0.8 for window in result["churn"].windows)


def test_a_worse_challenger_is_refused_and_never_serves(tmp_path: Path) -> None:
    made = pipeline(
        stream(60),
        tmp_path,
        trigger=triggers.Every("10d"),
        challengers=[
            Challenger(name="good"),
            Challenger(
                learner=DecisionTreeClassifier(max_depth=1),
                select=selection.Sliding("2d"),
                name="bad",
            ),
        ],
    )
    made.backtest(compare=False)
    entries = facts_of(tmp_path)
    names = {fact.version: fact.challenger for fact in of_kind(entries, TrainingStarted)}
    served = {names[fact.version] for fact in of_kind(entries, Promoted)}
    assert served == {"good"}
    assert any(names[fact.version] == "bad" for fact in of_kind(entries, Judged))


def test_every_no_is_a_fact_with_its_reason(tmp_path: Path) -> None:
    pipeline(stream(30), tmp_path, trigger=triggers.Every("10d")).backtest(compare=False)
    decided = of_kind(facts_of(tmp_path), Decided)
    assert {fact.decision.train for fact in decided} == {True, False}
    assert all(fact.decision.reason for fact in decided)


def test_a_backtest_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceError, match="expected rows"):
        pipeline(stream(1).head(0), tmp_path).backtest()
