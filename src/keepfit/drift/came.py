"""A batch as it came: each column is looked at once, however many references it is held against."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from keepfit.profile import categories, floats, kind_of, ordered, words_of
from keepfit.profile.text import Text

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


class Values:
    """One column of a batch, with what is worked out of it alone."""

    def __init__(self, series: pl.Series) -> None:
        self.series = series
        self.kind = kind_of(series.dtype)
        self.missing = series.null_count()

    @cached_property
    def numbers(self) -> np.ndarray:
        """The numbers, NaN for what is missing; of a short column."""
        return floats(self.series)

    @cached_property
    def ordered(self) -> tuple[np.ndarray, int, int]:
        """The finite numbers in rising order, how many are missing, how many infinite; if short."""
        return ordered(self.series)

    @cached_property
    def categories(self) -> dict[str, int]:
        """How often each category occurs."""
        return categories(self.series)

    @cached_property
    def text(self) -> Text:
        """What free text looks like."""
        return Text.of(self.series)

    @cached_property
    def words(self) -> dict[str, int]:
        """How often each word occurs."""
        return words_of(self.series)


class Came:
    """The rows of a batch, whose columns are looked at when they are first asked for."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows, self.height = rows, rows.height
        self._columns: dict[str, Values | None] = {}

    def column(self, name: str) -> Values | None:
        """Return a column; None where the batch does not have it."""
        if name not in self._columns:
            series = self.rows.get_column(name, default=None)
            self._columns[name] = None if series is None else Values(series)
        return self._columns[name]
