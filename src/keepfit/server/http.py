"""HTTP/1.1 on the hot path: requests for predictions go to the desk without a task or a scope.

Everything else goes the way of ASGI, by the protocol of uvicorn that this one extends; parsing
is httptools' for both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keepfit.server.access import Access, Caller
from keepfit.server.desk import Desk
from keepfit.server.replies import JSON, Reply, said

MOST_BYTES = 8 * 1024 * 1024
"""Bytes of the body of a request."""

MOST_HEAD_BYTES = 64 * 1024
"""Bytes of a request that are not its body, while more of it is awaited."""

REQUEST_SECONDS = 30.0
"""How long a client may take to send a request, from its first byte on, or read no answer."""

IDLE_SECONDS = 75.0
"""How long a connection may be silent."""

_LINES = {
    200: b"HTTP/1.1 200 OK\r\n",
    400: b"HTTP/1.1 400 Bad Request\r\n",
    401: b"HTTP/1.1 401 Unauthorized\r\n",
    403: b"HTTP/1.1 403 Forbidden\r\n",
    404: b"HTTP/1.1 404 Not Found\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    413: b"HTTP/1.1 413 Content Too Large\r\n",
    422: b"HTTP/1.1 422 Unprocessable Content\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    500: b"HTTP/1.1 500 Internal Server Error\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\n",
}
_REST = b"content-type: " + JSON + b"\r\ncontent-length: "

TOO_LARGE = said(413, f"expected a body of at most {MOST_BYTES:,} bytes", "send fewer rows at once")
LONG_HEAD = said(
    431, f"expected headers of at most {MOST_HEAD_BYTES:,} bytes", "send what is long in the body"
)
NOT_HTTP = said(
    400,
    "expected a request of HTTP/1.1, got bytes that are none",
    "one length of the body, lines that end in CR and LF; https:// needs `--certfile`",
)
TOO_SLOW = said(408, f"expected the whole request within {REQUEST_SECONDS:g} s")


class Room:
    """What bodies that are still coming hold of a worker's memory, all connections together."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, length: int) -> bool:
        """Take room for so many bytes, and return whether there was some."""
        if self.held + length > self.most:
            return False
        self.held += length
        return True

    def give(self, length: int) -> None:
        """Give room back."""
        self.held -= length


ROOM = Room(256 * 1024 * 1024)
FULL = said(503, "more is being sent at once than a server holds", "try again in a second", 1)


class _Whole(NamedTuple):
    """A request that came while the one before was being answered."""

    hot: bool
    url: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    seen: _Seen


class _Seen:
    """What the parser knew of a request when its headers were complete."""

    def __init__(self, parser: Any) -> None:
        self._method: bytes = parser.get_method()
        self._version: str = parser.get_http_version()
        self._keep: bool = parser.should_keep_alive()
        self._upgrade: bool = parser.should_upgrade()

    def get_method(self) -> bytes:
        return self._method

    def get_http_version(self) -> str:
        return self._version

    def should_keep_alive(self) -> bool:
        return self._version != "1.0" and self._keep

    def should_upgrade(self) -> bool:
        return self._upgrade


class _Head(NamedTuple):
    """What the parser found in the head of a request, and the bytes of the body behind it."""

    headers: list[tuple[bytes, bytes]]
    seen: _Seen
    length: int


HEADS = 512
"""Heads that are known at once at most."""

HEAD_BYTES = 4_096
"""Bytes of the longest head that is kept."""


