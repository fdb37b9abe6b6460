"""Trainings that go wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from keepfit.batch import LABEL
from keepfit.protocols import Learner, Task
from keepfit.registry import Version
from keepfit.turn import Turn


def spoil_last_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let last fits learn labels that are shuffled among their rows."""
    honest = Turn.task

    def poisoned(turn: Turn, version: Version, learner: Learner) -> Task:
        task = honest(turn, version, learner)
        if version.final_of is None:
            return task
        labels = pl.col(LABEL).shuffle(seed=1)
        return replace(task, rows=task.rows.with_columns(labels))

    monkeypatch.setattr(Turn, "task", poisoned)
