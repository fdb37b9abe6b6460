"""Terms that tell two sets of rows apart: found on some folds, judged on another."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from keepfit.drift.multivariate.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np

FOLDS = 4

_PAIRED = 256
"""Numbers of a row of which products are formed: their count grows with the square."""

_TERMS = 96
"""Terms that the discriminant takes at most; with all of them it would learn the noise."""

_NOTABLE = 1.5
"""Standard errors by which the means of a term must differ for it to be taken."""

_RIDGE = 0.1
"""What is added to the terms' variance of one, so that terms that are alike share the weight."""

_HALF_INSIDE = 0.6745
"""Half of a normal distribution lies within so many spreads."""


class Terms:
    """Values of a reference and a batch, one row per number, and what their folds add up to."""

    def __init__(self, there: np.ndarray, here: np.ndarray, encoder: Encoder) -> None:
        import numpy as np

        self.encoder = encoder
        self.sizes = len(there), len(here)
        self.folds = min(FOLDS, *self.sizes)
        self.sides = [_rows(there), _rows(here)]
        middle = self.sides[0].mean(axis=1, keepdims=True)
        spread = self.sides[0].std(axis=1, keepdims=True)
        spread[spread < 1e-3] = 1.0
        self.sides = [(side - middle) / spread for side in self.sides]
        measured = encoder.measured
        self.shapes = [_shapes(side[measured]) for side in self.sides]
        self.owners = np.concatenate([encoder.owners, np.tile(encoder.owners[measured], 2)])
        self.moments = [
            [self._moments(side, fold) for fold in range(self.folds)] for side in (0, 1)
        ]

    def _moments(self, side: int, fold: int) -> tuple[int, list[np.ndarray]]:
        """Return the rows of a fold, and sums of terms and of their squares."""
        values = self.sides[side][:, fold :: self.folds]
        shapes = self.shapes[side][:, fold :: self.folds]
        paired = values[:_PAIRED]
        squares = paired**2
        sums = [
            _sums(values, shapes),
            _sums(values**2, shapes**2),
            paired @ paired.T,
            squares @ squares.T,
        ]
        return values.shape[1], sums

    def learnt(self, side: int, fold: int) -> tuple[int, list[np.ndarray]]:
        """Return rows and sums of all folds but one."""
        import numpy as np

        others = [self.moments[side][other] for other in range(self.folds) if other != fold]
        rows = sum(count for count, _ in others)
        return rows, [
            np.add.reduce(parts) for parts in zip(*(sums for _, sums in others), strict=True)
        ]

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the first and the second number of every product."""
        import numpy as np

        return np.triu_indices(min(_PAIRED, len(self.sides[0])))

    def notable(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the single terms and the pairs whose means differ most outside a fold."""
        import numpy as np

        first, second = self.learnt(0, fold), self.learnt(1, fold)
        single = _differences(first, second, 0)
        double = _differences(first, second, 2)[self.pairs]
        size = np.concatenate([single, double])
        best = np.argsort(-size, kind="stable")[:_TERMS]
        best = best[size[best] > _NOTABLE]
        return best[best < single.size], best[best >= single.size] - single.size

    def values(self, side: int, single: np.ndarray, double: np.ndarray) -> np.ndarray:
        """Return the terms of all rows of a side, one row per term."""
        import numpy as np

        values, shapes = self.sides[side], self.shapes[side]
        plain = single < len(values)
        first, second = (index[double] for index in self.pairs)
        return np.concatenate(
            [
                values[single[plain]],
                shapes[single[~plain] - len(values)],
                values[first] * values[second],
            ]
        )

    def owned(self, single: np.ndarray, double: np.ndarray) -> np.ndarray:
        """Return which column (a row each) has a part in which term."""
        import numpy as np

        plain = single < len(self.sides[0])
        ordered = np.concatenate([single[plain], single[~plain]])
        first, second = (self.owners[index[double]] for index in self.pairs)
        columns = np.arange(len(self.encoder.fields))[:, None]
        mine: np.ndarray = np.concatenate([self.owners[ordered], first]) == columns
        mine[:, ordered.size :] |= second == columns
        return mine


class Fold:
    """A linear discriminant learnt from all folds but one, and that one to judge it on."""

    def __init__(self, terms: Terms, fold: int) -> None:
        import numpy as np

        single, double = terms.notable(fold)
        sides = [terms.values(side, single, double) for side in (0, 1)]
        learnt = [np.delete(side, np.s_[fold :: terms.folds], axis=1) for side in sides]
        self._tested = [side[:, fold :: terms.folds] for side in sides]
        self.owned = terms.owned(single, double)
        means = [side.mean(axis=1, keepdims=True) for side in learnt]
        centred = np.concatenate(
            [side - mean for side, mean in zip(learnt, means, strict=True)], axis=1
        )
        spread = np.sqrt((centred**2).mean(axis=1, dtype=np.float64))
        spread[spread == 0] = 1.0
        self._spread = spread
        self._apart = (means[1] - means[0])[:, 0] / spread
        self._together = (centred @ centred.T) / centred.shape[1] / np.outer(spread, spread)
        self._together += _RIDGE * np.eye(len(spread))

    def auc(self, chosen: np.ndarray | None = None) -> float:
        """Return the AUC on the fold of all terms, or of some; 0.5 where there is none."""
        import numpy as np

        if chosen is None:
            chosen = np.ones(len(self._spread), dtype=bool)
        if not chosen.any():
            return 0.5
        kept = np.ix_(chosen, chosen)
        weights = np.linalg.solve(self._together[kept], self._apart[chosen])
        weights = (weights / self._spread[chosen]).astype(np.float32)
        return auc(*(weights @ side[chosen] for side in self._tested))


def auc(there: np.ndarray, here: np.ndarray) -> float:
    """Return the chance that a row of the batch scores above one of the reference."""
    import numpy as np

    # Places of sorted values are found several times as fast.
    ordered, asked = np.sort(there), np.sort(here)
    below = np.searchsorted(ordered, asked, side="left")
    upto = np.searchsorted(ordered, asked, side="right")
    return float((below + upto).mean() / 2 / ordered.size)


def _differences(
    first: tuple[int, list[np.ndarray]], second: tuple[int, list[np.ndarray]], kind: int
) -> np.ndarray:
    """Return by how many standard errors the means of terms differ."""
    import numpy as np

    means = [sums[kind] / rows for rows, sums in (first, second)]
    squares = (first[1][kind + 1] + second[1][kind + 1]) / (first[0] + second[0])
    weight = first[0] / (first[0] + second[0])
    variance = squares - weight * means[0] ** 2 - (1 - weight) * means[1] ** 2
    error = np.sqrt(variance.clip(1e-12) * (1 / first[0] + 1 / second[0]))
    differences: np.ndarray = np.abs(means[1] - means[0]) / error
    return differences


def _rows(values: np.ndarray) -> np.ndarray:
    """Return one row per number, so that a choice of numbers is a choice of rows."""
    import numpy as np

    return np.ascontiguousarray(values.T, dtype=np.float32)


def _shapes(values: np.ndarray) -> np.ndarray:
    """Return what of a shape neither mean nor square shows: the middle half, and cut values."""
    import numpy as np

    inside = (np.abs(values) < _HALF_INSIDE).astype(np.float32)
    return np.concatenate([inside, np.clip(values, -1, 1)])


def _sums(values: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.concatenate([values.sum(axis=1), shapes.sum(axis=1)])
