"""The index of a lake, kept up to date with its tables.

Imported only when a lake on disk or in an object store is at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from keepfit.lake.door import BATCHES, LANDED, Landed
from keepfit.lake.index import Index
from keepfit.lake.intake import hashes_of, label_entries, row_entries
from keepfit.lake.tables import Table

_ELSEWHERE = (2**62, 2**62)


class Upkeep:
    """Brings the index up to date where it is behind the tables, and empties it where it is ahead.

    Parameters
    ----------
    path
        Where the index lies.
    rows, labels
        The tables it is a cache of.
    """

    def __init__(self, path: Path, rows: Table, labels: Table) -> None:
        self._path, self._rows, self._labels = path, rows, labels
        self._index: Index | None = None
        self._synced: tuple[int, int] | None = None

    def index(self) -> Index:
        """Return the index, as new as the tables."""
        if self._index is None:
            self._index = Index(self._path)
        if self._synced != self._versions():
            self._catch_up(self._index)
            self._synced = self._versions()
        return self._index

    @contextmanager
    def committed(self) -> Iterator[Index]:
        """Write into the index what was just committed to the tables, in one transaction."""
        assert self._index is not None
        with self._index.writing():
            yield self._index
            self._mark(self._index)
        self._synced = self._versions()

    def _versions(self) -> tuple[int, int]:
        return self._rows.version, self._labels.version

    def _mark(self, index: Index) -> None:
        """Say in the index which commits it has seen."""
        for name, table in (("rows", self._rows), ("labels", self._labels)):
            index.set_mark(f"{name}_version", table.version)
            index.set_mark(f"{name}_id", table.identity)

    def _seen(self, index: Index) -> tuple[int, int]:
        """Return the commits that the index has seen; beyond any when the tables are others."""
        for name, table in (("rows", self._rows), ("labels", self._labels)):
            if index.mark(f"{name}_id") not in (None, "", table.identity):
                return _ELSEWHERE
        rows, labels = index.mark("rows_version"), index.mark("labels_version")
        return -1 if rows is None else rows, -1 if labels is None else labels

    def _catch_up(self, index: Index) -> None:
        if self._seen(index) == self._versions():
            return
        rows, labels = self._rows, self._labels
        with index.writing():
            # Another process may have landed between our look at the tables and this lock.
            rows.refresh()
            labels.refresh()
            if any(
                seen > now for seen, now in zip(self._seen(index), self._versions(), strict=True)
            ):
                index.clear()
            for low, high in labels.stretches(index.newest("labels")):
                index.add_labels(label_entries(labels.collect(labels.scan(low, high))), high)
            for low, high in rows.stretches(index.newest("rows")):
                found = rows.collect(rows.scan(low, high))
                index.add_rows(row_entries(found, hashes_of(found)), high)
            self._keep_notes(index)
            # The newest batches may have had no rows, only labels.
            index.add_rows((), max(index.noted(), default=0))
            self._mark(index)

    def _keep_notes(self, index: Index) -> None:
        """Keep what the log says of landed batches that the index does not know."""
        known = max(index.noted(), default=0)
        for key, body in self._rows.notes((LANDED, BATCHES)):
            if key == BATCHES:
                index.keep_numbers(unfolded(body))
                continue
            landed = msgspec.json.decode(body, type=Landed)
            if landed.number <= known:
                return
            index.keep_landed(key.removeprefix(LANDED), landed.number, body)


def folded(numbers: Iterable[int]) -> str:
    """Return ascending numbers as the ends of their stretches, which seldom are many.

    Examples
    --------
    >>> folded([1, 2, 3, 5]), list(unfolded("[[1,3],[5,5]]"))
    ('[[1,3],[5,5]]', [1, 2, 3, 5])
    """
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    return msgspec.json.encode(stretches).decode()


def unfolded(text: str) -> Iterator[int]:
    """Return the numbers that `folded` was given."""
    for first, last in msgspec.json.decode(text, type=list[tuple[int, int]]):
        yield from range(first, last + 1)
