"""A smooth curve from scores to chances, for references too small for a step function alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]

NEAREST = 1e-6
"""Scores are no nearer to 0 and 1 than this."""

PRIOR = np.array([0.0, 1.0, 1.0, 0.0])
"""The curve that leaves scores as they are."""

STEPS = 25


def curve(scores: Array, labels: Array) -> Callable[[Array], Array]:
    """Return the curve of four parameters that fits labels of 0 and 1 best.

    To beta calibration (Kull and others) it adds the score itself. Log loss counts a label by
    the logarithms of the score and the Brier score counts it by the score, and a curve of
    greatest likelihood keeps the sum of labels times each of its columns: with all of them
    the reference's own log loss and Brier score are what the curve expects of it. A curve
    without the score cannot follow chances that bend in the middle, where answers change.

    Its parameters are drawn to the curve that changes nothing, by as much as a standard
    normal prior does, so that scores which part the labels without an error have one too.

    References
    ----------
    Kull, Silva Filho and Flach, Beta calibration: a well-founded and easily implemented
    improvement on logistic calibration for binary classifiers (2017).
    """
    columns = design(scores)
    found = PRIOR.copy()
    for _ in range(STEPS):
        chance = expit(columns @ found)
        weight = chance * (1 - chance)
        slope = columns.T @ (labels - chance) - (found - PRIOR)
        step = np.linalg.solve((columns.T * weight) @ columns + np.eye(PRIOR.size), slope)
        # A full step from far away may overshoot, and none that is needed is so long.
        step /= max(1.0, float(np.abs(step).max()))
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    return lambda others: np.asarray(expit(design(others) @ found))


def design(scores: Array) -> Array:
    """Return the columns that a curve adds up to log odds."""
    near = np.clip(scores, NEAREST, 1 - NEAREST)
    return np.column_stack([np.ones(near.size), np.log(near), -np.log1p(-near), near])
