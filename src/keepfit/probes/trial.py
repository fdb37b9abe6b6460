"""Two small models put to the test on the same rows: one of old rows, one of fresh ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit.batch import ID, LABEL, RESERVED
from keepfit.relevance.probe import Probe, Table

if TYPE_CHECKING:
    import polars as pl

    from keepfit.probes.losses import Losses
    from keepfit.protocols import Model

DRAWN = 2_000
"""Rows that a probe learns from at most."""

TREES = 15
RATE = 0.2
"""Half the trees of `Probe`, learning twice as fast: on streams they tell gaps as well."""

BLOCKS = 10
"""Blocks of time whose scatter says how sure a difference of losses is."""

FEWEST = 2 * BLOCKS
"""Rows without which nothing is measured."""

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a choice of fresh rows gained over the champion's, on the same judging rows."""

    recipe: str
    rows: int
    stale: float
    fresh: float
    gap: float
    error: float
    scale: float
    drawn: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trial:
    """The rows that judge, with what is needed to read their labels and to count losses."""

    model: Model
    losses: Losses
    judged: pl.DataFrame
    seed: int

    def best(self, stale: pl.DataFrame, fresh: dict[str, pl.DataFrame]) -> Measured | None:
        """Return the choice of fresh rows whose gain is surest; None where there is none.

        Parameters
        ----------
        stale
            The rows that the champion was trained on.
        fresh
            The rows that a training would take now, by what chose them.
        """
        # How many threads there are would show in the last digits.
        with threads().limit(limits=1):
            found = [self._measured(name, stale, rows) for name, rows in fresh.items()]
        known = [one for one in found if one is not None]
        return max(known, key=lambda one: one.gap - one.error, default=None)

    def _measured(self, name: str, stale: pl.DataFrame, fresh: pl.DataFrame) -> Measured | None:
        counts = drawn(stale.height, fresh.height)
        table, places = self._table(
            _sample(stale, counts[0], self.seed), _sample(fresh, counts[1], self.seed), self.judged
        )
        before, after, judges = places
        if min(before.size, after.size) < BLOCKS or judges.size < FEWEST:
            return None
        width = len(self.model.classes)
        labels = table.labels[judges]
        # Codes of classes are whole numbers to metrics and to a cost of the user's.
        labels = labels if table.regression else labels.astype(np.intp)
        then, now, always = (
            self.losses(labels, scores)
            for scores in (
                answers(_fitted(table, before), judges, width),
                answers(_fitted(table, after), judges, width),
                constant(labels, width),
            )
        )
        gain = then - now
        if not np.isfinite(gain).all():
            return None
        scale = _scale(then, always)
        return Measured(
            recipe=name,
            rows=judges.size,
            stale=float(then.mean()),
            fresh=float(now.mean()),
            gap=float(gain.mean()),
            # Where both answer alike, one row more could still have told them apart.
            error=max(error_of(gain), scale / gain.size),
            scale=scale,
            drawn=counts,
        )

    def _table(self, *parts: pl.DataFrame) -> tuple[Table, list[Places]]:
        """Return some frames as one table, and the places of each whose labels are known."""
        import polars as pl

        names = [name for name in self.judged.columns if name not in RESERVED or name == LABEL]
        rows = pl.concat([part.select(names) for part in parts], how="vertical_relaxed")
        labels = np.asarray(self.model.codes(rows.get_column(LABEL)), dtype=np.float64)
        table = replace(Table.of(rows, LABEL, self.model.task), labels=labels)
        known = np.isfinite(labels) if table.regression else labels >= 0
        ends = np.cumsum([part.height for part in parts])
        return table, [
            part[known[part]] for part in np.split(np.arange(rows.height), ends[:-1].tolist())
        ]


@cache
def threads() -> Any:
    """Return what holds the threads that probes learn with; finding them takes as long as a probe."""
    import sklearn.ensemble  # noqa: F401  # what is not there yet is not found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _fitted(table: Table, places: Places) -> Probe:
    return Probe.fit(table, places, trees=TREES, rate=RATE)


def answers(probe: Probe, places: Places, width: int) -> Array:
    """Return scores as `Model.predict` gives them, of so many classes (0: values)."""
    matrix = probe.table.matrix[places]
    if probe.table.regression:
        return np.asarray(probe.model.predict(matrix))
    table = np.zeros((places.size, width))
    if probe.only is not None:
        table[:, int(probe.only)] = 1.0
    else:
        table[:, probe.model.classes_.astype(np.intp)] = probe.model.predict_proba(matrix)
    return table[:, 1] if width == 2 else table


def constant(labels: NDArray[np.generic], width: int) -> Array:
    """Return the best answer that is the same for all rows: shares of classes, or the median."""
    if not width:
        return np.full(labels.size, np.median(labels.astype(np.float64)))
    shares = np.bincount(labels.astype(np.intp), minlength=width) / labels.size
    return np.full(labels.size, shares[1]) if width == 2 else np.tile(shares, (labels.size, 1))


def drawn(stale: int, fresh: int) -> tuple[int, int]:
    """Return how many rows each probe learns from.

    A model that learns from n rows is taken to lose an excess in proportion to the root of
    1/n. The larger probe learns from `DRAWN` rows, and the smaller from so many that what more
    rows are worth is the same between the probes as between the models they stand for.

    References
    ----------
    Hestness et al., Deep learning scaling is predictable, empirically (2017), on how loss
    falls with rows; one half is the power of statistical learning theory.

    Examples
    --------
    >>> drawn(500, 800), drawn(10_000, 10_000), drawn(4_500, 45_000)
    ((500, 800), (2000, 2000), (944, 2000))
    """
    less, most = sorted((stale, fresh))
    if most <= DRAWN:
        return stale, fresh
    excess = DRAWN**-0.5 + max(less, 1) ** -0.5 - most**-0.5
    few = min(less, DRAWN, round(excess**-2))
    return (few, DRAWN) if stale < fresh else (DRAWN, few)


def error_of(gain: Array) -> float:
    """Return the standard error of a mean of differences that come in order of time.

    The larger of two: as if rows were independent, and from the scatter between blocks, within
    which rows are alike.
    """
    alone = float(gain.std(ddof=1)) / math.sqrt(gain.size)
    blocks = np.array([block.mean() for block in np.array_split(gain, BLOCKS)])
    return max(alone, float(blocks.std(ddof=1)) / math.sqrt(BLOCKS))


def _sample(rows: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Return some of the rows: the same of two frames as far as they share rows.

    Probes of rows that are mostly the same differ little then, by what is not.
    """
    if count >= rows.height:
        return rows
    keys = rows.get_column(ID).hash(seed).to_numpy()
    return rows[np.sort(np.argpartition(keys, count)[:count])]


def _scale(losses: Array, always: Array) -> float:
    """Return the loss of which a hundredth is one point; 1 where losses are rights and wrongs."""
    if np.isin(losses, (0.0, 1.0)).all():
        return 1.0
    mean = float(np.mean(always))
    return mean if mean > 0 else 1.0
