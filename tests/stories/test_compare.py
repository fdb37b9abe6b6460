"""A stream with one change, known in advance: which policy is recommended, and written down."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.shell import keepfit
from tests.worlds import pipeline, stream

from keepfit import Challenger, selection, triggers
from keepfit.backtest import Compared
from keepfit.ledger import Ledger

pytestmark = pytest.mark.story

FILE = '''"""A pipeline that trains far too often."""

from pathlib import Path

from sklearn.linear_model import LogisticRegression

from keepfit import Challenger, Pipeline, executors, selection, sources, triggers

HERE = Path(__file__).parent

churn = Pipeline(
    "churn",
    sources.Parquet(HERE / "rows", id="id", time="time", label="label"),
    LogisticRegression(),
    metric="accuracy",
    every="1d",
    # Somebody was in a hurry.
    trigger=triggers.AfterRows(1),  # with every batch
    challengers=[Challenger(select=selection.Sliding("4d"))],
    gate=[],
    enough=10,
    executor=executors.Inline(),
)
'''


def changed() -> pl.DataFrame:
    """Return forty days on the twentieth of which one of two features changes its meaning."""
    rows = stream(40, 80)
    sign = np.where(np.arange(rows.height) < 20 * 80, 1.0, -1.0)
    noise = 0.3 * np.random.default_rng(1).normal(size=rows.height)
    score = rows["x"].to_numpy() + 0.8 * sign * rows["y"].to_numpy() + noise
    return rows.with_columns(label=pl.Series((score > 0).astype(np.int64)))


def policies(frame: pl.DataFrame, home: Path, **options: Any) -> Compared:
    """Compare policies that know nothing of the change."""
    made = pipeline(
        frame,
        home,
        trigger=triggers.Every("40d"),
        challengers=[Challenger(select=selection.Sliding("4d"))],
        metric="accuracy",
        enough=10,
        gate=[],
    )
    wanted = ["OnDecay", triggers.Every("2d")]
    result = made.backtest(compare=wanted, jobs=1, within=0.03, **options)
    assert isinstance(result, Compared)
    return result


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """The comparison over the whole history."""
    return policies(changed(), tmp_path_factory.mktemp("changed"))


def test_the_trigger_that_sees_the_change_is_recommended(found: Compared) -> None:
    assert found.recommended == "OnDecay()"
    assert found.change == "triggers.OnDecay()"
    values = {one.name: one.policy.value or 0.0 for one in found.standings}
    assert values["OnDecay()"] > values["never"] + 0.1
    decay, always = found.standing("OnDecay()"), found.standing("always")
    assert decay.policy.trainings < always.policy.trainings / 4
    assert always.beside is not None
    assert always.beside.value < 0.05
    told = " ".join(found.because())
    assert "take OnDecay(): triggers.OnDecay()" in told
    assert "churn (yours) was worth less" in told or "churn (yours) is worse" in told


def test_two_trainings_in_hindsight_are_worth_nearly_as_much_as_any(found: Compared) -> None:
    one, two, *_ = found.oracle
    assert two.value > one.value + 0.1
    assert found.oracle[-1].value - two.value < 0.1
    assert found.standing("never").regret == pytest.approx(0.0, abs=1e-12)


def test_the_moments_of_the_policies_are_told_apart(found: Compared) -> None:
    decay, always = (found.standing(name).measures for name in ("OnDecay()", "always"))
    assert decay.lag is not None
    assert decay.lag <= 4
    assert always.lag == 0.0
    assert decay.precision is not None
    assert always.precision is not None
    assert decay.precision > always.precision


def test_no_policy_knows_what_the_oracle_knows(found: Compared, tmp_path: Path) -> None:
    """Without the second half of the history, every policy decided the same in the first."""
    # The plan of the whole history starts on its fifth day; it must be the same here.
    with Ledger(found.ledger / "ledger.db") as ledger:
        whole = {name: list(ledger.facts(name, kind="Decided")) for name in ledger.pipelines()}
    since = next(entry.at for entry in whole["churn"] if entry.fact.decision.train)  # type: ignore[union-attr]
    policies(changed().head(19 * 80), tmp_path, since=since)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        for name, entries in whole.items():
            half = [(e.at, e.fact) for e in ledger.facts(name, kind="Decided")]
            seen = half[: len(half) - 1]
            assert len(seen) > 12
            assert seen == [(e.at, e.fact) for e in entries][: len(seen)]


def test_the_recommendation_is_written_into_the_file_and_only_there(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    changed().write_parquet(tmp_path / "rows" / "first.parquet")
    path = tmp_path / "churn.py"
    path.write_text(FILE)
    os.chmod(path, 0o640)
    words = ("backtest", "churn.py", "--compare", "OnDecay", "--within", "0.03", "--write")
    said = keepfit(tmp_path, *words, "--jobs", "1")
    assert said.status == 0, said.err
    assert path.read_text() == FILE.replace("triggers.AfterRows(1)", "triggers.OnDecay()")
    assert path.stat().st_mode & 0o777 == 0o640
    assert "-    trigger=triggers.AfterRows(1),  # with every batch" in said.err
    assert "+    trigger=triggers.OnDecay(),  # with every batch" in said.err
    assert "take OnDecay()" in said.out
    ast.parse(path.read_text())
    again = keepfit(tmp_path, *words, "--json", "--jobs", "1")
    assert again.told["recommended"]["policy"] == "churn"
    assert "stays as it is" in again.err
    assert "written" not in again.told
    assert keepfit(tmp_path, "status", "--json").told["pipeline"] == "churn"
