"""CatBoost: from scratch, more trees on the champion's, or new leaves in the champion's trees."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError, TrainingError
from keepfit.learners import estimators, labels
from keepfit.learners.boosting import Boosting, refuse_early_stopping, refuse_other_objective
from keepfit.learners.encoding import Encoding
from keepfit.learners.models import FittedModel, Head, Size, package

if TYPE_CHECKING:
    import numpy as np

CLASSES = ("CatBoostClassifier", "CatBoostRegressor")
MISSING = -1
"""The code of a category that is missing: CatBoost takes no gaps among categories."""

_ROUNDS = ("iterations", "num_boost_round", "n_estimators", "num_trees")
_DEFAULT_ROUNDS = 1_000
_SEEDS = ("random_seed", "random_state")
_TALK = ("verbose", "silent", "logging_level", "verbose_eval")
_RATES = ("learning_rate", "eta")
_LOSSES = ("loss_function", "objective")
_EARLY = ("early_stopping_rounds", "od_type", "od_wait", "od_pval", "use_best_model")
_UNENCODED = ("text_features", "embedding_features")

_PROBABILITIES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")
_TWO = ("Logloss", "CrossEntropy")
"""Losses of two classes."""

_SEVERAL_VALUES = (
    "RMSEWithUncertainty",
    "MultiRMSE",
    "MultiRMSEWithMissingValues",
    "MultiQuantile",
)
_LOGARITHMS = ("Poisson", "Tweedie")
"""Losses whose trees add up to the logarithm of what they answer."""

_LEAVES = {"Logloss": "binary", "MultiClass": "multiclass", "RMSE": "regression"}
"""Losses whose gradients are known where leaves learn, and what they are called there."""

_BOUND = ("monotone_constraints", "auto_class_weights", "scale_pos_weight", "langevin")
"""Settings with which leaves hold something else than steps of their rows' loss."""

_CHANCE = {"model_guid": "", "train_finish_time": "", "training": "{}"}
"""What a model notes beside what it learnt and may differ between equal trainings, emptied."""

_LEARNT = (
    "look at the columns, of which one at least has to vary, and at the estimator's parameters"
)
_OTHER = (
    "select more rows, of more than one label; where they are not the reason, the champion was "
    "trained with other parameters: start from scratch"
)

_FEW_ROWS = 1_000
_PLACE = re.compile(r"^\S+\.\w+:\d+: ")
"""Where in CatBoost's code an error comes from."""


