"""How much likelier each reference row is in a batch than it was in the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from keepfit.estimates.trees import Boost, Codes

Array = NDArray[np.float64]

CLASSIFIER = Boost(trees=20, depth=3, rate=0.3, ridge=5.0, logistic=True)

LARGEST = 20.0
"""The most that a row may count, where the mean is 1: a few rows must not decide alone."""

SURE = 3.0
"""Standard errors by which the classifier must tell the batch from the reference."""

ENOUGH = 100
"""Rows on either side below which nothing is weighted."""

LEARNT = 10_000
"""Rows of either side that the classifier learns from; it answers for all of the reference."""

STEPS = 50


def ratio_of(reference: Codes, batch: Codes, cuts: Sequence[Array], *, seed: int) -> Array | None:
    """Return how much likelier each reference row is in the batch; None when none is.

    A classifier learns to tell the rows of one from those of the other; its odds are the
    ratio of their densities. It answers for rows it has not learnt from, in two halves, and
    those answers are recalibrated on a line. Where nothing has drifted the line is flat, and
    all ratios would be 1 but for noise: None says so, and costs no precision.

    Ratios are cut off where they are largest. Their mean is the share of the batch that the
    reference covers: 1 where it holds all kinds of its rows, less where some of them are
    rare in it or missing, of which no weight can make more. ``batch`` is the part of its
    rows that `every` names; ``reference`` is whole.

    References
    ----------
    Bickel, Brückner and Scheffer, Discriminative learning under covariate shift (2009);
    Sugiyama, Suzuki and Kanamori, Density ratio estimation in machine learning (2012);
    Ionides, Truncated importance sampling (2008).
    """
    learnt = every(reference.shape[1])
    sides = (reference[:, learnt], batch)
    there = np.concatenate([np.full(side.shape[1], side is batch) for side in sides])
    half = np.concatenate([np.arange(side.shape[1]) % 2 for side in sides])
    told, rows = np.concatenate(sides, axis=1), _values(reference, cuts)
    odds, answers = np.empty(there.size), np.zeros(reference.shape[1])
    for out in (0, 1):
        kept = half != out
        trees = CLASSIFIER.grow(told[:, kept], cuts, there[kept].astype(np.float64), seed=seed)
        odds[~kept] = trees(_values(told[:, ~kept], cuts))
        answers += trees(rows) / 2
    answers[learnt] = odds[~there]
    slope, error, level = _line(odds, there)
    if not slope > SURE * error:
        return None
    found = np.exp(np.clip(level + slope * answers, -30, 30)) * ((~there).sum() / there.sum())
    found = np.minimum(found, LARGEST)
    return np.asarray(found / max(1.0, float(found.mean())))


def effective(ratio: Array) -> float:
    """Return how many rows of equal weight tell as much (Kish 1965), of the share covered."""
    return float(ratio.mean() * ratio.sum() ** 2 / (ratio**2).sum())


def every(rows: int) -> slice:
    """Return which of so many rows are learnt from, evenly spread."""
    return slice(None, None, max(1, -(-rows // LEARNT)))


def _values(codes: Codes, cuts: Sequence[Array]) -> list[Array]:
    """Return a value that lies above as many cuts as each code says."""
    tops = [np.append(cut, np.inf) for cut in cuts]
    return [top[line] for top, line in zip(tops, codes, strict=True)]


def _line(odds: Array, there: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return slope, its standard error, and level of log odds on a line (Platt 1999).

    The slope is drawn to zero as a standard normal prior does, in units of the spread of the
    odds, so that it has an end where a batch is parted from its reference without an error.
    """
    centre, spread = float(odds.mean()), float(odds.std()) or 1.0
    design = np.column_stack([np.ones(odds.size), (odds - centre) / spread])
    found = np.array([np.log(there.mean() / (1 - there.mean())), 0.0])
    prior = np.array([0.0, 1.0])
    for _ in range(STEPS):
        chance = expit(design @ found)
        curve = design.T @ (design * (chance * (1 - chance))[:, None]) + np.diag(prior)
        step = np.linalg.solve(curve, design.T @ (there - chance) - prior * found)
        # A full step may overshoot where the two sides hardly overlap, and never come back.
        step /= max(1.0, float(np.abs(step).max()))
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    slope = float(found[1]) / spread
    error = float(np.linalg.inv(curve)[1, 1] ** 0.5) / spread
    return slope, error, float(found[0]) - slope * centre
