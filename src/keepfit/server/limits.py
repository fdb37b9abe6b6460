"""How much may come in one request."""

from __future__ import annotations

from keepfit.errors import TooLarge

MOST_ROWS = 10_000
"""Rows of one request."""


def few(count: int) -> None:
    """Raise where there are more rows than a request may hold, before they are made.

    Raises
    ------
    TooLarge
        There are.
    """
    if count > MOST_ROWS:
        raise TooLarge(
            f"expected at most {MOST_ROWS:,} in a request, got {count:,}",
            hint="send them in several requests",
        )
