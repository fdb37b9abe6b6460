"""One training in ten learns other rows than its own: with the default gate nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from tests.poisons import Poison, Poisoned, foreign, scaled, shuffled
from tests.worlds import DAY, START, pipeline, stream

from keepfit import Ledger
from keepfit.facts import Promoted, Sampled, Trained, TrainingFailed, TrainingStarted

pytestmark = pytest.mark.story

LOST = 0.01
"""The accuracy that poison may cost with the default gate."""

HARM = 0.02
"""The accuracy that it costs at least where everything is promoted."""

SEED = 2
"""A draw of poison that comes to serve where everything is promoted: of five all harm, some less."""

RETRIED = 0.15
"""The share of trainings at most that went right and are run once more: updates of few rows."""


@dataclass
class Life:
    """A life: its accuracy, and what became of each training, poisoned or not."""

    accuracy: float
    facts: list[Any]
    poisoned: list[bool]

    def of(self, kind: type) -> list[Any]:
        """Return the facts of a kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def ended(self, *, bad: bool) -> list[Any]:
        """Return how the trainings ended that were poisoned, or those that were not."""
        every = [fact for fact in self.facts if isinstance(fact, Trained | TrainingFailed)]
        # Before the first of them windows were tried on history.
        poisoned = self.poisoned[len(self.of(Sampled)) :]
        return [fact for fact, was in zip(every, poisoned, strict=True) if was == bad]


def turning(days: int, per_day: int, *, seed: int) -> pl.DataFrame:
    """Return rows whose label goes by a line through the origin that turns half around in all."""
    frame = stream(days, per_day, seed=seed)
    angle = np.linspace(0, np.pi, frame.height)
    noise = 0.3 * np.random.default_rng(seed).normal(size=frame.height)
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    label = np.cos(angle) * x + np.sin(angle) * y + noise > 0
    return frame.with_columns(label=pl.Series(label.astype(np.int64)))


def lived(home: Path, poison: Poison | None, seed: int = 0, **parts: Any) -> Life:
    """Return a life on a stream whose rule turns, by a few degrees a day."""
    executor = Poisoned(poison, seed)
    made = pipeline(
        turning(60, 150, seed=seed),
        home,
        learner=LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbosity=-1),
        executor=executor,
        challengers=None,
        metric="accuracy",
        enough=50,
        **parts,
    )
    told = made.backtest(since=START + 10 * DAY, compare=False)
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        found = [entry.fact for entry in ledger.facts("churn")]
    return Life(float(told["churn"].value or 0.0), found, executor.poisoned)


@pytest.mark.parametrize("poison", [shuffled, foreign, scaled], ids=lambda one: str(one.__name__))
def test_poison_costs_nothing_with_the_default_gate(tmp_path: Path, poison: Poison) -> None:
    clean = lived(tmp_path / "clean", None, SEED)
    harmed = lived(tmp_path / "harmed", poison, SEED)
    assert sum(harmed.poisoned) >= 5
    assert harmed.accuracy > clean.accuracy - LOST


@pytest.mark.parametrize("poison", [shuffled, foreign], ids=lambda one: str(one.__name__))
def test_poison_harms_where_everything_is_promoted(tmp_path: Path, poison: Poison) -> None:
    clean = lived(tmp_path / "clean", None, SEED, gate=[])
    harmed = lived(tmp_path / "harmed", poison, SEED, gate=[])
    assert harmed.accuracy < clean.accuracy - HARM
    assert not harmed.of(TrainingFailed)


def test_what_did_not_learn_its_rows_fails_and_is_trained_once_more(tmp_path: Path) -> None:
    life = lived(tmp_path, shuffled)
    started = {fact.version: fact for fact in life.of(TrainingStarted)}
    retries = {fact.retry_of: fact for fact in started.values() if fact.retry_of}
    failed = {fact.version: fact for fact in life.of(TrainingFailed)}
    assert set(retries) <= set(failed)
    for name, retry in retries.items():
        assert failed[name].reason == "not learnt"
        first = started[name]
        assert (retry.snapshot, retry.parent) == (first.snapshot, first.parent)
        assert (retry.challenger, retry.turn) == (first.challenger, first.turn)
        assert retry.key != first.key
        assert retry.retry_of not in {fact.version for fact in life.of(Promoted)}
    # Nothing is tried a third time.
    assert not {retry.version for retry in retries.values()} & set(retries)


def test_shuffled_labels_are_found_and_what_went_right_stands_the_second_time(
    tmp_path: Path,
) -> None:
    life = lived(tmp_path, shuffled)
    bad, right = life.ended(bad=True), life.ended(bad=False)
    assert sum(isinstance(fact, TrainingFailed) for fact in bad) >= 0.75 * len(bad)
    again = [fact for fact in right if isinstance(fact, TrainingFailed)]
    assert len(again) <= RETRIED * len(right)
    retries = {fact.retry_of: fact.version for fact in life.of(TrainingStarted) if fact.retry_of}
    # What fails twice has been poisoned once at least.
    first = [fact.version for fact in again if fact.version in retries]
    trained, hit = ({f.version for f in found} for found in (life.of(Trained), bad))
    assert {retries[name] for name in first} <= trained | hit
    assert {fact.version for fact in again} - set(first) <= {retries.get(name) for name in hit}
