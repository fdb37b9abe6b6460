"""Published policies of training that weigh costs, to compare `triggers.Pays` with.

A policy is told after each batch what the serving model lost on it, and says whether to train.
Costs are counted in losses: a batch costs the mean loss of the model that served it, a training
costs ``price`` such means. What a policy learns beforehand it learns from an *offline matrix*:
``matrix[i, t]`` is the mean loss on batch t of the model trained on the batches up to i, NaN
for t <= i.

CARA, from Mahadevan and Mathioudakis, Cost-aware retraining for machine learning (2024;
arXiv 2310.04216, 2023): `CaraT`, `CaraCT` and `CaraP` with parameters that minimise the cost of
the strategy on the offline matrix (`tuned`), and their retrospective optimum (`oracle`). The
paper weighs losses by how much the data are like the queries; here the queries of a batch are
its own rows, all alike, so that the staleness cost is the batch's loss. Taken from summaries and
not from the paper's own text: that a batch after which one trains costs the price beside
its loss, and the grid of thresholds (all that the offline matrix holds).

UPF, from Regol, Schwinn, Sprague, Coates and Markovich, When to retrain a machine learning model
(ICML 2025; arXiv 2505.14903): `Forecaster`. Its cost is alpha a training beside the performance
of each batch, alpha = c / (e N) (equation 3); a bounded loss is Beta distributed, its mean linear
in when the model was trained, its age, the time and the shift of the features, its variance that
of the residuals (section 3.3); it trains where the 95 % quantile of the cost is lower with a
training than without (equation 15). Taken from a reimplementation and not from the paper's own
text: the elastic net, the order of features, and that costs add up over the horizon.

Base and Learned, from Yang and Mathioudakis, Automated retraining for cost-optimal ML (ECML PKDD
2026), as its authors' package retrainopt 0.4 describes them: both imitate the optimal strategy
on the offline matrix, `Base` its mean distance between trainings, `Learned` its choices, by a
random forest of 100 trees on how much a model loses beyond its first loss, on that summed up
since its training, and on its age. Theirs also choose how many rows to train on; here that
is the recipe's.

RCCDA, from Piaseczny, Shisher, Wang and Brinton, RCCDA: adaptive model updates in the presence of
concept drift under a constrained resource budget (NeurIPS 2025; arXiv 2505.24149): `Rccda`. It
learns nothing beforehand and knows no price: what it keeps to is a share of batches after which
it may train. The rule and its gains for each share are those of its authors' code, which
takes the loss before to be the loss now; here it is that of the batch before, as the rule
has it.

PILOT, which is named beside them, is not here: no text of it was found to be true to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Policy(Protocol):
    """Says after each batch whether to train on all up to it."""

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        """Return whether to train now, from the loss on a batch of the model that served it.

        ``shift`` is how far the means of the features lie from those of the batch before.
        """


# CARA -----------------------------------------------------------------------------------


@dataclass
class CaraT:
    """Train when a batch's staleness cost exceeds a threshold."""

    threshold: float

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        return loss > self.threshold


@dataclass
class CaraCT:
    """Train when the staleness costs since the last training together exceed a threshold."""

    threshold: float
    total: float = field(default=0.0, init=False)

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        self.total += loss
        due = self.total > self.threshold
        self.total = 0.0 if due else self.total
        return due


@dataclass(frozen=True)
class CaraP:
    """Train after every so many batches, from an offset on."""

    period: int
    offset: int = 0

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        return batch >= self.offset and (batch - self.offset) % self.period == 0


def tuned(kind: str, matrix: Matrix, price: float) -> Policy:
    """Return a CARA policy, ``"T"``, ``"CT"`` or ``"P"``, that costs least on an offline matrix."""
    tried = _grid(kind, matrix)
    return min(tried, key=lambda make: cost_of(make(), matrix, price))()


