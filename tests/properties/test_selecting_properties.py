"""A long column is described as its sorted numbers are, whatever was looked at first."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.profile import Column, Quantiles, columns
from keepfit.profile.selecting import known, sampled

SHAPES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "counts": lambda rng, n: rng.poisson(20.0, n).astype(np.float64),
    "rare counts": lambda rng, n: rng.geometric(0.01, n).astype(np.float64),
    "rounded": lambda rng, n: rng.normal(size=n).round(3),
    "skewed": lambda rng, n: rng.lognormal(0.0, 1.0, n),
    "uniform": lambda rng, n: rng.random(n) + 1.7e15,
    "wild": lambda rng, n: np.append(rng.normal(size=n - 2), [-1e300, 1e12]),
    "rising": lambda rng, n: np.sort(rng.normal(size=n)),
}
ROWS = 60_000


def same(got: Quantiles, wanted: Quantiles) -> bool:
    exact = ("points", "below", "upto")
    assert got.count == wanted.count
    assert all(getattr(got, name).tolist() == getattr(wanted, name).tolist() for name in exact)
    return got.lean == pytest.approx(wanted.lean, abs=1e-6)


@settings(max_examples=24, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(SHAPES)), st.integers(1, 4), st.booleans())
def test_a_summary_is_that_of_the_sorted_numbers(
    seed: int, shape: str, parts: int, spoilt: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = SHAPES[shape](rng, ROWS)
    if spoilt:
        values[rng.random(ROWS) < 0.1] = np.nan
        values[rng.random(ROWS) < 0.1] = np.inf
    found = known(values[sampled(ROWS)], lambda: iter(np.array_split(values, parts)))
    finite = np.sort(values[np.isfinite(values)])
    assert found is not None
    assert same(found.spread, Quantiles.of(finite))
    assert found.spread.points.size <= found.distinct <= np.unique(finite).size


@given(st.integers(0, 10**6), st.sampled_from(["normal", "counts", "skewed"]))
@settings(max_examples=12, deadline=None)
def test_a_sample_from_elsewhere_changes_nothing(seed: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    values = SHAPES[shape](rng, ROWS)
    wanted = Quantiles.of(np.sort(values))
    for sample in (values[:9_000], np.sort(values)[10_000:], values[:9_000] * 1.5 + 1):
        found = known(sample, lambda: iter([values]))
        # Numbers that nobody expected are many: sorting them is less work.
        assert found is None or same(found.spread, wanted)


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64])
def test_a_long_column_is_described_as_a_sorted_one(
    shape: str, dtype: type[pl.DataType], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = pl.Series("x", SHAPES[shape](np.random.default_rng(seed), columns.LONG))
    values = (values * 100).cast(dtype, strict=False)
    values = values.set(pl.arange(0, values.len(), eager=True) % 7 == 0, None)
    got = Column.of(values)
    monkeypatch.setattr(columns, "LONG", values.len() + 1)
    wanted = Column.of(values)
    assert got.spread is not None
    assert wanted.spread is not None
    assert same(got.spread, wanted.spread)
    for name in ("rows", "missing", "infinite", "low", "high"):
        assert getattr(got, name) == getattr(wanted, name)
    assert min(wanted.distinct, got.spread.points.size) <= got.distinct <= wanted.distinct


def test_numbers_that_lie_too_close_are_left_to_sorting() -> None:
    tangled = np.geomspace(1e-12, 1e12, ROWS)
    assert known(tangled[sampled(ROWS)], lambda: iter([tangled])) is None
    assert known(np.zeros(ROWS), lambda: iter([np.zeros(ROWS)])) is None
    assert known(np.full(ROWS, np.nan), lambda: iter([tangled])) is None
    assert known(np.arange(2e4), lambda: iter([np.full(9, np.nan)])) is None
