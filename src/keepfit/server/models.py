"""What serves: the version that the journal's pointer names, loaded beside the old one and swapped."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.journal import Journal
from keepfit.server.quick import Answerer, quickest

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts

logger = logging.getLogger("keepfit.server")

POLL = 0.2
"""Seconds between two looks at the pointer."""

POINTER = "serving"
LOADED = 3
"""Models that stay loaded: champion, previous, and one to come."""


class Pointer(msgspec.Struct, frozen=True):
    """Which version serves; what holds its model; how ids of the lake are kept."""

    version: str
    digest: str
    ids: str = ""


class Serving:
    """A version at work; requests that began with it end with it."""

    def __init__(self, pointer: Pointer, answerer: Answerer) -> None:
        self.version, self.digest, self.ids = pointer.version, pointer.digest, pointer.ids
        self.answerer = answerer
        self.features = frozenset(answerer.model.features)
        self.task: str = answerer.model.task
        self.classes: tuple[Any, ...] = tuple(answerer.model.classes)

    def __repr__(self) -> str:
        return f"<Serving {self.version}: {self.answerer.model!r}>"


def pointed(journal: Journal) -> Pointer | None:
    """Return the pointer that stands in a journal."""
    text = journal.mark(POINTER)
    return None if text is None else msgspec.json.decode(str(text), type=Pointer)


def point(journal: Journal, pointer: Pointer) -> None:
    """Move the pointer; every worker follows it at its next look."""
    journal.set_mark(POINTER, msgspec.json.encode(pointer).decode())


class Models:
    """Loads models by digest, each once while it is of use."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._loaded: OrderedDict[str, Answerer] = OrderedDict()

    def load(self, pointer: Pointer) -> Serving:
        """Return a version ready to answer: its digest checked, its code and memory warm.

        Raises
        ------
        ArtifactCorrupt
            The file is not what its name says, or is no model.
        """
        from keepfit.learners import loads

        if pointer.digest not in self._loaded:
            answerer = quickest(loads(self._artifacts.get(pointer.digest)))
            warm(answerer)
            self._loaded[pointer.digest] = answerer
            if len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(pointer.digest)
        return Serving(pointer, self._loaded[pointer.digest])


def warm(answerer: Answerer) -> None:
    """Answer rows of which nothing is known, so that the first request finds all in place."""
    row = dict.fromkeys(answerer.model.features)
    for count in (1, 2):
        answerer.one(row)
        answerer.many([row] * count)


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
    """

    def __init__(
        self,
        journal: Path,
        artifacts: Artifacts,
        swapped: Callable[[Serving], None] | None = None,
    ) -> None:
        self.current: Serving | None = None
        self.swaps, self.problem = 0, ""
        self._models = Models(artifacts)
        self._path, self._swapped = journal, swapped
        self._refused: Pointer | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keepfit follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def look(self, journal: Journal) -> None:
        """Swap to the version that the pointer names, unless it serves; the old one stays on a fault."""
        pointer = pointed(journal)
        serving = self.current
        if pointer is None or pointer == self._refused:
            return
        if serving is not None and (serving.version, serving.digest, serving.ids) == (
            pointer.version,
            pointer.digest,
            pointer.ids,
        ):
            return
        try:
            found = self._models.load(pointer)
        except Exception as error:
            # Tried before in a process of its own: here something else is wrong, as memory may be.
            self._refused, self.problem = pointer, f"{pointer.version} does not load: {error}"
            logger.exception("%s does not load here; what served goes on", pointer.version)
            return
        self.current, self._refused, self.problem = found, None, ""
        self.swaps += 1
        logger.info("%s serves", pointer.version)
        if self._swapped is not None:
            self._swapped(found)

    def _run(self) -> None:
        journal = Journal(self._path)
        while not self._stop.is_set():
            try:
                self.look(journal)
            except Exception:  # a disk that is away for a moment is looked at again
                logger.exception("cannot look at what serves")
            self._stop.wait(POLL)
        journal.close()

    def close(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
