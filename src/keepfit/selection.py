"""Selections: which labelled rows a challenger trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from keepfit.batch import LABEL, RESERVED, TIME, border, spread
from keepfit.clock import duration
from keepfit.errors import ConfigError
from keepfit.parts import Part

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.protocols import Moment, Selection

_LEAST = 1e-9
"""What the least relevant row counts beside the most relevant one: it can be drawn still."""

_CLASSES = 30
_LEAF = 20
_TOGETHER = 4
"""Rows that are left together where rows are ordered by likeness."""

_LOOKED_AT = 20_000
"""Rows from which it is learnt which columns tell about the label."""


@dataclass(frozen=True, repr=False)
class _Capped(Part):
    """Base of the selections: a cap on the rows, of which the newest are kept."""

    at_most: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        whole = isinstance(self.at_most, int) and not isinstance(self.at_most, bool)
        if self.at_most is not None and (not whole or self.at_most < 1):
            raise ConfigError(
                f"{type(self).__name__}: expected at_most to be a whole number of rows "
                f"from 1, got {self.at_most!r}"
            )

    def _newest(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self.at_most is None else rows.tail(self.at_most)


@dataclass(frozen=True, repr=False)
class Expanding(_Capped):
    """All labelled rows so far.

    Right where the past stays true; dear as the stream grows, unless ``at_most`` caps it.

    Examples
    --------
    >>> Expanding(), Expanding(at_most=100_000)
    (Expanding(), Expanding(at_most=100000))
    """

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        return self._newest(rows)


@dataclass(frozen=True, repr=False)
class Sliding(_Capped):
    """The rows of a length of event time, counted back from the newest labelled row.

    Right where the past stops being true. A row exactly that old is out, so that
    neighbouring windows share no row.

    Parameters
    ----------
    length
        A length of event time, or a number of steps of the pipeline's cadence (``every``).
    at_most
        The most rows, of which the newest are kept.

    Examples
    --------
    >>> Sliding("90d"), Sliding(20)
    (Sliding("90d"), Sliding(20))

    Raises
    ------
    ConfigError
        The length is neither a duration nor a whole number of steps, or it is zero.
    """

    length: str | int

    def __post_init__(self) -> None:
        super().__post_init__()
        length: Any = self.length  # whatever the caller wrote; True is no number of steps
        steps = isinstance(length, int) and not isinstance(length, bool)
        if length < 1 if steps else not duration(length):
            raise ConfigError(f"Sliding: expected a length above zero, got {length!r}")

    def _reach(self, moment: Moment) -> timedelta:
        """Return the length as event time; a step without a cadence is a day, as in the loop."""
        if isinstance(self.length, int):
            return self.length * (moment.every or timedelta(days=1))
        return duration(self.length)

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        if rows.is_empty():
            return rows
        times = rows.get_column(TIME)
        return self._newest(rows[border(times, times[-1] - self._reach(moment), "right") :])


@dataclass(frozen=True, repr=False)
class SinceLast(_Capped):
    """The rows newer than those of the last training; all rows when there was none.

    Right for a warm start, where the champion already knows the older rows.

    Examples
    --------
    >>> SinceLast()
    SinceLast()
    """

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        return self._newest(_split(rows, moment)[1])


@dataclass(frozen=True, repr=False)
class SinceChange(_Capped):
    """The rows since what serves last fell far below what it had reached; all rows until it does.

    Right where the world changes at once: what came before misleads, and how much there is that
    does not, no fixed window knows. The batch that fell is the first of them.

    Examples
    --------
    >>> SinceChange()
    SinceChange()

    References
    ----------
    Bifet and Gavaldà, Learning from time-changing data with adaptive windowing (2007).
    """

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        if moment.changed is None or rows.is_empty():
            return self._newest(rows)
        return self._newest(rows[border(rows.get_column(TIME), moment.changed, "left") :])


@dataclass(frozen=True, repr=False)
class Replay(_Capped):
    """The rows since the last training with a uniform sample of older ones.

    Right for a warm start that must not forget: the older rows stand for what the
    champion learnt before. Without new rows nothing is chosen; when nothing was trained
    before, all rows are new.

    Parameters
    ----------
    new
        The share of the chosen rows that the new ones make up, as far as there are
        enough older ones.
    buffer
        The most older rows.
    at_most
        The most rows together; the share is kept, and of the new rows the newest are.

    Examples
    --------
    >>> Replay(new=0.5)
    Replay(new=0.5)

    References
    ----------
    Rolnick et al., Experience Replay for Continual Learning (2019).
    """

    new: float = field(default=0.7, kw_only=True)
    buffer: int = field(default=20_000, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.new <= 1.0:
            raise ConfigError(
                f"Replay: expected the share of new rows above 0 up to 1, got {self.new!r}",
                hint="new=0.7 takes three older rows for every seven new ones",
            )
        if self.buffer < 0:
            raise ConfigError(f"Replay: expected a buffer of 0 rows or more, got {self.buffer!r}")

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        import polars as pl

        older, newer = _split(rows, moment)
        if older.is_empty():
            return self._newest(newer)
        if self.at_most is not None:
            newer = newer.tail(max(1, round(self.at_most * self.new)))
        wanted = round(newer.height * (1 - self.new) / self.new)
        if self.at_most is not None:
            wanted = min(wanted, self.at_most - newer.height)
        places = _sample(older.height, min(wanted, self.buffer), moment.seed)
        # Older rows all come before newer ones, so joining them keeps the order.
        return pl.concat([older[places], newer])


@dataclass(frozen=True, repr=False)
class Relevant(_Capped):
    """A share of the rows of another selection: those that tell most about the present.

    What a row can teach comes from the loop, which finds out on the newest rows whether the
    older ones still help; a row's chance to be kept is in proportion to it. Before anything
    serves, all rows have the same chance.

    The rows are drawn so that those kept look like all rows, each as often as it counts:
    rows of one label that are alike stand next to each other, and every second one, or as
    many as the share says, is taken (systematic sampling). So near duplicates are thinned,
    each class keeps its share, within rows that are alike too, and a model trained on half
    the rows comes closer to one trained on all of them than it would on a random half.

    Parameters
    ----------
    share
        The share of the rows to keep.
    of
        The selection to thin; all rows when not given.
    at_most
        The most rows to keep, whatever the share.

    Raises
    ------
    ConfigError
        The share is not above 0 up to 1, or ``of`` is no selection.

    Examples
    --------
    >>> Relevant(), Relevant(0.3, of=Sliding("90d"))
    (Relevant(), Relevant(0.3, of=Sliding("90d")))

    References
    ----------
    Madow, On the theory of systematic sampling II (1949); Deville and Tillé, Efficient
    balanced sampling: the cube method (2004).
    """

    share: float = 0.5
    of: Selection | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(
                f"Relevant: expected a share above 0 up to 1, got {self.share!r}",
                hint="share=0.5 keeps every second row",
            )
        resolve(self.of)

    def select(self, rows: pl.DataFrame, moment: Moment) -> pl.DataFrame:
        """Return the chosen rows, in order of time and id."""
        import numpy as np

        all_ = resolve(self.of).select(rows, moment)
        wanted = max(1, round(self.share * all_.height))
        wanted = wanted if self.at_most is None else min(wanted, self.at_most)
        if wanted >= all_.height:
            return all_
        worth = np.ones(all_.height)
        if moment.relevance is not None:
            worth = _positive(moment.relevance(all_))
        # The newest row says up to when a model knows the stream.
        worth[-1] = np.inf
        return all_[_drawn(_chances(worth, wanted), _beside(all_), wanted, moment.seed)]


def resolve(selection: Selection | None) -> Selection:
    """Return a selection as the loop uses it; None is `Expanding`.

    Raises
    ------
    ConfigError
        The argument is no selection, or it is a list or a class.
    """
    if selection is None:
        return Expanding()
    if isinstance(selection, type):
        raise ConfigError(
            f"expected a selection, got the class {selection.__name__}",
            hint=f"write selection.{selection.__name__}(...)",
        )
    if isinstance(selection, Sequence) or not callable(getattr(selection, "select", None)):
        raise ConfigError(
            f"expected one selection, got {selection!r}",
            hint="write select=selection.Sliding('90d'); several are several challengers",
        )
    return selection


def _split(rows: pl.DataFrame, moment: Moment) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows up to the newest row trained on before, and those after it."""
    if moment.since is None:
        return rows.clear(), rows
    # Rows are sorted by time, so that one search finds the border.
    first = border(rows.get_column(TIME), moment.since, "right")
    return rows[:first], rows[first:]


