"""The verbs that serve: serve, and up, which runs the loop beside it."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any

import typer

from keepfit import terminal
from keepfit.cli.finding import load
from keepfit.cli.words import File, Home, Json, stopped, verb

Host = Annotated[str, typer.Option("--host", help="Others than this machine need tokens.")]
Port = Annotated[int, typer.Option("--port", help="0 takes a free one.", min=0, max=65_535)]
Certfile = Annotated[
    str | None, typer.Option("--certfile", metavar="FILE", help="Certificate, to serve HTTPS.")
]
Keyfile = Annotated[
    str | None, typer.Option("--keyfile", metavar="FILE", help="Its key, when not in that file.")
]
Workers = Annotated[int, typer.Option("--workers", help="Processes that answer.", min=1, max=64)]


@verb
def serve(
    file: File,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    certfile: Certfile = None,
    keyfile: Keyfile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Answer predictions over HTTP; take labels, rows and events."""
    options = {"certfile": certfile, "keyfile": keyfile, "loop": False}
    _serve(file, host, port, workers, home, as_json, **options)


@verb
def up(
    file: File,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    certfile: Certfile = None,
    keyfile: Keyfile = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run the loop and serve what it makes champion."""
    options = {"certfile": certfile, "keyfile": keyfile, "loop": True}
    _serve(file, host, port, workers, home, as_json, **options)


def _serve(
    file: str, host: str, port: int, workers: int, home: Home, as_json: bool, **options: Any
) -> None:
    # One row is answered quicker by one thread than by many that wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from keepfit.server.access import loopback
    from keepfit.server.process import serve as serving

    pipeline = load(file, home)
    _heard()

    def started(address: str) -> None:
        if as_json:
            terminal.data({"pipeline": pipeline.name, "address": address, "pid": os.getpid()})
            return
        details = [address, f"home {pipeline.home}"]
        terminal.say(
            terminal.headline(pipeline.name, "up" if options["loop"] else "serve", details), "head"
        )
        terminal.say(f"  POST {address}/predict/{pipeline.name}; Ctrl-C ends it", "dim")
        if address.startswith("http://") and not loopback(host):
            terminal.say("  tokens travel readable: --certfile, or a proxy, encrypts them", "warn")

    try:
        serving(pipeline, file, host=host, port=port, workers=workers, started=started, **options)
    except KeyboardInterrupt as stop:
        terminal.say("\nstopped: what was answered is on disk")
        raise stopped(stop) from None
    finally:
        pipeline.close()


class _Told(logging.Handler):
    """Tells people what the server has to say, as all else is told."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record."""
        style = "warn" if record.levelno >= logging.WARNING else "dim"
        terminal.say(f"  {record.getMessage()}", style)


def _heard() -> None:
    logger = logging.getLogger("keepfit.server")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Told())
