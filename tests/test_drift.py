from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from math import comb

import numpy as np
import polars as pl
import pytest

from keepfit import drift
from keepfit.drift import Reference, statistics, univariate
from keepfit.errors import ConfigError
from keepfit.facts import ColumnDrift

DETECTORS = [
    drift.Columns(),
    drift.KS(),
    drift.JensenShannon(),
    drift.PSI(),
    drift.ChiSquare(),
    drift.Wasserstein(),
]
BOTH = pytest.mark.parametrize("detector", DETECTORS, ids=repr)


def one(detector: univariate.Univariate, reference: object, current: object) -> ColumnDrift:
    [result] = detector.check(
        Reference.fit(pl.DataFrame({"x": reference})), pl.DataFrame({"x": current})
    )
    return result


def normal(n: int, seed: int, at: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(at, size=n)


def at_most(alarms: int, batches: int, share: float) -> bool:
    """Return whether so many alarms are no evidence, at 99 %, that the rate is above a share."""
    chance = sum(comb(batches, k) * share**k * (1 - share) ** (batches - k) for k in range(alarms))
    return 1 - chance > 0.01


@BOTH
def test_a_moved_column_of_numbers_drifts_and_an_unmoved_one_does_not(
    detector: univariate.Univariate, seed: int
) -> None:
    reference = normal(5_000, seed)
    assert one(detector, reference, normal(2_000, seed + 1, at=0.8)).drifted
    assert not one(detector, reference, normal(2_000, seed + 2)).drifted


def test_the_ks_distance_is_that_of_scipy(seed: int) -> None:
    from scipy.stats import ks_2samp

    reference, current = normal(900, seed), normal(700, seed + 1, at=0.3)
    found = one(drift.KS(), reference, current)
    assert found.value == pytest.approx(ks_2samp(reference, current).statistic)
    assert found.method == "KS"


def test_the_jensen_shannon_distance_is_that_of_scipy() -> None:
    from scipy.spatial.distance import jensenshannon

    reference, current = (
        ["a"] * 600 + ["b"] * 300 + ["c"] * 100,
        ["a"] * 200 + ["b"] * 700 + ["c"] * 100,
    )
    found = one(drift.JensenShannon(), reference, current)
    assert found.value == pytest.approx(jensenshannon([0.6, 0.3, 0.1], [0.2, 0.7, 0.1], base=2))
    assert found.method == "JensenShannon"
    assert found.drifted


@BOTH
def test_one_wild_value_does_not_hide_a_shift(detector: univariate.Univariate, seed: int) -> None:
    reference, current = normal(5_000, seed), normal(2_000, seed + 1, at=1.0)
    plain = one(detector, reference, current)
    for wild in (1e12, -1e300, np.inf, np.nan):
        for where in (reference, current):
            spoilt = where.copy()
            spoilt[7] = wild
            pair = (spoilt, current) if where is reference else (reference, spoilt)
            assert one(detector, *pair).value == pytest.approx(plain.value, abs=0.01)


@BOTH
@pytest.mark.parametrize("gone", [None, float("nan"), float("inf"), float("-inf")])
def test_a_column_that_lost_all_its_values_has_the_value_one(
    detector: univariate.Univariate, gone: float | None, seed: int
) -> None:
    current = pl.Series([gone] * 500, dtype=pl.Float64)
    found = one(detector, normal(2_000, seed), current)
    assert (found.value, found.method, found.drifted) == (1.0, "missing", True)
    assert one(detector, ["a", "b"] * 500, pl.Series([None] * 500)).value == 1.0


@BOTH
def test_a_third_of_new_nulls_is_drift(detector: univariate.Univariate, seed: int) -> None:
    values = normal(3_000, seed)
    holes = np.where(np.arange(3_000) % 3 == 0, np.nan, normal(3_000, seed + 1))
    assert one(detector, values, holes).drifted
    texts = pl.Series(["a", "b", "c"] * 1_000)
    assert one(
        detector, texts, pl.Series([None, "b", "c", "a", "b", "c"] * 500 + [None] * 900)
    ).drifted


@BOTH
def test_a_column_that_was_always_missing_is_no_drift_until_it_fills(
    detector: univariate.Univariate,
) -> None:
    nothing = pl.Series([None] * 500, dtype=pl.Float64)
    assert one(detector, nothing, nothing).value == 0.0
    assert one(detector, nothing, pl.Series([None] * 500)).value == 0.0
    assert one(detector, nothing, np.arange(500.0)).drifted
    assert one(detector, nothing, ["a"] * 500).drifted


def test_a_rare_column_may_be_all_missing_in_a_small_batch_and_not_in_a_large_one() -> None:
    reference = pl.Series([1.0] * 50 + [None] * 950, dtype=pl.Float64)
    assert not one(drift.Columns(), reference, pl.Series([None] * 20, dtype=pl.Float64)).drifted
    assert one(drift.Columns(), reference, pl.Series([None] * 5_000, dtype=pl.Float64)).drifted


@BOTH
def test_a_column_that_is_gone_or_of_another_kind_has_the_value_one(
    detector: univariate.Univariate,
) -> None:
    reference = Reference.fit(pl.DataFrame({"gone": [1.0] * 100, "typed": [1.0] * 100}))
    found = detector.check(reference, pl.DataFrame({"typed": ["1"] * 100, "new": [1] * 100}))
    assert {(one.column, one.method, one.value, one.drifted) for one in found} == {
        ("gone", "missing", 1.0, True),
        ("typed", "type", 1.0, True),
    }


@BOTH
def test_an_integer_column_that_became_float_is_compared(detector: univariate.Univariate) -> None:
    assert not one(detector, list(range(100)), [float(i) for i in range(100)]).drifted


@BOTH
def test_times_are_compared_across_units_and_zones(detector: univariate.Univariate) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = pl.Series([start + timedelta(hours=i) for i in range(1_000)])
    same = times.dt.cast_time_unit("ns").dt.convert_time_zone("Asia/Tokyo")
    assert not one(detector, times, same).drifted
    assert one(detector, times, times + timedelta(days=40)).drifted


@BOTH
def test_categories_of_any_type_are_compared_by_their_text(detector: univariate.Univariate) -> None:
    texts = pl.Series(["a", "b", "b"] * 300)
    assert not one(detector, texts, texts.cast(pl.Categorical)).drifted
    assert not one(detector, texts, texts.cast(pl.Enum(["b", "a"]))).drifted


@pytest.mark.parametrize("detector", [drift.Columns(), drift.JensenShannon()], ids=repr)
def test_categories_never_seen_are_drift_and_so_are_booleans_that_turned(
    detector: univariate.Univariate,
) -> None:
    texts = ["a", "b"] * 1_000
    assert one(detector, texts, ["a", "b", "new"] * 300).drifted
    assert one(detector, [True, False, False, False] * 300, [False, True, True, True] * 300).drifted


@pytest.mark.parametrize("detector", [drift.Columns(), drift.JensenShannon()], ids=repr)
def test_drift_among_rare_categories_is_seen(detector: univariate.Univariate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    many = pl.Series(rng.integers(0, 1_000, 50_000)).cast(pl.String)
    half = pl.Series(rng.integers(0, 1_000, 2_000) // 2).cast(pl.String)
    assert one(detector, many, half).drifted
    assert one(detector, many, ["7"] * 200).value > 0.8


def test_the_worst_column_comes_first(seed: int) -> None:
    reference = pl.DataFrame(
        {"still": normal(2_000, seed), "moved": normal(2_000, seed), "far": normal(2_000, seed)}
    )
    current = pl.DataFrame(
        {
            "still": normal(500, seed + 1),
            "moved": normal(500, seed + 1, 0.7),
            "far": normal(500, seed + 1, 3),
        }
    )
    found = drift.Columns().check(Reference.fit(reference), current.with_columns(_score=0.5))
    assert [one.column for one in found] == ["far", "moved", "still"]
    assert [one.drifted for one in found] == [True, True, False]


def test_a_stated_limit_is_taken_as_it_is_and_excluded_columns_are_left_out(seed: int) -> None:
    reference = Reference.fit(
        pl.DataFrame({"x": normal(2_000, seed), "seen_on": normal(2_000, seed)})
    )
    current = pl.DataFrame({"x": normal(2_000, seed, 0.5), "seen_on": normal(2_000, seed, 5)})
    [found] = drift.KS(limit=0.3, exclude=["seen_on"]).check(reference, current)
    assert (found.column, found.limit, found.drifted) == ("x", 0.3, False)
    assert drift.KS(limit=1.0).check(reference, pl.DataFrame({"y": [1]}))[0].drifted


@BOTH
def test_empty_sides_have_nothing_to_say(detector: univariate.Univariate) -> None:
    some, none = pl.DataFrame({"x": [1.0, 2.0]}), pl.DataFrame({"x": []}, schema={"x": pl.Float64})
    assert detector.check(Reference.fit(some), none) == ()
    assert detector.check(Reference.fit(none), some) == ()
    assert detector.check(Reference.fit(pl.DataFrame()), some) == ()


@BOTH
def test_the_smallest_batch_is_too_small_to_drift(detector: univariate.Univariate) -> None:
    assert not one(detector, np.arange(5_000.0), [4_999.0]).drifted
    assert not one(detector, ["a", "b"] * 500, ["b"]).drifted


@BOTH
def test_constant_columns_do_not_drift_until_they_change(detector: univariate.Univariate) -> None:
    assert one(detector, [5.0] * 1_000, [5.0] * 1_000).value == pytest.approx(0.0, abs=1e-9)
    assert one(detector, [5.0] * 1_000, [6.0] * 1_000).value >= 1.0


def test_two_thousand_columns_are_compared() -> None:
    rows = pl.DataFrame({f"c{i}": [i, i + 1, i + 2] for i in range(2_000)})
    assert len(drift.Columns().check(Reference.fit(rows), rows)) == 2_000


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.5, float("nan")])
def test_a_limit_that_is_no_distance_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="expected a limit"):
        drift.KS(limit=limit)


