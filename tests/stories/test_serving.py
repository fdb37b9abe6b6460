"""Serving for real: processes that are killed, versions that change under load, events that train."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.waits import PATIENCE, until
from tests.worlds import stream

from keepfit.cli.finding import load
from keepfit.facts import Arrived, Decided, Signalled, TrainingStarted
from keepfit.hand import Hand
from keepfit.home import open_memory
from keepfit.journal import ANSWER, Journal, journal_of
from keepfit.pipeline import Pipeline

FILE = Path(__file__).with_name("served_pipeline.py")
ROW = {"x": 0.5, "y": -1.0, "kind": "a"}


class Home:
    """A folder with the pipeline's file, its rows and, after `trained`, a champion.

    The champion is linear, and quick to load; with ``trees`` it is so many of LightGBM.
    """

    def __init__(self, folder: Path, trees: int = 0) -> None:
        self.folder = folder
        self.file = folder / FILE.name
        text = FILE.read_text()
        if trees:
            learner = f"lightgbm.LGBMClassifier(n_estimators={trees}, verbosity=-1)"
            text = text.replace("import numpy", "import lightgbm\nimport numpy")
            text = text.replace("    Linear(),", f"    {learner},")
        self.file.write_text(text)
        (folder / "rows").mkdir()
        stream(20).write_parquet(folder / "rows" / "first.parquet")

    def pipeline(self) -> Pipeline:
        # Each process has its own; here the file is read anew.
        sys.modules.pop(self.file.stem, None)
        return load(str(self.file))

    def trained(self) -> Home:
        made = self.pipeline()
        made.run(once=True)
        made.close()
        return self

    @contextlib.contextmanager
    def running(self, verb: str = "serve", *options: str) -> Iterator[Server]:
        server = Server(self, verb, *options)
        try:
            yield server
        finally:
            server.end()

    def served(self) -> list[str]:
        with contextlib.closing(Journal(journal_of(self.folder / ".keepfit", "churn"))) as journal:
            return [str(one.id) for one in journal.after(0, kinds=(ANSWER,), limit=10**6)]


class Server:
    """``keepfit serve`` or ``keepfit up`` in a process of its own."""

    def __init__(self, home: Home, verb: str, *options: str) -> None:
        command = [sys.executable, "-m", "keepfit", verb, str(home.file), "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, text=True, cwd=home.folder
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.port = int(told["address"].rpartition(":")[2])
        until(lambda: self.health()["ready"])

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        with contextlib.closing(self.connection()) as connection:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers or {})
            with connection.getresponse() as response:
                return json.loads(response.read())

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def health(self) -> Any:
        with contextlib.suppress(OSError, ValueError):
            return self.ask("GET", "/health")
        return {"ready": False}

    def metrics(self) -> str:
        """Return what it tells of itself, all workers together."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", "/metrics")
            return str(connection.getresponse().read().decode())

    def samples(self, name: str) -> list[Sample]:
        """Return the samples of one of its metrics."""
        families = text_string_to_metric_families(self.metrics())
        return next(one.samples for one in families if one.name == name)

    def all_serving(self, workers: int = 2) -> None:
        """Wait until every worker serves: one answers before the other, and who is asked is chance."""
        until(lambda: sum(one.value for one in self.samples("keepfit_serving")) == workers)

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()


BETWEEN = 0.02
"""Seconds from an answer to the next question: clients that never rest leave no core to the rest."""


