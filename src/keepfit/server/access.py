"""Who may do what: with tokens whoever has one, without them this machine alone.

Once a home has had a token, everybody is asked for one, on this machine too: behind a proxy
each request of the world comes from here. It stays so when the last one is revoked, for taking
a token must not open a door. Whoever wants none again deletes the file of the tokens.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from keepfit.errors import ConfigError, KeepfitError
from keepfit.periodic import Periodic
from keepfit.server.replies import Reply, said
from keepfit.tokens import Known, Tokens

LOOKED_EVERY = 0.5
"""Seconds between two looks at the tokens: how long one that was revoked is good for."""

CHALLENGE = b'Bearer realm="keepfit"'
"""What goes with status 401, as RFC 6750 (2012) has it."""

Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger("keepfit.server")
_SEND = 'send "Authorization: Bearer …"; `keepfit token make` makes one'
MISSING = said(401, "expected a token, got none", _SEND)
UNKNOWN = said(401, "expected a token of this server, got one that is unknown or revoked", _SEND)
ELSEWHERE = said(
    403,
    "expected a request from this machine, got one from another",
    "`keepfit token make` makes a token, which lets others in",
)
FOREIGN = said(
    403,
    "expected a request of a program, got one of another site's page",
    "with a token, made by `keepfit token make`, a page may ask too",
)
MISLED = said(
    403,
    "expected a request to localhost or 127.0.0.1, got one to another name",
    "with a token, made by `keepfit token make`, the server may have any name",
)


class Tls(NamedTuple):
    """The certificate that a server shows, and its key where another file holds it."""

    certfile: str
    keyfile: str | None = None


class Caller(NamedTuple):
    """Who asks: the name of the token, or None without tokens.

    ``may_label`` says whether what they send of labels is taken.
    """

    name: str | None = None
    may_label: bool = True

    def signs(self, by: str | None) -> str | None:
        """Return who a fact names: whoever holds a token cannot sign with another name.

        Examples
        --------
        >>> Caller("desk").signs("ada"), Caller("desk").signs(None), Caller().signs("ada")
        ('desk for ada', 'desk', 'ada')
        """
        if self.name is None or by is None:
            return self.name or by
        return f"{self.name} for {by}"


class Access:
    """Lets in those who may, by the tokens of a home, which a thread looks at.

    Parameters
    ----------
    tokens
        The tokens of the home.
    pipeline
        What is served: a token may be good for other pipelines alone.
    """

    def __init__(self, tokens: Tokens, pipeline: str) -> None:
        self._tokens, self._pipeline = tokens, pipeline
        self._known = Known()
        self.asked = True
        self._looking = Periodic(
            self.look, LOOKED_EVERY, name="keepfit access", failed=self._failed
        )
        self.look()

    def start(self) -> None:
        """Begin to look at the tokens."""
        self._looking.start()

    def close(self) -> None:
        """Look no more."""
        self._looking.close()

    def look(self) -> None:
        """Read the tokens; while they cannot be read, nobody is let in."""
        try:
            found = self._tokens.all()
        except KeepfitError as error:
            if not self.asked or len(self._known):
                _log.error("nobody is let in: %s", error.message)
            self._known, self.asked = Known(), True
            return
        # In this order: a request in between is asked for a token rather than let in.
        self._known = Known(found)
        self.asked = bool(found)

    def admit(self, headers: Headers, client: Any, role: str) -> Caller | Reply:
        """Return who asks when they may do what a role does, else what to tell them.

        Parameters
        ----------
        headers
            Those of the request, with names in lower case.
        client
            The host and port it comes from, or None at a socket of the file system: whoever
            may open that is on this machine.
        role
            One of `keepfit.tokens.ROLES`.
        """
        if self.asked:
            for name, value in headers:
                if name == b"authorization":
                    return self._bearer(value, role)
            return MISSING
        if client is not None and not loopback(client[0]):
            return ELSEWHERE
        for name, value in headers:
            if name == b"host":
                if not _named(value):
                    return MISLED
            elif name == b"origin" and not _own(value):
                return FOREIGN
        return ANYONE

    def _bearer(self, value: bytes, role: str) -> Caller | Reply:
        scheme, _, secret = value.decode("latin-1").partition(" ")
        token = self._known.find(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            return UNKNOWN
        if not token.allows(role, self._pipeline):
            roles = ", ".join(token.roles)
            where = f" at {', '.join(token.pipelines)}" if token.pipelines else ""
            return said(
                403,
                f"expected a token for {role!r} at {self._pipeline!r}, got {roles}{where}",
                f"`keepfit token make NAME --role {role}` makes one",
            )
        return Caller(token.name, token.allows("label", self._pipeline))

    def _failed(self, error: Exception) -> None:
        self._known, self.asked = Known(), True
        _log.exception("nobody is let in: the tokens cannot be read")


ANYONE = Caller()
"""Who asks where there are no tokens."""


@lru_cache(256)
def _named(host: bytes) -> bool:
    """Return whether whoever asks has named this machine, and not a name of theirs that leads here.

    A page may let its own name lead to this machine, whereupon a browser takes the server's
    answers for the page's own (DNS rebinding); the name itself the page cannot change.
    """
    try:
        name = urlsplit(b"//" + host).hostname or b""
    except ValueError:
        return False
    return loopback(name.decode("latin-1")) or name.endswith(b".localhost")


def _own(origin: bytes) -> bool:
    """Return whether a page that asks lies on this machine.

    A browser sends whatever any page wants to whoever listens on its machine, and names the
    page's site in this header.
    """
    try:
        return loopback(urlsplit(origin.decode("latin-1")).hostname or "")
    except ValueError:
        return False


def loopback(host: str) -> bool:
    """Return whether a host is this machine and no other can reach it.

    Examples
    --------
    >>> loopback("127.0.0.1"), loopback("::1"), loopback("localhost"), loopback("0.0.0.0")
    (True, True, True, False)
    """
    # An address costs the library microseconds, and this is the one that nearly all come from.
    if host in ("127.0.0.1", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bindable(host: str, tokens: Tokens) -> str:
    """Return a host that the server may listen on.

    Raises
    ------
    ConfigError
        Others than this machine can reach it, and nobody has a token.
    """
    if loopback(host) or len(tokens.known()):
        return host
    raise ConfigError(
        f"expected a host of this machine alone, got {host!r}: there are no tokens",
        hint="`keepfit token make NAME --role predict` makes one, or keep --host 127.0.0.1",
    )
