"""Memory in which blocks of numbers are worked on, used again from block to block."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


PAIRS = 32_768
"""Numbers added up at once, with memory of their own."""


class Scratch:
    """What is worked out of a block of numbers, in the same memory for every block.

    It stays in a processor's cache, and no block asks the system for more. What a method
    returns holds until the next call. One thread at a time may use it.
    """

    def __init__(self) -> None:
        self._size = 0

    def _grow(self, size: int) -> None:
        import numpy as np

        if size <= self._size:
            return
        self._size = size
        self._floats = np.empty(size)
        self._whole = np.empty((2, size), dtype=np.intp)
        # Needed no more when the second row is.
        self._small = self._whole[1].view(np.int32)
        # A number, and that it is one: a sum and a count are added up together.
        self._pairs = np.full(min(size, PAIRS), 1j)

    def cells(
        self, numbers: np.ndarray, low: float | np.ndarray, scale: float | np.ndarray, size: int
    ) -> np.ndarray:
        """Return which of so many even cells each number lies in.

        Those beyond, the infinite ones too, are in the outermost cells; none may be NaN.
        """
        import numpy as np

        self._grow(numbers.size)
        places = self._floats[: numbers.size].reshape(numbers.shape)
        with np.errstate(over="ignore"):
            np.subtract(numbers, low, out=places)
            places *= scale
        places.clip(0, size - 1, out=places)
        # By way of small integers, which processors make of several numbers at once.
        small = self._small[: numbers.size].reshape(numbers.shape)
        np.copyto(small, places, casting="unsafe")
        cells = self._whole[0, : numbers.size].reshape(numbers.shape)
        np.copyto(cells, small)
        return cells

    def taken(self, table: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the entries of a table of floats or integers at places."""
        self._grow(places.size)
        kept = self._floats if table.dtype.kind == "f" else self._whole[1]
        out = kept[: places.size].reshape(places.shape)
        return table.take(places, out=out, mode="clip")

    def add(self, totals: np.ndarray, places: np.ndarray, numbers: np.ndarray) -> None:
        """Add each number to the total of its place: to the real part, and 1 to the other."""
        import numpy as np

        self._grow(numbers.size)
        places, numbers = places.ravel(), numbers.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, numbers.size, PAIRS):
                some = numbers[start : start + PAIRS]
                pairs = self._pairs[: some.size]
                pairs.real = some
                np.add.at(totals, places[start : start + PAIRS], pairs)
