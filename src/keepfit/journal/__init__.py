"""What came in over the network, on disk before it is answered, until it has landed in the lake."""

from __future__ import annotations

from keepfit.journal.entries import ANSWER, EVENT, LABEL, PASSAGE, ROW, Fate, Kept, New, Sheet
from keepfit.journal.file import Journal, journal_of
from keepfit.journal.writer import Outcome, Writer

__all__ = [
    "ANSWER",
    "EVENT",
    "LABEL",
    "PASSAGE",
    "ROW",
    "Sheet",
    "Fate",
    "Journal",
    "Kept",
    "New",
    "Outcome",
    "Writer",
    "journal_of",
]
