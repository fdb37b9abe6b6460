import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri
from scipy.stats import binom, t
from sklearn.metrics import precision_score, recall_score

from keepfit import estimates, metrics
from keepfit.errors import ConfigError, SchemaMismatch
from keepfit.estimates import dle, expected, ratio
from keepfit.estimates.calibration import Calibration, calibration, smoothed, way
from keepfit.estimates.curve import curve
from keepfit.estimates.intervals import wander
from keepfit.estimates.moved import Sample, moved
from keepfit.estimates.trees import Boost, coded, cuts_of

SHARED = ("roc_auc", "accuracy", "f1", "log_loss", "brier", "average_precision")
METRICS = pytest.mark.parametrize("metric", expected.METRICS)


def expit(values: Any) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.asarray(values, dtype=np.float64))))


def scored(
    n: int, generator: np.random.Generator, *, hard: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and overconfident scores; the smaller `hard`, the harder the rows."""
    odds = hard * generator.normal(size=n)
    labels = (generator.random(n) < expit(1.5 * odds - 1)).astype(int)
    return labels, expit(2.5 * odds - 0.5)


def drifting(
    n: int, at: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, scores and features of a model that is right about some rows only."""
    features = generator.normal(size=(n, 4))
    features[:, 1] += at
    odds = features[:, 0] - 0.3
    sharper = odds * (1 + (features[:, 1] > 0.5)) + 0.5 * (features[:, 1] > 0.5)
    return (generator.random(n) < expit(sharper)).astype(int), expit(odds), features


def realised(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(scores, kind="stable")
    return expected.binary(metric, scores[order], labels[order].astype(float)).value


def no_more_than(found: int, of: int, share: float) -> bool:
    """Return whether so many are no evidence, at 99.9 %, that their share is greater."""
    return float(binom.sf(found - 1, of, share)) > 0.001


def no_fewer_than(found: int, of: int, share: float) -> bool:
    """Return whether so many are no evidence, at 99.9 %, that their share is smaller."""
    return float(binom.cdf(found, of, share)) > 0.001


def labellings(chances: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield every way to label rows, with its probability."""
    for labels in product((0, 1), repeat=chances.size):
        found = np.array(labels)
        yield found, float(np.where(found == 1, chances, 1 - chances).prod())


# What is expected -----------------------------------------------------------------------

TIED = np.array([0.1, 0.3, 0.3, 0.6, 0.6, 0.6, 0.8])
CHANCES = np.array([0.2, 0.1, 0.5, 0.3, 0.9, 0.4, 0.7])


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier", "precision"])
def test_means_over_rows_are_exactly_the_mean_over_all_labellings(metric: str) -> None:
    mean = sum(chance * realised(metric, labels, TIED) for labels, chance in labellings(CHANCES))
    assert expected.binary(metric, TIED, CHANCES).value == pytest.approx(mean, abs=1e-12)


def in_order(labels: np.ndarray) -> tuple[float, float]:
    above, below = TIED[labels == 1], TIED[labels == 0]
    ties = (above[:, None] == below).sum() / 2
    return float((above[:, None] > below).sum() + ties), float(above.size * below.size)


def hits(labels: np.ndarray) -> tuple[float, float]:
    return float(labels[TIED > 0.5].sum()), float(labels.sum())


def twice_hits(labels: np.ndarray) -> tuple[float, float]:
    found, ones = hits(labels)
    return 2 * found, ones + float((TIED > 0.5).sum())


@pytest.mark.parametrize(
    ("metric", "parts"), [("roc_auc", in_order), ("recall", hits), ("f1", twice_hits)]
)
def test_ratios_are_the_ratio_of_what_is_expected_over_all_labellings(
    metric: str, parts: Callable[[np.ndarray], tuple[float, float]]
) -> None:
    sums = np.zeros(2)
    for labels, chance in labellings(CHANCES):
        sums += chance * np.array(parts(labels))
    found = expected.binary(metric, TIED, CHANCES).value
    assert found == pytest.approx(sums[0] / sums[1], abs=1e-12)


def test_ratios_come_near_their_mean_over_labellings_as_rows_are_many() -> None:
    generator = np.random.default_rng(7)
    scores = np.sort(generator.random(400))
    for metric in ("roc_auc", "recall", "f1", "balanced_accuracy", "average_precision"):
        drawn = [
            realised(metric, (generator.random(400) < scores).astype(int), scores)
            for _ in range(400)
        ]
        error = np.std(drawn) / len(drawn) ** 0.5
        assert abs(expected.binary(metric, scores, scores).value - np.mean(drawn)) < (
            4 * error + 1 / 400
        )


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier"])
def test_means_over_rows_of_several_classes_are_exact_too(metric: str) -> None:
    generator = np.random.default_rng(3)
    scores, chances = generator.dirichlet(np.ones(3), 4), generator.dirichlet(np.ones(3), 4)
    measure = metrics.get(metric, task="multiclass")
    mean = sum(
        float(chances[np.arange(4), labels].prod()) * measure.value(np.array(labels), scores)
        for labels in product(range(3), repeat=4)
    )
    assert expected.multiclass(metric, scores, chances).value == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("metric", [*SHARED, "balanced_accuracy"])
def test_certain_chances_give_the_metric_itself(metric: str) -> None:
    generator = np.random.default_rng(5)
    scores = generator.random(300).round(1)  # many ties
    labels = generator.integers(0, 2, 300)
    value = metrics.get(metric, task="binary").value(labels, scores)
    assert realised(metric, labels, scores) == pytest.approx(value, abs=1e-12)

    scores = generator.dirichlet(np.ones(4), 300).round(2)
    labels = generator.choice([0, 1, 3], 300)  # one class never occurs
    value = metrics.get(metric, task="multiclass").value(labels, scores)
    happened = (labels[:, None] == np.arange(4)).astype(float)
    found = expected.multiclass(metric, scores, happened).value
    assert found == pytest.approx(value, abs=1e-12)


def test_certain_chances_give_precision_and_recall_as_scikit_learn_does() -> None:
    generator = np.random.default_rng(6)
    scores, labels = generator.random(100), generator.integers(0, 2, 100)
    for metric, theirs in (("precision", precision_score), ("recall", recall_score)):
        assert realised(metric, labels, scores) == pytest.approx(theirs(labels, scores > 0.5))


@METRICS
def test_pulls_are_derivatives_of_the_expected_metric(metric: str) -> None:
    scores = np.array([0.1, 0.2, 0.4, 0.55, 0.6, 0.9])
    chances = np.array([0.2, 0.1, 0.5, 0.3, 0.9, 0.7])
    pulls = expected.binary(metric, scores, chances).pulls
    for row in range(scores.size):
        step = np.where(np.arange(scores.size) == row, 1e-6, 0.0)
        ends = [expected.binary(metric, scores, chances + by).value for by in (step, -step)]
        assert pulls[row] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


# Confidence-based estimates -------------------------------------------------------------


def test_realised_values_lie_in_the_interval_as_often_as_it_says() -> None:
    missed, times = dict.fromkeys(expected.METRICS, 0), 120
    for seed in range(times):
        generator = np.random.default_rng(seed)
        state = estimates.CBPE().fit(*scored(1_000, generator))
        labels, scores = scored(400, generator)
        for metric in expected.METRICS:
            found = state.estimate(scores, metric)
            missed[metric] += not found.low <= realised(metric, labels, scores) <= found.high
    for metric, misses in missed.items():
        assert no_more_than(misses, times, 0.05), metric
        assert no_fewer_than(misses, times, 0.02), metric  # nor are they far too wide


def simplex(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of three classes, and overconfident scores."""
    odds = np.exp(generator.normal(size=(n, 3)))
    chances = odds / odds.sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return labels, odds**1.5 / (odds**1.5).sum(axis=1, keepdims=True)


def test_intervals_hold_for_several_classes() -> None:
    missed, times = dict.fromkeys(SHARED[:-1], 0), 40
    for seed in range(times):
        generator = np.random.default_rng(seed)
        state = estimates.CBPE().fit(*simplex(2_000, generator))
        labels, scores = simplex(400, generator)
        for metric in missed:
            found = state.estimate(scores, metric)
            truth = metrics.get(metric, task="multiclass").value(labels, scores)
            missed[metric] += not found.low <= truth <= found.high
    for metric, misses in missed.items():
        assert no_more_than(misses, times, 0.05), metric


def test_rows_that_are_harder_lower_the_estimate_as_they_do_the_metric() -> None:
    generator = np.random.default_rng(1)
    state = estimates.CBPE().fit(*scored(20_000, generator))
    for hard in (1.0, 0.7, 0.4):
        labels, scores = scored(20_000, generator, hard=hard)
        found = state.estimate(scores, "roc_auc")
        assert found.low <= realised("roc_auc", labels, scores) <= found.high


def test_steps_are_steadied_by_a_curve_unless_they_are_closer_alone() -> None:
    chosen = {smoothed: 0, calibration: 0}
    for seed in range(20):
        generator = np.random.default_rng(seed)
        scores = generator.random(2_000)
        bent = expit(2 * np.log(scores / (1 - scores)))
        chosen[way(scores, (generator.random(2_000) < bent).astype(float))] += 1
        cut = np.array([0.02, 0.5, 0.98])[np.digitize(scores, [0.3, 0.7])]
        assert way(scores, (generator.random(2_000) < cut).astype(float)) is calibration
    assert chosen[smoothed] > 2 * chosen[calibration]


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_curve_expects_of_its_reference_what_is_realised_there(metric: str) -> None:
    generator = np.random.default_rng(5)
    scores = np.sort(generator.uniform(0.02, 0.98, 20_000))
    cut = np.array([0.05, 0.4, 0.9])[np.digitize(scores, [0.3, 0.7])]
    labels = (generator.random(20_000) < cut).astype(float)
    meant = expected.binary(metric, scores, curve(scores, labels)(scores)).value
    assert meant == pytest.approx(expected.binary(metric, scores, labels).value, abs=1e-3)
    assert meant != pytest.approx(expected.binary(metric, scores, scores).value, abs=1e-2)


def test_a_curve_bends_in_the_middle_where_chances_do() -> None:
    generator = np.random.default_rng(6)
    scores = generator.uniform(0.02, 0.98, 20_000)
    chances = np.clip(scores, 0.25, 0.7)
    labels = (generator.random(20_000) < chances).astype(float)
    # Beta calibration, without the score as a column, stays 0.056 away on a million rows.
    assert np.abs(curve(scores, labels)(scores) - chances).mean() < 0.03


def test_a_curve_finds_the_chances_it_can_draw_and_parts_labels_with_doubt() -> None:
    generator = np.random.default_rng(2)
    scores = generator.uniform(0.02, 0.98, 20_000)
    chances = expit(0.5 + 1.7 * np.log(scores) - 0.6 * np.log1p(-scores))
    labels = (generator.random(20_000) < chances).astype(float)
    assert np.abs(curve(scores, labels)(scores) - chances).max() < 0.04
    apart = curve(scores, (scores > 0.5).astype(float))(np.array([0.3, 0.4, 0.6, 0.7]))
    assert (np.diff(apart) > 0).all()
    assert ((apart > 0) & (apart < 1)).all()


def test_a_model_that_is_too_sure_is_found_out_by_a_small_reference() -> None:
    away = {calibrate: [] for calibrate in (None, True, False)}
    for seed in range(40):
        generator = np.random.default_rng(seed)
        labels, scores = scored(400, generator)
        later, batch = scored(20_000, generator)
        truth = realised("log_loss", later, batch)
        for calibrate, found in away.items():
            state = estimates.CBPE(calibrate=calibrate, metrics=["log_loss"]).fit(labels, scores)
            found.append(state.estimate(batch, "log_loss").value - truth)
    root = {calibrate: float(np.mean(np.square(found))) for calibrate, found in away.items()}
    assert root[None] < root[True]
    assert root[None] < 0.5 * root[False]


def test_a_calibration_never_falls_and_meets_the_share_of_labels() -> None:
    generator = np.random.default_rng(3)
    scores = generator.random(3_000).round(2)
    labels = (generator.random(3_000) < scores**2).astype(float)
    found = calibration(scores, labels)
    assert (np.diff(found(np.linspace(0, 1, 500))) >= 0).all()
    assert found(scores).mean() == pytest.approx(labels.mean(), abs=0.005)


def test_a_reference_that_wandered_makes_intervals_wider() -> None:
    widths = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        scores = generator.random(10_000)
        bias = np.repeat(generator.normal(0, 0.8, 10), 1_000)
        odds = np.log(scores / (1 - scores)) + bias
        moving = (generator.random(10_000) < expit(odds)).astype(int)
        steady = (generator.random(10_000) < scores).astype(int)
        batch = generator.random(2_000)
        found = [
            estimates.CBPE(metrics=["log_loss"]).fit(labels, scores).estimate(batch, "log_loss")
            for labels in (steady, moving)
        ]
        widths.append([each.high - each.low for each in found])
    steadily, moved = np.mean(widths, axis=0)
    assert moved > 1.5 * steadily


def test_a_wander_is_found_where_there_is_one_and_seldom_else() -> None:
    generator = np.random.default_rng(4)
    steady, moving = (
        [
            wander([(away, 1.0) for away in generator.normal(0, deviation, 10).tolist()])
            for _ in range(300)
        ]
        for deviation in (1.0, 3.0)
    )
    assert no_more_than(sum(found > 0 for found in steady), 300, 0.05)
    # 9 less 1 is 8, which Student's quantile of ten stretches makes a third larger.
    assert np.mean(moving) == pytest.approx(8 * (2.228 / 1.960) ** 2, rel=0.1)


def test_estimates_do_not_depend_on_the_order_of_rows() -> None:
    generator = np.random.default_rng(5)
    state = estimates.CBPE().fit(*scored(2_000, generator))
    _, scores = scored(500, generator)
    for metric in expected.METRICS:
        first = state.estimate(scores, metric)
        again = state.estimate(generator.permutation(scores), metric)
        assert (again.value, again.low) == pytest.approx((first.value, first.low), abs=1e-12)


def test_named_classes_are_the_same_as_their_codes() -> None:
    labels, scores = scored(500, np.random.default_rng(6))
    named = np.array(["no", "yes"])[labels]
    state = estimates.CBPE().fit(named, scores, classes=["no", "yes"])
    assert state == estimates.CBPE().fit(labels, scores)


def test_concept_drift_is_not_seen_but_takes_the_trust_away() -> None:
    generator = np.random.default_rng(7)
    state = estimates.CBPE().fit(*scored(10_000, generator))
    pairs = []
    for batch in range(12):
        labels, scores = scored(1_000, generator)
        if batch >= 8:
            labels = np.where(generator.random(1_000) < 0.2, 1 - labels, labels)
        found = state.estimate(scores, "accuracy")
        pairs.append((found.value, found.low, found.high, realised("accuracy", labels, scores)))
    assert estimates.Trust()(pairs[:8]) > 0.5
    assert estimates.Trust()(pairs) == 0.0


def test_constant_scores_are_known_to_rank_nothing() -> None:
    labels = np.array([0, 1, 1, 0] * 50)
    found = estimates.CBPE().fit(labels, np.full(200, 0.3)).estimate(np.full(100, 0.3))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


# Direct loss estimates ------------------------------------------------------------------


def valued(
    n: int, at: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Return labels, scores and features of which some make rows harder."""
    x = generator.normal(at, size=n)
    plan = generator.choice(["basic", "plus"], n)
    scores = 10 + generator.normal(size=n)
    spread = np.exp(0.4 * x) * np.where(plan == "plus", 2, 1)
    labels = scores + generator.uniform(-1, 1, n) * spread
    return labels, scores, pl.DataFrame({"x": x, "plan": plan, "noise": generator.random(n)})


def error(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    return metrics.get(metric, task="regression").value(labels, scores)


@pytest.mark.parametrize("metric", ["mae", "rmse", "mape"])
def test_errors_are_estimated_where_rows_become_harder(metric: str) -> None:
    generator = np.random.default_rng(1)
    labels, scores, features = valued(12_000, 0.0, generator)
    state = estimates.DLE(metrics=[metric]).fit(labels, scores, features)
    usual = error(metric, labels, scores)
    for at in (-0.7, 0.7):
        labels, scores, features = valued(8_000, at, generator)
        found, truth = state.estimate(scores, features, metric), error(metric, labels, scores)
        assert abs(found.value - truth) < 0.25 * abs(usual - truth)
        assert found.unlike < 0.01


def test_intervals_of_errors_hold_as_often_as_they_say() -> None:
    missed, times = 0, 24
    for seed in range(times):
        generator = np.random.default_rng(seed)
        state = estimates.DLE(metrics=["rmse"]).fit(*valued(500, 0.0, generator))
        labels, scores, features = valued(400, 0.0, generator)
        found = state.estimate(scores, features, "rmse")
        missed += not found.low <= error("rmse", labels, scores) <= found.high
    assert no_more_than(missed, times, 0.05)


def test_intervals_of_harder_rows_grow_with_what_the_reference_wandered() -> None:
    generator = np.random.default_rng(1)
    scores = generator.uniform(1, 9, 10_000)
    drift = np.repeat([0.7, 1.2, 0.8, 1.4, 0.9], 2_000)
    labels = scores + generator.uniform(-1, 1, 10_000) * scores * drift
    state = estimates.DLE(metrics=["mae"]).fit(labels, scores)
    easy, hard = (state.estimate(generator.uniform(*ends, 5_000)) for ends in ((1, 3), (7, 9)))
    assert hard.high - hard.low > 3 * (easy.high - easy.low)
    for level in (0.75, 1.35):
        assert hard.low < 8 * level / 2 < hard.high


def test_errors_are_estimated_for_every_one_of_some_sensors_in_turn() -> None:
    generator = np.random.default_rng(3)
    sensor = np.arange(3 * dle.MOST) % 3
    scores = generator.uniform(1, 9, sensor.size)
    labels = scores + generator.uniform(-1, 1, sensor.size) * (1 + 2 * sensor)
    state = estimates.DLE(metrics=["mae"]).fit(labels, scores, pl.DataFrame({"sensor": sensor}))
    for one, truth in enumerate((0.5, 1.5, 2.5)):
        rows = pl.DataFrame({"sensor": np.full(900, one)})
        assert state.estimate(scores[:900], rows, "mae").value == pytest.approx(truth, rel=0.1)


def test_features_may_be_missing_or_a_matrix_or_none() -> None:
    generator = np.random.default_rng(2)
    labels, scores = generator.normal(size=(2, 500))
    matrix = generator.normal(size=(500, 2))
    matrix[::3, 0] = np.nan
    for features in (matrix, None, pl.DataFrame({"a": [None, 1.0] * 250, "b": ["u", None] * 250})):
        state = estimates.DLE().fit(labels, scores, features)
        assert math.isfinite(state.estimate(scores, features, "mae").value)


def test_symmetric_trees_answer_alike_from_codes_and_from_values() -> None:
    generator = np.random.default_rng(3)
    matrix = generator.normal(size=(3, 2_000))
    matrix[0, :200] = np.nan
    goal = np.where(np.isnan(matrix[0]), 3.0, matrix[1] > 0.5) + 0.1 * matrix[2]
    cuts = [cuts_of(line) for line in matrix]
    codes = np.stack([coded(*pair) for pair in zip(matrix, cuts, strict=True)])
    trees = Boost(trees=80, rate=0.3, ridge=1.0).grow(codes, cuts, goal)
    assert np.mean((trees(matrix) - goal) ** 2) < 0.02 * goal.var()


# Weighted estimates ---------------------------------------------------------------------


def gains(at: float, seeds: int) -> np.ndarray:
    """Return by how much weighting brings estimates nearer to realised values, per seed."""
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        state = estimates.Weighted(rows=4_000).fit(*drifting(6_000, 0.0, generator))
        labels, scores, features = drifting(2_000, at, generator)
        truth = realised("f1", labels, scores)
        plain = abs(state.plain.estimate(scores, "f1").value - truth)
        found.append(plain - abs(state.estimate(scores, features, "f1").value - truth))
    return np.array(found)


def test_weighting_is_nearer_under_data_drift() -> None:
    found = gains(1.0, seeds=12)
    reach = float(t.ppf(0.999, found.size - 1)) * found.std(ddof=1) / found.size**0.5
    assert found.mean() - reach > 0.01


def test_weighting_costs_nothing_where_nothing_drifts() -> None:
    found = gains(0.0, seeds=12)
    reach = float(t.ppf(0.999, found.size - 1)) * found.std(ddof=1) / found.size**0.5
    assert found.mean() - reach > -0.004


def test_fewer_reference_rows_speak_for_a_batch_that_is_far_away() -> None:
    generator = np.random.default_rng(1)
    state = estimates.Weighted(rows=4_000).fit(*drifting(6_000, 0.0, generator))
    rows, unlike, trust = [], [], []
    for at in (0.0, 1.0, 8.0):
        _, scores, features = drifting(2_000, at, generator)
        found = state.estimate(scores, features, "accuracy")
        rows.append(found.effective)
        unlike.append(found.unlike)
        trust.append(found.trust)
    assert rows[0] == 6_000 > rows[1] > rows[2]
    assert unlike[0] < 0.01
    assert unlike[2] > 0.9
    assert trust[0] > 0.99 > 0.1 > trust[2]


def test_a_batch_that_nothing_in_the_reference_is_like_is_estimated_as_by_scores_alone() -> None:
    """The day of a row parts the batch from the reference without an error."""
    generator = np.random.default_rng(3)
    labels, scores, features = drifting(6_000, 0.0, generator)
    day = np.linspace(0, 60, 6_000) + generator.normal(size=6_000)
    state = estimates.Weighted().fit(labels, scores, np.column_stack([features, day]))
    _, scores, features = drifting(2_000, 1.0, generator)
    later = np.column_stack([features, np.full(2_000, 80.0)])
    far = state.estimate(scores, later, "roc_auc")
    plain = state.plain.estimate(scores, "roc_auc")
    near = state.estimate(scores, np.column_stack([features, day[::3]]), "roc_auc")
    assert abs(far.value - plain.value) < 0.4 * abs(near.value - plain.value)
    assert far.effective < 200 < near.effective
    assert far.high - far.low > 1.5 * (plain.high - plain.low)


def test_more_of_the_reference_kept_brings_weighted_estimates_nearer() -> None:
    away: dict[int, list[float]] = {1_000: [], 20_000: []}
    for seed in range(10):
        generator = np.random.default_rng(seed)
        known = drifting(20_000, 0.0, generator)
        labels, scores, features = drifting(5_000, 1.0, generator)
        truth = realised("roc_auc", labels, scores)
        for rows, found in away.items():
            state = estimates.Weighted(rows=rows, metrics=["roc_auc"]).fit(*known)
            found.append(state.estimate(scores, features, "roc_auc").value - truth)
    few, many = (float(np.mean(np.square(found))) for found in away.values())
    assert many < 0.7 * few


def shifted(by: float, rows: int = 4_000) -> np.ndarray:
    """Return how much likelier rows of a reference are in a batch whose first column is shifted."""
    generator = np.random.default_rng(5)
    known = generator.normal(size=(3, rows))
    batch = generator.normal(size=(3, 2_000))
    batch[0] += by
    cuts = [cuts_of(line) for line in known]
    sides = (
        np.stack([coded(*pair) for pair in zip(lines, cuts, strict=True)])
        for lines in (known, batch)
    )
    found = ratio.ratio_of(*sides, cuts, seed=0)
    return np.ones(rows) if found is None else found[known[0].argsort()]


def test_ratios_follow_the_shift_and_their_mean_is_the_share_that_is_covered() -> None:
    covered = []
    for by in (0.0, 0.5, 2.0, 20.0):
        found = shifted(by)
        assert 0 <= found.min() <= found.max() <= ratio.LARGEST
        assert found[:400].mean() <= found[-400:].mean()
        covered.append(float(found.mean()))
    assert covered[0] == 1.0
    assert covered[1] == pytest.approx(1, abs=0.03)
    assert 1 > covered[2] > covered[3]
    assert ratio.effective(shifted(0.0)) == 4_000 > ratio.effective(shifted(2.0)) > 20


def test_rows_that_the_classifier_did_not_learn_from_are_weighted_like_those_it_did() -> None:
    found = shifted(1.0, rows=25_000)
    assert found.size == 25_000
    # Of normal values the one is exp(x - 1/2) times as likely as the other.
    places = np.linspace(0.05, 0.95, 19)
    truth = np.exp(ndtri(places) - 0.5)
    near = found.reshape(1_000, 25).mean(axis=1)[(places * 1_000).astype(int)]
    assert np.corrcoef(near, truth)[0, 1] > 0.95


def sampled(apart: float, generator: np.random.Generator) -> tuple[Calibration, Sample, np.ndarray]:
    """Return a calibration, its rows, and which are of the group whose chances are higher."""
    scores = generator.uniform(0.2, 0.8, 4_000)
    group = generator.random(4_000) < 0.5
    labels = generator.random(4_000) < scores + apart * (group - 0.5)
    plain = calibration(scores, labels.astype(float))
    return plain, Sample(plain.blocks(scores).astype(np.uint16), labels), group


def test_a_calibration_moves_to_the_group_that_is_left_and_half_way_where_half_is_covered() -> None:
    plain, sample, group = sampled(0.2, np.random.default_rng(1))
    places = np.linspace(0.25, 0.75, 50)
    whole, half = (
        (moved(plain, sample, share * 2.0 * group)(places) - plain(places)).mean()
        for share in (1.0, 0.5)
    )
    assert whole == pytest.approx(0.1, abs=0.02)
    assert half == pytest.approx(0.05, abs=0.02)


def test_chance_moves_a_calibration_less_than_half_of_the_time() -> None:
    still = 0
    for seed in range(60):
        plain, sample, group = sampled(0.0, np.random.default_rng(seed))
        still += moved(plain, sample, 2.0 * group).chances == plain.chances
    assert no_fewer_than(still, 60, 0.5)


def test_several_classes_are_weighted_too() -> None:
    generator = np.random.default_rng(2)
    labels, scores, features = drifting(3_000, 0.0, generator)
    state = estimates.Weighted().fit(labels, np.column_stack([1 - scores, scores]), features)
    labels, scores, features = drifting(3_000, 1.0, generator)
    found = state.estimate(np.column_stack([1 - scores, scores]), features, "accuracy")
    assert found.low <= realised("accuracy", labels, scores) <= found.high


# Trust ----------------------------------------------------------------------------------

AGREED, MISSED = (0.8, 0.78, 0.82, 0.805), (0.8, 0.78, 0.82, 0.7)


def test_trust_falls_with_contradiction_and_comes_back_with_agreement() -> None:
    trust = estimates.Trust()
    told = [trust([MISSED] * misses) for misses in range(4)]
    assert told == sorted(told, reverse=True)
    assert (told[0], told[-1]) == (1.0, 0.0)
    back = [trust([MISSED] * 50 + [AGREED] * agreed) for agreed in range(12)]
    assert back == sorted(back)
    assert back[-1] == 1.0
    assert trust([AGREED] * 1_000 + [MISSED] * 3) == 0.0  # old agreement hides nothing


def test_trust_is_lost_by_chance_no_sooner_than_the_limit_says() -> None:
    trust, limit = estimates.Trust(limit=20.0), 20.0
    generator = np.random.default_rng(1)
    lengths = []
    for _ in range(60):
        pairs = [(0.0, -1.96, 1.96, away) for away in generator.normal(size=80).tolist()]
        # Cut short at 80, which only makes the mean smaller.
        lengths.append(next((n for n in range(1, 80) if trust(pairs[:n]) == 0), 80))
    assert np.mean(lengths) - 3 * np.std(lengths) / len(lengths) ** 0.5 > limit


def test_trust_passes_over_what_says_nothing() -> None:
    nothing = (float("nan"), float("nan"), float("nan"), 0.8)
    assert estimates.Trust()([MISSED, nothing]) == estimates.Trust()([MISSED])
    assert estimates.Trust()([]) == 1.0
    assert estimates.Trust()([(0.5, 0.5, 0.5, 0.5)]) == 1.0
    assert estimates.Trust()([(0.5, 0.5, 0.5, 0.6)]) < 0.5


# Rows unlike any seen -------------------------------------------------------------------


def test_a_fresh_batch_is_like_the_reference() -> None:
    shares = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        state = estimates.CBPE().fit(*scored(3_000, generator))
        shares.append(state.estimate(scored(3_000, generator)[1]).unlike)
    assert np.mean(shares) < 0.001


def test_scores_in_an_empty_region_are_unlike_the_reference() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 2_000)
    scores = np.where(labels == 1, 0.8, 0.1) + generator.uniform(0, 0.1, 2_000)
    state = estimates.CBPE().fit(labels, scores)
    batch = np.concatenate([scores[:900], np.full(100, 0.5)])
    assert state.estimate(batch, "accuracy").unlike == pytest.approx(0.1)
    assert state.estimate(np.full(10, 0.99), "accuracy").unlike == 1.0


@pytest.mark.parametrize(
    "change",
    [
        pl.lit("never seen").alias("plan"),
        pl.lit(None, pl.String).alias("plan"),
        pl.lit(1e6).alias("x"),
        pl.lit(None, pl.Float64).alias("noise"),
    ],
    ids=["a new category", "a category gone missing", "a wild number", "a number gone missing"],
)
def test_rows_with_a_value_never_seen_are_counted(change: pl.Expr) -> None:
    generator = np.random.default_rng(2)
    state = estimates.DLE(metrics=["mae"]).fit(*valued(2_000, 0.0, generator))
    _, scores, features = valued(1_000, 0.0, generator)
    assert state.estimate(scores, features).unlike < 0.005
    changed = pl.concat([features[:250].with_columns(change), features[250:]])
    assert state.estimate(scores, changed).unlike == pytest.approx(0.25, abs=0.005)


# What is kept and what is shown ---------------------------------------------------------


def test_states_are_small_and_come_back_the_same() -> None:
    generator = np.random.default_rng(1)
    labels, scores, features = drifting(20_000, 0.0, generator)
    batch = drifting(500, 0.5, generator)[1:]
    plain = estimates.CBPE().fit(labels, scores)
    assert len(plain.dumps()) < 100_000
    assert estimates.Calibrated.loads(plain.dumps()).estimate(batch[0]) == plain.estimate(batch[0])
    weighted = estimates.Weighted().fit(labels, scores, features)
    assert len(weighted.dumps()) < 5_000_000
    again = estimates.Reweighted.loads(weighted.dumps())
    assert again.estimate(*batch) == weighted.estimate(*batch)
    direct = estimates.DLE().fit(labels.astype(float), scores, features)
    assert len(direct.dumps()) < 200_000
    assert estimates.LossModel.loads(direct.dumps()).estimate(*batch) == direct.estimate(*batch)


def test_an_estimate_reads_as_a_sentence_and_as_a_row() -> None:
    found = estimates.Estimate(
        "f1", 0.5, 0.4, 0.6, n=1, method="CBPE", unlike=0.004, trust=0.8, effective=500.0
    )
    assert repr(found) == (
        "f1 estimated 0.500 [0.400, 0.600] over 1 row (CBPE), 0.4 % unlike the reference, trust 0.8"
    )
    assert found.to_frame().row(0, named=True)["effective"] == 500
    assert found.trusted(0.5).trust == 0.4
    assert repr(estimates.CBPE(calibrate=True)) == "CBPE(True)"


# Bad input ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> estimates.Calibrated:
    return estimates.CBPE().fit(*scored(500, np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.empty(0), "no rows"),
        (np.full(5, np.nan), "5 of 5 scores are not finite"),
        (np.array([0.2, np.inf]), "1 of 2 scores are not finite"),
    ],
    ids=["no rows", "all NaN", "infinite"],
)
def test_what_cannot_be_estimated_says_why(
    state: estimates.Calibrated, scores: np.ndarray, reason: str
) -> None:
    found = state.estimate(scores)
    assert not found
    assert math.isnan(found.value)
    assert found.reason == reason
    assert reason in repr(found)
    assert found.trust == 0.0


def test_one_row_has_an_estimate_where_the_metric_has(state: estimates.Calibrated) -> None:
    assert 0 < state.estimate([0.7], "accuracy").value < 1
    assert state.estimate([0.7], "roc_auc").reason == "one class is expected"
    assert state.estimate([0.2], "precision").reason == "no row is taken for the class"


@pytest.mark.parametrize(
    ("scores", "metric", "said"),
    [
        ([-0.5, 2.0], "roc_auc", "from -0.5 to 2"),
        ([[0.5, 0.5]], "roc_auc", "one probability a row"),
        ([[0.5]], "roc_auc", r"shape \(1, 1\)"),
        ([0.5], "roc", "the nearest is 'roc_auc'"),
        ([0.5], "mae", "metrics that can be estimated here, got .mae"),
        (["low", "high"], "roc_auc", "scores as numbers"),
        ([[0.5], [0.5, 0.5]], "roc_auc", "scores as numbers"),
        ([0.5], 3, "the name of a metric, got int"),
    ],
    ids=[
        *("out of range", "two columns", "one column", "misspelt", "of values"),
        *("texts", "ragged", "number for the metric"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    state: estimates.Calibrated, scores: Any, metric: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        state.estimate(scores, metric=metric)


def test_a_level_is_between_0_and_1(state: estimates.Calibrated) -> None:
    with pytest.raises(ConfigError, match="level between 0 and 1, got 95"):
        state.estimate([0.5], level=95)


@pytest.mark.parametrize(
    ("labels", "scores", "classes", "said"),
    [
        ([1, 1], [0.2, 0.7], None, "got 2 rows of one"),
        ([0, 1], [0.2], None, "a label per score, got 2 and 1"),
        ([0, 2], [0.2, 0.7], None, "a code 0 to 1, got 2"),
        ([0, -1], [0.2, 0.7], None, "a code 0 to 1, got -1"),
        ([0, np.nan], [0.2, 0.7], None, r"got nan \(1 of 2 rows\)"),
        ([0, 0.5], [0.2, 0.7], None, "a code 0 to 1, got 0.5"),
        (["no", "yes"], [0.2, 0.7], None, "labels as codes"),
        (["no", "maybe"], [0.2, 0.7], ["no", "yes"], "got 'maybe'"),
        ([0, 1], [0.2, 0.7], [0, 1, 2], "got 3 classes"),
        ([0, 1], [0.2, np.nan], None, "1 of 2 scores are not finite"),
        ([0, 1], [-3.0, 3.0], None, "from -3 to 3"),
        ([], [], None, "got no rows"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(
    labels: Any, scores: Any, classes: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        estimates.CBPE().fit(labels, scores, classes=classes)


def test_features_in_the_place_of_the_metric_are_told_so() -> None:
    rows = pl.DataFrame({"x": np.arange(100.0)})
    state = estimates.DLE(metrics=["mae"]).fit(np.arange(100.0) % 7, np.full(100, 3.0), rows)
    with pytest.raises(ConfigError, match="before the metric, got 'mae' and DataFrame"):
        state.estimate(np.full(100, 3.0), "mae", rows)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the name of a metric, got DataFrame"):
        state.estimate(np.full(100, 3.0), rows, rows)  # type: ignore[arg-type]


METHODS: list[Any] = [
    estimates.CBPE(metrics=["accuracy"]),
    estimates.Weighted(metrics=["accuracy"]),
    estimates.DLE(metrics=["rmse"]),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_every_method_is_asked_in_one_way(method: Any) -> None:
    generator = np.random.default_rng(3)
    scores = generator.uniform(0.1, 0.9, 400)
    labels = (generator.random(400) < scores).astype(int)
    rows = pl.DataFrame({"x": generator.normal(size=400)})
    state, metric = method.fit(labels, scores, rows), method.metrics[0]
    found = state.estimate(scores, rows, metric)
    assert (found.metric, found.n) == (metric, 400)
    assert math.isfinite(found.value)
    assert state.estimate(scores, features=rows, metric=metric, level=0.95) == found


@pytest.mark.parametrize("method", [METHODS[0], METHODS[2]], ids=["CBPE", "DLE"])
def test_where_features_are_left_out_the_metric_may_come_second(method: Any) -> None:
    generator = np.random.default_rng(3)
    scores = generator.uniform(0.1, 0.9, 400)
    state = method.fit((generator.random(400) < scores).astype(int), scores)
    metric = method.metrics[0]
    assert state.estimate(scores, metric) == state.estimate(scores, None, metric)


@pytest.mark.parametrize("form", ["pandas", "arrow"])
@pytest.mark.parametrize("method", METHODS[1:], ids=["Weighted", "DLE"])
def test_tables_of_others_are_estimated_as_polars_ones_are(method: Any, form: str) -> None:
    generator = np.random.default_rng(3)
    scores = generator.uniform(0.1, 0.9, 400)
    labels = (generator.random(400) < scores).astype(int)
    kinds = pl.Series(generator.choice(["a", "b"], 400), dtype=pl.Categorical)
    rows = pl.DataFrame({"x": generator.normal(size=400), "kind": kinds})
    theirs = getattr(rows, f"to_{form}")()
    expected = method.fit(labels, scores, rows).estimate(scores, rows, method.metrics[0])
    assert (
        method.fit(labels, scores, theirs).estimate(scores, theirs, method.metrics[0]) == expected
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_what_a_method_learnt_shows_itself_in_a_line_and_is_not_read_from_others(
    method: Any,
) -> None:
    scores = np.tile([0.2, 0.7], 200)
    state = method.fit(np.tile([0, 1], 200), scores, np.arange(400.0)[:, None])
    kind = type(state).__name__
    assert repr(state) == f"{kind} of 400 rows, for {method.metrics[0]}"
    with pytest.raises(ConfigError, match=f"expected the bytes of a {kind}, got others"):
        type(state).loads(b"abc")


def test_features_that_do_not_fit_are_refused() -> None:
    generator = np.random.default_rng(1)
    labels, scores, features = valued(200, 0.0, generator)
    state = estimates.DLE(metrics=["mae"]).fit(labels, scores, features)
    with pytest.raises(ConfigError, match="row of features per score, got 10 and 200"):
        state.estimate(scores, features[:10])
    with pytest.raises(SchemaMismatch, match="`noise` of the reference is missing"):
        state.estimate(scores, features.drop("noise"))
    with pytest.raises(SchemaMismatch, match="missing from the batch\n\nhint: .*features=rows"):
        state.estimate(scores, "mae")
    with pytest.raises(SchemaMismatch, match="`x` was a number in the reference, got String"):
        state.estimate(scores, features.with_columns(pl.col("x").cast(pl.String)))
    with pytest.raises(ConfigError, match="estimated here, got 'rmse'"):
        state.estimate(scores, features, "rmse")
    with pytest.raises(ConfigError, match="Arrow table or a matrix of numbers, got list"):
        state.estimate(scores, [["a"]] * 200)
    assert state.estimate([], features[:0]).reason == "no rows"
    with pytest.raises(ConfigError, match="scores alone are enough for CBPE"):
        estimates.Weighted().fit([0, 1], [0.2, 0.8], None)


def test_parts_written_wrongly_are_refused() -> None:
    with pytest.raises(ConfigError, match="the nearest is 'rmse'"):
        estimates.DLE(metrics=["rmsee"])
    with pytest.raises(ConfigError, match="list of metrics, got 'mae'"):
        estimates.DLE(metrics="mae")
    with pytest.raises(ConfigError, match="20 rows or more, got 3"):
        estimates.DLE().fit([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="1 of 20 values are not finite"):
        estimates.DLE().fit([np.nan, *range(19)], range(20))
    with pytest.raises(ConfigError, match="100 rows or more to keep, got 5"):
        estimates.Weighted(rows=5)
    with pytest.raises(ConfigError, match="limit above 1, got 1"):
        estimates.Trust(limit=1)
