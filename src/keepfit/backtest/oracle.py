"""The best that could have been done, known only in hindsight: which models to serve, and when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNDEFINED = 1e6
"""Loss beyond the worst of a window in which a model's metric is not defined."""


class Reign(NamedTuple):
    """A model that serves from a window on."""

    window: int
    model: int


class _Solved(NamedTuple):
    """The least total loss by number of reigns; the last reign's begin and model, by window too."""

    totals: Array
    begins: NDArray[np.int32]
    models: NDArray[np.int32]


@dataclass(frozen=True)
class Oracle:
    """For every number of trainings the least loss that trained models could have had.

    A path cuts the windows into reigns, each served by a model that was trained before the
    reign began; a model may come back later, as concepts do, and that is another reign. The
    least loss up to window j of at most k reigns, the last one that of model m, follows by
    dynamic programming (Bellman 1957): the model stays, or takes over from the best one.

        best(k, j, m) = loss(m, j) + min(best(k, j - 1, m), min over n of best(k - 1, j - 1, n))

    The oracle sees the future; no trigger can. What it reaches with as many trainings as a
    policy bounds what that policy could have reached with the same recipes.

    Parameters
    ----------
    losses
        (models, windows): how badly a model does on a window, less is better.
    starts
        (models,): the first window that a model may serve.
    most
        The largest number of trainings that is asked for.

    Examples
    --------
    >>> losses = np.array([[0.1, 0.1, 0.6, 0.6], [0.9, 0.9, 0.2, 0.2]])
    >>> oracle = Oracle(losses, np.array([0, 2]), most=3)
    >>> oracle.path(2)
    [Reign(window=0, model=0), Reign(window=2, model=1)]
    >>> oracle.loss(1), round(oracle.loss(2), 3)
    (0.35, 0.15)
    """

    losses: Array
    starts: NDArray[np.intp]
    most: int

    def loss(self, trainings: int) -> float:
        """Return the least mean loss with at most so many trainings, the first one included."""
        return float(self._solved.totals[self._held(trainings) - 1] / self.losses.shape[1])

    def path(self, trainings: int) -> list[Reign]:
        """Return which models serve from which window on, in order, at that loss."""
        solved = self._solved
        k, end = self._held(trainings), self.losses.shape[1]
        found: list[Reign] = []
        while end > 0:
            last = min(k, end) - 1, end - 1
            end, k = int(solved.begins[last]), k - 1
            found.append(Reign(end, int(solved.models[last])))
        return found[::-1]

    @property
    def enough(self) -> int:
        """The number of trainings from which on no number of further ones gains anything."""
        return len(self._solved.totals)

    def _held(self, trainings: int) -> int:
        return min(max(trainings, 1), self.enough)

    @cached_property
    def _known(self) -> Array:
        """The losses, that of a window without a metric beyond all others."""
        finite = np.isfinite(self.losses)
        worst = np.max(self.losses, where=finite, initial=0.0)
        return np.where(finite, self.losses, worst + UNDEFINED)

    @cached_property
    def _solved(self) -> _Solved:
        """All numbers of reigns at once, window by window."""
        windows = self.losses.shape[1]
        # Models in the order of their starts: those that may serve a window come first.
        order = np.argsort(self.starts, kind="stable")
        losses = self._known[order]
        able = np.searchsorted(self.starts[order], np.arange(windows), side="right")
        free = np.where(np.arange(len(order))[:, None] < able, losses, np.inf)
        # No path is better than that of each window's best model: more reigns gain nothing. One
        # reign that gains nothing is no such sign, as a second may gain by going back.
        cuts = 1 + int(np.count_nonzero(np.diff(free.argmin(axis=0))))
        most = max(1, min(self.most, cuts))
        totals, since = np.full((most, len(order)), np.inf), np.zeros((most, len(order)), np.int32)
        best = np.full(most, np.inf)
        begins, models = np.zeros((2, most, windows), dtype=np.int32)
        for window in range(windows):
            rows, n = min(most, window + 1), able[window]
            if 0 < window < most:  # so many windows have as many reigns, and no more
                totals[window], since[window] = totals[window - 1], since[window - 1]
                best[window] = best[window - 1]
            total, began = totals[:rows, :n], since[:rows, :n]
            if window:
                other = np.concatenate([[np.inf], best[: rows - 1]])[:, None]
                began[total > other] = window
                np.minimum(total, other, out=total)
            else:
                total[:] = 0.0
            total += losses[:n, window]
            if n:
                least = total.min(axis=1)
                # Of those that are as good, the one that has served the longest.
                chosen = np.where(total == least[:, None], began, windows).argmin(axis=1)
                best[:rows], models[:rows, window] = least, order[chosen]
                begins[:rows, window] = began[np.arange(rows), chosen]
        slack = 1e-12 * np.abs(free.min(axis=0)).sum()
        enough = int(np.argmax(best <= best[-1] + slack)) + 1
        return _Solved(best[:enough], begins[:enough], models[:enough])
