"""A training that hangs, in a pipeline that states no limit: it fails, and the loop goes on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from tests.worlds import pipeline, stream

from keepfit import Ledger, executors, limits, triggers
from keepfit.facts import Promoted, Trained, TrainingFailed

pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(os.name != "posix", reason="ends processes by POSIX signals"),
]


class Hangs(LogisticRegression):
    """Hangs in its second training, told by a file: each one may have a new process."""

    def __init__(self, where: str = "") -> None:
        super().__init__()
        self.where = where

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Hangs:
        """Learn, or do nothing for ever."""
        with Path(self.where).open("a") as file:
            file.write("x")
        if Path(self.where).stat().st_size == 2:
            time.sleep(600)
        fitted: Hangs = super().fit(X, y, sample_weight)
        return fitted


def test_a_training_that_hangs_fails_and_the_next_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEAST_SECONDS", 2.0)
    monkeypatch.setattr(limits, "TIMES", 0.0)
    made = pipeline(
        stream(24),
        tmp_path / "home",
        learner=Hangs(str(tmp_path / "fits")),
        trigger=triggers.Every("4d"),
        executor=None,
    )
    assert isinstance(made.executor, executors.Local)
    with contextlib.closing(made):
        made.backtest(compare=False)
        facts = [e.fact for e in Ledger(made.home / "backtest" / "ledger.db").facts("churn")]
    ended = [one for one in facts if isinstance(one, Trained | TrainingFailed)]
    failed = [one for one in ended if isinstance(one, TrainingFailed)]
    assert [one.reason for one in failed] == ["timed out"]
    assert "hint: executors.Local(seconds=…) states another" in failed[0].message
    assert ended.index(failed[0]) == 1
    assert len(ended) >= 4
    assert any(isinstance(one, Promoted) and one.version > failed[0].version for one in facts)
