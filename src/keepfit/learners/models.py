"""What all models have in common: encoding, classes, and their form as bytes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from keepfit.errors import ArtifactCorrupt, ExtraMissing, TrainingError
from keepfit.learners import labels
from keepfit.learners.dense import Dense
from keepfit.learners.encoding import Encoding

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

MAGIC = b"keepfit model 1\n"
FAMILIES = {
    "adopted": "keepfit.learners.adopted",
    "calibration": "keepfit.learners.calibration",
    "catboost": "keepfit.learners.catboost",
    "lightgbm": "keepfit.learners.lightgbm",
    "river": "keepfit.learners.river",
    "sklearn": "keepfit.learners.sklearn",
    "torch": "keepfit.learners.torch",
    "xgboost": "keepfit.learners.xgboost",
}
"""Where the models of each family are restored."""

GROWTH = 5
"""How many times its own size an ensemble may reach by warm starts."""

DUE = "a training from scratch is due"
"""The hint of a warm start that a model is too large for: the loop goes by it."""


class Head(msgspec.Struct, frozen=True):
    """What a model knows beside its parameters."""

    family: str
    learner: str
    task: str
    classes: tuple[bool | int | str, ...]
    encoding: Encoding
    dense: Dense | None = None
    raw: bool = False


class _Stored(msgspec.Struct, frozen=True):
    head: Head
    content: bytes


class FittedModel(ABC):
    """A model with its encoding: answers rows as they come from a source.

    It holds what it learnt and none of its training rows (a neighbours estimator, which
    learns by keeping rows, is the exception).
    """

    def __init__(self, head: Head) -> None:
        self.head = head

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes" if self.task == "multiclass" else self.task
        return f"<{type(self).__name__} {self.head.learner}: {kind}, {len(self.features)} columns>"

    def __reduce__(self) -> tuple[Any, ...]:
        return loads, (self.dumps(),)

    @property
    def task(self) -> str:
        """One of ``"binary"``, ``"multiclass"``, ``"regression"``."""
        return self.head.task

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels in the order of the columns of probabilities; empty for regression."""
        return self.head.classes

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model needs."""
        return self.head.encoding.features

    @property
    def dropped(self) -> dict[str, str]:
        """The columns that training left out, with the reason."""
        return self.head.encoding.dropped

    @property
    def finite(self) -> bool:
        """Whether no row whatever can get a score that is not finite; False where that is open."""
        return False

    def codes(self, known: pl.Series) -> np.ndarray:
        """Return labels as places in `classes` (-1 for one it does not know), or as values."""
        if self.task == "regression":
            return labels.values(known)
        return labels.codes(known, self.classes)

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Return scores, float64: (n,) probabilities of the second class, (n, classes), or (n,) values.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        import numpy as np

        table = self.table(rows)
        if rows.is_empty():
            shape = (0, len(self.classes)) if self.task == "multiclass" else (0,)
            return np.zeros(shape)
        scores = np.ascontiguousarray(self.answer(table), dtype=np.float64)
        if self.task == "binary" and scores.ndim == 2:
            return np.ascontiguousarray(scores[:, 1])
        return scores

    def table(self, rows: pl.DataFrame) -> Any:
        """Return rows in the form that the model was trained on.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        encoding = self.head.encoding
        if self.head.raw:
            return framed(encoding.raw(rows))
        matrix = encoding.matrix(rows)
        return matrix if self.head.dense is None else self.head.dense.apply(matrix)

    def inherited(self, donor: FittedModel) -> tuple[tuple[str, ...], float | None]:
        """Return in words what a transfer left of a donor's parts, and their share of this model."""
        return (f"went on from all that {donor.head.learner} had learnt",), None

    def dumps(self) -> bytes:
        """Return the model as bytes; equal trainings give equal bytes."""
        return MAGIC + msgspec.msgpack.encode(_Stored(self.head, self.content()))

    def by_column(self, values: np.ndarray) -> dict[str, float]:
        """Return one figure per column the model needs, from one per column of its table.

        None at all where one is no number, as a gain in squares of great labels is not.
        """
        names = [column.name for column in self.head.encoding.columns]
        places = self.head.dense.origins() if self.head.dense else range(len(names))
        sums = dict.fromkeys(names, 0.0)
        if values.shape != (len(list(places)),):
            return {}
        for place, value in zip(places, values, strict=True):
            sums[names[place]] += float(value)
        if not all(map(math.isfinite, sums.values())):
            return {}
        return {name: sums[name] for name in self.features}

    def adapted(self, rows: pl.DataFrame, *, grow: bool) -> FittedModel:
        """Return this model, which answers rows of another stream, to start a transfer from.

        `Encoding.adapted` says what becomes of its columns.

        Raises
        ------
        TrainingError
            The rows have none of its columns.
        """
        encoding = self.head.encoding.adapted(rows, grow=grow)
        head = msgspec.structs.replace(self.head, encoding=encoding)
        model: FittedModel = import_module(FAMILIES[head.family]).restore(head, self.content())
        return model

    @abstractmethod
    def answer(self, table: Any) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""

    @abstractmethod
    def content(self) -> bytes:
        """Return what was learnt, as bytes."""

    @abstractmethod
    def importances(self) -> dict[str, float]:
        """Return how much each column counts; empty where the model does not say."""


def loads(content: bytes) -> Any:
    """Return the model that bytes hold.

    Bytes of a model can run code: open those alone whose digest the ledger knows.

    Raises
    ------
    ArtifactCorrupt
        The bytes begin as a model and are none.
    """
    if not content.startswith(MAGIC):
        from keepfit import pickles

        return pickles.loads(content)
    try:
        stored = msgspec.msgpack.decode(memoryview(content)[len(MAGIC) :], type=_Stored)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(
            f"expected a model of keepfit, got bytes that are none: {error}"
        ) from error
    return import_module(FAMILIES[stored.head.family]).restore(stored.head, stored.content)


def framed(rows: pl.DataFrame) -> Any:
    """Return rows as a pandas frame where pandas is installed, else as they are."""
    try:
        import pandas as pd
    except ImportError:
        return rows
    return pd.DataFrame({name: _pandas_column(rows.get_column(name)) for name in rows.columns})


def _pandas_column(values: pl.Series) -> Any:
    import polars as pl

    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.Boolean and values.null_count():
        return values.cast(pl.Float64).to_numpy()
    if values.dtype.is_decimal():
        return values.cast(pl.Float64).to_numpy()
    return values.to_numpy()


class Size(NamedTuple):
    """How large an ensemble is, how much a warm start adds to it, and of what."""

    now: int
    own: int
    what: str

    @property
    def full(self) -> bool:
        """Whether one more warm start would make it larger than it may grow."""
        return self.now + self.own > GROWTH * self.own

    def __str__(self) -> str:
        allowed = f"at most {GROWTH * self.own:,} {self.what} ({GROWTH} times {self.own:,})"
        return f"{allowed}, got {self.now + self.own:,} with this warm start"

    def bounded(self) -> None:
        """Raise where one more warm start would make a model larger than it may grow.

        Raises
        ------
        TrainingError
            It would.
        """
        if self.full:
            raise TrainingError(f"expected {self}", hint=DUE)


def package(name: str) -> Any:
    """Return the package, or a module of it, that a model learns and answers with.

    Raises
    ------
    ExtraMissing
        It is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        extra = name.partition(".")[0]
        raise ExtraMissing(
            f"expected the package `{extra}`, in which this model learns and answers, "
            "and it is not installed",
            hint=f'pip install "keepfit[{extra}]"',
        ) from None
