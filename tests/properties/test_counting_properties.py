"""Numbers counted in cells are counted as the sorted ones are, whatever they are."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.drift import Reference
from keepfit.drift.came import Came
from keepfit.drift.history import distance, moves
from keepfit.drift.rulers import TOGETHER
from keepfit.profile import POINTS, Quantiles
from keepfit.profile.cells import Cells, range_of
from keepfit.profile.counting import Counts, beyond, counts_at
from keepfit.profile.scratch import Scratch
from keepfit.profile.summaries import _crossing

SHAPES = ("normal", "ties", "rounded", "heavy", "skewed", "clusters", "far", "huge", "narrow")
REACH = (-3.0, 5.0)


def drawn(rng: np.random.Generator, shape: str, n: int) -> np.ndarray:
    normal = rng.normal(size=n)
    return {
        "normal": normal,
        "ties": rng.poisson(20.0, n).astype(np.float64),
        "rounded": normal.round(2),
        "heavy": rng.standard_cauchy(n) ** 3,
        "skewed": rng.lognormal(0.0, 3.0, n),
        "clusters": normal * 1e-9 + rng.integers(-3, 3, n),
        "far": normal + 1.7e15,
        "huge": normal * 1e307,
        "narrow": normal * 1e-310,
    }[shape]


def counted(known: Quantiles, values: np.ndarray, parts: int = 1) -> Counts:
    blocks = [part[None] for part in np.array_split(values, parts)]
    return Cells([known], [range_of(known)], [REACH]).count(blocks, [lambda low, high: values])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.sampled_from(SHAPES), st.integers(1, 5))
def test_cells_count_as_sorting_does(seed: int, before: str, after: str, parts: int) -> None:
    rng = np.random.default_rng(seed)
    known = Quantiles.of(np.sort(drawn(rng, before, 3 * POINTS)))
    values = np.concatenate([drawn(rng, after, 500), rng.choice(known.points, 50)])
    spoilt = np.concatenate([values, [np.nan, np.inf, -np.inf, np.nan]])
    rng.shuffle(spoilt)
    got, wanted = counted(known, spoilt, parts), counts_at(known, np.sort(values), REACH)
    assert (got.sizes.tolist(), got.infinite.tolist()) == ([values.size], [2])
    assert got.below.tolist() == wanted.below.tolist()
    assert got.upto.tolist() == wanted.upto.tolist()
    assert got.outside == pytest.approx(wanted.outside, rel=1e-9)
    if "huge" not in (before, after):
        # What the numbers of an interval add up to is rounded, as its sum in another order is.
        rounding = float(np.abs(known.points).max()) * 1e-12 * values.size
        assert got.gaps == pytest.approx(wanted.gaps, rel=1e-6, abs=rounding)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.sampled_from(SHAPES))
def test_a_place_says_how_many_points_are_less_and_how_many_not_greater(
    seed: int, before: str, after: str
) -> None:
    rng = np.random.default_rng(seed)
    known = [Quantiles.of(np.sort(drawn(rng, shape, 3 * POINTS))) for shape in (before, after)]
    cells = Cells(known, [range_of(one) for one in known], [REACH] * 2)
    table = np.stack(
        [np.append(drawn(rng, after, 99), rng.choice(one.points, 50)) for one in known]
    )
    place = cells.find(table, Scratch())
    stride = 2 * max(one.points.size for one in known) + 1
    for k, (one, row) in enumerate(zip(known, table, strict=True)):
        less = np.searchsorted(one.points, row, side="left")
        reached = np.searchsorted(one.points, row, side="right")
        assert (place[k] - k * stride).tolist() == (less + reached).tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), max_size=30),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.01, 0.5]),
)
def test_where_two_distributions_cross_the_area_between_them_is_theirs(
    inner: list[float], below: int, above: int, share: float
) -> None:
    ordered = np.sort([*inner, *[-1.0] * below, *[2.0] * above, -1.0])
    ours = np.array([0.0, 300.0 * share + 100.0])
    spread = Quantiles.at_points(
        1_000, np.array([0.0, 1.0]), ours, np.array([100.0, ours[1]]), np.zeros(1)
    )
    got = _crossing(spread, 0, counts_at(spread, ordered), 0)
    at = np.linspace(0, 1, 200_001)
    theirs = np.searchsorted(ordered, at, side="right") / ordered.size
    apart = np.abs(0.1 + at * 0.3 * share - theirs)
    assert got == pytest.approx((apart[1:] + apart[:-1]).sum() / 400_000, abs=1e-4)


@pytest.mark.parametrize("room", [0.5, 2.5, 10.0])
def test_numbers_far_out_count_as_far_as_a_reach_goes(room: float) -> None:
    points = np.array([0.0, 1.0])
    less, greater = np.array([-1.0, -3.0]), np.array([2.0, 3.0, 9.0])
    plain, near = beyond(points, (-room, 1.0 + room), less, greater)
    assert plain == 4.0 + 11.0
    assert near == sum(min(one, room) for one in (1.0, 3.0, 1.0, 2.0, 8.0))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_columns_counted_at_once_are_counted_as_each_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = [Quantiles.of(np.sort(drawn(rng, shape, 3 * POINTS))) for shape in SHAPES[:6]]
    table = np.stack([drawn(rng, shape, 300) for shape in SHAPES[:6]])
    table[rng.random(table.shape) < 0.05] = np.nan
    cells = Cells(known, [range_of(one) for one in known], [REACH] * len(known))
    got = cells.count([table.copy()], [lambda low, high: table] * len(known))
    alone = Counts.joined([counted(*pair) for pair in zip(known, table, strict=True)])
    for name in ("sizes", "infinite", "below", "upto"):
        assert getattr(got, name).tolist() == getattr(alone, name).tolist()
    assert got.gaps == pytest.approx(alone.gaps, rel=1e-9, abs=1e-9)
    assert got.outside == pytest.approx(alone.outside)


@pytest.mark.parametrize("shape", ["normal", "ties", "rounded", "heavy", "clusters"])
def test_a_long_batch_is_measured_as_a_short_one(shape: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = Reference.fit(pl.DataFrame({"x": drawn(rng, shape, 5_000)}))
    short = pl.DataFrame({"x": drawn(rng, shape, TOGETHER)})
    long = pl.concat([short] * 5)
    ours, theirs = reference.check(long)["x"], reference._rulers.read(Came(short))[0]
    for name in ("KS", "Wasserstein", "JensenShannon", "unseen"):
        assert ours.statistics[name] == pytest.approx(theirs.values[name], rel=1e-6)


@given(
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=12),
    rows=st.integers(1, 400),
    odd=st.sampled_from([None, np.nan, np.inf, -np.inf]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=40)
def test_a_brief_reading_tells_of_distances_and_moves_what_a_whole_one_does(
    shapes: list[str], rows: int, odd: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)

    def table(n: int) -> pl.DataFrame:
        return pl.DataFrame({f"{i}": drawn(rng, shape, n) for i, shape in enumerate(shapes)})

    reference, batch = Reference.fit(table(3_000)), table(rows)
    if odd is not None:
        lost = pl.Series(rng.random(rows) < 0.3)
        batch = batch.with_columns(pl.when(~lost).then("0").otherwise(odd).alias("0"))
    brief, whole = reference.read(batch.clone(), brief=True), reference.read(batch.clone())
    for ours, theirs in zip(brief, whole, strict=True):
        assert (ours.present, ours.infinite) == (theirs.present, theirs.infinite)
        assert ours.values.get("KS") == theirs.values.get("KS")
        np.testing.assert_array_equal(distance(ours), distance(theirs))
        np.testing.assert_array_equal(moves(ours), moves(theirs))


def test_a_batch_read_briefly_is_read_anew_for_who_asks_for_all_statistics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = Reference.fit(pl.DataFrame({"x": rng.normal(size=3_000)}))
    batch = pl.DataFrame({"x": rng.normal(size=200)})
    assert "PSI" not in reference.read(batch, brief=True)[0].values
    whole = reference.read(batch)
    assert {"KS", "PSI", "Wasserstein", "ChiSquare"} <= set(whole[0].values)
    assert reference.read(batch, brief=True) is whole


def test_numbers_in_blocks_count_what_is_missing_and_infinite(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=200_000)
    reference = Reference.fit(pl.DataFrame({"x": values}))
    values[::4], values[1::8] = np.nan, np.inf
    found = reference.check(pl.DataFrame({"x": pl.Series(values, nan_to_null=True)}))["x"]
    assert (found.missing, found.infinite) == (0.375, 25_000)
    assert found.statistics["KS"] < 0.01


def test_few_numbers_and_tangled_ones_are_sorted() -> None:
    even, tangled = np.linspace(0, 1, 5_000), np.geomspace(1e-12, 1e12, 5_000)
    for values, cells in ((even, True), (tangled, False), (even[:POINTS], False)):
        reference = Reference.fit(pl.DataFrame({"x": values}))
        assert reference.ruler("x").in_cells is cells
        moved = reference.check(pl.DataFrame({"x": values[values.size // 2 :]}))["x"]
        assert moved.statistics["KS"] == pytest.approx(0.5, abs=0.001)


def test_numbers_too_large_to_add_up_are_compared_by_their_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = Reference.fit(pl.DataFrame({"x": rng.normal(size=5_000) * 1e306}))
    moved = reference.check(pl.DataFrame({"x": rng.normal(2.0, size=5_000) * 1e306}))["x"]
    assert moved.statistics["KS"] == pytest.approx(0.68, abs=0.05)
