"""Estimators of scikit-learn, and every other one with its `fit` and `predict`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from keepfit.batch import LABEL
from keepfit.errors import TrainingError
from keepfit.learners import estimators, labels
from keepfit.learners.dense import Dense
from keepfit.learners.encoding import Encoding
from keepfit.learners.models import FittedModel, Head, Size

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Model

_OWN_COLUMNS = ("Pipeline", "ColumnTransformer")
_TAKE_GAPS = ("catboost", "lightgbm", "xgboost")
_FORESTS = ("BaseForest",)
_NETWORKS = ("BaseMultilayerPerceptron",)
"""Those whose `partial_fit` refuses to stop early, which others leave to `fit`."""

_BAGS = ("BaseBagging",)
"""Those whose warm start refuses to ask estimators about the rows that they have not seen."""


class Sklearn:
    """Trains an estimator of scikit-learn, or one that has its `fit` and `predict`.

    Trees that take missing values get codes of categories; other estimators get a matrix
    without gaps on one scale, each category in a column of its own; a scikit-learn
    ``Pipeline`` gets a frame with the columns as they are. A classifier without
    probabilities answers with its decision function through a logistic curve, which ranks
    rows as it does and is not calibrated.

    From the champion an estimator goes on with ``partial_fit`` where it has that, else by
    ``warm_start``; an ensemble grows by its own size each time, to five times at most.
    Histogram gradient boosting does neither: it would bin the new rows anew and read its old
    trees against the wrong bins; nor do networks that stop early, and bagging with
    ``oob_score``, which scikit-learn does not let go on.

    ``update="leaves"`` keeps the trees of a tree, a forest or boosting and moves their leaves
    towards the new rows, each by how many of them reach it (`keepfit.learners.foliage`), where
    leaves hold means of labels or steps of a logistic or squared loss.

    Parameters
    ----------
    estimator
        The estimator, which is copied and never trained itself.

    Raises
    ------
    ConfigError
        The object is no classifier or regressor, or it cannot be copied.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> Sklearn(LogisticRegression(C=0.5)).name
    'LogisticRegression(C=0.5)'
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimators.clone(estimator)
        self._classify = estimators.purpose(self.estimator) == "classifier"

    @property
    def classifies(self) -> bool:
        """Whether what it learns are classes."""
        return self._classify

    def __repr__(self) -> str:
        return f"learners.Sklearn({self.name})"

    @property
    def name(self) -> str:
        """What trains, with the parameters that differ from their defaults."""
        return estimators.described(self.estimator)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as JSON can hold them."""
        found = estimators.parameters(self.estimator)
        return {key: estimators.as_json(value) for key, value in sorted(found.items())}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of class and parameters, the same in every process."""
        from keepfit import pickles

        return pickles.fingerprint(("sklearn", self.estimator))

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """The pairs of start and update that the estimator knows."""
        more = ["all"] if self._continues else []
        more += ["leaves"] if estimators.leafy(self.estimator) else []
        starts = ("champion", "transfer")
        return (("scratch", "all"), *((start, update) for update in more for start in starts))

    @property
    def incremental(self) -> bool:
        """Whether it follows new rows by learning them alone, by ``partial_fit``.

        Linear models do. Naive Bayes counts its oldest rows as much as the newest, and a network
        learns little of rows that it sees once.
        """
        kin = [cls.__module__ for cls in type(self.estimator).__mro__]
        linear = any(module.startswith("sklearn.linear_model.") for module in kin)
        return linear and self._continues and hasattr(self.estimator, "partial_fit")

    @property
    def weighs(self) -> bool:
        """Whether rows may weigh differently, in a training from scratch and in one that goes on."""
        methods = ["fit", *(["partial_fit"] if hasattr(self.estimator, "partial_fit") else [])]
        return all(estimators.weight_name(self.estimator, one) for one in methods)

    @property
    def _continues(self) -> bool:
        if estimators.derives(self.estimator, "sklearn", *estimators.HISTOGRAMS) or self._raw:
            return False
        stated = estimators.parameters(self.estimator)
        learns_on = hasattr(self.estimator, "partial_fit")
        if learns_on and estimators.derives(self.estimator, "sklearn", *_NETWORKS):
            return not stated.get("early_stopping")
        if estimators.derives(self.estimator, "sklearn", *_BAGS) and stated.get("oob_score"):
            return False
        return learns_on or "warm_start" in stated

    @property
    def _raw(self) -> bool:
        """Whether the estimator prepares columns itself, or holds one that does."""
        inside = estimators.parameters(self.estimator, deep=True).values()
        return any(
            estimators.derives(one, "sklearn", *_OWN_COLUMNS) for one in (self.estimator, *inside)
        )

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> EstimatorModel:
        """Return a model trained on rows that carry their label in ``_label``, in the order given.

        Raises
        ------
        LabelsMissing
            No row has a label.
        ConfigError
            Labels or class weights do not fit the estimator.
        TrainingError
            There is one class only, no column of use, or nothing to go on from.
        """
        rows = labels.labelled(rows, classify=self._classify)
        if start in ("champion", "transfer"):
            before = _champion(previous, type(self.estimator), self.name)
            if start == "transfer":
                before = cast("EstimatorModel", before.adapted(rows, grow=False))
            return self._continue(rows, update, before, seed)
        classes = labels.classes_of(rows.get_column(LABEL)) if self._classify else ()
        raw = self._raw
        encoding = Encoding.learn(rows, raw=raw)
        matrix = None if raw else encoding.matrix(rows)
        dense = None if matrix is None else self._dense(matrix, encoding)
        task = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")
        head = Head("sklearn", self.name, task, classes, encoding, dense, raw)
        settings = self._settings(classes, seed, rows.height * len(encoding.columns))
        if estimators.derives(self.estimator, "sklearn", *estimators.HISTOGRAMS):
            settings["categorical_features"] = _categorical(self.estimator, encoding)
        estimator = _set(estimators.clone(self.estimator), settings)
        model = EstimatorModel(head, estimator)
        table = model.table(rows) if matrix is None else dense.apply(matrix) if dense else matrix
        with _few_threads(estimator, rows.height * len(encoding.columns)), _explained(rows, model):
            estimator.fit(table, model.codes(rows.get_column(LABEL)), **_weights(estimator, rows))
        _settle(estimator)
        return model

    def _dense(self, matrix: np.ndarray, encoding: Encoding) -> Dense | None:
        found = estimators.tags(self.estimator)
        wants = getattr(found, "input_tags", None)
        kin = estimators.packages(self.estimator)
        if getattr(wants, "allow_nan", False) or any(one in kin for one in _TAKE_GAPS):
            return None
        module = type(self.estimator).__module__
        if module.startswith(("sklearn.tree", "sklearn.ensemble")):
            scale = "none"
        else:
            scale = "range" if getattr(wants, "positive_only", False) else "standard"
        return Dense.learn(matrix, encoding.categorical, scale)

    def _settings(self, classes: tuple[Any, ...], seed: int, values: int) -> dict[str, Any]:
        """Return the parameters that are keepfit's to set: seeds, threads, weights by code."""
        settings: dict[str, Any] = estimators.seeded(self.estimator, seed)
        every = estimators.parameters(self.estimator, deep=True)
        settings |= estimators.weights_by_code(every, classes)
        if (
            estimators.derives(self.estimator, "sklearn", *_FORESTS)
            and self.estimator.n_jobs is None
        ):
            settings["n_jobs"] = estimators.threads(values)
        return settings

    def _continue(
        self, rows: pl.DataFrame, update: str, before: EstimatorModel, seed: int
    ) -> EstimatorModel:
        estimator = copy.deepcopy(before.estimator)
        model = EstimatorModel(before.head, estimator)
        known = model.codes(rows.get_column(LABEL))
        if self._classify:
            labels.refuse_new(rows.get_column(LABEL), known)
        table = model.table(rows)
        if update == "leaves":
            self._move(model, rows, table, known)
            return model
        settings = estimators.parameters(self.estimator)
        settings |= self._settings(model.classes, seed, rows.height * len(model.features))
        if hasattr(estimator, "partial_fit"):
            if self._classify and settings.get("class_weight") == "balanced":
                # A class without rows has no weight that balances it.
                labels.refuse_gone(known, model.classes)
            more = _classes(model.classes) | _weights(estimator, rows, "partial_fit")
            _set(estimator, settings).partial_fit(table, known, **more)
        else:
            settings |= self._grown(estimator, known, model)
            _set(estimator, settings).fit(table, known, **_weights(estimator, rows))
        _settle(estimator)
        return model

    def _move(
        self, model: EstimatorModel, rows: pl.DataFrame, table: np.ndarray, known: np.ndarray
    ) -> None:
        """Let the leaves of a model's trees learn."""
        from keepfit.learners import foliage

        if not estimators.leafy(model.estimator):
            raise TrainingError(
                f"expected a champion whose leaves can learn, got {estimators.described(model.estimator)}",
                hint="start from scratch",
            )
        if self._classify and known.min() == known.max():
            # One class alone says nothing of where it ends: leaves would move towards certainty.
            labels.classes_of(rows.get_column(LABEL))
        weight = labels.weights(rows)
        given = estimators.parameters(self.estimator)
        stated = estimators.weights_by_code(given, model.classes).get("class_weight")
        stated = given.get("class_weight") if stated is None else stated
        if stated is not None:
            from sklearn.utils.class_weight import compute_sample_weight

            stated = "balanced" if stated == "balanced_subsample" else stated
            weight = labels.product(compute_sample_weight(stated, known), weight)
        threads = estimators.threads(table.size)
        with _few_threads(model.estimator, table.size):
            foliage.move(model.estimator, table, known, weight, threads)

    def _grown(self, estimator: Any, known: np.ndarray, model: FittedModel) -> dict[str, Any]:
        """Return the parameters with which `fit` goes on where the champion stopped."""
        if self._classify:
            labels.refuse_gone(known, model.classes)
        size = self._size(estimator)
        if size is None:
            return {"warm_start": True}
        size.bounded()
        return {"warm_start": True, "n_estimators": size.now + size.own}

    def full(self, model: Model) -> bool:
        """Whether a champion is so large that a training from scratch is due instead of a warm start."""
        if not isinstance(model, EstimatorModel) or hasattr(model.estimator, "partial_fit"):
            return False
        size = self._size(model.estimator)
        return size is not None and size.full

    def _size(self, estimator: Any) -> Size | None:
        """Return how large the champion's estimator is; None where a warm start adds nothing."""
        own = estimators.parameters(self.estimator).get("n_estimators")
        now = getattr(estimator, "n_estimators", None)
        if not isinstance(own, int) or not isinstance(now, int):
            return None
        return Size(now, own, "estimators")


