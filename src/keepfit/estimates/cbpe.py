"""Confidence-based performance estimation: what calibrated scores say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.batch import spread
from keepfit.estimates import expected
from keepfit.estimates.calibration import (
    Calibration,
    as_they_are,
    calibration,
    in_order,
    rising,
    way,
)
from keepfit.estimates.estimate import Estimate, none
from keepfit.estimates.expected import LOSSES, METRICS, Expected
from keepfit.estimates.inputs import check_level, probabilities, reference
from keepfit.estimates.intervals import belief, bounds, wanders
from keepfit.estimates.state import State, asked
from keepfit.estimates.support import Support, stretched
from keepfit.parts import Part

Array = NDArray[np.float64]
Way = Callable[[Array, NDArray[Any]], Calibration]

MOST = 50_000
"""Reference rows that tell how far estimates wander with time."""


@dataclass(frozen=True, repr=False)
class CBPE(Part):
    """Estimates metrics of classification from scores alone.

    A score that is a chance says how often it is right, so chances are all it takes to know
    which metric to expect. Scores are calibrated on the reference, class by class, and the
    expected metric follows. It holds while what the score says about the label holds: it
    sees data drift that makes rows harder, where `Weighted` is closer, and cannot see
    concept drift. For that compare estimates with realised values (`Trust`).

    Parameters
    ----------
    calibrate
        None for a rising step function, on small references steadied by a smooth curve unless
        the steps alone are clearly closer to labels left out of the fit; True for the steps
        alone; False to take scores for chances.
    metrics
        Those that will be asked for; each of them costs some time in `fit`.

    Raises
    ------
    ConfigError
        A metric is none that can be estimated.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> scores = generator.random(5_000)
    >>> labels = (generator.random(5_000) < scores).astype(int)
    >>> state = CBPE().fit(labels, scores)
    >>> state.estimate(generator.random(1_000), "accuracy").value
    0.74...

    References
    ----------
    Kivimäki, Białek, Nurminen and Kuberski, Confidence-based estimators for predictive
    performance in model monitoring (2024); Zadrozny and Elkan (2002) for the calibration.
    """

    calibrate: bool | None = None
    metrics: Sequence[str] = METRICS

    def __post_init__(self) -> None:
        expected.checked(self.metrics)

    def fit(
        self,
        labels: Any,
        scores: Any,
        features: Any = None,
        *,
        classes: Sequence[Any] | None = None,
    ) -> Calibrated:
        """Return what a reference teaches; its rows are in order of event time.

        Parameters
        ----------
        labels
            Codes of the classes; or labels, with ``classes``.
        scores
            The model's probabilities on rows it was not trained on: of the second class,
            or a column per class.
        features
            Not looked at: a call that is right for another method is right for this one.
        classes
            The labels in the order of their codes.

        Raises
        ------
        ConfigError
            Labels and scores do not fit together, are not usable or hold a single class.
        """
        codes, found = reference(labels, scores, classes)
        columns = _columns(codes, found)
        ways = [self._way(*pair) for pair in columns]
        ordered = [in_order(*pair) for pair in columns]
        return Calibrated(
            rows=len(found),
            calibrations=tuple(one(*pair) for one, pair in zip(ways, ordered, strict=True)),
            supports=tuple(stretched(column, gaps=True) for column, _ in ordered),
            metrics=tuple(self.metrics),
            wander=self._wander(codes, found, ways),
        )

    def _way(self, scores: Array, labels: NDArray[Any]) -> Way:
        if self.calibrate is None:
            return way(scores, labels)
        return calibration if self.calibrate else as_they_are

    def _wander(
        self, codes: NDArray[np.intp], scores: Array, ways: Sequence[Way]
    ) -> dict[str, float]:
        """Return how far estimates are off in stretches of time that the fit left out.

        How to calibrate was settled with all rows, and is not asked again of each nine tenths.
        """
        some = spread(len(scores), MOST)
        codes, scores = codes[some], scores[some]
        # In order once, so that no fit without a stretch has anything left to sort.
        columns = [
            (one, order, column[order], labels[order])
            for one, (column, labels) in zip(ways, _columns(codes, scores), strict=True)
            for order in [np.argsort(column)]
        ]

        def stretch(out: slice) -> dict[str, tuple[float, float]]:
            without = []
            for one, place, column, labels in columns:
                kept = (place < out.start) | (place >= out.stop)
                without.append(one(column[kept], labels[kept]))
            return _away(self.metrics, without, codes[out], scores[out])

        return wanders(stretch, len(scores))


class Calibrated(State, frozen=True, kw_only=True):
    """What `CBPE` learnt from a reference: a calibration per class, a few kilobytes in all.

    Examples
    --------
    >>> import numpy as np
    >>> labels, scores = np.array([0, 1] * 50), np.array([0.2, 0.8] * 50)
    >>> state = CBPE().fit(labels, scores)
    >>> Calibrated.loads(state.dumps()) == state
    True
    """

    rows: int
    calibrations: tuple[Calibration, ...]
    supports: tuple[Support, ...]
    metrics: tuple[str, ...]
    wander: dict[str, float]

    def __repr__(self) -> str:
        return self._line(self.rows, self.metrics)

    def estimate(
        self, scores: Any, features: Any = None, metric: str | None = None, *, level: float = 0.95
    ) -> Estimate:
        """Return the metric to expect of a batch, from its scores.

        No rows, or scores that are not finite, give a NaN that says why.

        Parameters
        ----------
        scores
            Probabilities, of the shape the reference had.
        features
            Not looked at, so that methods are asked in one way; may be left out, also where the
            metric comes second: ``estimate(scores, "accuracy")``.
        metric
            None for ``"roc_auc"``, or one of ``"accuracy"``, ``"average_precision"``, ``"balanced_accuracy"``,
            ``"brier"``, ``"f1"``, ``"log_loss"``, ``"precision"``, ``"recall"`` and
            ``"roc_auc"``; for several classes a mean over them, as in `keepfit.metrics`.
        level
            The share of batches whose realised value lies in the interval.

        Raises
        ------
        ConfigError
            The metric was not fitted, scores have another shape or are no probabilities.
        """
        metric = expected.known(asked(features, metric, "roc_auc")[1], self.metrics)
        check_level(level)
        found, reason = probabilities(scores, len(self.calibrations))
        if reason:
            return none(metric, len(found), "CBPE", level, reason)
        ordered = rising(found) if found.ndim == 1 else found
        return estimated(
            self.calibrations,
            ordered,
            metric,
            level=level,
            method="CBPE",
            wander=self.wander.get(metric, 0.0),
            unlike=unlike(self.supports, ordered),
            effective=float(self.rows),
        )


def estimated(
    calibrations: Sequence[Calibration],
    scores: Array,
    metric: str,
    *,
    level: float,
    method: str,
    wander: float,
    unlike: float,
    effective: float,
) -> Estimate:
    """Return the estimate that calibrations give; a single column of scores is in rising order."""
    found, variance = measured(metric, calibrations, scores)
    if found.value != found.value:
        reason = (
            "no row is taken for the class" if metric == "precision" else "one class is expected"
        )
        return none(metric, len(scores), method, level, reason)
    low, high = bounds(
        found.value, variance + wander, len(scores), level, share=metric not in LOSSES
    )
    return Estimate(
        metric,
        found.value,
        low,
        high,
        n=len(scores),
        method=method,
        unlike=unlike,
        trust=belief(unlike, effective),
        level=level,
        effective=effective,
    )


def measured(
    metric: str, calibrations: Sequence[Calibration], scores: Array
) -> tuple[Expected, float]:
    """Return the expected metric, and the variance of the realised one around it."""
    if scores.ndim == 1:
        [one] = calibrations
        chances = one(scores)
        found = expected.binary(metric, scores, chances)
        return found, one.variance(scores, chances, found.pulls)
    columns = [one(scores[:, code]) for code, one in enumerate(calibrations)]
    chances = np.column_stack(columns)
    total = chances.sum(axis=1, keepdims=True)
    # No class has a chance: the scores are the only word there is.
    chances = np.where(total > 0, chances / np.where(total > 0, total, 1), scores)
    found = expected.multiclass(metric, scores, chances)
    return found, _variance(calibrations, scores, chances, found.pulls)


def unlike(supports: Sequence[Support], scores: Array) -> float:
    """Return the share of rows with a score where the reference has none."""
    if scores.ndim == 1:
        return supports[0].share_outside(scores)
    outside = [one.outside(scores[:, code]) for code, one in enumerate(supports)]
    return float(np.any(outside, axis=0).mean())


def _variance(
    calibrations: Sequence[Calibration], scores: Array, chances: Array, pulls: Array
) -> float:
    """Return the variance of a metric of several classes, of which one row is exactly one."""
    centred = pulls - (chances * pulls).sum(axis=1, keepdims=True)
    of_labels = float((chances * centred**2).sum())
    doubted = 0.0
    for code, one in enumerate(calibrations):
        block = one.blocks(scores[:, code])
        doubted += one.doubted(np.bincount(block, centred[:, code], len(one.rows)).astype(float))
    # What one class gains the others lose, which doubles the variance of two classes at
    # most, and matters less the more there are.
    return of_labels + doubted * len(calibrations) / (len(calibrations) - 1)


def _columns(codes: NDArray[np.intp], scores: Array) -> list[tuple[Array, NDArray[Any]]]:
    """Return scores and labels of 0 and 1, of each class that has a column."""
    if scores.ndim == 1:
        return [(scores, codes)]
    return [(scores[:, code], codes == code) for code in range(scores.shape[1])]


def _away(
    metrics: Sequence[str],
    calibrations: Sequence[Calibration],
    codes: NDArray[np.intp],
    scores: Array,
) -> dict[str, tuple[float, float]]:
    """Return how far realised metrics are from their estimates, and the variance expected."""
    if scores.ndim == 1:
        order = np.argsort(scores, kind="stable")
        codes, scores = codes[order], scores[order]
        truth, of = codes.astype(np.float64), expected.binary
    else:
        truth, of = (
            (codes[:, None] == np.arange(scores.shape[1])).astype(np.float64),
            expected.multiclass,
        )
    away = {}
    for metric in metrics:
        found, variance = measured(metric, calibrations, scores)
        away[metric] = of(metric, scores, truth).value - found.value, variance
    return away
