"""Leaves of boosted trees that learn from new rows, tree by tree, while the trees stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keepfit.learners.texts import Trees, read, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OBJECTIVES = ("binary", "multiclass", "regression")
"""The objectives whose gradients are known here, as LightGBM names them in a model's text."""

_OBJECTIVE = re.compile(r"^objective=(.*)$", re.MULTILINE)
_PER_STEP = re.compile(r"^num_tree_per_iteration=(\d+)$", re.MULTILINE)
_PENALTY = re.compile(r"^\[lambda_l2: (.*)\]$", re.MULTILINE)
_OTHERS = re.compile(
    r"^\[(?:lambda_l1|max_delta_step|path_smooth): (?!0\.?0*\])"
    r"|^\[(?:is_unbalance|linear_tree|reg_sqrt): 1\]|^\[scale_pos_weight: (?!1\.?0*\])",
    re.MULTILINE,
)
_TINY = 1e-12
_ONE = np.array(1.0)


def known(text: str) -> bool:
    """Return whether the leaves of a model of LightGBM can be moved here: its text says all."""
    found = _OBJECTIVE.search(text)
    stated = found[1].split() if found else [""]
    plain = stated[0] in OBJECTIVES and not {"sqrt", "is_unbalance:1"} & set(stated)
    plain = plain and all(not one.startswith("sigmoid:") or one == "sigmoid:1" for one in stated)
    parameters = text[text.rfind("\nend of trees") :]
    return plain and "\nis_linear=1\n" not in text and not _OTHERS.search(parameters)


def finite(text: str) -> bool:
    """Return whether no row whatever can get a score of such a model that is not finite.

    Leaves that are numbers add up to one, and the chances of these objectives are made of any.
    False where the text leaves it open.
    """
    trees = text.find("\nTree="), text.rfind("\nend of trees")
    return known(text) and all(text.find(odd, *trees) < 0 for odd in ("nan", "inf"))


def moved(
    text: str,
    places: NDArray[np.int64],
    labels: NDArray[np.float64],
    *,
    keep: float | None = None,
    weight: Floats | None = None,
) -> str:
    """Return a model's text with leaves moved towards what new rows ask of them.

    The rows go through the trees in order, as in boosting: each leaf gets the Newton step of
    its rows (Friedman 2001) from the score that the trees before it give, and moves towards
    it. A leaf that holds as many rows as it did in training, in proportion, keeps ``keep`` of
    its old value; one with more moves further, one with fewer less, and one without any stays
    as it is. (LightGBM's own `refit` moves all leaves alike, and those without rows to zero.)
    What the trees remember fades with the rows that come, so that many small updates do as
    much as one large.

    Parameters
    ----------
    text
        The model, of an objective that is `known`.
    places
        The leaf of each row in each tree, (rows, trees).
    labels
        Codes of classes, or values, (rows,).
    keep
        From 0 to 1; when not given, as much as half of the rows that the trees were grown on
        weigh beside the new ones: a long window forgets slowly, a short one fast.
    weight
        What each row counts, (rows,); all the same when not given.

    Returns
    -------
    The text, in which nothing but the values of leaves differs.
    """
    trees, lines = Trees.apart(text)
    values = split(read(lines), [line.count(" ") + 1 for line in lines])
    columns = np.ascontiguousarray(places.T)
    grown = Grown(trees, [len(one) for one in values])
    return trees.written(grown.moved(values, columns, labels, keep, weight))


