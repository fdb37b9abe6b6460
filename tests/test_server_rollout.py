"""A challenger at work beside the champion: who answers whom, and what its faults lead to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from keepfit import facts, learners
from keepfit.batch import LABEL
from keepfit.facts import Cost, RolledBack, RolledOut
from keepfit.journal import ANSWER
from keepfit.rollouts import Assignment, Faults
from keepfit.server.challenger import Challenge
from keepfit.server.follower import FAULTS, Follower, tell, told
from keepfit.server.guide import Guide
from keepfit.server.models import pointed
from tests.servers import World
from tests.test_server import Served
from tests.test_server_models import Counted
from tests.waits import until


class Odd(ClassifierMixin, BaseEstimator):
    """Says 0.25 of all classes but the first, and fails in one way of rows that are far out."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: np.ndarray, y: np.ndarray) -> Odd:
        self.classes_ = np.unique(y)
        self.far_ = float(X[:, 0].max()) * 5
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        found = np.full((len(X), len(self.classes_)), 0.25)
        found[:, 0] = 1 - 0.25 * (len(self.classes_) - 1)
        far = X[:, 0] > self.far_
        if far.any() and self.fault == "raises":
            raise ValueError("a table is missing")
        if far.any() and self.fault in ("slow", "hangs"):
            time.sleep(0.7 if self.fault == "slow" else 60.0)
        if self.fault == "nan":
            found[far] = np.nan
        return found

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Rolling:
    """A home in which v1 serves, v2 is being rolled out, and a guide looks when it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, learner=LGBMClassifier(n_estimators=5, verbosity=-1))
        self.world.steps()
        self.guide = Guide(self.world.made.home, "churn", Counted(self.world))
        self.guide.look()
        self.served = Served(self.world)
        self.served.waits_for("v1")

    @property
    def follower(self) -> Follower:
        assert self.served.worker is not None
        return self.served.worker.follower

    def roll_out(
        self,
        fault: str,
        share: float,
        unit: str | None = None,
        *,
        waits: bool = True,
        classes: int = 2,
    ) -> str:
        """Begin a rollout of a version that fails so, and return the version's name."""
        version = self.trained(fault, classes)
        self.stage(version, share, unit, waits=waits)
        return version

    def trained(self, fault: str, classes: int = 2) -> str:
        """Train a version that fails so, and return its name."""
        loop, first = self.world.loop, self.world.loop.refold().version("v1")
        rows = self.world.frame.head(200).rename({"label": LABEL}).drop("id", "time")
        if classes > 2:
            rows = rows.with_columns((pl.int_range(pl.len()) % classes).alias(LABEL))
        made = learners.resolve(Odd(fault)).fit(
            rows, start="scratch", update="all", previous=None, seed=0
        )
        version = f"v{len(loop.state.versions) + 1}"
        started = facts.TrainingStarted(
            version=version,
            turn=loop.state.turn,
            challenger=first.challenger,
            snapshot=first.snapshot,
            start="scratch",
            update="all",
            seed=0,
            ready_at=first.ready_at,
            key=version,
        )
        artifact = loop.memory.artifacts.put(made.dumps())
        trained = facts.Trained(
            version=version, artifact=artifact, reference="", cost=Cost(), code=""
        )
        loop.append([started, trained], loop.clock.now())
        return version

    def stage(
        self, version: str, share: float, unit: str | None = None, *, waits: bool = True
    ) -> None:
        loop = self.world.loop
        now = loop.clock.now()
        staged = RolledOut(
            version=version,
            champion="v1",
            rollout=f"r/{version}",
            share=share,
            stage=1,
            stages=1,
            until=now,
            limit=now,
            unit=unit,
        )
        loop.append([staged], now)
        self.guide.look()
        until(lambda: not waits or self.now() == (version, share))

    def now(self) -> tuple[str, float] | None:
        challenger = self.follower.challenger
        if challenger is None:
            return None
        return challenger.challenge.version, challenger.challenge.share

    def ask(self, body: Any, path: str = "/predict/churn") -> Any:
        status, content = self.served.ask("POST", path, body)
        assert status == 200, content
        return content

    def back(self) -> list[RolledBack]:
        entries = self.world.loop.memory.ledger.facts("churn", kind="RolledBack")
        return [one.fact for one in entries if isinstance(one.fact, RolledBack)]

    def end(self) -> None:
        """Take back whatever is on, so that the next test begins anew."""
        rollout = self.world.loop.refold().rollout
        if rollout is not None:
            fact = rollout.fact
            gone = RolledBack(version=fact.version, to="v1", reason="the end", share=fact.share)
            self.world.loop.append([gone], self.world.loop.clock.now())
        self.guide.look()
        until(lambda: self.now() is None)

    def close(self) -> None:
        self.served.close()
        self.guide.close()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolling]:
    with contextlib.closing(Rolling(tmp_path_factory.mktemp("rolling"))) as rolling:
        yield rolling


