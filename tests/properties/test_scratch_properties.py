"""Blocks of numbers worked on in the same memory are worked on as in memory of their own."""

import tracemalloc

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.profile import Column
from keepfit.profile.scratch import PAIRS, Scratch

numbers = st.floats(allow_nan=False, width=64)
blocks = st.lists(st.lists(numbers, min_size=1, max_size=20), min_size=1, max_size=5)


@given(blocks, st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.integers(1, 2**16))
def test_a_greater_number_lies_in_no_lower_cell(
    parts: list[list[float]], low: float, scale: float, size: int
) -> None:
    scratch = Scratch()
    for part in parts:
        rising = np.sort(np.array(part))
        cells = scratch.cells(rising, low, scale, size)
        assert cells.tolist() == sorted(cells.tolist())
        assert set(cells.tolist()) <= set(range(size))
        with np.errstate(over="ignore"):
            exact = ((rising - low) * scale).clip(0, size - 1)
        assert cells.tolist() == np.floor(exact).tolist()


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), min_size=1))
def test_totals_are_sums_and_counts_of_each_place(parts: list[list[int]]) -> None:
    scratch, totals, every = Scratch(), np.zeros(7, dtype=np.complex128), []
    for part in parts:
        values = np.array(part, dtype=np.float64)
        scratch.add(totals, values.astype(np.intp) % 7, values)
        every += part
    for place in range(7):
        held = [value for value in every if value % 7 == place]
        assert (totals[place].real, totals[place].imag) == (sum(held), len(held))


def test_more_numbers_than_are_added_up_at_once_are_all_added() -> None:
    scratch, totals = Scratch(), np.zeros(3, dtype=np.complex128)
    values = np.arange(3 * PAIRS + 1, dtype=np.float64)
    scratch.add(totals, values.astype(np.intp) % 3, values)
    assert totals.imag.tolist() == [PAIRS + 1, PAIRS, PAIRS]
    assert totals.real.sum() == values.sum()


def test_entries_are_taken_from_tables_of_floats_and_of_integers() -> None:
    scratch = Scratch()
    places = scratch.cells(np.array([[0.0, 2.0], [1.0, 1.0]]), 0.0, 1.0, 3)
    whole = scratch.taken(np.array([10, 20, 30]), places)
    floats = scratch.taken(np.array([0.5, 1.5, 2.5]), places)
    assert whole.tolist() == [[10, 30], [20, 20]]
    assert floats.tolist() == [[0.5, 2.5], [1.5, 1.5]]


@pytest.mark.parametrize("shape", ["normal", "exponential", "lognormal"])
def test_a_long_column_is_described_in_a_fraction_of_its_memory(shape: str, seed: int) -> None:
    values = pl.Series("x", getattr(np.random.default_rng(seed), shape)(size=1_000_000))
    Column.of(values)  # a thread's own working memory, which the next column finds again
    tracemalloc.start()
    try:
        Column.of(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.8 * values.estimated_size()
