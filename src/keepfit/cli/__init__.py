"""The shell's door: every verb of `keepfit`."""

from __future__ import annotations

from typing import Annotated

import typer

from keepfit.cli import (
    alerting,
    backtesting,
    handing,
    looking,
    mirroring,
    running,
    serving,
    setting_up,
    tokens,
)
from keepfit.cli.command import Command

app = typer.Typer(
    name="keepfit",
    help="Keep a machine-learning model current: check new data, train when it pays, prove "
    "that the new model is better, release it.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong use, 3 blocked by a check, 4 refused by a gate.",
    add_completion=False,
    no_args_is_help=True,
    # Plain help: it needs no rich, which takes longer to import than all the rest.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

VERBS = (
    setting_up.demo,
    setting_up.init,
    running.check,
    backtesting.backtest,
    running.run,
    serving.serve,
    serving.up,
    looking.status,
    looking.why,
    looking.log,
    looking.diff,
    looking.reproduce,
    running.train,
    running.predict,
    handing.promote,
    handing.approve,
    handing.refuse,
    handing.rollback,
    handing.pause,
    handing.resume,
    alerting.alerts,
    mirroring.mirror,
    mirroring.adopt,
    setting_up.doctor,
)
"""The verbs, in the order of the help."""

for verb in VERBS:
    app.command(cls=Command)(verb)
app.add_typer(tokens.token, name="token")


def _version(asked: bool) -> None:
    if asked:
        from keepfit import __version__, terminal

        terminal.show(f"keepfit {__version__}")
        raise typer.Exit


@app.callback()
def _keepfit(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keep a machine-learning model current."""


def main() -> None:
    """Run the command line, and exit with its status."""
    app()
