"""The detector whose user states how often a false alarm is acceptable."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from keepfit.batch import TIME
from keepfit.clock import count_rate
from keepfit.drift.alarms import Alarm, AlarmState, Anchor, AnchorState
from keepfit.drift.alarms.state import MEASURES
from keepfit.drift.alarms.still import still
from keepfit.drift.alarms.thresholds import LEAST
from keepfit.drift.came import Came
from keepfit.drift.history import History, blocks_of, distance, history, moves
from keepfit.drift.univariate import Columns
from keepfit.facts import ColumnDrift
from keepfit.parts import Part
from keepfit.protocols import Advanced

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from keepfit.drift.rulers import Reading
    from keepfit.protocols import Reference

WHOLE = 0.8
"""Share of a batch's usual length or rows from which it is held against the blocks."""

LEAST_BATCHES = 1.5
"""A budget of more than one alarm per batch is none; this is the loosest there is."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference keeps for its alarms.

    ``usual`` is the distance that a block rarely passes, or chance does of as many rows, and
    ``most`` the greatest share that one value, and missing values, had in any block.
    """

    alarm: Alarm
    anchor: Anchor
    usual: tuple[float, ...]
    every: timedelta
    most: tuple[tuple[float, float], ...] = ()

    def whole(self, rows: pl.DataFrame) -> bool:
        """Return whether rows are a whole batch, as long or as large as the blocks were.

        A day differs from the weeks that it is a part of, and nothing has moved.
        """
        times = rows.get_column(TIME)
        span = cast("datetime", times.max()) - cast("datetime", times.min())
        usual = sorted(self.alarm.sizes)[len(self.alarm.sizes) // 2]
        return span >= WHOLE * self.every or rows.height >= WHOLE * usual


class _State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an alarm goes on; ``muted`` names the columns whose alarm stands.

    They stay muted when another reference begins, so that a training which a drift set off
    does not raise the same alarm again.
    """

    alarm: AlarmState | None = None
    anchor: AnchorState | None = None
    muted: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Alarms(Part):
    """Alarms when the columns of a stream move, as seldom as asked while nothing does.

    The default detector. How far batches usually lie from a reference is learnt from blocks
    of the reference itself, over all columns together, with the seasons and the likeness of
    neighbouring blocks that it holds; evidence adds up over batches, and one cause is one
    alarm. Columns that the champion uses count for more. Beside the champion's own
    reference, which moves with every training, the first one stays as an anchor: a column
    that has slowly left it is said once.

    A column that follows the calendar, such as the hour, is the same in every whole batch. What
    the rows explain that are too few or too many, after an outage or in a reference that ends
    within a season, is no change of it. A column of which a whole batch is one value, or missing,
    alarms at once where no block of the reference had half of its rows so.

    The budget is provisional while the reference spans fewer than four of its periods.

    Parameters
    ----------
    budget
        How often a false alarm is acceptable: ``"1 per 90d"``, in event time.
    exclude
        Columns to leave out, such as a date that moves by its nature.

    Raises
    ------
    ConfigError
        The budget is no count of alarms per length of time.

    Examples
    --------
    >>> Alarms(), Alarms("1 per 30d", exclude=["seen_on"])
    (Alarms(), Alarms("1 per 30d", exclude=['seen_on']))

    References
    ----------
    Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
    detection (2022).
    """

    budget: str = "1 per 90d"
    exclude: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        count_rate(self.budget, "Alarms")
        Columns(exclude=self.exclude)

    def batches(self, every: timedelta) -> float:
        """Return the batches in which one false alarm is acceptable."""
        alarms, period = count_rate(self.budget, "Alarms")
        return max(LEAST_BATCHES, period / every / alarms)

    def check(self, reference: Reference, rows: pl.DataFrame) -> Sequence[ColumnDrift]:
        """Return one value with its limit per column, as `Columns` does for a batch alone."""
        return Columns(exclude=self.exclude).check(reference, rows)

    def calibrate(
        self,
        reference: Reference,
        rows: pl.DataFrame,
        *,
        every: timedelta,
        weights: Mapping[str, float] | None = None,
    ) -> bytes:
        """Return what a reference keeps: how far blocks of its rows lie from the rest of them.

        Parameters
        ----------
        reference
            The reference that describes the rows.
        rows
            Its rows, with their event times.
        every
            The length of a batch.
        weights
            How much each column counts for the champion.
        """
        import numpy as np

        found = history(reference.profile, rows, blocks_of(rows, every))
        names = [column.name for column in reference.profile.columns]
        found.distances[:, [name in self.exclude for name in names]] = np.nan
        if not found.sizes.size:
            nothing = np.full((1, len(names), MEASURES), np.nan)
            found = History(nothing[..., 0], nothing, np.ones(1), *found[3:])
        apart, moved, sizes, noise, most = found
        counted = None if not weights else [weights.get(name, 0.0) for name in names]
        filled = np.where(np.isfinite(apart), apart, 0.0)
        kept = _Kept(
            alarm=Alarm.calibrate(
                apart,
                sizes,
                batches=self.batches(every),
                weights=counted,
                moves=moved,
                noise=noise,
                partial=_outside(rows.height, sizes),
            ),
            anchor=Anchor.of(apart, sizes),
            usual=_usual(filled, sizes, noise),
            every=every,
            most=tuple(map(tuple, most.tolist())),
        )
        return msgspec.msgpack.encode(kept)

    def accumulate(
        self,
        reference: Reference,
        rows: pl.DataFrame,
        state: Mapping[str, Any] | None,
        anchor: Reference | None = None,
    ) -> Advanced:
        """Return what one more batch adds: every column's movement, and an alarm if there is one.

        Parameters
        ----------
        reference
            The champion's reference, calibrated.
        rows
            The batch, with what was waiting before it.
        state
            What `accumulate` said of the batch before.
        anchor
            The first reference, where it is another.
        """
        before = msgspec.convert(dict(state or {}), _State)
        kept = self._kept(reference)
        if kept is None or not rows.height:
            columns = tuple(self.check(reference, rows))
            return Advanced(columns=columns, state=dict(state or {}))
        came = Came(rows)
        readings = reference.read(came, brief=True)
        columns = Columns(exclude=self.exclude).judged(reference, readings)
        if kept.alarm.blocks < LEAST:
            return self._uncalibrated(columns, before)
        if not kept.whole(rows):
            return Advanced(columns=columns, state=msgspec.to_builtins(before), waiting=True)
        names = [column.name for column in reference.profile.columns]
        stuck = self._still(kept, readings, rows)
        # What is said at once is no evidence on top, which would say it again.
        nothing = {one.column for one in stuck}.union(self.exclude)
        values = _distances(readings, nothing)
        moved = [(math.nan,) * MEASURES if r.column.name in nothing else moves(r) for r in readings]
        now = kept.alarm.advance(
            before.alarm or _muted(kept.alarm, before.muted, names), values, rows.height, moved
        )
        alarm = self._alarmed(reference, kept, now, values) if now.fired else ()
        alarm = (*(one for one in stuck if one.column not in before.muted), *alarm)
        slow, slowly = self._left(anchor, before.anchor, came)
        stands = () if now.armed else now.muted or kept.alarm.watched
        muted = {*(names[place] for place in stands), *(one.column for one in stuck)}
        after = _State(alarm=now, anchor=slow, muted=tuple(name for name in names if name in muted))
        # A column that has alarmed is not said again because it stays away from the anchor.
        known = {*after.muted, *before.muted, *(one.column for one in alarm)}
        return Advanced(
            columns=columns,
            state=msgspec.to_builtins(after),
            alarm=(*alarm, *(one for one in slowly if one.column not in known)),
            evidence=now.evidence,
            threshold=now.threshold,
            provisional=kept.alarm.provisional,
        )

    def _still(
        self, kept: _Kept, readings: Sequence[Reading], rows: pl.DataFrame
    ) -> list[ColumnDrift]:
        """Return the columns that stand still, less those that are left out."""
        if not kept.most:
            return []
        found = still(readings, rows, kept.most)
        return [one for one in found if one.column not in self.exclude]

    def _uncalibrated(self, columns: Sequence[ColumnDrift], before: _State) -> Advanced:
        """Alarm by limits of size: a reference of a block or two does not show what is usual.

        The training that follows has more of them.
        """
        drifted = [one for one in columns if one.drifted]
        alarm = tuple(one for one in drifted if one.column not in before.muted)
        muted = tuple(one.column for one in drifted)
        after = _State(anchor=before.anchor, muted=muted)
        return Advanced(
            columns=columns, state=msgspec.to_builtins(after), alarm=alarm, provisional=True
        )

    def _left(
        self, anchor: Reference | None, before: AnchorState | None, rows: Came
    ) -> tuple[AnchorState | None, list[ColumnDrift]]:
        """Return where the anchor stands, and the columns that have now left it for good."""
        first = None if anchor is None else self._kept(anchor)
        if anchor is None or first is None:
            return before, []
        far = _distances(anchor.read(rows, brief=True), self.exclude)
        after = first.anchor.advance(before, far, rows.height)
        limits = first.anchor.limits(rows.height)
        names = [column.name for column in anchor.profile.columns]
        return after, [
            ColumnDrift(column=names[i], method="anchor", value=far[i], limit=limits[i])
            for i in after.fired
        ]

    def _kept(self, reference: Reference) -> _Kept | None:
        kept: _Kept | None = reference.opened(self.name, _Kept)
        return kept

    def _alarmed(
        self, reference: Reference, kept: _Kept, state: AlarmState, values: Sequence[float]
    ) -> tuple[ColumnDrift, ...]:
        """Return the columns that carry the evidence, with what was usual as their limit."""
        names = [column.name for column in reference.profile.columns]
        kinds = [column.kind for column in reference.profile.columns]
        return tuple(
            ColumnDrift(
                column=names[place],
                method="KS" if kinds[place] in ("number", "time", "text") else "variation",
                value=values[place],
                # Many small movements make an alarm together: the limit stays below each.
                limit=min(kept.usual[place], 0.999 * values[place]),
            )
            for place, _ in state.columns
            if values[place] > 0
        )


def _distances(readings: Sequence[Reading], without: Collection[str]) -> list[float]:
    return [math.nan if one.column.name in without else distance(one) for one in readings]


def _usual(distances: np.ndarray, sizes: np.ndarray, noise: np.ndarray) -> tuple[float, ...]:
    """Return the distance of each column that a block rarely passes: never none at all."""
    import numpy as np

    shown = np.quantile(distances, 0.95, axis=0)
    # Two standard deviations of a share, and two rows of a value that has never been seen.
    chance = np.maximum(2 * np.sqrt(noise[:, 0] / np.median(sizes)), 2 / np.median(sizes))
    return tuple(np.maximum(shown, np.minimum(chance, 1.0)).tolist())


def _outside(rows: int, sizes: np.ndarray) -> float:
    """Return the share of a reference's rows that lie in no block: less than one, at its start."""
    return max(0.0, min((rows - float(sizes.sum())) / max(1, rows), 1 / sizes.size))


def _muted(alarm: Alarm, muted: Sequence[str], names: Sequence[str]) -> AlarmState | None:
    """Return the state in which an alarm begins while columns are still muted from before."""
    places = tuple(place for place in alarm.watched if names[place] in muted)
    if not places:
        return None
    return AlarmState(evidence=0.0, threshold=alarm.threshold, batches=0, armed=False, muted=places)
