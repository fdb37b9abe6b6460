"""LightGBM: from scratch, more trees on the champion's, or new leaves in the champion's trees."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError
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

    from keepfit.learners.forest import Leaves

CLASSES = ("LGBMClassifier", "LGBMRegressor")
DECAY_RATE = 0.9
"""What the library's own refit keeps, where leaves cannot be moved by how many rows reach them."""

_ROUNDS = (
    "num_iterations",
    "num_iteration",
    "n_iter",
    "num_tree",
    "num_trees",
    "num_round",
    "num_rounds",
    "nrounds",
    "num_boost_round",
    "max_iter",
)
_THREADS = ("num_threads", "num_thread", "nthread", "nthreads", "n_jobs")
_SEEDS = ("seed", "random_seed", "random_state")
_TALK = ("verbosity", "verbose")
_EARLY = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
_BOOSTING = ("boosting", "boosting_type", "boost")
_DEVICES = ("device", "device_type")
_OBJECTIVES = ("objective", "objective_type", "app", "application", "loss")
_SEVERAL = ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr")
_ITS_OWN = (
    "class_weight",
    *("metric", "metrics", "metric_types"),
    *("num_class", "num_classes"),
    *_OBJECTIVES[1:],
    *_THREADS[:-1],
)
"""What an estimator makes other parameters of, where it is stated."""

_LOGARITHMS = ("poisson", "gamma", "tweedie")
"""Objectives whose trees add up to the logarithm of what they answer."""

_NO_LEAVES = ("dart", "rf", "random_forest")
_SHRINKING = ("fair", "mape", "mean_absolute_percentage_error", "quantile")
"""Objectives whose new leaves LightGBM's `refit` pulls towards zero, the more the oftener."""

_WIDE = 64
"""Columns from which building histograms column by column is quicker than row by row."""

_FEW_ROWS = 1_000
_SHARED_FROM = 16
"""Rows from which sharing trees pays: of fewer LightGBM's own answer is the quicker one."""

_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)
_THREADS_USED = re.compile(r"^\[num_threads: .*\]\n", re.MULTILINE)


