"""Programs that nobody here wrote, and what they make of a server."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from lightgbm import LGBMClassifier
from prometheus_client.parser import text_string_to_metric_families

from keepfit.journal import EVENT, Journal
from keepfit.server.app import app
from keepfit.server.openapi import OPERATIONS, document
from tests.served import JSON, ROW_, Served, opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("strangers")
    yield from opened(folder, LGBMClassifier(n_estimators=3, verbosity=-1))


def kept(served: Served, id_: str) -> list[dict[str, Any]]:
    with contextlib.closing(Journal(served.world.path)) as journal:
        found = [msgspec.json.decode(one.body) for one in journal.after(0, kinds=(EVENT,))]
    return [one for one in found if one["id"] == id_]


# The SDK of CloudEvents -------------------------------------------------------------------


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_events_of_the_sdk_are_taken_in_both_forms(served: Served, form: str) -> None:
    from cloudevents.core.bindings import http
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "id": f"sdk {form} ü",
        "source": "https://example.org/shop",
        "type": "org.example.prices",
        "subject": "item 7",
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    event = CloudEvent(attributes, {"items": [7, 8]})
    make = {"structured": http.to_structured, "binary": http.to_binary}[form]
    message = make(event, JSONFormat())
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
    for times in (1, 2):
        status, told = served.ask("POST", "/events", body, dict(message.headers))
        assert (status, told) == (200, {"accepted": 2 - times, "repeated": times - 1})
    (found,) = kept(served, f"sdk {form} ü")
    assert {name: found[name] for name in ("source", "type", "subject")} == {
        name: attributes[name] for name in ("source", "type", "subject")
    }
    assert found["data"] == {"items": [7, 8]}


# Prometheus' parsers ----------------------------------------------------------------------


def test_metrics_are_read_by_the_parser_of_prometheus(served: Served) -> None:
    served.ask("POST", "/predict/churn", ROW_)
    status, text = served.ask("GET", "/metrics")
    assert status == 200
    families = {one.name: one for one in text_string_to_metric_families(text.decode())}
    assert all(one.documentation and one.type != "unknown" for one in families.values())
    buckets = [
        one for one in families["keepfit_request_seconds"].samples if one.name.endswith("_bucket")
    ]
    counts = [one.value for one in buckets if one.labels["route"] == "predict"]
    assert counts == sorted(counts)
    assert counts[-1] >= 1


# Schemathesis, over the OpenAPI document ----------------------------------------------------


def test_the_document_tells_of_every_route_with_its_statuses(served: Served) -> None:
    worker = served.worker
    assert worker is not None
    routes = app(worker.desk, worker.office, worker.access, worker.tally).routes
    listed = {
        (method, route.path)  # type: ignore[attr-defined]
        for route in routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    assert listed == set(OPERATIONS)
    status, told = served.ask("GET", "/openapi.json")
    assert status == 200
    assert told["openapi"] == "3.1.0"
    assert set(told["paths"]) == {path for _, path in listed}
    names = [one["operationId"] for path in told["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))
    text = msgspec.json.encode(told).decode()
    assert "http://" not in text.replace(f"http://127.0.0.1:{served.port}", "")
    assert "https://" not in text


_DOCUMENT = msgspec.json.decode(document("churn"))
PLACES = [(method, path) for path, methods in _DOCUMENT["paths"].items() for method in methods]


@pytest.mark.parametrize(("method", "path"), PLACES, ids=["-".join(one) for one in PLACES])
def test_schemathesis_finds_no_fault_and_no_answer_that_is_not_told_of(
    served: Served, method: str, path: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, Phase, given, settings

        # Which columns a model needs, and which of its versions there are, no schema says.
        from schemathesis.specs.openapi.checks import positive_data_acceptance

        schema = schemathesis.openapi.from_dict(_DOCUMENT)
        schema.config.update(base_url=f"http://127.0.0.1:{served.port}")
        operation = schema[path][method]

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.explicit],
            suppress_health_check=list(HealthCheck),
        )
        def held(case: Any) -> None:
            for name in ("pipeline", "model"):
                # Half of the names are those of what is served, so that not all end with 404.
                if name in (found := case.path_parameters or {}) and len(found[name]) % 2:
                    found[name] = "churn"
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        held()
    assert served.ask("POST", "/predict/churn", ROW_, JSON)[0] == 200
