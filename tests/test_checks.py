import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import comb
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import checks
from keepfit.batch import Batch, Roles
from keepfit.errors import ConfigError
from keepfit.facts import Arrived, Finding, Found, Outcome, decode, encode
from keepfit.profile import Profile
from keepfit.protocols import Check, CheckContext

START = datetime(2024, 1, 1, tzinfo=UTC)
BLOCK, WARN, PASS, NOT_APPLICABLE = (
    Outcome.BLOCK,
    Outcome.WARN,
    Outcome.PASS,
    Outcome.NOT_APPLICABLE,
)
ALL: list[Check] = [
    checks.Schema(),
    checks.Fresh("6h"),
    checks.Volume(),
    checks.Nulls(),
    checks.Nulls(0.1),
    checks.Range(),
    checks.Range({"a": (0, 1)}),
    checks.Unique(),
    checks.Leakage(),
    checks.Classes(),
]


def rows(columns: dict[str, Any], **own: Any) -> pl.DataFrame:
    """Return rows of a batch, an hour apart."""
    frame = pl.DataFrame(columns)
    times = pl.Series(
        [START + timedelta(hours=i) for i in range(frame.height)], dtype=pl.Datetime("us", "UTC")
    )
    return frame.with_columns(**({"_id": pl.arange(frame.height), "_time": times} | own))


def ask(
    check: Check,
    columns: dict[str, Any] | pl.DataFrame,
    reference: dict[str, Any] | pl.DataFrame | None = None,
    labels: Sequence[Any] = (),
    **context: Any,
) -> Sequence[Finding]:
    frame = columns if isinstance(columns, pl.DataFrame) else rows(columns)
    known = pl.DataFrame({"_id": frame["_id"][: len(labels)], "_label": labels})
    profile = None if reference is None else Profile.of(pl.DataFrame(reference))
    given = {"now": START, "roles": Roles(time="time", id="id"), "number": 7, "reference": profile}
    batch = Batch(rows=frame, labels=known, cursor="")
    return check.check(batch, CheckContext(**(given | context)))


def outcome(*asked: Any, **more: Any) -> Outcome:
    return checks.worst(ask(*asked, **more))


def only(*asked: Any, **more: Any) -> Finding:
    [finding] = ask(*asked, **more)
    return finding