def _sample(rows: int, wanted: int, seed: int) -> np.ndarray:
    """Return places of rows drawn without replacement, in rising order."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(rows, size=min(wanted, rows), replace=False, shuffle=False))


def _positive(worth: np.ndarray) -> np.ndarray:
    """Return numbers above zero; what is no number counts least, and so does what is below."""
    import numpy as np

    worth = np.nan_to_num(np.array(worth, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    greatest = worth.max(initial=0.0)
    return np.maximum(worth / greatest, _LEAST) if greatest > 0 else np.ones(worth.size)


def _chances(worth: np.ndarray, wanted: int) -> np.ndarray:
    """Return each row's chance to be drawn: in proportion to its worth, one at most."""
    import numpy as np

    order = np.argsort(-worth, kind="stable")
    falling = worth[order]
    # With the first i rows sure, the rest share what is left; as many are sure as must be.
    rest = np.cumsum(np.where(np.isfinite(falling), falling, 0.0)[::-1])[::-1]
    left = wanted - np.arange(falling.size)
    sure = int(np.argmin((left > 0) & (falling * left >= rest)))
    chances = np.ones(worth.size)
    chances[order[sure:]] = falling[sure:] * (left[sure] / rest[sure])
    return chances


def _drawn(chances: np.ndarray, order: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Return places drawn by their chances, evenly along an order, in rising order."""
    import numpy as np

    sure = np.flatnonzero(chances >= 1.0)
    order = order[chances[order] < 1.0]
    reached = np.cumsum(chances[order])
    steps = np.arange(wanted - sure.size) + np.random.default_rng(seed).random()
    # The last step may lie beyond the last row by what rounding lost.
    places = np.minimum(np.searchsorted(reached, steps, side="right"), order.size - 1)
    return np.union1d(sure, order[places])


def _beside(rows: pl.DataFrame) -> np.ndarray:
    """Return places of rows in an order in which those of one label that are alike are neighbours.

    The rows of each label are halved by the value of a column, and the halves again by that
    of another, down to a few rows (the leaves of a k-d tree, Bentley 1975). A column is
    taken the more often, the more it tells about the label.
    """
    import numpy as np

    labels, table = _strata(rows), _matrix(rows)
    parts = labels
    for column in _halvings(table, labels):
        order = np.lexsort([table[:, column], parts])
        parts = 2 * parts
        starts = np.flatnonzero(np.diff(parts[order], prepend=-1))
        sizes = np.diff(starts, append=rows.height)
        within = np.arange(rows.height) - np.repeat(starts, sizes)
        parts[order] += within * 2 >= np.repeat(sizes, sizes)
    return np.lexsort([np.arange(rows.height), parts])


def _halvings(table: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the columns by which rows are halved, in turn, until few are left together."""
    import numpy as np

    size = len(labels)
    if not table.shape[1] or size < 2 * _LEAF:
        return []
    from sklearn.tree import DecisionTreeClassifier

    some = spread(size, _LOOKED_AT)
    # A tree grown to the end takes every column that tells something, not the first few alone.
    tree = DecisionTreeClassifier(min_samples_leaf=_LEAF, random_state=0)
    worth = tree.fit(table[some], labels[some]).feature_importances_
    if not worth.any():
        return []
    taken = np.zeros(worth.size)
    chosen: list[int] = []
    for _ in range(int(np.log2(np.bincount(labels).max() / _TOGETHER)) + 1):
        chosen.append(int(np.argmax(worth / (1 + taken))))
        taken[chosen[-1]] += 1
    return chosen


def _strata(rows: pl.DataFrame) -> np.ndarray:
    """Return labels as numbers; where there are many, the tenth of them that each lies in."""
    import numpy as np
    import polars as pl

    if LABEL not in rows.columns:
        return np.zeros(rows.height, dtype=np.int64)
    labels = rows.get_column(LABEL)
    if labels.dtype.is_numeric() and labels.n_unique() > _CLASSES:
        places = labels.rank("ordinal").fill_null(0).to_numpy()
        return np.asarray(places * 10 // (rows.height + 1), dtype=np.int64)
    return labels.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    """Return the columns that a tree can split, as float32; what is missing is below all else."""
    import numpy as np
    import polars as pl

    columns = [np.empty((rows.height, 0), dtype=np.float32)]
    for values in rows.iter_columns():
        if values.name in RESERVED or values.dtype.is_nested():
            continue
        if values.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
            values = values.cast(pl.String)
        elif not values.dtype.is_numeric():
            continue
        # Ranks, because a value may be beyond what float32 holds.
        ranks = values.rank("dense").fill_null(0).to_numpy().astype(np.float32)
        columns.append(ranks[:, None])
    return np.hstack(columns)
