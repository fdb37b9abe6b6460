"""What a process of a server is told: what to serve, and how, without the objects that train it.

A pipeline's file brings the packages that train, which a process that answers has no use for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from keepfit.batch import Roles
from keepfit.explore import Explore
from keepfit.interrupts import handed_on
from keepfit.server.access import Tls


class Order(msgspec.Struct, frozen=True):
    """What to serve, and how.

    ``sock`` is the number of the file that listens, which a new process is handed down.
    ``parent`` is the process that watches over this one, where it is one of several.
    """

    pipeline: str
    home: str
    file: str
    roles: Roles
    sock: int
    address: str
    workers: int = 1
    loop: bool = False
    tls: Tls | None = None
    as_json: bool = False
    parent: int | None = None
    explore: Explore | None = None

    @property
    def folder(self) -> Path:
        """The home, as a path."""
        return Path(self.home)

    def command(self) -> list[str]:
        """Return the command that carries it out."""
        return [sys.executable, "-m", "keepfit.server", msgspec.json.encode(self).decode()]


def begin(order: Order) -> None:
    """Carry out an order in this process, begun anew without what it imported so far.

    Where a process cannot begin anew, as on Windows, it goes on as it is.
    """
    if os.name == "nt":
        from keepfit.server.__main__ import main

        main(order)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with handed_on():
        os.execv(sys.executable, order.command())