def test_a_text_for_the_excluded_columns_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="a list of columns") as error:
        drift.Columns(exclude="seen_on")
    assert "exclude=['seen_on']" in (error.value.hint or "")


def test_a_detector_is_written_as_the_call_that_makes_it() -> None:
    assert [one.name for one in DETECTORS][:3] == ["Columns()", "KS()", "JensenShannon()"]
    assert repr(drift.KS(limit=0.2, exclude=["a"])) == "KS(limit=0.2, exclude=['a'])"


Draw = Callable[[np.random.Generator, int], np.ndarray]
STILL: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy": lambda rng, n: rng.standard_cauchy(size=n),
    "counts": lambda rng, n: rng.poisson(0.3, size=n),
    "holes": lambda rng, n: np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    "flag": lambda rng, n: rng.random(n) < 0.01,
}
STILL_CATEGORIES: dict[str, Draw] = {
    "a thousand": lambda rng, n: rng.integers(0, 1_000, n),
    "many": lambda rng, n: rng.integers(0, 5_000, n),
    "heavy": lambda rng, n: (rng.pareto(0.3, n).clip(max=1e6)).astype(np.int64),
    "codes of their own": lambda rng, n: rng.integers(0, 2**40, n),
    "rare": lambda rng, n: rng.choice(3, n, p=[0.8, 0.199, 0.001]),
}


