"""Labels of which one class comes early: only rows old enough to be complete teach and judge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from tests.worlds import DAY, START, live

from keepfit import Challenger, Pipeline, executors, gates, maturity, selection, sources, triggers
from keepfit.batch import TIME
from keepfit.facts import Judged, TrainingStarted
from keepfit.ledger import Ledger

DAYS, ROWS = 84, 80
LATE = timedelta(days=14)

SINCE = Challenger(select=selection.SinceLast(), start="champion", update="leaves")
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "no gate": {"gate": [], "challengers": [Challenger()], "trigger": triggers.Every("7d")},
    "since last": {
        "gate": [gates.NoWorse()],
        "challengers": [Challenger(), SINCE],
        "trigger": triggers.Every("7d"),
    },
}


def churn(early: bool, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows, and labels: a yes within days where it is early, a no after two weeks."""
    rng = np.random.default_rng(seed)
    size = DAYS * ROWS
    x = rng.normal(size=(size, 2))
    label = (rng.random(size) < 1 / (1 + np.exp(1.4 - 1.5 * x[:, 0]))).astype(np.int64)
    delay = np.where((label == 1) & early, rng.uniform(0, 10, size), LATE.days)
    day = np.arange(size) / ROWS
    names = [f"r{place}" for place in range(size)]
    at, told = ([START + float(one) * DAY for one in days] for days in (day, day + delay))
    rows = pl.DataFrame({"id": names, "time": at, "a": x[:, 0], "b": x[:, 1]})
    return rows, pl.DataFrame({"id": names, "told": told, "label": label}).sort("told")


def made(home: Path, early: bool, **parts: Any) -> Pipeline:
    rows, labels = churn(early)
    return Pipeline(
        "late",
        sources.Frame(rows, id="id", time="time", label_delay=LATE),
        LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbosity=-1),
        labels=sources.Frame(labels, id="id", time="told", label="label"),
        metric="log_loss",
        every="7d",
        home=home,
        executor=executors.Inline(),
        **parts,
    )


@pytest.mark.parametrize("parts", RECIPES.values(), ids=RECIPES)
def test_early_labels_of_one_class_neither_teach_nor_judge(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    values = []
    for early in (True, False):
        home = tmp_path / str(early)
        pipeline = made(home, early, **parts)
        values.append(pipeline.backtest(compare=False)["late"].value)
        pipeline.close()
        ledger = Ledger(home / "backtest" / "ledger.db")
        found = [(entry.at, entry.fact) for entry in ledger.facts("late")]
        ledger.close()
        begun = [(at, fact) for at, fact in found if isinstance(fact, TrainingStarted)]
        assert len(begun) > 4
        assert all(fact.snapshot.to <= at - LATE for at, fact in begun)
        if parts.get("gate") != []:
            assert any(isinstance(fact, Judged) for _, fact in found)
    # A model of the early labels says yes to most rows: a log loss above 0.8.
    assert values[0] == pytest.approx(values[1], abs=0.02)
    assert values[1] < 0.55


def test_what_is_counted_is_what_is_read_and_a_training_reads_the_same_rows_again(
    tmp_path: Path,
) -> None:
    pipeline = made(tmp_path, early=True, trigger=triggers.Every("7d"), gate=[])
    loop = live(pipeline, START + 42 * DAY)
    for _ in range(6):
        loop.step()
    now = loop.clock.now()
    assert maturity.horizon(loop, now) == now - LATE
    rows = loop.labelled(now)
    assert rows.get_column(TIME).max() <= now - LATE
    assert maturity.count(loop, now, None) == rows.height == 28 * ROWS + 1
    later = START + 20 * DAY
    assert maturity.count(loop, now, later) == loop.labelled(now, after=later).height == 8 * ROWS
    assert maturity.count(loop, now, now - DAY) == 0
    version = loop.state.version("champion")
    read = loop.turns.rows_of(version)
    loop.turns._rows.clear()
    assert loop.turns.rows_of(version).equals(read)
    pipeline.close()


def test_without_a_stated_delay_every_known_label_counts(tmp_path: Path) -> None:
    rows, labels = churn(early=True)
    pipeline = Pipeline(
        "told",
        sources.Frame(rows, id="id", time="time"),
        LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1),
        labels=sources.Frame(labels, id="id", time="told", label="label"),
        every="7d",
        home=tmp_path,
        executor=executors.Inline(),
    )
    loop = live(pipeline, START + 42 * DAY)
    for _ in range(6):
        loop.step()
    now = loop.clock.now()
    assert maturity.horizon(loop, now) == now
    known = labels.filter(pl.col("told") <= now).height
    assert maturity.count(loop, now, None) == loop.labelled(now).height == known
    pipeline.close()
