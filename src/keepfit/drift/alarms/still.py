"""Columns that stand still: all of a batch is one value, or missing, and never nearly was before.

No sum of evidence is needed for what chance cannot do. Of a short reference whose blocks lie far
apart, the distance of a constant column is none that would be plain to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keepfit.drift.history import distance
from keepfit.facts import ColumnDrift

if TYPE_CHECKING:
    import polars as pl

    from keepfit.drift.rulers import Reading

USUAL = 0.5
"""The greatest share of one value in any block up to which a batch of nothing else is a change."""

FAR = 0.2
"""The distance below which no batch stands still: of a reference in which no value has more than
half of the rows, half of them lie on the two sides of any one, and a quarter on one side."""

FEW = 16
"""Values that are looked at before the others."""

ROWS = 30
"""Rows from which a batch can be said to stand still."""


def still(
    readings: Sequence[Reading], rows: pl.DataFrame, most: Sequence[tuple[float, float]]
) -> list[ColumnDrift]:
    """Return the columns that stand still in a batch, and did not in any block of a reference.

    Parameters
    ----------
    readings
        The batch beside the reference, by column.
    rows
        The batch.
    most
        By column, the greatest share that one value, and that missing values, had in a block.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit.drift import Reference
    >>> usual = pl.DataFrame({"x": range(100), "y": range(100)})
    >>> batch = usual.with_columns(x=pl.lit(7))
    >>> readings = Reference.fit(usual).read(batch)
    >>> [(one.column, one.method) for one in still(readings, batch, [(0.1, 0.0)] * 2)]
    [('x', 'constant')]
    """
    if rows.height < ROWS:
        return []
    found = []
    for reading, (one, lost) in zip(readings, most, strict=True):
        name = reading.column.name
        if reading.gone is not None or not distance(reading) >= FAR:
            continue
        if not reading.present:
            if lost <= USUAL:
                found.append(ColumnDrift(column=name, method="missing", value=1.0, limit=USUAL))
        elif one <= USUAL and reading.present >= rows.height / 2 and _constant(rows[name]):
            found.append(ColumnDrift(column=name, method="constant", value=1.0, limit=USUAL))
    return found


def _constant(values: pl.Series) -> bool:
    """Return whether all values that are there are one."""
    # A few mostly show that they are not, one by one without a query.
    first = None
    for place in range(0, len(values), -(-len(values) // FEW)):
        (one,) = values.slice(place, 1).to_list()
        if one is None or one != one:  # NaN is not itself
            continue
        if first is not None and one != first:
            return False
        first = one
    return _there(values).n_unique() == 1


def _there(values: pl.Series) -> pl.Series:
    there = values.drop_nulls()
    return there.drop_nans() if there.dtype.is_float() else there
