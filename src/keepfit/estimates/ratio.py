"""How much likelier each reference row is in a batch than it was in the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keepfit.estimates.trees import Boost, Codes

Array = NDArray[np.float64]

CLASSIFIER = Boost(trees=20, depth=3, rate=0.3, ridge=5.0, logistic=True)

LARGEST = 20.0
"""The most that a row may count, where the mean is 1: a few rows must not decide alone."""

SURE = 3.0
"""Standard errors by which the classifier must tell the batch from the reference."""

ENOUGH = 100
"""Rows on either side below which nothing is weighted."""

STEPS = 25


def weights_of(reference: Codes, batch: Codes, cuts: Sequence[Array], *, seed: int) -> Array | None:
    """Return a weight for each reference row, of mean 1; None when the batch is like it.

    A classifier learns to tell the rows of one from those of the other; its odds are the
    ratio of their densities. It answers for rows it has not learnt from, in two halves, and
    those answers are recalibrated on a line. Where nothing has drifted the line is flat, and
    all weights would be 1 but for noise: None says so, and costs no precision.

    References
    ----------
    Bickel, Brückner and Scheffer, Discriminative learning under covariate shift (2009);
    Sugiyama, Suzuki and Kanamori, Density ratio estimation in machine learning (2012).
    """
    codes = np.concatenate([reference, batch], axis=1)
    there = np.arange(codes.shape[1]) >= reference.shape[1]
    half = np.concatenate([np.arange(part.shape[1]) % 2 for part in (reference, batch)])
    odds = np.empty(there.size)
    for out in (0, 1):
        kept = half != out
        trees = CLASSIFIER.grow(codes[:, kept], cuts, there[kept].astype(np.float64), seed=seed)
        odds[~kept] = trees(_values(codes[:, ~kept], cuts))
    slope, error, level = _line(odds, there)
    if not slope > SURE * error:
        return None
    ratio = np.exp(np.clip(level + slope * odds[: reference.shape[1]], -30, 30))
    ratio /= ratio.mean()
    ratio = np.minimum(ratio, LARGEST)
    return np.asarray(ratio / ratio.mean())


def effective(weights: Array) -> float:
    """Return how many rows of equal weight tell as much (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _values(codes: Codes, cuts: Sequence[Array]) -> list[Array]:
    """Return a value that lies above as many cuts as each code says."""
    tops = [np.append(cut, np.inf) for cut in cuts]
    return [top[line] for top, line in zip(tops, codes, strict=True)]


def _line(odds: Array, there: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return slope, its standard error, and level of log odds on a line (Platt 1999)."""
    design = np.column_stack([np.ones(odds.size), odds - odds.mean()])
    found = np.array([np.log(there.mean() / (1 - there.mean())), 0.0])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-design @ found))
        weight = chance * (1 - chance)
        # A breath of ridge, for classifiers that answer one and the same for all rows.
        curve = design.T @ (design * weight[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curve, design.T @ (there - chance))
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    error = float(np.linalg.inv(curve)[1, 1] ** 0.5)
    return float(found[1]), error, float(found[0] - found[1] * odds.mean())
