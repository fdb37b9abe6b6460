"""A verb's words on the command line: the pipeline's file may stand before the others or after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from keepfit.cli.finding import named

_OPTION = "--file"


class Command(TyperCommand):
    """A verb, which takes the pipeline's file before its other words or after them.

    One that knows ``--file`` takes it also as a word.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left over, once options and arguments are read."""
        place = self._file(args) if self._takes_file or self._begins_with_file else None
        if place is not None:
            option = [_OPTION] if self._takes_file else []
            args = [*option, args[place], *args[:place], *args[place + 1 :]]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the line that says how the verb is used."""
        options, *arguments = super().collect_usage_pieces(ctx)
        return [options, *(["[FILE]"] if self._takes_file else []), *arguments]

    @property
    def _takes_file(self) -> bool:
        return any(_OPTION in param.opts for param in self.params)

    @property
    def _begins_with_file(self) -> bool:
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        return bool(arguments) and arguments[0].name == "file"

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
