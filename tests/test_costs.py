"""Forecasts of what a training will cost."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from keepfit import costs, triggers
from keepfit.clock import utc
from keepfit.costs import Training, forecast

OWN = costs.recipe("1234", "scratch", "all")
OTHER = costs.recipe("1234", "champion", "leaves")


def past(*pairs, recipe=OWN):
    return [Training(recipe, rows, seconds) for rows, seconds in pairs]


def test_nothing_is_forecast_before_the_first_training():
    assert forecast([], rows=1_000, recipe=OWN) is None


def test_one_training_is_taken_in_proportion_to_its_rows():
    found = forecast(past((1_000, 2.0)), rows=3_000, recipe=OWN)
    assert math.isclose(found.seconds, 6.0)
    assert found.low < 6.0 < found.high
    assert found.trainings == 1
    assert not found.akin


def test_a_power_that_trainings_show_is_followed_beyond_them():
    found = forecast(
        past(*((n, 1e-5 * n**1.5) for n in (1_000, 3_000, 9_000, 27_000))), rows=81_000, recipe=OWN
    )
    assert 0.9 < found.seconds / (1e-5 * 81_000**1.5) < 1.1


def test_trainings_of_nearly_equal_rows_say_nothing_of_the_slope():
    # A straight fit of these would forecast a cost that falls with rows.
    found = forecast(past((1_000, 1.1), (1_010, 1.0), (1_020, 0.9)), rows=10_000, recipe=OWN)
    assert 7.0 < found.seconds < 13.0


def test_one_odd_training_hardly_moves_a_forecast():
    even = [(n, n / 500) for n in (1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 7_000, 8_000)]
    odd = [*even[:4], (4_000, 400.0), *even[5:]]
    assert forecast(past(*odd), rows=6_000, recipe=OWN).seconds < 1.3 * 12


def test_a_recipe_of_its_own_outranks_the_others():
    mixed = past((1_000, 10.0)) + past((1_000, 0.1), recipe=OTHER)
    assert math.isclose(forecast(mixed, rows=1_000, recipe=OTHER).seconds, 0.1)


def test_a_recipe_that_never_ran_is_forecast_from_the_others_and_says_so():
    found = forecast(past((1_000, 10.0)), rows=1_000, recipe=OTHER)
    assert found.akin
    assert math.isclose(found.seconds, 10.0)


def test_the_newest_trainings_decide():
    slow = [(1_000, 50.0)] * costs.NEWEST
    quick = [(1_000, 5.0)] * costs.NEWEST
    assert math.isclose(forecast(past(*slow, *quick), rows=1_000, recipe=OWN).seconds, 5.0)


def test_intervals_hold_the_share_that_they_state():
    draw = random.Random(11)
    held = 0
    for _ in range(400):
        rows = [draw.randint(1_000, 50_000) for _ in range(draw.randint(3, 12))]
        taken = [n / 1_000 * math.exp(draw.gauss(0, 0.2)) for n in rows]
        *before, (asked, cost) = zip(rows, taken, strict=True)
        found = forecast(past(*before), rows=asked, recipe=OWN)
        held += found.low <= cost <= found.high
    # 360 expected; three standard errors of a share of 0.9 in 400 are 18.
    assert held >= 342


@given(
    st.lists(
        st.tuples(st.integers(1, 10**7), st.floats(0, 10**5, allow_nan=False)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 10**8),
    st.integers(1, 10**8),
)
def test_a_forecast_lies_in_its_interval_and_grows_with_rows(pairs, one, other):
    few, many = (forecast(past(*pairs), rows=rows, recipe=OWN) for rows in sorted((one, other)))
    assert few.low <= few.seconds <= few.high
    assert 0 < few.seconds <= many.seconds * (1 + 1e-9)


# Budgets ----------------------------------------------------------------------------------


def told(seconds: float) -> costs.Forecast:
    return costs.Forecast(seconds=seconds, low=seconds / 2, high=seconds * 2, trainings=5)


def test_the_cheapest_trainings_are_paid_for_first():
    held = costs.too_dear({"a": told(1.0), "b": told(5.0), "new": None, "c": told(2.0)}, 4.0)
    assert list(held) == ["b"]
    assert held["b"] == "forecast at 5 s of CPU, and the budget has 3 s left"


def test_small_costs_are_told_apart_from_what_is_left():
    held = costs.too_dear({"a": told(0.012)}, 0.0051)
    assert held["a"] == "forecast at 12 ms of CPU, and the budget has 5.1 ms left"
    assert costs.took(0.0997) == "0.1 s"


@given(st.lists(st.floats(0.01, 100), max_size=8), st.floats(0, 200))
def test_what_starts_never_adds_up_to_more_than_is_left(seconds, left):
    forecasts = {str(i): told(one) for i, one in enumerate(seconds)}
    held = costs.too_dear(forecasts, left)
    assert sum(one.seconds for name, one in forecasts.items() if name not in held) <= left + 1e-9


def test_a_budget_knows_what_it_has_left():
    guard = triggers.Guarded(triggers.Every("1d"), budget="10s per 7d")
    week = [(utc("2024-01-01"), 4.0), (utc("2024-01-06"), 3.0)]
    assert guard.left(week, utc("2024-01-07")) == 3.0
    assert guard.left(week, utc("2024-01-08")) == 7.0
    assert guard.left([*week, (utc("2024-01-06"), 9.0)], utc("2024-01-07")) == 0.0
    counted = triggers.Guarded(triggers.Every("1d"), budget="3 per 7d")
    assert counted.left(week, utc("2024-01-07")) is None
    assert triggers.Guarded(triggers.Every("1d")).left(week, utc("2024-01-07")) is None
