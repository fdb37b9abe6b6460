"""Hindsight: the best path through models, how well moments were chosen, which policy to take."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepfit import drift, gates, triggers
from keepfit.backtest.code import code_of
from keepfit.backtest.front import HEIGHT, Point, drawn
from keepfit.backtest.judging import cheapest, difference, margin
from keepfit.backtest.matrix import Life
from keepfit.backtest.measures import HORIZON, Measures, gain, measured, met
from keepfit.backtest.oracle import Oracle, Reign
from keepfit.backtest.policies import Rule
from keepfit.backtest.ranking import _idle, _trainings, _whole
from keepfit.triggers import Every, OnDecay, OnDrift

# The oracle -----------------------------------------------------------------------------


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return losses of a few models on a few windows, and their starts; the first starts at once."""
    models = draw(st.integers(1, 4))
    windows = draw(st.integers(1, 5))
    # Sixteenths add up without rounding, so that ties are ties; of few values many paths return.
    loss = st.sampled_from([0.0, 1.0]) | st.integers(0, 16).map(lambda value: value / 16)
    row = st.lists(loss, min_size=windows, max_size=windows)
    losses = draw(st.lists(row, min_size=models, max_size=models))
    later = draw(st.lists(st.integers(0, windows - 1), min_size=models - 1, max_size=models - 1))
    found, starts = np.array(losses), np.array([0, *later])
    found[np.arange(windows)[None, :] < starts[:, None]] = np.nan
    return found, starts


def by_brute_force(losses: np.ndarray, starts: np.ndarray, most: int) -> float:
    """Return the least mean loss over every way to serve each window, with so many reigns."""
    models, windows = losses.shape
    least = math.inf
    for path in itertools.product(range(models), repeat=windows):
        reigns = 1 + sum(a != b for a, b in itertools.pairwise(path))
        if reigns <= most and all(starts[model] <= at for at, model in enumerate(path)):
            least = min(least, sum(losses[model, at] for at, model in enumerate(path)))
    return least / windows


RETURNING = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
"""A concept that comes back: two changes of the model gain what one alone does not."""


@given(matrices(), st.integers(1, 6))
@example((RETURNING, np.array([0, 0])), 3)
@example((np.tile(RETURNING, 2)[:, :5], np.array([0, 0])), 5)
def test_the_oracle_finds_what_trying_everything_finds(
    matrix: tuple[np.ndarray, np.ndarray], most: int
) -> None:
    losses, starts = matrix
    oracle = Oracle(losses, starts, most=most)
    for trainings in range(1, most + 1):
        best = by_brute_force(losses, starts, trainings)
        assert oracle.loss(trainings) == pytest.approx(best)
        assert trainings < oracle.enough or oracle.loss(oracle.enough) == pytest.approx(best)


def test_a_model_comes_back_when_its_concept_does() -> None:
    oracle = Oracle(RETURNING, np.array([0, 0]), most=3)
    assert [oracle.loss(trainings) for trainings in (1, 2, 3)] == [1 / 3, 1 / 3, 0.0]
    assert oracle.enough == 3
    assert oracle.path(2) == [Reign(0, 0)], "a second model alone would gain nothing"
    assert oracle.path(3) == [Reign(0, 0), Reign(1, 1), Reign(2, 0)]


def test_more_trainings_than_gain_anything_cost_no_time() -> None:
    losses = np.vstack([np.full(3_000, 0.1), np.full((50, 3_000), 0.2)])
    losses[1, 1_500:] = 0.0
    oracle = Oracle(losses, np.zeros(51, dtype=np.intp), most=3_000)
    assert oracle.enough == 2
    assert oracle._solved.models.shape == (2, 3_000)


