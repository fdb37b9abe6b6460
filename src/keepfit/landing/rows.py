"""Entries of a journal as rows and labels, in the types of the lake.

Imported only when rows are at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from keepfit.lake.types import storable
from keepfit.landing.unfit import LeftOut, decoded, fits, in_reach, landing, read, told
from keepfit.landing.values import UTC, as_label, as_stored, plain, times
from keepfit.sources.batches import labels_of, once, read_at, rows_of
from keepfit.sources.windows import FAR_AHEAD

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
    try:
        row = decoded(body)
    except ValueError:
        return body
    said = {name: value for name, value in row.items() if name not in (roles.label, roles.known_at)}
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

    def made(some: Sequence[Kept]) -> tuple[Batch, list[LeftOut]]:
        return _batch(some, roles, known, since)

    (batch, left), more = landing([one for one in entries if fits(one.id, known)], made)
    left += more
    unfit = [one for one in entries if not fits(one.id, known)]
    return replace(
        batch,
        cursor=cursor,
        watermark=moment(max(entry.at for entry in entries)),
        findings=(*batch.findings, *_unfit(len(unfit)), *told(left)),
        left_out=len(unfit) + len(left),
    )


def _batch(
    entries: Sequence[Kept],
    roles: Roles,
    known: Mapping[str, pl.DataType],
    since: Mapping[int, int],
) -> tuple[Batch, list[LeftOut]]:
    """Return entries as a batch, and what of them is left out."""
    held, left = read([one for one in entries if one.kind != PASSAGE])
    came = [(entry, row) for entry, row in held if entry.kind != LABEL_ENTRY]
    rows, findings, more = _rows(came, roles, known, since)
    rows = _with_passages(
        rows, [one for one, _ in came], [one for one in entries if one.kind == PASSAGE]
    )
    near = in_reach(rows.get_column(TIME))
    far = [entry.id for (entry, _), reach in zip(came, near, strict=True) if not reach]
    left += [LeftOut("row", id_, "is of a time that is no year from 100 to 9000") for id_ in far]
    rows = rows.filter(near)
    alone, others = _labels([one for one in held if one[0].kind == LABEL_ENTRY], known)
    findings += tuple(_far_ahead(rows))
    if entries:
        rows = read_at(rows, moment(entries[-1].at), roles.label_delay or timedelta(0))
    own = labels_of(rows)
    rows = rows.filter(_tells([one for (one, _), reach in zip(came, near, strict=True) if reach]))
    labels = pl.concat([own, alone], how="diagonal_relaxed") if own.height else alone
    storable(labels)  # what the lake does not keep is none here already
    batch = Batch(
        rows=storable(rows_of(once(rows, ID)).sort(TIME, ID)),
        labels=labels,
        cursor="",
        findings=findings,
        asked=_asked([one for one, _ in came], known),
    )
    return batch, [*left, *more, *others]


def _tells(entries: Sequence[Kept]) -> list[bool]:
    """Return which rows say what is to be kept: one that is asked about again says nothing new.

    Who may ask for a prediction could otherwise write another row over one that is known. Whoever
    may write rows may correct them.
    """
    seen = set[str]()
    found = []
    for one in entries:
        id_ = str(one.id)
        found.append(one.kind == ROW or id_ not in seen)
        seen.add(id_)
    return found


def _asked(entries: Sequence[Kept], known: Mapping[str, pl.DataType]) -> frozenset[int | str]:
    """Return the ids of rows of which nothing but an answer was asked."""
    sent = {str(one.id) for one in entries if one.kind == ROW}
    return frozenset(_ids([one.id for one in entries if str(one.id) not in sent], known))


def outranking(bodies: Iterable[tuple[int | str, bytes]], roles: Roles) -> dict[int | str, Row]:
    """Return the rows that were answered, by id, the first of each; those that can land."""
    found: dict[int | str, Row] = {}
    for id_, body in bodies:
        try:
            row = decoded(body)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.setdefault(id_, row)
    near = in_reach(times([row.get(roles.time) for row in found.values()]))
    return {id_: found[id_] for id_, reach in zip(found, near, strict=True) if reach}


def skew(rows: pl.DataFrame, told: Mapping[Any, Row]) -> Iterator[Finding]:
    """Yield a finding for each column in which rows differ from what was served of them."""
    features = {name: type_ for name, type_ in rows.schema.items() if name not in RESERVED}
    served = [told[id_] for id_ in rows.get_column(ID)]
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
    came: Sequence[tuple[Kept, Row]],
    roles: Roles,
    known: Mapping[str, pl.DataType],
    since: Mapping[int, int],
) -> tuple[pl.DataFrame, tuple[Finding, ...], list[LeftOut]]:
    entries, rows = [entry for entry, _ in came], [row for _, row in came]
    seen = dict.fromkeys(name for row in rows for name in row if name not in roles.columns())
    features = _features(seen, known)
    arrived = pl.Series([entry.at for entry in entries], dtype=pl.Int64).cast(UTC)
    since_ = [since.get(entry.position, entry.at) for entry in entries]
    label, left = _labelled(entries, _values(rows, roles.label), known)
    columns = {
        ID: _ids([entry.id for entry in entries], known),
        TIME: times(_values(rows, roles.time)).fill_null(
            pl.Series(since_, dtype=pl.Int64).cast(UTC)
        ),
        ARRIVED_AT: arrived,
        KNOWN_AT: _reachable(times(_values(rows, roles.known_at))),
        LABEL: label,
    }
    sent = {name: _values(rows, name) for name in features}
    stored = {name: as_stored(values, known.get(name)) for name, values in sent.items()}
    findings = (*_left_out(set(seen) - set(features)), *_strange(sent, stored))
    return pl.DataFrame({**columns, **stored}), findings, left


def _features(seen: Iterable[str], known: Mapping[str, pl.DataType]) -> list[str]:
    """Return the columns that the lake has; of a new lake the first of those that differ in case."""
    if known:
        return [name for name in seen if name not in RESERVED and name in known]
    folded = {name.casefold(): "" for name in RESERVED}
    return [name for name in seen if folded.setdefault(name.casefold(), name) == name]


def _reachable(times: pl.Series) -> pl.Series:
    return times.set(~in_reach(times), None)


def _labelled(
    entries: Sequence[Kept], values: Sequence[Any], known: Mapping[str, pl.DataType]
) -> tuple[pl.Series, list[LeftOut]]:
    """Return labels in the one kind that they have, and those that are none of it."""
    found = [as_label(value, known.get(LABEL)) for value in values]
    why = "is none that can be kept"
    if LABEL in known:
        why = f"is none as the lake has them ({known[LABEL]})"
    left = [
        LeftOut("label", entry.id, why)
        for entry, value, label in zip(entries, values, found, strict=True)
        if label is None and value is not None
    ]
    return plain(found), left


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


def _strange(
    sent: Mapping[str, Sequence[Any]], stored: Mapping[str, pl.Series]
) -> Iterator[Finding]:
    """Yield a finding for each column with values that it cannot hold, as a number cannot "far"."""
    for name, values in sent.items():
        kept = stored[name]
        if kept.null_count() == values.count(None):
            continue
        gone = [
            value
            for value, empty in zip(values, kept.is_null(), strict=True)
            if empty and value is not None
        ]
        yield Finding(
            check="served",
            outcome=Outcome.WARN,
            column=name,
            value=len(gone) / len(values),
            message=f"`{name}` was sent as another kind than the lake has in {len(gone):,} of "
            f"{len(values):,} rows, such as {gone[0]!r:.40}: it counts as missing there",
            hint="send it as the source has it",
        )


def _labels(
    held: Sequence[tuple[Kept, Any]], known: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, list[LeftOut]]:
    entries = [entry for entry, _ in held]
    label, left = _labelled(entries, [value for _, value in held], known)
    labels = pl.DataFrame(
        {
            ID: _ids([entry.id for entry in entries], known),
            LABEL: label,
            TIME: pl.Series([None] * len(entries), dtype=UTC),
            KNOWN_AT: pl.Series([entry.at for entry in entries], dtype=pl.Int64).cast(UTC),
        }
    )
    return labels.drop_nulls(LABEL), left


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
