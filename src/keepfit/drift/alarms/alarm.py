"""One alarm over all columns, at the rate of false alarms that its user states."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.drift.alarms.look import Look
from keepfit.drift.alarms.state import MEASURES, AlarmState
from keepfit.drift.alarms.thresholds import LEAST, MOST_MOVED, NEVER, threshold
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from keepfit.drift.alarms.moves import Usual
    from keepfit.drift.alarms.scores import Array, Level, Standard

_AGAIN = 100.0
"""Times the evidence that an alarm takes while another stands or has used up the budget."""

_LEVELS = 8
"""Sets of columns whose usual level is kept for the next batch."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Alarms when columns move, as seldom as its user asks on data that does not change.

    The reference is cut into blocks as long as a batch; the distances of each block to the
    rest of the reference say what is usual. The columns of a batch are combined in two
    scores (a mean, for shifts of many columns, and a greatest, for shifts of few), which
    become normal values by a predictive t distribution over the scores of the blocks. These,
    the distances of single columns, and the moves of each in either direction are bet on in an
    e-detector (Shiryaev-Roberts, a mixture of bets for shifts that persist and abrupt ones).
    The more alike neighbouring blocks are, the more evidence an alarm takes.

    What is promised: on a stream that does not change, the alarms per batch are no more than
    one in ``batches``, on average over references drawn from that stream, for seasons that
    the reference contains and for block effects with an autocorrelation of up to 0.6. That
    holds where the reference stays and where every alarm brings another. One reference may
    alarm more often than another, for four blocks can be unlucky ones; so the first alarm uses
    up the budget, and until its ``batches`` are over the next must be plain to see. A
    reference of fewer than three blocks never alarms, and beyond ninety batches per alarm
    thresholds are extrapolated.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> usual = lambda *shape: abs(rng.normal(0.03, 0.01, shape))
    >>> alarm = Alarm.calibrate(usual(13, 2), [500] * 13, batches=30)
    >>> state = alarm.advance(None, usual(2), 500)
    >>> state.fired, alarm.provisional
    (False, True)
    >>> state = alarm.advance(state, [0.03, 0.4], 500)
    >>> state.fired, state.columns[0][0]
    (True, 1)
    >>> alarm.advance(state, [0.03, 0.4], 500).fired
    False

    References
    ----------
    Lepage, A combination of Wilcoxon's and Ansari-Bradley's statistics (1971); Shin, Ramdas
    and Rinaldo, E-detectors: a nonparametric framework for sequential change detection
    (2022); Vovk and Wang, E-values: calibration, combination and applications
    (2021); Barber, Candès, Ramdas and Tibshirani, Predictive inference with the jackknife+
    (2021).
    """

    batches: float
    """Batches in which one false alarm is acceptable."""
    blocks: int
    watched: tuple[int, ...]
    """Places of the columns that the reference can speak of."""
    threshold: float
    again: float
    """The threshold after an alarm: what else moves must be plain to see."""
    alike: float
    """Autocorrelation of the blocks' distances: how alike neighbouring blocks are."""
    distances: bytes
    """Distances of the watched columns by block, as 32-bit numbers."""
    sizes: tuple[float, ...]
    weights: tuple[float, ...]
    moves: bytes = b""
    """Moves of the watched columns by block and measure, as 32-bit numbers; none: not known."""
    noise: tuple[tuple[float, ...], ...] = ()
    """What sampling adds to the squares of distance and moves of each watched column."""
    partial: float = 0.0
    """Share of the reference that lies in none of its blocks."""

    @classmethod
    def calibrate(
        cls,
        history: ArrayLike,
        sizes: ArrayLike,
        *,
        batches: float,
        weights: ArrayLike | None = None,
        moves: ArrayLike | None = None,
        noise: ArrayLike | None = None,
        partial: float = 0.0,
    ) -> Alarm:
        """Learn what is usual from the blocks of a reference.

        Parameters
        ----------
        history
            A row per block and a column per column: distances of the block to the rest of
            the reference, NaN where there is none. A column with distances in fewer than
            half of the blocks, or in fewer than three, is not watched.
        sizes
            Rows of each block.
        batches
            Batches in which one false alarm is acceptable.
        weights
            Importance of each column, none negative. Half of the weight is shared equally,
            so that a column of no importance so far is still watched.
        moves
            Signed moves of the block against the rest, by block, column and measure: the
            mean rank of its values, how far their ranks lie from the middle, and the share
            of missing values; NaN for what a column does not have. With them, alarms come
            sooner where blocks differ anyway. Of more than 64 columns they are left out.
        noise
            By column, what sampling alone adds to the mean square of its distance, at least,
            and to the variance of each of its moves, times the rows. A column that follows the
            calendar, such as the hour, is then not held to less than chance would do, and what
            a batch or reference that is not whole explains says nothing.
        partial
            Share of the reference that lies in none of the blocks.

        Raises
        ------
        ConfigError
            The arrays do not fit each other, or a number is outside its range.
        """
        import numpy as np

        found = np.atleast_2d(np.asarray(history, dtype=np.float64))
        rows = np.asarray(sizes, dtype=np.float64).reshape(-1)
        _check(found, rows, batches)
        blocks, columns = found.shape
        there = np.isfinite(found)
        watched = np.flatnonzero(there.sum(axis=0) >= max(LEAST, blocks / 2))
        kept = found[:, watched]
        # A block without a distance counts as a usual one: it says nothing either way.
        if not there[:, watched].all():
            middle = np.nanmedian(np.where(there, found, np.nan)[:, watched], axis=0)
            kept = np.where(there[:, watched], kept, middle)
        shares = _shares(weights, columns)[watched]
        moved = _moves(moves, found.shape, watched)
        known = _noise(noise, columns)[watched]
        alike, limit = 0.0, NEVER
        if watched.size and blocks >= LEAST:
            alike = _alike(kept, rows, shares, known)
            limit = threshold(watched.size, blocks, batches, alike=alike, moved=bool(moved))
        return cls(
            batches=float(batches),
            blocks=blocks,
            watched=tuple(watched.tolist()),
            threshold=limit,
            again=min(NEVER, _AGAIN * limit),
            alike=alike,
            distances=kept.astype("<f4").tobytes(),
            sizes=tuple(rows.tolist()),
            weights=tuple(shares.tolist()),
            moves=moved,
            noise=tuple(map(tuple, known.tolist())),
            partial=float(partial),
        )

    @property
    def provisional(self) -> bool:
        """Whether the reference spans fewer than four times the budget's period."""
        return self.blocks < 4 * self.batches

    def advance(
        self,
        state: AlarmState | None,
        distances: ArrayLike,
        size: float,
        moves: ArrayLike | None = None,
    ) -> AlarmState:
        """Return the state after one more batch.

        Parameters
        ----------
        state
            The state after the batch before; None at the start, and when the reference is
            another.
        distances
            Distance of each column of the history to the whole reference; NaN where it
            cannot be taken.
        size
            Rows of the batch.
        moves
            Signed moves of each column against the whole reference, by column and measure;
            NaN, or none at all, where they are not known.

        Raises
        ------
        ConfigError
            There are fewer distances than the history has columns, or not as many moves.
        """
        import numpy as np

        state = state or AlarmState(evidence=0.0, threshold=self.threshold, batches=0)
        values = np.asarray(distances, dtype=np.float64).reshape(-1)
        if self.watched and values.size <= self.watched[-1]:
            raise ConfigError(
                f"Alarm: expected a distance for each of {self.watched[-1] + 1} columns or more, "
                f"got {values.size}"
            )
        values = values[list(self.watched)]
        there = np.isfinite(values)
        if self.blocks < LEAST or size < 1 or not there.any():
            return msgspec.structs.replace(state, batches=state.batches + 1, fired=False)
        moved = None if moves is None or not self.moves else self._moved(moves)
        return Look(self, values, there, size, moved).after(state)

    def dumps(self) -> bytes:
        """Return the alarm as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Alarm:
        """Return the alarm that bytes hold."""
        return msgspec.msgpack.decode(content, type=cls)

    def _moved(self, moves: ArrayLike) -> Array:
        """Return the moves of the watched columns."""
        import numpy as np

        found = np.asarray(moves, dtype=np.float64)
        if found.ndim != 2 or found.shape[1] != MEASURES or len(found) <= self.watched[-1]:
            raise ConfigError(
                f"Alarm: expected {MEASURES} moves for each of {self.watched[-1] + 1} columns or "
                f"more, got {found.shape}"
            )
        return np.asarray(found[list(self.watched)])

    def uneven(self, size: float) -> float:
        """Return the share of rows by which a batch of a size and the reference are not whole.

        Of a reference that keeps every tenth row, a batch has ten times as many.
        """
        usual = sorted(self.sizes)[len(self.sizes) // 2]
        whole = max(1, round(size / usual)) * usual
        return self.partial + abs(size - whole) / max(size, whole)

    def _least(self) -> Array:
        import numpy as np

        if not self.noise:
            return np.zeros((len(self.watched), 1 + MEASURES))
        return np.array(self.noise)

    @cached_property
    def usual(self) -> Usual:
        """How far blocks usually move."""
        import numpy as np

        from keepfit.drift.alarms import moves

        kept = np.frombuffer(self.moves, dtype="<f4").astype(np.float64)
        shape = (self.blocks, len(self.watched), MEASURES)
        return moves.usual(kept.reshape(shape), np.array(self.sizes), self._least()[:, 1:])

    @cached_property
    def standard(self) -> tuple[Standard, Array]:
        """What the distances of columns usually are, and the blocks' excesses over it."""
        import numpy as np

        from keepfit.drift.alarms import scores

        history = np.frombuffer(self.distances, dtype="<f4").astype(np.float64)
        return scores.standardise(
            history.reshape(self.blocks, len(self.watched)),
            np.array(self.sizes),
            self._least()[:, 0],
        )

    @cached_property
    def _levels(self) -> dict[bytes, tuple[Level, Array]]:
        return {}

    def level(self, of: np.ndarray) -> tuple[Level, Array]:
        """Return what the scores of some of the columns usually are, and their weights.

        The weights add up to one. Both are kept for the next batch.
        """
        import numpy as np

        from keepfit.drift.alarms import scores

        key = of.tobytes()
        if key not in self._levels:
            if len(self._levels) >= _LEVELS:
                self._levels.clear()
            chosen = np.array(self.weights)[of]
            shares = np.asarray(chosen / chosen.sum(), dtype=np.float64)
            blocks = scores.combine(self.standard[1][:, of], shares)
            self._levels[key] = scores.level(blocks, shares), shares
        return self._levels[key]