class Client(threading.Thread):
    """Asks for predictions one after the other, and keeps what it was told."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server, self.stop = server, threading.Event()
        self.told: list[dict[str, Any]] = []
        self.wrong: list[Any] = []

    def run(self) -> None:
        connection = self.server.connection()
        body = json.dumps(ROW)
        while not self.stop.wait(BETWEEN):
            try:
                connection.request("POST", "/predict/churn", body)
                with connection.getresponse() as response:
                    content = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(error)
                break
            if response.status == 200:
                self.told.append(content)
            else:
                self.wrong.append(content)
        connection.close()


def clients(server: Server, count: int) -> list[Client]:
    made = [Client(server) for _ in range(count)]
    for one in made:
        one.start()
    return made


def enough(made: list[Client], told: int) -> None:
    until(lambda: sum(len(one.told) for one in made) >= told)


def processes() -> list[str]:
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def ours(home: Home, line: str) -> bool:
    return "keepfit.server" in line and str(home.file) in line


def workers_of(server: Server) -> list[int]:
    found = [line.split() for line in processes() if "-m keepfit.server " in line]
    return [int(line[0]) for line in found if line[1] == str(server.process.pid)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).trained()


@pytest.mark.story
@pytest.mark.parametrize("workers", [1, 2], ids=["one worker", "two workers"])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_was_answered_is_in_the_lake_once_whenever_the_server_is_killed(
    home: Home, workers: int
) -> None:
    told: set[str] = set()
    for turn in range(2):
        with home.running("serve", "--workers", str(workers)) as server:
            server.all_serving(workers)
            made = clients(server, 4)
            enough(made, 40 * (turn + 1))
            server.end(signal.SIGKILL)
        for one in made:
            one.stop.set()
            one.join(60)
            told |= {answer["id"] for answer in one.told}
    served = home.served()
    assert len(served) == len(set(served))
    assert told <= set(map(str, served)) | set(map(int, served))  # type: ignore[operator]
    pipeline = home.pipeline()
    pipeline.run(once=True)
    lake = pipeline.loop().memory.lake
    landed = pl.concat([lake.batch(one).select("_id") for one in lake.batches()])["_id"]
    pipeline.close()
    assert landed.n_unique() == landed.len() == 2_000 + len(served)
    assert told <= set(landed)


@pytest.mark.story
def test_versions_change_under_load_and_no_request_notices(tmp_path: Path) -> None:
    home = Home(tmp_path, trees=5).trained()
    pipeline = home.pipeline()
    pipeline.train(reason="a second one")
    loop = pipeline.loop()
    versions = [one.name for one in loop.refold().versions.values() if one.artifact][-2:]
    with home.running() as server:
        made = clients(server, 8)
        for turn in range(8):
            champion = loop.refold().champion
            other = next(name for name in versions if name != champion)
            Hand(loop, f"turn {turn}").promote(other, force=True)
            until(lambda other=other: server.health()["serving"] == other)
            enough(made, 50 * (turn + 1))
        for one in made:
            one.stop.set()
            one.join(60)
    model = {
        name: float(loop.scorer.model(loop.state.versions[name]).predict(pl.DataFrame([ROW]))[0])
        for name in versions
    }
    pipeline.close()
    answers = [answer for one in made for answer in one.told]
    assert [one.wrong for one in made] == [[]] * 8
    assert {answer["version"] for answer in answers} == set(versions)
    assert all(answer["probability"] == model[answer["version"]] for answer in answers)


@pytest.mark.story
def test_up_trains_the_first_champion_serves_it_and_heeds_an_event(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.running("up") as server:
        assert server.health()["serving"] == "v1"
        told = server.ask("POST", "/predict/churn", ROW)
        assert told["version"] == "v1"
        assert server.ask("POST", "/labels/churn", {"id": told["id"], "label": 1})["accepted"] == 1
        event = {"specversion": "1.0", "id": "1", "source": "shop", "type": "prices"}
        assert server.ask("POST", "/events", event) == {"accepted": 1, "repeated": 0}
        memory = open_memory(tmp_path / ".keepfit", "churn")
        until(lambda: len(memory.ledger.facts("churn", kind="TrainingStarted")) > 1)
    entries = list(memory.ledger.facts("churn"))
    memory.close()
    heeded = [entry.fact for entry in entries if isinstance(entry.fact, Decided)][-1]
    assert heeded.decision.train
    (said,) = [entry for entry in entries if isinstance(entry.fact, Signalled)]
    started = [entry for entry in entries if isinstance(entry.fact, TrainingStarted)][-1]
    assert said.fact.event == "prices"
    assert started.at > said.at
    rows = [entry.fact.rows for entry in entries if isinstance(entry.fact, Arrived)]
    assert sum(rows) == 2_001


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_server_that_is_killed_as_it_starts_leaves_no_process_behind(home: Home) -> None:
    with home.running("serve", "--workers", "2") as server:
        for worker in workers_of(server):
            os.kill(worker, signal.SIGKILL)
        # They are being started anew, and have not looked who started them yet.
        until(lambda: len(workers_of(server)) == 2)
        server.end(signal.SIGKILL)
    until(lambda: not any(ours(home, line) for line in processes()))


@pytest.mark.story
def test_a_worker_that_dies_is_started_again(home: Home) -> None:
    with home.running("serve", "--workers", "2") as server:
        workers = workers_of(server)
        assert len(workers) == 2
        server.all_serving()
        os.kill(workers[0], signal.SIGKILL)
        time.sleep(0.1)
        made = clients(server, 2)
        enough(made, 20)
        for one in made:
            one.stop.set()
            one.join(60)


def answered(server: Server) -> str:
    """Return the version that answers a row, or else what is said instead."""
    told = server.ask("POST", "/predict/churn", ROW)
    return str(told.get("version", told))


def test_a_worker_that_begins_turns_nobody_away(home: Home) -> None:
    with home.running("serve", "--workers", "2") as server:
        first, second = workers_of(server)
        # Until the model was tried in a process of its own nothing serves at all.
        server.all_serving()
        os.kill(first, signal.SIGKILL)
        told, begun = set[str](), time.monotonic()
        # Each asks by a connection of its own: whichever worker is free takes it.
        while time.monotonic() < begun + 5 or len(workers_of(server)) < 2:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                # Who was with the one that was killed has to ask again.
                told.add(answered(server))
            time.sleep(BETWEEN / 2)
            assert time.monotonic() < begun + PATIENCE
        for _ in range(200):
            told.add(answered(server))
        assert told == {"v1"}
        assert second in workers_of(server)
