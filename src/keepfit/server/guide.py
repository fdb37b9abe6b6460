"""What should serve: the ledger's champion, once it was tried; events go to the ledger.

One guide runs per server, however many workers there are: it moves the pointer that they
follow, hands events on to the loop, and forgets what has long landed. It waits for no trial.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace as replaced

from keepfit.artifacts import Artifacts
from keepfit.clock import WallClock
from keepfit.errors import LedgerConflict
from keepfit.facts import (
    JOURNAL,
    NOT_SERVED,
    Fact,
    Paused,
    Promoted,
    RolledBack,
    RolledOut,
    Signalled,
)
from keepfit.facts.depth import shallow
from keepfit.home import places
from keepfit.journal import EVENT, Journal, Kept, journal_of
from keepfit.landing import Place
from keepfit.ledger import Ledger
from keepfit.periodic import Periodic
from keepfit.registry import State
from keepfit.server.challenger import Challenge
from keepfit.server.follower import FAULTS, told
from keepfit.server.models import Pointer, Previous, logger, point, pointed
from keepfit.server.trial import Request, Trial, Verdict
from keepfit.server.verdicts import Verdicts

if TYPE_CHECKING:
    from keepfit.registry import Service, Version

POLL = 0.2
"""Seconds between two looks at the ledger and at the journal's events."""

KEPT = 2 * 86_400
"""Seconds for which entries are kept after they have landed."""

TIDIED_EVERY = 60.0

UNREAD = "unread event"
"""What an event is called that is none."""

_TRIED = 3


