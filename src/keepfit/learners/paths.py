"""Leaves that rows reach in trees of LightGBM, found in all trees at once.

The way of QuickScorer (Lucchese et al., SIGIR 2015): a tree's leaves are bits, from left to
right. A test that a row fails rules out the leaves on its left, and of those that no test rules
out the row reaches the first. What a value rules out is looked up among a column's sorted
thresholds, for all trees together, which takes a quarter of the time of walking down each tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from keepfit.learners.texts import read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keepfit.learners.texts import Trees

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Bits = NDArray[np.unsignedinteger[Any]]

WIDEST = 64
"""Leaves of a tree at most, each of which has a bit."""

TOGETHER = 128
"""Trees that share tables, whose size grows with the square of the trees."""

BLOCK = 512
"""Rows that are looked up at a time, so that what is worked with stays in the processor's cache."""

_FRACTION, _BIAS = 52, 1023
"""Bits of a float64 below its exponent, and what is added to the exponent (IEEE 754)."""

_CATEGORY, _LEFT, _ZERO, _NAN = 1, 2, 4, 8
"""What LightGBM's `decision_type` holds: the kind, where missing values go, and which are missing."""

_NEXT_TO_NOTHING = float(np.float32(1e-35))
"""What is no further from zero is zero to LightGBM."""

_ENDLESS = "1.7976931348623157e308"
"""What stands for a threshold that no number is above: JSON knows no such number."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the numbers of a column leave over.

    ``left`` has a line for each count of thresholds below a number, and the last one for what is
    missing, (thresholds + 1, trees): bits of leaves. The last threshold is infinite: behind it
    comes only what is missing.
    """

    column: int
    thresholds: Floats
    left: Bits

    def lines(self, values: Floats) -> Integers:
        """Return the line of each value."""
        return np.searchsorted(self.thresholds, values)


@dataclass(frozen=True, slots=True)
class Categories:
    """What the codes of a column leave over: a line for each, the last one for all others."""

    column: int
    left: Bits

    def lines(self, values: Floats) -> Integers:
        """Return the line of each code."""
        last = len(self.left) - 1
        # LightGBM cuts off what stands behind the point.
        return np.where((values > -1) & (values < last), values, last).astype(np.int64)


class Paths:
    """Trees as tables of what each column's values leave over, some trees after the other."""

    def __init__(self, groups: Sequence[_Group]) -> None:
        self._groups = groups
        self._trees = sum(group.trees for group in groups)

    @classmethod
    def of(cls, trees: Trees, first: Integers) -> Paths | None:
        """Return the paths of trees; None where one has too many leaves, or odd tests.

        ``first`` is the number of each tree's first leaf, (trees, 1).
        """
        try:
            tests = [_Tests(some) for some in trees.groups(TOGETHER)]
        except msgspec.MsgspecError:  # a threshold that is no number
            return None
        if not all(one.known for one in tests):
            return None
        ends = range(TOGETHER, len(first), TOGETHER)
        numbered = zip(tests, np.split(first, ends), strict=True)
        return cls([_Group(one.columns(), one.order + start) for one, start in numbered])

    def leaves(self, table: Floats) -> Integers:
        """Return the leaf of each row in each tree, (trees, rows)."""
        if len(self._groups) == 1 and len(table) <= BLOCK:
            return self._groups[0].leaves(table)
        found = np.empty((self._trees, len(table)), dtype=np.int64)
        for at in range(0, len(table), BLOCK):
            first = 0
            for group in self._groups:
                last = first + group.trees
                found[first:last, at : at + BLOCK] = group.leaves(table[at : at + BLOCK])
                first = last
        return found


class _Group:
    """Some of the trees; ``order`` is the leaf at each place from the left, (trees, leaves)."""

    def __init__(self, columns: Sequence[Thresholds | Categories], order: Integers) -> None:
        self.trees = len(order)
        self._columns = columns
        self._order = order
        self._places = np.arange(0, order.size, order.shape[1])[:, None] - _BIAS

    def leaves(self, table: Floats) -> Integers:
        """Return the leaf of each row in each tree, (trees, rows)."""
        if not self._columns:
            return np.repeat(self._order[:, :1], len(table), axis=1)
        first, *others = self._columns
        left = first.left.take(first.lines(table[:, first.column]), axis=0)
        for one in others:
            left &= one.left.take(one.lines(table[:, one.column]), axis=0)
        left &= -left
        # The exponent of a power of two is the place of its bit.
        powers = np.empty(left.shape[::-1])
        powers[...] = left.T
        places = powers.view(np.int64)
        places >>= _FRACTION
        places += self._places
        return self._order.take(places, mode="clip")


def _past_nothing(thresholds: Floats) -> Floats:
    """Return thresholds that part numbers as LightGBM does, to which the smallest ones are zero."""
    small = np.abs(thresholds) <= _NEXT_TO_NOTHING
    below = np.nextafter(-_NEXT_TO_NOTHING, -np.inf)
    return np.where(small, np.where(thresholds < 0, below, _NEXT_TO_NOTHING), thresholds)


