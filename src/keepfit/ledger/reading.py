"""Facts that were read: a sequence that prints as sentences and turns into a frame."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, overload

import msgspec

from keepfit.facts import KINDS, Entry

if TYPE_CHECKING:
    import polars as pl


class Facts(Sequence[Entry]):
    """Facts of one pipeline in the order they were asked for.

    Examples
    --------
    >>> from keepfit.clock import utc
    >>> from keepfit.facts import Paused
    >>> from keepfit.ledger import Ledger
    >>> with Ledger(":memory:") as ledger:
    ...     ledger.append("churn", [Paused(reason="holidays")], at=utc("2024-07-01"))
    ...     ledger.facts("churn")
    1
    1 fact of 'churn', number 1 (2024-07-01 00:00): 1 Paused
    """

    def __init__(self, pipeline: str, entries: Iterable[Entry], kinds: Iterable[str] = ()) -> None:
        self._pipeline = pipeline
        self._entries = tuple(entries)
        self._kinds = tuple(kinds)

    def __len__(self) -> int:
        """Return how many facts there are."""
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Facts: ...
    def __getitem__(self, index: int | slice) -> Entry | Facts:
        """Return one fact with its place, or a part as `Facts`."""
        if isinstance(index, slice):
            return Facts(self._pipeline, self._entries[index], self._kinds)
        return self._entries[index]

    def __eq__(self, other: object) -> bool:
        """Return whether the other holds the same facts in the same order."""
        return isinstance(other, Facts) and self._entries == other._entries

    def __repr__(self) -> str:
        """Return a sentence: how many, from when to when, of which kinds."""
        if not self._entries:
            return f"no facts of {self._pipeline!r}"
        first, last = self._entries[0], self._entries[-1]
        many = len(self._entries) > 1
        to_number = f" to {last.seq}" if many else ""
        to_moment = f" to {last.at:%Y-%m-%d %H:%M}" if many else ""
        counts = Counter(entry.fact.kind for entry in self._entries).most_common()
        return (
            f"{len(self._entries):,} fact{'s' * many} of {self._pipeline!r}, "
            f"number{'s' * many} {first.seq}{to_number} ({first.at:%Y-%m-%d %H:%M}{to_moment}): "
            + ", ".join(f"{count:,} {kind}" for kind, count in counts)
        )

    def to_frame(self) -> pl.DataFrame:
        """Return one row per fact: ``seq``, ``at``, ``kind`` and the fields as columns.

        A field that holds more than one value (findings, evidence, a snapshot) is JSON
        text; a field that a kind does not have is null.
        """
        import polars as pl

        base: dict[str, Any] = {
            "seq": [entry.seq for entry in self._entries],
            "at": [entry.at for entry in self._entries],
            "kind": [entry.fact.kind for entry in self._entries],
        }
        utc = pl.Datetime("us", "UTC")
        schema: dict[str, Any] = {"seq": pl.Int64, "at": utc, "kind": pl.String}
        dtypes = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, datetime: utc}
        kinds = self._kinds or tuple(dict.fromkeys(base["kind"]))
        for name, scalar in _columns(kinds).items():
            values = [getattr(entry.fact, name, None) for entry in self._entries]
            base[name] = [_plain(value, scalar) for value in values]
            schema[name] = dtypes.get(scalar, pl.String) if scalar else pl.String
        return pl.DataFrame(base, schema=schema)


def _columns(kinds: Iterable[str]) -> dict[str, type | None]:
    """Return the fields of some kinds with their type, None where it is no single value."""
    found: dict[str, type | None] = {}
    for kind in kinds:
        for field in msgspec.structs.fields(KINDS[kind]):
            scalar = _scalar(field.type)
            same = found.setdefault(field.name, scalar) is scalar
            found[field.name] = scalar if same else None
    return found


def _scalar(annotation: Any) -> type | None:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        annotation = parts[0] if len(parts) == 1 else None
    if isinstance(annotation, type) and issubclass(annotation, str):
        return str
    return annotation if annotation in (int, float, bool, datetime) else None


def _plain(value: Any, scalar: type | None) -> Any:
    if value is None:
        return None
    if scalar is None:
        return msgspec.json.encode(value).decode()
    return value.value if isinstance(value, Enum) else value
