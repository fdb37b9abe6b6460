"""What one column looks like: its type, what is missing, and how its values lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.profile.counting import counts_at
from keepfit.profile.quantiles import POINTS, Quantiles
from keepfit.profile.selecting import Known, known, sampled
from keepfit.profile.summaries import Summaries
from keepfit.profile.text import Text, is_text

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CATEGORIES = 1_000
"""Categories kept per column, the most frequent ones."""

LONG = 200_000
"""Rows from which numbers are described without sorting all of them."""

BLOCK = 131_072
"""Numbers looked at together in a long column: fewer, and threads wait for each other."""

_TEXTS = 32_768
"""Categories counted together in a long column, which takes memory."""

_FEW = 4_096
"""Categories up to which a long column is counted block by block."""

PARTIAL = 20_000
"""Categories kept in a part that is still to be merged, so that rare ones add up."""


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One column: its type, how much is missing, and how its values lie.

    ``kind`` is ``number``, ``category`` (text, enumerations), ``text`` (free text, whose
    values hardly repeat), ``boolean``, ``time`` or ``other``. ``missing`` counts nulls and
    NaN, ``infinite`` the infinite values. ``spread`` summarises the finite values of
    numbers and times (microseconds); ``counts`` holds the most frequent categories;
    ``distinct`` counts all, or as many as are known to differ when parts were merged or
    numbers are many.
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
    spread: Quantiles | None = None
    counts: dict[str, int] = {}
    text: Text | None = None

    @classmethod
    def of(cls, values: pl.Series, *, partial: bool = False) -> Column:
        """Describe a column; ``partial`` keeps what a later `merge` needs."""
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
            return _of_categories(values, shared, PARTIAL if partial else CATEGORIES)
        return cls(**shared, missing=values.null_count())

    @property
    def present(self) -> int:
        """How many values are neither missing nor infinite."""
        return self.rows - self.missing - self.infinite

    @cached_property
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

    def thinned(self) -> Column:
        """Return the column with every second point of its numbers."""
        if self.spread is None or self.spread.count <= POINTS:
            return self
        return msgspec.structs.replace(self, spread=self.spread.thinned())

    @property
    def grid(self) -> np.ndarray:
        """An even grid of quantiles of numbers and times; all of them where they are few."""
        import numpy as np

        return np.empty(0) if self.spread is None else self.spread.even

    def distance(self, ordered: np.ndarray) -> float:
        """Return the Kolmogorov-Smirnov distance to other finite values, in rising order.

        Ties and point masses count in full. Without values on either side the distance is 0.
        """
        if self.spread is None or not ordered.size:
            return 0.0
        [found] = Summaries([self.spread]).distances(counts_at(self.spread, ordered))
        return found.ks


def merge(parts: Sequence[Column]) -> Column:
    """Return the description of a column of which each part describes some rows.

    Parts of different kinds give ``other``: a column that changes its kind has none.
    """
    filled = [part for part in parts if part.present] or list(parts[-1:])
    first = filled[-1]
    kinds = {"category" if part.kind == "text" else part.kind for part in filled}
    shared: dict[str, Any] = {
        "name": first.name,
        "kind": first.kind if len(kinds) == 1 else "other",
        "dtype": first.dtype,
        "rows": sum(part.rows for part in parts),
        "missing": sum(part.missing for part in parts),
        "infinite": sum(part.infinite for part in parts),
    }
    if shared["kind"] in ("number", "time"):
        return _merged_numbers(filled, shared)
    if shared["kind"] in ("category", "boolean", "text"):
        return _merged_categories(filled, shared)
    return Column(**shared)


def trimmed(column: Column) -> Column:
    """Return a column with no more categories than are kept for good."""
    if len(column.counts) <= CATEGORIES:
        return column
    return msgspec.structs.replace(column, counts=_most(column.counts, CATEGORIES))


@lru_cache(maxsize=256)
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

    there = floats(values)
    absent = np.isnan(there)
    return there[~absent] if absent.any() else there


def floats(values: pl.Series) -> np.ndarray:
    """Return a number or time column as float64, with NaN for what is missing."""
    import numpy as np
    import polars as pl

    if values.dtype == pl.Float64:  # mostly; to ask for less takes less
        return values.to_numpy()
    if values.dtype in (pl.Decimal, pl.Int128, pl.UInt128):
        values = values.cast(pl.Float64)
    elif values.dtype.is_temporal():
        values = _microseconds(values)
    return values.to_numpy().astype(np.float64, copy=False)


def blocks(values: pl.Series) -> Iterator[np.ndarray]:
    """Yield the numbers of a column block by block, so that no copy holds all of them."""
    for start in range(0, values.len(), BLOCK):
        yield floats(values.slice(start, BLOCK))


def ordered(values: pl.Series) -> tuple[np.ndarray, int, int]:
    """Return the finite values in rising order, how many are missing, how many infinite.

    Sorting sets apart what is not finite: NaN comes last, the infinite ones at the ends.
    """
    import numpy as np

    rising = np.sort(floats(values))
    size = rising.size
    if size and np.isfinite(rising[0]) and np.isfinite(rising[-1]):
        return rising, 0, 0
    end = int(np.searchsorted(rising, np.nan, side="left"))
    last = int(np.searchsorted(rising[:end], np.inf, side="left"))
    first = int(np.searchsorted(rising[:last], -np.inf, side="right"))
    return rising[first:last], size - end, end - last + first


def categories(values: pl.Series) -> dict[str, int]:
    """Return how often each category of a column occurs; nulls are left out.

    Block by block as long as they repeat, which takes less memory than all at once.
    """
    import polars as pl

    if values.dtype == pl.String and values.len() <= _TEXTS:
        few = _occurring(values)
        few.pop(None, None)
        return few
    found: Counter[Any] = Counter()
    for start in range(0, values.len(), _TEXTS):
        found.update(_occurring(values.slice(start, _TEXTS)))
        if len(found) > _FEW:
            found = Counter(_occurring(values))
            break
    return {_text(value): count for value, count in found.items() if value is not None}


def _occurring(values: pl.Series) -> dict[Any, int]:
    counted = values.value_counts(name=values.name + "#")
    return dict(zip(counted.to_series(0).to_list(), counted.to_series(1).to_list(), strict=True))


def _microseconds(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype == pl.Duration:
        return values.dt.total_microseconds()
    if values.dtype == pl.Time:
        return values.to_physical() // 1_000
    return values.dt.epoch("us")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_numbers(values: pl.Series, shared: dict[str, Any]) -> Column:
    found = _known(values) if values.len() >= LONG else None
    if found is not None:
        return _of_known(values, found, shared)
    rising, missing, infinite = ordered(values)
    if not rising.size:
        return Column(**shared, missing=missing, infinite=infinite)
    return Column(
        **shared,
        missing=missing,
        infinite=infinite,
        distinct=1 + int((rising[1:] != rising[:-1]).sum()),
        low=float(rising[0]),
        high=float(rising[-1]),
        spread=Quantiles.of(rising),
    )


def _known(values: pl.Series) -> Known | None:
    """Return what is to be known of a long column, by looking where a sample of it lies."""
    return known(floats(values[sampled(values.len())]), lambda: blocks(values))


def _of_known(values: pl.Series, found: Known, shared: dict[str, Any]) -> Column:
    spread, distinct = found
    apart = values.len() - spread.count
    missing = values.null_count() if apart else 0
    if apart and values.dtype.is_float():
        missing += int(values.is_nan().sum())
    return Column(
        **shared,
        missing=missing,
        infinite=apart - missing,
        distinct=distinct,
        low=float(spread.points[0]),
        high=float(spread.points[-1]),
        spread=spread,
    )


def _of_categories(values: pl.Series, shared: dict[str, Any], most: int) -> Column:
    counted = categories(values)
    missing = values.null_count()
    text = Text.of(values) if is_text(values, len(counted), values.len() - missing) else None
    if text is not None:
        shared["kind"] = "text"
        # Values that hardly repeat tell nothing by their counts.
        return Column(**shared, missing=missing, distinct=len(counted), text=text)
    return Column(**shared, missing=missing, distinct=len(counted), counts=_most(counted, most))


def _merged_numbers(parts: Sequence[Column], shared: dict[str, Any]) -> Column:
    spreads = [part.spread for part in parts if part.spread is not None]
    if not spreads:
        return Column(**shared)
    spread = Quantiles.merge(spreads)
    return Column(
        **shared,
        distinct=max(spread.points.size, *(part.distinct for part in parts)),
        low=min(part.low for part in parts if part.low is not None),
        high=max(part.high for part in parts if part.high is not None),
        spread=spread,
    )


def _merged_categories(parts: Sequence[Column], shared: dict[str, Any]) -> Column:
    texts = [part.text for part in parts if part.text is not None]
    if texts:
        # One part with values that hardly repeat makes the whole one of them.
        shared["kind"] = "text"
        return Column(
            **shared, distinct=max(part.distinct for part in parts), text=Text.merge(texts)
        )
    counted: Counter[str] = Counter()
    for part in parts:
        counted.update(part.counts)
    known = max(len(counted), *(part.distinct for part in parts))
    return Column(**shared, distinct=known, counts=_most(counted, PARTIAL))


def _most(counted: dict[str, int], most: int) -> dict[str, int]:
    # The value breaks ties, so that the same rows in another order give the same profile.
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most])
