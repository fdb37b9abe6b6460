"""Checks of columns: names, types, categories and missing values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from keepfit.checks.asking import Asking, exceeds, features, names, one_of, percent, share, where
from keepfit.errors import nearest
from keepfit.facts import Finding, Outcome
from keepfit.profile import Column, Profile, categories, kind_of

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

_ACCEPT = "let the change in with `keepfit check FILE --accept-schema`"

_MOSTLY = 0.5
"""A column with at most this share missing is mostly there."""

_GONE = 0.99
"""A column with this share missing is as good as gone."""

_RISE = 0.05
"""The rise of the missing share below which nobody is warned."""


@dataclass(frozen=True, repr=False)
class Schema(Asking):
    """Whether columns, their types and their categories are those of the reference.

    Blocks a column that is gone or has another kind (text where numbers were); warns of a
    new column, of another type of the same kind where it matters, and of categories never
    seen, where there are more of them than the reference leads to expect.

    Parameters
    ----------
    categories
        What a category never seen means: ``"warn"``, ``"block"`` or ``"ignore"``.

    Raises
    ------
    ConfigError
        An argument is none of the known words.

    Examples
    --------
    >>> Schema(), Schema(categories="block")
    (Schema(), Schema(categories="block"))

    References
    ----------
    Good, The population frequencies of species (1953), for the unseen to expect.
    """

    categories: str = field(default="warn", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "categories", self.categories, ("warn", "block", "ignore"))

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        if context.reference is None:
            yield self._not_applicable("no reference yet: the first batch let in becomes it")
            return
        rows, broken = batch.rows, Outcome.WARN if context.schema_accepted else Outcome.BLOCK
        found = [
            *self._names(rows, context.reference, broken),
            *self._types(rows, context.reference, broken),
            *self._unseen(rows, context.reference),
        ]
        columns = len(context.reference.columns)
        yield from found or [self._pass(f"{columns} columns as in the reference")]

    def _names(self, rows: pl.DataFrame, reference: Profile, broken: Outcome) -> Iterator[Finding]:
        here = features(rows)
        known = {column.name for column in reference.columns}
        new = [name for name in here if name not in known]
        sizes = f"({len(known)} columns in the reference, {len(here)} here)"
        for name in sorted(known.difference(here)):
            like = nearest(name, new)
            hint = f"the nearest new column is `{like}`; rename it in the source" if like else None
            yield self._found(
                broken,
                f"column `{name}` is missing from {where(rows)} {sizes}",
                column=name,
                hint=f"{hint or 'bring it back in the source'}, or {_ACCEPT}",
            )
        for name in new:
            hint = "exclude it, or the next version learns from it"
            yield self._warn(f"column `{name}` is new {sizes}", column=name, hint=hint)

    def _types(self, rows: pl.DataFrame, reference: Profile, broken: Outcome) -> Iterator[Finding]:
        types = rows.schema
        for column in reference.columns:
            dtype = types.get(column.name)
            if dtype is None or str(dtype) == column.dtype:
                continue
            kind = kind_of(dtype)
            change = f"`{column.name}` is {dtype} ({kind}), was {column.dtype} ({column.kind})"
            place = {"column": column.name, "value": str(dtype), "limit": column.dtype}
            if kind == column.kind:
                if kind in ("time", "other"):
                    yield self._warn(change, **place)
            elif rows.get_column(column.name).null_count() == rows.height:
                yield self._warn(
                    f"`{column.name}` is all missing: its type cannot be told", **place
                )
            elif not column.present:
                yield self._warn(f"{change}, all missing", **place)
            else:
                hint = f"cast it in the source, or {_ACCEPT}"
                yield self._found(broken, change, hint=hint, **place)

    def _unseen(self, rows: pl.DataFrame, reference: Profile) -> Iterator[Finding]:
        if self.categories == "ignore":
            return
        outcome = Outcome.BLOCK if self.categories == "block" else Outcome.WARN
        types = rows.schema
        known = [one for one in reference.columns if one.kind == "category" and one.counts]
        here = [one for one in known if kind_of(types.get(one.name, _nothing())) == "category"]
        for column in here:
            unseen = categories(rows.get_column(column.name))
            present = sum(unseen.values())
            unseen = {name: n for name, n in unseen.items() if name not in column.counts}
            count = sum(unseen.values())
            if count and exceeds(count, present, column.tail, len(here)):
                value = count / present
                message = _unseen_message(column, unseen, value)
                place = {"column": column.name, "value": value, "limit": column.tail}
                yield self._found(outcome, message, **place)


@dataclass(frozen=True, repr=False)
class Nulls(Asking):
    """Whether values are missing (null, NaN or infinite) more often than stated, or than before.

    An infinite value is no value to learn from, and findings say how many there are.

    With ``at_most``, a greater share blocks. Without it the reference is the measure: a
    column that was mostly there and is all but gone blocks, a share that rises by five
    points or more beyond chance warns.

    Parameters
    ----------
    at_most
        The greatest share of missing values allowed in a column.
    columns
        The columns to look at; all when not given.

    Raises
    ------
    ConfigError
        ``at_most`` is no share, or ``columns`` is no list.

    Examples
    --------
    >>> Nulls(), Nulls(0.05)
    (Nulls(), Nulls(0.05))
    """

    at_most: float | None = None
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "at_most", self.at_most)
        names(self, self.columns)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        rows = batch.rows
        missing = _missing(rows, self.columns)
        for name in self.columns or ():
            if name not in missing:
                yield self._not_applicable(f"column `{name}` is not in the batch", column=name)
        found = list(self._compared(missing, context.reference))
        yield from found
        if not found and context.reference is None and self.at_most is None:
            yield self._not_applicable("no reference yet, and no limit stated")
        elif not found and missing:
            most = max(missing, key=lambda name: missing[name].absent)
            value = missing[most].share
            yield self._pass(
                f"{len(missing)} columns, at most {percent(value)} missing (`{most}`)", value=value
            )
        elif not found and self.columns is None:
            yield self._not_applicable("no feature columns in the batch")

    def _compared(
        self, missing: dict[str, _Missing], reference: Profile | None
    ) -> Iterator[Finding]:
        for name, found in missing.items():
            column = None if reference is None else reference.column(name)
            if self.at_most is not None:
                yield from self._against_limit(name, found, self.at_most)
            elif column is not None and column.rows:
                yield from self._against_reference(column, found, len(missing))
            elif found.absent == found.rows:
                yield self._warn(f"`{name}` is all {found.what}", column=name, value=1.0)

    def _against_limit(self, name: str, found: _Missing, limit: float) -> Iterator[Finding]:
        if found.share > limit:
            message = f"`{name}` is {found}, at most {percent(limit)} allowed"
            yield self._block(message, column=name, value=found.share, limit=limit)

    def _against_reference(
        self, column: Column, found: _Missing, columns: int
    ) -> Iterator[Finding]:
        before, value = (column.missing + column.infinite) / column.rows, found.share
        # What the reference itself does not know: three rows, and twice its standard error.
        doubt = 3 / column.rows + 2 * (before * (1 - before) / column.rows) ** 0.5
        expected = min(1.0, before + doubt)
        if value <= before or not exceeds(found.absent, found.rows, expected, columns):
            return
        message = f"`{column.name}` is {found}, was {percent(before)}"
        place = {"column": column.name, "value": value, "limit": before}
        if before <= _MOSTLY and value >= _GONE:
            hint = "look at what writes it; with Nulls(at_most=1.0) the batch is let in"
            yield self._block(message, hint=hint, **place)
        elif value - before >= _RISE:
            yield self._warn(message, **place)


def _unseen_message(column: Column, unseen: dict[str, int], value: float) -> str:
    shown = sorted(unseen, key=lambda name: (-unseen[name], name))[:3]
    listed = ", ".join(f"`{name[:40]}`" for name in shown) + (", …" if len(unseen) > 3 else "")
    kind = "rarely or never seen" if column.distinct > len(column.counts) else "never seen"
    many = "1 category" if len(unseen) == 1 else f"{len(unseen):,} categories"
    return f"`{column.name}` has {many} {kind} in {percent(value)} of its values: {listed}"


class _Missing(NamedTuple):
    """How many of so many values are missing, and how many of those are infinite."""

    absent: int
    rows: int
    infinite: int = 0

    @property
    def share(self) -> float:
        return self.absent / self.rows

    @property
    def what(self) -> str:
        if not self.infinite:
            return "missing"
        return "infinite" if self.infinite == self.absent else "missing or infinite"

    def __str__(self) -> str:
        own = percent(self.infinite / self.rows)
        part = "" if self.infinite in (0, self.absent) else f" ({own} infinite)"
        return f"{percent(self.share)} {self.what}{part}"


def _missing(rows: pl.DataFrame, columns: Sequence[str] | None) -> dict[str, _Missing]:
    """Return how many values of each column are null, NaN or infinite."""
    looked_at = [name for name in features(rows) if columns is None or name in columns]
    return {name: _missing_in(rows.get_column(name)) for name in looked_at}


def _missing_in(values: pl.Series) -> _Missing:
    import numpy as np

    if not values.dtype.is_float():
        return _Missing(values.null_count(), values.len())
    # In an array a null is NaN too; of a few rows they are counted sooner there than by a query.
    array = values.to_numpy()
    count = array.size - int(np.count_nonzero(np.isfinite(array)))
    infinite = int(np.count_nonzero(np.isinf(array))) if count else 0
    return _Missing(count, array.size, infinite)


def _nothing() -> pl.DataType:
    import polars as pl

    return pl.Null()
