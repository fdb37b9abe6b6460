"""Matrices without gaps, for estimators that need every value, on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

ONE_HOT = 100
"""Categories per column that get a column of their own; the rest share one."""


class Dense(msgspec.Struct, frozen=True):
    """How an encoded matrix is filled, scaled and spread, learnt from the training rows.

    A missing number becomes the median. ``scale`` is ``"standard"`` (mean 0, deviation 1),
    ``"range"`` (0 to 1, for estimators that take no negative number) or ``"none"``, which
    also leaves categories as codes, for trees. Else each category gets a column of ones
    and zeros: the most frequent hundred their own, the rest one together; a missing one is
    zero in all of them.
    """

    scale: str
    numbers: tuple[int, ...]
    fill: tuple[float, ...]
    shift: tuple[float, ...]
    width: tuple[float, ...]
    spread: dict[int, tuple[int, ...]]

    @classmethod
    def learn(cls, matrix: np.ndarray, categorical: list[int], scale: str) -> Dense:
        """Learn from an encoded matrix, whose columns of codes are named by their place."""
        import numpy as np

        coded = set(categorical) if scale != "none" else set()
        numbers = tuple(i for i in range(matrix.shape[1]) if i not in coded)
        fill, shift, width = [], [], []
        for place in numbers:
            column = matrix[:, place]
            known = column[~np.isnan(column)]
            gap = -1.0 if place in categorical else _median(known)
            low, span = _spread(known, scale)
            fill.append(gap)
            shift.append(low)
            width.append(span)
        spread = {place: _frequent(matrix[:, place]) for place in sorted(coded)}
        return cls(scale, numbers, tuple(fill), tuple(shift), tuple(width), spread)

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """Return an encoded matrix without gaps, on one scale."""
        import numpy as np

        out = np.zeros((matrix.shape[0], len(self.origins())), order="F")
        parts = zip(self.numbers, self.fill, self.shift, self.width, strict=True)
        for at, (place, fill, shift, width) in enumerate(parts):
            column = matrix[:, place]
            out[:, at] = (np.where(np.isnan(column), fill, column) - shift) / width
            if self.scale == "range":
                np.clip(out[:, at], 0.0, None, out=out[:, at])
        first = len(self.numbers)
        for place, frequent in self.spread.items():
            width = _columns(frequent)
            _one_hot(matrix[:, place], frequent, out[:, first : first + width])
            first += width
        return out

    def origins(self) -> list[int]:
        """Return for each column of the result the encoded column it comes from."""
        spread = [place for place, found in self.spread.items() for _ in range(_columns(found))]
        return [*self.numbers, *spread]


def _median(known: np.ndarray) -> float:
    import numpy as np

    return float(np.median(known)) if known.size else 0.0


def _spread(known: np.ndarray, scale: str) -> tuple[float, float]:
    """Return what to take away from a column and what to divide it by."""
    if scale == "none" or not known.size:
        return 0.0, 1.0
    if scale == "range":
        low, span = float(known.min()), float(known.max() - known.min())
    else:
        low, span = float(known.mean()), float(known.std())
    # A constant column may have a deviation of rounding errors alone.
    return low, span if span > 1e-12 * max(1.0, abs(low)) else 1.0


def _frequent(column: np.ndarray) -> tuple[int, ...]:
    import numpy as np

    counts = np.bincount(column[~np.isnan(column)].astype(np.int64))
    order = np.argsort(-counts, kind="stable")[:ONE_HOT]
    return tuple(int(code) for code in order if counts[code])


def _columns(frequent: tuple[int, ...]) -> int:
    """Return how many columns a category is spread over: one more where there is a rest."""
    return len(frequent) + (len(frequent) == ONE_HOT)


def _one_hot(column: np.ndarray, frequent: tuple[int, ...], out: np.ndarray) -> None:
    """Write ones into a block of zeros: a column per frequent code, then one for the rest."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(column))
    if not known.size:
        return
    code = column[known].astype(np.int64)
    slots = np.full(max(int(code.max()), *frequent) + 1, ONE_HOT)
    slots[list(frequent)] = np.arange(len(frequent))
    out[known, slots[code]] = 1.0
