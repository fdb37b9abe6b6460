"""The process in which learners train: ``python -m keepfit.worker``, started by an executor.

Tasks come as lines of JSON on standard input and answers go out on what was standard output;
rows, recipes and models travel as files beside them. All that is printed, by the user's code
or by a library, goes to standard error, so that it cannot come between. The process ends when
its standard input does, and so never outlives the one that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import platform
import queue
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import polars as pl
import psutil

from keepfit import learners, pickles
from keepfit.batch import infinite, spread
from keepfit.errors import KeepfitError
from keepfit.facts import Cost, Finding, Outcome
from keepfit.learners.models import FittedModel
from keepfit.learners.used import used
from keepfit.protocols import Model, Result, Task

SAMPLE = 1_000
"""Training rows that a new model must answer with finite scores."""

ODD = 0.01
"""The share of training rows that may be left out at most, because infinite values are in them."""

WORDS = 200
"""Letters that are kept of why a learner fails on them."""

MARK = b"\x1eend of task\n"
"""What the worker writes to standard error after each task."""

_looked_for: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The packages of learners, as long as these are at hand."""

_FRAMES = 3
_PUBLISHED = {"sklearn": "scikit-learn"}


class Request(msgspec.Struct, omit_defaults=True):
    """What an executor asks for: modules to import ahead of time, or a training."""

    preload: list[str] = []
    recipe: str = ""
    rows: str = ""
    previous: str = ""
    model: str = ""


class Answer(msgspec.Struct, omit_defaults=True, tag="answer"):
    """What the worker says of a training: that it has begun, or how it ended."""

    ended: bool
    reason: str | None = None
    message: str = ""
    cost: Cost = Cost()
    packages: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()


# Training ---------------------------------------------------------------------------------


def train(task: Task) -> Result:
    """Train in this process, and return how it ended; only an interrupt is raised.

    Where a learner fails on rows of which at most a hundredth hold infinite values, it is given the
    others, and a finding says so. Nothing is kept from one that takes them.
    """
    meter = _Meter()
    try:
        content, findings = _taught(task, meter)
    except KeyboardInterrupt:
        raise
    except _NotFinite as fault:
        return Result(cost=meter.cost, reason="not finite", message=str(fault))
    except BaseException as error:
        return Result(cost=meter.cost, reason=_reason(error), message=_message(error))
    packages = _packages(task.learner)
    return Result(cost=meter.cost, model=content, packages=packages, findings=findings)


class _NotFinite(Exception):
    """A model was learnt that does not answer its own rows with numbers."""


def _taught(task: Task, meter: _Meter) -> tuple[bytes, tuple[Finding, ...]]:
    """Return a model as bytes, and what is to be told of rows that it was not given."""
    try:
        return _fitted(task, task.rows, meter), ()
    except Exception as error:
        odd = infinite(task.rows)
        if not 0 < odd.sum() <= ODD * task.rows.height:
            raise
        try:
            content = _fitted(task, task.rows.filter(~odd), meter)
        except Exception:
            # What is wrong with all rows is not told by what is wrong with some.
            raise error from None
        return content, (_left_out(task.rows, odd, error),)


def _fitted(task: Task, rows: pl.DataFrame, meter: _Meter) -> bytes:
    """Return a model of rows as bytes; what it takes adds up in the meter."""
    with _seeded(task.seed):
        # A map of scores is not gone on from: the model inside is.
        given = task.previous
        previous = None if given is None else learners.bare(learners.loads(given))
        meter.start()
        try:
            model = task.learner.fit(
                rows, start=task.start, update=task.update, previous=previous, seed=task.seed
            )
        finally:
            meter.stop()
        content = model.dumps()
        fault = _not_finite(model, rows)
    if fault is not None:
        raise _NotFinite(fault)
    return content


def _left_out(rows: pl.DataFrame, odd: pl.Series, error: Exception) -> Finding:
    """Return what is told of rows that a learner fails on and was not given."""
    count, held = int(odd.sum()), rows.filter(odd)
    columns = [one.name for one in held if one.dtype.is_float() and one.is_infinite().any()]
    shown = [f"`{name}`" for name in columns[:4]]
    more = [f"{len(columns) - 4} more"] if len(columns) > 4 else []
    why = f"{type(error).__name__}: {error}".partition("\n")[0][:WORDS]
    return Finding(
        check="training",
        outcome=Outcome.WARN,
        message=f"{count:,} of {rows.height:,} training rows hold infinite values in "
        f"{', '.join([*shown, *more])} and were left out",
        column=columns[0] if len(columns) == 1 else None,
        value=count,
        limit=ODD,
        hint=f"with them it fails: {why}; let a first step of the model replace them, or a check "
        "set such batches apart: checks.Nulls(at_most=0)",
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what code without a seed of its own draws from, and leave it as it was."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _not_finite(model: Model, rows: pl.DataFrame) -> str | None:
    if isinstance(model, FittedModel) and model.finite:
        return None  # known without asking it
    sample = rows[spread(rows.height, SAMPLE)] if rows.height > SAMPLE else rows
    scores = np.asarray(model.predict(sample))
    bad = ~np.isfinite(scores.reshape(sample.height, -1)).all(axis=1)
    if not bad.any():
        return None
    return (
        f"the model answers {int(bad.sum()):,} of {sample.height:,} training rows "
        f"with a score that is not finite, the first of them row {int(bad.argmax()):,} of the sample"
    )


def _reason(error: BaseException) -> str:
    short = isinstance(error, MemoryError) or "bad_alloc" in str(error)
    return "out of memory" if short else "raised"


def _message(error: BaseException) -> str:
    """Return what was raised, and where in the user's code."""
    said = str(error)
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if pickles.is_users_file(frame.filename)]
    if not users and isinstance(error, KeepfitError):
        return text
    # Python's own form underlines the code, which is lost where lines are wrapped.
    shown = [
        f'  File "{one.filename}", line {one.lineno}, in {one.name}\n    {one.line}'
        for one in (users or frames)[-_FRAMES:]
    ]
    return "\n".join([f"{text}\n", *shown]) if shown else text


