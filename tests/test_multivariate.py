from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, norm

from keepfit import drift
from keepfit.drift.multivariate import MMD, PCA, DomainClassifier, Movement, classifier, mmd, pca
from keepfit.drift.multivariate.base import Multivariate, sample
from keepfit.drift.multivariate.encoder import CLIP, WIDTH, Encoder
from keepfit.errors import ConfigError, SchemaMismatch
from keepfit.facts import ColumnDrift
from keepfit.protocols import Detector
from keepfit.testing import check_detector

DETECTORS = [DomainClassifier(), MMD(), PCA()]
ALL = pytest.mark.parametrize("detector", DETECTORS, ids=repr)


def moved(detector: Multivariate, reference: pl.DataFrame, current: pl.DataFrame) -> Movement:
    return detector.measure(detector.fit(reference), current)


def mixed(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Return rows of every kind: two that go together, wide tails, holes, many categories."""
    x = rng.normal(size=n)
    return pl.DataFrame(
        {
            "x": x,
            "y": x + rng.normal(size=n),
            "tails": rng.lognormal(0, 2, n),
            "zeros": np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n)),
            "holes": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "kind": rng.choice(list("abcdefgh"), n, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]),
            "id": rng.integers(0, 300, n).astype(str),
            "rare": rng.random(n) < 0.05,
            "whole": rng.integers(0, 5, n),
        }
    )


def normal(rng: np.random.Generator, n: int, columns: int = 6) -> pl.DataFrame:
    return pl.DataFrame({f"x{i}": rng.normal(size=n) for i in range(columns)})


def factors(rng: np.random.Generator, n: int, *, broken: bool = False) -> pl.DataFrame:
    """Return six columns that two factors move; each is as before where the last is broken off."""
    hidden = rng.normal(size=(n, 2))
    made = {f"x{i}": hidden[:, i % 2] + 0.3 * rng.normal(size=n) for i in range(6)}
    if broken:
        made["x5"] = rng.normal(size=n) + 0.3 * rng.normal(size=n)
    return pl.DataFrame(made)


@ALL
@pytest.mark.parametrize("form", ["pandas", "arrow"])
def test_tables_of_others_are_measured_as_polars_ones_are(
    detector: Multivariate, form: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    before, after = (
        mixed(rng, 500).with_columns(vector=pl.Series(embeddings(rng, 500, 8, at).tolist()))
        for at in (0.0, 1.0)
    )
    before, after = (
        rows.with_columns(pl.col("kind").cast(pl.Categorical), pl.col("holes").fill_nan(None))
        for rows in (before, after)
    )
    theirs = [getattr(rows, f"to_{form}")() for rows in (before, after)]
    expected = moved(detector, before, after)
    assert detector.measure(detector.fit(theirs[0]), theirs[1]) == expected
    reference = drift.Reference.fit(theirs[0], detectors=[detector])
    assert detector.check(reference, theirs[1]) == expected.parts


@ALL
def test_what_is_no_table_is_refused(detector: Multivariate) -> None:
    state = detector.fit(pl.DataFrame({"x": [1.0, 2.0, 3.0]}))
    with pytest.raises(ConfigError, match="Polars, pandas or Arrow table, got dict"):
        detector.measure(state, {"x": [1.0]})


def embeddings(rng: np.random.Generator, n: int, width: int, at: float = 0.0) -> np.ndarray:
    """Return vectors of ten hidden directions, moved along one of their own."""
    directions = np.random.default_rng(5).normal(size=(10, width))
    made = rng.normal(size=(n, 10)) @ directions + 0.3 * rng.normal(size=(n, width))
    return (made + at * np.random.default_rng(6).normal(size=width)).astype(np.float32)


# Quiet ----------------------------------------------------------------------------------


def chances(detector: Multivariate, state: bytes, rows: pl.DataFrame) -> bool:
    """Return whether a movement is above what chance alone exceeds in one batch of twenty."""
    found = detector.measure(state, rows)
    if isinstance(detector, MMD):
        kept = msgspec.msgpack.decode(state, type=detector._kept)
        return found.value > mmd.noise(kept, rows.height, 0.05)
    if isinstance(detector, DomainClassifier):
        usual = (found.limit - 0.5 - classifier.FLOOR) / norm.isf(0.001)
        return found.value - 0.5 > usual * norm.isf(0.05)
    usual = (found.limit - pca.FLOOR) / norm.isf(0.0005)
    return found.value > usual * norm.isf(0.025)


@ALL
@pytest.mark.parametrize(
    ("made", "rows"), [(mixed, 400), (mixed, 40), (normal, 400)], ids=["mixed", "few", "normal"]
)
def test_on_unchanged_rows_the_noise_is_exceeded_as_seldom_as_stated(
    detector: Multivariate,
    made: Callable[[np.random.Generator, int], pl.DataFrame],
    rows: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    above, alarms, batches = 0, 0, 120
    for batch in range(batches):
        if batch % 4 == 0:
            state = detector.fit(made(rng, 1_000))
        current = made(rng, rows)
        above += chances(detector, state, current)
        alarms += detector.measure(state, current).drifted
    # So many or more come with a chance below 1 % where the rate is one in twenty.
    assert above <= binom.isf(0.01, batches, 0.05)
    assert alarms == 0


@ALL
def test_categories_that_are_all_different_are_no_drift(detector: Multivariate) -> None:
    reference = pl.DataFrame({"id": [f"a{i}" for i in range(3_000)]})
    current = pl.DataFrame({"id": [f"b{i}" for i in range(2_000)]})
    assert not moved(detector, reference, current).drifted


# Sharp ----------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS[:2], ids=repr)
@pytest.mark.parametrize(
    "change",
    [pl.col("x0") + 0.5, pl.col("x0") * 2],
    ids=["mean", "spread"],
)
def test_a_mean_or_a_spread_that_moves_in_one_of_six_columns_is_seen(
    detector: Multivariate, change: pl.Expr, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 4_000), normal(rng, 2_000)
    assert not moved(detector, reference, current).drifted
    assert moved(detector, reference, current.with_columns(change.alias("x0"))).drifted


@pytest.mark.parametrize("change", [pl.col("x0") + 1.0, pl.col("x0") * 2], ids=["mean", "spread"])
def test_components_see_a_column_that_leaves_the_others(change: pl.Expr, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = factors(rng, 4_000), factors(rng, 2_000)
    assert not moved(PCA(), reference, current).drifted
    found = moved(PCA(), reference, current.with_columns(change.alias("x0")))
    assert found.drifted
    assert found.columns[0].column == "x0"


@ALL
def test_a_correlation_that_breaks_is_seen_where_no_column_moves(
    detector: Multivariate, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference, current = factors(rng, 4_000), factors(rng, 2_000, broken=True)
    assert drift.compare(reference, current).drifted == ()
    assert not moved(detector, reference, factors(rng, 2_000)).drifted
    assert moved(detector, reference, current).drifted


@ALL
@pytest.mark.parametrize("width", [8, 384])
def test_embeddings_that_move_are_seen(detector: Multivariate, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vector = pl.Array(pl.Float32, width)
    reference = pl.DataFrame({"e": pl.Series(embeddings(rng, 1_500, width), dtype=vector)})
    still = pl.DataFrame({"e": pl.Series(embeddings(rng, 600, width), dtype=vector)})
    away = pl.DataFrame({"e": pl.Series(embeddings(rng, 600, width, at=1.5), dtype=vector)})
    state = detector.fit(reference)
    assert not detector.measure(state, still).drifted
    assert detector.measure(state, away).drifted
    lists = away.cast({"e": pl.List(pl.Float64)})
    assert detector.measure(state, lists).value == pytest.approx(
        detector.measure(state, away).value, rel=1e-3
    )


def test_the_classifier_names_the_columns_that_betray_the_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 4_000, 12), normal(rng, 3_000, 12)
    tied = current.with_columns(x4=0.8 * pl.col("x3") + 0.6 * pl.col("x4"))
    assert {one.column for one in moved(DomainClassifier(), reference, tied).columns} == {
        "x3",
        "x4",
    }
    both = tied.with_columns(pl.col("x9") + 2)
    found = moved(DomainClassifier(), reference, both)
    assert found.columns[0].column == "x9"
    assert all(0.5 < one.limit < one.value <= 1 for one in found.columns)


def test_the_auc_of_the_classifier_is_that_of_the_best_one_where_that_is_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 5_000), normal(rng, 5_000).with_columns(pl.col("x0") + 1)
    # Two normal distributions one spread apart.
    best = norm.cdf(1 / np.sqrt(2))
    assert moved(DomainClassifier(), reference, current).value == pytest.approx(best, abs=0.02)


def test_mmd_is_about_the_exact_discrepancy_of_two_gaussians(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = pl.DataFrame({"x": rng.normal(size=20_000)})
    detector = MMD(seed=3)
    state = detector.fit(reference)
    kept = msgspec.msgpack.decode(state, type=detector._kept)
    found = detector.measure(state, reference + 1.0)
    # E k(x, y) = w / √(w² + 2) exp(-d² / 2(w² + 2)) for a kernel of width w, a distance d.
    wide = kept.width**2 + 2
    exact = np.sqrt(2 * kept.width / np.sqrt(wide) * (1 - np.exp(-1 / 2 / wide)))
    assert found.value == pytest.approx(exact, rel=0.1)


# Order, size, repeatability -------------------------------------------------------------


@ALL
def test_the_order_of_rows_does_not_matter(detector: Multivariate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = mixed(rng, 1_000), mixed(rng, 400)
    state = detector.fit(reference)
    assert detector.fit(reference.sample(fraction=1, shuffle=True, seed=1)) == state
    assert detector.fit(reference.cast({"kind": pl.Categorical})) == state
    again = detector.measure(state, current.sample(fraction=1, shuffle=True, seed=2))
    assert again.value == pytest.approx(detector.measure(state, current).value, abs=1e-6)


def test_a_sample_takes_equal_rows_one_by_one() -> None:
    coins = pl.DataFrame({"coin": [True, False] * 20_000})
    drawn = sample(coins, ["coin"], 2_000, seed=0)
    heads = int(drawn["coin"].sum())
    assert drawn.height == 2_000
    assert binom.ppf(0.001, 2_000, 0.5) <= heads <= binom.isf(0.001, 2_000, 0.5)


@ALL
def test_a_state_is_small_however_many_and_wide_the_rows_are(
    detector: Multivariate, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    long = normal(rng, 60_000, 20)
    vectors = pl.Series(rng.normal(size=(600, 1_536)), dtype=pl.Array(pl.Float32, 1_536))
    assert len(detector.fit(long)) < 2_000_000
    assert len(detector.fit(pl.DataFrame({"e": vectors}))) < 2_000_000
    assert not detector.measure(detector.fit(long), long.head(30_000)).drifted


@ALL
def test_another_seed_draws_another_state_that_says_the_same(
    detector: Multivariate, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 2_000), normal(rng, 1_000).with_columns(pl.col("x0") + 3)
    other = type(detector)(seed=7)
    assert other.fit(reference) != detector.fit(reference)
    first, second = moved(detector, reference, current), moved(other, reference, current)
    assert first.drifted == second.drifted
    # A state remembers what it was drawn with.
    assert detector.measure(other.fit(reference), current).value == second.value


# Bad rows -------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("wild", [1e12, -1e300, float("inf"), float("nan"), None])
def test_one_wild_value_does_not_count_for_more_than_one(
    detector: Multivariate, wild: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference, current = factors(rng, 2_000), factors(rng, 1_000)
    spoil = pl.when(pl.int_range(pl.len()) == 7).then(pl.lit(wild)).otherwise("x0").alias("x0")
    plain = moved(detector, reference, current).value
    for pair in (
        (reference.with_columns(spoil), current),
        (reference, current.with_columns(spoil)),
    ):
        found = moved(detector, *pair)
        assert found.value == pytest.approx(plain, abs=0.06)
        assert not found.drifted


BROKEN: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "gone": lambda rows: rows.drop("x"),
    "text for numbers": lambda rows: rows.with_columns(pl.col("x").cast(pl.String)),
    "lists for numbers": lambda rows: rows.with_columns(x=pl.concat_list("x", "y")),
    "all missing": lambda rows: rows.with_columns(x=pl.lit(None, dtype=pl.Float64)),
    "all of type null": lambda rows: rows.with_columns(x=pl.lit(None)),
    "all infinite": lambda rows: rows.with_columns(x=pl.lit(float("inf"))),
    "all wild": lambda rows: rows.with_columns(x=pl.col("x") * 1e300),
    "nothing left": lambda rows: rows.select(other="x"),
    "objects": lambda rows: rows.with_columns(x=pl.Series([object()] * rows.height)),
}


@ALL
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_column_that_is_gone_or_broken_is_drift(
    detector: Multivariate, broken: Callable[[pl.DataFrame], pl.DataFrame], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    reference, current = mixed(rng, 2_000), mixed(rng, 500)
    found = moved(detector, reference, broken(current))
    assert found.drifted
    assert np.isfinite([found.value, found.limit]).all()


@ALL
def test_a_new_column_is_not_looked_at(detector: Multivariate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 1_000), normal(rng, 500)
    state = detector.fit(reference)
    assert detector.measure(state, current.with_columns(new=pl.lit("?"))) == detector.measure(
        state, current
    )


@ALL
def test_constants_are_no_drift_until_they_change(detector: Multivariate) -> None:
    same = pl.DataFrame({"one": [1.0] * 500, "text": ["a"] * 500, "none": [None] * 500})
    reference = same.cast({"none": pl.Float64})
    assert not moved(detector, reference, same.head(200)).drifted
    assert moved(detector, reference, same.with_columns(one=pl.lit(1.1))).drifted
    assert moved(detector, reference, same.with_columns(text=pl.lit("b"))).drifted
    assert moved(detector, reference, same.with_columns(none=pl.lit(0.0))).drifted


@ALL
def test_every_type_of_number_time_and_text_is_written(detector: Multivariate) -> None:
    two = pl.Series([1, 2] * 200)
    rows = pl.DataFrame(
        {
            "large": two.cast(pl.UInt64) * 2**62,
            "larger": two.cast(pl.Int128),
            "huge": [1e308, -1e308] * 200,
            "far": [0.0] * 300 + [1e308, -1e308] * 50,
            "exact": two.cast(pl.Decimal(20, 4)),
            "length": two.cast(pl.Duration("ns")),
            "hour": two.cast(pl.Time),
            "day": two.cast(pl.Date),
            "holes": pl.Series([True, None] * 200),
            "text": pl.Series([None] * 400, dtype=pl.String),
            "named": pl.Series(["x", "y"] * 200, dtype=pl.Enum(["x", "y"])),
            "many": pl.Series(["x", "y"] * 200, dtype=pl.Categorical),
            "vectors": pl.Series([[1, 2]] * 400, dtype=pl.Array(pl.Int8, 2)),
            "empty": pl.Series([[]] * 400, dtype=pl.List(pl.Float32)),
        }
    )
    state = detector.fit(rows)
    assert not detector.measure(state, rows.sample(fraction=0.8, shuffle=True, seed=1)).drifted
    texts = rows.cast({"named": pl.String, "many": pl.String})
    assert detector.measure(state, texts) == detector.measure(state, rows)


@ALL
def test_times_are_moments_whatever_their_zone(detector: Multivariate) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = pl.Series([start + timedelta(minutes=i) for i in range(2_000)])
    reference = pl.DataFrame({"at": times.cast(pl.Datetime("us", "UTC"))})
    elsewhere = reference.select(
        pl.col("at").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms")
    )
    state = detector.fit(reference)
    assert not detector.measure(state, elsewhere).drifted
    later = reference.select(pl.col("at") + timedelta(days=30))
    assert detector.measure(state, later).drifted or isinstance(detector, PCA)


@ALL
def test_lists_of_another_width_or_with_holes_count_as_missing(
    detector: Multivariate, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole = pl.Series("e", rng.normal(size=(1_000, 3)).tolist())
    state = detector.fit(pl.DataFrame({"e": whole}))
    for bad in ([1.0, 2.0], [], None, [1.0, None, 3.0], [1.0, float("inf"), 3.0]):
        few = pl.Series("e", [bad, *whole[1:300].to_list()], dtype=pl.List(pl.Float64))
        assert not detector.measure(state, pl.DataFrame({"e": few})).drifted
        all_bad = pl.Series("e", [bad] * 300, dtype=pl.List(pl.Float64))
        assert detector.measure(state, pl.DataFrame({"e": all_bad})).drifted


@ALL
@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_are_nothing_to_compare(
    detector: Multivariate, rows: int, seed: int
) -> None:
    enough = normal(np.random.default_rng(seed), 500)
    few = enough.head(rows)
    for reference, current in ((enough, few), (few, enough)):
        fitted = drift.Reference.fit(reference, detectors=[detector])
        assert detector.check(fitted, current) == ()
        with pytest.raises(SchemaMismatch, match="expected at least 2 rows"):
            detector.measure(fitted.parts[detector.name], current)


@ALL
def test_two_rows_are_compared_and_say_little(detector: Multivariate, seed: int) -> None:
    enough = normal(np.random.default_rng(seed), 500)
    found = moved(detector, enough, enough.head(2))
    assert np.isfinite([found.value, found.limit]).all()
    assert not found.drifted


@ALL
def test_rows_without_a_column_of_numbers_are_nothing_to_compare(detector: Multivariate) -> None:
    texts = pl.DataFrame({"words": [["a", "b"], ["c"]] * 50, "_time": range(100)})
    with pytest.raises(SchemaMismatch, match="words"):
        moved(detector, texts, texts)


# In a pipeline --------------------------------------------------------------------------


@ALL
def test_a_detector_of_whole_rows_keeps_the_contract(detector: Multivariate) -> None:
    check_detector(detector)
    assert isinstance(detector, Detector)


@ALL
def test_a_reference_keeps_the_part_of_each_detector(detector: Multivariate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = drift.Reference.fit(factors(rng, 4_000), detectors=DETECTORS)
    stored = drift.Reference.loads(reference.dumps())
    found = detector.check(stored, factors(rng, 2_000, broken=True))
    whole = next(one for one in found if one.column == "all columns")
    assert whole.drifted
    ratios = [one.value / one.limit for one in found]
    assert ratios == sorted(ratios, reverse=True)
    assert detector.check(drift.Reference.fit(factors(rng, 100)), factors(rng, 100)) == ()


def test_only_the_columns_asked_for_are_looked_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = normal(rng, 1_000), normal(rng, 500).with_columns(pl.col("x0") + 5)
    assert moved(MMD(), reference, current).drifted
    assert not moved(MMD(exclude=["x0"]), reference, current).drifted
    assert not moved(MMD(columns=["x1", "x2"]), reference, current).drifted
    assert moved(MMD(columns=["x0"]), reference, current).drifted
    keeps = reference.with_columns(_time=pl.int_range(pl.len()))
    assert MMD().fit(keeps) == MMD().fit(reference)


@ALL
def test_a_limit_is_taken_as_it_is(detector: Multivariate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = factors(rng, 1_000), factors(rng, 500, broken=True)
    value = moved(detector, reference, current).value
    assert moved(type(detector)(limit=value * 1.01), reference, current).drifted is False
    assert moved(type(detector)(limit=value * 0.99), reference, current).drifted is True


@pytest.mark.parametrize("kind", [DomainClassifier, MMD, PCA])
def test_what_is_written_wrongly_is_said_at_once(kind: type[Multivariate]) -> None:
    with pytest.raises(ConfigError, match="expected a limit above 0, got -1"):
        kind(limit=-1)
    with pytest.raises(ConfigError, match=r"write columns=\['age'\]"):
        kind(columns="age")
    with pytest.raises(ConfigError, match=r"write exclude=\['age'\]"):
        kind(exclude="age")
    with pytest.raises(ConfigError, match="expected a seed"):
        kind(seed=-1)
    rows = pl.DataFrame({"age": [1, 2], "words": [["a"], ["b"]]})
    with pytest.raises(ConfigError, match="did you mean 'age'"):
        kind(columns=["aged"]).fit(rows)
    with pytest.raises(ConfigError, match=r"got List\(String\) in column 'words'"):
        kind(columns=["words"]).fit(rows)


def test_numbers_out_of_range_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match="expected 2 rows or more, got 1"):
        DomainClassifier(rows=1)
    with pytest.raises(ConfigError, match="expected a limit below 1, got 1.5"):
        DomainClassifier(limit=1.5)
    with pytest.raises(ConfigError, match="expected a variance between 0 and 1, got 1.0"):
        PCA(variance=1.0)


def test_the_state_of_another_detector_is_refused() -> None:
    rows = pl.DataFrame({"x": [float(i) for i in range(50)]})
    with pytest.raises(ConfigError, match=r"MMD: expected the bytes of its own fit\(\)"):
        MMD().measure(PCA().fit(rows), rows)
    with pytest.raises(ConfigError, match=r"PCA: expected the bytes of its own fit\(\)"):
        PCA().measure(b"\xc1", rows)


def test_a_part_shows_itself_as_the_call_that_makes_it() -> None:
    assert repr(DomainClassifier(rows=2_000, exclude=["at"])) == (
        "DomainClassifier(exclude=['at'], rows=2000)"
    )
    assert PCA(variance=0.8, seed=3).name == "PCA(seed=3, variance=0.8)"


def test_a_movement_reads_as_a_sentence_and_as_a_table() -> None:
    age = ColumnDrift(column="age", method="AUC", value=0.69, limit=0.57)
    found = Movement("AUC", 0.71, 0.55, (age,))
    assert repr(found) == "all columns: AUC 0.71 is above its limit of 0.55, most in age (0.69)"
    assert repr(Movement("MMD", 0.01, 0.05)) == "all columns: MMD 0.01 is within its limit of 0.05"
    assert found.to_frame().rows() == [
        ("all columns", "AUC", 0.71, 0.55, True),
        ("age", "AUC", 0.69, 0.57, True),
    ]


# The encoder ----------------------------------------------------------------------------


def test_numbers_are_written_in_spreads_from_their_middle() -> None:
    rows = pl.DataFrame({"x": np.linspace(-1, 1, 1_001)})
    encoder = Encoder.of(rows, ["x"])
    written = encoder.encode(pl.DataFrame({"x": [0.0, 0.682, 1e12, None, float("-inf")]}))
    assert written[:, 0].tolist() == pytest.approx([0, 1, CLIP, 0, 0], abs=1e-6)
    assert (written[:, 1] > 0).tolist() == [False, False, False, True, True]


def test_a_category_has_a_number_of_its_own_where_it_is_common_and_shares_one_otherwise() -> None:
    texts = ["a"] * 600 + ["b"] * 300 + [f"rare {i}" for i in range(100)]
    encoder = Encoder.of(pl.DataFrame({"k": texts}), ["k"])
    assert encoder.fields[0].top == ("a", "b")
    written = encoder.encode(pl.DataFrame({"k": ["a", "b", "rare 1", "new", None]}))
    assert written.shape[1] == 2 + 8 + 1
    assert (written != 0).sum(axis=1).tolist() == [1] * 5
    assert [int(np.flatnonzero(row)[0]) for row in written[[0, 1, 4]]] == [0, 1, 10]
    # The places of hashed texts are part of every stored state.
    assert [int(np.flatnonzero(row)[0]) for row in written[[2, 3]]] == [2, 7]


def test_wide_vectors_keep_their_distances_in_fewer_numbers(seed: int) -> None:
    made = np.random.default_rng(seed).normal(size=(400, 1_024))
    series = pl.Series("e", made, dtype=pl.Array(pl.Float64, 1_024))
    encoder = Encoder.of(series.to_frame(), ["e"])
    written = encoder.encode(series.to_frame())[:, :-1]
    assert written.shape == (400, WIDTH)
    apart = np.linalg.norm(made[:200] - made[200:], axis=1)
    kept = np.linalg.norm(written[:200] - written[200:], axis=1)
    ratio = kept / apart
    assert ratio.std() / ratio.mean() < 0.1
