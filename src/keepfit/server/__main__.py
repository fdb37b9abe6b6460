"""A worker of several, started by `keepfit serve`: ``python -m keepfit.server``, with what `main` takes."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path


def main(file: str, home: str, parent: str, number: str, *tls: str) -> None:
    """Serve on a socket that was handed down, as long as the process lives that did so."""
    from keepfit.cli.finding import load
    from keepfit.server.access import Tls
    from keepfit.server.worker import run

    ends_with(int(parent))
    pipeline = load(file, Path(home))
    sock, passed = socket.socket(fileno=int(number)), Tls(*tls) if tls else None
    run(pipeline, sock, tls=passed, server=int(parent))


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
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
