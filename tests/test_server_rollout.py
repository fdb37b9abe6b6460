"""A challenger at work beside the champion: who answers whom, and what its faults lead to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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


class Odd(ClassifierMixin, BaseEstimator):
    """Says 0.25 of everything, and fails in one way of rows that are far out."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: np.ndarray, y: np.ndarray) -> Odd:
        self.classes_ = np.unique(y)
        self.far_ = float(X[:, 0].max()) * 5
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        found = np.tile([0.75, 0.25], (len(X), 1))
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
        self, fault: str, share: float, unit: str | None = None, *, waits: bool = True
    ) -> str:
        """Begin a rollout of a version that fails so, and return the version's name."""
        loop, first = self.world.loop, self.world.loop.refold().version("v1")
        rows = self.world.frame.head(200).rename({"label": LABEL}).drop("id", "time")
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
        self.stage(version, share, unit, waits=waits)
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
        self.until(lambda: not waits or self.now() == (version, share))

    def now(self) -> tuple[str, float] | None:
        challenger = self.follower.challenger
        if challenger is None:
            return None
        return challenger.challenge.version, challenger.challenge.share

    def until(self, true: Any, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

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
        self.until(lambda: self.now() is None)

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


def test_the_protocol_of_inference_names_the_version_and_takes_a_pinned_one(
    rolling: Rolling,
) -> None:
    version = rolling.roll_out("", 0.999)
    inputs = [
        {"name": "x", "datatype": "FP64", "shape": [1], "data": [0.5]},
        {"name": "y", "datatype": "FP64", "shape": [1], "data": [-1.0]},
        {"name": "kind", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]
    answer = rolling.ask({"inputs": inputs}, "/v2/models/churn/infer")
    assert answer["model_version"] == version
    pinned = rolling.ask({"inputs": inputs}, "/v2/models/churn/versions/v1/infer")
    assert pinned["model_version"] == "v1"


def test_in_a_shadow_the_champion_answers_all(rolling: Rolling) -> None:
    rolling.roll_out("", 0.0)
    assert {rolling.ask(row())["version"] for _ in range(10)} == {"v1"}
    challenger = rolling.follower.challenger
    assert challenger is not None
    rolling.until(lambda: challenger.faults.answers > 0)
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
    end = time.monotonic() + 1.0 + 0.3
    while len(rolling.back()) == before:
        rolling.guide.look()
        assert time.monotonic() < end
        time.sleep(0.05)
    back = rolling.back()[-1]
    assert (back.version, back.to, back.share) == (version, "v1", share)
    assert says in back.reason
    rolling.guide.look()
    rolling.until(lambda: rolling.follower.challenger is None)
    pointer = pointed(rolling.guide.journal)
    assert pointer is not None
    assert (pointer.version, pointer.challenge) == ("v1", None)
    # A worker may tell of what ended late; that is forgotten too.
    rolling.until(lambda: rolling.guide.look() or not rolling.guide.journal.marks(FAULTS))


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


def test_what_workers_tell_adds_up(rolling: Rolling) -> None:
    journal = rolling.guide.journal
    tell(journal, "r/other", "a", Faults(1, 100, "ValueError: one"))
    tell(journal, "r/other", "b", Faults(2, 50))
    tell(journal, "r/another", "a", Faults(7, 7, "x"))
    assert told(journal, "r/other") == Faults(3, 150, "ValueError: one")
    journal.unmark(FAULTS)


def test_a_challenger_that_does_not_pass_its_trial_answers_nobody(rolling: Rolling) -> None:
    trial = rolling.guide._trial
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
