import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keepfit import estimates
from keepfit.estimates import expected
from keepfit.estimates.calibration import as_they_are, calibration
from keepfit.estimates.expected import LOSSES, METRICS
from keepfit.estimates.moved import Sample, moved
from keepfit.estimates.trees import CUTS, STEPS, Boost, _Slopes, coded, cuts_of

SHARES = st.floats(0, 1, allow_subnormal=False)
BATCHES = arrays.arrays(np.float64, st.integers(1, 30), elements=SHARES)
VALUES = st.floats(-1, 1)
PAIRS = st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES).map(lambda one: (one[1], *one[1:])))


@st.composite
def references(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(2, 60))
    scores = draw(arrays.arrays(np.float64, rows, elements=SHARES))
    labels = draw(arrays.arrays(np.int64, rows, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    return labels, scores


@given(references(), BATCHES, st.sampled_from(METRICS))
@settings(max_examples=200)
def test_an_estimate_lies_in_its_interval_and_in_the_metrics_range(
    reference: tuple[np.ndarray, np.ndarray], batch: np.ndarray, metric: str
) -> None:
    found = estimates.CBPE().fit(*reference).estimate(batch, metric)
    assert 0 <= found.trust <= 1
    if not found:
        assert found.reason
        return
    assert found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high
    assert 0 <= found.unlike <= 1
    assert -1e-9 <= found.value <= (np.inf if metric in LOSSES else 1 + 1e-9)


@given(references(), BATCHES, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    reference: tuple[np.ndarray, np.ndarray], batch: np.ndarray, random: object
) -> None:
    state = estimates.CBPE().fit(*reference)
    shuffled = batch.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in METRICS:
        assert state.estimate(shuffled, metric).value == pytest.approx(
            state.estimate(batch, metric).value, abs=1e-9, nan_ok=True
        )


@given(references(), BATCHES)
def test_a_state_that_was_stored_estimates_the_same(
    reference: tuple[np.ndarray, np.ndarray], batch: np.ndarray
) -> None:
    state = estimates.CBPE().fit(*reference)
    again = estimates.Calibrated.loads(state.dumps())
    assert repr(again.estimate(batch, "accuracy")) == repr(state.estimate(batch, "accuracy"))


@given(references(), BATCHES)
def test_a_calibration_rises_stays_a_chance_and_counts_every_row(
    reference: tuple[np.ndarray, np.ndarray], batch: np.ndarray
) -> None:
    labels, scores = reference
    found = calibration(scores, labels.astype(float))
    chances = found(np.sort(batch))
    assert (np.diff(chances) >= -1e-12).all()
    assert ((chances >= -1e-12) & (chances <= 1 + 1e-12)).all()
    for one in (found, as_they_are(scores, labels.astype(float))):
        assert sum(one.rows) == pytest.approx(scores.size)


@given(references(), BATCHES, st.data())
def test_a_moved_calibration_stays_a_chance_and_moves_only_where_rows_weigh_differently(
    reference: tuple[np.ndarray, np.ndarray], batch: np.ndarray, data: st.DataObject
) -> None:
    labels, scores = reference
    plain = calibration(scores, labels.astype(float))
    sample = Sample(plain.blocks(scores).astype(np.uint16), labels == 1)
    ratio = data.draw(arrays.arrays(np.float64, labels.size, elements=st.floats(0.001, 20)))
    found = moved(plain, sample, ratio / max(1.0, ratio.mean()))
    chances = found(batch)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert all(0 < one <= scores.size for one in found.rows)
    same = moved(plain, sample, np.ones(labels.size))
    assert same.chances == plain.chances
    assert same.rows == pytest.approx(plain.rows)


@given(BATCHES, st.data())
def test_two_classes_are_estimated_alike_by_one_column_and_by_two(
    scores: np.ndarray, data: st.DataObject
) -> None:
    chances = data.draw(arrays.arrays(np.float64, scores.size, elements=SHARES))
    order = np.argsort(scores, kind="stable")
    scores, chances = scores[order], chances[order]
    both = np.column_stack([1 - scores, scores]), np.column_stack([1 - chances, chances])
    for metric, factor in (("accuracy", 1), ("brier", 2), ("log_loss", 1)):
        one = expected.binary(metric, scores, chances).value
        assert expected.multiclass(metric, *both).value == pytest.approx(
            factor * one, rel=1e-6, abs=1e-6
        )


@given(PAIRS)
def test_trust_is_a_share_and_agreement_never_lowers_it(
    pairs: list[tuple[float, float, float, float]],
) -> None:
    trust = estimates.Trust()
    told = trust(pairs)
    assert 0 <= told <= 1
    assert trust([*pairs, (0.5, 0.4, 0.6, 0.5)]) >= told
    assert trust([*pairs, (0.5, 0.4, 0.6, 0.9)]) <= told


@given(
    gradient=arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)),
    seed=st.integers(0, 9),
    depth=st.integers(0, 3),
)
def test_distances_and_counts_that_share_a_number_come_apart_again(
    gradient: np.ndarray, seed: int, depth: int
) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, CUTS + 1, size=(3, gradient.size))
    place, leaves = rng.integers(0, 2**depth, size=gradient.size), 2**depth
    tried = np.array([2, 0])
    shared, apart = _Slopes(gradient), _Slopes(gradient, np.ones(gradient.size))
    assert shared._packed
    assert not apart._packed
    for (pull, mass), (pulled, counted) in (
        (shared.sums(cells, tried, place, leaves), apart.sums(cells, tried, place, leaves)),
        (shared.totals(place, leaves), apart.totals(place, leaves)),
    ):
        assert mass.tolist() == counted.tolist()
        step = max(np.abs(gradient).max(), 1.0) / STEPS
        np.testing.assert_allclose(pull, pulled, atol=gradient.size * step + 1e-9)


@given(seed=st.integers(0, 20))
def test_rows_that_are_asked_teach_the_leaves_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(2, 400))
    goal = matrix[0] + rng.normal(size=400)
    cuts = [cuts_of(column) for column in matrix]
    codes = np.stack([coded(*pair) for pair in zip(matrix, cuts, strict=True)])
    boost = Boost(trees=4, depth=2)
    trees = boost.grow(codes, cuts, goal)
    places = np.array([place.copy() for place in trees.places(matrix)])
    asked = rng.random(400) < 0.3
    found = boost.answered(places, goal, asked)
    assert found.tolist() == boost.answered(places, np.where(asked, 1e9, goal), asked).tolist()
    assert np.corrcoef(found, matrix[0][asked])[0, 1] > 0.5
