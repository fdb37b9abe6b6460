"""Metrics and gains of rows that weigh differently agree with scikit-learn, and cover the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from keepfit import gates, metrics
from keepfit.facts import Answer
from keepfit.metrics.evidence import cleaned, gain_of, groups
from keepfit.protocols import Comparison
from tests.test_metrics import BINARY, MULTICLASS, REGRESSION, numbers, several_classes, two_classes


def weights(rows: int, seed: int = 0) -> np.ndarray:
    """Return weights as an exploration share of a tenth gives them."""
    return np.where(np.random.default_rng(seed).random(rows) < 0.2, 10.0, 1.0)


ORACLES = {
    "binary": {
        **{name: BINARY[name] for name in ("roc_auc", "log_loss", "average_precision", "brier")},
        "accuracy": lambda y, p, **w: sk.accuracy_score(y, p > 0.5, **w),
        "balanced_accuracy": lambda y, p, **w: sk.balanced_accuracy_score(y, p > 0.5, **w),
        "f1": lambda y, p, **w: sk.f1_score(y, p > 0.5, **w),
    },
    "multiclass": {
        "roc_auc": lambda y, p, **w: sk.roc_auc_score(y, p, multi_class="ovr", **w),
        **{name: MULTICLASS[name] for name in ("log_loss", "average_precision", "brier")},
        "accuracy": lambda y, p, **w: sk.accuracy_score(y, p.argmax(1), **w),
        "balanced_accuracy": lambda y, p, **w: sk.balanced_accuracy_score(y, p.argmax(1), **w),
        "f1": lambda y, p, **w: sk.f1_score(y, p.argmax(1), average="macro", **w),
    },
    "regression": REGRESSION,
}
MAKE = {"binary": two_classes, "multiclass": several_classes, "regression": numbers}
ALL = [(task, name) for task, known in ORACLES.items() for name in known]


def test_every_metric_of_the_house_has_an_oracle():
    assert {name for _, name in ALL} == set(metrics.NAMES)


@pytest.mark.parametrize(("task", "name"), ALL)
def test_weighted_metrics_are_those_of_scikit_learn(task, name):
    labels, scores = MAKE[task]()
    weight = weights(len(labels))
    value = metrics.get(name, task=task).value(labels, scores, weight)
    expected = ORACLES[task][name](labels, scores, sample_weight=weight)
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("task", "name"), ALL)
def test_equal_weights_are_none(task, name):
    labels, scores = MAKE[task](500)
    metric = metrics.get(name, task=task)
    value = metric.value(labels, scores, np.full(500, 7.0))
    assert value == pytest.approx(metric.value(labels, scores), rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(1, 4)), min_size=2))
def test_a_row_that_weighs_three_is_worth_three_rows(rows):
    labels, scores, weight = (np.array(one) for one in zip(*rows, strict=True))
    scores, weight = scores / 5, weight.astype(float)
    times = weight.astype(int)
    for name in ORACLES["binary"]:
        metric = metrics.get(name, task="binary")
        whole = metric.value(np.repeat(labels, times), np.repeat(scores, times))
        value = metric.value(labels, scores, weight)
        assert value == pytest.approx(whole, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize(("task", "name"), ALL)
def test_contributions_have_the_weighted_metric_as_their_weighted_mean(task, name):
    labels, scores = MAKE[task]()
    weight, metric = weights(len(labels)), metrics.get(name, task=task)
    found = np.average(metric.contributions(labels, scores, weight), weights=weight)
    assert found == pytest.approx(metric.value(labels, scores, weight), rel=1e-9)


BY_CLASS = ("roc_auc", "average_precision", "f1", "balanced_accuracy")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", BY_CLASS)
def test_a_contribution_is_how_the_metric_moves_with_the_weight_of_its_row(name, task, weighted):
    labels, scores = MAKE[task](60)
    scores, metric = scores.round(1), metrics.get(name, task=task)  # many ties
    weight = np.random.default_rng(0).uniform(0.5, 3, 60) if weighted else np.ones(60)
    steps = 1e-6 * np.eye(60)
    moved = [metric.value(labels, scores, weight + step) for step in steps]
    least = [metric.value(labels, scores, weight - step) for step in steps]
    expected = weight.sum() * (np.array(moved) - least) / 2e-6
    found = metric.contributions(labels, scores, *([weight] if weighted else []))
    np.testing.assert_allclose(found - metric.value(labels, scores, weight), expected, atol=1e-7)


def explored(make, rows, seed, share=0.1):
    """Return what is seen of rows of which a tenth of the likelier half is let through."""
    labels, scores = make(rows, seed=seed)
    above = scores > np.median(scores)
    seen = ~above | (np.random.default_rng(seed + 10_000).random(rows) < share)
    return labels[seen], scores[seen], np.where(above, 1 / share, 1.0)[seen]


TRUTH_ROWS = 4_000


@pytest.mark.parametrize(
    "name",
    [
        *("roc_auc", "log_loss", "accuracy", "balanced_accuracy", "f1", "average_precision"),
        *("brier", "mae", "rmse", "r2"),
    ],
)
def test_a_weighted_interval_covers_the_truth_of_all_rows_about_as_often(name):
    task = "regression" if name in REGRESSION else "binary"
    metric = metrics.get(name, task=task)
    truth = metric.value(*MAKE[task](1_000_000, seed=99))
    times = 200
    found = [explored(MAKE[task], TRUTH_ROWS, seed) for seed in range(times)]
    bounds = [metric.interval(*part[:2], 0.9, part[2]) for part in found]
    covered = np.mean([low <= truth <= high for low, high in bounds])
    # Three standard errors of a share of 200; the effective rows of Kish are a safe guess.
    assert covered >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / times)
    values = np.array([metric.value(*part) for part in found])
    bias = abs(values.mean() - truth) / (values.std(ddof=1) / np.sqrt(times))
    assert bias < 4, f"{bias:.1f} standard errors of the mean away from the truth"


def test_a_gain_between_models_is_that_of_all_rows():
    labels, ours = two_classes(200_000, seed=7)
    theirs = np.clip(ours + np.where(ours > 0.5, 0.3, 0.0), 0.01, 0.99)
    metric = metrics.Brier()
    truth = metric.value(labels, theirs) - metric.value(labels, ours)
    above = ours > 0.5
    seen = ~above | (np.random.default_rng(1).random(labels.size) < 0.05)
    weight = np.where(above, 20.0, 1.0)[seen]
    found = gain_of(metric, labels[seen], ours[seen], theirs[seen], weight)
    alone = gain_of(metric, labels[seen], ours[seen], theirs[seen])
    low, high = found.bounds(0.005)
    assert low <= truth <= high
    assert alone.bounds(0.005)[1] < truth


def test_a_metric_of_ones_own_is_told_of_weights_where_it_takes_them():
    def share(labels, scores, sample_weight=None):
        return float(np.average(labels == (scores > 0.5), weights=sample_weight))

    labels, scores = two_classes(200)
    weight = weights(200)
    metric = metrics.get(share, task="binary")
    assert metrics.weighs(share)
    assert not metrics.weighs(lambda labels, scores: 0.5)
    value = metrics.value_of(metric, labels, scores, weight)
    assert value == metrics.Accuracy().value(labels, scores, weight)
    labels, scores = numbers(200)
    scorer = metrics.get("neg_mean_absolute_error", task="regression")
    expected = np.average(np.abs(labels - scores), weights=weight)
    assert scorer.value(labels, scores, weight) == pytest.approx(expected)


def test_a_gate_promotes_wrongly_no_more_often_than_it_says():
    """The challenger is as much worse as the gate forbids, all of it where nine of ten are stopped."""
    rng = np.random.default_rng(5)
    within, share, times, rows = 0.1, 0.1, 300, 3_000
    promoted = {"weighted": 0, "alone": 0}
    for _ in range(times):
        stopped = rng.random(rows) < 0.4
        seen = ~stopped | (rng.random(rows) < share)
        champion = rng.normal(9, 1, rows)
        away = champion + np.where(stopped, within / 0.4, 0) + rng.normal(0, 0.5, rows)
        comparison = Comparison(
            metric=metrics.MAE(),
            labels=np.zeros(seen.sum()),
            challenger=away[seen],
            champion=champion[seen],
            times=np.arange(seen.sum()),
            rows=pl.DataFrame(),
            weights=np.where(stopped, 1 / share, 1.0)[seen],
        )
        gate = gates.NoWorse(within=within, level=0.7)
        for name, asked in (("weighted", comparison), ("alone", replace(comparison, weights=None))):
            promoted[name] += gate.judge(asked).answer == Answer.PROMOTE
    # The first look spends half of 1 - level; three standard errors of a share of 300.
    assert promoted["weighted"] / times <= 0.15 + 3 * np.sqrt(0.15 * 0.85 / times)
    assert promoted["alone"] / times > 0.9


@pytest.mark.parametrize("name", ["brier", "roc_auc"])
def test_a_slice_is_judged_by_the_weights_of_its_own_rows(name):
    labels, scores = two_classes(4_000, seed=3)
    weight, kind = weights(4_000), np.where(np.arange(4_000) % 4 == 0, "a", "b")
    comparison = Comparison(
        metric=metrics.get(name, task="binary"),
        labels=labels,
        challenger=scores,
        champion=np.clip(scores - 0.05 * (kind == "a"), 0.01, 0.99),
        times=np.arange(4_000)[::-1],
        rows=pl.DataFrame({"kind": kind}),
        weights=weight,
    )
    ordered = cleaned(comparison)
    np.testing.assert_array_equal(ordered.weights, weight[::-1])
    found, _ = groups(ordered, "kind", alone=500)
    for part, value in zip(found, ("a", "b"), strict=True):
        own = (kind == value)[::-1]
        np.testing.assert_array_equal(part.of(ordered)[3], weight[::-1][own])
