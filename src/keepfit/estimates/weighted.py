"""Confidence-based estimation with a reference weighted to be like the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import ConfigError
from keepfit.estimates import expected, ratio
from keepfit.estimates.calibration import Calibration, calibration, rising
from keepfit.estimates.cbpe import CBPE, Calibrated, estimated, unlike
from keepfit.estimates.estimate import Estimate, none
from keepfit.estimates.inputs import check_level, probabilities, reference
from keepfit.estimates.rows import Features, features_of
from keepfit.estimates.state import State, asked
from keepfit.estimates.trees import Codes, coded, cuts_of
from keepfit.parts import Part

Array = NDArray[np.float64]

LEAST = 1e-3
"""The least weight that a row has, so that none is divided by zero."""

PARTS = 8
"""Parts of the scores whose labels tell whether weights change the calibration."""


@dataclass(frozen=True, repr=False)
class Weighted(Part):
    """Estimates metrics of classification under data drift, from scores and features.

    What a score says about the label may differ between kinds of rows; when their mix
    changes, a calibration learnt on the old mix is off. Here a sample of the reference is
    kept, weighted to be like each batch, and the scores are calibrated anew on it. A batch
    that cannot be told from the reference is estimated as `CBPE` does. Costs a tenth of a
    second a batch, where `CBPE` takes less than a millisecond, and cannot see concept drift
    either.

    Parameters
    ----------
    rows
        Rows of the reference to keep, drawn evenly; of larger batches as many are compared.
    seed
        Draws them.
    metrics
        Those that will be asked for, as for `CBPE`.

    Raises
    ------
    ConfigError
        Fewer than a hundred rows are to be kept, or a metric is none that can be estimated.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> x = generator.normal(size=(4_000, 2))
    >>> scores = 1 / (1 + np.exp(-x[:, 0]))  # a model that does not know of the second column
    >>> labels = generator.random(4_000) < 1 / (1 + np.exp(-x[:, 0] * (1 + (x[:, 1] > 1))))
    >>> state = Weighted().fit(labels, scores, x)
    >>> later = x[x[:, 1] > 0.5]
    >>> state.estimate(scores[x[:, 1] > 0.5], later, "roc_auc").effective < 2_500
    True

    References
    ----------
    Białek, Kuberski, Perrakis and Bifet, Estimating model performance under covariate shift
    without labels, arXiv 2401.08348 (2024).
    """

    rows: int = 10_000
    seed: int = 0
    metrics: Sequence[str] = expected.METRICS

    def __post_init__(self) -> None:
        expected.checked(self.metrics)
        if self.rows < ratio.ENOUGH:
            raise ConfigError(f"expected {ratio.ENOUGH} rows or more to keep, got {self.rows!r}")

    def fit(
        self, labels: Any, scores: Any, features: Any, *, classes: Sequence[Any] | None = None
    ) -> Reweighted:
        """Return what a reference teaches; its rows are in order of event time.

        Parameters
        ----------
        labels, scores, classes
            As in `CBPE.fit`.
        features
            A Polars, pandas or Arrow table, or a matrix of numbers. Columns of times and of nested values are
            left out.

        Raises
        ------
        ConfigError
            Labels, scores and features do not fit together, are not usable or hold a
            single class.
        """
        if features is None:
            raise ConfigError(
                "expected the features of the reference, got None",
                hint="scores alone are enough for CBPE",
            )
        codes, found = reference(labels, scores, classes)
        encoding, columns = features_of(features, codes.astype(np.float64))
        lines = [*_lines(found), *columns]
        generator = np.random.default_rng(self.seed)
        kept = np.sort(generator.permutation(codes.size)[: self.rows])
        lines = [line[kept] for line in lines]
        cuts = [cuts_of(line) for line in lines]
        sample = np.stack([coded(line, cut) for line, cut in zip(lines, cuts, strict=True)])
        return Reweighted(
            plain=CBPE(metrics=self.metrics).fit(codes, found),
            features=encoding,
            cuts=tuple(tuple(cut.tolist()) for cut in cuts),
            codes=sample.tobytes(),
            scores=found[kept].tobytes(),
            labels=codes[kept].astype(np.int32).tobytes(),
            seed=self.seed,
        )


class Reweighted(State, frozen=True, kw_only=True, dict=True):
    """What `Weighted` learnt from a reference: a sample of it, a byte per row and column.

    Examples
    --------
    >>> import numpy as np
    >>> labels, scores = np.array([0, 1] * 50), np.array([0.2, 0.8] * 50)
    >>> state = Weighted().fit(labels, scores, np.arange(200.0).reshape(100, 2))
    >>> Reweighted.loads(state.dumps()) == state
    True
    """

    plain: Calibrated
    features: Features
    cuts: tuple[tuple[float, ...], ...]
    codes: bytes
    scores: bytes
    labels: bytes
    seed: int

    def __repr__(self) -> str:
        return self._line(self.plain.rows, self.plain.metrics)

    def estimate(
        self, scores: Any, features: Any = None, metric: str | None = None, *, level: float = 0.95
    ) -> Estimate:
        """Return the metric to expect of a batch, from its scores and features.

        ``effective`` is how many reference rows like those of the batch there are: where it
        is small, the batch is where the reference hardly was. The interval does not hold
        what the weights themselves may be off.

        Parameters
        ----------
        scores, metric, level
            As in `Calibrated.estimate`.
        features
            The features that the reference had.

        Raises
        ------
        ConfigError
            As in `Calibrated.estimate`, or features do not fit the scores.
        SchemaMismatch
            A column of the reference is missing or has another kind.
        """
        features, metric = asked(features, metric, "roc_auc")
        expected.known(metric, self.plain.metrics)
        check_level(level)
        found, reason = probabilities(scores, len(self.plain.calibrations))
        if reason:
            return none(metric, len(found), "Weighted", level, reason)
        columns, odd = self.features.encoded(features, len(found))
        weights = self._weights([*_lines(found), *columns])
        ordered = rising(found) if found.ndim == 1 else found
        return estimated(
            self.plain.calibrations if weights is None else self._calibrated(weights),
            ordered,
            metric,
            level=level,
            method="Weighted",
            wander=self.plain.wander.get(metric, 0.0),
            unlike=max(float(odd.mean()), unlike(self.plain.supports, ordered)),
            effective=float(self.plain.rows if weights is None else ratio.effective(weights)),
        )

    def _weights(self, lines: Sequence[Array]) -> Array | None:
        """Return the weights of the sample for a batch; None when they are the same."""
        rows = lines[0].size
        if rows < ratio.ENOUGH or self._labels.size < ratio.ENOUGH:
            return None
        thin = slice(None, None, -(-rows // self._labels.size))
        batch = [coded(line[thin], cut) for line, cut in zip(lines, self._cuts, strict=True)]
        return ratio.weights_of(self._codes, np.stack(batch), self._cuts, seed=self.seed)

    def _calibrated(self, weights: Array) -> list[Calibration]:
        """Return a calibration per column of scores, as it is for rows like those of the batch.

        What changes is what the weights add to the old calibration: the noise that a sample
        has with and without weights drops out, as with a control variate. Of the change so
        much counts as is more than noise would make of it.
        """
        weights = np.maximum(weights, LEAST)
        found = []
        for (code, line), plain in zip(self._sampled, self.plain.calibrations, strict=True):
            chances = plain(line)
            away = (weights - 1) * ((self._labels == code) - chances)
            own = _beyond_noise(line, away, (weights - 1) ** 2 * chances * (1 - chances))
            moved = calibration(line, chances + own * away / weights, weights) if own else plain
            found.append(moved)
        return found

    @cached_property
    def _labels(self) -> NDArray[np.int32]:
        return np.frombuffer(self.labels, dtype=np.int32)

    @cached_property
    def _sampled(self) -> list[tuple[int, Array]]:
        """The scores of the sample, with the class that each column of them is for."""
        flat = np.frombuffer(self.scores, dtype=np.float64)
        if len(self.plain.calibrations) == 1:
            return [(1, flat)]
        return list(enumerate(_lines(flat.reshape(self._labels.size, -1))))

    @cached_property
    def _cuts(self) -> list[Array]:
        return [np.array(cut, dtype=np.float64) for cut in self.cuts]

    @cached_property
    def _codes(self) -> Codes:
        return np.frombuffer(self.codes, dtype=np.uint8).reshape(len(self.cuts), -1)


def _beyond_noise(scores: Array, away: Array, variance: Array) -> float:
    """Return the share of a change that is no noise, from its sums over even parts of the scores.

    References
    ----------
    James and Stein, Estimation with quadratic loss (1961), in the positive-part form.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.linspace(0, scores.size, PARTS + 1).astype(np.intp)[:-1]
    sums = np.add.reduceat(away[order], starts)
    noise = np.add.reduceat(variance[order], starts)
    seen = noise > 0
    told = float((sums[seen] ** 2 / noise[seen]).sum())
    return max(0.0, 1 - max(1, int(seen.sum()) - 2) / told) if told > 0 else 0.0


def _lines(scores: Array) -> list[Array]:
    """Return scores as one line per column."""
    return [scores] if scores.ndim == 1 else [np.ascontiguousarray(line) for line in scores.T]
