"""What a training will cost is told before it starts, and one that breaks the budget does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.worlds import DAY, START, MovedClock, pipeline, play, stream

from keepfit import Challenger, executors, selection, triggers
from keepfit.facts import Cost, Decided, Entry, TrainingStarted
from keepfit.loop import Loop
from keepfit.protocols import Result, Task
from keepfit.results import Status, Why


class Metered:
    """Trains in this process, and says that it took a hundredth of a CPU second a row."""

    def __init__(self) -> None:
        self.inner = executors.Inline()

    def run(self, task: Task) -> Result:
        """Train, and return how it ended."""
        found = self.inner.run(task)
        cost = Cost(cpu_seconds=task.rows.height / 100, wall_seconds=1.0, peak_bytes=1)
        return Result(cost=cost, model=found.model, packages=found.packages)

    def close(self) -> None:
        """Let go of nothing."""


def lived(home: Path, days: int = 20, **parts: Any) -> tuple[Loop, list[Entry]]:
    defaults: dict[str, Any] = {
        "trigger": triggers.Every("2d"),
        "gate": [],
        "enough": 50,
        "executor": Metered(),
    }
    made = pipeline(stream(days, 50), home, **(defaults | parts))
    loop = Loop(made, made.memory(), MovedClock(START))
    return loop, play(loop, days)


def started(entries: list[Entry]) -> list[TrainingStarted]:
    return [entry.fact for entry in entries if isinstance(entry.fact, TrainingStarted)]


def test_a_forecast_stands_in_the_facts_before_its_training(tmp_path: Path) -> None:
    loop, entries = lived(tmp_path / "home")
    first, *others = started(entries)
    assert first.forecast is None
    assert others
    for fact in others:
        told = fact.forecast
        assert told is not None
        took = loop.state.versions[fact.version].cost.cpu_seconds
        assert told.low < took < told.high
        assert abs(told.seconds - took) < 0.1 * took


def test_status_and_why_tell_the_forecast_beside_what_it_was(tmp_path: Path) -> None:
    loop, _ = lived(tmp_path / "home")
    newest = list(loop.state.versions)[-1]
    took = loop.state.versions[newest].cost.cpu_seconds
    told = repr(Why.of("churn", loop.state, newest, loop.memory.ledger.facts("churn")))
    assert "forecast " in told
    assert f"was {took:.1f} s of CPU".replace(".0 s", " s") in told
    shown = Status.of("churn", loop.state)
    assert f"{newest} took {took:.1f} s of CPU, forecast".replace(".0 s", " s") in repr(shown)
    assert "the next like it: forecast" in repr(shown)
    assert shown.to_dict()["upcoming"]["seconds"] > 0
    assert shown.to_frame().height == 1


def test_a_training_whose_forecast_breaks_the_budget_does_not_start(tmp_path: Path) -> None:
    # All rows cost ten times what the newest fifty do.
    loop, entries = lived(
        tmp_path / "home",
        budget="8s per 6d",
        challengers=[
            Challenger(select=selection.Expanding(), name="all"),
            Challenger(select=selection.Sliding("1d"), name="newest"),
        ],
    )
    refused = [
        entry.fact.decision
        for entry in entries
        if isinstance(entry.fact, Decided)
        and "all" in entry.fact.decision.evidence.get("not_run", {})
    ]
    assert refused
    assert "the budget has" in refused[-1].evidence["not_run"]["all"]
    later = [fact.challenger for fact in started(entries) if fact.snapshot.as_of > START + 12 * DAY]
    assert "newest" in later
    assert "all" not in later
    spent = loop.state.trainings
    for at, _ in spent:
        within = [cpu for other, cpu in spent if 0 <= (at - other).total_seconds() < 6 * 86_400]
        assert sum(within) <= 8.0 + 0.5


def test_when_nothing_can_be_paid_for_the_decision_says_so(tmp_path: Path) -> None:
    _, entries = lived(tmp_path / "home", budget="2s per 1000d")
    decisions = [entry.fact.decision for entry in entries if isinstance(entry.fact, Decided)]
    held = [one for one in decisions if "forecast at" in one.reason]
    assert held
    assert not any(one.train for one in held)
    assert len(started(entries)) < 4


def test_a_person_may_spend_more_than_the_budget(tmp_path: Path) -> None:
    loop, _ = lived(tmp_path / "home", days=8, budget="2s per 1000d")
    before = len(loop.state.versions)
    loop.train("it is worth it")
    assert len(loop.state.versions) == before + 1
