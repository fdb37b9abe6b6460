"""What a column is measured with: a reference's column, prepared once for many batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from keepfit.drift.came import Came, Values
from keepfit.drift.history import rank_scores
from keepfit.profile import Column, blocks
from keepfit.profile import ordered as in_order
from keepfit.profile.cells import SEARCHED, Cells, Range, range_of
from keepfit.profile.counting import Between, Counts, counts_at
from keepfit.profile.quantiles import POINTS, Quantiles, area, distances, ranks_of
from keepfit.profile.summaries import Distances
from keepfit.profile.text import CLASSES, Text

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Line: TypeAlias = "np.ndarray"

BINS = 20
"""Bins of equal share in which numbers are counted for Jensen-Shannon and chi-square."""

REACH = 10.0
"""Deviations beyond which it does not count how far a value lies out, only that it does."""

TOGETHER = 20_000
"""Rows up to which several columns of numbers are counted at once."""

PER_BIN = 5.0
"""Rows to expect in each bin of a batch: below it the chi-square approximation breaks."""


@dataclass(slots=True)
class Reading:
    """One column of a batch beside its reference, before it is judged.

    ``expected`` are shares, ``got`` counts of rows in the same bins, of which the last is
    what is missing. ``gone`` says why nothing can be compared: ``"missing"`` or ``"type"``.
    """

    column: Column
    rows: int
    present: int = 0
    infinite: int = 0
    gone: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    expected: Line | None = None
    got: Line | None = None
    plain: Line | None = None
    """The shares as the reference has them, where ``expected`` allows for what it has not seen."""
    effects: dict[str, float] = field(default_factory=dict)
    """What is held against a limit where it is not the statistic itself."""
    joined: int = 1
    """How many neighbouring bins are one for the population stability index."""
    free: int = 1
    """Degrees of freedom of the counts in bins: the bins that either side has, less one."""
    numbers: Line | None = None
    """The numbers as they came, until `Rulers` has counted them with those of other columns."""
    counted: Counts | None = None
    """The numbers at the reference's points, until `Rulers` has compared them."""
    ruler: Ruler | None = None
    """What the column was measured with."""
    ranks: tuple[Line, Line] | None = None
    """How many numbers are below and up to the reference's points, where bins were not asked for."""

    @property
    def bins(self) -> tuple[Line, Line] | None:
        """The shares to expect in each bin, and the rows there; of numbers when first asked for."""
        if self.expected is None and self.ranks is not None and self.ruler is not None:
            self.ruler.fill(self, *self.ranks)
        if self.expected is None or self.got is None:
            return None
        return self.expected, self.got

    def effect(self, method: str) -> float:
        """Return the size of a movement by one method, as it is held against a limit."""
        return self.effects.get(method, self.values[method])

    @property
    def missing(self) -> float:
        """The share of rows without a value."""
        return 1 - self.present / self.rows if self.rows else 0.0

    @property
    def missing_before(self) -> float:
        """The share of the reference's rows without a value."""
        return 1 - self.column.present / self.column.rows if self.column.rows else 1.0


