"""A challenger that one gate makes wait is held to what the others found, at the stated rate."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from keepfit import Challenger, Pipeline, gates, metrics, selection, sources, triggers
from keepfit.facts import Answer, Decided, Judged, Verdict
from keepfit.ledger import Ledger
from keepfit.registry.versions import passed
from tests.lives import START, Life
from tests.test_gates import GROWTH, LOOKS, above, by_rows, compare, first
from tests.worlds import DAY, pipeline, stream
from tests.worlds import START as BEGAN


def said(gate: str, answer: Answer, low: float | None = 0.0) -> Verdict:
    return Verdict(gate=gate, answer=answer, reason="", low=low)


@pytest.mark.parametrize("memory", [None, 0.3])
def test_harmless_challengers_that_wait_are_refused_in_at_most_the_stated_share(memory) -> None:
    gate = gates.Fresher(within=0.02, level=0.9)
    at_first = later = 0
    for life in range(400):
        rng = np.random.default_rng([3, life])
        whole = by_rows(rng, int(300 * GROWTH ** (LOOKS - 1)), -0.02, memory)
        answers = [
            gate.judge(first(whole, int(300 * GROWTH ** (look - 1)), look)).answer
            for look in range(1, LOOKS + 1)
        ]
        assert set(answers) <= {Answer.PROMOTE, Answer.REFUSE}
        at_first += answers[0] == Answer.REFUSE
        later += answers[0] != Answer.REFUSE and Answer.REFUSE in answers
    assert at_first / 400 <= above(0.1, 400)
    assert later / 400 <= above(0.1, 400)


def test_the_shares_of_all_later_looks_of_a_fresh_model_come_to_that_of_the_first() -> None:
    made = by_rows(np.random.default_rng(0), 400, 0.0, None)
    tails = [gates.Fresher()._tail(replace(made, look=look)) for look in range(1, 60)]
    assert tails[0] == pytest.approx(0.05)
    assert sum(tails[1:]) == pytest.approx(0.05)


def test_a_fresh_model_that_waits_is_refused_only_where_more_rows_show_harm() -> None:
    for seed in range(20):
        equal = by_rows(np.random.default_rng(seed), 1_000, 0.02, None)
        worse = by_rows(np.random.default_rng(seed), 2_000, -0.15, None)
        for look in (2, 5, 9):
            assert gates.Fresher().judge(replace(equal, look=look)).answer is Answer.PROMOTE
            assert gates.Fresher().judge(replace(worse, look=look)).answer is Answer.REFUSE


def test_what_was_shown_at_an_earlier_look_is_not_lost_when_the_looks_run_out() -> None:
    made = by_rows(np.random.default_rng(0), 1_000, 0.0, None)
    worse = by_rows(np.random.default_rng(0), 4_000, -0.1, None)
    for gate in (gates.Beats(), gates.NoWorse(within=0.0)):
        for look in (2, 5, 6, 9):
            again = replace(made, look=look, passed=(gate.name,))
            verdict = gate.judge(again)
            assert verdict.answer is Answer.PROMOTE
            assert verdict.reason.endswith("shown at an earlier look")
            # Harm is harm, whatever was shown before.
            harmed = gate.judge(replace(worse, look=look, passed=(gate.name,)))
            assert harmed.answer is Answer.REFUSE
        assert gate.judge(replace(made, look=6, passed=("another",))).answer is Answer.REFUSE


def test_equal_challengers_that_wait_for_another_gate_beat_in_at_most_the_stated_share() -> None:
    gate, beaten = gates.Beats(), 0
    for life in range(250):
        rng = np.random.default_rng([5, life])
        whole = by_rows(rng, int(1_200 * GROWTH ** (LOOKS - 1)), 0.0, None)
        shown: tuple[str, ...] = ()
        for look in range(1, LOOKS + 1):
            seen = first(whole, int(1_200 * GROWTH ** (look - 1)), look)
            verdict = gate.judge(replace(seen, passed=shown))
            shown = passed([verdict])
            if verdict.answer is Answer.REFUSE:
                break
        beaten += verdict.answer is Answer.PROMOTE
    assert beaten / 250 <= above(0.05, 250)


def test_a_gate_is_passed_by_what_was_measured_under_its_name_every_time() -> None:
    yes, no, wait = Answer.PROMOTE, Answer.REFUSE, Answer.NOT_ENOUGH
    verdicts = [
        said("a", yes),
        said("b", wait),
        said("c", yes),
        said("c", no),
        said("d", yes, None),
    ]
    assert passed(verdicts) == ("a",)
    life = Life().arrived(START).started(START, "v1").trained(START, "v1")
    version = life.state().versions["v1"]
    assert version.looked("v0") == (1, ())
    version.judged = Judged(
        version="v1", answer=wait, verdicts=tuple(verdicts), champion="v0", look=3
    )
    assert version.looked("v0") == (4, ("a",))
    assert version.looked("v9") == (1, ())


def test_a_gate_that_had_passed_does_not_refuse_because_another_waits(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), 2_400
    x, moved = rng.normal(size=rows), np.arange(rows) / rows
    frame = pl.DataFrame(
        {
            "time": [datetime(2024, 1, 1) + timedelta(minutes=i) for i in range(rows)],
            "x": x,
            "label": (x + moved + 0.5 * rng.normal(size=rows) > 0).astype(np.int64),
        }
    )
    pipeline = Pipeline(
        "waits",
        sources.Frame(frame, time="time", label="label"),
        LogisticRegression(),
        home=tmp_path,
        every="2h",
        trigger=triggers.Every("2h"),
        challengers=[Challenger(select=selection.Expanding())],
        gate=[gates.Fresher(), gates.StableScores(within=0.9)],
    )
    pipeline.backtest()
    pipeline.close()
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        judged = [entry.fact for entry in ledger.facts("waits", kind="Judged")]
    waited = {one.version for one in judged if one.answer is Answer.NOT_ENOUGH}
    ended = [one for one in judged if one.version in waited and one.answer is not Answer.NOT_ENOUGH]
    assert ended
    assert any(one.answer is Answer.PROMOTE for one in ended)
    assert not any("not shown in" in v.reason for one in judged for v in one.verdicts)


@pytest.mark.parametrize("name", ["mae", "rmse", "r2"])
@pytest.mark.parametrize("far", [1e200, -1e306])
def test_answers_beyond_all_measure_are_never_passed(name: str, far: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    metric = metrics.get(name, task="regression")
    good, bad = values + 0.1 * rng.normal(size=400), values.copy()
    bad[::7] = far
    for gate in (gates.Fresher(), gates.NoWorse(), gates.Beats()):
        assert gate.judge(compare(values, bad, good, metric)).answer is not Answer.PROMOTE
        # The champion that answers so is replaced.
        assert gate.judge(compare(values, good, bad, metric)).answer is not Answer.REFUSE
    assert gates.Fresher().judge(compare(values, bad, good, metric)).answer is Answer.REFUSE


def test_a_challenger_that_waits_is_not_taken_the_place_of_by_age_alone(tmp_path: Path) -> None:
    # A few rows a day decide no gate for a while, and the champion is soon over its age.
    made = pipeline(
        stream(60, 12),
        tmp_path,
        metric="accuracy",
        trigger=triggers.OnEvent(),
        max_age="8d",
        gate=gates.NoWorse(within=0.001),
        enough=20,
    )
    made.backtest(since=BEGAN + 10 * DAY, compare=False)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        facts = [entry.fact for entry in ledger.facts("churn")]
    decided = [fact for fact in facts if isinstance(fact, Decided)]
    turns = [fact.batch for fact in decided if fact.decision.train]
    held = [
        fact.batch for fact in decided if "the gate" in fact.decision.evidence.get("held_by", [])
    ]
    looks = [fact.look for fact in facts if isinstance(fact, Judged)]
    assert held
    assert max(looks) > 1, "its evidence is added to"
    assert len(turns) > 2, "in the end another takes its place all the same"
    assert min(b - a for a, b in itertools.pairwise(turns)) >= 8
