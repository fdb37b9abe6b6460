"""An alarm repeats itself, reads no order into its columns, and never loses to a quieter batch."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.drift.alarms import Alarm, AlarmState, Anchor


@st.composite
def references(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    blocks, columns = draw(st.integers(1, 30)), draw(st.integers(1, 12))
    history = np.abs(rng.normal(0.04, draw(st.sampled_from([0.0, 0.01, 0.2])), (blocks, columns)))
    history[rng.random(history.shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    batches = rng.random((6, columns)) * draw(st.sampled_from([0.05, 1.0]))
    batches[rng.random(batches.shape) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    sizes = rng.integers(1, draw(st.sampled_from([3, 2_000])), blocks)
    return np.minimum(history, 1.0), sizes, batches, int(rng.integers(0, 2_000))


@st.composite
def moved(draw, blocks, columns):
    """Return moves by block, column and measure, some of which are not known."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    found = rng.normal(0, draw(st.sampled_from([0.0, 0.01, 0.2])), (blocks, columns, 3))
    found[rng.random(found.shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    return np.clip(found, -1.0, 1.0)


def states(alarm, batches, size, moves=None):
    state, seen = None, []
    for place, batch in enumerate(batches):
        state = alarm.advance(state, batch, size, None if moves is None else moves[place])
        seen.append(state)
    return seen


@given(references(), st.floats(1.5, 500))
@settings(max_examples=100)
def test_any_history_and_any_batches_give_states_that_can_be_stored(reference, budget):
    history, sizes, batches, size = reference
    alarm = Alarm.calibrate(history, sizes, batches=budget)
    seen = states(alarm, batches, size)
    for number, state in enumerate(seen, 1):
        assert state.batches == number
        assert np.isfinite([state.evidence, state.threshold]).all()
        assert state.fired <= (not state.armed)
        assert msgspec.json.decode(msgspec.json.encode(state), type=AlarmState) == state
    assert states(Alarm.loads(alarm.dumps()), batches, size) == seen


@given(references(), st.floats(1.5, 500))
@settings(max_examples=60)
def test_the_order_of_columns_does_not_matter(reference, budget):
    history, sizes, batches, size = reference
    one = states(Alarm.calibrate(history, sizes, batches=budget), batches, size)
    turned = Alarm.calibrate(history[:, ::-1], sizes, batches=budget)
    other = states(turned, batches[:, ::-1], size)
    assert np.allclose([s.evidence for s in one], [s.evidence for s in other], rtol=1e-5)
    assert [s.fired for s in one] == [s.fired for s in other]


@given(st.data(), references(), st.floats(1.5, 500))
@settings(max_examples=100)
def test_any_moves_give_states_that_can_be_stored_and_read_no_order(data, reference, budget):
    history, sizes, batches, size = reference
    past, now = (data.draw(moved(len(one), one.shape[1])) for one in (history, batches))
    alarm = Alarm.calibrate(history, sizes, batches=budget, moves=past)
    seen = states(alarm, batches, size, now)
    for state in seen:
        assert np.isfinite(state.evidence)
        assert msgspec.json.decode(msgspec.json.encode(state), type=AlarmState) == state
    assert states(Alarm.loads(alarm.dumps()), batches, size, now) == seen
    turned = Alarm.calibrate(history[:, ::-1], sizes, batches=budget, moves=past[:, ::-1])
    other = states(turned, batches[:, ::-1], size, now[:, ::-1])
    assert np.allclose([s.evidence for s in seen], [s.evidence for s in other], rtol=1e-3)


@given(st.data(), references())
@settings(max_examples=60)
def test_both_signs_of_a_move_count_alike(data, reference):
    history, sizes, batches, size = reference
    past = data.draw(moved(*history.shape))
    now = data.draw(moved(*batches.shape))
    past[..., 2], now[..., 2] = 0.0, 0.0
    seen, mirrored = (
        states(Alarm.calibrate(history, sizes, batches=30, moves=s * past), batches, size, s * now)
        for s in (1, -1)
    )
    assert np.allclose([s.evidence for s in seen], [s.evidence for s in mirrored], rtol=1e-3)


@given(references(), st.integers(0, 11), st.floats(0, 1))
@settings(max_examples=60)
def test_a_greater_distance_never_lowers_the_evidence_of_a_first_batch(reference, column, more):
    history, sizes, batches, size = reference
    alarm = Alarm.calibrate(history, sizes, batches=30)
    batch = batches[0]
    raised = batch.copy()
    raised[column % batch.size] += more
    quiet, loud = (alarm.advance(None, b, size).evidence for b in (batch, raised))
    assert loud >= quiet * (1 - 1e-9)


@given(references())
@settings(max_examples=60)
def test_an_anchor_says_each_column_once(reference):
    history, sizes, batches, size = reference
    anchor, state, said = Anchor.of(history, sizes), None, []
    for batch in np.concatenate([batches, batches, batches]):
        state = anchor.advance(state, batch, size)
        said += state.fired
    assert sorted(said) == list(state.said)
