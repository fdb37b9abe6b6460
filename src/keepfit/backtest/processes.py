"""Policies played and models asked in several processes, each with the whole history."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import pickles
from keepfit.backtest.stage import Progress

if TYPE_CHECKING:
    from keepfit.backtest.plan import Plan
    from keepfit.backtest.stage import Tell
    from keepfit.batch import Batch
    from keepfit.pipeline import Pipeline

STARTING = 3.0
"""CPU seconds that a process takes to start and to read what it needs, roughly."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a process needs to take part: the pipeline, the plan, and where things are."""

    pipeline: Pipeline
    plan: Plan
    ledger: str
    artifacts: str
    claims: str
    answers: str


class Ended:
    """Stands for the answer of a process that ended before it gave one."""


ENDED = Ended()


def useful(jobs: int | None, seconds: float, tasks: int) -> int:
    """Return how many processes to use: as many as were asked for, or as pay.

    Parameters
    ----------
    jobs
        What the user asked for; None for a process per CPU where there is enough to do.
    seconds
        How long one task takes, as far as is known.
    tasks
        How many there are.
    """
    if jobs is not None:
        return max(1, min(jobs, tasks))
    most = max(1, min(_cpus(), tasks))
    return most if seconds * tasks * (1 - 1 / most) > STARTING * most else 1


def _cpus() -> int:
    """Return the CPUs that this process may use."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known is not None else os.cpu_count() or 1


class Processes:
    """Processes that play policies and ask models, as this one would.

    Each reads the history from files and opens the same ledger and the same store of models.
    A task whose process ends, by a crash in the user's code for one, is answered `ENDED`, and
    ``problems`` says why as far as it is known.

    Raises
    ------
    Exception
        The pipeline cannot be sent to another process; see `pickles.dumps_once`.
    """

    def __init__(self, jobs: int, setting: Setting, history: Batch) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="keepfit-backtest-")
        self._messages: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._children: list[subprocess.Popen[bytes]] = []
        self._ready: set[int] = set()
        self.problems: list[str] = []
        try:
            write(Path(self._folder.name), setting, history)
            self._children = [_started(self._folder.name) for _ in range(jobs)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, tasks: Sequence[Any], progress: Tell | None = None) -> list[Any]:
        """Return the answer to each task, in their order; an exception of one is raised here."""
        waiting: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        for place, task in enumerate(tasks):
            waiting.put((place, task))
        threads = [
            threading.Thread(target=self._serve, args=(child, waiting), daemon=True)
            for child in self._children
        ]
        for thread in threads:
            thread.start()
        answers: dict[int, Any] = {}
        while len(answers) < len(tasks) and (
            any(thread.is_alive() for thread in threads) or not self._messages.empty()
        ):
            self._take(answers, progress)
        return [answers.get(place, ENDED) for place in range(len(tasks))]

    def _take(self, answers: dict[int, Any], progress: Tell | None) -> None:
        try:
            place, kind, value = self._messages.get(timeout=0.1)
        except queue.Empty:
            return
        if kind == "raised":
            raise value
        if kind == "progress":
            if progress is not None:
                progress(Progress(*value))
            return
        answers[place] = value

    def _serve(
        self, child: subprocess.Popen[bytes], waiting: queue.SimpleQueue[tuple[int, Any]]
    ) -> None:
        """Hand one process task after task, and pass on what it says, until it ends."""
        assert child.stdout is not None
        if child.poll() is not None:
            return
        try:
            if child.pid not in self._ready:
                kind, why = pickle.load(child.stdout)
                if kind != "ready":
                    self.problems.append(str(why))
                    return
                self._ready.add(child.pid)
            while self._handed(child, waiting):
                pass
        # A pipe that was closed meanwhile is a ValueError.
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            self.problems.append("a process ended in the middle of a policy")
            _ended(child)

    def _handed(
        self, child: subprocess.Popen[bytes], waiting: queue.SimpleQueue[tuple[int, Any]]
    ) -> bool:
        """Hand a process the next task and pass on its answer; return whether there was one."""
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            place, task = waiting.get_nowait()
        except queue.Empty:
            return False
        child.stdin.write(pickles.dumps_once(task))
        child.stdin.flush()
        kind = "progress"
        while kind == "progress":
            kind, value = pickle.load(child.stdout)
            self._messages.put((place, kind, value))
        return True

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            _ended(child)
        self._children = []
        self._folder.cleanup()


def write(folder: Path, setting: Setting, history: Batch) -> None:
    """Write what a process reads when it starts."""
    history.rows.write_ipc(folder / "rows.arrow", compression="uncompressed")
    history.labels.write_ipc(folder / "labels.arrow", compression="uncompressed")
    rest = setting, history.cursor, history.watermark
    (folder / "setting").write_bytes(pickles.dumps_once(rest))


def _started(folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "keepfit.backtest.child", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            "GOMP_SPINCOUNT": "10000",  # as the worker has it
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        },
        # Ctrl-C on a terminal goes to a whole session; the processes are ended by this one.
        start_new_session=True,
    )


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    deadline = time.monotonic() + 5.0
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(max(0.1, deadline - time.monotonic()))