class _Tests:
    """The inner nodes of trees, (trees, nodes); where a tree has fewer, ``here`` is false."""

    def __init__(self, trees: Trees) -> None:
        counts = np.array(
            [line.count(" ") + 1 if line else 0 for line in trees.lines("left_child")]
        )
        self.here = np.arange(max(1, counts.max())) < counts[:, None]
        self.children = [self._whole(trees, side) for side in ("left_child", "right_child")]
        self.feature = self._whole(trees, "split_feature")
        self.decision = self._whole(trees, "decision_type")
        lines = [line.replace("inf", _ENDLESS) for line in trees.lines("threshold")]
        thresholds = read(lines)
        thresholds[thresholds == float(_ENDLESS)] = np.inf
        self.threshold = self._filled(thresholds)
        # Of categories alone: where none is asked for, half of each tree's lines is not looked at.
        names = ("cat_boundaries", "cat_threshold") if self._categories.any() else ()
        self.told = [trees.numbers(name) for name in names]
        self.kind: type[Any] = np.uint32 if counts.max() < 32 else np.uint64

    def _filled(self, values: Floats) -> Floats:
        """Return values, one after the other for each node there is, as (trees, nodes)."""
        filled = np.zeros(self.here.shape)
        filled[self.here] = values
        return filled

    def _whole(self, trees: Trees, name: str) -> Integers:
        return self._filled(read(trees.lines(name))).astype(np.int64)

    @property
    def known(self) -> bool:
        """Whether all tests are such that tables can hold them."""
        own = np.arange(self.here.shape[1])
        behind = all(((side > own) | (side < 0) | ~self.here).all() for side in self.children)
        asked = self.feature[self.here]
        codes = np.bincount(asked, self._categories[self.here])
        alike = ((codes == 0) | (codes == np.bincount(asked))).all()
        return own.size < WIDEST and behind and bool(alike) and not (self.decision & _ZERO).any()

    @property
    def order(self) -> Integers:
        """The leaf at each place from the left, (trees, leaves)."""
        return self._ranked[0]

    @cached_property
    def _ranked(self) -> tuple[Integers, Bits]:
        """The order of leaves, and the leaves that each test leaves over where it fails.

        A node stands before those below it: a pass from the last to the first counts the leaves
        below each, and one back gives each its place.
        """
        trees, nodes = self.here.shape
        # Behind the nodes stands one for all leaves, and for what is not there. A node of all
        # trees lies side by side, which is what is worked on at once.
        left, right = (
            np.where(self.here & (side >= 0), side, nodes).T * trees + np.arange(trees)
            for side in self.children
        )
        below = np.ones((nodes + 1) * trees, dtype=np.int64)
        own = below.reshape(-1, trees)
        for node in range(nodes - 1, -1, -1):
            np.add(below.take(left[node]), below.take(right[node]), out=own[node])
        apart = below.take(left)
        start = np.zeros((nodes + 1) * trees, dtype=np.int64)
        own = start.reshape(-1, trees)
        for node in range(nodes):
            start[left[node]] = own[node]
            start[right[node]] = own[node] + apart[node]
        begin, sizes = (np.ascontiguousarray(one.T) for one in (own[:-1], apart))
        order = np.zeros((trees, nodes + 1), dtype=np.int64)
        for side, place in zip(self.children, (begin, begin + sizes), strict=True):
            above = np.nonzero(self.here & (side < 0))
            order[above[0], place[above]] = ~side[above]
        ones = (np.uint64(1) << sizes.astype(np.uint64)) - np.uint64(1)
        return order, ~(ones << begin.astype(np.uint64)).astype(self.kind)

    def columns(self) -> list[Thresholds | Categories]:
        """Return the table of each column that a tree asks for."""
        found: list[Thresholds | Categories] = []
        for column in np.unique(self.feature[self.here]).tolist():
            tree, node = np.nonzero(self.here & (self.feature == column))
            numbers = not self._categories[tree[0], node[0]]
            found.append((self._numbers if numbers else self._codes)(column, tree, node))
        return found

    @cached_property
    def _categories(self) -> NDArray[np.bool_]:
        """Which tests ask for categories."""
        return (self.decision & _CATEGORY).astype(bool)

    def _all(self, lines: int) -> Bits:
        return np.full((lines, len(self.here)), np.iinfo(self.kind).max, dtype=self.kind)

    def _numbers(self, column: int, tree: Integers, node: Integers) -> Thresholds:
        ascending = np.argsort(self.threshold[tree, node], kind="stable")
        tree, node = tree[ascending], node[ascending]
        threshold, over = self.threshold[tree, node], self._ranked[1][tree, node]
        # Many tests ask for the same threshold: one line for them all is quicker to find.
        past = _past_nothing(threshold)
        new = np.append(True, past[1:] != past[:-1])
        lines = np.cumsum(new)
        left = self._all(int(lines[-1]) + 2)
        np.bitwise_and.at(left.reshape(-1), lines * len(self.here) + tree, over)
        np.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
        # Where nothing was missing in training, LightGBM takes what is for zero.
        decision = self.decision[tree, node]
        fails = np.where(decision & _NAN, ~decision & _LEFT, threshold < 0).astype(bool)
        np.bitwise_and.at(left[-1], tree[fails], over[fails])
        return Thresholds(column, np.append(past[new], np.inf), left)

    def _codes(self, column: int, tree: Integers, node: Integers) -> Categories:
        over = self._ranked[1][tree, node]
        asked = [self._asked(*place) for place in zip(tree, node, strict=True)]
        left = self._all(max(len(one) for one in asked) + 1)
        for one, place, rest in zip(asked, tree, over, strict=True):
            fails = np.ones(len(left), dtype=bool)
            fails[: len(one)] = ~one
            left[fails, place] &= rest
        return Categories(column, left)

    def _asked(self, tree: int, node: int) -> NDArray[np.bool_]:
        """Return for each code whether a test of categories asks for it."""
        place = int(self.threshold[tree, node])
        bounds, words = (one[tree] for one in self.told)
        first, last = bounds[place : place + 2].astype(int)
        words = words[first:last].astype("<u4")
        return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
