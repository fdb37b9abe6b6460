"""Rollouts for real: processes under load, in which no request notices what becomes of a version."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.stories.test_serving import BETWEEN, Client, Home, Server, clients, enough
from tests.waits import until
from tests.worlds import stream

from keepfit.facts import Promoted, RolledBack, RolledOut
from keepfit.home import open_memory
from keepfit.rollouts import Assignment

FILE = Path(__file__).with_name("rolled_pipeline.py")
pytestmark = pytest.mark.timeout(300)  # servers start and train while other tests have the cores

EVENT = {"specversion": "1.0", "id": "1", "source": "shop", "type": "prices"}


class Rolling(Home):
    """A home with the pipeline's file and a first champion, and rows for a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE.name
        shutil.copy(FILE, self.file)
        (folder / "rows").mkdir()
        rows = stream(30)
        first = rows.head(2_000)
        first.write_parquet(folder / "rows" / "1.parquet")
        self.trained()
        rows.tail(1_000).write_parquet(folder / "rows" / "2.parquet")

    def facts(self, kind: str) -> list[Any]:
        memory = open_memory(self.folder / ".keepfit", "churn")
        found = [(entry.at, entry.fact) for entry in memory.ledger.facts("churn", kind=kind)]
        memory.close()
        return found

    def begin(self) -> RolledOut:
        """Train a second version by hand, and return its rollout as it stands in its canary."""
        pipeline = self.pipeline()
        pipeline.run(once=True)
        pipeline.train(reason="a second one")
        loop = pipeline.loop()
        while loop.refold().rollout is None or not loop.state.rollout.fact.share:  # type: ignore[union-attr]
            pipeline.step()
            time.sleep(0.05)
        found = loop.state.rollout
        pipeline.close()
        assert found is not None
        return found.fact


class Far(Client):
    """Asks with rows that are far out every second time, and names a customer."""

    def run(self) -> None:
        connection = self.server.connection()
        count = 0
        while not self.stop.wait(BETWEEN):
            count += 1
            id_ = 10_000_000 + 1_000_000 * self.number + count
            row = {"id": id_, "x": 1e6 if count % 2 else 0.5, "y": -1.0}
            connection.request("POST", "/predict/churn", json.dumps(row))
            with connection.getresponse() as response:
                content = json.loads(response.read())
            (self.told if response.status == 200 else self.wrong).append(content)
        connection.close()

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(server)
        self.number = number


def versions(answers: list[dict[str, Any]]) -> set[str]:
    return {answer["version"] for answer in answers}


def asked_until_taken_back(home: Rolling, server: Server) -> list[Far]:
    """Let clients ask until a version was taken back, and none is answered by it any more."""
    made = [Far(server, number) for number in range(6)]
    for one in made:
        one.start()
    until(lambda: home.facts("RolledBack"))
    # Each worker follows the facts by itself, when it gets to run: by then nobody is answered
    # by the version any more. Of 40 answers in a row half would be, were it still drawn for.
    until(lambda: all(versions(one.told[-40:]) == {"v1"} for one in made))
    for one in made:
        one.stop.set()
        one.join(60)
    return made


@pytest.mark.story
@pytest.mark.parametrize("fault", ["raises", "slow", "nan"])
def test_a_bad_canary_is_taken_back_under_load_and_no_request_fails(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPFIT_FAULT", fault)
    monkeypatch.setenv("KEEPFIT_CANARY", "1h")
    home = Rolling(tmp_path)
    rollout = home.begin()
    with home.running("serve", "--workers", "2") as server:
        server.all_serving()
        made = asked_until_taken_back(home, server)
    assert [one.wrong for one in made] == [[]] * 6
    ((_, back),) = home.facts("RolledBack")
    assert isinstance(back, RolledBack)
    assert (back.version, back.to) == ("v2", "v1")
    assert back.by == "keepfit"
    drawn = Assignment(rollout.rollout, rollout.share)
    answers = [answer for one in made for answer in one.told]
    by_it = [answer for answer in answers if answer["version"] == "v2"]
    # Both workers draw the same units, and what failed was answered by the champion.
    assert all(drawn.takes(answer["id"]) for answer in by_it)
    assert all(0 <= answer["probability"] <= 1 for answer in answers)


@pytest.mark.story
def test_a_good_challenger_goes_through_its_stages_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPFIT_CANARY", "15s")
    home = Rolling(tmp_path)
    with home.running("up") as server:
        made = clients(server, 4)
        enough(made, 20)
        assert server.ask("POST", "/events", EVENT)["accepted"] == 1
        until(lambda: server.health()["serving"] == "v2")
        told = sum(len(one.told) for one in made)
        enough(made, told + 50)
        for one in made:
            one.stop.set()
            one.join(60)
    assert [one.wrong for one in made] == [[]] * 4
    stages = [fact for _, fact in home.facts("RolledOut")]
    assert [fact.share for fact in stages] == [0.0, 0.5]
    ((_, first), (at, second)) = home.facts("Promoted")
    assert isinstance(first, Promoted)
    assert second.reason == "after shadow 1 s, canary 50 % 15 s; no gate"
    # The loop notices that a stage is over when it is, not at its next look for rows.
    assert (at - home.facts("RolledOut")[1][0]).total_seconds() < 50
    answers = [answer for one in made for answer in one.told]
    assert {answer["version"] for answer in answers} == {"v1", "v2"}
    drawn = Assignment(stages[0].rollout, 0.5)
    last_by_old = max(i for i, one in enumerate(made[0].told) if one["version"] == "v1")
    early_by_new = [one for one in made[0].told[:last_by_old] if one["version"] == "v2"]
    assert early_by_new
    assert all(drawn.takes(one["id"]) for one in early_by_new)
    assert pl.DataFrame(answers)["id"].n_unique() == len(answers)