def normal(n: int, seed: int, at: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(at, spread, n)


# All ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ALL, ids=repr)
@pytest.mark.parametrize(
    "columns",
    [
        {"a": pl.Series([], dtype=pl.Float64)},
        {"a": [1.0]},
        {"a": [None, None]},
        {"a": [float("nan"), float("inf"), float("-inf")]},
        {"a": [5.0] * 200},
        {"a": ["x", None, "y"]},
        {"b": [1, 2, 3]},
        {"a": [[1], [2]], "count": [{"x": 1}, {"x": 2}]},
        {},
        {"a": pl.Series(range(300), dtype=pl.Datetime("ms"))},
    ],
    ids=lambda columns: str(list(columns.values()))[:40],
)
@pytest.mark.parametrize(
    "reference", [None, {"a": [0.1, 0.2, 0.3]}, {"a": ["x", "y"]}, {}], ids=str
)
def test_every_check_says_something_of_anything(
    check: Check, columns: dict[str, Any], reference: dict[str, Any] | None
) -> None:
    frame = rows(columns) if columns else rows({"a": [1]}).drop("a")
    labels = [i % 2 for i in range(frame.height)]
    findings = ask(check, frame, reference, labels)
    assert findings
    assert all(one.message for one in findings)
    fact = Found(batch=1, findings=tuple(findings))
    assert decode(encode(fact)) == fact


@pytest.mark.parametrize("check", [checks.Schema(), checks.Nulls(), checks.Range()], ids=repr)
def test_without_a_reference_there_is_nothing_to_compare_with(check: Check) -> None:
    found = only(check, {"a": [1.0, 2.0], "b": ["x", "y"]})
    assert (found.outcome, "no reference yet" in found.message) == (NOT_APPLICABLE, True)


def test_a_batch_of_labels_alone_has_nothing_to_check() -> None:
    for check in ALL:
        assert outcome(check, rows({"a": [1.0]}).clear(), {"a": [1.0]}) == NOT_APPLICABLE


def test_two_thousand_columns_give_twenty_findings_and_a_count_of_the_rest() -> None:
    many = {f"c{i}": [1.0, 2.0] for i in range(2_000)}
    found = ask(checks.Schema(), {"c0": [1.0, 2.0], "new": [1, 2]}, many)
    assert len(found) == 20
    assert found[-1].message == "and 1,981 more findings like these"
    assert checks.worst(found) == BLOCK
    assert outcome(checks.Schema(), many, many) == PASS


def test_severity_warn_blocks_nothing_and_severity_block_makes_a_warning_block() -> None:
    assert outcome(checks.Schema(severity="warn"), {"b": [1]}, {"a": [1]}) == WARN
    late = {"now": START + timedelta(days=9)}
    assert outcome(checks.Fresh("6h"), {"a": [1]}, **late) == WARN
    assert outcome(checks.Fresh("6h", severity="block"), {"a": [1]}, **late) == BLOCK


def test_the_worst_outcome_is_the_one_that_counts() -> None:
    found = [
        Finding(check="c", outcome=one, message="m") for one in (NOT_APPLICABLE, PASS, WARN, BLOCK)
    ]
    assert [checks.worst(found[:n]) for n in range(5)] == [
        NOT_APPLICABLE,
        NOT_APPLICABLE,
        PASS,
        WARN,
        BLOCK,
    ]


# Schema ---------------------------------------------------------------------------------


def test_a_missing_column_blocks_and_the_hint_names_the_nearest_new_one() -> None:
    reference = {"tenure": [1, 2], "plan": ["a", "b"]}
    missing, new = ask(checks.Schema(), {"tenure_months": [1, 2], "plan": ["a", "b"]}, reference)
    assert (missing.outcome, missing.column) == (BLOCK, "tenure")
    assert missing.message == (
        "column `tenure` is missing from rows 2024-01-01 00:00 to 01:00 (2 columns in the reference, 2 here)"
    )
    assert "`tenure_months`" in (missing.hint or "")
    assert "--accept-schema" in (missing.hint or "")
    assert (new.outcome, new.column) == (WARN, "tenure_months")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1, 2], [1.5, 2.5], PASS),
        ([1, 2], pl.Series([1, 2], dtype=pl.Int8), PASS),
        (["a", "b"], pl.Series(["a", "b"], dtype=pl.Categorical), PASS),
        ([1, 2], ["1", "2"], BLOCK),
        (["1", "2"], [1, 2], BLOCK),
        ([1, 0], [True, False], BLOCK),
        ([START, START], ["2024", "2024"], BLOCK),
        ([START, START], pl.Series([START, START]).dt.replace_time_zone(None), WARN),
        ([[1], [2]], [{"a": 1}, {"a": 2}], WARN),
        ([1, 2], pl.Series([None, None]), WARN),
        ([1, 2], pl.Series([None, None], dtype=pl.String), WARN),
        (pl.Series([None, None], dtype=pl.String), [1, 2], WARN),
    ],
    ids=str,
)
def test_a_change_of_kind_blocks_and_other_changes_of_type_do_not(
    before: Any, after: Any, expected: Outcome
) -> None:
    assert outcome(checks.Schema(), {"x": after}, {"x": before}) == expected


def test_an_accepted_schema_lets_the_change_in_and_says_so() -> None:
    found = ask(checks.Schema(), {"x": ["1"]}, {"x": [1], "y": [2]}, schema_accepted=True)
    assert [one.outcome for one in found] == [WARN, WARN]


def test_a_category_never_seen_warns_with_its_share() -> None:
    before = {"carrier": ["AA", "UA"] * 500}
    after = {"carrier": ["AA"] * 97 + ["ZZ", "ZZ", "QX"]}
    found = only(checks.Schema(), after, before)
    assert (found.outcome, found.value) == (WARN, 0.03)
    assert found.message == "`carrier` has 2 categories never seen in 3 % of its values: `ZZ`, `QX`"
    assert outcome(checks.Schema(categories="block"), after, before) == BLOCK
    assert outcome(checks.Schema(categories="ignore"), after, before) == PASS


def test_a_column_that_always_brings_new_values_does_not_warn_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tails = {"tail": pl.Series(rng.zipf(1.5, 20_000)).cast(pl.String)}
    warned = [
        outcome(checks.Schema(), {"tail": pl.Series(rng.zipf(1.5, 500)).cast(pl.String)}, tails)
        for _ in range(60)
    ]
    assert warned.count(WARN) <= 1
    codes = {"code": [f"c{i}" for i in range(5_000)]}
    assert outcome(checks.Schema(), {"code": [f"d{i}" for i in range(5_000)]}, codes) == PASS


