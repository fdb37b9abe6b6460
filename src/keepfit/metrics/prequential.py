"""Prequential evaluation: predictions made first, scored when their labels come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keepfit import metrics
from keepfit.clock import duration
from keepfit.errors import ConfigError
from keepfit.metrics.base import Array, Labels

if TYPE_CHECKING:
    import polars as pl

    from keepfit.metrics import Summary
    from keepfit.protocols import Metric

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of event time, and how the scores in it did.

    Examples
    --------
    >>> start, end = datetime(2024, 1, 1), datetime(2024, 1, 2)
    >>> print(Window(from_=start, to=end, n=24, value=0.81, low=0.62, high=0.92))
    2024-01-01 00:00 → 2024-01-02 00:00  0.810 [0.620, 0.920]  24 rows
    """

    from_: datetime
    to: datetime
    n: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.from_:%Y-%m-%d %H:%M} → {self.to:%Y-%m-%d %H:%M}  "
            f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]  {self.n:,} rows"
        )


class Prequential:
    """A metric over windows of event time, for scores made before their labels were known.

    Use it on predictions that you have stored yourself; a pipeline does the same by itself.
    Labels may come late and in any order: a row counts in the window of its event time.

    Parameters
    ----------
    metric
        A name, a metric or a function, as ``metrics.get`` takes it.
    task
        ``"binary"``, ``"multiclass"`` or ``"regression"``.
    window
        Length of a window, ``"7d"``, counted from midnight UTC before the first row. None
        makes each update a window of its own.
    fading
        How much a window counts beside the next one in the running value: 1 is the mean of
        all so far, less forgets (Gama, Sebastião and Rodrigues 2013).

    Raises
    ------
    ConfigError
        The window is no duration, the metric unknown, or fading not above 0 and at most 1.

    Examples
    --------
    >>> import numpy as np
    >>> hours = np.arange("2024-01-01", "2024-01-03", dtype="datetime64[h]")
    >>> labels = np.arange(48) % 2
    >>> followed = Prequential("accuracy", window="1d")
    >>> followed.update(hours, labels, np.where(np.arange(48) < 36, labels, 1 - labels))
    >>> [window.value for window in followed.windows]
    [1.0, 0.5]
    >>> followed.summary().mean
    0.75
    """

    def __init__(
        self,
        metric: str | Metric | Callable[..., float] | None = None,
        *,
        task: str = "binary",
        window: str | timedelta | None = "7d",
        fading: float = 1.0,
    ) -> None:
        if not 0 < fading <= 1:
            raise ConfigError(f"expected fading above 0 and at most 1, got {fading!r}")
        self.metric = metrics.get(metric, task=task)
        self.window = None if window is None else duration(window)
        if self.window == timedelta(0):
            raise ConfigError(f"expected a window longer than zero, got {window!r}")
        self.fading = fading
        self._start: int | None = None
        self._rows: dict[int, list[tuple[NDArray[np.int64], Labels, Array]]] = {}
        self._scored: dict[int, Window] = {}

    def update(self, times: Any, labels: Labels, scores: Array) -> None:
        """Add rows whose labels are known.

        ``times`` are microseconds, NumPy times or datetimes, in UTC.

        Raises
        ------
        ConfigError
            Times, labels and scores differ in length.
        """
        at = _microseconds(times)
        labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        if not len(at) == len(labels) == len(scores):
            raise ConfigError(
                "expected times, labels and scores of one length, "
                f"got {len(at)}, {len(labels)} and {len(scores)}"
            )
        if not len(at):
            return
        numbers = self._numbers(at)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            self._rows.setdefault(number, []).append((at[here], labels[here], scores[here]))
            self._scored.pop(number, None)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows that have rows, oldest first."""
        for number in self._rows.keys() - self._scored.keys():
            self._scored[number] = self._score(number)
        return tuple(self._scored[number] for number in sorted(self._scored))

    @property
    def running(self) -> tuple[float, ...]:
        """The mean of the windows so far, after each of them."""
        total = weight = 0.0
        means: list[float] = []
        for window in self.windows:
            if window.value == window.value:
                total = window.value + self.fading * total
                weight = 1 + self.fading * weight
            means.append(total / weight if weight else float("nan"))
        return tuple(means)

    def summary(self, level: float = 0.95) -> Summary:
        """Return the mean of all windows; its interval respects that neighbours are alike."""
        return metrics.summary([window.value for window in self.windows], level, metric=self.metric)

    def to_frame(self) -> pl.DataFrame:
        """Return the windows as a frame."""
        import polars as pl

        time = pl.Datetime("us", "UTC")
        schema: dict[str, Any] = {"from": time, "to": time, "n": pl.Int64}
        schema |= dict.fromkeys(("value", "low", "high"), pl.Float64)
        found = self.windows
        rows = [(one.from_, one.to, one.n, one.value, one.low, one.high) for one in found]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        mean, low, high = self.summary()
        return (
            f"<Prequential {self.metric.name} {mean:.3f} [{low:.3f}, {high:.3f}] "
            f"over {len(self.windows)} windows>"
        )

    def _numbers(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.window is None:
            return np.full(len(at), len(self._rows), dtype=np.int64)
        if self._start is None:
            day = 86_400_000_000
            self._start = int(at.min()) // day * day
        return (at - self._start) // (self.window // timedelta(microseconds=1))

    def _score(self, number: int) -> Window:
        parts = self._rows[number]
        at, labels, scores = (np.concatenate([part[i] for part in parts]) for i in range(3))
        if self.window is None or self._start is None:
            first, last = _moment(int(at.min())), _moment(int(at.max()))
        else:
            first = _moment(self._start) + number * self.window
            last = first + self.window
        value = self.metric.value(labels, scores)
        low, high = self.metric.interval(labels, scores)
        return Window(from_=first, to=last, n=len(at), value=value, low=low, high=high)


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _microseconds(times: Any) -> NDArray[np.int64]:
    at = np.asarray(times)
    if at.dtype.kind == "O":
        at = np.array([(one - EPOCH) // timedelta(microseconds=1) for one in at], dtype=np.int64)
    if at.dtype.kind == "M":
        at = at.astype("datetime64[us]")
    return at.astype(np.int64)
