"""What serves: the version that the journal's pointer names, loaded and warm."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.journal import Journal
from keepfit.server.challenger import Challenge
from keepfit.server.loading import beside_answers
from keepfit.server.quick import Answerer, quickest

if TYPE_CHECKING:
    from keepfit.artifacts import Artifacts
    from keepfit.server.aftercare import Aftercare

logger = logging.getLogger("keepfit.server")

POINTER = "serving"
LOADED = 3
"""Models that stay loaded: champion, previous, and one to come."""


class Previous(msgspec.Struct, frozen=True):
    """The version before the champion, and the promotion since which it is kept at hand."""

    version: str
    digest: str
    promotion: str


class Pointer(msgspec.Struct, frozen=True):
    """Which version serves; what holds its model; how ids of the lake are kept; who else answers.

    The challenger does its share of units, the version before where the champion fails.
    """

    version: str
    digest: str
    ids: str = ""
    challenge: Challenge | None = None
    previous: Previous | None = None


class Serving:
    """A version at work; requests that began with it end with it.

    ``seconds`` is what it takes for a row, ``aftercare`` what has the version before it at hand.
    """

    def __init__(self, pointer: Pointer, answerer: Answerer, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.aftercare: Aftercare | None = None
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
        self._loaded: OrderedDict[str, tuple[Answerer, float]] = OrderedDict()

    def load(self, pointer: Pointer) -> Serving:
        """Return a version ready to answer: its digest checked, its code and memory warm.

        Raises
        ------
        ArtifactCorrupt
            The file is not what its name says, or is no model.
        """
        if pointer.digest not in self._loaded:
            self._loaded[pointer.digest] = self._ready(pointer.digest)
            if len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(pointer.digest)
        return Serving(pointer, *self._loaded[pointer.digest])

    def apart(self, pointer: Pointer) -> Serving:
        """Return a version as `load` does, with a model that no other thread has in use.

        Raises
        ------
        ArtifactCorrupt
            The file is not what its name says, or is no model.
        """
        return Serving(pointer, *self._ready(pointer.digest))

    def _ready(self, digest: str) -> tuple[Answerer, float]:
        from keepfit.learners import loads

        content = self._artifacts.get(digest)
        with beside_answers():
            answerer = quickest(loads(content))
            return answerer, warm(answerer)


def warm(answerer: Answerer) -> float:
    """Answer rows of which nothing is known, so that the first request finds all in place.

    Returns the seconds that a row takes.
    """
    row = dict.fromkeys(answerer.model.features)
    for count in (1, 2):
        answerer.one(row)
        answerer.many([row] * count)
    start = time.perf_counter()
    answerer.one(row)
    return time.perf_counter() - start
