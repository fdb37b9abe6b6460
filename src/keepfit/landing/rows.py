"""Entries of a journal as rows and labels, in the types of the lake.

Imported only when rows are at hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import polars as pl

from keepfit.batch import (
    ARRIVED_AT,
    ID,
    KNOWN_AT,
    LABEL,
    PASSED,
    PROPENSITY,
    RESERVED,
    TIME,
    Batch,
    Roles,
)
from keepfit.facts import Finding, Outcome
from keepfit.journal import ANSWER, PASSAGE, ROW, Journal, Kept
from keepfit.journal import LABEL as LABEL_ENTRY
from keepfit.landing.texts import NUMBER
from keepfit.profile import kind_of
from keepfit.sources.batches import labels_of, once, read_at, rows_of
from keepfit.sources.windows import FAR_AHEAD

UTC = pl.Datetime("us", "UTC")
TRUTHS = {"true": True, "false": False, "1": True, "0": False}

Row = dict[str, Any]


def first_sent(
    journal: Journal, entries: Sequence[Kept], position: int, roles: Roles
) -> dict[int, int]:
    """Return, by position, when rows came first that come again as they were.

    A row without a time of its own is of when it came. One that is sent once more, as by a client
    that had no answer, is still of then: it is the same row, which has landed once.
    """
    rows = [one for one in entries if one.kind in (ANSWER, ROW)]
    ids = Counter(one.id for one in rows)
    first: dict[tuple[int | str, bytes], int] = {}
    again = {id_ for id_, count in ids.items() if count > 1}
    for id_, at, body in journal.rows(ids, until=position):
        again.add(id_)
        first.setdefault((id_, _content(body, roles)), at)
    return {
        one.position: first.setdefault((one.id, _content(one.body, roles)), one.at)
        for one in rows
        if one.id in again
    }


def _content(body: bytes, roles: Roles) -> bytes:
    """Return what a row says apart from its label, the same in whatever order it was sent."""
    told = msgspec.json.decode(body)
    said = {
        name: value for name, value in told.items() if name not in (roles.label, roles.known_at)
    }
    return msgspec.json.encode(said, order="deterministic")


def batch_of(
    entries: Sequence[Kept],
    roles: Roles,
    known: Mapping[str, pl.DataType],
    cursor: str,
    since: Mapping[int, int],
) -> Batch:
    """Return entries as a batch: rows once with what they say last, labels as they became known.

    ``since`` says, by position, of when rows are that do not say it themselves and came before.
    ``known`` are the lake's columns. A column that it does not have is left out, and said so:
    anyone who may ask for a prediction could otherwise add columns to the training data.
    """
    fitting = [entry for entry in entries if _fits(entry.id, known)]
    came = [entry for entry in fitting if entry.kind not in (LABEL_ENTRY, PASSAGE)]
    rows, findings = _rows(came, roles, known, since)
    rows = _with_passages(rows, came, [entry for entry in fitting if entry.kind == PASSAGE])
    findings += (*_unfit(len(entries) - len(fitting)), *_far_ahead(rows))
    alone = _labels([entry for entry in fitting if entry.kind == LABEL_ENTRY], known)
    rows = read_at(rows, moment(entries[-1].at), roles.label_delay or timedelta(0))
    own = labels_of(rows)
    labels = pl.concat([own, alone], how="diagonal_relaxed") if own.height else alone
    return Batch(
        rows=rows_of(once(rows, ID)).sort(TIME, ID),
        labels=labels,
        cursor=cursor,
        watermark=moment(max(entry.at for entry in entries)),
        findings=findings,
    )


def skew(rows: pl.DataFrame, told: Mapping[Any, bytes]) -> Iterator[Finding]:
    """Yield a finding for each column in which rows differ from what was served of them."""
    features = {name: type_ for name, type_ in rows.schema.items() if name not in RESERVED}
    served = [msgspec.json.decode(told[id_]) for id_ in rows.get_column(ID)]
    for name, dtype in features.items():
        sent = [name in row for row in served]
        then = as_stored([row.get(name) for row in served], dtype).cast(dtype, strict=False)
        now = rows.get_column(name)
        if dtype.is_float():
            then, now = then.fill_nan(None), now.fill_nan(None)
            near = ((then - now).abs() <= 1e-9 * now.abs()).fill_null(
                then.is_null() & now.is_null()
            )
            differ = ~near
        else:
            differ = then.ne_missing(now)
        count = int((differ & pl.Series(sent)).sum())
        if count:
            yield Finding(
                check="skew",
                outcome=Outcome.WARN,
                column=name,
                value=count / rows.height,
                message=f"`{name}` differs from what was served in {count:,} of {rows.height:,} rows",
                hint="what was served counts; find out which of the two is wrong",
            )


def moment(microseconds: int) -> Any:
    """Return the moment that a number of microseconds since 1970 is."""
    return pl.Series([microseconds], dtype=pl.Int64).cast(UTC).item()


def _rows(
    entries: Sequence[Kept],
    roles: Roles,
    known: Mapping[str, pl.DataType],
    since: Mapping[int, int],
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    rows: list[Row] = [msgspec.json.decode(entry.body) for entry in entries]
    seen = dict.fromkeys(name for row in rows for name in row if name not in roles.columns())
    features = [name for name in seen if name not in RESERVED and (not known or name in known)]
    arrived = pl.Series([entry.at for entry in entries], dtype=pl.Int64).cast(UTC)
    came = [since.get(entry.position, entry.at) for entry in entries]
    columns = {
        ID: _ids([entry.id for entry in entries], known),
        TIME: times(_values(rows, roles.time)).fill_null(pl.Series(came, dtype=pl.Int64).cast(UTC)),
        ARRIVED_AT: arrived,
        KNOWN_AT: times(_values(rows, roles.known_at)),
        LABEL: plain(_values(rows, roles.label)),
    }
    columns |= {name: as_stored(_values(rows, name), known.get(name)) for name in features}
    return pl.DataFrame(columns), tuple(_left_out(set(seen) - set(features)))


def _with_passages(
    rows: pl.DataFrame, came: Sequence[Kept], passages: Sequence[Kept]
) -> pl.DataFrame:
    """Return rows with the probability that each passed with, and whether it did, where drawn."""
    if not passages:
        return rows
    drawn = {(one.id, one.at): (one.scores, one.body == b"1") for one in passages}
    told = [drawn.get((one.id, one.at), (None, None)) for one in came]
    return rows.with_columns(
        pl.Series(PROPENSITY, [chance for chance, _ in told], dtype=pl.Float64),
        pl.Series(PASSED, [passed for _, passed in told], dtype=pl.Boolean),
    )


def _values(rows: Sequence[Row], name: str | None) -> list[Any]:
    return [None if name is None else row.get(name) for row in rows]


def _left_out(names: set[str]) -> Iterator[Finding]:
    for name in sorted(names)[:20]:
        yield Finding(
            check="served",
            outcome=Outcome.WARN,
            column=name,
            message=f"`{name}` was sent with rows and is no column of the source: it is left out",
            hint="bring it in with the source first, or let clients leave it out",
        )


def _labels(entries: Sequence[Kept], known: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            ID: _ids([entry.id for entry in entries], known),
            LABEL: plain([msgspec.json.decode(entry.body) for entry in entries]),
            TIME: pl.Series([None] * len(entries), dtype=UTC),
            KNOWN_AT: pl.Series([entry.at for entry in entries], dtype=pl.Int64).cast(UTC),
        }
    )


def _fits(id_: int | str, known: Mapping[str, pl.DataType]) -> bool:
    """Return whether an id is one as the lake keeps them: before anything serves none is known."""
    if isinstance(id_, int) or ID not in known or not known[ID].is_integer():
        return True
    number = id_.isascii() and id_.removeprefix("-").isdecimal()
    return number and abs(int(id_[:20])) < 2**63 and len(id_) <= 20


def _unfit(count: int) -> Iterator[Finding]:
    if count:
        yield Finding(
            check="served",
            outcome=Outcome.WARN,
            value=count,
            message=f"{count:,} of the entries sent have an id that is no number: they are left out",
            hint="ids of the source are whole numbers; a server that has a champion refuses others",
        )


def _far_ahead(rows: pl.DataFrame) -> Iterator[Finding]:
    """Yield how many rows are of a time that is rather a mistake than a plan."""
    ahead = rows.get_column(TIME).filter(
        rows.get_column(TIME) > rows.get_column(ARRIVED_AT) + timedelta(microseconds=FAR_AHEAD)
    )
    if ahead.len():
        last = ahead.sort()[-1]
        yield Finding(
            check="served",
            outcome=Outcome.WARN,
            value=ahead.len(),
            message=f"{ahead.len():,} of the rows sent have a time far ahead of the clock, "
            f"up to {last:%Y-%m-%d}: each is learnt from when its time has come",
            hint="look at the clock that wrote it, or leave the time out: then it is now",
        )


def _ids(ids: Sequence[int | str], known: Mapping[str, pl.DataType]) -> pl.Series:
    numbers = all(isinstance(one, int) for one in ids)
    dtype = known.get(ID, pl.Int64() if numbers and ids else pl.String())
    if dtype.is_integer():
        return pl.Series(ID, [int(one) for one in ids], dtype=pl.Int64)
    return pl.Series(ID, [str(one) for one in ids], dtype=pl.String)


def times(values: Sequence[Any]) -> pl.Series:
    """Return times in UTC from text; null where there is none."""
    texts = pl.Series([one if isinstance(one, str) else None for one in values], dtype=pl.String)
    if texts.null_count() == texts.len():
        return pl.Series([None] * len(values), dtype=UTC)
    return texts.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)


def plain(values: Sequence[Any]) -> pl.Series:
    """Return values in the one type that they all have, or as text."""
    kinds = {type(one) for one in values if one is not None}
    if not kinds:
        return pl.Series(values, dtype=pl.Null)
    if kinds in ({bool}, {int}, {str}):
        return pl.Series(values)
    if kinds <= {int, float}:
        return pl.Series(values, dtype=pl.Float64, strict=False)
    return pl.Series([None if one is None else as_text(one) for one in values], dtype=pl.String)


def as_stored(values: Sequence[Any], dtype: pl.DataType | None) -> pl.Series:
    """Return values of JSON as a column of the kind that the lake has, null where one is none."""
    if dtype is None or dtype == pl.Null:
        return plain(values)
    kind = kind_of(dtype)
    if kind == "time":
        return times(values).cast(dtype, strict=False)
    if kind == "other":
        return _nested(values, dtype)
    convert: Callable[[Any], Any] = {
        "number": as_number,
        "boolean": as_truth,
        "category": as_text,
    }[kind]
    found = [convert(one) for one in values]
    if kind == "number":
        return pl.Series(found, dtype=pl.Float64 if _fractions(found) else pl.Int64, strict=False)
    return pl.Series(found, dtype=pl.Boolean if kind == "boolean" else pl.String)


def _nested(values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return lists or records, null where a value is none of this type."""
    found = []
    for one in values:
        try:
            found.append(pl.Series([one], dtype=dtype).item())
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            found.append(None)
    return pl.Series(found, dtype=dtype)


def _fractions(numbers: Sequence[float | None]) -> bool:
    return any(isinstance(one, float) or abs(one or 0) >= 2**63 for one in numbers)


def as_number(value: Any) -> float | None:
    """Return the number that a value of JSON is, or None.

    Examples
    --------
    >>> as_number(3), as_number(" 2.5 "), as_number(True), as_number("a lot"), as_number([1])
    (3, 2.5, 1, None, None)
    """
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if NUMBER.fullmatch(text) else math.nan
        return number if math.isfinite(number) else None
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, int | float) else None


def as_truth(value: Any) -> bool | None:
    """Return the truth that a value of JSON is, or None."""
    if isinstance(value, str):
        return TRUTHS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def as_text(value: Any) -> str | None:
    """Return the category that a value of JSON is, or None: 3, 3.0 and "3" are one.

    Examples
    --------
    >>> as_text(3), as_text(3.0), as_text("3"), as_text(True), as_text(0.5), as_text([1])
    ('3', '3', '3', 'true', '0.5', None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else None
