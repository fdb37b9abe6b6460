"""Where what serves fell: how often by chance, how surely when it did, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.facts import Entry, Scored
from keepfit.registry import State
from keepfit.registry.level import ACCEPTED, FEWEST, USUAL, Level, beneath
from tests.test_standing import version
from tests.worlds import DAY, START

USUALLY = [0.80, 0.82, 0.79, 0.81, 0.80, 0.82, 0.81, 0.79]


def day(batch: int) -> datetime:
    return START + batch * DAY


def take(
    level: Level, value: float, batch: int, learnt_to: int = 0, error: float = 0.0
) -> tuple[int, int]:
    """Let a version that learnt rows to a day answer a batch; return how long it is below, and since."""
    level.take(value, batch, day(batch), learnt_to=day(learnt_to), error=error)
    return level.below, level.batch


def taken(values: Iterable[float], error: float = 0.0) -> Level:
    """Return a level after some batches, numbered from 1."""
    level = Level()
    for batch, value in enumerate(values, 1):
        take(level, value, batch, error=error)
    return level


def test_a_level_that_breaks_is_known_with_the_batch() -> None:
    level = taken(USUALLY)
    assert (level.below, level.since) == (0, None)
    assert take(level, 0.70, 9) == (1, 9)
    assert level.since == day(9)
    assert take(level, 0.69, 10) == (2, 9), "no further than it did"
    assert take(level, 0.50, 11) == (1, 11), "it fell further"
    assert level.since == day(11)


def test_it_is_over_when_a_version_that_learnt_of_it_does_as_well_again() -> None:
    level = taken([*USUALLY, 0.4])
    assert take(level, 0.80, 10, learnt_to=9) == (0, 9)
    assert level.since == day(9)


def test_a_fall_is_forgotten_where_a_version_does_well_that_learnt_nothing_of_it() -> None:
    level = taken([*USUALLY, 0.4])
    assert take(level, 0.80, 10, learnt_to=8) == (0, 0)
    assert level.since is None
    level = taken([*USUALLY, 0.4, 0.2])
    assert take(level, 0.80, 11, learnt_to=8) == (0, 0), "whichever bad batch was the worst"
    level = taken([*USUALLY, 0.4])
    take(level, 0.80, 10, learnt_to=9)
    take(level, 0.4, 11, learnt_to=9)
    assert take(level, 0.81, 12, learnt_to=9) == (0, 9), "the change before it stands"
    assert level.since == day(9)


def test_a_level_that_stays_below_is_the_usual_one_in_the_end() -> None:
    lower = [0.60, 0.61, 0.59, 0.62, 0.60, 0.61, 0.59, 0.60, 0.61]
    level = taken([*USUALLY, *lower[:ACCEPTED]])
    assert level.below == ACCEPTED
    assert take(level, lower[ACCEPTED], 17) == (0, 9)
    assert level.usual == lower
    assert take(level, 0.3, 18) == (1, 18)


def test_what_does_not_change_seldom_falls() -> None:
    draws = 20_000
    fell = dict.fromkeys((FEWEST, 8, 11, 12, USUAL), 0)
    for values in np.random.default_rng(0).normal(size=(draws, USUAL + 1)).tolist():
        level = Level()
        for before, value in enumerate(values):
            take(level, value, before + 1)
            if before in fell:
                fell[before] += level.below == 1
    # Beside five, t with 4 degrees of freedom below -4.2 * sqrt(5/6) is 0.9 %; beside 16, 0.3 %.
    assert 0 < fell.pop(FEWEST) <= 0.02 * draws
    assert all(0 < many <= 0.01 * draws for many in fell.values()), fell


def test_on_a_level_that_stays_less_than_one_batch_in_a_hundred_falls() -> None:
    fell, batches = 0, 60
    for values in np.random.default_rng(3).normal(size=(1_000, batches)).tolist():
        level = Level()
        for batch, value in enumerate(values, 1):
            below = level.below
            fell += take(level, value, batch, learnt_to=batch, error=1.0)[0] > 0 and not below
    assert 0 < fell <= 0.01 * 1_000 * batches


def test_what_falls_less_is_seen_by_some_batches_together() -> None:
    seen, began, draws = 0, [], 500
    for values in np.random.default_rng(4).normal(size=(draws, 24)).tolist():
        level = taken(values[:16], error=1.0)
        if level.below:
            continue
        for batch, value in enumerate(values[16:], 17):
            if take(level, value - 2.5, batch, error=1.0)[0]:
                seen += 1
                began.append(level.batch)
                break
    # No batch alone shows as much in every second draw.
    assert seen > 0.8 * draws
    assert np.mean([14 <= batch <= 20 for batch in began]) > 0.8


def test_some_batches_that_fell_together_begin_with_the_first_and_come_back_together() -> None:
    noise, error = [0.2, -0.2, 0.15, -0.15, 0.1, -0.1, 0.2, -0.2, 0.1, -0.1], 0.15
    level = taken((0.6 + one for one in noise), error)
    assert take(level, 0.15, 11, error=error)[0] == 0
    assert take(level, 0.1, 12, error=error) == (2, 11), "both together"
    assert level.since == day(11)
    assert level.usual == [0.6 + one for one in noise]
    assert take(level, 0.15, 13, error=error) == (3, 11), "though it is near enough alone"
    assert take(level, 0.55, 14, learnt_to=13, error=error) == (0, 11)
    assert level.since == day(11)


def test_low_ones_in_a_row_are_no_fall_where_values_hang_together() -> None:
    noise = [0.2, -0.2, 0.15, -0.15, 0.1, -0.1, 0.2, -0.2, 0.1, -0.1]
    for error, together in ((0.15, 2), (0.05, 0), (0.0, 0)):
        level = taken((0.6 + one for one in noise), error)
        take(level, 0.15, 11, error=error)
        # Their rows alone scatter values by far less: what else moves them lasts for some batches.
        assert take(level, 0.1, 12, error=error)[0] == together


def test_runs_are_not_asked_where_a_single_batch_would_show_a_loss_by_half() -> None:
    noise = [0.2, -0.2, 0.15, -0.15, 0.1, -0.1, 0.2, -0.2, 0.1, -0.1]
    for lower, together in ((0.0, 2), (0.6, 0)):
        level = taken((0.6 + lower + one for one in noise), error=0.15)
        take(level, 0.15 + lower, 11, error=0.15)
        assert take(level, 0.1 + lower, 12, error=0.15)[0] == together


def test_a_fall_of_six_deviations_is_seldom_missed() -> None:
    drawn = np.random.default_rng(1).normal(size=(2_000, USUAL + 1))
    drawn[:, -1] -= 6.0
    assert np.mean([taken(values).below for values in drawn.tolist()]) > 0.97


@pytest.mark.parametrize(
    ("before", "low", "by"), [(8, 2, 15.0), (12, 3, 15.0), (12, 5, 25.0), (USUAL, 7, 25.0)]
)
def test_what_fell_and_was_not_seen_hides_no_other_fall(before: int, low: int, by: float) -> None:
    drawn = np.random.default_rng(2).normal(size=(1_000, before + 1))
    drawn[:, 2 : 2 + low] -= by
    drawn[:, -1] -= by
    fell = 0
    for *usual, value in drawn.tolist():
        fell += take(Level(usual=usual), value, before + 1)[0]
    assert fell > 950


def test_a_batch_that_is_itself_as_uncertain_has_not_fallen() -> None:
    steady = [1.0] * USUAL
    assert take(taken(steady), 0.92, 17) == (1, 17)
    assert take(taken(steady), 0.92, 17, error=0.05) == (0, 0), "ten rows, one of them wrong"
    level = taken([*steady, 0.2], error=0.05)
    assert level.below == 1
    assert take(level, 0.1, 18, error=0.05) == (2, 17), "as far below, within the error"
    assert take(level, 0.01, 19, error=0.05) == (1, 19)


def test_what_fell_is_held_against_how_much_the_level_scatters() -> None:
    noise = np.random.default_rng(6).normal(size=12)
    level = Level()
    for batch, value in enumerate(1.2 + 0.1 * noise, 1):
        level.take(-value, batch, day(batch), learnt_to=day(0), error=0.1, rows=200)
    level.take(-1.8, 13, day(13), learnt_to=day(0), error=0.25, rows=200)
    assert level.below == 1, "a part of the rows loses far more, and the others no more than before"
    few = Level()
    for batch, value in enumerate(1.2 + 0.1 * noise, 1):
        few.take(-value, batch, day(batch), learnt_to=day(0), error=0.1, rows=200)
    few.take(-1.8, 13, day(13), learnt_to=day(0), error=0.45, rows=10)
    assert few.below == 0, "ten rows scatter as far by chance"


# What is folded -------------------------------------------------------------------------


def scored(batch: int, value: float, *, from_: float | None = None, **parts: Any) -> Scored:
    shared: dict[str, Any] = {"version": "v1", "metric": "accuracy", "n": 100} | parts
    begins = START + (batch if from_ is None else from_) * DAY
    shared = {"to": day(batch) + 0.9 * DAY} | shared
    return Scored(batch=batch, value=value, from_=begins, **shared)


def folded(*facts: Scored) -> State:
    """Return what a pipeline knows after batches, the first of which keep a level."""
    state = State(versions={"v1": version("v1", "all", 0)})
    usual = [scored(batch, value) for batch, value in enumerate(USUALLY, 1)]
    entries = enumerate([*usual, *facts], 1)
    return state.fold(Entry(seq=n, at=START, pipeline="churn", fact=fact) for n, fact in entries)


def test_a_batch_that_is_scored_after_newer_ones_says_nothing_of_now() -> None:
    state = folded(scored(11, 0.4), scored(10, 0.81), scored(9, 0.3))
    assert (state.level.below, state.level.batch) == (1, 11)
    assert folded(scored(11, 0.4), scored(10, 0.81), scored(12, 0.8)).level.below == 0


def test_a_change_begins_with_the_rows_that_came_in_order() -> None:
    assert folded(scored(9, 0.4)).level.since == day(9)
    late = folded(scored(9, 0.4, from_=2.5)).level
    assert late.since == day(8) + 0.9 * DAY + timedelta(microseconds=1), "where those before end"
    future = folded(scored(9, 0.8, to=day(5_000)), scored(10, 0.4)).level
    assert future.since == day(10), "whatever a row says to be of"


def test_how_sure_a_value_is_comes_from_its_interval() -> None:
    found = {"low": 0.45, "high": 0.75}
    assert folded(scored(9, 0.7)).level.below == 1
    assert folded(scored(9, 0.7, **found)).level.below == 0
    assert folded(scored(9, 0.9)).losses.below == 1
    assert folded(scored(9, 0.9, **found)).losses.below == 0


@pytest.mark.parametrize("value", [0.1, 0.204, 0.7, 0.9])
def test_what_stays_to_the_last_bit_has_not_fallen(value: float) -> None:
    for many in range(FEWEST, USUAL + 1):
        assert beneath(value, [value] * many) == 0
    assert taken([value] * 3 * USUAL).below == 0


def test_nothing_is_said_before_there_is_a_level() -> None:
    assert taken([0.9, 0.1, 0.9, 0.0]).below == 0
    assert taken([1.0] * FEWEST).below == 0, "what never differs has not fallen"
    assert taken([*[1.0] * FEWEST, 0.999]).below == 1
    assert taken([math.inf, *USUALLY, math.nan, -math.inf]).usual == USUALLY


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=20),
    exponent=st.integers(-900, 900),
)
def test_how_far_one_lies_below_knows_no_unit(values: list[float], exponent: int) -> None:
    value, *usual = values
    found = beneath(value, usual)
    assert abs(beneath(value, usual, error=1.0)) <= min(abs(found), abs(value) + 1e6)
    scaled = [math.ldexp(one, exponent) for one in values]
    if all(math.ldexp(one, -exponent) == was for one, was in zip(scaled, values, strict=True)):
        assert beneath(scaled[0], scaled[1:]) == found
    assert not math.isnan(found)
