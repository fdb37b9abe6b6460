"""Whether a training learnt its rows: what is compared, and what is taken for an accident."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from msgspec.structs import replace

from keepfit import Challenger, gates, learners, selection, triggers
from keepfit.facts import Cost, Snapshot, TrainingFailed
from keepfit.learnt import ASKED, ENOUGH, FEWEST, UNLEARNT, Learnt, again, learnt, wrong
from keepfit.registry import State, Version
from tests.poisons import Poison, foreign, shuffled
from tests.worlds import START, live, pipeline, play, stream

AT = datetime(2024, 3, 1, tzinfo=UTC)
GROWN = Learnt(new=0.2, known=0.1, before="v1", rows=100)


def version(name: str = "v9", **parts: Any) -> Version:
    """Return an update of the leaves, unless told otherwise."""
    defaults: dict[str, Any] = {
        "turn": 1,
        "challenger": "leaves",
        "snapshot": Snapshot(
            batch=1, as_of=AT, selection="", rows=100, digest="", from_=START, to=AT
        ),
        "start": "champion",
        "update": "leaves",
        "seed": 0,
        "key": "a key",
        "started_at": AT,
        "ready_at": AT,
    }
    return Version(name=name, **(defaults | parts))


SCRATCH = {"start": "scratch", "update": "all"}
WARM = {"start": "champion", "update": "all"}
RETRIED = {"retry_of": "v8"}


# Shares ---------------------------------------------------------------------------------


def test_a_share_is_what_the_loss_fell_by() -> None:
    assert Learnt(new=0.1, known=0.2).share == pytest.approx(0.5)
    assert Learnt(new=0.3, known=0.2).share == pytest.approx(-0.5)


def test_of_what_is_not_known_no_share_is_told() -> None:
    assert Learnt().share is None
    assert Learnt(new=0.1, known=math.nan).share is None
    assert Learnt(new=math.nan, known=0.1).share is None


def test_what_was_perfect_can_only_get_worse_and_no_answer_is_the_worst() -> None:
    assert Learnt(new=0.0, known=0.0).share == 0.0
    assert Learnt(new=0.1, known=0.0).share == -1.0
    assert Learnt(new=math.inf, known=0.1).share == -1.0


def test_noise_of_arithmetic_is_no_growth() -> None:
    assert not Learnt(new=0.2 + 1e-9, known=0.2).grown
    assert GROWN.grown


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_share_is_at_most_one_and_grows_as_the_loss_falls(new: float, known: float) -> None:
    share = Learnt(new=new, known=known).share
    assert share is not None
    assert share <= 1
    lower = Learnt(new=new / 2, known=known).share
    assert lower is not None
    assert lower >= share


# What is taken for wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "found", "same", "expected"),
    [
        ({}, GROWN, True, True),
        (RETRIED, GROWN, True, False),
        (RETRIED, GROWN, False, True),
        (SCRATCH, GROWN, True, True),
        (SCRATCH | RETRIED, GROWN, True, False),
        (SCRATCH | RETRIED, GROWN, False, True),
        (SCRATCH | RETRIED | {"final_of": "v7"}, GROWN, True, True),
        (WARM, GROWN._replace(better=True), True, False),
        (SCRATCH, GROWN._replace(better=True), True, False),
        ({}, GROWN._replace(better=True), True, True),
        ({}, GROWN._replace(new=0.05), True, False),
        ({}, Learnt(), True, False),
    ],
    ids=[
        *("an update", "an update, the same again", "an update, another again"),
        *("from scratch", "from scratch, the same again", "from scratch, another again"),
        "a last fit, the same again",
        *("warm, but better by the metric", "from scratch, but better by the metric"),
        *("leaves, though better by the metric", "learnt well", "not known"),
    ],
)
def test_what_makes_rows_worse_is_wrong(
    parts: dict[str, Any], found: Learnt, same: bool, expected: bool
) -> None:
    said = wrong(State(), version(**parts), found, same=same)
    assert bool(said) is expected
    if expected:
        assert "a loss of 0.2, 0.1 by v1, on 100 rows" in said


def usual(share: float, many: int, **parts: Any) -> State:
    """Return a state in which updates learnt a share."""
    return State(versions={f"v{i}": version(f"v{i}", learnt=share, **parts) for i in range(many)})


def test_an_update_that_learns_less_than_half_of_what_is_usual_is_tried_once_more() -> None:
    state, little = usual(0.4, ENOUGH), Learnt(new=0.85, known=1.0, before="v1", rows=100)
    assert "less than half of what is usual" in wrong(state, version(), little, same=True)
    assert not wrong(state, version(), little._replace(new=0.75), same=True)
    # The second time it stands.
    assert not wrong(state, version(**RETRIED), little, same=False)


@pytest.mark.parametrize(
    "state",
    [
        usual(0.4, ENOUGH - 1),
        usual(0.4, ENOUGH, challenger="another"),
        usual(0.4, ENOUGH, final_of="v0"),
    ],
    ids=["too few", "another recipe", "last fits"],
)
def test_what_is_usual_is_told_by_enough_updates_alike(state: State) -> None:
    assert not wrong(state, version(), Learnt(new=0.85, known=1.0), same=True)


def test_dear_trainings_are_not_run_again_for_learning_little() -> None:
    state = usual(0.4, ENOUGH, **WARM)
    assert not wrong(state, version(**WARM), Learnt(new=0.99, known=1.0), same=True)


# Once more ------------------------------------------------------------------------------


def test_only_what_did_not_learn_is_tried_again_and_only_once(tmp_path: Path) -> None:
    loop = live(pipeline(stream(2, 10), tmp_path))
    failed = TrainingFailed(version="v9", reason=UNLEARNT, message="", cost=Cost())
    crashed = TrainingFailed(version="v9", reason="crashed", message="", cost=Cost())
    retry = again(loop, version(), failed)
    assert retry is not None
    assert (retry.version, retry.retry_of, retry.challenger) == ("v1", "v9", "leaves")
    assert retry.key != version().key
    assert again(loop, version(), crashed) is None
    assert again(loop, version(**RETRIED), failed) is None


# Rows -----------------------------------------------------------------------------------


def test_nothing_is_asked_without_a_champion_a_gate_or_enough_rows(tmp_path: Path) -> None:
    loop = live(pipeline(stream(30, 50), tmp_path / "gated"))
    first = version(start="scratch", update="all")
    assert learnt(loop, first, None) == Learnt()
    play(loop, 5)
    champion = loop.state.versions[loop.state.champion or ""]
    model = loop.scorer.model(champion)
    newer = {"snapshot": champion.snapshot}
    # None of its rows is new to the champion.
    assert learnt(loop, version(champion.name, **newer), model) == Learnt()
    loop.pipeline.gate = ()
    assert learnt(loop, version(champion.name, **newer), model) == Learnt()


def test_the_rows_are_those_that_the_champion_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = live(pipeline(stream(30, 100), tmp_path))
    play(loop, 3)
    champion = loop.state.versions[loop.state.champion or ""]
    play(loop, 8)
    rows = loop.labelled(loop.clock.now())
    monkeypatch.setattr(type(loop.turns), "rows_of", lambda self, version: rows)
    loop.state.champion = champion.name
    model = loop.scorer.model(champion)
    found = learnt(loop, version(), model)
    new = rows.filter(pl.col("_time") > champion.snapshot.to)
    assert FEWEST <= found.rows == min(ASKED, new.height)
    assert found.before == champion.name
    assert found.share == 0.0
    assert not found.better


def test_of_a_model_from_scratch_rows_of_all_times_are_asked_where_new_ones_are_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What serves has learnt the world as it is now; most rows of the other are of the one before.
    frame = stream(30, 100, flip_at=20)
    recipe = Challenger(select=selection.Sliding(2))
    parts = {"challengers": [recipe], "trigger": triggers.Every("1d"), "gate": gates.Fresher()}
    loop = live(pipeline(frame, tmp_path, **parts))
    play(loop, 20)
    old = loop.scorer.model(loop.state.versions[loop.state.champion or ""])
    play(loop, 8)
    rows = loop.labelled(loop.clock.now())
    champion = loop.state.versions[loop.state.champion or ""]
    champion.snapshot = replace(champion.snapshot, to=rows.get_column("_time")[-101])
    monkeypatch.setattr(type(loop.turns), "rows_of", lambda self, version: rows)
    found = learnt(loop, version(start="scratch", update="all"), old)
    assert not found.grown
    assert found.rows == ASKED
    assert learnt(loop, version(), old).grown


class Mute:
    """A model that knows the task and cannot answer."""

    def __init__(self, model: Any) -> None:
        self.task, self.classes, self.codes = model.task, model.classes, model.codes

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Raise."""
        raise RuntimeError("out of words")


