"""Boosted symmetric trees: one cut for all branches of a level, so that a batch is quick.

A tree of four levels answers with four comparisons of whole columns and one look-up, which
is several times faster than walking each row down its own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


class Trees(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of symmetric trees over columns of numbers; a missing value is below every cut."""

    start: float
    columns: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[float, ...], ...]
    leaves: tuple[tuple[float, ...], ...]

    def __call__(self, matrix: Sequence[Array] | Array) -> Array:
        """Return the sum of the trees for rows, given as one line per column."""
        rows = len(matrix[0])
        total = np.full(rows, self.start)
        # Written over again and again, as new arrays would take a third more time.
        place, above = np.empty(rows, dtype=np.uint8), np.empty(rows, dtype=bool)
        bit = above.view(np.uint8)
        for columns, cuts, leaves in zip(self.columns, self.cuts, self.leaves, strict=True):
            place.fill(0)
            for column, cut in zip(columns, cuts, strict=True):
                np.add(place, place, out=place)
                np.greater(matrix[column], cut, out=above)
                np.bitwise_or(place, bit, out=place)
            total += np.array(leaves).take(place)
        return total

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
        grown: list[_Tree] = []
        for _ in range(self.trees if useful.size else 0):
            tried = useful
            if useful.size > TRIED:
                tried = np.sort(generator.choice(useful, TRIED, replace=False))
            gradient, weight = self._slopes(answer, goal)
            tree, place = self._tree(codes, cuts, tried, gradient, weight)
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

    def _slopes(self, answer: Array, goal: Array) -> tuple[Array, Array | None]:
        """Return how far each row is from its goal, and its weight: None where all weigh 1."""
        if not self.logistic:
            return goal - answer, None
        chance = 1 / (1 + np.exp(-answer))
        return goal - chance, chance * (1 - chance)

    def _tree(
        self,
        codes: Codes,
        cuts: Sequence[Array],
        tried: NDArray[np.intp],
        gradient: Array,
        weight: Array | None,
    ) -> tuple[_Tree, NDArray[np.intp]]:
        place = np.zeros(gradient.size, dtype=np.intp)
        columns: list[int] = []
        bins: list[int] = []
        for level in range(self.depth):
            gains = np.full((tried.size, CUTS), -np.inf)
            first = place * (CUTS + 1)
            for row, column in enumerate(tried):
                found = self._gain(first + codes[column], 2**level, gradient, weight)
                gains[row, : cuts[column].size] = found[: cuts[column].size]
            best, bin_ = divmod(int(gains.argmax()), CUTS)
            columns.append(int(tried[best]))
            bins.append(bin_)
            place = 2 * place + (codes[columns[-1]] > bin_)
        size = 2**self.depth
        mass = np.bincount(place, weight, minlength=size) + self.ridge
        leaves = self.rate * np.bincount(place, gradient, minlength=size) / mass
        return _Tree(columns, bins, leaves), place

    def _gain(
        self,
        cell: NDArray[np.intp],
        leaves: int,
        gradient: Array,
        weight: Array | None,
    ) -> Array:
        """Return what each cut of a column is worth, all leaves together.

        ``cell`` numbers the codes of a column, leaf by leaf.
        """
        shape = (leaves, CUTS + 1)
        pull = np.bincount(cell, gradient, minlength=leaves * shape[1]).reshape(shape)
        mass = np.bincount(cell, weight, minlength=leaves * shape[1]).reshape(shape)
        below, light = pull.cumsum(axis=1), mass.cumsum(axis=1)
        above, heavy = below[:, -1:] - below, light[:, -1:] - light
        gain = below**2 / (light + self.ridge) + above**2 / (heavy + self.ridge)
        return np.asarray(gain.sum(axis=0)[:-1])


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
