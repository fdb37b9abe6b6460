"""Labels that what served did not know: how many came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REMEMBERED = 100
"""Labels that are counted at most: those of most rows."""


def counted(
    known: Mapping[str, Sequence[int]], came: Mapping[str, int], rows: int
) -> dict[str, list[int]]:
    """Return by label the rows that had it, and all labelled rows since the first of them.

    Parameters
    ----------
    known
        The same before one more batch was scored.
    came
        The labels of that batch which its model did not know, and how many of each.
    rows
        The labelled rows of that batch.

    Examples
    --------
    >>> counted({"7": [1, 500]}, {"8": 2}, 100)
    {'7': [1, 600], '8': [2, 100]}
    """
    found = {label: [n + came.get(label, 0), total + rows] for label, (n, total) in known.items()}
    found |= {label: [n, rows] for label, n in came.items() if label not in known}
    if len(found) <= REMEMBERED:
        return found
    most = sorted(found, key=lambda label: found[label][0], reverse=True)[:REMEMBERED]
    return {label: found[label] for label in most}
