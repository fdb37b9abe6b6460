"""What people ask of a server apart from predictions: how it stands, why, and their own hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from keepfit.errors import ConfigError

if TYPE_CHECKING:
    from keepfit.ledger.steps import Steps
    from keepfit.pipeline import Pipeline
    from keepfit.registry import State
    from keepfit.server.app import Asked


class Office(Protocol):
    """Has questions answered while the event loop goes on."""

    async def ask(self, what: str, *given: Asked | str) -> dict[str, Any]:
        """Return what the method of `Hands` says that is named so.

        Raises
        ------
        KeepfitError
            What that raised.
        """

    async def standing(self) -> State:
        """Return what the facts so far add up to, to be looked at."""

    async def stepping(self) -> Steps:
        """Return how the loop comes through its steps."""

    def close(self) -> None:
        """Let go of what it took to answer."""


class Hands:
    """Looks into a pipeline and lays people's hands on it.

    Parameters
    ----------
    pipeline
        The server's own object: the loop, in this process or another, has one too.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def close(self) -> None:
        """Let go of the pipeline's stores."""
        self._pipeline.close()

    def status(self) -> dict[str, Any]:
        """Return what ``keepfit status --json`` shows."""
        return self._pipeline.status().to_dict()

    def why(self, version: str) -> dict[str, Any]:
        """Return what ``keepfit why --json`` shows."""
        return self._pipeline.why(version).to_dict()

    def promote(self, asked: Asked) -> dict[str, Any]:
        """Make a version the champion."""
        version = _named(asked, "promote")
        self._pipeline.promote(version, reason=asked.reason, force=asked.force, by=asked.by)
        return self._stands()

    def approve(self, asked: Asked) -> dict[str, Any]:
        """Let a version go on that waits for a person, with the loop's next step."""
        version = _named(asked, "approve")
        self._pipeline.approve(version, reason=asked.reason, by=asked.by)
        return self._stands()

    def refuse(self, asked: Asked) -> dict[str, Any]:
        """Refuse a version that waits for a person."""
        version = _named(asked, "refuse")
        self._pipeline.refuse(version, reason=asked.reason, by=asked.by)
        return self._stands()

    def rollback(self, asked: Asked) -> dict[str, Any]:
        """Take back what is being rolled out, or else the champion, for the one before."""
        self._pipeline.rollback(reason=asked.reason, by=asked.by)
        return self._stands()

    def pause(self, asked: Asked) -> dict[str, Any]:
        """Neither train nor promote until `resume`."""
        self._pipeline.pause(reason=asked.reason, by=asked.by)
        return self._stands()

    def resume(self, asked: Asked) -> dict[str, Any]:
        """End a pause."""
        self._pipeline.resume(reason=asked.reason, by=asked.by)
        return self._stands()

    def _stands(self) -> dict[str, Any]:
        state = self._pipeline.loop().refold()
        return {
            "pipeline": self._pipeline.name,
            "champion": state.champion,
            "previous": state.previous,
            "paused": state.paused,
        }


def _named(asked: Asked, what: str) -> str:
    if asked.version is None:
        raise ConfigError(f"expected a version to {what}, got none", hint='send "version": "v3"')
    return asked.version
