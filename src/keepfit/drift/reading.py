"""Rows from wherever they are: a table in memory, or parts of what may be larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import iglob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.batch import from_pandas
from keepfit.errors import ConfigError, SourceError

if TYPE_CHECKING:
    import polars as pl

AT_ONCE = 250_000
"""Rows read at once from what may be larger than memory."""


def whole(rows: Any) -> bool:
    """Return whether rows are one table in memory."""
    import polars as pl

    if isinstance(rows, pl.LazyFrame | str | Path | os.PathLike):
        return False
    return hasattr(rows, "columns") or hasattr(rows, "__arrow_c_stream__") or not _iterates(rows)


def as_frame(rows: Any) -> pl.DataFrame:
    """Return a Polars, pandas or Arrow table as a Polars one.

    Raises
    ------
    ConfigError
        It is none of them, or a pandas table with a column of several types.
    """
    import polars as pl

    if isinstance(rows, pl.DataFrame):
        return rows
    if hasattr(rows, "iloc"):
        return from_pandas(rows)
    if hasattr(rows, "__arrow_c_stream__"):
        return pl.DataFrame(rows)
    raise ConfigError(
        f"expected a Polars, pandas or Arrow table, got {type(rows).__name__}",
        hint="files are read by their path: Reference.fit('rows.parquet')",
    )


def in_parts(rows: Any) -> Iterator[pl.DataFrame]:
    """Yield rows part by part: of a LazyFrame, files, a Delta table, or an iterator of tables.

    Raises
    ------
    ConfigError
        There is nothing at the path.
    SourceError
        What is at the path is no Parquet.
    """
    import polars as pl

    if isinstance(rows, pl.LazyFrame):
        yield from _collected(rows)
    elif isinstance(rows, str | Path | os.PathLike):
        try:
            yield from _collected(_scanned(str(rows)))
        except pl.exceptions.PolarsError as error:
            said = str(error).partition("\n")[0]
            raise SourceError(
                f"expected Parquet files at {str(rows)!r}, got: {said}",
                hint="other files are read with Polars: Reference.fit(pl.scan_csv('rows.csv'))",
            ) from None
    else:
        yield from map(as_frame, rows)


def _collected(lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    import polars as pl

    # The engine hands out small batches, of which a description each would cost too much.
    held: list[pl.DataFrame] = []
    for batch in lazy.collect_batches(chunk_size=AT_ONCE, maintain_order=True, lazy=True):
        held.append(batch)
        if sum(one.height for one in held) >= AT_ONCE:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _scanned(path: str) -> pl.LazyFrame:
    import polars as pl

    remote = "://" in path
    delta = remote or os.path.isdir(os.path.join(path, "_delta_log"))
    if delta and not path.endswith(".parquet"):
        return pl.scan_delta(path)
    wanted = os.path.join(path, "**", "*.parquet") if os.path.isdir(path) else path
    if not remote and not os.path.exists(wanted) and not any(iglob(wanted, recursive=True)):
        raise ConfigError(
            f"expected rows at {path!r}, which is not there",
            hint="name a Parquet file, a folder or glob of them, or a Delta table",
        )
    return pl.scan_parquet(wanted)


def _iterates(rows: Any) -> bool:
    return hasattr(rows, "__iter__") and not isinstance(rows, dict | bytes)