@cache
def still(rows: int, seed: int) -> pl.DataFrame:
    """Return fifty columns, each independent of the others and the same for ever."""
    rng = np.random.default_rng(seed)
    numbers = {f"{name} {i}": draw(rng, rows) for name, draw in STILL.items() for i in range(5)}
    texts = {
        f"{name} text {i}": pl.Series(draw(rng, rows)).cast(pl.String)
        for name, draw in STILL_CATEGORIES.items()
        for i in range(5)
    }
    return pl.DataFrame(numbers | texts)


@pytest.mark.parametrize("detector", [drift.Columns(), drift.JensenShannon()], ids=repr)
@pytest.mark.parametrize("reference_rows", [1_000, 20_000])
def test_fifty_columns_that_stay_alarm_at_no_more_than_the_stated_rate(
    detector: univariate.Univariate, reference_rows: int, seed: int
) -> None:
    reference = Reference.fit(still(reference_rows, seed))
    batches = alarms = 0
    for size in (100, 1_000, 10_000):
        pool = still(20_000, seed + 1)
        for part in range(min(20, 20_000 // size)):
            batches += 1
            alarms += detector.check(reference, pool[part * size : (part + 1) * size])[0].drifted
    assert at_most(alarms, batches, statistics.ALPHA)


def test_the_noise_that_limits_allow_covers_the_noise_there_is(seed: int) -> None:
    # Without the floor of 0.1 the limits must hold by themselves, or the floor hides a bug.
    reference, pool = Reference.fit(still(20_000, seed)), still(20_000, seed + 1)
    over = 0
    for part in range(40):
        found = drift.KS().check(reference, pool[part * 500 : (part + 1) * 500])
        over += any(one.value > one.limit - statistics.FLOOR for one in found)
    assert at_most(over, 40, statistics.ALPHA)
