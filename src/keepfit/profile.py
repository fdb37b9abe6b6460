"""What a set of rows looks like: types, shares, ranges and quantiles, small enough to store."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

QUANTILES = 1_001
"""Points of the stored quantile grid: a KS distance read from it is off by at most 1/1000."""

CATEGORIES = 1_000
"""Categories kept per column, the most frequent ones."""


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One column: its type, how much is missing, and how its values lie.

    ``kind`` is ``number``, ``category`` (text, enumerations), ``boolean``, ``time`` or
    ``other``. ``missing`` counts nulls and NaN, ``infinite`` the infinite values.
    ``quantiles`` is an even grid over the finite values of numbers and times
    (microseconds), or all of them where they are fewer; ``counts`` holds the most
    frequent categories; ``distinct`` counts all.
    """

    name: str
    kind: str
    dtype: str
    rows: int
    missing: int = 0
    infinite: int = 0
    distinct: int = 0
    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, ...] = ()
    counts: dict[str, int] = {}

    @property
    def present(self) -> int:
        """How many values are neither missing nor infinite."""
        return self.rows - self.missing - self.infinite

    @property
    def tail(self) -> float:
        """The share of the next rows' categories to expect outside ``counts``.

        Good and Turing's estimate (1953): a row counts as outside when its category would
        not be among ``counts`` had that row not been seen. The plain share of the rows
        outside is too small, because the categories kept are those that luck favoured.
        """
        present = self.rows - self.missing
        if not present or not self.counts:
            return 0.0
        least = min(self.counts.values()) if self.distinct > len(self.counts) else 1
        kept = sum(self.counts.values())
        on_the_edge = sum(count for count in self.counts.values() if count == least)
        return (present - kept + on_the_edge) / present

    @cached_property
    def grid(self) -> np.ndarray:
        """The quantiles as an array."""
        import numpy as np

        return np.array(self.quantiles, dtype=np.float64)

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points of the grid, once each, with the shares of values below and up to them."""
        import numpy as np

        places = _places(self.present)
        points, first, repeats = np.unique(self.grid, return_index=True, return_counts=True)
        below = places[first] / self.present
        upto = (places[first + repeats - 1] + 1) / self.present
        return points, below, upto

    def distance(self, ordered: np.ndarray) -> float:
        """Return the Kolmogorov-Smirnov distance to other finite values, in rising order.

        Both sides of every grid point are compared, so that ties and point masses count
        in full. Without values on either side the distance is 0.
        """
        import numpy as np

        if not self.quantiles or not ordered.size:
            return 0.0
        points, below, upto = self._steps
        left = np.searchsorted(ordered, points, side="left") / ordered.size
        right = np.searchsorted(ordered, points, side="right") / ordered.size
        return float(max(np.abs(left - below).max(), np.abs(right - upto).max()))


class Profile(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Columns of a set of rows, in their order.

    Examples
    --------
    >>> import polars as pl
    >>> profile = Profile.of(pl.DataFrame({"age": [31, 45, None]}))
    >>> profile.column("age").missing, profile.column("age").high
    (1, 45.0)
    """

    rows: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Profile:
        """Describe the features of rows; keepfit's own columns are left out."""
        from keepfit.batch import RESERVED

        return cls(
            rows=rows.height,
            columns=tuple(_column(rows.get_column(n)) for n in rows.columns if n not in RESERVED),
        )

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> Column | None:
        """Return the description of one column, or None."""
        return self._by_name.get(name)

    def dumps(self) -> bytes:
        """Return the profile as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Profile:
        """Return the profile that bytes hold."""
        return msgspec.msgpack.decode(content, type=cls)


def kind_of(dtype: pl.DataType) -> str:
    """Return how a column of a type is treated: number, category, boolean, time or other."""
    import polars as pl

    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_temporal():
        return "time"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "category"
    return "other"


def numbers(values: pl.Series) -> np.ndarray:
    """Return the values of a number or time column that are there, as float64.

    Times are microseconds, whatever their unit and zone, so that a profile of dates and
    one of moments agree. Infinite values stay; nulls and NaN are left out.
    """
    import numpy as np
    import polars as pl

    if values.dtype == pl.Decimal:
        values = values.cast(pl.Float64)
    elif values.dtype.is_temporal():
        values = _microseconds(values)
    there = values.to_numpy().astype(np.float64, copy=False)
    absent = np.isnan(there)
    return there[~absent] if absent.any() else there


def _microseconds(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype == pl.Duration:
        return values.dt.total_microseconds()
    if values.dtype == pl.Time:
        return values.to_physical() // 1_000
    return values.dt.epoch("us")


def categories(values: pl.Series) -> dict[str, int]:
    """Return how often each category of a column occurs; nulls are left out."""
    counted = values.value_counts(name=values.name + "#")
    found = zip(counted.to_series(0).to_list(), counted.to_series(1).to_list(), strict=True)
    return {_text(value): count for value, count in found if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _column(values: pl.Series) -> Column:
    kind = kind_of(values.dtype)
    shared: dict[str, Any] = {
        "name": values.name,
        "kind": kind,
        "dtype": str(values.dtype),
        "rows": values.len(),
    }
    if kind in ("number", "time"):
        return _of_numbers(values, shared)
    if kind in ("category", "boolean"):
        return _of_categories(values, shared)
    return Column(**shared, missing=values.null_count())


def _of_numbers(values: pl.Series, shared: dict[str, Any]) -> Column:
    import numpy as np

    there = numbers(values)
    ordered = np.sort(there[np.isfinite(there)])
    missing, infinite = values.len() - there.size, int(there.size - ordered.size)
    if not ordered.size:
        return Column(**shared, missing=missing, infinite=infinite)
    return Column(
        **shared,
        missing=missing,
        infinite=infinite,
        distinct=1 + int(np.count_nonzero(np.diff(ordered))),
        low=float(ordered[0]),
        high=float(ordered[-1]),
        quantiles=tuple(ordered[_places(ordered.size)].tolist()),
    )


def _of_categories(values: pl.Series, shared: dict[str, Any]) -> Column:
    counted = categories(values)
    # The value breaks ties, so that the same rows in another order give the same profile.
    top = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES]
    return Column(**shared, missing=values.null_count(), distinct=len(counted), counts=dict(top))


def _places(size: int) -> np.ndarray:
    import numpy as np

    if size <= QUANTILES:
        return np.arange(size)
    places = np.linspace(0, size - 1, QUANTILES).round()
    return places.astype(np.int64)
