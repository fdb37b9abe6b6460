"""Monotone maps of scores: fitted on labelled rows, so that scores mean what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

TINY = 1e-9
"""How near to 0 and 1 a probability is taken to come, so that its logarithm is a number."""

ROUNDED = 1e-12
"""The share of a level by which another is above it by rounding alone."""

MOVED = 1e-10
ROUNDS = 200
RIDGE = 1e-6


class Map(msgspec.Struct, frozen=True):
    """How the scores of a model are mapped.

    ``method`` is ``"prior"``, ``"platt"``, ``"linear"`` or ``"isotonic"``. For a prior shift
    ``slopes`` is empty and ``points`` holds one logarithm of a weight per class. For a line
    there are a slope and an intercept, per class where there are several; for an isotonic
    map the knots, as (from, to), per class; ``probabilities`` says what lies between 0 and 1.
    """

    method: str
    slopes: tuple[float, ...] = ()
    points: tuple[float, ...] = ()
    knots: tuple[tuple[tuple[float, float], ...], ...] = ()
    probabilities: bool = True

    def __str__(self) -> str:
        if self.method == "prior":
            return "its scores moved to the classes' new shares"
        if self.method == "isotonic":
            levels = sum(len(one) for one in self.knots)
            return f"an isotonic map of its scores ({levels:,} levels)"
        lines = [f"{a:.3g} and {b:.3g}" for a, b in zip(self.slopes, self.points, strict=True)]
        of = "the log odds of its scores" if self.method == "platt" else "its scores"
        return f"a line over {of}, slope and intercept {', '.join(lines[:3])}"

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Return scores as the map has them, in the form they came in."""
        import numpy as np

        if self.method == "prior":
            return _reweighted(scores, np.array(self.points))
        if scores.ndim == 1:
            return self._one(scores, 0)
        mapped = np.column_stack([self._one(scores[:, k], k) for k in range(scores.shape[1])])
        total: np.ndarray = mapped / mapped.sum(axis=1, keepdims=True)
        return total

    def _one(self, scores: np.ndarray, place: int) -> np.ndarray:
        if self.method == "isotonic":
            return _interpolated(scores, self.knots[place], self.probabilities)
        slope, point = self.slopes[place], self.points[place]
        if self.method == "platt":
            return _logistic(slope * _logit(scores) + point)
        line: np.ndarray = slope * scores + point
        return line


# Prior shift ------------------------------------------------------------------------------