class Guide:
    """Follows the ledger of a pipeline on behalf of all workers of its server."""

    def __init__(self, home: Path, pipeline: str, trial: Trial | None = None) -> None:
        where = places(home)
        self.home, self.pipeline = home, pipeline
        self.ledger = Ledger(where["ledger"])
        self.artifacts = Artifacts(where["artifacts"])
        self.journal = Journal(journal_of(home, pipeline))
        self.state = State()
        self.refused: dict[str, str] = {}
        self.verdicts = Verdicts(trial or Trial())
        self._barred = self._undoing = ""
        self._unprepared = False
        self._tidied = time.monotonic()
        self._looking = Periodic(self.look, POLL, name="keepfit guide", failed=self._failed)

    def start(self) -> None:
        """Begin to guide."""
        self._looking.start()

    def close(self) -> None:
        """Guide no more."""
        self._looking.close()
        self.verdicts.close()
        self.ledger.close()
        self.journal.close()

    def look(self) -> None:
        """Do whatever is due: move the pointer, try what may be promoted next, hand events on.

        A trial may take a minute. It goes on from one look to the next, so that it holds up neither
        events nor faults.
        """
        self._hand_on()
        self.verdicts.look()
        new = self.ledger.facts(self.pipeline, after=self.state.seq)
        if new:
            self.state.fold(new)
            self._unprepared = True
            if any(_crowned(entry.fact) for entry in new):
                self._try_again()
        self._point()
        self._look_after()
        self._forget()
        self._look_ahead()
        if time.monotonic() - self._tidied > TIDIED_EVERY:
            self._tidied = time.monotonic()
            self.tidy(before=time.time() - KEPT)

    def tidy(self, *, before: float) -> int:
        """Forget the entries that have landed and are older than a moment; return how many."""
        landed = Place.of(self.state.cursor).behind(self.journal.identity)
        return self.journal.trim(landed, before=int(before * 1e6))

    # What serves --------------------------------------------------------------------------

    def _point(self) -> None:
        champion = self.state.versions.get(self.state.champion or "")
        if champion is None or champion.artifact in self.refused:
            return
        now = pointed(self.journal)
        ids = "" if now is None else now.ids
        if now is None or now.digest != champion.artifact:
            verdict = self._verdict(champion, first=True)
            if verdict is None:
                self._end_challenge(now)
                return
            if verdict.problem:
                self._refuse(champion, verdict.problem, now)
                return
            ids = verdict.ids or ids
        challenge, previous = self._challenge(now), self._previous(now)
        wanted = Pointer(champion.name, champion.artifact, ids, challenge, previous)
        if wanted != now:
            point(self.journal, wanted)

    # What is being rolled out --------------------------------------------------------------

    def _challenge(self, now: Pointer | None) -> Challenge | None:
        """Return what is being rolled out, once it was tried; take it back where it fails."""
        rollout = self.state.rollout
        if rollout is None:
            return None
        fact = rollout.fact
        version = self.state.versions[fact.version]
        found = Challenge(fact.version, version.artifact, fact.rollout, fact.share, fact.unit)
        on = now is not None and now.challenge == found
        faults = told(self.journal, fact.rollout)
        verdict = None if faults.too_many else self._verdict(version)
        problem = "" if verdict is None else verdict.problem
        if problem or faults.too_many:
            self._take_back(fact, f"it does not serve: {problem}" if problem else faults.reason)
            return None
        return found if on or verdict is not None else None

    def _end_challenge(self, now: Pointer | None) -> None:
        """Have nobody answered any more by what is taken back, while the champion is tried."""
        if now is not None and now.challenge is not None and self._challenge(now) is None:
            point(self.journal, replaced(now, challenge=None))

    def _take_back(self, fact: RolledOut, reason: str) -> None:
        back = RolledBack(version=fact.version, to=fact.champion, reason=reason, share=fact.share)
        if self._decide(back):
            logger.error("%s is taken back: %s", fact.version, reason)

    def _forget(self) -> None:
        """Forget the faults of what is over."""
        rollout, service = self.state.rollout, self.state.service
        on = [] if rollout is None else [rollout.fact.rollout]
        on += [] if service is None else [self.state.promotion]
        lasting = tuple(f"{FAULTS}{one} " for one in on)
        for mark in self.journal.marks(FAULTS):
            if not mark.startswith(lasting):
                self.journal.unmark(mark)

    # What was promoted ---------------------------------------------------------------------

    def _previous(self, now: Pointer | None) -> Previous | None:
        """Return the version before the champion, where it passes its trial."""
        service = self.state.service
        if service is None:
            return None
        before = self.state.versions[service.previous]
        found = Previous(before.name, before.artifact, self.state.promotion)
        if now is not None and now.previous == found:
            return found
        verdict = self._verdict(before)
        return None if verdict is None or verdict.problem else found

    def _look_after(self) -> None:
        """Take the champion back where it fails too often what the version before answers."""
        service = self.state.service
        if service is None or self._barred == self.state.promotion:
            return
        faults = told(self.journal, self.state.promotion)
        if faults.too_many:
            self._undo(service, faults.reason)

    def _undo(self, service: Service, reason: str) -> None:
        """Make the version before champion again, once it has answered stored rows as it did."""
        before = self.state.versions[service.previous]
        if self._undoing != self.state.promotion:
            self._undoing = self.state.promotion
            self.verdicts.forget(before.artifact)
        verdict = self._verdict(before, first=True)
        if verdict is None:
            return
        if verdict.problem:
            self._bar(service, f"{service.version} fails: {reason}; but {verdict.problem}")
            return
        back = RolledBack(version=service.version, to=before.name, reason=reason, rows=verdict.rows)
        if self._decide(back):
            logger.error("%s is taken back, %s serves: %s", service.version, before.name, reason)

    def _bar(self, service: Service, reason: str) -> None:
        """Pause, and say why there is no way back."""
        if self.state.paused is None and not self._decide(Paused(reason=reason)):
            return
        self._barred = self.state.promotion
        logger.error("%s", reason)

    def _decide(self, fact: Fact) -> bool:
        """Write what holds only if nobody else has written; else it is looked at again."""
        try:
            now = WallClock().now()
            self.ledger.append(self.pipeline, [fact], at=now, expected_seq=self.state.seq)
        except LedgerConflict:
            return False
        return True

    def _try_again(self) -> None:
        """Forget what was wrong with what is champion now, before or as it was looked at ahead."""
        champion = self.state.versions[self.state.champion or ""]
        logger.info("the ledger's champion is %s", champion.name)
        self.refused.pop(champion.artifact, None)
        self.verdicts.doubt(champion.artifact)

    def _verdict(self, version: Version, *, first: bool = False) -> Verdict | None:
        """Return how the trial of a version ended, None as long as it has not."""
        batches = [arrived.batch for arrived in reversed(self.state.let_in)][:_TRIED]
        home = str(self.home)
        request = Request(home, self.pipeline, version.name, version.artifact, batches)
        return self.verdicts.ask(request, first=first)

    def _refuse(self, version: Version, problem: str, now: Pointer | None) -> None:
        serving = now.version if now is not None else None
        self.refused[version.artifact] = problem
        logger.error("%s does not serve: %s; %s serves on", version.name, problem, serving)
        data = {"version": version.name, "serving": serving, "reason": problem}
        self._append(Signalled(event=NOT_SERVED, data=data))
        if now is not None and now.challenge is not None:
            point(self.journal, replaced(now, challenge=None))

    def _look_ahead(self) -> None:
        """Try what was trained and waits for its gate, and have a process ready while one trains."""
        for name in self.state.waiting:
            version = self.state.versions[name]
            if version.artifact:
                self._verdict(version)
        if self._unprepared and not self.verdicts.busy:
            self._unprepared = False
            if self.state.training:
                self.verdicts.trial.prepare()
            else:
                self.verdicts.trial.rest()

    # Events -------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Write events into the ledger, each once, also when a process died in between.

        All that wait are one transaction: a storm holds up nothing else.
        """
        done = int(self.journal.mark("events") or 0)
        waiting = self.journal.after(done, kinds=(EVENT,), limit=1_000)
        if not waiting:
            return
        handed = self._handed()
        self._append(*[self._signalled(kept) for kept in waiting if kept.position > handed])
        self.journal.set_mark("events", waiting[-1].position)

    def _signalled(self, kept: Kept) -> Signalled:
        """Return an event as a fact; of one that an older version took, what can be borne.

        Whatever it holds, those behind it must not wait for it.
        """
        place = {JOURNAL: f"{self.journal.identity} {kept.position}"}
        try:
            event = msgspec.json.decode(shallow(kept.body.decode()), type=dict[str, Any])
            return Signalled(event=str(event.pop("type")), data=event | place)
        except (KeyError, ValueError) as error:
            logger.error("an event cannot be read, and is no more than counted: %s", error)
            return Signalled(event=UNREAD, data={"reason": f"it cannot be read: {error}"} | place)

    def _handed(self) -> int:
        """Return the position of the newest event that the ledger has of this journal."""
        newest = self.ledger.facts(self.pipeline, kind="Signalled", limit=20, newest_first=True)
        for entry in newest:
            fact = entry.fact
            assert isinstance(fact, Signalled)
            identity, _, position = str(fact.data.get(JOURNAL, "")).partition(" ")
            if identity == self.journal.identity:
                return int(position)
        return 0

    def _append(self, *facts: Fact) -> None:
        if facts:
            self.ledger.append(self.pipeline, facts, at=WallClock().now())

    def _failed(self, error: Exception) -> None:
        """Say that a database is away, perhaps for a moment: it is looked at again."""
        logger.exception("cannot follow the ledger of %s", self.pipeline)


def _crowned(fact: Fact) -> bool:
    """Return whether a fact made another version champion."""
    return isinstance(fact, Promoted) or (isinstance(fact, RolledBack) and fact.share is None)


logging.getLogger("keepfit.server").addHandler(logging.NullHandler())