# Nulls ----------------------------------------------------------------------------------


def test_more_missing_than_stated_blocks_and_nan_counts_as_missing() -> None:
    found = only(checks.Nulls(0.05), {"a": [1.0, None, float("nan"), 4.0], "b": [1, 2, 3, 4]})
    assert (found.outcome, found.column, found.value, found.limit) == (BLOCK, "a", 0.5, 0.05)
    assert outcome(checks.Nulls(0.5), {"a": [1.0, None]}) == PASS
    assert outcome(checks.Nulls(0.05, columns=["b"]), {"a": [None], "b": [1]}) == PASS
    assert only(checks.Nulls(0.05, columns=["gone"]), {"a": [1]}).outcome == NOT_APPLICABLE


@pytest.mark.parametrize("gone", [[None] * 500, [float("nan")] * 500, [None] * 496 + [1.0] * 4])
def test_a_column_that_was_mostly_there_and_is_gone_blocks(gone: list[float | None]) -> None:
    before = {"a": [1.0, 2.0, 3.0, None] * 500}
    found = only(checks.Nulls(), {"a": pl.Series(gone, dtype=pl.Float64)}, before)
    assert (found.outcome, found.column) == (BLOCK, "a")
    assert "was 25 %" in found.message


def test_a_share_that_rises_warns_and_one_that_was_always_high_passes() -> None:
    before = {"a": [1.0, 2.0, 3.0, None] * 500}
    assert outcome(checks.Nulls(), {"a": [1.0, None] * 250}, before) == WARN
    assert outcome(checks.Nulls(), {"a": [1.0, 2.0, None] * 20}, before) == PASS
    assert outcome(checks.Nulls(), {"a": [1.0] * 100}, before) == PASS
    rare = {"a": [1.0] + [None] * 99}
    assert outcome(checks.Nulls(), {"a": pl.Series([None] * 50, dtype=pl.Float64)}, rare) == PASS


def test_a_few_rows_are_too_few_to_block() -> None:
    before = {"a": [1.0, 2.0, 3.0, None] * 500}
    assert outcome(checks.Nulls(), {"a": pl.Series([None] * 3, dtype=pl.Float64)}, before) == PASS
    assert outcome(checks.Nulls(), {"a": pl.Series([None] * 30, dtype=pl.Float64)}, before) == BLOCK


def test_infinite_values_count_as_missing_and_are_named() -> None:
    sound: dict[str, Any] = {"a": [0.0, 1.0] * 50}
    (gone,) = ask(checks.Nulls(), {"a": [math.inf, -math.inf] * 50}, sound)
    assert (gone.outcome, gone.message) == (BLOCK, "`a` is 100 % infinite, was 0 %")
    mixed = {"a": [math.inf] * 20 + [None] * 20 + [1.0] * 60}
    (part,) = ask(checks.Nulls(), mixed, sound)
    assert part.message == "`a` is 40 % missing or infinite (20 % infinite), was 0 %"
    (limit,) = ask(checks.Nulls(0.3), mixed)
    assert limit.message.endswith("(20 % infinite), at most 30 % allowed")
    (alone,) = ask(checks.Nulls(), {"a": [math.inf] * 5})
    assert alone.message == "`a` is all infinite"


def test_a_column_that_was_always_infinite_is_as_before() -> None:
    forever = {"a": [math.inf] * 100}
    (found,) = ask(checks.Nulls(), forever, forever)
    assert found.outcome == PASS


def test_without_a_reference_an_all_missing_column_warns() -> None:
    found = only(checks.Nulls(), {"a": pl.Series([None, None]), "b": [1, 2]})
    assert (found.outcome, found.column) == (WARN, "a")


def test_missing_values_that_come_by_chance_warn_no_more_often_than_stated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = np.linspace(0.0, 0.95, 20)

    def draw(n: int) -> pl.DataFrame:
        return pl.DataFrame(
            {f"c{i}": np.where(rng.random(n) < p, np.nan, 1.0) for i, p in enumerate(shares)}
        )

    warned = 0
    for _ in range(8):
        before = draw(300)
        warned += sum(
            outcome(checks.Nulls(), rows(draw(60).to_dict()), before) != PASS for _ in range(25)
        )
    # One in a thousand of 200 batches: with at most 2 a rate above that is not shown at 99 %.
    assert sum(comb(200, k) * 0.001**k * 0.999 ** (200 - k) for k in range(warned)) < 0.99