class CatBoost(Boosting):
    """Trains CatBoost's estimators, from scratch or from the champion.

    ``start="champion"`` adds trees to the champion's (``init_model``), as many as the
    estimator has by itself, and up to five times as many in all: then a training from scratch
    is due. The champion's codes of categories stay, and its learning rate where the
    estimator leaves it open: CatBoost alone would choose another one for each number of rows.
    ``update="leaves"`` keeps the trees and moves their leaves towards the new rows, each by how
    many of them reach it, with the losses ``Logloss``, ``MultiClass`` and ``RMSE``.

    Nothing is written into the working directory unless the estimator asks for it.

    CatBoost keeps numbers in single precision: of a moment it sees about two minutes.

    Parameters
    ----------
    estimator
        A ``CatBoostClassifier`` or ``CatBoostRegressor``, which is copied and never trained
        itself.

    Raises
    ------
    ConfigError
        The estimator is another one, or asks for what a stream cannot give it.

    Examples
    --------
    >>> from catboost import CatBoostClassifier
    >>> CatBoost(CatBoostClassifier(iterations=200, depth=4))
    learners.CatBoost(CatBoostClassifier(iterations=200, depth=4))
    """

    family = "catboost"
    trains = CLASSES

    def __init__(self, estimator: Any) -> None:
        super().__init__(estimator)
        found = self.estimator.get_params()
        if self._stated(_EARLY) not in (None, False):
            refuse_early_stopping()
        for name in _UNENCODED:
            if found.get(name):
                raise ConfigError(
                    f"expected columns of numbers and categories, got {name}={found[name]!r}",
                    hint="turn them into numbers in the source, or prepare them in a Pipeline of scikit-learn",
                )
        named = found.get("cat_features") or []
        if any(not isinstance(one, str) for one in named):
            raise ConfigError(
                f"expected cat_features= to name columns, got {named!r}",
                hint="columns of text are categories by themselves; name others that are",
            )
        self._check_loss()

    def _check_loss(self) -> None:
        loss = self._loss
        if self._classify and loss is not None and loss not in _PROBABILITIES:
            raise ConfigError(
                f"expected a loss whose scores are probabilities, got {loss}",
                hint=f"one of {', '.join(_PROBABILITIES)}",
            )
        if loss in _SEVERAL_VALUES:
            raise ConfigError(f"expected a loss with one value per row, got {loss}")

    @property
    def _loss(self) -> str | None:
        """The name of the loss, without its parameters."""
        loss = self._stated(_LOSSES)
        if loss is None or isinstance(loss, str):
            return None if loss is None else loss.partition(":")[0]
        return "a function of your own"

    @property
    def _loss_name(self) -> str:
        """The name under which the loss is stated: CatBoost takes one of them alone."""
        return next((name for name in _LOSSES if self._given.get(name) is not None), _LOSSES[0])

    def _objective(self, task: str) -> dict[str, Any]:
        """Return the loss for several classes, where the stated one is for two."""
        two = self._classify and self._loss in _TWO
        return {self._loss_name: "MultiClass"} if two and task == "multiclass" else {}

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the estimator knows."""
        if str(self._stated(("task_type",))).upper() == "GPU":
            return (("scratch", "all"),)
        ways = [("scratch", "all"), ("champion", "all")]
        bound = any(self._given.get(name) not in (None, False, "None") for name in _BOUND)
        symmetric = self._given.get("grow_policy") in (None, "SymmetricTree")
        if self._loss in (None, *_LEAVES) and symmetric and not bound:
            ways.append(("champion", "leaves"))
        return tuple(ways)

    def _begin(
        self,
        head: Head,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> CatBoostModel:
        estimator = self._prepared(head, matrix.size, seed)
        table = _frame(matrix, head.encoding, self._named)
        with _refusals(f"rows that {self.name} can learn from", _LEARNT):
            estimator.fit(table, known, sample_weight=weight)
        return CatBoostModel(head, _content(estimator))

    def _size(self, before: CatBoostModel) -> Size:
        rounds = self._stated(_ROUNDS) or _DEFAULT_ROUNDS
        return Size(before.trees.tree_count_, rounds, "trees")

    def _extend(
        self,
        before: CatBoostModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> CatBoostModel:
        if self._classify:
            labels.refuse_gone(known, before.classes)
        self._check_champion(before)
        self._size(before).bounded()
        estimator = self._prepared(before.head, matrix.size, seed)
        if self._stated(_RATES) is None:
            estimator.set_params(learning_rate=before.settings["learning_rate"])
        # It is written to where its trees are added up.
        champion = before.opened()
        with _refusals(f"a champion that {self.name} can go on with", _OTHER):
            table = _frame(matrix, before.head.encoding, self._named)
            estimator.fit(table, known, sample_weight=weight, init_model=champion)
        return CatBoostModel(before.head, _content(estimator))

    def _refresh(
        self,
        before: CatBoostModel,
        matrix: np.ndarray,
        known: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> CatBoostModel:
        import numpy as np

        self._check_champion(before)
        weights = self._weights(before.classes).get("class_weights")
        if weights is not None:
            weight = labels.product(np.asarray(weights, dtype=np.float64)[known], weight)
        frame = _frame(matrix, before.head.encoding, self._named)
        pool = package("catboost").Pool(frame, cat_features=sorted(before.coded))
        trees = before.changeable()
        _move(trees, before.settings, pool, known, weight)
        return CatBoostModel(before.head, _content(trees))

    def _check_champion(self, before: CatBoostModel) -> None:
        """Raise where the champion's trees have learnt to lessen another loss."""
        usual = {"binary": "Logloss", "multiclass": "MultiClass"}.get(before.task, "RMSE")
        own = self._objective(before.task).get(self._loss_name) or self._loss or usual
        refuse_other_objective(before.loss, own, self.name)

    @property
    def _named(self) -> frozenset[str]:
        return frozenset(self.estimator.get_params().get("cat_features") or ())

    def _prepared(self, head: Head, values: int, seed: int) -> Any:
        """Return a copy of the estimator with what the user left open and keepfit sets."""
        estimator = estimators.clone(self.estimator)
        settings = self._weights(head.classes) | self._objective(head.task)
        if self._stated(_SEEDS) is None:
            settings["random_seed"] = seed
        if self._stated(("thread_count",)) is None:
            settings["thread_count"] = estimators.threads(values)
        if self._stated(_TALK) is None:
            settings["verbose"] = False
        if self._stated(("allow_writing_files",)) is None:
            settings["allow_writing_files"] = False
        settings["cat_features"] = _categorical(head.encoding, self._named)
        return estimator.set_params(**settings)

    def _weights(self, classes: tuple[Any, ...]) -> dict[str, Any]:
        """Return class weights in the order of the classes.

        From weights by name CatBoost takes the order of the names for the order of the
        classes, and answers with the probability of another one.
        """
        found = estimators.weights_by_code(self._given, classes).get("class_weights")
        if found is None:
            return {}
        return {"class_weights": [found.get(code, 1.0) for code in range(len(classes))]}


