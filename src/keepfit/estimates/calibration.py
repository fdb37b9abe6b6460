"""From scores to chances: a rising step function learnt from a reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from keepfit.estimates.curve import curve

Array = NDArray[np.float64]
Scalar = TypeVar("Scalar", np.float64, np.uint64)

_LABEL = np.uint64(1)
_SCORE = ~_LABEL

CELLS = 256
"""Blocks are joined until their chances are as far apart as this many steps allow."""

BINS = 32
"""Blocks of scores that are taken as they are."""

FOLDS = 5

SMALL = 80_000
"""Reference rows up to which a smooth curve may steady the steps: more are steady by themselves.

Up to here it brings estimates of real streams nearer, and costs a microsecond or two a row.
"""

FEWEST = 50
"""Reference rows below which scores are taken as they are."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Blocks of scores, the chance in each, and how many reference rows say so.

    ``lows`` and ``highs`` are the least and the greatest score of each block. Without
    ``moved`` the scores are chances already, and the blocks only say how well that is known.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    chances: tuple[float, ...]
    rows: tuple[float, ...]
    moved: bool = True

    def __call__(self, scores: Array) -> Array:
        """Return the chance of each score, on straight lines between the blocks."""
        if not self.moved:
            return scores
        return np.interp(scores, *self._line)

    def variance(self, scores: Array, chances: Array, pulls: Array) -> float:
        """Return the variance of a metric whose rows have these pulls, in rising order of score.

        Labels vary around their chances, and chances are only known as well as the block's
        reference rows tell. A block that holds no 1 is not certain to stay so: its chance is
        taken as if one row more had been half of each (Jeffreys).
        """
        ends = np.append(scores.searchsorted(self._edges), scores.size)
        sizes = np.diff(ends, prepend=0)
        doubt = np.repeat(self._doubt, sizes)
        unsure = chances + (0.5 - chances) * doubt
        of_labels = float((pulls * pulls) @ (unsure * (1 - unsure)))
        upto = np.append(0.0, np.cumsum(pulls))[ends]
        return of_labels + self.doubted(np.diff(upto, prepend=0.0))

    def doubted(self, pulls: Array) -> float:
        """Return the variance that blocks not known exactly give to these pulls, one a block."""
        return float((pulls * pulls) @ self._unsure)

    def blocks(self, scores: Array) -> NDArray[np.intp]:
        """Return the block that each score is in."""
        return self._edges.searchsorted(scores, side="right")

    @cached_property
    def _edges(self) -> Array:
        lows, highs = np.array(self.lows), np.array(self.highs)
        return np.asarray((lows[1:] + highs[:-1]) / 2)

    @cached_property
    def _doubt(self) -> Array:
        return np.asarray(1 / (np.array(self.rows) + 1))

    @cached_property
    def _unsure(self) -> Array:
        chances = np.array(self.chances)
        chances = chances + (0.5 - chances) * self._doubt
        return np.asarray(chances * (1 - chances) / np.array(self.rows))

    @cached_property
    def _line(self) -> tuple[Array, Array]:
        ends = np.column_stack([self.lows, self.highs]).ravel()
        first = np.append(True, ends[1:] > ends[:-1])
        return ends[first], np.repeat(self.chances, 2)[first]


def calibration(scores: Array, labels: NDArray[Any]) -> Calibration:
    """Return the rising step function that fits labels of 0 and 1 best (isotonic regression).

    References
    ----------
    Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates (2002); Barlow and Brunk, The isotonic regression problem (1972).
    """
    scores, labels = in_order(scores, labels)
    starts = _starts(scores)
    total = np.diff(starts, append=scores.size).astype(np.float64)
    found = np.add.reduceat(labels, starts)
    rising = isotonic_regression(found / total, weights=total)
    firsts = _joined(rising.x, rising.blocks[:-1])
    rows = np.add.reduceat(total, firsts)
    shares = np.add.reduceat(found, firsts) / rows
    return _blocks(scores, starts[firsts], _softened(shares, rows), rows, moved=True)


def in_order(scores: Array, labels: NDArray[Any]) -> tuple[Array, Array]:
    """Return scores in rising order, and their labels."""
    if (scores[1:] >= scores[:-1]).all():
        return scores, labels.astype(np.float64)
    if labels.dtype.kind == "f":
        order = np.argsort(scores, kind="stable")
        return scores[order], labels[order]
    # Labels of 0 and 1 travel in the last bit of their scores, so that one array is sorted.
    packed = (scores + 0.0).view(np.uint64) & _SCORE  # the sum turns -0.0 into 0.0
    packed |= labels.astype(np.uint64)
    packed = _rising(packed, scores)
    return (packed & _SCORE).view(np.float64), (packed & _LABEL).astype(np.float64)


