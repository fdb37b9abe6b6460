"""Rows from wherever they are: a table in memory, or parts of what may be larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError

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
        It is none of them.
    """
    import polars as pl

    if isinstance(rows, pl.DataFrame):
        return rows
    if hasattr(rows, "iloc"):
        return pl.from_pandas(rows)
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
    """
    import polars as pl

    if not isinstance(rows, pl.LazyFrame | str | Path | os.PathLike):
        yield from map(as_frame, rows)
        return
    lazy = rows if isinstance(rows, pl.LazyFrame) else _scanned(str(rows))
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
    if remote or os.path.isdir(os.path.join(path, "_delta_log")):
        if not path.endswith(".parquet"):
            return pl.scan_delta(path)
    elif os.path.isdir(path):
        path = os.path.join(path, "**", "*.parquet")
    elif not os.path.exists(path) and not any(sign in path for sign in "*?["):
        raise ConfigError(
            f"expected rows at {path!r}, which is not there",
            hint="name a Parquet file, a folder or glob of them, or a Delta table",
        )
    return pl.scan_parquet(path)


def _iterates(rows: Any) -> bool:
    return hasattr(rows, "__iter__") and not isinstance(rows, dict | bytes)
