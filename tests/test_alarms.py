from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from scipy.special import stdtrit

from keepfit.drift.alarms import Alarm, AlarmState, Anchor
from keepfit.drift.alarms.thresholds import NEVER, threshold
from keepfit.errors import ConfigError

ROWS = 200
POINTS = 40
EDGES = np.array([NormalDist().inv_cdf(i / POINTS) for i in range(1, POINTS)])


class Stream:
    """Raw rows in blocks, seen as their distribution functions at a grid of points."""

    def __init__(self, rng, *, columns, blocks, alike=0.0, effect=0.1, shared=0.3, week=0.0):
        self.rng, self.columns, self.blocks = rng, columns, blocks
        self.alike, self.effect, self.shared, self.week = alike, effect, shared, week
        self.place = 0
        self.last = rng.normal(size=columns + 1)
        reference = np.array([self.block() for _ in range(blocks)])
        self.whole = reference.mean(axis=0)
        rest = (self.whole * blocks - reference) / (blocks - 1)
        self.history, self.moves = apart(reference - rest)

    def block(self, shift=0.0, rows=ROWS):
        new = self.rng.normal(size=self.columns + 1)
        self.last = self.alike * self.last + math.sqrt(1 - self.alike**2) * new
        own, common = self.last[:-1], self.last[-1]
        effects = math.sqrt(1 - self.shared) * own + math.sqrt(self.shared) * common
        weekend = self.week * (self.place % 7 >= 5)
        self.place += 1
        x = self.rng.normal(size=(rows, self.columns)) + self.effect * effects + weekend + shift
        bins = np.searchsorted(EDGES, x) + POINTS * np.arange(self.columns)
        counts = np.bincount(bins.ravel(), minlength=POINTS * self.columns)
        return counts.reshape(self.columns, POINTS).cumsum(axis=1)[:, :-1] / rows

    def batch(self, shift=0.0, rows=ROWS):
        return self.look(shift, rows)[0]

    def look(self, shift=0.0, rows=ROWS):
        """Return the distances and the moves of a batch."""
        return apart(self.block(shift, rows) - self.whole)

    def alarm(self, batches, **rest):
        return Alarm.calibrate(self.history, [ROWS] * self.blocks, batches=batches, **rest)


def apart(curves):
    """Return distances and moves, from differences of distribution functions; none is missing."""
    side = np.sign(np.arange(POINTS - 1) - (POINTS - 2) / 2)
    moves = [-curves.mean(axis=-1), -(curves * side).mean(axis=-1), 0 * curves[..., 0]]
    return np.abs(curves).max(axis=-1), np.stack(moves, axis=-1)


def alarms(stream, budget, length):
    """Return how often a stream alarms that does not change, with signed moves and without."""
    kinds = [stream.alarm(budget, moves=moves) for moves in (stream.moves, None)]
    states, fired = [None, None], np.zeros(2)
    for _ in range(length):
        distances, moves = stream.look()
        states = [
            alarm.advance(state, distances, ROWS, moves)
            for alarm, state in zip(kinds, states, strict=True)
        ]
        fired += [state.fired for state in states]
    return fired


# The upper confidence bound of the rate, one-sided, 95 %, is to be within the budget: a detector
# whose rate is the budget fails nineteen times in twenty. The dozen references of 500 columns make
# the bound wide: what passes there is well below the budget.
SURE = 0.95


