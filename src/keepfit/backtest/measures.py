"""How well a trigger chose its moments: precision, need, hit rate and lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HORIZON = 5
"""Windows over which a fresh model's gain is taken."""

NEAR = 2
"""Windows that a training may lie from one of the oracle's and still meet it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a trigger's moments were worth.

    A training at window t was *needed* when a model trained then gains more than a margin
    over the one that served, on average over the next windows:

        gain(t) = max over m trained at t of mean(loss(serving, j) - loss(m, j), t <= j < t + 5)

    ``precision`` is the share of the trigger's trainings that were needed; ``need`` the share
    of all windows at which one was, which is the precision of training at random. The oracle
    of as many trainings says when they would have done most: ``hit_rate`` is the share of
    its trainings with one of the trigger's within two windows, each counted once, and ``lag``
    the mean number of windows from its trainings to the trigger's next one (what came up to
    two windows sooner counts as at once, and where none follows the windows to the end count).
    The first training, which every policy has, counts nowhere. None: nothing to count.
    """

    precision: float | None = None
    need: float | None = None
    hit_rate: float | None = None
    lag: float | None = None


def measured(
    trained: Sequence[int],
    oracle: Sequence[int],
    serving: Sequence[int],
    losses: Array,
    starts: NDArray[np.intp],
    margin: float,
) -> Measures:
    """Return what a trigger's moments were worth.

    Parameters
    ----------
    trained
        The windows from which models that the trigger asked for could serve.
    oracle
        The windows from which the oracle's models serve.
    serving
        The model that served each window.
    losses, starts
        Those of all models, as in `Oracle`.
    margin
        The gain beyond which a training was needed.
    """
    windows = losses.shape[1]
    gains = np.array([gain(t, serving, losses, starts) for t in range(windows)])
    possible = np.isfinite(gains)
    possible[:1] = False
    mine = [t for t in trained if 0 < t < windows]
    judged = [t for t in mine if possible[t]]
    best = [t for t in oracle if 0 < t < windows]
    return Measures(
        precision=_share([gains[t] > margin for t in judged]),
        need=_share((gains[possible] > margin).tolist()),
        hit_rate=_share(met(best, mine)),
        lag=_mean([_wait(t, mine, windows) for t in best]),
    )


def gain(window: int, serving: Sequence[int], losses: Array, starts: NDArray[np.intp]) -> float:
    """Return what a model trained for a window gains over the one that served before; NaN without one."""
    fresh = np.flatnonzero(starts == window)
    if window == 0 or not fresh.size:
        return float("nan")
    ahead = slice(window, window + HORIZON)
    gains = losses[serving[window - 1], ahead] - losses[fresh, ahead]
    known = np.isfinite(gains)
    counts = known.sum(axis=1)
    if not counts.any():
        return float("nan")
    means = np.where(known, gains, 0.0).sum(axis=1)[counts > 0] / counts[counts > 0]
    return float(means.max())


def met(wanted: Sequence[int], given: Sequence[int], near: int = NEAR) -> list[bool]:
    """Return which wanted moments have a given one near, each of which counts for one.

    Both are in order; taking the earliest that fits meets as many as can be met.

    Examples
    --------
    >>> met([10, 11, 30], [12, 40])
    [True, False, False]
    """
    free = sorted(given)
    found = []
    for moment in sorted(wanted):
        while free and free[0] < moment - near:
            free.pop(0)
        fits = bool(free) and free[0] <= moment + near
        if fits:
            free.pop(0)
        found.append(fits)
    return found


def _wait(moment: int, given: Sequence[int], windows: int) -> float:
    after = [t for t in given if t >= moment - NEAR]
    return float(max(0, min(after) - moment)) if after else float(windows - moment)


def _share(answers: Sequence[bool]) -> float | None:
    return _mean([float(answer) for answer in answers])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
