"""The client: what it sends, how often, and what it makes of answers; a server that fails it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier

from keepfit import AsyncClient, Client
from keepfit.client import talk
from keepfit.client.talk import Ask, Got, Lost, Talk, waited
from keepfit.errors import (
    AccessDenied,
    ConfigError,
    KeepfitError,
    SchemaMismatch,
    Unreachable,
    VersionUnknown,
)
from keepfit.journal import ANSWER, EVENT, LABEL, ROW
from keepfit.tokens import Tokens, tokens_of
from tests.served import ROW_, Served, opened

HEALTH = {
    "live": True,
    "ready": True,
    "serving": "v1",
    "problem": None,
    "id": {"column": "key", "kind": "number"},
}


class Failing:
    """A server that does as it is told: each request takes the next of its answers.

    An answer is a status, headers and a body; None does the work and drops the connection.
    """

    def __init__(self, *answers: tuple[int, dict[str, str], Any] | None) -> None:
        self.answers, self.bodies, self.heads = list(answers), [], []  # type: ignore[var-annotated]
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._say(200, {}, HEALTH)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                outer.bodies.append(json.loads(self.rfile.read(length)))
                outer.heads.append(dict(self.headers))
                found = outer.answers.pop(0)
                if found is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self._say(*found)

            def _say(self, status: int, headers: dict[str, str], body: Any) -> None:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Failing:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


GOOD = (200, {}, {"id": 7, "prediction": 1, "probability": 0.8, "version": "v1"})
BUSY = (503, {}, {"error": {"message": "busy"}})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that clients wait, which pass at once."""
    found: list[float] = []
    mine, sleep = threading.get_ident(), time.sleep

    def slept(seconds: float) -> None:
        # What another test left running in this process goes on at its own pace.
        found.append(seconds) if threading.get_ident() == mine else sleep(seconds)

    monkeypatch.setattr(time, "sleep", slept)
    return found


def asked(server: Failing, **options: Any) -> Any:
    with Client(server.url, "churn", **options) as client:
        return client.predict({"x": 1})


# A server that fails ----------------------------------------------------------------------


def test_a_row_is_sent_again_under_the_same_id_when_the_answer_is_lost(waits: list[float]) -> None:
    with Failing(None, BUSY, None, GOOD) as server:
        answer = asked(server)
    assert (answer.id, answer.prediction, answer.probability, answer.version) == (7, 1, 0.8, "v1")
    assert len(server.bodies) == 4
    assert server.bodies[0]["x"] == 1
    assert {body["key"] for body in server.bodies} == {server.bodies[0]["key"]}
    assert server.bodies[0]["key"].isdecimal()
    assert len(waits) == 3


def test_an_id_of_the_rows_own_is_left(waits: list[float]) -> None:
    with Failing(None, GOOD) as server, Client(server.url, "churn") as client:
        client.predict({"x": 1, "key": 12})
    assert [body["key"] for body in server.bodies] == [12, 12]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_the_server_asks_to_wait_is_waited(status: int, waits: list[float]) -> None:
    busy = (status, {"retry-after": "3"}, {"error": {"message": "busy"}})
    with Failing(busy, GOOD) as server:
        asked(server)
    (wait,) = waits
    assert 3 <= wait <= 3 + talk.FIRST_WAIT


def test_a_date_to_come_again_is_understood() -> None:
    at = datetime.fromtimestamp(time.time() + 40, UTC)
    wait = waited(Got(503, b"", format_datetime(at, usegmt=True)), 0)
    assert wait is not None
    assert 30 < wait < 41
    for odd in ("soon", "-5", "²", "Mon, 99 Jan"):
        wait = waited(Got(503, b"", odd), 0)
        assert wait is not None
        assert wait <= talk.FIRST_WAIT


