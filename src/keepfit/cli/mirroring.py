"""The verbs that speak with MLflow: mirror and adopt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keepfit import terminal
from keepfit.cli.finding import load
from keepfit.cli.words import File, Home, Json, Reason, verb
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    from keepfit.mirror import Done, Settings
    from keepfit.pipeline import Pipeline


@verb
def mirror(file: File, home: Home = None, as_json: Json = False) -> None:
    """Bring MLflow up to date with the versions, once."""
    from dataclasses import asdict

    from keepfit.mirror import opened

    pipeline = load(file, home)
    settings = _settings(pipeline)
    with opened(pipeline, settings) as made:
        done = made.look()
    if as_json:
        terminal.data({"pipeline": pipeline.name, **asdict(done)})
    terminal.say(_said(done, settings.shown))


@verb
def adopt(
    file: File,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="models:/churn@champion, or models:/churn/3.")
    ],
    reason: Reason,
    trained_to: Annotated[
        str | None,
        typer.Option(
            "--trained-to",
            help="Up to which date rows may have taught it: later ones judge.  "
            "[default: when it was registered]",
            show_default=False,
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open it, though it runs code.", show_default=False)
    ] = False,
    tracking_uri: Annotated[
        str,
        typer.Option(
            "--tracking-uri",
            help="Which MLflow.  [default: that of keepfit.toml]",
            show_default=False,
        ),
    ] = "",
    registry_uri: Annotated[
        str,
        typer.Option(
            "--registry-uri", help="Where models are registered, if elsewhere.", show_default=False
        ),
    ] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a model of MLflow's the first champion."""
    pipeline = load(file, home)
    try:
        version = pipeline.adopt(
            model,
            reason=reason,
            trained_to=trained_to,
            trust=trust,
            tracking_uri=tracking_uri,
            registry_uri=registry_uri,
        )
        adopted = pipeline.loop().state.versions[version]
    finally:
        pipeline.close()
    if as_json:
        terminal.data(
            {
                "pipeline": pipeline.name,
                "champion": version,
                "origin": adopted.origin.uri if adopted.origin else None,
                "trained_to": adopted.snapshot.to.isoformat(),
            }
        )
    terminal.say(f"  {version} serves; rows after {adopted.snapshot.to:%Y-%m-%d} judge it")


def _settings(pipeline: Pipeline) -> Settings:
    from keepfit.mirror import settings_of

    found = settings_of(pipeline.home)
    if found is None:
        raise ConfigError(
            "expected [mlflow] in keepfit.toml, got none",
            hint='write [mlflow] and tracking_uri = "http://127.0.0.1:5000" into '
            f"{pipeline.home.parent / 'keepfit.toml'}",
        )
    return found


def _said(done: Done, where: str) -> str:
    if done.held_by:
        return f"  another process mirrors just now: {done.held_by}"
    parts = [("made", done.made), ("updated", done.updated), ("moved", done.moved)]
    told = [f"{what} {', '.join(names)}" for what, names in parts if names]
    return f"  {where}: {'; '.join(told) or 'nothing new'}"
