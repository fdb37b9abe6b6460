"""One batch, held against what is usual: the evidence that it adds, and what alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

    from keepfit.drift.alarms.alarm import Alarm
    from keepfit.drift.alarms.scores import Array
    from keepfit.drift.alarms.state import AlarmState

_CARRIERS = 8
"""Columns that a state remembers: those that carry most of the evidence."""

_CARRIED = 1.0
"""Standard deviations above usual at which a column carries evidence."""

_FAR = 20.0
"""The sum of bets on a direction from which on a column has gone that way, and not by chance."""

_FORGOTTEN = 0.1
"""Standard deviations below which a column is no longer remembered."""


class Look:
    """One batch, held against what is usual."""

    def __init__(
        self,
        alarm: Alarm,
        values: Array,
        there: np.ndarray,
        size: float,
        moves: Array | None,
    ) -> None:
        import numpy as np

        from keepfit.drift.alarms import moves as measures
        from keepfit.drift.alarms import scores

        self.alarm = alarm
        self.there = there
        filled = np.where(there, values, 0.0)[None, :]
        rows, share = np.array([float(size)]), alarm.uneven(size)
        self.excesses = scores.excess(alarm.standard[0], filled, rows, share)[0]
        shape = (len(alarm.watched), len(measures.DIRECTIONS))
        self.moves: Array = np.full(shape, np.nan)
        if moves is not None:
            self.moves = measures.directions(alarm.usual, moves[None], rows, share)[0]

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
                moves=(),
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

        level, shares = self.alarm.level(rest)
        now = self._values(rest)
        before = np.array(state.before) if state.before else np.zeros(scores.SCORES)
        news = scores.news(level, now, before)[0]
        sums = np.array(state.sums) if state.sums else np.zeros((scores.SCORES, len(bets.SIZES)))
        # After an alarm, evidence starts anew.
        kept = state.evidence / (state.evidence + 1) if state.sums else 0.0
        sums = bets.bet(sums, news)
        each, moves = self._of_columns(state, rest)
        known = np.isfinite(self.moves) | (moves > 0)
        own = bets.of_columns(each[rest], moves[rest], known[rest])
        evidence = float(bets.evidence(sums, own, shares, moved=bool(self.alarm.moves)))
        limit = self._limit(state)
        return msgspec.structs.replace(
            state,
            evidence=evidence,
            batches=state.batches + 1,
            threshold=limit,
            fired=evidence >= limit,
            columns=self._carriers(state, rest, kept, moves),
            sums=tuple(map(tuple, sums.tolist())),
            each=_rounded(each),
            moves=tuple(map(_rounded, moves.T)) if self.alarm.moves else (),
            before=tuple(now.tolist()),
        )

    def _of_columns(self, state: AlarmState, rest: np.ndarray) -> tuple[Array, Array]:
        """Return the sums of the columns' distances and moves; what is not there says nothing."""
        import numpy as np

        from keepfit.drift.alarms import bets, scores

        each = np.array(state.each) if state.each else np.zeros(rest.size)
        steady = scores.steadied(self.excesses[None], self.alarm.blocks, self.alarm.alike)[0]
        each = np.where(rest, bets.bet_each(each, steady), each)
        moves = np.array(state.moves).T if state.moves else np.zeros(self.moves.shape)
        there = np.isfinite(self.moves) & rest[:, None]
        return each, np.where(there, bets.bet_each(moves, self.moves), moves)

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
            moves=(),
            before=(),
        )

    def _carriers(
        self, state: AlarmState, rest: np.ndarray, kept: float, moves: Array
    ) -> tuple[tuple[int, float], ...]:
        """Return the columns above usual, with past batches counted as the evidence counts them.

        In a Shiryaev-Roberts sum s the chance that the change came before this batch is
        s / (s + 1): that much of the past is kept.
        """
        import numpy as np

        weight = {place: kept * amount for place, amount in state.columns}
        leading = moves.argmax(axis=-1)[:, None]
        gone, far = (
            np.take_along_axis(found, leading, axis=-1)[:, 0] for found in (self.moves, moves)
        )
        carried = (self.excesses > _CARRIED) | ((gone > 0) & (far >= _FAR))
        above = np.fmax(self.excesses, np.where(far >= _FAR, gone, np.nan))
        for i in rest.nonzero()[0].tolist():
            if carried[i]:
                place = self.alarm.watched[i]
                weight[place] = weight.get(place, 0.0) + float(above[i])
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

        level, shares = self.alarm.level(of)
        combined = scores.combine(self.excesses[None, of], shares)
        values: Array = scores.standing(level, combined)[0]
        return values


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
