"""The verbs that only look: status, why, log, diff and reproduce."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from keepfit import terminal
from keepfit.cli.finding import known, load
from keepfit.cli.words import FAILED, File, Home, Json, Name, OfFile, Past, answer, verb


@verb
def status(
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    past: Past = False,
    as_json: Json = False,
) -> None:
    """Show one screen: champion, data, last decision, next."""
    from keepfit.clock import WallClock
    from keepfit.ledger.steps import steps_of
    from keepfit.results import Status

    with known(home, pipeline, file=file, past=past) as found:
        now = None if found.past else WallClock().now()
        steps = steps_of(found.ledger, found.name)
        answer(Status.of(found.name, found.state(), now, steps), as_json=as_json)


@verb
def why(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION", help="v3, champion, previous; the last decision without one."
        ),
    ] = None,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    past: Past = False,
    as_json: Json = False,
) -> None:
    """Show the facts behind a version, or behind the last decision."""
    from keepfit.registry import State
    from keepfit.results import Why

    with known(home, pipeline, file=file, past=past) as found:
        facts = found.facts()
        told = Why.of(found.name, State().fold(facts), version, facts)
        if found.past and told.state == "refused":
            told = replace(told, hint=None)  # nobody promotes what lived in a backtest
        answer(told, as_json=as_json)


@verb
def log(
    since: Annotated[
        str | None, typer.Option("--since", help="From this date on: 2024-01-31.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Only facts of this kind; may be repeated.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", help="At most so many.", min=1)
    ] = None,
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    past: Past = False,
    as_json: Json = False,
) -> None:
    """Show the facts, newest first."""
    from keepfit.results import Log
    from keepfit.results.log import record

    with known(home, pipeline, file=file, past=past) as found:
        shown = Log.of(found.name, found.facts(), since=since, kinds=kind or (), limit=limit)
    if not as_json:
        terminal.show(repr(shown))
        return
    for entry in shown:
        terminal.data(record(entry))


@verb
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A version or an alias: v2, champion.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    file: OfFile = None,
    home: Home = None,
    pipeline: Name = None,
    past: Past = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two versions."""
    from keepfit.results import Diff

    with known(home, pipeline, file=file, past=past) as found:
        answer(Diff.of(found.state(), a, b), as_json=as_json)


@verb
def reproduce(
    file: File,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A version or an alias: v2, champion.")
    ] = "champion",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train a version again from its record, and compare."""
    pipeline = load(file, home)
    try:
        told = pipeline.reproduce(version)
        answer(told, as_json=as_json)
    finally:
        pipeline.close()
    if not told.reproduced:
        raise typer.Exit(FAILED)
