"""What servers go through again and again: versions that change under load, and sudden deaths.

The stories hold what comes of it, and the benchmark of it writes down the figures.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from keepfit.clock import WallClock
from keepfit.server.models import LOADED
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, processes
from tests.waits import until
from tests.worlds import stream

CONNECTIONS = 64
TREES = 100
"""As many as serve somewhere: small ones load in no time."""

ROWS = [
    {"x": x / 4, "y": y / 2, "kind": kind}
    for x in range(-6, 7)
    for y in range(-4, 5)
    for kind in ("a", "b", None)
]


def enough(crowd: Crowd, told: int) -> None:
    """Wait until so many requests were answered, or one has failed."""
    until(lambda: crowd.told() >= told or crowd.wrong)


# Versions that change ---------------------------------------------------------------------


@dataclass(frozen=True)
class Swapped:
    """What many busy connections saw while versions changed.

    ``failed`` holds requests without an answer, ``wrong`` answers that the version they name does
    not give, ``served`` the versions that answered; ``quiet`` and ``busy`` are 99th percentiles in
    seconds, of windows without and with changes.
    """

    swaps: int
    answers: int
    failed: list[Any]
    wrong: list[Any]
    served: set[str]
    versions: set[str]
    quiet: list[float]
    busy: list[float]


def swapped(home: Home, swaps: int, *, blocks: int, quiet: float) -> Swapped:
    """Promote and roll back so often under load, in blocks with quiet seconds between them."""
    expected = _versions(home, blocks + 1)
    *others, first = expected
    calm, moved = [], []
    with home.running() as server, _uncollected():
        crowd = Crowd(server.port, CONNECTIONS, ROWS)
        enough(crowd, 2_000)
        for block in range(blocks):
            # One that was never tried, and more than stay loaded: most are loaded anew.
            known = others[max(0, block - LOADED) : block + 1]
            turns = range(block * swaps // blocks, (block + 1) * swaps // blocks)
            calm.append(_window(lambda: time.sleep(quiet)))
            moved.append(_window(partial(_swaps, server, crowd, first, known, turns)))
        calm.append(_window(lambda: time.sleep(quiet)))
        crowd.end()
    wrong = [
        (row, told)
        for row, told in crowd.answers
        if told["probability"] != expected.get(told["version"], {}).get(tuple(row.values()))
    ]
    return Swapped(
        swaps=swaps,
        answers=len(crowd.answers),
        failed=crowd.wrong,
        wrong=wrong,
        served={told["version"] for _, told in crowd.answers},
        versions=set(expected),
        quiet=[crowd.p99(*window) for window in calm],
        busy=[crowd.p99(*window) for window in moved],
    )


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


# Deaths -----------------------------------------------------------------------------------


@dataclass
class Killed:
    """What was told before servers and loops were killed, and what the lake has of it.

    ``kills`` counts who was killed; ``told`` what was acknowledged of each kind, ``lost`` what of it
    is not in the lake as it was told, and ``doubled`` the rows that are in it more than once.
    """

    kills: Counter[str] = field(default_factory=Counter)
    answers: dict[Any, tuple[str, float]] = field(default_factory=dict)
    labels: dict[Any, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    lost: dict[str, list[Any]] = field(default_factory=dict)
    doubled: int = 0

    @property
    def told(self) -> dict[str, int]:
        """How many predictions, labels and rows were acknowledged."""
        return {
            "predictions": len(self.answers), "labels": len(self.labels), "rows": len(self.rows)
        }  # fmt: skip


def killed(home: Home, times: int, draw: random.Random) -> Killed:
    """Kill server, loop or both at random moments under load, so often, and look into the lake."""
    found = Killed()
    for turn in range(times):
        with home.running("up") as server:
            crowd = Crowd(server.port, 8, ROWS, first=10_000_000 * (turn + 1), labelling=True)
            event = {"specversion": "1.0", "id": str(turn), "source": "shop", "type": "prices"}
            server.ask("POST", "/events", event)
            enough(crowd, 100)
            # From before the training of the event to well within the landing of what came.
            time.sleep(draw.uniform(0.0, 2.5))
            found.kills[_kill(server, draw)] += 1
            crowd.end()
        for _, told in crowd.answers:
            found.answers[told["id"]] = told["version"], told["probability"]
        found.labels |= crowd.labels
        found.rows |= crowd.rows
    _compare(home, found)
    return found


def _kill(server: Server, draw: random.Random) -> str:
    """Kill the server, the loop beside it, or both at once; return who was."""
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
    return who


def _compare(home: Home, found: Killed) -> None:
    """Put what was told beside what has landed."""
    pipeline = home.pipeline()
    # A loop whose server was killed lives a moment longer, and may be in the middle of a step.
    until(lambda: pipeline.run(once=True).held_by is None)
    lake, now = pipeline.loop().memory.lake, WallClock().now()
    scored = [lake.scored(number, now) for number in lake.batches()]
    pipeline.close()
    landed = pl.concat(scored, how="diagonal_relaxed")
    found.doubled = landed.height - landed["_id"].n_unique()
    by_id = {row["_id"]: row for row in landed.iter_rows(named=True)}

    def label(id_: Any) -> Any:
        return by_id.get(id_, {}).get("_label")

    def answer(id_: Any) -> tuple[Any, Any]:
        row = by_id.get(id_, {})
        return row.get("_version"), row.get("_score")

    found.lost = {
        "predictions": [id_ for id_, told in found.answers.items() if answer(id_) != told],
        "labels": [id_ for id_, told in found.labels.items() if label(id_) != told],
        "rows": [id_ for id_, told in found.rows.items() if label(id_) != told],
    }