class Grown:
    """How trees were grown, as far as their leaves go on from there: the same for all that share them.

    ``counts`` are the leaves of each.
    """

    def __init__(self, trees: Trees, counts: Sequence[int]) -> None:
        self._head = trees.head
        # A tree that found nothing to split has one leaf, and does not say what weighs in it.
        self._sizes = [
            np.maximum(told, _TINY) if len(told) == count else np.ones(count)
            for told, count in zip(trees.numbers("leaf_weight"), counts, strict=True)
        ]
        self._masses = [float(size.sum()) for size in self._sizes]
        # Arrays without a dimension, here and below, take NumPy half the time of numbers.
        self._rates = [np.array(one[0]) for one in trees.numbers("shrinkage")]
        self._penalty = float(found[1]) if (found := _PENALTY.search(trees.tail)) else 0.0
        self._rows = read(trees.lines("leaf_count")[:1]).sum()

    def moved(
        self,
        values: Sequence[Floats],
        places: NDArray[np.int64],
        labels: NDArray[np.float64],
        keep: float | None,
        weight: Floats | None,
    ) -> list[Floats]:
        """Return the values of leaves as `moved` moves them; ``places`` are (trees, rows)."""
        loss = Loss.of(self._head, labels, weight)
        if keep is None:
            memory = self._rows / 2
            keep = float(memory / (memory + len(labels)))
        return self._stepped(values, places, loss, keep)

    def _stepped(
        self, values: Sequence[Floats], places: NDArray[np.int64], loss: Loss, keep: float
    ) -> list[Floats]:
        """Return the values of leaves, tree by tree, after one pass of rows through the trees."""
        width, rates, none = loss.width, self._rates, np.array(0.0)
        # A penalty is as strong as it was beside the rows that the trees were grown on.
        count = places.shape[1]
        drawn = self._penalty * count / (self._rows or count) + _TINY
        penalty, rest, tiny = map(np.array, (drawn, 1 - keep, _TINY))
        # The first trees hold the average of the labels beside their own step.
        bias = [np.array(np.average(values[k], weights=self._sizes[k])) for k in range(width)]
        score = np.repeat(np.array(bias)[:, None], places.shape[1], axis=1)
        scores = list(score)
        new: list[Floats] = []
        for tree, (old, size, place) in enumerate(zip(values, self._sizes, places, strict=True)):
            k, base = tree % width, bias[tree] if tree < width else none
            if k == 0:
                gradient, curve = loss.derivatives(score)
            rate = rates[min(tree + width, len(rates) - 1)] if tree < width else rates[tree]
            pull = np.bincount(place, gradient[k], len(old))
            hold = np.bincount(place, curve[k], len(old))
            step = base - rate * pull / (hold + penalty)
            learnt = hold * rest
            expected = size * (np.add.reduce(hold) / self._masses[tree] * keep)
            value = old + learnt / (learnt + expected + tiny) * (step - old)
            new.append(value)
            scores[k] += (value - base if base else value)[place]
        return new


class Loss:
    """First and second derivatives of a loss by the scores, (scores, rows), as LightGBM takes them.

    ``factor`` is what curvatures of several classes are multiplied by: as LightGBM and Friedman
    (2001) do when not given.
    """

    def __init__(
        self,
        kind: str,
        width: int,
        labels: Floats,
        weight: Floats | None,
        factor: float | None = None,
    ) -> None:
        self.kind = kind
        self.width = width
        self.factor = width / max(1, width - 1) if factor is None else factor
        self.weight = None if weight is None else np.asarray(weight, dtype=np.float64)
        self.target = labels.astype(np.float64)[None, :]
        if kind == "multiclass":
            self.target = (labels == np.arange(width)[:, None]).astype(np.float64)

    @classmethod
    def of(cls, text: str, labels: Floats, weight: Floats | None) -> Loss:
        """Return the loss that a model was trained on."""
        found = _OBJECTIVE.search(text)
        kind = found[1].split()[0] if found else ""
        per = _PER_STEP.search(text)
        return cls(kind, int(per[1]) if per else 1, labels, weight)

    def derivatives(self, score: Floats) -> tuple[Floats, Floats]:
        """Return gradients and curvatures, (scores, rows)."""
        if self.kind == "regression":
            gradient, curve = score - self.target, np.ones_like(score)
        elif self.kind == "binary":
            chance = _ONE / (_ONE + np.exp(-score))
            gradient, curve = chance - self.target, chance * (_ONE - chance)
        else:
            raised = np.exp(score - score.max(axis=0))
            chance = raised / raised.sum(axis=0)
            gradient, curve = chance - self.target, self.factor * chance * (1.0 - chance)
        if self.weight is None:
            return gradient, curve
        return gradient * self.weight, curve * self.weight