class EstimatorModel(FittedModel):
    """A trained estimator with its encoding."""

    def __init__(self, head: Head, estimator: Any, content: bytes | None = None) -> None:
        super().__init__(head)
        self.estimator = estimator
        self._content = content

    def answer(self, table: Any) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        # What predicting leaves behind in an estimator is not part of the artifact.
        self.content()
        with _few_threads(self.estimator, len(table) * len(self.features) * 10):
            return self._scores(table)

    def _scores(self, table: Any) -> np.ndarray:
        import numpy as np

        from keepfit.learners import foliage

        estimator = self.estimator
        together = foliage.mean(estimator, table)
        if together is not None:
            return together
        if self.task == "regression":
            return np.asarray(estimator.predict(table), dtype=np.float64).reshape(len(table))
        if hasattr(estimator, "predict_proba"):
            return np.asarray(estimator.predict_proba(table), dtype=np.float64)
        if hasattr(estimator, "decision_function"):
            decided = np.asarray(estimator.decision_function(table), dtype=np.float64)
            if decided.shape in ((len(table),), (len(table), len(self.classes))):
                return _squashed(decided)
        chosen = np.asarray(estimator.predict(table)).astype(np.int64)
        ones: np.ndarray = np.eye(len(self.classes))[chosen]
        return ones

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        if self._content is None:
            from keepfit import pickles

            self._content = pickles.dumps(_bare(self.estimator))
        return self._content

    def importances(self) -> dict[str, float]:
        """Return how much each column counts; empty where the model does not say."""
        import numpy as np

        estimator = _bare(self.estimator)
        found = getattr(estimator, "feature_importances_", None)
        if found is None:
            found = getattr(estimator, "coef_", None)
        if found is None or self.head.raw:
            return {}
        return self.by_column(np.abs(np.atleast_2d(np.asarray(found))).sum(axis=0))


