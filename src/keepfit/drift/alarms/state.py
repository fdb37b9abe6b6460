"""Where an alarm stands between two batches."""

from __future__ import annotations

import msgspec

MEASURES = 3
"""Of a column that moves: where its values lie, how far out, and how many are missing."""


class AlarmState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an alarm has seen so far, small enough for a fact.

    ``evidence`` is the mean of ``sums``, those of the scores, and of those of the columns:
    ``each`` has one per distance, ``moves`` one per direction and column. It is held against
    ``threshold``. ``fired`` is true at the batch that alarms and at no other: one cause is one
    alarm. ``armed`` is false while that cause stands; then ``muted`` names its columns (none
    of them: all), and only the others can alarm. ``alarmed`` is the number of the batch that
    alarmed last, 0 for none. ``columns`` holds the places of the few columns that carry the
    evidence, most first, with the standard deviations that they are above usual, added up.
    """

    evidence: float
    threshold: float
    batches: int
    fired: bool = False
    armed: bool = True
    columns: tuple[tuple[int, float], ...] = ()
    muted: tuple[int, ...] = ()
    calm: int = 0
    alarmed: int = 0
    sums: tuple[tuple[float, ...], ...] = ()
    each: tuple[float, ...] = ()
    moves: tuple[tuple[float, ...], ...] = ()
    before: tuple[float, ...] = ()
