"""The human hand: promote, approve, pause and others; all of them want a reason and keep it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from keepfit import terminal
from keepfit.cli.finding import live_only
from keepfit.cli.words import Home, Json, Name, OfFile, Reason, verb

if TYPE_CHECKING:
    from keepfit.loop import Loop
    from keepfit.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A pipeline of which only the ledger is at hand: enough for what needs no file."""

    name: str
    source: Any = None
    every: Any = None
    metric: Any = None


@contextmanager
def _loop(
    home: Path | None, pipeline: str | None, *, file: str | None, as_json: bool
) -> Iterator[Loop]:
    """Open a loop that can be steered but not stepped, and tell what was done."""
    from keepfit.clock import WallClock
    from keepfit.home import open_memory
    from keepfit.loop import Loop
    from keepfit.results import Story

    folder, name = live_only(home, pipeline, file=file)
    memory = open_memory(folder, name)
    story = Story()
    try:
        loop = Loop(cast("Pipeline", _Remembered(name)), memory, WallClock())
        story.lines(memory.ledger.facts(name))
        loop.listen = lambda entry: terminal.say(terminal.laid_out(story.line(entry), minutes=True))
        yield loop
        if as_json:
            state = loop.refold()
            terminal.data(
                {
                    "pipeline": name,
                    "champion": state.champion,
                    "previous": state.previous,
                    "paused": state.paused,
                    "seq": state.seq,
                }
            )
    finally:
        memory.close()


@verb
def promote(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="v3, or challenger.")],
    reason: Reason,
    force: Annotated[
        bool, typer.Option("--force", help="Also when its gate refused it.", show_default=False)
    ] = False,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).promote(version, force=force)


@verb
def approve(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="v3, or challenger.")],
    reason: Reason,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """Let a version go on that waits for a person."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).approve(version)


@verb
def refuse(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="v3, or challenger.")],
    reason: Reason,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """Refuse a version that waits for a person."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).refuse(version)


@verb
def rollback(
    reason: Reason,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """Take back what is rolled out, or else the champion."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).rollback()


@verb
def pause(
    reason: Reason,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """Go on collecting and scoring; neither train nor promote."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).pause()


@verb
def resume(
    reason: Reason,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    as_json: Json = False,
) -> None:
    """End a pause."""
    from keepfit.hand import Hand

    with _loop(home, pipeline, file=file, as_json=as_json) as loop:
        Hand(loop, reason).resume()
