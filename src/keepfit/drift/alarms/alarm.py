"""One alarm over all columns, at the rate of false alarms that its user states."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.drift.alarms.thresholds import LEAST, NEVER, threshold
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from keepfit.drift.alarms.scores import Array, Level, Standard

_CARRIERS = 8
"""Columns that a state remembers: those that carry most of the evidence."""

_CARRIED = 1.0
"""Standard deviations above usual at which a column carries evidence."""

_AGAIN = 100.0
"""Times the evidence that an alarm takes while another stands or has used up the budget."""

_FORGOTTEN = 0.1
"""Standard deviations below which a column is no longer remembered."""


class AlarmState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an alarm has seen so far, small enough for a fact.

    ``evidence`` is the mean of ``sums``, those of the scores, and ``each``, those of the
    columns, and is held against ``threshold``. ``fired`` is true at the batch that alarms and
    at no other: one cause is one alarm. ``armed`` is false while that cause stands; then
    ``muted`` names its columns (none of them: all), and only the others can alarm. ``alarmed``
    is the number of the batch that alarmed last, 0 for none. ``columns`` holds the places of
    the few columns that carry the evidence, most first, with the standard deviations that
    they are above usual, added up.
    """

    evidence: float
    threshold: float
    batches: int
    fired: bool = False
    armed: bool = True
    columns: tuple[tuple[int, float], ...] = ()
    muted: tuple[int, ...] = ()
    calm: int = 0
    alarmed: int = 0
    sums: tuple[tuple[float, ...], ...] = ()
    each: tuple[float, ...] = ()
    before: tuple[float, ...] = ()


