"""Several workers are one server to those who look at it."""

from __future__ import annotations

import http.client
import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, workers_of

ROWS = [{"x": 0.5, "y": -1.0, "kind": "a"}]


def told(server: Server, name: str) -> list[Sample]:
    connection: http.client.HTTPConnection = server.connection()
    connection.request("GET", "/metrics")
    with connection.getresponse() as response:
        text = response.read().decode()
    connection.close()
    (family,) = [one for one in text_string_to_metric_families(text) if one.name == name]
    return family.samples


def answered(server: Server) -> float:
    return sum(
        one.value
        for one in told(server, "keepfit_requests")
        if one.labels == {"route": "predict", "status": "200"}
    )


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="several workers need a socket handed down")
def test_metrics_are_of_all_workers_whichever_is_asked_and_outlive_one(tmp_path: Path) -> None:
    with Home(tmp_path).trained().running("serve", "--workers", "2") as server:
        server.until(lambda: sum(one.value for one in told(server, "keepfit_serving")) == 2)
        crowd = Crowd(server.port, 8, ROWS)
        server.until(lambda: len(crowd.answers) > 200)
        crowd.end()
        count = len(crowd.answers)
        server.until(lambda: all(answered(server) == count for _ in range(6)), seconds=20)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        server.until(lambda: len(workers_of(server)) == 2 and answered(server) == count)
        assert crowd.wrong == []
