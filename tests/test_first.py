"""Which window makes the first model: what history shows, what it does not, what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from keepfit import Challenger, selection
from keepfit.facts import Fact, Promoted, Sampled, TrainingStarted
from keepfit.first import TELLING, First
from tests.worlds import DAY, START, pipeline, stream

DAYS = 20
"""Days of history before the first model."""

SHORT, ALL = selection.Sliding(5), selection.Expanding()
LEAF = DecisionTreeClassifier(min_samples_leaf=20, random_state=0)


class Fails(LogisticRegression):
    """Learns nothing from few rows."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> Fails:
        if len(y) < 2_000:
            raise ValueError("too few\nto say more of")
        return super().fit(X, y, sample_weight)


def windows(*more: Any) -> list[Challenger]:
    return [Challenger(select=one, every=None) for one in (SHORT, *more, ALL)]


def lived(
    home: Path, *, per_day: int = 200, flip_at: int | None = None, **parts: Any
) -> list[Fact]:
    """Return the facts of a backtest of three days after as many of history."""
    found: list[Fact] = []
    made = pipeline(
        stream(DAYS + 3, per_day, seed=1, flip_at=flip_at),
        home,
        **({"features": ["x", "y"], "checks": [], "challengers": windows()} | parts),
    )
    made.backtest(
        since=START + DAYS * DAY, compare=False, listen=lambda entry: found.append(entry.fact)
    )
    return found


def first_turn(facts: Sequence[Fact]) -> dict[str, str]:
    started = [one for one in facts if isinstance(one, TrainingStarted)]
    return {one.version: one.challenger for one in started if one.turn == started[0].turn}


def made_first(facts: Sequence[Fact]) -> str:
    """Return which recipe made the first champion."""
    champion = next(one for one in facts if isinstance(one, Promoted))
    return first_turn(facts)[champion.version]


def trial(facts: Sequence[Fact]) -> dict[str, Sampled]:
    names = first_turn(facts)
    return {names[one.version]: one for one in facts if isinstance(one, Sampled)}


def test_after_a_change_in_history_a_window_of_since_then_makes_the_first_model(
    tmp_path: Path,
) -> None:
    found = lived(tmp_path, flip_at=14)
    assert made_first(found) == "Sliding(5)"
    told = trial(found)
    assert {name: (one.skipped, one.ahead) for name, one in told.items()} == {
        "Sliding(5)": (False, True),
        "Expanding": (True, False),
    }
    # Three days of 200 rows judge, as two would be too few.
    assert told["Sliding(5)"].rows == 5 * 200
    # The first row of the next day is known.
    assert told["Expanding"].rows == (DAYS - 3) * 200 + 1
    assert told["Expanding"].reason.startswith("on its rows before the newest 600 (3,401): roc_auc")
    assert told["Expanding"].reason.endswith("; Sliding(5) did better")


def test_where_history_holds_no_change_all_of_it_makes_the_first_model(tmp_path: Path) -> None:
    found = lived(tmp_path)
    assert made_first(found) == "Expanding"
    told = trial(found)
    assert [name for name, one in told.items() if one.skipped] == ["Sliding(5)"]
    assert not any(one.ahead for one in told.values())
    assert told["Sliding(5)"].reason.endswith("; no better than Expanding for sure")


def test_a_trial_that_shows_nothing_changes_nothing_of_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def followed(home: Path) -> list[tuple[str, int]]:
        facts = lived(home)
        started = [one for one in facts if isinstance(one, TrainingStarted)]
        first = first_turn(facts)
        return [(one.challenger, one.snapshot.rows) for one in started if one.version not in first]

    tried = followed(tmp_path / "tried")
    monkeypatch.setattr(First, "beside", lambda first, chosen, enough: chosen[-1:])
    assert tried == followed(tmp_path / "untried")
    assert tried


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"challengers": [Challenger()]}, "one recipe"),
        ({"per_day": 30}, "150 rows are too few for a window"),
        ({"gate": []}, "nothing is judged"),
        ({"budget": "1 per 30d"}, "one training is paid for"),
        (
            {"challengers": [Challenger(select=SHORT, learner=LEAF), Challenger()]},
            "another learner's windows",
        ),
        (
            {"challengers": [Challenger(select=selection.Sliding(18)), Challenger()]},
            "nearly the same rows",
        ),
    ],
)
def test_who_sees_most_goes_alone(parts: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = lived(tmp_path, flip_at=14, **parts)
    assert list(first_turn(found).values()) == ["Expanding"], why
    assert trial(found) == {}


def test_a_window_that_cannot_be_trained_is_out_of_it(tmp_path: Path) -> None:
    found = lived(tmp_path, flip_at=14, learner=Fails())
    assert made_first(found) == "Expanding"
    assert "raised: ValueError: too few; no better" in trial(found)["Sliding(5)"].reason


def test_where_the_window_of_one_step_is_best_the_best_of_the_others_leads(tmp_path: Path) -> None:
    recipes = windows(selection.Sliding(1))
    found = lived(tmp_path, per_day=600, flip_at=17, challengers=recipes, learner=LEAF)
    assert made_first(found) == "Sliding(1)"
    assert [name for name, one in trial(found).items() if one.ahead] == ["Sliding(5)"]


def test_where_no_other_is_shown_to_do_better_who_leads_is_as_ever(tmp_path: Path) -> None:
    recipes = windows(selection.Sliding(1))
    found = lived(tmp_path, per_day=600, flip_at=18, challengers=recipes)
    assert made_first(found) == "Sliding(1)"
    assert not any(one.ahead for one in trial(found).values())


def test_a_day_of_enough_rows_judges_alone(tmp_path: Path) -> None:
    told = trial(lived(tmp_path, per_day=TELLING))
    assert told["Expanding"].rows == (DAYS - 1) * TELLING + 1


def test_the_first_model_is_trained_on_all_its_window_has(tmp_path: Path) -> None:
    found = lived(tmp_path, flip_at=14)
    champion = next(one for one in found if isinstance(one, Promoted)).version
    [snapshot] = [
        one.snapshot
        for one in found
        if isinstance(one, TrainingStarted) and one.version == champion
    ]
    assert START + DAYS * DAY - snapshot.to <= timedelta(days=1)
