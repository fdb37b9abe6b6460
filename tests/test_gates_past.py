"""Gates on scores that move and on what is forgotten, and what is measured of both at every gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier

from keepfit import Challenger, Ledger, gates, metrics, past, selection, triggers
from keepfit.batch import LABEL, TIME
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Judged
from keepfit.protocols import Past
from keepfit.registry import State
from keepfit.results import Why
from tests.test_gates import AUC, compare, right
from tests.worlds import START, pipeline, stream

DAY = timedelta(days=1)


# Scores ---------------------------------------------------------------------------------


def shifted(by: float, rows: int = 4_000, seed: int = 0):
    rng = np.random.default_rng(seed)
    champion = rng.random(rows)
    labels = (rng.random(rows) < champion).astype(np.int64)
    return compare(labels, np.clip(champion + by, 0, 1), champion, AUC)


@pytest.mark.parametrize(("by", "answer"), [(0.0, "promote"), (0.04, "promote"), (0.2, "refuse")])
def test_scores_may_move_as_far_as_is_said(by: float, answer: str) -> None:
    for gate in (gates.StableScores(0.1), gates.StableScores(0.1, at=0.7)):
        verdict = gate.judge(shifted(by))
        assert verdict.answer.value == answer
        assert verdict.value == pytest.approx(by, abs=0.03)
        assert "0.1000 allowed" in verdict.reason


def test_a_cut_off_where_nothing_moves_passes_although_scores_move_elsewhere() -> None:
    rng = np.random.default_rng(1)
    champion = rng.random(4_000)
    # The same side of one half for every row, and nothing else alike.
    challenger = np.where(champion >= 0.5, 0.99, 0.01)
    comparison = compare(np.ones(4_000, dtype=np.int64), challenger, champion)
    assert gates.StableScores(0.02, at=0.5).judge(comparison).answer == Answer.PROMOTE
    assert gates.StableScores(0.02, at=0.8).judge(comparison).answer == Answer.REFUSE
    assert gates.StableScores(0.02).judge(comparison).answer == Answer.REFUSE


def test_the_move_is_the_distance_of_kolmogorov_and_smirnov() -> None:
    from scipy.stats import ks_2samp

    comparison = shifted(0.1, rows=500)
    found = gates.moved(comparison)
    assert found is not None
    known = ks_2samp(comparison.challenger, comparison.champion).statistic
    assert found.distance == pytest.approx(known)
    assert (found.at, found.before, found.now) == (
        0.5,
        pytest.approx((comparison.champion >= 0.5).mean()),
        pytest.approx((comparison.challenger >= 0.5).mean()),
    )


def test_of_several_classes_the_one_that_moves_most_counts() -> None:
    rng = np.random.default_rng(0)
    champion = rng.dirichlet(np.ones(3), 1_000)
    challenger = champion[:, [0, 2, 1]] * [1.0, 0.5, 1.5]
    found = gates.moved(compare(rng.integers(0, 3, 1_000), challenger, champion))
    assert found is not None
    assert found.at is None
    assert found.distance > 0.1
    assert gates.moved(compare(np.zeros(3), champion[:3], champion[:3])).distance == 0  # type: ignore[union-attr]


def test_of_several_classes_a_cut_off_is_not_asked_for_and_the_verdict_says_so() -> None:
    rng = np.random.default_rng(0)
    champion = rng.dirichlet(np.ones(3), 1_000)
    comparison = compare(rng.integers(0, 3, 1_000), champion[:, [0, 2, 1]], champion)
    found = gates.StableScores(0.2, at=0.5).judge(comparison)
    everywhere = gates.StableScores(0.2).judge(comparison)
    assert (found.answer, found.value) == (everywhere.answer, everywhere.value)
    assert found.reason.startswith("several classes have no rate at 0.5000; the rate at the worst")


def test_a_row_that_stands_for_several_counts_as_several() -> None:
    comparison = shifted(0.1, rows=500)
    times = np.random.default_rng(2).integers(1, 6, 500)
    weighed = replace(comparison, weights=times.astype(float))
    repeated = compare(
        *(one.repeat(times) for one in (comparison.labels, comparison.challenger)),
        comparison.champion.repeat(times),
    )
    for at in (0.3, 0.8):
        found, known = gates.moved(weighed, at), gates.moved(repeated, at)
        assert found is not None
        assert known is not None
        assert found.distance == pytest.approx(known.distance)
        assert (found.before, found.now) == pytest.approx((known.before, known.now))
    assert gates.moved(replace(comparison, weights=np.zeros(500))) is None


def test_too_few_rows_and_no_champion_say_nothing_of_a_rate() -> None:
    few = gates.StableScores().judge(shifted(0.3, rows=50))
    assert few.answer == Answer.NOT_ENOUGH
    first = gates.StableScores().judge(compare([1, 0], [0.5, 0.5], None))
    assert first.answer == Answer.PROMOTE


# Fresh models ---------------------------------------------------------------------------


def twins(rng: np.random.Generator, rows: int, worse: float):
    """Return models that are right on four rows in five, the challenger less often by a share."""
    ours, theirs = rng.random(rows) < 0.8 - worse, rng.random(rows) < 0.8
    return compare(np.ones(rows, dtype=np.int64), right(ours), right(theirs))


@pytest.mark.parametrize("rows", [20, 80, 400])
def test_harmless_challengers_are_refused_in_at_most_the_stated_share(rows: int) -> None:
    rng = np.random.default_rng(rows)
    gate = gates.Fresher(within=0.02, level=0.9)
    refused = [gate.judge(twins(rng, rows, 0.02)).answer == Answer.REFUSE for _ in range(400)]
    # 10 % are allowed; three standard deviations above that is 14.5 %.
    assert sum(refused) <= 0.145 * len(refused)


def test_a_training_gone_wrong_is_refused_on_few_rows() -> None:
    rng = np.random.default_rng(0)
    answers = [gates.Fresher().judge(twins(rng, 80, 0.35)).answer for _ in range(100)]
    assert sum(one == Answer.REFUSE for one in answers) >= 95


def test_the_words_say_on_which_side_of_the_bound_the_interval_lies() -> None:
    rng = np.random.default_rng(0)
    worse = gates.Fresher(within=0.01).judge(twins(rng, 400, 0.3))
    assert worse.answer is Answer.REFUSE
    assert worse.high < worse.needs
    assert worse.reason.endswith("], all below -0.0100")
    # A loss beyond the bound, too few rows to show it.
    unclear = gates.Fresher(within=0.01).judge(twins(rng, 40, 0.05))
    assert unclear.answer is Answer.PROMOTE
    assert unclear.low < unclear.needs < unclear.high
    assert unclear.reason.endswith("], not all below -0.0100")


def test_a_fresh_model_never_waits_for_evidence() -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 5, 9, 50):
        assert gates.Fresher().judge(twins(rng, rows, 0.0)).answer == Answer.PROMOTE
    assert "too few to show any harm" in gates.Fresher().judge(twins(rng, 5, 0.0)).reason
    assert gates.Fresher().judge(compare([], [], [])).answer == Answer.NOT_ENOUGH


def test_a_dear_recipe_waits_its_turns_while_a_cheap_one_runs(tmp_path: Path) -> None:
    made = pipeline(
        stream(30, 120),
        tmp_path,
        learner=LGBMClassifier(n_estimators=10, num_leaves=7, verbosity=-1),
        trigger=triggers.AfterRows(1, labelled=True),
        challengers=[
            Challenger(
                select=selection.SinceLast(), start="champion", update="leaves", name="leaves"
            ),
            Challenger(select=selection.Sliding("8d"), every=5, name="whole"),
        ],
        gate=gates.Fresher(),
        enough=100,
    )
    made.backtest(since=START + 3 * DAY, compare=False)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        started = [e.fact for e in ledger.facts("churn", kind="TrainingStarted")]
    turns = [fact.turn for fact in started if fact.challenger == "whole"]  # type: ignore[union-attr]
    assert len(turns) >= 4
    assert {later - before for before, later in zip(turns, turns[1:], strict=False)} == {5}
    leaves = [fact for fact in started if fact.challenger == "leaves"]  # type: ignore[union-attr]
    assert len(leaves) >= 20


# The past -------------------------------------------------------------------------------


def stretches(rng: np.random.Generator, *gains: float, rows: int = 800) -> tuple[Past, ...]:
    """Return stretches on which the challenger is right more often by a gain."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return tuple(
        Past(
            from_=start + 10 * i * DAY,
            to=start + (10 * i + 9) * DAY,
            labels=np.ones(rows, dtype=np.int64),
            challenger=right(rng.random(rows) < 0.8 + gain),
            champion=right(rng.random(rows) < 0.8),
        )
        for i, gain in enumerate(gains)
    )


