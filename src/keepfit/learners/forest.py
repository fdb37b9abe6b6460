"""LightGBM's trees apart from the values of their leaves: models that learn leaves share them.

Finding the leaves of rows is most of what an answer takes. Models of which one learnt leaves
from the other send a row to the same leaves, so that it is sent once for all of them. What
they answer is LightGBM's own answer to the bit.
"""

from __future__ import annotations

import math
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from keepfit.learners import leaves
from keepfit.learners.models import package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST = 500_000
"""Leaves of rows that are remembered at a time, of 5,000 rows in 100 trees; more would take memory."""

_ONE_SCORE = re.compile(r"^num_tree_per_iteration=1$", re.MULTILINE)
_SIZES = re.compile(r"^tree_sizes=.*$", re.MULTILINE)
_STEEP = 700.0
"""Scores beyond which the exponential function of Python raises."""


class Forest:
    """Trees without the values of their leaves.

    ``text`` is one of the models that share them, any of which says what they are.
    """

    def __init__(self, text: str, sizes: Sequence[int]) -> None:
        self.text = text
        self.first = np.cumsum([0, *sizes[:-1]], dtype=np.intp)[:, None]
        """The place of each tree's first leaf among all leaves, (trees, 1)."""

    @cached_property
    def booster(self) -> Any:
        """The trees as LightGBM reads them, once for all models that share them."""
        return package("lightgbm").Booster(model_str=self.text)

    def places(self, table: Floats, threads: int) -> NDArray[np.intp]:
        """Return the leaf of each row in each tree, (trees, rows), counted through all trees."""
        if not self.remembers(len(table)):
            return self.find(table, threads)
        return _remembered(self, len(table), table.tobytes("F"), threads)

    def remembers(self, rows: int) -> bool:
        """Return whether so many rows are few enough for their leaves to be kept."""
        return rows * len(self.first) <= MOST

    def find(self, table: Floats, threads: int) -> NDArray[np.intp]:
        """Return what `places` does, asked of LightGBM."""
        found = np.asarray(self.booster.predict(table, pred_leaf=True, num_threads=threads))
        return found.reshape(len(table), -1).T.astype(np.intp, order="C") + self.first


_forests: WeakValueDictionary[str, Forest] = WeakValueDictionary()
"""Trees by their text without leaves, as long as leaves of theirs are at hand."""


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
        found = self.values[self.forest.places(table, threads)]
        scores = np.zeros(len(table))
        for one in found:  # tree by tree, as LightGBM adds up
            scores += one
        if not self.chances:
            return scores
        if np.abs(scores).max() > _STEEP:
            return None
        # NumPy's own exponential function differs from LightGBM's in the last bit.
        return np.array([1.0 / (1.0 + math.exp(-one)) for one in scores.tolist()])


@lru_cache(maxsize=16)
def leaves_of(text: str) -> Leaves | None:
    """Return the leaves that a model's text holds; None where answers are more than their sum.

    Kept, because a model is opened more often than made; as many as a turn's models and those
    that the loop holds open.
    """
    first, last = text.find("\nTree="), text.rfind("\nend of trees")
    head = text[:first]
    if not leaves.known(text) or not _ONE_SCORE.search(head) or "\naverage_output\n" in head:
        return None
    skeleton, lines = _apart(_SIZES.sub("", head) + text[first:last])
    try:
        values = leaves.read(lines)
    except msgspec.MsgspecError:  # a leaf that is no number
        return None
    new = Forest(text, [line.count(" ") + 1 for line in lines])
    forest = _forests.setdefault(skeleton, new)
    return Leaves(forest, values, chances="\nobjective=binary" in head)


def _apart(trees: str) -> tuple[str, list[str]]:
    """Return the text of trees without the values of their leaves, and these, tree by tree."""
    first, *parts = trees.split("\nleaf_value=")
    values, others = zip(*(part.split("\n", 1) for part in parts), strict=True)
    return "\n".join((first, *others)), [one.strip() for one in values]


@lru_cache(maxsize=8)
def _remembered(forest: Forest, rows: int, content: bytes, threads: int) -> NDArray[np.intp]:
    """Return leaves of rows; kept while challenger and champion are asked about the same rows."""
    return forest.find(np.frombuffer(content).reshape((rows, -1), order="F"), threads)
