"""The right to run a pipeline, held by one process at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

from keepfit.errors import ConfigError, KeepfitError, LeaseLost
from keepfit.ledger import statements
from keepfit.ledger.connection import moment

if TYPE_CHECKING:
    from types import TracebackType

    from keepfit.ledger.connection import Connection
    from keepfit.ledger.store import Store


class Lease:
    """The right to run a pipeline: renewed while it is held, given back on leaving ``with``.

    `Ledger.lease` makes one. Its ``token`` is larger than that of every holder before, and
    an append that carries the lease is refused once someone else has taken over. A lease
    that ran out and that nobody took is still good.

    Raises
    ------
    ConfigError
        The length is not more than zero seconds.
    LeaseLost
        Another process, or another thread of this one, holds it.
    """

    def __init__(self, store: Store, pipeline: str, *, seconds: float, holder: str | None) -> None:
        if not seconds > 0:
            raise ConfigError(f"expected a lease of more than 0 seconds, got {seconds!r}")
        self.pipeline = pipeline
        self.seconds = seconds
        self._store = store
        self._host, self._pid, self._started = _process(os.getpid())
        self.holder = holder or f"process {self._pid} on {self._host.split('/')[0]}"
        self.token = 0
        self.until: datetime
        self._lost: str | None = None
        self._released = threading.Event()
        store.write(self._take, lock=pipeline)
        self._heart = threading.Thread(
            target=_beat,
            args=(weakref.ref(self), self._released, seconds / 3, store.leave),
            name=f"keepfit-lease-{pipeline}",
            daemon=True,
        )
        self._heart.start()

    def __repr__(self) -> str:
        """Return who holds what until when."""
        state = f"until {self.until:%Y-%m-%d %H:%M:%S} UTC" if self.held else "no longer held"
        return f"<Lease {self.pipeline!r} of {self.holder}, token {self.token}, {state}>"

    @property
    def held(self) -> bool:
        """Whether it was neither given back nor seen to be lost."""
        return self._lost is None and not self._released.is_set()

    def renew(self) -> None:
        """Hold the lease for its full length from now.

        Raises
        ------
        LeaseLost
            It was given back, or someone else took over.
        """
        self._store.write(self._extend, lock=self.pipeline)

    def release(self) -> None:
        """Give the lease back; a second time does nothing."""
        if self._released.is_set() or self._pid != os.getpid():
            return
        self._released.set()
        if threading.current_thread() is not self._heart:
            self._heart.join()
        try:
            self._store.write(self._free, lock=self.pipeline)
        except KeepfitError:
            return  # a database that cannot be written: the lease runs out by itself

    def __enter__(self) -> Self:
        """Return the lease, which is held already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lease back."""
        self.release()

    def guard(self, connection: Connection) -> None:
        """Check the token, in the transaction of an append.

        Raises
        ------
        LeaseLost
            It was given back, or someone else took over.
        """
        if self._released.is_set():
            raise LeaseLost(f"the lease on pipeline {self.pipeline!r} was given back", hint=_HINT)
        row = _read(connection, self.pipeline)
        if row is None or row.token != self.token or row.holder is None:
            self._lost = _whose(self.pipeline, row)
            raise LeaseLost(f"{self.holder} lost the lease: {self._lost}", hint=_HINT)

    def _take(self, connection: Connection) -> None:
        row = _read(connection, self.pipeline)
        now = _now(connection)
        if row is not None and row.holder is not None and row.expires_at > now and not _dead(row):
            raise LeaseLost(_whose(self.pipeline, row), hint=_HINT)
        self.token = 1 if row is None else row.token + 1
        self.until = now + timedelta(seconds=self.seconds)
        values = {
            "pipeline": self.pipeline,
            "token": self.token,
            "holder": self.holder,
            "host": self._host,
            "pid": self._pid,
            "started": self._started,
            "expires_at": self.until,
        }
        connection.execute(
            statements.INSERT_LEASE if row is None else statements.UPDATE_LEASE, values
        )

    def _extend(self, connection: Connection) -> None:
        self.guard(connection)
        self.until = _now(connection) + timedelta(seconds=self.seconds)
        values = {"pipeline": self.pipeline, "expires_at": self.until}
        connection.execute(statements.EXTEND_LEASE, values)

    def _free(self, connection: Connection) -> None:
        row = _read(connection, self.pipeline)
        if row is not None and row.token == self.token:
            connection.execute(statements.FREE_LEASE, {"pipeline": self.pipeline})


_HINT = "one process runs a pipeline at a time: stop the other one, or wait until it is done"


def _beat(
    lease: weakref.ref[Lease], released: threading.Event, pause: float, leave: Callable[[], None]
) -> None:
    """Renew a lease until it is given back, lost or forgotten."""
    try:
        while not released.wait(pause):
            held = lease()
            if held is None:
                return
            try:
                held.renew()
            except LeaseLost:
                return
            except KeepfitError:
                pass  # busy or full for now; if it stays so, the next append finds out
            del held
    finally:
        leave()


class _Row(NamedTuple):
    """A lease as the database keeps it."""

    token: int
    holder: str | None
    host: str
    pid: int
    started: float
    expires_at: datetime


def _read(connection: Connection, pipeline: str) -> _Row | None:
    found = connection.execute(statements.ONE_LEASE, {"pipeline": pipeline})
    if not found:
        return None
    row = _Row(*found[0])
    return row._replace(expires_at=moment(row.expires_at))


def _now(connection: Connection) -> datetime:
    return moment(connection.execute(statements.NOW[connection.kind])[0][0])


def _whose(pipeline: str, row: _Row | None) -> str:
    if row is None or row.holder is None:
        return f"nobody holds pipeline {pipeline!r}"
    return f"{row.holder} holds pipeline {pipeline!r} until {row.expires_at:%Y-%m-%d %H:%M:%S} UTC"


@lru_cache(maxsize=1)
def _process(pid: int) -> tuple[str, int, float]:
    return _host(), pid, _started(pid)


@cache
def _host() -> str:
    """Return what tells this machine from others, and this container from its neighbours.

    Host names repeat (two containers, two laptops), and a process number means nothing
    outside its own process namespace.
    """
    import socket

    parts = [socket.gethostname()]
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            parts.append(file.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        import uuid

        parts.append(f"{uuid.getnode():012x}")
    return "/".join(parts)


def _started(pid: int) -> float:
    """Return when a process of this machine started.

    On Linux the moment counts from boot: psutil adds the boot time, which moves when the
    clock is set.
    """
    import psutil

    process = psutil.Process(pid)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.NoSuchProcess(pid)
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def _dead(row: _Row) -> bool:
    """Return whether the holder was a process of this machine that no longer runs."""
    import psutil

    if row.host != _host():
        return False
    try:
        # The boot time has a resolution of a second.
        return abs(_started(row.pid) - float(row.started)) > 2.0
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False  # another user's, and running
