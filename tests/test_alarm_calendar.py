"""Columns that follow the calendar: batches that are not whole, and a reference that is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from keepfit.batch import TIME
from keepfit.drift import Alarms, Reference
from keepfit.drift.alarms import Alarm
from keepfit.drift.alarms.scores import regular
from keepfit.drift.history import blocks_of, history
from keepfit.errors import ConfigError

START = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(days=14)
WHOLE = 14 * 48
"""Rows of a batch: one every half hour."""

CALENDAR = ("day", "name", "period")


def frame(rng, start, rows, *, outage=(0, 0)):
    """Return half hours with their weekday and time of day, and a number that is noise."""
    i = np.arange(start, start + rows)
    i = i[(i < start + outage[0]) | (i >= start + sum(outage))]
    day = (i // 48) % 7
    return pl.DataFrame(
        {
            TIME: [START + timedelta(minutes=30 * int(k)) for k in i],
            "day": day + 1,
            "name": np.array(["mo", "tu", "we", "th", "fr", "sa", "su"])[day],
            "period": (i % 48) / 47,
            "x": rng.normal(size=i.size),
        }
    )


def fitted(rng, rows, every=EVERY):
    detector = Alarms("1 per 364d")
    return detector, Reference.fit(frame(rng, 0, rows), detectors=[detector], every=every)


def told(detector, reference, batches):
    """Return the columns that each batch alarms for."""
    state, found = None, []
    for batch in batches:
        got = detector.accumulate(reference, batch, state)
        state = got.state
        found.append([one.column for one in got.alarm])
    return found


def lives(rng, rows, outages):
    """Return which columns alarmed in lives of six batches, of which the fourth is not whole."""
    detector, reference = fitted(rng, rows)
    said = []
    for outage in outages:
        starts = [rows + WHOLE * b for b in range(6)]
        cut = [outage if b == 3 else (0, 0) for b in range(6)]
        batches = [frame(rng, s, WHOLE, outage=c) for s, c in zip(starts, cut, strict=True)]
        said += told(detector, reference, batches)
    return said


# Whole batches, a remainder too small to be a block, and remainders that are blocks of their own.
@pytest.mark.parametrize("rest", [0, 7, 100, 200, 400])
@pytest.mark.parametrize("blocks", [4, 13, 26])
def test_a_calendar_never_alarms_whatever_the_length_of_the_reference(seed, blocks, rest):
    rng = np.random.default_rng([seed, blocks, rest])
    said = lives(rng, blocks * WHOLE + rest, [(0, 0)] * 4)
    assert not {column for columns in said for column in columns} & set(CALENDAR)
    assert sum(map(bool, said)) <= 4  # What is expected of 24 batches at one in 26 is one.


@pytest.mark.parametrize("hours", [1, 3, 6, 12, 24])
@pytest.mark.parametrize("blocks", [4, 13, 26])
def test_an_outage_of_hours_is_no_change_of_the_calendar(seed, blocks, hours):
    rng = np.random.default_rng([seed, blocks, hours])
    outages = [(int(rng.integers(0, WHOLE - 48)), 2 * hours) for _ in range(6)]
    said = lives(rng, blocks * WHOLE + 100, outages)
    assert not {column for columns in said for column in columns} & set(CALENDAR)
    assert sum(map(bool, said)) <= 6


def test_a_batch_with_what_waited_before_it_is_no_change_of_the_calendar(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 13 * WHOLE)
    late = [frame(rng, 13 * WHOLE, WHOLE + extra) for extra in (10, 48, 200, 480)]
    for batch in late:
        assert not told(detector, reference, [batch])[0]


def test_rows_twice_in_place_of_others_are_no_change_of_the_calendar(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 13 * WHOLE)
    for hours in (1, 2, 3):
        lost = frame(rng, 13 * WHOLE, WHOLE, outage=(200, 2 * hours))
        batch = pl.concat([lost, lost[400 : 400 + 2 * hours]])
        assert batch.height == WHOLE
        assert not told(detector, reference, [batch])[0]


@pytest.mark.parametrize("column", CALENDAR)
def test_a_calendar_that_does_change_alarms_at_once(seed, column):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 13 * WHOLE + 100)
    batch = frame(rng, 13 * WHOLE + 100, WHOLE)
    broken = batch.with_columns(pl.col(column).gather(np.zeros(WHOLE, dtype=np.int64)))
    assert column in sum(told(detector, reference, [broken, broken]), [])


@pytest.mark.parametrize("by", [0.25, 0.5])
def test_a_calendar_beside_it_does_not_hide_a_column_that_moves(seed, by):
    rng = np.random.default_rng([seed, int(100 * by)])
    waits = []
    for kept in (["x"], ["x", *CALENDAR]):
        waited = []
        for _ in range(4):
            detector = Alarms("1 per 364d")
            past = frame(rng, 0, 13 * WHOLE).select(TIME, *kept)
            reference = Reference.fit(past, detectors=[detector], every=EVERY)
            starts = [WHOLE * (13 + b) for b in range(12)]
            batches = [
                frame(rng, s, WHOLE).select(TIME, *kept).with_columns(pl.col("x") + by)
                for s in starts
            ]
            said = told(detector, reference, batches)
            waited.append(next((i for i, one in enumerate(said) if "x" in one), 12))
        waits.append(np.mean(waited))
    assert waits[1] <= waits[0] + 2


def test_blocks_that_are_alike_are_regular_and_samples_are_not(seed):
    rng = np.random.default_rng(seed)
    whole = frame(rng, 0, 26 * WHOLE)
    past = history(Reference.fit(whole).profile, whole, blocks_of(whole, EVERY))
    square = (past.distances**2).mean(axis=0)
    assert regular(square, np.array(WHOLE), past.noise[:, 0]).tolist() == [1.0, 1.0, 1.0, 0.0]
    # Of ranks of a number without ties the theory is known, and of shares.
    assert past.noise[3] == pytest.approx([1 / 4, 1 / 12, 1 / 48, 0.0], rel=0.05)
    assert past.noise[1] == pytest.approx([6 / 49, 0.0, 0.0, 0.0], rel=0.01)


def test_the_noise_of_samples_is_what_blocks_of_them_show(seed):
    rng = np.random.default_rng(seed)
    rows = 200
    made = {
        "rare": (rng.random(300 * rows) < 0.05).astype(np.float64),
        "half": np.where(rng.random(300 * rows) < 0.3, np.nan, rng.integers(0, 2, 300 * rows)),
    }
    times = [START + timedelta(minutes=5 * k) for k in range(300 * rows)]
    whole = pl.DataFrame({TIME: times, **made})
    every = timedelta(minutes=5 * rows)
    past = history(Reference.fit(whole).profile, whole, blocks_of(whole, every))
    squares = np.concatenate([past.distances[..., None], past.moves], axis=-1) ** 2
    shown = squares.mean(axis=0) * rows
    assert shown[0, 0] == pytest.approx(past.noise[0, 0], rel=0.35)
    assert shown[1, 3] == pytest.approx(past.noise[1, 3], rel=0.35)
    assert (past.noise[:, 0] <= 1.35 * shown[:, 0]).all()


def test_how_uneven_a_batch_is():
    alarm = Alarm.calibrate(np.full((5, 1), 0.1), [100] * 5, batches=10, partial=0.02)
    found = [alarm.uneven(size) for size in (100, 90, 125, 1_000)]
    assert found == pytest.approx([0.02, 0.12, 0.22, 0.02])


def test_noise_that_does_not_fit_is_refused():
    for noise in (np.zeros((2, 3)), np.full((2, 4), -1.0)):
        with pytest.raises(ConfigError, match="noise of zero or more"):
            Alarm.calibrate(np.full((5, 2), 0.1), [10] * 5, batches=10, noise=noise)
