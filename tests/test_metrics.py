"""Metrics agree with scikit-learn, their intervals cover, and windows are honest."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn import metrics as sk

from keepfit import metrics
from keepfit.errors import ConfigError
from keepfit.metrics.series import mean_of

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def two_classes(rows: int = 2_000, seed: int = 0, rate: float = 0.3):
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < rate).astype(np.int64)
    # Two decimals, so that there are many ties.
    return labels, np.round(np.clip(rng.normal(0.4 + 0.15 * labels, 0.2), 0.01, 0.99), 2)


def several_classes(rows: int = 2_000, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    scores = rng.dirichlet([1.0] * 4, rows) + 0.5 * (labels[:, None] == np.arange(4))
    return labels, scores / scores.sum(axis=1, keepdims=True)


def numbers(rows: int = 2_000, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.normal(10, 3, rows)
    return labels, labels + rng.normal(0.2, 1.5, rows)


BINARY = {
    "roc_auc": sk.roc_auc_score,
    "log_loss": sk.log_loss,
    "average_precision": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "accuracy": lambda y, p: sk.accuracy_score(y, p > 0.5),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p > 0.5),
    "f1": lambda y, p: sk.f1_score(y, p > 0.5),
}
MULTICLASS = {
    "roc_auc": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    "log_loss": sk.log_loss,
    "average_precision": sk.average_precision_score,
    "brier": sk.brier_score_loss,
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p.argmax(1)),
    "f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="macro"),
}
REGRESSION = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "mape": sk.mean_absolute_percentage_error,
    "r2": sk.r2_score,
    "pinball": sk.mean_pinball_loss,
}


@pytest.mark.parametrize("name", BINARY)
def test_metrics_of_two_classes_are_those_of_scikit_learn(name):
    labels, scores = two_classes()
    value = metrics.get(name, task="binary").value(labels, scores)
    assert value == pytest.approx(BINARY[name](labels, scores), abs=1e-12)


@pytest.mark.parametrize("name", MULTICLASS)
def test_metrics_of_several_classes_are_those_of_scikit_learn(name):
    labels, scores = several_classes()
    value = metrics.get(name, task="multiclass").value(labels, scores)
    assert value == pytest.approx(MULTICLASS[name](labels, scores), abs=1e-12)


@pytest.mark.parametrize("name", REGRESSION)
def test_metrics_of_numbers_are_those_of_scikit_learn(name):
    labels, scores = numbers()
    value = metrics.get(name, task="regression").value(labels, scores)
    assert value == pytest.approx(REGRESSION[name](labels, scores), rel=1e-12)


def test_a_quantile_has_its_own_pinball_loss():
    labels, scores = numbers()
    metric = metrics.get(metrics.Pinball(0.9), task="regression")
    assert metric.name == "pinball(0.9)"
    expected = sk.mean_pinball_loss(labels, scores, alpha=0.9)
    assert metric.value(labels, scores) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        metrics.Pinball(1.0)


@pytest.mark.parametrize("name", [*BINARY, *REGRESSION])
def test_a_metric_of_no_rows_or_of_scores_that_are_not_finite_is_nan(name):
    task = "binary" if name in BINARY else "regression"
    labels, scores = two_classes(50) if name in BINARY else numbers(50)
    metric = metrics.get(name, task=task)
    assert np.isnan(metric.value(labels[:0], scores[:0]))
    assert np.isnan(metric.interval(labels[:0], scores[:0])).all()
    for odd in (np.nan, np.inf):
        broken = scores.copy()
        broken[7] = odd
        assert np.isnan(metric.value(labels, broken))
        assert np.isnan(metric.interval(labels, broken)).all()


def test_one_class_alone_has_no_area_and_constant_labels_no_explained_variance():
    ones, scores = np.ones(20, dtype=np.int64), np.linspace(0.1, 0.9, 20)
    assert np.isnan(metrics.RocAuc().value(ones, scores))
    assert np.isnan(metrics.RocAuc().interval(ones, scores)).all()
    assert np.isnan(metrics.AveragePrecision().value(0 * ones, scores))
    assert np.isnan(metrics.F1().value(0 * ones, 0 * scores))
    assert np.isnan(metrics.R2().value(np.ones(20), scores))
    assert metrics.Accuracy().value(ones, scores) == 0.5


def test_scores_that_all_tie_give_an_area_of_one_half():
    labels, _ = two_classes(100)
    constant = np.full(100, 0.5)
    assert metrics.RocAuc().value(labels, constant) == 0.5
    assert metrics.Accuracy().value(labels, constant) == (labels == 0).mean()


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    labels, scores = several_classes()
    some = labels != 2
    areas = [sk.roc_auc_score(labels[some] == code, scores[some, code]) for code in (0, 1, 3)]
    assert metrics.RocAuc().value(labels[some], scores[some]) == pytest.approx(np.mean(areas))


def test_an_interval_stays_in_its_range_and_is_not_a_point_when_all_is_right():
    labels = np.array([0, 1] * 20)
    sure = labels.astype(float)
    for name in ("roc_auc", "accuracy", "balanced_accuracy", "f1", "average_precision"):
        low, high = metrics.get(name, task="binary").interval(labels, sure)
        assert 0.7 < low < 1, name
        assert high == pytest.approx(1.0), name


TRUTH_ROWS = 400
COVERED = ["roc_auc", "log_loss", "accuracy", "balanced_accuracy", "f1", "average_precision"]


@pytest.mark.parametrize("name", [*COVERED, "brier", "rmse", "r2", "mae"])
def test_an_interval_at_ninety_per_cent_covers_the_truth_about_as_often(name):
    make = numbers if name in ("rmse", "r2", "mae") else two_classes
    metric = metrics.get(name, task="regression" if make is numbers else "binary")
    truth = metric.value(*make(1_000_000, seed=99))
    times = 250
    hits = 0
    for seed in range(times):
        low, high = metric.interval(*make(TRUTH_ROWS, seed=seed), 0.9)
        hits += low <= truth <= high
    # Three standard errors of a share of 250 on either side.
    assert abs(hits / times - 0.9) <= 3 * np.sqrt(0.9 * 0.1 / times)


def test_an_interval_of_the_area_over_several_classes_covers_the_truth():
    metric = metrics.RocAuc()
    truth = metric.value(*several_classes(400_000, seed=99))
    hits = 0
    for seed in range(200):
        low, high = metric.interval(*several_classes(300, seed=seed), 0.9)
        hits += low <= truth <= high
    assert 0.83 <= hits / 200 <= 0.97


def test_losses_are_per_row_and_none_where_a_metric_is_no_mean():
    labels, scores = two_classes(50)
    wrong = metrics.Accuracy().losses(labels, scores)
    np.testing.assert_array_equal(wrong, (scores > 0.5) != labels)
    for name in ("log_loss", "brier"):
        metric = metrics.get(name, task="binary")
        assert metric.losses(labels, scores).mean() == pytest.approx(metric.value(labels, scores))
    values, guesses = numbers(50)
    squares = metrics.RMSE().losses(values, guesses)
    np.testing.assert_allclose(squares, (values - guesses) ** 2)
    for name in ("roc_auc", "average_precision", "f1", "balanced_accuracy"):
        assert metrics.get(name, task="binary").losses(labels, scores) is None
    assert metrics.R2().losses(values, guesses) is None


@pytest.mark.parametrize("metric", [metrics.RMSE(), metrics.R2(), metrics.MAE()])
def test_contributions_have_the_metric_as_their_mean(metric):
    labels, scores = numbers(300)
    assert metric.contributions(labels, scores).mean() == pytest.approx(
        metric.value(labels, scores)
    )


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="the nearest is 'roc_auc'"):
        metrics.get("roc_acu", task="binary")
    with pytest.raises(ConfigError, match="the nearest is 'rmse'"):
        metrics.known("rsme")
    metrics.known("log_loss")
    metrics.known(None)


def test_a_metric_that_does_not_fit_the_task_is_an_error_that_says_which_do():
    with pytest.raises(ConfigError, match="which is for regression") as caught:
        metrics.get("mae", task="binary")
    assert "roc_auc" in str(caught.value.hint)
    assert "rmse" not in str(caught.value.hint)
    with pytest.raises(ConfigError, match="binary and multiclass"):
        metrics.get(metrics.RocAuc(), task="regression")
    with pytest.raises(ConfigError, match="expected a task"):
        metrics.get("mae", task="ranking")


@pytest.mark.parametrize("spec", [3, metrics.RocAuc, ["roc_auc"]])
def test_what_is_no_metric_is_refused(spec):
    with pytest.raises(ConfigError, match="expected a metric"):
        metrics.known(spec) if not isinstance(spec, type) else metrics.get(spec, task="binary")


def test_a_task_has_its_metric_when_nobody_names_one():
    assert metrics.get(task="regression").name == "mae"
    assert metrics.get(None, task="binary").name == "roc_auc"


def test_a_function_is_a_metric_and_its_name_tells_its_direction():
    labels, scores = two_classes()
    metric = metrics.get(sk.log_loss, task="binary")
    assert (metric.name, metric.greater_is_better) == ("log_loss", False)
    assert metric.value(labels, scores) == pytest.approx(sk.log_loss(labels, scores))

    def gap(y, p):
        return float(p[y == 1].mean() - p[y == 0].mean())

    assert metrics.get(gap, task="binary").greater_is_better
    gap.greater_is_better = False
    assert not metrics.get(gap, task="binary").greater_is_better
    named = metrics.Function(gap, greater_is_better=True, name="separation")
    assert metrics.get(named, task="binary").name == "separation"
    low, high = named.interval(labels, scores)
    assert low < named.value(labels, scores) < high


def test_a_function_that_fails_says_so_and_one_class_is_not_a_failure():
    labels, scores = two_classes()
    metric = metrics.get(sk.f1_score, task="binary")
    with pytest.raises(ConfigError, match="metric 'f1_score' raised ValueError") as caught:
        metric.value(labels, scores)
    assert "make_scorer" in str(caught.value.hint)
    # A single class makes scikit-learn warn, and warnings are errors here.
    assert np.isnan(metrics.get(sk.roc_auc_score, task="binary").value(0 * labels, scores))


def test_a_scorer_of_scikit_learn_is_a_metric_with_classes_by_name():
    labels, scores = two_classes()
    scorer = sk.make_scorer(sk.fbeta_score, beta=2, pos_label="yes")
    metric = metrics.get(scorer, task="binary", classes=("no", "yes"))
    expected = sk.fbeta_score(labels, scores > 0.5, beta=2)
    assert metric.value(labels, scores) == pytest.approx(expected)
    by_name = metrics.get("matthews_corrcoef", task="binary")
    assert by_name.value(labels, scores) == pytest.approx(
        sk.matthews_corrcoef(labels, scores > 0.5)
    )
    loss = metrics.get(
        sk.make_scorer(sk.log_loss, greater_is_better=False, response_method="predict_proba"),
        task="binary",
    )
    assert (loss.greater_is_better, loss.value(labels, scores)) == (
        False,
        pytest.approx(sk.log_loss(labels, scores)),
    )
    values, guesses = numbers()
    median = metrics.get("neg_median_absolute_error", task="regression")
    assert (median.name, median.greater_is_better) == ("median_absolute_error", False)
    assert median.value(values, guesses) == sk.median_absolute_error(values, guesses)


def test_a_metric_of_ones_own_passes_as_it_is():
    class Coverage:
        name = "coverage"
        greater_is_better = True

        def value(self, labels, scores):
            return 1.0

        def interval(self, labels, scores, level=0.95):
            return 1.0, 1.0

        def losses(self, labels, scores):
            return None

    own = Coverage()
    assert metrics.get(own, task="binary") is own


def test_names_and_maturity_need_no_heavy_import():
    code = (
        "import sys\n"
        "import importlib.util as u, types\n"
        "package = types.ModuleType('keepfit'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['keepfit'] = package\n"
        "import keepfit.metrics, keepfit.gates\n"
        "keepfit.metrics.known('roc_auc'); keepfit.gates.NoWorse(0.01)\n"
        "print([m for m in ('numpy', 'scipy', 'sklearn', 'polars') if m in sys.modules])\n"
    )
    folder = metrics.__path__[0].rsplit("/", 1)[0]
    ran = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_the_area_with_its_interval_is_cheaper_than_scikit_learns_without():
    labels, scores = two_classes(7_000)
    metric = metrics.RocAuc()

    def fastest(call):
        spent = []
        for _ in range(15):
            began = time.process_time()
            for _ in range(5):
                call()
            spent.append(time.process_time() - began)
        return min(spent) / 5

    ours = fastest(lambda: (metric.value(labels, scores), metric.interval(labels, scores)))
    assert ours < fastest(lambda: sk.roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("known", "after", "delay", "expected"),
    [
        (99, timedelta(0), None, True),
        (98, timedelta(0), None, False),
        (98, 30 * DAY, None, False),
        (50, DAY, DAY, True),
        (50, DAY - timedelta(seconds=1), DAY, False),
        (100, timedelta(0), 30 * DAY, True),
    ],
)
def test_a_window_is_mature_by_its_labels_or_by_the_stated_delay(known, after, delay, expected):
    now = NOON + after
    assert metrics.mature(known, 100, to=NOON, now=now, label_delay=delay) is expected


def test_a_summary_leaves_out_windows_without_a_value():
    assert metrics.summary([0.5, float("nan"), 0.7])[0] == pytest.approx(0.6)
    alone = metrics.summary([0.5, float("nan")])
    assert alone.mean == 0.5
    assert np.isnan(alone.low)
    assert np.isnan(metrics.summary([])).all()
    assert metrics.summary([0.7] * 10) == pytest.approx((0.7, 0.7, 0.7))


def test_the_interval_of_a_summary_stays_where_the_metric_can_be():
    flips = [0.0] * 20 + [1.0] * 20
    _, low, high = metrics.summary(flips)
    assert low < 0
    assert high > 1
    assert metrics.summary(flips, metric=metrics.get("accuracy", task="binary"))[1:] == (0, 1)
    loss = metrics.summary(flips, metric=metrics.get("log_loss", task="binary"))
    assert loss[1:] == (0, high)


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_the_interval_of_a_summary_covers_although_weeks_resemble_each_other(memory):
    rng = np.random.default_rng(5)
    times = 600
    noise = rng.normal(size=(times, 60)) * np.sqrt(1 - memory**2)
    series = np.empty_like(noise)
    series[:, 0] = rng.normal(size=times)
    for week in range(1, 60):
        series[:, week] = memory * series[:, week - 1] + noise[:, week]
    covered = [low <= 0 <= high for _, low, high in map(metrics.summary, series)]
    # 95 % was stated; what one would get from independent weeks is 74 % at a memory of 0.5.
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


def test_values_that_resemble_each_other_are_worth_fewer():
    slow = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 8)
    assert mean_of(slow).effective < 10
    quick = mean_of(np.tile([0.0, 1.0], 32))
    assert (quick.blocks, quick.effective) == (64, 32)
    assert mean_of(slow).error > 2 * quick.error


def hours(days: int) -> np.ndarray:
    return np.arange(24 * days) * 3_600_000_000 + int(NOON.timestamp()) * 1_000_000


def test_prequential_windows_are_days_of_event_time_in_any_order_of_labels():
    times, (labels, scores) = hours(10), two_classes(240)
    whole = metrics.Prequential("accuracy", window="2d")
    whole.update(times, labels, scores)
    parts = metrics.Prequential("accuracy", window="2d")
    late = np.random.default_rng(0).permutation(240)
    late = np.append(late[late < 20], late[late >= 20])
    for some in np.array_split(late, 7):
        parts.update(times[some], labels[some], scores[some])
        assert parts.windows
    assert [(w.from_, w.n, w.value) for w in parts.windows] == [
        (w.from_, w.n, w.value) for w in whole.windows
    ]
    first = whole.windows[0]
    assert first.from_ == datetime(2024, 1, 1, tzinfo=UTC)
    assert first.to - first.from_ == 2 * DAY
    assert first.n == 36
    assert first.value == metrics.Accuracy().value(labels[:36], scores[:36])
    assert first.low < first.value < first.high
    assert whole.summary().mean == pytest.approx(np.mean([w.value for w in whole.windows]))
    assert whole.to_frame().columns == ["from", "to", "n", "value", "low", "high"]
    assert whole.to_frame().height == len(whole.windows)


def test_each_update_may_be_a_window_and_old_ones_may_fade():
    followed = metrics.Prequential("accuracy", window=None, fading=0.5)
    times = hours(3)
    for day, right in enumerate((1.0, 0.0, 1.0)):
        at = slice(24 * day, 24 * (day + 1))
        labels = np.arange(24) % 2
        followed.update(times[at], labels, labels if right else 1 - labels)
    assert [window.value for window in followed.windows] == [1.0, 0.0, 1.0]
    assert followed.running == pytest.approx((1.0, 1 / 3, 5 / 7))
    assert "3 windows" in repr(followed)


def test_prequential_takes_datetimes_and_refuses_lengths_that_differ():
    followed = metrics.Prequential("mae", task="regression", window="1d")
    followed.update([NOON, NOON + DAY], np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    followed.update([], np.array([]), np.array([]))
    assert [window.value for window in followed.windows] == [0.5, 0.0]
    with pytest.raises(ConfigError, match="of one length, got 1, 2 and 2"):
        followed.update([NOON], np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    with pytest.raises(ConfigError, match="fading"):
        metrics.Prequential("mae", task="regression", fading=0.0)
    with pytest.raises(ConfigError, match="window longer than zero"):
        metrics.Prequential("mae", task="regression", window="0d")
