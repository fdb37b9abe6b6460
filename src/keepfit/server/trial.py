"""A model tried in a process of its own: ``python -m keepfit.server.trial``.

A model that crashes the process which loads it, as a truncated file of LightGBM's does, then
takes nobody with it. One request comes on standard input and one answer goes out.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from keepfit.home import Memory
    from keepfit.protocols import Model
    from keepfit.registry import Version

ROWS = 200
"""Stored rows that a model must answer."""

SECONDS = 60.0
"""How long a trial may take."""

SLOWEST = 1.0
"""Seconds that one row may take, of the second time on."""

_LIBRARIES = ("catboost", "lightgbm", "river", "sklearn", "torch", "xgboost")
"""What takes a second and more to import, where a model needs it."""

_MOMENT = 0.01
"""Seconds that a look at a trial takes: enough to read what its process has said."""

NICER = 5
"""How much lower the priority of a trial is than that of the server: on a busy machine it then has
a quarter of a core, and is done within its time."""


class Request(msgspec.Struct):
    """What is to be tried, and on which batches of the lake, newest first."""

    home: str
    pipeline: str
    version: str
    digest: str
    batches: list[int]


class Verdict(msgspec.Struct, omit_defaults=True):
    """How a trial ended; ``problem`` is empty when the model may serve.

    ``libraries`` are those that its process had imported in the end.
    """

    problem: str = ""
    rows: int = 0
    ids: str = ""
    libraries: tuple[str, ...] = ()


class Trial:
    """Tries models in child processes, one at a time; one may be started ahead.

    Nobody waits for a child: ``begin`` sets it to work and ``verdict`` asks how it is getting on.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._ready: subprocess.Popen[bytes] | None = None
        self._at_work: subprocess.Popen[bytes] | None = None
        self._request: bytes | None = None
        self._libraries: tuple[str, ...] = ()
        self._until = 0.0

    def prepare(self) -> None:
        """Start a process that waits for a request with what the model before needed imported."""
        if self._ready is None or self._ready.poll() is not None:
            self._ready = subprocess.Popen(
                [sys.executable, "-m", "keepfit.server.trial", *self._libraries],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
                process_group=0,  # Ctrl-C is for the server: it says nothing of the model
            )

    def begin(self, request: Request) -> None:
        """Set a process to try a model; one that is at work on another is ended."""
        _end(self._at_work)
        self.prepare()
        self._at_work, self._ready = self._ready, None
        self._request = msgspec.json.encode(request)
        self._until = time.monotonic() + self._seconds

    def verdict(self) -> Verdict | None:
        """Return how the trial ended, whatever became of its process; None while it is on."""
        child, request = self._at_work, self._request
        assert child is not None
        self._request = None  # it is sent once
        try:
            out, errors = child.communicate(request, timeout=_MOMENT)
        except subprocess.TimeoutExpired:
            if time.monotonic() < self._until:
                return None
            self._at_work = None
            _end(child)
            return Verdict(problem=f"it took longer than {self._seconds:g} s to load and answer")
        self._at_work = None
        told = _told(child.returncode, out, errors)
        self._libraries = told.libraries
        return msgspec.structs.replace(told, libraries=())

    def close(self) -> None:
        """End the process that is at work, and the one that waits."""
        self.rest()
        _end(self._at_work)
        self._at_work = None

    def rest(self) -> None:
        """End the process that waits, if there is one."""
        _end(self._ready)
        self._ready = None


def _end(child: subprocess.Popen[bytes] | None) -> None:
    if child is not None:
        child.kill()
        child.communicate()


def _told(status: int, out: bytes, errors: bytes) -> Verdict:
    if status == 0:
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(out, type=Verdict)
    last = errors.decode(errors="replace").strip().splitlines()[-1:]
    how = f"ended with status {status}" if status >= 0 else "crashed"
    return Verdict(problem=": ".join([f"the process that loaded it {how}", *last]))


def tried(request: Request, memory: Memory) -> Verdict:
    """Load a model, let it answer stored rows, and hold that against what is recorded."""
    from keepfit.learners import loads
    from keepfit.server.models import warm
    from keepfit.server.quick import quickest

    model = loads(memory.artifacts.get(request.digest))
    answerer = quickest(model)
    warm(answerer)
    start = time.perf_counter()
    answerer.one(dict.fromkeys(model.features))
    if (took := time.perf_counter() - start) > SLOWEST:
        return Verdict(problem=f"it took {took:.1f} s for one row")
    rows = _rows(memory, request.batches)
    if rows is None:
        return Verdict()
    problem = _answers_otherwise(request, memory, model, rows)
    return Verdict(problem=problem, rows=rows.height, ids=_ids(rows))


def _rows(memory: Memory, batches: list[int]) -> pl.DataFrame | None:
    for number in batches:
        rows = memory.lake.batch(number)
        if rows.height:
            return rows.head(ROWS)
    return None


def _ids(rows: pl.DataFrame) -> str:
    from keepfit.batch import ID

    return "number" if rows.schema[ID].is_integer() else "text"


def _answers_otherwise(request: Request, memory: Memory, model: Model, rows: pl.DataFrame) -> str:
    """Return what is wrong with a model's answers to stored rows; nothing when all is well."""
    import numpy as np

    from keepfit.batch import BATCH
    from keepfit.clock import WallClock
    from keepfit.errors import RollbackFailed
    from keepfit.scoring import Scorer

    scores = np.asarray(model.predict(rows))
    finite = np.isfinite(scores.reshape(rows.height, -1)).all(axis=1)
    if not finite.all():
        return f"it answers {int((~finite).sum()):,} of {rows.height:,} stored rows with no number"
    stored = memory.lake.scored(int(rows.get_column(BATCH)[0]), WallClock().now())
    version = cast("Version", _Named(request.version, request.digest))
    try:
        Scorer(memory.artifacts, None).verify(version, rows, stored)
    except RollbackFailed as error:
        return error.message
    return ""


class _Named(msgspec.Struct, frozen=True):
    """As much of a version as a scorer needs to know."""

    name: str
    artifact: str


def main() -> None:
    """Answer one request."""
    from keepfit.home import open_memory

    _give_way()
    _preload(sys.argv[1:])
    content = sys.stdin.buffer.read()
    if not content:
        return
    request = msgspec.json.decode(content, type=Request)
    memory = open_memory(Path(request.home), request.pipeline)
    try:
        verdict = tried(request, memory)
    except Exception as error:
        verdict = Verdict(problem=f"{type(error).__name__}: {error}")
    verdict.libraries = tuple(name for name in _LIBRARIES if name in sys.modules)
    sys.stdout.buffer.write(msgspec.json.encode(verdict))
    sys.stdout.flush()


def _give_way() -> None:
    """Let those that answer go first: imports alone take a core for a second and more."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICER)


def _preload(libraries: Sequence[str]) -> None:
    """Import what a trial needs while nobody waits for it."""
    import deltalake  # noqa: F401
    import polars  # noqa: F401

    import keepfit.learners.lightgbm
    import keepfit.learners.sklearn  # noqa: F401

    for name in libraries:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    main()
