"""Policies as paths through models that are trained already: which serves each batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from policies import Base, Forecaster, Learned, Policy, Rccda, tuned
from stream_models import BASE, CHAIN, FIRST, WINDOWS, Models

OFFLINE = 10
"""Batches with which a published policy learns, a model being trained at each."""

PRICES = (0.01, 0.1)
"""What a training costs, in mean losses of a batch: a point of accuracy on a batch, and ten."""

Path_ = list[tuple[tuple[str, int, int], bool]]
"""For each batch the model that serves it, and whether it was fitted for it."""


def every(recipe: str, steps: int) -> Callable[[Models], Path_]:
    """Train a recipe at equal distances."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        newest = (recipe, FIRST, 0)
        for batch in range(FIRST, models.last):
            due = (batch - FIRST) % steps == 0 and (recipe, batch, 0) in models.wrong
            newest = (recipe, batch, 0) if due else newest
            found.append((newest, due))
        return found

    return path


def leaves(steps: int) -> Callable[[Models], Path_]:
    """Train on the base window at equal distances, and refit leaves with every batch between."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        start = FIRST
        for batch in range(FIRST, models.last):
            if (batch - FIRST) % steps == 0 and (BASE, batch, 0) in models.wrong:
                start = batch
            found.append(((BASE, start, min(batch - start, CHAIN - 1)), True))
        return found

    return path


def on_error(make: Callable[[], Any], recipe: str = BASE) -> Callable[[Models], Path_]:
    """Train when a detector of River's sees the error rise."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        detector, newest, due = make(), (recipe, FIRST, 0), True
        for batch in range(FIRST, models.last):
            if due and (recipe, batch, 0) in models.wrong:
                newest, detector = (recipe, batch, 0), make()
            found.append((newest, due))
            due = False
            for wrong in models.errors(newest, batch).tolist():
                detector.update(wrong)
                due = due or detector.drift_detected
        return found

    return path


def published(
    make: Callable[[np.ndarray, int], Policy], recipe: str = BASE, offline: int = OFFLINE
) -> Callable[[Models], Path_]:
    """Train with each of the first batches, and then when a published policy says so.

    It is made from the losses on these of the models trained with them, and from how many
    batches there are.
    """

    def path(models: Models) -> Path_:
        found: Path_ = []
        newest, due, policy = (recipe, FIRST, 0), True, None
        for batch in range(FIRST, models.last):
            newest = (recipe, batch, 0) if due and (recipe, batch, 0) in models.wrong else newest
            found.append((newest, due))
            # The policies count batches from the one whose end the first model was trained at.
            number = batch - FIRST + 1
            if number == offline:
                policy = make(_matrix(models, recipe, offline), models.last - FIRST + 1)
            loss = models.error(newest, batch)
            due = policy is None or policy.after(number, loss)
        return found

    return path


def _matrix(models: Models, recipe: str, offline: int) -> np.ndarray:
    """Return the loss of each model of the first batches on each later one of them."""
    matrix = np.full((offline, offline + 1), np.nan)
    newest = (recipe, FIRST, 0)
    for i in range(offline):
        # Rows of one class make no model: the one before serves on.
        newest = (recipe, FIRST + i, 0) if (recipe, FIRST + i, 0) in models.wrong else newest
        for t in range(i + 1, offline + 1):
            matrix[i, t] = models.error(newest, FIRST + t - 1)
    return matrix


def cara(kind: str, price: float) -> Callable[[Models], Path_]:
    """Train as CARA does, at a price."""
    return published(lambda matrix, batches: tuned(kind, matrix, price))


def imitating(kind: type[Base | Learned], price: float) -> Callable[[Models], Path_]:
    """Train as the optimal strategy did beforehand, at a price."""

    def make(matrix: np.ndarray, batches: int) -> Policy:
        policy = kind.learnt(matrix, price)
        policy.trained = OFFLINE - 1
        return policy

    return published(make)


def rccda(share: float, level: float, rise: float) -> Callable[[Models], Path_]:
    """Train as RCCDA does, with a share of the batches at most."""
    return published(lambda matrix, batches: Rccda(share, level, rise), offline=1)


