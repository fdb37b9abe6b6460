"""The quickest way to answer rows of JSON with a model; it answers as the model does.

Trees of LightGBM and rows encoded here agree to the last bit; linear estimators, folded into
one product, to 1e-12; everything else is the model's own answer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, cast

from keepfit.errors import SchemaMismatch, nearest
from keepfit.learners.encoding import LARGEST, bounded
from keepfit.learners.models import FittedModel
from keepfit.server.cells import cells

if TYPE_CHECKING:
    import numpy as np

    from keepfit.protocols import Model

Row = dict[str, Any]
Answer = float | tuple[float, ...]

AT_ONCE = 128
"""Rows up to which a model that is quick enough answers without leaving the thread of the event
loop, and with Python's lock kept: to get it back may take a thousand times as long as a short call
does. For more rows it is given away, and others go on meanwhile."""

_PLAIN = ("number", "boolean")
"""Kinds of columns whose values mostly are the numbers that the model reads."""


class Answerer(Protocol):
    """A model at work on rows of JSON."""

    model: Any
    alone: bool
    """Whether one row is answered so quickly that it need not wait for others."""

    def one(self, row: Row) -> Answer:
        """Return the scores of a row: one, or one per class."""

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the scores of rows."""


def quickest(model: Model) -> Answerer:
    """Return the quickest way to answer with a model."""
    from keepfit.learners.lightgbm import BoosterModel
    from keepfit.learners.sklearn import EstimatorModel
    from keepfit.server import linear, trees

    if isinstance(model, BoosterModel) and not model.head.raw:
        found = trees.of(model)
        if found is not None:
            return found
    if isinstance(model, EstimatorModel):
        folded = linear.folded(model)
        if folded is not None:
            return linear.Folded(model, folded)
    return encoded(model)


def encoded(model: Model) -> Answerer:
    """Return a way to answer with a model's own code, from a matrix or from a frame."""
    if isinstance(model, FittedModel) and not model.head.raw:
        kind = type(model)
        if kind.table is FittedModel.table and kind.predict is FittedModel.predict:
            return Matrix(model)
    return Frames(model)


