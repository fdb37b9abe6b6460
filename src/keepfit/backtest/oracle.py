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


@dataclass(frozen=True)
class Oracle:
    """For every number of trainings the least loss that trained models could have had.

    A path cuts the windows into reigns, each served by a model that was trained before the
    reign began. The least loss of at most k reigns follows from that of k - 1 by dynamic
    programming over the last cut (Bellman 1961, as for segmented least squares):

        best(k, b) = min over a < b of best(k - 1, a) + least(a, b)

    where least(a, b) is that of the one model that does best on the windows from a to b.
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
        totals = self._solved[0]
        return float(totals[self._held(trainings), -1] / self.losses.shape[1])

    def path(self, trainings: int) -> list[Reign]:
        """Return which models serve from which window on, in order, at that loss."""
        _, cuts = self._solved
        k, end = self._held(trainings), self.losses.shape[1]
        found: list[Reign] = []
        while end > 0:
            begin = int(cuts[k, end])
            found.append(Reign(begin, int(self._least[1][begin, end])))
            k, end = k - 1, begin
        return found[::-1]

    @property
    def enough(self) -> int:
        """The number of trainings from which on one more gains nothing."""
        return len(self._solved[0]) - 1

    def _held(self, trainings: int) -> int:
        return min(max(trainings, 1), self.enough)

    @cached_property
    def _least(self) -> tuple[Array, NDArray[np.intp]]:
        """The loss of the best model for each stretch of windows, and that model."""
        models, windows = self.losses.shape
        worst = np.nanmax(self.losses, initial=0.0)
        known = np.where(np.isfinite(self.losses), self.losses, worst + UNDEFINED)
        sums = np.concatenate([np.zeros((models, 1)), known.cumsum(axis=1)], axis=1)
        least = np.full((windows + 1, windows + 1), np.inf)
        model = np.zeros((windows + 1, windows + 1), dtype=np.intp)
        for begin in range(windows):
            able = np.flatnonzero(self.starts <= begin)
            if not able.size:
                continue
            totals = sums[able, begin + 1 :] - sums[able, begin : begin + 1]
            best = totals.argmin(axis=0)
            least[begin, begin + 1 :] = totals[best, np.arange(best.size)]
            model[begin, begin + 1 :] = able[best]
        return least, model

    @cached_property
    def _solved(self) -> tuple[Array, NDArray[np.intp]]:
        """The least total loss, and the last cut, by number of reigns and end."""
        least, _ = self._least
        windows = self.losses.shape[1]
        totals = [np.full(windows + 1, np.inf)]
        totals[0][0] = 0.0
        cuts = [np.zeros(windows + 1, dtype=np.intp)]
        for k in range(1, max(1, min(self.most, windows)) + 1):
            tried = totals[-1][:, None] + least
            cut = tried.argmin(axis=0)
            total = tried[cut, np.arange(windows + 1)]
            total[0] = 0.0
            if k > 1 and total[-1] >= totals[-1][-1] - 1e-12:
                break
            totals.append(total)
            cuts.append(cut)
        return np.array(totals), np.array(cuts)
