"""When a backtest begins and how far it steps, whatever a few rows say of their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.backtest.plan import STEPS, Plan
from tests.worlds import DAY, START, pipeline, stream

DAYS, PER_DAY = 50, 20


def planned(frame: pl.DataFrame, home: Path, **parts: object) -> Plan:
    made = pipeline(frame, home, **parts)
    try:
        return Plan.of(made, made.source.history(), None, None, "0s")
    finally:
        made.close()


def misdated(frame: pl.DataFrame, row: int, time: datetime) -> pl.DataFrame:
    at = pl.when(pl.col("id") == row).then(pl.lit(time)).otherwise("time")
    return frame.with_columns(at.cast(frame.schema["time"]).alias("time"))


def test_it_begins_after_a_tenth_of_the_rows_and_steps_a_hundredth_of_their_time(
    tmp_path: Path,
) -> None:
    plan = planned(stream(DAYS, PER_DAY), tmp_path, every=None)
    history = DAYS * DAY - DAY / PER_DAY
    assert abs(plan.since - (START + 0.1 * history)) <= timedelta(microseconds=1)
    assert abs(plan.every - history / STEPS) <= timedelta(microseconds=1)


@pytest.mark.parametrize("year", [1970, 2099])
def test_one_misdated_row_changes_neither(tmp_path: Path, year: int) -> None:
    frame = stream(DAYS, PER_DAY)
    usual = planned(frame, tmp_path / "usual", every=None)
    odd = planned(misdated(frame, 500, datetime(year, 1, 1, tzinfo=UTC)), tmp_path, every=None)
    assert abs(odd.since - usual.since) <= 2 * DAY / PER_DAY
    assert odd.every == pytest.approx(usual.every, rel=0.01)


def test_a_misdated_row_leaves_the_backtest_its_windows(tmp_path: Path) -> None:
    odd = misdated(stream(DAYS, PER_DAY), 500, datetime(2030, 1, 1, tzinfo=UTC))
    made = pipeline(odd, tmp_path, enough=10)
    found = made.backtest(compare=False).policies[0]
    made.close()
    judged = [window for window in found.windows if window.value is not None]
    assert len(judged) > 0.8 * DAYS


def test_where_most_rows_came_at_once_time_tells(tmp_path: Path) -> None:
    frame = stream(DAYS, PER_DAY)
    at_once = frame.with_columns(
        pl.when(pl.col("id") < 900).then(pl.lit(START)).otherwise("time").alias("time")
    )
    plan = planned(at_once, tmp_path, every=None)
    assert plan.first < plan.since < plan.last
    assert plan.every > timedelta(0)


@settings(max_examples=30, deadline=None)
@given(hours=st.lists(st.integers(0, 10_000), min_size=2, max_size=40))
def test_any_two_moments_make_a_plan(
    hours: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    if min(hours) == max(hours):
        hours = [*hours, max(hours) + 1]
    times = [START + timedelta(hours=hour) for hour in hours]
    frame = stream(1, len(times)).with_columns(time=pl.Series(times).cast(pl.Datetime("us", "UTC")))
    plan = planned(frame, tmp_path_factory.mktemp("plan"), every=None)
    assert plan.first < plan.since <= plan.last
    assert plan.every > timedelta(0)
    assert plan.moments()[-1] >= plan.last