class CatBoostModel(FittedModel):
    """Boosted trees of CatBoost's with their encoding."""

    def __init__(self, head: Head, content: bytes) -> None:
        super().__init__(head)
        self._content = content

    def opened(self) -> Any:
        """Return the trees as a ``CatBoost`` of their own, which may be changed."""
        return package("catboost").CatBoost().load_model(blob=self._content)

    def changeable(self) -> Any:
        """Return the trees as a ``CatBoost`` whose leaves may be written: those of bytes may not."""
        return package("catboost").CatBoost().load_model(stream=io.BytesIO(self._content))

    @cached_property
    def trees(self) -> Any:
        """The trees, as CatBoost's ``CatBoost``."""
        return self.opened()

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters it was trained with, those that CatBoost chose among them."""
        found: dict[str, Any] = self.trees.get_all_params()
        return found

    @property
    def loss(self) -> str:
        """The name of the loss that the trees have learnt to lessen, without its parameters."""
        return str(self.settings["loss_function"]).partition(":")[0]

    @cached_property
    def coded(self) -> frozenset[str]:
        """The columns of categories."""
        names = self.trees.feature_names_
        return frozenset(names[place] for place in self.trees.get_cat_feature_indices())

    @cached_property
    def _answers(self) -> str:
        if self.classes:
            return "Probability"
        return "Exponent" if self.loss in _LOGARITHMS else "RawFormulaVal"

    def answer(self, table: np.ndarray) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        import numpy as np

        # Threads cost more than a few rows take, and do not change what a row is answered.
        threads = 1 if len(table) < _FEW_ROWS else estimators.threads(table.size * 10)
        frame = _frame(table, self.head.encoding, self.coded)
        found = self.trees.predict(frame, prediction_type=self._answers, thread_count=threads)
        scores = np.asarray(found, dtype=np.float64)
        if self.task == "multiclass":
            # One against all gives probabilities that do not add up to one.
            scores = scores / scores.sum(axis=1, keepdims=True)
        return scores

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        return self._content

    def importances(self) -> dict[str, float]:
        """Return how much answers change with each column, on a scale to 100."""
        import numpy as np

        return self.by_column(np.asarray(self.trees.get_feature_importance()))


def restore(head: Head, content: bytes) -> CatBoostModel:
    """Return the model that a head and bytes of `content` are."""
    return CatBoostModel(head, content)


def _categorical(encoding: Encoding, named: frozenset[str]) -> list[str]:
    """Return the columns of categories: those of text, and those that the user named."""
    coded = set(encoding.categorical)
    return [
        column.name
        for place, column in enumerate(encoding.columns)
        if place in coded or column.name in named
    ]


def _frame(matrix: np.ndarray, encoding: Encoding, named: frozenset[str]) -> Any:
    """Return a matrix as a frame in which categories are whole numbers, as CatBoost wants them."""
    import numpy as np
    import pandas as pd

    coded = set(_categorical(encoding, named))
    columns = {}
    for place, name in enumerate(encoding.features):
        values = matrix[:, place]
        if name in coded:
            values = np.where(np.isnan(values), MISSING, values).astype(np.int64)
        columns[name] = values
    return pd.DataFrame(columns)


def _content(estimator: Any) -> bytes:
    """Return trees in CatBoost's own format, without the hour and the threads they grew with."""
    notes = estimator.get_metadata()
    for name, nothing in _CHANCE.items():
        notes[name] = nothing
    parameters = json.loads(notes["params"])
    parameters.pop("system_options", None)
    parameters.get("flat_params", {}).pop("thread_count", None)
    notes["params"] = json.dumps(parameters)
    # `save_model` does the same by way of a file.
    content: bytes = estimator._serialize_model()
    return content


