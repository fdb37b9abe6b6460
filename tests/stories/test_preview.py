"""Looking ahead: `check` says what the next step finds and does, and leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.worlds import DAY, START, live, pipeline, stream

from keepfit import checks, sources, triggers
from keepfit.facts import (
    Arrived,
    Assessed,
    Decided,
    DetectorAdvanced,
    Drifted,
    Estimated,
    Found,
    Quarantined,
    Scored,
)
from keepfit.preview import preview
from keepfit.results import Checked

ROLES = {"id": "id", "time": "time", "label": "label"}


class World:
    """A folder of files, a loop on it, and a clock: a day of rows in each file."""

    def __init__(self, tmp_path: Path, frame: pl.DataFrame, roles: Any = None, **parts: Any):
        self.frame = frame
        self.folder = tmp_path / "rows"
        self.folder.mkdir()
        source = sources.Parquet(str(self.folder), **(ROLES | (roles or {})))
        self.loop = live(pipeline(source, tmp_path / "home", **parts), START)

    def live_to(self, day: int) -> None:
        for number in range(day):
            self.bring(number)
            self.loop.step()
        assert self.loop.step().idle

    def bring(self, day: int, change: Any = None) -> None:
        inside = (pl.col("time") >= START + day * DAY) & (pl.col("time") < START + (day + 1) * DAY)
        rows = self.frame.filter(inside)
        rows = rows if change is None else rows.with_columns(change)
        rows.write_parquet(self.folder / f"{day:03}.parquet")
        self.loop.clock.sleep(START + (day + 1) * DAY - self.loop.clock.now())

    def trace(self) -> Any:
        home = self.loop.pipeline.home
        files = {str(one): one.stat().st_size for one in home.rglob("*") if one.is_file()}
        return self.loop.memory.ledger.seq("churn"), files


def test_a_check_reads_ids_that_have_become_text_as_the_step_does(tmp_path: Path) -> None:
    world = World(tmp_path, stream(10), trigger=triggers.Every("5d"))
    world.live_to(8)
    world.bring(8, pl.col("id").cast(pl.String))
    ahead = preview(world.loop)
    assert (ahead.rows, ahead.labels) == (100, 100)
    (arrived,) = [one.fact for one in world.loop.step().entries if isinstance(one.fact, Arrived)]
    assert (arrived.rows, arrived.labels) == (100, 100)


@pytest.mark.parametrize("day", [1, 20, 26])
def test_a_check_says_what_the_step_then_finds_and_decides(tmp_path: Path, day: int) -> None:
    trigger = triggers.OnDrift() | triggers.OnRelevance(50) | triggers.Every("9d")
    world = World(tmp_path, stream(40, 300, shift_at=26), trigger=trigger, enough=200)
    world.live_to(day)
    world.bring(day)
    before = world.trace()
    checked = preview(world.loop)
    assert world.trace() == before
    facts = [entry.fact for entry in world.loop.step().entries]

    def first(kind: Any) -> Any:
        return next((fact for fact in facts if isinstance(fact, kind)), None)

    arrived, decided = first(Arrived), first(Decided)
    assert (checked.batch, checked.rows, checked.labels) == (arrived.batch, 300, arrived.labels)
    assert (checked.from_, checked.to) == (arrived.from_, arrived.to)
    assert checked.findings == first(Found).findings
    assert checked.scored == next(
        (f for f in facts if isinstance(f, Scored) and f.batch == arrived.batch), None
    )
    assert checked.evidence == tuple(f for f in facts if isinstance(f, DetectorAdvanced))
    assert checked.alarms == tuple(f for f in facts if isinstance(f, Drifted))
    then = first(Assessed)
    if then is not None:
        # What is usual of a champion is learnt anew by each process, from the rows it finds.
        assert checked.assessed is not None
        assert (checked.assessed.verdict, checked.assessed.reasons) == (then.verdict, then.reasons)
    assert checked.decision == decided.decision
    assert checked.would == ("train" if decided.decision.train else "keep")
    if day == 26:
        assert checked.drift is not None
        assert checked.drift.columns[0].column == "x"
        assert checked.would == "train"
        assert "x" in repr(checked).splitlines()[5]


def test_a_check_says_so_where_no_recipe_is_due(tmp_path: Path) -> None:
    world = World(tmp_path, stream(30, 250), trigger=None, challengers=None)
    world.live_to(8)
    held = []
    for day in range(8, 14):
        world.bring(day)
        checked = preview(world.loop)
        facts = [entry.fact for entry in world.loop.step().entries]
        decision = next(fact.decision for fact in facts if isinstance(fact, Decided))
        assert checked.decision == decision
        assert checked.would == ("train" if decision.train else "keep")
        held.append("no recipe is due" in decision.reason)
        while not world.loop.step().idle:
            pass
    assert any(held)


def test_a_batch_that_a_check_blocks_would_be_set_apart(tmp_path: Path) -> None:
    world = World(tmp_path, stream(30, 200), checks=[checks.Schema(), checks.Nulls()])
    world.live_to(12)
    world.bring(12, pl.lit(None, pl.Float64).alias("x"))
    checked = preview(world.loop)
    assert (checked.blocked, checked.would, checked.drift) == (True, "quarantine", None)
    facts = [entry.fact for entry in world.loop.step().entries]
    [held] = [fact for fact in facts if isinstance(fact, Quarantined)]
    assert checked.quarantined == held.reason
    assert f"set the batch apart: {held.reason[:20]}" in repr(checked)
    assert "performance" not in repr(checked)


def test_a_column_that_went_is_seen_before_it_lands(tmp_path: Path) -> None:
    world = World(tmp_path, stream(30, 200), checks=[checks.Schema()])
    world.live_to(12)
    world.frame = world.frame.drop("y")
    world.bring(12)
    checked = preview(world.loop)
    assert checked.would == "quarantine"
    assert "`y`" in str(checked.quarantined)


def test_what_a_champion_would_do_is_estimated_while_labels_are_late(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        stream(60, 400),
        {"label_delay": "5d"},
        trigger=triggers.Every("90d"),
        enough=200,
    )
    world.live_to(40)
    world.bring(40)
    checked = preview(world.loop)
    assert checked.scored is None
    assert checked.estimated is not None
    assert checked.estimated.low <= checked.estimated.value <= checked.estimated.high
    facts = [entry.fact for entry in world.loop.step().entries]
    [then] = [fact for fact in facts if isinstance(fact, Estimated)]
    assert (then.batch, then.version, then.n) == (41, "v1", 400)
    assert then.value == pytest.approx(checked.estimated.value, abs=0.01)
    assert "is to be expected of v1" in repr(checked)


def test_with_nothing_unread_a_check_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, stream(20, 100))
    world.live_to(5)
    checked = preview(world.loop)
    assert (checked.rows, checked.would, checked.blocked) == (0, "wait", False)
    assert "nothing unread" in repr(checked)
    assert checked.to_frame().is_empty()


def test_a_check_turns_into_a_frame_and_into_json(tmp_path: Path) -> None:
    world = World(tmp_path, stream(30, 300, shift_at=20))
    world.live_to(20)
    world.bring(20)
    checked = preview(world.loop)
    assert isinstance(checked, Checked)
    frame = checked.to_frame()
    assert frame["column"].to_list()[0] == "x"
    assert frame.filter(pl.col("drifted"))["column"].to_list() == ["x"]
    told = checked.to_dict()
    assert told["drift"][0]["column"] == "x"
    assert told["would"] == checked.would
    assert told["assessed"]["verdict"] in ("learn", "keep")
