"""Drift of single columns against a stored reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keepfit.errors import ConfigError
from keepfit.facts import ColumnDrift
from keepfit.parts import Part
from keepfit.profile import Column, Profile, categories, kind_of, numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = ["KS", "Columns", "JensenShannon"]

FLOOR = 0.1
"""The distance below which a movement is not called drift, however many rows show it."""

ALPHA = 0.001
"""The share of batches of an unchanged stream in which any column may be called drifted."""

_PER_BIN = 5.0
"""Rows to expect in each bin of a batch: below it the chi-square approximation breaks."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Univariate(Part):
    """Base of detectors that look at one column at a time.

    Limits add what sampling noise explains at these sizes to the floor, so that a value
    above its limit means a true distance above the floor; all columns share `ALPHA`
    (Bonferroni). Infinite values count as missing. A column that is gone, has another
    kind, or lost all its values has the value 1.

    Parameters
    ----------
    limit
        The distance to call drift, taken as it is; None for the floor of 0.1 plus noise.
    exclude
        Columns to leave out, such as a date that moves by its nature.
    """

    limit: float | None = None
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and not 0.0 < self.limit <= 1.0:
            raise ConfigError(f"{self.name}: expected a limit above 0 up to 1, got {self.limit!r}")
        if isinstance(self.exclude, str):
            raise ConfigError(
                f"{self.name}: expected a list of columns to exclude, got {self.exclude!r}",
                hint=f"write exclude=[{self.exclude!r}]",
            )

    def check(self, reference: Profile, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        """Return one value with its limit per column of the reference, worst first."""
        if not rows.height or not reference.rows:
            return ()
        columns = [column for column in reference.columns if column.name not in self.exclude]
        noise = math.log(2 * max(1, len(columns)) / ALPHA)
        results = [self._column(column, rows, noise) for column in columns]
        return tuple(sorted(results, key=lambda result: (-_ratio(result), result.column)))

    def _column(self, column: Column, rows: pl.DataFrame, noise: float) -> ColumnDrift:
        if column.name not in rows.columns:
            return self._gone(column, "missing")
        values = rows.get_column(column.name)
        all_missing = values.null_count() == values.len()
        kind = kind_of(values.dtype)
        if kind != column.kind and not all_missing and column.present:
            return self._gone(column, "type")
        if not all_missing and kind in ("number", "time"):
            return self._of_numbers(column, numbers(values), values.len(), noise)
        if not all_missing and kind in ("category", "boolean"):
            return _worst(self._of_categories(column, values, noise))
        return self._missing(column, values.len() - values.null_count(), values.len(), noise)

    def _of_numbers(
        self, column: Column, there: np.ndarray, rows: int, noise: float
    ) -> ColumnDrift:
        import numpy as np

        finite = np.isfinite(there)
        found = there if finite.all() else there[finite]
        absence = self._missing(column, found.size, rows, noise)
        if not found.size or not column.present:
            return absence
        return _worst([*self._distance(column, found, rows, noise), absence])

    def _distance(
        self, column: Column, found: np.ndarray, rows: int, noise: float
    ) -> list[ColumnDrift]:
        import numpy as np

        ordered = np.sort(found)
        limit = self.limit or _ks_limit(column.present, found.size, noise)
        return [_drift(column, "KS", column.distance(ordered), limit)]

    def _of_categories(self, column: Column, values: pl.Series, noise: float) -> list[ColumnDrift]:
        expected, got = _category_bins(column, values)
        return [_jensen_shannon(column, expected, got, self.limit, noise)]

    def _missing(self, column: Column, present: int, rows: int, noise: float) -> ColumnDrift:
        """Compare the shares of missing values; a column that lost all its values has 1."""
        absent = 1 - column.present / column.rows if column.rows else 1.0
        value = abs(1 - present / rows - absent)
        if not present and absent < 1 and (absent == 0 or rows * -math.log(absent) > noise):
            return self._gone(column, "missing")
        limit = self.limit or _ks_limit(column.rows, rows, noise)
        return _drift(column, "missing", value, limit)

    def _gone(self, column: Column, method: str) -> ColumnDrift:
        """Say that nothing of the column can be compared; the floor is a limit below 1."""
        return _drift(column, method, 1.0, min(self.limit or FLOOR, 0.999))


@dataclass(frozen=True, repr=False)
class Columns(Univariate):
    """Kolmogorov-Smirnov for numbers and times, Jensen-Shannon for categories and booleans.

    The default detector. The share of missing values is compared beside the distance, and
    the one that is worse for its limit is given.

    Examples
    --------
    >>> import polars as pl
    >>> reference = Profile.of(pl.DataFrame({"age": range(1000)}))
    >>> worst = Columns().check(reference, pl.DataFrame({"age": range(500, 1500)}))[0]
    >>> worst.column, worst.method, round(worst.value, 2), worst.drifted
    ('age', 'KS', 0.5, True)

    References
    ----------
    Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities (2012).
    """


@dataclass(frozen=True, repr=False)
class KS(Univariate):
    """Kolmogorov-Smirnov distance of numbers and times; of other columns what is missing.

    Examples
    --------
    >>> KS(limit=0.2)
    KS(limit=0.2)

    References
    ----------
    Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities (2012).
    """

    def _of_categories(self, column: Column, values: pl.Series, noise: float) -> list[ColumnDrift]:
        present = values.len() - values.null_count()
        return [self._missing(column, present, values.len(), noise)]


@dataclass(frozen=True, repr=False)
class JensenShannon(Univariate):
    """Jensen-Shannon distance (base 2, 0 to 1) of numbers, times, categories and booleans.

    Numbers are counted in bins of equal share of the reference, so that one wild value
    cannot hide the rest; missing values and categories never seen are bins of their own.
    Rare categories share bins, so that sampling noise is not taken for drift.

    Examples
    --------
    >>> import polars as pl
    >>> reference = Profile.of(pl.DataFrame({"plan": ["basic", "plus"] * 500}))
    >>> worst = JensenShannon().check(reference, pl.DataFrame({"plan": ["basic"] * 500}))[0]
    >>> round(worst.value, 2), worst.drifted
    (0.56, True)

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy (1991); Endres and Schindelin, A
    new metric for probability distributions (2003); Laurent and Massart, Adaptive
    estimation of a quadratic functional (2000).
    """

    def _distance(
        self, column: Column, found: np.ndarray, rows: int, noise: float
    ) -> list[ColumnDrift]:
        expected, got = _number_bins(column, found, rows)
        return [_jensen_shannon(column, expected, got, self.limit, noise)]


def _ratio(drift: ColumnDrift) -> float:
    return drift.value / drift.limit


def _worst(results: Sequence[ColumnDrift]) -> ColumnDrift:
    return max(results, key=_ratio)


def _drift(column: Column, method: str, value: float, limit: float) -> ColumnDrift:
    return ColumnDrift(
        column=column.name, method=method, value=min(1.0, value), limit=min(1.0, limit)
    )


def _ks_limit(reference: int, rows: int, noise: float) -> float:
    """Return the floor plus the distance that equal distributions exceed with chance e^-noise.

    P(distance > d) is at most e * exp(-2 d² nm/(n+m)) (Wei and Dudley, 2012), and the
    stored grid adds at most 1/1000 on either side.
    """
    if not reference or not rows:
        return 1.0
    return FLOOR + 0.002 + math.sqrt((1 + noise) * (1 / reference + 1 / rows) / 2)


def _jensen_shannon(
    column: Column, expected: np.ndarray, got: np.ndarray, limit: float | None, noise: float
) -> ColumnDrift:
    """Return the distance of counts to the shares expected, with its limit.

    For equal distributions 8 nm/(n+m) times the divergence (in nats) is about chi-square
    with one degree less than there are bins; its tail is bounded by Laurent and Massart.
    The distance is a metric, so noise adds to the floor by the triangle inequality.
    """
    import numpy as np

    total = float(got.sum())
    shares = got / total
    middle = (expected + shares) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = expected * np.log2(expected / middle), shares * np.log2(shares / middle)
    divergence = sum(float(np.where(np.isfinite(part), part, 0.0).sum()) for part in terms) / 2
    free = max(1, int(np.count_nonzero(middle)) - 1)
    tail = free + 2 * math.sqrt(free * noise) + 2 * noise
    spread = tail * (1 / max(1, column.rows) + 1 / total) / (8 * math.log(2))
    return _drift(
        column, "JensenShannon", math.sqrt(max(0.0, divergence)), limit or FLOOR + math.sqrt(spread)
    )


def _number_bins(column: Column, found: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares expected and counts got in bins of the reference's quantiles, then missing."""
    import numpy as np

    bins = int(min(20, max(2, found.size // _PER_BIN)))
    places = np.linspace(0, column.grid.size - 1, bins + 1)[1:-1].round().astype(np.int64)
    edges = np.unique(column.grid[places])
    upto = np.searchsorted(column.grid, edges, side="right") / column.grid.size
    there = column.present / column.rows
    inside = np.diff(upto, prepend=0.0, append=1.0) * there
    ends = np.searchsorted(np.sort(found), edges, side="right")
    got = np.diff(ends, prepend=0, append=found.size)
    return np.append(inside, 1 - there), np.append(got, rows - found.size)


def _category_bins(column: Column, values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return shares expected and counts got per category, then of the others and the missing.

    Categories of which a batch holds fewer than `_PER_BIN` on average share bins.
    """
    import numpy as np

    seen = categories(values)
    here = np.array([seen.pop(name, 0) for name in column.counts], dtype=np.float64)
    missing, others = values.null_count(), sum(seen.values())
    known = np.array(list(column.counts.values()), dtype=np.float64)
    there = column.present / column.rows
    shares = known / max(1.0, known.sum()) * (1 - column.tail) * there
    bins = _shared_bins(shares * values.len())
    expected = np.append(np.bincount(bins, shares), [column.tail * there, 1 - there])
    return expected, np.append(np.bincount(bins, here), [others, missing])


def _shared_bins(expected: np.ndarray) -> np.ndarray:
    """Return the bin of each category, most frequent first: its own, or one with its like."""
    import numpy as np

    alone = int(np.count_nonzero(expected >= _PER_BIN))
    rest = np.cumsum(expected[alone:])
    whole = max(0, int(rest[-1] // _PER_BIN) - 1) if rest.size else 0
    return np.append(np.arange(alone), alone + np.minimum(rest // _PER_BIN, whole)).astype(np.int64)
