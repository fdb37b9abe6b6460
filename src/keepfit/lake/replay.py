"""A lake over a history: what a backtest lands in, shared by several policies."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.batch import (
    ARRIVED_AT,
    BATCH,
    CARRIED,
    ID,
    KNOWN_AT,
    LABEL,
    SCORE,
    TIME,
    VERSION,
    Batch,
    Roles,
)
from keepfit.errors import ConfigError, VersionUnknown
from keepfit.lake.door import Landed

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.lake.door import Lake
    from keepfit.lake.history import History, Span
    from keepfit.protocols import Source


class Replay:
    """A history that several policies live through, each with a lake of its own.

    The rows are held once; a policy's lake keeps slices and its own predictions. Rows are
    handed out once they had arrived, labels once they were known.

    Parameters
    ----------
    history
        What ``Source.history`` returns.
    roles
        What the columns were in the source, for those who ask the replayed source.
    """

    def __init__(self, history: Batch, *, roles: Roles | None = None) -> None:
        from keepfit.lake.history import History

        self._roles = roles or Roles(time=TIME, id=ID, label=LABEL)
        self._batch = history
        self._history = History(history)

    def __repr__(self) -> str:
        return f"Replay({self._history.rows.height:,} rows, {self._history.labels.height:,} labels)"

    def source(self, every: timedelta | None = None) -> Source:
        """Return a source that hands out what had arrived at the moment of each read.

        Without ``every`` one read brings everything unread; with it at most one cadence,
        so that a clock that jumped is caught up in order.
        """
        return _ReplaySource(self._batch, self._history, self._roles, every)

    def lake(self) -> Lake:
        """Return an empty lake for one policy."""
        return _ReplayLake(self._history)


class _ReplaySource:
    """A history as a source: the clock decides what has arrived."""

    def __init__(
        self, batch: Batch, history: History, roles: Roles, every: timedelta | None
    ) -> None:
        self._batch, self._history, self._roles, self._every = batch, history, roles, every

    @property
    def roles(self) -> Roles:
        """Which columns play which part."""
        return self._roles

    def read(self, cursor: str | None, *, now: datetime, every: timedelta) -> Batch:
        """Return what is unread and had arrived, or was known, at a moment."""
        from keepfit.lake.types import microseconds

        row, label = _place(cursor)
        limit = microseconds(now)
        key = "read", row, label, limit, self._every
        return self._history.shared(key, lambda: self._read(row, label, limit))

    def _read(self, row: int, label: int, limit: int) -> Batch:
        """Return what lies behind a row and a label, up to a moment."""
        import numpy as np

        from keepfit.lake.history import Span
        from keepfit.lake.types import moment

        history = self._history
        end = min(limit, self._window_end(row, label))
        rows_end = int(np.searchsorted(history.arrivals, end, side="right"))
        labels_end = int(np.searchsorted(history.label_times, end, side="right"))
        span = Span(row, max(row, rows_end), label, max(label, labels_end))
        unread = (span.rows_end, span.labels_end) != (row, label)
        return Batch(
            rows=history.take(span),
            labels=history.take_labels(span),
            cursor=f"{span.rows_end}:{span.labels_end}",
            watermark=moment(end) if unread else None,
            backlog=unread and self._next(span.rows_end, span.labels_end) <= limit,
        )

    def history(self) -> Batch:
        """Return the whole history."""
        return self._batch

    def _next(self, row: int, label: int) -> int:
        """Return when the first unread row arrived or label became known."""
        from keepfit.lake.aligned import NEVER

        history = self._history
        arrival = history.arrivals[row] if row < history.arrivals.size else NEVER
        known = history.label_times[label] if label < history.label_times.size else NEVER
        return int(min(arrival, known))

    def _window_end(self, row: int, label: int) -> int:
        from keepfit.lake.aligned import NEVER

        following = self._next(row, label)
        if self._every is None or following == NEVER:
            return int(NEVER)
        length = self._every // timedelta(microseconds=1)
        origin = self._next(0, 0)
        return origin + max(1, -(-(following - origin) // length)) * length


class _ReplayLake:
    """One policy's view of a shared history: its batches and its predictions."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._landed: dict[int, Landed] = {}
        self._spans: dict[int, Span] = {}
        self._predictions: dict[int, pl.DataFrame] = {}
        self._asked: tuple[int, pl.DataFrame] | None = None
        """The batch that was asked for last: each part of a step asks for the newest."""
        self._said: tuple[int, datetime, pl.DataFrame] | None = None
        """The batch whose predictions and labels were asked for last, and the moment."""
        self._numbered: tuple[int, pl.Series] | None = None
        """The newest batch and `_all_numbers` up to it: each question of labelled rows asks for it."""

    def land(self, batch: Batch, number: int, *, source: str = "rows") -> Landed:
        """Keep a batch under a number; see `Lake.land`.

        Raises
        ------
        ConfigError
            The batch is not the one that follows what has landed.
        """
        if number in self._landed:
            return self._landed[number]
        last = self.last()
        span = self._following(batch.cursor, last)
        if number <= last or batch.rows.height > span.rows_end - span.rows:
            raise ConfigError(
                f"expected the batch after {last}, got {number} up to {batch.cursor!r}"
            )
        before = self._landed.get(last)
        self._spans[number], self._said = span, None
        sizes = batch.rows.height, batch.labels.height
        reached = batch.watermark, None if before is None else before.watermark
        self._landed[number] = self._history.shared(
            ("landed", number, span, batch.cursor, sizes, reached),
            lambda: self._describe(batch, number, span, before),
        )
        return self._landed[number]

    def _following(self, cursor: str, last: int) -> Span:
        from keepfit.lake.history import Span

        before = self._spans.get(last, Span())
        row, label = _place(cursor)
        return Span(before.rows_end, row, before.labels_end, label)

    def _describe(self, batch: Batch, number: int, span: Span, before: Landed | None) -> Landed:
        return Landed(
            number=number,
            rows=batch.rows.height,
            labels=batch.labels.height,
            cursor=batch.cursor,
            digest=self._history.digest(span),
            **self._history.again(span),
            watermark=batch.watermark,
        ).placed(batch.rows, before)

    def landed(self, number: int) -> Landed | None:
        """Return what landed under a number, or None."""
        return self._landed.get(number)

    def last(self) -> int:
        """Return the highest number that has landed; 0 when none has."""
        return next(reversed(self._landed), 0)

    def batches(self) -> list[int]:
        """Return the numbers that have landed, in order."""
        return list(self._landed)

    def batch(self, number: int) -> pl.DataFrame:
        """Return the rows that landed under a number, sorted by time and id.

        Raises
        ------
        VersionUnknown
            No batch has this number.
        """
        span, history = self._span(number), self._history
        if self._asked is None or self._asked[0] != number:
            rows = history.shared(("batch", number, span), lambda: batch_in(history, span, number))
            self._asked = number, rows
        return self._asked[1]

    def predict_land(self, number: int, frame: pl.DataFrame) -> None:
        """Keep the predictions for a batch, once.

        Raises
        ------
        VersionUnknown
            No batch has this number.
        """
        self._span(number)
        self._said = None
        if not frame.is_empty():
            own = [ID, VERSION, SCORE]
            self._predictions.setdefault(number, frame if frame.columns == own else frame[own])

    def scored(self, number: int, as_of: datetime) -> pl.DataFrame:
        """Return a batch with its predictions and the labels known at a moment."""
        if self._said is None or self._said[:2] != (number, as_of):
            rows = self._with_labels(number, as_of)
            self._said = number, as_of, with_predictions(rows, self._predictions.get(number))
        return self._said[2]

    def _with_labels(self, number: int, as_of: datetime) -> pl.DataFrame:
        import polars as pl

        from keepfit.lake.types import microseconds

        history, span = self._history, self._span(number)
        places = history.places(span)
        known = (history.known[places] <= microseconds(as_of)) & (
            history.label_rank[places] < self._spans[self.last()].labels_end
        )
        hidden = history.shared(("known", span), lambda: history.take_known(span))
        if not known.all():
            hidden = hidden.with_columns(pl.when(pl.Series(known)).then(pl.col(LABEL)).alias(LABEL))
        return hidden if history.plain is None else self._revise(hidden, as_of)

    def _revise(self, rows: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
        """Put newer labels in the place of first ones."""
        import polars as pl

        from keepfit.lake.asof import newest

        _, labels = self._revised(None)
        known = newest(labels.filter(pl.col(KNOWN_AT) <= as_of), KNOWN_AT)
        newer = known.select(ID, pl.col(LABEL).alias("_newer"))
        joined = rows.join(newer, on=ID, how="left", maintain_order="left")
        return joined.select(ID, TIME, pl.coalesce("_newer", LABEL).alias(LABEL))

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
        low, high, keep = self._choose(as_of, until_batch, excluded, after, before)
        revised = self._resolve(as_of, until_batch, excluded, after, before)
        return self._history.chosen(low, high, keep, self._numbers(low, high), revised)

    def count_labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> int:
        """Return how many rows ``labelled`` would return."""
        _, _, keep = self._choose(as_of, until_batch, excluded, after, before)
        revised = self._resolve(as_of, until_batch, excluded, after, before)
        return int(keep.sum()) + (0 if revised is None else revised.height)

    def labels(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime,
    ) -> pl.DataFrame:
        """Return when the labels of the newest rows became known; see `Lake.labels`."""
        import polars as pl

        low, high, keep = self._landed_rows(as_of, until_batch, excluded, after, None)
        unknown = ~self._known_labels(low, high, as_of, until_batch, excluded)
        history = self._history
        known = pl.Series(KNOWN_AT, history.known[low:high]).scatter(unknown.nonzero()[0], None)
        own = [name for name in CARRIED if name in history.training.columns]
        rows = history.training.slice(low, high - low).select(ID, TIME, LABEL, *own)
        arrived = history.rows.get_column(ARRIVED_AT).slice(low, high - low)
        rows = rows.with_columns(arrived, known.cast(arrived.dtype))
        if unknown.any():
            hidden = pl.when(pl.col(KNOWN_AT).is_not_null()).then(LABEL).alias(LABEL)
            rows = rows.with_columns(hidden)
        if not keep.all():
            rows = rows.filter(pl.Series(keep))
        rows = rows.select(ID, TIME, ARRIVED_AT, LABEL, KNOWN_AT, *own)
        return rows if history.once else rows.unique(ID, keep="first", maintain_order=True)

    def problems(self) -> list[str]:
        """Return what is wrong: a lake in memory has nothing to lose."""
        return []

    def _span(self, number: int) -> Span:
        if number not in self._spans:
            raise VersionUnknown(
                f"no batch {number} has landed", hint=f"the batches are 1 to {self.last()}"
            )
        return self._spans[number]

    def _choose(
        self,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> tuple[int, int, np.ndarray]:
        """Return a range of rows and which of them are wanted, among those never revised."""
        low, high, keep = self._landed_rows(as_of, until_batch, excluded, after, before)
        keep &= self._known_labels(low, high, as_of, until_batch, excluded)
        if self._history.plain is not None:
            keep &= self._history.plain[low:high]
        return low, high, keep

    def _landed_rows(
        self,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> tuple[int, int, np.ndarray]:
        """Return a range of rows and which of them had arrived, in batches that take part."""
        import numpy as np

        from keepfit.lake.aligned import right
        from keepfit.lake.history import Span
        from keepfit.lake.types import microseconds

        history = self._history
        until = self._spans.get(self._until(until_batch), Span())
        low, high = history.range(after, before)
        if history.rank is None:
            high = min(high, until.rows_end, right(history.arrivals, as_of))
            low = min(low, high)
            ranks, keep = np.arange(low, high), np.ones(high - low, dtype=bool)
        else:
            ranks = history.rank[low:high]
            keep = (ranks < until.rows_end) & (history.arrived[low:high] <= microseconds(as_of))
        for number in excluded:
            out = self._spans.get(number, Span())
            keep &= (ranks < out.rows) | (ranks >= out.rows_end)
        return low, high, keep

    def _known_labels(
        self, low: int, high: int, as_of: datetime, until_batch: int, excluded: Collection[int]
    ) -> np.ndarray:
        """Return which rows of a range had their first label, from batches that take part."""
        from keepfit.lake.history import Span
        from keepfit.lake.types import microseconds

        history = self._history
        until = self._spans.get(self._until(until_batch), Span())
        labels = history.label_rank[low:high]
        known: np.ndarray = history.known[low:high] <= microseconds(as_of)
        known &= labels < until.labels_end
        for number in excluded:
            out = self._spans.get(number, Span())
            known &= (labels < out.labels) | (labels >= out.labels_end)
        return known

    def _until(self, number: int) -> int:
        """Return the newest batch not newer than a number; 0 when there is none."""
        if number in self._spans:
            return number
        return max((known for known in self._spans if known <= number), default=0)

    def _numbers(self, low: int, high: int) -> pl.Series:
        """Return the batch of each row in a range of places."""
        last = self.last()
        if self._numbered is None or self._numbered[0] != last:
            self._numbered = last, self._all_numbers()
        return self._numbered[1].slice(low, high - low)

    def _all_numbers(self) -> pl.Series:
        """Return the batch of each row, in order of time and id; of what has not landed any."""
        import numpy as np
        import polars as pl

        from keepfit.lake.history import batch_of

        spans = self._spans.values()
        numbers = np.array(list(self._spans), dtype=np.int64)
        ends = np.array([span.rows_end for span in spans], dtype=np.int64)
        if self._history.rank is not None:
            return pl.Series(BATCH, batch_of(self._history.rank, ends, numbers))
        return pl.Series(BATCH, np.repeat(numbers, np.diff(ends, prepend=0)))

    def _revised(self, after: datetime | None) -> tuple[pl.DataFrame, pl.DataFrame]:
        import numpy as np
        import polars as pl

        spans = self._spans.values()
        rows, labels = self._history.versions(
            np.array([span.rows_end for span in spans], dtype=np.int64),
            np.array([span.labels_end for span in spans], dtype=np.int64),
            np.array(list(self._spans), dtype=np.int64),
        )
        if after is not None:
            newer = rows.filter(pl.col(TIME) > after).select(ID).unique()
            rows = rows.join(newer, on=ID, how="semi", maintain_order="left")
        return rows, labels

    def _resolve(
        self,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> pl.DataFrame | None:
        """Return the wanted rows among those revised, or None when nothing ever was."""
        if self._history.plain is None:
            return None
        from keepfit.lake.asof import resolve

        rows, labels = self._revised(after)
        return resolve(
            rows,
            labels,
            as_of=as_of,
            until_batch=until_batch,
            excluded=excluded,
            after=after,
            before=before,
        )


def batch_in(history: History, span: Span, number: int) -> pl.DataFrame:
    """Return the rows of a span as a batch of a number."""
    import numpy as np
    import polars as pl

    rows = history.take(span)
    own = pl.Series(BATCH, np.full(rows.height, number, dtype=np.int64))
    return rows.hstack([own])[[ID, TIME, ARRIVED_AT, BATCH, *history.features]]


def with_predictions(rows: pl.DataFrame, predictions: pl.DataFrame | None) -> pl.DataFrame:
    """Return rows with their version and score, null where nothing was predicted."""
    import polars as pl

    named = {column.name: column for column in rows.get_columns()}
    if predictions is None:
        none = [None] * rows.height
        named[VERSION] = pl.Series(VERSION, none, pl.String)
        named[SCORE] = pl.Series(SCORE, none, pl.Float64)
    elif predictions.get_column(ID).equals(named[ID]):
        named |= {name: predictions.get_column(name) for name in (VERSION, SCORE)}
    else:
        joined = rows.join(predictions, on=ID, how="left", maintain_order="left")
        named = {column.name: column for column in joined.get_columns()}
    own = [name for name in CARRIED if name in named]
    return pl.DataFrame([named[name] for name in (ID, TIME, VERSION, SCORE, LABEL, *own)])


def _place(cursor: str | None) -> tuple[int, int]:
    row, _, label = (cursor or "0:0").partition(":")
    try:
        return int(row), int(label)
    except ValueError:
        raise ConfigError(f"expected the cursor of a replayed history, got {cursor!r}") from None
