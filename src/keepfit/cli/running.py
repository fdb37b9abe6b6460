"""The verbs that need the pipeline's file: check, run, train and predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit import terminal
from keepfit.cli.finding import absent, beside, home_option, load
from keepfit.cli.words import (
    BLOCKED,
    FAILED,
    REFUSED,
    File,
    Home,
    Json,
    Verbose,
    answer,
    stopped,
    verb,
)
from keepfit.errors import ConfigError, NoChampion, VersionUnknown
from keepfit.facts import Answer, Judged, Promoted, TrainingFailed

if TYPE_CHECKING:
    import polars as pl

    from keepfit.facts import Entry
    from keepfit.loop import Step
    from keepfit.pipeline import Pipeline
    from keepfit.predictor import Predictor


@contextmanager
def _closing(pipeline: Pipeline) -> Iterator[Pipeline]:
    try:
        yield pipeline
    finally:
        pipeline.close()


# Check ----------------------------------------------------------------------------------


@verb
def check(
    file: File,
    batch: Annotated[
        int | None,
        typer.Argument(
            metavar="BATCH", help="With --accept: which batch; the newest one held without it."
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Let a quarantined batch in.", show_default=False)
    ] = False,
    accept_schema: Annotated[
        bool,
        typer.Option(
            "--accept-schema",
            help="Let changed columns in, from the next batch on.",
            show_default=False,
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why a batch is let in; it is kept.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say what the next batch holds, and what a step would do."""
    accepting = accept or accept_schema
    if batch is not None and not accept:
        raise ConfigError(f"expected --accept with a batch, got batch {batch} alone")
    if accepting and not reason:
        raise ConfigError(
            "expected --reason with --accept, got none",
            hint='say why: --reason "the carrier was renamed"',
        )
    with _closing(load(file, home)) as pipeline:
        if accepting:
            _accept(pipeline, batch, str(reason), schema=accept_schema, as_json=as_json)
        else:
            _check(pipeline, as_json=as_json)


def _accept(
    pipeline: Pipeline, batch: int | None, reason: str, *, schema: bool, as_json: bool
) -> None:
    from keepfit.results.log import record

    pipeline.accept(batch, reason=reason, schema=schema)
    entry = _newest(pipeline, "Overridden")
    _told([entry])
    terminal.hint("it counts from the next step on: `keepfit run FILE --once` takes it")
    if as_json:
        terminal.data(record(entry))


def _newest(pipeline: Pipeline, kind: str) -> Entry:
    return pipeline.loop().memory.ledger.facts(
        pipeline.name, kind=kind, limit=1, newest_first=True
    )[0]


def _told(entries: Sequence[Entry]) -> None:
    from keepfit.results import Story

    for line in Story().lines(entries):
        terminal.say(terminal.laid_out(line, minutes=True))


def _check(pipeline: Pipeline, *, as_json: bool) -> None:
    checked = pipeline.check()
    answer(checked, as_json=as_json)
    if checked.blocked:
        raise typer.Exit(BLOCKED)


# Run ------------------------------------------------------------------------------------


