"""Donors: versions of other pipelines that a training starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.artifacts import Artifacts
from keepfit.errors import ConfigError, KeepfitError, NoChampion, VersionUnknown
from keepfit.facts import Donor
from keepfit.home import places
from keepfit.ledger import Ledger
from keepfit.registry import State

if TYPE_CHECKING:
    from keepfit.registry import Version


OF_VERSIONS = (
    *("TrainingStarted", "Sampled", "Trained", "Adopted", "TrainingFailed"),
    *("Judged", "RolledOut", "Promoted", "RolledBack"),
)
"""The facts that say which versions there are and which one serves: few among all."""


@dataclass(frozen=True, slots=True)
class Named:
    """A donor as a user names it: a pipeline, a version or an alias, and where its ledger is."""

    pipeline: str
    version: str
    home: Path | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.pipeline}@{self.version}"

    @classmethod
    def parse(cls, text: str, home: str | Path | None) -> Named:
        """Return the donor that ``"flights-nyc@champion"`` or ``"flights-nyc@v3"`` names.

        Raises
        ------
        ConfigError
            The text does not name both.
        """
        pipeline, _, version = text.partition("@")
        if not pipeline or not version or "@" in version:
            raise ConfigError(
                f"expected a pipeline and a version, got {text!r}",
                hint='write start="flights-nyc@champion" or start="flights-nyc@v3"',
            )
        return cls(pipeline, version, None if home is None else Path(home))

    def resolve(self, home: Path, keep: Artifacts, before: datetime | None) -> Donor:
        """Return the version itself, with a copy of its model kept; or why there is none.

        The copy makes a training repeatable after the other pipeline has gone. What is read
        is checked against its digest.

        Parameters
        ----------
        home
            Where to look when the donor was named without a home of its own.
        keep
            Where the copy goes.
        before
            In a backtest the moment it has come to: a version that has seen rows from then on
            is none that could have been started from. None in a live loop.
        """
        try:
            return self._resolved(self.home or home, keep, before)
        except KeepfitError as error:
            return Donor(pipeline=self.pipeline, version=self.version, missing=error.message)

    def _resolved(self, home: Path, keep: Artifacts, before: datetime | None) -> Donor:
        where = places(home)
        with Ledger(where["ledger"]) as ledger:
            state = State().fold(ledger.facts(self.pipeline, kind=OF_VERSIONS))
            known = ledger.seq(self.pipeline) > 0
        if not known:
            raise VersionUnknown(
                f"expected a pipeline {self.pipeline!r} to start from, got none in {where['ledger']}",
                hint="name where it is kept: Challenger(start=…, home=…)",
            )
        version = self._version(state, before)
        if not version.artifact:
            raise VersionUnknown(f"{self.pipeline}@{version.name} has no model: {version.state}")
        content = Artifacts(where["artifacts"]).get(version.artifact)
        return Donor(pipeline=self.pipeline, version=version.name, artifact=keep.put(content))

    def _version(self, state: State, before: datetime | None) -> Version:
        if before is not None and self.version == "champion":
            return self._reigning(state, before)
        try:
            found = state.version(self.version)
        except NoChampion:
            raise NoChampion(f"{self.pipeline!r} has no champion to start from") from None
        except VersionUnknown as error:
            raise VersionUnknown(f"{self.pipeline!r}: {error.message}") from None
        if before is None or found.snapshot.to < before:
            return found
        raise VersionUnknown(
            f"{self.pipeline}@{found.name} has seen rows to {found.snapshot.to:%Y-%m-%d}, "
            f"which on {before:%Y-%m-%d} were still to come"
        )

    def _reigning(self, state: State, before: datetime) -> Version:
        """Return the newest champion that had seen no row from a moment on."""
        reigned = [state.versions[name] for _, name in state.reigns]
        known = [one for one in reigned if one.snapshot.to < before]
        if not known:
            raise NoChampion(
                f"{self.pipeline!r} had no champion on {before:%Y-%m-%d} that had seen no row "
                "still to come"
            )
        return known[-1]
