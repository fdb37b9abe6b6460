"""What of a journal's entries cannot land: it is left out and told, and all others land.

Whoever may ask for a prediction writes entries, and an older version took some in that none would
take in now. Nothing that one of them holds may keep the loop from the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import polars as pl

from keepfit.batch import ID
from keepfit.facts import Finding, Outcome
from keepfit.journal import LABEL as LABEL_ENTRY
from keepfit.journal import Kept

EARLIEST, LATEST = -59_011_459_200_000_000, 221_845_392_000_000_000
"""Microseconds from 1970 to the years 100 and 9000: a time has room to be reckoned with."""

SEVERAL = 20
"""Entries of which none lands: that is rather the loop's fault than theirs."""

T = TypeVar("T")


class LeftOut(NamedTuple):
    """Something that cannot land: a row or a label of which id, and what keeps it from it."""

    what: str
    id: int | str
    why: str


def decoded(body: bytes) -> Any:
    """Return what a body holds.

    Raises
    ------
    ValueError
        It is no JSON, or one that is nested too deep.
    """
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("is nested too deep to be read") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"cannot be read: {error}") from None


def read(entries: Sequence[Kept]) -> tuple[list[tuple[Kept, Any]], list[LeftOut]]:
    """Return entries with what they hold, and those that hold nothing that can be read."""
    held: list[tuple[Kept, Any]] = []
    left: list[LeftOut] = []
    for entry in entries:
        label = entry.kind == LABEL_ENTRY
        try:
            value = decoded(entry.body)
            if not label and not isinstance(value, dict):
                raise ValueError("is no object")
        except ValueError as error:
            left.append(LeftOut("label" if label else "row", entry.id, str(error)))
        else:
            held.append((entry, value))
    return held, left


def fits(id_: int | str, known: Mapping[str, pl.DataType]) -> bool:
    """Return whether an id is one as the lake keeps them: before anything serves none is known."""
    if isinstance(id_, int) or ID not in known or not known[ID].is_integer():
        return True
    number = id_.isascii() and id_.removeprefix("-").isdecimal()
    return number and abs(int(id_[:20])) < 2**63 and len(id_) <= 20


def in_reach(times: pl.Series) -> pl.Series:
    """Return which times can be reckoned with, those that are missing among them."""
    moments = times.to_physical()
    return ((moments >= EARLIEST) & (moments < LATEST)).fill_null(True)


def landing(
    entries: Sequence[Kept], make: Callable[[Sequence[Kept]], T]
) -> tuple[T, list[LeftOut]]:
    """Return what is made of all entries of which something can be made, and why not of the others.

    What is known to be no row is told of by name elsewhere. This is for what nobody has thought
    of: halves are tried until what cannot be is alone. Where of several not one can be, the problem
    is raised: a loop that is seen to stand still loses nothing.
    """
    try:
        return make(entries), []
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException):  # Polars' panics are no exceptions
        kept, left = _parted(entries, make)
        if not kept and len(entries) >= SEVERAL:
            raise
        return make(kept), left


def _parted(
    entries: Sequence[Kept], make: Callable[[Sequence[Kept]], object]
) -> tuple[Sequence[Kept], list[LeftOut]]:
    problem = _problem(entries, make)
    if not problem:
        return entries, []
    if len(entries) == 1:
        what = "label" if entries[0].kind == LABEL_ENTRY else "row"
        return (), [LeftOut(what, entries[0].id, f"cannot be kept ({problem})")]
    middle = len(entries) // 2
    first, left = _parted(entries[:middle], make)
    second, more = _parted(entries[middle:], lambda some: make([*first, *some]))
    return [*first, *second], left + more


def _problem(entries: Sequence[Kept], make: Callable[[Sequence[Kept]], object]) -> str:
    """Return what is wrong with entries, or ""."""
    try:
        make(entries)
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        return (str(error).partition("\n")[0] or type(error).__name__)[:200]
    return ""


def told(left: Sequence[LeftOut]) -> Iterator[Finding]:
    """Yield a finding for each kind of thing that was left out, with how many and one of them."""
    counts = Counter((one.what, one.why) for one in left)
    first = {(one.what, one.why): one.id for one in reversed(left)}
    for (what, why), count in counts.most_common(20):
        yield Finding(
            check="served",
            outcome=Outcome.WARN,
            value=count,
            message=f"a {what} sent {why}: {count:,} left out, such as that of id {shown(first[what, why])}",
            hint="what was answered stays in the journal for a while; a server of now refuses it",
        )


def shown(id_: int | str) -> str:
    """Return an id as text for a sentence: in quotes, and not too long."""
    text = repr(id_)
    return text if len(text) <= 60 else f"{text[:59]}…"
