import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from keepfit.parts import Part, written
from keepfit.profile import (
    CATEGORIES,
    POINTS,
    Column,
    Profile,
    categories,
    each,
    kind_of,
    numbers,
)


def column(values: pl.Series) -> Column:
    return Profile.of(values.alias("x").to_frame()).columns[0]


def ks(left: np.ndarray, right: np.ndarray) -> float:
    every = np.concatenate([left, right])
    shares = [
        np.searchsorted(np.sort(one), every, side="right") / one.size for one in (left, right)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def test_numbers_are_counted_and_their_quantiles_kept() -> None:
    made = column(pl.Series([3.0, None, float("nan"), float("inf"), float("-inf"), 1.0, 1.0]))
    assert (made.kind, made.rows, made.missing, made.infinite, made.present) == (
        "number",
        7,
        2,
        2,
        3,
    )
    assert (made.distinct, made.low, made.high) == (2, 1.0, 3.0)
    assert made.grid.tolist() == [1.0, 1.0, 3.0]


def test_a_long_column_keeps_an_even_grid_from_least_to_greatest() -> None:
    made = column(pl.Series(range(50_001)))
    assert made.spread is not None
    assert POINTS < made.spread.points.size < POINTS + 64
    assert (made.spread.points[0], made.spread.points[-1]) == (0.0, 50_000.0)
    assert made.spread.resolution < 1 / (POINTS - 2)
    assert made.grid[POINTS // 2] == pytest.approx(25_000, abs=50)


def test_the_most_frequent_categories_are_kept_and_all_are_counted() -> None:
    values = [f"v{i}" for i in range(CATEGORIES + 50)] + ["v7"] * 3
    made = column(pl.Series(values))
    assert made.distinct == CATEGORIES + 50
    assert len(made.counts) == CATEGORIES
    assert next(iter(made.counts.items())) == ("v7", 4)


def test_the_order_of_rows_does_not_change_a_profile(seed: int) -> None:
    rows = pl.DataFrame({"a": list("abcabcad"), "b": [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0, 8.0]})
    assert Profile.of(rows.sample(fraction=1.0, shuffle=True, seed=seed)) == Profile.of(rows)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pl.Series([1], dtype=pl.UInt8), "number"),
        (pl.Series([Decimal("1.50")]), "number"),
        (pl.Series([True]), "boolean"),
        (pl.Series([date(2024, 1, 1)]), "time"),
        (pl.Series([timedelta(1)]), "time"),
        (pl.Series([time(12)]), "time"),
        (pl.Series(["a"]), "category"),
        (pl.Series(["a"], dtype=pl.Categorical), "category"),
        (pl.Series(["a"], dtype=pl.Enum(["a", "b"])), "category"),
        (pl.Series([None]), "other"),
        (pl.Series([[1, 2]]), "other"),
        (pl.Series([b"a"]), "other"),
    ],
)
def test_every_type_has_a_kind_and_a_profile(values: pl.Series, kind: str) -> None:
    assert kind_of(values.dtype) == kind
    assert column(values).kind == kind
    assert column(values.clear()).rows == 0


def test_times_are_microseconds_whatever_their_unit_and_zone() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    micro = 1_704_067_200_000_000.0
    zoned = pl.Series([moment, None])
    for values in (
        zoned,
        zoned.dt.cast_time_unit("ns"),
        zoned.dt.cast_time_unit("ms"),
        zoned.dt.replace_time_zone(None),
        zoned.dt.convert_time_zone("America/New_York"),
        pl.Series([date(2024, 1, 1), None]),
    ):
        assert numbers(values).tolist() == [micro]
    assert numbers(pl.Series([timedelta(seconds=1)])).tolist() == [1e6]
    assert numbers(pl.Series([time(0, 0, 2)])).tolist() == [2e6]
    assert numbers(pl.Series([Decimal("1.50"), None])).tolist() == [1.5]


def test_categories_are_counted_as_text_under_any_name() -> None:
    assert categories(pl.Series("count", ["a", None, "a"])) == {"a": 2}
    assert categories(pl.Series("x", [True, False, True])) == {"true": 2, "false": 1}