def judged(rng: np.random.Generator, *gains: float, **settings: Any) -> Any:
    comparison = compare(np.ones(10), np.ones(10), np.ones(10), past=stretches(rng, *gains))
    return gates.NoForgetting(**settings).judge(comparison)


def test_what_is_forgotten_is_refused_and_the_stretch_named() -> None:
    verdict = judged(np.random.default_rng(0), 0.0, -0.3, 0.05, 0.1)
    assert verdict.answer == Answer.REFUSE
    assert verdict.value == pytest.approx(-0.3, abs=0.06)
    assert "2024-01-11 to 2024-01-20" in verdict.reason


def test_challengers_that_lost_no_more_are_refused_in_at_most_the_stated_share() -> None:
    rng = np.random.default_rng(3)
    refused = [
        judged(rng, *[-0.02] * 4, within=0.02, level=0.9).answer == Answer.REFUSE
        for _ in range(300)
    ]
    # 10 % are allowed; three standard deviations above that is 15 %.
    assert sum(refused) <= 0.15 * len(refused)


def test_what_may_be_forgotten_is_a_part_of_what_the_champion_reached() -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(500, 1_500, 400)
    noise = rng.normal(0, 100, 400)

    def answer(worse: float, within: float | None = None) -> str:
        stretch = Past(
            from_=START,
            to=START + DAY,
            labels=labels,
            challenger=labels + worse * noise,
            champion=labels + noise,
        )
        asked = compare(
            labels[:9],
            labels[:9],
            labels[:9],
            metrics.get("mae", task="regression"),
            past=(stretch,),
        )
        return gates.NoForgetting(within).judge(asked).answer

    # Errors of eighty: three are 4 % of them, by far more than 0.02.
    assert answer(1.03) == Answer.PROMOTE
    assert answer(1.2) == Answer.REFUSE
    assert answer(1.03, within=0.02) == Answer.REFUSE


