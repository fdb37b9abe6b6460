"""A server over real connections: answers, limits, errors, order, and what is on disk."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from prometheus_client.parser import text_string_to_metric_families
from sklearn.ensemble import RandomForestClassifier

from keepfit.errors import NoChampion
from keepfit.facts import Signalled
from keepfit.journal import ANSWER, EVENT, LABEL, ROW
from keepfit.server import http as protocol
from keepfit.server.guide import Guide
from keepfit.server.rows import Ids
from tests.served import JSON, ROW_, Served, opened
from tests.waits import until


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from opened(
        tmp_path_factory.mktemp("trees"), LGBMClassifier(n_estimators=5, verbosity=-1)
    )


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from opened(tmp_path_factory.mktemp("forest"), RandomForestClassifier(5))


def said(served: Served, rows: list[dict[str, Any]]) -> list[float]:
    model = served.world.loop.scorer.model(served.world.loop.refold().version("champion"))
    return [float(one) for one in model.predict(pl.DataFrame(rows))]


@pytest.fixture(params=["trees", "forest"])
def served(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


# Predictions ------------------------------------------------------------------------------


def test_a_row_is_answered_with_its_version_and_the_id_to_send_the_label_for(
    served: Served,
) -> None:
    status, told = served.ask("POST", "/predict/churn", ROW_)
    assert status == 200
    assert told.keys() == {"id", "prediction", "probability", "version"}
    assert [told["probability"]] == said(served, [ROW_])
    assert told["prediction"] == int(told["probability"] >= 0.5)
    (kept,) = (one for one in served.kept(ANSWER) if one.id == told["id"])
    assert (kept.version, kept.scores) == ("v1", told["probability"])
    assert json.loads(kept.body) == ROW_


FORMS = ["list", "rows", "columns", "names", "arrow"]


@pytest.mark.parametrize("form", FORMS, ids=FORMS)
def test_rows_may_come_in_several_forms(served: Served, form: str) -> None:
    rows = [ROW_, {"x": None, "y": 2.0, "kind": "b"}, {"x": 1.5, "y": 0.0, "kind": "new"}]
    columns = {name: [row[name] for row in rows] for name in ROW_}
    named = {"names": list(ROW_), "rows": [list(row.values()) for row in rows]}
    bodies: dict[str, Any] = {"list": rows, "rows": {"rows": rows}, "columns": {"columns": columns}}
    bodies["names"] = named
    headers = JSON
    if form == "arrow":
        sink = io.BytesIO()
        pl.DataFrame(columns).write_ipc_stream(sink)
        bodies["arrow"] = sink.getvalue()
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
    status, told = served.ask("POST", "/predict/churn", bodies[form], headers)
    assert status == 200
    assert told["version"] == "v1"
    found = [one["probability"] for one in told["predictions"]]
    assert found == [said(served, [row])[0] for row in rows]
    kept = {one.id: json.loads(one.body) for one in served.kept(ANSWER)}
    assert [kept[one["id"]] for one in told["predictions"]] == rows


def test_an_id_of_the_clients_own_is_kept(served: Served) -> None:
    number = time.time_ns()
    for sent in (number, str(number)):
        status, told = served.ask("POST", "/predict/churn", ROW_ | {"id": sent})
        assert (status, told["id"]) == (200, number)


def test_no_rows_are_answered_with_none(served: Served) -> None:
    assert served.ask("POST", "/predict/churn", []) == (200, {"predictions": [], "version": "v1"})


DEEP = json.loads("[" * 900 + "]" * 900)
BAD: dict[str, tuple[Any, int, str]] = {
    "no json": (b"{x", 400, "expected rows as JSON"),
    "empty": (b"", 400, "expected rows as JSON"),
    "a number": (b"7", 400, "expected rows as JSON objects"),
    "lists": ([[1, 2]], 400, "expected rows as JSON objects"),
    "deep": (b"[" * 100_000, 400, "expected rows as JSON"),
    "uneven": ({"columns": {"x": [1], "y": [1, 2]}}, 400, "lists of one length"),
    "a value less": ({"names": ["x", "y"], "rows": [[1]]}, 400, "a value for each of the names"),
    "a name twice": ({"names": ["x", "x"], "rows": [[1, 2]]}, 400, "a value for each of the names"),
    "a column less": ({"x": 1, "y": 2}, 422, "expected a value for `kind`"),
    "an id that is none": (ROW_ | {"id": 1.5}, 422, "expected a whole number as id"),
    "an id that is text": (ROW_ | {"id": "a"}, 422, "expected a whole number as id"),
    "an id too large": (ROW_ | {"id": 2**63}, 422, "expected a whole number as id"),
    "a time far ahead": (
        ROW_ | {"time": "2199-01-01T00:00:00Z"},
        422,
        "expected a time up to a year from now in `time`",
    ),
    "a time before year 1": (ROW_ | {"time": "0000-06-01T00:00:00Z"}, 422, "a time since year 1"),
    "a list for a time": (ROW_ | {"time": [1]}, 422, "expected a time in `time`, got [1]"),
    "an id of 5,000 digits": (ROW_ | {"id": "9" * 5_000}, 422, "expected a whole number as id"),
    "a number of 400 digits": (ROW_ | {"x": 10**400}, 422, "a number up to 1.8e308 in `x`"),
    "60 digits as a text": (ROW_ | {"kind": 10**60}, 422, "up to 64 bits in `kind`"),
    "60 digits elsewhere": (ROW_ | {"z": 10**60}, 422, "up to 64 bits in `z`"),
    "two cases": (ROW_ | {"X": 1}, 422, "differ in more than case, got `X` and `x`"),
    "a deep value": (ROW_ | {"z": DEEP}, 422, "a value in `z` nested at most 32 deep"),
    "a label of another type": (ROW_ | {"label": "abc"}, 422, "a label of type int, got 'abc'"),
    "a label of 60 digits": (ROW_ | {"label": 10**60}, 422, "a label of type int, got 1000"),
    "columns too long": (
        {"columns": {"x": [1] * 10_001, "y": [1]}},
        400,
        "lists of one length",
    ),
    "too many in columns": (
        {"columns": {"x": [1] * 10_001}},
        413,
        "expected at most 10,000 in a request, got 10,001",
    ),
    "too many in lists": (
        {"names": ["x"], "rows": [[1]] * 10_001},
        413,
        "expected at most 10,000 in a request, got 10,001",
    ),
    "a time that is none": (ROW_ | {"time": "soon"}, 422, "expected a time in `time`"),
    "a name of keepfit's": (ROW_ | {"_score": 1}, 422, "other names than keepfit's own"),
    "a list for a number": (ROW_ | {"x": [1]}, 422, "expected a number in `x`, got [1]"),
    "an object for a number": ([ROW_, ROW_ | {"y": {"a": 1}}], 422, "expected a number in `y`"),
    "a list for a text": (ROW_ | {"kind": ["a"]}, 422, "expected a text in `kind`, got ['a']"),
    "too many": ([ROW_] * 10_001, 413, "expected at most 10,000 in a request"),
    "no arrow": (b"ARROW1", 400, "expected rows as JSON"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_cannot_be_answered_is_told_in_the_form_of_the_house(
    served: Served, name: str
) -> None:
    body, status, message = BAD[name]
    before = len(served.kept(ANSWER))
    found, told = served.ask("POST", "/predict/churn", body)
    assert (found, message in told["error"]["message"]) == (status, True)
    assert len(served.kept(ANSWER)) == before


def test_a_label_that_comes_with_its_row_is_kept_as_labels_are(served: Served) -> None:
    for path in ("/predict/churn", "/rows/churn"):
        for body in (ROW_ | {"label": True}, [ROW_ | {"label": True}, ROW_ | {"label": 0.0}]):
            assert served.ask("POST", path, body)[0] == 200
    kept = [json.loads(one.body)["label"] for one in served.kept(ANSWER, ROW)[-6:]]
    assert kept == [1, 1, 0, 1, 1, 0]
    assert {type(one) for one in kept} == {int}


def test_an_arrow_stream_that_is_none_is_told_so(served: Served) -> None:
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    status, told = served.ask("POST", "/predict/churn", b"ARROW1", headers)
    assert (status, told["error"]["message"][:29]) == (400, "expected an Arrow stream, got")


@given(body=st.binary(max_size=200))
@settings(max_examples=40)
def test_no_body_breaks_the_server(trees: Served, body: bytes) -> None:
    for path in (
        "/predict/churn",
        "/labels/churn",
        "/rows/churn",
        "/events",
        "/v2/models/churn/infer",
    ):
        status, _ = trees.ask("POST", path, body)
        assert status in (200, 400, 413, 422)


# Labels, rows, events ---------------------------------------------------------------------


def test_labels_are_accepted_repeated_corrected_or_wait(trees: Served) -> None:
    _, told = trees.ask("POST", "/predict/churn", ROW_)
    id_ = told["id"]
    nothing = {"accepted": 0, "repeated": 0, "corrected": 0, "waiting": []}
    ask = {"id": id_, "label": 1}
    assert trees.ask("POST", "/labels/churn", ask) == (200, nothing | {"accepted": 1})
    assert trees.ask("POST", "/labels/churn", [ask]) == (200, nothing | {"repeated": 1})
    # True is 1 where labels are 0 and 1.
    right = [{"id": id_, "label": 0}, {"id": id_, "label": True}]
    assert trees.ask("POST", "/labels/churn", right) == (200, nothing | {"corrected": 2})
    early = {"id": str(time.time_ns()), "label": 1, "known_at": "2026-01-01T00:00:00Z"}
    _, told = trees.ask("POST", "/labels/churn", early)
    assert told == nothing | {"waiting": [int(early["id"])]}
    bodies = [one.body for one in trees.kept(LABEL) if one.id == id_]
    assert bodies == [b"1", b"0", b"1"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": 1}, 400),
        ({"id": 1, "label": None}, 400),
        ({"id": 1, "label": 1, "more": 1}, 400),
        ({"id": 1, "label": "yes"}, 422),
        ({"id": "a", "label": 1}, 422),
        ({"id": 1, "label": 1, "known_at": "2999-01-01T00:00:00Z"}, 422),
        ({"id": 1, "label": 1, "known_at": "soon"}, 400),
        ({"id": 1, "label": 1, "known_at": "0001-01-01T00:00:00+14:00"}, 422),
        ({"id": 1, "label": 1, "known_at": "9999-12-31T23:59:59-14:00"}, 422),
        ({"id": 1, "label": 1e300}, 422),
        ({"id": 1, "label": 2**63}, 422),
        ({"id": 1, "label": 10**400}, 422),
        ([{"id": 1, "label": 1}] * 10_001, 413),
    ],
    ids=[
        "no label", "null", "more", "text", "id", "not yet", "no time", "before year 1",
        "after year 9999", "a large number", "65 bits", "400 digits", "too many",
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(trees: Served, body: Any, status: int) -> None:
    before = len(trees.kept(LABEL))
    assert trees.ask("POST", "/labels/churn", body)[0] == status
    assert len(trees.kept(LABEL)) == before


def test_rows_that_nobody_asks_about_are_kept_with_their_labels(trees: Served) -> None:
    status, told = trees.ask("POST", "/rows/churn", [ROW_ | {"label": 1}, ROW_])
    assert (status, told["accepted"], len(set(told["ids"]))) == (200, 2, 2)
    kept = [one for one in trees.kept(ROW) if one.id in told["ids"]]
    assert [one.scores for one in kept] == [None, None]


NO_ROWS: dict[str, tuple[Any, str]] = {
    "nothing but an id": ({"id": 5}, "expected a value for `x`, which the model needs"),
    "a column less": ([ROW_, {"x": 1, "y": 2}], "expected a value for `kind`"),
    "a list for a number": (ROW_ | {"x": [1]}, "expected a number in `x`, got [1]"),
}


@pytest.mark.parametrize("name", sorted(NO_ROWS))
def test_rows_that_no_model_could_answer_are_not_kept(served: Served, name: str) -> None:
    body, message = NO_ROWS[name]
    before = len(served.kept(ROW))
    status, told = served.ask("POST", "/rows/churn", body)
    assert (status, message in told["error"]["message"]) == (422, True)
    assert len(served.kept(ROW)) == before


def test_a_label_of_a_row_that_came_with_the_source_waits_for_nothing(trees: Served) -> None:
    lake = trees.world.loop.memory.lake
    known = lake.batch(1).get_column("_id")[0]
    unknown = time.time_ns()
    sent = [{"id": known, "label": 1}, {"id": unknown, "label": 0}]
    status, told = trees.ask("POST", "/labels/churn", sent)
    assert (status, told["accepted"], told["waiting"]) == (200, 1, [unknown])


def test_events_come_structured_in_batches_and_binary_and_count_once(trees: Served) -> None:
    event = {"specversion": "1.0", "id": "e1", "source": "shop", "type": "prices"}
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    batch = {"content-type": "application/cloudevents-batch+json"}
    binary = {f"ce-{name}": value for name, value in (event | {"id": "e3"}).items()} | JSON
    once, twice = {"accepted": 1, "repeated": 0}, {"accepted": 0, "repeated": 1}
    assert trees.ask("POST", "/events", event, structured) == (200, once)
    assert trees.ask("POST", "/events", event, structured) == (200, twice)
    assert trees.ask("POST", "/events", [event | {"id": "e2"}, event], batch)[1] == {
        "accepted": 1,
        "repeated": 1,
    }
    assert trees.ask("POST", "/events", {"items": 7}, binary) == (200, once)
    with contextlib.closing(Guide(trees.world.made.home, "churn")) as guide:
        guide.look()
        told = guide.ledger.facts("churn", kind="Signalled")
    facts = [entry.fact for entry in told if isinstance(entry.fact, Signalled)]
    own = [fact for fact in facts if fact.data.get("source") == "shop"]  # other tests send theirs
    assert [(fact.event, fact.data["id"]) for fact in own] == [
        ("prices", f"e{i}") for i in (1, 2, 3)
    ]
    assert own[-1].data["data"] == {"items": 7}


def test_events_too_many_or_too_large_are_refused(trees: Served) -> None:
    event = {"specversion": "1.0", "id": "large", "source": "shop", "type": "prices"}
    before = len(trees.kept(EVENT))
    status, told = trees.ask("POST", "/events", event | {"data": "x" * 65_536})
    assert (status, "at most 65,536 bytes" in told["error"]["message"]) == (400, True)
    status, told = trees.ask("POST", "/events", [event] * 1_001)
    assert (status, "at most 1,000 events" in told["error"]["message"]) == (400, True)
    assert len(trees.kept(EVENT)) == before


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [31, 100, 960, 990, 100_000])
@pytest.mark.parametrize("whole", [True, False], ids=["structured", "binary"])
def test_an_event_that_is_too_deep_is_refused(trees: Served, levels: int, whole: bool) -> None:
    before = len(trees.kept(EVENT))
    event = b'{"specversion":"1.0","id":"d","source":"s","type":"t","data":%s}' % nested(levels)
    binary = {"ce-specversion": "1.0", "ce-id": "d", "ce-source": "s", "ce-type": "t"} | JSON
    body, headers = (event, JSON) if whole else (nested(levels + 1), binary)
    status, told = trees.ask("POST", "/events", body, headers)
    assert (status, told["error"]["hint"] is not None) == (400, True)
    assert len(trees.kept(EVENT)) == before


def test_an_event_that_is_deep_enough_to_be_borne_is_taken(trees: Served) -> None:
    event = b'{"specversion":"1.0","id":"d1","source":"s","type":"t","data":%s}' % nested(30)
    assert trees.ask("POST", "/events", event, JSON)[1] == {"accepted": 1, "repeated": 0}
    with contextlib.closing(Guide(trees.world.made.home, "churn")) as guide:
        guide.look()
        assert guide.ledger.facts("churn", kind="Signalled")[-1].fact.event == "t"


def test_nobody_elses_event_is_named_as_keepfits_own(trees: Served) -> None:
    event = {"specversion": "1.0", "id": "u", "source": "s", "type": "not served"}
    status, told = trees.ask("POST", "/events", event | {"version": "v3", "reason": "URGENT"})
    assert (status, "'not served'" in told["error"]["hint"]) == (400, True)


def test_no_two_sources_and_ids_are_one_event(trees: Served) -> None:
    event = {"specversion": "1.0", "type": "prices"}
    pairs = [("a", "b c"), ("a b", "c"), ("a b c", "d"), ("a", "b c d"), ("4", "a b c")]
    told = [
        trees.ask("POST", "/events", event | {"source": source, "id": id_})[1]["accepted"]
        for source, id_ in pairs + pairs
    ]
    assert told == [1] * 5 + [0] * 5


@pytest.mark.parametrize(
    "event",
    [{}, [], 7, {"id": "1", "source": "a"}, {"id": 1, "source": "a", "type": "b"}],
    ids=["empty", "none", "number", "no type", "number as id"],
)
def test_events_that_are_none_are_refused(trees: Served, event: Any) -> None:
    status, told = trees.ask("POST", "/events", event)
    assert (status, told["error"]["message"][:8]) == (400, "expected")


# HTTP ------------------------------------------------------------------------------------


def request(body: bytes, path: str = "/predict/churn", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CLOSE = "connection: close"


def answers(found: bytes) -> list[bytes]:
    return [part.split(b" ", 1)[0] for part in found.split(b"HTTP/1.1 ")[1:]]


def connections(served: Served) -> list[protocol.Protocol]:
    assert served.server is not None
    found = list(served.server.server_state.connections)
    return [one for one in found if isinstance(one, protocol.Protocol)]


def test_requests_sent_at_once_are_answered_in_their_order(served: Served) -> None:
    rows = [ROW_ | {"id": number} for number in range(501, 506)]
    hot = [request(json.dumps(row).encode()) for row in rows]
    look = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    bad = request(b"{}")
    last = request(json.dumps(ROW_ | {"id": 506}).encode(), "/predict/churn", CLOSE)
    label = request(b'{"id": 501, "label": 1}', "/labels/churn")
    found = served.raw(
        b"".join([hot[0], hot[1], look, hot[2], bad, label, look, hot[3], hot[4], last])
    )
    assert answers(found) == [b"200"] * 4 + [b"422"] + [b"200"] * 5
    order = [part[:12] for part in (b'"id":501', b'"id":502', b'"live"', b'"id":503', b'"id":504')]
    places = [found.index(part) for part in order]
    assert places == sorted(places)
    assert found.index(b'"id":506') == max(found.rindex(b'"id":50'), 0)


BODY = json.dumps(ROW_).encode()
KNOWN = request(BODY)
LOOK = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([KNOWN] * 4, [b"200"] * 4),
        ([KNOWN, LOOK, KNOWN, LOOK, KNOWN], [b"200"] * 5),
        ([KNOWN, KNOWN + KNOWN, KNOWN], [b"200"] * 4),
        ([KNOWN, KNOWN[:-4], KNOWN[-4:], KNOWN], [b"200"] * 3),
        ([KNOWN, KNOWN[:9], KNOWN[9:] + KNOWN[:30], KNOWN[30:], KNOWN], [b"200"] * 4),
        ([KNOWN, KNOWN.replace(BODY, b"{" * len(BODY)), KNOWN], [b"200", b"400", b"200"]),
        ([KNOWN, KNOWN + b"\r\n", KNOWN], [b"200"] * 3),
    ],
    ids=[
        *("again", "others between", "two at once", "in two pieces", "across requests"),
        *("another body", "line behind"),
    ],
)
def test_requests_whose_head_is_known_are_answered_as_if_it_were_not(
    served: Served, sent: list[bytes], statuses: list[bytes]
) -> None:
    last = request(BODY, "/predict/churn", CLOSE)
    for _ in range(2):  # the second time it is known from another connection
        assert answers(served.raw(*sent, last, pause=0.02)) == [*statuses, b"200"]


def test_only_heads_that_tell_all_by_their_bytes_are_kept() -> None:
    heads = protocol.Heads()
    headers = [(b"host", b"x"), (b"content-length", b"%d" % len(BODY))]
    seen: Any = object()
    heads.learn(KNOWN, BODY, headers, seen)
    assert heads.find(KNOWN) == ((headers, seen, len(BODY)), len(KNOWN) - len(BODY))
    for other in (
        KNOWN[:-1],
        KNOWN + b" ",
        KNOWN.replace(b"host: localhost", b"host: y"),
        b"",
        b"\r\n\r\n",
    ):
        assert heads.find(other) is None
    long = request(BODY, "/predict/churn", "x-long: " + "y" * protocol.HEAD_BYTES)
    for data, fields in ((KNOWN + b" ", headers), (long, headers), (LOOK, [])):
        unknown = protocol.Heads()
        unknown.learn(data, BODY, fields, seen)
        assert unknown.find(data) is None
    for place in range(protocol.HEADS + 10):
        heads.learn(request(BODY, f"/{place}"), BODY, headers, seen)
    assert len(heads._known) <= protocol.HEADS


def test_a_request_in_small_pieces_is_one(served: Served) -> None:
    whole = request(json.dumps(ROW_).encode(), "/predict/churn", CLOSE)
    pieces = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    assert answers(served.raw(*pieces, pause=0.0005)) == [b"200"]


def test_a_body_in_parts_of_unknown_length_is_read(served: Served) -> None:
    body = json.dumps(ROW_).encode()
    head = b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    parts = b"transfer-encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    found = served.raw(head + parts % (body[:5], len(body) - 5, body[5:]))
    assert answers(found) == [b"200"]


def test_a_client_of_http_1_0_and_one_that_asks_first_are_answered(served: Served) -> None:
    body = json.dumps(ROW_).encode()
    old = b"POST /predict/churn HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    assert answers(served.raw(old)) == [b"200"]
    asks = request(body, "/predict/churn", "expect: 100-continue", CLOSE)
    assert answers(served.raw(asks)) == [b"100", b"200"]


def test_what_is_no_http_is_refused(served: Served) -> None:
    assert answers(served.raw(b"\x16\x03\x01 hello\r\n\r\n")) == [b"400"]
    two = b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"
    assert answers(served.raw(two)) == [b"400"]


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_a_giant_body_is_refused_before_it_has_come(served: Served, path: str) -> None:
    giant = b"[" + b" " * (protocol.MOST_BYTES + 1_000_000) + b"]"
    with contextlib.suppress(ConnectionError):
        assert answers(served.raw(request(giant, path)))[:1] in ([b"413"], [])
    assert served.ask("POST", "/predict/churn", ROW_)[0] == 200


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_a_body_that_says_it_is_giant_is_not_waited_for(served: Served, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {protocol.MOST_BYTES + 1}\r\n\r\n"
    found = served.raw(head.encode())
    assert answers(found) == [b"413"]
    assert b"connection: close" in found


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
@pytest.mark.parametrize("form", ["a header", "headers", "a path", "trailers"])
def test_a_head_that_does_not_end_is_refused(served: Served, path: str, form: str) -> None:
    start = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n"
    begin, more = {
        "a header": (start + "x: ", "y" * 1_000),
        "headers": (start, "x: " + "y" * 1_000 + "\r\n"),
        "a path": (f"POST {path}", "y" * 1_000),
        "trailers": (start + "transfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n" * 200),
    }[form]
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(begin.encode())
        # Far more than the sockets between hold: it is not taken to its end.
        with pytest.raises(ConnectionError):
            connection.sendall(more.encode() * 32_000)
    assert served.ask("POST", "/predict/churn", ROW_)[0] == 200


def test_a_head_that_is_too_long_is_told_so(served: Served) -> None:
    head = b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\nx: "
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head)
        until(lambda: any(one.begun for one in connections(served)))
        connection.sendall(b"y" * (protocol.MOST_HEAD_BYTES + 1))
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n{}",
        b"POST /labels/churn HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n[]    ",
        b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"hello\r\n\r\n",
    ],
    ids=["TLS", "a length below none", "two lengths", "no chunk", "words"],
)
def test_what_is_no_request_is_told_as_all_errors_are(served: Served, sent: bytes) -> None:
    head, _, body = served.raw(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert (error["message"], "certfile" in error["hint"]) == (
        "expected a request of HTTP/1.1, got bytes that are none",
        True,
    )
    assert served.ask("POST", "/predict/churn", ROW_)[0] == 200


def test_a_body_in_many_small_parts_is_read(served: Served) -> None:
    body = json.dumps(ROW_).encode() + b" " * 50_000
    head = b"POST /predict/churn HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    parts = b"".join(b"3\r\n%b\r\n" % body[i : i + 3] for i in range(0, len(body) // 3 * 3, 3))
    assert len(parts) > 2 * protocol.MOST_HEAD_BYTES
    sent = head + b"transfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
    assert answers(served.raw(*(sent[i : i + 8_192] for i in range(0, len(sent), 8_192)))) == [
        b"200"
    ]


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_what_all_connections_send_at_once_is_bounded(
    trees: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol.ROOM, "most", 1_000_000)
    large = b"[" + b" " * 800_000 + b"]"
    for sent in (large[:-1], large):
        with socket.create_connection(("127.0.0.1", trees.port), timeout=30) as connection:
            connection.sendall(request(large, path)[: -len(large)] + sent[:700_000])
            until(lambda: protocol.ROOM.held >= 600_000)
            # Who is ended while they send may not get to read why.
            with contextlib.suppress(ConnectionError):
                assert answers(trees.raw(request(large, path)))[:1] in ([b"503"], [])
            assert protocol.ROOM.held <= 1_000_000
            assert trees.ask("POST", "/predict/churn", ROW_)[0] == 200
        until(lambda: not protocol.ROOM.held)
    assert answers(trees.raw(request(large, path, CLOSE)))[0] in (b"200", b"400")
    assert protocol.ROOM.held == 0


@pytest.mark.parametrize("path", ["/predict/churn", "/labels/churn"])
def test_connections_that_are_slow_or_silent_are_ended(served: Served, path: str) -> None:
    place = ("127.0.0.1", served.port)
    with (
        socket.create_connection(place, timeout=30) as slow,
        socket.create_connection(place, timeout=30) as silent,
    ):
        slow.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: 99\r\n\r\n{{".encode())
        until(lambda: any(one.begun for one in connections(served)))
        for one in connections(served):
            later = one.loop.time() + protocol.IDLE_SECONDS + 1
            one.loop.call_soon_threadsafe(one.tire, later)
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert silent.recv(100) == b""


def test_paths_and_methods_that_do_not_exist_are_told_so(served: Served) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("POST", "/predict/chrun", 404),
        ("POST", "/predict/../churn", 404),
        ("POST", "/predict/churn/", 404),
        ("GET", "/predict/churn", 405),
    ):
        found, told = served.ask(method, path)
        assert (found, told["error"]["message"][:8]) == (status, "expected"), path


@pytest.mark.parametrize(
    ("path", "allowed"), [("/predict/churn", "POST"), ("/status", "GET, HEAD")], ids=["post", "get"]
)
def test_another_method_is_told_which_there_are(served: Served, path: str, allowed: str) -> None:
    found = served.raw(f"DELETE {path} HTTP/1.1\r\nhost: localhost\r\n{CLOSE}\r\n\r\n".encode())
    assert answers(found) == [b"405"]
    assert f"\r\nallow: {allowed}\r\n".encode() in found
    assert f"expected the method {allowed} for {path}, got DELETE".encode() in found


def test_keepalive_connections_take_many_requests(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    with contextlib.closing(connection):
        for path in ("/predict/churn", "/rows/churn", "/predict/churn", "/predict/churn"):
            connection.request("POST", path, json.dumps(ROW_), JSON)
            assert connection.getresponse().read()


# Looks and hands --------------------------------------------------------------------------


def test_health_metrics_status_and_why_tell_of_the_champion(trees: Served) -> None:
    assert trees.ask("GET", "/health/live") == (200, {"live": True})
    assert trees.ask("GET", "/health/ready") == (200, {"ready": True})
    assert trees.ask("GET", "/status")[1]["champion"] == "v1"
    assert trees.ask("GET", "/why/v1")[0] == 200
    assert trees.ask("GET", "/why/v99")[0] == 404
    trees.ask("POST", "/predict/churn", ROW_)
    _, text = trees.ask("GET", "/metrics")
    families = {one.name: one for one in text_string_to_metric_families(text.decode())}
    serving = families["keepfit_serving"].samples[0]
    assert serving.labels == {"pipeline": "churn", "version": "v1"}
    assert any(one.value >= 1 for one in families["keepfit_requests"].samples)
    assert "keepfit_request_seconds" in families


def test_people_pause_resume_and_promote_with_a_reason_that_is_kept(trees: Served) -> None:
    for reason in ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 10_001}):
        assert trees.ask("POST", "/pause", reason)[0] == 400
    status, told = trees.ask("POST", "/pause", {"reason": "holidays", "by": "ada"})
    assert (status, told["paused"]) == (200, "holidays")
    assert trees.ask("POST", "/resume", {"reason": "over"})[1]["paused"] is None
    status, told = trees.ask("POST", "/promote", {"reason": "better", "version": "v1"})
    assert (status, told["error"]["message"]) == (400, "v1 is the champion already")
    assert trees.ask("POST", "/promote", {"reason": "better"})[0] == 400
    assert trees.ask("POST", "/rollback", {"reason": "worse"})[0] == 409
    last = trees.world.loop.memory.ledger.facts("churn", kind="Paused")[-1].fact
    assert msgspec.to_builtins(last)["by"] == "ada"


def test_the_open_inference_protocol_answers_as_predict_does(trees: Served) -> None:
    assert trees.ask("GET", "/v2")[1]["name"] == "keepfit"
    assert trees.ask("GET", "/v2/health/ready")[0] == 200
    _, told = trees.ask("GET", "/v2/models/churn")
    assert [one["name"] for one in told["inputs"]] == ["x", "y", "kind"]
    inputs = [
        {"name": "x", "shape": [2], "datatype": "FP64", "data": [0.5, 1.5]},
        {"name": "y", "shape": [2, 1], "datatype": "FP64", "data": [[-1.0], [2.0]]},
        {"name": "kind", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
    ]
    status, told = trees.ask(
        "POST", "/v2/models/churn/versions/v1/infer", {"inputs": inputs, "id": "7"}
    )
    assert (status, told["model_version"], told["id"]) == (200, "v1", "7")
    outputs = {one["name"]: one["data"] for one in told["outputs"]}
    rows = [ROW_, {"x": 1.5, "y": 2.0, "kind": "b"}]
    assert outputs["probability"] == said(trees, rows)
    wrong = [inputs[0] | {"shape": [3]}]
    assert trees.ask("POST", "/v2/models/churn/infer", {"inputs": wrong})[0] == 400


# Ids --------------------------------------------------------------------------------------


def test_new_ids_grow_and_never_come_twice() -> None:
    for kind in ("number", "text", ""):
        ids = Ids(kind)
        made = [ids.new() for _ in range(10_000)]
        assert len(set(made)) == 10_000
        assert made == sorted(made)  # type: ignore[type-var]
        assert {type(one) for one in made} == {int if kind == "number" else str}
        assert all(not isinstance(one, int) or one < 2**63 for one in made)


def test_to_be_asked_while_nothing_serves_takes_no_memory(trees: Served) -> None:
    assert trees.worker is not None
    desk, follower = trees.worker.desk, trees.worker.follower
    serving, follower.current = follower.current, None
    try:
        depths = []
        for _ in range(3):
            with pytest.raises(NoChampion) as raised:
                desk.serving()
            depths.append(len(raised.traceback))
    finally:
        follower.current = serving
    assert depths[0] == depths[-1]
    # A champion that is still being tried after a start is the usual reason.
    assert "has tried it" in str(raised.value.hint)
