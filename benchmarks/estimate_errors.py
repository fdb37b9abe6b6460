"""How far estimates of a metric lie from what was realised, over chunks and over draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Judged:
    """One metric of one life: its realised value in every chunk, and what tools said it was.

    Parameters
    ----------
    truth
        The realised values, one a chunk.
    before
        The value in the reference.
    unit
        What errors are measured in.
    said
        By tool, a row a chunk: estimate, and both ends of its interval. Tools that do not
        estimate the metric are left out.
    """

    truth: np.ndarray
    before: float
    unit: float
    said: Mapping[str, np.ndarray]

    @property
    def stale(self) -> float:
        """Mean error of the reference's own value, taken for every chunk."""
        return float(np.abs(self.truth - self.before).mean()) / self.unit

    def error(self, tool: str) -> float:
        """Return the mean distance of a tool's estimates from what was realised."""
        return float(np.abs(self.said[tool][:, 0] - self.truth).mean()) / self.unit

    def inside(self, tool: str) -> float:
        """Return how often the realised value lay in a tool's interval."""
        _, low, high = self.said[tool].T
        return float(((low <= self.truth) & (self.truth <= high)).mean())

    def half(self, tool: str) -> float:
        """Return half the mean width of a tool's intervals."""
        _, low, high = self.said[tool].T
        return float((high - low).mean()) / 2 / self.unit


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, and half the width of its t interval of 95 %."""

    mean: float
    half: float

    @classmethod
    def of(cls, gaps: np.ndarray) -> Difference:
        """Return that of some differences; one alone says nothing of how sure it is."""
        if len(gaps) < 2:
            return cls(float(gaps.mean()), math.inf)
        error = gaps.std(ddof=1) / math.sqrt(len(gaps))
        return cls(float(gaps.mean()), float(stats.t.ppf(0.975, len(gaps) - 1) * error))

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return abs(self.mean) > self.half

    def __str__(self) -> str:
        return f"{self.mean:+.5f}" + (f" ±{self.half:.5f}" if math.isfinite(self.half) else "")


@dataclass(frozen=True)
class Line:
    """One metric of a stream, in every draw of it; chunks are as many in each."""

    stream: str
    metric: str
    chunk: int
    draws: Sequence[Judged]

    def about(self) -> list[str]:
        """Return the cells before those of tools."""
        return [
            self.stream,
            self.metric,
            f"{sum(len(draw.truth) for draw in self.draws)} of {self.chunk:,}",
            f"{np.mean([draw.truth.mean() for draw in self.draws]):.3f}",
            f"{np.mean([draw.stale for draw in self.draws]):.4f}",
        ]

    def error(self, tool: str) -> str:
        """Return a tool's mean error."""
        return f"{self._errors(tool).mean():.4f}" if self._knows(tool) else "–"

    def interval(self, tool: str) -> str:
        """Return how often a tool's intervals held what was realised, and half their width."""
        if not self._knows(tool):
            return ""
        inside = np.mean([draw.inside(tool) for draw in self.draws])
        return f" ({100 * inside:.0f} %, ±{np.mean([draw.half(tool) for draw in self.draws]):.3f})"

    def difference(self, tool: str, other: str) -> Difference | None:
        """Return a tool's mean error less another's, paired by draw; None where one is absent."""
        if not (self._knows(tool) and self._knows(other)):
            return None
        return Difference.of(self._errors(tool) - self._errors(other))

    def _knows(self, tool: str) -> bool:
        return all(tool in draw.said for draw in self.draws)

    def _errors(self, tool: str) -> np.ndarray:
        return np.array([draw.error(tool) for draw in self.draws])


def tally(tool: str, other: str, lines: Sequence[Line]) -> str:
    """Return in how many cells a tool is nearer than another, and in how many surely."""
    found = [line.difference(tool, other) for line in lines]
    both = [difference for difference in found if difference is not None]
    nearer = [one.sure for one in both if one.mean < 0]
    farther = [one.sure for one in both if one.mean > 0]
    return (
        f"{tool} is nearer than {other} in {len(nearer)} of {len(both)} cells "
        f"({sum(nearer)} by the interval), farther in {len(farther)} ({sum(farther)})"
    )