def test_nothing_is_forgotten_where_there_is_no_past() -> None:
    assert judged(np.random.default_rng(0)).answer == Answer.PROMOTE
    alone = compare([1], [0.9], None)
    assert gates.NoForgetting().judge(alone).answer == Answer.PROMOTE


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gates.StableScores(0.0), "a share between 0 and 1, got 0.0"),
        (lambda: gates.StableScores(0.1, at="half"), "at to be a number, got 'half'"),
        (lambda: gates.Fresher(-0.1), "a number from 0, got -0.1"),
        (lambda: Challenger(every=0), "a whole number from 1, or None, got 0"),
        (lambda: gates.NoForgetting(-0.1), "a number from 0, got -0.1"),
        (lambda: gates.NoForgetting(level=1.0), "from 0.5 to below 1, got 1.0"),
        (lambda: gates.NoForgetting(holdout=2), "holdout"),
    ],
)
def test_an_argument_out_of_range_fails_at_construction(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_stretch_is_asked_at_every_hour_of_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame(
        {TIME: [START + i * timedelta(hours=1) for i in range(4 * 24 * 300)], LABEL: 0}
    )
    hours = rows.get_column(TIME).dt.hour()

    def beside(scorer: Any, new: Any, old: Any, asked: pl.DataFrame) -> Any:
        codes = asked.get_column(TIME).dt.hour().to_numpy()
        return None, codes, codes, codes

    monkeypatch.setattr("keepfit.unknown.beside", beside)
    model = SimpleNamespace(task="regression")
    for one in past.stretches(None, rows, model, model, at_most=300):  # type: ignore[arg-type]
        assert set(one.labels) == set(hours)


# In the loop ----------------------------------------------------------------------------


def lived(tmp_path: Path, gate: list[Any], **parts: Any) -> list[Any]:
    made = pipeline(
        stream(40, 150, flip_at=20),
        tmp_path,
        learner=LGBMClassifier(n_estimators=20, num_leaves=7, verbosity=-1),
        trigger=triggers.Every("4d"),
        challengers=[Challenger(select=selection.Sliding("6d"))],
        gate=gate,
        **parts,
    )
    made.backtest(since=START + 8 * DAY, compare=False)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        return list(ledger.facts("churn"))


def test_every_gate_measures_how_scores_move_and_what_is_forgotten(tmp_path: Path) -> None:
    entries = lived(tmp_path, [gates.NoWorse(within=0.5, min_blocks=2)])
    found = [entry.fact for entry in entries if isinstance(entry.fact, Judged)]
    assert found
    for fact in found:
        assert fact.scores is not None
        assert 0 <= fact.scores.distance <= 1
        assert len(fact.past) == 4
        assert [one.from_ for one in fact.past] == sorted(one.from_ for one in fact.past)
    # The concept turns on day 20: who learns the new one has forgotten the old one.
    turned = [fact for fact in found if min(one.gain or 0.0 for one in fact.past) < -0.5]
    assert turned
    state = State().fold(entries)
    told = repr(Why.of("churn", state, turned[-1].version, entries))
    assert "the past: furthest behind on" in told
    assert "move past some cut-off" in told


def test_a_gate_on_the_past_keeps_what_would_be_forgotten(tmp_path: Path) -> None:
    entries = lived(tmp_path, [gates.NoForgetting(0.05)])
    found = [entry.fact for entry in entries if isinstance(entry.fact, Judged)]
    refused = [fact for fact in found if fact.answer == Answer.REFUSE]
    assert refused
    assert all(min(one.gain or 0.0 for one in fact.past) < -0.05 for fact in refused)
