"""The text of a model of LightGBM, taken apart at the values of its leaves and put together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SIZES = re.compile(r"^tree_sizes=.*$", re.MULTILINE)
_TREE = "\nTree="
_VALUES = "\nleaf_value="
_FRAMES = len(_TREE + _VALUES)
_SPACES = bytes.maketrans(b",]", b" \n")
"""What makes JSON's lists of lists, without what opens them, lines: each begins with a space."""


class Trees:
    """Trees without the values of their leaves: what models share of which one learnt from another.

    ``head`` and ``tail`` are what stands before and behind the trees, ``parts`` each tree's text
    before and behind its values.
    """

    def __init__(self, head: str, parts: Sequence[tuple[str, str]], tail: str) -> None:
        self.head = head
        self.parts = parts
        self.tail = tail

    @classmethod
    def apart(cls, text: str) -> tuple[Trees, list[str]]:
        """Return trees, and the line of values of each."""
        head, *trees = text.split(_TREE)
        trees[-1], _, tail = trees[-1].partition("\nend of trees")
        parts, lines = [], []
        for tree in trees:
            before, _, rest = tree.partition(_VALUES)
            line, end, after = rest.partition("\n")
            parts.append((before, end + after))
            lines.append(line.strip())
        return cls(_SIZES.sub("tree_sizes=", head), parts, tail), lines

    @cached_property
    def key(self) -> str:
        """All there is of them, which tells them from other trees."""
        return "\n".join((self.head, *map("\n".join, self.parts), self.tail))

    def groups(self, size: int) -> list[Trees]:
        """Return the trees in groups of at most so many."""
        if len(self.parts) <= size:
            return [self]
        starts = range(0, len(self.parts), size)
        return [Trees(self.head, self.parts[at : at + size], self.tail) for at in starts]

    def written(self, values: Sequence[Floats]) -> str:
        """Return the text of a model whose leaves have values, tree by tree."""
        listed = msgspec.json.encode([one.tolist() for one in values])
        lines = listed.translate(_SPACES, b"[").decode()[:-2].split("\n ")
        sizes: list[str] = []
        pieces: list[str] = []
        for (before, after), line in zip(self.parts, lines, strict=True):
            sizes.append(str(_FRAMES + len(before) + len(line) + len(after)))
            pieces += (_TREE, before, _VALUES, line, after)
        head = self.head.replace("tree_sizes=", "tree_sizes=" + " ".join(sizes), 1)
        return "".join((head, *pieces, "\nend of trees", self.tail))

    def lines(self, name: str) -> list[str]:
        """Return a line of each tree; an empty one where a tree does not have it."""
        found = [tree.get(name) for tree in self._before]
        if None in found:
            # What is not there comes behind the leaves, or not at all.
            pairs = zip(found, self._after, strict=True)
            found = [tree.get(name, "") if one is None else one for one, tree in pairs]
        return [(one or "").strip() for one in found]

    def numbers(self, name: str) -> list[Floats]:
        """Return the numbers on a line of each tree; none where a tree does not have it.

        Raises
        ------
        msgspec.MsgspecError
            One is no number.
        """
        lines = self.lines(name)
        return split(read(lines), [line.count(" ") + 1 if line else 0 for line in lines])

    def gains(self, columns: int) -> Floats:
        """Return the gain of all splits by column, as LightGBM adds it up, without reading trees.

        Raises
        ------
        msgspec.MsgspecError
            One is no number.
        """
        asked = read(self.lines("split_feature")).astype(np.int64)
        gain = read(self.lines("split_gain")).astype(np.float32).astype(np.float64)
        return np.bincount(asked, np.maximum(gain, 0.0), columns).astype(np.float64)

    @cached_property
    def _before(self) -> list[dict[str, str]]:
        """What stands on the lines of each tree before its leaves, by name."""
        return [_named(before) for before, _ in self.parts]

    @cached_property
    def _after(self) -> list[dict[str, str]]:
        """What stands on the lines of each tree behind its leaves, by name."""
        return [_named(after) for _, after in self.parts]


def _named(text: str) -> dict[str, str]:
    return dict([line.split("=", 1) for line in text.split("\n") if "=" in line])


def split(values: Floats, counts: Sequence[int]) -> list[Floats]:
    """Return values in parts of so many."""
    ends = np.cumsum(counts).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read(lines: Iterable[str]) -> Floats:
    """Return the numbers on lines, one after the other.

    Numbers of JSON are read and written ten times as fast as NumPy and Python do it.

    Raises
    ------
    msgspec.MsgspecError
        One is no number.
    """
    listed = " ".join(filter(None, lines)).replace(" ", ",")
    found = msgspec.json.decode(f"[{listed}]", type=list[float])
    return np.fromiter(found, np.float64, len(found))
