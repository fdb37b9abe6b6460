"""What the verbs have in common: options, exit status, and how errors are told."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from keepfit import terminal
from keepfit.errors import ConfigError, GateRefused, KeepfitError, VersionUnknown

FAILED, WRONG, BLOCKED, REFUSED = 1, 2, 3, 4
INTERRUPTED, UNREAD, TERMINATED = 130, 141, 143
"""As a shell counts them: 128 and the number of the signal."""

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="churn.py, or churn.py:churn when it holds several pipelines."
    ),
]
OfFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="Whose home and pipeline: churn.py, or churn.py:churn; also as a word of its own.",
        show_default=False,
    ),
]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of ledger, lake and artifacts.  [default: .keepfit]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.", show_default=False)]
Name = Annotated[
    str | None,
    typer.Option("--pipeline", metavar="NAME", help="Which pipeline, when the home holds several."),
]
Past = Annotated[
    bool,
    typer.Option(
        "--backtest", help="Look at the last backtest, not at the live run.", show_default=False
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Tell every fact.", show_default=False)
]

_P = ParamSpec("_P")


class Terminated(KeyboardInterrupt):
    """The process was asked to end: it stops as it does at Ctrl-C, with a status of its own."""

    status = TERMINATED


def verb(function: Callable[_P, Any]) -> Callable[_P, None]:
    """Make a function a verb: errors are told in words, and become an exit status."""

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            with _ending():
                function(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as stop:
            terminal.say("\nstopped")
            raise stopped(stop) from None
        except BrokenPipeError:
            # The reader has seen enough; what is left in the buffer must not be flushed again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(UNREAD) from None
        except Exception as problem:
            _tell(problem)
            raise typer.Exit(_status(problem)) from None

    return guarded


@contextmanager
def _ending() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: between two facts, with the worker let go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> None:
    raise Terminated


def stopped(stop: KeyboardInterrupt) -> typer.Exit:
    """Return the exit of a command that was interrupted or asked to end."""
    return typer.Exit(getattr(stop, "status", INTERRUPTED))


def _tell(problem: Exception) -> None:
    if os.environ.get("KEEPFIT_DEBUG"):
        terminal.say(traceback.format_exc())
    if isinstance(problem, KeepfitError):
        terminal.error(problem)
        return
    terminal.error(problem)
    place = where(problem)
    terminal.say(f"\nhint: raised in {place}; KEEPFIT_DEBUG=1 shows the whole way there")


def _status(problem: Exception) -> int:
    if isinstance(problem, GateRefused):
        return REFUSED
    return WRONG if isinstance(problem, ConfigError | VersionUnknown) else FAILED


def where(problem: BaseException, file: Path | None = None) -> str:
    """Return the place an error comes from, the last one in a file when it is given."""
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if file is not None and Path(frame.filename) == file]
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{Path(problem.filename).name}, line {problem.lineno}"
    if not frames:
        return "an unknown place"
    last = own[-1] if own else frames[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def answer(result: Any, *, as_json: bool) -> None:
    """Write a result to stdout: as JSON, or as the sentences it prints as."""
    if as_json:
        terminal.data(result.to_dict())
    else:
        terminal.show(repr(result))
