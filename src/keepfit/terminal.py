"""The terminal: the only place that prints. Data goes to stdout, words go to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from keepfit.clock import humanise
from keepfit.errors import KeepfitError
from keepfit.facts import Entry
from keepfit.results.line import Line, printable
from keepfit.results.log import record
from keepfit.results.sentences import Fold, Story

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from keepfit.backtest import Backtest, Progress

WIDTH = 86
"""Columns where the output is no terminal, and at most where it is one."""

CLOCK = len(" 12:00")
"""Columns more where moments show the time of day."""

EVERY = 30.0
"""Seconds between two lines of progress where there is no bar."""

WHAT = 14
COLOURS = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "head": "1", "plain": ""}
ASCII = str.maketrans(
    {
        "·": "-", "…": "~", "→": ">", "●": "*", "▲": "^", "▹": ">", "▸": ">", "▶": ">", "◆": "#",
        "◇": "#", "◐": "o", "✓": "+", "✕": "x", "↩": "<", "‖": "=", "–": "-", "━": "=", "≤": "<",
    }
)  # fmt: skip
"""What stands for a mark where the output cannot show it."""


# Words and data -------------------------------------------------------------------------


def say(text: str = "", tone: str = "plain") -> None:
    """Write words to stderr."""
    _write(sys.stderr, paint(printable(text, lines=True), tone, sys.stderr) + "\n")


def hint(text: str) -> None:
    """Write a hint to stderr."""
    say(f"hint: {text}", "dim")


def show(text: str) -> None:
    """Write an answer, for a person to read, to stdout."""
    _write(sys.stdout, printable(text, lines=True) + "\n")


def data(value: Any) -> None:
    """Write a value as one line of JSON to stdout."""
    _write(sys.stdout, msgspec.json.encode(value).decode() + "\n")


def error(problem: BaseException) -> None:
    """Write an error to stderr: its kind, what is wrong, and what to do about it."""
    name = type(problem).__name__
    if isinstance(problem, KeepfitError):
        what, next_ = problem.message, problem.hint
    else:
        what, next_ = str(problem) or name, getattr(problem, "hint", None)
    what, next_ = printable(what, lines=True), next_ and printable(next_, lines=True)
    _write(sys.stderr, f"{paint(name, 'bad', sys.stderr)}: {what}\n")
    if next_:
        _write(sys.stderr, f"\n{paint('hint:', 'head', sys.stderr)} {next_}\n")


def coloured(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that may be coloured."""
    return (
        stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"
    )


def paint(text: str, tone: str, stream: TextIO) -> str:
    """Return a text in the colour of its tone, where the stream may be coloured."""
    code = COLOURS[tone]
    return f"\x1b[{code}m{text}\x1b[0m" if code and text and coloured(stream) else text


def width(stream: TextIO, most: int = WIDTH) -> int:
    """Return how many columns a line may have."""
    return min(most, shutil.get_terminal_size((most, 24)).columns) if stream.isatty() else most


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(ASCII).encode(encoding, "replace").decode(encoding)
    stream.write(text)
    stream.flush()


def laid_out(line: Line, columns: int = WIDTH, *, minutes: bool = False) -> str:
    """Return a line in its columns: moment, mark, what, why, and the cost at the right.

    A text that is too long ends in ``…``; `keepfit why` and `keepfit log` have all of it.
    """
    at = f"{line.at:%Y-%m-%d %H:%M}" if minutes else f"{line.at:%Y-%m-%d}"
    head = f"  {at}  {line.glyph} {line.what:<{WHAT}} "
    room = columns - len(head) - (len(line.cost) + 2 if line.cost else 0)
    text = line.text if len(line.text) <= room else line.text[: max(room - 1, 0)].rstrip() + "…"
    return f"{head}{text:<{room}}  {line.cost}" if line.cost else f"{head}{text}"


# The narrator ---------------------------------------------------------------------------


