"""Past rows in the two orders a backtest needs: as they happened, and as they arrived.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, ID, KNOWN_AT, LABEL, TIME, carried
from keepfit.errors import ConfigError
from keepfit.lake.aligned import NEVER, Aligned, ascends, integers
from keepfit.lake.content import digest, row_hashes
from keepfit.lake.types import UTC_MICROSECONDS, storable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keepfit.batch import Batch
    from keepfit.lake.aligned import Integers

_RANK = "_rank"
_NEXT = "_next"
_CONTENT = "_content"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """Places in a history: rows in order of arrival, labels in the order they became known."""

    rows: int = 0
    rows_end: int = 0
    labels: int = 0
    labels_end: int = 0


class History(Aligned):
    """A history, held once and shared by every policy that a backtest compares.

    ``order`` leads from the rank of arrival to the place in ``rows`` and ``rank`` back;
    both are None when rows arrived in the order they happened in. ``replaced`` and
    ``replacing`` are the ranks of versions that a later version of the same id followed,
    and of that later one.
    """

    def __init__(self, batch: Batch) -> None:
        arrived = _by_arrival(storable(batch.rows))
        if arrived.get_column(ID).n_unique() < arrived.height:
            arrived = _without_repeats(arrived)
        rows, self.order, self.rank = _by_time(arrived)
        super().__init__(rows, _by_knowledge(batch.labels, rows.schema[ID]))
        self.arrivals = self.arrived if self.order is None else self.arrived[self.order]
        self.label_times = integers(self.labels.get_column(KNOWN_AT))
        self._labelled = self.training[[ID, TIME, LABEL]]
        self._rank_revised()
        self._hashes: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None
        self._digests: dict[Span, str] = {}
        self._made: dict[Hashable, Any] = {}

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what parts of the history give, made once for all policies that ask for them.

        Parts of rows that arrived in order are slices, and take no memory of their own. Others are
        copies, which together would be as large as the history: they are made anew.
        """
        if self.order is not None or self.plain is not None:
            return make()
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def _rank_revised(self) -> None:
        self.replaced = self.replacing = self._relabelled = np.empty(0, dtype=np.int64)
        if self.plain is None:
            return
        rank = np.arange(self.rows.height) if self.rank is None else self.rank
        rows = (
            self.rows.with_columns(pl.Series(_RANK, rank))
            .filter(pl.Series(~self.plain))
            .sort(_RANK)
        )
        following = pl.col(_RANK).shift(-1, fill_value=NEVER).over(ID)
        content = pl.Series(_CONTENT, row_hashes(rows, [TIME, *self.features]))
        rows = rows.with_columns(following.alias(_NEXT), content)
        pairs = rows.filter(pl.col(_NEXT) < NEVER).sort(_NEXT)
        self.replaced = integers(pairs.get_column(_RANK))
        self.replacing = integers(pairs.get_column(_NEXT))
        self._revised_rows = rows.sort(TIME, ID, _RANK)
        labels = self.labels.with_columns(pl.int_range(pl.len()).alias(_RANK))
        self._revised_labels = labels.filter(pl.col(ID).is_in(self.revised))
        again = self._revised_labels.filter(~pl.col(ID).is_first_distinct())
        self._relabelled = integers(again.get_column(_RANK))

    def places(self, span: Span) -> Integers:
        """Return where a span's rows lie in ``rows``, each id once, in order of time and id."""
        if self.order is None:
            places = np.arange(span.rows, span.rows_end)
        else:
            places = np.sort(self.order[span.rows : span.rows_end])
        if self.replacing.size == 0:
            return places
        replaced = self._replaced_in(span)
        gone = np.append(replaced[replaced >= span.rows], self._put_back(span))
        if gone.size == 0:
            return places
        return places[~np.isin(places, gone if self.order is None else self.order[gone])]

    def _replaced_in(self, span: Span) -> Integers:
        """Return the ranks of versions that a row of the span replaced."""
        low, high = np.searchsorted(self.replacing, (span.rows, span.rows_end))
        return self.replaced[low:high]

    def _put_back(self, span: Span) -> Integers:
        """Return the ranks of versions that say what had landed before others of the span."""
        replaced = self._replaced_in(span)
        if not (replaced >= span.rows).any():
            return replaced[:0]
        ranked = self._revised_rows.select(ID, _CONTENT, _RANK).sort(_RANK)
        before = ranked.filter(pl.col(_RANK) < span.rows).unique(ID, keep="last")
        newest = ranked.filter(pl.col(_RANK) < span.rows_end).unique(ID, keep="last")
        came = newest.filter(pl.col(_RANK) >= span.rows)
        same = came.join(before, on=[ID, _CONTENT], how="semi")
        return integers(same.get_column(_RANK))

    def take(self, span: Span) -> pl.DataFrame:
        """Return the rows that arrived in a span, each id once, sorted by time and id."""
        return self._part(self.rows, span)

    def take_known(self, span: Span) -> pl.DataFrame:
        """Return ids, times and labels of the rows of `take`, known or not."""
        return self._part(self._labelled, span)

    def _part(self, frame: pl.DataFrame, span: Span) -> pl.DataFrame:
        places = self.places(span)
        if self.order is None and places.size == span.rows_end - span.rows:
            return frame.slice(span.rows, places.size)
        return frame[places]

    def take_labels(self, span: Span) -> pl.DataFrame:
        """Return the labels that became known in a span."""
        return self.labels.slice(span.labels, span.labels_end - span.labels)

    def digest(self, span: Span) -> str:
        """Return a digest of the rows and labels of a span."""
        if span not in self._digests:
            if self._hashes is None:
                hashed = row_hashes(self.rows, [TIME, *self.features])
                self._hashes = hashed, row_hashes(self.labels, [LABEL])
            hashes, labels = self._hashes
            here, known = hashes[self.places(span)], labels[span.labels : span.labels_end]
            self._digests[span] = digest(self.take(span), here, self.take_labels(span), known)
        return self._digests[span]

    def again(self, span: Span) -> dict[str, Any]:
        """Return how many rows and labels of a span came again with another content, by its name."""
        if self.plain is None:
            return {}
        low, high = np.searchsorted(self._relabelled, (span.labels, span.labels_end))
        replaced = int((self._replaced_in(span) < span.rows).sum())
        rows, labels = replaced - self._put_back(span).size, int(high - low)
        return {"corrections": rows + labels, "revised": rows, "relabelled": labels}

    def versions(
        self, row_ends: Integers, label_ends: Integers, numbers: Integers
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the revised rows and labels with the batch that each of them landed in.

        A version that a later one of the same batch replaced never landed, nor did one that
        says the same as the newest before it.
        """
        batch = batch_of(integers(self._revised_rows.get_column(_RANK)), row_ends, numbers)
        following = batch_of(integers(self._revised_rows.get_column(_NEXT)), row_ends, numbers)
        landed = pl.Series((batch != NEVER) & (batch != following))
        label_ranks = integers(self._revised_labels.get_column(_RANK))
        label_batch = pl.Series(BATCH, batch_of(label_ranks, label_ends, numbers))
        rows = self._revised_rows.with_columns(pl.Series(BATCH, batch)).filter(landed)
        again = pl.col(_CONTENT).eq(pl.col(_CONTENT).shift().over(ID, order_by=_RANK))
        rows = rows.filter(~again.fill_null(False)).drop(_RANK, _NEXT, _CONTENT)
        labels = self._revised_labels.drop(_RANK).with_columns(label_batch)
        return rows, labels.filter(pl.col(BATCH) != NEVER)


def batch_of(ranks: Integers, ends: Integers, numbers: Integers) -> Integers:
    """Return the batch that each rank landed in; ``NEVER`` where it has not landed."""
    return np.append(numbers, NEVER)[np.searchsorted(ends, ranks, side="right")]


def _by_arrival(rows: pl.DataFrame) -> pl.DataFrame:
    if not {ID, TIME, ARRIVED_AT} <= set(rows.columns):
        raise ConfigError(f"expected a history with _id, _time and _arrived_at, got {rows.columns}")
    rows = rows.with_columns(pl.col(TIME, ARRIVED_AT).cast(UTC_MICROSECONDS))
    times = integers(rows.get_column(TIME))
    at_once = np.array_equal(integers(rows.get_column(ARRIVED_AT)), times)
    if at_once and ascends(times, rows.get_column(ID)):
        return rows
    return rows.sort(ARRIVED_AT, TIME, ID, maintain_order=True)


def _by_time(arrived: pl.DataFrame) -> tuple[pl.DataFrame, Integers | None, Integers | None]:
    if ascends(integers(arrived.get_column(TIME)), arrived.get_column(ID)):
        return arrived, None, None
    ranked = arrived.with_columns(pl.int_range(pl.len()).alias(_RANK)).sort(TIME, ID, _RANK)
    rank = integers(ranked.get_column(_RANK))
    order = np.empty_like(rank)
    order[rank] = np.arange(rank.size)
    return ranked.drop(_RANK), order, rank


def _without_repeats(rows: pl.DataFrame) -> pl.DataFrame:
    content = pl.Series(_CONTENT, row_hashes(rows, [TIME, *carried(rows.columns)]))
    before = pl.col(_CONTENT).shift().over(ID)
    return rows.with_columns(content).filter(pl.col(_CONTENT).ne_missing(before)).drop(_CONTENT)


def _by_knowledge(labels: pl.DataFrame, dtype: pl.DataType) -> pl.DataFrame:
    """Return labels in the order they became known, without those that say nothing new."""
    if labels.is_empty():
        empty = {ID: dtype, LABEL: labels.schema.get(LABEL, pl.Null()), TIME: UTC_MICROSECONDS}
        return pl.DataFrame(schema={**empty, KNOWN_AT: UTC_MICROSECONDS})
    labels = storable(labels.select(ID, LABEL, TIME, KNOWN_AT)).drop_nulls([ID, LABEL, KNOWN_AT])
    labels = labels.with_columns(
        pl.col(ID).cast(dtype), pl.col(TIME, KNOWN_AT).cast(UTC_MICROSECONDS)
    )
    if not ascends(integers(labels.get_column(KNOWN_AT)), labels.get_column(ID)):
        labels = labels.sort(KNOWN_AT, ID, maintain_order=True)
    if labels.get_column(ID).n_unique() == labels.height:
        return labels
    labels = labels.unique([ID, KNOWN_AT], keep="last", maintain_order=True)
    return labels.filter(pl.col(LABEL).ne_missing(pl.col(LABEL).shift().over(ID)))
