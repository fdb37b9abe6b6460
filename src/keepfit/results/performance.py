"""How what serves does: over the newest batches that have rows enough to tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.results import page
from keepfit.results.sentences import counted, mean, metric

if TYPE_CHECKING:
    from keepfit.registry import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A metric over the newest batches, each by its rows, with its interval.

    A single batch, where it has 500 rows; else as many before it as have these together.
    ``versions`` are those that answered, the newest last.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    batches: int
    versions: tuple[str, ...]
    to: datetime | None

    @classmethod
    def of(cls, state: State) -> Performance | None:
        """Return what the newest batches show; None before the first that has a value."""
        if not state.recent:
            return None
        newest = state.recent[-1]
        value, low, high = mean(state.recent)
        return cls(
            metric=newest.metric,
            value=value,
            low=low,
            high=high,
            n=sum(one.n for one in state.recent),
            batches=len(state.recent),
            versions=tuple(dict.fromkeys(one.version for one in state.recent)),
            to=newest.to,
        )

    def lines(self) -> list[str]:
        """Return it as `keepfit status` shows it."""
        first, last = self.versions[0], self.versions[-1]
        who = last if first == last else f"{first} to {last}"
        rows = counted(self.n, "row")
        rows += f" in {self.batches} batches" if self.batches > 1 else ""
        value = metric(self.metric, self.value, self.low, self.high)
        return [f"{value}, {who} on {rows} to {page.day(self.to)}"]
