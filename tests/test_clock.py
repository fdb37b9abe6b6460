from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit import clock
from keepfit.errors import ConfigError

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15min", 900),
        ("6h", 21_600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        (" 1 d ", 86_400),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert clock.duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["14 days", "7", "d", "-1d", "1.5h", "", "7D", "1d 2h", None, 7])
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ConfigError, match="expected a duration") as error:
        clock.duration(text)  # type: ignore[arg-type]
    assert '"7d"' in (error.value.hint or "")


def test_a_duration_longer_than_time_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="million years"):
        clock.duration("99999999999999w")


def test_a_timedelta_is_a_duration_unless_it_is_negative() -> None:
    assert clock.duration(timedelta(hours=3)) == timedelta(hours=3)
    with pytest.raises(ConfigError, match="zero or more"):
        clock.duration(timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=2.5), "2.5 s"),
        (timedelta(seconds=41), "41 s"),
        (timedelta(seconds=266), "4 m 26 s"),
        (timedelta(hours=1), "1 h"),
        (timedelta(days=28, minutes=5), "28 d"),
        (timedelta(days=-2), "-2 d"),
    ],
)
def test_a_length_is_written_in_its_two_largest_units(length: timedelta, text: str) -> None:
    assert clock.humanise(length) == text


@given(st.timedeltas(timedelta(days=-4000), timedelta(days=4000)))
def test_any_length_can_be_written(length: timedelta) -> None:
    assert clock.humanise(length)


def test_a_text_without_a_zone_is_utc_and_one_with_a_zone_is_moved_to_it() -> None:
    assert clock.utc("2024-01-01") == NEW_YEAR
    assert clock.utc("2024-01-01T02:00:00+02:00") == NEW_YEAR
    moved = clock.utc(datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert moved == NEW_YEAR
    assert moved.tzinfo is UTC


def test_what_is_no_moment_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match="expected a date") as error:
        clock.utc("31.01.2024")
    assert "2024-01-31" in (error.value.hint or "")


def test_a_cron_expression_is_due_strictly_after_the_moment() -> None:
    monday = datetime(2024, 1, 1, 3, tzinfo=UTC)
    assert clock.cron_after("0 3 * * 1", NEW_YEAR) == monday
    assert clock.cron_after("0 3 * * 1", monday) == monday + timedelta(days=7)


@pytest.mark.parametrize("text", ["61 * * * *", "0 0 31 2 *", "a b c d e"])
def test_a_cron_expression_that_never_comes_due_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cron expression"):
        clock.cron_after(text, NEW_YEAR)


def test_a_simulated_clock_moves_only_when_told() -> None:
    simulated = clock.SimulatedClock(NEW_YEAR)
    assert simulated.now() == simulated.now() == NEW_YEAR
    simulated.sleep(timedelta(days=2))
    assert simulated.now() == NEW_YEAR + timedelta(days=2)


def test_the_wall_clock_is_in_utc_and_does_not_sleep_backwards() -> None:
    wall = clock.WallClock()
    before = wall.now()
    wall.sleep(timedelta(seconds=-5))
    assert before.tzinfo is UTC
    assert timedelta(0) <= wall.now() - before < timedelta(seconds=5)
