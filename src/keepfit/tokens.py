"""Tokens: who may do what at a server, and what is kept of who gave and took them."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from keepfit.clock import WallClock
from keepfit.errors import ConfigError, KeepfitError, VersionUnknown, nearest

ROLES = ("predict", "label", "read", "operate")
"""What a token may be for: predictions, labels and rows, looks, and the human hand."""

PREFIX = "keepfit_"
"""What secrets begin with, so that those who look for leaked ones know them."""

PATIENCE = 10.0
"""Seconds that one process waits for another to write."""

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HINT = "a letter or digit, then letters, digits, dots, dashes, underscores: at most 64"
_TABLE = """
CREATE TABLE IF NOT EXISTS tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE,
    roles TEXT NOT NULL, pipelines TEXT NOT NULL, made_at TEXT NOT NULL, made_by TEXT NOT NULL,
    revoked_at TEXT, revoked_by TEXT
)
"""
_ONE = "CREATE UNIQUE INDEX IF NOT EXISTS tokens_name ON tokens (name) WHERE revoked_at IS NULL"
_ALL = "SELECT name, digest, roles, pipelines, made_at, made_by, revoked_at, revoked_by FROM tokens"


class Token(msgspec.Struct, frozen=True):
    """What is kept of a token: never its secret.

    ``pipelines`` is empty where it is good for all of the home.
    """

    name: str
    digest: bytes
    roles: tuple[str, ...]
    pipelines: tuple[str, ...]
    made_at: str
    made_by: str
    revoked_at: str | None = None
    revoked_by: str | None = None

    def allows(self, role: str, pipeline: str) -> bool:
        """Return whether it is good for a role at a pipeline."""
        here = not self.pipelines or pipeline in self.pipelines
        return here and role in self.roles and self.revoked_at is None

    def to_dict(self) -> dict[str, Any]:
        """Return what people may see of it."""
        told = msgspec.to_builtins(self)
        del told["digest"]
        return dict(told)


def tokens_of(home: Path) -> Path:
    """Return where the tokens of a home lie."""
    return home / "tokens.db"


def digest(secret: str) -> bytes:
    """Return what is kept in place of a secret.

    A slow hash guards words that people choose, which can be guessed. A secret here is 256
    random bits: nobody guesses those however quick the hash, and each request pays for it.
    """
    return hashlib.sha256(secret.encode()).digest()


def user() -> str:
    """Return who runs this process, as facts name people."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this machine, as in a bare container
        return "unknown"


class Known:
    """The tokens that are good now, by their digest."""

    def __init__(self, tokens: Sequence[Token] = ()) -> None:
        self._tokens = {token.digest: token for token in tokens if token.revoked_at is None}

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, secret: str) -> Token | None:
        """Return the token of a secret, or None.

        How long the look into the table takes depends on the digest alone, from which nothing
        follows for the secret; what it finds is compared in constant time all the same.
        """
        made = digest(secret)
        found = self._tokens.get(made)
        return found if found is not None and hmac.compare_digest(found.digest, made) else None


class Tokens:
    """The tokens of a home, in a small SQLite file that its owner alone may read.

    A token that was revoked stays in it: who gave and took what, and when, is kept. Several
    processes may use it at once, and what one has done is on disk when its call returns.

    Parameters
    ----------
    path
        The file; it is made with the first token.

    Examples
    --------
    >>> import tempfile
    >>> tokens = Tokens(tokens_of(Path(tempfile.mkdtemp())))
    >>> tokens.exist()
    False
    >>> secret = tokens.make("shop", ["predict", "label"], by="ada")
    >>> tokens.known().find(secret).name
    'shop'
    >>> tokens.revoke("shop", by="ada").revoked_by
    'ada'
    >>> tokens.known().find(secret) is None, [token.name for token in tokens.all()]
    (True, ['shop'])
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Tokens({str(self.path)!r})"

    def exist(self) -> bool:
        """Return whether there was ever a token here: from then on all are asked for one."""
        return self.path.exists() and bool(self.all())

    def all(self) -> list[Token]:
        """Return all tokens, oldest first, those that were revoked too.

        Raises
        ------
        KeepfitError
            The file cannot be read.
        """
        if not self.path.exists():
            return []
        with self._open() as connection:
            return [_token(row) for row in connection.execute(f"{_ALL} ORDER BY number")]

    def known(self) -> Known:
        """Return the tokens that are good now."""
        return Known(self.all())

    def make(
        self, name: str, roles: Sequence[str], *, by: str, pipelines: Sequence[str] = ()
    ) -> str:
        """Make a token, and return its secret, which is kept nowhere.

        Raises
        ------
        ConfigError
            The name is none or taken, or a role is none.
        KeepfitError
            The file cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"expected a name of a token, got {name!r}", hint=_HINT)
        secret = PREFIX + secrets.token_urlsafe(32)
        row = (
            name,
            digest(secret),
            " ".join(_checked(roles)),
            " ".join(dict.fromkeys(pipelines)),
            _now(),
            by,
        )
        with self._open() as connection:
            try:
                connection.execute(
                    "INSERT INTO tokens (name, digest, roles, pipelines, made_at, made_by)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError:
                raise ConfigError(
                    f"expected a new name, got {name!r}, which a token has",
                    hint=f"`keepfit token revoke {name}` frees it",
                ) from None
        return secret

    def revoke(self, name: str, *, by: str) -> Token:
        """End a token; servers turn it away within a second.

        Raises
        ------
        VersionUnknown
            No token that is good has this name.
        KeepfitError
            The file cannot be written.
        """
        if self.path.exists():
            with self._open() as connection:
                done = connection.execute(
                    "UPDATE tokens SET revoked_at = ?, revoked_by = ?"
                    " WHERE name = ? AND revoked_at IS NULL",
                    (_now(), by, name),
                )
                if done.rowcount:
                    return next(one for one in reversed(self.all()) if one.name == name)
        names = [token.name for token in self.all() if token.revoked_at is None]
        near = nearest(name, names)
        raise VersionUnknown(
            f"expected one of the tokens {', '.join(names) or '(none)'}, got {name!r}",
            hint=f"the nearest is {near!r}" if near else None,
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            _private(self.path)
            connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA synchronous = FULL")
                _prepare(connection, self.path)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise KeepfitError(
                f"cannot open the tokens at {self.path}: {error}",
                hint="they belong to the user who made the first one",
            ) from error


def _private(path: Path) -> None:
    """Make the file for its owner alone before anything is in it; SQLite keeps to its mode."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    if version != 0:
        raise KeepfitError(
            f"expected tokens of format {FORMAT} at {path}, got {version}",
            hint="a newer keepfit wrote them: use that one",
        )
    connection.execute("BEGIN IMMEDIATE")
    for statement in (_TABLE, _ONE, f"PRAGMA user_version = {FORMAT}"):
        connection.execute(statement)
    connection.execute("COMMIT")


def _checked(roles: Sequence[str]) -> list[str]:
    for role in roles:
        if role not in ROLES:
            near = nearest(role, ROLES)
            raise ConfigError(
                f"expected one of the roles {', '.join(ROLES)}, got {role!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
    if not roles:
        raise ConfigError(f"expected a role, got none: {', '.join(ROLES)}", hint="--role predict")
    return [role for role in ROLES if role in roles]


def _token(row: tuple[Any, ...]) -> Token:
    name, made, roles, pipelines, *rest = row
    return Token(name, made, tuple(roles.split()), tuple(pipelines.split()), *rest)


def _now() -> str:
    return WallClock().now().isoformat(timespec="seconds")
