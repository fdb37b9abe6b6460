"""How the loop comes through its steps: kept, told, and forgotten once it does again."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from keepfit.cli.words import verb
from keepfit.clock import utc
from keepfit.errors import KeepfitError
from keepfit.ledger import Ledger
from keepfit.ledger.steps import IN_A_ROW, LONGEST, Stepping, Steps, steps_of
from keepfit.registry import State
from keepfit.results import Status
from keepfit.server import looping
from tests.shell import keepfit
from tests.worlds import pipeline, stream

START = utc("2025-03-01")
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(str(tmp_path / ".keepfit" / "ledger.db")) as opened:
        yield opened


def fallen(ledger: Ledger, times: int = IN_A_ROW, server: str = "here") -> Steps:
    for number in range(times):
        one = Stepping(ledger, "churn", server)
        one.begin(START + number * MINUTE)
        one.fall(START + number * MINUTE, OverflowError("too large"))
    return steps_of(ledger, "churn")


def test_what_fails_in_a_row_is_counted_until_a_step_is_done(ledger: Ledger) -> None:
    assert fallen(ledger, IN_A_ROW - 1).stuck is False
    steps = fallen(ledger, 1)
    assert (steps.failed, steps.since, steps.stuck) == (IN_A_ROW, START, True)
    assert steps.error == "OverflowError: too large"
    Stepping(ledger, "churn", "here").come_through(START + MINUTE)
    assert steps_of(ledger, "churn") == Steps(done_at=START + MINUTE, server="here")


def test_a_process_that_ends_without_a_word_failed(ledger: Ledger) -> None:
    Stepping(ledger, "churn", "here").begin(START)
    steps = Stepping(ledger, "churn", "here").begin(START)
    assert (steps.failed, "without a word" in steps.error) == (1, True)


def test_neither_another_server_nor_an_end_that_was_asked_for_is_a_failure(ledger: Ledger) -> None:
    Stepping(ledger, "churn", "here").begin(START)
    assert Stepping(ledger, "churn", "there").begin(START).failed == 0
    one = Stepping(ledger, "churn", "here")
    one.begin(START)
    one.end()
    assert Stepping(ledger, "churn", "here").begin(START).failed == 0


def test_it_rests_longer_before_each_try_up_to_a_minute(ledger: Ledger) -> None:
    rests = [Steps(failed=failed).rest for failed in range(2_000)]
    assert rests[0] == timedelta(0)
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST


def test_a_ledger_that_cannot_be_written_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is no database, and not a short text either" * 40)
    with Ledger(str(tmp_path / "ledger.db")) as broken:
        one = Stepping(broken, "churn", "here")
        one.begin(START)
        assert one.fall(START, ValueError("x")).failed == 1


def test_status_and_doctor_say_that_the_loop_is_stuck(ledger: Ledger, tmp_path: Path) -> None:
    made = pipeline(stream(3), tmp_path / ".keepfit")
    made.run(once=True)
    assert made.status().stuck is None
    fallen(ledger)
    status = made.status()
    assert status.condition == "unhealthy"
    assert "OverflowError: too large" in repr(status)
    assert status.to_dict()["stuck"]["steps"] == IN_A_ROW
    assert keepfit(tmp_path, "status", "--json").told["condition"] == "unhealthy"
    doctor = keepfit(tmp_path, "doctor", "--json")
    assert doctor.status == 1
    assert "OverflowError: too large" in doctor.told["problems"][0]
    made.close()
    made = pipeline(stream(3), tmp_path / ".keepfit")
    made.run(once=True)  # whoever comes through a step ends it
    assert made.status().condition == "healthy"
    made.close()


def test_without_anything_known_nothing_is_said() -> None:
    assert Status.of("churn", State(), None, Steps(failed=IN_A_ROW - 1)).stuck is None


FILE = """
from pathlib import Path
from sklearn.linear_model import LogisticRegression
from keepfit import Pipeline, sources
rows = sources.Parquet(str(Path(__file__).parent / "rows"), id="id", time="time", label="label")
churn = Pipeline("churn", rows, LogisticRegression(), metric="roc_auc", every="1d")
"""


def looped(file: Path, home: Path) -> int:
    """Run the loop beside a server as its process does, and return its exit status."""
    with pytest.raises(typer.Exit) as ended:
        verb(looping.main)(str(file), str(home), "churn", str(os.getppid()))
    return ended.value.exit_code


def test_a_loop_that_fails_is_seen_and_goes_on_when_its_cause_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rests: list[timedelta] = []
    monkeypatch.setattr(looping, "rested", rests.append)
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the file lies is put there
    home, file = tmp_path / ".keepfit", tmp_path / "churn_that_is_looped.py"
    (tmp_path / "rows").mkdir()
    file.write_text("import nothing_of_this_name")
    for _ in range(IN_A_ROW):
        assert looped(file, home) != 0
    assert rests == sorted(rests)
    assert (rests[0].total_seconds(), rests[-1].total_seconds() > 1) == (0, True)
    assert f"{IN_A_ROW} times in a row" in capsys.readouterr().err
    with Ledger(str(home / "ledger.db")) as ledger:
        assert steps_of(ledger, "churn").stuck
        file.write_text(FILE)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(looping.Attentive, "sleep", stop)
        looped(file, home)
        steps = steps_of(ledger, "churn")
    assert (steps.failed, steps.server) == (0, "")
    assert steps.done_at is not None


def test_what_is_no_exception_ends_the_loop_in_words_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        pass

    def panic(*_: object) -> None:
        raise Panic("out of range")

    monkeypatch.setattr(looping, "run", panic)
    with pytest.raises(KeepfitError, match="Panic: out of range"):
        looping.main("churn.py", str(tmp_path), "churn", str(os.getppid()))
    with Ledger(str(tmp_path / "ledger.db")) as ledger:
        assert steps_of(ledger, "churn").error == "Panic: out of range"