@given(matrices())
@example((RETURNING, np.array([0, 0])))
def test_the_path_costs_what_the_oracle_says_and_serves_no_model_early(
    matrix: tuple[np.ndarray, np.ndarray],
) -> None:
    losses, starts = matrix
    windows = losses.shape[1]
    oracle = Oracle(losses, starts, most=windows)
    for trainings in range(1, windows + 1):
        path = oracle.path(trainings)
        assert path[0].window == 0
        assert len(path) <= trainings
        ends = [*(reign.window for reign in path[1:]), windows]
        total = 0.0
        for reign, end in zip(path, ends, strict=True):
            assert starts[reign.model] <= reign.window < end
            total += losses[reign.model, reign.window : end].sum()
        assert total / windows == pytest.approx(oracle.loss(trainings))


@given(matrices())
def test_more_trainings_never_make_hindsight_worse(matrix: tuple[np.ndarray, np.ndarray]) -> None:
    losses, starts = matrix
    oracle = Oracle(losses, starts, most=8)
    found = [oracle.loss(trainings) for trainings in range(1, 9)]
    assert found == sorted(found, reverse=True)
    assert oracle.loss(oracle.enough) == found[-1]


def test_a_window_on_which_a_model_has_no_metric_is_served_by_another() -> None:
    losses = np.array([[0.5, 0.5], [0.1, np.nan]])
    oracle = Oracle(losses, np.array([0, 0]), most=2)
    assert oracle.path(1) == [Reign(0, 0)]
    assert oracle.path(2) == [Reign(0, 1), Reign(1, 0)]


# Moments --------------------------------------------------------------------------------