# Range ----------------------------------------------------------------------------------


def test_values_outside_stated_limits_block() -> None:
    found = only(
        checks.Range({"age": (0, 120), "price": (0, None)}),
        {"age": [7, 130, 40, 50], "price": [1.0, 2.0, 3.0, 1e9]},
    )
    assert (found.outcome, found.column, found.value) == (BLOCK, "age", 0.25)
    assert found.message == "`age` has 25 % of its values outside 0 to 120"
    assert outcome(checks.Range({"age": (0, 120)}, at_most=0.25), {"age": [7, 130, 40, 50]}) == PASS
    assert outcome(checks.Range({"age": (None, None)}), {"age": [1.0, float("inf")]}) == BLOCK
    assert outcome(checks.Range({"age": (0, 1)}), {"age": ["a"]}) == NOT_APPLICABLE
    assert outcome(checks.Range({"age": (0, 1)}), {"other": [5]}) == NOT_APPLICABLE
    assert outcome(checks.Range({"age": (0, 1)}), {"age": [None, 1.0, float("nan")]}) == PASS


WIDE: dict[str, Callable[[int, int], np.ndarray]] = {
    "temperature": lambda n, seed: normal(n, seed, 285.0, 8.0),
    "distance": lambda n, seed: np.random.default_rng(seed).lognormal(6.0, 1.0, n),
    "money": lambda n, seed: np.random.default_rng(seed).gamma(2.0, 50.0, n),
    "centred": lambda n, seed: normal(n, seed),
}


@pytest.mark.parametrize("name", list(WIDE))
@pytest.mark.parametrize("factor", [100.0, 1_000.0, 1e6, 0.01, 1e-3, 60.0, 3_600.0])
def test_a_change_of_unit_blocks(name: str, factor: float, seed: int) -> None:
    found = only(
        checks.Range(), {"x": WIDE[name](2_000, seed) * factor}, {"x": WIDE[name](5_000, seed + 1)}
    )
    assert (found.outcome, found.column) == (BLOCK, "x")


@pytest.mark.parametrize("name", ["temperature", "distance"])
def test_a_turned_sign_blocks(name: str, seed: int) -> None:
    found = only(
        checks.Range(), {"x": -WIDE[name](2_000, seed)}, {"x": WIDE[name](5_000, seed + 1)}
    )
    assert (found.outcome, "sign turned" in found.message) == (BLOCK, True)


def test_a_factor_of_ten_that_a_season_may_reach_warns(seed: int) -> None:
    winter, summer = WIDE["money"](2_000, seed), WIDE["money"](5_000, seed + 1)
    found = only(checks.Range(), {"rentals": winter * 10}, {"rentals": summer})
    assert (found.outcome, "times 10" in found.message) == (WARN, True)


def test_most_values_far_outside_block_and_single_ones_warn(seed: int) -> None:
    before = {"x": normal(5_000, seed)}
    assert outcome(checks.Range(), {"x": normal(500, seed, at=500.0)}, before) == BLOCK
    wild = np.append(normal(500, seed + 1), 1e12)
    found = only(checks.Range(), {"x": wild}, before)
    assert (found.outcome, "such as 1e+12" in found.message) == (WARN, True)
    assert outcome(checks.Range(), {"x": normal(500, seed + 1)}, before) == PASS
    assert outcome(checks.Range(), {"x": normal(500, seed, at=15.0)}, before) == WARN


def test_infinite_values_warn_and_a_column_of_them_blocks(seed: int) -> None:
    before = {"x": normal(500, seed)}
    some, most = np.append(normal(99, seed), np.inf), np.append(normal(9, seed), [-np.inf] * 91)
    assert only(checks.Range(), {"x": some}, before).outcome == WARN
    assert outcome(checks.Range(), {"x": most}, before) == BLOCK
    assert outcome(checks.Range(), {"x": some}) == WARN
    assert outcome(checks.Range(), {"x": some}, {"x": np.append(normal(49, seed), np.inf)}) == PASS


