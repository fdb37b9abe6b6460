"""A challenger at work in one worker: asked in a thread of its own, and waited for only so long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from keepfit.errors import KeepfitError
from keepfit.rollouts import Assignment, Faults
from keepfit.server.batcher import Answers, Batcher, Told
from keepfit.server.quick import Row
from keepfit.server.watched import fault, limit, overdue, watched

COPIED_EVERY = 0.02
"""Seconds between two requests of which a challenger in the shadow gets a copy in this worker.

All rows are shown to it as they land; here it is found out whether it is quick enough.
"""

MOST = 5_000
"""Rows that may wait for a challenger; beyond that the champion answers."""


Heard: TypeAlias = "Callable[[Answers | None], None]"
"""Hears what a challenger answers, or why it does not, or None."""


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
        self._watched = serving.answerer = watched(serving.answerer)
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
            self.ask(rows, lambda answers: self.blame(len(rows), answers))

    def ask(self, rows: Sequence[Row], done: Heard) -> None:
        """Ask for the answers to rows; ``done`` hears them in time, exactly once.

        It hears None where it was not asked, or has not answered through no fault of its own. What
        is wrong with answers counts as its fault once somebody else has answered: see `blame`.
        """
        _Question(self, rows, done).put()

    def blame(self, rows: int, answers: Answers | None) -> None:
        """Count what is wrong with answers to rows that somebody else has answered."""
        why = "" if answers is None else fault(answers)
        if why:
            self.count(rows, why)

    def submit(self, rows: Sequence[Row], done: Callable[[Answers], None]) -> bool:
        """Hand rows to the thread that answers; return False when too many wait."""
        return self._batcher.submit(self.serving, rows, done)

    def limit(self, rows: int) -> float:
        """Return the seconds that it has for so many rows."""
        return limit(self._seconds, rows)

    def count(self, rows: int, fault: str = "") -> None:
        """Count answers, as faults where there is something to say of them."""
        self.faults += Faults(rows if fault else 0, rows, fault)

    def overdue(self, rows: int) -> bool:
        """Return whether it is its fault that an answer to so many rows has not come in time."""
        return overdue(self._watched, self._seconds, rows)

    def close(self) -> None:
        """Let it end by itself: nobody waits for a thread that may hang."""
        self._batcher.end()


class _Question:
    """Rows that were put to a challenger, told once: when it has answered, or at the limit."""

    def __init__(
        self,
        challenger: Challenger,
        rows: Sequence[Row],
        done: Heard,
    ) -> None:
        self.challenger, self.rows, self.done = challenger, rows, done
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    def put(self) -> None:
        challenger = self.challenger
        if challenger.ended or not challenger.submit(self.rows, self._answered):
            self._tell(None)
            return
        seconds = challenger.limit(len(self.rows))
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late, seconds)

    def _answered(self, answers: Answers) -> None:
        if self._told:
            return
        if not fault(answers):
            self.challenger.count(len(self.rows))
        self._tell(answers)

    def _late(self, seconds: float) -> None:
        if self._told:
            return
        late = self.challenger.overdue(len(self.rows))
        self._tell(KeepfitError(f"no answer in {seconds:.2f} s") if late else None)

    def _tell(self, answers: Answers | None) -> None:
        self._told = True
        if self._timer is not None:
            self._timer.cancel()
        self.done(answers)