def _shares(weights: Any, columns: int) -> Array:
    import numpy as np

    equal: Array = np.full(columns, 1 / max(1, columns))
    if weights is None:
        return equal
    given = np.asarray(weights, dtype=np.float64).reshape(-1)
    if given.size != columns or not np.isfinite(given).all() or (given < 0).any():
        raise ConfigError(
            f"Alarm: expected {columns} weights of zero or more, one per column, got {weights!r}"
        )
    if not given.any():
        return equal
    return np.asarray((equal + given / given.sum()) / 2, dtype=np.float64)


def _moves(given: Any, shape: tuple[int, int], watched: np.ndarray) -> bytes:
    """Return the moves of the watched columns, to keep."""
    import numpy as np

    if given is None:
        return b""
    found = np.asarray(given, dtype=np.float64)
    if found.shape != (*shape, MEASURES):
        raise ConfigError(
            f"Alarm: expected moves by block, column and measure {(*shape, MEASURES)}, "
            f"got {found.shape}"
        )
    kept = found[:, watched].astype("<f4")
    used = shape[0] >= LEAST and watched.size <= MOST_MOVED and np.isfinite(kept).any()
    return kept.tobytes() if used else b""


def _noise(given: Any, columns: int) -> Array:
    import numpy as np

    if given is None:
        return np.zeros((columns, 1 + MEASURES))
    found = np.asarray(given, dtype=np.float64)
    if found.shape != (columns, 1 + MEASURES) or not (found >= 0).all():
        raise ConfigError(
            f"Alarm: expected noise of zero or more by column for a distance and {MEASURES} "
            f"moves, {(columns, 1 + MEASURES)}, got {found.shape}"
        )
    return found


def _alike(history: Array, sizes: Array, weights: Array, noise: Array) -> float:
    """Return how alike neighbouring blocks of a reference are."""
    from keepfit.drift.alarms import scores

    excesses = scores.standardise(history, sizes, noise[:, 0])[1]
    return float(scores.alike(excesses, scores.combine(excesses, weights / weights.sum())))


def _check(history: Array, sizes: Array, batches: float) -> None:
    import numpy as np

    if history.ndim != 2 or not history.shape[0]:
        raise ConfigError(
            f"Alarm: expected a row per block and a column per column, got {history.shape}"
        )
    if sizes.size != history.shape[0]:
        raise ConfigError(
            f"Alarm: expected a size for each of {history.shape[0]} blocks, got {sizes.size}"
        )
    if not (np.isfinite(sizes).all() and (sizes >= 1).all()):
        raise ConfigError(f"Alarm: expected blocks of one row or more, got {sizes.min()!r}")
    if (history < 0).any():
        raise ConfigError(f"Alarm: expected distances of zero or more, got {np.nanmin(history)!r}")
    if not 1 < batches < math.inf:
        raise ConfigError(f"Alarm: expected more than one batch per alarm, got {batches!r}")
