"""Signed moves: what they say of a column, how they are told from blocks, and what they gain."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from keepfit.batch import TIME
from keepfit.drift import Reference
from keepfit.drift.alarms import Alarm, AlarmState
from keepfit.drift.alarms.moves import DIRECTIONS, directions, usual
from keepfit.drift.history import blocks_of, distance, history, moves, rank_scores
from keepfit.errors import ConfigError

ROWS = 200
EVERY = timedelta(days=1)


def numbers(rng, blocks, columns=1, alike=0.0, effect=0.02):
    """Return moves by block, column and measure, of which neighbours may resemble each other."""
    noise = rng.normal(0, effect, (blocks, columns, 3))
    for t in range(1, blocks):
        noise[t] = alike * noise[t - 1] + math.sqrt(1 - alike**2) * noise[t]
    return noise


def frame(rng, days, *, shift=0.0, scale=1.0, lost=0.02, long=0):
    """Return rows of a number, a binary number, a category and a free text, `ROWS` a day."""
    rows = days * ROWS
    start = datetime(2024, 1, 1, tzinfo=UTC)
    x = shift + scale * rng.normal(size=rows)
    words = rng.choice(["river", "stone", "lamp", "of", "yellow", "window"], (rows, 12))
    used = rng.integers(3, 9, rows) + long
    ids = rng.integers(100, 1_000, (rows, 1)).astype(str)
    return pl.DataFrame(
        {
            TIME: [start + EVERY * (i + 0.5) / ROWS for i in range(rows)],
            "x": np.where(rng.random(rows) < lost, np.nan, x),
            "yes": (rng.random(rows) < 0.3).astype(np.float64),
            "kind": rng.choice(["a", "b", "c"], rows),
            "said": [
                " ".join([*row[:n], *name]) for row, n, name in zip(words, used, ids, strict=True)
            ],
        }
    )


def read(reference, rows):
    return {one.column.name: moves(one) for one in reference.read(rows)}


def test_moves_have_a_sign_and_are_zero_on_the_reference_itself(seed):
    rng = np.random.default_rng(seed)
    whole = frame(rng, 26)
    reference = Reference.fit(whole)
    assert np.allclose(np.nan_to_num([*read(reference, whole).values()]), 0.0, atol=2e-3)
    up, down = (read(reference, frame(rng, 5, shift=s))["x"] for s in (0.5, -0.5))
    assert up[0] > 0.1
    assert down[0] < -0.1
    wide, narrow = (read(reference, frame(rng, 5, scale=s))["x"] for s in (2.0, 0.5))
    assert wide[1] > 0.05 > -0.05 > narrow[1]
    assert read(reference, frame(rng, 5, lost=0.3))["x"][2] == pytest.approx(0.28, abs=0.04)


def test_a_shift_of_the_mean_moves_the_mean_rank_by_what_theory_says(seed):
    rng = np.random.default_rng(seed)
    reference = Reference.fit(frame(rng, 100, lost=0.0))
    found = read(reference, frame(rng, 100, shift=0.5, lost=0.0))["x"][0]
    # P(X < Y) of normals that lie 0.5 apart is Phi(0.5 / sqrt(2)) = 0.638.
    assert found == pytest.approx(0.138, abs=0.01)


def test_a_category_and_a_text_have_no_location_but_what_is_missing(seed):
    rng = np.random.default_rng(seed)
    reference = Reference.fit(frame(rng, 10))
    lost = frame(rng, 1).with_columns(kind=None, said=None, x=None)
    for name, found in read(reference, lost).items():
        if name in ("kind", "said", "x"):
            assert np.isnan(found[:2]).all()
            assert found[2] == pytest.approx(1.0, abs=0.05)
    assert np.isnan(read(reference, lost.drop("x"))["x"]).all()


def test_blocks_and_batches_are_measured_alike(seed):
    rng = np.random.default_rng(seed)
    whole = frame(rng, 60)
    reference = Reference.fit(whole)
    past = history(reference.profile, whole, blocks_of(whole, EVERY))
    batches = [reference.read(frame(rng, 1)) for _ in range(60)]
    apart = np.array([[distance(one) for one in batch] for batch in batches])
    moved = np.array([[moves(one) for one in batch] for batch in batches])
    assert past.distances.shape == (60, 4)
    assert np.allclose(past.distances.mean(axis=0), apart.mean(axis=0), rtol=0.25)
    assert np.array_equal(np.isnan(past.moves[0]), np.isnan(moved[0]))
    there = past.moves.std(axis=0)[:2, :2], moved.std(axis=0)[:2, :2]
    assert np.allclose(*there, rtol=0.35)
    # Of a column of two values, and of a number in ranks, the theory is known.
    assert there[0][0] == pytest.approx(np.sqrt([1 / 12, 1 / 48]) / math.sqrt(ROWS), rel=0.3)


def test_a_text_that_does_not_change_is_as_far_from_its_reference_as_its_blocks_are(seed):
    rng = np.random.default_rng(seed)
    whole = frame(rng, 40)
    reference = Reference.fit(whole)
    assert reference.profile.column("said").kind == "text"
    past = history(reference.profile, whole, blocks_of(whole, EVERY)).distances[:, 3]
    same, longer = (distance(reference.read(frame(rng, 1, long=n))[3]) for n in (0, 3))
    assert past.min() > 0
    assert same < 2 * past.max() < longer


def test_scores_of_ranks_have_mean_zero_on_the_reference(seed):
    shares = np.random.default_rng(seed).dirichlet(np.ones(7))
    assert np.allclose(shares @ rank_scores(shares), 0.0)
    assert np.allclose(rank_scores(np.full(2, 0.5)), [[-0.25, 0.0], [0.25, 0.0]])


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_directions_are_about_standard_normal_where_nothing_changes(seed, alike):
    rng = np.random.default_rng([seed, int(10 * alike)])
    drawn = np.stack([numbers(rng, 26 + 20, 5, alike) for _ in range(400)])
    whole = drawn[:, :26].mean(axis=1, keepdims=True)
    known = usual((drawn[:, :26] - whole) * 26 / 25, np.full((400, 26), ROWS))
    found = directions(known, drawn[:, 26:] - whole, np.full((400, 20), ROWS))
    assert found.shape == (400, 20, 5, len(DIRECTIONS))
    # Doubt is taken off, and a deviation for the rows: never more than a standard normal.
    sums = found.sum(axis=1) / math.sqrt(20)
    assert found.mean() < 0
    assert found.std() < 1.05
    assert (found > 3).mean() < 0.002
    assert sums.std() < 1.6


def test_a_measure_that_a_column_lacks_says_nothing():
    past = np.full((8, 2, 3), 0.01)
    past[:, 1, :2] = np.nan
    found = directions(usual(past, np.full(8, ROWS)), np.full((1, 2, 3), 0.5), np.array([ROWS]))
    assert np.isfinite(found[0, 0]).all()
    assert np.isnan(found[0, 1, :4]).all()
    assert np.isfinite(found[0, 1, 4])


def delay(rng, change, *, signed):
    """Return batches to the alarm in a column of five whose blocks differ anyway."""
    blocks = 26
    past = numbers(rng, blocks, 5, effect=0.06)
    distances = np.abs(past).max(axis=-1) + 0.03
    alarm = Alarm.calibrate(distances, [ROWS] * blocks, batches=30, moves=past if signed else None)
    state = None
    for step in range(1, 41):
        now = numbers(rng, 1, 5, effect=0.06)[0] + change
        state = alarm.advance(state, np.abs(now).max(axis=-1) + 0.03, ROWS, now)
        if state.fired:
            return step
    return 41


@pytest.mark.parametrize("measure", [0, 1])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_move_that_persists_is_seen_sooner_with_its_sign(seed, measure, sign):
    rng = np.random.default_rng([seed, measure, int(sign > 0)])
    change = np.zeros((5, 3))
    change[2, measure] = 0.07 * sign
    with_, without = (
        np.mean([delay(rng, change, signed=signed) for _ in range(30)]) for signed in (True, False)
    )
    assert with_ < 0.9 * without


def test_missing_values_where_there_were_none_alarm_at_once_and_name_the_column(seed):
    rng = np.random.default_rng(seed)
    past = numbers(rng, 26, 5)
    past[..., 2] = 0.0
    # The distance is that of the values: it hides what is missing.
    alarm = Alarm.calibrate(np.full((26, 5), 0.1), [ROWS] * 26, batches=30, moves=past)
    state, now = None, np.zeros((5, 3))
    now[3, 2] = 0.1
    for _ in range(4):
        state = alarm.advance(state, np.full(5, 0.1), ROWS, now)
        if state.fired:
            break
    assert state.fired
    assert state.columns[0][0] == 3


def test_one_row_that_is_missing_is_no_alarm(seed):
    past = numbers(np.random.default_rng(seed), 26, 5)
    past[..., 2] = 0.0
    alarm = Alarm.calibrate(np.full((26, 5), 0.1), [ROWS] * 26, batches=30, moves=past)
    now = np.zeros((5, 3))
    now[3, 2] = 1 / ROWS
    assert not alarm.advance(None, np.full(5, 0.1), ROWS, now).fired


def test_moves_that_are_not_known_are_as_none_at_all(seed):
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0.01, 0.05, (13, 3))
    nothing = np.full((13, 3, 3), np.nan)
    with_, without = (
        Alarm.calibrate(distances, [ROWS] * 13, batches=30, moves=m) for m in (nothing, None)
    )
    one = other = None
    for _ in range(5):
        batch = rng.uniform(0.01, 0.08, 3)
        one, other = (
            with_.advance(one, batch, ROWS, nothing[0]),
            without.advance(other, batch, ROWS),
        )
        assert one.evidence == pytest.approx(other.evidence)


def test_an_alarm_with_moves_and_its_state_survive_storage(seed):
    rng = np.random.default_rng(seed)
    past = numbers(rng, 13, 5)
    alarm = Alarm.calibrate(np.abs(past).max(axis=-1), [ROWS] * 13, batches=30, moves=past)
    again = Alarm.loads(alarm.dumps())
    one = other = None
    for shift in (0.0, 0.0, 0.02, 0.2, 0.0):
        now = numbers(rng, 1, 5)[0] + shift
        far = np.abs(now).max(axis=-1)
        one, other = alarm.advance(one, far, ROWS, now), again.advance(other, far, ROWS, now)
        other = msgspec.json.decode(msgspec.json.encode(other), type=AlarmState)
        assert one == other
    assert one.alarmed
    assert len(msgspec.json.encode(one)) < 1_500


def test_moves_of_another_shape_are_refused():
    distances = np.full((5, 2), 0.1)
    with pytest.raises(ConfigError, match="by block, column and measure"):
        Alarm.calibrate(distances, [ROWS] * 5, batches=10, moves=np.zeros((5, 2)))
    alarm = Alarm.calibrate(distances, [ROWS] * 5, batches=10, moves=np.zeros((5, 2, 3)))
    with pytest.raises(ConfigError, match="3 moves for each of 2 columns or more, got"):
        alarm.advance(None, [0.1, 0.1], ROWS, np.zeros((1, 3)))
