"""A pipeline that weighs: a still year, labels that turn, and what it says of each no."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from tests.worlds import DAY, START, live, pipeline, play, source, stream

from keepfit import Challenger, Ledger, probes, selection, triggers
from keepfit.facts import (
    AnyFact,
    Decided,
    Estimated,
    Probed,
    Promoted,
    Scored,
    Trained,
    TrainingStarted,
    comparable,
)
from keepfit.registry import State
from keepfit.results import Status, Story
from keepfit.triggers import pays

PARTS: dict[str, Any] = {
    "metric": "accuracy",
    "challengers": [Challenger(select=selection.Sliding("15d"))],
    "gate": [],
}


@pytest.fixture(autouse=True)
def _as_if_trainings_were_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes be taken though the learner of these tests is quicker than any probe."""
    monkeypatch.setattr(pays, "COSTS", 10**9)


def facts_of(tmp_path: Path, frame: pl.DataFrame, **parts: Any) -> list[AnyFact]:
    made = pipeline(source(frame, **parts.pop("roles", {})), tmp_path / "home", **(PARTS | parts))
    made.backtest(since=START + 20 * DAY, compare=False)
    with Ledger(tmp_path / "home" / "backtest" / "ledger.db") as ledger:
        return [entry.fact for entry in ledger.facts("churn")]


def only(facts: list[AnyFact], kind: type) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


def trained(facts: list[AnyFact]) -> list[int]:
    return [fact.batch for fact in only(facts, Decided) if fact.decision.train]


def test_a_stream_that_stays_is_hardly_trained_again(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, stream(120), trigger=triggers.Pays(worth=0.1))
    assert len(trained(facts)) <= 3
    taken = only(facts, Probed)
    assert 1 <= len(taken) <= 20
    assert all(fact.cost.cpu_seconds > 0 for fact in taken)
    nos = [f.decision.parts[0] for f in only(facts, Decided) if f.batch > 30 and f.decision.parts]
    assert all("pay for it" in no.reason or "not measured yet" in no.reason for no in nos)


def test_labels_that_turn_are_measured_and_pay(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, stream(80, flip_at=50), trigger=triggers.Pays(worth=0.1))
    after = [batch for batch in trained(facts) if batch > 50]
    assert len(trained(facts)) - len(after) <= 2
    # Of the 15 days that a training takes, the larger part must have turned.
    assert after[0] <= 63
    gaps = {fact.batch: fact.gap for fact in only(facts, Probed)}
    assert max(gap for batch, gap in gaps.items() if batch > 50) > 0.04
    values = [fact.value for fact in only(facts, Scored)]
    assert np.mean(values[-5:]) > 0.8 > 0.5 > min(values)
    yes = next(f.decision for f in only(facts, Decided) if f.batch == after[0])
    assert yes.reason.startswith("training pays")
    assert yes.parts[0].evidence["regret"] + yes.parts[0].evidence["saved"] > 0


