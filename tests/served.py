"""A server in a thread of the tests, on a home in which a model serves."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

from keepfit import Pipeline
from keepfit.journal import Journal, Kept
from keepfit.ledger.steps import Steps, steps_of
from keepfit.registry import State
from keepfit.server.access import Tls
from keepfit.server.models import Pointer, point
from keepfit.server.office import Hands
from keepfit.server.process import listening
from keepfit.server.worker import Worker, configured
from tests.servers import World
from tests.waits import PATIENCE, until

JSON = {"content-type": "application/json"}
ROW_ = {"x": 0.5, "y": -1.0, "kind": "a"}


class Inside:
    """An office whose questions a thread of this process answers: stores stay with theirs."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._hands = pipeline, Hands(pipeline)
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, what: str, *given: Any) -> dict[str, Any]:
        function = getattr(self._hands, what)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *given)

    async def standing(self) -> State:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._pipeline.loop().refold())

    async def stepping(self) -> Steps:
        def look() -> Steps:
            return steps_of(self._pipeline.loop().memory.ledger, self._pipeline.name)

        return await asyncio.get_running_loop().run_in_executor(self._thread, look)

    def close(self) -> None:
        self._thread.submit(self._hands.close).result()
        self._thread.shutdown()


class Served:
    """A worker in a thread of this process, on a home in which v1 is champion."""

    def __init__(self, world: World, tls: Tls | None = None) -> None:
        self.tls = tls
        self.world = world
        self.sock = listening("127.0.0.1", 0)
        self.port: int = self.sock.getsockname()[1]
        self.ready = threading.Event()
        self.server: uvicorn.Server | None = None
        self.worker: Worker | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.thread.start()
        assert self.ready.wait(PATIENCE)

    async def _run(self) -> None:
        made = self.world.made
        parts = (made.home, made.name, made.source.roles, Inside(made))
        self.worker = Worker(*parts, explore=made.explore)
        self.worker.follower.start()
        self.server = uvicorn.Server(configured(self.worker, self.tls))
        asyncio.get_running_loop().call_soon(self.ready.set)
        await self.server.serve(sockets=[self.sock])
        self.worker.close()

    def close(self) -> None:
        assert self.server is not None
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        self.sock.close()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            trust = ssl.create_default_context(cafile=self.tls.certfile)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=trust)
        with contextlib.closing(connection):
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, raw, headers or JSON)
            response = connection.getresponse()
            content = response.read()
        plain = "json" not in response.headers.get("content-type", "")
        return response.status, content if plain else json.loads(content)

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send bytes, and return all that comes until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            found = b""
            while part := connection.recv(65_536):
                found += part
            return found

    def kept(self, *kinds: int) -> list[Kept]:
        with contextlib.closing(Journal(self.world.path)) as journal:
            return journal.after(0, kinds=kinds)

    def waits_for(self, version: str) -> None:
        until(lambda: self.ask("GET", "/health")[1]["serving"] == version)


def opened(folder: Path, learner: Any, tls: Tls | None = None, **parts: Any) -> Iterator[Served]:
    world = World(folder, learner=learner, **parts)
    world.steps()
    digest = world.loop.refold().version("champion").artifact
    with contextlib.closing(Journal(world.path)) as journal:
        point(journal, Pointer("v1", digest, "number"))
    served = Served(world, tls)
    served.waits_for("v1")
    yield served
    served.close()
