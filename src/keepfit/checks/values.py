"""The check of values: ranges, scales and signs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keepfit.batch import spread
from keepfit.checks.asking import Asking, features, names, percent, share
from keepfit.errors import ConfigError
from keepfit.facts import Finding, Outcome
from keepfit.profile import Column, kind_of, numbers

if TYPE_CHECKING:
    import numpy as np

    from keepfit.batch import Batch
    from keepfit.protocols import CheckContext

_SLACK = 10.0
"""Widths of the reference that a value may lie outside it: seasons move less than that."""

_MOST = 0.5

_CONTINUOUS = 20
"""Distinct values below which a column is a code or a calendar, and no quantity."""

_FEW = 500
"""Values that tell whether a column has the size it had, before all are looked at."""

_UNITS = {
    "times 100": 100.0,
    "times 1,000": 1e3,
    "times 1,000,000": 1e6,
    "divided by 100": 0.01,
    "divided by 1,000": 1e-3,
    "divided by 1,000,000": 1e-6,
    "times 60": 60.0,
    "times 3,600": 3600.0,
    "divided by 60": 1 / 60,
    "divided by 3,600": 1 / 3600,
    "times 10": 10.0,
    "divided by 10": 0.1,
}
"""Changes of unit that happen; other factors could be weather."""

_SEASONAL = (10.0, 0.1)
"""Factors that a season may reach: rentals in winter, snow in spring."""

_APART = 0.8
"""KS distance from which two samples hardly overlap."""

_GREAT = 50.0
_APART_GREAT = 0.3
"""A factor that great which restores the shape is no season, overlap or not."""

_ALIKE = 0.15
"""KS distance up to which two samples have the same shape."""


@dataclass(frozen=True, repr=False)
class Range(Asking):
    """Whether numbers lie where they should, or where they lay before.

    With ``limits``, a share of a column's values outside them greater than ``at_most``
    blocks. Without, the reference is the measure. A column blocks when most of its values
    lie ten times the reference's width or more outside it, when it is the reference in
    another unit (a factor of 60 or more) or mirrored at zero, or when most of it is
    infinite; it warns of single values that far out, of infinite values, of a factor of ten,
    and when most of it lies outside the reference's range. A season moves a column and does
    none of what blocks. A counter that only grows needs ``columns`` that leave it out.

    Parameters
    ----------
    limits
        The least and the greatest value by column; None where there is no such limit.
    columns
        The columns to compare with the reference; all numbers when not given.
    at_most
        The share of values outside ``limits`` that is let in.

    Raises
    ------
    ConfigError
        A limit is no pair of rising numbers, or an argument does not go with another.

    Examples
    --------
    >>> Range(), Range({"age": (0, 120), "price": (0, None)})
    (Range(), Range({'age': (0, 120), 'price': (0, None)}))
    """

    limits: Mapping[str, tuple[float | None, float | None]] | None = None
    columns: Sequence[str] | None = field(default=None, kw_only=True)
    at_most: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        share(self, "at_most", self.at_most)
        names(self, self.columns)
        if self.limits is not None and self.columns is not None:
            raise ConfigError("Range: expected limits or columns, got both")
        for name, pair in (self.limits or {}).items():
            _rising(name, pair)

    def _ask(self, batch: Batch, context: CheckContext) -> Iterator[Finding]:
        rows, schema = batch.rows, batch.rows.schema
        wanted = self.limits if self.limits is not None else self.columns
        for name in wanted or ():
            if name not in schema or kind_of(schema[name]) != "number":
                yield self._not_applicable(f"no column `{name}` of numbers", column=name)
        looked_at = [
            name
            for name in features(rows)
            if kind_of(schema[name]) == "number" and (wanted is None or name in wanted)
        ]
        found: list[Finding] = []
        for name in looked_at:
            column = None if context.reference is None else context.reference.column(name)
            found.extend(self._of_column(name, numbers(rows.get_column(name)), column))
        yield from found
        if not found and looked_at:
            measure = "their limits" if self.limits is not None else "what the reference explains"
            if self.limits is None and context.reference is None:
                yield self._not_applicable("no reference yet, and no limits stated")
            else:
                yield self._pass(f"{len(looked_at)} columns of numbers within {measure}")
        elif not found and wanted is None:
            yield self._not_applicable("no columns of numbers in the batch")

    def _of_column(self, name: str, there: np.ndarray, column: Column | None) -> Iterator[Finding]:
        import numpy as np

        if not there.size:
            return
        if self.limits is not None:
            yield from self._stated(name, there, *self.limits[name])
            return
        finite = np.isfinite(there)
        values = there if finite.all() else there[finite]
        known = column is not None and column.kind == "number" and column.present > 0
        if values.size < there.size:
            before = column.infinite / column.rows if column is not None and column.rows else 0.0
            yield from self._infinite(name, 1 - values.size / there.size, before)
        if values.size and known and column is not None:
            yield from self._compared(column, values)

    def _stated(
        self, name: str, values: np.ndarray, low: float | None, high: float | None
    ) -> Iterator[Finding]:
        least, most = -math.inf if low is None else low, math.inf if high is None else high
        # Infinite values are outside any range, an open one too.
        outside = float(((values < least) | (values > most) | (abs(values) == math.inf)).mean())
        if outside > self.at_most:
            yield self._block(
                f"`{name}` has {percent(outside)} of its values outside {_span(low, high)}",
                column=name,
                value=outside,
                limit=self.at_most,
            )

    def _infinite(self, name: str, value: float, before: float) -> Iterator[Finding]:
        message = f"`{name}` has {percent(value)} infinite values"
        if value > _MOST >= before:
            yield self._block(message, column=name, value=value, limit=before)
        elif value > before:
            yield self._warn(message, column=name, value=value, limit=before)

    def _compared(self, column: Column, values: np.ndarray) -> Iterator[Finding]:
        assert column.low is not None
        assert column.high is not None
        low, high, span = column.low, column.high, _span(column.low, column.high)
        least, most = float(values.min()), float(values.max())
        unit = _unit(column, values)
        far, near = _SLACK * (high - low), _SLACK * _width(column)
        outside = _outside(values, low, high) if least < low or most > high else 0.0
        place = {"column": column.name, "value": outside, "limit": _MOST}
        if unit is not None:
            outcome = Outcome.WARN if unit[1] in _SEASONAL else Outcome.BLOCK
            message = f"`{column.name}` looks like the reference {unit[0]}"
            hint = "look for a change of unit in the source"
            yield self._found(outcome, message, hint=hint, **place)
        elif _outside(values, low - far, high + far) > _MOST and _spread_out(column):
            message = f"`{column.name}` lies from {least:g} to {most:g}, far outside"
            hint = "look for a change of unit or of meaning in the source"
            yield self._block(f"{message} the reference's {span}", hint=hint, **place)
        elif outside > _MOST:
            message = f"`{column.name}` has {percent(outside)} of its values outside"
            yield self._warn(f"{message} the reference's {span}", **place)
        elif least < low - near or most > high + near:
            wild = round(_outside(values, low - near, high + near) * values.size)
            extreme = least if low - least > most - high else most
            message = f"`{column.name}` has {wild:,} values far outside the reference's {span}"
            yield self._warn(f"{message}, such as {extreme:g}", **place)


def _rising(name: str, pair: object) -> None:
    low, high = pair if isinstance(pair, tuple | list) and len(pair) == 2 else (1, 0)
    if low is not None and high is not None and not low <= high:
        raise ConfigError(
            f"Range: expected the least and the greatest value of `{name}`, got {pair!r}",
            hint='write {"age": (0, 120), "price": (0, None)}',
        )


def _unit(column: Column, values: np.ndarray) -> tuple[str, float] | None:
    """Return the change of unit that makes other values of the reference's, or None.

    Only for quantities: the codes 1 and 100 are a factor apart too. Small factors count
    only where the two hardly overlap.
    """
    import numpy as np

    if column.distinct < _CONTINUOUS or _same_scale(column, values):
        return None
    ordered = np.sort(values)
    apart = column.distance(ordered)
    for words, factor in _UNITS.items():
        great = factor >= _GREAT or 0 < factor <= 1 / _GREAT
        if apart < (_APART_GREAT if great else _APART):
            continue
        if column.distance(ordered / factor) < _ALIKE:
            return words, factor
    return ("with its sign turned", -1.0) if apart >= _APART and _turned(column, ordered) else None


def _turned(column: Column, ordered: np.ndarray) -> bool:
    """Return whether values are the reference with its sign turned.

    Winter may mirror summer at zero: the reference must lie farther from zero than seasons
    move it, or its shape must tell a turned sample from a moved one.
    """
    mirrored, middle = column.distance(-ordered[::-1]), float(column.grid[column.grid.size // 2])
    moved = column.distance(ordered + (middle - ordered[ordered.size // 2]))
    far = abs(middle) >= 3 * _width(column)
    return mirrored < _ALIKE if far else mirrored < 0.1 and moved >= 0.2


def _same_scale(column: Column, values: np.ndarray) -> bool:
    """Return whether values have about the reference's size and sign, from a few of them."""
    import numpy as np

    few, grid = np.sort(values[spread(values.size, _FEW)]), column.grid
    turned = few[few.size // 2] * grid[grid.size // 2] < 0
    size, usual = (np.sort(np.abs(one))[one.size * 9 // 10] for one in (few, grid))
    return bool(usual / 5 < size < usual * 5 and not turned)


def _outside(values: np.ndarray, low: float, high: float) -> float:
    return float(((values < low) | (values > high)).mean())


def _width(column: Column) -> float:
    """Return the width of the reference's middle, which single wild values do not stretch."""
    assert column.low is not None
    assert column.high is not None
    grid = column.grid
    middle = float(grid[-1 - grid.size // 20] - grid[grid.size // 20])
    return middle or column.high - column.low or max(1.0, abs(column.low))


def _spread_out(column: Column) -> bool:
    """Return whether the middle half of the reference has a width.

    A column that was nearly always the same, such as rain in a dry month, has no scale of
    its own to be measured by.
    """
    grid = column.grid
    return bool(grid[grid.size // 4] < grid[-1 - grid.size // 4])


def _span(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "what is finite"
    if low is None:
        return f"up to {high:g}"
    if high is None:
        return f"from {low:g}"
    return f"{low:g} to {high:g}"
