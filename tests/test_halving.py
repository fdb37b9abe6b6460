"""Recipes tried on parts of their rows: who is left out, who is not, what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin

from keepfit import Challenger, executors, gates, halving, selection, triggers
from keepfit.batch import TIME
from keepfit.facts import (
    Cost,
    Fact,
    Promoted,
    Sampled,
    Snapshot,
    Trained,
    TrainingFailed,
    TrainingStarted,
    comparable,
)
from keepfit.metrics.evidence import Gain
from keepfit.metrics.series import Mean
from keepfit.protocols import Result, Task
from keepfit.registry import Recipe, State
from keepfit.standing import Standings
from tests.worlds import START, live, pipeline, play, stream

DAYS, PER_DAY = 9, 6_000


class Known(ClassifierMixin, BaseEstimator):
    """Sees what makes the label as clearly as it has rows: ``best``, less a gap that they close."""

    def __init__(self, best: float = 1.0, gap: float = 0.0, raises: int = 0) -> None:
        self.best, self.gap, self.raises = best, gap, raises

    def fit(self, X: np.ndarray, y: np.ndarray) -> Known:
        if len(y) < self.raises:
            raise ValueError(f"{len(y)} rows are too few\nfor this")
        self.classes_ = np.unique(y)
        self.seen_ = self.best - self.gap * (len(y) / 1_000) ** -0.5
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        x = np.asarray(X, dtype=float)
        noise = np.sin(1e5 * x[:, 0]) * 2
        chance = 1 / (
            1 + np.exp(-(self.seen_ * (x[:, 0] + x[:, 1] / 2) + (1 - self.seen_) * noise))
        )
        return np.column_stack([1 - chance, chance])

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def recipe(name: str, *known: float, **more: Any) -> Challenger:
    return Challenger(learner=Known(*known, **more), name=name)


GOOD = recipe("good", 0.8)
LATE = recipe("late", 1.0, 0.9)
"""Behind the good one with six thousand rows, and before it with thirty."""

HOPELESS = [recipe(f"hopeless {i}", 0.1 * i) for i in range(1, 4)]


class Watched(executors.Inline):
    """Trains in this process, and keeps how many rows each training had; one of them does not end."""

    def __init__(self, *, stops_at: int = 0, reason: str = "", below: int = 0) -> None:
        self.heights: list[int] = []
        self.stops_at, self.reason, self.below = stops_at, reason, below

    def run(self, task: Task) -> Result:
        self.heights.append(task.rows.height)
        if len(self.heights) == self.stops_at:
            raise KeyboardInterrupt
        late = task.learner.name.startswith("Known(gap=0.9")
        if self.reason and late and 1_000 <= task.rows.height < self.below:
            return Result(cost=Cost(cpu_seconds=5.0), reason=self.reason, message="no end was seen")
        return super().run(task)


def made(home: Path, recipes: Sequence[Challenger], **parts: Any) -> Any:
    """Return a pipeline that asks for all of them every six days, of which the last is the first champion."""
    defaults: dict[str, Any] = {
        "trigger": triggers.Every("6d"),
        "gate": gates.NoWorse(),
        "features": ["x", "y"],
        "checks": [],
    }
    rows = stream(DAYS, PER_DAY, seed=1)
    return pipeline(rows, home, challengers=list(recipes), **(defaults | parts))


def lived(home: Path, recipes: Sequence[Challenger], **parts: Any) -> list[Fact]:
    found: list[Fact] = []
    one = made(home, recipes, **parts)
    one.backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    return found


def names(facts: Sequence[Fact]) -> dict[str, str]:
    return {one.version: one.challenger for one in facts if isinstance(one, TrainingStarted)}


def rows_of(facts: Sequence[Fact]) -> dict[str, int]:
    return {one.version: one.snapshot.rows for one in facts if isinstance(one, TrainingStarted)}


def of(facts: Sequence[Fact], kind: type[Any]) -> list[Any]:
    return [one for one in facts if isinstance(one, kind)]


# The rule -------------------------------------------------------------------------------


def gain(mean: float, error: float) -> Gain:
    return Gain(Mean(mean, error, 10.0, 20.0, 64), 0.0)


means, errors = st.floats(-1, 1), st.floats(0, 1)


@given(means, errors, means, errors, st.sampled_from([1, 2]), st.floats(0, 1))
def test_who_does_better_or_learns_faster_is_never_left_out_for_it(
    mean: float, error: float, slope: float, unsure: float, steps: int, more: float
) -> None:
    out = halving.behind(gain(mean, error), gain(slope, unsure), steps)
    assert not (out and mean >= 0)
    if not out:
        assert not halving.behind(gain(mean + more, error), gain(slope, unsure), steps)
        assert not halving.behind(gain(mean, error), gain(slope + more, unsure), steps)
        assert not halving.behind(gain(mean, error + more), gain(slope, unsure), steps)


def test_a_recipe_that_would_catch_up_at_its_last_pace_is_not_behind() -> None:
    assert halving.behind(gain(-0.10, 0.01), gain(0.02, 0.005), 2)
    assert not halving.behind(gain(-0.10, 0.01), gain(0.05, 0.005), 2)
    assert halving.behind(gain(-0.10, 0.01), gain(0.05, 0.005), 1)
    assert not halving.behind(gain(-0.10, 0.06), gain(0.0, 0.005), 1)


def test_what_cannot_be_compared_is_not_behind() -> None:
    worst = gain(-np.inf, 0.0)
    assert halving.behind(worst, gain(0.0, 0.1), 2)
    assert not halving.behind(worst, gain(np.inf, 0.0), 2)


def test_in_some_tries_a_recipe_is_trained_in_any_case() -> None:
    assert [n for n in range(1_000) if halving.let_off(n)] == [8, 64, 512]


# The rows -------------------------------------------------------------------------------


@given(st.integers(1, 20_000), st.sampled_from([3, 9, 27]), st.integers(0, 9))
def test_a_part_is_drawn_evenly_over_time(rows: int, part: int, seed: int) -> None:
    frame = pl.DataFrame({"at": np.arange(rows)})
    drawn = halving.drawn(frame, part, seed)["at"]
    size = halving.part_size(rows, part)
    assert drawn.len() == size == min(rows, max(halving.FEWEST, rows // part))
    gaps = np.diff(drawn.to_numpy())
    assert drawn.equals(halving.drawn(frame, part, seed)["at"])
    if size > 1:
        assert gaps.min() > 0
        assert gaps.max() <= 2 * -(-rows // size)


def test_who_judges_is_newer_than_all_parts_and_from_the_widest_choice() -> None:
    times = [START + timedelta(minutes=i) for i in range(9_000)]
    wide = pl.DataFrame({TIME: times})
    narrow = wide.tail(4_500).gather_every(2)
    judging, since = halving.judges([narrow, wide])
    assert since == narrow[TIME][-narrow.height // halving.JUDGED]
    assert judging.equals(wide.filter(pl.col(TIME) >= since))


# The facts ------------------------------------------------------------------------------


def started(name: str, turn: int = 1) -> TrainingStarted:
    snapshot = Snapshot(
        batch=1, as_of=START, selection="s", rows=9, digest="d", from_=START, to=START
    )
    return TrainingStarted(
        version=name,
        turn=turn,
        challenger="one",
        snapshot=snapshot,
        start="scratch",
        update="all",
        seed=0,
        ready_at=START,
        key=name,
    )


def folded(*facts: Fact, champion: str | None = "v0") -> State:
    from keepfit.facts import Entry

    entries = [
        Entry(pipeline="churn", seq=i, at=START, fact=fact)  # type: ignore[arg-type]
        for i, fact in enumerate(facts, start=1)
    ]
    return State(trained_at=START, champion=champion).fold(entries)


def test_a_recipe_that_is_left_out_was_tried_and_has_not_failed() -> None:
    cost = Cost(cpu_seconds=2.0)
    told = Sampled(version="v1", rows=3, reason="behind", cost=cost, skipped=True)
    state = folded(started("v1"), told)
    assert state.training == []
    assert (state.versions["v1"].state, state.versions["v1"].message) == ("skipped", "behind")
    assert (state.recipes["one"].trainings, state.recipes["one"].failures) == (1, 0)
    counts = state.counts
    assert (counts.trainings, counts.skipped, counts.failed) == (0, 1, 0)
    assert counts.fit_cpu_seconds == 2.0
    # A budget of trainings has one more left, and one of seconds two less.
    assert state.trainings == []
    assert state.probe_costs == [(START, 2.0)]
    assert State.loads(state.dumps()).dumps() == state.dumps()


def test_a_recipe_that_is_left_out_of_the_first_turn_is_as_good_as_not_tried() -> None:
    told = Sampled(version="v1", rows=3, reason="no better", cost=Cost(), skipped=True)
    state = folded(started("v1"), told, champion=None)
    assert state.recipes["one"] == Recipe()
    assert state.outset == ""


def test_who_is_ahead_before_the_first_model_is_kept() -> None:
    told = Sampled(version="v1", rows=3, reason="better", cost=Cost(), ahead=True)
    assert folded(started("v1"), told, champion=None).outset == "one"


def test_a_recipe_that_is_tried_is_trained_still() -> None:
    told = Sampled(version="v1", rows=3, reason="as good", cost=Cost(cpu_seconds=2.0))
    state = folded(started("v1"), told)
    assert state.training == ["v1"]
    assert state.versions["v1"].sampled == told
    assert state.counts.trainings == 1


# The loop -------------------------------------------------------------------------------


def test_few_rows_are_all_learnt_as_ever(tmp_path: Path) -> None:
    rows = stream(DAYS, 2_000, seed=1)
    found: list[Fact] = []
    pipeline(
        rows,
        tmp_path,
        challengers=[*HOPELESS, GOOD],
        trigger=triggers.Every("6d"),
        features=["x", "y"],
    ).backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    assert max(rows_of(found).values()) < halving.MANY
    assert of(found, Sampled) == []
    assert len(of(found, Trained)) > 4


def test_one_recipe_alone_is_beside_nothing_to_be_tried(tmp_path: Path) -> None:
    found = lived(tmp_path, [GOOD])
    assert max(rows_of(found).values()) >= halving.MANY
    assert of(found, Sampled) == []


def test_windows_of_one_learner_are_not_tried_before_something_changed(tmp_path: Path) -> None:
    windows = [
        Challenger(select=one, learner=Known(0.8), name=repr(one))
        for one in (selection.Sliding("5d"), selection.Expanding())
    ]
    found = lived(tmp_path, windows)
    assert sum(rows >= halving.MANY for rows in rows_of(found).values()) > 1
    assert of(found, Sampled) == []


def test_after_a_change_the_window_that_reaches_before_it_is_left_out(tmp_path: Path) -> None:
    windows = [
        Challenger(select=one, name=name)
        for one, name in ((selection.Expanding(), "all"), (selection.Sliding("6d"), "short"))
    ]
    found: list[Fact] = []
    pipeline(
        stream(21, PER_DAY, seed=1, flip_at=10),
        tmp_path,
        challengers=windows,
        trigger=triggers.Every("6d"),
        features=["x", "y"],
        checks=[],
    ).backtest(compare=False, listen=lambda entry: found.append(entry.fact))
    called = names(found)
    assert {called[one.version] for one in of(found, Sampled) if one.skipped} == {"all"}
    assert called[of(found, Promoted)[-1].version] == "short"


def test_who_leads_is_trained_whatever_a_part_of_its_rows_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leader(standings: Standings) -> Challenger:
        return next(one for one in standings.challengers if one.name == "hopeless 1")

    monkeypatch.setattr(Standings, "leader", leader)
    found = lived(tmp_path, [*HOPELESS[:2], GOOD])
    called = names(found)
    out = {called[one.version]: one.skipped for one in of(found, Sampled)}
    assert out == {"hopeless 1": False, "hopeless 2": True, "good": False}


def test_a_part_that_cannot_be_learnt_tells_nothing(tmp_path: Path) -> None:
    shy = recipe("shy", 0.9, raises=20_000)
    found = lived(tmp_path, [HOPELESS[0], shy, GOOD])
    called = names(found)
    told = {called[one.version]: one for one in of(found, Sampled)}
    assert not told["shy"].skipped
    assert " it tells nothing: raised: ValueError: " in told["shy"].reason
    assert "\n" not in told["shy"].reason
    assert told["hopeless 1"].skipped
    trained = [called[one.version] for one in of(found, Trained)]
    assert "shy" in trained


@pytest.mark.parametrize("reason", halving.HOPELESS)
def test_what_does_not_come_through_a_part_is_not_given_all_rows(
    tmp_path: Path, reason: str
) -> None:
    watched = Watched(reason=reason, below=5_000)
    found = lived(tmp_path, [HOPELESS[0], LATE, GOOD], executor=watched)
    called, rows = names(found), rows_of(found)
    failed = [one for one in of(found, TrainingFailed) if one.reason == reason]
    assert [called[one.version] for one in failed] == ["late"]
    assert rows[failed[0].version] >= halving.MANY
    assert failed[0].message.startswith("on a ninth of its rows (")
    assert failed[0].message.endswith("already: no end was seen")
    assert failed[0].cost.cpu_seconds == 5.0


def test_a_budget_that_has_nothing_left_for_parts_pays_the_trainings_alone(tmp_path: Path) -> None:
    class Dear(Watched):
        def run(self, task: Task) -> Result:
            found = super().run(task)
            cost = Cost(cpu_seconds=task.rows.height / 1_000)
            return Result(cost=cost, model=found.model, packages=found.packages)

    recipes = [HOPELESS[0], GOOD]
    loose = lived(tmp_path / "loose", recipes, executor=Dear(), budget="100h per 300d")
    assert of(loose, Sampled)
    rows = [rows_of(loose)[one.version] for one in of(loose, Sampled)]
    before = [one for one in of(loose, Trained) if rows_of(loose)[one.version] < halving.MANY]
    left = int(sum(one.cost.cpu_seconds for one in before) + sum(rows) / 1_000 * 1.1)
    close = lived(tmp_path / "tight", recipes, executor=Dear(), budget=f"{left}s per 300d")
    assert max(rows_of(close).values()) >= halving.MANY
    assert of(close, Sampled) == []


# A life ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[Fact]:
    return lived(tmp_path_factory.mktemp("life"), [*HOPELESS, LATE, GOOD])


def test_what_cannot_win_is_not_trained_and_what_learns_late_is(life: list[Fact]) -> None:
    called, rows = names(life), rows_of(life)
    skipped = [one for one in of(life, Sampled) if one.skipped]
    assert {called[one.version] for one in skipped} == {one.name for one in HOPELESS}
    assert all(one.reason.startswith("on a ninth of its rows (") for one in skipped)
    assert all(one.reason.endswith(": not expected to pass") for one in skipped)
    trained = [called[v.version] for v in of(life, Trained) if rows[v.version] >= halving.MANY]
    assert set(trained) == {"good", "late"}
    promoted = [called[one.version] for one in of(life, Promoted)]
    assert promoted[0] == "good"
    assert promoted[-1] == "late"
    late = next(one for one in of(life, Sampled) if called[one.version] == "late")
    assert late.reason.startswith("on a third of its rows (")


def test_the_same_backtest_gives_the_same_facts(life: list[Fact], tmp_path: Path) -> None:
    again = lived(tmp_path, [*HOPELESS, LATE, GOOD])
    assert list(map(comparable, again)) == list(map(comparable, life))


def test_a_live_loop_leaves_out_the_same(life: list[Fact], tmp_path: Path) -> None:
    one = made(tmp_path, [*HOPELESS, LATE, GOOD])
    loop = live(one)
    entries = play(loop, DAYS + 1)
    facts = [entry.fact for entry in entries]
    skipped = {names(facts)[fact.version] for fact in of(facts, Sampled) if fact.skipped}
    assert skipped == {one.name for one in HOPELESS}
    assert names(facts)[of(facts, Promoted)[-1].version] == "late"
    out = next(fact for fact in of(facts, Sampled) if fact.skipped)
    why = one.why(out.version)
    assert f"{out.version} is not trained: a part of its rows told enough" in repr(why)
    assert out.reason in " ".join(repr(why).split())
    kept = next(fact for fact in of(facts, Sampled) if not fact.skipped)
    assert f"tried {kept.reason}; " in " ".join(repr(one.why(kept.version)).split())
    assert "skipped after a part of their rows" in repr(one.status())
    assert loop.state.dumps() == State().fold(loop.memory.ledger.facts("churn")).dumps()


def test_policies_that_are_compared_share_parts_too(life: list[Fact], tmp_path: Path) -> None:
    watched = Watched()
    one = made(tmp_path, [*HOPELESS, LATE, GOOD], executor=watched)
    told = one.backtest()
    assert told["churn"].trainings == len(of(life, Trained)) + len(of(life, TrainingFailed))
    assert len(watched.heights) > 0


def test_a_trial_that_is_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    recipes, calm = [HOPELESS[0], LATE, GOOD], Watched()
    loop = live(made(tmp_path / "calm", recipes, executor=calm))
    whole = [entry.fact for entry in play(loop, DAYS + 1)]
    # The trial begins where rows are fewer again.
    first = next(i for i, many in enumerate(calm.heights) if many < calm.heights[0])
    killed = Watched(stops_at=first + 3)
    one = made(tmp_path / "killed", recipes, executor=killed)
    loop = live(one)
    with pytest.raises(KeyboardInterrupt):
        play(loop, DAYS + 1)
    again = live(one, loop.clock.now())
    again.step()
    play(again, DAYS)
    facts = [entry.fact for entry in again.memory.ledger.facts("churn")]
    assert of(facts, Sampled)
    told = [comparable(one) for one in facts if isinstance(one, Sampled | Trained | Promoted)]
    assert told == [
        comparable(one) for one in whole if isinstance(one, Sampled | Trained | Promoted)
    ]
    # What was fitted before is not fitted again.
    assert len(killed.heights) == len(calm.heights) + 1
