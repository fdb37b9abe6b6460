"""What a set of rows looks like: small enough to store, and mergeable."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeVar

import msgspec

from keepfit.profile.columns import (
    CATEGORIES,
    Column,
    blocks,
    categories,
    floats,
    kind_of,
    merge,
    numbers,
    ordered,
    trimmed,
)
from keepfit.profile.quantiles import POINTS, Quantiles
from keepfit.profile.text import Text, words_of

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CATEGORIES",
    "POINTS",
    "Column",
    "Profile",
    "Quantiles",
    "Text",
    "blocks",
    "categories",
    "each",
    "floats",
    "kind_of",
    "numbers",
    "ordered",
    "words_of",
]

WORTH_THREADS = 50_000
"""Rows from which the columns are described by several threads."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_AT_ONCE = 16
"""Parts that are kept before they are merged: fewer merges, smaller errors."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Columns of a set of rows, in their order.

    Examples
    --------
    >>> import polars as pl
    >>> profile = Profile.of(pl.DataFrame({"age": [31, 45, None]}))
    >>> profile.column("age").missing, profile.column("age").high
    (1, 45.0)
    """

    rows: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame, *, partial: bool = False) -> Profile:
        """Describe the features of rows; keepfit's own columns are left out.

        ``partial`` keeps rare categories, for a profile that is to be merged with others.
        """
        from keepfit.batch import RESERVED

        features = [rows.get_column(name) for name in rows.columns if name not in RESERVED]
        described = each(lambda values: Column.of(values, partial=partial), features, rows.height)
        return cls(rows=rows.height, columns=tuple(described))

    @classmethod
    def of_parts(cls, parts: Iterable[pl.DataFrame]) -> Profile:
        """Describe rows that come in parts, of which only one is held in memory."""
        kept: list[Profile] = []
        for part in parts:
            kept.append(cls.of(part, partial=True))
            if len(kept) == _AT_ONCE:
                kept = [cls.merge(kept)]
        return cls.merge(kept).trimmed()

    @classmethod
    def merge(cls, parts: Sequence[Profile]) -> Profile:
        """Return the profile of all rows that the parts describe, in the first part's order.

        A column that a part does not have counts as missing there.
        """
        if len(parts) < 2:
            return parts[0] if parts else cls(rows=0, columns=())
        names = dict.fromkeys(column.name for part in parts for column in part.columns)
        return cls(
            rows=sum(part.rows for part in parts),
            columns=tuple(merge([part._part(name) for part in parts]) for name in names),
        )

    def trimmed(self) -> Profile:
        """Return the profile without what only a merge needs."""
        return Profile(rows=self.rows, columns=tuple(map(trimmed, self.columns)))

    def _part(self, name: str) -> Column:
        absent = Column(name=name, kind="other", dtype="Null", rows=self.rows, missing=self.rows)
        return self.column(name) or absent

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column | None:
        """Return the description of one column, or None."""
        return self._by_name.get(name)

    def dumps(self) -> bytes:
        """Return the profile as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Profile:
        """Return the profile that bytes hold."""
        return msgspec.msgpack.decode(content, type=cls)


def each(ask: Callable[[Item], Answer], items: Sequence[Item], rows: int) -> list[Answer]:
    """Return an answer per item, by several threads where there are rows enough.

    Sorting and counting let go of the interpreter's lock. The calling thread takes its share,
    and all of it where the others are busy. They begin at the end, where other kinds of
    columns often are: alike ones ask for the lock as often as each other, and wait for it.
    """
    # How many processors there are takes longer to ask than a few rows take.
    helpers = 0 if rows < WORTH_THREADS else min(_processors(), len(items)) - 1
    if helpers < 1:
        return [ask(item) for item in items]
    waiting, answers = deque(enumerate(items)), dict[int, Answer]()

    def work(take: Callable[[], tuple[int, Item]] = waiting.pop) -> None:
        while True:
            try:
                place, item = take()
            except IndexError:
                return
            answers[place] = ask(item)

    asked = [_pool().submit(work) for _ in range(helpers)]
    try:
        work(waiting.popleft)
    finally:
        waiting.clear()
    for one in asked:
        if not one.cancel():
            one.result()
    return [answers[place] for place in range(len(items))]


def _processors() -> int:
    return os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads of the process: a thread anew each time would not find its memory again."""
    return ThreadPoolExecutor(_processors() - 1, thread_name_prefix="keepfit-profile")


if hasattr(os, "register_at_fork"):
    # A child process has none of the threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
