"""XGBoost: from scratch, more trees on the champion's, or new leaves in the champion's trees."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from keepfit.errors import ConfigError, TrainingError, nearest
from keepfit.learners import estimators, labels
from keepfit.learners.boosting import (
    Boosting,
    checked_rate,
    refuse_early_stopping,
    refuse_other_objective,
)
from keepfit.learners.models import FittedModel, Head, Size, package

if TYPE_CHECKING:
    import numpy as np

CLASSES = ("XGBClassifier", "XGBRegressor")
DECAY_RATE = 0.9
"""What the library's own refresh keeps, where leaves are not moved by how many rows reach them."""

_LEAVES = {
    "binary:logistic": "binary",
    "multi:softprob": "multiclass",
    "reg:squarederror": "regression",
}
"""Objectives whose gradients are known where leaves learn, and what they are called there."""

_BOUND = ("reg_alpha", "max_delta_step")
"""Settings with which a leaf is no Newton step of its rows."""

_THREADS = ("nthread", "n_jobs")
_SEEDS = ("seed", "random_state")
_TREES = ("gbtree", "dart")
_FORESTS = ("XGBRFClassifier", "XGBRFRegressor")

_PROBABILITIES = {
    "binary:logistic": "binary:logistic",
    "binary:logitraw": "binary:logistic",
    "binary:hinge": "binary:hinge",
    "reg:logistic": "binary:logistic",
    "multi:softmax": "multi:softprob",
    "multi:softprob": "multi:softprob",
}
"""Objectives of a classifier, and the one that learns the same and answers probabilities."""

_OWN_LEAVES = ("reg:absoluteerror", "reg:quantileerror")
"""Objectives whose leaves are medians and quantiles, which `refresh` would make means."""

_FEW_ROWS = 1_000


