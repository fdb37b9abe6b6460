"""Where trainings run: in a warm worker process with limits, or in this one."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from keepfit import limits
from keepfit.errors import ConfigError
from keepfit.facts import Cost, Finding
from keepfit.limits import Limit
from keepfit.protocols import Result, Task

if TYPE_CHECKING:
    import polars as pl

STARTING = 300.0
"""Seconds a worker may take to start and to open its task."""

_TICK = 0.1
_TICK_WITH_LIMIT = 0.02
_CHILDREN_EVERY = 0.5
_TAIL = 32_768
_LINES = 25
_SHARED_MEMORY = Path("/dev/shm")


class Inline:
    """Trains in this process: for tests, notebooks and debuggers.

    Nothing is limited, and a training that ends the process ends this one.

    Examples
    --------
    >>> with Inline() as here:
    ...     here
    executors.Inline()
    """

    def __repr__(self) -> str:
        return "executors.Inline()"

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, task: Task) -> Result:
        """Train, and return how it ended; never raises for what the training did."""
        # By name, as the worker's process is: a stage imports no other.
        result: Result = import_module("keepfit.worker").train(task)
        return result

    def close(self) -> None:
        """Let go of what the executor holds: nothing."""


class Local:
    """Trains in a worker process on this machine, which is kept warm for the next training.

    The recipe travels by value, so the worker never runs the user's file; rows travel
    through a memory-mapped file. A training that raises, crashes, hangs, fills the memory
    or yields a model that answers NaN ends as a `Result` with its reason, and the next one
    gets a worker that works. Several threads may ask; they are served one after the other.

    Parameters
    ----------
    seconds
        How long a training may take; ``math.inf`` for no limit. When not given: an hour, or 20
        times what it takes by those before it, whichever is longer; a day where none tells.
        A task's own limit comes first.
    bytes
        How much memory the worker and its children may hold, what they import included;
        ``math.inf`` for no limit. When not given: 90 % of the machine's, or of its container's.
    warm
        Whether the worker is kept for the next training; imports cost it seconds.

    Raises
    ------
    ConfigError
        A limit is not above zero.

    Examples
    --------
    >>> Local(seconds=600, bytes=4_000_000_000)
    executors.Local(seconds=600, bytes=4000000000)
    """

    def __init__(
        self, *, seconds: float | None = None, bytes: float | None = None, warm: bool = True
    ) -> None:
        for name, limit in (("seconds", seconds), ("bytes", bytes)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"expected {name}= above 0, got {limit!r}")
        self.seconds = seconds
        self.bytes = bytes
        self.warm = warm
        self._worker: _Worker | None = None
        self._busy = threading.Lock()

    def __repr__(self) -> str:
        settings = {"seconds": self.seconds, "bytes": self.bytes}
        shown = [f"{name}={value}" for name, value in settings.items() if value is not None]
        shown += [] if self.warm else ["warm=False"]
        return f"executors.Local({', '.join(shown)})"

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "bytes": self.bytes, "warm": self.warm}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Local.__init__(self, **state)

    def warm_up(self, *modules: str) -> None:
        """Start the worker without waiting for it, and have it import modules ahead of time."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._ready().send({"preload": list(modules)})
        finally:
            self._busy.release()

    def run(self, task: Task) -> Result:
        """Train, and return how it ended; never raises for what the training did."""
        with self._busy:
            try:
                result = self._train(task)
            except BaseException:
                # Ctrl-C above all: what was begun is not finished behind the user's back.
                self._stop()
                raise
            if not self.warm:
                self._stop()
            return result

    def close(self) -> None:
        """End the worker."""
        with self._busy:
            self._stop()

    def _ready(self) -> _Worker:
        if self._worker is not None and not self._worker.alive:
            self._stop()
        if self._worker is None:
            self._worker = _Worker()
            weakref.finalize(self, self._worker.stop)
        return self._worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _train(self, task: Task) -> Result:
        worker = self._ready()
        try:
            request = worker.write(task)
        except Exception as error:
            worker.clear()
            return Result(
                cost=Cost(),
                reason="raised",
                message=f"the recipe cannot be sent to the worker: {type(error).__name__}: {error}\n\n"
                "hint: give the learner what it opens (files, connections, locks) as a name, "
                "or train with executors.Inline()",
            )
        seconds = Limit.of(task.seconds, self.seconds) or Limit(limits.seconds(task.expected))
        memory = Limit.of(task.bytes, self.bytes) or Limit(limits.memory())
        result = _Watch(worker, seconds, memory).until_ended(request)
        if worker.alive:
            worker.clear()
        else:
            self._stop()
        return result


