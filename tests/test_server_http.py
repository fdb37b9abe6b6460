"""Connections as some clients have them: who wish for another protocol, or read no answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lightgbm import LGBMClassifier

from keepfit.server import http as protocol
from tests.served import ROW_, Served, opened
from tests.waits import until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    learner = LGBMClassifier(n_estimators=3, verbosity=-1)
    for served in opened(tmp_path_factory.mktemp("http"), learner):
        # Those who connect have it from here: without it the system takes megabytes of answers.
        served.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        yield served


def request(path: str, body: bytes, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(found: bytes) -> list[tuple[bytes, bytes]]:
    """Return status and body of each response."""
    parts = found.split(b"HTTP/1.1 ")[1:]
    return [(one.split(b" ", 1)[0], one.partition(b"\r\n\r\n")[2]) for one in parts]


# Another protocol -------------------------------------------------------------------------

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
BODY = json.dumps(ROW_).encode()
LAST = request("/predict/churn", BODY, "connection: close")


@pytest.mark.parametrize("path", ["/predict/churn", "/predict/churn?cold", "/rows/churn"])
@pytest.mark.parametrize("cut", [0, 20, 140, -3])
@pytest.mark.parametrize("wish", [H2C, ("Connection: upgrade", "Upgrade: websocket")])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_read(
    served: Served, path: str, cut: int, wish: tuple[str, ...]
) -> None:
    whole = request(path, BODY, *wish)
    for _ in range(2):  # the second time its head may be known
        found = answers(served.raw(whole[:cut], whole[cut:] + whole, LAST, pause=0.05))
        assert [status for status, _ in found] == [b"200"] * 3
    chunked = request(path, BODY, *wish).replace(
        f"content-length: {len(BODY)}".encode(), b"transfer-encoding: chunked"
    )
    head = chunked.removesuffix(BODY)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    found = answers(served.raw(head + body[:9], body[9:], LAST, pause=0.05))
    assert [status for status, _ in found] == [b"200"] * 2


def test_a_wish_without_a_body_is_ignored_too(served: Served) -> None:
    found = answers(served.raw(request("/health", b"", *H2C, method="GET"), LAST))
    assert [status for status, _ in found] == [b"200"] * 2


# Answers that nobody reads ----------------------------------------------------------------

ROWS = json.dumps([ROW_] * 2_000).encode()


def unread(served: Served, path: str, most: int) -> tuple[socket.socket, int]:
    """Send requests and read no answers, until the server takes no more; return how many came."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    client.connect(("127.0.0.1", served.port))
    client.settimeout(1.0)
    one = request(path, ROWS)
    for count in range(most):
        at = 0
        try:
            while at < len(one):
                at += client.send(one[at:])
        except TimeoutError:
            client.settimeout(30.0)
            return client, count
    raise AssertionError("it takes requests without end")


def connection(served: Served, client: socket.socket) -> Any:
    assert served.server is not None
    mine = client.getsockname()
    (found,) = (one for one in served.server.server_state.connections if one.client == mine)
    return found


@pytest.mark.parametrize("path", ["/predict/churn", "/predict/churn?cold"])
def test_who_reads_no_answers_is_heard_no_more_until_they_do(served: Served, path: str) -> None:
    client, count = unread(served, path, 400)
    with client:
        ours = connection(served, client)
        assert ours.transport.get_write_buffer_size() < 2_000_000
        found = b""
        while found.count(b"HTTP/1.1 200 OK") < count:
            found += client.recv(1 << 20)


def test_who_reads_nothing_for_long_is_let_go(served: Served) -> None:
    client, _ = unread(served, "/predict/churn", 400)
    with client:
        ours = connection(served, client)
        now = time.monotonic()
        tire = ours.loop.call_soon_threadsafe
        tire(ours.tire, now + protocol.REQUEST_SECONDS / 2)
        time.sleep(0.2)
        assert not ours.transport.is_closing()
        # Who reads a little is waited for anew.
        ours._unsent += 1
        tire(ours.tire, now + protocol.REQUEST_SECONDS + 5)
        time.sleep(0.2)
        assert not ours.transport.is_closing()
        tire(ours.tire, now + 2 * protocol.REQUEST_SECONDS + 10)
        until(lambda: ours not in served.server.server_state.connections)  # type: ignore[union-attr]
    assert served.ask("POST", "/predict/churn", ROW_)[0] == 200
