"""What every selection promises, as a check that one of your own can be put to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from keepfit.protocols import Moment, Selection
from keepfit.testing import made

if TYPE_CHECKING:
    import polars as pl


def check_selection(selection: Selection) -> None:
    """Assert that a selection chooses an ordered part of the rows, the same every time.

    Examples
    --------
    >>> from keepfit import selection
    >>> check_selection(selection.Sliding("7d"))

    Raises
    ------
    AssertionError
        The selection breaks a promise; the message says which, and on what rows.
    """
    import polars as pl

    assert isinstance(selection, Selection), f"{selection!r} has no method select()"
    for place, rows in (
        ("200 rows", _labelled(200)),
        ("one row", _labelled(1)),
        ("no rows", _labelled(0)),
    ):
        for since in (
            None,
            made.START - made.DAY,
            made.START + 3 * made.DAY,
            made.START + 99 * made.DAY,
        ):
            where = f"{selection!r} on {place}, trained before to {since}"
            # What serves may have fallen before, within or after the rows.
            moment = Moment(as_of=made.START + 50 * made.DAY, since=since, seed=7, changed=since)
            before = rows.clone()
            chosen = selection.select(rows, moment)
            assert rows.equals(before), f"{where}: the rows were changed"
            assert chosen.schema == rows.schema, f"{where}: other columns or types"
            assert chosen["_id"].is_unique().all(), f"{where}: a row was chosen twice"
            part = rows.filter(pl.col("_id").is_in(chosen["_id"].implode()))
            assert chosen.equals(part), f"{where}: rows added, changed or out of order"
            again = selection.select(rows.clone(), moment)
            assert chosen.equals(again), f"{where}: not the same twice"


def _labelled(count: int) -> pl.DataFrame:
    import polars as pl

    times = pl.Series(
        [made.START + timedelta(hours=i // 3) for i in range(count)], dtype=made.time_type()
    )
    frame = pl.DataFrame({"_id": pl.Series(range(count), dtype=pl.Int64), "_time": times})
    return frame.with_columns(_label=made.numbers(count, 2), x=made.numbers(count, 7))
