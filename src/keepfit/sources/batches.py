"""From normal rows to a batch: what came once, and the labels that came with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.batch import ARRIVED_AT, ID, KNOWN_AT, LABEL, TIME, carried
from keepfit.errors import SchemaMismatch

if TYPE_CHECKING:
    import polars as pl

Named = tuple[str, "pl.DataFrame"]


def joined(parts: Sequence[Named]) -> pl.DataFrame:
    """Return the rows of all pieces, in their order; a type gives way to a wider one.

    Raises
    ------
    SchemaMismatch
        Two pieces have types under one name that no wider one holds.
    """
    import polars as pl

    # An empty part would still lend its columns' types to the rest.
    frames = [rows for _, rows in parts if rows.height] or [rows for _, rows in parts[:1]]
    if len(frames) == 1:
        return frames[0]
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise SchemaMismatch(
            _unlike(parts), hint="write the column in one type, or leave it out of the source"
        ) from error


def _unlike(parts: Iterable[Named]) -> str:
    """Return the first column that two pieces cannot share, in words."""
    import polars as pl

    seen: dict[str, tuple[str, pl.DataFrame]] = {}
    for piece, rows in parts:
        for column in rows.get_columns():
            first, other = seen.setdefault(column.name, (piece, column.to_frame()))
            try:
                pl.concat([other.head(1), column.head(1).to_frame()], how="diagonal_relaxed")
            except pl.exceptions.PolarsError:
                types = f"{other.dtypes[0]} in {first} and {column.dtype} in {piece}"
                return f"column `{column.name}` is {types}, which are not to be joined"
    return "the pieces have columns whose types are not to be joined"


def empty_rows() -> pl.DataFrame:
    """Return no rows, with keepfit's own columns."""
    import polars as pl

    times = dict.fromkeys((TIME, ARRIVED_AT, KNOWN_AT), pl.Datetime("us", "UTC"))
    return pl.DataFrame(schema={ID: pl.Int64, **times, LABEL: pl.Null})


def read_at(rows: pl.DataFrame, now: datetime, delay: timedelta) -> pl.DataFrame:
    """Return rows that arrive now unless they say when, and their labels are known no sooner."""
    import polars as pl

    arrived = pl.col(ARRIVED_AT).fill_null(pl.lit(now).cast(pl.Datetime("us", "UTC")))
    stated = pl.col(KNOWN_AT).fill_null(pl.col(TIME) + delay)
    return rows.with_columns(arrived).with_columns(
        pl.max_horizontal(ARRIVED_AT, stated).alias(KNOWN_AT)
    )


def happened_at(rows: pl.DataFrame, delay: timedelta) -> pl.DataFrame:
    """Return rows that arrived when they happened, and their labels a delay later."""
    import polars as pl

    return rows.with_columns(
        pl.col(ARRIVED_AT).fill_null(pl.col(TIME)),
        pl.col(KNOWN_AT).fill_null(pl.col(TIME) + delay),
    )


def rows_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return what rows are without their labels."""
    return rows.select(ID, TIME, ARRIVED_AT, *carried(rows.columns))


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the labels of rows that have one, each once."""
    labels = rows.select(ID, LABEL, TIME, KNOWN_AT).drop_nulls(LABEL)
    return labels.unique(maintain_order=True)


def once(rows: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return rows each of which comes once; of those that are one, the last to arrive."""
    if rows[ID].n_unique() == rows.height:
        return rows
    arrived = rows.sort(ARRIVED_AT, maintain_order=True)
    return arrived.unique(list(by), keep="last", maintain_order=True)


def repeated(rows: pl.DataFrame) -> int:
    """Return how many rows `once` leaves out although they say something else than the one it keeps.

    What arrived at another time is a correction, and the same row twice is one row.
    """
    import polars as pl

    from keepfit.lake.content import row_hashes

    own = rows.select(ID, ARRIVED_AT)
    again = rows_of(rows.filter(own.is_duplicated()))
    content = pl.Series("content", row_hashes(again, [TIME, *carried(again.columns)]))
    told = again.select(ID, ARRIVED_AT)
    return told.with_columns(content).n_unique() - told.n_unique()
