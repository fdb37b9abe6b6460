"""What holds of a budget, whatever the stream, the recipes and the clock."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from tests.poisons import shuffled
from tests.worlds import DAY, pipeline, stream

from keepfit import Challenger, executors, gates, selection, triggers
from keepfit.facts import Arrived, Cost, Entry, Fact, Trained, TrainingFailed, TrainingStarted
from keepfit.protocols import Result, Task

WINDOWS: list[Any] = [
    selection.Sliding("2d"),
    selection.Sliding("5d"),
    selection.Expanding(),
]


class Fickle:
    """Trains in this process: some fail, some learn other labels, and all cost what is drawn."""

    def __init__(self, seed: int, *, failing: float = 0.15, spoilt: float = 0.25) -> None:
        self.inner, self.rng = executors.Inline(), np.random.default_rng(seed)
        self.failing, self.spoilt = failing, spoilt

    def run(self, task: Task) -> Result:
        """Train, and return how it ended."""
        cost = Cost(
            cpu_seconds=task.rows.height / 100 * float(self.rng.uniform(0.5, 2.0)),
            wall_seconds=1.0,
            peak_bytes=1,
        )
        drawn = self.rng.random()
        if drawn < self.failing:
            return Result(cost=cost, reason="raised", message="by chance")
        if drawn < self.failing + self.spoilt:
            rows = shuffled(task.rows, self.rng)
            task = replace(task, rows=rows)
        found = self.inner.run(task)
        return Result(cost=cost, model=found.model, packages=found.packages)

    def close(self) -> None:
        """Let go of nothing."""


windows = st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique_by=repr)
lives = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "flip_at": st.none() | st.integers(4, 12),
        "windows": windows,
        "cadence": st.sampled_from([None, 1]),
        "leaves": st.booleans(),
        "often": st.sampled_from(["1d", "2d", "3d"]),
        "gate": st.sampled_from([[], [gates.NoWorse(within=0.1)], [gates.Fresher()]]),
        "final_fit": st.sampled_from([None, "all"]),
        "period": st.sampled_from([3, 6, 30]),
        "takes": st.sampled_from([0, 12, 60]),
    }
)


def lived(drawn: dict[str, Any], budget: str) -> list[Fact]:
    """Return the facts of a life of 16 days."""
    days = 16
    recipes = [Challenger(select=one, every=drawn["cadence"]) for one in drawn["windows"]]
    if drawn["leaves"]:
        since = selection.SinceLast()
        recipes.append(Challenger(select=since, start="champion", update="leaves"))
    with tempfile.TemporaryDirectory() as folder:
        made = pipeline(
            stream(days, 30, seed=drawn["seed"], flip_at=drawn["flip_at"]),
            Path(folder),
            learner=LGBMClassifier(n_estimators=5, num_leaves=7, n_jobs=1, verbosity=-1),
            executor=Fickle(drawn["seed"]),
            metric="accuracy",
            trigger=triggers.Every(drawn["often"]),
            challengers=recipes,
            gate=drawn["gate"],
            final_fit=drawn["final_fit"],
            enough=40,
            budget=budget,
        )
        entries: list[Entry] = []
        takes = timedelta(hours=drawn["takes"])
        made.backtest(compare=False, training_time=takes, listen=entries.append)
        made.close()
    return [entry.fact for entry in entries]


def moments(facts: list[Fact]) -> list[tuple[datetime, Fact]]:
    """Return facts with the event time that had been read when they were written."""
    found: list[tuple[datetime, Fact]] = []
    read: datetime | None = None
    for fact in facts:
        if isinstance(fact, Arrived) and fact.watermark is not None:
            read = fact.watermark if read is None else max(read, fact.watermark)
        if read is not None:
            found.append((read, fact))
    return found


@settings(max_examples=12)
@given(lives, st.integers(1, 5))
def test_no_period_holds_more_trainings_than_the_budget(drawn: dict[str, Any], many: int) -> None:
    period = drawn["period"] * DAY
    facts = moments(lived(drawn, f"{many} per {drawn['period']}d"))
    began = [at for at, fact in facts if isinstance(fact, TrainingStarted)]
    assert began
    for at in began:
        assert sum(at <= other < at + period for other in began) <= many


@settings(max_examples=12)
@given(lives, st.integers(2, 40))
def test_no_training_starts_whose_forecast_is_more_than_is_left(
    drawn: dict[str, Any], seconds: int
) -> None:
    period = drawn["period"] * DAY
    spent: dict[str, tuple[datetime, float]] = {}
    for at, fact in moments(lived(drawn, f"{seconds}s per {drawn['period']}d")):
        if isinstance(fact, Trained | TrainingFailed):
            spent[fact.version] = spent[fact.version][0], fact.cost.cpu_seconds
        if isinstance(fact, TrainingStarted):
            left = seconds - sum(cost for began, cost in spent.values() if at - began < period)
            forecast = 0.0 if fact.forecast is None else fact.forecast.seconds
            assert left > 0
            assert forecast <= left + 1e-9
            spent[fact.version] = at, forecast
    assert spent
