"""From distances of columns to two scores per batch that are about standard normal.

All functions take any number of leading axes, so that one reference is scored by the same
lines as the thousands that the thresholds are simulated on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri, stdtr

Array = NDArray[np.float64]

SCORES = 2
"""Of all columns together: their mean, which sees a wide shift, and their greatest."""

_KOLMOGOROV = np.pi**2 / 12
"""The mean square of sqrt(n) times a Kolmogorov-Smirnov distance without ties."""

_DISCRETE = 2.0
"""Rows whose difference is not counted: of a share never seen, one or two rows say little."""

_PRIOR = 4.0
"""Blocks that the columns' common spread is worth beside a column's own."""

_TYPICAL = 0.25
"""The spread of the root of a standardised distance: 0.15 for sampling noise, 0.35 for effects."""

FREEDOM = 15.0
"""Tails stay this heavy however long the reference: scores are normal only about."""

DOUBT = 0.3
"""Standard errors of its own level that a reference is given before a batch counts against it."""

_DOUBT_OF_MANY = 0.6
"""What a column is given beyond that, for each power of e that there are columns."""

_STEADY = 0.82
"""The mean of the root of a standardised distance of one share, as sampling makes it."""

_STEADY_SPREAD = 0.2
"""The spread that it is given: 0.35 for sampling noise, far less where the calendar decides."""

SAMPLED = 0.25
"""Share of the variance of sampling below which no column's usual variance is taken to be.

All of it would hide a change of columns that chance has little part in; where a batch is not
whole, what that explains is taken off besides.
"""

SHORT = 6.0
"""Blocks at which all of this doubles: few blocks do not know their own spread either."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What the distances of each column usually are; arrays end in (1, columns).

    ``between`` and ``noise`` make up the mean square of a distance, the second divided by
    the rows. ``shift`` and ``widening`` are what batches after the reference are allowed
    beyond its blocks: blocks pull their reference towards themselves. ``regular`` is how much
    of a column follows the calendar instead of chance, from 0 to 1.
    """

    blocks: int
    most: Array
    between: Array
    noise: Array
    mean: Array
    spread: Array
    shift: Array
    widening: Array
    regular: Array


@dataclass(frozen=True, slots=True)
class Level:
    """What the scores of blocks usually are; arrays end in (1, scores)."""

    blocks: int
    mean: Array
    spread: Array
    alike: Array
    """How much of a score carries over to the next, as far as the blocks prove it."""
    worth: Array
    """Independent blocks that the blocks are worth, with doubt counted against them."""
    shift: Array
    """What the scores of batches are allowed beyond those of blocks."""


def roots(
    distances: Array, sizes: Array, between: Array, noise: Array, most: Array | float
) -> Array:
    """Return the square root of distances over what is usual at these sizes.

    The root brings sampling noise, block effects and shares close to a normal with a light
    upper tail. A batch above the sizes seen gets no credit for its rows.
    """
    rows = np.minimum(sizes, most)[..., None]
    discrete = (_DISCRETE / rows) ** 2
    return np.asarray(
        ((distances**2 + discrete) / (between + noise / rows + discrete)) ** 0.25, dtype=np.float64
    )


def regular(square: Array, rows: Array, least: Array) -> Array:
    """Return how much of a column follows the calendar instead of chance, from 0 to 1.

    An hour or a weekday has all its values in every whole block: blocks are more alike than
    samples of independent rows are. From half of the variance of sampling on, nothing is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(least > 0, 1 - 2 * square * rows / least, 0.0)
    return np.clip(found, 0.0, 1.0)


def explained(found: Array, share: Array, regular: Array) -> Array:
    """Return what is left of distances or moves beyond what rows too many or too few explain.

    ``share`` is that of the rows, which may all have one value of a column that follows the
    calendar.
    """
    left = np.maximum(abs(found) - share * regular, 0.0)
    return np.asarray(np.where(regular > 0, np.sign(found) * left, found), dtype=np.float64)


