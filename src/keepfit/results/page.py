"""How results are laid out: a head, then titled lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import msgspec

WIDTH = 86
TITLE = 13


def rows(titled: Sequence[tuple[str, Sequence[str]]], width: int = WIDTH) -> str:
    """Return titles with their lines beside them; a line that is too long goes on below."""
    shown = []
    for title, lines in titled:
        first = title
        for line in lines:
            folded = textwrap.wrap(line, width - TITLE - 2, subsequent_indent="  ") or [""]
            for text in folded:
                shown.append(f"  {first:<{TITLE}}{text}".rstrip())
                first = ""
    return "\n".join(shown)


def day(moment: datetime | None) -> str:
    """Return a moment as a date, with the time of day where it has one."""
    if moment is None:
        return "never"
    return (
        f"{moment:%Y-%m-%d}" if moment.time() == datetime.min.time() else f"{moment:%Y-%m-%d %H:%M}"
    )


def span(first: datetime | None, last: datetime | None) -> str:
    """Return two moments with an arrow between them."""
    return f"{day(first)} → {day(last)}"


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.value if isinstance(value, Enum) else value
