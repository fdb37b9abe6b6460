"""Leaves that learn from new rows, while the trees stay: scikit-learn's, and boosted ones of others.

As with LightGBM's (`keepfit.learners.leaves`) a leaf moves towards what its new rows ask of it,
by how many of them reach it beside those it was grown on, and one without any stays as it is.
Trees that are boosted learn one after the other, each from what those before leave over; trees
of a forest each by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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

    def rounds() -> Iterator[Iterator[Tree]]:
        for step in estimator._predictors:
            yield (grown(k, one) for k, one in enumerate(step))

    def grown(k: int, one: Any) -> Tree:
        nodes = one.nodes
        leaves = np.flatnonzero(nodes["is_leaf"])
        values = nodes["value"][leaves]
        # A tree tells what stands in the leaf of a row: for once that is the leaf's number.
        nodes["value"][leaves] = np.arange(len(leaves))
        place = one.predict(rows, *asked).astype(np.intp)

        def keep(moved: Floats) -> None:
            nodes["value"][leaves] = moved[0]

        return Tree(place, values[None, :], nodes["count"][leaves].astype(np.float64), keep, (k,))

    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1, 1)
    score = np.repeat(start, len(labels), axis=1)
    loss = Loss(_kind(estimator, len(score)), len(score), labels, weight, factor=1.0)
    boost(
        rounds(),
        score,
        loss,
        _even(weight, len(labels)),
        rate=estimator.learning_rate,
        penalty=estimator.l2_regularization,
    )


def _boosted(estimator: Any, table: Any, labels: Floats, weight: Floats | None) -> None:
    grown, rate = estimator.estimators_, estimator.learning_rate
    places = np.asarray(estimator.apply(table), dtype=np.intp).reshape(len(labels), *grown.shape)

    def rounds() -> Iterator[Iterator[Tree]]:
        for i, step in enumerate(grown):
            yield (asked(one.tree_, places[:, i, k], k) for k, one in enumerate(step))

    def asked(tree: Any, place: Any, k: int) -> Tree:
        def keep(moved: Floats) -> None:
            tree.value[:, 0, 0] = moved[0] / rate

        sizes = tree.n_node_samples
        return Tree(place, rate * tree.value[:, 0, 0][None, :], sizes, keep, (k,), sizes[0])

    score = np.array(estimator._raw_predict_init(table), dtype=np.float64).T
    loss = Loss(_kind(estimator, len(score)), len(score), labels, weight)
    boost(rounds(), score, loss, _even(weight, len(labels)), rate=rate)


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
        share = moves(place, counted, sizes, float(sizes[0]))[:, None]
        values += share * (sums / (came + _TINY) - values)


class Tree(NamedTuple):
    """A tree whose leaves are to learn.

    ``place`` is the leaf of each row, ``values`` what stands in its leaves, (scores, leaves), and
    ``sizes`` what each was grown on, ``whole`` that of all together, their sum where it is not given.
    ``keep`` is called with the values it gets, and ``scores`` says to which of them they add up.
    """

    place: Any
    values: Floats
    sizes: Floats
    keep: Callable[[Floats], None]
    scores: Sequence[int]
    whole: float | None = None


def boost(
    rounds: Iterable[Iterable[Tree]],
    score: Floats,
    loss: Loss,
    counted: Floats | None,
    *,
    rate: float,
    penalty: float = 0.0,
    decay: float | None = None,
) -> None:
    """Let leaves of boosted trees learn from rows, one tree after the other.

    Each moves towards the Newton step of its rows (Friedman 2001), from what the trees before it
    leave over.

    Parameters
    ----------
    rounds
        The trees, those together that were grown on the same scores.
    score
        What rows are answered before the first tree, (scores, rows); it is added to.
    loss
        What the trees lessen.
    counted
        What each row counts beside those that leaves were grown on; as its loss is curved when not given.
    rate
        The learning rate.
    penalty
        On the square of leaves, as it was beside the rows that they were grown on.
    decay
        What part of its old value a leaf keeps; see `moves` where it is not given.
    """
    for trees in rounds:
        gradient, curve = loss.derivatives(score)
        for tree in trees:
            values, own = tree.values.copy(), curve[tree.scores[0]] if counted is None else counted
            whole = max(float(tree.sizes.sum() if tree.whole is None else tree.whole), _TINY)
            share = moves(tree.place, own, tree.sizes, whole, decay)
            drawn = penalty * own.sum() / whole + _TINY
            for line, k in zip(values, tree.scores, strict=True):
                pull = np.bincount(tree.place, gradient[k], len(line))
                hold = np.bincount(tree.place, curve[k], len(line))
                line += share * (-rate * pull / (hold + drawn) - line)
                score[k] += line[tree.place]
            tree.keep(values)


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


def moves(
    place: Any, counted: Floats, sizes: Floats, whole: float, decay: float | None = None
) -> Floats:
    """Return how far each leaf moves towards its new rows, as a share of the way.

    A leaf that as many of them reach, in proportion, as it was grown on moves so far that it keeps
    ``decay`` of its old value; one that more reach moves further, and one without any not at all.

    Parameters
    ----------
    place
        The leaf of each row.
    counted
        What each row counts.
    sizes
        What each leaf was grown on.
    whole
        What all leaves were.
    decay
        From 0 to 1; when not given, as much as half of what was grown on weighs beside the new rows.
    """
    came, total = np.bincount(place, counted, len(sizes)), float(counted.sum())
    keep = whole / 2 / (whole / 2 + total) if decay is None else decay
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
