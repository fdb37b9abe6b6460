"""A process of a server: ``python -m keepfit.server ORDER``, begun by `keepfit serve`."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time

import msgspec
import typer

from keepfit import terminal
from keepfit.cli.words import stopped, verb
from keepfit.interrupts import ready
from keepfit.results.line import printable
from keepfit.server.order import Order


def main(order: Order) -> None:
    """Carry out an order until this process is asked to end."""
    ready()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    heard(logging.INFO if order.parent is None else logging.WARNING)
    sock = socket.socket(fileno=order.sock)
    if order.parent is None:
        from keepfit.server.process import serve

        try:
            serve(order, sock, started=lambda: _tell(order))
        except KeyboardInterrupt as stop:
            terminal.say("\nstopped: what was answered is on disk")
            raise stopped(stop) from None
        return
    from keepfit.server.worker import run

    ends_with(order.parent)
    try:
        run(order, sock)
    except KeyboardInterrupt as stop:
        raise stopped(stop) from None


def _tell(order: Order) -> None:
    """Tell that requests are answered, and where."""
    if order.as_json:
        told = {"pipeline": order.pipeline, "address": order.address, "pid": os.getpid()}
        terminal.data(told)
        return
    details = [order.address, f"home {order.home}"]
    verb = "up" if order.loop else "serve"
    terminal.say(terminal.headline(order.pipeline, verb, details), "head")
    terminal.say(f"  POST {order.address}/predict/{order.pipeline}; Ctrl-C ends it", "dim")


_WHOLE = logging.Formatter()


class _Told(logging.Handler):
    """Tells people what the server has to say, as all else is told."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record."""
        style = "warn" if record.levelno >= logging.WARNING else "dim"
        terminal.say(f"  {printable(record.getMessage())}", style)
        if record.exc_info:
            terminal.say(_WHOLE.formatException(record.exc_info), "dim")


def heard(level: int = logging.INFO) -> None:
    """Let people hear what a process of the server has to say, from a level on."""
    logger = logging.getLogger("keepfit.server")
    logger.setLevel(level)
    logger.addHandler(_Told())


def ends_with(parent: int) -> None:
    """End this process when its parent is gone: nobody else would, once that was killed.

    The parent says who it is: it may be gone before this process could ask.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="keepfit parent", daemon=True).start()


if __name__ == "__main__":
    try:
        verb(main)(msgspec.json.decode(sys.argv[1], type=Order))
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
