"""Rows as tensors: numbers on one scale, codes of categories, lists as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.batch import RESERVED
from keepfit.errors import SchemaMismatch, TrainingError, nearest
from keepfit.learners.encoding import Column, Encoding, extended

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

LIMIT = 20.0
"""Standard deviations at which a number is cut off: beyond them a network only extrapolates."""


FAR = 5.0
"""Standard deviations beyond which numbers lie off the scale that weights were learnt on."""

FAR_SHARE = 0.05
"""The share of numbers above which those far off are no outliers: the scale is another one."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as a network takes them: numbers as float32, codes of categories as int64 (0: missing)."""

    numbers: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


class Number(msgspec.Struct, frozen=True):
    """One number: where it lies on its own scale, and whether gaps in it are told apart."""

    name: str
    shift: float
    width: float
    gaps: bool


class Preparation(msgspec.Struct, frozen=True):
    """How rows become tensors, learnt from the rows of the first training.

    A missing number lies at the mean, 0; where the first rows had gaps, one more number says
    that it is missing. ``lists`` are the columns of lists of numbers, with their lengths.
    """

    encoding: Encoding
    numbers: tuple[Number, ...]
    lists: dict[str, int]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns the network needs."""
        return (*self.encoding.features, *self.lists)

    @property
    def categories(self) -> tuple[Column, ...]:
        """The columns that are categories."""
        return tuple(one for one in self.encoding.columns if one.kind == "category")

    @property
    def codes(self) -> tuple[int, ...]:
        """How many codes each category has, the one for missing values among them."""
        return tuple(len(column.categories) + 1 for column in self.categories)

    @property
    def wide(self) -> list[tuple[str, str]]:
        """Where each number of a table comes from: a column, and which part of it."""
        values = [(one.name, "value") for one in self.numbers]
        gaps = [(one.name, "gap") for one in self.numbers if one.gaps]
        lists = [(name, str(i)) for name, size in self.lists.items() for i in range(size)]
        return values + gaps + lists

    @property
    def flat(self) -> list[tuple[str, str]]:
        """Where each input of a network that takes one tensor comes from."""
        ones = [(one.name, text) for one in self.categories for text in one.categories]
        return self.wide + ones

    @classmethod
    def learn(
        cls,
        rows: pl.DataFrame,
        before: Preparation | None = None,
        *,
        grow: bool = False,
        other: bool = False,
    ) -> Preparation:
        """Learn from rows; what another preparation knows of their columns is kept.

        With ``grow`` columns and categories that it does not know are learnt beside those
        that it does; without, only where it cannot do with the columns that there are. With
        ``other`` the rows are those of another stream: columns that it does not know are left out
        unless they are learnt, and numbers that lie far off its scale get one of their own.

        Raises
        ------
        TrainingError
            No column is of use.
        """
        whole = before is not None and all(name in rows.columns for name in before.features)
        if before is not None and whole and not other:
            return before
        lists = _lists(rows)
        encoding = _encoding(rows.drop(lists.keys()), bool(lists))
        columns = _kept(encoding.columns, before.encoding.columns if before else (), grow)
        left = {*lists, *(one.name for one in columns)}
        if before is not None and other and not grow:
            lists = {name: size for name, size in lists.items() if before.lists.get(name) == size}
            known = {one.name: one for one in before.encoding.columns}
            columns = tuple(one for one in columns if _alike(one, known.get(one.name)))
            if not columns and not lists:
                raise TrainingError(
                    f"expected rows with a column that the donor knows, such as "
                    f"{', '.join(map(repr, before.features[:3]))}, got none of them",
                    hint="start from scratch, or rename columns in the source",
                )
        left -= {*lists, *(one.name for one in columns)}
        unused = dict.fromkeys(sorted(left), "the donor has no place for it")
        encoding = Encoding(columns, encoding.dropped | unused)
        scales = {one.name: one for one in before.numbers} if before else {}
        matrix = encoding.matrix(rows)
        numbers = tuple(
            _scale(one.name, matrix[:, place], scales.get(one.name), other)
            for place, one in enumerate(columns)
            if one.kind != "category"
        )
        return cls(encoding, numbers, lists)

    def table(self, rows: pl.DataFrame) -> Table:
        """Return rows as tensors are made from.

        Raises
        ------
        SchemaMismatch
            A column is missing, or a list has another length.
        """
        import numpy as np

        self._check(rows)
        matrix = self.encoding.matrix(rows) if self.encoding.columns else np.zeros((rows.height, 0))
        places = [i for i, one in enumerate(self.encoding.columns) if one.kind != "category"]
        values = matrix[:, places]
        gone = np.isnan(values)
        shift = np.array([one.shift for one in self.numbers])
        width = np.array([one.width for one in self.numbers])
        with np.errstate(over="ignore"):
            values = np.where(gone, 0.0, np.clip((values - shift) / width, -LIMIT, LIMIT))
        gaps = gone[:, [i for i, one in enumerate(self.numbers) if one.gaps]]
        spread = [_spread(rows.get_column(name), size) for name, size in self.lists.items()]
        numbers = np.concatenate([values, gaps, *spread], axis=1).astype(np.float32)
        codes = np.nan_to_num(matrix[:, self.encoding.categorical] + 1.0).astype(np.int64)
        return Table(np.ascontiguousarray(numbers), np.ascontiguousarray(codes))

    def _check(self, rows: pl.DataFrame) -> None:
        there = set(rows.columns)
        missing = [name for name in self.features if name not in there]
        if not missing:
            return
        free = [name for name in rows.columns if name not in self.features and name not in RESERVED]
        near = nearest(missing[0], free)
        raise SchemaMismatch(
            f"column `{missing[0]}` is missing "
            f"(the network needs {len(self.features)} columns, {rows.width} here)",
            hint=f"the nearest new column is `{near}`; rename it in the source"
            if near
            else "bring it back; a value that is not known may be missing, a column may not",
        )


def _kept(
    columns: tuple[Column, ...], before: tuple[Column, ...], grow: bool
) -> tuple[Column, ...]:
    """Return columns as they were known before, with their old categories first."""
    known = {one.name: one for one in before}
    found = []
    for one in columns:
        old = known.get(one.name)
        if old is None or not _alike(one, old):
            found.append(one)
        else:
            found.append(extended(old, one) if grow else old)
    # Networks that know their categories by place find them there.
    places = {one.name: place for place, one in enumerate(before)}
    found.sort(key=lambda one: places.get(one.name, len(places)))
    return tuple(found)


def _alike(one: Column, other: Column | None) -> bool:
    return other is not None and (one.kind == "category") == (other.kind == "category")


def _encoding(rows: pl.DataFrame, others: bool) -> Encoding:
    """Return the encoding of columns that are no lists; there may be none of use beside some."""
    try:
        return Encoding.learn(rows)
    except TrainingError:
        if not others:
            raise
        return Encoding(())


def _lists(rows: pl.DataFrame) -> dict[str, int]:
    """Return the columns of lists of numbers that all have one length, with that length."""
    import polars as pl

    found: dict[str, int] = {}
    for name, dtype in rows.schema.items():
        if not isinstance(dtype, pl.List | pl.Array) or not _numeric(dtype.inner):
            continue
        held = rows.get_column(name).drop_nulls()
        sizes = held.cast(pl.List(dtype.inner)).list.len().unique()
        if name not in RESERVED and sizes.len() == 1 and sizes[0]:
            found[name] = int(sizes[0])
    return found


def _numeric(inner: Any) -> bool:
    """Return whether the parts of a list are numbers, and no lists again."""
    return bool(inner.is_numeric())


def measured(known: np.ndarray) -> tuple[float, float]:
    """Return the mean and the deviation of numbers, of which none is missing."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        shift, width = (float(known.mean()), float(known.std())) if known.size else (0.0, 1.0)
    if not (np.isfinite(shift) and np.isfinite(width)):
        # Numbers so great that their sum or squares are not.
        shift, width = 0.0, float(np.abs(known).max())
    return shift, width


