"""The lake on disk or in an object store: Delta tables, each batch landed exactly once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.batch import BATCH, CARRIED, ID, KNOWN_AT, LABEL, SCORE, TIME, VERSION
from keepfit.errors import ConfigError, VersionUnknown
from keepfit.lake.door import BATCHES, LANDED, Landed
from keepfit.lake.index import absolute, index_path

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.lake.aligned import View
    from keepfit.lake.fresh import Fresh
    from keepfit.lake.index import Index
    from keepfit.lake.intake import NewRows
    from keepfit.lake.recent import Recent
    from keepfit.lake.tables import Table
    from keepfit.lake.upkeep import Upkeep

_VOID = "keepfit-void"
_SCORES = "_scores"
_RECENT = 4
_NAMES = ("rows", "labels", "predictions")


class Delta:
    """A lake of Delta tables in a folder or under a URL.

    ``rows``, ``labels`` and ``predictions`` are only ever appended to, one commit per
    batch, whose number is the table's application transaction; other engines can read all
    three. Beside them lies ``index.db``, a cache of ids that may be deleted.

    Parameters
    ----------
    url
        A folder, or a URL such as ``s3://bucket/churn``.
    storage_options
        What the object store needs, handed to ``deltalake`` and Polars as it is.
    index
        Where the index lies; by default beside tables that are local, else in the user's
        cache folder.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, str] | None = None,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self._url = absolute(os.fspath(url))
        self._options = dict(storage_options or {})
        self._index_path = Path(index) if index is not None else index_path(self._url)
        self._tables: dict[str, Table] = {}
        self._upkeep: Upkeep | None = None
        self._recent: dict[int, pl.DataFrame] = {}
        self._predicted: dict[int, pl.DataFrame] = {}
        self._view: tuple[int, View] | None = None
        self._fresh: Fresh | None = None
        self._newest: Recent | None = None
        self._void: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"Delta({self._url!r})"

    def land(self, batch: Batch, number: int, *, source: str = "rows") -> Landed:
        """Keep a batch under a number, exactly once.

        Labels are committed first, then rows; where a process died in between, the next
        one adds what is missing. What the lake holds already is dropped.

        Raises
        ------
        ConfigError
            The number is below 1, or was passed over.
        SchemaMismatch
            Ids changed their type, or a column has one that cannot be kept.
        LeaseLost
            Another process landed at the same time.
        KeepfitError
            The tables cannot be written to.
        """
        from keepfit.lake.types import strayed

        if number < 1:
            raise ConfigError(f"expected a batch number of 1 or more, got {number}")
        self._refresh()
        last = self._table("rows").number(source)
        if number <= last:
            return self._landed_before(number, last, source)
        lost, retyped = strayed(batch.rows, self._table("rows").schema)
        new = self._new_rows(batch, number)
        labels, corrected, relabelled = self._new_labels(batch, new.rows, number)
        landed = Landed(
            number=number,
            rows=new.rows.height,
            labels=labels.height + self._labels_before(number, source),
            cursor=batch.cursor,
            digest=new.digest(labels),
            duplicates=new.duplicates,
            corrections=new.corrections + corrected,
            revised=new.corrections,
            relabelled=relabelled,
            lost=lost,
            retyped=retyped,
            watermark=batch.watermark,
        ).placed(new.rows, self.landed(last, source=source), batch.repeated)
        self._commit(new, labels, landed, source)
        return landed

    def _labels_before(self, number: int, source: str) -> int:
        """Return how many labels a process that died left under a number."""
        table = self._table("labels")
        if table.number(source) < number:
            return 0
        return table.collect(table.scan(number, number).select(BATCH)).height

    def _commit(self, new: NewRows, labels: pl.DataFrame, landed: Landed, source: str) -> None:
        if labels.height:
            self._commit_labels(labels, landed.number, source)
        self._commit_rows(new.rows, landed, source)
        self._keep_in_index(new, labels, landed, source)
        _remember(self._recent, landed.number, new.rows)
        self._compact()

    def _commit_labels(self, labels: pl.DataFrame, number: int, source: str) -> None:
        self._table("labels").append(labels, app=source, number=number, note={})

    def _commit_rows(self, rows: pl.DataFrame, landed: Landed, source: str) -> None:
        import polars as pl

        # Delta has no type for a column that never held a value: its name goes into the note.
        void = [name for name, dtype in rows.schema.items() if dtype == pl.Null]
        known = {*self._table("rows").schema, *rows.drop(void).columns}
        self._void = tuple(sorted({*self._voids(), *void} - known))
        note = {LANDED + source: _encoded(landed), _VOID: _encoded(self._void)}
        self._table("rows").append(rows.drop(void), app=source, number=landed.number, note=note)

    def _keep_in_index(
        self, new: NewRows, labels: pl.DataFrame, landed: Landed, source: str
    ) -> None:
        from keepfit.lake.intake import label_entries

        with self._ids().committed() as index:
            if labels.height:
                index.add_labels(label_entries(labels), landed.number)
            index.add_rows(new.entries(), landed.number)
            index.keep_landed(source, landed.number, _encoded(landed))

    def _new_rows(self, batch: Batch, number: int) -> NewRows:
        import polars as pl

        from keepfit.lake.intake import new_rows, prepare_rows

        rows = prepare_rows(batch.rows, number)
        if rows.is_empty() and batch.labels.height and not self._table("rows").exists:
            rows = rows.with_columns(pl.col(ID).cast(batch.labels.schema[ID]))
        rows = self._conform("rows", rows)
        versions = self._index().versions(rows.get_column(ID).to_list())
        return new_rows(rows, versions, batch.asked)

    def _new_labels(
        self, batch: Batch, rows: pl.DataFrame, number: int
    ) -> tuple[pl.DataFrame, int, int]:
        from keepfit.lake.intake import held_labels, new_labels, prepare_labels, with_event_times

        if batch.labels.is_empty():
            return batch.labels, 0, 0
        labels = self._conform("labels", prepare_labels(batch.labels, number))
        labels = labels.cast({ID: rows.schema[ID]})
        held = self._index().labels(labels.get_column(ID).unique().to_list())
        fresh, corrected, again = new_labels(
            labels, held_labels(held, dict(labels.schema)), rows.get_column(ID)
        )
        alone = fresh.filter(fresh.get_column(TIME).is_null()).get_column(ID).to_list()
        if alone:
            fresh = with_event_times(fresh, rows, self._index().versions(alone))
        return fresh, corrected, again

    def _conform(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Cast columns to the table's types, and widen those of the table that are too narrow."""
        from keepfit.lake.types import conform

        table = self._table(name)
        conformed, widened = conform(frame, table.schema)
        if widened:
            self._index()
            table.rewrite(widened, self._notes(name))
            self._view = self._fresh = self._newest = None
            self._recent.clear()
            with self._ids().committed():
                pass
        return conformed

    def landed(self, number: int, *, source: str = "rows") -> Landed | None:
        """Return what landed under a number, or None."""
        if self._table("rows").number(source) < number:
            self._refresh()
        body = self._index().landed(source, number)
        return None if body is None else msgspec.json.decode(body, type=Landed)

    def _landed_before(self, number: int, last: int, source: str) -> Landed:
        landed = self.landed(number, source=source)
        if landed is None:
            if self._index().holds(number):
                raise ConfigError(
                    f"expected the batch after {last}, got {number}, which landed so long ago "
                    "that the log no longer describes it"
                )
            raise ConfigError(
                f"expected the batch after {last}, got {number}, which was passed over"
            )
        return landed

    def last(self, *, source: str = "rows") -> int:
        """Return the highest number that has wholly landed; 0 when none has."""
        self._refresh()
        return self._table("rows").number(source)

    def batches(self) -> list[int]:
        """Return the numbers that have landed, in order."""
        self._refresh()
        return self._index().numbers()

    def batch(self, number: int) -> pl.DataFrame:
        """Return the rows that landed under a number, sorted by time and id.

        Raises
        ------
        VersionUnknown
            No batch has this number.
        """
        if number in self._recent:
            return self._completed(self._recent[number])
        self._require(number)
        return self._read_rows(number, number)

    def _require(self, number: int) -> None:
        if self.landed(number) is None and not self._index().holds(number):
            raise VersionUnknown(
                f"no batch {number} has landed in {self._url}",
                hint=f"the newest batch is {self.last()}",
            )

    def _read_rows(self, low: int | None, high: int | None) -> pl.DataFrame:
        from keepfit.lake.aligned import in_order

        table = self._table("rows")
        return self._completed(in_order(table.collect(table.scan(low, high))))

    def _completed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with every column the lake has ever seen."""
        import polars as pl

        kept = self._table("rows").schema
        if dict(rows.schema) == {**kept, **dict.fromkeys(self._voids(), pl.Null())}:
            return rows
        void = [name for name, dtype in rows.schema.items() if dtype == pl.Null]
        rows = rows.drop(void)
        there = set(rows.columns)
        lacking = [pl.lit(None, kept[name]).alias(name) for name in kept if name not in there]
        lacking += [pl.lit(None, pl.Null).alias(name) for name in self._voids()]
        return rows.with_columns(lacking).select(*kept, *self._voids())

    def predict_land(self, number: int, frame: pl.DataFrame) -> None:
        """Keep the predictions for a batch, exactly once.

        Raises
        ------
        VersionUnknown
            No batch has this number.
        LeaseLost
            Another process landed at the same time.
        KeepfitError
            The table cannot be written to.
        """
        import polars as pl

        self._require(number)
        table = self._table("predictions")
        table.refresh()
        newest = table.number("predictions")
        held = number <= newest and table.collect(table.scan(number, number).head(1)).height
        if held or frame.is_empty():
            return
        several = isinstance(frame.schema[SCORE], pl.List)
        scores = pl.List(pl.Float64())
        kept = frame.select(
            pl.col(ID).cast(self._table("rows").schema.get(ID, frame.schema[ID])),
            pl.lit(number, dtype=pl.Int64).alias(BATCH),
            pl.col(VERSION).cast(pl.String),
            pl.lit(None, pl.Float64).alias(SCORE) if several else pl.col(SCORE).cast(pl.Float64),
            (pl.col(SCORE).cast(scores) if several else pl.lit(None, scores)).alias(_SCORES),
        )
        table.append(kept, app="predictions", number=max(number, newest), note={})
        _remember(self._predicted, number, _one_score(kept))

    def scored(self, number: int, as_of: datetime) -> pl.DataFrame:
        """Return a batch with its predictions and the labels known at a moment."""
        import polars as pl

        from keepfit.lake.asof import newest
        from keepfit.lake.intake import held_labels
        from keepfit.lake.replay import with_predictions

        whole = self.batch(number)
        rows = whole.select(ID, TIME, *(name for name in CARRIED if name in whole.columns))
        kept = self._table("labels").schema
        if not kept:
            return with_predictions(
                rows.with_columns(pl.lit(None).alias(LABEL)), self._predictions(number)
            )
        index = self._index()
        held = held_labels(index.labels(rows.get_column(ID).to_list()), kept)
        # Labels whose rows did not land with them, because their writer died, do not count yet.
        landed = (pl.col(KNOWN_AT) <= as_of) & (pl.col(BATCH) <= index.newest("rows"))
        known = newest(held.filter(landed), KNOWN_AT)
        rows = rows.join(known.select(ID, LABEL), on=ID, how="left", maintain_order="left")
        return with_predictions(rows, self._predictions(number))

    def _predictions(self, number: int) -> pl.DataFrame | None:
        if number in self._predicted:
            return self._predicted[number]
        table = self._table("predictions")
        if table.number("predictions") < number:
            table.refresh()
        found = table.collect(table.scan(number, number)) if table.exists else None
        return None if found is None or found.is_empty() else _one_score(found)

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
        return self._full_view().labelled(
            as_of=as_of, until_batch=until_batch, excluded=excluded, after=after, before=before
        )

    def _full_view(self) -> View:
        """Return all rows and labels; read once, then added to."""
        from keepfit.lake.aligned import View, in_order
        from keepfit.lake.types import no_rows, together

        self._refresh()
        upto = self._index().newest("rows") if self._table("rows").exists else 0
        if self._view is None:
            rows = self._read_rows(None, upto) if self._table("rows").exists else no_rows()
            self._view = upto, View(in_order(rows), self._read_labels(1, upto))
        since, view = self._view
        if since < upto:
            rows = in_order(together(view.rows, self._read_rows(since + 1, upto)))
            labels = together(view.labels, self._read_labels(since + 1, upto))
            self._view = upto, View(rows, labels)
        return self._view[1]

    def _read_labels(self, low: int, high: int) -> pl.DataFrame:
        import polars as pl

        from keepfit.lake.types import no_rows

        table = self._table("labels")
        if not table.exists:
            kept = self._table("rows").schema.get(ID, pl.Int64())
            return no_rows().select(pl.col(ID).cast(kept), LABEL, KNOWN_AT, BATCH)
        return table.collect(table.scan(low, high).select(ID, LABEL, KNOWN_AT, BATCH))

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
        from keepfit.lake.fresh import Fresh

        self._refresh()
        if not self._table("rows").exists:
            return 0
        index, held = self._index(), self._fresh
        earlier = held is None or (held.after is not None and (after is None or after < held.after))
        if held is None or earlier:
            held = self._fresh = Fresh(self._table("rows"), self._table("labels"), index, after)
        asked: dict[str, Any] = {"as_of": as_of, "until_batch": until_batch, "excluded": excluded}
        return held.count(**asked, after=after, before=before)

    def labels(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime,
    ) -> pl.DataFrame:
        """Return when the labels of the newest rows became known; see `Lake.labels`."""
        from keepfit.lake.recent import Recent

        self._refresh()
        if self._newest is None:
            self._newest = Recent(self._table("rows"), self._table("labels"), self._index)
        return self._newest.labels(
            as_of=as_of, until_batch=until_batch, excluded=excluded, after=after
        )

    def problems(self) -> list[str]:
        """Return what is wrong with what is stored, one sentence each."""
        self._refresh()
        found = [problem for name in _NAMES for problem in self._table(name).problems()]
        index, last = self._index(), self._index().newest("rows")
        if index.newest("labels") > last:
            found.append(
                f"batch {index.newest('labels')} has landed its labels and not its rows: "
                "the next run of the pipeline adds them"
            )
        return found

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            from keepfit.lake.tables import Table

            stats = (BATCH,) if name == "predictions" else (BATCH, TIME)
            self._tables[name] = Table(f"{self._url}/{name}", self._options, stats)
            self._tables[name].refresh()
        return self._tables[name]

    def _refresh(self) -> None:
        for name in ("labels", "rows"):
            self._table(name).refresh()

    def _index(self) -> Index:
        """Return the index, brought up to date with the tables."""
        return self._ids().index()

    def _ids(self) -> Upkeep:
        if self._upkeep is None:
            from keepfit.lake.upkeep import Upkeep

            self._upkeep = Upkeep(self._index_path, self._table("rows"), self._table("labels"))
        return self._upkeep

    def _voids(self) -> tuple[str, ...]:
        """Return the columns that never held a value."""
        if self._void is None:
            notes = self._table("rows").notes(_VOID, limit=20)
            self._void = next((tuple(msgspec.json.decode(body)) for _, body in notes), ())
        return self._void

    def _notes(self, name: str) -> dict[str, str]:
        """Return the newest notes, for commits that land nothing: the log forgets old commits."""
        if name != "rows":
            return {}
        from keepfit.lake.upkeep import folded

        notes = {_VOID: _encoded(self._voids()), BATCHES: folded(self._index().noted())}
        notes.update(next(([note] for note in self._table(name).notes(LANDED, limit=20)), []))
        return notes

    def _compact(self) -> None:
        due = [name for name in _NAMES if self._table(name).compact(partial(self._notes, name))]
        if due:
            with self._ids().committed():
                pass


def _remember(held: dict[int, pl.DataFrame], number: int, frame: pl.DataFrame) -> None:
    """Keep what the next questions are about; the older is read from the table."""
    held[number] = frame
    for old in sorted(held)[:-_RECENT]:
        del held[old]


def _one_score(predictions: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with one column of scores: numbers, or lists where there are classes."""
    several = predictions.get_column(_SCORES)
    # Rows that a model could not answer have no score of either form.
    score = several.alias(SCORE) if several.count() else predictions.get_column(SCORE)
    return predictions.select(ID, VERSION, score)


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()
