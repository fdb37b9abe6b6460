"""Live steps end anywhere within a cadence: every cadence of rows is judged, once, and no part of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from tests.servers import SECOND, World, sent
from tests.worlds import DAY, START, live, pipeline, play, stream

from keepfit import checks, triggers
from keepfit.batch import TIME
from keepfit.facts import DetectorAdvanced, Drifted
from keepfit.loop import Loop
from keepfit.parts import Part
from keepfit.protocols import Advanced

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
WEEK = 7 * DAY


@dataclass(frozen=True, repr=False)
class Shown(Part):
    """A detector that notes which rows it was asked to judge."""

    judged: ClassVar[list[pl.Series]] = []

    def check(self, reference: Any, rows: pl.DataFrame) -> list[Any]:
        return []

    def accumulate(self, reference: Any, rows: pl.DataFrame, state: Any, anchor: Any) -> Advanced:
        self.judged.append(rows.get_column(TIME))
        return Advanced(columns=(), state={"seen": state.get("seen", 0) + 1})


@pytest.fixture(autouse=True)
def nothing_shown() -> None:
    Shown.judged.clear()


def opening(days: int, opens: timedelta, closes: timedelta, **more: Any) -> pl.DataFrame:
    """Return a stream whose rows all come between two times of day."""
    place = pl.int_range(pl.len())
    time = pl.lit(opens) + place % 100 * pl.lit((closes - opens) / 100)
    return stream(days, **more).with_columns(time=pl.lit(START) + place // 100 * pl.lit(DAY) + time)


def lived(frame: pl.DataFrame, home: Path, poll: timedelta, days: int, **parts: Any) -> Loop:
    """Return a live loop that has stepped at equal distances from the first midnight on."""
    made = pipeline(frame, home, **({"trigger": triggers.OnDrift(Shown()), "enough": 90} | parts))
    loop = live(made, START)
    play(loop, days * DAY // poll, poll)
    return loop


def waiting(loop: Loop) -> int:
    """Return the most batches that ever waited."""
    told = [entry.fact for entry in loop.memory.ledger.facts("churn")]
    return max(len(one.state.get("held", ())) for one in told if isinstance(one, DetectorAdvanced))


NIGHT = (7 * MINUTE, 23 * HOUR)
OFFICE = (8 * HOUR + 30 * MINUTE, 18 * HOUR)
LATE = (14 * HOUR, 22 * HOUR)


@pytest.mark.parametrize(
    ("hours", "poll", "most"),
    [
        (NIGHT, DAY, 0),
        (OFFICE, DAY, 0),
        (LATE, DAY, 0),
        (NIGHT, 12 * HOUR, 2),
        (OFFICE, 12 * HOUR, 2),
        (OFFICE, 2 * HOUR, 6),
        (LATE, 2 * HOUR, 6),
    ],
    ids=["night", "office", "late", "night twice", "office twice", "office often", "late often"],
)
def test_every_day_is_judged_whole_and_once_wherever_steps_end(
    tmp_path: Path, hours: tuple[timedelta, timedelta], poll: timedelta, most: int
) -> None:
    trigger = triggers.OnDrift(Shown()) | triggers.Every("3d")
    loop = lived(opening(12, *hours), tmp_path, poll, 10, trigger=trigger, gate=[])
    assert len(loop.state.reigns) >= 3
    judged = [sorted(set(times.dt.date())) for times in Shown.judged]
    # Of the first days one is learnt from.
    assert len(judged) >= 7
    assert all(len(days) == 1 for days in judged[1:])
    assert all(times.len() == 100 for times in Shown.judged[1:])
    assert [days[0] for days in judged] == sorted({days[0] for days in judged})
    assert waiting(loop) <= most
    loop.pipeline.close()


@pytest.mark.parametrize("hours", [NIGHT, OFFICE, (7 * MINUTE, DAY + 7 * MINUTE)])
@pytest.mark.parametrize("poll", [2 * DAY, 3 * DAY])
def test_a_week_that_comes_in_days_is_judged_as_a_week(
    tmp_path: Path, hours: tuple[timedelta, timedelta], poll: timedelta
) -> None:
    loop = lived(opening(80, *hours), tmp_path, poll, 76, every="7d", enough=300)
    assert len(Shown.judged) >= 7
    # A model begins to serve within a week, and what it was not there for is not waited for.
    for times in Shown.judged[1:]:
        weekdays = times.dt.weekday().value_counts()
        assert weekdays.height == 7, "no part of a week"
        assert 700 - 20 <= times.len() <= 700 + 20, "nor more than one"
    assert waiting(loop) <= 8
    loop.pipeline.close()


def test_a_few_days_after_weeks_without_rows_are_no_week(tmp_path: Path) -> None:
    frame = opening(60, *OFFICE)
    silent = pl.col("time").is_between(START + 30 * DAY, START + 44 * DAY)
    lived(frame.filter(~silent), tmp_path, 2 * DAY, 58, every="7d", enough=300).pipeline.close()
    after = [times for times in Shown.judged if times[-1] > START + 44 * DAY]
    assert [times.len() for times in after] == [700 - 200, 700]


def test_a_day_after_days_in_quarantine_is_no_week(tmp_path: Path) -> None:
    odd = pl.col("time").is_between(START + 29 * DAY, START + 35 * DAY)
    frame = opening(60, *OFFICE).with_columns(x=pl.when(odd).then(1e6).otherwise("x"))
    asked = [checks.Range({"x": (-1e3, 1e3)})]
    loop = lived(frame, tmp_path, DAY, 50, every="7d", enough=300, checks=asked)
    assert loop.state.counts.quarantined == 6
    after = [times for times in Shown.judged if times[-1] > START + 28 * DAY]
    assert [times.len() for times in after] == [100, 700, 700]
    loop.pipeline.close()


def test_what_waits_is_not_read_again_with_every_step(tmp_path: Path) -> None:
    loop = lived(opening(12, *OFFICE), tmp_path, HOUR, 6)
    read: list[int] = []
    known = loop.memory.lake.batch

    def batch(number: int) -> pl.DataFrame:
        read.append(number)
        return known(number)

    loop.memory.lake.batch = batch  # type: ignore[method-assign]
    entries = play(loop, 24, HOUR)
    newest = {entry.fact.batch for entry in entries if isinstance(entry.fact, DetectorAdvanced)}
    assert len(newest) >= 9
    assert len([number for number in read if number not in newest]) <= 1
    again = max(read.count(number) for number in newest)
    assert again <= 8  # it is predicted, scored, checked and looked at
    loop.pipeline.close()


def test_drift_of_a_daily_step_before_the_first_rows_hour_is_seen(
    tmp_path: Path,
) -> None:
    frame = opening(40, *NIGHT, shift_at=30)
    loop = lived(frame, tmp_path, DAY, 36, trigger=triggers.OnDrift(), enough=2_000)
    told = [(entry.at, entry.fact) for entry in loop.memory.ledger.facts("churn")]
    alarms = [(at, fact) for at, fact in told if isinstance(fact, Drifted)]
    # The evidence of two days makes an alarm.
    assert [at - START for at, _ in alarms] == [32 * DAY]
    assert alarms[0][1].columns[0].column == "x"
    loop.pipeline.close()


def test_the_step_after_a_cadence_says_up_to_when_the_rows_that_moved_were(tmp_path: Path) -> None:
    frame = opening(40, *OFFICE, shift_at=30)
    loop = lived(frame, tmp_path, 12 * HOUR, 33, trigger=triggers.OnDrift(), enough=2_000)
    told = [(entry.at, entry.fact) for entry in loop.memory.ledger.facts("churn")]
    alarms = [(at, fact) for at, fact in told if isinstance(fact, Drifted)]
    assert [at for at, _ in alarms] == [START + 32 * DAY + 12 * HOUR]
    before = frame.filter(pl.col("time") < START + 32 * DAY).get_column("time").max()
    assert alarms[0][1].rows_to == before
    loop.pipeline.close()


def test_what_waited_before_it_was_known_since_when_is_judged_with_the_next_step(
    tmp_path: Path,
) -> None:
    loop = lived(opening(12, *OFFICE), tmp_path, 12 * HOUR, 4)
    known = loop.state.detectors[Shown().name]
    assert known["held"]
    known.pop("since")
    before = len(Shown.judged)
    play(loop, 1, 12 * HOUR)
    assert len(Shown.judged) == before + 1
    loop.pipeline.close()


def test_rows_that_a_server_keeps_are_judged_day_by_day(tmp_path: Path) -> None:
    world = World(tmp_path, trigger=triggers.Every("3650d") | triggers.OnDrift(Shown()))
    world.steps()
    Shown.judged.clear()
    for piece in range(4 * 6):
        now: datetime = world.clock.now()
        rows = world.frame.slice(1_000 + piece * 25, 25)
        world.write(sent(rows, "v1", [0.5] * 25, now + HOUR))
        world.clock.sleep(6 * HOUR)
        world.steps()
    days: Sequence[Any] = [sorted(set(times.dt.date())) for times in Shown.judged]
    assert len(days) >= 4
    assert all(len(one) == 1 for one in days)
    assert all(times[-1] - times[0] == 18 * HOUR + 24 * SECOND for times in Shown.judged)
