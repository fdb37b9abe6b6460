"""What a version took over from the model it started from, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keepfit.results.sentences import counted

if TYPE_CHECKING:
    from keepfit.registry import Version

SHOWN = 4
"""Names listed in one line; the fact has all of them."""


def told(version: Version) -> list[str]:
    """Return in lines what was taken over and what is new; none where nothing is to be told."""
    done, donor = version.transferred, version.donor
    if done is None:
        return []
    if donor is None:
        return list(done.parts)
    share = "" if done.share is None else f", {done.share:.0%} of this model is its"
    lines = [f"{counted(len(done.columns), 'column')} of {donor.pipeline} matched{share}"]
    lists = {
        "new columns": done.new_columns,
        "columns left out": done.unused,
        "columns that are not here": done.gone_columns,
        "new categories": [f"{name} {count:,}" for name, count in done.categories.items()],
    }
    lines += [f"{what}: {listed(names)}" for what, names in lists.items() if names]
    return lines + [_shortened(part) for part in done.parts]


def listed(names: Sequence[str]) -> str:
    """Return names in one line, the first of many."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _shortened(part: str) -> str:
    """Return how a network's weights fared, the names of many in one line."""
    how, colon, names = part.partition(": ")
    return f"{how}: {listed(names.split(', '))}" if colon else part
