"""Rollouts: how they are written, who is answered by whom, and when faults are too many."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit import gates, metrics, rollouts
from keepfit.errors import ConfigError
from keepfit.facts import Answer
from keepfit.protocols import Comparison
from keepfit.rollouts import Assignment, Canary, Faults, Ramp, Shadow
from tests.worlds import pipeline, stream

UNITS = st.one_of(st.integers(), st.text(max_size=20))
SHARES = st.floats(0.001, 0.999)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Canary(0, "1d"), "a share above 0 and below 1, got 0"),
        (lambda: Canary(5, "1d"), "a share above 0 and below 1, got 5"),
        (lambda: Canary(True, "1d"), "got True"),
        (lambda: Shadow("0s"), "a length above zero"),
        (lambda: Shadow("1 day"), "expected a duration, got '1 day'"),
        (lambda: Ramp((), "1d"), "expected several shares"),
        (lambda: Ramp((0.5, 0.25), "1d"), "got canary 25 % after canary 50 %"),
        (lambda: rollouts.resolve([Canary(0.1, "1d"), Shadow("1d")]), "got shadow after"),
        (lambda: rollouts.resolve("shadow"), "expected a stage of a rollout, got 'shadow'"),
    ],
    ids=["zero", "percent", "bool", "no length", "words", "none", "falls", "order", "text"],
)
def test_what_is_written_wrongly_fails_at_once(made: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made()


def test_a_pipeline_takes_one_stage_or_several(tmp_path: Path) -> None:
    one = pipeline(stream(5), tmp_path, rollout=Shadow("1d"))
    assert one.rollout == (rollouts.Stage(0.0, timedelta(days=1)),)
    several = pipeline(stream(5), tmp_path, rollout=[Shadow("1d"), Ramp((0.1, 0.5), "2d")])
    assert [stage.kind for stage in several.rollout or ()] == ["shadow", "canary", "canary"]
    assert pipeline(stream(5), tmp_path).rollout is None
    assert pipeline(stream(5), tmp_path, rollout=[]).rollout == ()


@pytest.mark.parametrize("breaker", ["600s per 30d", "three", "0 per 1d"])
def test_a_breaker_is_a_count_per_period(tmp_path: Path, breaker: str) -> None:
    with pytest.raises(ConfigError, match="breaker"):
        pipeline(stream(5), tmp_path, breaker=breaker)


# Who is answered by whom ------------------------------------------------------------------


@given(st.text(max_size=20), UNITS, SHARES, SHARES)
def test_who_is_in_at_a_small_share_is_in_at_a_larger_one(
    rollout: str, unit: int | str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert Assignment(rollout, large).takes(unit) >= Assignment(rollout, small).takes(unit)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
def test_a_share_is_what_it_says(share: float) -> None:
    taken = sum(Assignment("churn/v3/41", share).of(range(20_000)))
    assert abs(taken / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_another_rollout_draws_other_units() -> None:
    one, other = (Assignment(name, 0.5).of(range(2_000)) for name in ("a", "b"))
    assert 0.4 < np.mean(np.array(one) == np.array(other)) < 0.6


def test_the_same_units_are_drawn_in_another_process() -> None:
    code = (
        "from keepfit.rollouts import Assignment\n"
        "print(*[i for i in range(500) if Assignment('churn/v3/41', 0.1).takes(f'u{i}')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(rollouts.__file__).parents[2])},
    )
    here = Assignment("churn/v3/41", 0.1)
    assert told.stdout.split() == [str(i) for i in range(500) if here.takes(f"u{i}")]


# Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "most"), [(1, 2), (2, 12), (10, 120)])
def test_a_challenger_that_fails_often_is_found_soon(every: int, most: int) -> None:
    answers = next(n for n in range(1, 10_000) if Faults(-(-n // every), n).too_many)
    assert answers <= most


def test_a_challenger_whose_faults_are_minded_little_mostly_stays() -> None:
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(500):
        faults = np.cumsum(rng.random(2_000) < 0.01)
        places = np.flatnonzero(np.diff(faults, prepend=0))
        ended += any(Faults(int(faults[i]), int(i) + 1).too_many for i in places)
    # At most one in a thousand: of 500, four have a chance below two in a thousand.
    assert ended <= 3


def test_faults_of_several_workers_add_up() -> None:
    both = Faults(1, 40, "ValueError: no table") + Faults(2, 60)
    assert both == Faults(3, 100, "ValueError: no table")
    assert both.reason == "3 of 100 answers failed: ValueError: no table"


# Harm -------------------------------------------------------------------------------------


def compared(gains: np.ndarray, look: int) -> Comparison:
    """Return rows on which a challenger's accuracy differs from the champion's by so much."""
    labels = np.ones(gains.size, dtype=np.int64)
    challenger = np.where(gains < 0, 0.1, 0.9)
    champion = np.where(gains > 0, 0.1, 0.9)
    return Comparison(
        metric=metrics.get("accuracy", task="binary"),
        labels=labels,
        challenger=challenger,
        champion=champion,
        times=np.arange(gains.size),
        rows=pl.DataFrame(),
        look=look,
    )


def drawn(rng: np.random.Generator, rows: int, gain: float, differ: float = 0.2) -> np.ndarray:
    """Return for each row whether the challenger alone is right (1), or the champion alone (-1)."""
    up, down = (differ + gain) / 2, (differ - gain) / 2
    return rng.choice([1.0, -1.0, 0.0], p=[up, down, 1 - differ], size=rows)


def test_a_challenger_that_is_no_worse_is_seldom_taken_for_one_that_is() -> None:
    rng = np.random.default_rng(1)
    gate = gates.NoWorse(within=0.02)
    wrong = 0
    for _ in range(120):
        gains = drawn(rng, 1_600, -0.02)
        looks = enumerate((200, 400, 800, 1_600), start=1)
        answers = [gates.harm([gate], compared(gains[:n], k)).answer for k, n in looks]
        wrong += Answer.REFUSE in answers
    assert wrong <= 0.05 * 120 + 3 * (0.05 * 0.95 * 120) ** 0.5


def test_a_challenger_that_is_much_worse_is_found_on_few_rows() -> None:
    rng = np.random.default_rng(2)
    found = [
        gates.harm([gates.NoWorse(within=0.02)], compared(drawn(rng, 100, -0.3, 0.4), 1)).answer
        for _ in range(40)
    ]
    assert found.count(Answer.REFUSE) >= 38


def test_scores_that_are_no_numbers_are_harm() -> None:
    comparison = compared(np.zeros(100), 1)
    comparison.challenger[3] = np.nan
    verdict = gates.harm([gates.Fresher()], comparison)
    assert verdict.answer == Answer.REFUSE
    assert verdict.reason == "1 of 100 scores are not finite"
