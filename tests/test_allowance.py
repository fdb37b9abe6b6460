"""What a budget pays for: recipes, a second try, and the last fit of a winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keepfit import Challenger, gates, rollouts, selection, triggers
from keepfit.clock import utc
from keepfit.costs import Forecast
from keepfit.facts import (
    UNLEARNT,
    Cost,
    Decided,
    Fact,
    Promoted,
    RolledOut,
    TrainingFailed,
    TrainingStarted,
)
from keepfit.learnt import again
from keepfit.loop import Loop
from tests.spoiling import spoil_last_fits
from tests.test_learnt import version
from tests.worlds import DAY, START, live, pipeline, stream

WINDOWS = [
    Challenger(select=selection.Sliding("2d"), name="short"),
    Challenger(select=selection.Sliding("4d"), name="middle"),
    Challenger(select=selection.Expanding(), name="all"),
]


def played(home: Path, budget: str, **parts: Any) -> list[Fact]:
    """Return the facts of a backtest of three weeks in which every winner learns its holdout."""
    defaults: dict[str, Any] = {
        "trigger": triggers.Every("6d"),
        "gate": [gates.NoWorse(within=0.1)],
        "final_fit": "all",
        "enough": 50,
    }
    found: list[Fact] = []
    made = pipeline(stream(21), home, budget=budget, **(defaults | parts))
    made.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    return found


def begun(facts: list[Fact]) -> list[TrainingStarted]:
    return [fact for fact in facts if isinstance(fact, TrainingStarted)]


def test_a_turn_is_cut_to_the_trainings_that_are_left_and_says_so(tmp_path: Path) -> None:
    found = played(tmp_path, "3 per 300d", challengers=WINDOWS, final_fit=None)
    assert [one.challenger for one in begun(found)] == ["all", "short", "middle"]
    reasons = [fact.decision.evidence.get("not_run", {}) for fact in found if type(fact) is Decided]
    assert {"all": "the budget has 2 trainings left, for short, middle"} in reasons


def test_windows_that_are_one_training_are_paid_once(tmp_path: Path) -> None:
    twin = Challenger(select=selection.Sliding("2d", at_most=10_000), name="short too")
    found = played(tmp_path, "3 per 300d", challengers=[*WINDOWS, twin], final_fit=None)
    assert [one.challenger for one in begun(found)] == ["all", "short", "middle"]
    held = [fact.decision.evidence.get("not_run", {}) for fact in found if type(fact) is Decided]
    assert {"all": "the budget has 2 trainings left, for short, middle"} in held


def test_where_trainings_are_counted_the_leading_recipe_goes_before_cheaper_ones(
    tmp_path: Path,
) -> None:
    recipes = [
        Challenger(select=one.select, name=one.name, every=None) for one in reversed(WINDOWS)
    ]
    found = played(tmp_path, "2 per 300d", challengers=recipes, final_fit=None)
    assert [one.challenger for one in begun(found)][1:] == ["all"]


def test_a_winner_serves_as_it_passed_where_no_final_fit_is_left(tmp_path: Path) -> None:
    found = played(tmp_path, "2 per 300d")
    assert len(begun(found)) == 2
    promoted = [fact for fact in found if isinstance(fact, Promoted)]
    assert [one.version for one in promoted] == ["v1", "v2"]
    said = "as it passed, without a final fit: the budget has no training left"
    assert said in promoted[-1].reason
    assert any(one.final_of for one in begun(played(tmp_path / "more", "3 per 300d")))


def test_a_rollout_says_why_there_is_no_final_fit(tmp_path: Path) -> None:
    found = played(tmp_path, "2 per 300d", rollout=[rollouts.Shadow("1d")])
    stages = [fact for fact in found if isinstance(fact, RolledOut)]
    assert "without a final fit: the budget has no training left" in stages[0].reason


def test_a_final_fit_is_not_run_once_more_where_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_last_fits(monkeypatch)
    found = played(tmp_path, "3 per 300d")
    assert len(begun(found)) == 3
    failed = [fact for fact in found if isinstance(fact, TrainingFailed)]
    assert [one.reason for one in failed] == ["not learnt once"]
    assert failed[0].message.endswith("it is not run once more: the budget has no training left")
    assert [one.version for one in found if isinstance(one, Promoted)] == ["v1", "v2"]


def asked(home: Path, budget: str | None, trigger: str = "", seconds: float = 4.0) -> list[Any]:
    """Return what becomes of a training of 4 s that did not learn its rows, one more running."""
    loop: Loop = live(pipeline(stream(2, 10), home, budget=budget))
    told = Forecast(seconds=seconds, low=1.0, high=9.0, trainings=3)
    parts: dict[str, Any] = {"watermark": START, "forecast": told, "trigger": trigger}
    first, other = version("v1", **parts), version("v2", **parts)
    loop.state.versions = {"v1": first, "v2": other}
    loop.state.training, loop.state.watermark = ["v1", "v2"], START + DAY
    failed = TrainingFailed(
        version="v1", reason=UNLEARNT, message="no", cost=Cost(cpu_seconds=seconds)
    )
    retried = again(loop, first, failed)
    assert retried is not None
    return list(loop.turns.allowance.retry(first, failed, retried))


@pytest.mark.parametrize(
    ("budget", "paid"),
    [
        (None, True),
        ("3 per 7d", True),
        ("2 per 7d", False),
        ("2 per 1d", True),
        ("12s per 7d", True),
        ("11s per 7d", False),
        ("8s per 7d", False),
    ],
)
def test_a_second_try_is_asked_about_with_what_still_runs(
    tmp_path: Path, budget: str | None, paid: bool
) -> None:
    ended, retried = asked(tmp_path, budget)
    assert (retried is not None) is paid
    assert (ended.reason == UNLEARNT) is paid


def test_what_comes_of_a_person_s_turn_is_not_held_to_the_budget(tmp_path: Path) -> None:
    assert asked(tmp_path, "1 per 7d", trigger="hand")[1] is not None


def test_a_budget_knows_how_many_trainings_it_has_left() -> None:
    guard = triggers.Guarded(triggers.Every("1d"), budget="3 per 7d")
    past = [(utc("2024-01-01"), 4.0), (utc("2024-01-06"), 3.0)]
    assert guard.trainings_left(past, utc("2024-01-07")) == 1
    assert guard.trainings_left(past, utc("2024-01-08")) == 2
    assert guard.trainings_left(past * 2, utc("2024-01-07")) == 0
    assert guard.trainings_left(past, None) is None
    seconds = triggers.Guarded(triggers.Every("1d"), budget="3s per 7d")
    assert seconds.trainings_left(past, utc("2024-01-07")) is None
