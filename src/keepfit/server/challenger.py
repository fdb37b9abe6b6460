"""A challenger at work in one worker: asked in a thread of its own, and waited for only so long."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from keepfit.rollouts import Assignment, Faults
from keepfit.server.batcher import Answers, Batcher, Told
from keepfit.server.quick import Answer, Answerer, Row

PATIENCE = 0.25
"""Seconds that a challenger may take for an answer, and in addition …"""

SLOWER = 10.0
"""… so many times what the champion takes for the same rows."""

COPIED_EVERY = 0.02
"""Seconds between two requests of which a challenger in the shadow gets a copy in this worker.

All rows are shown to it as they land; here it is found out whether it is quick enough.
"""

MOST = 5_000
"""Rows that may wait for a challenger; beyond that the champion answers."""


class Challenge(msgspec.Struct, frozen=True):
    """Which version is being rolled out, at which share of which unit."""

    version: str
    digest: str
    rollout: str
    share: float
    unit: str | None = None


class Challenger:
    """Answers its share of units; whatever goes wrong, somebody else can answer instead.

    All methods are called in the thread of the event loop.

    Parameters
    ----------
    challenge
        What is being rolled out.
    serving
        Its version, loaded.
    seconds
        What the champion takes for a row.
    deliver
        Takes what to tell whom, in the thread that answers.
    faults
        Those of an earlier stage.
    """

    def __init__(
        self,
        challenge: Challenge,
        serving: Any,
        seconds: float,
        deliver: Callable[[Told], None],
        faults: Faults | None = None,
    ) -> None:
        self.challenge = challenge
        self.serving = serving
        self.faults = faults or Faults()
        self._watched = _Watched(serving.answerer)
        serving.answerer = self._watched
        self._seconds = seconds
        self._assignment = Assignment(challenge.rollout, challenge.share)
        self._batcher = Batcher(deliver, most=MOST)
        self._copied = 0.0

    @property
    def ended(self) -> bool:
        """Whether it has failed too often, and is asked no more."""
        return self.faults.too_many

    def takes(self, row: Row, id_: int | str) -> bool:
        """Return whether a row falls to it."""
        unit = None if self.challenge.unit is None else row.get(self.challenge.unit)
        return self._assignment.takes(id_ if unit is None else unit)

    def copy(self, rows: Sequence[Row]) -> None:
        """Let it see rows while it answers nobody, if it has seen none for a while."""
        now = time.monotonic()
        if not self.challenge.share and now - self._copied >= COPIED_EVERY:
            self._copied = now
            self.ask(rows, lambda answers: None)

    def ask(self, rows: Sequence[Row], done: Callable[[list[Answer] | None], None]) -> None:
        """Ask for the answers to rows; ``done`` hears them in time, or None, exactly once."""
        _Question(self, rows, done).put()

    def submit(self, rows: Sequence[Row], done: Callable[[Answers], None]) -> bool:
        """Hand rows to the thread that answers; return False when too many wait."""
        return self._batcher.submit(self.serving, rows, done)

    def limit(self, rows: int) -> float:
        """Return the seconds that it has for so many rows."""
        return PATIENCE + SLOWER * self._seconds * rows

    def count(self, rows: int, fault: str = "") -> None:
        """Count answers, as faults where there is something to say of them."""
        self.faults += Faults(rows if fault else 0, rows, fault)

    def at_work(self) -> float:
        """Return for how many seconds it has been at what it is at."""
        return self._watched.seconds()

    def close(self) -> None:
        """Let it end by itself: nobody waits for a thread that may hang."""
        self._batcher.end()


class _Question:
    """Rows that were put to a challenger, told once: when it has answered, or at the limit."""

    def __init__(
        self,
        challenger: Challenger,
        rows: Sequence[Row],
        done: Callable[[list[Answer] | None], None],
    ) -> None:
        self.challenger, self.rows, self.done = challenger, rows, done
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    def put(self) -> None:
        challenger = self.challenger
        if challenger.ended or not challenger.submit(self.rows, self._answered):
            self._tell(None)
            return
        limit = challenger.limit(len(self.rows))
        self._timer = asyncio.get_running_loop().call_later(limit, self._late, limit)

    def _answered(self, answers: Answers) -> None:
        if self._told:
            return
        fault = _fault(answers)
        self.challenger.count(len(self.rows), fault)
        self._tell(None if fault else answers)  # type: ignore[arg-type]

    def _late(self, limit: float) -> None:
        if self._told:
            return
        # Where it waits in line because the machine is busy, that is not its fault.
        if self.challenger.at_work() >= limit / 2:
            self.challenger.count(len(self.rows), f"no answer in {limit:.2f} s")
        self._tell(None)

    def _tell(self, answers: list[Answer] | None) -> None:
        self._told = True
        if self._timer is not None:
            self._timer.cancel()
        self.done(answers)


class _Watched:
    """An answerer of which it is known since when it is at work."""

    alone = False

    def __init__(self, answerer: Answerer) -> None:
        self.model = answerer.model
        self._inner = answerer
        self._since: float | None = None

    def seconds(self) -> float:
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def one(self, row: Row) -> Answer:
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        self._since = time.monotonic()
        try:
            return self._inner.many(rows)
        finally:
            self._since = None


def _fault(answers: Answers) -> str:
    """Return what is wrong with answers, nothing when all is well."""
    if isinstance(answers, Exception):
        return f"{type(answers).__name__}: {answers}"
    for answer in answers:
        if not all(map(math.isfinite, answer if isinstance(answer, tuple) else (answer,))):
            return "no number"
    return ""
