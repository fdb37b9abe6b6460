"""The verb that lives a pipeline through the past, compares policies, and writes one down."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit import gates, parts, terminal
from keepfit.cli.finding import home_option, load, named, past_option
from keepfit.cli.words import File, Home, Json, Verbose, stopped, verb
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Judged, Promoted, TrainingFailed

if TYPE_CHECKING:
    from keepfit.backtest import Backtest, Compared
    from keepfit.pipeline import Pipeline


@verb
def backtest(
    file: File,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="When the first model is trained: 2024-01-31.  [default: after a tenth]"
        ),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", help="How far one step reaches: 7d.")
    ] = None,
    training_time: Annotated[
        str,
        typer.Option("--training-time", help="How long a training takes on the simulated clock."),
    ] = "0s",
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="POLICIES",
            help="`all`, or some of periodic, OnDecay, OnDrift, ADWIN, Pays: the pipeline under "
            "each, and the one to take.",
        ),
    ] = None,
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Compare with nothing.", show_default=False),
    ] = False,
    within: Annotated[
        float | None,
        typer.Option(
            "--within",
            min=0.0,
            help="With --compare: the difference of the metric that is too small to matter.  "
            "[default: 0.01, or 2 % of a loss]",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            help="With --compare: processes that play.  [default: as many as pay]",
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="With --compare: write the recommended trigger into FILE.",
            show_default=False,
        ),
    ] = False,
    home: Home = None,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Run the loop over the past, and show whether training pays."""
    if alone and compare is not None:
        raise ConfigError("expected --alone or --compare, got both")
    asked = "--write" * write or "--jobs" * (jobs is not None) or "--within" * (within is not None)
    if compare is None and asked:
        raise ConfigError(
            f"expected --compare with {asked}, got {asked} alone",
            hint="`--compare all` plays every policy that there is",
        )
    pipeline = load(file, home)
    try:
        play(
            pipeline,
            since=since,
            every=every,
            training_time=training_time,
            compare=compare or not alone,
            within=within,
            jobs=jobs,
            write=named(file)[0] if write else None,
            verbose=verbose,
            as_json=as_json,
        )
    finally:
        pipeline.close()


def play(
    pipeline: Pipeline,
    *,
    since: str | None,
    every: str | None,
    training_time: str = "0s",
    compare: bool | str = True,
    within: float | None = None,
    jobs: int | None = None,
    write: Path | None = None,
    verbose: int = 0,
    as_json: bool = False,
    again: str = "the same command",
) -> None:
    """Run a backtest on screen, and show its table; write the recommended trigger if asked to."""
    from keepfit.backtest import Compared
    from keepfit.backtest import backtest as played

    late = terminal.delay(pipeline.source.roles.label_delay)
    terminal.say(
        terminal.headline(pipeline.name, "backtest", [late] if late else []) + "\n", "head"
    )
    if any(isinstance(gate, gates.Approval) for gate in pipeline.gate):
        terminal.say("  a backtest asks nobody: what passes the rest is taken as approved\n", "dim")
    policies = {False: 1, True: 4}.get(compare, 2) if isinstance(compare, bool) else 2
    narrator = terminal.Narrator(pipeline.name, verbosity=1 + verbose, policies=policies)
    try:
        result = played(
            pipeline,
            since=since,
            every=every,
            training_time=training_time,
            compare=compare,
            within=within,
            jobs=jobs,
            listen=narrator.entry,
            progress=narrator.progress,
        )
    except KeyboardInterrupt as stop:
        narrator.close()
        terminal.say(
            f"\nstopped: every model trained so far is kept in {pipeline.home / 'backtest'}"
        )
        terminal.hint(f"{again} goes on from there, and trains none of them again")
        raise stopped(stop) from None
    finally:
        narrator.close()
    if as_json:
        told = result.to_dict()
        try:
            diff = (
                _write(pipeline, result, write) if isinstance(result, Compared) and write else None
            )
            told |= {} if diff is None else {"written": diff}
        finally:  # what was found is told, whatever becomes of the file
            terminal.data(told)
        return
    _show(pipeline, result)
    if isinstance(result, Compared) and write is not None:
        _write(pipeline, result, write)
    elif isinstance(result, Compared) and result.change is not None:
        terminal.hint("the same with --write puts the recommended trigger into the file")