class Ruler:
    """Measures the columns of batches against one column of a reference."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._edges: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._ranked: tuple[Line, Line] | None = None
        self._latest: tuple[int, tuple[Line, Line, Line | None]] | None = None

    def read(self, rows: Came, *, brief: bool = False) -> Reading:
        """Return the column of a batch beside the reference's; of numbers, if need be, only ranks."""
        column = self.column
        reading = Reading(column, rows.height, ruler=self)
        values = rows.column(column.name)
        if values is None:
            reading.gone = "missing"
            return reading
        reading.present = rows.height - values.missing
        if not reading.present:
            return reading
        kind = values.kind
        if kind != _family(column.kind) and column.present:
            reading.gone = "type"
        elif kind in ("number", "time"):
            self._numbers(reading, values, brief)
        elif column.text is not None:
            unknown = _unknown(values.words, column.text)
            self._text(reading, values.text, column.text, unknown)
        elif kind in ("category", "boolean"):
            self._categories(reading, values.categories)
        return reading

    def beside(self, other: Column | None, rows: int) -> Reading:
        """Return another description of a column beside the reference's.

        For rows that were read in parts, and of which only the description is left.
        """
        column = self.column
        reading = Reading(column, rows, ruler=self)
        if other is None:
            reading.gone = "missing"
            return reading
        reading.present, reading.infinite = other.present, other.infinite
        if not reading.present:
            return reading
        if _family(other.kind) != _family(column.kind) and column.present:
            reading.gone = "type"
        elif other.spread is not None and column.spread is not None:
            ks, moved = distances(column.spread, other.spread)
            below, upto = other.spread.ranks(column.spread.points)
            self._counted(reading, ks, moved, below, upto)
            near = distances(self.near, other.spread.drawn(self.reach))[1]
            reading.effects["Wasserstein"] = self._in_deviations(near)
        elif column.text is not None and other.text is not None:
            known = sum(n for word, n in other.text.words.items() if word in column.text.words)
            self._text(reading, other.text, column.text, 1 - known / max(1, other.text.total))
        elif column.kind in ("category", "boolean"):
            self._categories(reading, dict(other.counts))
        return reading

    # Numbers ----------------------------------------------------------------------------

    def _numbers(self, reading: Reading, values: Values, brief: bool) -> None:
        """Count numbers, or hold them so that they are counted with those of other columns."""
        if not self.in_cells:
            short = reading.rows <= TOGETHER
            rising, _, infinite = values.ordered if short else in_order(values.series)
            reading.present, reading.infinite = rising.size, infinite
            if not rising.size or self.column.spread is None:
                return
            if brief and self.spread.count > POINTS:
                below, upto = ranks_of(rising, self.spread.points)
                self.ranked(reading, self._apart(below, upto, rising.size), below, upto)
            else:
                reading.counted = counts_at(self.spread, rising, self.reach, infinite)
        elif reading.rows <= TOGETHER:
            reading.numbers = values.numbers
        else:
            cells = Cells([self.spread], [self.range], [self.reach])
            series = values.series
            reading.counted = cells.count(_rows(series), [_within(series)])

    @cached_property
    def in_cells(self) -> bool:
        """Whether numbers are counted in cells; few, and those of a wild spread, are sorted."""
        spread = self.column.spread
        few = spread is None or spread.count <= POINTS
        return not few and self.range.searched <= SEARCHED

    @cached_property
    def range(self) -> Range:
        """The range of cells in which numbers are counted."""
        return range_of(self.spread)

    def compared(self, reading: Reading, found: Distances, below: Line, upto: Line) -> None:
        """Take the distances of numbers, and their ranks at the points, as what was read."""
        size = self.spread.points.size
        self._counted(reading, found.ks, found.wasserstein, below[:size], upto[:size])
        reading.effects["Wasserstein"] = self._in_deviations(found.near)

    def _apart(self, below: Line, upto: Line, size: int) -> float:
        """Return the Kolmogorov-Smirnov distance of numbers ranked at the reference's points."""
        ours, theirs = self.spread.shares, (below / size, upto / size)
        return float(max(abs(a - b).max() for a, b in zip(ours, theirs, strict=True)))

    def ranked(self, reading: Reading, apart: float, below: Line, upto: Line) -> None:
        """Take the greatest distance of shares, and the ranks at the points, as what was read."""
        size = self.spread.points.size
        reading.values, reading.ranks = {"KS": apart}, (below[:size], upto[:size])

    def _counted(self, reading: Reading, ks: float, moved: float, below: Line, upto: Line) -> None:
        """Take distances, and ranks at the reference's points, as what was read."""
        present = reading.present
        self.fill(reading, below, upto)
        reading.effects = {"Wasserstein": self._in_deviations(moved)}
        reading.joined = 2
        outside = float(below[0]) + present - float(upto[-1])
        reading.values = {"KS": ks, "Wasserstein": moved, "unseen": outside / present}

    def fill(self, reading: Reading, below: Line, upto: Line) -> None:
        """Count numbers, of which the ranks at the reference's points are known, in bins."""
        import numpy as np

        edges, inside = self._bins(self.spread, reading.present)
        ends = np.empty(edges.size + 3)
        ends[0], ends[-2], ends[-1] = 0, reading.present, reading.rows
        ends[1:-2] = np.concatenate([below, upto])[edges]
        reading.expected, reading.got = inside, ends[1:] - ends[:-1]

    def rank_scores(self, expected: Line) -> Line:
        """Return the rank scores of the bins of numbers, of which these are the shares."""
        latest = self._ranked
        if latest is None or latest[0] is not expected:
            # Batches mostly have the same bins as the one before.
            cells = expected[:-1]
            self._ranked = latest = expected, rank_scores(cells / cells.sum())
        return latest[1]

    def _bins(self, spread: Quantiles, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges, as places among ranks below and then up to the points, and the shares.

        A value that makes up a bin of its own has an edge on either side, so that what lies
        next to it is told apart.
        """
        import numpy as np

        bins = int(min(BINS, max(2, rows // PER_BIN)))
        if bins not in self._edges:
            ranks, points = np.concatenate([spread.below, spread.upto]), spread.points.size
            reached = np.linspace(0, spread.count, bins + 1)[1:-1]
            places = np.unique(np.searchsorted(spread.upto, reached, side="left"))
            heavy = places[(spread.upto - spread.below)[places] * bins >= spread.count]
            edges = np.concatenate([heavy, places + points])
            edges = edges[np.lexsort([edges, ranks[edges]])]
            there = self.column.present / max(1, self.column.rows)
            inside = np.diff(ranks[edges] / spread.count, prepend=0.0, append=1.0) * there
            self._edges[bins] = edges, np.append(inside, 1 - there)
        return self._edges[bins]

    @cached_property
    def reach(self) -> tuple[float, float]:
        """How far down and up values count: `REACH` deviations around the reference's median."""
        import numpy as np

        spread = self.column.spread
        assert spread is not None
        if not self.scale:
            return -np.inf, np.inf
        middle = float(spread.at(np.array([0.5]))[0])
        return middle - REACH * self.scale, middle + REACH * self.scale

    @property
    def spread(self) -> Quantiles:
        """How the reference's numbers are spread."""
        assert self.column.spread is not None
        return self.column.spread

    @cached_property
    def near(self) -> Quantiles:
        """The reference without how far its wild values lie out."""
        return self.spread.drawn(self.reach)

    @cached_property
    def scale(self) -> float:
        """The width of the reference's middle nine tenths in standard deviations of a normal.

        What a Wasserstein distance is divided by, to say how many deviations the mean moved.
        """
        spread = self.column.spread
        if spread is None or not spread.count:
            return 0.0
        import numpy as np

        low, high = spread.at(np.array([0.05, 0.95]))
        whole = spread.points[-1] - spread.points[0]
        return float((high - low) / 3.29 or whole)

    def _in_deviations(self, moved: float) -> float:
        """Return a distance in deviations; without any width, whatever differs moved all the way."""
        return moved / self.scale if self.scale else float(moved > 0)

    @cached_property
    def roughness(self) -> float:
        """The integral of sqrt(F(1-F)), to which the noise of a Wasserstein distance is bound."""
        if self.column.spread is None or not self.column.spread.count:
            return 0.0
        import numpy as np

        spread = self.near
        below, upto = spread.shares
        start, end = (np.sqrt(one * (1 - one)) for one in (upto[:-1], below[1:]))
        return area(spread.widths, start, end)

    # Categories -------------------------------------------------------------------------

    def _binned(self, rows: int) -> tuple[Line, Line, Line | None]:
        """Return the bins of categories for so many rows, the shares to expect, and those there were.

        The first leave room for categories that the reference did not happen to have; the
        second are None where it has them all.
        """
        import numpy as np

        latest = self._latest
        if latest is not None and latest[0] == rows:
            # Batches mostly have as many rows as the one before.
            return latest[1]
        column = self.column
        known = np.array(list(column.counts.values()), dtype=np.float64)
        there = column.present / max(1, column.rows)
        wanted = known / max(1.0, known.sum()) * (1 - column.tail) * there
        had = known / max(1, column.rows)
        bins = shared_bins(wanted * rows)
        expected = np.append(np.bincount(bins, wanted), [column.tail * there, 1 - there])
        rest, plain = max(0.0, there - had.sum()), None
        if rest < column.tail * there:
            plain = np.append(np.bincount(bins, had), [rest, 1 - there])
        found = bins, expected, plain
        self._latest = rows, found
        return found

    def _categories(self, reading: Reading, seen: dict[str, int]) -> None:
        """Take the counts of categories as what was read."""
        import numpy as np

        column, rows = self.column, reading.rows
        bins, reading.expected, reading.plain = self._binned(rows)
        here = np.array([seen.get(name, 0) for name in column.counts], dtype=np.float64)
        others = max(0.0, reading.present - float(here.sum()))
        got = np.empty(reading.expected.size)
        got[:-2], got[-2], got[-1] = np.bincount(bins, here), others, rows - reading.present
        reading.got = got
        reading.values = {"unseen": others / reading.present}
        reading.effects = {"unseen": max(0.0, others / reading.present - column.tail)}

    # Free text --------------------------------------------------------------------------

    def _text(self, reading: Reading, here: Text, text: Text, unknown: float) -> None:
        """Take lengths, classes of characters and the share of unknown words as what was read."""
        import numpy as np

        there = 1 - reading.missing_before
        ours, theirs = (_classes(one) for one in (text, here))
        reading.expected = np.append(ours * there, 1 - there)
        reading.got = np.append(theirs * reading.present, reading.rows - reading.present)
        ks, moved = distances(text.lengths, here.lengths)
        reading.values = {"KS": ks, "Wasserstein": moved, "unseen": unknown}
        reading.effects = {"unseen": max(0.0, unknown - text.tail)}


def _rows(values: pl.Series) -> Iterator[np.ndarray]:
    for block in blocks(values):
        yield block[None]


def _within(values: pl.Series) -> Between:
    """Return what finds the numbers of a long column that lie in an open interval."""
    import numpy as np

    def between(low: float, high: float) -> np.ndarray:
        found = [block[(block > low) & (block < high)] for block in blocks(values)]
        return np.sort(np.concatenate(found))

    return between


def _unknown(counted: dict[str, int], text: Text) -> float:
    """Return the share of words that are not among those kept."""
    known = sum(count for word, count in counted.items() if word in text.words)
    return 1 - known / max(1, sum(counted.values()))


def _family(kind: str) -> str:
    return {"text": "category"}.get(kind, kind)


def _classes(text: Text) -> np.ndarray:
    """Return the shares of the classes of characters, then of all others."""
    import numpy as np

    counts = dict(zip(CLASSES, text.characters, strict=False))
    small = counts["letters"] - counts["capitals"]
    known = np.array(
        [small, counts["capitals"], counts["digits"], counts["spaces"], counts["punctuation"]],
        dtype=np.float64,
    )
    every = np.append(known, max(0.0, text.characters[-1] - known.sum()))
    shares: np.ndarray = every / max(1.0, every.sum())
    return shares


def shared_bins(expected: np.ndarray) -> np.ndarray:
    """Return the bin of each category, most frequent first: its own, or one with its like.

    Categories of which a batch holds fewer than `PER_BIN` on average share bins, so that
    sampling noise is not taken for drift.
    """
    import numpy as np

    alone = int(np.count_nonzero(expected >= PER_BIN))
    rest = np.cumsum(expected[alone:])
    whole = max(0, int(rest[-1] // PER_BIN) - 1) if rest.size else 0
    return np.append(np.arange(alone), alone + np.minimum(rest // PER_BIN, whole)).astype(np.int64)
