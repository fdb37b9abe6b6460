"""A load of requests over HTTP, on raw sockets: what it costs itself is told beside what it saw.

Each connection sends a request, waits for the whole answer, and sends the next.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

WARM = 1.0
"""Seconds before anything is counted."""


class Load:
    """What all connections share: the requests in turn, and what was seen."""

    def __init__(self, requests: list[bytes]) -> None:
        self.requests = requests
        self.turn = 0
        self.counting = False
        self.latencies: list[float] = []
        self.wrong: list[str] = []

    def next(self) -> bytes:
        """Return the request that comes next."""
        self.turn += 1
        return self.requests[self.turn % len(self.requests)]


class Connection(asyncio.Protocol):
    """One connection that is never idle."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.got = b""
        self.wanted = 0
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop hands over is one by its methods alone.
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self.got = self.got + data if self.got else data
        if not self.wanted:
            self.wanted = _length(self.got)
        if 0 < self.wanted <= len(self.got) or (
            self.wanted < 0 and self.got.endswith(b"0\r\n\r\n")
        ):
            self._whole()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.wrong.append(f"closed: {exc}")

    def _whole(self) -> None:
        load = self.load
        if load.counting:
            load.latencies.append(time.perf_counter() - self.sent)
        if self.got[9:12] != b"200":
            load.wrong.append(self.got[:300].decode(errors="replace"))
        self.got, self.wanted = b"", 0
        self._send()

    def _send(self) -> None:
        assert self.transport is not None
        self.sent = time.perf_counter()
        self.transport.write(self.load.next())


def _length(got: bytes) -> int:
    """Return the bytes of a whole answer; 0 while that is not known, -1 when it comes in parts."""
    end = got.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = got[:end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        return -1
    return end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """Return a request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _run(port: int, connections: int, seconds: float, load: Load) -> float:
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    await asyncio.sleep(WARM)
    load.counting = True
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    load.counting = False
    took = time.perf_counter() - start
    print(json.dumps(_seen(load, took, time.process_time() - cpu)), flush=True)
    # The sockets end with the process: nothing that comes now is counted.
    os._exit(0)


def _seen(load: Load, took: float, cpu: float) -> dict[str, object]:
    found = sorted(load.latencies)
    count = len(found)
    return {
        "requests": count,
        "seconds": took,
        "rate": count / took,
        "p50": found[count // 2] if found else None,
        "p99": found[int(count * 0.99)] if found else None,
        "slowest": found[-1] if found else None,
        "cpu": cpu / count if count else None,
        "wrong": len(load.wrong),
        "example": load.wrong[:1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a server under load.")
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path, help="a file of bodies of JSON, one a line")
    asked = parser.parse_args()
    bodies = asked.bodies.read_bytes().splitlines()
    load = Load([request(asked.path, body) for body in bodies])
    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_run(asked.port, asked.connections, asked.seconds, load))


if __name__ == "__main__":
    main()