def rising(scores: Array) -> Array:
    """Return scores from 0 to 1 in rising order, in a fifth of the time of `numpy.sort`."""
    return _rising(scores, scores)


def _rising(values: NDArray[Scalar], scores: Array) -> NDArray[Scalar]:
    """Return values in rising order, which scores from 0 to 1 have as well.

    Two bytes of a score are sorted by radix, which brings all but near neighbours into
    order; the rest is little for a sort by merging. The root parts scores near 0, where
    those of rare classes crowd.
    """
    near = (np.sqrt(scores) * 65_535).astype(np.uint16)
    found = values[np.argsort(near, kind="stable")]
    found.sort(kind="stable")
    return found


def _starts(scores: Array) -> NDArray[np.intp]:
    """Return where each of the different scores starts, of scores in rising order."""
    return np.append(0, np.flatnonzero(scores[1:] != scores[:-1]) + 1)


def as_they_are(scores: Array, labels: NDArray[Any]) -> Calibration:
    """Return the calibration that takes scores for chances, with even blocks of reference rows."""
    scores, labels = in_order(scores, labels)
    places = np.linspace(0, scores.size, min(BINS, scores.size) + 1).round().astype(np.intp)[:-1]
    firsts = np.unique(scores.searchsorted(scores[places]))
    rows = np.diff(np.append(firsts, scores.size)).astype(np.float64)
    chances = np.add.reduceat(labels, firsts) / rows
    return _blocks(scores, firsts, chances, rows, moved=False)


def smoothed(scores: Array, labels: NDArray[Any]) -> Calibration:
    """Return the rising step function halfway between labels and a smooth curve through them."""
    return calibration(scores, (labels + curve(scores, labels)(scores)) / 2)


def way(scores: Array, labels: NDArray[Any]) -> Callable[[Array, NDArray[Any]], Calibration]:
    """Return how to calibrate: by smoothed steps, or by plain ones where those are closer.

    A fifth of the reference at a time is left out and predicted; what counts is the Brier
    score, and smoothed steps, which vary less, stand unless plain ones are closer by more than
    a standard error. Whether scores are best taken as they are is not asked: an estimate is a
    mean over many rows, in which the noise of a calibration cancels and a bias does not, while
    the Brier score of single rows minds both alike.

    References
    ----------
    Breiman, Friedman, Olshen and Stone, Classification and regression trees (1984), for the
    rule of one standard error.
    """
    if scores.size < FEWEST:
        return as_they_are
    return smoothed if scores.size <= SMALL and _steadier(scores, labels) else calibration


def _steadier(scores: Array, labels: NDArray[Any]) -> bool:
    # In order once, so that no fold has anything left to sort.
    order = np.argsort(scores, kind="stable")
    scores, labels, fold = scores[order], labels[order].astype(np.float64), order % FOLDS
    gains = np.empty(scores.size)
    for left_out in range(FOLDS):
        out = fold == left_out
        steps, smooth = (
            one(scores[~out], labels[~out])(scores[out]) - labels[out]
            for one in (calibration, smoothed)
        )
        gains[out] = steps**2 - smooth**2
    return bool(gains.mean() > -gains.std() / np.sqrt(gains.size))


def _softened(chances: Array, rows: Array) -> Array:
    """Return chances whose ends are not certain: as if half a row had been on the other side.

    The first block of an isotonic fit ends where its mean is least, so it is too low, and
    the last too high; where a metric is as steep as a logarithm that would show.
    """
    soft = (chances * rows + 0.5) / (rows + 1)
    low = chances.min(initial=1.0, where=chances > 0)
    high = chances.max(initial=0.0, where=chances < 1)
    soft = np.where(chances <= 0, np.minimum(soft, low), soft)
    soft = np.where(chances >= 1, np.maximum(soft, high), soft)
    return np.where((chances <= 0) | (chances >= 1), soft, chances)


def _joined(chances: Array, firsts: NDArray[Any]) -> NDArray[np.intp]:
    """Return where blocks start once neighbours with almost the same chance are joined.

    Steps are even in the arcsine of the root, where every share is known equally well.
    """
    cells = np.floor(np.arcsin(np.sqrt(np.clip(chances[firsts], 0, 1))) * (CELLS / (np.pi / 2)))
    return np.asarray(firsts[np.append(True, cells[1:] != cells[:-1])], dtype=np.intp)


def _blocks(
    scores: Array, firsts: NDArray[np.intp], chances: Array, rows: Array, *, moved: bool
) -> Calibration:
    lasts = np.append(firsts[1:], scores.size) - 1
    return Calibration(
        lows=tuple(scores[firsts].tolist()),
        highs=tuple(scores[lasts].tolist()),
        chances=tuple(chances.tolist()),
        rows=tuple(rows.tolist()),
        moved=moved,
    )
