"""How far blocks of a reference lie from the rest of it: what is usual, before anything drifts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from keepfit.batch import TIME
from keepfit.profile import Column, Profile, floats, kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.drift.rulers import Reading
    from keepfit.profile.quantiles import Quantiles

MOST = 400
"""Blocks that are looked at, the newest ones."""

FILLED = 0.2
"""Share of the usual rows that a block must hold, so that the first and last may be cut."""


def distance(reading: Reading) -> float:
    """Return how far a batch lies from the reference in one column, from 0 to 1; NaN for nothing.

    Kolmogorov-Smirnov for numbers, the total variation distance for categories, and the
    change of the share of missing values where that is more. Each is the greatest gap
    between two shares, so that a block's distance to the rest follows from its distance to
    the whole.
    """
    if not reading.rows or not reading.column.rows:
        return float("nan")
    if reading.gone is not None:
        return 1.0
    found = abs(reading.missing - reading.missing_before)
    if "KS" in reading.values:
        return max(found, reading.values["KS"])
    if reading.expected is not None and reading.got is not None:
        had = reading.expected if reading.plain is None else reading.plain
        return float(abs(reading.got / reading.rows - had).sum() / 2)
    return found


def moves(reading: Reading) -> tuple[float, float, float]:
    """Return how a batch has moved from the reference in one column, with a sign; NaN for nothing.

    The mean rank that its numbers have in the reference, from -1/2 to 1/2; how far these
    ranks lie from the middle, beyond the reference's; and the share of missing values beyond
    the reference's. The first two are the statistics of Wilcoxon and of Ansari and Bradley,
    which Lepage (1971) combined, over the rows. Categories have neither.
    """
    if not reading.rows or not reading.column.rows or reading.gone is not None:
        return (float("nan"),) * 3
    missing = reading.missing - reading.missing_before
    bins = None if reading.column.spread is None else reading.bins
    if bins is None or reading.ruler is None:
        return float("nan"), float("nan"), missing
    got = bins[1][:-1]
    where, out = got / got.sum() @ reading.ruler.rank_scores(bins[0])
    return float(where), float(out), missing


def rank_scores(shares: np.ndarray) -> np.ndarray:
    """Return what a row in each of some cells, in their order, adds to the two mean ranks.

    ``shares`` are the reference's, of which the means are zero. Rows of one cell are ties.
    """
    import numpy as np

    where = shares.cumsum() - shares / 2 - 0.5
    return np.stack([where, abs(where) - shares @ abs(where)], axis=1)


class History(NamedTuple):
    """How far blocks lie from the rest of their rows: a row per block, a column per column.

    ``moves`` has the signed moves of each column on top; ``sizes`` the rows of each block.
    ``noise`` has, by column, the least that sampling adds to the mean square of a distance, and
    what it adds to the variance of each move, times the rows: as if rows were independent.
    ``most`` has the greatest share that one value, and that missing values, had in any block.
    """

    distances: np.ndarray
    moves: np.ndarray
    sizes: np.ndarray
    noise: np.ndarray
    most: np.ndarray


class _Cut(NamedTuple):
    """One column of blocks: distance and moves of each, and what `History` has of the column."""

    found: np.ndarray
    noise: np.ndarray
    most: tuple[float, float]


def blocks_of(rows: pl.DataFrame, every: timedelta) -> np.ndarray:
    """Return the number of the block that each row lies in, -1 for none, by event time.

    Blocks are as long as a batch and are counted back from the newest row.
    """
    import numpy as np

    times = rows.get_column(TIME).to_physical().to_numpy()
    if not times.size:
        return np.zeros(0, dtype=np.int64)
    length = max(1, every // timedelta(microseconds=1))
    back = (times.max() - times) // length
    counts = np.bincount(np.minimum(back, MOST))[:MOST]
    full = counts >= max(1.0, FILLED * float(np.median(counts[counts > 0])))
    number = np.full(MOST + 1, -1)
    number[: full.size][full] = np.arange(int(full.sum()))[::-1]
    blocks: np.ndarray = number[np.minimum(back, MOST)]
    return blocks


def history(profile: Profile, rows: pl.DataFrame, blocks: np.ndarray) -> History:
    """Return how far blocks of rows lie from the rest of them, as `distance` and `moves` do."""
    import numpy as np

    inside = blocks >= 0
    sizes = np.bincount(blocks[inside])
    columns = profile.columns if sizes.size else ()
    cut = _Blocks(rows, inside, blocks[inside], sizes)
    found = np.full((sizes.size, len(profile.columns), 4), np.nan)
    noise, most = np.zeros((len(profile.columns), 4)), np.ones((len(profile.columns), 2))
    for place, column in enumerate(columns):
        found[:, place], noise[place], most[place] = cut.column(column)
    # Of the whole, the block is a part that pulls it towards itself.
    rest = (1 - sizes / max(1, sizes.sum()))[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(rest > 0, np.clip(found / rest, -1.0, 1.0), np.nan)
    return History(apart[..., 0], apart[..., 1:], sizes, noise, most)


class _Blocks(NamedTuple):
    """Rows cut into blocks: which rows lie in any, in which, and how many in each."""

    rows: pl.DataFrame
    inside: np.ndarray
    where: np.ndarray
    sizes: np.ndarray

    def column(self, column: Column) -> _Cut:
        """Return the distance and the moves of each block to all of them together."""
        import polars as pl

        values = self.rows.get_column(column.name)
        if kind_of(values.dtype) in ("number", "time") and column.spread is not None:
            return self._numbers(column.spread, floats(values)[self.inside], signed=True)
        if column.text is not None:
            lengths = floats(values.cast(pl.String).str.len_chars())
            return self._numbers(column.text.lengths, lengths[self.inside], signed=False)
        return self._categories(column, values)

    def _numbers(self, spread: Quantiles, values: np.ndarray, *, signed: bool) -> _Cut:
        import numpy as np

        there = np.isfinite(values)
        cells = np.searchsorted(spread.points, values[there], side="left")
        table = _table(cells, self.where[there], spread.points.size + 1, self.sizes.size)
        present, every = table.sum(axis=1), table.sum(axis=0) / max(1, table.sum())
        absent = present.sum() / self.sizes.sum() - present / self.sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = table / present[:, None]
        apart = abs(shares.cumsum(axis=1) - every.cumsum()).max(axis=1)
        of_ranks = rank_scores(every) if signed else np.full((every.size, 2), np.nan)
        noise = _noise(every.cumsum(), of_ranks, every, 1 - present.sum() / self.sizes.sum())
        found = np.column_stack([np.fmax(abs(absent), apart), shares @ of_ranks, absent])
        return _Cut(found, noise, (_most(shares), _most(1 - present / self.sizes)))

    def _categories(self, column: Column, values: pl.Series) -> _Cut:
        import numpy as np

        if column.counts:
            codes, total = _of_categories(column, values.filter(self.inside))
        else:
            codes, total = values.is_null().to_numpy()[self.inside].astype(np.int64), 2
        table = _table(codes, self.where, total, self.sizes.size) / self.sizes[:, None]
        whole = self.sizes @ table / self.sizes.sum()
        apart = table - whole
        nothing = np.full((self.sizes.size, 2), np.nan)
        noise = _noise(whole, np.full((whole.size, 2), np.nan), whole, whole[-1])
        found = np.column_stack([abs(apart).sum(axis=1) / 2, nothing, apart[:, -1]])
        # Of what is not counted by value, only what is missing is known.
        one = _most(table[:, :-1]) if column.counts else 1.0
        return _Cut(found, noise, (one, _most(table[:, -1])))


def _most(shares: np.ndarray) -> float:
    import numpy as np

    return float(np.nan_to_num(shares, nan=1.0).max(initial=0.0))


def _noise(
    shares: np.ndarray, of_ranks: np.ndarray, weights: np.ndarray, missing: float
) -> np.ndarray:
    """Return what sampling adds to the squares of a distance and of the moves, times the rows.

    A distance is the greatest of many gaps between shares, and its mean square is no less than
    that of the gap that varies most. A share p of n independent rows has the variance
    p (1 - p) / n.
    """
    import numpy as np

    gone = missing * (1 - missing)
    least = max(gone, float((shares * (1 - shares)).max(initial=0.0)))
    noise = np.nan_to_num(np.array([least, *(weights @ of_ranks**2), gone]))
    return np.asarray(np.maximum(noise, 0.0), dtype=np.float64)


def _table(cells: np.ndarray, where: np.ndarray, total: int, blocks: int) -> np.ndarray:
    import numpy as np

    return np.bincount(where * total + cells, minlength=blocks * total).reshape(blocks, total)


def _of_categories(column: Column, values: pl.Series) -> tuple[np.ndarray, int]:
    """Return the place of each category among those kept; then one for others, one for missing."""
    import polars as pl

    known: Sequence[str] = list(column.counts)
    text = values.cast(pl.String)
    places = text.replace_strict(
        known, list(range(len(known))), default=len(known), return_dtype=pl.Int64
    )
    missing = len(known) + 1
    coded = pl.select(pl.when(text.is_null()).then(missing).otherwise(places)).to_series()
    return coded.to_numpy(), missing + 1
