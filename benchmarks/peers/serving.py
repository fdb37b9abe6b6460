"""Servers beside each other: one model for all, started, put under load, measured and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from peers import Silent, Tool
from peers.keepfit_serving import FILE, PIPELINE

WIDTH = 20
NAMES = [f"x{i:02}" for i in range(WIDTH)]
BODIES = 200
"""Different requests, sent in turn."""

STARTS_WITHIN = 90.0
PINNED = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
"""Whether the server has one core for itself, and the load another."""


@dataclass(frozen=True)
class Wire:
    """How a server is spoken to: where, what a request of some rows says, and which scores it told."""

    path: str
    body: Callable[[Sequence[Sequence[float]]], Any]
    scores: Callable[[Any], Sequence[float]]


@dataclass(frozen=True)
class World:
    """A folder with the model, and rows with what the model says of them."""

    folder: Path
    rows: list[list[float]]
    scores: list[float]

    def bodies(self, wire: Wire, rows: int) -> Path:
        """Return a file of requests with some rows each."""
        path = self.folder / "bodies"
        count = len(self.rows)
        parts = [[self.rows[(i * rows + j) % count] for j in range(rows)] for i in range(BODIES)]
        path.write_bytes(b"\n".join(_encoded(wire.body(part)) for part in parts))
        return path


def made(folder: Path) -> World:
    """Train the model with keepfit, and write down what it says of new rows."""
    from keepfit.cli.finding import load
    from keepfit.learners import loads

    (folder / "rows").mkdir()
    (folder / FILE).write_text(PIPELINE, encoding="utf-8")
    _table(20_000).write_parquet(folder / "rows" / "first.parquet")
    pipeline = load(str(folder / FILE))
    pipeline.run(once=True)
    loop = pipeline.loop()
    model: Any = loads(loop.memory.artifacts.get(loop.refold().version("champion").artifact))
    pipeline.close()
    model.booster.save_model(folder / "model.txt")
    rows = np.random.default_rng(1).normal(size=(2_000, WIDTH)).round(6)
    return World(folder, rows.tolist(), model.booster.predict(rows, num_threads=1).tolist())


def _table(count: int) -> pl.DataFrame:
    values = np.random.default_rng(0).normal(size=(count, WIDTH))
    chance = 1 / (1 + np.exp(-(values[:, 0] + values[:, 1] ** 2 - values[:, 2] * values[:, 3])))
    start = datetime(2024, 1, 1)
    return pl.DataFrame({name: values[:, i] for i, name in enumerate(NAMES)}).with_columns(
        id=pl.int_range(count),
        time=pl.datetime_range(
            start, start + timedelta(minutes=count - 1), "1m", eager=True, time_zone="UTC"
        ),
        label=pl.Series(np.random.default_rng(2).random(count) < chance).cast(pl.Int64),
    )


class Server:
    """A server that runs, with all its processes."""

    def __init__(self, tool: Tool, world: World) -> None:
        self.port = _free()
        self.log = (world.folder / "log").open("w+")
        begun = time.perf_counter()
        self.process = tool.begin(
            str(world.folder), self.port, stdout=self.log, stderr=subprocess.STDOUT
        )
        if PINNED:
            os.sched_setaffinity(self.process.pid, {0})
        self.begun = begun
        self.started = 0.0

    def check(self, wire: Wire, world: World) -> None:
        """Wait until it answers, and hold its answer against the model's."""
        while True:
            try:
                told = self._asked(wire, world.rows[:3])
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                if self.process.poll() is not None or self._late():
                    raise Silent(f"does not start: {self._said() or error}") from None
            time.sleep(0.05)
        self.started = time.perf_counter() - self.begun
        found = list(wire.scores(told))[:3]
        if not np.allclose(found, world.scores[: len(found)], atol=1e-6):
            raise Silent(f"answers {found}, expected {world.scores[:3]}")

    def load(
        self, wire: Wire, world: World, rows: int, connections: int, seconds: float
    ) -> dict[str, Any]:
        """Return what a load saw, with what the server spent on it."""
        bodies = world.bodies(wire, rows)
        script = [sys.executable, str(Path(__file__).with_name("load.py"))]
        words = [str(self.port), str(connections), str(seconds), wire.path, str(bodies)]
        with subprocess.Popen([*script, *words], stdout=subprocess.PIPE, text=True) as load:
            if PINNED:
                os.sched_setaffinity(load.pid, {1})
            # From the middle of it: starts and ends of the load are not the server's.
            time.sleep(min(1.5, seconds / 2) + 0.5)
            before, at = self.cpu(), time.perf_counter()
            time.sleep(seconds * 0.4)
            spent, took = self.cpu() - before, time.perf_counter() - at
            out, _ = load.communicate()
        if load.returncode or not out:
            raise Silent("the load broke")
        seen: dict[str, Any] = json.loads(out)
        if not seen["requests"]:
            raise Silent("no answers")
        if seen["wrong"]:
            raise Silent(f"{seen['wrong']} of {seen['requests']} wrong: {seen['example'][0][:120]}")
        return {**seen, "server": spent / took / seen["rate"], "busy": spent / took}

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the server."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Return the CPU seconds of all its processes so far."""
        times = [one.cpu_times() for one in self.processes()]
        return float(sum(one.user + one.system for one in times))

    def memory(self) -> float:
        """Return the MiB that all its processes hold, with what they share counted once."""
        held = [one.memory_full_info() for one in self.processes()]
        return float(sum(getattr(one, "pss", 0) or one.rss for one in held)) / 2**20

    def end(self) -> None:
        """End it with all its processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = self.processes()
            self.process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(processes, timeout=5)
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self.process.wait(30)
        self.log.close()

    def _asked(self, wire: Wire, rows: list[list[float]]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            kind = {"content-type": "application/json"}
            # One row: not every server is told how several look.
            connection.request("POST", wire.path, _encoded(wire.body(rows[:1])), kind)
            with connection.getresponse() as response:
                content = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {content[:200]!r}")
        return json.loads(content)

    def _late(self) -> bool:
        return time.perf_counter() - self.begun > STARTS_WITHIN

    def _said(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        return (lines or [""])[-1][:160]


@contextlib.contextmanager
def running(tool: Tool, wire: Wire, world: World) -> Iterator[Server]:
    """Start a server, wait until it answers rightly, and end it."""
    server = Server(tool, world)
    try:
        server.check(wire, world)
        yield server
    finally:
        server.end()


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