def standardise(history: Array, sizes: Array, least: Array | float = 0.0) -> tuple[Standard, Array]:
    """Return the standard of each column, and each block's excess over the other blocks.

    An excess is a predictive t value turned into a normal one. A block is held against the
    mean and spread of the others (jackknife), as a batch will be against those of all.

    ``least`` is the least that sampling adds to the mean square of each column's distance,
    times the rows. Blocks that are more alike show how regular their column is, not how little
    chance can do: what is usual is then a share of what sampling would make of as many rows.
    """
    blocks = history.shape[-2]
    most = sizes.max(axis=-1, keepdims=True)
    rows = 1 / np.mean(1 / sizes, axis=-1)[..., None, None]
    square = np.mean(history**2, axis=-2, keepdims=True)
    noise = np.minimum(square * rows, _KOLMOGOROV * blocks / (blocks - 1))
    between = square - noise / rows
    steady = regular(square, rows, np.asarray(least))
    noise = np.maximum(noise, SAMPLED * np.asarray(least))
    found = roots(history, sizes, between, noise, most)
    mean = found.mean(axis=-2, keepdims=True)
    raised = steady * np.maximum(_STEADY - mean, 0.0)
    away = found - mean
    squares = np.sum(away**2, axis=-2, keepdims=True)
    common = _common(squares / (blocks - 1))
    others = np.maximum(squares - away**2 * blocks / (blocks - 1), 0.0)
    spread = np.sqrt((_PRIOR * common + others) / (_PRIOR + blocks - 2))
    spread = np.maximum(spread, _STEADY_SPREAD * steady)
    # Against the mean of the other blocks; a t value needs the error of that mean as well.
    left_out = away * blocks / (blocks - 1) - raised
    left_out /= spread * np.sqrt(blocks / (blocks - 1))
    excesses = _above(normal(left_out, _PRIOR + blocks - 2), steady)
    likeness = _likeness(excesses)
    return Standard(
        blocks=blocks,
        most=most,
        between=between,
        noise=noise,
        mean=mean + raised,
        spread=np.maximum(
            np.sqrt((_PRIOR * common + squares) / (_PRIOR + blocks - 1)), _STEADY_SPREAD * steady
        ),
        # Fitted on simulated references with block effects that resemble their neighbours.
        shift=(0.5 + 3 * likeness) / blocks,
        widening=1 + (0.5 + 5 * likeness) / blocks,
        regular=steady,
    ), excesses


def _above(excesses: Array, regular: Array) -> Array:
    """Return excesses of which those below usual count for nothing in a regular column.

    They are below in every batch, and would hide in the mean what other columns show.
    """
    return np.asarray(excesses + regular * np.maximum(-excesses, 0.0), dtype=np.float64)


def excess(standard: Standard, distances: Array, sizes: Array, share: Array | float = 0.0) -> Array:
    """Return how far the columns of batches are above what is usual, about standard normal.

    ``share`` is that of the rows by which batch and reference are not whole.
    """
    distances = explained(distances, np.asarray(share), standard.regular)
    found = roots(distances, sizes, standard.between, standard.noise, standard.most)
    away = (found - standard.mean) / (standard.spread * standard.widening) - standard.shift
    found = normal(away / np.sqrt(1 + 1 / standard.blocks), standard.blocks - 1.0)
    return _above(found, standard.regular)


def combine(excesses: Array, weights: Array) -> Array:
    """Return the scores of batches: the weighted mean, and the greatest by weighted Šidák."""
    mean = excesses @ weights / np.sqrt(np.sum(weights**2))
    # 1 - (1 - p)^(1/w): a column of double weight is believed at double the p-value.
    survival = np.max(log_ndtr(excesses) / weights, axis=-1, initial=-np.inf)
    greatest = -ndtri(np.clip(-np.expm1(survival), 1e-300, 1 - 1e-9))
    return np.stack([mean, greatest], axis=-1)


