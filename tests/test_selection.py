from datetime import UTC, datetime, timedelta

import numpy as np
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


def test_since_change_takes_all_rows_until_something_changed() -> None:
    rows, wanted = days(5), selection.SinceChange()
    assert wanted.select(rows, Moment(as_of=START)).equals(rows)
    for day, left in ((-1, 5), (2, 3), (4, 1), (99, 0)):
        moment = Moment(as_of=START, changed=START + timedelta(days=day))
        assert wanted.select(rows, moment).equals(rows.tail(left))
        assert wanted.select(rows.clear(), moment).is_empty()
    moment = Moment(as_of=START, changed=START + timedelta(days=2))
    assert selection.SinceChange(at_most=2).select(rows, moment).equals(rows.tail(2))


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


# Relevant -------------------------------------------------------------------------------


def worth(rows: pl.DataFrame, values: np.ndarray, seed: int = 0) -> Moment:
    """Return a moment at which each row has a relevance, by its place."""
    return Moment(as_of=START, seed=seed, relevance=lambda asked: values[asked["_id"].to_numpy()])


def rated(count: int, seed: int = 0) -> pl.DataFrame:
    """Return rows of two numbers, one of which tells about the label."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-2 * x))).astype(int)
    return days(count).with_columns(x=x, noise=rng.normal(size=count), _label=labels)


def test_relevant_keeps_its_share_of_another_selection() -> None:
    assert len(chosen(selection.Relevant(0.3), days(100))) == 30
    thinned = chosen(selection.Relevant(0.5, of=selection.Sliding("40d")), days(100))
    assert len(thinned) == 20
    assert min(thinned) >= 60
    assert len(chosen(selection.Relevant(at_most=7), days(100))) == 7
    assert chosen(selection.Relevant(1.0), days(5)) == [0, 1, 2, 3, 4]
    assert chosen(selection.Relevant(0.01), days(5)) == [4]
    assert chosen(selection.Relevant(), days(5).clear()) == []


def test_relevant_draws_rows_in_proportion_to_what_they_can_teach() -> None:
    rows, drawn = rated(400), np.zeros(400)
    values = np.where(np.arange(400) % 4 == 0, 3.0, 1.0)
    for seed in range(300):
        kept = selection.Relevant(0.25).select(rows, worth(rows, values, seed))
        assert kept.height == 100
        drawn[kept["_id"].to_numpy()] += 1
    # 100 rows of 3 and 300 of 1 share 100 places: a half and a sixth of the time.
    heavy, light = drawn[values == 3.0][:-1] / 300, drawn[values == 1.0][:-1] / 300
    assert heavy.mean() == pytest.approx(0.5, abs=0.01)
    assert light.mean() == pytest.approx(1 / 6, abs=0.01)
    # Binomial with 300 draws: five standard deviations hold for every row.
    assert np.abs(heavy - 0.5).max() < 5 * (0.25 / 300) ** 0.5
    assert np.abs(light - 1 / 6).max() < 5 * (5 / 36 / 300) ** 0.5


def test_relevant_takes_the_most_relevant_rows_for_sure_and_the_rest_by_chance() -> None:
    rows = rated(200)
    values = np.where(np.arange(200) < 60, 1e6, 1.0)
    kept = selection.Relevant(0.5).select(rows, worth(rows, values))["_id"].to_list()
    assert kept[:60] == list(range(60))
    assert len(kept) == 100


@pytest.mark.parametrize("values", [np.zeros(50), np.full(50, np.nan), np.full(50, -1.0)])
def test_relevance_that_says_nothing_is_as_good_as_none(values: np.ndarray) -> None:
    rows = rated(50)
    plain = selection.Relevant().select(rows, Moment(as_of=START))
    assert selection.Relevant().select(rows, worth(rows, values)).equals(plain)


def test_relevant_keeps_each_class_at_its_share() -> None:
    rows = rated(1_001)
    for seed in range(20):
        kept = selection.Relevant().select(rows, Moment(as_of=START, seed=seed))
        # One row of either class is what rounding and the newest row give.
        assert abs(kept["_label"].sum() - rows["_label"].sum() / 2) <= 1


def test_the_rows_that_relevant_keeps_look_more_like_all_rows_than_a_random_share() -> None:
    rows = rated(4_000)
    edges = np.quantile(rows["x"], np.linspace(0, 1, 41))

    def rates(some: pl.DataFrame) -> np.ndarray:
        """Return the share of ones in fortieths of x."""
        bins = np.clip(np.searchsorted(edges, some["x"]) - 1, 0, 39)
        return np.bincount(bins, some["_label"], 40) / np.bincount(bins, minlength=40)

    whole, ours, random = rates(rows), [], []
    for seed in range(10):
        kept = selection.Relevant().select(rows, Moment(as_of=START, seed=seed))
        ours.append(np.abs(rates(kept) - whole).mean())
        random.append(np.abs(rates(rows.sample(2_000, seed=seed)) - whole).mean())
    assert np.mean(ours) < 0.6 * np.mean(random)


def test_relevant_thins_near_duplicates_evenly() -> None:
    rng = np.random.default_rng(0)
    # A hundred rows, each of them thirty times.
    x = np.repeat(rng.normal(size=100), 30)
    rows = days(3_000).with_columns(x=pl.Series(x), _label=(pl.Series(x) > 0).cast(pl.Int64))
    kept = selection.Relevant(0.1).select(rows, Moment(as_of=START))
    counts = kept["x"].value_counts()["count"].to_numpy()
    assert counts.size == 100
    assert counts.min() >= 1
    assert counts.max() <= 6


def test_relevant_takes_labels_and_columns_of_every_kind() -> None:
    rows = rated(300).with_columns(
        pl.col("x").alias("_label"),
        plan=pl.Series(["a", None, "b"] * 100),
        kind=pl.Series(["u", "v", "w"] * 100, dtype=pl.Categorical),
        wild=pl.Series([float("inf"), float("nan"), 1e300] * 100),
        empty=pl.lit(None),
        vector=pl.Series([[0.1, 0.2]] * 300),
        at=pl.lit(START),
    )
    for labels in (pl.col("x"), pl.lit("same"), pl.col("plan")):
        kept = selection.Relevant().select(rows.with_columns(_label=labels), Moment(as_of=START))
        assert kept.height == 150


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
        "Relevant()",
        "Relevant(0.3, at_most=500)",
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
        lambda: selection.Relevant(0.0),
        lambda: selection.Relevant(1.1),
        lambda: selection.Relevant(float("nan")),
        lambda: selection.Relevant(of=[selection.Expanding()]),  # type: ignore[arg-type]
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
