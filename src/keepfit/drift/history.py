"""How far blocks of a reference lie from the rest of it: what is usual, before anything drifts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from keepfit.batch import TIME
from keepfit.profile import Column, Profile, floats, kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.drift.rulers import Reading

MOST = 400
"""Blocks that are looked at, the newest ones."""

FILLED = 0.2
"""Share of the usual rows that a block must hold, so that the first and last may be cut."""


def distance(reading: Reading) -> float:
    """Return how far a batch lies from the reference in one column, from 0 to 1; NaN for nothing.

    Kolmogorov-Smirnov for numbers, the total variation distance for categories, and the
    change of the share of missing values where that is more. Each is the greatest gap
    between two shares, so that a block's distance to the rest follows from its distance to
    the whole.
    """
    if not reading.rows or not reading.column.rows:
        return float("nan")
    if reading.gone is not None:
        return 1.0
    found = abs(reading.missing - reading.missing_before)
    if "KS" in reading.values:
        return max(found, reading.values["KS"])
    if reading.expected is not None and reading.got is not None:
        had = reading.expected if reading.plain is None else reading.plain
        return float(abs(reading.got / reading.rows - had).sum() / 2)
    return found


def blocks_of(rows: pl.DataFrame, every: timedelta) -> np.ndarray:
    """Return the number of the block that each row lies in, -1 for none, by event time.

    Blocks are as long as a batch and are counted back from the newest row.
    """
    import numpy as np

    times = rows.get_column(TIME).to_physical().to_numpy()
    if not times.size:
        return np.zeros(0, dtype=np.int64)
    length = max(1, every // timedelta(microseconds=1))
    back = (times.max() - times) // length
    counts = np.bincount(np.minimum(back, MOST))[:MOST]
    full = counts >= max(1.0, FILLED * float(np.median(counts[counts > 0])))
    number = np.full(MOST + 1, -1)
    number[: full.size][full] = np.arange(int(full.sum()))[::-1]
    blocks: np.ndarray = number[np.minimum(back, MOST)]
    return blocks


def history(
    profile: Profile, rows: pl.DataFrame, blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of blocks to the rest of their rows, a row per block, and the sizes."""
    import numpy as np

    inside = blocks >= 0
    where = blocks[inside]
    sizes = np.bincount(where)
    found = [_column(column, rows, inside, where, sizes) for column in profile.columns]
    if not found or not sizes.size:
        return np.zeros((sizes.size, len(found))), sizes
    # Of the whole, the block is a part that pulls it towards itself.
    rest = 1 - sizes / sizes.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.stack(found, axis=1) / rest[:, None]
    return np.where(rest[:, None] > 0, np.minimum(apart, 1.0), np.nan), sizes


def _column(
    column: Column, rows: pl.DataFrame, inside: np.ndarray, where: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Return the distance of each block to all of them together, in one column."""
    import numpy as np

    values = rows.get_column(column.name)
    kind = kind_of(values.dtype)
    if kind in ("number", "time") and column.spread is not None:
        cells, total, there = _of_numbers(column, floats(values)[inside])
        table = _table(cells, where[there], total, sizes.size)
        present = table.sum(axis=1)
        shares = table.cumsum(axis=1) / np.maximum(1, present)[:, None]
        whole = table.sum(axis=0).cumsum() / max(1, present.sum())
        absent = abs(present / sizes - present.sum() / sizes.sum())
        apart: np.ndarray = np.where(present > 0, abs(shares - whole).max(axis=1), 0.0)
        both: np.ndarray = np.maximum(absent, apart)
        return both
    if column.counts:
        codes, total = _of_categories(column, values.filter(inside))
    else:
        codes, total = values.is_null().to_numpy()[inside].astype(np.int64), 2
    table = _table(codes, where, total, sizes.size) / sizes[:, None]
    whole = (table * sizes[:, None]).sum(axis=0) / sizes.sum()
    variation: np.ndarray = abs(table - whole).sum(axis=1) / 2
    return variation


def _table(cells: np.ndarray, where: np.ndarray, total: int, blocks: int) -> np.ndarray:
    import numpy as np

    return np.bincount(where * total + cells, minlength=blocks * total).reshape(blocks, total)


def _of_numbers(column: Column, values: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    """Return the interval between points that each finite value lies in, and which are finite."""
    import numpy as np

    assert column.spread is not None
    there = np.isfinite(values)
    points = column.spread.points
    return np.searchsorted(points, values[there], side="left"), points.size + 1, there


def _of_categories(column: Column, values: pl.Series) -> tuple[np.ndarray, int]:
    """Return the place of each category among those kept; then one for others, one for missing."""
    import polars as pl

    known: Sequence[str] = list(column.counts)
    text = values.cast(pl.String)
    places = text.replace_strict(
        known, list(range(len(known))), default=len(known), return_dtype=pl.Int64
    )
    missing = len(known) + 1
    coded = pl.select(pl.when(text.is_null()).then(missing).otherwise(places)).to_series()
    return coded.to_numpy(), missing + 1
