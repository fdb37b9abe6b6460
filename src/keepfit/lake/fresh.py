"""Keys of the newest rows with their labels: how many there are is asked at every step.

Imported only when rows are at hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from keepfit.batch import BATCH, ID, KNOWN_AT, LABEL, TIME
from keepfit.lake.aligned import View, in_order
from keepfit.lake.intake import OWN, held_labels, held_rows

if TYPE_CHECKING:
    from keepfit.lake.index import Index
    from keepfit.lake.tables import Table


class Fresh:
    """The rows later than a moment, without their features; grows with each batch.

    Of an id with a version later than the moment every version is held: an older one
    counts when the newest is in a batch that is left out.
    """

    def __init__(self, rows: Table, labels: Table, index: Index, after: datetime | None) -> None:
        self._rows_table, self._labels_table, self._index = rows, labels, index
        self.after = after
        self.upto = index.newest("rows")
        keys = rows.collect(rows.scan(high=self.upto, after=after).select(OWN))
        if after is None:
            columns = pl.col(ID, LABEL, KNOWN_AT, BATCH)
            found = (
                labels.collect(labels.scan(high=self.upto).select(columns))
                if labels.exists
                else None
            )
            self._rows, self._labels = keys, found
        else:
            wanted = keys.filter(pl.col(TIME) > after)
            self._rows, self._labels = self._versions(wanted), self._labels_of(wanted)
        self._view: View | None = None

    def view(self, after: datetime | None) -> View:
        """Return the rows later than a moment that is not before the first one."""
        if after is not None and after != self.after:
            self.after = after
            self._rows = self._of_ids(self._rows, self._rows.filter(pl.col(TIME) > after))
            if self._labels is not None:
                self._labels = self._of_ids(self._labels, self._rows)
            self._view = None
        if self._view is None:
            labels = self._labels if self._labels is not None else _no_labels(self._rows.schema[ID])
            self._view = View(in_order(self._rows), labels)
        return self._view

    def advance(self) -> None:
        """Take in the batches that have landed since."""
        upto = self._index.newest("rows")
        if upto == self.upto:
            return
        rows, labels = self._rows_table, self._labels_table
        more = rows.collect(rows.scan(self.upto + 1, upto).select(OWN))
        known = pl.col(ID).is_in(self._rows.get_column(ID).implode())
        later = pl.lit(True) if self.after is None else pl.col(TIME) > self.after
        wanted = more.filter(later | known)
        found = [self._labels_of(wanted)]
        if labels.exists:
            columns = pl.col(ID, LABEL, KNOWN_AT, BATCH)
            landed = labels.collect(labels.scan(self.upto + 1, upto).select(columns))
            found.append(landed.filter(known))
        again = self._versions(wanted) if self._corrected(upto) else wanted
        self._rows = _distinct([self._rows, again], [ID, BATCH])
        labelled = [frame for frame in (self._labels, *found) if frame is not None]
        # Until the first label comes, nobody knows which type labels have.
        self._labels = _distinct(labelled, [ID, KNOWN_AT, BATCH]) if labelled else None
        self.upto, self._view = upto, None

    def _corrected(self, upto: int) -> bool:
        """Return whether a batch since the last look may have brought a row again."""
        return any(
            self._index.corrections(number) != 0 for number in range(self.upto + 1, upto + 1)
        )

    def _versions(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return every version of the rows' ids."""
        found = held_rows(self._index.versions(_ids(rows)), rows.schema[ID])
        return found.filter(pl.col(BATCH) <= self._index.newest("rows")).select(OWN)

    def _labels_of(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Return every label of the rows' ids."""
        kept = self._labels_table.schema
        if not kept:
            return None
        found = held_labels(self._index.labels(_ids(rows)), kept)
        return found.select(ID, LABEL, KNOWN_AT, BATCH)

    @staticmethod
    def _of_ids(frame: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        return frame.join(others.select(ID).unique(), on=ID, how="semi", maintain_order="left")


def _ids(rows: pl.DataFrame) -> list[object]:
    return rows.get_column(ID).unique().to_list()


def _distinct(frames: list[pl.DataFrame], keys: list[str]) -> pl.DataFrame:
    return pl.concat(frames, how="vertical_relaxed").unique(keys, maintain_order=True)


def _no_labels(dtype: pl.DataType) -> pl.DataFrame:
    from keepfit.lake.types import UTC_MICROSECONDS

    schema = {ID: dtype, LABEL: pl.Null(), KNOWN_AT: UTC_MICROSECONDS, BATCH: pl.Int64()}
    return pl.DataFrame(schema=schema)
