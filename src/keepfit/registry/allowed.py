"""Which version a person may promote, approve or refuse."""

from __future__ import annotations

from datetime import datetime

from keepfit.errors import ConfigError, GateRefused, VersionUnknown
from keepfit.facts import Answer, Approved
from keepfit.registry.state import State
from keepfit.registry.versions import Version


def held_back(version: Version) -> bool:
    """Return whether a version was judged, and its gate did not let it through."""
    return version.judged is not None and version.judged.answer != Answer.PROMOTE


def promotable(state: State, name: str, *, force: bool) -> Version:
    """Return the version a person may promote.

    Raises
    ------
    ConfigError
        It is the champion already.
    VersionUnknown
        No version has this name.
    GateRefused
        Its gate did not let it through, and ``force`` is false.
    """
    version = state.version(name)
    if version.name == state.champion:
        raise ConfigError(
            f"{version.name} is the champion already", hint="`keepfit status` shows since when"
        )
    if not version.artifact:
        raise VersionUnknown(
            f"{version.name} has no model: it is {version.state}"
            + (f" ({version.message})" if version.message else "")
        )
    judged = version.judged
    if not force and judged is not None and held_back(version):
        why = "; ".join(
            f"{v.gate}, {v.reason}" for v in judged.verdicts if v.answer != Answer.PROMOTE
        )
        asked = state.request is not None and state.request.version == version.name
        approve = f'`keepfit approve {version.name} --reason "…"` lets it through; '
        raise GateRefused(
            f"{version.name} was not let through by its gate: {why}",
            hint=f"{approve if asked else ''}`keepfit why {version.name}` shows the evidence; "
            f'`keepfit promote {version.name} --force --reason "…"` promotes it and keeps the reason',
        )
    return version


def answerable(state: State, name: str, at: datetime) -> Version:
    """Return the version that waits for a person, where it is the one that a person names.

    Raises
    ------
    ConfigError
        It does not wait for approval, or no longer: somebody has answered, or its time is over.
    VersionUnknown
        No version has this name.
    """
    version, request = state.version(name), state.request
    if request is None or request.version != version.name:
        raise ConfigError(
            f"expected a version that waits for approval, got {version.name}, "
            f"which is {version.state}",
            hint=_waits(state),
        )
    if request.said is not None and request.said_at is not None:
        did = "approved" if isinstance(request.said, Approved) else "refused"
        raise ConfigError(
            f"{version.name} was {did} already, by {request.said.by} "
            f"on {request.said_at:%Y-%m-%d %H:%M}: {request.said.reason}",
            hint="the loop's next step takes it up",
        )
    if at >= request.fact.until:
        raise ConfigError(
            f"{version.name} waited for approval until {request.fact.until:%Y-%m-%d %H:%M}, "
            "and waits no longer",
            hint=f'`keepfit promote {version.name} --force --reason "…"` promotes it all the same',
        )
    return version


def _waits(state: State) -> str:
    request = state.request
    if request is None:
        return "nothing waits for approval: `keepfit status` shows what serves and what comes next"
    instead = f", instead of {request.fact.replaces}" if request.fact.replaces else ""
    return f"{request.version} waits, since {request.since:%Y-%m-%d %H:%M}{instead}"
