"""A worker of several: ``python -m keepfit.server FILE HOME SOCKET``, started by `keepfit serve`."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path


def main(file: str, home: str, number: str) -> None:
    """Serve on a socket that was handed down, as long as the process lives that did so."""
    from keepfit.cli.finding import load
    from keepfit.server.worker import run

    pipeline = load(file, Path(home))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    run(pipeline, socket.socket(fileno=int(number)))


def _end_with(parent: int) -> None:
    """End when the parent is gone: nobody else would end this process."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
