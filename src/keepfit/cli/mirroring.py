"""The verb that speaks with MLflow: mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepfit import terminal
from keepfit.cli.finding import load
from keepfit.cli.words import File, Home, Json, verb
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
