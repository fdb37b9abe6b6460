"""Who is told what: the table ``[alerts]`` of ``keepfit.toml``."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from keepfit.alerts.kinds import KINDS
from keepfit.clock import duration
from keepfit.errors import ConfigError, nearest

_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS = ("link", "again", "stale_labels", "to")
_OF_TARGET = ("url", "name", "about", "pipelines")


@dataclass(frozen=True)
class Target:
    """Somebody who is told: an address of Apprise's, of which nothing is ever shown.

    ``about`` and ``pipelines`` are empty where all are meant.
    """

    url: str
    name: str
    about: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Target({self.name!r})"

    @property
    def key(self) -> str:
        """What it is known by from one run to the next, which does not tell the address."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def hears(self, pipeline: str, kind: str) -> bool:
        """Return whether alerts of a kind about a pipeline go here."""
        here = not self.pipelines or pipeline in self.pipelines
        return here and (not self.about or kind in self.about)


@dataclass(frozen=True)
class Settings:
    """Whom to tell, how often one cause is told again, and when labels are stale.

    ``link`` is where people reach the server, for links into it; without it the alert names
    the command to look with.
    """

    targets: tuple[Target, ...] = ()
    link: str = ""
    again: timedelta = timedelta(days=1)
    stale_labels: timedelta = timedelta(days=7)


def settings_of(home: Path) -> Settings:
    """Return what ``keepfit.toml`` beside a home says of alerts; nobody is told without it.

    ``${NAME}`` in an address is taken from the environment.

    Raises
    ------
    ConfigError
        It is no TOML, has a key or a kind that does not exist, or a variable is not set.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "keepfit.toml").write_text('''
    ... [alerts]
    ... to = [{ url = "json://127.0.0.1/hook", name = "desk", about = ["rolled back"] }]
    ... ''')
    >>> settings_of(folder / ".keepfit").targets
    (Target('desk'),)
    """
    file = home.parent / "keepfit.toml"
    if not file.is_file():
        return Settings()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("alerts", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in {file.name}, got: {error}") from None
    where = f"[alerts] of {file.name}"
    if not isinstance(table, dict):
        raise ConfigError(f"expected a table {where}, got {table!r}")
    _known(table, _KEYS, where)
    targets = table.get("to", [])
    if not isinstance(targets, list):
        raise ConfigError(f"expected a list of tables for `to` in {where}, got {targets!r}")
    given = {
        name: _length(table[name], f"`{name}` in {where}")
        for name in ("again", "stale_labels")
        if name in table
    }
    return Settings(
        targets=tuple(
            _target(one, f"target {place} in {where}") for place, one in enumerate(targets, 1)
        ),
        link=_text(table.get("link", ""), f"`link` in {where}").rstrip("/"),
        **given,
    )


def _target(table: Any, where: str) -> Target:
    if not isinstance(table, dict) or "url" not in table:
        raise ConfigError(
            f"expected a table with a url for {where}",
            hint='write to = [{ url = "${SLACK_URL}", about = ["rolled back", "failed"] }]',
        )
    _known(table, _OF_TARGET, where)
    about = _texts(table.get("about", []), f"`about` of {where}")
    for kind in about:
        _one_of(kind, KINDS, where)
    return Target(
        url=_filled(_text(table["url"], f"url of {where}"), where),
        name=_text(table.get("name", where.partition(" in ")[0]), f"`name` of {where}"),
        about=about,
        pipelines=_texts(table.get("pipelines", []), f"`pipelines` of {where}"),
    )


def _filled(url: str, where: str) -> str:
    def value(found: re.Match[str]) -> str:
        if not (secret := os.environ.get(found[1])):
            raise ConfigError(
                f"expected the environment variable {found[1]}, which {where} names, got none",
                hint=f"export {found[1]}=…",
            )
        return secret

    return _SECRET.sub(value, url)


def _known(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in table:
        _one_of(key, keys, where)


def _one_of(given: str, known: Sequence[str], where: str) -> None:
    if given not in known:
        near = nearest(given, known)
        raise ConfigError(
            f"expected one of {', '.join(known)} for {where}, got {given!r}",
            hint=f"the nearest is {near!r}" if near else None,
        )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"expected text for {where}, got {type(value).__name__}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"expected a list of texts for {where}, got {type(value).__name__}")
    return tuple(_text(one, where) for one in value)


def _length(value: Any, where: str) -> timedelta:
    found = duration(_text(value, where))
    if found <= timedelta(0):
        raise ConfigError(f"expected a length above zero for {where}, got {value!r}")
    return found
