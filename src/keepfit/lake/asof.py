"""What was known at a moment: the newest version of each row with the newest label.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, TIME

_PLACE = "_place"


def resolve(
    rows: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    as_of: datetime,
    until_batch: int,
    excluded: Collection[int] = (),
    after: datetime | None = None,
    before: datetime | None = None,
) -> pl.DataFrame:
    """Return the labelled rows as of a moment, in the order of ``rows``.

    ``rows`` has all versions with ``_arrived_at`` and ``_batch``; ``labels`` all labels
    with ``_known_at`` and ``_batch``.
    """
    inside = (pl.col(BATCH) <= until_batch) & ~pl.col(BATCH).is_in(list(excluded))
    keys = rows.select(ID, TIME, ARRIVED_AT, BATCH).with_row_index(_PLACE)
    versions = keys.filter((pl.col(ARRIVED_AT) <= as_of) & inside)
    latest = newest(versions, ARRIVED_AT).filter(_between(after, before))
    known = newest(labels.filter((pl.col(KNOWN_AT) <= as_of) & inside), KNOWN_AT)
    found = latest.join(known.select(ID, LABEL), on=ID, how="inner").sort(_PLACE)
    features = [name for name in rows.columns if name not in (ID, TIME, BATCH, ARRIVED_AT)]
    chosen = rows[found.get_column(_PLACE)]
    return chosen.select(ID, TIME, BATCH, found.get_column(LABEL), *features)


def newest(frame: pl.DataFrame, clock: str) -> pl.DataFrame:
    """Return of each id the entry with the latest time, and of those the latest batch's."""
    if frame.get_column(ID).n_unique() == frame.height:
        return frame
    return frame.sort(clock, BATCH, maintain_order=True).unique(
        ID, keep="last", maintain_order=True
    )


def _between(after: datetime | None, before: datetime | None) -> pl.Expr:
    inside = pl.lit(True)
    if after is not None:
        inside = inside & (pl.col(TIME) > after)
    if before is not None:
        inside = inside & (pl.col(TIME) <= before)
    return inside
