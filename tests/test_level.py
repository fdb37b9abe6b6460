"""Where what serves fell: how often by chance, how surely when it did, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.registry.level import ACCEPTED, FEWEST, USUAL, Level, beneath
from tests.worlds import DAY, START

USUALLY = [0.80, 0.82, 0.79, 0.81, 0.80, 0.82, 0.81, 0.79]


def day(batch: int) -> datetime:
    return START + batch * DAY


def taken(values: Iterable[float], version: str = "v1", level: Level | None = None) -> Level:
    """Return a level after some batches, numbered from 1 or on from those before."""
    level = Level() if level is None else level
    first = len(level.usual) + 1
    for batch, value in enumerate(values, first):
        level.take(value, batch, day(batch), version)
    return level


def test_a_level_that_breaks_is_known_with_the_batch() -> None:
    level = taken(USUALLY)
    assert (level.below, level.since) == (0, None)
    level.take(0.70, 9, day(9), "v1")
    assert (level.below, level.batch, level.since) == (1, 9, day(9))
    level.take(0.69, 10, day(10), "v2")
    assert (level.below, level.batch) == (2, 9), "no further than it did"
    level.take(0.50, 11, day(11), "v3")
    assert (level.below, level.batch, level.since) == (1, 11, day(11)), "it fell further"


def test_it_is_over_when_another_version_does_as_well_again() -> None:
    level = taken([*USUALLY, 0.4])
    level.take(0.80, 10, day(10), "v2")
    assert (level.below, level.batch, level.since) == (0, 9, day(9))


def test_a_bad_batch_is_forgotten_where_the_same_version_does_well_after_it() -> None:
    level = taken([*USUALLY, 0.4])
    level.take(0.80, 10, day(10), "v1")
    assert (level.below, level.batch, level.since) == (0, 0, None)
    level = taken([*USUALLY, 0.4])
    level.take(0.80, 10, day(10), "v2")
    level.take(0.4, 11, day(11), "v2")
    level.take(0.81, 12, day(12), "v2")
    assert (level.batch, level.since) == (9, day(9)), "the change before it stands"


def test_a_level_that_stays_below_is_the_usual_one_in_the_end() -> None:
    lower = [0.60, 0.61, 0.59, 0.62, 0.60, 0.61, 0.59, 0.60, 0.61]
    level = taken([*USUALLY, *lower[:ACCEPTED]])
    assert level.below == ACCEPTED
    level.take(lower[ACCEPTED], 17, day(17), "v1")
    assert (level.below, level.batch) == (0, 9)
    assert level.usual == lower
    level.take(0.3, 18, day(18), "v1")
    assert level.batch == 18


@pytest.mark.parametrize(("before", "at_most"), [(FEWEST, 0.02), (11, 0.01), (USUAL, 0.01)])
def test_what_does_not_change_seldom_falls(before: int, at_most: float) -> None:
    drawn = np.random.default_rng(0).normal(size=(20_000, before + 1)).tolist()
    fell = sum(taken(values).below for values in drawn)
    # Beside five, t with 4 degrees of freedom below -4.2 * sqrt(5/6) is 0.9 %; beside 16, 0.3 %.
    assert 0 < fell <= at_most * 20_000


def test_a_fall_of_six_deviations_is_seldom_missed() -> None:
    drawn = np.random.default_rng(1).normal(size=(2_000, USUAL + 1))
    drawn[:, -1] -= 6.0
    assert np.mean([taken(values).below for values in drawn.tolist()]) > 0.97


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
    scaled = [math.ldexp(one, exponent) for one in values]
    if all(math.ldexp(one, -exponent) == was for one, was in zip(scaled, values, strict=True)):
        assert beneath(scaled[0], scaled[1:]) == found
    assert not math.isnan(found)