def test_a_model_that_cannot_answer_its_rows_did_not_learn_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = live(pipeline(stream(30, 100), tmp_path))
    play(loop, 6)
    rows = loop.labelled(loop.clock.now())
    monkeypatch.setattr(type(loop.turns), "rows_of", lambda self, version: rows.tail(200))
    champion = loop.state.versions[loop.state.champion or ""]
    champion.snapshot = replace(champion.snapshot, to=START)
    model = loop.scorer.model(champion)
    assert learnt(loop, version(), Mute(model)).share == -1.0
    monkeypatch.setattr(loop.scorer, "model", lambda version: Mute(model))
    assert learnt(loop, version(), Mute(model)).share is None


# Updates of leaves ----------------------------------------------------------------------


def share_of(learner: Any, seed: int, poison: Poison | None = None) -> float:
    """Return what an update of leaves makes of the loss on its rows, as the record has them."""
    frame = stream(12, 100, seed=seed, noise=1.0).drop("time", "kind")
    rows = frame.rename({"label": "_label", "id": "_id"})
    new = rows.tail(200)
    taught = new if poison is None else poison(new, np.random.default_rng(seed))
    old = learner.fit(rows.head(1_000), start="scratch", update="all", previous=None, seed=0)
    model = learner.fit(taught, start="champion", update="leaves", previous=old, seed=0)
    labels = new.get_column("_label").to_numpy()
    before, after = (((one.predict(new) - labels) ** 2).mean() for one in (old, model))
    found = Learnt(new=float(after), known=float(before)).share
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [LGBMClassifier, LGBMRegressor], ids=["classes", "numbers"])
def test_leaves_that_learnt_their_rows_always_answer_them_better(kind: Any) -> None:
    learner = learners.resolve(kind(n_estimators=20, num_leaves=7, n_jobs=1, verbosity=-1))
    shares = [share_of(learner, seed) for seed in range(30)]
    assert min(shares) > 0


@pytest.mark.parametrize("poison", [shuffled, foreign], ids=["shuffled", "foreign"])
def test_of_poisoned_leaves_nine_in_ten_are_found(poison: Poison) -> None:
    learner = learners.resolve(
        LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbosity=-1)
    )
    state = usual(float(np.median([share_of(learner, seed) for seed in range(9)])), ENOUGH)
    poisoned = [Learnt(1 - share_of(learner, seed, poison), 1.0) for seed in range(100, 140)]
    found = [bool(wrong(state, version(), one, same=True)) for one in poisoned]
    assert np.mean(found) >= 0.9