@pytest.mark.parametrize("size", [5, 1_000, 1_001, 1_002, 30_000])
@pytest.mark.parametrize("kind", ["normal", "ties", "mass"])
def test_a_distance_read_from_a_profile_is_that_of_the_values(
    size: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "ties": lambda n: rng.poisson(2.0, size=n).astype(float),
        "mass": lambda n: np.where(rng.random(n) < 0.7, 0.0, rng.normal(size=n)),
    }[kind]
    reference, values = draw(size), draw(400) + rng.choice([0.0, 0.5])
    got = column(pl.Series(reference)).distance(np.sort(values))
    # Up to the size of the grid every value is kept, and the distance is exact.
    assert got == pytest.approx(ks(reference, values), abs=1e-12 if size <= POINTS else 0.002)


def test_the_share_of_unseen_categories_is_foreseen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for draw in (
        lambda n: rng.integers(0, 5_000, n),
        lambda n: rng.zipf(1.4, n),
        lambda n: rng.integers(0, 2**40, n),
        lambda n: rng.integers(0, 5, n),
    ):
        made = column(pl.Series(draw(20_000)).cast(pl.String))
        outside = 1 - pl.Series(draw(20_000)).cast(pl.String).is_in(list(made.counts)).mean()  # type: ignore[operator]
        assert made.tail == pytest.approx(outside, abs=0.03)


def test_a_profile_is_read_back_as_it_was_stored() -> None:
    made = Profile.of(pl.DataFrame({"_id": [1], "a": [1.5], "b": ["x"], "c": [None]}))
    assert [one.name for one in made.columns] == ["a", "b", "c"]
    read = Profile.loads(made.dumps())
    assert read == made
    assert read.column("a") == made.columns[0]
    assert read.column("gone") is None
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_profile_of_no_rows_and_of_no_columns_is_empty() -> None:
    empty = Profile.of(pl.DataFrame({"a": []}, schema={"a": pl.Float64}))
    assert (empty.rows, empty.columns[0].spread) == (0, None)
    assert empty.columns[0].distance(np.array([1.0])) == 0.0
    assert Profile.of(pl.DataFrame()).columns == ()


@dataclass(frozen=True, repr=False)
class Thing(Part):
    length: str = "7d"
    columns: tuple[str, ...] = ()
    share: float = field(default=0.5, kw_only=True)


@pytest.mark.parametrize(
    "text",
    [
        "Thing()",
        'Thing("3d")',
        "Thing(share=0.1)",
        "Thing(\"3d\", ('a',), share=0.1)",
        "Thing(columns=('a',))",
    ],
)
def test_a_part_is_written_as_the_call_that_makes_it(text: str) -> None:
    assert repr(eval(text)) == text


def test_lengths_are_written_as_they_are_read() -> None:
    assert written(timedelta(days=30)) == '"30d"'
    assert written(timedelta(minutes=90)) == '"90min"'
    assert written(timedelta(0)) == '"0s"'
    assert written(timedelta(milliseconds=1)) == repr(timedelta(milliseconds=1))


@pytest.mark.parametrize("different", [3, 5_000, 150_000], ids=["few", "many", "nearly all"])
def test_categories_of_a_long_column_are_all_counted(different: int) -> None:
    values = pl.Series("x", [str(i % different) for i in range(200_000)] + [None] * 7)
    expected = Counter(value for value in values.to_list() if value is not None)
    assert categories(values) == expected


def test_answers_come_in_the_order_of_what_was_asked_and_errors_come_through() -> None:
    items = list(range(40))
    assert each(lambda item: item * item, items, 10**6) == [item * item for item in items]

    def fails(item: int) -> int:
        if item == 25:
            raise IndexError("of an answer")
        return item

    with pytest.raises(IndexError, match="of an answer"):
        each(fails, items, 10**6)


def test_threads_that_wait_for_each_other_get_their_answers() -> None:
    def inner(item: int) -> int:
        return sum(each(lambda other: item * other, range(4), 10**6))

    assert each(inner, range(20), 10**6) == [6 * item for item in range(20)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_describes_columns_too() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "import os\n"
            "from keepfit.profile import each\n"
            "def total(): return sum(each(abs, range(50), 10**6))\n"
            "total()\n"
            "child = os.fork()\n"
            "if not child: os._exit(total() % 256)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(told.stdout) == sum(range(50)) % 256