def _grid(kind: str, matrix: Matrix) -> Iterator[Callable[[], Policy]]:
    first, last = 0, matrix.shape[1] - 1
    if kind == "P":
        for period in range(1, last + 2):
            for offset in range(first + 1, min(first + period, last) + 1):
                yield lambda period=period, offset=offset: CaraP(period, offset)
        return
    known = matrix[np.isfinite(matrix)]
    if kind == "CT":
        sums = [np.cumsum(matrix[i, i + 1 :]) for i in range(matrix.shape[0])]
        known = np.concatenate(sums) if sums else known
    make = {"T": CaraT, "CT": CaraCT}[kind]
    for threshold in (*np.unique(known), np.inf):
        yield lambda threshold=float(threshold): make(threshold)


def walked(policy: Policy, matrix: Matrix, shifts: NDArray[np.float64] | None = None) -> list[int]:
    """Return the batches after which a policy trains, the first model being that of batch 0."""
    serving, trained = 0, []
    for batch in range(1, matrix.shape[1]):
        shift = 0.0 if shifts is None else float(shifts[batch])
        # A model trained after the last batch serves nothing.
        if policy.after(batch, float(matrix[serving, batch]), shift) and batch < matrix.shape[0]:
            serving = batch
            trained.append(batch)
    return trained


def cost(trained: list[int], matrix: Matrix, price: float) -> float:
    """Return what a strategy costs: the loss of each batch, and the price of each training."""
    lost, serving = 0.0, 0
    for batch in range(1, matrix.shape[1]):
        lost += float(matrix[serving, batch])
        serving = batch if batch in trained else serving
    return lost + price * len(trained)


def cost_of(policy: Policy, matrix: Matrix, price: float) -> float:
    """Return what a policy costs."""
    return cost(walked(policy, matrix), matrix, price)


def oracle(matrix: Matrix, price: float) -> list[int]:
    """Return the strategy that costs least, by dynamic programming with all losses known."""
    last = matrix.shape[1] - 1
    best = {last: (0.0, [])}
    for at in reversed(range(last)):
        # The model of batch `at` serves until it is replaced after a later batch, or to the end.
        lost = np.cumsum(matrix[at, at + 1 :])
        options = [(float(lost[-1]), [])]
        for then in range(at + 1, min(last, matrix.shape[0])):
            ahead, plan = best[then]
            options.append((float(lost[then - at - 1]) + price + ahead, [then, *plan]))
        best[at] = min(options, key=lambda option: option[0])
    return best[0][1]


# Base and Learned -----------------------------------------------------------------------


@dataclass
class Base:
    """Train once a model is as old as the optimal strategy let its models become, on average."""

    period: float
    trained: int = field(default=0, init=False)

    @classmethod
    def learnt(cls, matrix: Matrix, price: float) -> Base:
        """Return the policy that an offline matrix teaches."""
        trained = oracle(matrix, price)
        return cls((matrix.shape[1] - 1) / len(trained) if trained else np.inf)

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        due = batch - self.trained >= self.period
        self.trained = batch if due else self.trained
        return due


@dataclass
class Learned:
    """Train where a random forest takes it that the optimal strategy would.

    Parameters
    ----------
    choose
        Says so of losses beyond a model's first, their sum since its training, and its age;
        None never does.
    """

    choose: Callable[[tuple[float, float, float]], bool] | None
    trained: int = field(default=0, init=False)
    _first: float | None = field(default=None, init=False)
    _lost: float = field(default=0.0, init=False)

    @classmethod
    def learnt(cls, matrix: Matrix, price: float, seed: int = 0) -> Learned:
        """Return the policy that an offline matrix teaches."""
        from sklearn.ensemble import RandomForestClassifier

        best = oracle(matrix, price)
        seen: list[tuple[float, float, float]] = []

        def teach(state: tuple[float, float, float]) -> bool:
            seen.append(state)
            return len(seen) in best

        walked(cls(teach), matrix)
        if not best:
            return cls(None)
        forest = RandomForestClassifier(n_estimators=100, random_state=seed)
        forest.fit(seen, [batch in best for batch in range(1, len(seen) + 1)])
        return cls(lambda state: bool(forest.predict([state])[0]))

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        self._first = loss if self._first is None else self._first
        self._lost += loss - self._first
        state = loss - self._first, self._lost, float(batch - self.trained)
        if self.choose is None or not self.choose(state):
            return False
        self.trained, self._first, self._lost = batch, None, 0.0
        return True


