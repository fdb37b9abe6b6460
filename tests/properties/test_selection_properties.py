"""What holds of every selection, on every stream."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit import selection
from keepfit.protocols import Moment, Selection

START = datetime(2024, 1, 1, tzinfo=UTC)

caps = st.none() | st.integers(1, 40)
selections = st.one_of(
    st.builds(selection.Expanding, at_most=caps),
    st.builds(selection.Sliding, st.sampled_from(["1s", "6h", "3d", "2w"]), at_most=caps),
    st.builds(selection.SinceLast, at_most=caps),
    st.builds(selection.Replay, new=st.floats(0.01, 1.0), buffer=st.integers(0, 30), at_most=caps),
    st.builds(
        selection.Relevant,
        st.floats(0.01, 1.0),
        of=st.none() | st.builds(selection.Sliding, st.just("2d")),
        at_most=caps,
    ),
)


def by_content(rows: pl.DataFrame) -> np.ndarray:
    """Return a relevance that follows from each row alone, some of it no number."""
    worth = rows["_time"].dt.hour().to_numpy().astype(float) - 3
    return np.where(worth == 5, np.nan, worth)


moments = st.builds(
    Moment,
    as_of=st.just(START + timedelta(days=99)),
    since=st.none() | st.integers(-5, 120).map(lambda hours: START + timedelta(hours=hours)),
    seed=st.integers(0, 2**31),
    relevance=st.sampled_from([None, by_content]),
)


@st.composite
def streams(draw: st.DrawFn) -> pl.DataFrame:
    """Return labelled rows with ids of numbers or text, and with many rows at one moment."""
    hours = draw(st.lists(st.integers(0, 100), max_size=60))
    ids = pl.Series(range(len(hours)), dtype=pl.Int64)
    rows = pl.DataFrame(
        {
            "_id": ids.cast(pl.String) if draw(st.booleans()) else ids,
            "_time": pl.Series(
                [START + timedelta(hours=h) for h in hours], dtype=pl.Datetime("us", "UTC")
            ),
            "_label": [hour % 2 for hour in hours],
        },
        schema_overrides={"_label": pl.Int64},
    )
    return rows.sort("_time", "_id")


@given(selections, streams(), moments)
def test_a_selection_is_an_ordered_part_of_the_rows(
    given_: Selection, rows: pl.DataFrame, moment: Moment
) -> None:
    chosen = given_.select(rows, moment)
    assert chosen.schema == rows.schema
    assert chosen["_id"].n_unique() == chosen.height
    assert chosen.equals(rows.filter(pl.col("_id").is_in(chosen["_id"].implode())))


@given(selections, streams(), moments)
def test_a_selection_is_the_same_twice_and_for_any_order_of_delivery(
    given_: Selection, rows: pl.DataFrame, moment: Moment
) -> None:
    chosen = given_.select(rows, moment)
    assert given_.select(rows, moment).equals(chosen)
    delivered = rows.sample(fraction=1.0, shuffle=True, seed=1).sort("_time", "_id")
    assert given_.select(delivered, moment).equals(chosen)


@given(selections, streams(), moments)
def test_a_selection_keeps_to_its_cap_and_never_drops_the_newest_row(
    given_: Selection, rows: pl.DataFrame, moment: Moment
) -> None:
    chosen = given_.select(rows, moment)
    cap = given_.at_most  # type: ignore[attr-defined]
    assert cap is None or chosen.height <= cap
    if chosen.height:
        assert chosen["_id"][-1] == rows["_id"][-1]


@settings(max_examples=50)
@given(st.floats(0.05, 1.0), st.integers(0, 500), st.integers(1, 400), st.integers(1, 400))
def test_new_rows_make_up_at_least_the_stated_share_of_a_replay(
    new: float, buffer: int, older: int, newer: int
) -> None:
    count = older + newer
    rows = pl.DataFrame(
        {
            "_id": range(count),
            "_time": pl.Series(
                [START + timedelta(hours=h) for h in range(count)]
            ).dt.cast_time_unit("us"),
        }
    )
    since = START + timedelta(hours=older - 1)
    chosen = selection.Replay(new=new, buffer=buffer).select(rows, Moment(as_of=since, since=since))
    replayed = chosen.height - newer
    assert replayed <= min(buffer, older)
    # Half a row is what rounding gives.
    wanted = newer * (1 - new) / new
    assert replayed <= wanted + 0.5
    if buffer >= wanted + 1 and older >= wanted + 1:
        assert replayed >= wanted - 0.5


@pytest.mark.parametrize(
    "wanted",
    [
        selection.Replay(new=0.5),
        selection.Replay(new=0.5, at_most=20),
        selection.Relevant(0.3, of=selection.Sliding("100h")),
    ],
)
def test_another_seed_replays_other_rows(wanted: Selection) -> None:
    rows = pl.DataFrame(
        {
            "_id": range(200),
            "_time": pl.Series([START + timedelta(hours=h) for h in range(200)]).dt.cast_time_unit(
                "us"
            ),
        }
    )
    since = START + timedelta(hours=149)
    drawn = {
        tuple(wanted.select(rows, Moment(as_of=since, since=since, seed=seed))["_id"])
        for seed in range(5)
    }
    assert len(drawn) == 5