class LightGBM(Boosting):
    """Trains LightGBM's estimators, from scratch or from the champion.

    ``start="champion", update="all"`` adds trees to the champion's, as many as the estimator
    has by itself, and up to five times as many in all: then a training from scratch is due.
    ``update="leaves"`` keeps the trees and moves their leaves towards the new rows, each by how
    many of them reach it (`keepfit.learners.leaves`): it costs a tenth of a training and
    follows most streams well. Categories keep the champion's codes in both.

    Trainings repeat to the byte: keepfit sets the seed, ``deterministic`` and a fixed way of
    building histograms where the estimator leaves them open.

    Parameters
    ----------
    estimator
        An ``LGBMClassifier`` or ``LGBMRegressor``, which is copied and never trained itself.
    decay_rate
        What part of a leaf's old value an update of the leaves keeps; when not given, as much
        as half of the rows that the trees were grown on weigh beside the new ones.

    Raises
    ------
    ConfigError
        The estimator is another one, or asks for what a stream cannot give it.

    Examples
    --------
    >>> from lightgbm import LGBMClassifier
    >>> LightGBM(LGBMClassifier(n_estimators=200), decay_rate=0.8)
    learners.LightGBM(LGBMClassifier(n_estimators=200), decay_rate=0.8)
    """

    family = "lightgbm"
    trains = CLASSES

    def __init__(self, estimator: Any, *, decay_rate: float | None = None) -> None:
        super().__init__(estimator)
        self.decay_rate = None if decay_rate is None else checked_rate(decay_rate)
        if self._stated(_EARLY):
            refuse_early_stopping()
        if self._classify and callable(self._stated(_OBJECTIVES)):
            raise ConfigError(
                "expected an objective of LightGBM's, got a function: "
                "its scores are no probabilities",
                hint="a function is possible with LGBMRegressor",
            )

    def _own(self, *, changed: bool = False) -> dict[str, Any]:
        return {} if changed and self.decay_rate is None else {"decay_rate": self.decay_rate}

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the estimator knows."""
        boosting = self._stated(_BOOSTING)
        objective = self._stated(_OBJECTIVES)
        ways = [("scratch", "all")]
        if boosting not in ("rf", "random_forest"):
            ways += [("champion", "all"), ("transfer", "all")]
        if boosting not in _NO_LEAVES and objective not in _SHRINKING and not callable(objective):
            ways += [("champion", "leaves"), ("transfer", "leaves")]
        return tuple(ways)

    def _begin(
        self,
        head: Head,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> BoosterModel:
        import numpy as np

        settings, coded = self._settings(matrix, seed), head.encoding.categorical or "auto"
        objective = self._objective(head.task)
        parameters = self._parameters(head, settings, objective)
        if parameters is not None and weight is None and np.isfinite(known).all():
            lgb = package("lightgbm")
            table = lgb.Dataset(matrix, known, categorical_feature=coded, params=parameters)
            rounds = self._given["n_estimators"]
            # See `_grown` for why the rows are not let go of.
            booster = lgb.train(parameters, table, rounds, keep_training_booster=True)
            return BoosterModel(head, _read_once(booster))
        estimator = estimators.clone(self.estimator)
        estimator.set_params(**settings)
        estimator.set_params(**estimators.weights_by_code(self._given, head.classes))
        # LightGBM takes the one under another name for the objective, whatever `objective` says.
        named = [name for name in _OBJECTIVES if self._given.get(name) is not None]
        estimator.set_params(**dict.fromkeys(named, objective))
        booster = _grown(estimator, matrix, known, weight, coded)
        return BoosterModel(head, _read_once(booster))

    def _parameters(
        self, head: Head, settings: dict[str, Any], objective: Any
    ) -> dict[str, Any] | None:
        """Return what the estimator would hand to LightGBM; None where it does more than that.

        What it does beside is a tenth of a training on 2,000 rows: it looks at rows and labels that
        were looked at here, and asks after each round for metrics of which there are none.
        """
        found = self._given | settings
        seed, threads = found.get("random_state"), found.pop("n_jobs", None)
        plain = type(self.estimator).__module__ == "lightgbm.sklearn"
        plain = plain and type(threads) is int and threads > 0
        plain = plain and (seed is None or type(seed) is int) and not callable(objective)
        if not plain or any(found.get(name) is not None for name in _ITS_OWN):
            return None
        for name in ("importance_type", "n_estimators", "objective", *_ITS_OWN):
            found.pop(name, None)
        if head.task == "multiclass":
            found["num_class"] = len(head.classes)
        return {**found, "num_threads": threads, "objective": objective, "metric": [objective]}

    def _objective(self, task: str) -> Any:
        """Return the stated objective, or that of a task where none is stated, or one for others."""
        stated = self._stated(_OBJECTIVES)
        if callable(stated) or stated is None:
            return stated or task
        other = {"binary": _SEVERAL, "multiclass": ("binary",)}.get(task, ())
        return task if stated in other else stated

    def _check_scale(self, before: BoosterModel) -> None:
        """Raise where the champion's trees add up to logarithms and the estimator's do not."""
        own = self._stated(_OBJECTIVES)
        if (own in _LOGARITHMS) != (before.objective in _LOGARITHMS):
            told = own if isinstance(own, str) else before.task if own is None else "a function"
            refuse_other_objective(before.objective, told, self.name)

    def _settings(self, matrix: np.ndarray, seed: int) -> dict[str, Any]:
        """Return what the user left open and keepfit sets: seed, threads, silence, repeatability."""
        found = self._given

        def left(names: tuple[str, ...]) -> bool:
            return all(found.get(name) is None for name in names)

        settings: dict[str, Any] = {}
        if left(_SEEDS):
            settings["random_state"] = seed
        if left(_THREADS):
            settings["n_jobs"] = estimators.threads(matrix.size)
        if left(_TALK):
            settings["verbosity"] = -1
        if left(("deterministic",)):
            settings["deterministic"] = True
        if left(("force_row_wise", "force_col_wise")) and left(_DEVICES):
            wide = matrix.shape[1] > _WIDE
            settings["force_col_wise" if wide else "force_row_wise"] = True
        return settings

    def _weights(
        self, classes: tuple[Any, ...], known: np.ndarray, own: np.ndarray | None
    ) -> np.ndarray | None:
        """Return what rows weigh: by themselves, and by their class."""
        if self.estimator.class_weight is None:
            return own
        weights = estimators.weights_by_code(self._given, classes).get("class_weight")
        weights = weights if weights is not None else self.estimator.class_weight
        from sklearn.utils.class_weight import compute_sample_weight

        found: np.ndarray | None = labels.product(compute_sample_weight(weights, known), own)
        return found

    def _refresh(
        self,
        before: BoosterModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> BoosterModel:
        from keepfit.learners import leaves

        self._check_scale(before)
        threads = self._stated(_THREADS) or estimators.threads(matrix.size)
        if before.leaves is not None or leaves.known(before.text):
            own = self._weights(before.classes, known, weight)
            return BoosterModel(before.head, self._moved(before, matrix, known, own, threads))
        booster = before.booster.refit(
            matrix,
            known,
            decay_rate=DECAY_RATE if self.decay_rate is None else self.decay_rate,
            weight=self._weights(before.classes, known, weight),
            dataset_params={"num_threads": threads, "verbosity": -1},
            num_threads=threads,
        )
        return BoosterModel(before.head, _text(booster), booster)

    def _moved(
        self,
        before: BoosterModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        threads: int,
    ) -> str:
        """Return the text of the champion's trees with leaves that learnt from rows."""
        import numpy as np

        from keepfit.learners import leaves

        shared, keep = before.leaves, self.decay_rate
        if shared is not None:
            return shared.moved(matrix, known, keep=keep, weight=weight, threads=threads)
        places = before.booster.predict(matrix, pred_leaf=True, num_threads=threads)
        places = np.asarray(places, dtype=np.int64).reshape(len(matrix), -1)
        return leaves.moved(before.text, places, known, keep=keep, weight=weight)

    def _size(self, before: BoosterModel) -> Size:
        stated = [self._given[name] for name in ("n_estimators", *_ROUNDS) if name in self._given]
        return Size(before.booster.current_iteration(), stated[-1], "rounds of trees")

    def _extend(
        self,
        before: BoosterModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> BoosterModel:
        import lightgbm as lgb

        self._check_scale(before)
        parameters = self._given | self._settings(matrix, seed)
        size = self._size(before)
        size.bounded()
        for name in ("class_weight", "importance_type", "n_estimators", *_ROUNDS):
            parameters.pop(name, None)
        for name in _OBJECTIVES:
            parameters.pop(name, None)
        parameters["objective"] = self._objective(before.task)
        if before.task == "multiclass":
            parameters["num_class"] = len(before.classes)
        if before.booster.num_feature() < matrix.shape[1]:
            # A transfer's new columns lie behind those that the old trees read.
            parameters["predict_disable_shape_check"] = True
        table = lgb.Dataset(
            matrix,
            label=known,
            weight=self._weights(before.classes, known, weight),
            categorical_feature=before.head.encoding.categorical or "auto",
            params=parameters,
        )
        booster = lgb.train(
            parameters,
            table,
            num_boost_round=size.own,
            init_model=before.booster,
            keep_training_booster=True,  # see `_grown`
        )
        return BoosterModel(before.head, _read_once(booster))


class _Grown(Exception):
    """Raised behind the last round of a training, with its trees."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster


def _grown(
    estimator: Any, matrix: np.ndarray, known: np.ndarray, weight: np.ndarray | None, coded: Any
) -> Any:
    """Return the trees that an estimator grows, as they are after the last round.

    LightGBM's `fit` would now write and read them, to let go of the rows: a tenth of a training on
    2,000 rows, for trees that are as they were.
    """

    def ends(env: Any) -> None:
        if env.iteration == env.end_iteration - 1:
            raise _Grown(env.model)

    plain = type(estimator).__module__ == "lightgbm.sklearn"  # the user's own may have more to do
    own = {"callbacks": [ends]} if plain else {}
    try:
        estimator.fit(matrix, known, sample_weight=weight, categorical_feature=coded, **own)
    except _Grown as last:
        return last.booster
    return estimator.booster_


class BoosterModel(FittedModel):
    """Boosted trees with their encoding."""

    def __init__(self, head: Head, text: str, booster: Any = None) -> None:
        super().__init__(head)
        self._text = text
        if booster is not None:
            # Its text gives the same trees to the bit, and takes time to read.
            self.booster = booster

    @property
    def text(self) -> str:
        """The trees, as LightGBM writes them."""
        return self._text

    @property
    def objective(self) -> str:
        """What the trees have learnt to do, as LightGBM names it."""
        found = _OBJECTIVE.search(self._text)
        return found[1] if found else "a function"

    @property
    def finite(self) -> bool:
        """Whether no row whatever can get a score that is not finite."""
        from keepfit.learners import leaves

        # Leaves that could be read are numbers.
        return self.leaves is not None or leaves.finite(self._text)

    @cached_property
    def booster(self) -> Any:
        """The trees, as LightGBM's ``Booster``."""
        return _read(self._text)

    @cached_property
    def leaves(self) -> Leaves | None:
        """The leaves and the trees, which models may share; None where they cannot be told apart."""
        from keepfit.learners.forest import leaves_of

        return leaves_of(self._text)

    def answer(self, table: np.ndarray) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        import numpy as np

        # Threads cost more than a few rows take, and do not change what a row is answered.
        threads = 1 if len(table) < _FEW_ROWS else estimators.threads(table.size * 10)
        shared = self.leaves if len(table) >= _SHARED_FROM else None
        found = None if shared is None else shared.answer(table, threads)
        if found is not None:
            return found
        scores = np.asarray(self.booster.predict(table, num_threads=threads))
        if self.task == "multiclass":
            # One against all gives probabilities that do not add up to one.
            scores = scores / scores.sum(axis=1, keepdims=True)
        return scores

    def inherited(self, donor: FittedModel) -> tuple[tuple[str, ...], float | None]:
        """Return in words what a transfer left of a donor's trees, and their share of all trees."""
        if not isinstance(donor, BoosterModel):
            return super().inherited(donor)
        old, now = donor.booster.num_trees(), self.booster.num_trees()
        if now == old:
            return (f"{old:,} trees kept, their leaves moved",), 1.0
        return (f"{old:,} trees kept, {now - old:,} new",), old / now

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        return self._text.encode()

    def importances(self) -> dict[str, float]:
        """Return each column's gain over all splits."""
        import msgspec

        from keepfit.learners.texts import Trees

        trees = Trees.apart(self._text)[0] if self.leaves is None else self.leaves.forest.trees
        try:
            return self.by_column(trees.gains(len(self.head.encoding.columns)))
        except msgspec.MsgspecError:  # a gain that is no number
            return self.by_column(self.booster.feature_importance(importance_type="gain"))


@lru_cache(maxsize=8)
def _read(text: str) -> Any:
    """Return the trees a text describes; kept, because a model is opened more often than made."""
    return package("lightgbm").Booster(model_str=text)


def restore(head: Head, content: bytes) -> BoosterModel:
    """Return the model that a head and bytes of `content` are."""
    return BoosterModel(head, content.decode())


def _text(booster: Any) -> str:
    """Return trees as text, without how many threads grew them, which changes nothing in them."""
    text: str = booster.model_to_string(num_iteration=-1)
    tail = text.rfind("\nend of trees")  # the parameters stand behind it
    return text[:tail] + _THREADS_USED.sub("", text[tail:])


def _read_once(booster: Any) -> str:
    """Return the text of trees that were grown just now, as it is of those that were read."""
    text = _text(booster)
    # Of a tree that found nothing to split, what its leaf weighs is not read.
    return _text(_read(text)) if "\nnum_leaves=1\n" in text else text
