"""How the loop comes through its steps: kept beside the facts, by whoever runs it."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from keepfit.errors import KeepfitError

if TYPE_CHECKING:
    from keepfit.ledger import Ledger

IN_A_ROW = 3
"""Steps in a row from which on the loop is said to be stuck: a database may be away for a moment."""

LONGEST = timedelta(seconds=60)
"""The longest rest before the next try."""

FOLD = "steps-1"
_NOTED_EVERY = timedelta(seconds=30)
_WORDLESS = "its process ended without a word, as one does that is killed or has no memory left"

_log = logging.getLogger("keepfit.ledger")


class Steps(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The steps of a pipeline's loop.

    It came through one last ``done_at``. Since then it ``failed`` so many times in a row, first
    ``since``; ``kind`` and ``error`` say how it did last. ``server`` is whose process is at it.
    """

    done_at: datetime | None = None
    failed: int = 0
    since: datetime | None = None
    kind: str = ""
    error: str = ""
    server: str = ""

    @property
    def stuck(self) -> bool:
        """Whether it fails so often that somebody has to look."""
        return self.failed >= IN_A_ROW

    @property
    def rest(self) -> timedelta:
        """How long to wait before the next try: twice as long each time, up to a limit."""
        return min(LONGEST, timedelta(seconds=2.0 ** min(self.failed, 10) - 1))


def steps_of(ledger: Ledger, pipeline: str) -> Steps:
    """Return how the loop of a pipeline comes through its steps, as far as is known.

    Raises
    ------
    KeepfitError
        The ledger cannot be read.
    """
    kept = ledger.fold(pipeline, FOLD)
    if kept is not None:
        with suppress(msgspec.MsgspecError):  # another version's: the next step says it anew
            return msgspec.json.decode(kept[1], type=Steps)
    return Steps()


class Stepping:
    """Keeps how the loop comes through its steps, for as long as a process runs it.

    What is kept is for people. Where it cannot be, the loop goes on.

    Parameters
    ----------
    ledger, pipeline
        Where, and whose.
    server
        Whose process runs the loop again when it ends. It alone says of every step that it was
        done; without one only what failed before is taken back.
    """

    def __init__(self, ledger: Ledger, pipeline: str, server: str = "") -> None:
        self._ledger, self._pipeline, self._server = ledger, pipeline, server
        self._kept: Steps | None = None
        self._looked: datetime | None = None

    @property
    def kept(self) -> Steps:
        """How it stands, as this process knows it."""
        if self._kept is None:
            self._kept = Steps()
            with suppress(KeepfitError):
                self._kept = steps_of(self._ledger, self._pipeline)
        return self._kept

    def begin(self, now: datetime) -> Steps:
        """Begin to try; where the process before did not say how it ended, it failed."""
        if self.kept.server == self._server:
            self._keep(self._fallen(now, "", _WORDLESS))
        self._keep(msgspec.structs.replace(self.kept, server=self._server))
        return self.kept

    def come_through(self, now: datetime) -> None:
        """Take in that a step was done."""
        if self._looked is None or not timedelta(0) <= now - self._looked < _NOTED_EVERY:
            self._kept, self._looked = None, now  # another process may have tried meanwhile
        kept = self.kept
        due = kept.done_at is None or not timedelta(0) <= now - kept.done_at < _NOTED_EVERY
        if kept.failed or (self._server and due):
            self._keep(Steps(done_at=now, server=self._server))

    def fall(self, now: datetime, error: BaseException) -> Steps:
        """Take in that a step was not, and what it raised."""
        message = str(error).partition("\n\nhint:")[0].strip()
        name = type(error).__name__
        said = message if isinstance(error, KeepfitError) else f"{name}: {message}"
        self._keep(self._fallen(now, name, said[:500]))
        return self.kept

    def end(self) -> None:
        """Take in that the process was asked to end."""
        if self.kept.server:
            self._keep(msgspec.structs.replace(self.kept, server=""))

    def _fallen(self, now: datetime, kind: str, error: str) -> Steps:
        kept = self.kept
        return Steps(
            done_at=kept.done_at,
            failed=kept.failed + 1,
            since=kept.since or now,
            kind=kind,
            error=error,
        )

    def _keep(self, steps: Steps) -> None:
        self._kept = steps
        try:
            self._ledger.save_fold(self._pipeline, FOLD, 0, msgspec.json.encode(steps))
        except KeepfitError as error:
            _log.warning("how the loop does cannot be kept: %s", error.message)


_log.addHandler(logging.NullHandler())
