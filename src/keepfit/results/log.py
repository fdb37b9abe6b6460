"""The facts of a pipeline, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keepfit.clock import utc
from keepfit.errors import ConfigError, nearest
from keepfit.facts import KINDS, Entry, encode
from keepfit.results import page
from keepfit.results.line import Line
from keepfit.results.sentences import Story

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, repr=False)
class Log:
    """Facts with their sentences, newest first."""

    pipeline: str
    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]

    @classmethod
    def of(
        cls,
        name: str,
        entries: Iterable[Entry],
        *,
        since: str | datetime | None = None,
        kinds: Sequence[str] = (),
        limit: int | None = None,
    ) -> Log:
        """Return the facts since a moment, of some kinds, newest first.

        All facts are needed to tell those that are kept, which is why they are filtered here.

        Raises
        ------
        ConfigError
            There is no such kind, or ``since`` is no moment.
        """
        wanted = {_kind(kind) for kind in kinds}
        start = None if since is None else utc(since)
        story = Story()
        kept = []
        for entry in entries:
            line = story.line(entry)
            if (not wanted or entry.fact.kind in wanted) and (start is None or entry.at >= start):
                kept.append((entry, line))
        kept = kept[::-1][:limit]
        return cls(name, tuple(entry for entry, _ in kept), tuple(line for _, line in kept))

    def __len__(self) -> int:
        """Return how many facts there are."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        """Return the facts, newest first."""
        return iter(self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them."""
        return {"pipeline": self.pipeline, "facts": [record(entry) for entry in self.entries]}

    def to_frame(self) -> pl.DataFrame:
        """Return one row per fact: number, moment, kind, sentence and body."""
        return frame(self.entries, self.lines)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.lines)) or f"no facts of {self.pipeline!r}"


def record(entry: Entry) -> dict[str, Any]:
    """Return a fact in its place as one flat JSON object."""
    import msgspec

    body: dict[str, Any] = msgspec.json.decode(encode(entry.fact))
    return {"pipeline": entry.pipeline, "seq": entry.seq, "at": page.plain(entry.at), **body}


def frame(entries: Sequence[Entry], lines: Sequence[Line] = ()) -> pl.DataFrame:
    """Return facts as a frame with a sentence each."""
    import polars as pl

    lines = lines or Story().lines(entries)
    columns = {
        "seq": [entry.seq for entry in entries],
        "at": [entry.at for entry in entries],
        "kind": [entry.fact.kind for entry in entries],
        "text": [f"{line.what}: {line.text}" for line in lines],
        "body": [encode(entry.fact).decode() for entry in entries],
    }
    schema: dict[str, Any] = {
        "seq": pl.Int64,
        "at": pl.Datetime("us", "UTC"),
        "kind": pl.String,
        "text": pl.String,
        "body": pl.String,
    }
    return pl.DataFrame(columns, schema=schema)


def _kind(kind: str) -> str:
    by_lower = {name.lower(): name for name in KINDS}
    if kind.lower() not in by_lower:
        near = nearest(kind, KINDS)
        raise ConfigError(
            f"expected a kind of fact, got {kind!r}",
            hint=f"did you mean {near!r}?" if near else f"one of {', '.join(KINDS)}",
        )
    return by_lower[kind.lower()]