def restore(head: Head, content: bytes) -> EstimatorModel:
    """Return the model that a head and bytes of `content` are."""
    from keepfit import pickles

    return EstimatorModel(head, pickles.loads(content), content)


def _champion(previous: Model | None, kind: type, name: str) -> EstimatorModel:
    """Return the champion, where it is a model that an estimator of a kind can go on with."""
    if previous is None:
        raise TrainingError(
            f"expected a champion for {name} to start from, got none",
            hint="the first training starts from scratch",
        )
    inside = getattr(previous, "estimator", None)
    # By name: a class that travelled by value is not the same object any more.
    if not isinstance(previous, EstimatorModel) or _path(type(inside)) != _path(kind):
        raise TrainingError(
            f"expected a champion that {name} can go on with, got {previous!r}",
            hint="start from scratch",
        )
    return previous


def _set(estimator: Any, settings: dict[str, Any]) -> Any:
    return estimator.set_params(**settings) if settings else estimator


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@contextlib.contextmanager
def _explained(rows: pl.DataFrame, model: EstimatorModel) -> Iterator[None]:
    """Name the columns that a pipeline of scikit-learn takes as they are, and does not take."""
    try:
        yield
    except ValueError as error:
        said = str(error)
        if model.head.raw and "could not convert string" in said:
            odd, what = _columns(rows, model, "text"), "text"
            hint = "encode it inside the Pipeline, by a ColumnTransformer with a OneHotEncoder"
        elif model.head.raw and "contains infinity" in said:
            odd, what = _columns(rows, model, "infinite"), "infinite values"
            hint = (
                "let a first step of the Pipeline replace them; checks.Nulls(at_most=0) sets apart "
            )
            hint += "batches that hold any"
        else:
            raise
        if not odd:
            raise
        raise TrainingError(
            f"{model.head.learner} takes no {what}, got some in {', '.join(odd)}: {said}",
            hint=f"{hint}, or leave the column out: exclude=[…]",
        ) from error


