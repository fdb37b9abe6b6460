"""A thread that follows the journal's pointer: what it names is loaded beside what serves, and swapped."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace as replaced

from keepfit import rollouts
from keepfit.journal import Journal
from keepfit.periodic import Periodic
from keepfit.rollouts import Faults
from keepfit.server.aftercare import Aftercare
from keepfit.server.challenger import Challenge, Challenger
from keepfit.server.counters import Counters
from keepfit.server.models import Models, Pointer, Previous, Serving, logger, pointed

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts
    from keepfit.server.batcher import Told

POLL = 0.2
"""Seconds between two looks at the pointer."""

TOLD_EVERY = 5.0
"""Seconds between two words on a version that answers without new faults."""

FAULTS = "faults "
"""What the marks begin with by which workers tell of faults.

The id of a rollout or of a promotion follows, and the worker's.
"""


def tell(journal: Journal, rollout: str, worker: str, faults: Faults) -> None:
    """Let a journal hold how often a version failed in a worker, since a rollout or a promotion."""
    journal.set_mark(f"{FAULTS}{rollout} {worker}", msgspec.json.encode(faults).decode())


def told(journal: Journal, rollout: str) -> Faults:
    """Return how often a version failed in all workers together, since a rollout or a promotion."""
    marks = journal.marks(f"{FAULTS}{rollout} ")
    each = (msgspec.json.decode(str(text), type=Faults) for text in marks.values())
    return sum(each, Faults())


class Follower:
    """A thread that follows the pointer, and swaps what serves between two requests.

    Parameters
    ----------
    journal
        The journal's file.
    artifacts
        Where models lie.
    swapped
        Hears of each swap, in the follower's thread.
    deliver
        Takes what a challenger or a champion answered, in the thread of that version.
    counters
        Those of the worker.
    """

    def __init__(
        self,
        journal: Path,
        artifacts: Artifacts,
        swapped: Callable[[Serving], None] | None = None,
        deliver: Callable[[Told], None] | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters()
        self.current: Serving | None = None
        self.challenger: Challenger | None = None
        self.swaps, self.problem = 0, ""
        self.looked = threading.Event()
        self._models = Models(artifacts)
        self._path, self._swapped = journal, swapped
        self._deliver = deliver
        self._refused: Pointer | None = None
        self._challenged: Challenge | None = None
        self._name = secrets.token_hex(4)
        self._failed = "", Faults()
        self._word, self._other_word = _Word(self._name), _Word(self._name)
        self._lacking: Previous | None = None
        self._journal: Journal | None = None
        self._looking = Periodic(self._look, POLL, name="keepfit follower", failed=_failed)

    def start(self) -> None:
        """Begin to follow."""
        self._looking.start()

    def look(self, journal: Journal) -> None:
        """Swap to the version that the pointer names, unless it serves; the old one stays on a fault."""
        self._tell(journal)
        pointer = pointed(journal)
        if pointer is None:
            return
        self._follow(replaced(pointer, challenge=None, previous=None), pointer.previous)
        self._challenge(pointer.challenge)

    def _follow(self, pointer: Pointer, previous: Previous | None) -> None:
        serving = self.current
        if pointer == self._refused:
            return
        if serving is not None and (serving.version, serving.digest, serving.ids) == (
            pointer.version,
            pointer.digest,
            pointer.ids,
        ):
            self._accompany(serving, previous)
            return
        try:
            found = self._models.load(pointer)
        except Exception as error:
            # Tried before in a process of its own: here something else is wrong, as memory may be.
            self._refused, self.problem = pointer, f"{pointer.version} does not load: {error}"
            logger.exception("%s does not load here; what served goes on", pointer.version)
            return
        self._accompany(found, previous)
        self.current, self._refused, self.problem = found, None, ""
        self.swaps += 1
        logger.info("%s serves", pointer.version)
        if self._swapped is not None:
            self._swapped(found)

    def _accompany(self, champion: Serving, previous: Previous | None) -> None:
        """Have the version before at hand, as long as the pointer names one."""
        care = champion.aftercare
        if previous == (None if care is None else care.named) or self._deliver is None:
            return
        champion.aftercare = None
        if previous is None or previous == self._lacking:
            return
        try:
            before = self._models.load(Pointer(previous.version, previous.digest, champion.ids))
        except Exception:
            self._lacking = previous
            logger.exception("%s does not load here; it answers nobody", previous.version)
            return
        champion.aftercare = Aftercare(champion, before, previous, self._deliver, self.counters)

    def _challenge(self, challenge: Challenge | None) -> None:
        """Let the challenger of a pointer answer its share, and the one before answer no more."""
        before, champion = self.challenger, self.current
        if challenge == self._challenged:
            return
        self._challenged = challenge
        found = None
        if challenge is not None and champion is not None and self._deliver is not None:
            same = before is not None and before.challenge.rollout == challenge.rollout
            faults = before.faults if before is not None and same else Faults()
            found = self._begun(challenge, champion, faults, self._deliver)
        self.challenger = found
        if before is not None:
            before.close()

    def _begun(
        self,
        challenge: Challenge,
        champion: Serving,
        faults: Faults,
        deliver: Callable[[Told], None],
    ) -> Challenger | None:
        try:
            pointer = Pointer(challenge.version, challenge.digest, champion.ids)
            serving = self._models.apart(pointer)
        except Exception as error:
            logger.exception("%s does not load here; it answers nobody", challenge.version)
            self._failed = challenge.rollout, Faults(2, 2, f"it does not load: {error}")
            return None
        logger.info("%s is rolled out: %s", challenge.version, rollouts.told(challenge.share))
        return Challenger(challenge, serving, champion.seconds, deliver, faults)

    def _tell(self, journal: Journal) -> None:
        """Tell the guide of the faults of challenger and champion."""
        challenger, champion = self.challenger, self.current
        rollout, faults = self._failed
        if challenger is not None:
            rollout, faults = challenger.challenge.rollout, challenger.faults
        self._word.say(journal, rollout, faults)
        care = None if champion is None else champion.aftercare
        if care is not None:
            self._other_word.say(journal, care.named.promotion, care.faults)

    def _look(self) -> None:
        try:
            if self._journal is None:
                self._journal = Journal(self._path)
            self.look(self._journal)
        finally:
            self.looked.set()

    def close(self) -> None:
        """Follow no more."""
        self._looking.close()
        if self._journal is not None:
            self._journal.close()


class _Word:
    """What a worker last told of a version's faults: it tells of new ones at once."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._said = "", Faults()
        self._at = time.monotonic()

    def say(self, journal: Journal, rollout: str, faults: Faults) -> None:
        known, late = (rollout, faults), time.monotonic() - self._at >= TOLD_EVERY
        before = self._said[1] if self._said[0] == rollout else Faults()
        if known != self._said and (faults.faults > before.faults or late):
            tell(journal, rollout, self._worker, faults)
            self._said, self._at = known, time.monotonic()


def _failed(error: Exception) -> None:
    """Say that a disk is away, perhaps for a moment: it is looked at again."""
    logger.exception("cannot look at what serves")
