"""A batch measured column by column, and its numbers side by side: the calls cost more than the sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from keepfit.drift.came import Came
from keepfit.drift.rulers import Reading, Ruler
from keepfit.drift.statistics import complete
from keepfit.profile import Column, Profile, each
from keepfit.profile.cells import Cells
from keepfit.profile.counting import Between, Counts
from keepfit.profile.scratch import Scratch
from keepfit.profile.summaries import Summaries

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 10
"""Columns counted at once: more would take memory and save no more calls."""


class Rulers:
    """The rulers of a reference side by side: the numbers of a batch are compared at once."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._by_name = {column.name: Ruler(column) for column in columns}
        # One of each is enough: batches mostly have the same columns as the one before.
        self._summaries: tuple[tuple[str, ...], Summaries] | None = None
        self._cells: tuple[tuple[str, ...], list[Cells]] | None = None

    def __getitem__(self, column: str) -> Ruler:
        return self._by_name[column]

    def __contains__(self, column: str) -> bool:
        return column in self._by_name

    def read(self, rows: Came, *, brief: bool = False) -> list[Reading]:
        """Return every column of a batch beside the reference's, with all statistics.

        With ``brief``, of numbers only the Kolmogorov-Smirnov distance, where they are ranked
        at once or the reference has more than it keeps.
        """
        rulers = list(self._by_name.values())
        readings = each(lambda ruler: ruler.read(rows, brief=brief), rulers, rows.height)
        numbers = [one for one in readings if one.numbers is not None]
        # Columns of which no number is to be searched for come together.
        numbers.sort(key=lambda one: self[one.column.name].range.searched)
        alone = [one for one in readings if one.counted is not None]
        parts = [one.counted for one in alone if one.counted is not None]
        if numbers and brief:
            self._rank(numbers)
        elif numbers:
            alone, parts = numbers + alone, self._count(numbers) + parts
        if parts:
            self._compare(alone, Counts.joined(parts))
        complete(readings)
        return readings

    def beside(self, profile: Profile) -> list[Reading]:
        """Return a description of rows beside the reference's, with all statistics."""
        readings = [
            ruler.beside(profile.column(name), profile.rows)
            for name, ruler in self._by_name.items()
        ]
        complete(readings)
        return readings

    def _count(self, readings: Sequence[Reading]) -> list[Counts]:
        """Count the numbers of columns at the reference's points, several columns at once."""
        found, scratch = [], Scratch()
        for cells, some in self._groups(readings):
            table = _taken(some)
            found.append(cells.count([table], [_inside(row) for row in table], scratch))
        return found

    def _rank(self, readings: Sequence[Reading]) -> None:
        """Take how many numbers lie below and up to the reference's points as all that was read."""
        scratch = Scratch()
        for cells, some in self._groups(readings):
            ranks = cells.ranks(_taken(some), scratch)
            sizes, infinite = ranks.sizes.tolist(), ranks.infinite.tolist()
            for one, size, odd, ks, below, upto in zip(
                some, sizes, infinite, ranks.apart.tolist(), ranks.below, ranks.upto, strict=True
            ):
                one.present, one.infinite = size, odd
                if size:
                    self[one.column.name].ranked(one, ks, below, upto)

    def _groups(self, readings: Sequence[Reading]) -> Iterator[tuple[Cells, Sequence[Reading]]]:
        """Yield columns whose numbers are counted at once, with what counts them."""
        names = tuple(one.column.name for one in readings)
        starts = range(0, len(names), AT_ONCE)
        latest = self._cells
        if latest is None or latest[0] != names:
            rulers = [self[name] for name in names]
            groups = [rulers[start : start + AT_ONCE] for start in starts]
            self._cells = latest = names, [_cells(group) for group in groups]
        for start, cells in zip(starts, latest[1], strict=True):
            yield cells, readings[start : start + AT_ONCE]

    def _compare(self, readings: Sequence[Reading], counts: Counts) -> None:
        """Take the distances of what was counted as what was read."""
        for one, size, infinite in zip(
            readings, counts.sizes.tolist(), counts.infinite.tolist(), strict=True
        ):
            one.present, one.infinite, one.counted = size, infinite, None
        there = [k for k, one in enumerate(readings) if one.present]
        if not there:
            return
        readings, counts = [readings[k] for k in there], counts.some(there)
        found = self._summaries_of(readings).distances(counts)
        for one, *apart in zip(readings, found, counts.below, counts.upto, strict=True):
            self[one.column.name].compared(one, *apart)

    def _summaries_of(self, readings: Sequence[Reading]) -> Summaries:
        names = tuple(one.column.name for one in readings)
        latest = self._summaries
        if latest is None or latest[0] != names:
            rulers = [self[name] for name in names]
            table = Summaries([one.spread for one in rulers], [one.reach for one in rulers])
            self._summaries = latest = names, table
        return latest[1]


def _taken(readings: Sequence[Reading]) -> np.ndarray:
    """Return the numbers that columns hold, a row each; they hold them no more."""
    import numpy as np

    table = np.array([one.numbers for one in readings])
    for one in readings:
        one.numbers = None
    return table


def _cells(rulers: Sequence[Ruler]) -> Cells:
    return Cells(
        [one.spread for one in rulers],
        [one.range for one in rulers],
        [one.reach for one in rulers],
    )


def _inside(row: np.ndarray) -> Between:
    """Return what finds the numbers of a row that lie in an open interval."""
    import numpy as np

    return lambda low, high: np.sort(row[(row > low) & (row < high)])
