"""From the columns of a source to keepfit's own: id, times, label, features."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from keepfit.batch import ARRIVED_AT, ID, KNOWN_AT, LABEL, RESERVED, TIME, Roles
from keepfit.errors import ConfigError, SchemaMismatch, nearest
from keepfit.facts import Finding, Outcome

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 8
"""Columns that an error names; a table may have hundreds."""


def normal(raw: pl.DataFrame, roles: Roles, piece: str, told: list[Finding]) -> pl.DataFrame:
    """Return rows with keepfit's own columns, sorted by time and id; ``told`` takes findings.

    Raises
    ------
    SchemaMismatch
        A column that plays a part is missing.
    ConfigError
        A column has a name of keepfit's own, or times are no times.
    """
    _check_columns(raw.columns, roles, piece)
    features = [name for name in raw.columns if name not in roles.columns()]
    own = {TIME: roles.time, ARRIVED_AT: roles.arrived_at, KNOWN_AT: roles.known_at}
    frame = raw.select(
        *(_times(raw, column, told).alias(name) for name, column in own.items()),
        _label(raw, roles.label),
        *(_plain(raw[name]) for name in features),
    )
    if roles.id is not None:
        frame = frame.insert_column(0, _ids(raw[roles.id]))
    kept = frame.drop_nulls([TIME] if roles.id is None else [ID, TIME])
    if lost := frame.height - kept.height:
        rows = "1 row" if lost == 1 else f"{lost:,} rows"
        without = "no time" if roles.id is None else "no id or no time"
        told.append(warning(f"{rows} of {piece} with {without} left out"))
    if roles.id is None:
        kept = _hashed(kept)
    return kept.sort(TIME, ID, maintain_order=True)


def warning(message: str, *, column: str | None = None, hint: str | None = None) -> Finding:
    """Return a finding of a source that is worth a look."""
    return Finding(check="source", outcome=Outcome.WARN, message=message, column=column, hint=hint)


def _check_columns(columns: list[str], roles: Roles, piece: str) -> None:
    for column in sorted(roles.columns() - set(columns)):
        near = nearest(column, columns)
        raise SchemaMismatch(
            f"column `{column}` is missing from {piece}, which has {_listed(columns)}",
            hint=f"the nearest is `{near}`" if near else "name the columns as the source does",
        )
    clash = sorted(RESERVED & set(columns))
    if clash:
        raise ConfigError(
            f"expected other names than keepfit's own in {piece}, got {', '.join(clash)}",
            hint="rename them in the source",
        )


def _listed(columns: list[str]) -> str:
    """Return the first columns, and how many more there are."""
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(columns[:_SHOWN]) + more


def _times(raw: pl.DataFrame, column: str | None, told: list[Finding]) -> pl.Series:
    """Return a column of times in UTC; nulls where no column is named."""
    import polars as pl

    utc = pl.Datetime("us", "UTC")
    if column is None or raw.schema[column] == pl.Null:
        return pl.Series(values=[None] * raw.height, dtype=utc)
    values, dtype = raw[column], raw.schema[column]
    if dtype == pl.String:
        return _parsed_times(values, told)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return values.dt.convert_time_zone("UTC").cast(utc)
    if isinstance(dtype, pl.Datetime):
        told.append(
            Finding(
                check="source",
                outcome=Outcome.PASS,
                column=column,
                message=f"`{column}` has no zone and is taken as UTC",
            )
        )
    elif dtype != pl.Date:
        raise ConfigError(
            f"expected times in `{column}`, got {dtype}",
            hint="make it a time in the source: a date and time, with a zone or in UTC",
        )
    return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _parsed_times(texts: pl.Series, told: list[Finding]) -> pl.Series:
    times = _parsed(texts)
    if lost := times.null_count() - texts.null_count():
        example = texts.filter(times.is_null()).drop_nulls()[0]
        values = "1 value" if lost == 1 else f"{lost:,} values"
        message = f"expected times in `{texts.name}`, got {values} such as {example!r}"
        told.append(warning(message, column=texts.name))
    return times


def _parsed(texts: pl.Series) -> pl.Series:
    """Return texts as times, each way of writing them in turn."""
    times = texts.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    lost = times.is_null() & texts.is_not_null()
    if not lost.any() or lost.sum() == texts.len() - texts.null_count():
        return times
    return times.scatter(lost.arg_true(), _parsed(texts.filter(lost)))


def _label(raw: pl.DataFrame, column: str | None) -> pl.Series:
    import polars as pl

    if column is None:
        return pl.Series(LABEL, [None] * raw.height, dtype=pl.Null)
    label = _plain(raw[column]).alias(LABEL)
    return label.fill_nan(None) if label.dtype.is_float() else label


def _plain(values: pl.Series) -> pl.Series:
    import polars as pl

    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum) else values


def _ids(values: pl.Series) -> pl.Series:
    import polars as pl

    return values.cast(pl.Int64 if values.dtype.is_integer() else pl.String).alias(ID)


def _hashed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows whose id is a hash of their time and content, with a number for equal rows.

    Equal rows are numbered within their file, in order of their labels. So the same file
    delivered twice is the same rows, in any order; one cannot tell it from rows that
    really happened twice, which need an id of their own.
    """
    import polars as pl

    columns = [TIME, *sorted(name for name in rows.columns if name not in RESERVED)]
    text = rows.select(_text(rows[name]) for name in columns)
    lines = text.select(pl.concat_str(pl.all(), separator="\x1f")).to_series().to_list()
    digests = [hashlib.blake2b(line.encode(), digest_size=8).hexdigest() for line in lines]
    named = rows.insert_column(0, pl.Series(ID, digests, dtype=pl.String))
    if named[ID].n_unique() < named.height:
        named = named.sort(ID, LABEL, nulls_last=True, maintain_order=True)
    occurrence = pl.int_range(pl.len()).over(ID).cast(pl.String)
    return named.with_columns(pl.concat_str(ID, occurrence, separator="-"))


def _text(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        return pl.Series(values.name, [repr(value) for value in values.to_list()], dtype=pl.String)
    return values.cast(pl.String).fill_null("\0")
