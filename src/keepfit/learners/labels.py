"""Labels as a model sees them: codes of classes, or values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepfit.batch import LABEL, WEIGHT
from keepfit.errors import ConfigError, LabelsMissing, TrainingError
from keepfit.profile import kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def labelled(rows: pl.DataFrame, *, classify: bool) -> pl.DataFrame:
    """Return the rows whose label says something: neither missing nor infinite.

    Raises
    ------
    LabelsMissing
        No row has a label.
    ConfigError
        The labels are of a type that the learner cannot learn.
    """
    import polars as pl

    labels = rows.get_column(LABEL)
    if labels.dtype.is_float():
        rows = rows.filter(pl.col(LABEL).is_finite())
    elif labels.null_count():
        rows = rows.filter(pl.col(LABEL).is_not_null())
    if rows.is_empty():
        raise LabelsMissing(
            f"there is nothing to train on: 0 of {labels.len():,} rows have a label",
            hint="check the source's `label=` and `label_delay=`, or wait for labels",
        )
    kind = kind_of(labels.dtype)
    wanted = ("number", "boolean", "category") if classify else ("number", "boolean")
    if kind not in wanted:
        raise ConfigError(
            f"expected labels that are {'classes' if classify else 'numbers'}, got {labels.dtype}",
            hint=None if classify else "text labels need a classifier",
        )
    return rows


def weights(rows: pl.DataFrame) -> np.ndarray | None:
    """Return what each row weighs, (rows,); None where all weigh the same."""
    import polars as pl

    if WEIGHT not in rows.columns:
        return None
    return rows.get_column(WEIGHT).cast(pl.Float64).to_numpy()


def product(first: Any, second: Any) -> Any:
    """Return what rows weigh by two reasons together; None where neither says anything."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def classes_of(labels: pl.Series) -> tuple[Any, ...]:
    """Return the classes among labels, sorted: truth values, whole numbers or texts.

    Raises
    ------
    ConfigError
        The labels are fractions, which only a regressor learns.
    TrainingError
        There is one class only.
    """
    import polars as pl

    kind = kind_of(labels.dtype)
    if kind == "category":
        labels = labels.cast(pl.String)
    elif kind == "number" and not labels.dtype.is_integer():
        labels = _whole(labels)
    classes = tuple(labels.drop_nulls().unique().sort().to_list())
    if len(classes) < 2:
        raise TrainingError(
            f"expected labels of two classes or more, got one: "
            f"all {labels.len():,} labels are {classes[0]!r}",
            hint="train on more rows: a longer window, or a later start",
        )
    return classes


def _whole(labels: pl.Series) -> pl.Series:
    import polars as pl

    values = labels.cast(pl.Float64)
    fractions = values.filter(values != values.round())
    if not fractions.is_empty():
        raise ConfigError(
            f"expected whole numbers as the classes of a classifier, got {fractions[0]!r}",
            hint="learn numbers with a regressor, or turn them into classes in the source",
        )
    return values.cast(pl.Int64)


def codes(labels: pl.Series, classes: tuple[Any, ...]) -> np.ndarray:
    """Return the place of each label among the classes, -1 where it is none of them."""
    import numpy as np
    import polars as pl

    if labels.dtype.is_integer() and type(classes[0]) is int and not labels.null_count():
        # The classes are sorted, so that each label is found where it would stand among them.
        values, sorted_ = labels.to_numpy(), np.asarray(classes)
        signed = labels.dtype != pl.UInt64 and sorted_.dtype == np.int64
        if signed and classes[-1] - classes[0] == sorted_.size - 1:
            # One follows the other, as mostly: nothing need be looked for.
            places: np.ndarray = values - sorted_[0]
            # Without their sign those below the first are beyond the last too.
            places[places.view(np.uint64) >= sorted_.size] = -1
            return places
        places = np.searchsorted(sorted_, values)
        places[places == sorted_.size] = 0
        return np.where(sorted_[places] == values, places, -1)
    like = _like(labels, classes[0])
    if classes == (False, True) and type(classes[0]) is bool:
        found = like.cast(pl.Int64)
    elif type(classes[0]) is str:
        # A few hundred texts cost a fifth of what a table of their places does.
        found = like.cast(pl.Enum(classes), strict=False).to_physical().cast(pl.Int64)
    else:
        known = range(len(classes))
        found = like.replace_strict(list(classes), list(known), default=-1, return_dtype=pl.Int64)
    return found.fill_null(-1).to_numpy()


def surely_among(labels: pl.Series, classes: tuple[Any, ...]) -> bool:
    """Return whether the labels there are lie among whole classes that follow one another.

    The least and the greatest say so, in a tenth of the time of the place of each; of truth values
    there are no others.
    """
    import polars as pl

    if labels.dtype == pl.Boolean:
        return classes == (False, True) and type(classes[0]) is bool
    if not labels.dtype.is_integer() or type(classes[0]) is not int:
        return False
    first, last = int(classes[0]), int(classes[-1])
    ends: list[Any] = [labels.min(), labels.max()]
    inside = all(one is None or first <= one <= last for one in ends)
    return inside and last - first == len(classes) - 1


def _like(labels: pl.Series, example: Any) -> pl.Series:
    """Return labels in the type of the classes, because a source may change its mind."""
    import polars as pl

    kind = kind_of(labels.dtype)
    if kind == "category":
        labels = labels.cast(pl.String)
    if isinstance(example, bool):
        if kind == "category":
            words = {"true": True, "false": False, "1": True, "0": False}
            lower = labels.str.to_lowercase()
            return lower.replace_strict(words, default=None, return_dtype=pl.Boolean)
        if kind == "number":
            return labels.replace_strict({0: False, 1: True}, default=None, return_dtype=pl.Boolean)
        return labels
    if isinstance(example, int):
        if kind == "number" and not labels.dtype.is_integer():
            values = labels.cast(pl.Float64)
            labels = values.set(values != values.round(), None)
        return labels.cast(pl.Int64, strict=False)
    if kind == "number" and not labels.dtype.is_integer():
        labels = _like(labels, 0)
    return labels.cast(pl.String)


def values(labels: pl.Series) -> np.ndarray:
    """Return labels as numbers, NaN where there is none."""
    import polars as pl

    kind = kind_of(labels.dtype)
    numbers = labels.cast(pl.String) if kind == "category" else labels
    return numbers.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()


def refuse_new(labels: pl.Series, found: np.ndarray) -> None:
    """Raise where a label is none of the classes that the champion knows.

    Raises
    ------
    TrainingError
        One is.
    """
    if not (found < 0).any():
        return
    first = labels.gather(int((found < 0).argmax()))[0]
    raise TrainingError(
        f"expected the classes the champion knows, got the new class {first!r}",
        hint="start from scratch: a new class needs a model that has a place for it",
    )


def refuse_gone(found: np.ndarray, classes: tuple[Any, ...]) -> None:
    """Raise where a class that the champion knows has no rows among the codes of labels.

    Raises
    ------
    TrainingError
        One has none.
    """
    gone = [name for code, name in enumerate(classes) if not (found == code).any()]
    if gone:
        raise TrainingError(
            f"expected rows of every class to go on from the champion, got none of {gone[0]!r}",
            hint="select more rows, or start from scratch",
        )