class _Worker:
    """The process, its pipes, and the folder in which files are handed over."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keepfit-", dir=_shared_memory()))
        self.answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._elsewhere: Path | None = None
        self._printed = _Printed()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keepfit.worker", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            # Ctrl-C on a terminal goes to a whole session; the worker is told by its parent.
            start_new_session=True,
        )
        for pipe, reader in (
            (self.process.stdout, self._listen),
            (self.process.stderr, self._printed.read),
        ):
            threading.Thread(target=reader, args=(pipe,), daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def _listen(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                if line.startswith(b'{"type":"answer"'):
                    self.answers.put(line)
        self.answers.put(None)

    def send(self, request: dict[str, Any]) -> None:
        """Hand over a request; a worker that has gone is noticed when it does not answer."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def write(self, task: Task) -> dict[str, Any]:
        """Write a task's files, and return the request that names them."""
        from keepfit import pickles

        recipe = (task.learner, task.start, task.update, task.seed)
        request = {"recipe": self._file("recipe", pickles.dumps_once(recipe))}
        if task.previous is not None:
            request["previous"] = self._file("previous", task.previous)
        rows = self._room_for(task.rows) / "rows.arrow"
        task.rows.write_ipc(rows, compression="uncompressed")
        return {**request, "rows": str(rows), "model": str(self.folder / "model")}

    def _file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def _room_for(self, rows: pl.DataFrame) -> Path:
        """Return a folder that rows fit into: shared memory is quicker, and smaller, than a disk."""
        if shutil.disk_usage(self.folder).free > 2 * rows.estimated_size():
            return self.folder
        self._elsewhere = Path(tempfile.mkdtemp(prefix="keepfit-"))
        return self._elsewhere

    def model(self, request: dict[str, Any]) -> bytes:
        """Return the model that a training wrote."""
        return Path(request["model"]).read_bytes()

    def printed(self) -> str:
        """Return the last lines that the training printed."""
        return self._printed.tail()

    def begin(self) -> None:
        """Forget what was printed and said before."""
        self._printed.forget()
        with contextlib.suppress(queue.Empty):
            while True:
                self.answers.get_nowait()

    def held(self) -> tuple[int, float]:
        """Return the bytes that the process holds, and the CPU seconds it has used."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
        return 0, 0.0

    def held_by_children(self) -> int:
        """Return the bytes that the processes hold which the training started."""
        import psutil

        held = 0
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    held += child.memory_info().rss
        return held

    def kept(self) -> int | None:
        """Return the bytes that all of them hold and share with no other, where that is known."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            return limits.kept(one.pid for one in (process, *process.children(recursive=True)))
        return None

    def clear(self) -> None:
        """Remove the files of a task."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)
            self._elsewhere = None

    def kill(self) -> None:
        """End the process and all that it started."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the process and remove its files."""
        if self.alive:
            self.kill()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        for folder in (self.folder, self._elsewhere):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


