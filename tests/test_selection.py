from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from keepfit import selection
from keepfit.errors import ConfigError
from keepfit.protocols import Moment, Selection

START = datetime(2024, 1, 1, tzinfo=UTC)


def days(count: int, per_day: int = 1) -> pl.DataFrame:
    """Return rows whose id counts up, a number of them on each day."""
    times = pl.Series([START + timedelta(days=i // per_day) for i in range(count * per_day)])
    return pl.DataFrame(
        {"_id": range(count * per_day), "_time": times.dt.cast_time_unit("us")}
    ).with_columns(_label=pl.col("_id") % 2)


def chosen(
    given: Selection, rows: pl.DataFrame, since: int | None = None, seed: int = 0
) -> list[int]:
    newest = None if since is None else START + timedelta(days=since)
    moment = Moment(as_of=START + timedelta(days=1_000), since=newest, seed=seed)
    return given.select(rows, moment)["_id"].to_list()


def test_expanding_takes_all_rows_or_the_newest_of_them() -> None:
    assert chosen(selection.Expanding(), days(5)) == [0, 1, 2, 3, 4]
    assert chosen(selection.Expanding(at_most=2), days(5)) == [3, 4]


def test_sliding_counts_back_from_the_newest_row_and_leaves_out_the_border() -> None:
    assert chosen(selection.Sliding("3d"), days(10)) == [7, 8, 9]
    assert chosen(selection.Sliding("3d", at_most=1), days(10)) == [9]
    assert chosen(selection.Sliding("1s"), days(10, per_day=2)) == [18, 19]
    assert chosen(selection.Sliding("500d"), days(10)) == list(range(10))


def test_since_last_takes_what_the_last_training_had_not() -> None:
    assert chosen(selection.SinceLast(), days(5), since=2) == [3, 4]
    assert chosen(selection.SinceLast(), days(5), since=4) == []
    assert chosen(selection.SinceLast(), days(5), since=99) == []
    assert chosen(selection.SinceLast(), days(5)) == [0, 1, 2, 3, 4]


def test_replay_mixes_older_rows_in_to_the_stated_share() -> None:
    rows = chosen(selection.Replay(new=0.7), days(100), since=29)
    assert rows[-70:] == list(range(30, 100))
    assert len(rows) == 100
    rows = chosen(selection.Replay(new=0.5), days(100), since=89)
    assert [row for row in rows if row >= 90] == list(range(90, 100))
    assert len(rows) == 20


def test_replay_takes_no_more_older_rows_than_the_buffer_and_than_there_are() -> None:
    assert len(chosen(selection.Replay(new=0.1, buffer=5), days(100), since=89)) == 15
    assert len(chosen(selection.Replay(new=0.01), days(100), since=89)) == 100
    assert len(chosen(selection.Replay(buffer=0), days(100), since=89)) == 10
    assert len(chosen(selection.Replay(new=1.0), days(100), since=89)) == 10


def test_replay_with_a_cap_keeps_the_share_and_the_newest_of_the_new() -> None:
    rows = chosen(selection.Replay(new=0.6, at_most=10), days(100), since=49)
    assert rows[-6:] == [94, 95, 96, 97, 98, 99]
    assert len(rows) == 10
    assert max(rows[:4]) <= 49
    assert chosen(selection.Replay(at_most=1), days(100), since=49) == [99]


def test_replay_before_any_training_and_without_new_rows() -> None:
    assert chosen(selection.Replay(), days(9)) == list(range(9))
    assert chosen(selection.Replay(at_most=3), days(9)) == [6, 7, 8]
    assert chosen(selection.Replay(), days(9), since=50) == []


def test_replay_draws_every_older_row_equally_often() -> None:
    rows, drawn = days(120), [0] * 100
    for seed in range(400):
        for row in chosen(selection.Replay(new=0.5), rows, since=99, seed=seed)[:-20]:
            drawn[row] += 1
    # Binomial(400, 1/5): mean 80, standard deviation 8; five of them hold for all 100 rows.
    assert all(40 <= count <= 120 for count in drawn)
    assert sum(drawn) == 400 * 20


@pytest.mark.parametrize(
    "text",
    [
        "Expanding()",
        "Expanding(at_most=1000)",
        'Sliding("90d")',
        'Sliding("90d", at_most=5)',
        "SinceLast()",
        "Replay()",
        "Replay(new=0.5, buffer=10)",
    ],
)
def test_a_selection_is_written_as_the_call_that_makes_it(text: str) -> None:
    made = eval(f"selection.{text}")
    assert repr(made) == text
    assert isinstance(made, Selection)
    assert made == eval(f"selection.{text}")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: selection.Sliding("ninety days"),
        lambda: selection.Sliding("0d"),
        lambda: selection.Expanding(at_most=0),
        lambda: selection.Expanding(at_most=1.5),  # type: ignore[arg-type]
        lambda: selection.Expanding(at_most=True),
        lambda: selection.Replay(new=0.0),
        lambda: selection.Replay(new=1.1),
        lambda: selection.Replay(new=float("nan")),
        lambda: selection.Replay(buffer=-1),
        lambda: selection.resolve(selection.Sliding),  # type: ignore[arg-type]
        lambda: selection.resolve([selection.Expanding()]),  # type: ignore[arg-type]
        lambda: selection.resolve("all"),  # type: ignore[arg-type]
    ],
)
def test_a_selection_written_wrongly_fails_before_it_sees_data(wrong: object) -> None:
    with pytest.raises(ConfigError, match="expected"):
        wrong()  # type: ignore[operator]


def test_no_selection_is_all_rows() -> None:
    assert selection.resolve(None) == selection.Expanding()
    assert selection.resolve(selection.SinceLast()) == selection.SinceLast()
