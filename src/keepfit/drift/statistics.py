"""Distances between shares and counts in bins, and what of them is sampling noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from keepfit.drift.rulers import Reading

FLOOR = 0.1
"""The distance below which a movement is not called drift, however many rows show it."""

ALPHA = 0.001
"""The share of batches of an unchanged stream in which any column may be called drifted."""

HALF = 0.5
"""What an empty bin counts as in the population stability index, which has logarithms."""


def jensen_shannon(expected: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon distance (base 2, 0 to 1) along the last axis.

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy (1991); Endres and Schindelin, A
    new metric for probability distributions (2003).
    """
    import numpy as np

    middle = (expected + shares) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = expected * np.log2(expected / middle)
        other = shares * np.log2(shares / middle)
    # What is zero on a side adds nothing there.
    total = np.where(expected > 0, terms, 0.0) + np.where(shares > 0, other, 0.0)
    distance: np.ndarray = np.sqrt(np.maximum(0.0, total.sum(axis=-1) / 2))
    return distance


def stability(
    expected: np.ndarray, shares: np.ndarray, reference: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the population stability index along the last axis.

    An empty bin counts as half a row, of the reference or of the batch.
    """
    import numpy as np

    used = (expected > 0) | (shares > 0)
    ours = np.maximum(expected, (HALF / np.maximum(1, reference))[..., None])
    theirs = np.maximum(shares, (HALF / np.maximum(1, rows))[..., None])
    index: np.ndarray = np.where(used, (theirs - ours) * np.log(theirs / ours), 0.0).sum(axis=-1)
    return index


def chi_square(
    expected: np.ndarray, shares: np.ndarray, reference: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return Pearson's statistic of two samples in the same bins, along the last axis."""
    import numpy as np

    ours, theirs = expected * reference[..., None], shares * rows[..., None]
    pooled = (ours + theirs) / (reference + rows)[..., None]
    gap = expected - shares
    harmonic = (reference * rows / (reference + rows))[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = harmonic * gap * gap / pooled
    statistic: np.ndarray = np.where(pooled > 0, terms, 0.0).sum(axis=-1)
    return statistic


def chance(statistic: float, free: int) -> float:
    """Return the chance that equal samples give a statistic of Pearson's at least as great."""
    from scipy.special import gammaincc

    return float(gammaincc(free / 2, statistic / 2))


def complete(readings: Sequence[Reading]) -> None:
    """Add the statistics of counts in bins to what was read of each column.

    Columns are computed together: the calls would cost more than the sums.
    """
    groups: dict[int, list[Reading]] = {}
    for one in readings:
        if one.expected is not None:
            groups.setdefault(one.joined, []).append(one)
    for alike in groups.values():
        expected = _side_by_side([one.expected for one in alike])
        got = _side_by_side([one.got for one in alike])
        allowed = plain = _together(alike, expected, got)
        if any(one.plain is not None for one in alike):
            had = [one.expected if one.plain is None else one.plain for one in alike]
            plain = _together(alike, _side_by_side(had), got)
        used = (expected > 0) | (got > 0)
        for one, bins in zip(alike, used.sum(axis=1).tolist(), strict=True):
            one.free = max(1, bins - 1)
        for one, effects, values in zip(alike, allowed, plain, strict=True):
            size = effects["ChiSquare"] * inverse_sizes(one.column.rows, one.rows)
            one.values |= values
            one.effects |= effects | {"ChiSquare": math.sqrt(size)}


def _together(
    alike: Sequence[Reading], known: np.ndarray, got: np.ndarray
) -> list[dict[str, float]]:
    """Return the statistics of columns of which as many bins are joined."""
    import numpy as np

    joined = alike[0].joined
    rows = np.array([one.rows for one in alike], dtype=np.float64)
    shares = got / rows[:, None]
    reference = np.array([one.column.rows for one in alike], dtype=np.float64)
    index = stability(_joined(known, joined), _joined(shares, joined), reference, rows)
    distance = jensen_shannon(known, shares)
    statistic = chi_square(known, shares, reference, rows)
    return [
        {"PSI": i, "JensenShannon": d, "ChiSquare": s}
        for i, d, s in zip(index.tolist(), distance.tolist(), statistic.tolist(), strict=True)
    ]


def _side_by_side(lines: Sequence[Any]) -> np.ndarray:
    """Return shares as rows of one table, the last bin in the last column.

    A bin that is empty on both sides adds nothing to any of the statistics.
    """
    import numpy as np

    table = np.zeros((len(lines), max(line.size for line in lines)))
    for row, line in zip(table, lines, strict=True):
        row[: line.size - 1], row[-1] = line[:-1], line[-1]
    return table


def _joined(shares: np.ndarray, several: int) -> np.ndarray:
    """Return shares with so many neighbouring bins joined; the last bin, of what is missing, stays."""
    import numpy as np

    if several == 1:
        return shares
    starts = np.arange(0, shares.shape[1] - 1, several)
    joined = np.add.reduceat(shares[:, :-1], starts, axis=1)
    return np.concatenate([joined, shares[:, -1:]], axis=1)


# What chance explains: each bound is exceeded by equal samples with chance e^-noise at most.


def spending(columns: int) -> float:
    """Return the noise that all of so many columns may be judged by (Bonferroni)."""
    return math.log(2 * max(1, columns) / ALPHA)


def ks_noise(reference: int, rows: int, noise: float) -> float:
    """Return what chance explains of a Kolmogorov-Smirnov distance.

    P(distance > d) is at most e * exp(-2 d² nm/(n+m)) (Wei and Dudley, 2012), and the
    stored grid adds at most 1/1000 on either side.
    """
    if not reference or not rows:
        return 1.0
    return 0.002 + math.sqrt((1 + noise) * (1 / reference + 1 / rows) / 2)


def chi_tail(free: int, noise: float) -> float:
    """Return a bound on a chi-square variable (Laurent and Massart, 2000)."""
    return free + 2 * math.sqrt(free * noise) + 2 * noise


def inverse_sizes(reference: int, rows: int) -> float:
    """Return 1/n + 1/m, to which the noise of every comparison is proportional."""
    return 1 / max(1, reference) + 1 / max(1, rows)


def jensen_shannon_noise(free: int, reference: int, rows: int, noise: float) -> float:
    """Return what chance explains of a Jensen-Shannon distance.

    For equal distributions 8 nm/(n+m) times the divergence (in nats) is about chi-square.
    The distance is a metric, so that noise adds to a true distance at most.
    """
    spread = chi_tail(free, noise) * inverse_sizes(reference, rows) / (8 * math.log(2))
    return math.sqrt(spread)


def stability_noise(free: int, reference: int, rows: int, noise: float) -> float:
    """Return what chance explains of a population stability index.

    For equal distributions nm/(n+m) times the index is about chi-square (Yurdakul, 2018);
    a true index and noise are joined like squares of lengths.
    """
    return chi_tail(free, noise) * inverse_sizes(reference, rows)


def wasserstein_noise(roughness: float, reference: int, rows: int, noise: float) -> float:
    """Return what chance explains of a Wasserstein-1 distance.

    The distance of two samples is about the integral of an absolute Brownian bridge over F:
    its mean is sqrt(2/pi) times ``roughness``, the integral of sqrt(F(1-F)) (Bobkov and
    Ledoux, 2019), which bounds its deviation too, so that its tail is Gaussian (Borell 1975).
    """
    deviation = roughness * math.sqrt(inverse_sizes(reference, rows))
    return deviation * (math.sqrt(2 / math.pi) + math.sqrt(2 * noise))
