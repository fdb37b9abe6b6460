"""What all workers of a server counted: each lays its counts down, and whoever is asked adds up.

The hot path counts in its own memory and knows nothing of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from keepfit.periodic import Periodic
from keepfit.server.counters import EDGES

K = TypeVar("K")
V = TypeVar("V", int, float)

_log = logging.getLogger("keepfit.server")
EVERY = 1.0
"""Seconds after which a worker lays down what it counted; its own are told as they are."""


class Counts(msgspec.Struct, frozen=True):
    """What one worker counted, or several together.

    ``requests`` are by route and status, ``buckets`` and ``seconds`` of latency by route.
    ``waiting`` entries, and ``serving`` and ``at_hand``, by version how many workers answer with it
    or would where the champion fails, are of now and not since the start; so are ``challenger``
    and its ``share``. Requests that a version ``failed``, and those of them that were ``rescued``
    by the version before, are by version.
    """

    requests: dict[str, dict[int, int]] = {}
    buckets: dict[str, list[int]] = {}
    seconds: dict[str, float] = {}
    rows: int = 0
    swaps: int = 0
    waiting: int = 0
    serving: dict[str, int] = {}
    at_hand: dict[str, int] = {}
    challenger: str = ""
    share: float = 0.0
    answers: int = 0
    faults: int = 0
    failed: dict[str, int] = {}
    rescued: dict[str, int] = {}

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            requests={
                route: _summed(self.requests.get(route, {}), other.requests.get(route, {}))
                for route in self.requests | other.requests
            },
            buckets={
                route: [
                    one + more
                    for one, more in zip(
                        self.buckets.get(route, _NONE), other.buckets.get(route, _NONE), strict=True
                    )
                ]
                for route in self.buckets | other.buckets
            },
            seconds=_summed(self.seconds, other.seconds),
            rows=self.rows + other.rows,
            swaps=self.swaps + other.swaps,
            waiting=self.waiting + other.waiting,
            serving=_summed(self.serving, other.serving),
            at_hand=_summed(self.at_hand, other.at_hand),
            challenger=self.challenger or other.challenger,
            share=max(self.share, other.share),
            answers=self.answers + other.answers,
            faults=self.faults + other.faults,
            failed=_summed(self.failed, other.failed),
            rescued=_summed(self.rescued, other.rescued),
        )

    def past(self) -> Counts:
        """Return what stays of a worker that is gone: what counts since the start."""
        return msgspec.structs.replace(
            self, waiting=0, serving={}, at_hand={}, challenger="", share=0.0
        )


_NONE = [0] * (len(EDGES) + 1)


def _summed(one: dict[K, V], other: dict[K, V]) -> dict[K, V]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in one | other}


class Tally:
    """The counts of one worker among those of its server.

    Parameters
    ----------
    folder
        Where workers lay down their counts.
    counted
        Returns what this worker counted so far.
    server
        The process that this worker belongs to; without one it is the whole server.
    """

    def __init__(
        self, folder: Path, counted: Callable[[], Counts], server: int | None = None
    ) -> None:
        self._folder, self._counted, self._server = folder, counted, server
        self._file = folder / f"{server}-{os.getpid()}.json"
        self._writing = Periodic(self.write, EVERY, name="keepfit tally", failed=_failed)

    def start(self) -> None:
        """Begin to lay down what is counted, if there is anyone to read it."""
        if self._server is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            self._writing.start()

    def close(self) -> None:
        """Lay down what was counted to the end."""
        if self._server is not None:
            self._writing.close()
            with suppress(OSError):
                self.write()

    def total(self) -> Counts:
        """Return what all workers counted."""
        return sum(self._others(), self._counted())

    def write(self) -> None:
        """Lay down what this worker counted."""
        beside = self._file.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(self._counted()))
        beside.replace(self._file)

    def _others(self) -> Iterator[Counts]:
        if self._server is None:
            return
        for path in self._folder.glob(f"{self._server}-*.json"):
            if path != self._file:
                with suppress(OSError, msgspec.MsgspecError):
                    counts = msgspec.json.decode(path.read_bytes(), type=Counts)
                    yield counts if psutil.pid_exists(_process(path)) else counts.past()

    def _tidy(self) -> None:
        """Remove what servers left that are gone."""
        for path in self._folder.glob("*-*.json"):
            if not psutil.pid_exists(int(path.stem.partition("-")[0])):
                path.unlink(missing_ok=True)


def _failed(error: Exception) -> None:
    if not isinstance(error, OSError):  # a full disk is told elsewhere
        _log.exception("what is counted cannot be laid down")


def _process(path: Path) -> int:
    return int(path.stem.partition("-")[2])
