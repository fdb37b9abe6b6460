"""The reference that batches are measured against: fitted once, stored, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from keepfit.batch import RESERVED
from keepfit.drift.came import Came
from keepfit.drift.reader import Rulers
from keepfit.drift.reading import as_frame, in_parts, whole
from keepfit.drift.report import SHOWN, DriftReport, Measured
from keepfit.drift.rulers import Reading, Ruler
from keepfit.drift.statistics import spending
from keepfit.drift.univariate import Columns
from keepfit.errors import ConfigError
from keepfit.profile import Profile

if TYPE_CHECKING:
    import polars as pl

    from keepfit.protocols import Detector


Part = TypeVar("Part")

_JUDGE = Columns()
"""The default detector, whose verdicts a report gives."""

SHORT = 20_000
"""Rows up to which a batch is measured at every second point: its sampling noise is greater."""


class Reference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """What rows looked like: all that a batch is compared with, and none of the rows.

    ``profile`` describes the columns; ``parts`` holds what detectors that look at several
    columns together keep, by the detector's name.

    Examples
    --------
    >>> import polars as pl
    >>> reference = Reference.fit(pl.DataFrame({"age": range(1000)}))
    >>> reference.check(pl.DataFrame({"age": range(500, 1500)}))
    1 of 1 columns drifted: age (KS 0.50, limit 0.19); 1,000 rows against 1,000
    """

    profile: Profile
    parts: dict[str, bytes] = {}

    def __repr__(self) -> str:
        names = self.profile.names
        said = f"reference of {self.rows:,} rows, {len(names)} columns: {', '.join(names[:SHOWN])}"
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        kept = f"; kept by {', '.join(self.parts)}" if self.parts else ""
        return f"{said}{more}{kept}" if names else f"reference of {self.rows:,} rows, no column"

    @classmethod
    def fit(
        cls,
        rows: Any,
        *,
        detectors: Sequence[Detector] = (),
        every: timedelta | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Reference:
        """Describe rows, so that later ones can be measured against them.

        Parameters
        ----------
        rows
            A Polars, pandas or Arrow table in memory; or, read in parts of which one is in
            memory at a time, a Polars LazyFrame, the path of Parquet files (a file, a folder
            or a glob), of a Delta table, or an iterator of tables.
        detectors
            Detectors that look at several columns together; each keeps its part. Of rows
            read in parts they see the first.
        every, weights
            The length of a batch, and how much each column counts: what detectors that
            promise a rate of alarms are calibrated with.

        Raises
        ------
        ConfigError
            The rows are no table, or a path at which there is none.
        SourceError
            What is at the path is no Parquet.
        """
        first: pl.DataFrame | None = None
        if whole(rows):
            first = as_frame(rows)
            profile = Profile.of(first)
        else:
            parts = in_parts(rows)
            first = next(parts, None)
            if first is None:
                raise ConfigError("expected rows to make a reference of, got none")
            profile = Profile.of_parts(chain([first], parts))
        kept = {one.name: one.fit(first) for one in detectors if hasattr(one, "fit")}
        reference = cls(profile=profile, parts=kept)
        for one in detectors if every is not None and first.height else ():
            if hasattr(one, "calibrate"):
                kept[one.name] = one.calibrate(reference, first, every=every, weights=weights)
        return reference

    @classmethod
    def merge(cls, references: Sequence[Reference]) -> Reference:
        """Return the reference of all rows that several describe, as of many machines.

        What detectors of several columns keep cannot be merged, and is that of the first.

        Raises
        ------
        ConfigError
            There is none, or one is no reference.
        """
        if not references:
            raise ConfigError("expected references to merge, got none")
        for place, one in enumerate(references):
            if not isinstance(one, Reference):
                raise ConfigError(
                    f"expected references to merge, got {type(one).__name__} at place {place}",
                    hint="rows become one with Reference.fit(rows), bytes with Reference.loads",
                )
        merged = Profile.merge([one.profile for one in references]).trimmed()
        return cls(profile=merged, parts=references[0].parts)

    def having(self, part: str, content: bytes) -> Reference:
        """Return the reference with one part more, for what knows of it."""
        return msgspec.structs.replace(self, parts={**self.parts, part: content})

    @property
    def rows(self) -> int:
        """How many rows the reference describes."""
        return self.profile.rows

    def check(self, rows: Any) -> DriftReport:
        """Measure how far rows have moved from the reference, column by column.

        Raises
        ------
        ConfigError
            The rows are no table, or a path at which there is none.
        """
        if whole(rows):
            frame = as_frame(rows)
            readings, columns, count = self.read(frame), frame.columns, frame.height
        else:
            profile = Profile.of_parts(in_parts(rows))
            readings, columns, count = self._rulers.beside(profile), profile.names, profile.rows
        new = [name for name in columns if name not in self._rulers and name not in RESERVED]
        if not count or not self.rows:
            readings = []
        return self._report(readings, count, tuple(new))

    def read(self, rows: pl.DataFrame | Came, *, brief: bool = False) -> list[Reading]:
        """Return every column of a batch beside the reference's, with all statistics.

        With ``brief``, of numbers with no more than the Kolmogorov-Smirnov distance: what the
        default detectors ask for.
        """
        came = rows if isinstance(rows, Came) else Came(rows)
        known = self.__dict__.get("_latest")
        if known is not None and known[0] is came.rows and (brief or not known[2]):
            readings: list[Reading] = known[1]
            return readings
        rulers = self._short_rulers if came.height <= SHORT else self._rulers
        readings = rulers.read(came, brief=brief)
        # Several detectors read the same batch: it is measured once.
        self.__dict__["_latest"] = came.rows, readings, brief
        return readings

    def opened(self, part: str, kind: type[Part]) -> Part | None:
        """Return what a detector keeps, opened; None where it keeps nothing. It is opened once."""
        content = self.parts.get(part)
        if content is None:
            return None
        opened: dict[str, tuple[bytes, Part]] = self.__dict__.setdefault("_opened", {})
        if part not in opened or opened[part][0] is not content:
            opened[part] = content, msgspec.msgpack.decode(content, type=kind)
        return opened[part][1]

    def ruler(self, column: str) -> Ruler:
        """Return what a column of the reference is measured with."""
        return self._rulers[column]

    def dumps(self) -> bytes:
        """Return the reference as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def loads(cls, content: bytes) -> Reference:
        """Return the reference that bytes hold.

        Raises
        ------
        ConfigError
            They are not what `dumps` returned.
        """
        try:
            return msgspec.msgpack.decode(content, type=cls)
        except (msgspec.MsgspecError, TypeError) as error:
            raise ConfigError(
                f"expected the bytes of a reference, got others: {error}",
                hint="Reference.dumps() makes them",
            ) from None

    @cached_property
    def _rulers(self) -> Rulers:
        return Rulers(self.profile.columns)

    @cached_property
    def _short_rulers(self) -> Rulers:
        """Rulers with every second point, for batches whose own noise is greater than that."""
        return Rulers([column.thinned() for column in self.profile.columns])

    def _report(self, readings: Sequence[Reading], rows: int, new: tuple[str, ...]) -> DriftReport:
        noise = spending(len(readings))
        found = [_measured(one, self.ruler(one.column.name), noise) for one in readings]
        found.sort(key=lambda one: (-one.ratio, one.column))
        return DriftReport(rows=rows, reference_rows=self.rows, columns=tuple(found), new=new)


def compare(reference: Any, current: Any) -> DriftReport:
    """Measure how far rows have moved from others; `Reference` when one side stays.

    Examples
    --------
    >>> import polars as pl
    >>> compare(pl.DataFrame({"age": range(1000)}), pl.DataFrame({"age": range(1000)}))
    0 of 1 columns drifted; 1,000 rows against 1,000
    """
    return Reference.fit(reference).check(current)


def _measured(reading: Reading, ruler: Ruler, noise: float) -> Measured:
    """Return what a report says of a column: all statistics, and the verdict of the default detector."""
    verdict = _JUDGE.judge(reading, ruler, noise)
    column = reading.column
    return Measured(
        column=column.name,
        kind=column.kind,
        method=verdict.method,
        value=verdict.value,
        limit=verdict.limit,
        statistics=dict(reading.values),
        missing=reading.missing,
        missing_before=reading.missing_before,
        infinite=reading.infinite,
        error=0.0 if column.spread is None else column.spread.error + column.spread.resolution,
    )