@pytest.fixture
def rolling(module: Rolling) -> Iterator[Rolling]:
    yield module
    module.end()


def row(id_: int | str | None = None, x: float = 0.5, kind: str = "a") -> dict[str, Any]:
    made: dict[str, Any] = {"x": x, "y": -1.0, "kind": kind}
    return made if id_ is None else made | {"id": id_}


# Who answers whom -------------------------------------------------------------------------


def test_each_row_is_answered_by_whom_it_falls_to(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.3)
    drawn = Assignment(f"r/{version}", 0.3)
    for id_ in range(700_000, 700_060):
        answer = rolling.ask(row(id_))
        assert answer["version"] == (version if drawn.takes(id_) else "v1")
        assert (answer["probability"] == 0.25) == drawn.takes(id_)
    kept = {
        one.id: one.version
        for one in rolling.served.kept(ANSWER)
        if one.id in range(700_000, 700_060)
    }
    assert kept == {id_: version if drawn.takes(id_) else "v1" for id_ in kept}
    assert len(kept) == 60


def test_rows_of_one_request_may_fall_to_both_and_each_says_to_whom(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5)
    drawn = Assignment(f"r/{version}", 0.5)
    ids = list(range(710_000, 710_040))
    answer = rolling.ask([row(id_) for id_ in ids])
    told = answer["predictions"]
    assert [one["id"] for one in told] == ids
    assert [one["version"] == version for one in told] == drawn.of(ids)
    mine = [id_ for id_ in ids if drawn.takes(id_)]
    answer = rolling.ask([row(id_) for id_ in mine])
    assert answer["version"] == version
    assert "version" not in answer["predictions"][0]


def test_a_unit_is_kept_together(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5, unit="customer")
    drawn = Assignment(f"r/{version}", 0.5)
    for customer in range(12):
        told = {rolling.ask(row() | {"customer": customer})["version"] for _ in range(3)}
        assert told == {version if drawn.takes(customer) else "v1"}


def test_who_is_in_stays_in_at_the_next_stage(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.2)
    ids = range(720_000, 720_040)
    before = {id_ for id_ in ids if rolling.ask(row(id_))["version"] == version}
    rolling.stage(version, 0.6)
    after = {id_ for id_ in ids if rolling.ask(row(id_))["version"] == version}
    assert before < after


INFER = "/v2/models/churn/infer"
PINNED = "/v2/models/churn/versions/{}/infer"


def tensors(ids: Sequence[int], **more: Sequence[int]) -> dict[str, Any]:
    """Return rows as a request of the Open Inference Protocol, with other columns of numbers."""
    count = len(ids)
    columns: list[tuple[str, str, Sequence[Any]]] = [
        ("x", "FP64", [0.5] * count),
        ("y", "FP64", [-1.0] * count),
        ("kind", "BYTES", ["a"] * count),
        ("id", "INT64", ids),
        *((name, "INT64", values) for name, values in more.items()),
    ]
    return {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [count], "data": list(values)}
            for name, datatype, values in columns
        ]
    }


def outputs(answer: Any) -> dict[str, list[Any]]:
    return {one["name"]: one["data"] for one in answer["outputs"]}


def test_rows_of_tensors_are_answered_by_whom_they_fall_to(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5)
    ids = list(range(740_000, 740_040))
    drawn = Assignment(f"r/{version}", 0.5).of(ids)
    answer = rolling.ask(tensors(ids), INFER)
    told = outputs(answer)
    assert answer["model_version"] == "v1"
    assert told["version"] == [version if one else "v1" for one in drawn]
    assert [share == 0.25 for share in told["probability"]] == drawn
    assert told["id"] == list(map(str, ids))
    kept = {one.id: one.version for one in rolling.served.kept(ANSWER)}
    assert [kept[id_] for id_ in ids] == told["version"]
    told = rolling.ask([row(id_) for id_ in ids])["predictions"]
    assert [one["version"] for one in told] == [kept[id_] for id_ in ids]


