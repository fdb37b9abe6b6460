"""Under load, again and again: versions change, and processes are killed at random moments.

KEEPFIT_STRESS says how often; `make stress` takes a hundred times of each.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, processes
from tests.worlds import stream

from keepfit.clock import WallClock
from keepfit.hand import Hand

TURNS = int(os.environ.get("KEEPFIT_STRESS", "6"))
MINUTES = 30 if TURNS > 20 else 2
ROWS = [
    {"x": x / 4, "y": y / 2, "kind": kind}
    for x in range(-6, 7)
    for y in range(-4, 5)
    for kind in ("a", "b", None)
]
pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(60 * MINUTES),
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).trained()


def enough(crowd: Crowd, told: int) -> None:
    end = time.monotonic() + 60
    while crowd.told() < told and not crowd.wrong:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_request_fails_and_no_answer_is_of_another_version_while_versions_change(
    home: Home,
) -> None:
    # Other rows make another model: the same one would answer alike, and prove nothing.
    stream(30).tail(1_000).write_parquet(home.folder / "rows" / "second.parquet")
    pipeline = home.pipeline()
    pipeline.run(once=True)
    pipeline.train(reason="a second one")
    loop = pipeline.loop()
    names = [one.name for one in loop.refold().versions.values() if one.artifact][-2:]
    frame = pl.DataFrame(ROWS)
    scores = {
        name: loop.scorer.model(loop.state.versions[name]).predict(frame).tolist() for name in names
    }
    expected = {
        name: {tuple(row.values()): one for row, one in zip(ROWS, found, strict=True)}
        for name, found in scores.items()
    }
    assert scores[names[0]] != scores[names[1]]
    with home.running() as server:
        crowd = Crowd(server.port, 64, ROWS)
        for turn in range(TURNS):
            other = _swapped(loop, names, turn)
            server.until(lambda other=other: server.health()["serving"] == other, seconds=60)
            enough(crowd, len(crowd.answers) + 200)
        crowd.end()
    pipeline.close()
    assert crowd.wrong == []
    assert {told["version"] for _, told in crowd.answers} == set(names)
    for row, told in crowd.answers:
        assert told["probability"] == expected[told["version"]][tuple(row.values())]


def _swapped(loop: Any, names: list[str], turn: int) -> str:
    """Promote the version that does not serve, or take it back again, and return who serves now."""
    state = loop.refold()
    hand = Hand(loop, f"turn {turn}")
    if state.paused is not None:
        hand.resume()
    if turn % 2 and state.previous is not None:
        return hand.rollback()
    (other,) = [name for name in names if name != state.champion]
    hand.promote(other, force=True)
    return other


def _killed(server: Server, draw: random.Random) -> None:
    """Kill the server, the loop beside it, or both at once."""
    who = draw.choice(["server", "loop", "both"])
    if who != "server":
        for line in processes():
            pid, parent, *words = line.split(None, 2)
            if "keepfit.server.looping" in " ".join(words) and int(parent) == server.process.pid:
                os.kill(int(pid), signal.SIGKILL)
    if who == "loop":
        # It is started again, and goes on with what the one before had begun.
        time.sleep(draw.uniform(0.5, 2.5))
    server.end(signal.SIGKILL)


def test_whatever_is_killed_and_when_what_was_told_is_kept_has_landed_once(home: Home) -> None:
    draw = random.Random(7)
    answers: dict[Any, tuple[str, float]] = {}
    labels: dict[Any, int] = {}
    rows: dict[int, int] = {}
    for turn in range(TURNS):
        with home.running("up") as server:
            crowd = Crowd(server.port, 8, ROWS, first=10_000_000 * (turn + 1), labelling=True)
            event = {"specversion": "1.0", "id": str(turn), "source": "shop", "type": "prices"}
            server.ask("POST", "/events", event)
            enough(crowd, 100)
            # From before the training of the event to well within the landing of what came.
            time.sleep(draw.uniform(0.0, 2.5))
            _killed(server, draw)
            crowd.end()
        answers |= {told["id"]: (told["version"], told["probability"]) for _, told in crowd.answers}
        labels |= crowd.labels
        rows |= crowd.rows
    pipeline = home.pipeline()
    pipeline.run(once=True)
    lake = pipeline.loop().memory.lake
    now = WallClock().now()
    landed = pl.concat(
        [lake.scored(number, now) for number in lake.batches()], how="diagonal_relaxed"
    )
    pipeline.close()
    assert landed["_id"].n_unique() == landed.height
    found = {row["_id"]: row for row in landed.iter_rows(named=True)}
    assert {id_: (found[id_]["_version"], found[id_]["_score"]) for id_ in answers} == answers
    assert {id_: found[id_]["_label"] for id_ in labels} == labels
    assert {id_: found[id_]["_label"] for id_ in rows} == rows
    assert min(len(answers), len(labels), len(rows)) > 10 * TURNS
