"""What the detectors of whole rows share: their words, their sample, and what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from keepfit.drift.multivariate.encoder import Encoder, usable
from keepfit.drift.reading import as_frame
from keepfit.errors import ConfigError, SchemaMismatch
from keepfit.facts import ColumnDrift
from keepfit.parts import Part

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ALPHA = 0.001
"""The share of batches of an unchanged stream that may be called drifted."""

WHOLE = "all columns"
"""What a result calls the rows as a whole."""

AT_MOST = 20_000
"""Rows of a reference or a batch that are looked at: beyond them the noise is below the floor."""

FEWEST = 2
"""Rows without which there is nothing to compare."""


@dataclass(frozen=True)
class Movement:
    """How far whole rows have moved from a reference, and which columns betray it.

    Examples
    --------
    >>> age = ColumnDrift(column="age", method="AUC", value=0.69, limit=0.57)
    >>> moved = Movement("AUC", value=0.71, limit=0.55, columns=(age,))
    >>> moved
    all columns: AUC 0.71 is above its limit of 0.55, most in age (0.69)
    >>> moved.drifted
    True
    """

    method: str
    value: float
    limit: float
    columns: tuple[ColumnDrift, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether the rows moved further than the limit."""
        return self.value > self.limit

    @property
    def parts(self) -> tuple[ColumnDrift, ...]:
        """The rows as a whole and the columns, worst for its limit first."""
        whole = ColumnDrift(column=WHOLE, method=self.method, value=self.value, limit=self.limit)
        # The sort keeps the order of equals, so the whole stands before a column as bad.
        return tuple(sorted((whole, *self.columns), key=lambda part: -part.value / part.limit))

    def __repr__(self) -> str:
        side = "above" if self.drifted else "within"
        said = f"{WHOLE}: {self.method} {self.value:.2g} is {side} its limit of {self.limit:.2g}"
        worst = ", ".join(f"{one.column} ({one.value:.2g})" for one in self.columns[:3])
        return f"{said}, most in {worst}" if worst else said

    def to_frame(self) -> pl.DataFrame:
        """Return the whole and the columns as a table."""
        import polars as pl

        rows = [(p.column, p.method, p.value, p.limit, p.drifted) for p in self.parts]
        names = ["column", "method", "value", "limit", "drifted"]
        return pl.DataFrame(rows, schema=names, orient="row")