def test_tensors_that_fall_to_one_version_name_it(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5)
    drawn = Assignment(f"r/{version}", 0.5)
    for takes, name in ((True, version), (False, "v1")):
        ids = [id_ for id_ in range(741_000, 741_040) if drawn.takes(id_) is takes]
        answer = rolling.ask(tensors(ids), INFER)
        assert answer["model_version"] == name
        assert outputs(answer)["version"] == [name] * len(ids)


def test_a_unit_of_tensors_is_kept_together(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5, unit="customer")
    drawn = Assignment(f"r/{version}", 0.5)
    customers = [number // 4 for number in range(40)]
    answer = rolling.ask(tensors(range(742_000, 742_040), customer=customers), INFER)
    expected = [version if one else "v1" for one in drawn.of(customers)]
    assert outputs(answer)["version"] == expected
    assert set(expected) == {version, "v1"}


def test_a_version_that_a_request_names_answers_all_of_it(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.999)
    ids = range(743_000, 743_010)
    answer = rolling.ask(tensors(ids), PINNED.format("v1"))
    assert answer["model_version"] == "v1"
    assert outputs(answer)["version"] == ["v1"] * len(ids)
    status, told = rolling.served.ask("POST", PINNED.format(version), tensors(ids))
    assert status == 404
    assert "expected v1, which serves" in told["error"]


def test_what_has_other_classes_does_not_answer_beside_the_champion(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.5, classes=3)
    drawn = Assignment(f"r/{version}", 0.5)
    ids = list(range(744_000, 744_040))
    answer = rolling.ask(tensors(ids), INFER)
    assert outputs(answer)["version"] == ["v1"] * len(ids)
    mine = [id_ for id_ in ids if drawn.takes(id_)]
    answer = rolling.ask(tensors(mine), INFER)
    assert answer["model_version"] == version
    shapes = {one["name"]: one["shape"] for one in answer["outputs"]}
    assert shapes["probability"] == [len(mine), 3]
    assert outputs(answer)["probability"] == [0.5, 0.25, 0.25] * len(mine)


def test_a_client_of_the_protocol_reads_from_binary_data_who_answered(rolling: Rolling) -> None:
    triton = pytest.importorskip("tritonclient.http")
    version = rolling.roll_out("", 0.5)
    ids = list(range(745_000, 745_020))
    sent = []
    for one in tensors(ids)["inputs"]:
        kind = {"BYTES": np.object_, "INT64": np.int64}.get(one["datatype"], np.float64)
        sent.append(triton.InferInput(one["name"], one["shape"], one["datatype"]))
        sent[-1].set_data_from_numpy(np.array(one["data"], kind), binary_data=True)
    with contextlib.closing(
        triton.InferenceServerClient(f"127.0.0.1:{rolling.served.port}")
    ) as client:
        found = client.infer("churn", sent)
    expected = [version if one else "v1" for one in Assignment(f"r/{version}", 0.5).of(ids)]
    assert [one.decode() for one in found.as_numpy("version")] == expected
    assert all("data" not in one for one in found.get_response()["outputs"])


def test_in_a_shadow_the_champion_answers_all(rolling: Rolling) -> None:
    rolling.roll_out("", 0.0)
    assert {rolling.ask(row())["version"] for _ in range(10)} == {"v1"}
    challenger = rolling.follower.challenger
    assert challenger is not None
    until(lambda: challenger.faults.answers > 0)
    assert challenger.faults.faults == 0


def test_metrics_tell_of_the_share(rolling: Rolling) -> None:
    version = rolling.roll_out("", 0.25)
    rolling.ask([row(id_) for id_ in range(730_000, 730_040)])
    _, text = rolling.served.ask("GET", "/metrics")
    assert f'keepfit_rollout_share{{pipeline="churn",version="{version}"}} 0.25' in text.decode()
    assert f'keepfit_challenger_faults_total{{pipeline="churn",version="{version}"}} 0.0' in (
        text.decode()
    )


# Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.999, 0.0], ids=["canary", "shadow"])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("raises", "ValueError: a table is missing"),
        ("nan", "no number"),
        ("slow", "no answer in"),
        ("hangs", "no answer in"),
    ],
)
def test_faults_are_answered_by_the_champion_and_end_the_rollout(
    rolling: Rolling, fault: str, says: str, share: float
) -> None:
    before = len(rolling.back())
    version = rolling.roll_out(fault, share)
    rolling.ask(row())
    challenger = rolling.follower.challenger
    assert challenger is not None
    asked = 0
    while not challenger.ended:
        answer = rolling.ask(row(x=1e6))
        assert answer["version"] == "v1"
        asked += 1
        assert asked < 200
        time.sleep(0.03)
    until(lambda: rolling.guide.look() or len(rolling.back()) > before)
    back = rolling.back()[-1]
    assert (back.version, back.to, back.share) == (version, "v1", share)
    assert says in back.reason
    rolling.guide.look()
    until(lambda: rolling.follower.challenger is None)
    pointer = pointed(rolling.guide.journal)
    assert pointer is not None
    assert (pointer.version, pointer.challenge) == ("v1", None)
    # A worker may tell of what ended late; that is forgotten too.
    until(lambda: rolling.guide.look() or not rolling.guide.journal.marks(FAULTS))


