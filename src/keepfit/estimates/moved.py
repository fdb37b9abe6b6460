"""How a calibration moves when rows of some kinds become more, and of others fewer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from keepfit.estimates.calibration import Calibration
from keepfit.estimates.curve import design

Array = NDArray[np.float64]

STEPS = 25

FLAT = 1e-9
"""Directions with less than this share of the greatest variance cannot be told apart."""


class Sample(NamedTuple):
    """Reference rows that a calibration has learnt from: the block of each, and its label."""

    blocks: NDArray[np.uint16]
    ones: NDArray[np.bool_]


def moved(plain: Calibration, sample: Sample, ratio: Array) -> Calibration:
    """Return the calibration as it is where rows are so much likelier than they were.

    The mean of the ratio is the share of the new rows that the old ones cover; the others
    are taken to be as the old ones are. Labels that weights favour, less what the plain
    calibration expects of them, say which way it moves: the noise that the sample has with
    and without weights drops out, as with a control variate. Log odds move along a curve of
    four parameters of the plain chance (of beta calibration, and the chance itself), which
    noise bends less than it does steps. Of that move so much counts as is more than noise
    would make of it.

    References
    ----------
    Kull, Silva Filho and Flach, Beta calibration (2017), for the curve; Rao, Large sample
    tests of statistical hypotheses (1948), for the size of a move beside its noise; Hesterberg,
    Weighted average importance sampling and defensive mixture distributions (1995).
    """
    chances = np.array(plain.chances)

    def summed(values: Array | None) -> Array:
        return np.bincount(sample.blocks, values, chances.size).astype(np.float64)

    covered = float(ratio.mean())
    extra = ratio - covered
    pulls = summed(extra * sample.ones) - summed(extra) * chances
    noise = summed(extra**2) * chances * (1 - chances)
    weights, squares = summed(ratio), summed(ratio**2)
    curve = design(chances)
    own = _beyond_noise(curve.T @ pulls, (curve.T * noise) @ curve)
    if own:
        even = weights + (1 - covered) * summed(None)
        chances = _bent(chances, curve, own * _bend(chances, curve, pulls, even))
    # A block that no row of the sample speaks for is hardly known.
    rows = np.where(squares > 0, covered * weights**2 / np.where(squares > 0, squares, 1), 0)
    return Calibration(
        lows=plain.lows,
        highs=plain.highs,
        chances=tuple(chances.tolist()),
        rows=tuple(np.maximum(rows, 1.0).tolist()),
    )


def _beyond_noise(pull: Array, variance: Array) -> float:
    """Return the share of a pull's square that is no noise, which alone has a mean of 1 each."""
    sizes, ways = np.linalg.eigh(variance)
    told = sizes > FLAT * sizes.max(initial=0.0)
    square = float(((ways.T @ pull)[told] ** 2 / sizes[told]).sum())
    return max(0.0, 1 - int(told.sum()) / square) if square > 0 else 0.0


def _bend(chances: Array, curve: Array, pulls: Array, weights: Array) -> Array:
    """Return the parameters by which log odds move, drawn to none as a standard normal prior does."""
    found = np.zeros(curve.shape[1])
    for _ in range(STEPS):
        bent = _bent(chances, curve, found)
        slope = curve.T @ (pulls - weights * (bent - chances)) - found
        steep = (curve.T * (weights * bent * (1 - bent))) @ curve + np.eye(found.size)
        step = np.linalg.solve(steep, slope)
        # A full step from far away may overshoot, and none that is needed is so long.
        step /= max(1.0, float(np.abs(step).max()))
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    return found


def _bent(chances: Array, curve: Array, by: Array) -> Array:
    return np.asarray(expit(logit(chances) + curve @ by))
