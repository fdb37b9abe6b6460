"""A verb's words on the command line: those that look at a home may be told its pipeline's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from keepfit.cli.finding import named

_OPTION = "--file"


class Command(TyperCommand):
    """A verb. One that knows ``--file`` takes the file also as a word, before others or after them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left over, once options and arguments are read."""
        place = self._file(args) if self._takes_file else None
        if place is not None:
            args = [_OPTION, args[place], *args[:place], *args[place + 1 :]]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the line that says how the verb is used."""
        options, *arguments = super().collect_usage_pieces(ctx)
        return [options, *(["[FILE]"] if self._takes_file else []), *arguments]

    @property
    def _takes_file(self) -> bool:
        return any(_OPTION in param.opts for param in self.params)

    def _file(self, args: Sequence[str]) -> int | None:
        """Return at which place a word that is no option is a file of Python."""
        valued = {name for param in self.params if not _is_flag(param) for name in param.opts}
        place = 0
        while place < len(args):
            if args[place].startswith("-"):
                place += 2 if args[place] in valued else 1
            elif named(args[place])[0].suffix == ".py":
                return place
            else:
                place += 1
        return None


def _is_flag(param: Any) -> bool:
    return bool(getattr(param, "is_flag", False) or getattr(param, "count", False))
