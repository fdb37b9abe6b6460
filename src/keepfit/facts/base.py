"""The base of every kind of fact."""

from __future__ import annotations

import msgspec


class Fact(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str, omit_defaults=True
):
    """Something that happened; the base of every kind."""

    @property
    def kind(self) -> str:
        """The name of the kind."""
        return type(self).__name__
