"""The loop beside a server: ``python -m keepfit.server.looping FILE HOME NAME PARENT``.

Where it does not come through a step its process ends, and the server begins another. How often
that was so in a row stands in the ledger: the next one rests the longer before it tries, and
whoever looks is told.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from keepfit import terminal
from keepfit.cli.words import stopped, verb
from keepfit.clock import WallClock, humanise
from keepfit.errors import KeepfitError
from keepfit.home import places

if TYPE_CHECKING:
    from keepfit.ledger.steps import Stepping, Steps
    from keepfit.loop import Loop

LOOKED_EVERY = 0.2
RESTED = 1.0
"""Seconds that the server waits before it begins another process."""

LANDED_EVERY = "1min"
"""How often what was served lands: each commit of the lake costs as much as thousands of rows."""


class Attentive(WallClock):
    """The wall clock, whose sleep ends early when somebody else writes to the pipeline's ledger.

    So an event or a person's hand is heeded within a second, though the loop looks for new
    rows once a minute.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """Return the moment."""
        return super().now()

    def sleep(self, length: timedelta) -> None:
        """Wait, until the ledger moves at the latest."""
        until = time.monotonic() + length.total_seconds()
        loop = self._loop
        while (left := until - time.monotonic()) > 0:
            if loop.memory.ledger.seq(loop.pipeline.name) != loop.state.seq:
                return
            time.sleep(min(LOOKED_EVERY, left))


def main(file: str, home: str, name: str, parent: str) -> None:
    """Run the loop until asked to end, as long as the process lives that started this one."""
    from keepfit.alerts import tell
    from keepfit.ledger import Ledger
    from keepfit.ledger.steps import Stepping
    from keepfit.server.__main__ import ends_with

    ends_with(int(parent))
    clock = WallClock()
    with Ledger(places(Path(home))["ledger"]) as ledger:
        steps = Stepping(ledger, name, f"{socket.gethostname()} {parent}")
        try:
            rested(steps.begin(clock.now()).rest)
            run(file, home, steps)
        except KeyboardInterrupt as stop:
            steps.end()
            raise stopped(stop) from None  # the server says that all of it ends
        except BaseException as error:  # Polars' panics are no exceptions
            fallen(steps.fall(clock.now(), error), name)
            with suppress(Exception):  # what it tells of is worse
                tell(Path(home), name)
            if isinstance(error, Exception):
                raise
            raise KeepfitError(f"{type(error).__name__}: {error}") from error


def rested(length: timedelta) -> None:
    """Rest before a try that is not the first."""
    time.sleep(length.total_seconds())


def run(file: str, home: str, steps: Stepping) -> None:
    """Run the loop of a pipeline, and keep how it comes through its steps."""
    from keepfit.alerts import telling
    from keepfit.cli.finding import load
    from keepfit.mirror import mirroring

    pipeline = load(file, Path(home))
    narrator = terminal.Narrator(pipeline.name, patience=2.0, minutes=True, verbosity=1)
    try:
        loop = pipeline.loop()
        for entry in loop.memory.ledger.facts(pipeline.name):
            narrator.recall(entry)
        loop.clock, loop.steps = Attentive(loop), steps
        with telling(pipeline), mirroring(pipeline, lambda said: terminal.say(said, "warn")):
            pipeline.run(poll=LANDED_EVERY, listen=narrator.entry)
    finally:
        narrator.close()
        pipeline.close()


def fallen(steps: Steps, name: str) -> None:
    """Say in the server's log that the loop did not come through a step, and what becomes of it."""
    times = "once" if steps.failed == 1 else f"{steps.failed} times in a row"
    since = "" if steps.since is None else f", since {steps.since:%Y-%m-%d %H:%M:%S} UTC"
    terminal.say(
        f"  the loop of {name} does not come through a step, {times}{since}: {steps.error}", "warn"
    )
    rest = humanise(steps.rest + timedelta(seconds=RESTED))
    terminal.say(f"  what is answered is kept; the next try is in {rest}", "warn")


if __name__ == "__main__":
    try:
        verb(main)(*sys.argv[1:])
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
