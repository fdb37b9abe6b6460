"""Follows the facts of a pipeline and tells MLflow, in a thread that nothing else waits for."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from keepfit.errors import LeaseLost
from keepfit.mirror.pages import Book, Measured, Page
from keepfit.mirror.settings import Settings, settings_of
from keepfit.mirror.store import Copy, Store

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts
    from keepfit.ledger import Ledger
    from keepfit.pipeline import Pipeline

logger = logging.getLogger("keepfit.mirror")

LOOKED_EVERY = 2.0
FOLD = "mirror-1"
PATIENCE = (5.0, 600.0)
"""Seconds until MLflow is tried again that did not answer: twice as long each time, to a limit."""

CLOSING = 30.0
"""Seconds that the end of a run waits for the mirror; the next run goes on with the rest."""


class Kept(msgspec.Struct):
    """What has been mirrored, up to which fact."""

    seq: int = 0
    copies: dict[str, Copy] = {}


@dataclass(frozen=True, slots=True)
class Done:
    """What one look at the facts did on MLflow's side, by names of versions and aliases."""

    made: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    held_by: str = ""


class Mirror:
    """Tells MLflow what is new in a pipeline's ledger, each version once.

    What has been mirrored is kept in the ledger, and a lease lets one of several processes
    mirror. A process that is killed between a copy and the note of it finds the copy again. A
    version that somebody deletes on MLflow's side stays deleted, unless it holds an alias: then
    it is made anew.

    Parameters
    ----------
    ledger
        Where facts are read.
    artifacts
        Where models are.
    pipeline
        Whose.
    settings
        Which MLflow.
    warn
        Called with a sentence when MLflow cannot be told, once until it can.

    Raises
    ------
    ExtraMissing
        MLflow is not installed.
    """

    def __init__(
        self,
        ledger: Ledger,
        artifacts: Artifacts,
        pipeline: str,
        settings: Settings,
        *,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.ledger, self.artifacts, self.pipeline = ledger, artifacts, pipeline
        self.settings, self.store = settings, Store(settings, pipeline)
        self.book = Book(pipeline)
        self._fold = f"{FOLD} {settings.key(pipeline)}"
        self._warn = warn or logger.warning
        self._next, self._pause = 0.0, PATIENCE[0]
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keepfit mirror", daemon=True)

    def start(self) -> None:
        """Begin to mirror."""
        self._thread.start()

    def close(self) -> None:
        """Mirror what is new, and end; one that does not answer is not waited for long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING)

    def look(self) -> Done:
        """Take in what is new, and tell MLflow, unless another process is at it."""
        for entry in self.ledger.facts(self.pipeline, after=self.book.seq):
            self.book.hear(entry)
        if self._kept().seq >= self.book.seq:
            return Done()
        try:
            lease = self.ledger.lease(f"{self.pipeline} mirror")
        except LeaseLost as error:
            return Done(held_by=error.message)
        with lease:
            kept = self._kept()
            return self._told(kept) if kept.seq < self.book.seq else Done()

    def looked(self) -> None:
        """Look, where it is time to; what goes wrong is said once, and tried again later."""
        if time.monotonic() < self._next and not self._stop.is_set():
            return
        try:
            self.look()
        except Exception as error:  # what MLflow refuses must not end what it is told of
            self._failed(error)
        else:
            self._next, self._pause, self._failing = 0.0, PATIENCE[0], False

    # Telling ------------------------------------------------------------------------------

    def _told(self, kept: Kept) -> Done:
        self.store.prepare()
        aliases = self.book.aliases()
        made, updated = [], []
        for page in self.book.pages():
            copy = kept.copies.get(page.name)
            if copy is None or (copy.gone and page.name in aliases.values()):
                copy = self._copied(kept, page)
                made.append(page.name)
            elif copy.gone or copy.seq >= page.touched:
                page.measured.clear()
                continue
            else:
                updated.append(page.name)
            self._bring(kept, page, copy)
        holders = self._holders(kept, aliases)
        if any(kept.copies[page.name].gone for page in holders):
            return self._told(kept)
        found = {alias: kept.copies[name].version for alias, name in aliases.items()}
        moved = self.store.point(found)
        kept.seq = self.book.seq
        self._keep(kept)
        gone = [name for name, copy in kept.copies.items() if copy.gone]
        return Done(tuple(made), tuple(updated), tuple(moved), tuple(gone))

    def _holders(self, kept: Kept, aliases: dict[str, str]) -> list[Page]:
        """Return the pages that hold an alias, once each was asked whether it is still there."""
        holders = [page for page in self.book.pages() if page.name in aliases.values()]
        for page in holders:
            self._bring(kept, page, kept.copies[page.name])
        return holders

    def _copied(self, kept: Kept, page: Page) -> Copy:
        if page.name in kept.copies:
            page.measured = self._figures(page.name)
        copy = self.store.find(page)
        if copy is None:
            copy = self.store.make(page, self.artifacts.get(page.version.artifact))
        kept.copies[page.name] = copy
        self._keep(kept)
        return copy

    def _figures(self, name: str) -> list[Measured]:
        """Return all figures of a version, also those that its copy was told before it was deleted."""
        book = Book(self.pipeline)
        for entry in self.ledger.facts(self.pipeline):
            book.hear(entry)
        return next(page.measured for page in book.pages() if page.name == name)

    def _bring(self, kept: Kept, page: Page, copy: Copy) -> None:
        """Tell what is new of a version; figures that were told are not held any longer."""
        self.store.update(copy, page)
        copy.seq = self.book.seq
        page.measured.clear()
        self._keep(kept)

    def _kept(self) -> Kept:
        found = self.ledger.fold(self.pipeline, self._fold)
        return Kept() if found is None else msgspec.json.decode(found[1], type=Kept)

    def _keep(self, kept: Kept) -> None:
        body = msgspec.json.encode(kept)
        self.ledger.save_fold(self.pipeline, self._fold, self.book.seq, body)

    def _run(self) -> None:
        while not self._stop.wait(LOOKED_EVERY):
            self.looked()
        self.looked()

    def _failed(self, error: Exception) -> None:
        self._next = time.monotonic() + self._pause
        if not self._failing:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._warn(f"{self.settings.shown} cannot be told of {self.pipeline}: {said}")
        logger.debug("tried again in %.0f s", self._pause, exc_info=True)
        self._failing, self._pause = True, min(2 * self._pause, PATIENCE[1])


@contextlib.contextmanager
def mirroring(
    pipeline: Pipeline, warn: Callable[[str], None] | None = None
) -> Iterator[Mirror | None]:
    """Mirror a pipeline while what is inside runs, where ``keepfit.toml`` names an MLflow."""
    settings = settings_of(pipeline.home)
    if settings is None:
        yield None
        return
    with opened(pipeline, settings, warn) as mirror:
        mirror.start()
        try:
            yield mirror
        finally:
            mirror.close()


@contextlib.contextmanager
def opened(
    pipeline: Pipeline, settings: Settings, warn: Callable[[str], None] | None = None
) -> Iterator[Mirror]:
    """Open a mirror of a pipeline, with a ledger of its own."""
    from keepfit.artifacts import Artifacts
    from keepfit.home import places
    from keepfit.ledger import Ledger

    where = places(pipeline.home)
    with Ledger(where["ledger"]) as ledger:
        yield Mirror(ledger, Artifacts(where["artifacts"]), pipeline.name, settings, warn=warn)


logger.addHandler(logging.NullHandler())
