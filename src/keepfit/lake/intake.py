"""What of a batch is new to a lake: repeats dropped, corrections told apart.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from keepfit.batch import ARRIVED_AT, BATCH, CARRIED, ID, KNOWN_AT, LABEL, TIME
from keepfit.lake.asof import newest
from keepfit.lake.content import digest, row_hashes
from keepfit.lake.index import Row
from keepfit.lake.types import UTC_MICROSECONDS, storable

_LAST = "_last"
_FROM = "_from"
OWN = (ID, TIME, ARRIVED_AT, BATCH)
"""The columns of the lake's rows that are no features."""


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows the lake did not hold: ``rows`` with their ``hashes``, and what was left out."""

    rows: pl.DataFrame
    hashes: pl.Series
    duplicates: int = 0
    corrections: int = 0

    def entries(self) -> list[Row]:
        """Return what the index keeps of the rows."""
        return row_entries(self.rows, self.hashes)

    def digest(self, labels: pl.DataFrame) -> str:
        """Return a digest of the rows and of labels that came with them."""
        return digest(self.rows, self.hashes.to_numpy(), labels)


def prepare_rows(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    """Return rows as the lake keeps them: own columns first, each id once, in order."""
    features = [name for name in rows.columns if name not in OWN]
    own = pl.lit(number, dtype=pl.Int64).alias(BATCH)
    kept = storable(rows.select(ID, TIME, ARRIVED_AT, own, *features))
    if kept.get_column(ID).n_unique() < kept.height:
        kept = kept.unique(ID, keep="last", maintain_order=True)
    return kept.sort(TIME, ID)


def new_rows(
    rows: pl.DataFrame, versions: Sequence[Row], asked: frozenset[int | str] = frozenset()
) -> NewRows:
    """Compare rows with the newest version of each that the lake holds.

    One of which only an answer was asked changes nothing: whoever may ask may not write history.
    """
    hashes = hashes_of(rows)
    if not versions:
        return NewRows(rows, hashes)
    held = newest(held_rows(versions, rows.schema[ID]), ARRIVED_AT).select(ID, _LAST)
    joined = rows.select(ID).join(held, on=ID, how="left", maintain_order="left")
    content = joined.get_column(_LAST)
    repeated = hashes.eq_missing(content)
    if asked:
        only_asked = pl.Series(list(asked), dtype=rows.schema[ID]).implode()
        repeated |= content.is_not_null() & rows.get_column(ID).is_in(only_asked)
    corrected = content.is_not_null() & ~repeated
    return NewRows(
        rows.filter(~repeated),
        hashes.filter(~repeated),
        duplicates=int(repeated.sum()),
        corrections=int(corrected.sum()),
    )


def hashes_of(rows: pl.DataFrame) -> pl.Series:
    """Return the hash of each row's event time and features.

    Whether a row was let through is no part of it: its source tells of the row again without.
    """
    features = [name for name in rows.columns if name not in (*OWN, *CARRIED)]
    return pl.Series(row_hashes(rows, [TIME, *features])).reinterpret(signed=True)


def row_entries(rows: pl.DataFrame, hashes: pl.Series) -> list[Row]:
    """Return ``(id, batch, hash, time, arrived)`` of rows, in the order of the index."""
    times = pl.col(TIME, ARRIVED_AT).to_physical()
    return rows.select(ID, BATCH, hashes.alias(_LAST), times).sort(ID).rows()


def held_rows(versions: Sequence[Row], dtype: pl.DataType) -> pl.DataFrame:
    """Return what the index knows of rows."""
    numbers = dict.fromkeys((BATCH, _LAST, TIME, ARRIVED_AT), pl.Int64())
    found = pl.DataFrame(versions, schema={ID: dtype, **numbers}, orient="row")
    return found.with_columns(pl.col(TIME, ARRIVED_AT).cast(UTC_MICROSECONDS))


def prepare_labels(labels: pl.DataFrame, number: int) -> pl.DataFrame:
    """Return labels as the lake keeps them."""
    own = pl.lit(number, dtype=pl.Int64).alias(BATCH)
    times = pl.col(TIME, KNOWN_AT).cast(UTC_MICROSECONDS)
    return storable(labels.select(ID, LABEL, times, own)).select(ID, LABEL, TIME, KNOWN_AT, BATCH)


def new_labels(
    labels: pl.DataFrame, held: pl.DataFrame, with_rows: pl.Series
) -> tuple[pl.DataFrame, int, int]:
    """Return the labels that say something new, how many correct one, and how many follow one.

    A label that repeats the newest one is dropped, unless its row lands with it: the
    earlier one may be in a batch that is quarantined. One that the same batch left, when
    its writer died before the rows, is dropped always.
    """
    labels = labels.drop_nulls([ID, LABEL, KNOWN_AT]).sort(KNOWN_AT, ID, maintain_order=True)
    if labels.get_column(ID).n_unique() < labels.height:
        labels = labels.unique([ID, KNOWN_AT], keep="last", maintain_order=True)
        labels = labels.filter(pl.col(LABEL).ne_missing(pl.col(LABEL).shift().over(ID)))
    elif held.is_empty():
        return labels, 0, 0
    kept = newest(held, KNOWN_AT)
    last = kept.select(ID, pl.col(LABEL).alias(_LAST), pl.col(BATCH).alias(_FROM))
    labels = labels.join(last, on=ID, how="left", maintain_order="left")
    first = pl.col(ID).is_first_distinct()
    repeated = first & pl.col(LABEL).eq_missing(pl.col(_LAST))
    elsewhere = pl.col(ID).is_in(with_rows.implode()) & (pl.col(_FROM) != pl.col(BATCH))
    labels = labels.filter(~repeated | elsewhere)
    exact = [ID, KNOWN_AT, LABEL]
    labels = labels.join(held.select(exact), on=exact, how="anti", maintain_order="left")
    corrected = labels.filter(~first | pl.col(_LAST).ne(pl.col(LABEL)))
    again = labels.filter(~first | pl.col(_LAST).is_not_null())
    return labels.drop(_LAST, _FROM), corrected.height, again.height


def label_entries(labels: pl.DataFrame) -> list[Row]:
    """Return ``(id, known, batch, value)`` of labels, in the order of the index."""
    return labels.select(ID, pl.col(KNOWN_AT).to_physical(), BATCH, LABEL).sort(ID).rows()


def held_labels(entries: Sequence[Row], kept: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return what the index knows of labels, in the types of the table."""
    # SQLite has no booleans: they come back as 0 and 1.
    raw = pl.Int64() if kept[LABEL] == pl.Boolean else kept[LABEL]
    schema: dict[str, Any] = {ID: kept[ID], KNOWN_AT: pl.Int64, BATCH: pl.Int64, LABEL: raw}
    found = pl.DataFrame(entries, schema=schema, orient="row")
    return found.with_columns(
        pl.col(KNOWN_AT).cast(UTC_MICROSECONDS), pl.col(LABEL).cast(kept[LABEL])
    )


def held_label_times(entries: Sequence[Row], dtype: pl.DataType) -> pl.DataFrame:
    """Return when the labels in the index became known, and in which batch they came."""
    schema = {ID: dtype, KNOWN_AT: pl.Int64(), BATCH: pl.Int64()}
    found = pl.DataFrame([entry[:3] for entry in entries], schema=schema, orient="row")
    return found.with_columns(pl.col(KNOWN_AT).cast(UTC_MICROSECONDS))


def with_event_times(
    labels: pl.DataFrame, rows: pl.DataFrame, versions: Sequence[Row]
) -> pl.DataFrame:
    """Fill in the event times of labels that came without their row."""
    times = {key: time for key, _, _, time, _ in versions}
    times.update(rows.select(ID, pl.col(TIME).to_physical()).iter_rows())
    found = pl.Series([times.get(key) for key in labels.get_column(ID)], dtype=pl.Int64)
    return labels.with_columns(pl.coalesce(pl.col(TIME), found.cast(UTC_MICROSECONDS)).alias(TIME))