def test_a_server_that_wants_more_patience_than_there_is_is_not_waited_for(
    waits: list[float],
) -> None:
    busy = (503, {"retry-after": "3600"}, {"error": {"message": "busy"}})
    with Failing(busy) as server, pytest.raises(Unreachable, match="busy"):
        asked(server)
    assert waits == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ConfigError),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, VersionUnknown),
        (409, KeepfitError),
        (413, ConfigError),
        (422, SchemaMismatch),
        (500, KeepfitError),
    ],
)
def test_a_refusal_is_an_error_at_once(
    status: int, kind: type[KeepfitError], waits: list[float]
) -> None:
    told = (status, {"retry-after": "1"}, {"error": {"message": "no", "hint": "yes"}})
    with Failing(told) as server, pytest.raises(KeepfitError) as caught:
        asked(server)
    assert type(caught.value) is kind
    assert caught.value.message == f"no (POST /predict/churn: status {status})"
    assert caught.value.hint == "yes"
    assert (len(server.bodies), waits) == (1, [])


def test_after_the_last_try_the_error_says_how_often(waits: list[float]) -> None:
    with Failing(*[BUSY] * 3) as server, pytest.raises(Unreachable, match="asked 3 times"):
        asked(server, retries=2)
    assert (len(server.bodies), len(waits)) == (3, 2)
    with Failing(None) as server, pytest.raises(Unreachable, match="got no answer: "):
        asked(server, retries=0)


def test_a_server_that_is_not_there_is_told_so(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", "churn", retries=3) as client:
        with pytest.raises(Unreachable, match="GET /health got no answer, asked 4 times"):
            client.predict({"x": 1})
        with pytest.raises(ConnectionError):
            client.label(1, 1)


def test_a_server_that_is_slow_is_asked_again_when_its_time_is_over(waits: list[float]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(
            f"http://127.0.0.1:{silent.getsockname()[1]}", "churn", timeout=0.05, retries=1
        ) as client,
        pytest.raises(Unreachable, match="Timeout"),
    ):
        client.label(1, 1)
    assert len(waits) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"id": 1}', b""], ids=["html", "list", "less", "none"]
)
def test_an_answer_of_another_kind_of_server_is_told_so(body: bytes, waits: list[float]) -> None:
    with Failing((200, {}, body)) as server, pytest.raises(Unreachable, match="expected an answer"):
        asked(server)
    with Failing((418, {}, body)) as server, pytest.raises(KeepfitError, match="status 418"):
        asked(server)


@given(turns=st.integers(0, 2_000), lost=st.booleans())
def test_pauses_grow_and_stay_bounded(turns: int, lost: bool) -> None:
    wait = waited(Lost("") if lost else Got(503, b""), turns)
    assert wait is not None
    assert 0 <= wait <= min(talk.LONGEST_WAIT, talk.FIRST_WAIT * 2 ** min(turns, 60))


def test_the_token_travels_as_the_header_asks(waits: list[float]) -> None:
    with Failing(GOOD) as server:
        asked(server, token="keepfit_abc\n")
    heads = {name.lower(): value for name, value in server.heads[0].items()}
    assert heads["authorization"] == "Bearer keepfit_abc"


def test_what_is_asked_wrongly_is_told_before_anything_is_sent() -> None:
    for url in ("", "localhost:8000", "ftp://x", "http://"):
        with pytest.raises(ConfigError, match="expected the address of a server"):
            Client(url, "churn")
    for options in ({"token": "a\r\nb"}, {"token": ""}, {"token": "ä"}, {"retries": -1}):
        with pytest.raises(ConfigError):
            Client("http://x", "churn", **options)
    for name in ("", "a/b"):
        with pytest.raises(ConfigError, match="expected the name of a pipeline"):
            AsyncClient("http://x", name)
    with Client("http://x", "churn") as client:
        for rows in (7, "rows", [7], [ROW_, "x"]):
            with pytest.raises(ConfigError):
                client.labels(rows)
        with pytest.raises(ConfigError, match="expected values that JSON has"):
            client.labels([{"id": 1, "label": object()}])


