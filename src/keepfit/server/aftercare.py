"""A champion after its promotion, in one worker: where it fails, the version before it answers."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from keepfit.errors import KeepfitError, SchemaMismatch
from keepfit.rollouts import Faults
from keepfit.server.batcher import Answers, Batcher, Told
from keepfit.server.quick import AT_ONCE, Row, complete
from keepfit.server.watched import Watched, fault, limit, overdue, watched

if TYPE_CHECKING:
    from keepfit.server.counters import Counters
    from keepfit.server.models import Previous, Serving

Then: TypeAlias = "Callable[[Answers, Serving], None]"
"""Hears answers, or why there are none, and whose they are."""

COUNTED = 10_000
"""Requests after which a worker counts anew: what turns bad after a year is found as soon."""


class Aftercare:
    """What becomes of requests that a champion fails, while the version before it is at hand.

    A request that the champion does not answer, or with no number, or far more slowly than the
    version before it would, is put to that version. Where that one answers, it was a fault of the
    champion's; what neither can answer is wrong itself. A fault is a request, however many rows
    it has. All methods but `faults` are called in the thread of the event loop.

    Parameters
    ----------
    champion, previous
        What serves, and the version before it, both loaded.
    named
        How the pointer names the version before.
    deliver
        Takes what to tell whom, in the thread that answers.
    counters
        Those of the worker.
    """

    def __init__(
        self,
        champion: Serving,
        previous: Serving,
        named: Previous,
        deliver: Callable[[Told], None],
        counters: Counters,
    ) -> None:
        self.previous, self.named = previous, named
        self.counters = counters
        self.watched: Watched | None = None
        if not champion.answerer.alone:
            self.watched = champion.answerer = watched(champion.answerer)
        self._deliver = deliver
        self._lines: dict[str, Batcher] = {}
        self._first = counters.answered
        self._by_others = self._failures = self._failed = self._stretch = 0
        self._why, self._late_at = "", 0.0

    # Who answers --------------------------------------------------------------------------

    def ask(self, rows: Sequence[Row], champion: Serving, then: Then) -> bool:
        """Put rows to a champion that answers in turn; return False when too many wait."""
        return _Question(self, rows, champion, then).put()

    def submit(self, rows: Sequence[Row], by: Serving, done: Callable[[Answers], None]) -> bool:
        """Hand rows to the thread of a version; return False when too many wait.

        Each has its own: a champion that hangs holds up nobody but itself.
        """
        if by.version not in self._lines:
            line = self._lines[by.version] = Batcher(self._deliver)
            weakref.finalize(self, line.end).atexit = False
        return self._lines[by.version].submit(by, rows, done)

    def rescue(self, rows: Sequence[Row], error: Exception, champion: Serving, then: Then) -> None:
        """Let the version before answer what the champion failed; else tell what went wrong."""

        def heard(answers: Answers) -> None:
            if fault(answers):
                then(neither(error, champion, answers, self.previous), champion)
            else:
                then(answers, self.previous)
                self.count(champion, fault(error))

        self.ask_previous(rows, heard)

    def ask_previous(self, rows: Sequence[Row], done: Callable[[Answers], None]) -> None:
        """Put rows to the version before."""
        answerer = self.previous.answerer
        try:
            for row in rows:
                complete(row, answerer.model.features)
            if answerer.alone and len(rows) <= AT_ONCE:
                done(answerer.many(rows))
                return
        except Exception as error:
            done(error)
            return
        if not self.submit(rows, self.previous, done):
            done(KeepfitError(f"too many rows wait for {self.previous.version}"))

    # What is counted ----------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the champion has failed too often in this worker, and is asked no more."""
        return self.faults.too_many

    @property
    def faults(self) -> Faults:
        """How often it failed, of the newest requests."""
        stretch, answers = divmod(self._asked(), COUNTED)
        failed = self._failed if stretch == self._stretch else 0
        return Faults(failed, max(answers, failed), self._why if failed else "")

    def count(self, champion: Serving, why: str) -> None:
        """Count a fault, of a request that the version before has answered."""
        self.pass_by()
        self.counters.fail(champion.version, rescued=True)
        stretch = self._asked() // COUNTED
        if stretch != self._stretch:
            self._stretch, self._failed = stretch, 0
        self._failures, self._failed, self._why = self._failures + 1, self._failed + 1, why

    def count_late(self, champion: Serving, seconds: float) -> None:
        """Count an answer that did not come in time: of all that wait for one call, once."""
        now = time.monotonic()
        if now - self._late_at < seconds:
            self.pass_by()
            self.counters.fail(champion.version, rescued=True)
        else:
            self._late_at = now
            self.count(champion, f"no answer in {seconds:.2f} s")

    def pass_by(self) -> None:
        """Take note of a request that somebody else has answered."""
        self._by_others += 1

    def _asked(self) -> int:
        """Return how many requests the champion has had."""
        return self.counters.answered - self._first - self._by_others + self._failures