def _scale(name: str, values: np.ndarray, old: Number | None, other: bool) -> Number:
    """Return the scale of a column: the old one, unless another stream's numbers lie far off it."""
    import numpy as np

    known = values[~np.isnan(values)]
    if old is not None and not (other and beyond(known, old.shift, old.width) > FAR_SHARE):
        return old
    shift, width = measured(known)
    # A constant column may have a deviation of rounding errors alone.
    width = width if width > 1e-12 * max(1.0, abs(shift)) else 1.0
    # One more number for gaps where the weights have a place for it, or are new themselves.
    gaps = bool(known.size < values.size) if old is None else old.gaps
    return Number(name, shift, width, gaps)


def beyond(known: np.ndarray, shift: float, width: float) -> float:
    """Return the share of numbers that lie where no weight has learnt to tell them apart.

    Where it is large, their own mean and deviation take the place of the old ones, as in: Li,
    Wang, Shi, Hou and Liu, Adaptive batch normalization for practical domain adaptation (2018).
    """
    import numpy as np

    if not known.size:
        return 0.0
    with np.errstate(over="ignore"):
        return float((np.abs((known - shift) / width) > FAR).mean())


def _spread(values: pl.Series, size: int) -> np.ndarray:
    """Return a column of lists as a matrix; what is missing or infinite in it is 0."""
    import numpy as np
    import polars as pl

    nested = isinstance(values.dtype, pl.List | pl.Array) or values.dtype == pl.Null
    lists = values.cast(pl.List(pl.Float64), strict=False) if nested else None
    lengths = lists.list.len().drop_nulls() if lists is not None else None
    if lists is None or lengths is None or bool((lengths != size).any()):
        got = values.dtype if lengths is None else f"{lengths.filter(lengths != size)[0]} numbers"
        raise SchemaMismatch(
            f"column `{values.name}`: expected lists of {size:,} numbers, got {got}",
            hint="bring lists to one length in the source",
        )
    whole = lists.fill_null(pl.Series([[0.0] * size]))
    flat = whole.explode().cast(pl.Float64).to_numpy().reshape(len(values), size)
    with np.errstate(over="ignore"):
        single = flat.astype(np.float32)
    known: np.ndarray = np.nan_to_num(single, nan=0.0, posinf=0.0, neginf=0.0)
    return known
