"""Under load, again and again: versions change, and processes are killed at random moments.

KEEPFIT_STRESS says how often; `make stress` takes a hundred times of each, and holds how long
answers take while versions change against how long they take without.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, processes
from tests.waits import until
from tests.worlds import stream

from keepfit.clock import WallClock
from keepfit.server.models import LOADED

TURNS = int(os.environ.get("KEEPFIT_STRESS", "6"))
TIMED = TURNS >= 50
BLOCKS = 10 if TIMED else 3
QUIET = 3.0 if TIMED else 0.1
MINUTES = 30 if TURNS > 20 else 10
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
    until(lambda: crowd.told() >= told or crowd.wrong)


@pytest.fixture
def trees(tmp_path: Path) -> Home:
    """Return a home of trees as many as serve somewhere: small ones load in no time."""
    home = Home(tmp_path)
    home.file.write_text(home.file.read_text().replace("n_estimators=5", "n_estimators=100"))
    return home.trained()


def test_no_request_fails_and_no_answer_is_of_another_version_while_versions_change(
    trees: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _versions(trees, BLOCKS + 1)
    *others, first = expected
    quiet, busy = [], []
    with trees.running() as server, _uncollected():
        crowd = Crowd(server.port, 64, ROWS)
        enough(crowd, 2_000)
        for block in range(BLOCKS):
            # One that was never tried, and more than stay loaded: most are loaded anew.
            known = others[max(0, block - LOADED) : block + 1]
            turns = range(block * TURNS // BLOCKS, (block + 1) * TURNS // BLOCKS)
            quiet.append(_window(lambda: time.sleep(QUIET)))
            busy.append(_window(partial(_swaps, server, crowd, first, known, turns)))
        quiet.append(_window(lambda: time.sleep(QUIET)))
        crowd.end()
    assert crowd.wrong == []
    assert {told["version"] for _, told in crowd.answers} == set(expected)
    for row, told in crowd.answers:
        assert told["probability"] == expected[told["version"]][tuple(row.values())]
    calm, moved = ([crowd.p99(*window) for window in each] for each in (quiet, busy))
    if TIMED:
        with capsys.disabled():
            print(f"\np99 of {len(crowd.answers):,} answers under 64 connections, ms:")
            print("  quiet", _told(calm))
            print("  while versions change", _told(moved))
        assert median(moved) <= 2 * median(calm)


def _versions(home: Home, count: int) -> dict[str, dict[tuple[Any, ...], float]]:
    """Train versions of different rows, and return what each answers: no two answer alike."""
    pipeline = home.pipeline()
    for number in range(1, count):
        newest = stream(20 + 10 * number).tail(1_000)
        newest.write_parquet(home.folder / "rows" / f"{number}.parquet")
        pipeline.run(once=True)
        pipeline.train(reason=f"number {number + 1}")
    loop = pipeline.loop()
    names = [one.name for one in loop.refold().versions.values() if one.artifact]
    frame, keys = pl.DataFrame(ROWS), [tuple(row.values()) for row in ROWS]
    found = {name: loop.scorer.model(loop.state.versions[name]).predict(frame) for name in names}
    pipeline.close()
    assert len({tuple(scores) for scores in found.values()}) == len(names) == count
    return {name: dict(zip(keys, scores.tolist(), strict=True)) for name, scores in found.items()}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector from holding up the crowd, whose answers pile up in this process."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _window(during: Callable[[], None]) -> tuple[float, float]:
    """Return from when until when something was done."""
    since = time.perf_counter()
    during()
    return since, time.perf_counter()


def _told(windows: list[float]) -> str:
    each = " ".join(f"{1e3 * one:.1f}" for one in windows)
    return f"{1e3 * median(windows):.1f}, of windows {each}"


def _swaps(server: Server, crowd: Crowd, first: str, others: list[str], turns: range) -> None:
    """Promote another version and take it back again, in turn, until each serves."""
    for turn in turns:
        reason = {"reason": f"turn {turn}"}
        if turn % 2:
            other = first
            server.ask("POST", "/rollback", reason)
            told = server.ask("POST", "/resume", reason)
        else:
            other = others[turn // 2 % len(others)]
            told = server.ask("POST", "/promote", {**reason, "version": other, "force": True})
        assert told["champion"] == other
        until(lambda other=other: server.health()["serving"] == other)
        enough(crowd, crowd.told() + 200)


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
