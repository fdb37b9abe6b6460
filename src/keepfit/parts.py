"""How a part of a pipeline shows itself: as the call that makes it."""

from __future__ import annotations

import json
from dataclasses import Field, fields
from datetime import timedelta
from typing import Any, ClassVar

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


class Part:
    """Base of frozen dataclasses whose text is the call that makes them.

    Arguments at their default are left out, so that two parts with the same text do the
    same; facts and snapshots keep this text.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Sliding(Part):
    ...     length: str
    ...     at_most: int | None = None
    >>> Sliding("90d"), Sliding("90d", 5)
    (Sliding("90d"), Sliding("90d", 5))
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        shown: list[str] = []
        positional = True
        for field in sorted(fields(self), key=lambda field: bool(field.kw_only)):
            value = getattr(self, field.name)
            if value == field.default:
                positional = False
            elif positional and not field.kw_only:
                shown.append(written(value))
            else:
                shown.append(f"{field.name}={written(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def name(self) -> str:
        """The part as the call that makes it."""
        return repr(self)


def written(value: Any) -> str:
    """Return a value as keepfit writes it in code: texts in double quotes, lengths as texts.

    Examples
    --------
    >>> written("zażółć"), written(timedelta(hours=36)), written(0.5)
    ('"zażółć"', '"36h"', '0.5')
    """
    if isinstance(value, timedelta):
        value = _length(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _length(length: timedelta) -> str | timedelta:
    for unit, one in _UNITS.items():
        if length and not length % one:
            return f"{length // one}{unit}"
    return length if length else "0s"