def shares_of(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the share of each class among rows, near to what their scores say where these are few.

    To the labels of a class, and to those that the scores lead one to expect, one is added: a
    class that a few rows happen not to show is hardly rarer than it was, and never gone.

    Parameters
    ----------
    known
        Labels as places of classes, (n,).
    scores
        Probabilities of the second class, (n,), or of each class, (n, classes).
    """
    import numpy as np

    said = np.maximum(_wide(scores).mean(axis=0), TINY)
    counts = np.bincount(known, minlength=said.size)
    shares: np.ndarray = said * (counts + 1.0) / (known.size * said + 1.0)
    return shares / float(shares.sum())


def prior_shift(scores: np.ndarray, shares: np.ndarray) -> Map:
    """Return the map under which classes have, on average over the rows, the shares they have.

    Odds change by one factor per class, as they do where classes become rarer or more frequent
    and look as they did. The factors are those of greatest likelihood: the model of a logistic
    regression with an intercept alone beside the scores.

    Parameters
    ----------
    scores
        Probabilities of the second class, (n,), or of each class, (n, classes).
    shares
        The share of each class among the labels of these rows.
    """
    import numpy as np

    wide = _wide(scores)
    weights = np.zeros(wide.shape[1])
    for _ in range(ROUNDS):
        step = np.log(shares) - np.log(_shifted(wide, weights).mean(axis=0))
        weights += step
        if np.abs(step).max() < MOVED:
            break
    return _prior(weights)


def prior_shift_without_labels(scores: np.ndarray, before: np.ndarray) -> Map:
    """Return the map for rows without labels, from the shares that classes had in training.

    References
    ----------
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities: a simple procedure (2002), equation 2.9.
    """
    import numpy as np

    wide = _wide(scores)
    shares = before
    for _ in range(ROUNDS):
        now = _shifted(wide, np.log(shares) - np.log(before)).mean(axis=0)
        moved = np.abs(now - shares).max()
        shares = now
        if moved < MOVED:
            break
    return _prior(np.log(np.maximum(shares, TINY)) - np.log(before))


def _prior(weights: np.ndarray) -> Map:
    return Map("prior", points=tuple(float(one) for one in weights - weights[0]))


def _reweighted(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    shifted = _shifted(_wide(scores), weights)
    one: np.ndarray = shifted if scores.ndim == 2 else shifted[:, 1]
    return one


def _shifted(wide: np.ndarray, weights: np.ndarray) -> np.ndarray:
    import numpy as np

    # In logarithms, so that a rank is kept where a probability is as good as 1.
    powers = np.log(np.maximum(wide, TINY)) + weights
    shares = np.exp(powers - powers.max(axis=1, keepdims=True))
    total: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return total


def _wide(scores: np.ndarray) -> np.ndarray:
    import numpy as np

    return scores if scores.ndim == 2 else np.column_stack([1.0 - scores, scores])


# Lines ------------------------------------------------------------------------------------


def platt(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float] | None:
    """Return slope and intercept of a logistic map over log odds; None where it would not rise.

    Parameters
    ----------
    scores
        Probabilities, (n,).
    hits
        Whether each row is of the class, (n,).

    References
    ----------
    Platt, Probabilistic outputs for support vector machines (1999), with its targets short of
    0 and 1; here over log odds, so that a map that changes nothing is one of them. Lin, Lin and
    Weng, A note on Platt's probabilistic outputs for support vector machines (2007): Newton's
    method with steps halved until the loss falls, which reaches the optimum from anywhere.
    """
    import numpy as np

    x = _logit(scores)
    positive = float(hits.sum())
    high, low = (positive + 1.0) / (positive + 2.0), 1.0 / (hits.size - positive + 2.0)
    target = np.where(hits, high, low)
    design = np.column_stack([x, np.ones_like(x)])
    same = np.array([1.0, 0.0])

    def loss(beta: np.ndarray) -> float:
        odds, far = design @ beta, beta - same
        # A little ridge towards the map that changes nothing, where scores hardly differ.
        return float((np.logaddexp(0.0, odds) - target * odds).sum() + RIDGE / 2 * (far @ far))

    # From one answer for all, where every row weighs: over-sure scores are flat elsewhere.
    beta = np.array([0.0, float(_logit(target.mean()))])
    least = loss(beta)
    for _ in range(ROUNDS):
        answer = _logistic(design @ beta)
        weight = answer * (1.0 - answer)
        hessian = design.T @ (design * weight[:, None]) + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (target - answer) - RIDGE * (beta - same))
        size, moved = 1.0, loss(beta + step)
        while moved > least and size > MOVED:
            size /= 2.0
            moved = loss(beta + size * step)
        if moved >= least:
            break
        beta, least = beta + size * step, moved
    slope, point = float(beta[0]), float(beta[1])
    return (slope, point) if slope > 0.0 and np.isfinite(beta).all() else None


def line(scores: np.ndarray, known: np.ndarray) -> tuple[float, float] | None:
    """Return slope and intercept of least squares; None where it would not rise."""
    import numpy as np

    spread = scores - scores.mean()
    square = float(spread @ spread)
    if square <= TINY * scores.size:
        return None
    slope = float(spread @ known) / square
    point = float(known.mean()) - slope * float(scores.mean())
    return (slope, point) if slope > 0.0 and np.isfinite(point) else None


# Isotonic ---------------------------------------------------------------------------------


def isotonic(
    scores: np.ndarray, known: np.ndarray, *, probabilities: bool
) -> tuple[tuple[float, float], ...]:
    """Return the knots of an isotonic regression that rises everywhere, and so keeps every rank.

    Each level of the regression is one knot, at the mean of the scores it covers, with straight
    lines between. Levels of probabilities stay as far from 0 and 1 as their rows allow.

    References
    ----------
    Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates (2002); Oron and Flournoy, Centered isotonic regression (2017).
    """
    import numpy as np
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(scores, kind="stable")
    x, y = scores[order].astype(np.float64), known[order].astype(np.float64)
    # Equal scores are one point, or their order would make up a rise among them.
    values, first, counts = np.unique(x, return_index=True, return_counts=True)
    means = np.add.reduceat(y, first) / counts
    levels = isotonic_regression(means, sample_weight=counts.astype(np.float64))
    starts = np.flatnonzero(_rises(levels))
    sizes = np.add.reduceat(counts, starts)
    centres = np.add.reduceat(values * counts, starts) / sizes
    heights = levels[starts]
    if probabilities:
        low, high = 1.0 / (sizes[0] + 2.0), 1.0 - 1.0 / (sizes[-1] + 2.0)
        heights = np.clip(heights, min(low, high), max(low, high))
    kept = _rises(heights) & np.r_[True, np.diff(centres) > 0.0]
    return tuple((float(a), float(b)) for a, b in zip(centres[kept], heights[kept], strict=True))


def _rises(levels: np.ndarray) -> np.ndarray:
    """Return which levels are above the one before, the first among them.

    Two that were added up in another order differ by the last bits: between them nothing rises.
    """
    import numpy as np

    rises: np.ndarray = np.r_[True, np.diff(levels) > ROUNDED * np.abs(levels[1:])]
    return rises


def _interpolated(
    scores: np.ndarray, knots: tuple[tuple[float, float], ...], probabilities: bool
) -> np.ndarray:
    """Return scores along the knots; beyond them the odds, or values, move along in parallel."""
    import numpy as np

    x, y = (np.array(one) for one in zip(*knots, strict=True))
    found = np.interp(scores, x, y)
    for beyond, at in ((scores < x[0], 0), (scores > x[-1], -1)):
        if not beyond.any():
            continue
        if probabilities:
            odds = _logit(np.asarray(y[at])) - _logit(np.asarray(x[at]))
            found[beyond] = _logistic(_logit(scores[beyond]) + odds)
        else:
            found[beyond] = scores[beyond] - x[at] + y[at]
    mapped: np.ndarray = found
    return mapped


def _logit(scores: np.ndarray) -> np.ndarray:
    import numpy as np

    inside = np.clip(scores, TINY, 1.0 - TINY)
    odds: np.ndarray = np.log(inside) - np.log1p(-inside)
    return odds


def _logistic(odds: np.ndarray) -> np.ndarray:
    import numpy as np

    share: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0)))
    return share
