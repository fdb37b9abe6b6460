"""What a journal holds, and what becomes of an entry that says what is known already."""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

ANSWER, ROW, LABEL, EVENT, SHEET, PASSAGE = 1, 2, 3, 4, 5, 6
"""Kinds of entries: a row with what it was answered, a row alone, a label, an event; the body
that the rows of one request share, which is no entry to those who read; and whether an answered
row passes, where chance said so: of the answer with the same id and moment, with the probability
in the place of scores and 0 or 1 as its body."""

Scores = float | tuple[float, ...] | None


class Fate(StrEnum):
    """What became of a label or an event."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    CORRECTED = "corrected"
    WAITING = "waiting"
    """Kept, though the journal holds no row of this id: it is joined when there is one."""


class New(NamedTuple):
    """An entry to be written: ``at`` is microseconds since 1970 in UTC, ``body`` is JSON."""

    kind: int
    id: int | str
    at: int
    version: str | None
    scores: float | bytes | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Sheet:
    """Sheet to the rows of one request, which are kept in one body: an entry for each.

    ``body`` is of a form that `journal.sheets` takes apart, with as many rows as there are ids.
    ``beside`` are entries of their own that are written with them.
    """

    ids: Sequence[int | str]
    at: int
    versions: Sequence[str]
    scores: Sequence[float | bytes]
    body: bytes
    beside: Sequence[New] = ()


class Kept(NamedTuple):
    """An entry in its place; positions grow and are never given twice."""

    position: int
    kind: int
    id: int | str
    at: int
    version: str | None
    scores: Scores
    body: bytes


def packed(scores: tuple[float, ...]) -> bytes:
    """Return several scores as the bytes that are kept of them.

    Examples
    --------
    >>> unpacked(packed((0.25, 0.75)))
    (0.25, 0.75)
    """
    return array.array("d", scores).tobytes()


def unpacked(kept: float | bytes | None) -> Scores:
    """Return scores from the form they are kept in."""
    return tuple(array.array("d", kept)) if isinstance(kept, bytes) else kept
