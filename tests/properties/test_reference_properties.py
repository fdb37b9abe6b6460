"""What holds of every comparison, whatever the numbers."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from keepfit import drift
from keepfit.drift import Reference
from keepfit.profile import POINTS, Quantiles
from keepfit.profile.counting import counts_at
from keepfit.profile.quantiles import distances
from keepfit.profile.summaries import Summaries

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=32)
NUMBERS = st.lists(st.one_of(FINITE, st.integers(-5, 5).map(float)), min_size=1, max_size=300)
ANY = st.lists(
    st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float)),
    min_size=1,
    max_size=80,
)


def summary(values: list[float]) -> Quantiles:
    return Quantiles.of(np.sort(np.array(values, dtype=np.float64)))


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning:scipy")
@given(NUMBERS, NUMBERS)
def test_both_distances_are_symmetric_and_scipys(first: list[float], second: list[float]) -> None:
    ours = distances(summary(first), summary(second))
    assert ours == pytest.approx(distances(summary(second), summary(first)))
    assert ours[0] == pytest.approx(ks_2samp(first, second, method="asymp").statistic, abs=1e-9)
    assert ours[1] == pytest.approx(wasserstein_distance(first, second), rel=1e-6, abs=1e-6)
    known = summary(first)
    [direct] = Summaries([known]).distances(counts_at(known, np.sort(np.array(second))))
    assert direct[:2] == pytest.approx(ours)
    assert direct.near == pytest.approx(direct.wasserstein)


@given(NUMBERS)
def test_a_distance_to_itself_is_zero(values: list[float]) -> None:
    assert distances(summary(values), summary(values)) == pytest.approx((0.0, 0.0), abs=1e-9)


@given(NUMBERS, st.lists(st.integers(0, 300), max_size=6))
def test_merged_summaries_are_the_whole_one_where_all_numbers_are_kept(
    values: list[float], cuts: list[int]
) -> None:
    parts = [
        summary(part.tolist()) for part in np.split(np.array(values), sorted(cuts)) if part.size
    ]
    merged, whole = Quantiles.merge(parts), summary(values)
    assert merged.count == whole.count
    assert merged.error == 0.0
    assert merged.points.tolist() == whole.points.tolist()
    assert merged.below.tolist() == whole.below.tolist()
    assert merged.upto.tolist() == whole.upto.tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from(["normal", "ties", "heavy"]))
def test_no_share_of_a_merged_summary_is_off_by_more_than_it_says(
    seed: int, parts: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3 * POINTS, 30 * POINTS))
    values = {
        "normal": rng.normal(size=n),
        "ties": rng.poisson(50.0, size=n).astype(float),
        "heavy": rng.standard_cauchy(size=n),
    }[kind]
    merged = Quantiles.merge([summary(part.tolist()) for part in np.array_split(values, parts)])
    at = np.concatenate([rng.choice(values, 200), rng.uniform(-5, 100, 200)])
    below, upto = merged.ranks(at)
    ordered = np.sort(values)
    bound = merged.error + merged.resolution + 1e-9
    assert np.abs(below - np.searchsorted(ordered, at, "left")).max() / n <= bound
    assert np.abs(upto - np.searchsorted(ordered, at, "right")).max() / n <= bound
    assert bound < 0.01


@given(ANY, ANY, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(first: list, second: list, random) -> None:
    schema = {"x": pl.Float64}
    report = drift.compare(
        pl.DataFrame({"x": first}, schema=schema), pl.DataFrame({"x": second}, schema=schema)
    )
    random.shuffle(first)
    random.shuffle(second)
    again = drift.compare(
        pl.DataFrame({"x": first}, schema=schema), pl.DataFrame({"x": second}, schema=schema)
    )
    assert report == again
    for one in report:
        assert np.isfinite([one.value, one.limit, *one.statistics.values()]).all()


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60))
def test_categories_do_not_drift_from_themselves(values: list) -> None:
    frame = pl.DataFrame({"x": values}, schema={"x": pl.String})
    for one in Reference.fit(frame).check(frame):
        assert not one.drifted
        assert list(one.statistics.values()) == pytest.approx([0.0] * len(one.statistics), abs=1e-6)


@given(NUMBERS, NUMBERS)
def test_a_stored_reference_measures_as_the_fitted_one(
    first: list[float], second: list[float]
) -> None:
    reference = Reference.fit(pl.DataFrame({"x": first}))
    current = pl.DataFrame({"x": second})
    assert Reference.loads(reference.dumps()).check(current) == reference.check(current)
