"""Up to when labels are complete: by their order, by each class's lag, and where they got slower."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from keepfit.batch import KNOWN_AT, LABEL, TIME
from keepfit.maturity import FEWEST, latest, reached
from tests.worlds import DAY, START

DELAY = 14 * DAY
NOW = START + 3 * DELAY

Lags = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""What returns the days from event to label of rows, given their labels."""


def known(
    lags: Lags, *, per_day: int = 200, share: float = 0.25, never: float = 0.0, seed: int = 0
) -> pl.DataFrame:
    """Return rows of three label delays, and which labels are known now."""
    rng = np.random.default_rng(seed)
    size = per_day * 42
    day = (np.arange(size) + 0.5) / per_day
    label = (rng.random(size) < share).astype(np.int64)
    at = day + lags(label, rng)
    at[rng.random(size) < never] = np.inf
    told = [START + float(one) * DAY if one <= 42 else None for one in at]
    times = [START + float(one) * DAY for one in day]
    frame = pl.DataFrame({TIME: times, LABEL: label, KNOWN_AT: told})
    return frame.with_columns(pl.when(pl.col(KNOWN_AT).is_not_null()).then(LABEL).alias(LABEL))


def complete(lags: Lags, **made: float) -> float:
    """Return how many days ago the newest complete rows happened."""
    return (NOW - reached(known(lags, **made), NOW, DELAY)) / DAY


def at_once(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(label.size)


def fixed(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.full(label.size, 3.0)


def yes_early(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(label == 1, rng.uniform(0, 2, label.size), 14)


def yes_late(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(label == 1, rng.uniform(0, 6, label.size), 0)


@pytest.mark.parametrize("per_day", [1, 20, 500])
def test_labels_in_the_order_of_their_rows_are_complete_as_far_as_they_go(per_day: int) -> None:
    assert complete(at_once, per_day=per_day) == 0
    assert complete(fixed, per_day=per_day) == pytest.approx(3, abs=1 / per_day)


@pytest.mark.parametrize("never", [0.0, 0.03])
@pytest.mark.parametrize("per_day", [1, 20, 500])
@pytest.mark.parametrize("share", [0.005, 0.25, 0.9])
def test_a_class_that_comes_early_waits_for_the_other(
    per_day: int, share: float, never: float
) -> None:
    late = complete(yes_early, per_day=per_day, share=share, never=never)
    assert late == pytest.approx(14, abs=1 / per_day)


def test_rows_are_complete_when_the_labels_of_the_slower_class_have_come() -> None:
    # 99 of 100 of those that take from 0 to 6 days have come after 5.94.
    assert complete(yes_late) == pytest.approx(5.94, abs=0.05)
    # As many of all rows have come far sooner: of one in twenty, five in six.
    assert complete(yes_late, share=0.05) == pytest.approx(5.94, abs=0.1)
    # Of one in a thousand too few have come to tell.
    assert complete(yes_late, share=0.001, per_day=1_000, seed=1) == 14


@pytest.mark.parametrize("never", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_labels_that_never_come_are_not_waited_for(never: float, seed: int) -> None:
    assert complete(at_once, never=never, seed=seed) == pytest.approx(0, abs=0.5)
    assert complete(fixed, never=never, seed=seed) == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize("per_day", [5, 1_000])
@pytest.mark.parametrize("never", [0.0, 0.02])
def test_a_long_complete_past_hides_no_gap(per_day: int, never: float) -> None:
    """Labels that came at once take five days since three days ago, for a part of the rows."""

    def slower(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        lag = np.zeros(label.size)
        new = np.arange(label.size) >= (42 - 3) * per_day
        lag[new & (rng.random(label.size) < 0.3)] = 5
        return lag

    # The gap is 2 % of the newest delay's rows, and a third of those of its three days.
    assert complete(slower, per_day=per_day, never=never) >= 2.9


@pytest.mark.parametrize("never", [0.2, 0.3, 0.45])
def test_labels_that_never_come_hide_no_class_that_got_slower(never: float) -> None:
    def slower(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        new = np.arange(label.size) >= (42 - 5) * 200
        return np.where(new & (label == 1), 10, 0)

    # Without its rows of the last five days there are others alone.
    assert complete(slower, never=never) == pytest.approx(5, abs=0.1)


def test_a_gap_between_complete_rows_counts_for_what_it_is() -> None:
    def outage(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        lag = np.zeros(label.size)
        lag[38 * 200 : 39 * 200] = 6
        return lag

    # Three days of rows after it do not make up for one day without a label.
    assert complete(outage) == pytest.approx(4, abs=0.01)


def test_numbers_wait_for_the_slowest_quarter() -> None:
    rows = known(yes_late)
    minutes = pl.Series(LABEL, np.random.default_rng(1).exponential(30, rows.height))
    # As of rides, whose duration is known when they end.
    times = rows.get_column(TIME) + (minutes * 60_000_000).cast(pl.Duration("us"))
    rides = rows.with_columns(minutes, times.alias(KNOWN_AT))
    lag = latest(rides)
    assert lag is not None
    # The longest quarter has a hundredth of its own, which is 1 in 400 of all.
    assert lag / timedelta(minutes=1) == pytest.approx(30 * np.log(400), rel=0.1)


def test_a_class_that_came_seldom_does_not_tell_how_late_it_is() -> None:
    rows = known(yes_late, per_day=20, share=0.5)
    few = rows.filter(pl.col(LABEL) == 1).head(FEWEST - 1)
    many = rows.filter(pl.col(LABEL) == 0)
    assert latest(pl.concat([many, few])) is None
    assert latest(pl.concat([many, rows.filter(pl.col(LABEL) == 1)])) is not None
    assert latest(rows.head(0)) is None


def test_rows_that_say_to_be_of_later_do_not_count() -> None:
    rows = known(at_once)
    ahead = rows.tail(1).with_columns(
        pl.lit(NOW + DAY).alias(TIME), pl.lit(None, rows.schema[KNOWN_AT]).alias(KNOWN_AT)
    )
    assert reached(pl.concat([rows, ahead]), NOW, DELAY) == NOW


def test_no_rows_are_complete() -> None:
    assert reached(known(at_once).head(0), NOW, DELAY) == NOW
