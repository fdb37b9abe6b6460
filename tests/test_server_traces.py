"""What of faults inside the server its log says, and how text from outside is printed there."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightgbm import LGBMClassifier

from keepfit.errors import DiskFull, KeepfitError, SchemaMismatch
from keepfit.journal import Journal
from keepfit.ledger.sqlite import SQLite
from keepfit.server import __main__ as process
from keepfit.server import traces
from keepfit.server.openapi import document
from keepfit.server.replies import refused
from keepfit.server.traces import EVERY, Traces
from tests.served import ROW_, opened


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fails(how: type[Exception], text: str) -> Exception:
    try:
        raise how(text)
    except Exception as error:
        return error


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "keepfit.server"]


@pytest.fixture
def heard(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    logger = logging.getLogger("keepfit.server")
    before, level = list(logger.handlers), logger.level
    process.heard()
    yield
    logger.handlers[:] = before
    logger.setLevel(level)


def test_an_error_of_one_kind_is_written_whole_once_a_minute_and_counted_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    written = Traces(clock)
    for _ in range(5):
        written.write(fails(ValueError, "a table is missing"))
    written.write(fails(KeyError, "x"))
    clock.now = EVERY
    written.write(fails(ValueError, "a table is missing"))
    first, other, again = told(caplog)
    assert first == "a request was not answered: ValueError: a table is missing"
    assert other == "a request was not answered: KeyError: 'x'"
    assert again.endswith("(4 more like it since the last one that was told)")
    assert all(one.exc_info for one in caplog.records)


def test_kinds_of_errors_without_end_take_no_memory_without_end() -> None:
    written = Traces(Clock())
    for number in range(3 * traces.MOST):
        written.write(type(f"E{number}", (Exception,), {})("made up"))
    assert len(written._seen) <= traces.MOST


def test_what_is_the_requests_own_fault_is_no_matter_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert refused(SchemaMismatch("expected a number")).status == 422
    assert not told(caplog)


@pytest.mark.usefixtures("heard")
def test_an_answer_that_names_the_log_is_told_there_with_the_way_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(traces.TRACES, "_seen", {})

    def broken(rows: object) -> object:
        raise OSError("the disk\x1b[2J is away\n  v9 serves")

    for served in opened(tmp_path, LGBMClassifier(n_estimators=3, verbosity=-1)):
        assert served.worker is not None
        serving = served.worker.follower.current
        assert serving is not None
        for name in ("one", "many"):
            monkeypatch.setattr(serving.answerer, name, broken)
        status, said = served.ask("POST", "/predict/churn", ROW_)
        assert (status, said["error"]["hint"]) == (500, "the server's log has the whole way there")
    shown = capsys.readouterr().err
    assert "a request was not answered: OSError: the disk\\x1b[2J is away\\n  v9 serves" in shown
    assert "Traceback (most recent call last)" in shown
    assert "in broken" in shown
    assert "\x1b" not in shown


def test_an_error_of_the_house_that_is_no_status_of_its_own_is_told_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces.TRACES, "_seen", {})
    assert refused(fails(KeepfitError, "the model answers with no number")).status == 500
    assert "the model answers with no number" in told(caplog)[0]


# What a person may mend -------------------------------------------------------------------


def test_a_full_disk_is_no_fault_of_the_request_and_to_be_tried_again() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorname = "SQLITE_FULL"
    told = SQLite(None, durable=True).explain(full, "at ledger.db")
    assert isinstance(told, DiskFull)
    reply = refused(told)
    assert (reply.status, reply.retry_after) == (503, 5)
    assert json.loads(reply.body)["error"]["hint"] == "free some space; nothing was half written"


def test_a_damaged_journal_is_told_from_one_that_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "churn.db"
    path.write_bytes(b"this is no journal" * 500)
    with pytest.raises(KeepfitError, match="cannot open the journal") as caught:
        Journal(path)
    assert (caught.value.hint or "").startswith("it is damaged, or no journal: move it away")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(KeepfitError, match="cannot open the journal") as caught:
        Journal(tmp_path / "folder.db")
    assert (caught.value.hint or "").startswith("this user must be able to write there")


def test_the_document_names_each_form_in_which_events_come() -> None:
    operation = json.loads(document("churn"))["paths"]["/events"]["post"]
    content = operation["requestBody"]["content"]
    assert content["application/cloudevents-batch+json"]["schema"]["type"] == "array"
    assert "anyOf" not in content["application/cloudevents+json"]["schema"]
    assert "anyOf" in content["application/json"]["schema"]