class Alarm(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Alarms when columns move, as seldom as its user asks on data that does not change.

    The reference is cut into blocks as long as a batch; the distances of each block to the
    rest of the reference say what is usual. The columns of a batch are combined in two
    scores (a mean, for shifts of many columns, and a greatest, for shifts of few), which
    become normal values by a predictive t distribution over the scores of the blocks. These
    and the single columns are bet on in an e-detector (Shiryaev-Roberts, a mixture of bets
    for shifts that persist and abrupt ones). The more alike neighbouring blocks are, the
    more evidence an alarm takes.

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
    Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
    detection (2022); Vovk and Wang, E-values: calibration, combination and applications
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

    @classmethod
    def calibrate(
        cls,
        history: ArrayLike,
        sizes: ArrayLike,
        *,
        batches: float,
        weights: ArrayLike | None = None,
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
        middle = np.nanmedian(np.where(there, found, np.nan)[:, watched], axis=0)
        kept = np.where(np.isfinite(kept), kept, middle) if watched.size else kept
        shares = _shares(weights, columns)[watched]
        alike, limit = 0.0, NEVER
        if watched.size and blocks >= LEAST:
            alike = _alike(kept, rows, shares)
            limit = threshold(watched.size, blocks, batches, alike=alike)
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
        )

    @property
    def provisional(self) -> bool:
        """Whether the reference spans fewer than four times the budget's period."""
        return self.blocks < 4 * self.batches

    def advance(self, state: AlarmState | None, distances: ArrayLike, size: float) -> AlarmState:
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

        Raises
        ------
        ConfigError
            There are more or fewer distances than the history has columns.
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
        return _Look(self, values, there, size).after(state)

    def dumps(self) -> bytes:
        """Return the alarm as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Alarm:
        """Return the alarm that bytes hold."""
        return msgspec.msgpack.decode(content, type=cls)

    @cached_property
    def _standard(self) -> tuple[Standard, Array]:
        """What the distances of columns usually are, and the blocks' excesses over it."""
        import numpy as np

        from keepfit.drift.alarms import scores

        history = np.frombuffer(self.distances, dtype="<f4").astype(np.float64)
        return scores.standardise(
            history.reshape(self.blocks, len(self.watched)), np.array(self.sizes)
        )

    @cached_property
    def _levels(self) -> dict[bytes, Level]:
        return {}

    def level(self, of: np.ndarray) -> Level:
        """Return what the scores of some of the columns usually are; kept for the next batch."""
        from keepfit.drift.alarms import scores

        key = of.tobytes()
        if key not in self._levels:
            if len(self._levels) >= _CARRIERS:
                self._levels.clear()
            shares = self.shares(of)
            blocks = scores.combine(self._standard[1][:, of], shares)
            self._levels[key] = scores.level(blocks, shares)
        return self._levels[key]

    def shares(self, of: np.ndarray) -> Array:
        """Return the weights of some of the columns, which add up to one."""
        import numpy as np

        chosen = np.array(self.weights)[of]
        return np.asarray(chosen / chosen.sum(), dtype=np.float64)


class _Look:
    """One batch, held against what is usual."""

    def __init__(self, alarm: Alarm, values: Array, there: np.ndarray, size: float) -> None:
        import numpy as np

        from keepfit.drift.alarms import scores

        self.alarm = alarm
        self.there = there
        filled = np.where(there, values, 0.0)[None, :]
        self.excesses = scores.excess(alarm._standard[0], filled, np.array([float(size)]))[0]

    def after(self, state: AlarmState) -> AlarmState:
        """Return the state after this batch."""
        from keepfit.drift.alarms import bets

        muted = self._muted(state)
        over = muted.any() and self._usual(muted & self.there) and self._usual(self.there)
        calm = state.calm + 1 if over else 0
        rest = self.there & ~muted
        if rest.any():
            state = self._bet(state, rest)
        else:
            state = msgspec.structs.replace(
                state,
                batches=state.batches + 1,
                fired=False,
                evidence=0.0,
                sums=(),
                each=(),
                columns=(),
            )
        if state.fired:
            return self._fire(state, muted)
        if not state.armed and calm >= bets.CALM:
            return msgspec.structs.replace(state, armed=True, muted=(), calm=0)
        return msgspec.structs.replace(state, calm=calm)

    def _bet(self, state: AlarmState, rest: np.ndarray) -> AlarmState:
        import numpy as np

        from keepfit.drift.alarms import bets, scores

        level = self.alarm.level(rest)
        now = self._values(rest)
        before = np.array(state.before) if state.before else np.zeros(scores.SCORES)
        news = scores.news(level, now, before)[0]
        sums = np.array(state.sums) if state.sums else np.zeros((scores.SCORES, len(bets.SIZES)))
        # After an alarm, evidence starts anew.
        kept = state.evidence / (state.evidence + 1) if state.sums else 0.0
        sums = bets.bet(sums, news)
        each = np.array(state.each) if state.each else np.zeros(rest.size)
        steady = scores.steadied(self.excesses, self.alarm.blocks, self.alarm.alike)[0]
        each = np.where(rest, bets.bet_each(each, steady), each)
        evidence = float(bets.evidence(sums, each[rest], self.alarm.shares(rest)))
        limit = self._limit(state)
        return msgspec.structs.replace(
            state,
            evidence=evidence,
            batches=state.batches + 1,
            threshold=limit,
            fired=evidence >= limit,
            columns=self._carriers(state, rest, kept),
            sums=tuple(map(tuple, sums.tolist())),
            each=tuple(float(f"{value:.7g}") for value in each),
            before=tuple(now.tolist()),
        )

    def _limit(self, state: AlarmState) -> float:
        """Return the evidence that an alarm takes in this batch."""
        spent = state.alarmed and state.batches + 1 - state.alarmed <= self.alarm.batches
        return self.alarm.again if spent or not state.armed else self.alarm.threshold

    def _fire(self, state: AlarmState, muted: np.ndarray) -> AlarmState:
        """Mute what caused the alarm: the carriers until the rest is as usual, or all columns."""
        import numpy as np

        places = np.array(self.alarm.watched)
        cause = muted.copy()
        for place, _ in state.columns:
            cause |= places == place
            if self._usual(self.there & ~cause):
                break
        else:
            cause[:] = True
        return msgspec.structs.replace(
            state,
            armed=False,
            muted=() if cause.all() else tuple(places[cause].tolist()),
            calm=0,
            alarmed=state.batches,
            sums=(),
            each=(),
            before=(),
        )

    def _carriers(
        self, state: AlarmState, rest: np.ndarray, kept: float
    ) -> tuple[tuple[int, float], ...]:
        """Return the columns above usual, with past batches counted as the evidence counts them.

        In a Shiryaev-Roberts sum s the chance that the change came before this batch is
        s / (s + 1): that much of the past is kept.
        """
        weight = {place: kept * amount for place, amount in state.columns}
        for i in rest.nonzero()[0].tolist():
            if self.excesses[i] > _CARRIED:
                place = self.alarm.watched[i]
                weight[place] = weight.get(place, 0.0) + float(self.excesses[i])
        top = sorted(weight.items(), key=lambda item: (-item[1], item[0]))[:_CARRIERS]
        return tuple((place, round(amount, 3)) for place, amount in top if amount > _FORGOTTEN)

    def _muted(self, state: AlarmState) -> np.ndarray:
        import numpy as np

        watched = np.array(self.alarm.watched)
        if state.armed:
            return np.zeros(watched.size, dtype=np.bool_)
        return np.isin(watched, state.muted) if state.muted else np.ones(watched.size, np.bool_)

    def _usual(self, of: np.ndarray) -> bool:
        """Whether some of the columns are as usual in this batch, by themselves."""
        from keepfit.drift.alarms import bets

        return bool(of.any()) and bool(self._values(of).max() < bets.NORMAL)

    def _values(self, of: np.ndarray) -> Array:
        from keepfit.drift.alarms import scores

        combined = scores.combine(self.excesses[None, of], self.alarm.shares(of))
        values: Array = scores.standing(self.alarm.level(of), combined)[0]
        return values


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


def _alike(history: Array, sizes: Array, weights: Array) -> float:
    """Return how alike neighbouring blocks of a reference are."""
    from keepfit.drift.alarms import scores

    excesses = scores.standardise(history, sizes)[1]
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
