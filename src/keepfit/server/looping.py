"""The loop beside a server: ``python -m keepfit.server.looping FILE HOME PARENT``."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from keepfit import terminal
from keepfit.cli.words import stopped, verb
from keepfit.clock import WallClock

if TYPE_CHECKING:
    from keepfit.loop import Loop

LOOKED_EVERY = 0.2
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


def main(file: str, home: str, parent: str) -> None:
    """Run the loop until asked to end, as long as the process lives that started this one."""
    from keepfit.alerts import telling
    from keepfit.cli.finding import load
    from keepfit.mirror import mirroring
    from keepfit.server.__main__ import ends_with

    ends_with(int(parent))
    pipeline = load(file, Path(home))
    narrator = terminal.Narrator(pipeline.name, patience=2.0, minutes=True, verbosity=1)
    loop = pipeline.loop()
    for entry in loop.memory.ledger.facts(pipeline.name):
        narrator.recall(entry)
    loop.clock = Attentive(loop)
    try:
        with telling(pipeline), mirroring(pipeline, lambda said: terminal.say(said, "warn")):
            pipeline.run(poll=LANDED_EVERY, listen=narrator.entry)
    except KeyboardInterrupt as stop:
        raise stopped(stop) from None  # the server says that all of it ends
    finally:
        narrator.close()
        pipeline.close()


if __name__ == "__main__":
    try:
        verb(main)(*sys.argv[1:])
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
