"""A stored reference: what it says of a batch, where it comes from, what it costs."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from keepfit import drift
from keepfit.drift import Reference
from keepfit.drift.came import Came
from keepfit.errors import ColumnUnknown, ConfigError, SourceError

START = datetime(2024, 1, 1, tzinfo=UTC)
WORDS = [
    "late",
    "cold",
    "warm",
    "bag",
    "lost",
    "seat",
    "food",
    "crew",
    "gate",
    "kind",
    "slow",
    "calm",
]


def rows(n: int, seed: int, *, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": rng.normal(shift, 1.0, n),
            "count": rng.poisson(3.0, n),
            "plan": rng.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1]),
            "flag": rng.random(n) < 0.3,
            "seen": [START + timedelta(seconds=int(s)) for s in rng.integers(0, 10**6, n)],
            "note": [" ".join(rng.choice(WORDS, 9)) for _ in range(n)],
        }
    )


# Every statistic ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "error"), [(400, 0.0), (30_000, 0.0021), (60_000, 0.0011)])
def test_numbers_have_the_distances_of_scipy(size: int, error: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.gamma(2.0, size=size), rng.gamma(2.2, size=size // 2)
    found = drift.compare(pl.DataFrame({"x": before}), pl.DataFrame({"x": after}))["x"]
    assert found.statistics["KS"] == pytest.approx(
        ks_2samp(before, after).statistic, abs=found.error + 1e-9
    )
    assert found.statistics["Wasserstein"] == pytest.approx(
        wasserstein_distance(before, after), rel=0.005
    )
    assert found.error <= error


def test_categories_have_the_distances_of_scipy() -> None:
    counts = np.array([[600, 300, 100], [100, 250, 150]])
    before, after = (np.repeat(["a", "b", "c"], one) for one in counts)
    found = drift.compare(pl.DataFrame({"x": before}), pl.DataFrame({"x": after}))["x"].statistics
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert found["JensenShannon"] == pytest.approx(jensenshannon(*shares, base=2))
    assert found["ChiSquare"] == pytest.approx(chi2_contingency(counts, correction=False)[0])
    psi = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert found["PSI"] == pytest.approx(psi)


def test_a_report_names_the_worst_column_first_and_turns_into_a_frame(seed: int) -> None:
    reference = Reference.fit(rows(4_000, seed))
    current = rows(2_000, seed + 1, shift=0.9).with_columns(plan=pl.lit("pro"), extra=pl.lit(1))
    report = reference.check(current)
    assert [one.column for one in report.drifted] == ["plan", "amount"]
    assert report.columns[0].column == "plan"
    assert report.new == ("extra",)
    assert repr(report).startswith("2 of 6 columns drifted: plan (")
    assert repr(report).endswith("2,000 rows against 4,000; new: extra")
    frame = report.to_frame()
    assert frame.height == 6
    assert {"KS", "Wasserstein", "PSI", "JensenShannon", "ChiSquare", "unseen"} <= set(
        frame.columns
    )
    assert frame.filter(column="amount")["drifted"].item()
    with pytest.raises(KeyError):
        report["gone"]


def test_rows_like_the_reference_do_not_drift(seed: int) -> None:
    reference = Reference.fit(rows(4_000, seed))
    assert not reference.check(rows(2_000, seed + 1)).drifted


# Free text, dates, booleans -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (lambda text: text.str.slice(0, 12), "KS"),
        (lambda text: text.str.to_uppercase(), "JensenShannon"),
        (lambda text: text.str.replace_all("e", "x"), "unseen"),
    ],
)
def test_text_that_is_shorter_louder_or_foreign_drifts(change, method: str, seed: int) -> None:
    reference = Reference.fit(rows(3_000, seed))
    found = reference.check(rows(1_000, seed + 1).with_columns(change(pl.col("note"))))["note"]
    assert (found.kind, found.method, found.drifted) == ("text", method, True)


def test_names_that_repeat_are_categories_and_not_text(seed: int) -> None:
    names = pl.DataFrame({"city": ["New York", "San Jose", "Los Angeles"] * 100})
    assert Reference.fit(names).profile.columns[0].kind == "category"


def test_a_date_and_a_flag_that_moved_drift(seed: int) -> None:
    reference = Reference.fit(rows(4_000, seed))
    later = rows(2_000, seed + 1).with_columns(
        pl.col("seen") + pl.duration(days=6), flag=pl.col("amount") > -1
    )
    assert {one.column for one in reference.check(later).drifted} == {"seen", "flag"}


# Right where others are wrong -----------------------------------------------------------


def test_a_column_that_lost_all_its_values_drifts(seed: int) -> None:
    reference = Reference.fit(rows(1_000, seed))
    for gone in (pl.lit(None, pl.Float64), pl.lit(float("nan")), pl.lit(None)):
        found = reference.check(rows(500, seed + 1).with_columns(amount=gone))["amount"]
        assert (found.method, found.value, found.drifted) == ("missing", 1.0, True)


def test_a_column_of_numbers_that_became_text_drifts(seed: int) -> None:
    reference = Reference.fit(rows(1_000, seed))
    found = reference.check(rows(500, seed + 1).with_columns(pl.col("amount").cast(pl.String)))
    assert (found["amount"].method, found["amount"].drifted) == ("type", True)


@pytest.mark.parametrize("wild", [1e12, -1e300, float("inf")])
def test_one_wild_value_hides_no_shift_and_makes_none(wild: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=5_000), rng.normal(1.0, size=2_000)
    plain = drift.compare(pl.DataFrame({"x": before}), pl.DataFrame({"x": after}))["x"]
    before[3] = wild
    found = drift.compare(pl.DataFrame({"x": before}), pl.DataFrame({"x": after}))["x"]
    for method in ("KS", "PSI", "JensenShannon"):
        assert found.statistics[method] == pytest.approx(plain.statistics[method], rel=0.02)
    still = rng.normal(size=2_000)
    still[5] = wild
    assert not drift.compare(pl.DataFrame({"x": before}), pl.DataFrame({"x": still})).drifted


def test_infinite_values_are_counted_and_set_apart() -> None:
    reference = Reference.fit(pl.DataFrame({"x": np.arange(1_000.0)}))
    current = np.arange(1_000.0)
    current[:300] = np.inf
    found = reference.check(pl.DataFrame({"x": current}))["x"]
    assert (found.infinite, found.missing, found.drifted) == (300, pytest.approx(0.3), True)
    assert np.isfinite(list(found.statistics.values())).all()


def test_a_thousand_categories_that_did_not_move_do_not_drift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw = lambda n: pl.DataFrame({"shop": rng.integers(0, 1_000, n).astype(str)})  # noqa: E731
    reference = Reference.fit(draw(100_000))
    assert not any(reference.check(draw(10_000)).drifted for _ in range(50))


def test_dates_with_a_zone_are_compared_and_not_dropped(seed: int) -> None:
    reference = Reference.fit(rows(1_000, seed))
    elsewhere = rows(500, seed + 1).with_columns(
        pl.col("seen").dt.convert_time_zone("Asia/Tokyo") + pl.duration(days=30)
    )
    assert reference.check(elsewhere)["seen"].drifted


def test_a_missing_column_is_said_and_not_dropped(seed: int) -> None:
    reference = Reference.fit(rows(1_000, seed))
    found = reference.check(rows(500, seed + 1).drop("amount"))["amount"]
    assert (found.method, found.value, found.drifted) == ("missing", 1.0, True)


def test_a_third_of_new_nulls_drifts(seed: int) -> None:
    reference = Reference.fit(rows(3_000, seed))
    holes = pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col("amount"))
    found = reference.check(rows(3_000, seed + 1).with_columns(amount=holes))["amount"]
    assert (found.method, found.drifted) == ("missing", True)


# Where rows come from -------------------------------------------------------------------


def test_polars_pandas_and_arrow_give_the_same_reference(seed: int) -> None:
    frame = rows(500, seed)
    reference = Reference.fit(frame)
    assert Reference.fit(frame.to_arrow()).check(frame.to_arrow()).drifted == ()
    pandas = Reference.fit(frame.to_pandas())
    for one in (pandas, Reference.fit(pa.table(frame.to_arrow()))):
        assert [c.spread for c in one.profile.columns] == [
            c.spread for c in reference.profile.columns
        ]


def test_files_a_delta_table_and_tables_one_by_one_give_the_reference_of_the_whole(
    tmp_path: Path, seed: int
) -> None:
    frame = rows(3_000, seed)
    parts = [frame[:1_000], frame[1_000:2_500], frame[2_500:]]
    (tmp_path / "files").mkdir()
    for i, part in enumerate(parts):
        part.write_parquet(tmp_path / "files" / f"{i}.parquet")
        part.write_delta(tmp_path / "delta", mode="append")
    whole = Reference.fit(frame)
    current = rows(1_000, seed + 1, shift=0.5)
    places = [
        tmp_path / "files",
        str(tmp_path / "files" / "*.parquet"),
        tmp_path / "delta",
        frame.lazy(),
        iter(parts),
        parts,
    ]
    for place in places:
        report = Reference.fit(place).check(current)
        for one in whole.check(current):
            found = report[one.column]
            assert found.value == pytest.approx(one.value, abs=0.002), (place, one.column)
            assert found.drifted == one.drifted
    assert whole.check(tmp_path / "files").rows == 3_000
    assert not whole.check(tmp_path / "files").drifted


def test_rows_read_in_parts_are_measured_as_the_whole_is(tmp_path: Path, seed: int) -> None:
    reference, current = Reference.fit(rows(3_000, seed)), rows(2_000, seed + 1, shift=0.7)
    current = current.with_columns(plan=pl.lit("new")).drop("flag")
    current.write_parquet(tmp_path / "now.parquet")
    whole, parts = reference.check(current), reference.check(tmp_path / "now.parquet")
    for one in whole:
        found = parts[one.column]
        assert (found.method, found.drifted) == (one.method, one.drifted)
        assert found.value == pytest.approx(one.value, abs=0.002)
        for name, value in one.statistics.items():
            assert found.statistics[name] == pytest.approx(value, rel=0.02, abs=0.01)


@pytest.mark.parametrize("what", ["nowhere.parquet", "nowhere/*.parquet", "empty"])
def test_a_path_without_rows_is_an_error(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=rf"expected rows at '.*{re.escape(what)}'"):
        Reference.fit(str(tmp_path / what))


def test_a_path_that_is_no_parquet_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    for read in (Reference.fit, Reference.fit(pl.DataFrame({"a": [1]})).check):
        with pytest.raises(
            SourceError, match=r"expected Parquet files at '.*rows.csv', got"
        ) as told:
            read(tmp_path / "rows.csv")
        assert "pl.scan_csv" in str(told.value)


@pytest.mark.parametrize("value", [1, 2.5, b"x"], ids=["int", "float", "bytes"])
def test_a_pandas_column_of_mixed_types_is_an_error_that_names_it(value: object) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", value]})
    kinds = ", ".join(sorted(["str", type(value).__name__]))
    with pytest.raises(ConfigError, match=rf"one type in column `b`, got {kinds}\n"):
        Reference.fit(frame)


def test_two_pandas_columns_of_one_name_are_an_error_that_names_it() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(ConfigError, match="every column of a pandas table once, got `a` 2 times"):
        Reference.fit(frame)


@pytest.mark.parametrize("what", [3, {"a": [1]}, b"x"])
def test_what_is_no_table_is_an_error_that_says_so(what: object) -> None:
    with pytest.raises(ConfigError, match="expected a Polars, pandas or Arrow table"):
        Reference.fit(what)


# Storing and merging --------------------------------------------------------------------


def test_a_reference_shows_itself_in_a_line(seed: int) -> None:
    wide = pl.DataFrame({f"x{i}": range(1_200) for i in range(5)})
    assert repr(Reference.fit(wide)) == "reference of 1,200 rows, 5 columns: x0, x1, x2 and 2 more"
    assert repr(Reference.fit(wide.select("x0"), detectors=[drift.MMD()])) == (
        "reference of 1,200 rows, 1 columns: x0; kept by MMD()"
    )
    assert repr(Reference.fit(pl.DataFrame())) == "reference of 0 rows, no column"


@pytest.mark.parametrize("content", [b"", b"abc", b"\x81\xa1a\x01"], ids=["none", "text", "map"])
def test_bytes_that_are_no_reference_are_an_error_that_says_so(content: bytes) -> None:
    with pytest.raises(ConfigError, match="expected the bytes of a reference, got others") as told:
        Reference.loads(content)
    assert "Reference.dumps" in str(told.value)


def test_what_is_no_reference_is_not_merged(seed: int) -> None:
    with pytest.raises(ConfigError, match="references to merge, got int at place 1"):
        Reference.merge([Reference.fit(rows(100, seed)), 1])  # type: ignore[list-item]


def test_a_column_that_a_report_lacks_is_told_with_the_nearest(seed: int) -> None:
    report = drift.compare(pl.DataFrame({"tenure": [1]}), pl.DataFrame({"tenure": [1]}))
    with pytest.raises(KeyError, match="the nearest is 'tenure'"):
        report["tenur"]
    with pytest.raises(ColumnUnknown, match="one of 1 columns that were compared, got 'plan'"):
        report["plan"]


def test_a_stored_reference_says_the_same_and_is_small(seed: int) -> None:
    frame, current = rows(60_000, seed).drop("note"), rows(1_000, seed + 1, shift=0.3).drop("note")
    reference = Reference.fit(frame)
    content = reference.dumps()
    assert len(content) < 60_000 * len(frame.columns)
    assert Reference.loads(content).check(current) == reference.check(current)
    ten_times = Reference.fit(pl.concat([frame] * 10))
    assert len(ten_times.dumps()) < 1.05 * len(content)


def test_what_a_detector_keeps_is_opened_once_and_anew_when_it_is_other(seed: int) -> None:
    kept = {"mine": msgspec.msgpack.encode([1, 2])}
    reference = Reference(profile=Reference.fit(rows(100, seed)).profile, parts=kept)
    first = reference.opened("mine", list)
    assert first == [1, 2]
    assert reference.opened("mine", list) is first
    assert reference.opened("other", list) is None
    kept["mine"] = msgspec.msgpack.encode([3])
    assert reference.opened("mine", list) == [3]


def test_a_batch_that_two_references_look_at_reads_as_each_alone_reads_it(seed: int) -> None:
    came = Came(rows(300, seed + 2, shift=0.4))
    for one in (Reference.fit(rows(n, seed)) for n in (500, 4_000)):
        alone = one.check(came.rows.clone()).to_frame()
        one.read(came)
        assert one.check(came.rows).to_frame().equals(alone)
    assert came.column("plan") is came.column("plan")
    assert came.column("gone") is None


def test_merged_references_say_what_the_whole_one_says(seed: int) -> None:
    frame, current = rows(20_000, seed), rows(2_000, seed + 1, shift=0.4)
    whole = Reference.fit(frame).check(current)
    merged = Reference.merge([Reference.fit(part) for part in frame.iter_slices(2_500)])
    assert merged.rows == 20_000
    for one in whole:
        found = merged.check(current)[one.column]
        assert found.value == pytest.approx(one.value, abs=0.003)
        assert found.drifted == one.drifted
    with pytest.raises(ConfigError, match="got none"):
        Reference.merge([])


def test_a_column_that_some_parts_do_not_have_is_missing_there(seed: int) -> None:
    frame = rows(1_000, seed)
    merged = Reference.merge([Reference.fit(frame), Reference.fit(frame.drop("plan"))])
    column = merged.profile.column("plan")
    assert column is not None
    assert (column.rows, column.missing, column.kind) == (2_000, 1_000, "category")


def test_a_column_whose_kind_differs_between_parts_is_no_kind(seed: int) -> None:
    frame = rows(1_000, seed)
    other = frame.with_columns(pl.col("amount").cast(pl.String))
    column = Reference.merge([Reference.fit(frame), Reference.fit(other)]).profile.column("amount")
    assert column is not None
    assert column.kind == "other"


# Nothing to compare ---------------------------------------------------------------------


def test_no_rows_on_either_side_are_nothing_to_compare(seed: int) -> None:
    frame = rows(100, seed)
    assert Reference.fit(frame).check(frame.clear()).columns == ()
    assert Reference.fit(frame.clear()).check(frame).columns == ()
    assert repr(Reference.fit(frame).check(frame.clear())).startswith("nothing to compare")
    assert drift.compare(pl.DataFrame(), pl.DataFrame()).columns == ()


def test_one_row_a_constant_and_a_missing_column_are_compared_without_alarm() -> None:
    frame = pl.DataFrame({"x": [1.0] * 50, "gone": pl.Series([None] * 50, dtype=pl.Float64)})
    reference = Reference.fit(frame)
    assert not reference.check(frame[:1]).drifted
    assert not reference.check(frame).drifted
    assert Reference.fit(frame[:1]).check(frame[:1])["x"].value == 0.0


def test_lists_and_other_types_are_compared_by_what_is_missing() -> None:
    frame = pl.DataFrame({"v": [[1.0, 2.0]] * 200, "b": [b"x"] * 200})
    reference = Reference.fit(frame)
    assert not reference.check(frame).drifted
    assert reference.check(frame.with_columns(v=pl.lit(None, pl.List(pl.Float64))))["v"].drifted
