"""What a row may hold: what is taken in is what the loop can bring into the lake.

A row that is answered with 200 is kept for good, and every start of the loop reads it again.
What could not land is told to whoever sends it instead.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.batch import RESERVED, Roles
from keepfit.errors import SchemaMismatch
from keepfit.facts.depth import DEEPEST
from keepfit.learners.models import FittedModel
from keepfit.server.cells import seconds
from keepfit.server.labels import AHEAD, WHOLE, fitted
from keepfit.server.nesting import shallow

if TYPE_CHECKING:
    from keepfit.server.models import Serving

Row = dict[str, Any]

EARLIEST = -62_135_596_800.0
"""The year 1 in seconds since 1970: what is before it is no time in Python."""

FURTHEST = 366 * 86_400.0
"""Seconds that the time of a row may lie ahead: what is planned may be asked about, such as a
flight, and what is further ahead is a clock that is wrong."""

MOST_COLUMNS = 10_000
"""Columns of the rows of one request."""

_KNOWN: set[tuple[str, ...]] = set()
"""Names that may stand together, as they came lately: most rows are of one form."""

_MOST_KNOWN, _LONGEST = 64, 8_192
"""How many of them are known at once, and how many letters they have together."""


def checked(rows: Sequence[Row], roles: Roles, serving: Serving | None) -> bool:
    """Raise where rows hold what cannot land; return whether a label was put in another form.

    As with `/labels`, ``true`` is 1 where labels are whole numbers.

    Raises
    ------
    SchemaMismatch
        A name is one of keepfit's own, or there twice but for its case; a time is none, before
        year 1 or far ahead; a label is not of the model's type.
    """
    names = _names(rows)
    for name in (roles.time, roles.known_at):
        if name is not None and name in names:
            latest = time.time() + FURTHEST
            for row in rows:
                at = row.get(name)
                if at is not None and not timely(at, latest):
                    raise _untimely(name, at, latest)
    label = roles.label
    if label is None or label not in names:
        return False
    return _labelled(rows, label, roles.known_at, serving)


def bounded(rows: Sequence[Row], roles: Roles, serving: Serving | None) -> None:
    """Raise where a value of rows is nested too deep, or a whole number is too large.

    Raises
    ------
    SchemaMismatch
        One is.
    """
    kinds = set(map(type, chain.from_iterable(map(dict.values, rows))))
    if list in kinds or dict in kinds:
        _nested(rows)
    if int in kinds and not _of_64_bits(rows):
        _whole(rows, serving, (roles.id, roles.label))


def _names(rows: Sequence[Row]) -> Collection[str]:
    """Return the names of rows once it is known that they may stand together."""
    if len(rows) != 1:
        together = set[str]().union(*rows)
        distinct(together)
        return together
    names = tuple(rows[0])
    if names not in _KNOWN:
        distinct(names)
        if len(_KNOWN) < _MOST_KNOWN and sum(map(len, names)) <= _LONGEST:
            _KNOWN.add(names)
    return rows[0]


def distinct(names: Collection[str]) -> None:
    """Raise where names cannot stand together in a table, which tells no case of letters.

    Raises
    ------
    SchemaMismatch
        One is keepfit's own, two differ only in case, or they are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise SchemaMismatch(f"expected at most {MOST_COLUMNS:,} columns, got {len(names):,}")
    folded: dict[str, str] = {}
    for name in names:
        lower = name.casefold()
        if lower in RESERVED:
            raise SchemaMismatch(f"expected other names than keepfit's own, got `{name}`")
        other = folded.setdefault(lower, name)
        if other != name:
            both = sorted((other, name))
            raise SchemaMismatch(
                f"expected columns that differ in more than case, got `{both[0]}` and `{both[1]}`",
                hint="rename one of them, or leave it out",
            )


def _nested(rows: Sequence[Row]) -> None:
    """Raise where a value is nested too deep."""
    deep = next((name for row in rows for name, value in row.items() if _deep(value)), None)
    if deep is not None:
        raise SchemaMismatch(
            f"expected a value in `{deep}` nested at most {DEEPEST} deep, got one deeper than that",
            hint="send what the model needs, and leave out what is deeply nested",
        )


def _deep(value: Any) -> bool:
    if not isinstance(value, list | dict):
        return False
    try:
        return not shallow(msgspec.json.encode(value))
    except RecursionError:
        return True


def _whole(
    rows: Sequence[Row],
    serving: Serving | None,
    others: Collection[str | None],
) -> None:
    """Raise where a whole number is too large for its column, but for columns looked at elsewhere.

    Up to 64 bits, with a sign or without, it is kept in any column.
    """
    numeric = numbers(serving)
    for name, value in chain.from_iterable(row.items() for row in rows):
        if type(value) is not int or -WHOLE <= value < 2 * WHOLE or name in others:
            continue
        if name not in numeric or not _finite(value):
            most = "a number up to 1.8e308" if name in numeric else "a whole number up to 64 bits"
            raise SchemaMismatch(
                f"expected {most} in `{name}`, got {shown(value)}",
                hint="send it as text where it is rather a name than a number, or leave it out",
            )


def _of_64_bits(rows: Sequence[Row]) -> bool:
    """Return whether all whole numbers fit, as MessagePack tells without a look at each here."""
    try:
        msgspec.msgpack.encode(rows)
    except OverflowError:
        return False
    return True


def numbers(serving: Serving | None) -> list[str]:
    """Return the columns that a model reads as numbers with a point: they are kept as such."""
    model = None if serving is None else serving.answerer.model
    if not isinstance(model, FittedModel):
        return []
    return [one.name for one in model.head.encoding.columns if one.kind == "number"]


def _finite(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def timely(at: Any, latest: float) -> bool:
    """Return whether a value is a time between year 1 and the latest that may be."""
    return isinstance(at, str) and EARLIEST <= seconds(at) <= latest


def _untimely(name: str, at: Any, latest: float) -> SchemaMismatch:
    told = seconds(at) if isinstance(at, str) else math.nan
    if told > latest:
        return SchemaMismatch(
            f"expected a time up to a year from now in `{name}`, got {shown(at)}",
            hint="look at the clock that wrote it, or leave it out: then it is now",
        )
    kind = "a time since year 1" if told < EARLIEST else "a time"
    return SchemaMismatch(
        f"expected {kind} in `{name}`, got {shown(at)}",
        hint='write it as "2024-03-09T12:00:00Z", or leave it out: then it is now',
    )


def _labelled(
    rows: Sequence[Row], name: str, known_at: str | None, serving: Serving | None
) -> bool:
    """Put labels of rows in the type of the model's, and return whether one was of another."""
    altered = False
    latest = time.time() + AHEAD / 1e6
    for row in rows:
        label = row.get(name)
        if label is None:
            continue
        known = None if known_at is None else row.get(known_at)
        if known is not None and not timely(known, latest):
            raise SchemaMismatch(
                f"expected a time up to now in `{known_at}`, when the label became known, "
                f"got {shown(known)}",
                hint="a label may be sent once it is known",
            )
        found = fitted(label, serving)
        if type(found) is not type(label):
            row[name] = found
            altered = True
    return altered


def shown(value: Any) -> str:
    """Return a value in words short enough to be told."""
    text = repr(value[:61] if isinstance(value, str | list) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"
