"""Several workers are one server to those who look at it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, workers_of
from tests.waits import until

ROWS = [{"x": 0.5, "y": -1.0, "kind": "a"}]


def answered(server: Server) -> float:
    return sum(
        one.value
        for one in server.samples("keepfit_requests")
        if one.labels == {"route": "predict", "status": "200"}
    )


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="several workers need a socket handed down")
def test_metrics_are_of_all_workers_whichever_is_asked_and_outlive_one(tmp_path: Path) -> None:
    with Home(tmp_path).trained().running("serve", "--workers", "2") as server:
        server.all_serving()
        crowd = Crowd(server.port, 8, ROWS)
        until(lambda: len(crowd.answers) > 200)
        crowd.end()
        count = len(crowd.answers)
        until(lambda: all(answered(server) == count for _ in range(6)))
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: len(workers_of(server)) == 2 and answered(server) == count)
        assert crowd.wrong == []
