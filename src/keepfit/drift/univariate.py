"""Drift of single columns against a stored reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from keepfit.drift import statistics
from keepfit.drift.statistics import FLOOR, inverse_sizes, ks_noise, spending
from keepfit.errors import ConfigError
from keepfit.facts import ColumnDrift
from keepfit.parts import Part

if TYPE_CHECKING:
    import polars as pl

    from keepfit.drift.rulers import Reading, Ruler
    from keepfit.protocols import Reference

__all__ = ["KS", "PSI", "ChiSquare", "Columns", "JensenShannon", "Wasserstein"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Univariate(Part):
    """Base of detectors that look at one column at a time.

    Limits add what sampling noise explains at these sizes to the floor, so that a value
    above its limit means a true distance above the floor; all columns share one level
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

    of_numbers: ClassVar[tuple[str, ...]] = ()
    of_categories: ClassVar[tuple[str, ...]] = ()
    of_text: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and not 0.0 < self.limit <= 1.0:
            raise ConfigError(f"{self.name}: expected a limit above 0 up to 1, got {self.limit!r}")
        if isinstance(self.exclude, str):
            raise ConfigError(
                f"{self.name}: expected a list of columns to exclude, got {self.exclude!r}",
                hint=f"write exclude=[{self.exclude!r}]",
            )

    def check(self, reference: Reference, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        """Return one value with its limit per column of the reference, worst first."""
        if not rows.height or not reference.rows:
            return ()
        return self.judged(reference, reference.read(rows, brief=set(self.of_numbers) <= {"KS"}))

    def judged(self, reference: Reference, readings: Sequence[Reading]) -> tuple[ColumnDrift, ...]:
        """Return one value with its limit per column that was read, worst first."""
        kept = [one for one in readings if one.column.name not in self.exclude]
        noise = spending(len(kept))
        results = [self.judge(one, reference.ruler(one.column.name), noise) for one in kept]
        return tuple(sorted(results, key=lambda result: (-ratio(result), result.column)))

    def judge(self, reading: Reading, ruler: Ruler, noise: float) -> ColumnDrift:
        """Return how far one column moved by what this detector looks at, and the limit."""
        if reading.gone is not None:
            return self._gone(reading, reading.gone)
        found = [self._missing(reading, noise)]
        for method in self._methods(reading):
            limit = self.limit or limit_of(method, reading, ruler, noise)
            found.append(
                ColumnDrift(
                    column=reading.column.name,
                    method=method,
                    value=reading.effect(method),
                    limit=limit,
                )
            )
        # In a tie the distance is named before the share of what is missing.
        return max(reversed(found), key=ratio)

    def _methods(self, reading: Reading) -> Sequence[str]:
        if reading.column.kind in ("number", "time"):
            methods = self.of_numbers
        elif reading.column.kind == "text":
            methods = self.of_text
        else:
            methods = self.of_categories
        return [method for method in methods if method in reading.values]

    def _missing(self, reading: Reading, noise: float) -> ColumnDrift:
        """Compare the shares of missing values; a column that lost all its values has 1."""
        absent, rows = reading.missing_before, reading.rows
        lost = absent == 0 or rows * -math.log(absent) > noise
        if not reading.present and absent < 1 and lost:
            return self._gone(reading, "missing")
        limit = self.limit or FLOOR + ks_noise(reading.column.rows, rows, noise)
        return ColumnDrift(
            column=reading.column.name,
            method="missing",
            value=abs(reading.missing - absent),
            limit=min(1.0, limit),
        )

    def _gone(self, reading: Reading, method: str) -> ColumnDrift:
        """Say that nothing of the column can be compared; the floor is a limit below 1."""
        limit = min(self.limit or FLOOR, 0.999)
        return ColumnDrift(column=reading.column.name, method=method, value=1.0, limit=limit)


@dataclass(frozen=True, repr=False)
class Columns(Univariate):
    """Kolmogorov-Smirnov for numbers and times, Jensen-Shannon for categories and booleans.

    The default detector. Of free text the lengths, the characters and the share of unknown
    words are compared; of every column the share of missing values beside the distance, and
    the one that is worse for its limit is given.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit.drift import Reference
    >>> reference = Reference.fit(pl.DataFrame({"age": range(1000)}))
    >>> worst = Columns().check(reference, pl.DataFrame({"age": range(500, 1500)}))[0]
    >>> worst.column, worst.method, round(worst.value, 2), worst.drifted
    ('age', 'KS', 0.5, True)

    References
    ----------
    Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities (2012).
    """

    of_numbers = ("KS",)
    of_categories = ("JensenShannon", "unseen")
    of_text = ("KS", "JensenShannon", "unseen")


@dataclass(frozen=True, repr=False)
class KS(Univariate):
    """Kolmogorov-Smirnov distance of numbers, times and lengths of text.

    Of other columns only the share of missing values is compared.

    Examples
    --------
    >>> KS(limit=0.2)
    KS(limit=0.2)

    References
    ----------
    Wei and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities (2012).
    """

    of_numbers = ("KS",)
    of_text = ("KS",)


@dataclass(frozen=True, repr=False)
class Wasserstein(Univariate):
    """Wasserstein-1 distance of numbers and times, in deviations of the reference.

    It is divided by the width of the reference's middle nine tenths, as a normal
    distribution has it in standard deviations, so that 0.1 means about a tenth of a
    standard deviation in every column. A value beyond ten deviations counts as one there, so
    that a wild value does not hide or make a shift; the report's own figure is the plain
    distance.

    Examples
    --------
    >>> Wasserstein()
    Wasserstein()

    References
    ----------
    Bobkov and Ledoux, One-dimensional empirical measures, order statistics, and Kantorovich
    transport distances (2019).
    """

    of_numbers = ("Wasserstein",)


@dataclass(frozen=True, repr=False)
class JensenShannon(Univariate):
    """Jensen-Shannon distance (base 2, 0 to 1) of numbers, times, categories and booleans.

    Numbers are counted in bins of equal share of the reference, so that one wild value
    cannot hide the rest; missing values and categories never seen are bins of their own.
    Rare categories share bins, so that sampling noise is not taken for drift.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit.drift import Reference
    >>> reference = Reference.fit(pl.DataFrame({"plan": ["basic", "plus"] * 500}))
    >>> worst = JensenShannon().check(reference, pl.DataFrame({"plan": ["basic"] * 500}))[0]
    >>> round(worst.value, 2), worst.drifted
    (0.56, True)

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy (1991); Endres and Schindelin, A
    new metric for probability distributions (2003); Laurent and Massart, Adaptive
    estimation of a quadratic functional (2000).
    """

    of_numbers = ("JensenShannon",)
    of_categories = ("JensenShannon",)
    of_text = ("JensenShannon",)


@dataclass(frozen=True, repr=False)
class PSI(Univariate):
    """Population stability index of all columns, in the bins of `JensenShannon`.

    The floor is 0.1, which practice calls a moderate change.

    Examples
    --------
    >>> PSI(limit=0.25)
    PSI(limit=0.25)

    References
    ----------
    Yurdakul, Statistical properties of population stability index (2018).
    """

    of_numbers = ("PSI",)
    of_categories = ("PSI",)
    of_text = ("PSI",)


@dataclass(frozen=True, repr=False)
class ChiSquare(Univariate):
    """Pearson's chi-square of all columns, as Cohen's effect size w.

    The statistic itself grows with the rows, so that on large batches every difference
    exceeds any limit; w is the statistic freed from the sizes, and 0.1 a small effect.

    Examples
    --------
    >>> ChiSquare()
    ChiSquare()

    References
    ----------
    Cohen, Statistical power analysis for the behavioral sciences (1988).
    """

    of_numbers = ("ChiSquare",)
    of_categories = ("ChiSquare",)
    of_text = ("ChiSquare",)


def limit_of(method: str, reading: Reading, ruler: Ruler, noise: float) -> float:
    """Return the floor of a method joined with what chance explains at these sizes."""
    reference, rows = max(1, reading.column.rows), reading.rows
    free = reading.free
    if method == "KS":
        present = ks_noise(reading.column.present, reading.present, noise)
        return min(1.0, FLOOR + present)
    if method == "unseen":
        return min(1.0, FLOOR + ks_noise(reference, reading.present, noise))
    if method == "JensenShannon":
        return min(1.0, FLOOR + statistics.jensen_shannon_noise(free, reference, rows, noise))
    if method == "PSI":
        explained = statistics.stability_noise(free, reference, rows, noise)
        return (math.sqrt(FLOOR) + math.sqrt(explained)) ** 2
    if method == "ChiSquare":
        return FLOOR + math.sqrt(statistics.chi_tail(free, noise) * inverse_sizes(reference, rows))
    rough = ruler.roughness / ruler.scale if ruler.scale else 0.0
    return FLOOR + statistics.wasserstein_noise(
        rough, reading.column.present, reading.present, noise
    )


def ratio(moved: ColumnDrift) -> float:
    """Return how many times its limit a movement is."""
    return moved.value / moved.limit
