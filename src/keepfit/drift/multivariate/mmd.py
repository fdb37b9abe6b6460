"""The maximum mean discrepancy, by random Fourier features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from keepfit.drift.multivariate.base import ALPHA, FEWEST, Movement, Multivariate, State
from keepfit.drift.multivariate.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np

FLOOR = 0.03
"""The discrepancy below which a movement is not called drift, however many rows show it."""

WAVES = 128
"""Directions of which each gives two features, a cosine and a sine."""

_PAIRS = 2_000
_PIECE = 4_096
"""Rows of which the features are held at a time: they fit into the processor's cache."""


class _State(State, frozen=True, kw_only=True):
    """The sum of the features, and sums of powers of the eigenvalues of their covariance."""

    width: float
    total: bytes
    squares: float
    cubes: float


@dataclass(frozen=True, repr=False)
class MMD(Multivariate[_State]):
    """Maximum mean discrepancy: how far the mean row has moved, under a Gaussian kernel.

    Sees any change of the joint distribution, and those of many columns at once best. The
    kernel is 256 random Fourier features, as wide as the median distance of two rows of
    the reference. The value is the root of the unbiased estimate. With no change that
    estimate is a weighted sum of chi-squares, whose weights are the eigenvalues of the
    features' covariance; its tail is approximated by three moments.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> x, y = np.random.default_rng(0).normal(size=(2, 4_000))
    >>> detector = MMD()
    >>> state = detector.fit(pl.DataFrame({"x": x, "y": y}))
    >>> detector.measure(state, pl.DataFrame({"x": x, "y": 0.3 * y + 0.95 * x})).drifted
    True

    References
    ----------
    Gretton et al., A kernel two-sample test (2012); Rahimi and Recht, Random features for
    large-scale kernel machines (2007); Buckley and Eagleson, An approximation to the
    distribution of quadratic forms in normal random variables (1988).
    """

    @property
    def _kept(self) -> type[_State]:
        return _State

    def _fit(self, encoder: Encoder, encoded: np.ndarray) -> _State:
        import numpy as np

        width = _median_distance(encoded)
        found = _features(encoded, width, self.seed)
        enough = len(found) >= FEWEST
        values = np.linalg.eigvalsh(np.cov(found.T)).clip(0) if enough else np.zeros(1)
        return _State(
            encoder=encoder,
            rows=len(found),
            seed=self.seed,
            width=width,
            total=found.sum(axis=0, dtype=np.float64).tobytes(),
            squares=float((values**2).sum()),
            cubes=float((values**3).sum()),
        )

    def _measure(self, kept: _State, encoded: np.ndarray) -> Movement:
        import numpy as np

        here, total, there = len(encoded), np.zeros(2 * WAVES), np.frombuffer(kept.total)
        for start in range(0, here, _PIECE):
            found = _features(encoded[start : start + _PIECE], kept.width, kept.seed)
            total += found.sum(axis=0, dtype=np.float64)
        squared = _without_self(total, here) + _without_self(there, kept.rows)
        squared -= 2 * float(total @ there) / here / kept.rows
        value = math.sqrt(max(0.0, squared))
        return Movement("MMD", value, self.limit or FLOOR + noise(kept, here))


def _features(encoded: np.ndarray, width: float, seed: int) -> np.ndarray:
    """Return features whose products are the kernel; each row's have the length 1."""
    import numpy as np

    angles = encoded @ (_directions(encoded.shape[1], seed) / np.float32(width))
    found = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    found *= np.float32(WAVES**-0.5)
    return found


def noise(state: _State, rows: int, alpha: float = ALPHA) -> float:
    """Return the discrepancy that rows of the reference's distribution exceed with a chance.

    The sum of w (Z² - 1) has about the tail of one chi-square, less its degrees, that has
    the same mean, variance and skewness.
    """
    from scipy.stats import chi2

    if not state.squares:
        return 0.0
    degrees = state.squares**3 / state.cubes**2
    tail = (float(chi2.isf(alpha, degrees)) - degrees) * math.sqrt(state.squares / degrees)
    return math.sqrt((1 / state.rows + 1 / rows) * tail)


def _without_self(total: np.ndarray, rows: int) -> float:
    """Return the mean product of two different rows' features."""
    return (float(total @ total) - rows) / (rows * (rows - 1))


def _median_distance(encoded: np.ndarray) -> float:
    """Return the median distance of neighbours, which the sample's order made strangers."""
    import numpy as np

    some = encoded[: _PAIRS + 1]
    apart = np.sqrt((np.diff(some, axis=0) ** 2).sum(axis=1))
    apart = apart[apart > 0]
    return float(np.median(apart)) if apart.size else 1.0


@lru_cache(maxsize=16)
def _directions(width: int, seed: int) -> np.ndarray:
    import numpy as np

    # RandomState is frozen for ever, so that a stored state means the same tomorrow.
    drawn: np.ndarray = np.random.RandomState(seed).standard_normal((width, WAVES))
    return drawn.astype(np.float32)
