"""What README shows runs as it is written, in a folder as it assumes one."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import keepfit
from keepfit import executors
from tests.worlds import stream

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def written(folder: Path, days: int, per_day: int) -> None:
    """Write events: who was seen when, where, and whether they churned."""
    (folder / "events").mkdir()
    names = {"time": "seen_at", "label": "churned", "kind": "country"}
    for part, rows in enumerate(stream(days, per_day).rename(names).iter_slices(900)):
        rows.write_parquet(folder / "events" / f"{part}.parquet")


def ran(block: str, **given: Any) -> dict[str, Any]:
    """Run a block, and return the names it made."""
    exec(compile(block, "README.md", "exec"), given)
    return given


def test_readme_shows_the_smallest_pipeline_one_with_opinions_and_predictions() -> None:
    smallest, opinions, predictions, contract = BLOCKS
    assert ".backtest()" in smallest
    assert "challengers=" in opinions
    assert "keepfit.load(" in predictions
    assert "keepfit.testing" in contract
    assert max(len(block.splitlines()) for block in BLOCKS) <= 20


def test_the_smallest_pipeline_runs_a_backtest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where tests run side by side, the threads of one training wait for those of another.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    written(tmp_path, days=20, per_day=20)
    with contextlib.chdir(tmp_path):
        ran(BLOCKS[0])
    assert (tmp_path / ".keepfit" / "backtest" / "ledger.db").is_file()
    assert not (tmp_path / ".keepfit" / "ledger.db").exists(), "a backtest touches no live run"


def test_the_pipeline_with_opinions_runs_and_its_champion_answers_rows(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    written(tmp_path, days=70, per_day=60)
    with contextlib.chdir(tmp_path):
        churn = ran(BLOCKS[1])["churn"].changed(_executor=executors.Inline())
        played = churn.backtest(compare=False)
        assert played["churn"].trainings >= 2
        assert played["churn"].value > 0.9
        churn.run(once=True)
        churn.close()
        rows = pl.read_parquet("events/0.parquet").drop("churned")
        ran(BLOCKS[2], rows=rows)
        answers = keepfit.load("churn@champion").predict(rows)
    assert answers.height == rows.height
    assert answers.columns == ["prediction", "probability"]


def test_a_part_of_ones_own_is_put_to_its_contract() -> None:
    class Always:
        def decide(self, evidence: Any) -> Any:
            from keepfit.facts import Decision

            return Decision(train=True, trigger="Always()", reason="whatever comes")

    ran(BLOCKS[3], MyTrigger=Always)
    with pytest.raises(AssertionError):
        ran(BLOCKS[3], MyTrigger=object)
