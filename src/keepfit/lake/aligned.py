"""Rows in order of event time beside their labels: what makes an as-of question a slice.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, TIME, carried
from keepfit.lake.asof import resolve
from keepfit.lake.types import microseconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Mask = NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
_RANK = "_rank"


class Aligned:
    """Rows sorted by event time and id, each with its first label.

    ``labels`` are in the order in which they became known; ``known`` is when a row's
    first label did, and ``label_rank`` is its place in ``labels``. ``plain`` marks the
    rows whose id came once and with one label at most; it is None when all did. The
    others are left to `resolve`.
    """

    def __init__(self, rows: pl.DataFrame, labels: pl.DataFrame) -> None:
        self.rows = rows.rechunk()
        self.labels = labels.rechunk()
        self.times = integers(self.rows.get_column(TIME))
        self.arrived = integers(self.rows.get_column(ARRIVED_AT))
        self.features = carried(rows.columns)
        self._join_labels()
        self._find_revised()

    def _join_labels(self) -> None:
        first = self.labels.select(ID, LABEL, KNOWN_AT).with_row_index(_RANK)
        self.labels_once = first.get_column(ID).n_unique() == first.height
        if not self.labels_once:
            first = first.unique(ID, keep="first", maintain_order=True)
        if first.get_column(ID).equals(self.rows.get_column(ID)):
            joined = first
        else:
            joined = self.rows.select(ID).join(first, on=ID, how="left", maintain_order="left")
        self.known = integers(joined.get_column(KNOWN_AT), missing=NEVER)
        self.label_rank = integers(joined.get_column(_RANK).cast(pl.Int64), missing=NEVER)
        self.training = self.rows.select(ID, TIME, joined.get_column(LABEL), *self.features)

    def _find_revised(self) -> None:
        ids = self.rows.get_column(ID)
        self.once = ids.n_unique() == ids.len()
        several = [] if self.once else [repeated(ids)]
        if not self.labels_once:
            several.append(repeated(self.labels.get_column(ID)))
        self.plain: Mask | None = None
        if several:
            self.revised = pl.concat(several).unique().implode()
            self.plain = (~ids.is_in(self.revised)).to_numpy()

    def range(self, after: datetime | None, before: datetime | None) -> tuple[int, int]:
        """Return the places of the rows with an event time in ``(after, before]``."""
        low = 0 if after is None else right(self.times, after)
        high = self.times.size if before is None else right(self.times, before)
        return min(low, high), high

    def chosen(
        self, low: int, high: int, keep: Mask, numbers: pl.Series, revised: pl.DataFrame | None
    ) -> pl.DataFrame:
        """Return kept rows of a range, with their batch numbers, among revised ones."""
        # Into a frame of its own, as a slice is: quicker than to choose columns of a wider one.
        rows = self.training.slice(low, high - low).insert_column(2, numbers.alias(BATCH))
        if not keep.all():
            rows = rows.filter(pl.Series(keep))
        if revised is not None and revised.height:
            rows = pl.concat([rows, revised]).sort(TIME, ID)
        return rows.rechunk()


class View(Aligned):
    """What a lake on disk held when it was read: rows and labels with their batches.

    Parameters
    ----------
    rows
        All versions, with ``_arrived_at`` and ``_batch``, sorted by time and id.
    labels
        All labels, with ``_known_at`` and ``_batch``.
    """

    def __init__(self, rows: pl.DataFrame, labels: pl.DataFrame) -> None:
        super().__init__(rows, labels.sort(KNOWN_AT, BATCH, maintain_order=True))
        self.batches = integers(self.rows.get_column(BATCH))
        numbers = np.append(integers(self.labels.get_column(BATCH)), NEVER)
        self._label_batches = numbers[np.minimum(self.label_rank, numbers.size - 1)]

    def labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> pl.DataFrame:
        """Return the rows whose label was known at a moment; see `Lake.labelled`."""
        low, high = self.range(after, before)
        keep = self._keep(low, high, as_of, until_batch, excluded)
        revised = self._resolve(as_of, until_batch, excluded, after, before)
        numbers = self.rows.get_column(BATCH).slice(low, high - low)
        return self.chosen(low, high, keep, numbers, revised)

    def _keep(
        self, low: int, high: int, as_of: datetime, until_batch: int, excluded: Collection[int]
    ) -> Mask:
        here, moment = slice(low, high), microseconds(as_of)
        batches, label_batches = self.batches[here], self._label_batches[here]
        keep = (self.known[here] <= moment) & (self.arrived[here] <= moment)
        keep &= (batches <= until_batch) & (label_batches <= until_batch)
        if excluded:
            out = list(excluded)
            keep &= ~np.isin(batches, out) & ~np.isin(label_batches, out)
        return keep if self.plain is None else keep & self.plain[here]

    def _resolve(
        self,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> pl.DataFrame | None:
        if self.plain is None:
            return None
        return resolve(
            self.rows.filter(pl.Series(~self.plain)),
            self.labels.filter(pl.col(ID).is_in(self.revised)),
            as_of=as_of,
            until_batch=until_batch,
            excluded=excluded,
            after=after,
            before=before,
        )


def ascends(times: Integers, ids: pl.Series) -> bool:
    """Return whether rows are in order of time and id."""
    steps = np.diff(times)
    if (steps < 0).any():
        return False
    ties = np.flatnonzero(steps == 0)
    return bool((ids.gather(ties) <= ids.gather(ties + 1)).all())


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows in order of time and id."""
    if ascends(integers(rows.get_column(TIME)), rows.get_column(ID)):
        return rows
    return rows.sort(TIME, ID)


def repeated(ids: pl.Series) -> pl.Series:
    """Return the ids that come more than once."""
    return ids.filter(ids.is_duplicated()).unique()


def integers(values: pl.Series, missing: int | None = None) -> Integers:
    """Return whole numbers, or times in microseconds, without copying them where possible."""
    physical = values.to_physical()
    return (physical if missing is None else physical.fill_null(missing)).to_numpy()


def right(values: Integers, moment: datetime) -> int:
    """Return how many of sorted times are not later than a moment."""
    return int(np.searchsorted(values, microseconds(moment), side="right"))