def level(scores: Array, weights: Array) -> Level:
    """Return what the scores of blocks usually are."""
    blocks = scores.shape[-2]
    spread = np.maximum(scores.std(axis=-2, ddof=1, keepdims=True), 0.4)
    # Blocks share the greatest among themselves, so the greatest of a batch varies more.
    extra = np.array([0.0, 2.0 / blocks])
    carried = lag(scores)
    error = 1 / np.sqrt(blocks)
    likely = np.clip(carried + error / 2, 0.1, 0.6)
    columns = 1 / np.sum(weights**2)
    # What one column hides in its noise adds up over many.
    shift = [0.5 * np.sqrt(columns) / blocks, 12 * max(0.0, np.log(columns) - 3.5) / blocks**2]
    return Level(
        blocks=blocks,
        mean=scores.mean(axis=-2, keepdims=True),
        spread=np.sqrt((spread * (1 + 0.5 / blocks)) ** 2 + extra**2),
        alike=np.clip(carried - error, 0.0, 0.9),
        worth=blocks * (1 - likely) / (1 + likely),
        shift=np.array(shift),
    )


def standing(level: Level, scores: Array) -> Array:
    """Return scores of batches as normal values: predictive t against the blocks' scores."""
    away = scores - level.mean - level.shift
    away /= level.spread * np.sqrt(1 + 1 / level.worth)
    return normal(away, min(level.blocks - 1.0, FREEDOM))


def news(level: Level, now: Array, before: Array) -> Array:
    """Return what a normal value adds to what the one before it let expect.

    A part of the standard error of the reference's own level is taken off: what a short
    reference is wrong about stays wrong, batch after batch.
    """
    fresh = (now - level.alike * before) / np.sqrt(1 - level.alike**2)
    kept = np.sqrt((1 - level.alike) / (1 + level.alike))
    doubt = DOUBT * (1 + SHORT / level.blocks)
    return np.asarray(fresh - doubt * kept / np.sqrt(level.worth), dtype=np.float64)


def steadied(excesses: Array, blocks: int, alike: Array | float) -> Array:
    """Return the excesses of batches as values whose sums grow like those of independent ones.

    The variance of a sum of values with autocorrelation r is (1 + r) / (1 - r) times that of
    independent ones. Some standard errors of what is usual are taken off, more among many
    columns: of these, one or another is badly known.
    """
    likely = np.clip(np.asarray(alike)[..., None, None], 0.0, 0.6)
    many = _DOUBT_OF_MANY * np.log(excesses.shape[-1])
    doubt = (DOUBT + many) * (1 + SHORT / blocks) / np.sqrt(blocks)
    steady = excesses * np.sqrt((1 - likely) / (1 + likely)) - doubt
    return np.asarray(steady, dtype=np.float64)


def alike(excesses: Array, combined: Array) -> Array:
    """Return how alike neighbouring blocks are: in their columns or scores, whichever is more.

    Effects that columns share show in the scores; of effects that columns have for
    themselves, the mean over columns is far less noisy.
    """
    found = np.maximum(lag(excesses).mean(axis=-1), lag(combined).mean(axis=-1))
    return np.asarray(found[..., 0], dtype=np.float64)


def _likeness(excesses: Array) -> Array:
    """Return the lag-1 autocorrelation of columns on average, with half an error added."""
    found = lag(excesses).mean(axis=-1, keepdims=True)
    likely = np.clip(found + 0.5 / np.sqrt(excesses.shape[-2]), 0.1, 0.6)
    return np.asarray(likely, dtype=np.float64)


def lag(values: Array) -> Array:
    """Return the lag-1 autocorrelation, corrected for short series (Marriott and Pope 1954)."""
    away = values - values.mean(axis=-2, keepdims=True)
    total = np.sum(away**2, axis=-2, keepdims=True)
    product = np.sum(away[..., 1:, :] * away[..., :-1, :], axis=-2, keepdims=True)
    found = product / np.maximum(total, 1e-12)
    return np.asarray(found + (1 + 3 * found) / values.shape[-2], dtype=np.float64)


def _common(variances: Array) -> Array:
    """Return the variance that columns have in common, half of it from experience."""
    middle = (np.median(variances, axis=-1, keepdims=True) + _TYPICAL**2) / 2
    return np.asarray(np.clip(middle, 0.1**2, 0.35**2), dtype=np.float64)


def normal(values: Array, freedom: float) -> Array:
    """Return the normal values with the same upper tail as values of Student's t."""
    tail = np.clip(stdtr(freedom, -values), 1e-300, 1 - 1e-16)
    return np.asarray(-ndtri(tail), dtype=np.float64)
