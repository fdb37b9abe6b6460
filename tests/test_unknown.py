"""Rows of a class that a model does not know: counted as wrong, or left out where they are few."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import unknown
from keepfit.artifacts import Artifacts
from keepfit.batch import LABEL, TIME
from keepfit.learners.labels import codes
from keepfit.past import scored_past, stretches
from keepfit.registry import strangers
from keepfit.scoring import Scorer


def model(*classes: Any, said: Any = ()) -> Any:
    """A model of some classes that says what it is told to."""
    return SimpleNamespace(
        classes=classes,
        task="binary" if len(classes) == 2 else "multiclass",
        codes=lambda labels: codes(labels, classes),
        predict=lambda rows: np.asarray(said, dtype=float),
    )


def scorer(folder: Path, metric: Any) -> Scorer:
    return Scorer(Artifacts(folder), metric)


@pytest.mark.parametrize(
    ("metric", "value"),
    [("accuracy", 1 / 2), ("balanced_accuracy", 2 / 3), ("roc_auc", (5 / 6 + 5 / 6 + 1 / 2) / 3)],
)
def test_rows_of_a_class_that_is_not_known_are_wrong(
    tmp_path: Path, metric: str, value: float
) -> None:
    labels, scores = pl.Series(["a", "b", "c", "c"]), np.array([0.1, 0.9, 0.1, 0.9])
    measured, found = unknown.answered(
        scorer(tmp_path, metric), model("a", "b"), labels, scores, None, {"c"}
    )
    assert measured.name == metric
    assert measured.value(found.labels, found.scores) == pytest.approx(value)


def test_other_labels_are_left_out_and_so_is_what_a_metric_cannot_hold(tmp_path: Path) -> None:
    labels, scores = pl.Series(["a", "b", "c", None, "z"]), np.array([0.1, 0.9, 0.1, 0.9, 0.2])
    two = model("a", "b")
    _, some = unknown.answered(scorer(tmp_path, "accuracy"), two, labels, scores, None, {"c"})
    assert some.labels.tolist() == [0, 1, 2]
    _, none = unknown.answered(scorer(tmp_path, "accuracy"), two, labels, scores, None, ())
    assert none.labels.tolist() == [0, 1]
    assert none.scores.ndim == 1

    def own(labels: Any, scores: Any) -> float:
        return float((labels == (scores > 0.5)).mean())

    for metric in ("f1", own):
        _, left = unknown.answered(scorer(tmp_path, metric), two, labels, scores, None, {"c"})
        assert left.labels.tolist() == [0, 1]
    weights = np.arange(1.0, 6.0)
    _, weighed = unknown.answered(scorer(tmp_path, "accuracy"), two, labels, scores, weights, {"c"})
    assert weighed.weights is not None
    assert weighed.weights.tolist() == [1.0, 2.0, 3.0]


def test_a_label_is_a_class_once_it_is_frequent() -> None:
    assert unknown.classes({}, {"c": 30}, 100) == {"c"}
    assert unknown.classes({}, {"c": 19}, 100) == set()
    assert unknown.classes({"c": [15, 500]}, {"c": 5}, 100) == {"c"}
    # Twenty typing errors in a hundred thousand rows are no class.
    assert unknown.classes({"7": [19, 100_000]}, {"7": 1}, 100) == set()
    assert unknown.classes({}, {"c": 30, "7": 1}, 100) == {"c"}


def test_labels_that_are_counted_are_bounded_and_the_most_frequent_stay() -> None:
    many = {f"typo {i}": 1 for i in range(1_000)}
    found = strangers.counted({"c": [50, 200]}, many, 10)
    assert len(found) == strangers.REMEMBERED
    assert found["c"] == [50, 210]


def test_a_challenger_that_lost_a_class_is_wrong_on_its_rows(tmp_path: Path) -> None:
    rows = pl.DataFrame({LABEL: ["a", "b", "c", "z"]})
    old = model("a", "b", "c", said=np.eye(3)[[0, 1, 2, 0]])
    new = model("a", "b", said=[0.0, 1.0, 0.0, 0.0])
    metric, labels, ours, theirs = unknown.beside(scorer(tmp_path, "accuracy"), new, old, rows)
    assert labels.tolist() == [0, 1, 2, -1]
    kept = labels >= 0
    assert metric.value(labels[kept], ours[kept]) == pytest.approx(2 / 3)
    assert metric.value(labels[kept], theirs[kept]) == 1.0
    # The other way round the champion is wrong on what it never learnt.
    metric, labels, ours, theirs = unknown.beside(scorer(tmp_path, "accuracy"), old, new, rows)
    kept = labels >= 0
    assert metric.value(labels[kept], ours[kept]) == 1.0
    assert metric.value(labels[kept], theirs[kept]) == pytest.approx(2 / 3)


def test_the_metric_stays_what_the_pipeline_began_with(tmp_path: Path) -> None:
    made = scorer(tmp_path, None)
    assert made.metric(model("a", "b")).name == "roc_auc"
    assert made.metric(model("a", "b", "c")).name == "roc_auc"
    other = scorer(tmp_path, None)
    other.settle("a metric of somebody's own")
    assert other.metric(model("a", "b", "c")).name == "log_loss"
    other.settle("roc_auc")
    assert other.metric(model("a", "b", "d")).name == "log_loss"
    stated = scorer(tmp_path, "accuracy")
    stated.settle("roc_auc")
    assert stated.metric(model("a", "b")).name == "accuracy"


def test_a_class_that_was_lost_is_forgotten(tmp_path: Path) -> None:
    """The stretches of the past count what the champion alone knows."""
    labels = ["a", "b", "c", "c"] * 300
    rows = pl.DataFrame({LABEL: labels, TIME: np.arange(1_200)})
    old, new = model("a", "b", "c"), model("a", "b")
    old.predict = lambda asked: np.eye(3)[codes(asked[LABEL], old.classes)]
    new.predict = lambda asked: (asked[LABEL] == "b").to_numpy().astype(float)
    made = scorer(tmp_path, "accuracy")
    found = stretches(made, rows, new, old)
    assert len(found) == 4
    for past in found:
        told = scored_past(made.metric(new), past)
        assert told.n == 300
        assert told.champion_value == 1.0
        assert told.value == pytest.approx(0.5)