# RCCDA ----------------------------------------------------------------------------------


@dataclass
class Rccda:
    """Train when losses have risen by more than a queue of earlier trainings is long.

    Parameters
    ----------
    share
        Of the batches, after how many it may train on average.
    level
        How much a loss counts beyond the least so far.
    rise
        How much it counts beyond that of the batch before.
    weight
        V: how much losses count beside the queue.
    """

    share: float
    level: float
    rise: float
    weight: float = 10.0
    queue: float = field(default=0.0, init=False)
    _least: float = field(default=np.inf, init=False)
    _last: float | None = field(default=None, init=False)

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        self._least = min(self._least, loss)
        risen = 0.0 if self._last is None else loss - self._last
        self._last = loss
        gain = self.level * (loss - self._least) + self.rise * risen
        due = self.weight * gain > self.queue + 0.5 - self.share
        self.queue = max(0.0, self.queue + due - self.share)
        return due


# UPF ------------------------------------------------------------------------------------


@dataclass
class Forecaster:
    """Train when the forecast cost of the horizon is lower with a training, at its 95 % quantile.

    Parameters
    ----------
    price
        alpha: what a training costs, in mean losses of a batch.
    batches
        How many batches there are in all: times are shares of it.
    horizon
        Over how many batches costs are forecast.
    """

    price: float
    batches: int
    horizon: int = 10
    quantile: float = 0.95
    draws: int = 4_000
    seed: int = 0
    seen: list[tuple[tuple[float, ...], float]] = field(default_factory=list, init=False)
    serving: int = field(default=0, init=False)

    def learn(self, matrix: Matrix) -> Forecaster:
        """Take in an offline matrix, and return the policy itself."""
        for i, t in itertools.product(range(matrix.shape[0]), range(matrix.shape[1])):
            if np.isfinite(matrix[i, t]):
                self.seen.append((self._features(i, t, 0.0), float(matrix[i, t])))
        return self

    def after(self, batch: int, loss: float, shift: float = 0.0) -> bool:
        self.seen.append((self._features(self.serving, batch, shift), loss))
        if len(self.seen) < 5:
            return False
        keep, train = self.forecast(batch, shift)
        if train < keep:
            self.serving = batch
            return True
        return False

    def forecast(self, batch: int, shift: float) -> tuple[float, float]:
        """Return the 95 % quantiles of the cost of the horizon: kept, and trained now."""
        ahead = range(batch + 1, batch + 1 + self.horizon)
        means, variance = self._fitted(
            [self._features(i, t, shift) for i in (self.serving, batch) for t in ahead]
        )
        rng = np.random.default_rng(self.seed)
        keep, train = (
            float(np.quantile(self._drawn(part, variance, rng).sum(axis=1), self.quantile))
            for part in np.split(means, 2)
        )
        return keep, self.price + train

    def _features(self, trained: int, batch: int, shift: float) -> tuple[float, ...]:
        return (
            trained / self.batches,
            (batch - trained) / self.batches,
            batch / self.batches,
            shift,
        )

    def _fitted(self, asked: list[tuple[float, ...]]) -> tuple[NDArray[np.float64], float]:
        """Return the mean loss at some features, and the variance of the residuals."""
        import warnings

        from sklearn.linear_model import ElasticNetCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x = np.array([features for features, _ in self.seen])
        y = np.array([loss for _, loss in self.seen])
        net = ElasticNetCV(
            l1_ratio=[0.1, 0.5, 0.9, 1.0], cv=max(2, min(5, len(y))), max_iter=10_000
        )
        model = make_pipeline(StandardScaler(), net)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that do not vary yet
            model.fit(x, y)
        variance = max(float(np.mean((model.predict(x) - y) ** 2)), 1e-8)
        return np.clip(model.predict(np.array(asked)), 1e-6, 1 - 1e-6), variance

    def _drawn(
        self, means: NDArray[np.float64], variance: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return draws of Beta distributions of these means and this variance."""
        widest = means * (1 - means)
        # No Beta distribution is wider than that.
        size = widest / np.minimum(variance, 0.99 * widest) - 1
        return rng.beta(means * size, (1 - means) * size, size=(self.draws, means.size))
