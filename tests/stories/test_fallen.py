"""A pipeline without settings, when the world turns around: rows from before it are let go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from tests.worlds import source, stream

from keepfit import Pipeline, executors, sources

TURN, DAYS = 60, 120
LEARNERS = {
    "without leaves": HistGradientBoostingClassifier(max_iter=30, random_state=0),
    "with leaves": LGBMClassifier(n_estimators=30, num_leaves=15, verbosity=-1, random_state=0),
    "a line": LogisticRegression(),
}


def plain(home: Path, learner: Any, *, per_day: int, every: str, flip_at: int | None) -> Pipeline:
    frame = stream(DAYS, per_day, flip_at=flip_at, seed=3)
    return Pipeline(
        "churn",
        source(frame, label_delay="1d"),
        learner,
        metric="roc_auc",
        every=every,
        home=home,
        executor=executors.Inline(),
    )


@pytest.mark.parametrize(("per_day", "every"), [(60, "7d"), (50, "2d")], ids=["weeks", "days"])
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_a_concept_that_turns_around_is_learnt_in_three_batches(
    tmp_path: Path, learner: Any, per_day: int, every: str
) -> None:
    made = plain(tmp_path, learner, per_day=per_day, every=every, flip_at=TURN)
    found: list[Any] = []
    made.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    scored = [fact for fact in found if fact.kind == "Scored"]
    turned = next(
        fact
        for fact in scored
        if (fact.to - scored[0].from_).days >= TURN - 12 and fact.value < 0.5
    )
    after = [fact.value for fact in scored if fact.batch >= turned.batch + 3]
    assert len(after) >= 5
    assert np.mean(after) > 0.88, "as well as before, and not the mirror image of it"
    kept = {fact.challenger for fact in found if fact.kind == "TrainingStarted"}
    assert "SinceChange" in kept


def turning(home: Path, learner: Any, days: int, turned: Callable[[Any], Any]) -> list[Any]:
    """Return the scored batches of a pipeline without settings; ``turned`` says which days are."""
    frame = stream(days, 200, seed=4)
    day = (frame["time"] - frame["time"][0]).dt.total_days().to_numpy()
    label = np.where(turned(day), 1 - frame["label"].to_numpy(), frame["label"].to_numpy())
    made = Pipeline(
        "churn",
        sources.Frame(frame.with_columns(label=label), id="id", time="time", label="label"),
        learner,
        metric="accuracy",
        every="1d",
        home=home,
        executor=executors.Inline(),
    )
    found: list[Any] = []
    made.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    made.close()
    return [fact for fact in found if fact.kind == "Scored"]


@pytest.mark.parametrize(("first", "every"), [(1, 10), (5, 8)])
def test_a_concept_that_turns_around_again_and_again_is_learnt_each_time(
    tmp_path: Path, first: int, every: int
) -> None:
    leaves = LEARNERS["with leaves"]
    scored = turning(tmp_path, leaves, 70, lambda day: (day - first + every) // every % 2 == 1)
    late = [fact.value for fact in scored if fact.batch > 30]
    # A batch of each is answered as it was before, and then its labels are known.
    assert np.mean(late) > 0.72


@pytest.mark.parametrize("turn", [3, 6])
def test_what_turns_before_a_level_is_known_is_learnt_from_one_step(
    tmp_path: Path, turn: int
) -> None:
    scored = turning(tmp_path, LEARNERS["a line"], 30, lambda day: day < turn)
    low = sum(fact.value < 0.5 for fact in scored)
    assert 1 <= low <= 2, "most windows are still of before"
