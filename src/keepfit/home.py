"""Where a pipeline keeps its memory: ledger, lake and artifacts."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from keepfit.artifacts import Artifacts
from keepfit.errors import ConfigError, nearest
from keepfit.lake import Delta, Lake
from keepfit.ledger import Ledger

PLACES = ("ledger", "lake", "artifacts")


@dataclass(frozen=True, slots=True)
class Memory:
    """The three stores of a pipeline, open."""

    ledger: Ledger
    lake: Lake
    artifacts: Artifacts

    def close(self) -> None:
        """Let go of the ledger's connections."""
        self.ledger.close()


def places(home: Path) -> dict[str, str]:
    """Return the URL or path of each store of a home.

    ``KEEPFIT_LEDGER``, ``KEEPFIT_LAKE`` and ``KEEPFIT_ARTIFACTS`` outrank the table
    ``[keepfit]`` of the file ``keepfit.toml`` beside the home, which outranks the defaults.

    Raises
    ------
    ConfigError
        ``keepfit.toml`` is no TOML, or has a key that is none of the three.
    """
    found = {
        "ledger": str(home / "ledger.db"),
        "lake": str(home / "lake"),
        "artifacts": str(home / "artifacts"),
    }
    found |= _configured(home.parent / "keepfit.toml")
    return {name: os.environ.get(f"KEEPFIT_{name.upper()}") or found[name] for name in PLACES}


def _configured(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("keepfit", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in {file.name}, got: {error}") from None
    for key, value in table.items():
        if key not in PLACES:
            near = nearest(key, PLACES)
            raise ConfigError(
                f"expected one of {', '.join(PLACES)} in [keepfit] of {file.name}, got {key!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
        if not isinstance(value, str):
            raise ConfigError(f"expected a URL or path for {key} in {file.name}, got {value!r}")
    return dict(table)


def open_memory(home: Path, name: str) -> Memory:
    """Open the stores of a pipeline; the lake has a folder for each pipeline."""
    where = places(home)
    return Memory(
        ledger=Ledger(where["ledger"]),
        lake=Delta(f"{where['lake'].rstrip('/')}/{name}"),
        artifacts=Artifacts(where["artifacts"]),
    )
