"""The command, verb by verb, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.worlds import stream

FILE = '''"""A pipeline for the tests of the command."""

from pathlib import Path

from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, executors, sources, triggers

churn = Pipeline(
    "churn",
    sources.Parquet(Path(__file__).parent / "rows.parquet", id="id", time="time", label="label"),
    LogisticRegression(),
    metric="roc_auc",
    every="5d",
    trigger=triggers.Every("10d"),
    enough=50,
    executor=executors.Inline(),
)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "churn.py").write_text(FILE)
    stream(40).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def keepfit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keepfit", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def told(folder: Path, *words: str) -> Any:
    """Return the one object that a verb answers with --json."""
    done = keepfit(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pipeline_is_run_asked_and_led_by_hand(folder: Path) -> None:
    assert told(folder, "check", "churn.py")["rows"] == 500
    done = keepfit(folder, "run", "churn.py", "--once", "--json")
    assert done.returncode == 0
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fact["seq"] for fact in facts] == list(range(1, len(facts) + 1))
    first = told(folder, "status")["champion"]
    assert told(folder, "why", first)["version"] == first
    assert told(folder, "diff", "v1", "v2")["differences"]
    trained = told(folder, "train", "churn.py", "--reason", "now")
    assert "Trained" in [fact["kind"] for fact in trained["facts"]]
    promoted = told(folder, "promote", "v1", "--reason", "the old one was better", "--force")
    assert (promoted["champion"], promoted["previous"]) == ("v1", first)
    assert told(folder, "rollback", "--reason", "it was not")["champion"] == first
    assert told(folder, "pause", "--reason", "holiday")["paused"] == "holiday"
    assert told(folder, "resume", "--reason", "over")["paused"] is None
    scored = told(folder, "predict", "churn.py", "rows.parquet", "--to", "out.parquet")
    assert scored["version"] == first
    assert pl.read_parquet(folder / "out.parquet").height == scored["rows"] == 4_000
    log = keepfit(folder, "log", "--kind", "RolledBack")
    assert log.returncode == 0
    assert "it was not" in log.stdout
    assert told(folder, "doctor")["keepfit"]


def test_a_backtest_answers_with_every_policy(folder: Path) -> None:
    found = told(folder, "backtest", "churn.py")
    assert set(found) >= {"pipeline", "metric", "rows", "from", "to", "policies"}
    names = [policy["policy"] for policy in found["policies"]]
    assert names[0] == "churn"
    assert {"never", "always"} < set(names)
    assert any(name.startswith("every ") for name in names)
    for policy in found["policies"]:
        assert set(policy) == {
            "policy", "value", "interval", "trainings", "promoted", "refused", "rolled_back",
            "fit_cpu_seconds", "windows",
        }  # fmt: skip
        assert all(set(window) == {"from", "to", "n", "value"} for window in policy["windows"])


def test_init_writes_a_pipeline_that_a_person_can_go_on_from(tmp_path: Path) -> None:
    assert keepfit(tmp_path, "init", "orders").returncode == 0
    compile((tmp_path / "orders.py").read_text(), "orders.py", "exec")
    again = keepfit(tmp_path, "init", "orders")
    assert again.returncode == 2
    assert "orders.py" in again.stderr


@pytest.mark.parametrize(
    ("words", "status", "heard"),
    [
        (["status"], 2, "hint"),
        (["check", "nowhere.py"], 2, "nowhere.py"),
        (["check", "broken.py"], 2, "broken.py"),
        (["check", "empty.py"], 2, "empty.py"),
        (["check", "churn.py:chrun"], 2, "churn"),
        (["backtset", "churn.py"], 2, "backtset"),
        (["promote", "v99"], 2, "--reason"),
    ],
)
def test_wrong_use_is_said_on_the_side_with_its_status(
    folder: Path, words: list[str], status: int, heard: str
) -> None:
    (folder / "broken.py").write_text("def :\n")
    (folder / "empty.py").write_text("x = 1\n")
    done = keepfit(folder, *words)
    assert done.stdout == ""
    assert heard in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == status