def _move(
    trees: Any, settings: dict[str, Any], pool: Any, known: np.ndarray, weight: np.ndarray | None
) -> None:
    """Let the leaves of trees learn from rows, in place."""
    import numpy as np

    from keepfit.learners.foliage import Tree, boost
    from keepfit.learners.leaves import Loss

    scale, bias = trees.get_scale_and_bias()
    start = np.atleast_1d(np.asarray(bias, dtype=np.float64))[:, None]
    width, rows = len(start), len(known)
    values = scale * np.asarray(trees.get_leaf_values(), dtype=np.float64).reshape(-1, width).T
    ends = np.cumsum(trees.get_tree_leaf_counts()).tolist()
    bounds = list(zip((0, *ends[:-1]), ends, strict=True))
    places = np.asarray(trees.calc_leaf_indexes(pool), dtype=np.intp).T
    sizes = _sizes(trees, pool, width)

    told = np.asarray(trees.predict(pool, prediction_type="RawFormulaVal")).reshape(rows, width).T
    found = start + sum(
        values[:, first + place] for (first, _), place in zip(bounds, places, strict=True)
    )
    if len(sizes) != values.shape[1] or not np.allclose(found, told, rtol=1e-6, atol=1e-6):
        raise TrainingError(
            "expected trees whose answers are the sums of their leaves, got others",
            hint="start from scratch",
        )

    def rounds() -> Iterator[list[Tree]]:
        for (first, last), place in zip(bounds, places, strict=True):
            part = values[:, first:last]
            keep = partial(np.copyto, part)
            yield [Tree(place, part, sizes[first:last], keep, range(width))]

    kind = _LEAVES[str(settings["loss_function"]).partition(":")[0]]
    boost(
        rounds(),
        np.repeat(start, rows, axis=1),
        Loss(kind, width, known, weight, factor=1.0),
        np.ones(rows) if weight is None else weight,
        rate=settings["learning_rate"],
        penalty=float(settings.get("l2_leaf_reg", 0.0)),
    )
    trees.set_leaf_values((values / scale).T.reshape(-1))


def _sizes(trees: Any, pool: Any, width: int) -> np.ndarray:
    """Return what weighed in each leaf of trees as they grew."""
    import numpy as np

    if width == 1:
        return np.asarray(trees.get_leaf_weights(), dtype=np.float64)
    # With several values in a leaf CatBoost takes its own count of weights for wrong.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trees.json"
        trees.save_model(str(path), format="json", pool=pool)
        grown = json.loads(path.read_bytes())["oblivious_trees"]
    return np.concatenate([np.asarray(one["leaf_weights"], dtype=np.float64) for one in grown])


@contextlib.contextmanager
def _refusals(wanted: str, hint: str) -> Iterator[None]:
    """Say what was wanted, and what to do, where CatBoost refuses to train."""
    from catboost import CatBoostError

    try:
        yield
    except CatBoostError as error:
        said = _PLACE.sub("", str(error))
        raise TrainingError(f"expected {wanted}, and CatBoost says: {said}", hint=hint) from error