def test_a_request_fails_no_more_than_the_champion_does(rolling: Rolling) -> None:
    rolling.roll_out("raises", 0.999)
    lacking = {"x": 0.5}
    status, content = rolling.served.ask("POST", "/predict/churn", lacking)
    assert status == 422
    assert "`y`" in content["error"]["message"]
    challenger = rolling.follower.challenger
    assert challenger is not None
    # What the champion would refuse is no fault of the challenger's.
    assert challenger.faults == Faults()


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_what_the_champion_fails_too_is_no_fault_of_the_challenger(
    rolling: Rolling, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    rolling.roll_out("raises", share)
    challenger, champion = rolling.follower.challenger, rolling.follower.current
    assert challenger is not None
    assert champion is not None

    def fails(rows: Any) -> Any:
        raise OverflowError("int too large to convert to float")

    far = row(x=1e6)
    with monkeypatch.context() as broken:
        broken.setattr(champion.answerer, "one", fails)
        broken.setattr(champion.answerer, "many", fails)
        for body in (far, [far, far]):
            for _ in range(5):
                status, told = rolling.served.ask("POST", "/predict/churn", body)
                if share:
                    assert (status, "fail alike" in told["error"]["message"]) == (422, True)
                else:
                    assert status == 500
                time.sleep(0.03)
    assert challenger.faults == Faults()
    # As soon as the champion answers such rows, it is the challenger's fault again.
    for _ in range(3):
        rolling.ask(far)
        time.sleep(0.03)
    until(lambda: challenger.faults.faults > 0)


def test_what_workers_tell_adds_up(rolling: Rolling) -> None:
    journal = rolling.guide.journal
    tell(journal, "r/other", "a", Faults(1, 100, "ValueError: one"))
    tell(journal, "r/other", "b", Faults(2, 50))
    tell(journal, "r/another", "a", Faults(7, 7, "x"))
    assert told(journal, "r/other") == Faults(3, 150, "ValueError: one")
    journal.unmark(FAULTS)


def test_a_challenger_that_does_not_pass_its_trial_answers_nobody(rolling: Rolling) -> None:
    trial = rolling.guide.verdicts.trial
    assert isinstance(trial, Counted)
    trial.problem = "the process that loaded it crashed"
    before = len(rolling.back())
    try:
        rolling.roll_out("other", 0.5, waits=False)
    finally:
        trial.problem = None
    back = rolling.back()
    assert len(back) == before + 1
    assert back[-1].reason == "it does not serve: the process that loaded it crashed"
    assert rolling.world.loop.refold().rollout is None
    assert rolling.follower.challenger is None


def test_a_pointer_of_before_reads_as_one_without_a_challenger(rolling: Rolling) -> None:
    rolling.guide.journal.set_mark("serving", '{"version":"v1","digest":"d","ids":"number"}')
    pointer = pointed(rolling.guide.journal)
    assert pointer is not None
    assert pointer.challenge is None
    assert Challenge("v2", "d", "r", 0.5).unit is None
    rolling.guide.look()
