"""What a pipeline notices: drift at a stated rate, series of losses, and estimates while labels are late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from tests.worlds import DAY, START, live, pipeline, play, source, stream

from keepfit import Challenger, drift, selection, triggers
from keepfit.artifacts import Artifacts
from keepfit.facts import (
    AnyFact,
    Assessed,
    Decided,
    DetectorAdvanced,
    Drifted,
    Estimated,
    Scored,
    Trained,
    TrainingStarted,
)
from keepfit.relevance import KEPT


def facts_of(tmp_path: Path, frame: pl.DataFrame, **parts: Any) -> list[AnyFact]:
    given = source(frame, **parts.pop("roles", {}))
    made = pipeline(given, tmp_path / "home", **parts)
    made.backtest(since=START + 20 * DAY, compare=False)
    from keepfit import Ledger

    with Ledger(tmp_path / "home" / "backtest" / "ledger.db") as ledger:
        return [entry.fact for entry in ledger.facts("churn")]


def references(tmp_path: Path, facts: list[AnyFact]) -> list[drift.Reference]:
    kept = Artifacts(tmp_path / "home" / "backtest" / "artifacts")
    trained = [fact for fact in only(facts, Trained) if fact.reference]
    assert trained
    return [drift.Reference.loads(kept.get(fact.reference)) for fact in trained]


def only(facts: list[AnyFact], kind: type) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


def test_drift_alarms_once_soon_after_a_shift_and_not_before(tmp_path: Path) -> None:
    frame = stream(80, shift_at=60)
    facts = facts_of(tmp_path, frame, trigger=triggers.OnDrift(), challengers=None)
    alarms = only(facts, Drifted)
    assert [fact.batch for fact in alarms[:1]] == [61]
    assert {"x"} <= {one.column for one in alarms[0].columns}
    assert len(alarms) == 1
    advanced = only(facts, DetectorAdvanced)
    assert all(fact.provisional for fact in advanced)
    assert advanced[0].detector == "Alarms()"
    trained = [fact for fact in only(facts, Decided) if fact.decision.train]
    assert any("x KS" in fact.decision.reason for fact in trained)


def test_slow_drift_that_every_training_follows_is_said_once_by_the_anchor(tmp_path: Path) -> None:
    frame = stream(100)
    day = (pl.col("time") - START).dt.total_days()
    slow = frame.with_columns(y=pl.col("y") + 0.02 * day)
    facts = facts_of(tmp_path, slow, trigger=triggers.Every("5d"), challengers=None)
    said = [one for fact in only(facts, Drifted) for one in fact.columns if one.method == "anchor"]
    assert [one.column for one in said] == ["y"]


@pytest.mark.parametrize(
    "detector", [drift.ADWIN(), drift.DDM(), drift.HDDM_A(), drift.PageHinkley(threshold=20)]
)
def test_a_detector_of_losses_sees_labels_that_flip(detector: Any, tmp_path: Path) -> None:
    facts = facts_of(tmp_path, stream(70, flip_at=50), trigger=triggers.OnDrift(detector))
    alarms = [fact for fact in only(facts, Drifted) if fact.batch >= 50]
    assert alarms
    assert alarms[0].batch <= 54
    assert alarms[0].columns[0].column == "loss"
    trained = [fact.batch for fact in only(facts, Decided) if fact.decision.train]
    assert any(50 < batch <= 56 for batch in trained)


def test_a_detector_of_scores_and_one_of_a_column_follow_batch_by_batch(tmp_path: Path) -> None:
    trigger = triggers.OnDrift(drift.ADWIN(on="score")) | triggers.OnDrift(drift.ADWIN(on="x"))
    facts = facts_of(tmp_path, stream(70, shift_at=50), trigger=trigger)
    alarms = {one.column for fact in only(facts, Drifted) for one in fact.columns}
    assert alarms == {"score", "x"}


@pytest.mark.parametrize("detector", [drift.DomainClassifier(), drift.MMD(), drift.PCA()])
def test_a_detector_of_whole_rows_works_in_a_pipeline(detector: Any, tmp_path: Path) -> None:
    facts = facts_of(tmp_path, stream(60, shift_at=45), trigger=triggers.OnDrift(detector))
    advanced = only(facts, DetectorAdvanced)
    assert advanced
    assert any(one.column == "all columns" for fact in advanced for one in fact.columns)


def test_performance_is_estimated_until_labels_come_and_then_realised(tmp_path: Path) -> None:
    facts = facts_of(
        tmp_path,
        stream(60, per_day=400),
        roles={"label_delay": "10d"},
        trigger=triggers.Every("20d") | triggers.OnDecay(),
    )
    estimated = {fact.batch: fact for fact in only(facts, Estimated)}
    realised = {fact.batch: fact for fact in only(facts, Scored) if fact.value is not None}
    both = sorted(estimated.keys() & realised.keys())
    assert len(both) >= 10
    inside = [estimated[b].low <= realised[b].value <= estimated[b].high for b in both]
    assert sum(inside) >= 0.8 * len(inside)
    assert all(0 < estimated[b].trust <= 1 for b in both)
    assert all(facts.index(estimated[b]) < facts.index(realised[b]) for b in both)


def test_decay_is_seen_by_estimates_before_labels_come(tmp_path: Path) -> None:
    frame = stream(90, per_day=400)
    day = (pl.col("time") - START).dt.total_days()
    # Rows move to where the champion cannot tell the classes apart.
    dull = frame.with_columns(x=pl.when(day >= 60).then(pl.col("x") * 0.1).otherwise(pl.col("x")))
    facts = facts_of(
        tmp_path, dull, roles={"label_delay": "20d"}, trigger=triggers.OnDecay(), challengers=None
    )
    decided = [f for f in only(facts, Decided) if f.decision.train and f.batch > 30]
    assert decided
    assert 60 < decided[0].batch < 80
    assert "estimated" in decided[0].decision.reason


def test_a_live_loop_goes_on_with_its_alarm_in_another_process(tmp_path: Path) -> None:
    given = source(stream(60, shift_at=50))
    made = pipeline(given, tmp_path / "home", trigger=triggers.OnDrift())
    for end in (25, 40, 49, 58):
        loop = live(made, START + end * DAY)
        play(loop, 1)
    state = live(made, START + 58 * DAY).state
    alarms = [e.fact for e in loop.memory.ledger.facts("churn") if isinstance(e.fact, Drifted)]
    assert alarms[0].columns[0].column == "x"
    assert alarms[0].rows_to is not None
    assert alarms[0].rows_to < START + 51 * DAY
    assert msgspec.json.encode(state.detectors) == msgspec.json.encode(loop.state.detectors)


def test_batches_worth_learning_from_are_assessed_and_trained_on(tmp_path: Path) -> None:
    frame = stream(70, per_day=200, flip_at=45)
    trigger = triggers.OnRelevance(300) | triggers.Every("20d")
    facts = facts_of(tmp_path, frame, trigger=trigger, challengers=None)
    assessed = only(facts, Assessed)
    assert {fact.verdict for fact in assessed} <= {"ignore", "keep", "learn"}
    learnt = [fact.batch for fact in assessed if fact.verdict == "learn" and fact.batch > 45]
    assert learnt
    assert all(fact.reasons for fact in assessed if fact.verdict == "learn")
    fired = [f for f in only(facts, Decided) if f.decision.train and f.batch > 45]
    assert "OnRelevance" in fired[0].decision.trigger
    assert all(KEPT in one.parts for one in references(tmp_path, facts))


def test_no_batch_is_assessed_where_nobody_asks(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, stream(40), trigger=triggers.Every("10d"))
    assert not only(facts, Assessed)


def test_a_selection_by_relevance_trains_on_its_share_and_again_alike(tmp_path: Path) -> None:
    recipe = Challenger(select=selection.Relevant(0.5))
    trained = []
    for place in ("a", "b"):
        facts = facts_of(
            tmp_path / place, stream(60), trigger=triggers.Every("10d"), challengers=[recipe]
        )
        trained.append([f.snapshot.digest for f in only(facts, TrainingStarted)])
    assert len(trained[0]) >= 3
    assert trained[0] == trained[1]


def weekly(days: int) -> pl.DataFrame:
    """Return a stream whose rows know the day of the week, so that no day is like a week."""
    return stream(days).with_columns(weekday=pl.col("time").dt.weekday())


def test_a_part_of_a_batch_is_not_held_against_whole_ones(tmp_path: Path) -> None:
    facts = facts_of(
        tmp_path, weekly(7 * 12 + 2), every="7d", trigger=triggers.OnDrift(), challengers=None
    )
    assert not only(facts, Drifted)
    last = only(facts, DetectorAdvanced)[-1]
    assert last.state["held"] == [last.batch]


def test_batches_that_come_in_parts_are_judged_when_they_are_whole(tmp_path: Path) -> None:
    frame = weekly(7 * 16)
    moved = frame.with_columns(
        x=pl.when(pl.col("time") >= START + 7 * 12 * DAY)
        .then(pl.col("x") + 2)
        .otherwise(pl.col("x"))
    )
    made = pipeline(
        source(moved), tmp_path / "home", every="7d", trigger=triggers.OnDrift(), enough=4_000
    )
    for end in range(49, 7 * 14, 2):
        loop = live(made, START + end * DAY)
        play(loop, 1)
    told = [entry.fact for entry in loop.memory.ledger.facts("churn")]
    looked = only(told, DetectorAdvanced)
    assert {one.together for one in looked if not one.state.get("held")} - {1}
    assert all(one.together == len(one.state["held"]) for one in looked if one.state.get("held"))
    alarms = only(told, Drifted)
    assert alarms
    assert alarms[0].rows_to is not None
    assert alarms[0].rows_to >= START + 7 * 12 * DAY
    assert {one.column for one in alarms[0].columns} == {"x"}
