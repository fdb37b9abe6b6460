"""Many connections that ask a server without a pause, in a thread, and keep what they were told."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Row = dict[str, Any]


class Crowd:
    """Connections that send rows, labels of rows that were answered, and rows with their label.

    Parameters
    ----------
    port
        The server's.
    count
        Connections.
    rows
        What is asked about, in turn.
    first
        Where the ids of the rows that are only sent begin.
    labelling
        Whether labels and rows are sent too.

    Attributes
    ----------
    times
        When each request was asked, by `time.perf_counter`, and the seconds until it was answered.
    """

    def __init__(
        self, port: int, count: int, rows: list[Row], first: int = 0, *, labelling: bool = False
    ) -> None:
        self._port, self._count, self._asked = port, count, rows
        self._next, self._labelling = first, labelling
        self._stop = threading.Event()
        self.answers: list[tuple[Row, dict[str, Any]]] = []
        self.labels: dict[Any, int] = {}
        self.rows: dict[int, int] = {}
        self.wrong: list[Any] = []
        self.times: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let each connection finish what it is at."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def told(self) -> int:
        """Return how many requests were answered so far."""
        return len(self.answers) + len(self.labels) + len(self.rows)

    def p99(self, since: float, until: float) -> float:
        """Return the seconds within which 99 of 100 requests were answered, of those asked between."""
        found = sorted(took for at, took in self.times if since <= at < until)
        return found[int(0.99 * len(found))]

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._count)))

    async def _client(self, number: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            self.wrong.append(error)
            return
        draw = random.Random(number)
        with suppress(asyncio.CancelledError):
            while not self._stop.is_set():
                path, body, kept = self._request(draw)
                asked = time.perf_counter()
                try:
                    writer.write(_sent(path, json.dumps(body).encode()))
                    status, content = await _answer(reader)
                except (OSError, asyncio.IncompleteReadError) as error:
                    self.wrong.append(error)
                    break
                if status != 200:
                    self.wrong.append((status, content))
                    break
                self.times.append((asked, time.perf_counter() - asked))
                kept(content)
        writer.close()

    def _request(self, draw: random.Random) -> tuple[str, Any, Callable[[Any], None]]:
        kind = draw.random() if self._labelling else 1.0
        if kind < 0.2 and self.answers:
            id_ = draw.choice(self.answers)[1]["id"]
            # The same each time: who of two was told last is not known here.
            label = int(id_) // 4096 % 2
            return (
                "/labels/churn",
                {"id": id_, "label": label},
                lambda _: self._labelled(id_, label),
            )
        if kind < 0.35:
            self._next += 1
            id_, label = self._next, draw.randrange(2)
            row = {"id": id_, **draw.choice(self._asked), "label": label}
            return "/rows/churn", row, lambda _: self.rows.update({id_: label})
        row = draw.choice(self._asked)
        return "/predict/churn", row, lambda content: self.answers.append((row, content))

    def _labelled(self, id_: Any, label: int) -> None:
        self.labels[id_] = label


def _sent(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), json.loads(await reader.readexactly(length))
