"""LightGBM's trees apart from the values of their leaves: models that learn leaves share them.

Finding the leaves of rows is most of what an answer takes. Models of which one learnt leaves
from the other send a row to the same leaves, so that it is sent once for all of them. What
they answer is LightGBM's own answer to the bit.
"""

from __future__ import annotations

import math
import re
from collections import deque
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from keepfit.learners import leaves
from keepfit.learners.leaves import Grown
from keepfit.learners.models import package
from keepfit.learners.paths import Paths
from keepfit.learners.texts import Trees, read, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST = 500_000
"""Leaves of rows that are remembered at a time, of 5,000 rows in 100 trees; more would take memory."""

_ONE_SCORE = re.compile(r"^num_tree_per_iteration=1$", re.MULTILINE)
_STEEP = 700.0
"""Scores beyond which the exponential function of Python raises."""


class Forest:
    """Trees without the values of their leaves.

    ``text`` is one of the models that share them, any of which says what they are, and
    ``counts`` are the leaves of each tree.
    """

    def __init__(self, text: str, trees: Trees, counts: Sequence[int]) -> None:
        self.text = text
        self.trees = trees
        self.counts = counts
        self.first = np.cumsum([0, *counts[:-1]], dtype=np.intp)[:, None]
        """The place of each tree's first leaf among all leaves, (trees, 1)."""

    @cached_property
    def booster(self) -> Any:
        """The trees as LightGBM reads them, once for all models that share them."""
        return package("lightgbm").Booster(model_str=self.text)

    @cached_property
    def paths(self) -> Paths | None:
        """The trees as tables that find leaves quicker; None where they cannot be such."""
        return Paths.of(self.trees, self.first)

    @cached_property
    def grown(self) -> Grown:
        """How the trees were grown, for models that learn leaves."""
        return Grown(self.trees, self.counts)

    def places(self, table: Floats, threads: int) -> NDArray[np.intp]:
        """Return the leaf of each row in each tree, (trees, rows), counted through all trees."""
        if not self.remembers(len(table)):
            return self.find(table, threads)
        return _remembered(self, len(table), table.tobytes("F"), threads)

    def remembers(self, rows: int) -> bool:
        """Return whether so many rows are few enough for their leaves to be kept."""
        return rows * len(self.first) <= MOST

    def find(self, table: Floats, threads: int) -> NDArray[np.intp]:
        """Return what `places` does, looked up for few rows, and asked of LightGBM for many."""
        if self.remembers(len(table)) and self.paths is not None:
            return self.paths.leaves(table)
        found = np.asarray(self.booster.predict(table, pred_leaf=True, num_threads=threads))
        return np.ascontiguousarray(found.reshape(len(table), -1).T) + self.first


_forests: WeakValueDictionary[str, Forest] = WeakValueDictionary()
"""Trees by their text without leaves, as long as leaves of theirs are at hand."""

_opened: deque[tuple[str, Leaves | None]] = deque(maxlen=16)
"""Leaves by their model's text, because a model is opened more often than made.

As many of the newest as a turn's models and those that the loop holds open.
"""


class Leaves:
    """The values of leaves of one model, and the trees that it may share."""

    def __init__(self, forest: Forest, values: Floats, *, chances: bool) -> None:
        self.forest = forest
        self.values = values
        self.chances = chances

    def answer(self, table: Floats, threads: int) -> Floats | None:
        """Return scores as LightGBM gives them, (rows,); None where it is to be asked itself.

        It is where the rows are many, and where scores are beyond what Python has powers of.
        """
        if not self.forest.remembers(len(table)):
            return None
        # All places are there: to be told so saves NumPy a look at each.
        found = self.values.take(self.forest.places(table, threads), mode="clip")
        scores = added(found)
        if not self.chances:
            return scores
        if np.abs(scores).max() > _STEEP:
            return None
        # NumPy's own exponential function differs from LightGBM's in the last bit.
        powers = np.fromiter(map(math.exp, (-scores).tolist()), np.float64, len(scores))
        return 1.0 / (1.0 + powers)

    def moved(
        self,
        table: Floats,
        labels: Floats,
        *,
        keep: float | None,
        weight: Floats | None,
        threads: int,
    ) -> str:
        """Return the text of a model whose leaves learnt from rows; see `leaves.moved`."""
        forest = self.forest
        places = forest.places(table, threads) - forest.first
        old = split(self.values, forest.counts)
        new = forest.grown.moved(old, places, labels, keep, weight)
        text = forest.trees.written(new)
        values = np.concatenate(new)
        if np.isfinite(values).all():
            # What was just written need not be read when the model is opened.
            _opened.append((text, Leaves(forest, values, chances=self.chances)))
        return text


def added(found: Floats) -> Floats:
    """Return the sums of what trees say, (trees, rows), one tree after the other, as LightGBM adds up."""
    # NumPy adds up in pairs what lies side by side, which the trees of a single row do.
    one = found.shape[1] == 1
    sums: Floats = np.add.accumulate(found)[-1] if one else np.add.reduce(found, initial=0.0)
    return sums


def leaves_of(text: str) -> Leaves | None:
    """Return the leaves that a model's text holds; None where answers are more than their sum."""
    # Other texts differ early, so that to compare them all is quicker than the hash of one.
    for known, found in tuple(_opened):
        if known == text:
            return found
    new = _read(text)
    _opened.append((text, new))
    return new


def _read(text: str) -> Leaves | None:
    head = text[: text.find("\nTree=")]
    if not leaves.known(text) or not _ONE_SCORE.search(head) or "\naverage_output\n" in head:
        return None
    trees, lines = Trees.apart(text)
    try:
        values = read(lines)
        forest = _forests.get(trees.key)
        if forest is None:
            counts = [line.count(" ") + 1 for line in lines]
            forest = _forests.setdefault(trees.key, Forest(text, trees, counts))
    except msgspec.MsgspecError:  # a leaf that is no number
        return None
    return Leaves(forest, values, chances="\nobjective=binary" in head)


@lru_cache(maxsize=8)
def _remembered(forest: Forest, rows: int, content: bytes, threads: int) -> NDArray[np.intp]:
    """Return leaves of rows; kept while challenger and champion are asked about the same rows."""
    return forest.find(np.frombuffer(content).reshape((rows, -1), order="F"), threads)
