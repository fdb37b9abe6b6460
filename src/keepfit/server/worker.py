"""One process that answers: the event loop with its desk, its writer and what it follows."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from keepfit.artifacts import Artifacts
from keepfit.home import places
from keepfit.journal import Writer, journal_of
from keepfit.server.access import Access, Tls
from keepfit.server.app import app
from keepfit.server.batcher import Batcher
from keepfit.server.clerk import Clerk
from keepfit.server.desk import Desk
from keepfit.server.exploring import ExploringDesk
from keepfit.server.exposition import counted
from keepfit.server.follower import POLL, Follower
from keepfit.server.http import Heads, Protocol, tire
from keepfit.server.landed import LandedIds
from keepfit.server.office import Office
from keepfit.server.tally import Tally
from keepfit.tokens import Tokens, tokens_of

if TYPE_CHECKING:
    from keepfit.batch import Roles
    from keepfit.explore import Explore
    from keepfit.server.order import Order

GRACE = 10
"""Seconds that requests have to end when the server does."""

FIRST_LOOK = 30.0
"""Seconds that a worker takes at most to load what serves, before it is open to requests."""

BACKLOG = 2_048

_log = logging.getLogger("keepfit.server")


class Worker:
    """A desk with all that it needs, to be used in the thread of one event loop.

    Parameters
    ----------
    home, name, roles
        The pipeline's.
    office
        What people ask of it, and what they do.
    server
        The process that this one is a worker of, where there are several.
    explore
        What share of the rows is let through that would be stopped, where that is asked for.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        roles: Roles,
        office: Office,
        server: int | None = None,
        explore: Explore | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        path = journal_of(home, name)
        deliver = partial(_told_in, loop)
        self.follower = Follower(path, Artifacts(places(home)["artifacts"]), deliver=deliver)
        self.writer = Writer(path, deliver=deliver, soon=loop.call_soon)
        self.batcher = Batcher(deliver)
        parts = (name, roles, self.follower, self.writer, self.batcher)
        self.desk = Desk(*parts) if explore is None else ExploringDesk(*parts, explore, home)
        self.desk.landed = landed = LandedIds(home, name)
        self.desk.kind_landed = landed.kind
        self.follower.counters = self.desk.counters
        self.office = office
        self.access = Access(Tokens(tokens_of(home)), name)
        self.access.start()
        folder = path.parent / "counted" / name
        self.tally = Tally(folder, partial(counted, self.desk), server)
        self.tally.start()

    def close(self) -> None:
        """Write what waits, and let go of everything."""
        self.tally.close()
        self.access.close()
        self.follower.close()
        self.batcher.close()
        self.writer.close()
        self.office.close()


def _told_in(
    loop: asyncio.AbstractEventLoop, told: list[tuple[Callable[[Any], None], Any]]
) -> None:
    """Tell several callers of their outcome in the thread of an event loop, woken once for all."""
    with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
        loop.call_soon_threadsafe(_tell, told)


def _tell(told: list[tuple[Callable[[Any], None], Any]]) -> None:
    for done, outcome in told:
        try:
            done(outcome)
        except Exception:  # one caller's fault is not that of the others
            _log.exception("a reply could not be sent")


def run(order: Order, sock: socket.socket, started: Callable[[], None] | None = None) -> None:
    """Serve on a socket until the process is asked to end.

    ``started`` is called once requests are answered.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(order, sock, started))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for this platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(order: Order, sock: socket.socket, started: Callable[[], None] | None) -> None:
    office = Clerk(order.file, order.folder, order.pipeline)
    worker = Worker(order.folder, order.pipeline, order.roles, office, order.parent, order.explore)
    worker.follower.start()
    http = uvicorn.Server(configured(worker, order.tls))
    besides = [
        asyncio.create_task(tire(http.server_state.connections)),
        asyncio.create_task(settle(worker.follower)),
    ]
    await looked(worker.follower)
    if started is not None:
        asyncio.get_running_loop().call_soon(started)
    try:
        await http.serve(sockets=[sock])
    finally:
        for one in besides:
            one.cancel()
        await asyncio.get_running_loop().run_in_executor(None, worker.close)


async def looked(follower: Follower) -> None:
    """Wait until the follower has seen what serves, before connections are taken.

    A worker that begins beside others would turn away whom they answer.
    """
    until = time.monotonic() + FIRST_LOOK
    while not follower.looked.is_set() and time.monotonic() < until:
        await asyncio.sleep(0.01)


async def settle(follower: Follower) -> None:
    """Once something serves, take what is there by now for what stays.

    Python's collector of cycles looks at everything now and then, which holds up every answer:
    80 ms with what the packages of a model bring.
    """
    while follower.current is None:
        await asyncio.sleep(POLL)
    gc.collect()
    gc.freeze()


def configured(worker: Worker, tls: Tls | None = None) -> uvicorn.Config:
    """Return what uvicorn runs: the desk's protocol, and the application behind it."""
    protocol: Any = partial(Protocol, worker.desk, worker.access, Heads())
    return uvicorn.Config(
        app(worker.desk, worker.office, worker.access, worker.tally),
        http=protocol,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        server_header=False,
        # What a header says of where a request comes from, whoever sends it may write.
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=None if tls is None else tls.certfile,
        ssl_keyfile=None if tls is None else tls.keyfile,
    )
