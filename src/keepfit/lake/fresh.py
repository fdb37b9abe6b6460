"""How many of the newest rows have their label: asked at every step, so kept as it grows.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, TIME
from keepfit.lake.aligned import integers, repeated, right
from keepfit.lake.asof import resolve
from keepfit.lake.intake import OWN, held_label_times, held_rows
from keepfit.lake.types import microseconds

if TYPE_CHECKING:
    from keepfit.lake.aligned import Integers, Mask
    from keepfit.lake.index import Index
    from keepfit.lake.tables import Table

_LABEL_BATCH = "_label_batch"

ASKED = 8
"""Questions whose rows are kept: a step asks of those since one training, and since another."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a count is asked about: a moment, which batches take part, and between which times."""

    as_of: datetime
    until_batch: int
    excluded: frozenset[int]
    after: datetime | None
    before: datetime | None


class Pairs:
    """Rows whose id came once, each with its only label, in order of time."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame.sort(TIME)
        self.size = frame.height
        self._times = self._column(TIME)
        self._known, self._arrived = self._column(KNOWN_AT), self._column(ARRIVED_AT)
        self._rows, self._labels = self._column(BATCH), self._column(_LABEL_BATCH)
        self._batches = frozenset(np.unique(self._rows)) | frozenset(np.unique(self._labels))
        # From then on all of them count, and nobody has to look at each.
        self._settled = max(int(self._known.max()), int(self._arrived.max()))

    def _column(self, name: str) -> Integers:
        return integers(self.frame.get_column(name))

    def count(self, asked: Asked) -> int:
        """Return how many pairs there were."""
        moment = microseconds(asked.as_of)
        late = moment < self._settled
        cut = asked.until_batch < max(self._batches) or not self._batches.isdisjoint(asked.excluded)
        low = 0 if asked.after is None else right(self._times, asked.after)
        high = self.size if asked.before is None else right(self._times, asked.before)
        if not (late or cut):
            return max(0, high - low)
        here = slice(low, high)
        rows, labels = self._rows[here], self._labels[here]
        keep: Mask = (self._known[here] <= moment) & (self._arrived[here] <= moment)
        keep &= (rows <= asked.until_batch) & (labels <= asked.until_batch)
        out = list(asked.excluded)
        keep &= ~np.isin(rows, out) & ~np.isin(labels, out)
        return int(keep.sum())


class Fresh:
    """The keys of the rows later than a moment, with when their labels became known.

    What came once with one label is counted by parts, most of which are long settled; what
    came again is held with every version and label, and left to `resolve`: an older version
    counts when the newest is in a batch that is left out.
    """

    def __init__(self, rows: Table, labels: Table, index: Index, after: datetime | None) -> None:
        self._rows, self._labels, self._index = rows, labels, index
        self.after = after
        self._asked = deque([after], ASKED)
        self._upto = index.newest("rows")
        self._dtype = rows.schema.get(ID, pl.Int64())
        self._parts: list[Pairs] = []
        self._again = held_rows([], self._dtype).select(OWN)
        self._again_labels = held_label_times([], self._dtype)
        keys = rows.collect(rows.scan(high=self._upto, after=after).select(OWN))
        if after is None:
            self._take_in(keys, self._landed_labels(1))
        else:
            ids = keys.get_column(ID).unique()
            self._take_in(self._versions_of(ids), self._labels_of(ids))

    def count(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> int:
        """Return how many rows later than a moment, not before the first one, had a label."""
        self._advance()
        self._asked.append(after)
        if None not in self._asked:
            self._forget(min(one for one in self._asked if one is not None))
        asked = Asked(as_of, until_batch, frozenset(excluded), after, before)
        plain = sum(part.count(asked) for part in self._parts)
        if self._again.is_empty():
            return plain
        again = resolve(
            self._again,
            self._again_labels.with_columns(pl.lit(None).alias(LABEL)),
            as_of=as_of,
            until_batch=until_batch,
            excluded=excluded,
            after=after,
            before=before,
        )
        return plain + again.height

    def _advance(self) -> None:
        """Take in the batches that have landed since."""
        upto = self._index.newest("rows")
        if upto == self._upto:
            return
        since, self._upto = self._upto + 1, upto
        rows = self._rows.collect(self._rows.scan(since, upto).select(OWN))
        labels = self._landed_labels(since)
        alone = labels.join(rows, on=ID, how="anti").get_column(ID).unique()
        came = rows.get_column(ID)
        if self._corrected(since):
            versions = self._versions_of(pl.concat([came, alone]).unique())
        else:
            versions = pl.concat([rows, self._versions_of(alone)])
        self._take_in(versions, self._labels_of(pl.concat([came, alone]).unique()))

    def _take_in(self, versions: pl.DataFrame, labels: pl.DataFrame) -> None:
        """Keep some ids, given every version and every label of each."""
        several = pl.concat(
            [repeated(versions.get_column(ID)), repeated(labels.get_column(ID))]
        ).unique()
        pairs = versions.join(
            labels.rename({BATCH: _LABEL_BATCH}), on=ID, how="inner", maintain_order="left"
        )
        if several.len():
            among = pl.col(ID).is_in(several.implode())
            pairs = pairs.filter(~among)
            self._keep_again(versions.filter(among), labels.filter(among), among)
        self._add(pairs.filter(_later(self.after)))

    def _keep_again(self, versions: pl.DataFrame, labels: pl.DataFrame, among: pl.Expr) -> None:
        self._parts = _parts(part.frame.filter(~among) for part in self._parts)
        self._again = pl.concat([self._again.filter(~among), versions])
        self._again_labels = pl.concat([self._again_labels.filter(~among), labels])
        self._drop_older()

    def _drop_older(self) -> None:
        """Let go of what came again when none of its versions is late enough."""
        wanted = self._again.filter(_later(self.after)).get_column(ID).unique().implode()
        self._again = self._again.filter(pl.col(ID).is_in(wanted))
        self._again_labels = self._again_labels.filter(pl.col(ID).is_in(wanted))

    def _add(self, pairs: pl.DataFrame) -> None:
        """Add a part; parts of a like size become one, so that there are never many."""
        while self._parts and self._parts[-1].size <= 2 * pairs.height:
            pairs = pl.concat([self._parts.pop().frame, pairs])
        self._parts += _parts([pairs])

    def _forget(self, after: datetime) -> None:
        """Let go of what is not later than a moment."""
        if after == self.after:
            return
        self.after = after
        self._parts = _parts(part.frame.filter(_later(after)) for part in self._parts)
        self._drop_older()

    def _landed_labels(self, since: int) -> pl.DataFrame:
        """Return the labels of the batches since a number."""
        if not self._labels.exists:
            return held_label_times([], self._dtype)
        found = self._labels.scan(since, self._upto).select(ID, KNOWN_AT, BATCH)
        return self._labels.collect(found)

    def _corrected(self, since: int) -> bool:
        """Return whether one of the newest batches may have brought a row again."""
        return any(self._index.corrections(number) != 0 for number in range(since, self._upto + 1))

    def _versions_of(self, ids: pl.Series) -> pl.DataFrame:
        found = held_rows(self._index.versions(ids.to_list()), self._dtype)
        return found.filter(pl.col(BATCH) <= self._upto).select(OWN)

    def _labels_of(self, ids: pl.Series) -> pl.DataFrame:
        found = held_label_times(self._index.labels(ids.to_list()), self._dtype)
        return found.filter(pl.col(BATCH) <= self._upto)


def _parts(frames: Iterable[pl.DataFrame]) -> list[Pairs]:
    return [Pairs(frame) for frame in frames if frame.height]


def _later(after: datetime | None) -> pl.Expr:
    return pl.lit(True) if after is None else pl.col(TIME) > after