class State(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What is kept of a reference: how to write rows, and how many rows it had."""

    encoder: Encoder
    rows: int
    seed: int


Kept = TypeVar("Kept", bound=State)


@dataclass(frozen=True, repr=False)
class Multivariate(Part, ABC, Generic[Kept]):
    """Base of the detectors that look at whole rows.

    They see what no column shows alone, such as a correlation that is gone. The limit adds
    what sampling noise explains in all but one of a thousand batches to a floor below which
    a movement is not called drift. It takes the rows for independent.

    Parameters
    ----------
    columns
        The columns to look at; None for all but keepfit's own.
    exclude
        Columns to leave out, such as a date that moves by its nature.
    limit
        The value to call drift, taken as it is; None for the floor plus noise.
    seed
        The seed of what is drawn: the sample of the rows, and random directions.
    """

    _: KW_ONLY
    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    limit: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for word in ("columns", "exclude"):
            if isinstance(given := getattr(self, word), str):
                raise ConfigError(
                    f"{kind}: expected a list of column names in {word}, got {given!r}",
                    hint=f"write {word}=[{given!r}]",
                )
        if self.limit is not None and not 0.0 < self.limit < float("inf"):
            raise ConfigError(f"{kind}: expected a limit above 0, got {self.limit!r}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"{kind}: expected a seed from 0 to 2**32 - 1, got {self.seed!r}")

    def fit(self, rows: Any) -> bytes:
        """Return what of a reference, a Polars, pandas or Arrow table, is kept to compare with.

        The same rows in any order give the same bytes.

        Raises
        ------
        ConfigError
            The rows are no table.
        """
        rows = as_frame(rows)
        names = usable(rows, self.columns, self.exclude)
        sampled = sample(rows, names, self._most, self.seed)
        encoder = Encoder.of(sampled, names)
        with _threads().limit(limits=1, user_api="blas"):
            state = self._fit(encoder, encoder.encode(sampled))
        return msgspec.msgpack.encode(state)

    def measure(self, state: bytes, rows: Any) -> Movement:
        """Return how far rows have moved from the reference that `fit` was given.

        Raises
        ------
        SchemaMismatch
            There are fewer than two rows on either side, or no column to compare.
        """
        rows = as_frame(rows)
        found = self._compare(state, rows)
        if found is None:
            raise SchemaMismatch(
                f"{type(self).__name__}: expected at least {FEWEST} rows with a column that gives "
                f"numbers on both sides, got {rows.height} rows of {', '.join(rows.columns)}"
            )
        return found

    def check(self, reference: Any, rows: Any) -> Sequence[ColumnDrift]:
        """Return the whole and the columns that betray it, worst first; nothing without a state.

        The state is the part of the reference that has this detector's name.
        """
        state = part_of(reference, self.name)
        found = None if state is None else self._compare(state, as_frame(rows))
        return () if found is None else found.parts

    def _compare(self, state: bytes, rows: pl.DataFrame) -> Movement | None:
        try:
            kept = msgspec.msgpack.decode(state, type=self._kept)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"{type(self).__name__}: expected the bytes of its own fit(), got others: {error}"
            ) from None
        if min(kept.rows, rows.height) < FEWEST or not kept.encoder.fields:
            return None
        if self._by_chance or rows.height > self._most:
            rows = sample(rows, kept.encoder.names, self._most, kept.seed)
        with _threads().limit(limits=1, user_api="blas"):
            return self._measure(kept, kept.encoder.encode(rows))

    @property
    def _by_chance(self) -> bool:
        """Whether a batch's rows must come in an order of chance."""
        return False

    @property
    def _most(self) -> int:
        """The most rows that are looked at."""
        return AT_MOST

    @property
    @abstractmethod
    def _kept(self) -> type[Kept]:
        """The kind of the state."""

    @abstractmethod
    def _fit(self, encoder: Encoder, encoded: np.ndarray) -> Kept:
        """Return the state of sampled rows, which come in an order of chance."""

    @abstractmethod
    def _measure(self, kept: Kept, encoded: np.ndarray) -> Movement:
        """Return the movement of sampled rows, of which there are two or more."""


@cache
def _threads() -> Any:
    """Return the hold on the threads of linear algebra.

    On matrices as small as these several threads cost more than they save, by far where
    processors are shared; and how many there are would show in the last digits.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def part_of(reference: Any, name: str) -> bytes | None:
    """Return what a reference keeps for a detector, or None."""
    parts: Mapping[str, bytes] = getattr(reference, "parts", None) or {}
    return parts.get(name)


def sample(rows: pl.DataFrame, names: Sequence[str], most: int, seed: int) -> pl.DataFrame:
    """Return at most so many rows, drawn and ordered by their content.

    The same rows in another order give the same sample. Equal rows are numbered, so that
    each is drawn by itself.
    """
    import numpy as np
    import polars as pl

    schema = rows.schema
    names = [name for name in names if name in schema and schema[name] != pl.Object]
    if not names or not rows.height:
        return rows.head(most)
    # What a category is kept as depends on what this process has seen before.
    plain = rows.select(names).cast({pl.Categorical: pl.String, pl.Enum: pl.String})
    content = plain.hash_rows(seed=seed).to_numpy()
    return rows[np.argsort(_mixed(content), kind="stable")[:most]]


def _mixed(content: np.ndarray) -> np.ndarray:
    """Return a number of chance per row: of its content, and which of its equals it is.

    The last steps are those of SplitMix64 (Steele et al. 2014).
    """
    import numpy as np

    order = np.argsort(content, kind="stable")
    ordered = content[order]
    places = np.arange(len(content), dtype=np.uint64)
    starts = np.append(True, ordered[1:] != ordered[:-1])
    number = np.empty_like(places)
    number[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    mixed: np.ndarray = content + number * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed
