"""The verbs that serve: serve, and up, which runs the loop beside it."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated, Any

import typer

from keepfit import terminal
from keepfit.cli.finding import load
from keepfit.cli.words import File, Home, Json, verb

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
    from keepfit.server.order import begin
    from keepfit.server.process import ordered

    with contextlib.closing(load(file, home)) as pipeline:
        order = ordered(
            pipeline, file, host=host, port=port, workers=workers, as_json=as_json, **options
        )
    if order.tls is None and not loopback(host) and not as_json:
        terminal.say("  tokens travel readable: --certfile, or a proxy, encrypts them", "warn")
    begin(order)
