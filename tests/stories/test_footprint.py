"""Models that become too large, too slow, or at home in one process alone: the champion serves on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.worlds import live, pipeline, play, stream

from keepfit import Challenger, gates, selection, triggers
from keepfit.facts import Answer, Entry, Judged
from keepfit.loop import Loop

ENOUGH = 1_000
"""Rows beyond which a model of these tests goes wrong."""


class Burdened(LogisticRegression):
    """A model that, once it has seen many rows, weighs a megabyte, sleeps, or knows its process."""

    def __init__(self, trouble: str = "", C: float = 1.0) -> None:
        super().__init__(C=C)
        self.trouble = trouble

    def fit(self, rows: Any, labels: Any, sample_weight: Any = None) -> Burdened:
        super().fit(rows, labels, sample_weight)
        many = len(rows) > ENOUGH
        self.ballast_ = os.urandom(10**6 if many and self.trouble == "large" else 1)
        self.pause_ = 0.02 if many and self.trouble == "slow" else 0.0
        self.home_ = os.getpid() if many and self.trouble == "homesick" else None
        self.moody_ = os.getpid() if many and self.trouble == "moody" else None
        return self

    def predict_proba(self, rows: Any) -> np.ndarray:
        time.sleep(self.pause_)
        if self.home_ not in (None, os.getpid()):
            raise RuntimeError("this is not where I was trained")
        found = super().predict_proba(rows)
        return found[:, ::-1] if self.moody_ not in (None, os.getpid()) else found


def told(home: Path, trouble: str, *asked: Any) -> tuple[Loop, list[Entry]]:
    """Return a loop after ten days, whose last version saw too many rows."""
    made = pipeline(
        stream(10, per_day=200),
        home,
        learner=Burdened(trouble),
        features=["x", "y"],
        trigger=triggers.Every("4d"),
        challengers=[Challenger(select=selection.Expanding())],
        gate=list(asked),
        final_fit=None,
    )
    loop = live(made)
    return loop, play(loop, 10)


def judged(entries: list[Entry]) -> list[Judged]:
    return [one.fact for one in entries if isinstance(one.fact, Judged)]


@pytest.mark.parametrize(
    ("trouble", "gate", "reason"),
    [
        ("large", gates.SmallerThan(100_000), "bytes, 100,000 allowed"),
        ("large", gates.SmallerThan(times=3), "times the champion's"),
        ("slow", gates.FasterThan(0.015), "ms for 1 row, 15 ms allowed"),
        ("slow", gates.FasterThan(times=1.5, rows=10), "times the champion's"),
        ("homesick", gates.Loads(), "this is not where I was trained"),
        ("moody", gates.Loads(), "rows otherwise elsewhere"),
    ],
    ids=["large", "larger", "slow", "slower", "homesick", "moody"],
)
def test_a_version_that_is_a_burden_never_serves(
    tmp_path: Path, trouble: str, gate: Any, reason: str
) -> None:
    loop, entries = told(tmp_path, trouble, gate)
    later = [
        one for one in judged(entries) if loop.state.versions[one.version].snapshot.rows > ENOUGH
    ]
    assert later
    for one in later:
        assert one.answer == Answer.REFUSE
        (verdict,) = one.verdicts
        assert verdict.gate == gate.name
        assert reason in verdict.reason
    champion = loop.state.versions[loop.state.champion or ""]
    assert champion.snapshot.rows <= ENOUGH


def test_a_model_without_a_burden_passes_all_of_them(tmp_path: Path) -> None:
    every = (gates.FasterThan(30), gates.SmallerThan(times=3), gates.Loads())
    loop, entries = told(tmp_path, "", *every)
    assert [one.answer for one in judged(entries)] == [Answer.PROMOTE] * len(judged(entries))
    assert loop.state.champion == judged(entries)[-1].version
    figures = [verdict.value for verdict in judged(entries)[-1].verdicts]
    assert figures[0] is not None
    assert figures[1] == pytest.approx(1, abs=0.1)


def test_a_backtest_does_not_time_and_lets_what_is_slow_pass(tmp_path: Path) -> None:
    made = pipeline(
        stream(10, per_day=200),
        tmp_path,
        learner=Burdened("slow"),
        features=["x", "y"],
        trigger=triggers.Every("4d"),
        gate=gates.FasterThan(1e-6),
    )
    policy = made.backtest(compare=False)["churn"]
    assert policy.refused == 0
    assert policy.promoted > 1