@pytest.mark.parametrize(
    ("columns", "blocks", "budget", "world"),
    [
        (1, 13, 20, {"alike": 0.6, "effect": 0.2}),
        (5, 4, 10, {}),
        (5, 8, 20, {"alike": 0.6, "effect": 0.2}),
        (5, 26, 30, {"alike": 0.3}),
        (5, 52, 45, {"week": 0.5}),
        (5, 28, 90, {"week": 0.5, "alike": 0.3}),
        (50, 13, 20, {"alike": 0.6}),
        (50, 52, 90, {}),
        (500, 13, 20, {"alike": 0.5}),
    ],
)
def test_a_stream_that_does_not_change_alarms_no_more_often_than_the_budget(
    seed, columns, blocks, budget, world
):
    rng = np.random.default_rng([seed, columns, blocks])
    length = 3 * budget
    references = max(12, 5_000 // (length * (1 + columns // 25)))
    streams = (Stream(rng, columns=columns, blocks=blocks, **world) for _ in range(references))
    counts = np.array([alarms(one, budget, length) for one in streams])
    error = np.maximum(counts.std(axis=0, ddof=1), 0.5) / math.sqrt(references)
    assert (counts.mean(axis=0) + stdtrit(references - 1, SURE) * error <= length / budget).all()


@pytest.mark.parametrize(
    ("columns", "blocks", "budget", "world"),
    [(5, 4, 10, {}), (5, 26, 20, {"alike": 0.6, "effect": 0.2}), (50, 8, 10, {"alike": 0.3})],
)
def test_taking_a_new_reference_after_each_alarm_keeps_the_budget(
    seed, columns, blocks, budget, world
):
    rng = np.random.default_rng([seed, columns, blocks, 1])
    times = []
    for _ in range(60):
        stream = Stream(rng, columns=columns, blocks=blocks, **world)
        alarm, state, time = stream.alarm(budget, moves=stream.moves), None, 0
        while time < 4 * budget and not (state and state.fired):
            distances, moves = stream.look()
            state, time = alarm.advance(state, distances, ROWS, moves), time + 1
        times.append((time, state.fired))
    waited, fired = np.array(times, dtype=float).T
    # Renewals: alarms over batches, with the error of a ratio.
    rate = fired.sum() / waited.sum()
    error = (fired - rate * waited).std(ddof=1) / math.sqrt(60) / waited.mean()
    assert rate + stdtrit(59, SURE) * error <= 1 / budget


@pytest.mark.parametrize(("columns", "blocks"), [(5, 8), (5, 26), (50, 13), (500, 26)])
def test_a_great_shift_of_every_column_alarms_within_two_batches(seed, columns, blocks):
    rng = np.random.default_rng([seed, columns, blocks])
    stream = Stream(rng, columns=columns, blocks=blocks)
    alarm = stream.alarm(30)
    first = alarm.advance(None, stream.batch(1.0), ROWS)
    assert first.fired or alarm.advance(first, stream.batch(1.0), ROWS).fired


def test_a_shift_of_one_column_in_fifty_alarms_and_is_named(seed):
    rng = np.random.default_rng(seed)
    named = 0
    for _ in range(10):
        stream = Stream(rng, columns=50, blocks=26)
        alarm, state = stream.alarm(30), None
        for _ in range(6):
            state = alarm.advance(state, stream.batch(np.eye(50)[7]), ROWS)
            if state.fired:
                named += state.columns[0][0] == 7
                break
    assert named >= 9


def test_small_shifts_that_persist_add_up(seed):
    rng = np.random.default_rng(seed)
    delays = []
    for _ in range(20):
        stream = Stream(rng, columns=5, blocks=52, effect=0.0)
        alarm, state, delay = stream.alarm(90), None, 0
        # A third of a standard deviation: no single batch of 200 rows shows it.
        while delay < 60 and not (state and state.fired):
            state, delay = alarm.advance(state, stream.batch(np.eye(5)[0] / 4), ROWS), delay + 1
        delays.append(delay)
    assert 1.5 < np.mean(delays) < 30


def standing(alarm, stream, shift):
    """Return the state at the alarm that a shift causes."""
    state = None
    for _ in range(10):
        state = alarm.advance(state, stream.batch(shift), ROWS)
        if state.fired:
            return state
    raise AssertionError("no alarm")


def test_one_cause_is_one_alarm(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=26)
    alarm, shift = stream.alarm(60), np.array([2.0, 0, 0, 0, 0])
    state = standing(alarm, stream, shift)
    fired = 0
    for _ in range(40):
        state = alarm.advance(state, stream.batch(shift), ROWS)
        fired += state.fired
        assert not state.armed
    assert state.muted[:1] == (0,)
    assert fired <= 2


def test_another_column_alarms_while_the_first_alarm_stands(seed):
    rng = np.random.default_rng(seed)
    told = 0
    for _ in range(10):
        stream = Stream(rng, columns=5, blocks=26)
        alarm = stream.alarm(60)
        state = standing(alarm, stream, np.array([2.0, 0, 0, 0, 0]))
        other = max(set(range(5)) - set(state.muted))
        again = 0
        for _ in range(4):
            shift = 2.0 * np.isin(np.arange(5), [0, other])
            state = alarm.advance(state, stream.batch(shift), ROWS)
            again += state.fired
        told += again == 1 and not state.armed
    assert told >= 9


def test_an_alarm_is_over_after_three_usual_batches_and_may_come_again(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=26)
    alarm, shift = stream.alarm(60), np.array([2.0, 0, 0, 0, 0])
    state = standing(alarm, stream, shift)
    usual = np.median(stream.history, axis=0)
    for armed in (False, False, True):
        state = alarm.advance(state, usual, ROWS)
        assert state.armed is armed
    assert standing(alarm, stream, shift).fired


def test_a_shift_of_everything_mutes_everything(seed):
    stream = Stream(np.random.default_rng(seed), columns=20, blocks=26)
    alarm = stream.alarm(60)
    state = standing(alarm, stream, 1.5)
    assert (state.armed, state.muted) == (False, ())
    assert not any(alarm.advance(state, stream.batch(s), ROWS).fired for s in (1.5, 3.0))


def test_important_columns_alarm_sooner(seed):
    rng = np.random.default_rng(seed)
    stream = Stream(rng, columns=50, blocks=26)
    batch = np.median(stream.history, axis=0)
    batch[3] *= 2.5
    weights = np.where(np.arange(50) == 3, 0.9, 0.0)
    with_, without = (
        alarm.advance(None, batch, ROWS).evidence
        for alarm in (stream.alarm(30, weights=weights), stream.alarm(30))
    )
    assert with_ > without


def test_fewer_rows_need_a_greater_distance(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=26, effect=0.0)
    batch = 2 * np.median(stream.history, axis=0)
    alarm = stream.alarm(30)
    whole, few = (alarm.advance(None, batch, rows).evidence for rows in (ROWS, ROWS // 8))
    assert few < whole
    assert not alarm.advance(None, stream.batch(rows=5), 5).fired


def test_a_column_that_cannot_be_measured_says_nothing(seed):
    stream = Stream(np.random.default_rng(seed), columns=3, blocks=13)
    alarm = stream.alarm(30)
    usual = np.median(stream.history, axis=0)
    gone = np.where(np.arange(3) == 1, np.nan, usual)
    assert not alarm.advance(None, gone, ROWS).fired
    before = alarm.advance(None, usual, ROWS)
    after = alarm.advance(before, [np.nan] * 3, ROWS)
    assert after == msgspec.structs.replace(before, batches=2)
    assert alarm.advance(before, usual, 0) == after


def test_a_column_without_history_is_not_watched():
    history = np.full((8, 2), 0.03) + np.linspace(0, 0.02, 8)[:, None]
    history[2:, 1] = np.nan
    alarm = Alarm.calibrate(history, [ROWS] * 8, batches=30)
    assert alarm.watched == (0,)
    assert alarm.advance(None, [0.04, 1.0], ROWS) == alarm.advance(None, [0.04, 0.0], ROWS)
    nothing = Alarm.calibrate(np.full((8, 2), np.nan), [ROWS] * 8, batches=30)
    assert not nothing.advance(None, [1.0, 1.0], ROWS).fired


def test_a_share_never_seen_is_no_alarm_until_more_than_a_few_rows_show_it():
    alarm = Alarm.calibrate(np.zeros((13, 4)), [ROWS] * 13, batches=60)
    one = alarm.advance(None, [1 / ROWS, 0, 0, 0], ROWS)
    many = alarm.advance(None, [60 / ROWS, 0, 0, 0], ROWS)
    assert not one.fired
    assert many.fired


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_reference_too_short_to_tell_never_alarms(blocks):
    alarm = Alarm.calibrate(np.full((blocks, 2), 0.02), [ROWS] * blocks, batches=10)
    state = None
    for _ in range(20):
        state = alarm.advance(state, [1.0, 1.0], ROWS)
        assert not state.fired
    assert alarm.provisional


def test_an_alarm_is_provisional_until_the_reference_spans_four_budgets():
    blocks = np.random.default_rng(0).uniform(0.01, 0.05, (40, 2))
    assert Alarm.calibrate(blocks, [ROWS] * 40, batches=10.1).provisional
    assert not Alarm.calibrate(blocks, [ROWS] * 40, batches=10).provisional


def test_an_alarm_and_its_state_survive_storage(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=13)
    alarm = stream.alarm(30)
    again = Alarm.loads(alarm.dumps())
    one = other = None
    for shift in (0.0, 0.0, 0.4, 2.0, 0.0):
        batch = stream.batch(shift)
        one, other = alarm.advance(one, batch, ROWS), again.advance(other, batch, ROWS)
        other = msgspec.json.decode(msgspec.json.encode(other), type=AlarmState)
        assert one == other
    assert len(msgspec.json.encode(one)) < 1_000


def test_thresholds_grow_with_the_budget_and_beyond_the_table():
    for blocks in (3, 5, 13, 40, 200):
        for columns, moved in ((1, False), (12, False), (500, False), (2_000, False), (12, True)):
            for alike in (-0.2, 0.0, 0.1, 0.5):
                found = [
                    threshold(columns, blocks, budget, alike=alike, moved=moved)
                    for budget in (2, 5, 7, 20, 90, 91, 400, 2_000)
                ]
                assert found == sorted(found)
                assert found[-1] > found[-2] or found[-1] == NEVER


def test_a_reference_whose_blocks_look_alike_needs_more_evidence(seed):
    for columns, blocks in ((1, 26), (5, 52), (50, 13)):
        found = [threshold(columns, blocks, 30, alike=a) for a in (-0.3, 0.0, 0.15, 0.3, 0.9)]
        assert found[0] == found[1] < found[2] < found[3] == found[4]
    rng = np.random.default_rng(seed)
    apart, alike = (
        [Stream(rng, columns=5, blocks=104, alike=a, effect=0.5).alarm(30) for _ in range(10)]
        for a in (0.0, 0.6)
    )
    assert np.mean([a.threshold for a in alike]) > 1.5 * np.mean([a.threshold for a in apart])


def test_a_small_shift_of_one_column_adds_up_among_many(seed):
    rng = np.random.default_rng(seed)
    alone, told = [], 0
    for _ in range(10):
        stream = Stream(rng, columns=50, blocks=52, effect=0.0)
        alarm, state = stream.alarm(60), None
        for _ in range(30):
            batch = stream.batch(np.eye(50)[7] / 4)
            alone.append(alarm.advance(None, batch, ROWS).fired)
            state = alarm.advance(state, batch, ROWS)
            if state.fired:
                told += state.columns[0][0] == 7
                break
    assert told >= 8
    assert np.mean(alone) < 0.3


def test_after_an_alarm_the_next_within_the_budget_must_be_plain(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=26)
    alarm, usual = stream.alarm(20), np.median(stream.history, axis=0)
    state = standing(alarm, stream, np.array([2.0, 0, 0, 0, 0]))
    limits = []
    for _ in range(24):
        state = alarm.advance(state, usual, ROWS)
        limits.append(state.threshold)
    assert state.armed
    assert limits == [alarm.again] * 20 + [alarm.threshold] * 4
    assert alarm.again > 10 * alarm.threshold


@pytest.mark.parametrize(
    ("history", "sizes", "options", "words"),
    [
        (np.zeros((3, 2)), [10, 10], {}, "a size for each of 3 blocks"),
        (np.zeros((2, 2)), [10, 0], {}, "blocks of one row or more"),
        (-np.ones((3, 2)), [10] * 3, {}, "distances of zero or more"),
        (np.zeros((3, 2)), [10] * 3, {"weights": [1.0]}, "2 weights"),
        (np.zeros((3, 2)), [10] * 3, {"weights": [1.0, -1.0]}, "2 weights"),
        (np.zeros((3, 2)), [10] * 3, {"batches": 1.0}, "more than one batch"),
        (np.zeros((0, 2)), [], {}, "a row per block"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(history, sizes, options, words):
    with pytest.raises(ConfigError, match=words):
        Alarm.calibrate(history, sizes, **{"batches": 10, **options})


def test_too_few_distances_are_refused():
    alarm = Alarm.calibrate(np.full((5, 3), 0.1), [10] * 5, batches=10)
    with pytest.raises(ConfigError, match="3 columns or more, got 2"):
        alarm.advance(None, [0.1, 0.1], 10)


def test_an_anchor_sees_slow_drift_once(seed):
    stream = Stream(np.random.default_rng(seed), columns=5, blocks=26)
    anchor, state, said = Anchor.of(stream.history, [ROWS] * 26), None, []
    for step in range(80):
        state = anchor.advance(state, stream.batch(np.eye(5)[2] * step / 50), ROWS)
        said += [(step, column) for column in state.fired]
    assert [column for _, column in said] == [2]
    assert 10 < said[0][0] < 75


@pytest.mark.parametrize(
    ("columns", "blocks", "world"),
    [
        (5, 4, {"alike": 0.6, "effect": 0.2}),
        (5, 26, {"week": 0.5}),
        (50, 8, {"alike": 0.6, "effect": 0.1}),
        (500, 13, {}),
    ],
)
def test_an_anchor_adds_next_to_nothing_to_the_false_alarms(seed, columns, blocks, world):
    rng = np.random.default_rng([seed, columns])
    fired = watched = 0
    for _ in range(max(2, 40 // (1 + columns // 25))):
        stream = Stream(rng, columns=columns, blocks=blocks, **world)
        anchor, state = Anchor.of(stream.history, [ROWS] * blocks), None
        for _ in range(60):
            state = anchor.advance(state, stream.batch(), ROWS)
            fired, watched = fired + bool(state.fired), watched + 1
    assert fired / watched <= 1 / 900


def test_an_anchor_waits_for_batches_in_a_row():
    anchor = Anchor.of(np.full((8, 1), 0.02), [ROWS] * 8)
    state = None
    for value, fired in ((0.9, ()), (0.9, ()), (0.0, ()), (0.9, ()), (0.9, ()), (math.nan, ())):
        state = anchor.advance(state, [value], ROWS)
        assert state.fired == fired
    state = anchor.advance(state, [0.9], ROWS)
    assert (state.fired, state.said) == ((0,), (0,))
    assert anchor.advance(state, [0.9], ROWS).fired == ()


def test_an_anchor_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match="each of 3 blocks"):
        Anchor.of(np.zeros((3, 1)), [10])
    with pytest.raises(ConfigError, match="a limit above 0"):
        Anchor.of(np.zeros((3, 1)), [10] * 3, limit=0.0)
    with pytest.raises(ConfigError, match="each of 1 columns, got 2"):
        Anchor.of(np.zeros((3, 1)), [10] * 3).advance(None, [0.1, 0.1], 10)
