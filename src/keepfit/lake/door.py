"""What every lake does."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from keepfit.batch import PASSED, TIME, border

if TYPE_CHECKING:
    import polars as pl

    from keepfit.batch import Batch

LANDED = "keepfit:"
"""What the note of a commit begins with that says what landed, followed by the source."""

BATCHES = "keepfit-batches"
"""The note that says which numbers have landed, for when the log no longer tells of each."""


class Landed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the lake took of a batch.

    ``rows`` and ``labels`` count what was new; ``duplicates`` the rows that the lake held
    already; ``corrections`` the rows and labels that came again with another content; ``revised``
    the new rows, and ``relabelled`` the new labels, whose id had one already; ``late`` the rows older
    than the watermark before. ``lost`` names columns that the lake knows and the batch did not
    have; ``retyped`` those that came with values of another kind, which the lake
    could not keep, and their type. ``drawn`` counts the rows of which chance said whether they
    pass, ``explored`` those of them that did. ``repeated`` counts those whose id the source had
    again with other content at the same time: the last one landed. ``cursor`` and ``watermark``
    are those of the batch that landed: after a crash the source may offer more under the same
    number, and the loop goes on from here.
    """

    number: int
    rows: int
    labels: int
    cursor: str
    digest: str
    duplicates: int = 0
    corrections: int = 0
    revised: int = 0
    relabelled: int = 0
    late: int = 0
    lost: tuple[str, ...] = ()
    retyped: dict[str, str] = {}
    drawn: int = 0
    explored: int = 0
    repeated: int = 0
    from_: datetime | None = None
    to: datetime | None = None
    watermark: datetime | None = None

    def placed(self, rows: pl.DataFrame, before: Landed | None, repeated: int = 0) -> Landed:
        """Return what landed with what its rows say: from when to when, how many late, how many drawn."""
        times, watermark = rows.get_column(TIME), None if before is None else before.watermark
        passed = rows.get_column(PASSED) if PASSED in rows.columns else None
        return msgspec.structs.replace(
            self,
            drawn=0 if passed is None else passed.len() - passed.null_count(),
            explored=0 if passed is None else int(passed.sum()),
            repeated=repeated,
            late=0 if watermark is None else border(times, watermark, "left"),
            from_=times[0] if times.len() else None,
            to=times[-1] if times.len() else None,
            watermark=self.watermark or watermark,
        )


class Lake(Protocol):
    """Where rows, labels and predictions are kept; everything is asked as of a moment."""

    def land(self, batch: Batch, number: int, *, source: str = "rows") -> Landed:
        """Keep a batch under a number, exactly once: the same number again writes nothing."""

    def landed(self, number: int) -> Landed | None:
        """Return what landed under a number, or None."""

    def last(self) -> int:
        """Return the highest number that has wholly landed; 0 when none has."""

    def batches(self) -> list[int]:
        """Return the numbers that have landed, in order."""

    def batch(self, number: int) -> pl.DataFrame:
        """Return the rows that landed under a number, sorted by time and id."""

    def predict_land(self, number: int, frame: pl.DataFrame) -> None:
        """Keep the predictions for a batch, exactly once: ``_id``, ``_version``, ``_score``."""

    def scored(self, number: int, as_of: datetime) -> pl.DataFrame:
        """Return a batch with its predictions and the labels known at a moment.

        Columns ``_id``, ``_time``, ``_version``, ``_score``, ``_label``; null where missing.
        """

    def labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> pl.DataFrame:
        """Return the rows whose label was known at a moment, sorted by time and id.

        Of each id the newest version that had arrived, with its newest label; only from
        batches up to ``until_batch`` that are not ``excluded``, with an event time later
        than ``after`` and not later than ``before``. Columns ``_id``, ``_time``,
        ``_batch``, ``_label`` and the features, in one contiguous piece.
        """

    def count_labelled(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime | None = None,
        before: datetime | None = None,
    ) -> int:
        """Return how many rows ``labelled`` would return, at the price of those newer than ``after``."""

    def labels(
        self,
        *,
        as_of: datetime,
        until_batch: int,
        excluded: Collection[int] = (),
        after: datetime,
    ) -> pl.DataFrame:
        """Return the rows later than a moment that had arrived, and when their labels became known.

        Columns ``_id``, ``_time``, ``_arrived_at``, ``_label`` and ``_known_at``, of which the last
        two are null where no label was known yet, and what says whether a row passed; sorted by
        time. Each id once: of a row that came again its first version, and of a label its first.
        """

    def problems(self) -> list[str]:
        """Return what is wrong with what is stored, one sentence each."""
