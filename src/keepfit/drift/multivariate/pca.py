"""The reconstruction error of principal components."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from keepfit.drift.multivariate.base import ALPHA, FEWEST, Movement, Multivariate, State
from keepfit.drift.multivariate.encoder import Encoder
from keepfit.errors import ConfigError
from keepfit.facts import ColumnDrift

if TYPE_CHECKING:
    import numpy as np

FLOOR = 0.1
"""The relative change of the error that is not called drift, however many rows show it."""

_MOST = 256
_LEAST = 0.01
"""The least error that changes are related to, for columns that the components hold in full."""


class _State(State, frozen=True, kw_only=True):
    """Components, and the mean and the variance of each column's error on other rows."""

    middle: bytes
    components: bytes
    means: tuple[float, ...]
    variances: tuple[float, ...]

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean row, and the components as rows."""
        import numpy as np

        middle = np.frombuffer(self.middle, dtype=np.float32)
        return middle, np.frombuffer(self.components, dtype=np.float32).reshape(-1, middle.size)


@dataclass(frozen=True, kw_only=True, repr=False)
class PCA(Multivariate[_State]):
    """Reconstruction error of the reference's principal components, against the reference's own.

    Sees that columns no longer move together as they did. Half of the reference's sample
    gives the components, the other half the error to expect, so that the error is that of
    rows the components have not seen. The value is the relative change of the mean error,
    up or down. The quickest of the three and the least sharp: a shift along the components
    that are kept is not seen.

    Parameters
    ----------
    variance
        The share of the variance that the components hold; there are at most 256.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> x, y, z = np.random.default_rng(0).normal(size=(3, 4_000))
    >>> detector = PCA()
    >>> state = detector.fit(pl.DataFrame({"x": x, "y": x + 0.2 * y}))
    >>> detector.measure(state, pl.DataFrame({"x": x, "y": z})).drifted
    True

    References
    ----------
    Jackson and Mudholkar, Control procedures for residuals associated with principal
    component analysis (1979).
    """

    variance: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.variance < 1:
            raise ConfigError(f"PCA: expected a variance between 0 and 1, got {self.variance!r}")

    @property
    def _kept(self) -> type[_State]:
        return _State

    def _fit(self, encoder: Encoder, encoded: np.ndarray) -> _State:
        import numpy as np

        seen, unseen = encoded[::2], encoded[1::2]
        middle = seen.mean(axis=0) if len(seen) else np.zeros(encoder.width, dtype=np.float32)
        components = _components(seen - middle, self.variance)
        whole = np.zeros((0, len(encoder.fields) + 1))
        if len(unseen) >= FEWEST and encoder.fields:
            errors = _errors(encoder, unseen - middle, components)
            whole = np.column_stack([errors, errors.sum(axis=1)])
        return _State(
            encoder=encoder,
            rows=len(whole),
            seed=self.seed,
            middle=middle.tobytes(),
            components=components.tobytes(),
            means=tuple(whole.mean(axis=0).tolist()) if len(whole) else (),
            variances=tuple(whole.var(axis=0, ddof=1).tolist()) if len(whole) else (),
        )

    def _measure(self, kept: _State, encoded: np.ndarray) -> Movement:
        middle, components = kept.arrays
        errors = _errors(kept.encoder, encoded - middle, components)
        value, limit = _change(kept, -1, errors.sum(axis=1), ALPHA)
        limit = self.limit or limit
        if value <= limit:
            return Movement("PCA", value, limit)
        columns = []
        for place, name in enumerate(kept.encoder.names):
            part, most = _change(kept, place, errors[:, place], ALPHA / errors.shape[1])
            if part > most:
                columns.append(ColumnDrift(column=name, method="PCA", value=part, limit=most))
        worst = sorted(columns, key=lambda one: (-one.value / one.limit, one.column))
        return Movement("PCA", value, limit, tuple(worst))


def _components(centred: np.ndarray, variance: float) -> np.ndarray:
    """Return the fewest directions that hold a share of the variance, as rows."""
    import numpy as np

    if len(centred) < FEWEST or not centred.shape[1]:
        return np.zeros((0, centred.shape[1]), dtype=np.float32)
    values, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    held = np.cumsum(values[::-1].clip(0))
    if not held[-1]:
        return np.zeros((0, centred.shape[1]), dtype=np.float32)
    # All but one direction at most: with all of them nothing could go wrong.
    count = int(np.searchsorted(held / held[-1], variance)) + 1
    count = max(0, min(count, _MOST, int(np.count_nonzero(values > 1e-9 * held[-1])) - 1))
    return np.ascontiguousarray(directions[:, ::-1][:, :count].T.astype(np.float32))


def _errors(encoder: Encoder, centred: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return the squared error of each row's columns."""
    import numpy as np

    away = centred - (centred @ components.T) @ components
    starts = np.flatnonzero(np.diff(encoder.owners, prepend=-1))
    return np.add.reduceat(away**2, starts, axis=1, dtype=np.float64)


def _change(kept: _State, place: int, errors: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the change of a mean error relative to the whole error, with its limit.

    Errors are bounded, because values are cut, so their mean is about normal. The larger of
    the two variances counts: a column that was never missing has none in the reference.
    """
    from scipy.stats import norm

    expected = max(kept.means[-1], _LEAST)
    variance = max(kept.variances[place], float(errors.var(ddof=1)))
    noise = math.sqrt(variance * (1 / kept.rows + 1 / len(errors)))
    reach = float(norm.isf(alpha / 2)) * noise / expected
    return abs(float(errors.mean()) - kept.means[place]) / expected, FLOOR + reach
