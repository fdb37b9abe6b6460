"""What a model remembers of its training rows: where they lay, and none of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from keepfit.batch import RESERVED, spread
from keepfit.profile import Column, floats, kind_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.profile import Profile

BINS = 16
"""Bins of equal share into which numbers fall; rows that share all bins are near duplicates."""

CELLS = 150_000
"""Cells that are kept; of more, those with the smallest hash, which are a fair sample."""

SAMPLE = 4_000
"""Training rows whose bins are kept, to tell new rows from."""

SAMPLE_BYTES = 350_000
CODES = 64
"""Codes per column in the sample: bins, or categories by a hash."""

LEAST = 50
"""Rows on either side below which nothing is told apart."""

_MISSING = 0xFFFF_FFFF


class Bins(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """How the values of one column fall into bins.

    ``edges`` are float64, in rising order; empty for categories. ``absent`` is the share of
    training rows without a value.
    """

    name: str
    kind: str
    edges: bytes = b""
    absent: float = 0.0

    @classmethod
    def of(cls, column: Column) -> Bins:
        """Take the edges from the description of a column; few values have a bin each."""
        import numpy as np

        absent = 1 - column.present / column.rows if column.rows else 1.0
        if column.spread is None:
            return cls(name=column.name, kind=_family(column.kind), absent=absent)
        edges = np.unique(column.spread.at(np.linspace(0, 1, BINS + 1)))
        return cls(name=column.name, kind="number", edges=edges.tobytes(), absent=absent)

    def codes(self, rows: pl.DataFrame) -> np.ndarray:
        """Return a number per row, equal where values are near; a lost column is missing."""
        import numpy as np

        if self.name not in rows.columns:
            return np.full(rows.height, _MISSING, dtype=np.uint32)
        values = rows.get_column(self.name)
        if _family(kind_of(values.dtype)) != self.kind:
            return np.full(rows.height, _MISSING, dtype=np.uint32)
        return self._numbers(values) if self.kind == "number" else _hashed(values)

    def lost(self, codes: np.ndarray) -> np.ndarray:
        """Return whether each row has no value, or one outside all that was trained on."""
        lost: np.ndarray = codes == _MISSING
        if self.kind == "number" and self._edges.size:
            lost = lost | (codes == 0) | (codes == 2 * self._edges.size)
        return lost

    @cached_property
    def _edges(self) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self.edges)

    def _numbers(self, values: pl.Series) -> np.ndarray:
        import numpy as np

        there, edges = floats(values), self._edges
        # Odd on an edge, even between two: a value that many rows share has a bin of its own.
        codes = np.searchsorted(edges, there, "left") + np.searchsorted(edges, there, "right")
        return np.where(np.isfinite(there), codes, _MISSING).astype(np.uint32)


KEPT = "relevance"
"""The part of a champion's reference that the memory of its training rows is kept as."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How well rows are told from the training rows, and the columns that betray them."""

    auc: float
    limit: float
    columns: tuple[str, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether they are told apart by more than chance and the floor explain."""
        return self.auc > self.limit


class RowMemory(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Where training rows lay: to find near duplicates, and rows unlike any of them.

    Numbers fall into 16 bins of equal share, categories into themselves. Rows that share
    all bins lie in one *cell*; the cells are kept as 32-bit hashes. Beside them the bins of
    4,000 rows are kept, less where there are many columns. Both are bounded, so that the
    bytes stay below a megabyte for any number of rows. Times, free text and lists are left
    out.

    Examples
    --------
    >>> import polars as pl
    >>> from keepfit.profile import Profile
    >>> rows = pl.DataFrame({"age": range(1000), "plan": ["a", "b"] * 500})
    >>> memory = RowMemory.fit(rows, Profile.of(rows))
    >>> memory.redundant(rows), memory.redundant(pl.DataFrame({"age": [5], "plan": ["c"]}))
    (1.0, 0.0)

    References
    ----------
    Bar-Yossef et al., Counting distinct elements in a data stream (2002), for the sample of
    cells by hash; Lopez-Paz and Oquab, Revisiting classifier two-sample tests (2017).
    """

    rows: int
    columns: tuple[Bins, ...]
    cells: bytes
    below: int
    sample: bytes

    @classmethod
    def fit(cls, rows: pl.DataFrame, profile: Profile) -> RowMemory:
        """Remember training rows by the bins of their profile."""
        import numpy as np

        columns = tuple(Bins.of(one) for one in profile.columns if _used(one))
        codes = _codes(columns, rows)
        cells = np.unique(_cells(codes, rows.height))
        below = int(cells[CELLS]) if cells.size > CELLS else 1 << 32
        most = min(SAMPLE, SAMPLE_BYTES // max(1, len(columns)))
        kept = spread(rows.height, most)
        sample = [_folded(one[kept]).tobytes() for one in codes]
        return cls(
            rows=rows.height,
            columns=columns,
            cells=cells[:CELLS].astype("<u4").tobytes(),
            below=below,
            sample=b"".join(sample),
        )

    def dumps(self) -> bytes:
        """Return the memory as bytes, fewer than a million."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> RowMemory:
        """Return the memory that bytes hold."""
        return msgspec.msgpack.decode(content, type=cls)

    def redundant(self, rows: pl.DataFrame) -> float | None:
        """Return the share of rows that lie in a cell with training rows.

        Where there were too many cells to keep, the share among the rows whose cell would
        have been kept; None where that leaves no row, or no column can be compared.
        """
        import numpy as np

        if not self.columns or not rows.height or not self.rows:
            return None
        cells = _cells(_codes(self.columns, rows), rows.height)
        asked = cells[cells < self.below]
        return float(np.isin(asked, self._kept).mean()) if asked.size else None

    def lost(self, rows: pl.DataFrame) -> dict[str, float]:
        """Return per column by how much the share of values lost or out of range has grown."""
        if not rows.height:
            return {}
        codes = _codes(self.columns, rows)
        return {
            column.name: max(0.0, float(column.lost(code).mean()) - column.absent)
            for column, code in zip(self.columns, codes, strict=True)
        }

    def told(self, rows: pl.DataFrame) -> Told | None:
        """Return how well rows are told from training rows: an AUC on rows not learnt from.

        The classifier is naive Bayes on bins, learnt on one half and judged on the other,
        both ways. None below 50 rows on either side.
        """
        import numpy as np

        from keepfit.relevance.apart import told_apart

        if not self.columns:
            return None
        there = np.frombuffer(self.sample, dtype=np.uint8).reshape(len(self.columns), -1)
        if min(there.shape[1], rows.height) < LEAST:
            return None
        kept = spread(rows.height, SAMPLE)
        here = np.stack([_folded(one[kept]) for one in _codes(self.columns, rows)])
        auc, limit, guilty = told_apart(there, here)
        return Told(auc=auc, limit=limit, columns=tuple(self.columns[i].name for i in guilty))

    @cached_property
    def _kept(self) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self.cells, dtype="<u4")


def cells_of(rows: pl.DataFrame, profile: Profile) -> np.ndarray:
    """Return the cell of each row, equal for near duplicates."""
    columns = tuple(Bins.of(one) for one in profile.columns if _used(one))
    return _cells(_codes(columns, rows), rows.height)


def _used(column: Column) -> bool:
    # A time moves by its nature; free text and lists have no bins.
    return column.name not in RESERVED and column.kind in ("number", "category", "boolean")


def _family(kind: str) -> str:
    return "category" if kind == "boolean" else kind


def _codes(columns: Sequence[Bins], rows: pl.DataFrame) -> list[np.ndarray]:
    return [column.codes(rows) for column in columns]


def _hashed(values: pl.Series) -> np.ndarray:
    """Return a hash per category, the same in every process."""
    import numpy as np
    import polars as pl

    texts = values.cast(pl.String)
    known = texts.unique().drop_nulls().to_list()
    codes = [zlib.crc32(text.encode()) % _MISSING for text in known]
    found = texts.replace_strict(known, codes, default=None, return_dtype=pl.UInt32)
    return found.fill_null(_MISSING).to_numpy().astype(np.uint32)


def _folded(codes: np.ndarray) -> np.ndarray:
    """Return codes below 64; numbers have no more than 35."""
    import numpy as np

    return (codes % CODES).astype(np.uint8)


def _cells(codes: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Return one hash of all codes per row.

    The steps are those of SplitMix64 (Steele et al. 2014).
    """
    import numpy as np

    mixed = np.zeros(rows, dtype=np.uint64)
    for code in codes:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + code + np.uint64(1)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(32)).astype(np.uint32)
