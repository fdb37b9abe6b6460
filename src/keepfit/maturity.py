"""Up to which moment labels are complete enough to learn and to judge by.

Where some labels come sooner than others, as a sale that is known at once and one that fails to come
only after weeks, the newest rows with a label are not like the others: a model that learns them
learns which labels are early, and a gate that judges by them prefers it. So of the rows that are
younger than the stated label delay only those count of which it can be seen that they are complete:

- Rows are whose labels came in the order of the rows: all of them have theirs, none after them has.
- Rows are as well once they are so old that of each class all labels but one in a hundred had come by
  then, as told by the rows before, whose labels had the whole delay to come: the classes are then
  mixed as they will be, to one in a hundred. A class of which those rows have few says nothing, and
  what was stated holds. Labels that never come do not count here: they are no later for waiting.
- Where labels have become slower since, rows of that age lack more of them than those before did.
  How many more is added up in order of time, and rows count to where that sum is lowest: in every
  stretch of newest rows that ends there, few labels are missing, and what came before hides no gap.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keepfit import explore
from keepfit.batch import ARRIVED_AT, KNOWN_AT, LABEL, TIME
from keepfit.clock import humanise
from keepfit.facts import Finding, Outcome

if TYPE_CHECKING:
    import polars as pl

    from keepfit.loop import Loop

MICROSECOND = timedelta(microseconds=1)

LATE = 0.01
"""The share of a class's labels that may still be to come for its rows to be complete."""

WAVERS = 0.1
"""By how much more of all labels may be missing than of rows before, at most, before it counts."""

TOLD_BY = 2
"""Label delays before the newest one whose rows tell how late labels are."""

FEWEST = 50
"""Labels of each class without which rows do not tell how late its labels are."""

CLASSES = 100
"""Different labels up to which each is a class; more are numbers, and taken by quarters."""

APART = 0.2
"""By how much the shares of two classes' labels that are known at an age differ to be told of."""

LAG = "_lag"


def horizon(loop: Loop, as_of: datetime) -> datetime:
    """Return the event time of the newest rows whose labels are complete at a moment.

    That moment itself where nobody said how late labels are.
    """
    delay, state = loop.source.roles.label_delay, loop.state
    if delay is None:
        return as_of
    asked = as_of, state.batch, state.excluded
    if loop.complete is None or loop.complete[0] != asked:
        rows = loop.memory.lake.labels(
            as_of=as_of,
            until_batch=state.batch,
            excluded=state.excluded,
            after=as_of - (1 + TOLD_BY) * delay,
        )
        loop.complete = asked, reached(explore.observed(rows), as_of, delay)
    return loop.complete[1]


def reached(rows: pl.DataFrame, as_of: datetime, delay: timedelta) -> datetime:
    """Return up to which event time the labels of rows, in order of time, are complete.

    Parameters
    ----------
    rows
        What `Lake.labels` returns for a moment: rows of the newest label delays.
    as_of
        The moment.
    delay
        The stated time from event to label.
    """
    import numpy as np

    since = as_of - delay
    old = rows.filter(rows.get_column(TIME) <= since)
    young = rows.slice(old.height).filter(rows.get_column(TIME).slice(old.height) <= as_of)
    times = young.get_column(TIME)
    missing = young.get_column(KNOWN_AT).is_null().to_numpy()
    if not missing.any():
        return as_of
    first = int(missing.argmax())
    if missing[first:].all():
        before: datetime = times[first] - MICROSECOND
        return max(since, before)
    lag = latest(old)
    if lag is None or lag >= delay:
        return since
    seen = int((times <= as_of - lag).sum())
    lacking = old.get_column(KNOWN_AT).null_count() / old.height
    # That share wavers, and a short stretch has more by chance; yet few of many are seen to be late.
    usual = lacking + min(lacking, WAVERS, (1 - lacking) / 2) + LATE
    excess = np.cumsum(np.append(0.0, missing[:seen] - usual))
    lowest = seen - int(excess[::-1].argmin())
    if lowest == seen:
        return as_of - lag
    return since if lowest == 0 else times[lowest - 1]


