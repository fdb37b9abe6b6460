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
from keepfit.estimates.calibration import Calibration, rising
from keepfit.estimates.cbpe import CBPE, Calibrated, estimated, unlike
from keepfit.estimates.estimate import Estimate, none
from keepfit.estimates.inputs import check_level, probabilities, reference
from keepfit.estimates.moved import Sample, moved
from keepfit.estimates.rows import Features, features_of
from keepfit.estimates.state import State, asked
from keepfit.estimates.trees import Codes, coded, cuts_of
from keepfit.parts import Part

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Weighted(Part):
    """Estimates metrics of classification under data drift, from scores and features.

    What a score says about the label may differ between kinds of rows; when their mix
    changes, a calibration learnt on the old mix is off. Here rows of the reference are kept,
    weighted to be like each batch, and the calibration moves by as much as they say beyond
    their noise. A batch that cannot be told from the reference is estimated as `CBPE` does,
    and so is the share of a batch to which nothing in the reference is like. Costs a tenth of
    a second a batch, where `CBPE` takes less than a millisecond, and cannot see concept drift
    either.

    Parameters
    ----------
    rows
        Rows of the reference to keep at most, drawn evenly: a byte each for every column. What
        the weights are is learnt from 10,000 of them, and as many of a batch.
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

    rows: int = 100_000
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
        plain = CBPE(metrics=self.metrics).fit(codes, found)
        generator = np.random.default_rng(self.seed)
        kept = np.sort(generator.permutation(codes.size)[: self.rows])
        lines = [line[kept] for line in lines]
        cuts = [cuts_of(line[ratio.every(kept.size)]) for line in lines]
        sample = np.stack([coded(line, cut) for line, cut in zip(lines, cuts, strict=True)])
        return Reweighted(
            plain=plain,
            features=encoding,
            cuts=tuple(tuple(cut.tolist()) for cut in cuts),
            codes=sample.tobytes(),
            blocks=_blocks(plain.calibrations, found[kept]).tobytes(),
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
    blocks: bytes
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
        likelier = self._ratio([*_lines(found), *columns])
        ordered = rising(found) if found.ndim == 1 else found
        return estimated(
            self.plain.calibrations if likelier is None else self._moved(likelier),
            ordered,
            metric,
            level=level,
            method="Weighted",
            wander=self.plain.wander.get(metric, 0.0),
            unlike=max(float(odd.mean()), unlike(self.plain.supports, ordered)),
            effective=float(self.plain.rows if likelier is None else ratio.effective(likelier)),
        )

    def _ratio(self, lines: Sequence[Array]) -> Array | None:
        """Return how much likelier the rows kept are in a batch; None when they are not."""
        rows = lines[0].size
        if rows < ratio.ENOUGH or self._labels.size < ratio.ENOUGH:
            return None
        part = ratio.every(rows)
        batch = [coded(line[part], cut) for line, cut in zip(lines, self._cuts, strict=True)]
        return ratio.ratio_of(self._codes, np.stack(batch), self._cuts, seed=self.seed)

    def _moved(self, likelier: Array) -> list[Calibration]:
        """Return a calibration per column of scores, as it is for rows like those of the batch."""
        pairs = zip(self.plain.calibrations, self._samples, strict=True)
        return [moved(plain, sample, likelier) for plain, sample in pairs]

    @cached_property
    def _labels(self) -> NDArray[np.int32]:
        return np.frombuffer(self.labels, dtype=np.int32)

    @cached_property
    def _samples(self) -> list[Sample]:
        """The rows kept, once for each column of scores and the class that it is for."""
        blocks = np.frombuffer(self.blocks, dtype=np.uint16).reshape(-1, self._labels.size)
        first = 1 if len(blocks) == 1 else 0
        return [Sample(line, self._labels == code) for code, line in enumerate(blocks, first)]

    @cached_property
    def _cuts(self) -> list[Array]:
        return [np.array(cut, dtype=np.float64) for cut in self.cuts]

    @cached_property
    def _codes(self) -> Codes:
        return np.frombuffer(self.codes, dtype=np.uint8).reshape(len(self.cuts), -1)


def _blocks(calibrations: Sequence[Calibration], scores: Array) -> NDArray[np.uint16]:
    """Return the block of each row, in a line for each calibration."""
    pairs = zip(calibrations, _lines(scores), strict=True)
    return np.stack([one.blocks(line) for one, line in pairs]).astype(np.uint16)


def _lines(scores: Array) -> list[Array]:
    """Return scores as one line per column."""
    return [scores] if scores.ndim == 1 else [np.ascontiguousarray(line) for line in scores.T]