class _Question:
    """Rows that a champion answers in turn, told once: by it, or by the version before it."""

    def __init__(self, care: Aftercare, rows: Sequence[Row], champion: Serving, then: Then) -> None:
        self.care, self.rows, self.champion, self.then = care, rows, champion, then
        self._limit = limit(care.previous.seconds, len(rows))
        self._told = self._turned = False
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self) -> bool:
        if self.care.ended:
            self._skip()
            return True
        return self._submit()

    def _submit(self) -> bool:
        if not self.care.submit(self.rows, self.champion, self._answered):
            return False
        self._wait()
        return True

    def _skip(self) -> None:
        """Ask the version before alone; the champion only where that one has no answer."""

        def heard(answers: Answers) -> None:
            if not fault(answers):
                self._tell(answers, self.care.previous)
                self.care.pass_by()
            elif not self._submit():
                self._tell(KeepfitError(f"{self.champion.version} does not answer"), self.champion)

        self.care.ask_previous(self.rows, heard)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit, self._late)

    def _answered(self, answers: Answers) -> None:
        if self._told:
            return
        if not fault(answers) or isinstance(answers, SchemaMismatch):
            self._tell(answers, self.champion)
        elif self._turned:
            self._error = told_as(answers)
        else:
            self._turned = True
            self.care.rescue(self.rows, told_as(answers), self.champion, self._tell)

    def _late(self) -> None:
        """Ask the version before, beside the champion, where that one is at work for too long."""
        if self._told or self._turned:
            return
        assert self.care.watched is not None
        if not overdue(self.care.watched, self.care.previous.seconds, len(self.rows)):
            self._wait()
            return
        self._turned = True
        asked = time.monotonic()
        self.care.ask_previous(self.rows, lambda answers: self._instead(answers, asked))

    def _instead(self, answers: Answers, asked: float) -> None:
        if self._told:
            return
        if not fault(answers):
            self._tell(answers, self.care.previous)
            # Where both are slow, it is the machine that is.
            if time.monotonic() - asked <= self._limit / 2:
                self.care.count_late(self.champion, self._limit)
            else:
                self.care.pass_by()
        elif self._error is not None:
            error = neither(self._error, self.champion, answers, self.care.previous)
            self._tell(error, self.champion)
        else:
            self._turned = False  # the champion may answer yet

    def _tell(self, answers: Answers, by: Serving) -> None:
        self._told = True
        if self._timer is not None:
            self._timer.cancel()
        self.then(answers, by)


def neither(error: Exception, by: Serving, answers: Answers | None, other: Serving) -> Exception:
    """Return what is told of rows that one version fails with an error, and another one too.

    What two versions fail is wrong itself, unless the machine fails them. But of one that misses a
    column, or has too much to do, it is not known what it would have answered.
    """
    if isinstance(error, SchemaMismatch) or answers is None or isinstance(answers, KeepfitError):
        return error
    if any(isinstance(one, OSError | MemoryError) for one in (error, answers)):
        return error
    return SchemaMismatch(
        f"expected rows that a model can answer, got some that {by.version} and {other.version} "
        f"fail alike: {fault(error)}",
        hint="look at the values: very large numbers, or ones of another kind than usual",
    )


def told_as(answers: Answers) -> Exception:
    """Return as an error what is wrong with answers that are none."""
    if isinstance(answers, Exception):
        return answers
    return KeepfitError("the model answers with no number", hint="`keepfit rollback` takes it back")