class Narrator:
    """Tells a run or a backtest as it happens: a line per event, the quiet facts added up.

    Parameters
    ----------
    name
        The pipeline; facts and progress of others are only counted.
    batches
        After how many batches the quiet facts are added up and told.
    patience
        After how many seconds they are told although there are fewer; None for never.
    minutes
        Whether moments show the time of day.
    verbosity
        2 tells every fact; 0 tells none, and leaves the bar.
    policies
        How many ways of deciding a backtest plays.
    as_json
        Whether every fact goes to stdout as a line of JSON too.
    stream
        Where words go; stderr when not given.
    clock
        Seconds, for the progress.
    """

    def __init__(
        self,
        name: str,
        *,
        batches: int = 4,
        patience: float | None = None,
        minutes: bool = False,
        verbosity: int = 1,
        policies: int = 1,
        as_json: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.batches = batches
        self.patience = patience
        self.minutes = minutes
        self.verbosity = verbosity
        self.policies = policies
        self.as_json = as_json
        self._stream = stream
        self._clock = clock
        self._story = Story()
        self._fold = Fold()
        self._at: datetime | None = None
        self._flushed = clock()
        self._gauge: _Bar | _Lines | None = None
        self.told = 0

    @property
    def stream(self) -> TextIO:
        """Where words go."""
        return self._stream or sys.stderr

    def recall(self, entry: Entry) -> None:
        """Take in a fact of the past, which later ones refer to, without telling it."""
        self._story.line(entry)

    def entry(self, entry: Entry) -> None:
        """Tell the next fact."""
        self.told += 1
        if self.as_json:
            data(record(entry))
        if entry.pipeline != self.name:
            return
        line = self._story.line(entry)
        self._at = entry.at
        if self.verbosity == 0:
            return
        if self.verbosity > 1 or line.loud:
            self._tell(line)
        if self.verbosity == 1:
            self._fold.add(entry.fact)
            # A batch is told with its score, which follows its arrival; a decision ends the step.
            if entry.fact.kind == "Decided" and (
                self._fold.batches >= self.batches or self._waited()
            ):
                self._flush()

    def _waited(self) -> bool:
        return self.patience is not None and self._clock() - self._flushed >= self.patience

    def _flush(self) -> None:
        if self._fold.batches and self._at is not None:
            self._tell(self._fold.line(self._at))
        self._fold, self._flushed = Fold(), self._clock()

    def _tell(self, line: Line) -> None:
        columns = width(self.stream, WIDTH + CLOCK if self.minutes else WIDTH)
        text = laid_out(line, columns, minutes=self.minutes)
        if coloured(self.stream) and line.tone != "plain":
            mark = text.index(line.glyph)
            end = mark + 2 + len(line.what) if line.tone != "dim" else len(text)
            text = text[:mark] + paint(text[mark:end], line.tone, self.stream) + text[end:]
        self.write(text)

    def write(self, text: str) -> None:
        """Write words above the bar."""
        if isinstance(self._gauge, _Bar):
            self._gauge.write(text)
        else:
            _write(self.stream, text + "\n")

    def progress(self, progress: Progress) -> None:
        """Show how far a backtest is."""
        if self._gauge is None:
            kind = _Bar if self.stream.isatty() and os.environ.get("TERM") != "dumb" else _Lines
            self._gauge = kind(self)
        if progress.policy != self.name:
            self._flush()
        self._gauge.update(progress)

    def rest(self) -> None:
        """Tell the quiet facts that are left, since nothing follows soon."""
        if self.verbosity:
            self._flush()

    def close(self) -> None:
        """Tell what is left, and take the bar away."""
        self.rest()
        if self._gauge is not None:
            self._gauge.close()
            self._gauge = None


class _Pace:
    """How fast a policy's rows are played, and how long the rest will take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.policy = ""
        self.place = 0

    def begin(self, policy: str) -> bool:
        """Return whether another policy has begun."""
        if policy == self.policy:
            return False
        self.policy, self.place, self._began = policy, self.place + 1, self._clock()
        return True

    def text(self, progress: Progress) -> str:
        """Return ``56 %  674,102 rows  21,400 rows/s  0:25 left``."""
        seconds = self._clock() - self._began
        share = progress.done_rows / progress.rows if progress.rows else 1.0
        shown = [f"{share:4.0%}".replace("%", " %"), f"{progress.done_rows:,} rows"]
        if seconds > 0 and progress.done_rows:
            pace = progress.done_rows / seconds
            left = timedelta(seconds=round((progress.rows - progress.done_rows) / pace))
            shown += [f"{pace:,.0f} rows/s", f"{_clocked(left)} left"]
        return "  ".join(shown)


class _Bar:
    """A bar at the bottom of a terminal."""

    def __init__(self, narrator: Narrator) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._policies = narrator.policies
        self._pace = _Pace(narrator._clock)
        self._console: Console = Console(
            file=narrator.stream, highlight=False, width=width(narrator.stream)
        )
        self._bar: Bar = Progress(
            TextColumn(" {task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=1.0, text="")
        self._bar.start()

    def write(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def update(self, progress: Progress) -> None:
        self._pace.begin(progress.policy)
        of = f"{self._pace.place}/{self._policies} " if self._policies > 1 else ""
        self._bar.update(
            self._task,
            description=f"{of}{progress.policy}",
            completed=progress.done_rows / max(progress.rows, 1),
            text=self._pace.text(progress),
        )

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    """A line of progress every half minute, where there is no terminal."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._pace = _Pace(narrator._clock)
        self._told = narrator._clock()

    def update(self, progress: Progress) -> None:
        self._pace.begin(progress.policy)
        now = self._narrator._clock()
        if now - self._told >= EVERY:
            self._told = now
            self._narrator.write(f"  {progress.policy}: {self._pace.text(progress).strip()}")

    def close(self) -> None:
        """Leave what was written."""


def _clocked(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


# Backtests ------------------------------------------------------------------------------


def headline(name: str, what: str, details: list[str]) -> str:
    """Return the first line of a run or a backtest."""
    return " · ".join([f"{name}", what, *details])


def table(result: Backtest) -> str:
    """Return the table at the end of a backtest, indented as the lines above it are."""
    return "\n".join(f"  {line}".rstrip() for line in result.table().splitlines())


def delay(length: timedelta | None) -> str | None:
    """Return how late labels are, where a source says so."""
    return f"labels {humanise(length)} late" if length else None
