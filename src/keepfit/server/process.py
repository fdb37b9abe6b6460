"""The processes of a server: workers on one socket, and the guide that they follow.

With one worker everything is in one process. With several, this one guides and watches: a
worker that dies is started again. The loop of ``keepfit up`` is a process of its own: what it
computes would hold up answers, and what ends it must not end them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from keepfit.errors import ConfigError, ExtraMissing, KeepfitError
from keepfit.interrupts import handed_on
from keepfit.periodic import Periodic
from keepfit.server.access import Tls, bindable
from keepfit.server.order import Order
from keepfit.tokens import Tokens, tokens_of

if TYPE_CHECKING:
    from keepfit.pipeline import Pipeline

_log = logging.getLogger("keepfit.server")
WATCHED_EVERY = 0.5
RESTED = 1.0
"""Seconds before a process that died is started again."""


def ordered(
    pipeline: Pipeline,
    file: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    loop: bool = False,
    certfile: str | None = None,
    keyfile: str | None = None,
    as_json: bool = False,
) -> Order:
    """Return what it takes to serve a pipeline, with a socket that listens already.

    Parameters
    ----------
    pipeline
        What is served.
    file
        The file that holds it, as on the command line: other processes load it again.
    host, port
        Where to listen; port 0 takes a free one.
    workers
        Processes that answer.
    loop
        Whether the loop runs too, in a process of its own.
    certfile, keyfile
        Of the certificate to serve HTTPS with, and of its key where that is a file of its own.
    as_json
        Whether the address is told as JSON.

    Raises
    ------
    ConfigError
        The source has no id, the host can be reached from elsewhere and there are no tokens,
        or the certificate cannot be read.
    ExtraMissing
        The packages of the extra ``serve`` are not installed.
    KeepfitError
        The port is taken.
    """
    _check(pipeline)
    if workers > 1 and os.name == "nt":
        raise ConfigError("expected one worker on Windows, got several", hint="--workers 1")
    tls = _secured(certfile, keyfile)
    sock = listening(bindable(host, Tokens(tokens_of(pipeline.home))), port)
    address = _address("http" if tls is None else "https", host, sock.getsockname()[1])
    return Order(
        pipeline.name,
        str(pipeline.home.absolute()),
        file,
        pipeline.source.roles,
        sock.detach(),
        address,
        workers,
        loop,
        tls,
        as_json,
        explore=pipeline.explore,
    )


def serve(order: Order, sock: socket.socket, started: Callable[[], None] | None = None) -> None:
    """Serve until the process is asked to end; ``started`` is called once requests are answered."""
    from keepfit.server.guide import Guide

    guide = Guide(order.folder, order.pipeline)
    children = [_looping(order)] if order.loop else []
    if order.workers > 1:
        children += [_working(order)] * order.workers
    family = Family(children)
    guide.start()
    try:
        if order.workers == 1:
            from keepfit.server.worker import run

            with family.watched():
                run(order, sock, started)
        else:
            if started is not None:
                started()
            family.watch()
    finally:
        family.end()
        guide.close()
        sock.close()


def _secured(certfile: str | None, keyfile: str | None) -> Tls | None:
    """Return what to serve HTTPS with, once it is known to be a certificate and its key."""
    if certfile is None:
        if keyfile is not None:
            raise ConfigError("expected a certificate with the key, got none", hint="--certfile")
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        where = certfile if keyfile is None else f"{certfile} and {keyfile}"
        raise ConfigError(
            f"expected a certificate and its key in {where}, got: {error}",
            hint="both are PEM files; a key with a password has to be stored without it",
        ) from None
    return Tls(certfile, keyfile)


def _address(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check(pipeline: Pipeline) -> None:
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(
            f"expected the package `{error.name}` to serve with, and it is not installed",
            hint='pip install "keepfit[serve]"',
        ) from None
    if pipeline.source.roles.id is None:
        raise ConfigError(
            f"expected an id in {pipeline.source!r} to serve {pipeline.name!r}: "
            "labels come later, by id",
            hint='name its column: id="id"',
        )


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections.

    Raises
    ------
    KeepfitError
        The port is taken, or not this user's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise KeepfitError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="--port 0 takes a free one",
        ) from None
    sock.listen(2_048)
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock


Start = Callable[[], "subprocess.Popen[bytes]"]


def _looping(order: Order) -> Start:
    command = [
        sys.executable,
        "-m",
        "keepfit.server.looping",
        order.file,
        order.home,
        order.pipeline,
    ]
    # Ctrl-C is for the server, which ends the loop.
    return lambda: subprocess.Popen([*command, str(os.getpid())], process_group=0)


def _working(order: Order) -> Start:
    command = replace(order, parent=os.getpid()).command()

    def start() -> subprocess.Popen[bytes]:
        with handed_on():
            return subprocess.Popen(command, pass_fds=[order.sock])

    return start


class Family:
    """Child processes, started again when they die, and ended with this one."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self._starts = list(starts)
        self._children = [start() for start in starts]
        self._ended = False

    def watch(self) -> None:
        """Look after the children until this process is asked to end."""
        while not self._ended:
            time.sleep(WATCHED_EVERY)
            self.look()

    def watched(self) -> Periodic:
        """Return a context in which a thread looks after the children."""
        return Periodic(self.look, WATCHED_EVERY, name="keepfit family", failed=_unstarted)

    def look(self) -> None:
        """Start again whoever has died."""
        for place, child in enumerate(self._children):
            if child.poll() is not None and not self._ended:
                _log.error("process %d ended with status %d", child.pid, child.returncode)
                time.sleep(RESTED)
                self._children[place] = self._starts[place]()

    def end(self) -> None:
        """End the children: what they are at they finish."""
        self._ended = True
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _unstarted(error: Exception) -> None:
    _log.exception("a process cannot be started; it is tried again")
