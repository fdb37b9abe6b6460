"""An answerer under observation: since when it is at work, and whether what it says is an answer."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, cast

from keepfit.errors import KeepfitError
from keepfit.server.batcher import Answers
from keepfit.server.quick import Answer, Answerer, Row

PATIENCE = 0.25
"""Seconds that a version may take for an answer, and in addition …"""

SLOWER = 10.0
"""… so many times what the version beside it takes for the same rows."""


class Work(NamedTuple):
    """What an answerer is at: for how many seconds, and with how many rows."""

    seconds: float = 0.0
    rows: int = 0


class Watched:
    """An answerer of which it is known since when it is at work."""

    alone = False

    def __init__(self, answerer: Answerer) -> None:
        self.model = answerer.model
        self._inner = answerer
        self._begun: tuple[float, int] | None = None

    @property
    def work(self) -> Work:
        """What it is at."""
        begun = self._begun
        return Work() if begun is None else Work(time.monotonic() - begun[0], begun[1])

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the scores of rows."""
        self._begun = time.monotonic(), len(rows)
        try:
            return self._inner.many(rows)
        finally:
            self._begun = None


def watched(answerer: Answerer) -> Watched:
    """Return an answerer under observation, which it may be already."""
    return answerer if isinstance(answerer, Watched) else Watched(answerer)


def limit(seconds: float, rows: int) -> float:
    """Return the seconds that there are for rows, where another version takes so many for one."""
    return PATIENCE + SLOWER * seconds * rows


def overdue(answerer: Watched, seconds: float, rows: int) -> bool:
    """Return whether an answer to rows that has not come in time is late by the model's fault.

    It is not while they wait in line because the machine is busy, nor while it answers many more.
    """
    work = answerer.work
    return work.seconds >= limit(seconds, max(rows, work.rows)) / 2


def fault(answers: Answers) -> str:
    """Return what is wrong with answers, nothing when all is well.

    Examples
    --------
    >>> fault([0.5]), fault([(0.5, float("nan"))]), fault(ValueError("a table is missing"))
    ('', 'no number', 'ValueError: a table is missing')
    """
    if isinstance(answers, KeepfitError):
        return answers.message
    if isinstance(answers, Exception):
        return f"{type(answers).__name__}: {answers}"
    return "" if _finite(answers) else "no number"


def _finite(answers: Sequence[Answer]) -> bool:
    try:
        return all(map(math.isfinite, cast("Sequence[float]", answers)))
    except TypeError:  # they are several scores each
        several = cast("Sequence[tuple[float, ...]]", answers)
        return all(map(math.isfinite, chain.from_iterable(several)))
