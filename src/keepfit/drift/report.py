"""What a comparison of rows with a reference found, as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from keepfit.errors import ColumnUnknown, nearest

if TYPE_CHECKING:
    import polars as pl

SHOWN = 3
"""Columns that a sentence names."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How far one column moved: every statistic, and the one that decides with its limit.

    ``statistics`` holds KS, Wasserstein (in the column's own unit), PSI, JensenShannon,
    ChiSquare (Pearson's statistic) and ``unseen`` (the share of rows with a category never
    seen, a number outside the reference's range, or of unknown words), as far as they apply.
    ``missing`` is the share of rows without a value, ``missing_before`` the reference's.
    ``error`` bounds the error of KS that the reference's grid makes.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit import drift
    >>> before, after = pl.DataFrame({"age": range(100)}), pl.DataFrame({"age": range(50, 150)})
    >>> age = drift.compare(before, after)["age"]
    >>> age.drifted, age.statistics["KS"], age.statistics["Wasserstein"]
    (True, 0.5, 50.0)
    """

    column: str
    kind: str
    method: str
    value: float
    limit: float
    statistics: dict[str, float]
    missing: float
    missing_before: float
    infinite: int = 0
    error: float = 0.0

    @property
    def drifted(self) -> bool:
        """Whether the column moved further than the limit."""
        return self.value > self.limit

    @property
    def ratio(self) -> float:
        """How many times its limit the column moved."""
        return self.value / self.limit


@dataclass(frozen=True, repr=False)
class DriftReport:
    """How far rows have moved from a reference, worst column first.

    ``new`` names columns that the reference does not have, and that nothing was compared of.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit import drift
    >>> drift.compare(pl.DataFrame({"plan": ["a", "b"] * 99}), pl.DataFrame({"plan": ["a"] * 99}))
    1 of 1 columns drifted: plan (JensenShannon 0.56, limit 0.34); 99 rows against 198
    """

    rows: int
    reference_rows: int
    columns: tuple[Measured, ...]
    new: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = f"{self.rows:,} rows against {self.reference_rows:,}"
        if not self.columns:
            return f"nothing to compare: {sizes}"
        moved = self.drifted
        named = ", ".join(
            f"{one.column} ({one.method} {one.value:.2f}, limit {one.limit:.2f})"
            for one in moved[:SHOWN]
        )
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        told = f"{len(moved)} of {len(self.columns)} columns drifted"
        new = f"; new: {', '.join(self.new[:SHOWN])}" if self.new else ""
        return f"{told}{': ' + named if moved else ''}{more}; {sizes}{new}"

    def __iter__(self) -> Iterator[Measured]:
        return iter(self.columns)

    def __getitem__(self, column: str) -> Measured:
        for one in self.columns:
            if one.column == column:
                return one
        near = nearest(str(column), [one.column for one in self.columns])
        raise ColumnUnknown(
            f"expected one of {len(self.columns)} columns that were compared, got {column!r}",
            hint=f"the nearest is {near!r}" if near else "`to_frame` shows them all",
        )

    @property
    def drifted(self) -> tuple[Measured, ...]:
        """The columns that moved further than their limit, worst first."""
        return tuple(one for one in self.columns if one.drifted)

    def to_frame(self) -> pl.DataFrame:
        """Return one row per column: the verdict, then every statistic."""
        import polars as pl

        names = list(dict.fromkeys(name for one in self.columns for name in one.statistics))
        verdicts = ("column", "kind", "drifted", "method", "value", "limit", "missing")
        records = [
            {name: getattr(one, name) for name in (*verdicts, "missing_before", "infinite")}
            | {name: one.statistics.get(name) for name in names}
            for one in self.columns
        ]
        return pl.DataFrame(records, infer_schema_length=None)
