"""River: models that learn row by row, and go on learning from the champion's state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keepfit.batch import LABEL
from keepfit.errors import ConfigError, SchemaMismatch, TrainingError
from keepfit.learners import labels, recipes
from keepfit.learners.dense import Dense
from keepfit.learners.encoding import Encoding, within
from keepfit.learners.models import FittedModel, Head, framed, package

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Model

_TREES = ("river.tree", "river.forest")
_COUNTS = ("MultinomialNB", "ComplementNB", "BernoulliNB")


class River:
    """Trains River's classifiers, regressors and pipelines, row by row in the order given.

    From scratch a copy that has seen nothing learns all rows; ``start="champion"`` goes on
    where the champion stopped, with the rows selected alone: with
    ``selection.SinceLast()`` each row is learnt once, as on a stream.

    A pipeline gets each row as a dictionary with the columns as they are, without those that
    are missing or infinite; where it holds an imputer, those are None. A model alone gets
    numbers without gaps: trees get categories as codes, other models one scale and a column
    for each category.

    Parameters
    ----------
    estimator
        The model, which is copied and never trained itself.
    at_once
        How many rows to learn at once, with ``learn_many``, where the model has that. Rows
        with a missing value are learnt alone, after the others of their group.

    Raises
    ------
    ConfigError
        The object is no classifier or regressor of River's, or cannot learn many rows at once.

    Examples
    --------
    >>> from river import linear_model, preprocessing
    >>> River(preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=0.1))
    learners.River(StandardScaler() | LogisticRegression(l2=0.1))
    """

    ways = (("scratch", "all"), ("champion", "all"))

    def __init__(self, estimator: Any, *, at_once: int = 1) -> None:
        river = package("river.base")
        if not isinstance(estimator, river.Classifier | river.Regressor):
            raise ConfigError(
                f"expected a classifier or a regressor of River's, got {type(estimator).__name__}",
                hint="a transformer goes in front of one: StandardScaler() | LogisticRegression()",
            )
        if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
            raise ConfigError(f"expected at_once= to be a number of rows, got {at_once!r}")
        self.estimator = recipes.renewed(estimator)
        self.at_once = at_once
        self._classify = isinstance(estimator, river.Classifier)
        if at_once > 1 and not recipes.learns_many(self.estimator):
            raise ConfigError(
                f"expected a model that learns many rows at once, got {self.name}",
                hint="leave at_once out: every model learns row by row",
            )

    @property
    def classifies(self) -> bool:
        """Whether what it learns are classes."""
        return self._classify

    def __repr__(self) -> str:
        own = f", at_once={self.at_once}" if self.at_once > 1 else ""
        return f"learners.River({self.name}{own})"

    @property
    def name(self) -> str:
        """What trains, with the parameters that differ from their defaults."""
        return recipes.described(self.estimator)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as JSON can hold them."""
        return {"at_once": self.at_once, "model": recipes.as_json(self.estimator)}

    @property
    def incremental(self) -> bool:
        """Whether it follows new rows by learning them alone; naive Bayes counts its oldest as much."""
        inside = recipes.innermost(self.estimator)
        return not any(type(one).__module__.startswith("river.naive_bayes") for one in inside)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of class and parameters, the same in every process."""
        from keepfit import pickles

        return pickles.fingerprint(("river", recipes.recipe(self.estimator), self.at_once))

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Model | None, seed: int
    ) -> RiverModel:
        """Return a model trained on rows that carry their label in ``_label``, in the order given.

        Raises
        ------
        LabelsMissing
            No row has a label.
        ConfigError
            Labels do not fit the model.
        TrainingError
            There is one class only, no column of use, or nothing to go on from.
        """
        rows = labels.labelled(rows, classify=self._classify)
        if start == "champion":
            before = self._champion(previous)
            model = RiverModel(before.head, before.opened())
        else:
            estimator = recipes.renewed(self.estimator, seed)
            model = RiverModel(self._head(rows), estimator)
        known = model.codes(rows.get_column(LABEL))
        if self._classify:
            labels.refuse_new(rows.get_column(LABEL), known)
        recipes.settle(model.estimator, seed)
        if self.at_once > 1:
            model.learn_many(rows, known, self.at_once)
        else:
            model.learn(rows, known)
        recipes.settle(model.estimator, seed)
        return model

    def _head(self, rows: pl.DataFrame) -> Head:
        classes = labels.classes_of(rows.get_column(LABEL)) if self._classify else ()
        if len(classes) > 2 and not self.estimator._multiclass:
            raise ConfigError(
                f"expected labels of two classes for {self.name}, got {len(classes)}",
                hint="wrap it: multiclass.OneVsRestClassifier(…)",
            )
        task = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")
        raw = recipes.prepares(self.estimator)
        encoding = Encoding.learn(rows, raw=raw)
        dense = None
        if not raw:
            dense = Dense.learn(encoding.matrix(rows), encoding.categorical, self._scale)
        return Head("river", self.name, task, classes, encoding, dense, raw)

    @property
    def _scale(self) -> str:
        inside = recipes.innermost(self.estimator)
        if all(type(one).__module__.startswith(_TREES) for one in inside):
            return "none"
        counts = any(type(one).__name__ in _COUNTS for one in inside)
        return "range" if counts else "standard"

    def _champion(self, previous: Model | None) -> RiverModel:
        """Return the champion, where it is a model that this one can go on from."""
        if previous is None:
            raise TrainingError(
                f"expected a champion for {self.name} to start from, got none",
                hint="the first training starts from scratch",
            )
        # The champion's parameters go on with its state: others would never be heard of.
        if not isinstance(previous, RiverModel) or previous.head.learner != self.name:
            raise TrainingError(
                f"expected a champion that {self.name} can go on with, got {previous!r}",
                hint="start from scratch",
            )
        return previous


class RiverModel(FittedModel):
    """A model of River's with its encoding."""

    def __init__(self, head: Head, estimator: Any, content: bytes | None = None) -> None:
        super().__init__(head)
        self.estimator = estimator
        self._content = content

    def opened(self) -> Any:
        """Return a copy of River's model, which may go on learning."""
        from keepfit import pickles

        return pickles.loads(self.content())

    def learn(self, rows: pl.DataFrame, known: np.ndarray) -> None:
        """Learn rows one by one."""
        for row, label in zip(self._dictionaries(self.table(rows)), self._told(known), strict=True):
            with self._whole(row):
                self.estimator.learn_one(row, label)

    def learn_many(self, rows: pl.DataFrame, known: np.ndarray, at_once: int) -> None:
        """Learn so many rows at once; in each group, those with gaps come last and alone."""
        import polars as pl

        table = self._named(self.table(rows))
        told = pl.Series("label", list(self._told(known)))
        known_cells = table.select(_plain(column) for column in table)
        gaps = known_cells.select(pl.any_horizontal(pl.all().is_null())).to_series()
        for first in range(0, table.height, at_once):
            group, label = table.slice(first, at_once), told.slice(first, at_once)
            gap = gaps.slice(first, at_once)
            whole = group.filter(~gap)
            if whole.height:
                with self._whole(whole.row(0, named=True)):
                    self.estimator.learn_many(*_frames(whole, label.filter(~gap)))
            alone = self._dictionaries(group.filter(gap))
            for row, one in zip(alone, label.filter(gap), strict=True):
                with self._whole(row):
                    self.estimator.learn_one(row, one)

    def table(self, rows: pl.DataFrame) -> Any:
        """Return rows in the form that the model was trained on."""
        return self.head.encoding.raw(rows) if self.head.raw else super().table(rows)

    def answer(self, table: Any) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        import numpy as np

        # What predicting leaves behind in a model is not part of the artifact.
        self.content()
        one = self._value if self.task == "regression" else self._shares
        answers = []
        for row in self._dictionaries(table):
            with self._whole(row):
                answers.append(one(row))
        return np.array(answers)

    def _value(self, row: dict[str, Any]) -> float:
        found = self.estimator.predict_one(row)
        return float("nan") if found is None else float(found)

    def _shares(self, row: dict[str, Any]) -> list[float]:
        """Return a probability per class; a model that knows nothing of a row says so evenly."""
        try:
            found = self.estimator.predict_proba_one(row)
        except NotImplementedError:
            found = {self.estimator.predict_one(row): 1.0}
        shares = [float(found.get(label, 0.0)) for label in self._labels]
        total = sum(shares)
        if total == 0.0:
            return [1.0 / len(shares)] * len(shares)
        return [share / total for share in shares]

    @cached_property
    def _labels(self) -> tuple[Any, ...]:
        """The classes as River's model is told them: by name, as its own parameters name them.

        A model of two classes takes truth values, and any text for a true one.
        """
        return self.classes if self.estimator._multiclass else (False, True)

    def _told(self, known: np.ndarray) -> Iterator[Any]:
        """Yield labels as River's model is told them."""
        if self.task == "regression":
            return iter(known.tolist())
        return (self._labels[code] for code in known.tolist())

    def _named(self, table: Any) -> pl.DataFrame:
        import polars as pl

        if self.head.raw:
            found: pl.DataFrame = table
            return found
        return pl.DataFrame(table, schema=self._columns)

    @cached_property
    def _columns(self) -> list[str]:
        """The names of a matrix's columns: of those spread over several, with their place."""
        dense = self.head.dense
        names = self.features
        places = dense.origins() if dense else list(range(len(names)))
        spread = set(dense.spread) if dense else set()
        return [
            f"{names[place]}={at}" if place in spread else names[place]
            for at, place in enumerate(places)
        ]

    def _dictionaries(self, table: Any) -> Iterator[dict[str, Any]]:
        """Yield rows as River takes them, without what is missing, infinite or too great."""
        if not self.head.raw and not hasattr(table, "iter_rows"):
            for values in table.tolist():
                yield dict(zip(self._columns, values, strict=True))
            return
        plain = table.select(_plain(column) for column in table)
        for row in plain.iter_rows(named=True):
            if self._imputes:
                yield row
            else:
                yield {name: value for name, value in row.items() if value is not None}

    @cached_property
    def _imputes(self) -> bool:
        return recipes.imputes(self.estimator)

    @contextlib.contextmanager
    def _whole(self, row: dict[str, Any]) -> Iterator[None]:
        """Say what is missing, or is no number, where a pipeline cannot do with it."""
        try:
            yield
        except KeyError as error:
            name = error.args[0] if error.args else None
            if name not in self.features or name in row:
                raise
            raise SchemaMismatch(
                f"expected a value of `{name}` in every row, as {self.head.learner} needs it, "
                "got a row where it is missing",
                hint="put a StatImputer in front, or choose columns by SelectType or Discard",
            ) from error
        except (TypeError, ValueError) as error:
            odd = [name for name, value in row.items() if not isinstance(value, int | float | None)]
            if not odd:
                raise
            raise TrainingError(
                f"expected columns of numbers, as {self.head.learner} needs them, "
                f"got {row[odd[0]]!r} in `{odd[0]}`: {error}",
                hint="choose by compose.SelectType(int, float), or put OneHotEncoder in front",
            ) from error

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        if self._content is None:
            from keepfit import pickles

            self._content = pickles.dumps(self.estimator)
        return self._content

    def importances(self) -> dict[str, float]:
        """Return the size of each column's weight in a linear model; empty for other models."""
        import numpy as np

        weights = getattr(self.estimator, "weights", None)
        if self.head.raw or not isinstance(weights, dict):
            return {}
        return self.by_column(np.abs([float(weights.get(name, 0.0)) for name in self._columns]))


def restore(head: Head, content: bytes) -> RiverModel:
    """Return the model that a head and bytes of `content` are."""
    from keepfit import pickles

    package("river")
    return RiverModel(head, pickles.loads(content), content)


def _plain(column: pl.Series) -> pl.Series:
    """Return a column as Python's own values, null where it is not finite, or too great."""
    import polars as pl

    if column.dtype.is_decimal():
        column = column.cast(pl.Float64)
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_float():
        return column.to_frame().select(pl.when(within(pl.all())).then(pl.all())).to_series()
    return column


def _frames(rows: pl.DataFrame, known: pl.Series) -> tuple[Any, Any]:
    """Return rows and labels as `learn_many` takes them: of pandas where that is installed."""
    table = framed(rows)
    if table is rows:
        return rows, known
    import pandas as pd

    return table, pd.Series(known.to_list(), name=known.name)
