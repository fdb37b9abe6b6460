"""What a server tells Prometheus: of all its workers together, and of its pipeline's facts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from keepfit.ledger.steps import Stepping
from keepfit.server.counters import EDGES
from keepfit.server.tally import Counts, Tally
from tests.served import ROW_, Served, opened

NUMBERS = st.integers(0, 10**6)
COUNTS = st.builds(
    Counts,
    requests=st.dictionaries(st.sampled_from("ab"), st.dictionaries(NUMBERS, NUMBERS, max_size=2)),
    buckets=st.dictionaries(
        st.sampled_from("ab"),
        st.lists(NUMBERS, min_size=len(EDGES) + 1, max_size=len(EDGES) + 1),
    ),
    rows=NUMBERS,
    waiting=NUMBERS,
    serving=st.dictionaries(st.sampled_from(["v1", "v2"]), NUMBERS),
    challenger=st.just("v3"),
    answers=NUMBERS,
)


@given(COUNTS, COUNTS, COUNTS)
@settings(deadline=None, max_examples=50)
def test_counts_add_up_in_any_order(one: Counts, other: Counts, third: Counts) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert one + Counts(challenger="v3") == one


def counted(rows: int) -> Counts:
    return Counts(
        requests={"predict": {200: rows}},
        buckets={"predict": [rows, *[0] * len(EDGES)]},
        seconds={"predict": rows / 1e3},
        rows=rows,
        waiting=1,
        serving={"v1": 1},
    )


def test_workers_add_up_and_one_that_is_gone_still_counts(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    tally = Tally(tmp_path, lambda: counted(5), server=os.getpid())
    tally.start()
    for process, rows in ((os.getppid(), 7), (ended.pid, 11)):
        other = Tally(tmp_path, lambda rows=rows: counted(rows), server=os.getpid())  # type: ignore[misc]
        other._file = tmp_path / f"{os.getpid()}-{process}.json"
        other.write()
    (tmp_path / f"{os.getpid()}-1.json").write_text("half a fi")
    total = tally.total()
    assert (total.rows, total.requests) == (23, {"predict": {200: 23}})
    # Of the one that is gone only what was counted stays: nothing waits there, nothing serves.
    assert (total.waiting, total.serving) == (2, {"v1": 2})
    tally.close()
    assert (tmp_path / f"{os.getpid()}-{os.getpid()}.json").exists()


def test_what_servers_left_that_are_gone_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"{ended.pid}-1.json").write_bytes(b"{}")
    tally = Tally(tmp_path, Counts, server=os.getpid())
    tally.start()
    tally.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}-{os.getpid()}.json"]


def test_a_worker_alone_lays_down_nothing(tmp_path: Path) -> None:
    tally = Tally(tmp_path, lambda: counted(5))
    tally.start()
    tally.close()
    assert tally.total() == counted(5)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from opened(tmp_path_factory.mktemp("m"), LGBMClassifier(n_estimators=5, verbosity=-1))


def told(served: Served) -> dict[str, list[Sample]]:
    status, text = served.ask("GET", "/metrics")
    assert status == 200
    return {one.name: one.samples for one in text_string_to_metric_families(text.decode())}


def value(samples: list[Sample]) -> float:
    (one,) = [one for one in samples if not one.name.endswith("_created")]
    return one.value


def test_the_facts_of_a_pipeline_are_told(trees: Served) -> None:
    state = trees.world.loop.refold()
    found = told(trees)
    assert value(found["keepfit_facts_read"]) == 1
    assert value(found["keepfit_trainings"]) == state.counts.trainings == 1
    assert value(found["keepfit_versions_promoted"]) == 1
    assert value(found["keepfit_versions_rolled_back"]) == 0
    assert value(found["keepfit_rows_landed"]) == state.counts.rows
    assert value(found["keepfit_labels_landed"]) == state.counts.labels
    assert value(found["keepfit_training_cpu_seconds"]) == state.counts.fit_cpu_seconds
    assert value(found["keepfit_probe_cpu_seconds"]) == state.counts.probe_cpu_seconds == 0
    assert state.watermark is not None
    assert state.labelled_to is not None
    assert value(found["keepfit_rows_to_timestamp_seconds"]) == state.watermark.timestamp()
    assert value(found["keepfit_labels_to_timestamp_seconds"]) == state.labelled_to.timestamp()
    assert value(found["keepfit_staleness_seconds"]) > 0
    assert value(found["keepfit_drift_columns"]) == len(state.drifted)
    assert value(found["keepfit_batches_quarantined"]) == 0
    newest = state.last_scored
    assert newest is not None
    quality = {one.labels["bound"]: one.value for one in found["keepfit_quality"]}
    assert quality == {"value": newest.value, "low": newest.low, "high": newest.high}
    assert found["keepfit_quality"][0].labels["metric"] == newest.metric


def test_how_the_loop_comes_through_its_steps_is_told(trees: Served) -> None:
    steps = Stepping(trees.world.loop.memory.ledger, "churn", "here")
    now = trees.world.clock.now()
    steps.come_through(now)
    steps.fall(now, OverflowError("too large"))
    found = told(trees)
    assert value(found["keepfit_loop_steps_failed"]) == 1
    assert value(found["keepfit_loop_step_timestamp_seconds"]) == now.timestamp()
    assert value(found["keepfit_loop_step_age_seconds"]) > 0
    for _ in range(2):
        steps.fall(now, OverflowError("too large"))
    status, shown = trees.ask("GET", "/status")
    assert (status, shown["condition"]) == (200, "unhealthy")
    assert shown["stuck"]["message"] == "OverflowError: too large"
    assert trees.ask("GET", "/health/ready")[0] == 200
    steps.come_through(now)
    assert value(told(trees)["keepfit_loop_steps_failed"]) == 0
    assert trees.ask("GET", "/status")[1]["condition"] == "healthy"


def test_what_people_do_shows_at_once(trees: Served) -> None:
    assert value(told(trees)["keepfit_paused"]) == 0
    trees.ask("POST", "/pause", {"reason": "holidays"})
    assert value(told(trees)["keepfit_paused"]) == 1
    trees.ask("POST", "/resume", {"reason": "over"})
    assert value(told(trees)["keepfit_paused"]) == 0


def test_requests_are_counted_by_route_and_status_with_their_time(trees: Served) -> None:
    before = told(trees)
    trees.ask("POST", "/predict/churn", ROW_)
    trees.ask("POST", "/predict/churn", {})
    after = told(trees)

    def requests(found: dict[str, list[Sample]], status: str) -> float:
        wanted = {"route": "predict", "status": status}
        return sum(
            one.value
            for one in found["keepfit_requests"]
            if one.name == "keepfit_requests_total" and one.labels == wanted
        )

    assert requests(after, "200") == requests(before, "200") + 1
    assert requests(after, "422") == requests(before, "422") + 1
    assert value(after["keepfit_rows_answered"]) == value(before["keepfit_rows_answered"]) + 1
    (count,) = [
        one.value
        for one in after["keepfit_request_seconds"]
        if one.name.endswith("_count") and one.labels == {"route": "predict"}
    ]
    assert count == requests(after, "200") + requests(after, "422")