class XGBoost(Boosting):
    """Trains XGBoost's estimators, from scratch or from the champion.

    ``start="champion", update="all"`` adds trees to the champion's, as many as the estimator
    has by itself, and up to five times as many in all: then a training from scratch is due.
    ``update="leaves"`` keeps the trees and moves their leaves towards the new rows, each by how
    many of them reach it (`keepfit.learners.foliage`); with objectives beside the logistic and
    the squared one towards what XGBoost's ``refresh`` makes of the new rows, where a leaf that
    too few of them reach stays as it is, and ``refresh`` alone would empty it.

    Categories keep the champion's codes in both, and the champion's ``base_score`` stays: all
    its trees count from there.

    XGBoost keeps numbers in single precision: of a moment it sees about two minutes.

    Parameters
    ----------
    estimator
        An ``XGBClassifier`` or ``XGBRegressor``, which is copied and never trained itself.
    decay_rate
        What part of a leaf's old value an update of the leaves keeps; when not given, as much
        as half of the rows that the trees were grown on weigh beside the new ones.

    Raises
    ------
    ConfigError
        The estimator is another one, or asks for what a stream cannot give it.

    Examples
    --------
    >>> from xgboost import XGBClassifier
    >>> XGBoost(XGBClassifier(n_estimators=200, max_depth=4), decay_rate=0.8)
    learners.XGBoost(XGBClassifier(max_depth=4, n_estimators=200), decay_rate=0.8)
    """

    family = "xgboost"
    trains = CLASSES

    def __init__(self, estimator: Any, *, decay_rate: float | None = None) -> None:
        super().__init__(estimator)
        self.decay_rate = None if decay_rate is None else checked_rate(decay_rate)
        self._check()

    def _check(self) -> None:
        found = self.estimator.get_params()
        halts = [
            one
            for one in found.get("callbacks") or ()
            if estimators.derives(one, "xgboost", "EarlyStopping")
        ]
        if halts or found.get("early_stopping_rounds") is not None:
            refuse_early_stopping()
        if (found.get("booster") or "gbtree") not in _TREES:
            raise ConfigError(
                f"expected booster= to be 'gbtree' or 'dart', got {found['booster']!r}",
                hint="for a linear model hand over one of scikit-learn's, such as SGDClassifier()",
            )
        missing = found.get("missing")
        if missing is not None and missing == missing:
            raise ConfigError(
                f"expected missing values to be nulls, got missing={missing!r}",
                hint="leave `missing` out, and turn such values into nulls in the source",
            )
        objective = found.get("objective")
        if self._classify and objective is not None and objective not in _PROBABILITIES:
            shown = "a function" if callable(objective) else repr(objective)
            raise ConfigError(
                f"expected an objective whose scores are probabilities, got {shown}",
                hint=f"one of {', '.join(_PROBABILITIES)}; any is possible with XGBRegressor",
            )

    def _own(self, *, changed: bool = False) -> dict[str, Any]:
        return {} if changed and self.decay_rate is None else {"decay_rate": self.decay_rate}

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the estimator knows."""
        if estimators.derives(self.estimator, "xgboost", *_FORESTS):
            return (("scratch", "all"),)
        ways = [("scratch", "all"), ("champion", "all")]
        found = self.estimator.get_params()
        refreshable = (
            found.get("booster") in (None, "gbtree")
            and found.get("num_parallel_tree") in (None, 1)
            # New leaves know nothing of the bounds that constraints put on them.
            and not found.get("monotone_constraints")
            # Each tree may have had a learning rate of its own.
            and not found.get("callbacks")
            and found.get("multi_strategy") != "multi_output_tree"
        )
        objective = found.get("objective")
        if refreshable and not callable(objective) and objective not in _OWN_LEAVES:
            ways.append(("champion", "leaves"))
        return tuple(ways)

    def _begin(
        self,
        head: Head,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> XGBoostModel:
        exact = self.estimator.get_params().get("tree_method") == "exact"
        coded = set() if exact else set(head.encoding.categorical)
        kinds = ["c" if place in coded else "q" for place in range(matrix.shape[1])]
        parameters = self._parameters(head, matrix.size, seed)
        return XGBoostModel(head, self._boost(parameters, Rows(matrix, known, weight), kinds))

    def _size(self, before: XGBoostModel) -> Size:
        return Size(before.booster.num_boosted_rounds(), self._rounds, "rounds of trees")

    def _extend(
        self,
        before: XGBoostModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> XGBoostModel:
        self._size(before).bounded()
        parameters = self._parameters(before.head, matrix.size, seed)
        self._check_objective(before, parameters)
        # Another one would shift every answer of the champion's trees.
        parameters.pop("base_score", None)
        kinds = before.booster.feature_types
        rows = Rows(matrix, known, weight)
        return XGBoostModel(before.head, self._boost(parameters, rows, kinds, before.booster))

    def _refresh(
        self,
        before: XGBoostModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> XGBoostModel:
        import xgboost as xgb

        parameters = self._parameters(before.head, matrix.size, seed)
        self._check_objective(before, parameters)
        for name in ("base_score", "tree_method", "updater", "subsample"):
            parameters.pop(name, None)
        parameters |= {"process_type": "update", "updater": "refresh", "refresh_leaf": True}
        rows = Rows(matrix, known, weight)
        table = _table(rows, before.booster.feature_types, parameters)
        if before.objective in _LEAVES and not any(self._given.get(name) for name in _BOUND):
            return XGBoostModel(before.head, self._moved(before, table, rows))
        # As many rounds as there are trees, so that none is added.
        rounds = before.booster.num_boosted_rounds()
        fresh = xgb.train(parameters, table, num_boost_round=rounds, xgb_model=before.booster)
        return XGBoostModel(before.head, self._blended(before.booster, fresh))

    def _moved(self, before: XGBoostModel, table: Any, rows: Rows) -> Any:
        """Return trees whose leaves learnt from rows."""
        import numpy as np
        import xgboost as xgb

        from keepfit.learners.foliage import Tree, boost
        from keepfit.learners.leaves import Loss

        model = json.loads(bytes(before.booster.save_raw("json")))
        trees, booster = _trees(model), before.booster
        width = len(before.classes) if before.task == "multiclass" else 1
        places = booster.predict(table, pred_leaf=True).astype(np.intp).reshape(-1, len(trees)).T
        score = booster.predict(table, output_margin=True).astype(np.float64).reshape(-1, width).T
        for number, (one, place) in enumerate(zip(trees, places, strict=True)):
            # What is left is what it counts from before its first tree.
            score[number % width] -= np.take(one["split_conditions"], place)

        def asked(one: dict[str, Any], place: Any, k: int) -> Tree:
            values, leaf = np.array(one["split_conditions"]), np.array(one["left_children"]) == -1

            def keep(moved: np.ndarray) -> None:
                values[leaf] = moved[0][leaf].astype(np.float32)
                for name in ("split_conditions", "base_weights"):
                    one[name] = np.where(leaf, values, one[name]).tolist()

            sizes = np.array(one["sum_hessian"], dtype=np.float64)
            return Tree(place, values[None, :], sizes, keep, (k,), float(sizes[0]))

        def rounds() -> Iterator[list[Tree]]:
            for first in range(0, len(trees), width):
                together = zip(trees[first:], places[first:], range(width), strict=False)
                yield [asked(*one) for one in together]

        weight, second = rows.weight, self._given.get("scale_pos_weight") or 1.0
        if second != 1.0 and before.task == "binary":
            weight = labels.product(np.where(rows.known == 1, second, 1.0), weight)
        # XGBoost takes twice the curvature of several classes.
        loss = Loss(_LEAVES[before.objective], width, rows.known, weight, factor=2.0)
        penalty = self._stated(("reg_lambda", "lambda"))
        boost(
            rounds(),
            score,
            loss,
            None,
            rate=self._stated(("learning_rate", "eta")) or 0.3,
            penalty=1.0 if penalty is None else penalty,
            decay=self.decay_rate,
        )
        return xgb.Booster(model_file=bytearray(json.dumps(model).encode()))

    def _blended(self, before: Any, fresh: Any) -> Any:
        """Return trees whose leaves lie between the champion's and the refreshed ones.

        All trees split alike, so that this is what the two models answer on average, before
        the link function.
        """
        import xgboost as xgb

        stated = self.estimator.get_params().get("min_child_weight")
        enough = 1.0 if stated is None else max(stated, 1e-6)
        rate = DECAY_RATE if self.decay_rate is None else self.decay_rate
        old, new = (json.loads(bytes(one.save_raw("json"))) for one in (before, fresh))
        for was, now in zip(_trees(old), _trees(new), strict=True):
            for node, left in enumerate(was["left_children"]):
                if left != -1 or now["sum_hessian"][node] < enough:
                    continue
                for field in ("split_conditions", "base_weights"):
                    was[field][node] *= rate
                    was[field][node] += (1.0 - rate) * now[field][node]
        return xgb.Booster(model_file=bytearray(json.dumps(old).encode()))

    def _check_objective(self, before: XGBoostModel, parameters: dict[str, Any]) -> None:
        own = parameters.get("objective", "reg:squarederror")
        if not callable(own):
            refuse_other_objective(before.objective, own, self.name)

    @property
    def _rounds(self) -> int:
        rounds: int = self.estimator.get_num_boosting_rounds()
        return rounds

    def _parameters(self, head: Head, values: int, seed: int) -> dict[str, Any]:
        """Return XGBoost's parameters: the user's, and what they left open and keepfit sets."""
        found: dict[str, Any] = self.estimator.get_xgb_params()
        if self._stated(_SEEDS) is None:
            found["random_state"] = seed
        if self._stated(_THREADS) is None:
            found["n_jobs"] = estimators.threads(values)
        if found.get("verbosity") is None:
            found["verbosity"] = 0
        objective = found.get("objective")
        if self._classify:
            several = head.task == "multiclass"
            fallback = "multi:softprob" if several else "binary:logistic"
            wanted = _PROBABILITIES.get(objective or fallback, fallback)
            fits = wanted.startswith("multi:") == several
            found["objective"] = wanted if fits else fallback
            if several:
                found["num_class"] = len(head.classes)
        found |= _placed(found, head.encoding.features)
        return {name: value for name, value in found.items() if value is not None}

    def _boost(
        self,
        parameters: dict[str, Any],
        rows: Rows,
        kinds: list[str],
        before: Any = None,
    ) -> Any:
        """Return the trees of `before` and as many more as the estimator has."""
        import xgboost as xgb

        objective = parameters.get("objective")
        custom = _own_objective(parameters.pop("objective")) if callable(objective) else None
        stated = self.estimator.get_params()
        table = _table(rows, kinds, parameters)
        if stated.get("feature_weights") is not None:
            table.set_info(feature_weights=stated["feature_weights"])
        return xgb.train(
            parameters,
            table,
            num_boost_round=self._rounds,
            obj=custom,
            xgb_model=before,
            callbacks=copy.deepcopy(stated.get("callbacks")),
        )


class XGBoostModel(FittedModel):
    """Boosted trees of XGBoost's with their encoding."""

    def __init__(self, head: Head, booster: Any) -> None:
        super().__init__(head)
        self._raw = booster if isinstance(booster, bytes) else bytes(booster.save_raw("ubj"))

    @cached_property
    def booster(self) -> Any:
        """The trees, as XGBoost's ``Booster``."""
        booster = package("xgboost").Booster(model_file=bytearray(self._raw))
        booster.set_param({"verbosity": 0})
        return booster

    @property
    def objective(self) -> str:
        """What the trees have learnt to do."""
        found: str = json.loads(self.booster.save_config())["learner"]["objective"]["name"]
        return found

    def answer(self, table: np.ndarray) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        import numpy as np

        # Threads cost more than a few rows take, and do not change what a row is answered.
        threads = 1 if len(table) < _FEW_ROWS else estimators.threads(table.size * 10)
        self.booster.set_param({"nthread": threads})
        scores = np.asarray(self.booster.inplace_predict(table), dtype=np.float64)
        if self.task == "multiclass":
            # Shares in single precision add up to one only so far.
            scores = scores / scores.sum(axis=1, keepdims=True)
        return scores

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        return self._raw

    def importances(self) -> dict[str, float]:
        """Return each column's gain over all splits."""
        import numpy as np

        gains = self.booster.get_score(importance_type="total_gain")
        return self.by_column(
            np.array([gains.get(f"f{place}", 0.0) for place in range(len(self.features))])
        )


