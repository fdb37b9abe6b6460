"""Leaves of scikit-learn's trees that learn from new rows, while the trees stay.

As with boosted trees elsewhere (`keepfit.learners.leaves`) a leaf moves towards what its new
rows ask of it, by how many of them reach it beside those it was grown on, and one without any
stays as it is. Trees that are boosted learn one after the other, each from what those before
leave over; trees of a forest each by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keepfit.learners import estimators
from keepfit.learners.leaves import Loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_TINY = 1e-12


def move(estimator: Any, table: Any, labels: Floats, weight: Floats | None, threads: int) -> None:
    """Let the leaves of a trained estimator of which `estimators.leafy` learn from rows, in place.

    Parameters
    ----------
    estimator
        It, with its trees.
    table
        The rows, as it was trained on them.
    labels
        Codes of classes, or values, (rows,).
    weight
        What each row counts, (rows,); all the same when not given.
    threads
        Threads that look up leaves at most, where the estimator leaves it open.
    """
    if estimators.derives(estimator, "sklearn", *estimators.HISTOGRAMS):
        _histograms(estimator, table, labels, weight, threads)
    elif estimators.derives(estimator, "sklearn", *estimators.BOOSTED):
        _boosted(estimator, table, labels, weight)
    else:
        _forest(estimator, table, labels, weight)


def _histograms(
    estimator: Any, table: Any, labels: Floats, weight: Floats | None, threads: int
) -> None:
    rows = estimator._preprocess_X(table, reset=False)
    # What a tree is asked with beside rows: which categories it knows, and where they stand.
    asked = (*estimator._bin_mapper.make_known_categories_bitsets(), threads)
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1, 1)
    score = np.repeat(start, len(labels), axis=1)
    loss = Loss(_kind(estimator, len(score)), len(score), labels, weight, factor=1.0)
    counted = _even(weight, len(labels))
    for step in estimator._predictors:
        gradient, curve = loss.derivatives(score)
        for k, tree in enumerate(step):
            values, leaves = tree.nodes["value"], np.flatnonzero(tree.nodes["is_leaf"])
            old, sizes = values[leaves], tree.nodes["count"][leaves].astype(np.float64)
            # A tree tells what stands in the leaf of a row: for once that is the leaf's number.
            values[leaves] = np.arange(len(leaves))
            place = tree.predict(rows, *asked).astype(np.intp)
            pull = np.bincount(place, gradient[k], len(leaves))
            hold = np.bincount(place, curve[k], len(leaves)) + estimator.l2_regularization
            wanted = -estimator.learning_rate * pull / (hold + _TINY)
            new = old + _learnt(place, counted, sizes) * (wanted - old)
            values[leaves] = new
            score[k] += new[place]


def _boosted(estimator: Any, table: Any, labels: Floats, weight: Floats | None) -> None:
    grown = estimator.estimators_
    places = np.asarray(estimator.apply(table), dtype=np.intp).reshape(len(labels), *grown.shape)
    score = np.array(estimator._raw_predict_init(table), dtype=np.float64).T
    loss = Loss(_kind(estimator, len(score)), len(score), labels, weight)
    counted = _even(weight, len(labels))
    for i, step in enumerate(grown):
        gradient, curve = loss.derivatives(score)
        for k, one in enumerate(step):
            tree, place = one.tree_, places[:, i, k]
            values = tree.value[:, 0, 0]
            pull = np.bincount(place, gradient[k], tree.node_count)
            hold = np.bincount(place, curve[k], tree.node_count)
            share = _learnt(place, counted, tree.n_node_samples, whole=tree.n_node_samples[0])
            values += share * (-pull / (hold + _TINY) - values)
            score[k] += estimator.learning_rate * values[place]


def _forest(estimator: Any, table: Any, labels: Floats, weight: Floats | None) -> None:
    trees = [one.tree_ for one in getattr(estimator, "estimators_", [estimator])]
    rows = _checked(estimator, table)
    counted = np.ones(len(labels)) if weight is None else weight
    classes = trees[0].value.shape[2] if hasattr(estimator, "classes_") else 0
    told = (labels == np.arange(classes)[:, None]) if classes else labels[None, :]
    told = told * counted
    for tree in trees:
        place = tree.apply(rows)
        values, sizes = tree.value[:, 0, :], tree.weighted_n_node_samples
        sums = np.stack([np.bincount(place, one, tree.node_count) for one in told], axis=1)
        came = np.bincount(place, counted, tree.node_count)[:, None]
        share = _learnt(place, counted, sizes, whole=sizes[0])[:, None]
        values += share * (sums / (came + _TINY) - values)


def mean(estimator: Any, table: Any) -> Floats | None:
    """Return what the trees of a forest say in the mean: what it answers, to the bit.

    None for another estimator. A forest's own answer hands each tree to joblib, which on a few
    hundred rows takes ten times as long as the trees do.
    """
    if type(estimator).__module__ != "sklearn.ensemble._forest" or estimator.n_outputs_ > 1:
        return None
    rows, trees = _checked(estimator, table), estimator.estimators_
    total: Floats = np.zeros((len(rows), trees[0].tree_.value.shape[2]))
    for one in trees:
        total += one.tree_.predict(rows)
    total /= len(trees)
    return total if hasattr(estimator, "classes_") else total[:, 0]


def _checked(estimator: Any, table: Any) -> Any:
    """Return rows as the trees of a forest, or a tree alone, take them."""
    alone = not hasattr(estimator, "estimators_")
    return estimator._validate_X_predict(table, **({"check_input": True} if alone else {}))


def _learnt(place: Any, counted: Floats, sizes: Floats, whole: float | None = None) -> Floats:
    """Return how far each leaf, of which so many rows were grown on, moves towards its new rows.

    What was grown on remembers as half of its rows do, of ``whole`` in all, and fades with the
    rows that come; a leaf without new rows does not move.
    """
    whole = float(sizes.sum() if whole is None else whole)
    came, total = np.bincount(place, counted, len(sizes)), float(counted.sum())
    keep = whole / 2 / (whole / 2 + total)
    new, old = came * (1 - keep), sizes * (total / whole * keep)
    share: Floats = new / (new + old + _TINY)
    return share


def _even(weight: Floats | None, rows: int) -> Floats:
    """Return what rows weigh as trees without weights count them: one in the mean."""
    return np.ones(rows) if weight is None else weight * (rows / weight.sum())


def _kind(estimator: Any, width: int) -> str:
    if not hasattr(estimator, "classes_"):
        return "regression"
    return "binary" if width == 1 else "multiclass"