def test_ids_are_made_as_the_lake_keeps_them() -> None:
    for kind, digits in (("number", True), ("", True), ("text", False)):
        made = {talk._id(kind) for _ in range(1_000)}
        assert len(made) == 1_000
        assert all(one.isdecimal() and int(one) < 2**63 for one in made) or not digits
        assert all(len(one) == 32 for one in made) or digits


def test_many_rows_travel_in_portions_and_come_back_in_order() -> None:
    steps = Talk("churn", 0).labels([{"id": i, "label": 1} for i in range(2_500)])
    step, sizes = next(steps), []
    with contextlib.suppress(StopIteration):
        while True:
            assert isinstance(step, Ask)
            ids = [one["id"] for one in json.loads(step.body)]
            assert ids == list(range(sum(sizes), sum(sizes) + len(ids)))
            sizes.append(len(ids))
            told = {"accepted": len(ids), "repeated": 0, "corrected": 0, "waiting": ids[:1]}
            step = steps.send(Got(200, json.dumps(told).encode()))
    assert sizes == [1_000, 1_000, 500]


# The server of this house -----------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("client")
    yield from opened(folder, LGBMClassifier(n_estimators=3, verbosity=-1))


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{served.port}", "churn") as made:
        yield made


FRAME = pl.DataFrame([ROW_, {"x": None, "y": 2.0, "kind": "b"}, {"x": 1.5, "y": 0.0, "kind": "c"}])


@pytest.mark.parametrize("form", ["list", "tuple", "polars", "lazy", "pandas", "arrow"])
def test_rows_and_tables_of_all_kinds_are_answered_alike(
    served: Served, client: Client, form: str
) -> None:
    if form in ("pandas", "arrow"):
        pytest.importorskip("pyarrow")
    forms: dict[str, Any] = {
        "list": FRAME.to_dicts,
        "tuple": lambda: tuple(FRAME.to_dicts()),
        "polars": lambda: FRAME,
        "lazy": FRAME.lazy,
        "pandas": FRAME.to_pandas,
        "arrow": FRAME.to_arrow,
    }
    answers = client.predict(forms[form]())
    alone = [client.predict(row) for row in FRAME.to_dicts()]
    assert [one.probability for one in answers] == [one.probability for one in alone]
    assert {one.version for one in answers} == {"v1"}
    kept = {one.id for one in served.kept(ANSWER)}
    assert {one.id for one in (*answers, *alone)} <= kept


def test_labels_rows_and_events_are_kept(served: Served, client: Client) -> None:
    answer = client.predict(ROW_ | {"x": np.float64(0.5)})
    told = client.label(answer.id, 1, known_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert (told.accepted, told.waiting) == (1, [])
    assert client.label(answer.id, np.int64(1)).repeated == 1
    assert client.labels([{"id": answer.id, "label": 0}]).corrected == 1
    assert [json.loads(one.body) for one in served.kept(LABEL) if one.id == answer.id] == [1, 0]
    ids = client.rows(FRAME.with_columns(label=pl.Series([0, 1, 0])))
    assert ids == [one.id for one in served.kept(ROW)][-3:]
    assert client.rows({"x": 1.0, "y": 1.0, "kind": "a"})
    before = len(served.kept(EVENT))
    assert client.events({"type": "prices", "data": {"items": 7}}).accepted == 1
    event = {"type": "prices", "id": "17", "source": "shop"}
    assert (client.events([event, event]).repeated, len(served.kept(EVENT))) == (1, before + 2)


def test_errors_of_the_server_are_those_of_the_house(served: Served, client: Client) -> None:
    with pytest.raises(SchemaMismatch, match="expected a value for `kind`"):
        client.predict({"x": 1, "y": 2})
    with (
        Client(f"http://127.0.0.1:{served.port}", "chrun") as other,
        pytest.raises(VersionUnknown) as caught,
    ):
        other.predict(ROW_)
    assert caught.value.hint == "the nearest is 'churn'"


def test_the_client_for_async_code_does_the_same(served: Served) -> None:
    async def talked() -> None:
        async with AsyncClient(f"http://127.0.0.1:{served.port}", "churn") as client:
            found = await asyncio.gather(*(client.predict(ROW_) for _ in range(20)))
            assert len({one.id for one in found}) == 20
            assert (await client.label(found[0].id, 1)).accepted == 1
            assert len(await client.rows(FRAME)) == len(await client.predict(FRAME)) == 3
            assert (await client.events({"type": "prices"})).accepted == 1
            with pytest.raises(SchemaMismatch):
                await client.predict({"x": 1})

    asyncio.run(talked())


def test_the_client_for_async_code_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "FIRST_WAIT", 0.001)

    async def talked(url: str) -> Any:
        async with AsyncClient(url, "churn") as client:
            return await client.predict({"x": 1})

    with Failing(None, BUSY, GOOD) as server:
        assert asyncio.run(talked(server.url)).id == 7
    assert len({body["key"] for body in server.bodies}) == 1


