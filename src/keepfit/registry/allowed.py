"""Which version a person may promote."""

from __future__ import annotations

from keepfit.errors import ConfigError, GateRefused, VersionUnknown
from keepfit.facts import Answer
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
        raise GateRefused(
            f"{version.name} was not let through by its gate: {why}",
            hint=f"`keepfit why {version.name}` shows the evidence; "
            f'`keepfit promote {version.name} --force --reason "…"` promotes it and keeps the reason',
        )
    return version
