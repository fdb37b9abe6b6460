"""Alerts: told once, to whom they concern, through a real Apprise to a real receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from keepfit import Ledger, facts
from keepfit.alerts import Settings, Target, Teller, settings_of, tell
from keepfit.alerts.kinds import KINDS, Chronicle, Kind
from keepfit.alerts.teller import MOST
from keepfit.clock import SimulatedClock, utc
from keepfit.errors import ConfigError
from keepfit.facts import Answer, ColumnDrift, Cost, Fact, Judged, Promoted, Verdict
from keepfit.ledger.steps import Stepping
from tests.shell import FILE, keepfit
from tests.worlds import stream

START = utc("2025-03-01")


class Receiver:
    """A web hook: takes what Apprise posts, unless it is told to refuse."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.refuses = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not outer.refuses:
                    outer.got.append(json.loads(body))
                self.send_response(503 if outer.refuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_port}/secret-hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def titles(self) -> list[str]:
        return [one["title"] for one in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(str(tmp_path / "ledger.db")) as opened:
        yield opened


def told(ledger: Ledger, *new: Fact, days: float = 0) -> None:
    ledger.append("churn", new, at=START + timedelta(days=days))


def teller(ledger: Ledger, *targets: Target, **given: Any) -> Teller:
    settings = Settings(targets, **{k: v for k, v in given.items() if k != "label_delay"})
    return Teller(
        ledger,
        "churn",
        settings,
        label_delay=given.get("label_delay"),
        clock=SimulatedClock(START + timedelta(days=10)),
    )


def drifted(*columns: str) -> facts.Drifted:
    return facts.Drifted(
        batch=1,
        detector="univariate",
        columns=tuple(
            ColumnDrift(column=name, method="KS", value=0.4, limit=0.1) for name in columns
        ),
        of=5,
    )


def failed(version: str, reason: str = "raised") -> facts.TrainingFailed:
    return facts.TrainingFailed(version=version, reason=reason, message="boom", cost=Cost())


def refused(version: str) -> Judged:
    verdict = Verdict(gate="NoWorse", answer=Answer.REFUSE, reason="0.1 worse", rows=100)
    return Judged(version=version, answer=Answer.REFUSE, verdicts=(verdict,), champion="v1")


# What is told -----------------------------------------------------------------------------


def test_each_alert_says_what_why_and_where_to_look(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, Promoted(version="v1", reason="the first"), refused("v2"), drifted("age"))
    one.look()
    assert receiver.titles() == ["churn: v1 promoted", "churn: v2 refused", "churn: drift"]
    assert [note["type"] for note in receiver.got] == ["success", "warning", "warning"]
    assert "0.1 worse" in receiver.got[1]["message"]
    assert receiver.got[1]["message"].endswith("keepfit why FILE v2")
    assert "age: KS 0.40 > 0.10" in receiver.got[2]["message"]


def test_a_link_leads_to_the_server(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk"), link="https://models.example.org")
    told(ledger, Promoted(version="v1", reason="the first"))
    one.look()
    assert receiver.got[0]["message"].endswith("https://models.example.org/why/v1")


def test_who_wants_some_kinds_hears_those(ledger: Ledger, receiver: Receiver) -> None:
    other = Receiver()
    one = teller(
        ledger,
        Target(receiver.url, "desk", about=("paused",)),
        Target(other.url, "others", pipelines=("another",)),
    )
    told(ledger, Promoted(version="v1", reason="the first"), facts.Paused(reason="holidays"))
    one.look()
    assert receiver.titles() == ["churn: paused"]
    assert other.got == []
    other.close()


def test_small_updates_are_no_alerts(tmp_path: Path) -> None:
    chronicle = Chronicle("churn")
    quiet = [
        facts.Arrived(batch=1, rows=5, labels=5, cursor="c", digest="d"),
        facts.Scored(batch=1, version="v1", metric="auc", value=0.8, n=5),
    ]
    for seq, fact in enumerate(quiet, 1):
        entry = facts.Entry(pipeline="churn", seq=seq, at=START, fact=fact)
        assert chronicle.hear(entry) is None


def test_a_training_on_decay_is_an_alert(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk"))
    decision = facts.Decision(train=True, trigger="OnDecay()", reason="loss 0.3 above 0.2")
    told(ledger, facts.Decided(batch=1, decision=decision, turn=1))
    other = facts.Decision(train=True, trigger='Every("7d")', reason="a week")
    told(ledger, facts.Decided(batch=2, decision=other, turn=2))
    one.look()
    assert receiver.titles() == ["churn: decay"]


# Once -------------------------------------------------------------------------------------


def test_one_cause_is_told_once_a_day(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, drifted("age"), drifted("age"), drifted("plan"), failed("v2"), failed("v3"))
    one.look()
    assert receiver.titles() == ["churn: drift", "churn: drift", "churn: v2 failed"]
    told(ledger, drifted("age"), days=0.5)
    one.look()
    assert len(receiver.got) == 3
    told(ledger, drifted("age"), days=1.5)
    one.look()
    assert len(receiver.got) == 4


def test_a_restart_neither_repeats_nor_loses(ledger: Ledger, receiver: Receiver) -> None:
    target = Target(receiver.url, "desk")
    told(ledger, Promoted(version="v0", reason="before anybody was told"))
    one = teller(ledger, target)
    told(ledger, Promoted(version="v1", reason="the first"))
    one.look()
    told(ledger, facts.Paused(reason="while nobody looked"))
    again = teller(ledger, target)
    again.look()
    again.look()
    assert receiver.titles() == ["churn: v1 promoted", "churn: paused"]


def test_two_processes_tell_once(ledger: Ledger, receiver: Receiver) -> None:
    target = Target(receiver.url, "desk")
    pair = teller(ledger, target), teller(ledger, target)
    told(ledger, Promoted(version="v1", reason="the first"), drifted("age"))
    threads = [threading.Thread(target=one.look) for one in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in pair:
        one.look()
    assert receiver.titles() == ["churn: v1 promoted", "churn: drift"]


def test_a_target_that_is_away_hears_later_and_holds_up_nobody(
    ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.alerts.teller.PATIENCE", (0.0, 0.0))
    away = Receiver()
    away.refuses = True
    one = teller(ledger, Target(receiver.url, "desk"), Target(away.url, "away"))
    told(ledger, Promoted(version="v1", reason="the first"))
    one.look()
    told(ledger, facts.Paused(reason="holidays"))
    one.look()
    assert receiver.titles() == ["churn: v1 promoted", "churn: paused"]
    assert away.got == []
    away.refuses = False
    one.look()
    one.look()
    assert away.titles() == receiver.titles()
    away.close()


def test_what_one_target_was_told_does_not_hang_on_another(
    ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.alerts.teller.PATIENCE", (0.0, 0.0))
    away = Receiver()
    away.refuses = True
    targets = Target(receiver.url, "desk"), Target(away.url, "away")
    one = teller(ledger, *targets)
    told(ledger, drifted("age"))
    one.look()
    told(ledger, drifted("age"), days=0.5)
    teller(ledger, *targets).look()
    assert receiver.titles() == ["churn: drift"]
    told(ledger, drifted("age"), days=3)
    one.look()
    assert receiver.titles() == ["churn: drift", "churn: drift"]
    away.refuses = False
    one.look()
    assert away.titles() == receiver.titles()
    away.close()


def test_what_waits_for_a_target_is_bounded(
    ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.alerts.teller.PATIENCE", (0.0, 0.0))
    receiver.refuses = True
    one = teller(ledger, Target(receiver.url, "desk"))
    for place in range(MOST + 7):
        told(ledger, drifted(f"column{place}"))
    one.look()
    receiver.refuses = False
    one.look()
    assert len(receiver.got) == MOST
    assert "7 earlier alerts are left out" in receiver.got[0]["message"]


# Stale labels -----------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "expected"), [(1, ["churn: stale labels"]), (8, [])])
def test_labels_that_do_not_come_are_told_once(
    ledger: Ledger, receiver: Receiver, delay: int, expected: list[str]
) -> None:
    arrived = facts.Arrived(
        batch=1,
        rows=40,
        labels=0,
        cursor="c",
        digest="d",
        from_=START,
        to=START + timedelta(days=1),
    )
    told(ledger, Promoted(version="v1", reason="the first"), arrived)
    one = teller(ledger, Target(receiver.url, "desk"), label_delay=timedelta(days=delay))
    one.look()
    one.look()
    assert receiver.titles() == expected
    teller(ledger, Target(receiver.url, "desk"), label_delay=timedelta(days=delay)).look()
    assert receiver.titles() == expected


def test_who_hears_nothing_of_stale_labels_costs_nothing(
    ledger: Ledger, receiver: Receiver
) -> None:
    arrived = facts.Arrived(
        batch=1, rows=40, labels=0, cursor="c", digest="d", from_=START, to=START
    )
    told(ledger, Promoted(version="v1", reason="the first"), arrived)
    one = teller(ledger, Target(receiver.url, "desk", about=("failed",)))
    with ledger.lease("churn alerts"):
        one.look()
    assert not one.waiting
    assert receiver.got == []


# A loop that is stuck ---------------------------------------------------------------------


def fails(ledger: Ledger, times: int, error: Exception) -> None:
    steps = Stepping(ledger, "churn", "here")
    for _ in range(times):
        steps.fall(START, error)


def test_a_loop_that_is_stuck_is_told_once_for_each_cause_until_it_is_not(
    ledger: Ledger, receiver: Receiver
) -> None:
    target = Target(receiver.url, "desk", about=("failed",))
    fails(ledger, 2, OverflowError("too large"))
    teller(ledger, target).look()
    assert receiver.got == []
    fails(ledger, 1, OverflowError("too large"))
    for _ in range(3):  # each try is a process of its own
        teller(ledger, target).look()
    assert receiver.titles() == ["churn: the loop is stuck"]
    assert receiver.got[0]["type"] == "failure"
    assert "3 times in a row: OverflowError: too large" in receiver.got[0]["message"]
    fails(ledger, 1, RecursionError("too deep"))
    teller(ledger, target).look()
    assert len(receiver.got) == 2
    Stepping(ledger, "churn", "here").come_through(START)
    one = teller(ledger, target)
    one.look()
    one.look()
    assert len(receiver.got) == 2
    fails(ledger, 3, OverflowError("too large"))
    teller(ledger, target).look()
    assert len(receiver.got) == 3


def test_a_loop_that_is_stuck_over_its_file_is_told_too(tmp_path: Path, receiver: Receiver) -> None:
    home = tmp_path / ".keepfit"
    (tmp_path / "keepfit.toml").write_text(
        f'[[alerts.to]]\nurl = "{receiver.url}"\nname = "desk"\n'
    )
    with Ledger(str(home / "ledger.db")) as opened:
        fails(opened, 3, ConfigError("churn.py cannot be read"))
    tell(home, "churn")
    tell(home, "churn")
    assert receiver.titles() == ["churn: the loop is stuck"]


# What outsiders say -----------------------------------------------------------------------


def test_an_event_from_outside_is_never_told_as_keepfits_own(
    ledger: Ledger, receiver: Receiver
) -> None:
    data = {"version": "v3", "reason": "URGENT", "source": "s", "id": "1", "journal": "1f 7"}
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, facts.Signalled(event="not served", data=data))
    one.look()
    assert receiver.got == []
    told(
        ledger, facts.Signalled(event="not served", data={"version": "v3", "reason": "it crashed"})
    )
    one.look()
    assert len(receiver.got) == 1


def test_control_characters_do_not_come_through(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, facts.Paused(reason="all is well\x1b[2J\u202e"))
    one.look()
    assert "all is well\\x1b[2J\\u202e" in receiver.got[0]["message"]


# Waiting for approval ---------------------------------------------------------------------


def asks(version: str, replaces: str | None = None, *, day: float = 10) -> facts.ApprovalAsked:
    return facts.ApprovalAsked(
        version=version,
        reason="+0.01 better",
        until=START + timedelta(days=day + 5),
        remind=timedelta(days=2),
        replaces=replaces,
    )


def at(one: Teller, days: float) -> None:
    """Look at a moment."""
    one._clock = SimulatedClock(START + timedelta(days=days))
    one.look()


def test_people_are_told_what_to_type_and_told_again(ledger: Ledger, receiver: Receiver) -> None:
    one = teller(ledger, Target(receiver.url, "desk", about=("waiting for approval",)))
    told(ledger, asks("v2"), days=10)
    for days in (10, 10.5, 11.9, 12, 13, 14.5, 14.9):
        at(one, days)
    assert receiver.titles() == ["churn: v2 waiting for approval"] * 3
    message = receiver.got[0]["message"]
    assert "waits since 2025-03-11 00:00 until 2025-03-16 00:00" in message
    assert "`keepfit approve v2 --reason …`" in message
    assert "+0.01 better" in message
    assert message.endswith("keepfit why FILE v2")
    at(one, 15)
    at(one, 20)
    assert len(receiver.got) == 3, "its time is over"


def test_a_restart_does_not_remind_before_its_time(ledger: Ledger, receiver: Receiver) -> None:
    target = Target(receiver.url, "desk")
    at(teller(ledger, target), 9)
    told(ledger, asks("v2"), days=10)
    for days in (10, 11, 11.5, 12.5):
        at(teller(ledger, target), days)
    assert len(receiver.got) == 2


def test_versions_that_take_each_others_place_are_told_in_their_time(
    ledger: Ledger, receiver: Receiver
) -> None:
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, asks("v2"), days=10)
    at(one, 10)
    for place, days in enumerate((10.5, 11, 11.5), 3):
        told(ledger, asks(f"v{place}", f"v{place - 1}"), days=days)
        at(one, days)
    assert receiver.titles() == ["churn: v2 waiting for approval"]
    at(one, 12)
    assert receiver.titles()[1:] == ["churn: v5 waiting for approval"]
    assert "instead of v4" in receiver.got[1]["message"]


@pytest.mark.parametrize(
    "over",
    [
        facts.Approved(version="v2", reason="r", by="ada"),
        facts.Declined(version="v2", reason="r", by="ada"),
        refused("v2"),
        Promoted(version="v7", reason="by hand", by="ada"),
        facts.RolledBack(version="v1", to="v0", reason="worse"),
    ],
    ids=lambda fact: fact.kind,
)
def test_nobody_is_reminded_of_what_is_decided_and_the_next_is_told_at_once(
    ledger: Ledger, receiver: Receiver, over: Fact
) -> None:
    one = teller(ledger, Target(receiver.url, "desk", about=("waiting for approval",)))
    told(ledger, asks("v2"), days=10)
    at(one, 10)
    told(ledger, over, days=10.2)
    for days in (10.2, 13):
        at(one, days)
    assert receiver.titles() == ["churn: v2 waiting for approval"]
    told(ledger, asks("v3", day=13), days=13.1)
    at(one, 13.1)
    assert receiver.titles()[1:] == ["churn: v3 waiting for approval"]


@pytest.mark.parametrize(
    "beside", [refused("v3"), facts.RolledBack(version="v3", to="v1", reason="r", share=0.1)]
)
def test_what_happens_beside_it_ends_no_wait(
    ledger: Ledger, receiver: Receiver, beside: Fact
) -> None:
    one = teller(ledger, Target(receiver.url, "desk", about=("waiting for approval",)))
    told(ledger, asks("v2"), beside, days=10)
    at(one, 10)
    assert len(receiver.got) == 1


def test_a_wait_that_a_target_missed_is_told_as_it_is_now(
    ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepfit.alerts.teller.PATIENCE", (0.0, 0.0))
    receiver.refuses = True
    one = teller(ledger, Target(receiver.url, "desk"))
    told(ledger, asks("v2"), days=10)
    at(one, 10)
    told(ledger, asks("v3", "v2"), days=10.5)
    at(one, 10.5)
    receiver.refuses = False
    at(one, 10.6)
    assert receiver.titles() == ["churn: v3 waiting for approval"]


# Settings ---------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    (folder / "keepfit.toml").write_text(text, encoding="utf-8")
    return folder / ".keepfit"


def test_addresses_come_from_the_environment_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = written(tmp_path, '[alerts]\nto = [{ url = "slack://${TOKEN}", about = ["failed"] }]')
    with pytest.raises(ConfigError, match="environment variable TOKEN"):
        settings_of(home)
    monkeypatch.setenv("TOKEN", "very/secret/token")
    settings = settings_of(home)
    assert settings.targets[0].url == "slack://very/secret/token"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[alerts]\nto = 3", "list of tables"),
        ("[alerts]\ntoo = []", "the nearest is 'to'"),
        ('[alerts]\nto = [{ name = "x" }]', "with a url"),
        ('[alerts]\nto = [{ url = "json://h", about = ["promotion"] }]', "promoted"),
        ('[alerts]\nto = [{ url = "json://h", about = "failed" }]', "list of texts"),
        ('[alerts]\nagain = "0d"', "above zero"),
        ("[alerts]\nagain = 3", "expected text"),
        ("[alerts", "expected TOML"),
    ],
)
def test_settings_that_are_wrong_say_what(tmp_path: Path, text: str, match: str) -> None:
    home = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        settings_of(home)
    assert match in f"{raised.value.message} {raised.value.hint}"


def test_an_address_of_no_kind_is_refused_without_showing_it(ledger: Ledger) -> None:
    with pytest.raises(ConfigError) as raised:
        teller(ledger, Target("nonsense-secret", "desk"))
    assert "nonsense" not in str(raised.value)


def test_without_settings_nobody_is_told(tmp_path: Path) -> None:
    assert settings_of(tmp_path / ".keepfit") == Settings()
    assert set(KINDS) == {kind.value for kind in Kind}


# The command ------------------------------------------------------------------------------


def test_a_run_tells_before_it_ends_and_the_command_tries_who_is_reached(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "churn.py").write_text(FILE)
    stream(40, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    monkeypatch.setenv("HOOK", receiver.url)
    written(tmp_path, '[alerts]\nto = [{ url = "${HOOK}", name = "desk" }]')
    said = keepfit(tmp_path, "alerts", "churn.py", "--test", "--json")
    assert said.status == 0
    assert said.told["targets"][0]["reached"] is True
    assert receiver.titles() == ["churn: a test"]
    assert keepfit(tmp_path, "run", "churn.py", "--once").status == 0
    assert "churn: v1 promoted" in receiver.titles()
    before = len(receiver.got)
    assert keepfit(tmp_path, "run", "churn.py", "--once").status == 0
    assert len(receiver.got) == before
    receiver.refuses = True
    said = keepfit(tmp_path, "alerts", "churn.py", "--test")
    assert said.status == 1
    assert "NOT reached" in said.err
    assert "secret-hook" not in said.err + said.out


def test_without_targets_the_command_says_how_to_name_some(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "churn.py").write_text(FILE)
    stream(5, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    said = keepfit(tmp_path, "alerts", "churn.py")
    assert said.status == 0
    assert "nobody is told" in said.err
