"""What the benchmark of estimates says of errors: means over draws, and paired intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.estimate_errors import Difference, Judged, Line, tally
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

OURS, THEIRS = "ours", "theirs"
TRUTH = np.array([0.5, 0.7])


def judged(**away: float) -> Judged:
    """Return a draw in which each tool is so far from the truth, and its interval 0.1 wide."""
    said = {
        tool: np.column_stack([TRUTH + off, TRUTH + off - 0.05, TRUTH + off + 0.05])
        for tool, off in away.items()
    }
    return Judged(TRUTH, before=0.6, unit=0.5, said=said)


def line(*draws: Judged) -> Line:
    return Line("made", "mae", 1_000, draws)


def test_a_line_is_the_mean_of_its_draws_in_units_of_the_reference() -> None:
    made = line(judged(ours=0.01), judged(ours=-0.09))
    assert made.about() == ["made", "mae", "4 of 1,000", "0.600", "0.2000"]
    assert made.error(OURS) == "0.1000"
    assert made.interval(OURS) == " (50 %, ±0.100)"


def test_a_tool_that_is_silent_in_one_draw_has_no_mean() -> None:
    made = line(judged(ours=0.01, theirs=0.02), judged(ours=0.01))
    assert (made.error(THEIRS), made.interval(THEIRS)) == ("–", "")
    assert made.difference(OURS, THEIRS) is None


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_the_interval_is_that_of_a_paired_t_test(gaps: list[float]) -> None:
    values = np.array(gaps)
    found = Difference.of(values)
    if values.std() < 1e-9:
        assert found.half == pytest.approx(0, abs=1e-6)
        return
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert found.sure is not (low <= 0 <= high)


def test_one_draw_says_nothing_of_how_sure_it_is() -> None:
    found = Difference.of(np.array([-0.2]))
    assert math.isinf(found.half)
    assert (found.sure, str(found)) == (False, "-0.20000")


def test_a_tally_counts_the_cells_that_both_have_and_of_these_the_sure() -> None:
    nearer = line(judged(ours=0.01, theirs=0.02), judged(ours=0.01, theirs=0.021))
    unsure = line(judged(ours=0.01, theirs=0.04), judged(ours=0.03, theirs=0.02))
    farther = line(judged(ours=0.03, theirs=0.02), judged(ours=0.03, theirs=0.02))
    alone = line(judged(ours=0.01), judged(ours=0.01))
    assert tally(OURS, THEIRS, [nearer, unsure, farther, alone]) == (
        "ours is nearer than theirs in 2 of 3 cells (1 by the interval), farther in 1 (1)"
    )
