"""What free text looks like: its lengths, its characters and its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from keepfit.profile.quantiles import Quantiles

if TYPE_CHECKING:
    import polars as pl

WORDS = 2_000
"""Words kept, the most frequent ones."""

READ = 50_000
"""Values whose characters and words are counted; of more, a share chosen by their hash."""

CLASSES = {
    "letters": r"\p{L}",
    "capitals": r"\p{Lu}",
    "digits": r"\p{N}",
    "spaces": r"\s",
    "punctuation": r"\p{P}",
}
"""Classes of characters; what is in none of them is counted by the length."""

_LOOKED_AT = 1_000
"""Values by which a column is taken for free text or not."""

_LEAST = 20
"""Values below which no column is taken for free text."""


class Text(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Free text: the lengths of its values, the classes of its characters, its words.

    ``characters`` counts each of `CLASSES`, then all characters. ``words`` holds the most
    frequent words in lower case; ``total`` counts all occurrences, ``once`` the words that
    occurred once.
    """

    lengths: Quantiles
    characters: tuple[int, ...]
    words: dict[str, int]
    total: int
    distinct: int

    @classmethod
    def of(cls, values: pl.Series) -> Text:
        """Summarise the values of a column of text; nulls are left out."""
        import numpy as np
        import polars as pl

        there = values.cast(pl.String).drop_nulls()
        lengths = np.sort(there.str.len_chars().to_numpy().astype(np.float64))
        read = _some(there)
        classes = read.to_frame("text").select(
            pl.col("text").str.count_matches(pattern).sum().alias(name)
            for name, pattern in CLASSES.items()
        )
        counted = words_of(read)
        return cls(
            lengths=Quantiles.of(lengths),
            characters=(*map(int, classes.row(0)), int(read.str.len_chars().sum())),
            words=_most(counted),
            total=sum(counted.values()),
            distinct=len(counted),
        )

    @classmethod
    def merge(cls, parts: Sequence[Text]) -> Text:
        """Return the summary of all that the parts summarise."""
        counted: Counter[str] = Counter()
        for part in parts:
            counted.update(part.words)
        return cls(
            lengths=Quantiles.merge([part.lengths for part in parts]),
            characters=tuple(
                sum(some) for some in zip(*(p.characters for p in parts), strict=True)
            ),
            words=_most(counted),
            total=sum(part.total for part in parts),
            distinct=max(len(counted), *(part.distinct for part in parts)),
        )

    @cached_property
    def tail(self) -> float:
        """The share of the next rows' words to expect outside ``words`` (Good, Turing 1953)."""
        if not self.total:
            return 0.0
        kept = sum(self.words.values())
        least = min(self.words.values()) if self.distinct > len(self.words) else 1
        on_the_edge = sum(count for count in self.words.values() if count == least)
        return (self.total - kept + on_the_edge) / self.total


def is_text(values: pl.Series, distinct: int, present: int) -> bool:
    """Return whether a column holds free text: values that hardly repeat, of several words."""
    import polars as pl

    if present < _LEAST or distinct < 0.5 * present or values.dtype != pl.String:
        return False
    some = _some(values.drop_nulls(), _LOOKED_AT)
    return bool(some.str.contains(r"\S\s+\S").sum() * 2 > some.len())


def words_of(values: pl.Series) -> dict[str, int]:
    """Return how often each word occurs, in lower case."""
    import polars as pl

    found = values.cast(pl.String).str.to_lowercase().str.extract_all(r"\w+").explode()
    counted = found.drop_nulls().value_counts(name="#")
    return dict(zip(counted.to_series(0).to_list(), counted.to_series(1).to_list(), strict=True))


def _some(values: pl.Series, most: int = READ) -> pl.Series:
    """Return at most about so many values, the same ones whatever their order."""
    if values.len() <= most:
        return values
    return values.filter(values.hash() % -(-values.len() // most) == 0)


def _most(counted: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:WORDS])