class Heads:
    """Heads of requests that were parsed before: a client sends the same one again and again.

    What is the same to the byte is not parsed again. Only requests for predictions are kept,
    that came in one piece and said how long they are.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, _Head] = {}

    def find(self, data: bytes) -> tuple[_Head, int] | None:
        """Return the head of a request that is there whole, and where its body begins."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES) + 4
        head = self._known.get(data[:end])
        return (head, end) if head is not None and len(data) - end == head.length else None

    def learn(
        self, data: bytes, body: bytes, headers: list[tuple[bytes, bytes]], seen: _Seen
    ) -> None:
        """Keep the head of a request that was parsed, where it may be known by its bytes alone."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES) + 4
        length = len(body)
        if end > 3 and data[end:] == body and (b"content-length", b"%d" % length) in headers:
            if len(self._known) >= HEADS:
                self._known.clear()
            self._known[data[:end]] = _Head(headers, seen, length)


class Protocol(HttpToolsProtocol):
    """A connection. Requests are answered in the order they came, one after the other."""

    def __init__(self, desk: Desk, access: Access, heads: Heads, **given: Any) -> None:
        super().__init__(**given)
        self.desk, self._access, self._heads = desk, access, heads
        self._path = b"/predict/" + desk.name.encode()
        self._hot = False
        self._answering = False
        self._closing = False
        self._keep = True
        self._parts: list[bytes] = []
        self._length = 0
        self._seen: _Seen | None = None
        self._caller: Caller | None = None
        self._upgrading = False
        self._stuck: float | None = None
        self._unsent = 0
        self._fresh = b""
        self._coming = self._spare = 0
        self._queue: deque[_Whole] = deque()
        self.begun: float | None = None
        self.touched = self.loop.time()

    # What comes in ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network."""
        self.touched = self.loop.time()
        if self._closing:
            return
        fresh = self.begun is None and not self._answering and not self._queue and self._free()
        if fresh and self._quickly(data):
            return
        self._fresh = data if fresh else b""
        self._coming = len(data)
        if self.begun is not None:
            self._spare -= self._coming
        self._feed(data)
        self._fresh = b""
        # The parser keeps headers, and the path, for as long as they do not end.
        if self.begun is not None and self._spare < 0:
            self._refuse(LONG_HEAD)

    def _feed(self, data: bytes) -> None:
        """Let the parser read on; that somebody would rather speak another protocol is ignored.

        A server may do so (RFC 9110 (2022), section 7.8), but the parser takes the body for a part
        of that protocol: it is given the request once more, without that wish.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as wish:
            if self._upgrading:
                head, self.parser = self._without_upgrade(), httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self._upgrading = False
                self._feed(head + data[wish.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _without_upgrade(self) -> bytes:
        """Return the head of the request that has come, without the wish for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % one for one in self.headers if one[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _quickly(self, data: bytes) -> bool:
        """Answer a request whose head is known; return whether that could be."""
        found = self._heads.find(data)
        if found is None or (caller := self._admitted(found[0].headers)) is None:
            return False
        head, end = found
        self._unset_keepalive_if_required()
        self._answer(head.headers, data[end:], head.seen, caller)
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.begun = self.touched
        # What came with it may be its head; a request behind it came with what is left.
        self._spare, self._coming = MOST_HEAD_BYTES - self._coming, 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Decide which way a request goes, once its headers are known."""
        self._hot, self._caller = False, None
        seen = _Seen(self.parser)
        if seen.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers):
            self._upgrading = True
            return
        # One by one: what came before is answered before.
        behind = self._answering or bool(self._queue)
        if not behind and self._announced() > MOST_BYTES:
            self._hot = True
            self._refuse(TOO_LARGE)
            return
        if not behind and self._is_hot(seen) and self._free():
            self._caller = self._admitted(self.headers)
        if behind or self._caller is not None:
            self._hot, self._seen = True, seen
            return
        self._cold()

    def _is_hot(self, seen: _Seen) -> bool:
        return (
            self.url == self._path
            and seen.get_method() == b"POST"
            and not self.expect_100_continue
            and not seen.should_upgrade()
        )

    def _announced(self) -> int:
        """Return how long a request says that its body is; 0 where it does not say."""
        return next((int(value) for name, value in self.headers if name == b"content-length"), 0)

    def _admitted(self, headers: list[tuple[bytes, bytes]]) -> Caller | None:
        """Return who asks when they may; others are told so, and their body is not awaited."""
        caller = self._access.admit(headers, self.client, "predict")
        return None if isinstance(caller, Reply) else caller

    def _free(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def on_body(self, body: bytes) -> None:
        """Take a part of a request's body."""
        # In small chunks, as much again goes for their lengths.
        self._spare += 2 * len(body)
        if not self._hot:
            super().on_body(body)
            return
        if self._closing:
            return
        if self._length + len(body) > MOST_BYTES:
            self._refuse(TOO_LARGE)
        elif not ROOM.take(len(body)):
            self._refuse(FULL)
        else:
            self._length += len(body)
            self._parts.append(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what had come."""
        self._let_go()
        super().connection_lost(exc)

    def _let_go(self) -> None:
        ROOM.give(self._length)
        self._parts, self._length = [], 0

    def on_message_complete(self) -> None:
        """Answer a request, or let it wait for its turn."""
        if self._upgrading:
            return
        self.begun = None
        if self._closing:
            return
        if not self._hot:
            super().on_message_complete()
            return
        self._hot = False
        seen, caller = self._seen, self._caller
        assert seen is not None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._let_go()
        if caller is None or self._answering or self._queue or self.flow.write_paused:
            # One that came behind another was not asked yet who it is from.
            self._queue.append(_Whole(self._is_hot(seen), self.url, self.headers, body, seen))
            self.flow.pause_reading()
            self._next()
            return
        if self._fresh:
            self._heads.learn(self._fresh, body, self.headers, seen)
        self._answer(self.headers, body, seen, caller)

    # What goes out ------------------------------------------------------------------------

    def _answer(
        self, headers: list[tuple[bytes, bytes]], body: bytes, seen: _Seen, caller: Caller
    ) -> None:
        self._answering = True
        self._keep = seen.should_keep_alive()
        kind = ""
        for name, value in headers:
            if name == b"content-type":
                kind = value.decode("latin-1")
        self.desk.predict(body, kind, self._send, caller)

    def _send(self, reply: Reply) -> None:
        self._answering = False
        if self.transport.is_closing():
            return
        self._write(reply, keep=self._keep)
        self.touched = self.loop.time()
        self.server_state.total_requests += 1
        if not self._keep or self._closing:
            self._closing = True
            self.transport.close()
        elif self._queue:
            self._next()

    def _next(self) -> None:
        """Begin with the request that waits, the way it would have gone by itself."""
        while self._queue and not self._answering and self._free() and not self.flow.write_paused:
            whole = self._queue.popleft()
            if whole.hot and (caller := self._admitted(whole.headers)) is not None:
                self._answer(whole.headers, whole.body, whole.seen, caller)
                continue
            self._replay(whole)
        if not self._queue and not self.flow.write_paused:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Take no more requests while their answers are not read: they would pile up here."""
        super().pause_writing()
        self.flow.pause_reading()
        self._stuck, self._unsent = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Go on with what has come meanwhile."""
        super().resume_writing()
        self._stuck = None
        if self.begun is not None:
            self.begun = self.loop.time()  # what is still to come was not read meanwhile
        self._next()

    def on_response_complete(self) -> None:
        """Go on after a response that went the way of ASGI."""
        super().on_response_complete()
        self._next()

    def _replay(self, whole: _Whole) -> None:
        kept = self.parser, self.url, self.headers
        self.parser = cast("Any", whole.seen)
        self.url, self.headers = whole.url, whole.headers
        try:
            self._cold()
            if whole.body:
                super().on_body(whole.body)
            super().on_message_complete()
        finally:
            self.parser, self.url, self.headers = kept

    def _cold(self) -> None:
        """Go the way of ASGI."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _write(self, reply: Reply, *, keep: bool) -> None:
        head = [_LINES[reply.status], _REST, b"%d\r\n" % len(reply.body)]
        if reply.retry_after is not None:
            head.append(b"retry-after: %d\r\n" % reply.retry_after)
        if not keep:
            head.append(b"connection: close\r\n")
        self.transport.write(b"".join((*head, b"\r\n", reply.body)))

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser takes for no request, as all errors are told."""
        self._refuse(NOT_HTTP)

    def _refuse(self, reply: Reply) -> None:
        """Answer a request that is not taken, and end the connection."""
        if self._closing:
            return
        self._closing = True
        # A handler that still waits for its request has said nothing yet.
        if not self._answering and (self._free() or not self.cycle.response_started):
            self._write(reply, keep=False)
        self.transport.close()

    # How long it may take -----------------------------------------------------------------

    def shutdown(self) -> None:
        """End the connection once what is being answered was sent."""
        if self._answering:
            self._closing = True
        else:
            super().shutdown()

    def tire(self, now: float) -> None:
        """End a connection that takes too long to send a request, has none, or reads no answers."""
        if self._stuck is not None:
            self._wait_for_reader(self._stuck, now)
            return
        if self._answering or self.transport is None:
            return
        if self.begun is not None:
            if now - self.begun > REQUEST_SECONDS:
                self._refuse(TOO_SLOW)
        elif self._free() and now - self.touched > IDLE_SECONDS:
            self.transport.close()

    def _wait_for_reader(self, since: float, now: float) -> None:
        """Give up on a client that has read nothing for too long; a slow one may take its time."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._stuck, self._unsent = now, unsent
        elif now - since > REQUEST_SECONDS:
            self.transport.abort()


async def tire(connections: Iterable[Any], every: float = 5.0) -> None:
    """Look after the connections of a server, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every)
        for connection in list(connections):
            if isinstance(connection, Protocol):
                connection.tire(loop.time())
