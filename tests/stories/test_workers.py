"""Several workers are one server to those who look at it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
from tests.crowds import Crowd
from tests.stories.test_serving import Home, Server, workers_of
from tests.waits import until

from keepfit.server.tally import Counts

ROWS = [{"x": 0.5, "y": -1.0, "kind": "a"}]


def answered(server: Server) -> float:
    return sum(
        one.value
        for one in server.samples("keepfit_requests")
        if one.labels == {"route": "predict", "status": "200"}
    )


def laid_down(folder: Path) -> int:
    """Return what all workers counted, as far as it would outlive them."""
    files = (folder / ".keepfit").rglob("[0-9]*-[0-9]*.json")
    found = [msgspec.json.decode(path.read_bytes(), type=Counts) for path in files]
    return sum(one.requests.get("predict", {}).get(200, 0) for one in found)


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="several workers need a socket handed down")
def test_metrics_are_of_all_workers_whichever_is_asked_and_outlive_one(tmp_path: Path) -> None:
    with Home(tmp_path).trained().running("serve", "--workers", "2") as server:
        server.all_serving()
        crowd = Crowd(server.port, 8, ROWS)
        until(lambda: len(crowd.answers) > 200)
        crowd.end()
        count = len(crowd.answers)
        until(lambda: answered(server) == count)
        # What a worker has not laid down yet goes with it.
        until(lambda: laid_down(tmp_path) == count)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: len(workers_of(server)) == 2 and answered(server) == count)
        assert crowd.wrong == []
