"""A person's word over HTTP and by the command: said, kept with who said it, and taken up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keepfit import Ledger, gates
from keepfit.facts import Approved, Declined
from tests.served import Served
from tests.servers import World
from tests.shell import FILE, keepfit
from tests.worlds import stream

ASKING = FILE.replace(
    "gates.NoWorse(within=0.01)", "[gates.NoWorse(within=0.01), gates.Approval()]"
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server of a pipeline whose first version waits for a person."""
    world = World(tmp_path, gate=[gates.Approval(expires="3650d")])
    world.steps()
    assert world.loop.state.champion is None
    made = Served(world)
    yield made
    made.close()


def test_a_version_is_approved_over_http_and_serves_with_the_next_step(served: Served) -> None:
    waits = served.ask("GET", "/status")[1]["approval"]
    assert (waits["version"], waits["said"]) == ("v1", "")
    request = served.world.loop.state.request
    assert request is not None
    since = 'keepfit_approval_asked_timestamp_seconds{pipeline="churn",version="v1"}'
    assert _metrics(served)[since] == request.since.timestamp()
    word = {"version": "v1", "reason": "looks right", "by": "ada"}
    status, stands = served.ask("POST", "/approve", word)
    assert (status, stands["champion"]) == (200, None)
    assert since not in _metrics(served)
    assert served.ask("POST", "/refuse", word)[0] == 400
    loop = served.world.loop
    served.world.steps()
    assert loop.state.champion == "v1"
    facts = [one.fact for one in loop.memory.ledger.facts("churn")]
    assert [fact for fact in facts if isinstance(fact, Approved | Declined)] == [
        Approved(version="v1", reason="looks right", by="ada")
    ]
    assert served.ask("GET", "/status")[1]["approval"] is None


def _metrics(served: Served) -> dict[str, float]:
    """Return what `/metrics` tells, by name and labels."""
    status, text = served.ask("GET", "/metrics")
    assert status == 200
    lines = [one.rsplit(" ", 1) for one in text.decode().splitlines() if one[0] != "#"]
    return {name: float(value) for name, value in lines}


def test_a_word_is_taken_while_the_loop_is_at_work(served: Served) -> None:
    with served.world.loop.holding():
        word = {"version": "challenger", "reason": "not before the audit"}
        assert served.ask("POST", "/refuse", word)[0] == 200
    served.world.steps()
    assert served.world.loop.state.versions["v1"].state == "refused"


@pytest.mark.parametrize("path", ["/approve", "/refuse"])
def test_what_does_not_wait_is_told_so(served: Served, path: str) -> None:
    asked = ({}, {"version": "v1"}, {"reason": "r"}, {"reason": "r", "version": "v99"})
    assert [served.ask("POST", path, one)[0] for one in asked] == [400, 400, 400, 404]
    assert served.ask("GET", path)[0] == 405
    assert served.world.loop.refold().request is not None


def test_the_command_shows_what_waits_and_takes_a_persons_word(tmp_path: Path) -> None:
    (tmp_path / "churn.py").write_text(ASKING)
    (tmp_path / "rows").mkdir()
    stream(40, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    said = keepfit(tmp_path, "run", "churn.py", "--once")
    waits = keepfit(tmp_path, "status", "--json").told["approval"]["version"]
    assert f"? {waits} to approve" in said.err
    assert f"`keepfit approve {waits} --reason …`" in said.err
    assert f"{waits} (Expanding) waits for a person since" in keepfit(tmp_path, "status").out
    said = keepfit(tmp_path, "approve", "challenger", "--reason", "looks right", "--json")
    assert said.told["champion"] is None
    assert f"{waits} approved" in said.err
    again = keepfit(tmp_path, "approve", waits, "--reason", "twice")
    assert (again.status, again.out) == (2, "")
    assert f"{waits} was approved already" in again.err
    assert keepfit(tmp_path, "run", "churn.py", "--once").status == 0
    assert "✓ approved by" in keepfit(tmp_path, "why", waits).out
    with Ledger(tmp_path / ".keepfit" / "ledger.db") as ledger:
        (word,) = [one.fact for one in ledger.facts("churn") if isinstance(one.fact, Approved)]
    assert (word.version, word.reason) == (waits, "looks right")
    assert keepfit(tmp_path, "status", "--json").told["champion"] == waits


def test_a_backtest_says_that_it_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "churn.py").write_text(ASKING)
    (tmp_path / "rows").mkdir()
    stream(40, 50).write_parquet(tmp_path / "rows" / "first.parquet")
    said = keepfit(tmp_path, "backtest", "churn.py", "--alone")
    assert "a backtest asks nobody: what passes the rest is taken as approved" in said.err
    assert "to approve" not in said.err
    assert "taken as approved" in keepfit(tmp_path, "why", "v2").out
