"""A lake with one batch more, which is held in memory and never written."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keepfit.batch import ARRIVED_AT, BATCH, CARRIED, ID, KNOWN_AT, LABEL, SCORE, TIME, VERSION
from keepfit.lake.door import Lake, Landed

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch


LOOKED_BACK = 100
"""Batches, newest first, in which the rows of labels that come alone are looked for."""


class Unlanded:
    """What a lake would hold if a batch landed, for looking ahead.

    The batch is taken as it came: rows that the lake holds already are not told from new
    ones. Its labels count for all that is asked of the batch and of those before it.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._landed: Landed | None = None
        self._rows: Any = None
        self._labels: Any = None
        self._predicted: Any = None
        self._waiting: list[tuple[int, pl.DataFrame]] | None = None
        self._relabelled: set[Any] = set()

    def land(self, batch: Batch, number: int, *, source: str = "rows") -> Landed:
        """Hold a batch in memory."""
        import polars as pl

        from keepfit.lake.content import digest
        from keepfit.lake.intake import hashes_of, prepare_labels, prepare_rows
        from keepfit.lake.types import conform, strayed

        last = self.lake.last()
        kept = dict(self.lake.batch(last).schema) if last else {}
        lost, retyped = strayed(batch.rows, kept)
        rows, _ = conform(prepare_rows(batch.rows, number), kept)
        there = set(rows.columns)
        filled = [pl.lit(None, kept[name]).alias(name) for name in kept if name not in there]
        self._rows = rows.with_columns(filled)
        labels = prepare_labels(batch.labels, number).drop_nulls([ID, LABEL, KNOWN_AT])
        # Ids are of one type in the lake, whatever a file has made of them.
        self._labels, _ = conform(labels, {ID: rows.schema[ID]})
        self._landed = Landed(
            number=number,
            rows=rows.height,
            labels=self._labels.height,
            cursor=batch.cursor,
            digest=digest(rows, hashes_of(rows).to_numpy(), self._labels),
            lost=lost,
            retyped=retyped,
            watermark=batch.watermark,
        ).placed(rows, self.lake.landed(last) if last else None, batch.repeated)
        return self._landed

    def landed(self, number: int) -> Landed | None:
        """Return what landed under a number, or None."""
        return self._landed if self._holds(number) else self.lake.landed(number)

    def last(self) -> int:
        """Return the highest number that has wholly landed; 0 when none has."""
        return self.lake.last() if self._landed is None else self._landed.number

    def batches(self) -> list[int]:
        """Return the numbers that have landed, in order."""
        own = [] if self._landed is None else [self._landed.number]
        return [*self.lake.batches(), *own]

    def batch(self, number: int) -> pl.DataFrame:
        """Return the rows of a batch, sorted by time and id."""
        found: pl.DataFrame = self._rows if self._holds(number) else self.lake.batch(number)
        return found

    def predict_land(self, number: int, frame: pl.DataFrame) -> None:
        """Hold the predictions for the batch; those of others are as they were."""
        if self._holds(number):
            self._predicted = frame.select(ID, VERSION, SCORE)

    def scored(self, number: int, as_of: datetime) -> pl.DataFrame:
        """Return a batch with its predictions and the labels known at a moment."""
        import polars as pl

        from keepfit.lake.replay import with_predictions

        if not self._holds(number):
            rows = self.lake.scored(number, as_of)
            if self._labels is None or self._labels.is_empty():
                return rows
            new = self._known(as_of).select(ID, pl.col(LABEL).alias("_new"))
            joined = rows.join(new.cast({ID: rows.schema[ID]}), ID, "left", maintain_order="left")
            label = pl.coalesce(pl.col("_new"), pl.col(LABEL).cast(new.schema["_new"]))
            return joined.with_columns(label.alias(LABEL)).drop("_new")
        own = [name for name in CARRIED if name in self._rows.columns]
        rows = self._rows.select(ID, TIME, *own)
        known = self._known(as_of).select(ID, LABEL)
        labelled = rows.join(known, on=ID, how="left", maintain_order="left")
        return with_predictions(labelled, self._predicted)

    def labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> pl.DataFrame:
        """Return the rows whose label was known at a moment, of the batch among them."""
        import polars as pl

        asked: dict[str, Any] = {"as_of": as_of, "until_batch": until_batch, "excluded": excluded}
        held = self.lake.labelled(**asked, after=after, before=before)
        own = self._own(as_of, until_batch, excluded, after, before)
        if own.is_empty():
            return held
        both = pl.concat([held, own], how="diagonal_relaxed") if held.height else own
        found: pl.DataFrame = both.unique(ID, keep="last", maintain_order=True).sort(TIME, ID)
        return found.rechunk()

    def count_labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> int:
        """Return how many rows `labelled` would return."""
        asked: dict[str, Any] = {"as_of": as_of, "until_batch": until_batch, "excluded": excluded}
        held = self.lake.count_labelled(**asked, after=after, before=before)
        own = self._own(as_of, until_batch, excluded, after, before)
        return held + own.height - len(self._relabelled.intersection(own.get_column(ID)))

    def labels(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime,
    ) -> pl.DataFrame:
        """Return when the labels of the newest rows became known, with those of the batch."""
        import polars as pl

        held = self.lake.labels(
            as_of=as_of, until_batch=until_batch, excluded=excluded, after=after
        )
        if self._landed is None or not self._in(until_batch, excluded):
            return held
        own = [name for name in CARRIED if name in self._rows.columns]
        parts = [held.drop(LABEL, KNOWN_AT), self._rows.select(ID, TIME, ARRIVED_AT, *own)]
        rows = pl.concat(parts, how="diagonal_relaxed").unique(ID, keep="first")
        here = (pl.col(TIME) > after) & (pl.col(ARRIVED_AT) <= as_of)
        rows = rows.filter(here).sort(TIME, ID)
        told = [one.select(ID, LABEL, KNOWN_AT) for one in (held, self._known(as_of))]
        known = pl.concat(told, how="vertical_relaxed").drop_nulls().unique(ID, keep="first")
        found: pl.DataFrame = rows.join(known, on=ID, how="left", maintain_order="left")
        return found.select(ID, TIME, ARRIVED_AT, LABEL, KNOWN_AT, *own)

    def problems(self) -> list[str]:
        """Return what is wrong with what is stored, one sentence each."""
        return self.lake.problems()

    def _holds(self, number: int) -> bool:
        return self._landed is not None and number == self._landed.number

    def _in(self, until_batch: int, excluded: Collection[int]) -> bool:
        """Return whether there is a batch, among those asked for."""
        number = None if self._landed is None else self._landed.number
        return number is not None and number <= until_batch and number not in excluded

    def _own(
        self,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int],
        after: datetime | None,
        before: datetime | None,
    ) -> pl.DataFrame:
        """Return the rows that have their label from the batch: its own, and older ones."""
        import polars as pl

        from keepfit.lake.types import UTC_MICROSECONDS

        none = pl.DataFrame(schema={ID: pl.Int64, TIME: UTC_MICROSECONDS})
        if not self._in(until_batch, excluded):
            return none
        parts = [self._rows, *self._older(excluded)]
        rows = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else self._rows
        own = rows.join(self._known(as_of).select(ID, LABEL), on=ID, how="inner")
        if after is not None:
            own = own.filter(pl.col(TIME) > after)
        if before is not None:
            own = own.filter(pl.col(TIME) <= before)
        found: pl.DataFrame = own.drop(ARRIVED_AT).select(
            ID, TIME, BATCH, LABEL, pl.exclude(ID, TIME, BATCH, LABEL)
        )
        return found

    def _older(self, excluded: Collection[int]) -> list[pl.DataFrame]:
        """Return the rows of earlier batches that labels came for, and note those that had one."""
        import polars as pl

        if self._waiting is None:
            self._waiting = []
            ids = set(self._labels.get_column(ID)) - set(self._rows.get_column(ID))
            for number in reversed(self.lake.batches()[-LOOKED_BACK:] if ids else []):
                rows = self.lake.batch(number)
                rows = rows.filter(pl.col(ID).is_in(list(ids)))
                ids -= set(rows.get_column(ID))
                if rows.height:
                    self._waiting.append((number, rows))
                    had = (
                        self.lake.scored(number, datetime.max.replace(tzinfo=UTC))
                        .drop_nulls(LABEL)
                        .get_column(ID)
                    )
                    self._relabelled |= set(had) & set(rows.get_column(ID))
        return [rows for number, rows in self._waiting if number not in excluded]

    def _known(self, as_of: datetime) -> pl.DataFrame:
        import polars as pl

        from keepfit.lake.asof import newest

        known: pl.DataFrame = newest(self._labels.filter(pl.col(KNOWN_AT) <= as_of), KNOWN_AT)
        return known
