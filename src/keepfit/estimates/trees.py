"""Boosted symmetric trees: one cut for all branches of a level, so that a batch is quick.

A tree of four levels answers with four comparisons of whole columns and one look-up, which
is several times faster than walking each row down its own path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.uint8]

CUTS = 63
"""Cuts of a column at most: even shares of its values."""

TRIED = 16
"""Columns that a tree looks at, drawn anew for each where there are more."""

STEPS = 2**20
"""Steps between zero and the largest distance of a row from its goal, where they are packed."""


class Trees(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A sum of symmetric trees over columns of numbers; a missing value is below every cut."""

    start: float
    columns: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[float, ...], ...]
    leaves: tuple[tuple[float, ...], ...]

    def __call__(self, matrix: Sequence[Array] | Array) -> Array:
        """Return the sum of the trees for rows, given as one line per column."""
        total = np.full(len(matrix[0]), self.start)
        both = np.empty(total.size, dtype=np.uint16)
        size, places = self._size, self.places(matrix)
        for table in self._tables:
            # Two trees are looked up at once, which takes most of the time.
            np.multiply(next(places), size, out=both, dtype=np.uint16)
            if table.size > size:
                np.add(both, next(places), out=both)
                total += table.take(both)
            else:
                total += table.take(both // size)
        return total

    @property
    def _size(self) -> int:
        return len(self.leaves[0]) if self.leaves else 1

    @cached_property
    def _tables(self) -> list[Array]:
        """The leaves of two trees each, added up: of every pair of leaves; the last may be alone."""
        leaves = [np.array(one) for one in self.leaves]
        pairs = zip_longest(leaves[::2], leaves[1::2])
        return [one if two is None else np.add.outer(one, two).ravel() for one, two in pairs]

    def places(self, matrix: Sequence[Array] | Array) -> Iterator[Codes]:
        """Yield, for each tree, in which of its leaves each row is, in one array for all trees."""
        rows = len(matrix[0])
        # Written over again and again, as new arrays would take a third more time.
        place, above = np.empty(rows, dtype=np.uint8), np.empty(rows, dtype=bool)
        bit = above.view(np.uint8)
        for columns, cuts in zip(self.columns, self.cuts, strict=True):
            # The first cut is written as it is: there is nothing above it yet.
            np.greater(matrix[columns[0]], cuts[0], out=place.view(bool))
            for column, cut in zip(columns[1:], cuts[1:], strict=True):
                np.add(place, place, out=place)
                np.greater(matrix[column], cut, out=above)
                np.bitwise_or(place, bit, out=place)
            yield place

    def moved(self, by: float) -> Trees:
        """Return the same trees with a constant added."""
        return msgspec.structs.replace(self, start=self.start + by)


@dataclass(frozen=True)
class Boost:
    """How trees are grown: how many, how deep, how much of each counts.

    ``ridge`` is added to the weight of every leaf, which draws leaves of few rows to zero.
    ``logistic`` trees answer log odds of goals 0 and 1; others values with least squares.
    """

    trees: int = 40
    depth: int = 4
    rate: float = 0.15
    ridge: float = 20.0
    logistic: bool = False

    def grow(self, codes: Codes, cuts: Sequence[Array], goal: Array, *, seed: int = 0) -> Trees:
        """Return trees grown on columns cut into codes.

        References
        ----------
        Friedman, Greedy function approximation (2001); Prokhorenkova et al., CatBoost (2018)
        for symmetric trees; Chen and Guestrin, XGBoost (2016) for the gain of a cut.
        """
        generator = np.random.default_rng(seed)
        # A column that does not vary offers no cut.
        useful = np.flatnonzero([cut.size > 0 for cut in cuts])
        start = float(goal.mean())
        if self.logistic:
            start = float(np.log(start / (1 - start)))
        answer = np.full(goal.size, start)
        cells = codes.astype(np.intp)  # once, and not with every count
        grown: list[_Tree] = []
        for _ in range(self.trees if useful.size else 0):
            tried = useful
            if useful.size > TRIED:
                tried = np.sort(generator.choice(useful, TRIED, replace=False))
            tree, place = self._tree(cells, cuts, tried, self._slopes(answer, goal))
            grown.append(tree)
            answer += tree.leaves[place]
        return Trees(
            start=start,
            columns=tuple(tuple(tree.columns) for tree in grown),
            cuts=tuple(
                tuple(float(cuts[column][bin_]) for column, bin_ in zip(*tree[:2], strict=True))
                for tree in grown
            ),
            leaves=tuple(tuple(tree.leaves.tolist()) for tree in grown),
        )

    def answered(self, places: NDArray[np.uint8], goal: Array, asked: NDArray[np.bool_]) -> Array:
        """Return what trees of the same cuts answer rows, their leaves learnt from the others.

        ``places`` says in which leaf of each tree each row is, ``asked`` which rows are asked.
        Cuts hardly depend on a few of many rows, and take most of the time that trees do.
        """
        size = 2**self.depth
        learnt = goal[~asked]
        start = float(learnt.mean())
        known, found = np.full(learnt.size, start), np.full(goal.size - learnt.size, start)
        for place in places:
            own = place[~asked]
            pull = np.bincount(own, learnt - known, minlength=size)
            leaves = self.rate * pull / (np.bincount(own, minlength=size) + self.ridge)
            known += leaves.take(own)
            found += leaves.take(place[asked])
        return found

    def _slopes(self, answer: Array, goal: Array) -> _Slopes:
        """Return how far each row is from its goal, and its weight."""
        if not self.logistic:
            return _Slopes(goal - answer)
        chance = 1 / (1 + np.exp(-answer))
        return _Slopes(goal - chance, chance * (1 - chance))

    def _tree(
        self,
        cells: NDArray[np.intp],
        cuts: Sequence[Array],
        tried: NDArray[np.intp],
        slopes: _Slopes,
    ) -> tuple[_Tree, NDArray[np.intp]]:
        place = np.zeros(cells.shape[1], dtype=np.intp)
        columns: list[int] = []
        bins: list[int] = []
        allowed = np.arange(CUTS) < np.array([cuts[column].size for column in tried])[:, None]
        for level in range(self.depth):
            pull, mass = slopes.sums(cells, tried, place, 2**level)
            gains = np.where(allowed, self._gains(pull, mass), -np.inf)
            best, bin_ = divmod(int(gains.argmax()), CUTS)
            columns.append(int(tried[best]))
            bins.append(bin_)
            place = 2 * place + (cells[columns[-1]] > bin_)
        pull, mass = slopes.totals(place, 2**self.depth)
        return _Tree(columns, bins, self.rate * pull / (mass + self.ridge)), place

    def _gains(self, pull: Array, mass: Array) -> Array:
        """Return what each cut of each column is worth, all leaves together.

        ``pull`` and ``mass`` are what lies below a cut, of (columns, leaves, cuts and the end).
        """
        gain = self._worth(pull, mass)
        gain += self._worth(pull[..., -1:] - pull, mass[..., -1:] - mass)
        return np.asarray(gain.sum(axis=1)[:, :-1])

    def _worth(self, pull: Array, mass: Array) -> Array:
        worth = np.square(pull)
        worth /= mass + self.ridge
        return worth


class _Slopes:
    """How far rows are from their goals, and what they weigh, to be added up by cells.

    Where all rows weigh 1, both are added up in one number: the count in its upper bits, and
    below them what the rows are apart, in steps of a millionth of the largest. Such sums are
    whole numbers below 2 to the power of 53, and exact.
    """

    def __init__(self, gradient: Array, weight: Array | None = None) -> None:
        self._gradient, self._weight = gradient, weight
        most = float(np.abs(gradient).max(initial=0.0))
        self._step = most / STEPS if most > 0 else 1.0
        self._unit = 2.0 ** (int(STEPS * gradient.size).bit_length() + 1)
        self._packed = weight is None and self._unit * gradient.size < 2.0**52
        if self._packed:
            self._gradient = np.rint(gradient / self._step) + self._unit

    def sums(
        self,
        cells: NDArray[np.intp],
        tried: NDArray[np.intp],
        place: NDArray[np.intp],
        leaves: int,
    ) -> tuple[Array, Array]:
        """Return distances and weights below each cut: (columns, leaves, cuts and the end)."""
        width = CUTS + 1
        first = place * width
        shape = (tried.size, leaves * width)
        summed, weighed = np.empty(shape), np.empty(shape)
        cell = np.empty_like(first)
        for row, column in enumerate(tried):
            np.add(first, cells[column], out=cell)
            summed[row] = np.bincount(cell, self._gradient, minlength=shape[1])
            if not self._packed:
                weighed[row] = np.bincount(cell, self._weight, minlength=shape[1])
        cubes = (tried.size, leaves, width)
        return self._parted(
            summed.reshape(cubes).cumsum(axis=2),
            None if self._packed else weighed.reshape(cubes).cumsum(axis=2),
        )

    def totals(self, place: NDArray[np.intp], leaves: int) -> tuple[Array, Array]:
        """Return distances and weights of each leaf."""
        summed = np.bincount(place, self._gradient, minlength=leaves).astype(np.float64)
        if self._packed:
            return self._parted(summed, None)
        weighed = np.bincount(place, self._weight, minlength=leaves).astype(np.float64)
        return self._parted(summed, weighed)

    def _parted(self, summed: Array, weighed: Array | None) -> tuple[Array, Array]:
        if weighed is not None:
            return summed, weighed
        mass = np.rint(summed / self._unit)
        summed -= mass * self._unit
        summed *= self._step
        return summed, mass


class _Tree(NamedTuple):
    columns: list[int]
    bins: list[int]
    leaves: Array


def cuts_of(values: Array) -> Array:
    """Return where to cut a column: even shares of its values, and missing from present."""
    present = values[np.isfinite(values)]
    if not present.size:
        return np.empty(0)
    shares = np.quantile(present, np.linspace(0, 1, CUTS + 1)[1:-1], method="lower")
    found = np.unique(shares)
    found = found[found < present.max()]
    return np.append(-np.inf, found) if present.size < values.size else found


def coded(values: Array, cuts: Array) -> Codes:
    """Return, for each value, how many cuts it is above; 0 for a missing one."""
    codes = cuts.searchsorted(values, side="left")
    codes[np.isnan(values)] = 0
    return codes.astype(np.uint8)
