"""The verb that shows who is told what, and tries whether they can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keepfit import terminal
from keepfit.cli.finding import load
from keepfit.cli.words import FAILED, File, Home, Json, verb

if TYPE_CHECKING:
    from keepfit.alerts import Target


@verb
def alerts(
    file: File,
    test: Annotated[
        bool, typer.Option("--test", help="Send each of them a message.", show_default=False)
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show who is told what, from keepfit.toml, and try it."""
    from keepfit.alerts import KINDS, settings_of

    pipeline = load(file, home)
    settings = settings_of(pipeline.home)
    tried = {target.name: _tried(pipeline.name, target) for target in settings.targets if test}
    listed = [
        {
            "name": target.name,
            "about": target.about or KINDS,
            "pipelines": target.pipelines,
            **({"reached": tried[target.name]} if test else {}),
        }
        for target in settings.targets
    ]
    if as_json:
        terminal.data({"pipeline": pipeline.name, "targets": listed})
    for target in settings.targets:
        about = ", ".join(target.about) or "everything"
        reached = "reached" if tried.get(target.name) else "NOT reached" if test else ""
        terminal.say("  ".join(part for part in (f"  {target.name:<20}", about, reached) if part))
    if not settings.targets:
        terminal.say("  nobody is told")
        terminal.hint('[alerts] of keepfit.toml: to = [{ url = "${SLACK_URL}" }]')
    if not all(tried.values()):
        raise typer.Exit(FAILED)


def _tried(pipeline: str, target: Target) -> bool:
    from keepfit.alerts.kinds import Kind, Message
    from keepfit.alerts.posting import Post
    from keepfit.clock import WallClock

    message = Message(
        kind=Kind.RESUMED,
        seq=0,
        at=WallClock().now(),
        title=f"{pipeline}: a test",
        body="Alerts about this pipeline arrive here.",
        look="status",
    )
    return Post(target).send(message)