def message(stream: Any) -> bytes:
    """Return the next message of HTTP on a connection, empty at its end."""
    head = [stream.readline()]
    while head[-1] not in (b"\r\n", b""):
        head.append(stream.readline())
    lengths = [int(one[15:]) for one in head if one.lower().startswith(b"content-length:")]
    return b"".join(head) + bytes(stream.read(sum(lengths)))


class Forgetful:
    """Between client and server: lets requests through, and loses every other answer."""

    def __init__(self, port: int) -> None:
        self.to, self.turns, self.lost = port, 0, 0
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                taken, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        onward = socket.create_connection(("127.0.0.1", self.to))
        with taken, onward, taken.makefile("rb") as said, onward.makefile("rb") as told:
            while request := message(said):
                onward.sendall(request)
                answer = message(told)
                self.turns += 1
                if request.startswith(b"POST") and self.turns % 2:
                    self.lost += 1
                    return
                taken.sendall(answer)

    def close(self) -> None:
        self.sock.close()


def test_rows_whose_answers_are_lost_land_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "FIRST_WAIT", 0.001)
    for served in opened(tmp_path, LGBMClassifier(n_estimators=3, verbosity=-1)):
        path = Forgetful(served.port)
        with Client(f"http://127.0.0.1:{path.port}", "churn") as client:
            ids = [client.predict(ROW_ | {"x": float(i)}).id for i in range(10)]
            ids += client.rows([ROW_, ROW_])
            for id_ in ids:
                client.label(id_, 1)
        path.close()
        assert path.lost >= 10
        assert len(served.kept(ANSWER)) > 10, "the server saw some rows twice"
        world = served.world
        world.clock.sleep(datetime.now(UTC) - world.clock.now())
        world.steps()
        found = world.lake().filter(pl.col("_id").is_in(ids))
        assert sorted(found["_id"].to_list()) == sorted(ids)


def test_a_client_with_a_token_is_let_in_and_without_one_told_so(tmp_path: Path) -> None:
    for served in opened(tmp_path, LGBMClassifier(n_estimators=3, verbosity=-1)):
        tokens = Tokens(tokens_of(served.world.made.home))
        secret = tokens.make("shop", ["predict"], by="ada")
        served.worker.access.look()  # type: ignore[union-attr]
        url = f"http://127.0.0.1:{served.port}"
        with Client(url, "churn") as nobody, pytest.raises(AccessDenied, match="expected a token"):
            nobody.predict(ROW_)
        with Client(url, "churn", token=secret) as client:
            assert client.predict(ROW_).version == "v1"
            with pytest.raises(AccessDenied, match="expected a token for 'label'"):
                client.label(1, 1)