class Encoder:
    """Rows of JSON as a row-major matrix of float64, by the encoding of a model."""

    def __init__(self, model: FittedModel) -> None:
        columns = model.head.encoding.columns
        self.width = len(columns)
        self.names = [column.name for column in columns]
        self._needed = model.features
        self._cells = cells(columns)
        self._kinds = [column.kind for column in columns]
        self._plain = all(column.kind in _PLAIN for column in columns)
        getter = itemgetter(*self.names)
        self._get = getter if self.width > 1 else lambda row: (getter(row),)

    def fill(self, buffer: Any, first: int, row: Row) -> None:
        """Write a row into a buffer of doubles.

        Raises
        ------
        SchemaMismatch
            The row lacks a column that the model needs.
        """
        last = first + self.width
        if self._plain:
            try:
                buffer[first:last] = values = self._get(row)
                # In one call of C: none is greater than the root of the sum of their squares.
                if math.hypot(*values) <= LARGEST:
                    return
            except (TypeError, KeyError, OverflowError):
                pass  # a value is missing, or comes as text
        # Those that are too great are missing here.
        buffer[first:last] = self.values(row)

    def values(self, row: Row) -> list[float]:
        """Return a row as numbers.

        Raises
        ------
        SchemaMismatch
            The row lacks a column that the model needs.
        """
        try:
            return [cell(value) for cell, value in zip(self._cells, self._get(row), strict=True)]
        except KeyError:
            complete(row, self._needed)
            return self._read(list(map(row.get, self.names)))
        except TypeError:
            return self._read(self._get(row))

    def _read(self, values: Sequence[Any]) -> list[float]:
        """Return values as numbers; one that is several is told with its column.

        Raises
        ------
        SchemaMismatch
            A value is a list or an object.
        """
        found = []
        for name, kind, cell, value in zip(
            self.names, self._kinds, self._cells, values, strict=True
        ):
            try:
                found.append(cell(value))
            except TypeError:
                raise not_one(name, kind, value) from None
        return found

    def matrix(self, rows: Sequence[Row]) -> np.ndarray:
        """Return rows as a matrix."""
        import numpy as np

        try:
            values = list(map(self._get, rows))
        except KeyError:
            return np.array([self.values(row) for row in rows])
        return self.stacked(values)

    def stacked(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Return rows of which each is its values, in the order of `names`, as a matrix."""
        import numpy as np

        if self._plain:
            try:
                # In one call of C, which takes numbers and nothing that only looks like one.
                packed = struct.pack(f"={self.width * len(rows)}d", *chain.from_iterable(rows))
                return bounded(np.frombuffer(packed).reshape(len(rows), self.width))
            except (struct.error, OverflowError):
                pass  # a value is missing, or comes as text
        cells = self._cells
        try:
            return np.array(
                [[cell(value) for cell, value in zip(cells, row, strict=True)] for row in rows]
            )
        except TypeError:
            return np.array([self._read(row) for row in rows])


class Matrix:
    """Answers with the model's own code, from a matrix that is made without a frame."""

    alone = False

    def __init__(self, model: FittedModel) -> None:
        self.model = model
        self.encoder = Encoder(model)

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the scores of rows."""
        return self._listed(self.encoder.matrix(rows))

    def tabled(self, rows: Sequence[Sequence[Any]]) -> list[Answer]:
        """Return the scores of rows of which each is its values, in the encoder's order."""
        return self._listed(self.encoder.stacked(rows))

    def _listed(self, matrix: np.ndarray) -> list[Answer]:
        import numpy as np

        dense = self.model.head.dense
        scores = np.asarray(self.answer(matrix if dense is None else dense.apply(matrix)), float)
        if self.model.task == "binary" and scores.ndim == 2:
            scores = scores[:, 1]
        return listed(scores)

    def answer(self, table: Any) -> np.ndarray:
        """Return the model's own scores of a matrix."""
        return self.model.answer(table)


class Frames:
    """Answers through a frame: for models that prepare columns themselves, and for strangers'."""

    alone = False

    def __init__(self, model: Model) -> None:
        self.model = model

    def one(self, row: Row) -> Answer:
        """Return the scores of a row."""
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Answer]:
        """Return the scores of rows.

        Raises
        ------
        SchemaMismatch
            A row lacks a column that the model needs.
        """
        import polars as pl

        from keepfit.landing.values import as_stored

        features, kinds = self.model.features, self._types()
        for row in rows:
            complete(row, features)
        columns = {
            name: as_stored([row[name] for row in rows], kinds.get(name)) for name in features
        }
        return listed(self.model.predict(pl.DataFrame(columns)))

    def _types(self) -> dict[str, Any]:
        import polars as pl

        if not isinstance(self.model, FittedModel):
            return {}
        types = {
            "number": pl.Float64(),
            "category": pl.String(),
            "boolean": pl.Boolean(),
            "time": pl.Datetime("us", "UTC"),
        }
        return {one.name: types.get(one.kind) for one in self.model.head.encoding.columns}


def listed(scores: np.ndarray) -> list[Answer]:
    """Return scores as Python's own numbers, a tuple for a row of several."""
    values = scores.tolist()
    return cast("list[Answer]", values if scores.ndim == 1 else [tuple(row) for row in values])


def complete(row: Row, features: Sequence[str]) -> None:
    """Raise where a row lacks a column.

    Raises
    ------
    SchemaMismatch
        It does.
    """
    for name in features:
        if name not in row:
            near = nearest(name, [one for one in row if one not in features])
            raise SchemaMismatch(
                f"expected a value for `{name}`, which the model needs, got none",
                hint=f"the nearest key sent is `{near}`" if near else f'send "{name}": null',
            )


_ONE = {"number": "a number", "boolean": "true or false", "time": "a time", "category": "a text"}


def not_one(name: str, kind: str, value: Any) -> SchemaMismatch:
    """Return what is said of a value that is several."""
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return SchemaMismatch(
        f"expected {_ONE.get(kind, 'one value')} in `{name}`, got {shown}",
        hint=f'send one value, or "{name}": null where it is missing',
    )


def fits(row: Row, model: Model) -> None:
    """Raise where a row that is kept without being answered is none that a model could answer.

    Raises
    ------
    SchemaMismatch
        A column is missing, or has several values where the model reads one.
    """
    complete(row, model.features)
    if isinstance(model, FittedModel):
        for column in model.head.encoding.columns:
            value = row[column.name]
            if column.kind in _ONE and isinstance(value, list | dict):
                raise not_one(column.name, column.kind, value)
