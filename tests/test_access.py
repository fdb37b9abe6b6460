"""Who is let in at a server: with tokens, without them, over TLS, and who signs what is done."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier

from keepfit.errors import ConfigError
from keepfit.journal import ANSWER
from keepfit.server import access as doors
from keepfit.server.access import Access, Caller, bindable
from keepfit.server.process import _secured, listening
from keepfit.server.replies import Reply
from keepfit.tokens import ROLES, Tokens, tokens_of
from tests.served import JSON, ROW_, Served, opened
from tests.waits import until

HERE, THERE = ("127.0.0.1", 5), ("10.0.0.7", 5)


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {secret}".encode())]


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tokens_of(tmp_path))


def said(found: Caller | Reply) -> tuple[int, str]:
    assert isinstance(found, Reply)
    return found.status, json.loads(found.body)["error"]["message"]


# Without tokens ---------------------------------------------------------------------------


def test_without_tokens_only_this_machine_is_answered(tokens: Tokens) -> None:
    access = Access(tokens, "churn")
    for client in (HERE, ("::1", 5), None):
        assert access.admit([], client, "operate") == Caller(None)
    assert said(access.admit([], THERE, "predict"))[0] == 403


@pytest.mark.parametrize(
    "origin", ["https://example.org", "null", "http://127.0.0.1.evil.org", "["]
)
def test_without_tokens_another_sites_page_may_not_ask_through_the_browser(
    tokens: Tokens, origin: str
) -> None:
    access = Access(tokens, "churn")
    headers = [(b"origin", origin.encode())]
    assert said(access.admit(headers, HERE, "operate"))[0] == 403
    assert access.admit([(b"origin", b"http://localhost:3000")], HERE, "read") == Caller(None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", ""])
def test_a_host_that_others_reach_needs_tokens(tokens: Tokens, host: str) -> None:
    with pytest.raises(ConfigError, match="expected a host of this machine alone"):
        bindable(host, tokens)
    tokens.make("shop", ["predict"], by="ada")
    assert bindable(host, tokens) == host
    tokens.revoke("shop", by="ada")
    with pytest.raises(ConfigError, match="there are no tokens"):
        bindable(host, tokens)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8931", True),
        ("127.0.0.2", True),
        ("[::1]:8000", True),
        ("churn.localhost:8000", True),
        ("evil.example:8931", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("10.0.0.7", False),
        ("[", False),
        ("", False),
    ],
)
def test_without_tokens_a_name_that_another_led_here_is_not_answered(
    tokens: Tokens, host: str, named: bool
) -> None:
    headers = [(b"host", host.encode())]
    found = Access(tokens, "churn").admit(headers, HERE, "read")
    if named:
        assert found == Caller(None)
    else:
        assert said(found) == (403, _ANOTHER_NAME)
    # Whoever shows a token may call the server as they like.
    secret = tokens.make("shop", ["read"], by="ada")
    assert isinstance(
        Access(tokens, "churn").admit([*headers, *bearer(secret)], HERE, "read"), Caller
    )


_ANOTHER_NAME = "expected a request to localhost or 127.0.0.1, got one to another name"


# With tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_token_is_good_for_its_roles_and_pipelines_alone(tokens: Tokens, role: str) -> None:
    secrets = {one: tokens.make(one, [one], by="ada", pipelines=["churn"]) for one in ROLES}
    here, there = Access(tokens, "churn"), Access(tokens, "flights")
    for client in (HERE, THERE, None):
        for one, secret in secrets.items():
            found = here.admit(bearer(secret), client, role)
            if one == role:
                assert found == Caller(one, may_label=one == "label")
            else:
                assert said(found)[0] == 403
    elsewhere = there.admit(bearer(secrets[role]), HERE, role)
    status, message = said(elsewhere)
    assert (status, "at 'flights', got" in message) == (403, True)
    assert isinstance(elsewhere, Reply)
    hint = json.loads(elsewhere.body)["error"]["hint"]
    assert hint == f"`keepfit token make NAME --role {role}` makes one"


def test_a_revoked_token_is_turned_away_and_opens_no_door(tokens: Tokens) -> None:
    secret = tokens.make("shop", ["predict"], by="ada")
    access = Access(tokens, "churn")
    assert access.admit(bearer(secret), THERE, "predict") == Caller("shop", may_label=False)
    tokens.revoke("shop", by="ada")
    access.look()
    assert said(access.admit(bearer(secret), HERE, "predict"))[0] == 401
    # It was the last one; this machine is asked all the same.
    assert said(access.admit([], HERE, "predict")) == (401, "expected a token, got none")


def test_while_the_tokens_cannot_be_read_nobody_is_let_in(tokens: Tokens) -> None:
    secret = tokens.make("shop", ["predict"], by="ada")
    access = Access(tokens, "churn")
    kept = tokens.path.read_bytes()
    tokens.path.write_bytes(b"not a database" * 100)
    access.look()
    for headers in ([], bearer(secret)):
        assert said(access.admit(headers, HERE, "predict"))[0] == 401
    tokens.path.write_bytes(kept)
    access.look()
    assert access.admit(bearer(secret), HERE, "predict") == Caller("shop", may_label=False)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {}",
        "{}",
        "Bearer {}x",
        "Bearer x{}",
        "Token {}",
        "Bearer {} {}",
    ],
)
def test_what_is_no_bearer_token_is_turned_away(tokens: Tokens, value: str) -> None:
    secret = tokens.make("shop", ["predict"], by="ada")
    access = Access(tokens, "churn")
    headers = [(b"authorization", value.format(secret, secret).encode())]
    assert said(access.admit(headers, HERE, "predict"))[0] == 401
    for scheme in ("bearer", "BEARER"):
        good = [(b"authorization", f"{scheme} {secret}".encode())]
        assert access.admit(good, HERE, "predict") == Caller("shop", may_label=False)


@given(value=st.binary(max_size=120))
@settings(max_examples=200)
def test_no_header_that_was_not_given_out_lets_in(value: bytes, tmp_path_factory: Any) -> None:
    tokens = Tokens(tokens_of(tmp_path_factory.getbasetemp() / "guessed"))
    if not tokens.exist():
        tokens.make("shop", ROLES, by="ada")
    access = _ACCESS.setdefault(str(tokens.path), Access(tokens, "churn"))
    for header in (value, b"Bearer " + value):
        assert said(access.admit([(b"authorization", header)], HERE, "read"))[0] == 401


_ACCESS: dict[str, Access] = {}


# Over connections -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded")
    yield from opened(folder, LGBMClassifier(n_estimators=3, verbosity=-1))


@pytest.fixture(scope="module")
def keys(guarded: Served) -> dict[str, dict[str, str]]:
    """Return the headers of a token per role, and of one that may do all."""
    tokens = Tokens(tokens_of(guarded.world.made.home))
    made = {role: tokens.make(role, [role], by="ada") for role in ROLES}
    made["all"] = tokens.make("all", ROLES, by="ada")
    until(lambda: guarded.ask("GET", "/status")[0] == 401)
    return {name: JSON | {"authorization": f"Bearer {secret}"} for name, secret in made.items()}


GUARDED = {
    ("POST", "/predict/churn"): ("predict", ROW_),
    ("POST", "/predict/churn?hot=no"): ("predict", ROW_),
    ("POST", "/v2/models/churn/infer"): ("predict", {}),
    ("POST", "/labels/churn"): ("label", {}),
    ("POST", "/rows/churn"): ("label", []),
    ("POST", "/events"): ("label", {}),
    ("GET", "/status"): ("read", None),
    ("GET", "/why/v1"): ("read", None),
    ("GET", "/metrics"): ("read", None),
    ("GET", "/v2/models/churn"): ("read", None),
    ("POST", "/promote"): ("operate", {}),
    ("POST", "/approve"): ("operate", {}),
    ("POST", "/refuse"): ("operate", {}),
    ("POST", "/rollback"): ("operate", {}),
    ("POST", "/pause"): ("operate", {}),
    ("POST", "/resume"): ("operate", {}),
}


@pytest.mark.parametrize("place", sorted(GUARDED), ids="-".join)
def test_each_door_asks_for_its_role(
    guarded: Served, keys: dict[str, dict[str, str]], place: tuple[str, str]
) -> None:
    role, body = GUARDED[place]
    status, told = guarded.ask(*place, body)
    said = told["error"] if place[1].startswith("/v2") else told["error"]["message"]
    assert (status, said.partition("\n")[0]) == (401, "expected a token, got none")
    wrong = JSON | {"authorization": "Bearer keepfit_wrong"}
    assert guarded.ask(*place, body, wrong)[0] == 401
    for other in ROLES:
        found, _ = guarded.ask(*place, body, keys[other])
        assert (found in (200, 400)) if other == role else found == 403
    assert guarded.ask(*place, body, keys["all"])[0] in (200, 400)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/v2/health/ready"])
def test_health_is_told_to_everybody(
    guarded: Served, keys: dict[str, dict[str, str]], path: str
) -> None:
    assert guarded.ask("GET", path)[0] == 200


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_whoever_has_no_token_is_told_how_to_show_one(
    guarded: Served, keys: dict[str, dict[str, str]], path: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, b"{}", JSON)
        response = connection.getresponse()
        assert (response.status, response.headers["www-authenticate"]) == (
            401,
            'Bearer realm="keepfit"',
        )
        response.read()
        # The connection is good for those who then show one.
        connection.request("POST", path, b"[]", keys["all"])
        assert connection.getresponse().status == 200


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_whoever_may_not_ask_is_told_so_before_the_body_has_come(
    guarded: Served, keys: dict[str, dict[str, str]], path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"[")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 401 ")


def test_each_of_several_requests_sent_at_once_shows_its_own_token(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    def sent(headers: dict[str, str], *more: str) -> bytes:
        body = json.dumps(ROW_)
        named = [f"{name}: {value}" for name, value in headers.items()]
        lines = ["POST /predict/churn HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, *named, *more, "", body]).encode()

    good, bad = sent(keys["predict"]), sent(JSON)
    last = sent(keys["label"], "connection: close")
    found = guarded.raw(good + bad + good + bad + bad + good + last)
    statuses = [part.split(b" ", 1)[0] for part in found.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"401", b"200", b"401", b"401", b"200", b"403"]


LABELLED = {
    "row": ("/predict/churn", ROW_ | {"label": 0}),
    "list": ("/predict/churn", [ROW_, ROW_ | {"label": 0}]),
    "names": ("/predict/churn", {"names": [*ROW_, "label"], "rows": [[*ROW_.values(), 1]] * 2}),
    "columns": (
        "/predict/churn",
        {"columns": {n: [v, v] for n, v in (ROW_ | {"label": 1}).items()}},
    ),
    "v2": (
        "/v2/models/churn/infer",
        {
            "inputs": [
                {"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]},
                {"name": "y", "shape": [1], "datatype": "FP64", "data": [0.5]},
                {"name": "kind", "shape": [1], "datatype": "BYTES", "data": ["a"]},
                {"name": "label", "shape": [1], "datatype": "INT64", "data": [1]},
            ]
        },
    ),
}


@pytest.mark.parametrize("name", sorted(LABELLED))
@pytest.mark.parametrize("way", ["", "?hot=no"], ids=["hot", "cold"])
def test_whoever_may_only_predict_writes_no_label_with_a_row(
    guarded: Served, keys: dict[str, dict[str, str]], name: str, way: str
) -> None:
    path, body = LABELLED[name]
    # First by whoever may: the form of such rows is known from then on.
    for who, expected in (("all", 200), ("predict", 403), ("all", 200), ("predict", 403)):
        before = len(guarded.kept(ANSWER))
        status, told = guarded.ask("POST", path + way, body, keys[who])
        assert status == expected, told
        assert (len(guarded.kept(ANSWER)) > before) == (expected == 200)
        if status == 403:
            assert "expected rows without their label, got one with `label`" in json.dumps(told)


def test_whoever_may_only_predict_may_leave_the_label_open(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    for body in (ROW_ | {"label": None}, [ROW_ | {"label": None}] * 2, [ROW_, ROW_], [ROW_, ROW_]):
        assert guarded.ask("POST", "/predict/churn", body, keys["predict"])[0] == 200
    late = [ROW_ | {"label": None}, ROW_ | {"label": 1}]
    assert guarded.ask("POST", "/predict/churn", late, keys["predict"])[0] == 403


def test_a_request_whose_body_comes_after_the_answer_before_it_shows_its_own_token(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    body = json.dumps(ROW_).encode()

    def head(path: str, who: str, *more: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        named = [f"{name}: {value}" for name, value in keys.get(who, JSON).items()]
        return "\r\n".join([*lines, *named, *more, "", ""]).encode()

    first = head("/predict/churn", "predict") + body
    for path, who, status in (
        ("/predict/churn", "nobody", b"401"),
        ("/labels/churn", "predict", b"403"),
        ("/predict/churn", "predict", b"200"),
    ):
        last = head(path, who, "connection: close")
        found = guarded.raw(first + last, body, pause=0.3)
        statuses = [part.split(b" ", 1)[0] for part in found.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", status]


@given(at=st.integers(0, 90), noise=st.binary(max_size=30), cut=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_no_bytes_break_a_server(
    guarded: Served, keys: dict[str, dict[str, str]], at: int, noise: bytes, cut: int
) -> None:
    head = f"POST /predict/churn HTTP/1.1\r\nauthorization: {keys['predict']['authorization']}\r\n"
    whole = head.encode() + b"content-length: 2\r\n\r\n[]"
    place = ("127.0.0.1", guarded.port)
    with contextlib.suppress(OSError), socket.create_connection(place, timeout=30) as connection:
        connection.sendall(whole[:at] + noise + whole[at + cut :])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert guarded.ask("POST", "/predict/churn", [], keys["predict"])[0] == 200


def test_those_who_are_turned_away_are_counted(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    def count(status: int) -> float:
        _, text = guarded.ask("GET", "/metrics", None, keys["read"])
        named = f'keepfit_requests_total{{route="denied",status="{status}"}} '
        lines = [one for one in text.decode().splitlines() if one.startswith(named)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    before = count(401), count(403)
    for path in ("/predict/churn", "/labels/churn"):
        guarded.ask("POST", path, ROW_)
    guarded.ask("POST", "/predict/churn", ROW_, keys["label"])
    assert (count(401), count(403)) == (before[0] + 2, before[1] + 1)


def test_where_a_request_comes_from_is_not_for_a_header_to_say(tmp_path: Path) -> None:
    for served in opened(tmp_path, LGBMClassifier(n_estimators=3, verbosity=-1)):
        headers = JSON | {"x-forwarded-for": "10.0.0.7", "x-forwarded-proto": "https"}
        for path in ("/predict/churn", "/rows/churn"):
            assert served.ask("POST", path, ROW_, headers)[0] == 200


def test_a_token_that_is_revoked_is_turned_away_within_a_second_on_an_open_connection(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    tokens = Tokens(tokens_of(guarded.world.made.home))
    headers = JSON | {"authorization": f"Bearer {tokens.make('short', ['predict'], by='ada')}"}
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=30)

    def status() -> int:
        connection.request("POST", "/predict/churn", json.dumps(ROW_), headers)
        response = connection.getresponse()
        response.read()
        return response.status

    with contextlib.closing(connection):
        until(lambda: status() == 200)
        tokens.revoke("short", by="ada")
        until(lambda: status() != 200)
    assert doors.LOOKED_EVERY <= 0.5


def test_a_fact_names_the_token_and_a_body_cannot_sign_for_another(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    def by(kind: str) -> Any:
        (last,) = guarded.world.loop.memory.ledger.facts(
            "churn", kind=kind, limit=1, newest_first=True
        )
        return msgspec.to_builtins(last.fact)

    ask = {"reason": "holidays", "by": "root"}
    assert guarded.ask("POST", "/pause", ask, keys["operate"])[0] == 200
    assert (by("Paused")["by"], by("Paused")["reason"]) == ("operate for root", "holidays")
    assert guarded.ask("POST", "/resume", {"reason": "over"}, keys["all"])[0] == 200
    assert by("Resumed")["by"] == "all"


def test_a_hand_does_not_wait_for_the_loop_to_end_its_step(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    with guarded.world.loop.holding():
        for path, ask in (
            ("/promote", {"reason": "better", "version": "v1"}),
            ("/rollback", {"reason": "worse"}),
        ):
            status, told = guarded.ask("POST", path, ask, keys["operate"])
            assert status in (400, 409)
            assert "hold" not in told["error"]["message"]
        assert guarded.ask("POST", "/pause", {"reason": "holidays"}, keys["operate"])[0] == 200
        assert guarded.ask("POST", "/resume", {"reason": "over"}, keys["operate"])[0] == 200


def test_tricks_with_paths_find_no_way_around_the_token(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    paths = (
        *("//status", "/./status", "/health/../status", "/health/%2e%2e/status", "/status/"),
        *("/%73tatus", "/STATUS", "/status;x", "/status%00", "/why/..%2fstatus", "/status?token=x"),
        "http://example.org/status",
    )
    for method, path in itertools.product(("GET", "HEAD", "POST"), paths):
        line = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        found = guarded.raw(line.encode())
        assert found.split(b" ", 2)[1] in (b"401", b"404", b"405", b"400"), (method, path)


def test_a_thousand_silent_connections_keep_nobody_from_being_answered(
    guarded: Served, keys: dict[str, dict[str, str]]
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(1_000):
            silent = socket.create_connection(("127.0.0.1", guarded.port), timeout=30)
            stack.enter_context(contextlib.closing(silent))
        assert guarded.ask("POST", "/predict/churn", ROW_, keys["predict"])[0] == 200
        assert guarded.ask("GET", "/status", None, keys["read"])[0] == 200
    assert guarded.ask("GET", "/health")[0] == 200


# TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *words.split(), "-keyout", key, "-out", cert, *names],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_a_certificate_that_is_none_is_told_before_anything_listens(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    cert, key = certificate
    assert _secured(None, None) is None
    assert _secured(cert, key) == (cert, key)
    for pair in ((None, key), (cert, None), (str(tmp_path / "none.pem"), key), (key, cert)):
        with pytest.raises(ConfigError, match="expected a certificate"):
            _secured(*pair)


def test_a_server_with_a_certificate_answers_over_tls(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    for served in opened(
        tmp_path, LGBMClassifier(n_estimators=3, verbosity=-1), tls=doors.Tls(*certificate)
    ):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", served.port, context=trust, timeout=30
        )
        with contextlib.closing(connection):
            for _ in range(2):
                connection.request("POST", "/predict/churn", json.dumps(ROW_), JSON)
                response = connection.getresponse()
                assert response.status == 200
                assert json.loads(response.read())["version"] == "v1"


def test_the_address_is_told_as_a_browser_wants_it() -> None:
    from keepfit.server.process import _address

    sock = listening("127.0.0.1", 0)
    sock.close()
    assert _address("https", "::1", 80) == "https://[::1]:80"
    assert _address("http", "127.0.0.1", 80) == "http://127.0.0.1:80"
