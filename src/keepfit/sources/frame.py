"""Rows in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from keepfit.batch import digest, from_pandas
from keepfit.errors import ConfigError
from keepfit.facts import Finding
from keepfit.sources.place import Place
from keepfit.sources.windows import Mark, Windows, said

if TYPE_CHECKING:
    import polars as pl


class Frame(Windows):
    """Rows in memory: a Polars, pandas or Arrow table. Arguments are those of `Parquet`.

    Examples
    --------
    >>> import polars as pl
    >>> Frame(pl.DataFrame({"seen_at": [], "churned": []}), time="seen_at", label="churned")
    Frame(0 rows, time='seen_at', label='churned')
    """

    def __init__(
        self,
        frame: Any,
        *,
        time: str,
        label: str | None = None,
        id: str | None = None,
        label_delay: str | timedelta | None = None,
        known_at: str | None = None,
        arrived_at: str | None = None,
    ) -> None:
        super().__init__(
            time=time,
            label=label,
            id=id,
            label_delay=label_delay,
            known_at=known_at,
            arrived_at=arrived_at,
        )
        self._frame = _polars(frame)
        self._mark: Mark | None = None

    def __repr__(self) -> str:
        return f"Frame({self._frame.height:,} rows, {said(self.roles)})"

    def _marks(self, told: list[Finding]) -> dict[str, Mark]:
        if self._frame.is_empty():
            return {}
        if self._mark is None:
            # A process that comes later may hold as many rows, and others.
            self._mark = Mark(digest(self._frame))
        return {"the frame": self._mark}

    def _nothing(self, place: Place) -> str | None:
        return "the frame has no rows"

    def _load(self, name: str, told: list[Finding]) -> pl.DataFrame:
        return self._frame


def _polars(frame: Any) -> pl.DataFrame:
    import polars as pl

    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if hasattr(frame, "iloc"):
        return from_pandas(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise ConfigError(
        f"expected a Polars, pandas or Arrow table, got {type(frame).__name__}",
        hint="files are read by sources.Parquet and sources.Csv",
    )
