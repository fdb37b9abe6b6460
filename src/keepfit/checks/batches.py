"""Checks of a batch as a whole: how fresh, how much, how often the same."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from keepfit.batch import ID, TIME
from keepfit.checks.asking import Asking, features, percent, share, where
from keepfit.clock import duration, humanise
from keepfit.errors import ConfigError
from keepfit.facts import Finding

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

_ENOUGH = 4
"""Batches that must have arrived before a volume can be called usual."""


@dataclass(frozen=True, repr=False)
class Fresh(Asking):
    """Whether the newest row is no older than stated, by the clock of the loop.

    A row further ahead of the clock than that is not fresh either: a clock is wrong.

    Raises
    ------
    ConfigError
        The age is no duration.

    Examples
    --------
    >>> Fresh("6h")
    Fresh("6h")
    """

    at_most: str | timedelta
    severity: str = field(default="warn", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        duration(self.at_most)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        newest = batch.rows.get_column(TIME).max()
        if not isinstance(newest, datetime):
            yield self._not_applicable("no row has an event time")
            return
        age, limit = context.now - newest, duration(self.at_most)
        ahead = age < timedelta(0)
        way = f"{humanise(-age)} ahead of the clock" if ahead else f"{humanise(age)} old"
        place: dict[str, Any] = {"value": humanise(age), "limit": humanise(limit)}
        if abs(age) > limit:
            yield self._block(f"the newest row is {way}, {humanise(limit)} allowed", **place)
        else:
            yield self._pass(f"the newest row is {way}", **place)


@dataclass(frozen=True, repr=False)
class Volume(Asking):
    """Whether a batch has about as many rows as the batches before it.

    The measure is the median of the latest batches, of which there must be four.

    Parameters
    ----------
    at_least, at_most
        Rows as a multiple of the median.
    rows
        The fewest rows, whatever the median is.

    Raises
    ------
    ConfigError
        The multiples do not rise, or one of the numbers is negative.

    Examples
    --------
    >>> Volume(), Volume(at_least=0.5, rows=100)
    (Volume(), Volume(at_least=0.5, rows=100))
    """

    at_least: float = field(default=0.1, kw_only=True)
    at_most: float = field(default=10.0, kw_only=True)
    rows: int | None = field(default=None, kw_only=True)
    severity: str = field(default="warn", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.at_least <= self.at_most:
            raise ConfigError(
                "Volume: expected multiples of the median that rise from zero, "
                f"got at_least={self.at_least!r}, at_most={self.at_most!r}"
            )
        if self.rows is not None and self.rows < 0:
            raise ConfigError(f"Volume: expected rows of zero or more, got {self.rows!r}")

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        rows = batch.rows.height
        if self.rows is not None and rows < self.rows:
            message = f"{rows:,} rows, at least {self.rows:,} asked for"
            yield self._block(message, value=rows, limit=self.rows)
            return
        arrived = [fact.rows for fact in context.arrived if fact.rows]
        if len(arrived) < _ENOUGH:
            if self.rows is not None:
                yield self._pass(f"{rows:,} rows, at least {self.rows:,} asked for", value=rows)
            else:
                yield self._not_applicable(f"{len(arrived)} of {_ENOUGH} batches to compare with")
            return
        ratio = rows / statistics.median(arrived)
        message = f"{rows:,} rows, {ratio:.2g} times the median of {len(arrived)} batches"
        if ratio < self.at_least:
            message += f", at least {self.at_least:g} asked for"
            yield self._block(message, value=ratio, limit=self.at_least)
        elif ratio > self.at_most:
            message += f", at most {self.at_most:g} allowed"
            yield self._block(message, value=ratio, limit=self.at_most)
        else:
            yield self._pass(message, value=ratio)


@dataclass(frozen=True, repr=False)
class Unique(Asking):
    """Whether every row has an id of its own and is no copy of another.

    Blocks ids that are missing, or that repeat inside the batch with other features, of which
    only the last row has landed; warns of rows with another id whose time and features are those
    of another row. The same row twice is one row, and no finding.

    Parameters
    ----------
    at_most
        The share of copies that nobody is warned of.

    Raises
    ------
    ConfigError
        ``at_most`` is no share.

    Examples
    --------
    >>> Unique()
    Unique()
    """

    at_most: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "at_most", self.at_most)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        rows = batch.rows
        found = [*self._again(rows, context), *self._ids(rows, context.roles.id)]
        found += self._copies(rows) if self.at_most < 1 else ()
        yield from found or [self._pass(f"{rows.height:,} rows, each with its own id")]

    def _again(self, rows: pl.DataFrame, context: CheckContext) -> Iterator[Finding]:
        """Yield what repeated before it landed: of that the batch no longer has a trace."""
        if not context.repeated:
            return
        value = context.repeated / (rows.height + context.repeated)
        many = "1 row was" if context.repeated == 1 else f"{context.repeated:,} rows were"
        yield self._block(
            f"{many} left out: another has their id and other values ({where(rows)})",
            column=context.roles.id or ID,
            value=value,
            limit=0.0,
            hint="give each row an id of its own, or send a correction later, in a batch of its own",
        )

    def _ids(self, rows: pl.DataFrame, named: str | None) -> Iterator[Finding]:
        ids = rows.get_column(ID)
        column = named or ID
        nulls, distinct = ids.null_count(), ids.n_unique()
        if nulls:
            message = f"{nulls:,} of {rows.height:,} rows have no id"
            yield self._block(message, column=column, value=nulls / rows.height, limit=0.0)
        if distinct == 1 and rows.height > 1:
            message = f"all {rows.height:,} rows have the same id, {ids[0]!r}"
            yield self._block(message, column=column, value=1.0, limit=0.0)
        elif distinct < rows.height:
            value = 1 - distinct / rows.height
            message = f"{percent(value)} of {where(rows)} repeat the id of another row"
            yield self._block(message, column=column, value=value, limit=0.0)

    def _copies(self, rows: pl.DataFrame) -> Iterator[Finding]:
        looked_at, schema = [TIME, *features(rows)], rows.schema
        plain = [name for name in looked_at if not schema[name].is_nested()]
        if len(plain) < 2:
            return
        # Rows are alike when the hashes of all their values are.
        value = 1 - rows.select(plain).hash_rows().n_unique() / rows.height
        if value > self.at_most:
            message = f"{percent(value)} of {where(rows)} are copies under another id"
            yield self._warn(message, value=value, limit=self.at_most)
