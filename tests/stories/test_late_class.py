"""A class that comes late: what does not know it is wrong on its rows, and it is soon learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from tests.worlds import DAY, START, live, pipeline, play

from keepfit import Pipeline, gates, rollouts, sources, triggers
from keepfit.backtest import Backtest, Compared
from keepfit.facts import Entry, Promoted, RolledOut, Scored, Trained, TrainingStarted
from keepfit.ledger import Ledger
from keepfit.results.sentences import Story

BATCHES, ROWS = 44, 100
LATE = 22
"""The batch with which the third class comes."""


def history(seed: int = 0) -> pl.DataFrame:
    """Three classes by one column, of which the third is the second until half of the time."""
    rng = np.random.default_rng(seed)
    size = BATCHES * ROWS
    columns = rng.normal(size=(size, 4))
    label = np.digitize(columns[:, 0], [-0.5, 0.5])
    label[(np.arange(size) < LATE * ROWS) & (label == 2)] = 1
    return pl.DataFrame(
        {
            "id": np.arange(size),
            "time": pl.datetime_range(START, START + BATCHES * DAY, DAY / ROWS, eager=True)[:size],
            **{f"x{i}": columns[:, i] for i in range(4)},
            "label": np.array(["a", "b", "c"])[label],
        }
    )


def backtest(home: Path, metric: str | None, **asked: Any) -> Any:
    made = Pipeline(
        "late",
        sources.Frame(history(), id="id", time="time", label="label"),
        LGBMClassifier(n_estimators=10, num_leaves=15, n_jobs=1, verbose=-1),
        metric=metric,
        every="1d",
        home=home,
    )
    found = made.backtest(since=START + 8 * DAY, **asked)
    made.close()
    return found


class Lives(dict[str | None, tuple[Backtest, list[Entry]]]):
    """What became of the default policy by a metric, and all its facts; lived once."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, metric: str | None) -> tuple[Backtest, list[Entry]]:
        home = self.folder / str(metric)
        found: Backtest = backtest(home, metric, compare=False)
        with Ledger(home / "backtest" / "ledger.db") as ledger:
            self[metric] = found, list(ledger.facts("late"))
        return self[metric]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("lives"))


@pytest.mark.parametrize("metric", [None, "accuracy", "log_loss"])
def test_a_class_that_comes_late_is_learnt_within_a_few_batches(
    lives: Lives, metric: str | None
) -> None:
    found, entries = lives[metric]
    scored = [entry.fact for entry in entries if isinstance(entry.fact, Scored)]
    strange = [fact.batch for fact in scored if fact.unknown]
    assert strange
    assert strange[0] - LATE <= 2
    assert len(strange) <= 6
    # One metric all along, though the usual one of three classes is another.
    assert {fact.metric for fact in scored} == {metric or "roc_auc"} == {found.metric}
    worst = next(fact for fact in scored if fact.batch == strange[0])
    before = next(fact for fact in scored if fact.batch == strange[0] - 1)
    assert worst.value is not None
    assert before.value is not None
    if metric == "accuracy":
        assert worst.value < 0.8 < 0.9 < before.value
        # Its rows count, and are told apart from those left out.
        assert worst.n == ROWS
        assert worst.unknown.keys() == {"c"}
        assert 1 - worst.value >= worst.unknown["c"] / ROWS
    said = next(entry for entry in entries if entry.fact is worst)
    lines = [line.text for line in Story().lines([said])]
    assert any("rows labelled c" in line and "wrong on" in line for line in lines)


def test_never_is_not_as_good_where_a_class_came(tmp_path: Path) -> None:
    found: Compared = backtest(tmp_path, "accuracy", compare=["never", "always"], jobs=1)
    never, always = found["never"], found["always"]
    assert never.value is not None
    assert always.value is not None
    assert never.value < 0.9
    assert always.value > never.value + 0.05
    assert found.recommended != "never"


def test_processes_judge_by_the_same_metric(tmp_path: Path) -> None:
    one: Compared = backtest(tmp_path / "one", None, compare=["never", "always"], jobs=1)
    two: Compared = backtest(tmp_path / "two", None, compare=["never", "always"], jobs=2)
    assert one.metric == two.metric == "roc_auc"
    assert [p.value for p in one.policies] == [p.value for p in two.policies]


def test_training_is_not_asked_for_again_by_a_class_that_was_learnt(lives: Lives) -> None:
    entries = [entry.fact for entry in lives["accuracy"][1]]
    scratch = [f for f in entries if isinstance(f, TrainingStarted) and f.start == "scratch"]
    trained = [f for f in entries if isinstance(f, Trained)]
    late = [f for f in scratch if f.snapshot.batch > LATE + 6]
    assert len(trained) > 10
    assert len({f.snapshot.batch for f in late}) < (BATCHES - LATE) / 2


def test_a_challenger_that_learnt_it_answers_its_share_of_rows(tmp_path: Path) -> None:
    made = pipeline(
        history(),
        tmp_path,
        learner=LogisticRegression(),
        metric="accuracy",
        trigger=triggers.Every("8d"),
        gate=gates.NoWorse(within=0.05),
        rollout=[rollouts.Canary(0.3, "2d")],
    )
    loop = live(made)
    entries = [entry.fact for entry in play(loop, BATCHES)]
    classes = {
        name: len(loop.scorer.model(one).classes)
        for name, one in loop.state.versions.items()
        if one.artifact
    }
    shared = [
        fact
        for fact in entries
        if isinstance(fact, RolledOut) and classes[fact.version] > classes[fact.champion]
    ]
    assert shared
    assert shared[0].version in {fact.version for fact in entries if isinstance(fact, Promoted)}
    made.close()
