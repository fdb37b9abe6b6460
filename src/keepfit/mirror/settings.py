"""Where a pipeline is mirrored: the table ``[mlflow]`` of ``keepfit.toml``."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.errors import ConfigError, nearest

_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS = ("tracking_uri", "registry_uri", "name", "artifacts")


@dataclass(frozen=True)
class Settings:
    """Which MLflow, under which name of a registered model, and where its files go.

    The addresses may hold secrets and are never shown. ``name`` is the pipeline's where it is
    empty; ``artifacts`` is where MLflow keeps files of a new experiment, its own place where
    that is empty.
    """

    tracking_uri: str
    registry_uri: str = ""
    name: str = ""
    artifacts: str = ""

    def __repr__(self) -> str:
        return f"Settings({self.shown!r})"

    @property
    def registry(self) -> str:
        """Where models are registered."""
        return self.registry_uri or self.tracking_uri

    @property
    def shown(self) -> str:
        """The address of the registry, without who may enter."""
        return re.sub(r"//[^/@]*@", "//…@", self.registry)

    def key(self, pipeline: str) -> str:
        """Return what this mirror of a pipeline is known by, which does not tell the address."""
        said = "\n".join((self.tracking_uri, self.registry, self.name or pipeline))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def settings_of(home: Path) -> Settings | None:
    r"""Return what ``keepfit.toml`` beside a home says of MLflow; None where it says nothing.

    ``${NAME}`` in a text is taken from the environment.

    Raises
    ------
    ConfigError
        It is no TOML, has a key that does not exist, no address, or a variable is not set.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> text = '[mlflow]\ntracking_uri = "http://127.0.0.1:5000"'
    >>> _ = (folder / "keepfit.toml").write_text(text)
    >>> settings_of(folder / ".keepfit")
    Settings('http://127.0.0.1:5000')
    """
    file = home.parent / "keepfit.toml"
    if not file.is_file():
        return None
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("mlflow")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in {file.name}, got: {error}") from None
    if table is None:
        return None
    where = f"[mlflow] of {file.name}"
    if not isinstance(table, dict):
        raise ConfigError(f"expected a table {where}, got {table!r}")
    given = {key: _text(key, value, where) for key, value in table.items()}
    if not given.get("tracking_uri"):
        raise ConfigError(
            f"expected tracking_uri in {where}, got none",
            hint='write tracking_uri = "http://127.0.0.1:5000", or "sqlite:///mlflow.db"',
        )
    return Settings(**given)


def _text(key: str, value: Any, where: str) -> str:
    if key not in _KEYS:
        near = nearest(key, _KEYS)
        raise ConfigError(
            f"expected one of {', '.join(_KEYS)} in {where}, got {key!r}",
            hint=f"the nearest is {near!r}" if near else None,
        )
    if not isinstance(value, str):
        raise ConfigError(f"expected text for `{key}` in {where}, got {type(value).__name__}")
    return _SECRET.sub(lambda found: _secret(found[1], f"`{key}` in {where}"), value)


def _secret(name: str, where: str) -> str:
    if not (value := os.environ.get(name)):
        raise ConfigError(
            f"expected the environment variable {name}, which {where} names, got none",
            hint=f"export {name}=…",
        )
    return value