@verb
def run(
    file: File,
    once: Annotated[
        bool, typer.Option("--once", help="Work off what is waiting, then end.", show_default=False)
    ] = False,
    poll: Annotated[
        str, typer.Option("--poll", help="How long to wait when nothing was new.")
    ] = "1min",
    home: Home = None,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Run the live loop."""
    with _closing(load(file, home)) as pipeline:
        late = terminal.delay(pipeline.source.roles.label_delay)
        details = [part for part in (late, f"home {pipeline.home}") if part]
        terminal.say(terminal.headline(pipeline.name, "run", details) + "\n", "head")
        _live(pipeline, once=once, poll=poll, verbose=verbose, as_json=as_json)
        if once and _blocked(pipeline):
            terminal.hint(f"`keepfit check {file} --accept --reason …` lets the newest batch in")
            raise typer.Exit(BLOCKED)


def _live(pipeline: Pipeline, *, once: bool, poll: str, verbose: int, as_json: bool) -> None:
    from keepfit.alerts import telling
    from keepfit.mirror import mirroring

    narrator = terminal.Narrator(
        pipeline.name, patience=2.0, minutes=True, verbosity=1 + verbose, as_json=as_json
    )
    for entry in pipeline.loop().memory.ledger.facts(pipeline.name):
        narrator.recall(entry)
    try:
        with telling(pipeline), mirroring(pipeline, _warned):
            last = pipeline.run(once=True, poll=poll, listen=narrator.entry)
            narrator.rest()
            _rested(last, narrator.told)
            if not once:
                terminal.say(f"  looks for more every {poll}; Ctrl-C ends it", "dim")
                pipeline.run(poll=poll, listen=narrator.entry)
    except KeyboardInterrupt as stop:
        narrator.close()
        terminal.say("\nstopped between two facts; the same command goes on from the last one")
        raise stopped(stop) from None
    finally:
        narrator.close()


def _warned(said: str) -> None:
    terminal.say(f"  {said}", "warn")


def _rested(last: Step, told: int) -> None:
    """Say why there is nothing to do: another process is at it, or the source has no more."""
    from keepfit.results.checked import outcome

    if last.held_by:
        # Not a failure: what waits is worked off, as of two schedules that overlap.
        terminal.say(f"  left to another process: {last.held_by}", "warn")
    elif not told:
        terminal.say("  nothing new")
    for finding in last.findings:
        terminal.say(outcome(finding), "warn")


def _blocked(pipeline: Pipeline) -> bool:
    state = pipeline.loop().state
    return state.batch in state.excluded


# Train ----------------------------------------------------------------------------------


@verb
def train(
    file: File,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train the challengers now; the gate still judges."""
    from keepfit.results.log import record

    with _closing(load(file, home)) as pipeline:
        step = pipeline.train(reason=reason)
        _told(step.entries)
        if as_json:
            terminal.data(
                {"pipeline": pipeline.name, "facts": [record(entry) for entry in step.entries]}
            )
        _trained_status(step.entries)


def _trained_status(entries: Sequence[Entry]) -> None:
    said = [entry.fact for entry in entries]
    if any(isinstance(fact, Promoted) for fact in said):
        return
    judged = [fact.answer for fact in said if isinstance(fact, Judged)]
    if judged and all(one == Answer.REFUSE for one in judged):
        raise typer.Exit(REFUSED)
    if not judged and any(isinstance(fact, TrainingFailed) for fact in said):
        raise typer.Exit(FAILED)


# Predict --------------------------------------------------------------------------------


@verb
def predict(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="churn.py, or churn@champion, churn@v3 with --home."),
    ],
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS", help="A table: .parquet, .csv or .jsonl.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="Where the predictions go: .parquet, .csv or .jsonl.  [default: CSV to stdout]",
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Score a table with the champion."""
    from keepfit.predictor import load as loaded

    id_: str | None = None
    if file.endswith(".py") or ".py:" in file:
        pipeline = load(file, home)
        predictor, id_ = _champion(pipeline, file), pipeline.source.roles.id
    else:
        predictor = loaded(file, home=home)
    table = _read(rows)
    answered = predictor.predict(table)
    if id_ is not None and id_ in table.columns:
        answered = table.select(id_).hstack(answered)
    if to is None:
        terminal.show((answered.write_ndjson() if as_json else answered.write_csv()).rstrip("\n"))
        return
    _write(answered, to)
    terminal.say(f"{predictor!r} scored {answered.height:,} rows into {to}")
    if as_json:
        terminal.data(
            {
                "pipeline": predictor.pipeline,
                "version": predictor.version.name,
                "rows": answered.height,
                "to": str(to),
            }
        )


def _champion(pipeline: Pipeline, file: str) -> Predictor:
    from keepfit.predictor import load as loaded

    try:
        if pipeline.home.is_dir():
            return loaded(pipeline.name, home=pipeline.home)
    except (NoChampion, VersionUnknown):  # it has not run, or not trained yet
        pass
    raise NoChampion(
        f"{pipeline.name!r} has no champion to serve in {pipeline.home}",
        hint=f"`keepfit run {file}{home_option(pipeline.home)}` trains the first one",
    )


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    from keepfit.errors import SourceError

    readers: dict[str, Any] = {
        ".parquet": pl.read_parquet,
        ".csv": lambda file: pl.read_csv(file, try_parse_dates=True, infer_schema_length=None),
        ".jsonl": pl.read_ndjson,
    }
    reader = _by_suffix(readers, path)
    if not path.is_file():
        near = beside(path, f"*{path.suffix}")
        raise ConfigError(
            f"expected a table of rows, got {str(path)!r}, {absent(path)}",
            hint=f"the nearest is {near}" if near else None,
        )
    try:
        table: pl.DataFrame = reader(path)
    except (pl.exceptions.PolarsError, OSError) as problem:
        raise SourceError(f"{path} cannot be read: {str(problem).splitlines()[0]}") from problem
    return table


def _write(frame: pl.DataFrame, path: Path) -> None:
    writers = {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
    }
    writer: Any = _by_suffix(writers, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    writer(unfinished)
    unfinished.replace(path)


def _by_suffix(known: dict[str, Any], path: Path) -> Any:
    if path.suffix.lower() not in known:
        raise ConfigError(
            f"expected a file that ends in {', '.join(known)}, got {path.name!r}",
            hint="the ending says the format",
        )
    return known[path.suffix.lower()]
