"""Direct loss estimation: a small model of how wrong another one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keepfit.batch import spread
from keepfit.errors import ConfigError
from keepfit.estimates.estimate import Estimate, none
from keepfit.estimates.expected import checked, known
from keepfit.estimates.inputs import check_level, values
from keepfit.estimates.intervals import belief, bounds, stretches, wander
from keepfit.estimates.rows import Features, features_of
from keepfit.estimates.state import State, asked
from keepfit.estimates.support import Support, support
from keepfit.estimates.trees import Boost, Trees, coded, cuts_of
from keepfit.metrics.values import MAE, MAPE, RMSE
from keepfit.parts import Part

Array = NDArray[np.float64]

MEASURES = {"mae": MAE(), "rmse": RMSE(), "mape": MAPE()}

MOST = 20_000
"""Reference rows that the trees are grown on."""

LEVELLED = 250_000
"""Reference rows that set the level of what the trees answer."""

LEFT_OUT = 10_000
"""Reference rows that tell how far such trees are off where they did not learn."""

TREES = Boost(trees=60, depth=5, rate=0.25, ridge=100.0)

PER_RIDGE = 400
"""Rows that the trees are grown on for each row of their ridge, where there are few."""

FEWEST = 20
"""Reference rows at least."""

STEPS = 10
"""Levels of loss at which its spread is kept."""


@dataclass(frozen=True, repr=False)
class DLE(Part):
    """Estimates metrics of regression from scores and features.

    A second, small model learns on the reference how large the loss of a row is, given its
    score and features; over a batch, what it answers is averaged. It holds while rows that
    look alike are as hard as they were: it sees data drift towards harder rows, and cannot
    see concept drift.

    Parameters
    ----------
    metrics
        Which can be asked for, of ``"mae"``, ``"rmse"`` and ``"mape"``: each has a model of
        its own.
    seed
        Draws the columns that a tree looks at, where there are more than sixteen.

    Raises
    ------
    ConfigError
        A metric is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> scores = generator.uniform(1, 5, 1_000)
    >>> labels = scores + generator.normal(0, scores)  # higher values are harder
    >>> state = DLE(metrics=["mae"]).fit(labels, scores)
    >>> state.estimate(generator.uniform(3, 5, 1_000), metric="mae")  # 0.8 times 4 is 3.2
    mae estimated 3.2... [3.0..., 3.4...] over 1,000 rows (DLE)

    References
    ----------
    Direct loss estimation as NannyML defines it; trees as Prokhorenkova et al., CatBoost
    (2018).
    """

    metrics: Sequence[str] = ("mae", "rmse", "mape")
    seed: int = 0

    def __post_init__(self) -> None:
        checked(self.metrics, tuple(MEASURES))

    def fit(self, labels: Any, scores: Any, features: Any = None) -> LossModel:
        """Return what a reference teaches; its rows are in order of event time.

        Parameters
        ----------
        labels, scores
            Values, and the model's answers on rows it was not trained on.
        features
            A Polars, pandas or Arrow table, a matrix of numbers, or None for the score alone. Columns of times
            and of nested values are left out.

        Raises
        ------
        ConfigError
            Lengths differ, there are fewer than twenty rows, or some values are not finite.
        """
        labels, scores = _reference(labels, scores)
        losses = {metric: MEASURES[metric].losses(labels, scores) for metric in self.metrics}
        encoding, columns = features_of(features, losses[self.metrics[0]])
        rows = [scores, *columns]
        some = spread(scores.size, MOST)
        cuts = [cuts_of(column) for column in _of(rows, some)]
        codes = np.stack([coded(*pair) for pair in zip(_of(rows, some), cuts, strict=True)])
        ridge = min(TREES.ridge, codes.shape[1] / PER_RIDGE)
        grower = _Grower(replace(TREES, ridge=ridge), codes, cuts, self.seed)
        return LossModel(
            rows=scores.size,
            support=support(scores, gaps=False),
            features=encoding,
            losses={metric: grower.fit(loss, rows, some) for metric, loss in losses.items()},
        )


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Trees that answer the loss of a row, and how losses spread around what they answer.

    ``wander`` is relative to the square of a mean loss: what makes rows harder with time, or
    hides from the trees, makes hard rows harder by more.
    """

    trees: Trees
    levels: tuple[float, ...]
    spread: tuple[float, ...]
    doubt: float
    wander: float