def _packages(learner: Any) -> dict[str, str]:
    """Return the versions of what a training rests on."""
    names = {"keepfit", "numpy", "polars", *getattr(learner, "packages", ())}
    names |= _used(learner)
    if "sklearn" in names:
        names.add("scipy")  # which it solves with
    versions = {
        _PUBLISHED.get(name, name): _version(name) for name in names - sys.stdlib_module_names
    }
    found = {name: version for name, version in versions.items() if version is not None}
    return dict(sorted({**found, "python": platform.python_version()}.items()))


def _used(learner: Any) -> set[str]:
    """Return the packages that a learner is made with, which are looked for once."""
    with contextlib.suppress(KeyError, TypeError):  # one that cannot be a key
        return _looked_for[learner]
    found = used((learner, *getattr(learner, "__dict__", {}).values()))
    with contextlib.suppress(TypeError):
        _looked_for[learner] = found
    return found


def _version(name: str) -> str | None:
    """Return the version of what is imported under a name; None for what states none."""
    stated = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(stated, str):
        return str(stated)  # torch's is a kind of text
    try:
        return metadata.version(_PUBLISHED.get(name, name))
    except metadata.PackageNotFoundError:
        return None


@dataclass
class _Meter:
    """CPU seconds of this process and its children, wall seconds, and the peak of memory."""

    cost: Cost = Cost()
    _cpu: float = 0.0
    _wall: float = 0.0

    def start(self) -> None:
        """Begin to measure, or to add to what was measured."""
        self._before = self.cost
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:
            # Linux forgets the highest resident size when told so.
            file.write(b"5")
        self._children = _children()
        self._wall = time.perf_counter()
        self._cpu = _cpu()

    def stop(self) -> Cost:
        """Return what it took since the start."""
        cpu = _cpu() - self._cpu
        wall = time.perf_counter() - self._wall
        living = _children()
        cpu += sum(seconds - self._children.get(pid, 0.0) for pid, seconds in living.items())
        before = self._before
        self.cost = Cost(
            cpu_seconds=round(before.cpu_seconds + cpu, 6),
            wall_seconds=round(before.wall_seconds + wall, 6),
            peak_bytes=max(before.peak_bytes, _peak()),
        )
        return self.cost


def _cpu() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _children() -> dict[int, float]:
    """Return the CPU seconds of children that live; those that ended count with this process."""
    found: dict[int, float] = {}
    if _alone():
        return found
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            found[child.pid] = times.user + times.system
    return found


def _alone() -> bool:
    """Return whether this process surely has no children: the system says so at once."""
    try:
        # Looks at a child that has ended, if any, and leaves it to who waits for it.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    except (AttributeError, OSError):  # a system without it
        return False
    return False


def _peak() -> int:
    try:
        # Bytes, because each training asks: text and its lines take several times as long.
        with open("/proc/self/status", "rb", buffering=0) as file:
            status = file.read()
        return int(status.partition(b"VmHWM:")[2].split(maxsplit=1)[0]) * 1024
    except (OSError, IndexError):
        return int(psutil.Process().memory_info().rss)


# The process ------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until standard input ends."""
    faulthandler.enable(all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = sys.argv[1]
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox, folder), daemon=True).start()
    threading.Thread(target=_watch, args=(os.getppid(), folder), daemon=True).start()
    while True:
        request = msgspec.json.decode(inbox.get(), type=Request)
        if request.preload:
            _preload(request.preload)
        if request.recipe:
            _answer(request, answers)


def _listen(requests: Any, inbox: queue.SimpleQueue[bytes], folder: str) -> None:
    for line in requests:
        inbox.put(line)
    _leave(folder)


def _watch(parent: int, folder: str) -> None:
    """Leave when the parent has gone, even if a process that it forked holds the pipe open."""
    never = threading.Event()
    while os.name == "posix":
        never.wait(1.0)
        if os.getppid() != parent:
            _leave(folder)


def _leave(folder: str) -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _preload(modules: list[str]) -> None:
    for name in modules:
        with contextlib.suppress(Exception):
            import_module(name)


def _answer(request: Request, answers: Any) -> None:
    """Do one training: read its files, train, write the model, say how it ended."""

    def say(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")

    result = _run(request, begun=lambda: say(Answer(ended=False)))
    if result.model is not None:
        Path(request.model).write_bytes(result.model)
    _flush()
    say(
        Answer(
            ended=True,
            reason=result.reason,
            message=result.message,
            cost=result.cost,
            packages=result.packages,
            findings=result.findings,
        )
    )
    _give_back()


def _run(request: Request, begun: Callable[[], None]) -> Result:
    try:
        task = _read(request)
    except BaseException as error:
        return Result(cost=Cost(), reason=_reason(error), message=_message(error))
    begun()
    return train(task)


def _read(request: Request) -> Task:
    learner, start, update, seed = pickles.loads(Path(request.recipe).read_bytes())
    previous = Path(request.previous).read_bytes() if request.previous else None
    return Task(
        learner=learner,
        rows=pl.read_ipc(request.rows),
        start=start,
        update=update,
        previous=previous,
        seed=seed,
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)
    os.write(2, MARK)


def _give_back() -> None:
    """Return memory to the system, so that a limit counts this training's memory, not the last one's."""
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
