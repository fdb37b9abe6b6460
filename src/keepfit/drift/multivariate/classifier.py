"""The domain classifier: whether rows can be told from those of the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keepfit.drift.multivariate.base import ALPHA, FEWEST, Movement, Multivariate, State
from keepfit.drift.multivariate.encoder import Encoder
from keepfit.drift.multivariate.terms import Fold, Terms
from keepfit.errors import ConfigError
from keepfit.facts import ColumnDrift

if TYPE_CHECKING:
    import numpy as np

FLOOR = 0.04
"""How far an AUC may lie above 0.5 and not be called drift, however many rows show it."""


class _State(State, frozen=True, kw_only=True):
    """A sample of the reference's rows, as the encoder writes them."""

    sample: bytes


@dataclass(frozen=True, kw_only=True, repr=False)
class DomainClassifier(Multivariate[_State]):
    """How well a classifier tells rows from the reference's: its AUC on rows it has not seen.

    0.5 says that nothing tells them apart, 1 that everything does. The classifier is a
    linear discriminant over the terms that differ: of all values, their squares and tails,
    and products of two columns, it takes those whose means differ on the rows it learns
    from. So it sees a mean, a spread and a correlation that moved, in milliseconds. The AUC
    is the mean over four folds. The columns named are those that tell rows apart through
    the terms they are part of.

    Parameters
    ----------
    rows
        The most rows of the reference that are kept, and of a batch that are looked at.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> x, y, z = np.random.default_rng(0).normal(size=(3, 4_000))
    >>> detector = DomainClassifier(rows=2_000)
    >>> state = detector.fit(pl.DataFrame({"x": x, "y": y, "z": z}))
    >>> moved = detector.measure(state, pl.DataFrame({"x": x, "y": y, "z": z + 2 * x}))
    >>> moved.drifted, sorted(one.column for one in moved.columns)
    (True, ['x', 'z'])

    References
    ----------
    Ben-David et al., A theory of learning from different domains (2010); Lopez-Paz and
    Oquab, Revisiting classifier two-sample tests (2017); Tibshirani et al., Diagnosis of
    multiple cancer types by shrunken centroids (2002).
    """

    rows: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < FEWEST:
            raise ConfigError(f"DomainClassifier: expected 2 rows or more, got {self.rows!r}")
        if self.limit is not None and self.limit >= 1:
            raise ConfigError(f"DomainClassifier: expected a limit below 1, got {self.limit!r}")

    @property
    def _by_chance(self) -> bool:
        return True  # the folds are made by place

    @property
    def _most(self) -> int:
        return self.rows

    @property
    def _kept(self) -> type[_State]:
        return _State

    def _fit(self, encoder: Encoder, encoded: np.ndarray) -> _State:
        kept = _halved(encoded)
        return _State(encoder=encoder, rows=len(kept), seed=self.seed, sample=kept.tobytes())

    def _measure(self, kept: _State, encoded: np.ndarray) -> Movement:
        import numpy as np

        there = np.frombuffer(kept.sample, dtype=np.float16).reshape(kept.rows, -1)
        here = _halved(encoded)
        terms = Terms(there, here, kept.encoder)
        folds = [Fold(terms, fold) for fold in range(terms.folds)]
        value = float(np.mean([fold.auc() for fold in folds]))
        limit = self.limit or 0.5 + FLOOR + noise(*terms.sizes)
        if value <= limit:
            return Movement("AUC", value, limit)
        return Movement("AUC", value, limit, _guilty(terms, folds))


def _guilty(terms: Terms, folds: Sequence[Fold]) -> tuple[ColumnDrift, ...]:
    """Return the columns that tell the sides apart, by their terms alone, worst first."""
    import numpy as np

    names = terms.encoder.names
    alone = {
        name: float(np.mean([fold.auc(fold.owned[place]) for fold in folds]))
        for place, name in enumerate(names)
    }
    limit = 0.5 + FLOOR + noise(*terms.sizes, ALPHA / len(names))
    worst = sorted(names, key=lambda name: (-alone[name], name))
    return tuple(
        ColumnDrift(column=name, method="AUC", value=alone[name], limit=limit)
        for name in worst
        if alone[name] > limit
    )


def noise(reference: int, rows: int, alpha: float = ALPHA) -> float:
    """Return how far above 0.5 chance takes the AUC of folds where nothing differs.

    The AUC of rows not learnt from has the variance of the Mann-Whitney statistic. The mean
    over folds has twice the variance of one AUC on all rows, not the same, because each
    fold is judged by what was learnt from the others: with d the difference of means in a
    fold, the folds share the products of their d.
    """
    from scipy.stats import norm

    variance = (reference + rows + 1) / (12 * reference * rows)
    return float(norm.isf(alpha)) * math.sqrt(2 * variance)


def _halved(encoded: np.ndarray) -> np.ndarray:
    """Return numbers in half precision: both sides alike, so that rounding tells nothing."""
    import numpy as np

    return encoded.astype(np.float16)