def _show(pipeline: Pipeline, result: Backtest) -> None:
    terminal.say(f"\n{result.headline()}\n", "head")
    terminal.show(terminal.table(result))
    terminal.say()
    option = past_option(pipeline) + home_option(pipeline.home)
    asked = _worth_asking(pipeline)
    why = f"`keepfit why {asked}{option}` says why; " if asked else ""
    terminal.hint(f"{why}`keepfit log{option}` tells all")


def _write(pipeline: Pipeline, result: Compared, path: Path) -> dict[str, Any] | None:
    """Write the recommended trigger into the pipeline's file, and show the difference."""
    from keepfit.cli.editing import difference, replaced

    if result.recommended is None:
        terminal.say("\nnothing is written: no policy was scored", "warn")
        return None
    taken = result.standing(result.recommended)
    if taken.kind == "yours":
        terminal.say(f"\n{path} stays as it is: its own trigger is the one to take")
        return None
    if taken.code is None:
        raise ConfigError(
            f"expected a trigger that keepfit can write down, got {taken.trigger}",
            hint=f"put it into {path} by hand",
        )
    before = path.read_bytes()
    wanted = parts_to_write(pipeline, taken.code, result.age)
    after = replaced(before, pipeline.name, wanted, file=path.name)
    diff = difference(before, after, path.name)
    try:
        kept = _put(path, before, after)
    except OSError as problem:
        raise ConfigError(
            f"{path} is left as it is: {problem.strerror or problem}",
            hint=f"write {', '.join(f'{part}={code}' for part, code in wanted.items())} into it by hand",
        ) from problem
    terminal.say(f"\nwritten into {path}:\n\n{diff}\n\nas it was: {kept}")
    return {"file": str(path), "diff": diff, "before": str(kept)}


def _put(path: Path, before: bytes, after: bytes) -> Path:
    """Put a file's new content in its place, and return where it is kept as it was."""
    # Another file could take the place of a link, and of one that is not to be written.
    path = path.resolve() if path.is_symlink() else path
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is not to be written to")
    kept = _kept(path, before)
    for file, content in ((kept, before), (path, after)):
        unfinished = file.with_name(f".{file.name}.unfinished")
        unfinished.write_bytes(content)
        unfinished.chmod(path.stat().st_mode)
        unfinished.replace(file)
    return kept


def _kept(path: Path, before: bytes) -> Path:
    """Return where a file is kept as it was: beside what was kept of it before, if that differs."""
    places = (path.with_name(f"{path.name}.before{i if i > 1 else ''}") for i in count(1))
    return next(one for one in places if not one.exists() or one.read_bytes() == before)


def parts_to_write(
    pipeline: Pipeline, trigger: str, max_age: timedelta | None = None
) -> dict[str, str]:
    """Return the arguments to write, those that keep what the pipeline was played with first.

    A maximum age goes with the trigger where the pipeline has none. A gate that nobody wrote is
    another one once a trigger is written: then it is written too.
    """
    from keepfit import gates
    from keepfit.backtest.code import code_of

    written = {"trigger": trigger}
    if max_age is not None and getattr(pipeline.trigger, "max_age", None) is None:
        written["max_age"] = parts.written(max_age)
    usual = tuple(gates.resolve(None))
    if repr(pipeline.gate) != repr(usual) and len(pipeline.gate) == 1:
        gate = code_of(pipeline.gate[0])
        written |= {} if gate is None else {"gate": gate}
    return written


def _worth_asking(pipeline: Pipeline) -> str:
    """Return the version a newcomer asks about: the last refused, else the champion, or what failed."""
    from keepfit.ledger import Ledger

    kinds = ("Judged", "Promoted", "TrainingFailed")
    with Ledger(pipeline.home / "backtest" / "ledger.db") as ledger:
        found = [one.fact for one in ledger.facts(pipeline.name, kind=kinds)]
    refused = [
        one.version for one in found if isinstance(one, Judged) and one.answer == Answer.REFUSE
    ]
    failed = [one.version for one in found if isinstance(one, TrainingFailed)]
    if refused:
        return refused[-1]
    return "champion" if any(isinstance(one, Promoted) for one in found) else "".join(failed[-1:])
