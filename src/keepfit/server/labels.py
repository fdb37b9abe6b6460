"""Labels and events as they are kept, and what is told of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import SchemaMismatch
from keepfit.journal import LABEL, Fate, New

if TYPE_CHECKING:
    from keepfit.server.models import Serving
    from keepfit.server.rows import Ids, Label

AHEAD = 60_000_000
"""Microseconds that a client's clock may be ahead of the server's."""

WHOLE = 2**63
"""Whole numbers below it, and their negatives, are kept as they are."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def entry(one: Label, ids: Ids, serving: Serving | None, now: int) -> New:
    """Return a label as it is kept.

    Raises
    ------
    SchemaMismatch
        It is of another type than the model's, or not known yet.
    """
    at = now if one.known_at is None else _micro(one.known_at)
    if at > now + AHEAD:
        raise SchemaMismatch(
            f"expected a label that is known by now, got one known at {one.known_at}",
            hint="a label may be sent once it is known",
        )
    value = fitted(one.label, serving)
    return New(LABEL, ids.of(one.id), at, None, None, msgspec.json.encode(value))


def fitted(label: Any, serving: Serving | None) -> Any:
    """Return a label in the type that the model's labels have.

    Raises
    ------
    SchemaMismatch
        It has another one, or is a whole number of more than 64 bits.

    Examples
    --------
    >>> fitted(3.0, None), fitted("late", None)
    (3.0, 'late')
    """
    kinds = set(_SCALARS) if serving is None else {type(one) for one in serving.classes} or {float}
    found = _cast(label, kinds)
    if found is not None and (type(found) is not int or -WHOLE <= found < WHOLE):
        return found
    wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
    classes = () if serving is None else serving.classes
    text = repr(label)
    raise SchemaMismatch(
        f"expected a label of type {wanted}, got {text if len(text) <= 60 else f'{text[:60]}…'}",
        hint=f"labels so far are such as {classes[0]!r}"
        if classes
        else "whole numbers have at most 64 bits",
    )


_SCALARS = (bool, int, float, str)


def _cast(label: Any, kinds: set[type]) -> Any:
    """Return a label as one of some types, None where it is none of them."""
    if type(label) in kinds or (kinds == {float} and _whole(label)):
        return label
    if kinds == {float} and type(label) is int:
        try:
            return float(label)
        except OverflowError:
            return None
    if kinds == {int} and isinstance(label, bool):
        return int(label)
    if kinds == {int} and isinstance(label, float) and label.is_integer():
        return int(label)
    if kinds == {bool} and isinstance(label, int | float) and label in (0, 1):
        return bool(label)
    return None


def _whole(label: Any) -> bool:
    return type(label) is int and -WHOLE <= label < WHOLE


def counted(fates: Sequence[Fate]) -> dict[str, Any]:
    """Return how many events are new, and how many were known."""
    repeated = fates.count(Fate.REPEATED)
    return {"accepted": len(fates) - repeated, "repeated": repeated}


def told(
    entries: Sequence[New],
    fates: Sequence[Fate],
    landed: Callable[[Sequence[int | str]], set[int | str]],
) -> dict[str, Any]:
    """Return how many labels were new, known or corrections, and the ids that wait for a row.

    ``landed`` returns those of some ids whose row came otherwise than by this server.
    """
    unknown = [entry.id for entry, fate in zip(entries, fates, strict=True) if fate == Fate.WAITING]
    there = landed(unknown)
    counted = {fate.value: fates.count(fate) for fate in Fate if fate != Fate.WAITING}
    counted[Fate.ACCEPTED.value] += sum(one in there for one in unknown)
    return counted | {"waiting": [one for one in unknown if one not in there]}


def _micro(at: datetime) -> int:
    """Return a moment in microseconds since 1970.

    Raises
    ------
    SchemaMismatch
        In UTC it is before year 1, or after year 9999.
    """
    from keepfit.clock import utc

    try:
        return (utc(at) - _EPOCH) // _MICROSECOND
    except OverflowError:
        raise SchemaMismatch(
            f"expected a moment between the years 1 and 9999 in UTC, got {at}",
            hint="a label may be sent once it is known",
        ) from None
