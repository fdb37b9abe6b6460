"""Labels and events as they are kept, and what is told of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import SchemaMismatch
from keepfit.journal import LABEL, Fate, New

if TYPE_CHECKING:
    from keepfit.server.models import Serving
    from keepfit.server.rows import Ids, Label

AHEAD = 60_000_000
"""Microseconds that a client's clock may be ahead of the server's."""


def entry(one: Label, ids: Ids, serving: Serving | None, now: int) -> New:
    """Return a label as it is kept.

    Raises
    ------
    SchemaMismatch
        It is of another type than the model's, or not known yet.
    """
    at = now if one.known_at is None else _micro(one)
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
        It has another one.
    """
    if serving is None:
        return label
    kinds = {type(one) for one in serving.classes} or {float}
    if type(label) in kinds or (kinds == {float} and type(label) is int):
        return label
    if kinds == {int} and isinstance(label, bool):
        return int(label)
    if kinds == {int} and isinstance(label, float) and label.is_integer():
        return int(label)
    if kinds == {bool} and label in (0, 1):
        return bool(label)
    wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
    raise SchemaMismatch(
        f"expected a label of type {wanted}, got {label!r}",
        hint=f"labels so far are such as {serving.classes[0]!r}" if serving.classes else None,
    )


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


def _micro(one: Label) -> int:
    from keepfit.clock import utc

    assert one.known_at is not None
    return round(utc(one.known_at).timestamp() * 1e6)