def latest(rows: pl.DataFrame) -> timedelta | None:
    """Return the time within which the labels of every class come, but for one in a hundred.

    None where rows have too few labels of a class to tell.
    """
    import polars as pl

    lags = _lags(rows, pl.col(TIME))
    found = lags.group_by(LABEL).agg(pl.len(), pl.col(LAG).quantile(1 - LATE, "higher"))
    if found.is_empty() or (found.get_column("len") < FEWEST).any():
        return None
    slowest: timedelta = max(found.get_column(LAG).to_list())
    return slowest


def _lags(rows: pl.DataFrame, since: pl.Expr) -> pl.DataFrame:
    """Return of each known label its class and how long it took."""
    import polars as pl

    known = rows.drop_nulls(KNOWN_AT)
    label = known.get_column(LABEL)
    if label.dtype.is_numeric() and label.n_unique() > CLASSES:
        quarter = (label.rank("ordinal").cast(pl.Int64) * 4 - 1) // label.len() + 1
        label = pl.Series(LABEL, [f"quarter {number} of 4" for number in quarter], pl.String)
    lag = (pl.col(KNOWN_AT) - since).alias(LAG)
    return known.select(label, lag.clip(lower_bound=timedelta(0)))


def told(loop: Loop, as_of: datetime) -> tuple[Finding, ...]:
    """Return what `uneven` does whenever the batches have doubled: it reads many, and says the same."""
    number = loop.state.batch
    return uneven(loop, as_of) if number & (number - 1) == 0 else ()


def uneven(loop: Loop, as_of: datetime) -> tuple[Finding, ...]:
    """Return what is wrong where one class is known sooner than another, and no delay is stated."""
    import polars as pl

    state = loop.state
    first = state.let_in[0].from_ if state.let_in else None
    if loop.source.roles.label_delay is not None or first is None:
        return ()
    rows = explore.observed(
        loop.memory.lake.labels(
            as_of=as_of,
            until_batch=state.batch,
            excluded=state.excluded,
            after=first - MICROSECOND,
        )
    )
    if rows.get_column(KNOWN_AT).null_count() <= LATE * rows.height:
        return ()
    # A row that came late brings its label along: that says nothing about the label.
    lags = _lags(rows, pl.max_horizontal(TIME, ARRIVED_AT))
    classes = lags.group_by(LABEL).agg(pl.len(), pl.col(LAG).median().alias("half"), LAG)
    classes = classes.filter(pl.col("len") >= FEWEST).sort("half", LABEL)
    if classes.height < 2:
        return ()
    early, late = classes.row(0, named=True), classes.row(-1, named=True)
    if not _apart(classes[LAG][0], classes[LAG][-1]):
        return ()
    usual = f"half of them within {humanise(early['half'])}, against {humanise(late['half'])}"
    found = Finding(
        check="labels",
        outcome=Outcome.WARN,
        message=f"labels of {early[LABEL]!r} come sooner than those of {late[LABEL]!r}: {usual}",
        hint='say by when every label has come: label_delay="14d"; until then the newest rows with '
        "a label are not like the others, and a model learns which labels are early",
    )
    return (found,)


def _apart(early: pl.Series, late: pl.Series) -> bool:
    """Return whether two classes' labels come at times that are clearly not the same."""
    import numpy as np

    one, other = (np.sort(lags.to_physical().to_numpy()) for lags in (early, late))
    both = np.concatenate([one, other])
    shares = [np.searchsorted(lags, both, side="right") / lags.size for lags in (one, other)]
    apart = float(np.abs(shares[0] - shares[1]).max())
    # By chance about once in a million, as Kolmogorov's distance of two samples goes.
    certain = 2.7 * math.sqrt((one.size + other.size) / (one.size * other.size))
    return apart >= max(APART, certain)


def until(loop: Loop, as_of: datetime, cut: datetime | None) -> datetime | None:
    """Return the event time that rows to train on stay below: a cut, and where labels end."""
    end = horizon(loop, as_of)
    bounds = [] if end >= as_of else [end + MICROSECOND]
    return min([*bounds, *([] if cut is None else [cut])], default=None)


def count(loop: Loop, as_of: datetime, after: datetime | None) -> int:
    """Return how many rows with a complete label there are, later than an event time."""
    return loop.memory.lake.count_labelled(
        as_of=as_of,
        until_batch=loop.state.batch,
        excluded=loop.state.excluded,
        after=after,
        before=horizon(loop, as_of),
    )
