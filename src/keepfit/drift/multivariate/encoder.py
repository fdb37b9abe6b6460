"""Rows as a matrix of numbers, the same for a reference and for every batch after it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import msgspec

from keepfit.batch import RESERVED
from keepfit.errors import ConfigError, nearest
from keepfit.profile import floats, kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CLIP = 4.0
"""Spreads from the middle at which a value is cut: one wild value weighs no more than this."""

WIDTH = 128
"""Numbers of a vector that are kept as they are; a wider one is projected on so many directions."""

_TOP = 32
_COMMON = 0.01
"""The share of rows from which a category has a number of its own: rarer ones are luck's choice."""

_BUCKETS = 8
_SPREAD_OF_PRESENCE = 0.25
"""The least spread of what is there or not, so that one missing value does not count for all."""

_ONE_SPREAD = (0.159, 0.5, 0.841)
"""Shares of a normal distribution below its middle less one spread, the middle, and plus one."""


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """How one column becomes numbers.

    ``kind`` is ``number``, ``time``, ``boolean``, ``category`` or ``vector``. ``middle`` and
    ``spread`` hold float64, one per number of the column; ``top`` the categories that have
    a number of their own; ``absent`` is the share of rows without a value.
    """

    name: str
    kind: str
    middle: bytes = b""
    spread: bytes = b""
    top: tuple[str, ...] = ()
    weight: float = 1.0
    absent: float = 0.0

    @property
    def width(self) -> int:
        """How many numbers a row of the column becomes; the last says whether it is missing."""
        if self.kind == "category":
            return len(self.top) + _BUCKETS + 1
        return min(len(self.middle) // 8, WIDTH) + 1

    def write(self, values: pl.Series | None, out: np.ndarray) -> None:
        """Fill the columns of a matrix of zeros; None stands for a column that is gone."""
        if values is None or kind(values.dtype) != self.kind:
            out[:, -1] = self._missing
        elif self.kind == "category":
            self._write_categories(values, out)
        elif self.kind == "vector":
            self._write_vectors(values, out)
        else:
            there, missing = _numbers(values)
            out[:, 0] = _standardised(there, *self._scales)
            self._write_missing(missing, out)

    @cached_property
    def _scales(self) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        return np.frombuffer(self.middle), np.frombuffer(self.spread)

    @property
    def _missing(self) -> float:
        """What a missing value is in the last number, where zero stands for a value that is there."""
        return 1 / max(math.sqrt(self.absent * (1 - self.absent)), _SPREAD_OF_PRESENCE)

    def _write_missing(self, missing: np.ndarray, out: np.ndarray) -> None:
        if missing.any():
            out[missing, :-1] = 0.0
            out[missing, -1] = self._missing

    def _write_categories(self, values: pl.Series, out: np.ndarray) -> None:
        import numpy as np
        import polars as pl

        texts = values.cast(pl.String)
        places = {text: place for place, text in enumerate(self.top)}
        known = texts.unique().drop_nulls().to_list()
        codes = [places.get(text, len(self.top) + _bucket(text)) for text in known]
        found = texts.replace_strict(known, codes, default=None, return_dtype=pl.Int32)
        code = found.fill_null(out.shape[1] - 1).to_numpy()
        out[np.arange(len(code)), code] = self.weight
        self._write_missing(code == out.shape[1] - 1, out)

    def _write_vectors(self, values: pl.Series, out: np.ndarray) -> None:
        middle, spread = self._scales
        there, missing = vectors(values, middle.size)
        scaled = _standardised(there, middle, spread)
        out[:, :-1] = scaled @ directions(middle.size) if middle.size > WIDTH else scaled
        out[:, :-1] *= self.weight
        self._write_missing(missing, out)


class Encoder(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """How rows become a matrix: numbers by spreads from their middle, the rest by presence.

    The middle and the spread are quantiles of the reference and values are cut at 4 spreads,
    so that 1e12 weighs as much as 5. A missing or infinite value is the middle, and says so
    in a number of its own. The categories that hold a hundredth of the rows have a number
    each, the others share 8 by a hash. A vector (a list or array of numbers) gives its
    numbers, and weighs as much as the root of its width in columns; one wider than 128 is
    projected on 128 random directions, which keeps distances (Achlioptas 2003). Columns of
    other types are left out.

    References
    ----------
    Achlioptas, Database-friendly random projections: Johnson-Lindenstrauss with binary
    coins (2003); Weinberger et al., Feature hashing for large scale multitask learning (2009).
    """

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame, names: Sequence[str]) -> Encoder:
        """Learn from a reference how to write its columns."""
        return cls(fields=tuple(_field(rows.get_column(name)) for name in names))

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(field.width for field in self.fields)

    @property
    def names(self) -> list[str]:
        """The columns that are written, in their order."""
        return [field.name for field in self.fields]

    @cached_property
    def owners(self) -> np.ndarray:
        """The place of the column that each number comes from."""
        import numpy as np

        return np.repeat(np.arange(len(self.fields)), [field.width for field in self.fields])

    @cached_property
    def measured(self) -> np.ndarray:
        """Whether each number measures something; the others say that something is there."""
        import numpy as np

        flags = [
            place < field.width - 1 and field.kind not in ("category", "boolean")
            for field in self.fields
            for place in range(field.width)
        ]
        return np.array(flags, dtype=bool)

    def encode(self, rows: pl.DataFrame) -> np.ndarray:
        """Return one row of float32 per row; a column that is gone or changed its type is missing."""
        import numpy as np

        matrix = np.zeros((rows.height, self.width), dtype=np.float32)
        start, there = 0, set(rows.columns)
        for field in self.fields:
            values = rows.get_column(field.name) if field.name in there else None
            field.write(values, matrix[:, start : start + field.width])
            start += field.width
        return matrix


def usable(rows: pl.DataFrame, columns: Sequence[str] | None, exclude: Sequence[str]) -> list[str]:
    """Return the columns that an encoder can write, of those asked for.

    Raises
    ------
    ConfigError
        A column that is asked for by name is not there, or has a type that gives no numbers.
    """
    for name in columns or ():
        if name not in rows.columns:
            near = nearest(name, rows.columns)
            raise ConfigError(
                f"columns: expected columns of the reference, got {name!r}; "
                f"it has {', '.join(rows.columns)}",
                hint=f"did you mean {near!r}?" if near else None,
            )
        if kind(rows.schema[name]) == "other":
            raise ConfigError(
                f"columns: expected numbers, texts, booleans, times or lists of numbers, "
                f"got {rows.schema[name]} in column {name!r}"
            )
    asked = rows.columns if columns is None else columns
    left_out = {*exclude, *(RESERVED if columns is None else ())}
    schema = rows.schema
    return [name for name in asked if name not in left_out and kind(schema[name]) != "other"]


def kind(dtype: pl.DataType) -> str:
    """Return how a column of a type is written: as `kind_of`, and lists of numbers as vectors."""
    import polars as pl

    if isinstance(dtype, pl.List | pl.Array) and isinstance(dtype.inner, pl.DataType):
        return "vector" if dtype.inner.is_numeric() else "other"
    return kind_of(dtype)


def vectors(values: pl.Series, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of one width as a matrix, and which rows have no such list.

    A list that is missing, has another width or holds what is not finite counts as missing.
    """
    import numpy as np
    import polars as pl

    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    whole = (values.list.len() == width).fill_null(False).to_numpy()
    matrix = np.zeros((len(values), width), dtype=np.float32)
    if width and whole.any():
        there = values.filter(pl.Series(whole)).explode().cast(pl.Float32)
        matrix[whole] = there.to_numpy().reshape(-1, width)
    missing = ~whole | ~np.isfinite(matrix).all(axis=1)
    if missing.any():
        matrix[missing] = 0.0
    return matrix, missing


@lru_cache(maxsize=16)
def directions(width: int) -> np.ndarray:
    """Return 128 random directions of a width, the same in every process and version of NumPy."""
    import numpy as np

    # RandomState is frozen for ever; NumPy's newer generators may change what they draw.
    signs = np.random.RandomState(0).randint(0, 2, size=(width, WIDTH))
    return ((2 * signs - 1) / math.sqrt(WIDTH)).astype(np.float32)


def _field(values: pl.Series) -> Field:
    made = kind(values.dtype)
    if made == "category":
        return _of_categories(values)
    if made == "vector":
        return _of_vectors(values)
    there, missing = _numbers(values)
    middle, spread = _scale(there[~missing, None])
    return Field(
        name=values.name,
        kind=made,
        middle=middle.tobytes(),
        spread=spread.tobytes(),
        absent=float(missing.mean()) if missing.size else 0.0,
    )


def _of_categories(values: pl.Series) -> Field:
    import polars as pl

    present = values.cast(pl.String).drop_nulls()
    counted = present.value_counts(name=values.name + "#").rows()
    common = [(text, count) for text, count in counted if count >= _COMMON * present.len()]
    top = sorted(common, key=lambda item: (-item[1], item[0]))[:_TOP]
    shares = [count / present.len() for _, count in top]
    varied = max(1 - sum(share**2 for share in shares), _SPREAD_OF_PRESENCE**2)
    return Field(
        name=values.name,
        kind="category",
        top=tuple(text for text, _ in top),
        weight=1 / math.sqrt(varied),
        absent=1 - present.len() / max(1, values.len()),
    )


def _of_vectors(values: pl.Series) -> Field:
    import polars as pl

    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    widths = lists.list.len().drop_nulls()
    width = max(widths.mode().to_list(), default=0)
    there, missing = vectors(values, width)
    middle, spread = _scale(there[~missing].astype("float64"))
    return Field(
        name=values.name,
        kind="vector",
        middle=middle.tobytes(),
        spread=spread.tobytes(),
        weight=max(1, width) ** -0.25,
        absent=float(missing.mean()) if missing.size else 0.0,
    )


def _numbers(values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, times or booleans as float64, and which of them are missing or infinite."""
    import numpy as np
    import polars as pl

    # NumPy has no integers of 128 bits, and makes objects of booleans with holes.
    plain = values.dtype not in (pl.Boolean, pl.Int128, pl.UInt128)
    there = floats(values if plain else values.cast(pl.Float64))
    return there, ~np.isfinite(there)


def _scale(there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return middle and spread of each column of finite values.

    The spread is half the width of the middle 68 %. Where that is zero it is what deviating
    values deviate by; of a constant, so little that any other value counts as far away.
    """
    import numpy as np

    if not len(there):
        return np.zeros(there.shape[1]), np.ones(there.shape[1])
    # A value that is there, not one between two, whose difference may not be finite.
    low, middle, high = np.quantile(there, _ONE_SPREAD, axis=0, method="nearest")
    spread = high / 2 - low / 2
    for place in np.flatnonzero(spread <= 0):
        with np.errstate(over="ignore"):
            away = np.abs(there[:, place] - middle[place])
        away = away[away > 0]
        least = 1e-9 * max(1.0, abs(middle[place]))
        spread[place] = np.quantile(away, 0.5, method="nearest") if away.size else least
    return middle, spread


def _standardised(there: np.ndarray, middle: np.ndarray, spread: np.ndarray) -> np.ndarray:
    import numpy as np

    middle, spread = middle.astype(there.dtype), spread.astype(there.dtype)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scaled = (there - middle) / spread
    clipped: np.ndarray = np.clip(scaled, -CLIP, CLIP).astype(np.float32, copy=False)
    return clipped


def _bucket(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % _BUCKETS