def _columns(rows: pl.DataFrame, model: EstimatorModel, kind: str) -> list[str]:
    """Return the columns that hold text, or the numbers that hold infinite ones, as errors show them."""
    import polars as pl

    held = rows.select(model.features)
    if kind == "text":
        found = held.select(pl.col(pl.String, pl.Categorical, pl.Enum)).columns
    else:
        floats = held.select(pl.col(pl.Float32, pl.Float64))
        found = [one.name for one in floats if one.is_infinite().any()]
    more = [f"{len(found) - 4} more"] if len(found) > 4 else []
    return [f"`{name}`" for name in found[:4]] + more


@contextlib.contextmanager
def _few_threads(estimator: Any, values: int) -> Iterator[None]:
    """Keep histogram gradient boosting, which has no `n_jobs`, from waking every core for little."""
    if not estimators.derives(estimator, "sklearn", *estimators.HISTOGRAMS):
        yield
        return
    with _openmp().limit(limits=estimators.threads(values), user_api="openmp"):
        yield


@cache
def _openmp() -> Any:
    """Return what holds the libraries of threads; finding them takes as long as many predictions."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _classes(classes: tuple[Any, ...]) -> dict[str, Any]:
    """Return what a classifier must be told of classes that may not be among the next rows."""
    import numpy as np

    return {"classes": np.arange(len(classes))} if classes else {}


def _weights(estimator: Any, rows: pl.DataFrame, method: str = "fit") -> dict[str, Any]:
    """Return what rows weigh as an argument of a method; none where all weigh the same."""
    weight = labels.weights(rows)
    name = None if weight is None else estimators.weight_name(estimator, method)
    return {} if name is None else {name: weight}


def _categorical(estimator: Any, encoding: Encoding) -> list[int] | None:
    """Return the places of categories for histogram gradient boosting, which has a limit."""
    asked = estimator.categorical_features
    named = {one for one in asked if isinstance(one, str)} if isinstance(asked, list) else set()
    places = [
        place
        for place in encoding.categorical
        if len(encoding.columns[place].categories) <= estimator.max_bins
    ]
    places += [
        place
        for place, column in enumerate(encoding.columns)
        if column.name in named and column.kind != "category"
    ]
    return sorted(places) or None


def _settle(estimator: Any) -> None:
    """Take out how many threads trained: predictions then add up in one order everywhere."""
    threaded = [
        name
        for name, value in estimators.parameters(estimator, deep=True).items()
        if value is not None and (name == "n_jobs" or name.endswith("__n_jobs"))
    ]
    if threaded:
        estimator.set_params(**dict.fromkeys(threaded))


def _bare(estimator: Any) -> Any:
    """Return the estimator that answers: the best one of a search, whose record holds times."""
    kin = [cls.__module__ for cls in type(estimator).__mro__]
    searched = any(module.startswith("sklearn.model_selection._search") for module in kin)
    return estimator.best_estimator_ if searched else estimator


def _squashed(decided: np.ndarray) -> np.ndarray:
    """Return decisions as scores between 0 and 1 that rank rows and classes as they do."""
    import numpy as np

    if decided.ndim == 1:
        squashed: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(decided, -500.0, 500.0)))
        return squashed
    powers = np.exp(decided - decided.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares
