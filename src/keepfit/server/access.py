"""Who may do what: on this machine everyone, from elsewhere nobody without a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from keepfit.errors import ConfigError
from keepfit.server.replies import Reply, said

ROLES = ("predict", "label", "read", "operate")


def authorise(scope: Mapping[str, Any], role: str) -> Reply | None:
    """Return None when a request may do what a role does, else what to tell it.

    Without tokens a request from this machine may do everything and any other nothing.
    """
    client = scope.get("client")
    # A socket of the file system has no address: whoever may open it is on this machine.
    if client is None or loopback(client[0]):
        return None
    return said(
        403,
        f"expected a token with the role {role!r}, got none",
        "without tokens the server answers this machine alone",
    )


def loopback(host: str) -> bool:
    """Return whether a host is this machine and no other can reach it.

    Examples
    --------
    >>> loopback("127.0.0.1"), loopback("::1"), loopback("localhost"), loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bindable(host: str) -> str:
    """Return a host that the server may listen on.

    Raises
    ------
    ConfigError
        Others than this machine can reach it.
    """
    if loopback(host):
        return host
    raise ConfigError(
        f"expected a host of this machine alone, got {host!r}: there are no tokens",
        hint="keep --host 127.0.0.1, behind a proxy that lets in those who may",
    )