class _Printed:
    """The end of what a process prints."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._changed = threading.Condition()
        self._over = False

    def read(self, pipe: IO[bytes]) -> None:
        """Read until the process ends, and keep the last lines."""
        with pipe:
            while content := os.read(pipe.fileno(), 65_536):
                with self._changed:
                    self._content += content
                    del self._content[:-_TAIL]
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def forget(self) -> None:
        """Begin anew."""
        with self._changed:
            self._content.clear()

    def tail(self) -> str:
        """Return the last lines, once the process has said that there are no more."""
        mark = b"\x1eend of task\n"
        with self._changed:
            self._changed.wait_for(lambda: self._over or mark in self._content, timeout=1.0)
            text = bytes(self._content).partition(mark)[0].decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-_LINES:])


class _Watch:
    """Waits for a training, and ends it where it breaks a limit."""

    def __init__(self, worker: _Worker, seconds: Limit, memory: Limit) -> None:
        self.worker = worker
        self.seconds = seconds
        self.memory = memory
        self._peak = 0
        self._children = 0
        self._looked_at = 0.0
        self._asked_at = 0.0
        self._begun_at: float | None = None
        self._cpu = self._cpu_before = 0.0

    def until_ended(self, request: dict[str, Any]) -> Result:
        """Hand over a request and return how the training ended."""
        worker = self.worker
        worker.begin()
        self._asked_at = self._looked_at = time.monotonic()
        worker.send(request)
        tick = _TICK_WITH_LIMIT if self.memory.stated and self.memory.most < math.inf else _TICK
        while True:
            try:
                line = worker.answers.get(timeout=tick)
            except queue.Empty:
                broken = self._broken()
                if broken is not None:
                    worker.kill()
                    return self._failed(*broken)
                continue
            if line is None:
                return self._crashed()
            answer = msgspec.json.decode(line)
            if answer["ended"]:
                return self._ended(answer, request)
            self._begun_at = time.monotonic()
            self._cpu = self._cpu_before = worker.held()[1]

    def _ended(self, answer: dict[str, Any], request: dict[str, Any]) -> Result:
        cost = msgspec.convert(answer.get("cost", {}), Cost)
        cost = msgspec.structs.replace(cost, peak_bytes=max(cost.peak_bytes, self._peak))
        if answer.get("reason") is not None:
            return self._failed(answer["reason"], answer.get("message", ""), cost)
        found = msgspec.convert(answer.get("findings", ()), tuple[Finding, ...])
        model, packages = self.worker.model(request), answer["packages"]
        return Result(cost=cost, model=model, packages=packages, findings=found)

    def _broken(self) -> tuple[str, str] | None:
        """Return the limit that the training has broken, as reason and message."""
        now = time.monotonic()
        if now - self._looked_at >= _CHILDREN_EVERY:
            self._looked_at, self._children = now, self.worker.held_by_children()
        own, self._cpu = self.worker.held()
        held = own + self._children
        self._peak = max(self._peak, held)
        most = self.memory.most
        if held > most and not self.memory.stated:
            # Processes that share their rows seem to hold more than the machine has.
            kept = self.worker.kept()
            held = held if kept is None else kept
        if held > most:
            said = f"the training held {_size(held)} and was ended: the limit is {_size(most)}"
            return "out of memory", said + self.memory.told("bytes")
        if self._begun_at is None:
            if now - self._asked_at > STARTING:
                return "timed out", f"the worker did not open its task within {STARTING:g} s"
        elif now - self._begun_at > self.seconds.most:
            said = f"the training took longer than {self.seconds.most:g} s and was ended"
            return "timed out", said + self.seconds.told("seconds")
        return None

    def _crashed(self) -> Result:
        try:
            status = self.worker.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            # It closed the pipe and lives on: nothing can be learnt from it any more.
            self.worker.kill()
            return self._failed("crashed", "the worker closed the pipe that it answers on")
        return self._failed("crashed", f"the worker {_end(status)}")

    def _failed(self, reason: str, message: str, cost: Cost | None = None) -> Result:
        if cost is None:
            since = self._begun_at if self._begun_at is not None else time.monotonic()
            cost = Cost(
                cpu_seconds=max(0.0, self._cpu - self._cpu_before),
                wall_seconds=time.monotonic() - since,
                peak_bytes=self._peak,
            )
        printed = self.worker.printed()
        if printed:
            message = f"{message}\n\nit printed:\n{printed}"
        return Result(cost=cost, reason=reason, message=message)


def _end(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"ended with exit status {status} in the middle of the training"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    text = f"was ended by {name} in the middle of the training"
    if name == "SIGKILL":
        text += "; keepfit did not send it: the system may have run out of memory (`dmesg` says so)"
    return text


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _shared_memory() -> Path | None:
    usable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    return _SHARED_MEMORY if usable else None


def _environment() -> dict[str, str]:
    """Return the worker's environment: it imports from where this process does."""
    return {
        # Threads that wait for each other: spinning long burns cores that others need, and
        # sleeping at once costs more than the wait. A short spin was the least of both.
        "GOMP_SPINCOUNT": "10000",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