def test_codes_and_calendars_are_no_quantities() -> None:
    january, october = {"month": [1] * 700}, {"month": [10] * 700}
    assert outcome(checks.Range(), october, january) != BLOCK
    assert outcome(checks.Range(), {"x": [0, 1] * 300}, {"x": [0] * 600}) == PASS
    assert outcome(checks.Range(), {"x": [10, 20] * 300}, {"x": [1, 2] * 300}) != BLOCK


def test_range_looks_at_the_columns_it_is_given() -> None:
    before, after = (
        {"a": range(100), "b": range(100)},
        {"a": range(10**9, 10**9 + 100), "b": range(100)},
    )
    assert outcome(checks.Range(), after, before) == BLOCK
    assert outcome(checks.Range(columns=["b"]), after, before) == PASS


def weather(start: int, days: int, seed: int, amplitude: float = 12.0) -> pl.DataFrame:
    """Return hours of weather: seasons, days, weeks of fronts, and what lies at zero for months."""
    rng = np.random.default_rng([seed, start])
    hours = np.arange(start * 24, (start + days) * 24)
    season = -np.cos(2 * np.pi * hours / 8_766)
    fronts = np.repeat(rng.normal(size=days // 4 + 1), 96)[: hours.size]
    temperature = (
        8
        + amplitude * season
        + 4 * np.sin(2 * np.pi * hours / 24)
        + 3 * fronts
        + rng.normal(size=hours.size)
    )
    rain = np.where(
        rng.random(hours.size) < 0.05 + 0.1 * (fronts < -0.5), rng.gamma(0.8, 2.0, hours.size), 0.0
    )
    snow = np.where(
        temperature < 2, np.maximum(0, -season) * 40 + rng.gamma(2.0, 3.0, hours.size), 0.0
    )
    return pl.DataFrame(
        {
            "temperature": temperature,
            "fahrenheit": 1.8 * temperature + 32,
            "humidity": np.clip(70 - 15 * season + rng.normal(0, 12, hours.size), 5, 100),
            "pressure": 1_013 + 8 * fronts + rng.normal(0, 2, hours.size),
            "wind": np.maximum(0, rng.gamma(2.0, 2.0 - 0.8 * season)),
            "visibility": np.minimum(10, rng.gamma(9.0, 1.3, hours.size)),
            "rain": rain,
            "snow": snow,
            "solar": np.maximum(0, (3 + 2 * season) * 200 * np.sin(2 * np.pi * hours / 24)),
            "month": (hours / 730.5).astype(int) % 12 + 1,
            "gust": np.where(
                rng.random(hours.size) < 0.7 + 0.2 * season, np.nan, rng.gamma(4.0, 3.0, hours.size)
            ),
            "sky": rng.choice(
                ["clear", "cloud", "rain"],
                hours.size,
                p=[0.5 + 0.2 * season[0], 0.4 - 0.2 * season[0], 0.1],
            ),
        }
    )


@pytest.mark.parametrize("reference_days", [7, 28, 180])
@pytest.mark.parametrize("amplitude", [12.0, 25.0], ids=["mild", "continental"])
def test_a_season_is_no_broken_data(reference_days: int, amplitude: float, seed: int) -> None:
    asked = [checks.Schema(), checks.Nulls(), checks.Range()]
    for begin in (0, 182):
        before = weather(begin, reference_days, seed, amplitude)
        for week in range(begin + reference_days, begin + 400, 42):
            frame = rows(weather(week, 7, seed + 1, amplitude).to_dict())
            blocked = [
                one.message for c in asked for one in ask(c, frame, before) if one.outcome == BLOCK
            ]
            assert blocked == []


def test_the_same_weather_broken_is_blocked(seed: int) -> None:
    before = weather(0, 28, seed)
    broken: dict[str, tuple[Check, pl.Expr]] = {
        "scaled": (checks.Range(), pl.col("pressure") * 100),
        "turned": (checks.Range(), -pl.col("pressure")),
        "emptied": (checks.Nulls(), pl.lit(None, dtype=pl.Float64).alias("pressure")),
        "typed": (checks.Schema(), pl.col("pressure").cast(pl.String)),
        "renamed": (checks.Schema(), pl.col("pressure").alias("pressure_hpa")),
    }
    for name, (check, change) in broken.items():
        after = weather(182, 7, seed).with_columns(change)
        after = after.drop("pressure") if name == "renamed" else after
        assert outcome(check, rows(after.to_dict()), before) == BLOCK, name


# Fresh, Volume, Unique ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "expected"), [(2, PASS), (8, PASS), (9, WARN), (-5, WARN), (-3, PASS)]
)
def test_fresh_compares_the_newest_row_with_the_clock(hours: int, expected: Outcome) -> None:
    now = START + timedelta(hours=hours)
    assert outcome(checks.Fresh("6h"), {"a": [1, 2, 3]}, now=now) == expected


def test_fresh_says_how_old_the_newest_row_is() -> None:
    found = only(checks.Fresh("6h"), {"a": [1]}, now=START + timedelta(days=2))
    assert (found.message, found.value, found.limit) == (
        "the newest row is 2 d old, 6 h allowed",
        "2 d",
        "6 h",
    )


def history(*counts: int) -> list[Arrived]:
    return [Arrived(batch=i, rows=n, labels=0, cursor="", digest="") for i, n in enumerate(counts)]


@pytest.mark.parametrize(
    ("count", "expected"), [(100, PASS), (10, PASS), (9, WARN), (1_000, PASS), (1_001, WARN)]
)
def test_volume_compares_with_the_median_of_the_latest_batches(
    count: int, expected: Outcome
) -> None:
    arrived = history(90, 100, 100, 0, 20_000)
    assert outcome(checks.Volume(), {"a": range(count)}, arrived=arrived) == expected


def test_volume_needs_four_batches_unless_a_number_of_rows_is_stated() -> None:
    found = only(checks.Volume(), {"a": [1]}, arrived=history(100, 100, 100))
    assert (found.outcome, found.message) == (NOT_APPLICABLE, "3 of 4 batches to compare with")
    assert outcome(checks.Volume(rows=2), {"a": [1]}) == WARN
    assert outcome(checks.Volume(rows=2, severity="block"), {"a": [1]}) == BLOCK
    assert outcome(checks.Volume(rows=1), {"a": [1]}) == PASS


def test_rows_that_another_of_their_id_replaced_are_told() -> None:
    (found,) = ask(checks.Unique(), {"a": [1.0, 2.0]}, repeated=2)
    assert (found.outcome, found.value) == (BLOCK, 0.5)
    assert found.message == (
        "2 rows were left out: another has their id and other values "
        "(rows 2024-01-01 00:00 to 01:00)"
    )
    (one,) = ask(checks.Unique(severity="warn"), {"a": [1.0, 2.0]}, repeated=1)
    assert (one.outcome, one.message[:18]) == (WARN, "1 row was left out")


def test_copies_are_looked_for_unless_all_are_allowed() -> None:
    copies = {"a": [1.0] * 4}
    same_time = rows(copies, _time=pl.Series([START] * 4))
    (found,) = ask(checks.Unique(), same_time)
    assert found.message.endswith("are copies under another id")
    (quiet,) = ask(checks.Unique(at_most=1.0), same_time)
    assert quiet.outcome == PASS


def test_ids_that_repeat_or_are_missing_block() -> None:
    assert outcome(checks.Unique(), {"a": [1, 2, 3]}) == PASS
    assert only(checks.Unique(), rows({"a": [1, 2, 3]}, _id=pl.Series([1, 1, 2]))).outcome == BLOCK
    assert (
        "no id"
        in ask(checks.Unique(), rows({"a": [1, 2, 3]}, _id=pl.Series([1, None, 2])))[0].message
    )
    same = only(checks.Unique(), rows({"a": [1, 2, 3]}, _id=pl.lit("x")))
    assert (same.outcome, same.message) == (BLOCK, "all 3 rows have the same id, 'x'")


def test_copies_under_another_id_warn() -> None:
    twice = rows({"a": [1, 2, 1, 2], "b": ["x", None, "x", None]}, _time=pl.Series([START] * 4))
    found = only(checks.Unique(), twice)
    assert (found.outcome, found.value) == (WARN, 0.5)
    assert outcome(checks.Unique(at_most=0.5), twice) == PASS
    assert outcome(checks.Unique(), {"a": [1, 1, 1]}) == PASS  # at different times


# Leakage --------------------------------------------------------------------------------


def leaks(
    labels: Sequence[Any] | np.ndarray, columns: dict[str, Any], **arguments: Any
) -> list[str | None]:
    found = ask(checks.Leakage(**arguments), columns, labels=list(labels))
    return [one.column for one in found if one.outcome in (WARN, BLOCK)]


def test_a_feature_that_gives_the_label_away_is_named(seed: int) -> None:
    labels = np.arange(400) % 2
    noise = normal(400, seed)
    columns = {
        "honest": labels + 1.5 * noise,
        "score": labels + 0.1 * noise,
        "turned": -labels + 0.1 * noise,
        "reason": np.where(labels == 1, "churned", "stays"),
        "closed_at": [START if label else None for label in labels],
        "flag": labels == 1,
        "plan": np.where(np.arange(400) % 3 == 0, "a", "b"),
        "code": [f"c{i}" for i in range(400)],
        "constant": [1] * 400,
    }
    expected = ["score", "turned", "reason", "closed_at", "flag"]
    assert sorted(map(str, leaks(labels, columns))) == sorted(expected)
    assert leaks(
        np.where(labels == 1, "yes", "no"), {"score": columns["score"], "plan": columns["plan"]}
    ) == ["score"]
    assert leaks(labels == 1, {"score": columns["score"]}) == ["score"]


def test_a_feature_that_gives_one_of_several_classes_away_is_named_when_it_gives_all(
    seed: int,
) -> None:
    labels = np.arange(600) % 3
    columns = {
        "code": labels * 10,
        "name": [f"class {label}" for label in labels],
        "half": np.minimum(labels, 1),
        "noise": normal(600, seed),
    }
    assert leaks(labels, columns) == ["code", "name"]


def test_a_quantity_is_given_away_by_its_rank(seed: int) -> None:
    labels = np.exp(normal(300, seed))
    columns = {
        "cube": labels**3,
        "turned": -labels,
        "near": labels + 2 * normal(300, seed + 1),
        "text": ["a"] * 300,
    }
    assert leaks(labels, columns) == ["cube", "turned"]


def test_leakage_needs_two_classes_and_a_hundred_labels() -> None:
    assert outcome(checks.Leakage(), {"a": range(200)}, labels=[1] * 200) == NOT_APPLICABLE
    assert (
        outcome(checks.Leakage(), {"a": range(200)}, labels=[i % 2 for i in range(99)])
        == NOT_APPLICABLE
    )
    assert outcome(checks.Leakage(), {"a": range(200)}) == NOT_APPLICABLE
    assert (
        outcome(checks.Leakage(), rows({"a": range(200)}).drop("a"), labels=[0, 1] * 100)
        == NOT_APPLICABLE
    )
    rare = [1] * 9 + [0] * 191
    assert outcome(checks.Leakage(), {"a": rare}, labels=rare) == NOT_APPLICABLE


def test_a_leak_can_block() -> None:
    labels = [i % 2 for i in range(200)]
    assert outcome(checks.Leakage(severity="block"), {"a": labels}, labels=labels) == BLOCK


# Arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: checks.Schema(categories="maybe"),
        lambda: checks.Schema(severity="fatal"),
        lambda: checks.Fresh("six hours"),
        lambda: checks.Volume(at_least=2.0, at_most=1.0),
        lambda: checks.Volume(rows=-1),
        lambda: checks.Nulls(1.5),
        lambda: checks.Nulls(columns="age"),
        lambda: checks.Range({"age": (120, 0)}),
        lambda: checks.Range({"age": 5}),  # type: ignore[dict-item]
        lambda: checks.Range({"age": (0, 1)}, columns=["age"]),
        lambda: checks.Unique(at_most=-0.1),
        lambda: checks.Leakage(2.0),
        lambda: checks.resolve(checks.Schema),  # type: ignore[arg-type]
        lambda: checks.resolve([checks.Schema(), "Nulls"]),  # type: ignore[list-item]
    ],
)
def test_a_check_written_wrongly_fails_before_it_sees_data(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        wrong()


def test_checks_are_resolved_from_one_many_or_none() -> None:
    assert checks.resolve(None) == checks.default()
    assert checks.default() == (
        checks.Schema(),
        checks.Nulls(),
        checks.Unique(at_most=1.0, severity="warn"),
        checks.Classes(),
    )
    assert checks.resolve(checks.Unique()) == (checks.Unique(),)
    assert checks.resolve([]) == ()
    assert [one.name for one in ALL[:4]] == ["Schema", "Fresh", "Volume", "Nulls"]
    assert repr(checks.Volume(at_least=0.5)) == "Volume(at_least=0.5)"
