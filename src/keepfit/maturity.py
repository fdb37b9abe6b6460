"""Up to which moment labels are complete enough to learn and to judge by.

Where some labels come sooner than others, as a sale that is known at once and one that fails to come
only after weeks, the newest rows with a label are not like the others: a model that learns them
learns which labels are early, and a gate that judges by them prefers it. So only rows that are as old
as the stated label delay count, or lie within a batch whose labels were complete before that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keepfit.loop import Loop

MICROSECOND = timedelta(microseconds=1)


def horizon(loop: Loop, as_of: datetime) -> datetime:
    """Return the event time of the newest rows whose labels are complete at a moment.

    That moment itself where nobody said how late labels are.
    """
    delay, complete = loop.source.roles.label_delay, loop.state.labelled_to
    if delay is None:
        return as_of
    return as_of - delay if complete is None else min(as_of, max(as_of - delay, complete))


def until(loop: Loop, as_of: datetime, cut: datetime | None) -> datetime | None:
    """Return the event time that rows to train on stay below: a cut, and where labels end."""
    end = horizon(loop, as_of)
    bounds = [] if end >= as_of else [end + MICROSECOND]
    return min([*bounds, *([] if cut is None else [cut])], default=None)


def count(loop: Loop, as_of: datetime, after: datetime | None) -> int:
    """Return how many rows with a complete label there are, later than an event time."""
    lake, state = loop.memory.lake, loop.state

    def later(than: datetime | None) -> int:
        return lake.count_labelled(
            as_of=as_of, until_batch=state.batch, excluded=state.excluded, after=than
        )

    until = horizon(loop, as_of)
    if until >= as_of:
        return later(after)
    return 0 if after is not None and after >= until else later(after) - later(until)