def flipped(windows: int = 20, at: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return a model for each window, good as long as the concept that it was trained on lasts."""
    starts = np.arange(windows)
    old = starts[:, None] < at
    before = np.arange(windows)[None, :] < at
    losses = np.where(old == before, 0.1, 0.5).astype(float)
    losses[np.arange(windows)[None, :] < starts[:, None]] = np.nan
    return losses, starts


def test_a_trigger_that_trains_when_the_concept_flips_scores_full() -> None:
    losses, starts = flipped()
    serving = [0] * 10 + [10] * 10
    found = measured([10], [10], serving, losses, starts, margin=0.01)
    # A model trained just before the flip looks ahead over it, and is no better there.
    assert found == Measures(precision=1.0, need=1 / 19, hit_rate=1.0, lag=0.0)


def test_a_trigger_that_trains_at_other_moments_scores_nothing() -> None:
    losses, starts = flipped()
    serving = [0] * 5 + [5] * 15
    found = measured([5], [10], serving, losses, starts, margin=0.01)
    assert (found.precision, found.hit_rate, found.lag) == (0.0, 0.0, 10.0)
    assert found.need == pytest.approx(10 / 19), "from the flip on, every training would help"


def test_lateness_is_lag_and_training_a_little_early_is_none() -> None:
    losses, starts = flipped()
    late = measured([14], [10], [0] * 14 + [14] * 6, losses, starts, margin=0.01)
    early = measured([9], [10], [0] * 9 + [9] * 11, losses, starts, margin=0.01)
    assert (late.lag, early.lag) == (4.0, 0.0)
    assert (late.hit_rate, early.hit_rate) == (0.0, 1.0)


def test_a_policy_that_never_trains_again_has_nothing_to_be_measured_by() -> None:
    losses, starts = flipped()
    found = measured([], [], [0] * 20, losses, starts, margin=0.01)
    assert (found.precision, found.hit_rate, found.lag) == (None, None, None)
    assert found.need == pytest.approx(10 / 19)


def test_a_gain_is_that_of_the_best_fresh_model_over_the_next_windows() -> None:
    losses = np.full((3, 10), 0.4)
    losses[1, 4:], losses[2, 4:] = 0.3, 0.1
    losses[:, :4][1:] = np.nan
    starts = np.array([0, 4, 4])
    assert gain(4, [0] * 10, losses, starts) == pytest.approx(0.3)
    assert math.isnan(gain(5, [0] * 10, losses, starts)), "no model was trained then"
    losses[2, 4 + HORIZON :] = 9.0
    assert gain(4, [0] * 10, losses, starts) == pytest.approx(0.3), "beyond the horizon"


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), unique=True))
def test_a_training_meets_one_moment_at_most(wanted: list[int], given_: list[int]) -> None:
    found = sum(met(wanted, given_))
    assert found <= min(len(wanted), len(given_))
    assert found == sum(met(given_, wanted)), "who meets whom is the same from both sides"


# The one to take ------------------------------------------------------------------------


def test_the_cheapest_of_those_that_are_as_good_is_taken() -> None:
    rng = np.random.default_rng(0)
    good = 0.8 + 0.02 * rng.normal(size=40)
    values = {
        "own": good - 0.1,
        "never": good - 0.3,
        "some": good - 0.001 * rng.normal(size=40),
        "always": good,
    }
    costs = {"own": 1.0, "never": 0.1, "some": 5.0, "always": 50.0}
    assert cheapest(values, costs, "own", sign=1.0, within=0.01) == "some"
    losses = {name: -each for name, each in values.items()}
    assert cheapest(losses, costs, "own", sign=-1.0, within=0.01) == "some"


def test_what_is_shown_to_be_worse_by_more_than_the_margin_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    behind = 0.009 + 0.008 * rng.normal(size=40)
    behind += 0.009 - behind.mean()
    values = {"own": 0.8 - behind, "always": np.full(40, 0.8)}
    found = difference(values["own"], values["always"], sign=1.0)
    assert found.low < -0.01
    assert found.high < 0
    assert cheapest(values, {"own": 1.0, "always": 9.0}, "own", sign=1.0, within=0.01) == "always"
    assert cheapest(values, {"own": 1.0, "always": 9.0}, "own", sign=1.0, within=0.02) == "own"


def test_ones_own_policy_is_kept_where_another_costs_about_the_same() -> None:
    values = {"own": [0.8, 0.81, 0.79], "other": [0.8, 0.81, 0.792]}
    assert cheapest(values, {"own": 1.05, "other": 1.0}, "own", sign=1.0, within=0.01) == "own"
    assert cheapest(values, {"own": 2.0, "other": 1.0}, "own", sign=1.0, within=0.01) == "other"


def test_a_policy_far_behind_is_not_taken_because_few_windows_cannot_tell() -> None:
    values = {"own": [0.5, 0.9], "never": [0.2, 0.9]}
    found = difference(values["never"], values["own"], sign=1.0)
    assert not found.apart
    assert cheapest(values, {"own": 9.0, "never": 1.0}, "own", sign=1.0, within=0.01) == "own"


def test_not_to_train_is_taken_only_on_evidence() -> None:
    rng = np.random.default_rng(0)
    costs = {"own": 50.0, "never": 1.0, "some": 5.0}
    level = np.full(24, 0.8)
    for spread, taken in ((0.04, "some"), (0.004, "never")):
        behind = spread * rng.normal(size=24)
        values = {"own": level, "never": level - (behind - behind.mean() + 0.004), "some": level}
        found = difference(values["never"], values["own"], sign=1.0)
        assert (found.low >= -0.01) is (taken == "never")
        options = {"sign": 1.0, "within": 0.01}
        assert cheapest(values, costs, "own", idle={"never"}, **options) == taken
        assert cheapest(values, costs, "own", **options) == "never", "without the stricter rule"
        best = values | {"never": level + 0.02 * rng.random(24)}
        assert cheapest(best, costs, "own", idle={"never"}, **options) == "never"
    few = {"own": [0.8], "never": [0.799], "some": [0.8]}
    assert cheapest(few, costs, "own", sign=1.0, within=0.01, idle={"never"}) == "some"


def test_only_ones_own_may_have_watched_in_vain() -> None:
    life = Life(turns=[3])
    rules = [
        Rule("a", OnDrift(), "yours"),
        Rule("b", triggers.OnEvent(), "yours"),
        Rule("c", OnDrift()),
    ]
    assert [_idle(rule, life, aged=False) for rule in rules] == [False, True, True]
    assert not _idle(rules[2], Life(turns=[3, 9]), aged=False)
    never = Rule("never", triggers.OnEvent(), "never")
    assert _idle(never, Life(turns=[3, 4]), aged=False), "its first failed"
    assert not _idle(never, Life(turns=[3, 4]), aged=True), "a maximum age trained it"


def test_what_is_rolled_back_to_reigns_again() -> None:
    assert _trainings(Life(turns=[1, 3], promoted=["a", "b"], served={2: "a", 4: "b", 5: "a"})) == 3
    assert _trainings(Life(turns=[1, 3, 5], promoted=["a"], served={2: "a"})) == 3
    assert _trainings(Life()) == 1


@pytest.mark.parametrize(
    ("length", "whole"),
    [
        (timedelta(days=111, hours=3), timedelta(days=112)),
        (timedelta(days=2, minutes=1), timedelta(hours=49)),
        (timedelta(seconds=0.5), timedelta(seconds=1)),
    ],
)
def test_a_maximum_age_is_a_round_length(length: timedelta, whole: timedelta) -> None:
    assert _whole(length) == whole


def test_differences_are_oriented_so_that_more_is_better() -> None:
    assert difference([1.0, 1.2], [2.0, 2.2], sign=-1.0).value == pytest.approx(1.0)
    assert math.isnan(difference([1.0], [2.0], sign=1.0).low)
    assert margin(0.8, greater_is_better=True) == 0.01
    assert margin(50.0, greater_is_better=False) == pytest.approx(1.0)


# Text -----------------------------------------------------------------------------------


def test_the_front_has_cost_to_the_right_and_worth_upwards() -> None:
    points = [Point("·", 1, 0.5), Point("a", 1, 0.5), Point("b", 10, 0.9), Point("c", 100, 0.7)]
    rows = drawn(points).splitlines()
    place = {
        mark: (i, row.index(mark))
        for i, row in enumerate(rows[:HEIGHT])
        for mark in "abc"
        if mark in row
    }
    assert place["b"][0] < place["c"][0] < place["a"][0]
    assert place["a"][1] < place["b"][1] < place["c"][1]
    assert "1 s" in rows[-1]
    assert "100 s" in rows[-1]


def test_of_a_loss_less_is_further_up_and_letters_give_way_to_each_other() -> None:
    points = [Point("a", 1, 5.0), Point("b", 1, 5.0), Point("c", 1, 1.0)]
    rows = drawn(points, greater_is_better=False).splitlines()
    assert "c" in rows[0]
    assert set("ab") <= set(rows[HEIGHT - 1])


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (Every("28d"), 'triggers.Every("28d")'),
        (OnDecay(0.02) | ~Every("1d") & OnDrift(drift.KS()), None),
        (gates.AtLeast(0.7), "gates.AtLeast(0.7)"),
        (triggers.AtLeast(1, Every("1d")), 'triggers.AtLeast(1, triggers.Every("1d"))'),
    ],
    ids=["one", "joined", "a gate", "of the same name"],
)
def test_the_code_of_a_part_makes_the_part(part: object, code: str | None) -> None:
    found = code_of(part)  # type: ignore[arg-type]
    assert found is not None
    assert code in (None, found)
    made = eval(found, {"triggers": triggers, "drift": drift, "gates": gates})
    assert repr(made) == repr(part)


def test_a_trigger_of_ones_own_has_no_code() -> None:
    class Mine:
        def __repr__(self) -> str:
            return "Mine(3)"

        def decide(self, evidence: object) -> None:
            """Say nothing."""

    assert code_of(Mine()) is None  # type: ignore[arg-type]
    assert code_of(Every("1d") | Mine()) is None  # type: ignore[arg-type]