def test_dearer_seconds_make_for_fewer_trainings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = stream(90)
    # The concept turns a little with every day.
    angle = (pl.col("time") - START).dt.total_days() / 25
    turning = frame.with_columns(
        label=(
            pl.col("x") * angle.cos() + pl.col("y") * angle.sin()
            > pl.Series(0.2 * rng.normal(size=frame.height))
        ).cast(pl.Int64)
    )
    counts = [
        len(trained(facts_of(tmp_path / str(worth), turning, trigger=triggers.Pays(worth=worth))))
        for worth in (0.003, 0.03, 3.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_prices_are_weighed_against_the_seconds_that_trainings_took(tmp_path: Path) -> None:
    frame = stream(60, flip_at=35)
    cheap = triggers.Pays(per_error=1.0, per_cpu_second=1e-6)
    facts = facts_of(tmp_path / "cheap", frame, trigger=cheap)
    assert any(batch > 35 for batch in trained(facts))
    assert all(fact.training_seconds > 0 for fact in only(facts, Probed))
    dear = triggers.Pays(per_error=1.0, per_cpu_second=1e9)
    facts = facts_of(tmp_path / "dear", frame, trigger=dear)
    assert trained(facts) == [20]
    last = only(facts, Decided)[-1].decision.parts[0]
    assert "CPU s at 1e+09" in last.reason


def test_a_maximum_age_trains_where_nothing_pays(tmp_path: Path) -> None:
    trigger = triggers.Pays(per_error=1.0, per_cpu_second=1e9)
    facts = facts_of(tmp_path, stream(70), trigger=trigger, max_age="25d")
    decided = [f.decision for f in only(facts, Decided) if f.decision.train]
    assert [one.trigger for one in decided] == ["first", "max_age"]


def test_late_labels_are_waited_for_and_no_probe_sees_what_is_not_mature(tmp_path: Path) -> None:
    frame = stream(70, per_day=200, flip_at=45)
    facts = facts_of(tmp_path, frame, roles={"label_delay": "6d"}, trigger=triggers.Pays())
    mature = None
    for fact in facts:
        if isinstance(fact, Scored) and fact.to is not None:
            mature = fact.to
        elif isinstance(fact, Probed):
            assert mature is not None
            assert fact.to is not None
            assert fact.to <= mature
    assert not only(facts, Estimated)
    assert any(51 <= batch <= 65 for batch in trained(facts))


def test_a_ranking_metric_is_weighed_by_the_cost_that_comes_with_it(tmp_path: Path) -> None:
    def cost(labels: Any, scores: Any) -> Any:
        return np.where(labels == 1, 5.0 * (scores < 0.5), 1.0 * (scores >= 0.5))

    frame = stream(60, flip_at=40)
    trigger = triggers.Pays(cost=cost)
    facts = facts_of(tmp_path, frame, trigger=trigger, metric="roc_auc")
    assert {fact.loss for fact in only(facts, Probed)} == {"cost"}
    assert any(batch > 40 for batch in trained(facts))


def test_a_champion_that_went_on_from_others_knows_their_rows_too(tmp_path: Path) -> None:
    recipes = [
        Challenger(select=selection.SinceLast(), start="champion", update="leaves"),
        Challenger(select=selection.Sliding("15d"), every=9),
    ]
    trees = LGBMClassifier(n_estimators=20, verbosity=-1, n_jobs=1)
    facts = facts_of(
        tmp_path,
        stream(60, flip_at=40),
        learner=trees,
        challengers=recipes,
        trigger=triggers.Pays() | triggers.Every("6d"),
    )
    started = {fact.version: fact for fact in only(facts, TrainingStarted)}
    taken = [one for one in only(facts, Probed) if started[one.version].update == "leaves"]
    assert taken
    # The rows since the last training are some 600; those of the first version are 1,500.
    assert all(one.drawn[0] > 1_000 > started[one.version].snapshot.rows for one in taken)


def test_the_same_life_twice_gives_the_same_facts(tmp_path: Path) -> None:
    frame = stream(50, flip_at=35)
    lives = [facts_of(tmp_path / name, frame, trigger=triggers.Pays()) for name in ("a", "b")]
    assert [comparable(one) for one in lives[0]] == [comparable(one) for one in lives[1]]


def test_a_learner_that_is_quicker_than_a_probe_is_trained_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pays, "COSTS", 4)
    facts = facts_of(tmp_path, stream(60, flip_at=40), trigger=triggers.Pays())
    assert len(only(facts, Probed)) == 4
    decided = [f for f in only(facts, Decided) if f.decision.train]
    told = [f for f in decided if "in the place of a probe" in f.decision.reason]
    assert told
    assert any(f.batch > 40 for f in told)
    # No oftener than with every batch, and no oftener than probes were asked for.
    assert len(decided) < 30
    values = [fact.value for fact in only(facts, Scored)]
    assert np.mean(values[-5:]) > 0.8


@pytest.mark.parametrize(("budget", "count"), [("9s per 900d", 1), ("11s per 900d", 2)])
def test_a_budget_of_seconds_pays_for_probes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str, count: int
) -> None:
    ticks = itertools.count(step=10)
    clock = SimpleNamespace(process_time=lambda: float(next(ticks)))
    monkeypatch.setattr(probes, "time", clock)
    facts = facts_of(tmp_path, stream(60, flip_at=40), trigger=triggers.Pays(), budget=budget)
    assert [fact.cost.cpu_seconds for fact in only(facts, Probed)] == [10.0] * count
    held = {one.decision.reason for one in only(facts, Decided)}
    if any("held by the budget" in reason for reason in held):
        assert any(f"{count}0 of them on probes" in reason for reason in held)
    assert all(batch <= max(f.batch for f in only(facts, Probed)) for batch in trained(facts))


def test_what_probes_took_counts_as_cost_and_is_told(tmp_path: Path) -> None:
    made = pipeline(
        source(stream(40, flip_at=30)), tmp_path / "home", trigger=triggers.Pays(), **PARTS
    )
    policy = made.backtest(since=START + 20 * DAY, compare=False).policies[0]
    with Ledger(tmp_path / "home" / "backtest" / "ledger.db") as ledger:
        entries = list(ledger.facts("churn"))
    facts = [entry.fact for entry in entries]
    probing = sum(fact.cost.cpu_seconds for fact in only(facts, Probed))
    training = sum(fact.cost.cpu_seconds for fact in only(facts, Trained))
    assert probing > 0
    assert policy.probe_cpu_seconds == pytest.approx(probing)
    assert policy.fit_cpu_seconds == pytest.approx(probing + training)
    assert policy.to_dict()["probe_cpu_seconds"] == policy.probe_cpu_seconds
    state = State().fold(entries)
    assert [seconds for _, seconds in state.probe_costs] == [
        fact.cost.cpu_seconds for fact in only(facts, Probed)
    ]
    assert State.loads(state.dumps()).probe_costs == state.probe_costs
    told = [line.text for line in Story().lines(entries) if line.what == "probed"]
    assert "s of CPU; " in told[0]
    assert " of CPU, of which probes " in str(Status.of("churn", state))


@pytest.mark.story
def test_a_live_loop_goes_on_weighing_in_another_process(tmp_path: Path) -> None:
    made = pipeline(
        source(stream(60, flip_at=40)), tmp_path / "home", trigger=triggers.Pays(), **PARTS
    )
    for end in (20, 28, 36, 44, 52, 58):
        loop = live(made, START + end * DAY)
        play(loop, 1)
    entries = list(loop.memory.ledger.facts("churn"))
    facts = [entry.fact for entry in entries]
    batches = [fact.batch for fact in only(facts, Probed)]
    assert len(batches) == len(set(batches)) >= 2
    assert len(only(facts, Promoted)) >= 2
    told = [line.text for line in Story().lines(entries) if line.what == "probed"]
    assert told[0].startswith("old rows lose 0.")
    assert "by accuracy, fresh 0." in told[0]
    state = live(made, START + 58 * DAY).state
    assert state.probes == loop.state.probes
    assert state.probed == max(batches)
