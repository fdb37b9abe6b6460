"""The newest rows, and when their labels became known: asked at every step, so kept as it grows.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, CARRIED, ID, KNOWN_AT, LABEL, TIME
from keepfit.lake.intake import OWN, held_labels
from keepfit.lake.types import UTC_MICROSECONDS, no_rows, together

if TYPE_CHECKING:
    from keepfit.lake.index import Index
    from keepfit.lake.tables import Table

_LABEL_BATCH = "_label_batch"
_TOLD = (LABEL, KNOWN_AT, _LABEL_BATCH)


class Recent:
    """The rows of a lake on disk that are later than a moment, each with its first label.

    A step reads the rows that came since the last one, and asks the index for the labels of those
    that had none: what it costs does not grow with what lies before the moment.
    """

    def __init__(self, rows: Table, labels: Table, index: Callable[[], Index]) -> None:
        self._rows, self._labels, self._index = rows, labels, index
        self._held: tuple[int, datetime, pl.DataFrame] | None = None

    def labels(
        self, *, as_of: datetime, until_batch: int, excluded: Collection[int], after: datetime
    ) -> pl.DataFrame:
        """Return the rows later than a moment; see `Lake.labels`."""
        rows = self._since(after)
        out = list(excluded)
        here = (pl.col(ARRIVED_AT) <= as_of) & (pl.col(BATCH) <= until_batch)
        told = (pl.col(KNOWN_AT) <= as_of) & (pl.col(_LABEL_BATCH) <= until_batch)
        told &= ~pl.col(_LABEL_BATCH).is_in(out)
        rows = rows.filter(here & ~pl.col(BATCH).is_in(out))
        rows = rows.unique(ID, keep="first", maintain_order=True)
        own = [name for name in CARRIED if name in rows.columns]
        known = [pl.when(told).then(name).alias(name) for name in (LABEL, KNOWN_AT)]
        return rows.select(ID, TIME, ARRIVED_AT, *known, *own)

    def _since(self, after: datetime) -> pl.DataFrame:
        """Return the rows later than a moment, brought up to date with the tables."""
        # Of an empty lake no index is made: who looks ahead writes nothing.
        upto = self._index().newest("rows") if self._rows.exists else 0
        held = self._held
        if held is None or after < held[1]:
            rows = self._told(self._read(None, upto, after), upto)
        elif held[0] < upto:
            rows = held[2].filter(pl.col(TIME) > after)
            rows = self._told(together(rows, self._read(held[0] + 1, upto, after)), upto)
        else:
            rows = held[2].filter(pl.col(TIME) > after)
        self._held = upto, after, rows
        return rows

    def _read(self, low: int | None, high: int, after: datetime) -> pl.DataFrame:
        if not self._rows.exists:
            return no_rows().select(OWN)
        kept = [*OWN, *(name for name in CARRIED if name in self._rows.schema)]
        return self._rows.collect(self._rows.scan(low, high, after=after).select(kept))

    def _told(self, rows: pl.DataFrame, upto: int) -> pl.DataFrame:
        """Return rows in order of time, with the labels that have come for those without one."""
        kept = self._labels.schema
        if not kept:
            void = [pl.lit(None, pl.Null).alias(LABEL), pl.lit(None, UTC_MICROSECONDS)]
            return rows.with_columns(
                void[0], void[1].alias(KNOWN_AT), pl.lit(None, pl.Int64).alias(_LABEL_BATCH)
            ).sort(TIME, ID, BATCH)
        if KNOWN_AT not in rows.columns:
            rows = rows.with_columns(pl.lit(None, UTC_MICROSECONDS).alias(KNOWN_AT))
        lacking = pl.col(KNOWN_AT).is_null()
        bare = rows.filter(lacking).select(pl.exclude(_TOLD))
        found = held_labels(self._index().labels(bare.get_column(ID).to_list()), kept)
        found = found.filter(pl.col(BATCH) <= upto).sort(KNOWN_AT, BATCH)
        first = found.unique(ID, keep="first").rename({BATCH: _LABEL_BATCH})
        bare = bare.join(first, on=ID, how="left")
        return together(rows.filter(~lacking), bare).sort(TIME, ID, BATCH)