def restore(head: Head, content: bytes) -> XGBoostModel:
    """Return the model that a head and bytes of `content` are."""
    return XGBoostModel(head, content)


class Rows(NamedTuple):
    """Rows to train on: their features, labels, and weights where these differ."""

    matrix: np.ndarray
    known: np.ndarray
    weight: np.ndarray | None


def _table(rows: Rows, kinds: list[str] | None, parameters: dict[str, Any]) -> Any:
    import xgboost as xgb

    threads = parameters.get("nthread", parameters.get("n_jobs"))
    return xgb.DMatrix(
        rows.matrix,
        rows.known,
        weight=rows.weight,
        feature_types=kinds,
        enable_categorical=True,
        nthread=threads,
    )


def _placed(found: dict[str, Any], features: tuple[str, ...]) -> dict[str, Any]:
    """Return constraints that name columns by the columns' places, which are all XGBoost knows."""
    monotone, together = found.get("monotone_constraints"), found.get("interaction_constraints")
    placed: dict[str, Any] = {}
    if isinstance(monotone, dict):
        signs = {_place(name, features): sign for name, sign in monotone.items()}
        placed["monotone_constraints"] = tuple(signs.get(i, 0) for i in range(len(features)))
    if isinstance(together, list | tuple):
        groups = [[_place(name, features) for name in group] for group in together]
        placed["interaction_constraints"] = str(groups)
    return placed


def _place(name: Any, features: tuple[str, ...]) -> int:
    if name in features:
        return features.index(name)
    if isinstance(name, int):
        return name
    near = nearest(str(name), features)
    raise ConfigError(
        f"expected constraints of columns the model has, got {name!r}",
        hint=f"the nearest is {near!r}" if near else None,
    )


def _own_objective(objective: Any) -> Any:
    """Return a user's function of labels and predictions in the form that `train` calls."""

    def gradients(predicted: np.ndarray, table: Any) -> Any:
        return objective(table.get_label(), predicted)

    return gradients


def _trees(model: dict[str, Any]) -> list[dict[str, Any]]:
    booster = model["learner"]["gradient_booster"]
    if booster["name"] != "gbtree":
        raise TrainingError(
            f"expected a champion of booster 'gbtree' to update leaves in, got {booster['name']!r}",
            hint="start from scratch",
        )
    found: list[dict[str, Any]] = booster["model"]["trees"]
    return found
