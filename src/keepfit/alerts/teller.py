"""Follows the facts of a pipeline and tells people, in a thread that nothing else waits for."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from keepfit.alerts.kinds import STUCK, Chronicle, Kind, Message, Unapproved, Waiting, stuck
from keepfit.alerts.posting import Post
from keepfit.alerts.settings import Settings, settings_of
from keepfit.clock import Clock, WallClock, humanise
from keepfit.errors import LeaseLost
from keepfit.ledger.steps import steps_of
from keepfit.periodic import Periodic

if TYPE_CHECKING:
    from pathlib import Path

    from keepfit.alerts.settings import Target
    from keepfit.facts import Entry
    from keepfit.ledger import Ledger
    from keepfit.pipeline import Pipeline

logger = logging.getLogger("keepfit.alerts")

LOOKED_EVERY = 2.0
FOLD = "alerts-2"
MOST = 20
"""Alerts that wait for a target that cannot be reached; of earlier ones it hears how many."""

PATIENCE = (5.0, 600.0)
"""Seconds until a target that did not answer is tried again: twice as long each time, to a limit."""


class Told(msgspec.Struct):
    """What has been told: to each target up to which fact, and each cause to each of them when."""

    upto: dict[str, int] = {}
    causes: dict[str, dict[str, datetime]] = {}

    def to(self, key: str) -> dict[str, datetime]:
        """Return when a target was told of each cause."""
        return self.causes.setdefault(key, {})


class Teller:
    """Tells the targets of a pipeline what is new in its ledger, each alert and each cause once.

    What has been told is kept in the ledger, so that a restart neither repeats nor loses an
    alert, and a lease lets one of several processes tell. A process that is killed between an
    alert and the note of it tells that one again. A target that cannot be reached holds up
    neither the others nor the loop. Of a ledger that nobody was told of, the past is not told.

    Parameters
    ----------
    ledger
        Where facts are read.
    pipeline
        Whose.
    settings
        Whom to tell.
    label_delay
        How late labels are, by the source's own word.
    """

    def __init__(
        self,
        ledger: Ledger,
        pipeline: str,
        settings: Settings,
        *,
        label_delay: timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.ledger, self.pipeline, self.settings = ledger, pipeline, settings
        self.posts = [Post(target, settings.link) for target in settings.targets]
        self._delay = label_delay or timedelta(0)
        self._clock = clock or WallClock()
        self._chronicle, self._unlabelled = Chronicle(pipeline), Waiting()
        self._unapproved = Unapproved()
        self._seq = 0
        self._over: set[str] = set()
        self.waiting: list[Message] = []
        self._tried: dict[str, tuple[float, float]] = {}
        self._told = self._begin()
        self._looking = Periodic(
            self.look, LOOKED_EVERY, name="keepfit alerts", failed=self._failed
        )

    def start(self) -> None:
        """Begin to tell."""
        self._looking.start()

    def close(self) -> None:
        """Tell what is new, and end."""
        self._looking.close()
        try:
            self.look()
        except Exception as error:  # the end of what it tells of must not fail by it
            self._failed(error)

    def look(self) -> None:
        """Take in what is new, and tell whoever can be reached."""
        for entry in self.ledger.facts(self.pipeline, after=self._seq):
            self._add(self._heed(entry))
        self._add(self._stale())
        self._add(self._asked())
        self._add(self._stuck())
        if not self.waiting and not self._over:
            return
        try:
            lease = self.ledger.lease(f"{self.pipeline} alerts")
        except LeaseLost:
            return  # another process tells, and is looked after when it has
        with lease:
            self._catch_up()
            over = self._forget()
            if self._send() or over:
                self._keep()

    # What there is to tell ----------------------------------------------------------------

    def _begin(self) -> Told:
        """Take in what was there, without telling it; return what has been told so far."""
        kept = self.ledger.fold(self.pipeline, FOLD)
        told = Told() if kept is None else msgspec.json.decode(kept[1], type=Told)
        newest = self.ledger.seq(self.pipeline)
        strangers = [one.target.key for one in self.posts if one.target.key not in told.upto]
        told.upto |= dict.fromkeys(strangers, newest)
        if strangers:
            self.ledger.save_fold(self.pipeline, FOLD, newest, msgspec.json.encode(told))
        first = min((told.upto[post.target.key] for post in self.posts), default=newest)
        for entry in self.ledger.facts(self.pipeline):
            message = self._heed(entry)
            if entry.seq > first and message is not None:
                self.waiting.append(message)
        return told

    def _catch_up(self) -> None:
        """Take in what another process has told since."""
        kept = self.ledger.fold(self.pipeline, FOLD)
        if kept is not None:
            other = msgspec.json.decode(kept[1], type=Told)
            for key, seq in other.upto.items():
                self._told.upto[key] = max(seq, self._told.upto.get(key, 0))
            for key, causes in other.causes.items():
                self._told.to(key).update(causes)

    def _heed(self, entry: Entry) -> Message | None:
        self._seq = entry.seq
        self._unlabelled.hear(entry.fact)
        self._unapproved.hear(entry)
        return self._chronicle.hear(entry)

    def _add(self, message: Message | None) -> None:
        if message is not None:
            self.waiting.append(message)

    def _stale(self) -> Message | None:
        """Return an alert when rows wait for labels for too long, once until they have come."""
        now, cause = self._clock.now(), Kind.STALE_LABELS.value
        oldest = self._unlabelled.since()
        if oldest is None or now - oldest < self._delay + self.settings.stale_labels:
            for causes in self._told.causes.values():
                causes.pop(cause, None)
            return None
        return self._unless_told(
            Message(
                kind=Kind.STALE_LABELS,
                seq=self._seq,
                at=now,
                title=f"{self.pipeline}: stale labels",
                body=f"rows of {oldest:%Y-%m-%d} wait for labels since {humanise(now - oldest)}; "
                f"{self._unlabelled.rows():,} rows in all",
                look="status",
                cause=cause,
                standing=True,
            )
        )

    def _asked(self) -> Message | None:
        """Return an alert when a version waits for a person: when it begins, and now and then after."""
        # Who could not be reached is told what waits now, not what did then.
        self.waiting = [one for one in self.waiting if one.kind is not Kind.APPROVAL]
        message = self._unapproved.message(self.pipeline, self._seq, self._clock.now())
        return None if message is None else self._unless_told(message)

    def _stuck(self) -> Message | None:
        """Return an alert when the loop does not come through a step, once until it does."""
        self.waiting = [one for one in self.waiting if not one.cause.startswith(STUCK)]
        steps = steps_of(self.ledger, self.pipeline)
        self._over = {
            cause
            for causes in self._told.causes.values()
            for cause in causes
            if cause.startswith(STUCK) and not steps.failed
        }
        if not steps.stuck:
            return None
        return self._unless_told(stuck(self.pipeline, self._seq, self._clock.now(), steps))

    def _forget(self) -> bool:
        """Forget the causes that are over, so that they are told when they come again."""
        over, self._over = self._over, set()
        for causes in self._told.causes.values():
            for cause in over:
                causes.pop(cause, None)
        return bool(over)

    def _unless_told(self, message: Message) -> Message | None:
        """Return an alert that is due for somebody, and is not among those that wait."""
        if any(one.cause == message.cause for one in self.waiting):
            return None
        hear = (one.target for one in self.posts if one.target.hears(self.pipeline, message.kind))
        due = any(self._is_due(message, self._told.to(target.key)) for target in hear)
        return message if due else None

    def _is_due(self, message: Message, told: dict[str, datetime]) -> bool:
        """Return whether a cause was not told yet, or so long ago that it is told again."""
        last = told.get(message.cause) if message.cause else None
        if last is None:
            return True
        if message.kind is Kind.STALE_LABELS:
            return False  # until they have come
        return message.at - last >= (message.again or self.settings.again)

    # Telling ------------------------------------------------------------------------------

    def _send(self) -> bool:
        """Tell each target what it has not heard; return whether anything is to be noted."""
        done = [self._to(post) for post in self.posts]
        for post, reached in zip(self.posts, done, strict=True):
            if reached:
                self._told.upto[post.target.key] = self._seq
        if all(done):
            self.waiting = []
        return any(done)

    def _due(self, target: Target) -> list[Message]:
        """Return what a target has not heard, of each cause once in a while."""
        upto, before = self._told.upto[target.key], dict(self._told.to(target.key))
        due = []
        for message in self.waiting:
            known = message.seq <= upto and not message.standing
            if known or not target.hears(self.pipeline, message.kind):
                continue
            if self._is_due(message, before):
                before[message.cause] = message.at
                due.append(message)
        return due

    def _to(self, post: Post) -> bool:
        """Tell one target; return whether it has heard all that is for it."""
        key, due = post.target.key, self._due(post.target)
        next_try, pause = self._tried.get(key, (0.0, PATIENCE[0]))
        if not due:
            return True
        if time.monotonic() < next_try:
            return False
        for message in _bounded(due):
            if not post.send(message):
                logger.warning("%s cannot be reached; tried again in %.0f s", post.target, pause)
                self._tried[key] = time.monotonic() + pause, min(2 * pause, PATIENCE[1])
                return False
            self._told.upto[key] = max(self._told.upto[key], message.seq)
            if message.cause:
                self._told.to(key)[message.cause] = message.at
        self._tried.pop(key, None)
        return True

    def _keep(self) -> None:
        # Of what goes on it is known for as long as it does that it was told.
        for key, causes in self._told.causes.items():
            now = max(causes.values(), default=self._clock.now())
            self._told.causes[key] = {
                cause: at
                for cause, at in causes.items()
                if now - at < self.settings.again or self._goes_on(cause)
            }
        body = msgspec.json.encode(self._told)
        self.ledger.save_fold(self.pipeline, FOLD, self._seq, body)

    def _goes_on(self, cause: str) -> bool:
        standing = (Kind.STALE_LABELS.value, self._unapproved.cause)
        return cause in standing or cause.startswith(STUCK)

    def _failed(self, error: Exception) -> None:
        logger.exception("alerts about %s cannot be sent for now", self.pipeline)


def _bounded(due: Sequence[Message]) -> Sequence[Message]:
    """Return the newest alerts, the first of which says how many came before."""
    left = len(due) - MOST
    if left <= 0:
        return due
    first = due[left]
    return [
        first._replace(body=f"{first.body}\n{left:,} earlier alerts are left out"),
        *due[left + 1 :],
    ]


@contextlib.contextmanager
def telling(pipeline: Pipeline) -> Iterator[Teller | None]:
    """Tell people of a pipeline while what is inside runs, where ``keepfit.toml`` names any."""
    with _teller(pipeline.home, pipeline.name, pipeline.source.roles.label_delay) as teller:
        if teller is not None:
            teller.start()
        yield teller


def tell(home: Path, name: str) -> None:
    """Tell people once what is new of a pipeline that runs no more, as one whose file fails."""
    with _teller(home, name, timedelta.max / 2):  # what it says of late labels is not known
        pass


@contextlib.contextmanager
def _teller(home: Path, name: str, delay: timedelta | None) -> Iterator[Teller | None]:
    settings = settings_of(home)
    if not settings.targets:
        yield None
        return
    from keepfit.home import places
    from keepfit.ledger import Ledger

    with Ledger(places(home)["ledger"]) as ledger:
        teller = Teller(ledger, name, settings, label_delay=delay)
        try:
            yield teller
        finally:
            teller.close()


logger.addHandler(logging.NullHandler())