def upf(price: float) -> Callable[[Models], Path_]:
    """Train as UPF does, at a price."""

    def make(matrix: np.ndarray, batches: int) -> Policy:
        policy = Forecaster(price, batches).learn(matrix)
        policy.serving = OFFLINE - 1
        return policy

    return published(make)


def hindsight(models: Models) -> Path_:
    """Serve every batch by the model that does best on it; what it costs does not count."""
    found: Path_ = []
    for batch in range(FIRST, models.last):
        keys = [
            key
            for key in models.wrong
            if key[1] == batch - key[2] or (not key[2] and key[1] <= batch)
        ]
        found.append((min(keys, key=lambda key: models.error(key, batch)), False))
    return found


def oracle(share: float) -> Callable[[Models], Path_]:
    """Return the best path that costs at most a share of training each batch on all rows."""

    def path(models: Models) -> Path_:
        budget = share * cost(models, every("all rows", 1)(models))
        low, high, best = 0.0, 10.0, _cheapest(models, 10.0)
        for _ in range(20):
            price = (low + high) / 2
            tried = _cheapest(models, price)
            if cost(models, tried) <= budget:
                high, best = price, tried
            else:
                low = price
        return best

    return path


def _cheapest(models: Models, price: float) -> Path_:
    """Return the path of least error and price of fits together (dynamic programming)."""
    fresh = [key for key in models.wrong if key[2] == 0]
    plan: dict[int, Any] = {}
    # From a batch on: what each model costs that serves it, and the best that starts with it.
    serving: dict[tuple[str, int, int], float] = {}
    anew = 0.0
    for batch in reversed(range(FIRST, models.last)):
        serving = {
            key: models.error(key, batch) + min(serving.get(key, 0.0), anew)
            for key in fresh
            if key[1] <= batch
        }
        starts = [(serving[key] + price * models.cpu[key], key) for key in serving]
        best = min((one for one in starts if one[1][1] == batch), default=None)
        anew = float("inf") if best is None else best[0]
        plan[batch] = best, serving
    found: Path_ = []
    newest: tuple[str, int, int] | None = None
    for best, kept in reversed(plan.values()):
        change = best is not None and (newest is None or best[0] < kept[newest])
        newest = best[1] if change else newest
        found.append((newest, change))
    return found


def cost(models: Models, path: Path_) -> float:
    """Return the CPU seconds of the fits on a path."""
    return sum(models.cpu[key] for key in {key for key, fitted in path if fitted})


def accuracy(models: Models, path: Path_) -> float:
    """Return the share of rows answered right, in per cent."""
    found = [models.error(key, batch) for batch, (key, _) in enumerate(path, FIRST)]
    return 100 * (1 - float(np.mean(found)))


def policies() -> dict[str, Callable[[Models], Path_]]:
    """Return the policies by name."""
    from river import drift
    from river.drift import binary

    return {
        "never": every("all rows", 10**6),
        "every batch, all rows": every("all rows", 1),
        **{f"every batch, {name}": every(name, 1) for name in WINDOWS if name != "all rows"},
        "every 5th, 20 batches": every("20 batches", 5),
        "every 10th, all rows": every("all rows", 10),
        "every 5th on 20 batches, leaves between": leaves(5),
        "every 10th on 20 batches, leaves between": leaves(10),
        "ADWIN on the error": on_error(drift.ADWIN),
        "DDM on the error": on_error(binary.DDM),
        "KSWIN on the error": on_error(lambda: drift.KSWIN(seed=0)),
        **{
            f"CARA, {name}, a training costs {price:g}": cara(kind, price)
            for kind, name in (("T", "threshold"), ("CT", "cumulative"), ("P", "periodic"))
            for price in PRICES
        },
        **{
            f"{name}, a training costs {price:g}": imitating(kind, price)
            for name, kind in (("RetrainOpt, base", Base), ("RetrainOpt, learned", Learned))
            for price in PRICES
        },
        **{f"UPF, a training costs {price:g}": upf(price) for price in PRICES},
        "RCCDA, with a tenth of the batches": rccda(0.1, 1.0, 0.1),
        "RCCDA, with a quarter of the batches": rccda(0.25, 2.5, 0.5),
        "oracle at a quarter of the cost": oracle(0.25),
        "the best of all for each batch": hindsight,
    }