class LossModel(State, frozen=True, kw_only=True):
    """What `DLE` learnt from a reference: trees for each metric, tens of kilobytes in all.

    Examples
    --------
    >>> import numpy as np
    >>> state = DLE(metrics=["mae"]).fit(np.arange(100.0) % 7, np.full(100, 3.0))
    >>> LossModel.loads(state.dumps()) == state
    True
    """

    rows: int
    support: Support
    features: Features
    losses: dict[str, Loss]

    def __repr__(self) -> str:
        return self._line(self.rows, self.losses)

    def estimate(
        self, scores: Any, features: Any = None, metric: str | None = None, *, level: float = 0.95
    ) -> Estimate:
        """Return the metric to expect of a batch, from its scores and features.

        No rows, or scores that are not finite, give a NaN that says why.

        Parameters
        ----------
        scores
            The model's answers.
        features
            The features that the reference had. Where it had none they may be left out, also where
            the metric comes second: ``estimate(scores, "rmse")``.
        metric
            None for ``"mae"``, or one of ``"mae"``, ``"rmse"`` and ``"mape"``.
        level
            The share of batches whose realised value lies in the interval.

        Raises
        ------
        ConfigError
            The metric is not one that was fitted, or features do not fit the scores.
        SchemaMismatch
            A column of the reference is missing or has another kind.
        """
        features, metric = asked(features, metric, "mae")
        loss = self.losses[known(metric, tuple(self.losses))]
        check_level(level)
        found, reason = values(scores)
        if reason:
            return none(metric, len(found), "DLE", level, reason)
        columns, odd = self.features.encoded(features, found.size)
        unlike = float((odd | self.support.outside(found)).mean())
        each = loss.trees([found, *columns])
        mean = max(0.0, float(each.mean()))
        spread = float(np.interp(each, loss.levels, loss.spread).mean())
        variance = spread / found.size + loss.doubt + loss.wander * mean**2
        low, high = bounds(mean, variance, found.size, level, share=False)
        if metric == "rmse":  # the trees answer squares
            mean, low, high = mean**0.5, low**0.5, high**0.5
        return Estimate(
            metric,
            *(mean, low, high),
            n=found.size,
            method="DLE",
            unlike=unlike,
            trust=belief(unlike, self.rows),
            level=level,
            effective=float(self.rows),
        )


Places = NDArray[np.intp]


@dataclass(frozen=True)
class _Grower:
    """Grows trees for one loss after another on the same columns."""

    boost: Boost
    codes: NDArray[np.uint8]
    cuts: Sequence[Array]
    seed: int

    def fit(self, loss: Array, rows: Sequence[Array], some: Places) -> Loss:
        trees = self._grown(self.codes, loss[some])
        sample = spread(loss.size, LEVELLED)
        trees = trees.moved(float((loss[sample] - trees(_of(rows, sample))).mean()))
        few = some[spread(some.size, LEFT_OUT)]
        answers, pairs = self._left_out(trees, loss[few], _of(rows, few))
        away = (loss[few] - answers) ** 2
        order = np.argsort(answers, kind="stable")
        parts = np.array_split(order, min(STEPS, order.size))
        return Loss(
            trees=trees,
            levels=tuple(float(answers[part].mean()) for part in parts),
            spread=tuple(float(away[part].mean()) for part in parts),
            doubt=float(away.mean()) / loss[sample].size,
            wander=wander(pairs),
        )

    def _left_out(
        self, trees: Trees, loss: Array, rows: Sequence[Array]
    ) -> tuple[Array, list[tuple[float, float]]]:
        """Return answers for stretches that trees did not learn from, and how far off."""
        answers, pairs = np.full(loss.size, loss.mean()), []
        many = self.codes.shape[1] > LEFT_OUT
        places = np.array([place.copy() for place in trees.places(rows)]) if many else None
        for out in stretches(loss.size, most=5):
            left = np.zeros(loss.size, dtype=bool)
            left[out] = True
            if places is not None:
                answers[out] = self.boost.answered(places, loss, left)
            else:
                trees = self._grown(self.codes[:, ~left], loss[~left])
                answers[out] = trees(_of(rows, out))
            away = loss[out] - answers[out]
            of_mean = float(away.var()) * (1 / away.size + 1 / (~left).sum())
            level = float(answers[out].mean())
            if level > 0:
                pairs.append((float(away.mean()) / level, of_mean / level**2))
        return answers, pairs

    def _grown(self, codes: NDArray[np.uint8], loss: Array) -> Trees:
        return self.boost.grow(codes, self.cuts, loss, seed=self.seed)


def _of(rows: Sequence[Array], part: slice | Places) -> list[Array]:
    """Return some values of each column, each as one piece of memory."""
    return [np.ascontiguousarray(column[part]) for column in rows]


def _reference(labels: Any, scores: Any) -> tuple[Array, Array]:
    found, reason = values(scores)
    true, missing = values(labels)
    if true.size != found.size:
        raise ConfigError(f"expected a label per score, got {true.size:,} and {found.size:,}")
    if reason or missing:
        raise ConfigError(
            f"expected a reference of finite labels and scores, got {reason or missing}",
            hint="leave out rows whose label is missing",
        )
    if found.size < FEWEST:
        raise ConfigError(f"expected a reference of {FEWEST} rows or more, got {found.size}")
    return true, found
