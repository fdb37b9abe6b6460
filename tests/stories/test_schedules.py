"""Schedules and events over restarts: what is due is done once, however often it was missed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.worlds import DAY, START, live, pipeline, play, stream

from keepfit import gates, rollouts, triggers
from keepfit.batch import Batch
from keepfit.facts import Decided, Entry, Signalled, TrainingStarted
from keepfit.loop import Loop
from keepfit.pipeline import Pipeline


def made(home: Path, **parts: Any) -> Pipeline:
    return pipeline(
        stream(60, per_day=50), home, **({"gate": gates.Fresher(), "enough": 1} | parts)
    )


def started(entries: list[Entry]) -> list[int]:
    """Return on which days trainings began."""
    return [(entry.at - START).days for entry in entries if isinstance(entry.fact, TrainingStarted)]


def again(loop: Loop, given: Pipeline) -> Loop:
    """Return the loop as a new process opens it."""
    loop.memory.close()
    return live(given, loop.clock.now())


@pytest.mark.parametrize("interval", ["10d", "0 0 */10 * *"], ids=["length", "cron"])
def test_a_schedule_goes_on_where_it_was_after_a_restart(tmp_path: Path, interval: str) -> None:
    given = made(tmp_path / "cut", trigger=triggers.Every(interval))
    loop, cut = live(given), list[Entry]()
    for days in (4, 9, 3, 12):
        cut += play(loop, days)
        loop = again(loop, given)
    whole = play(live(made(tmp_path / "whole", trigger=triggers.Every(interval))), 28)
    assert started(cut) == started(whole)
    assert len(started(cut)) in (3, 4)


def test_a_loop_that_was_down_for_several_periods_trains_once_for_them(tmp_path: Path) -> None:
    given = made(tmp_path, trigger=triggers.Every("7d"), every="40d")
    loop = live(given)
    before = started(play(loop, 3))
    loop = again(loop, given)
    # Five points of the schedule pass while nothing runs.
    after = started(play(loop, 1, every=36 * DAY))
    assert (len(before), len(after)) == (1, 1)


def test_a_storm_of_events_trains_once(tmp_path: Path) -> None:
    given = made(tmp_path, trigger=triggers.OnEvent("prices"))
    loop = live(given)
    play(loop, 5)
    storm = [Signalled(event="prices", data={"number": number}) for number in range(500)]
    loop.append(storm, loop.clock.now())
    loop = again(loop, given)
    assert len(started(play(loop, 4))) == 1


def test_an_event_that_comes_during_a_rollout_is_heeded_after_it(tmp_path: Path) -> None:
    stages = rollouts.Shadow("3d")
    given = made(tmp_path, trigger=triggers.OnEvent("prices"), rollout=stages)
    loop = live(given)
    play(loop, 5)
    loop.append([Signalled(event="prices")], loop.clock.now())
    play(loop, 2)
    assert loop.state.rollout is not None
    loop.append([Signalled(event="prices")], loop.clock.now())
    loop = again(loop, given)
    entries = play(loop, 1)
    assert not started(entries)
    decided = [entry.fact for entry in entries if isinstance(entry.fact, Decided)]
    assert {one.decision.trigger for one in decided} == {"rollout"}
    assert len(started(play(loop, 4))) == 1


def test_rows_that_came_while_they_were_read_are_learnt_in_the_same_step(tmp_path: Path) -> None:
    """An event asks for a training on what was sent just before it, in the very moment."""
    loop = live(made(tmp_path, trigger=triggers.OnEvent("prices")))
    play(loop, 5)
    loop.append([Signalled(event="prices")], loop.clock.now())
    assert len(started(list(loop.step().entries))) == 1
    loop.append([Signalled(event="prices")], loop.clock.now())
    read = loop.source.read

    def slowly(cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        loop.clock.sleep(DAY)
        return read(cursor, now=loop.clock.now(), every=every)

    loop.source.read = slowly
    assert len(started(list(loop.step().entries))) == 1
