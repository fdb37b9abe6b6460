"""Models that were trained elsewhere: asked as they are, and never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.errors import ConfigError
from keepfit.learners import estimators, labels
from keepfit.learners.encoding import Column, Encoding
from keepfit.learners.models import FittedModel, Head, package
from keepfit.profile import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import polars as pl


class AdoptedModel(FittedModel):
    """A model from elsewhere, with what was found out about it."""

    def __init__(self, head: Head, estimator: Any, content: bytes) -> None:
        super().__init__(head)
        self.estimator, self._content = estimator, content

    def answer(self, table: Any) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        found = asked(self.estimator, table)
        if self.task == "multiclass" and hasattr(self.estimator, "classes_"):
            return found[:, _order(self.estimator)]
        if self.task == "binary" and found.ndim == 2:
            return found[:, _order(self.estimator)]
        return found

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        return self._content

    def importances(self) -> dict[str, float]:
        """Return nothing: how much a column counts elsewhere is not asked."""
        return {}


def adopted(
    estimator: Any, name: str, rows: pl.DataFrame, known: pl.Series, columns: Sequence[str]
) -> AdoptedModel:
    """Return a model that was trained elsewhere as one of keepfit's, once it answers rows.

    Classifiers say which classes they know. Of a model that does not say, rows of scores are
    those of as many classes as the labels have, in sorted order; single scores between 0 and 1
    are those of the second of two classes; other numbers are answers of a regressor.

    Parameters
    ----------
    estimator
        What predicts.
    name
        What it is called.
    rows
        Rows to try it on, at least one.
    known
        Labels of the source, to compare its classes with.
    columns
        The columns that it needs.

    Raises
    ------
    SchemaMismatch
        The source lacks a column.
    ConfigError
        It raises, or answers something else than scores of the classes that the source has.
    """
    from keepfit import pickles

    schema = rows.schema
    kinds = {one: kind_of(schema[one]) if one in schema else "number" for one in columns}
    encoding = Encoding(tuple(Column(one, kind) for one, kind in kinds.items()))
    probe = AdoptedModel(_head(name, "regression", (), encoding), estimator, b"")
    table = probe.table(rows)
    try:
        found = asked(estimator, table)
    except Exception as error:
        raise ConfigError(
            f"expected {name} to answer rows of the source, got {type(error).__name__}: {error}",
            hint="its columns come in the kinds that the source gives them",
        ) from error
    task, classes = _purpose(estimator, name, found, known)
    _fit(name, found, rows.height, classes)
    head = _head(name, task, classes, encoding)
    return AdoptedModel(head, estimator, pickles.dumps(estimator))


def asked(estimator: Any, table: Any) -> np.ndarray:
    """Return what a model of any library says of a frame: probabilities where it has them."""
    import numpy as np

    if estimators.derives(estimator, "xgboost", "Booster"):
        table = package("xgboost").DMatrix(table)
    elif estimators.derives(estimator, "lightgbm", "Booster", "LGBMModel"):
        texts = {one: "category" for one in table.columns if not _numeric(table[one])}
        table = table.astype(texts)
    ask = getattr(estimator, "predict_proba", None) or estimator.predict
    found = np.asarray(ask(table))
    if found.dtype.kind not in "biuf":
        raise ConfigError(
            f"expected scores, got answers like {found.ravel()[0]!r}",
            hint="a classifier that names classes alone cannot be compared by its scores",
        )
    found = found.astype(np.float64)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def restore(head: Head, content: bytes) -> AdoptedModel:
    """Return the model that a head and bytes of `content` are."""
    from keepfit import pickles

    return AdoptedModel(head, pickles.loads(content), content)


def _head(name: str, task: str, classes: tuple[Any, ...], encoding: Encoding) -> Head:
    return Head("adopted", name, task, classes, encoding, raw=True)


def _numeric(column: Any) -> bool:
    return bool(column.dtype.kind in "biuf") if hasattr(column.dtype, "kind") else False


def _classes(estimator: Any) -> list[Any]:
    """Return the classes of a classifier in its own order, as plain values; whole numbers as such."""
    plain = [one.item() if hasattr(one, "item") else one for one in estimator.classes_]
    return [int(one) if isinstance(one, float) and one == int(one) else one for one in plain]


def _order(estimator: Any) -> list[int]:
    """Return the places of a classifier's classes, in the order of their values."""
    if not hasattr(estimator, "classes_"):
        return [0, 1]
    found = _classes(estimator)
    return sorted(range(len(found)), key=found.__getitem__)


def _purpose(
    estimator: Any, name: str, found: np.ndarray, known: pl.Series
) -> tuple[str, tuple[Any, ...]]:
    """Return the task of a model and its classes, held against the labels of the source."""
    labelled = known.drop_nulls()
    if hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_"):
        classes = tuple(sorted(_classes(estimator)))
        strange = labelled.filter(labels.codes(labelled, classes) < 0)
        if not strange.is_empty():
            raise ConfigError(
                f"expected labels among the classes of {name}, {list(classes)}, "
                f"got {strange[0]!r} in the source"
            )
    elif labelled.is_empty():
        raise ConfigError(
            f"expected labels in the source to tell what {name} predicts, got none yet",
            hint="a classifier of scikit-learn's kind says so itself; else wait for labels",
        )
    elif _regresses(estimator, found, known):
        return "regression", ()
    else:
        classes = labels.classes_of(known)
    return ("binary" if len(classes) == 2 else "multiclass"), classes


def _regresses(estimator: Any, found: np.ndarray, known: pl.Series) -> bool:
    if kind_of(known.dtype) != "number" or found.ndim == 2:
        return False
    if hasattr(estimator, "get_params"):
        return estimators.purpose(estimator) == "regressor"
    return known.n_unique() != 2 or bool((found < 0).any() or (found > 1).any())


def _fit(name: str, found: np.ndarray, rows: int, classes: tuple[Any, ...]) -> None:
    """Raise unless the answers are finite scores, in the shape that the classes ask for."""
    import numpy as np

    shapes: list[tuple[int, ...]] = [(rows, len(classes))] if classes else [(rows,)]
    if len(classes) == 2:
        shapes.append((rows,))
    if found.shape not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ConfigError(
            f"expected scores of the shape {wanted} from {name}, got {found.shape}"
            + (f"; the labels of the source are {list(classes)}" if classes else "")
        )
    if not np.isfinite(found).all():
        raise ConfigError(f"expected finite scores from {name}, got one that is not")
    if classes and ((found < 0).any() or (found > 1).any()):
        raise ConfigError(
            f"expected probabilities from {name}, got scores from {found.min():.3g} to {found.max():.3g}",
            hint="register it so that it answers probabilities",
        )
