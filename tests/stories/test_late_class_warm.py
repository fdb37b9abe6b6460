"""A class that comes late where nothing but warm starts is asked for: it is learnt all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from tests.worlds import DAY, START, live, pipeline, play

from keepfit import Challenger, learners, selection, triggers
from keepfit.facts import TrainingFailed
from keepfit.loop import Loop
from keepfit.registry import Version
from keepfit.reproduce import reproduce
from keepfit.results import Why

pytestmark = pytest.mark.story

DAYS, ROWS = 16, 60
LATE = 8
"""The day with which the third class comes."""

WHY = "has no place for `c`"


def history() -> pl.DataFrame:
    """Two classes by one column, and from some day on a third by another."""
    rng = np.random.default_rng(0)
    size = DAYS * ROWS
    x, z = rng.normal(size=(2, size))
    label = np.where(x > 0, "b", "a")
    label[(np.arange(size) >= LATE * ROWS) & (z > 0.5)] = "c"
    times = pl.datetime_range(START, START + DAYS * DAY, DAY / ROWS, eager=True)[:size]
    return pl.DataFrame({"id": np.arange(size), "time": times, "x": x, "z": z, "label": label})


def lived(home: Path, learner: Any, *others: Challenger, update: str = "all") -> Loop:
    warm = Challenger(select=selection.SinceLast(), start="champion", update=update, name="warm")
    made = pipeline(
        history(),
        home,
        learner=learner,
        metric="accuracy",
        challengers=[warm, *others],
        trigger=triggers.Every("2d"),
        enough=50,
        gate=[],
    )
    loop = live(made, START + DAY)
    play(loop, DAYS)
    return loop


def classes(loop: Loop) -> tuple[Any, ...]:
    found: tuple[Any, ...] = loop.scorer.model(
        loop.state.versions[loop.state.champion or ""]
    ).classes
    return found


def versions(loop: Loop) -> list[Version]:
    return [one for one in loop.state.versions.values() if one.challenger == "warm"]


@pytest.mark.parametrize(
    ("learner", "update"),
    [
        (SGDClassifier(loss="log_loss"), "all"),
        (LGBMClassifier(n_estimators=4, num_leaves=7, verbosity=-1), "leaves"),
    ],
)
def test_a_class_without_a_place_is_learnt_from_scratch_and_kept(
    learner: Any, update: str, tmp_path: Path
) -> None:
    loop = lived(tmp_path / "home", learner, update=update)
    assert classes(loop) == ("a", "b", "c")
    afresh = [one for one in versions(loop) if one.afresh]
    assert len({one.turn for one in afresh}) == 1, "then warm starts go on"
    assert versions(loop)[-1].start == "champion"
    began = afresh[-1]
    before = [one.name for one in versions(loop) if one.state != "failed" and not one.afresh]
    assert began.afresh.endswith(WHY)
    assert began.afresh.split()[0] in before
    assert began.snapshot.rows > LATE * ROWS, "all rows so far"
    entries = list(loop.memory.ledger.facts("churn"))
    told = repr(Why.of("churn", loop.state, began.name, entries))
    assert f"from scratch, because {began.afresh}" in " ".join(told.split())
    assert reproduce(live(loop.pipeline), began.name).same


def test_warm_starts_leave_the_class_to_a_recipe_that_learns_it(tmp_path: Path) -> None:
    whole = Challenger(select=selection.Expanding(), name="whole")
    loop = lived(tmp_path / "home", SGDClassifier(loss="log_loss"), whole)
    assert not any(one.afresh for one in versions(loop))
    assert classes(loop) == ("a", "b", "c")


def test_a_learner_of_two_classes_goes_on_with_those_it_knows(tmp_path: Path) -> None:
    loop = lived(tmp_path / "home", LogisticRegression(solver="liblinear"))
    failed = [
        entry.fact
        for entry in loop.memory.ledger.facts("churn")
        if isinstance(entry.fact, TrainingFailed)
    ]
    assert len(failed) == 1
    assert classes(loop) == ("a", "b")
    after = [
        one for one in versions(loop) if one.turn > loop.state.versions[failed[0].version].turn
    ]
    assert len(after) >= 2
    assert {one.state for one in after} <= {"champion", "previous", "retired"}
    assert all(one.start == "champion" and one.snapshot.unlearnt for one in after)


def test_a_network_from_the_champion_gets_an_output_for_the_class(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    loop = lived(tmp_path / "home", learners.Torch(hidden=(8,), epochs=4, lr=0.02))
    assert classes(loop) == ("a", "b", "c")
    first, *rest = versions(loop)
    assert first.start == "scratch"
    assert {one.start for one in rest} == {"champion"}
    assert not any(one.afresh for one in rest)
