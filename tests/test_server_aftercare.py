"""A champion that fails after its promotion: who answers instead, and what its faults lead to."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from keepfit import facts
from keepfit.facts import Paused, Promoted, RolledBack
from keepfit.journal import ANSWER
from keepfit.rollouts import Faults
from keepfit.server import aftercare
from keepfit.server.aftercare import Aftercare
from keepfit.server.counters import Counters
from keepfit.server.follower import FAULTS, tell, told
from keepfit.server.models import Pointer, Previous, Serving, pointed
from tests.test_server_models import Counted
from tests.test_server_rollout import INFER, Rolling, outputs, row, tensors
from tests.waits import until

FAR = row(x=1e6)


class Promoting(Rolling):
    """A home in which a version that fails in some way becomes champion after v1."""

    def promote(self, fault: str, by: str = "keepfit", *, waits: bool = True) -> str:
        version = self.trained(fault)
        promoted = Promoted(version=version, previous="v1", reason="it passed", by=by)
        self.append(promoted)
        self.guide.look()
        if waits:
            self.served.waits_for(version)
            self.guide.look()
            until(lambda: self.care is not None)
        return version

    def append(self, fact: facts.Fact) -> None:
        loop = self.world.loop
        loop.refold()
        loop.append([fact], loop.clock.now())

    def metric(self, what: str, version: str) -> float | None:
        """Return how many requests of a version were so, as the metrics tell it."""
        _, text = self.served.ask("GET", "/metrics")
        name = f'keepfit_requests_{what}_total{{pipeline="churn",version="{version}"}}'
        found = [line for line in text.decode().splitlines() if line.startswith(name)]
        return float(found[0].rpartition(" ")[2]) if found else None

    @property
    def care(self) -> Aftercare | None:
        serving = self.follower.current
        return None if serving is None else serving.aftercare

    def taken_back(self) -> RolledBack:
        """Look until the guide has taken the champion back, and what was before serves again."""
        before = len(self.back())
        until(lambda: self.guide.look() or len(self.back()) > before)
        self.guide.look()
        self.served.waits_for("v1")
        return self.back()[-1]

    def end(self) -> None:
        self.guide._barred = ""
        if self.world.loop.refold().paused:
            self.append(facts.Resumed(reason="the end"))
        champion = self.world.loop.state.champion
        if champion != "v1":
            assert champion is not None
            self.append(RolledBack(version=champion, to="v1", reason="the end"))
        self.guide.look()
        self.served.waits_for("v1")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promoting]:
    with contextlib.closing(Promoting(tmp_path_factory.mktemp("promoting"))) as promoting:
        yield promoting


@pytest.fixture
def home(module: Promoting) -> Iterator[Promoting]:
    yield module
    module.end()


# Who answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["raises", "nan", "slow", "hangs"])
def test_what_the_champion_fails_the_version_before_answers_and_it_is_taken_back(
    home: Promoting, fault: str
) -> None:
    says = {"raises": "ValueError: a table is missing", "nan": "no number"}
    version = home.promote(fault)
    assert home.ask(row())["version"] == version
    answer = home.ask(FAR | {"id": 810_000})
    assert answer["version"] == "v1"
    kept = {one.id: one.version for one in home.served.kept(ANSWER)}
    assert kept[810_000] == "v1"
    care = home.care
    assert care is not None
    while not care.ended:
        assert home.ask(FAR)["version"] == "v1"
    # It is asked no more where nobody has to wait for its answer to know that it fails.
    back = home.taken_back()
    assert (back.version, back.to, back.by, back.share) == (version, "v1", "keepfit", None)
    assert says.get(fault, "no answer in 0.2") in back.reason
    assert back.rows > 0
    state = home.world.loop.refold()
    assert (state.champion, state.previous, state.service) == ("v1", None, None)
    assert state.versions[version].state == "rolled back"
    assert state.undone[-1][1] == version
    assert home.ask(FAR)["version"] == "v1"


def test_a_champion_that_hangs_holds_nobody_up_once_it_is_found_out(home: Promoting) -> None:
    version = home.promote("hangs")
    care = home.care
    assert care is not None
    while not care.ended:
        home.ask(FAR)
    start = time.monotonic()
    for _ in range(5):
        assert home.ask(row())["version"] == "v1"
    assert time.monotonic() - start < 5 * aftercare.limit(care.previous.seconds, 1)
    home.taken_back()
    # The thread that hangs is that version's alone.
    assert home.ask([row(), row()])["version"] == "v1"
    assert home.world.loop.refold().versions[version].state == "rolled back"


@pytest.mark.parametrize("rows", [1, 3], ids=["one", "several"])
def test_requests_of_any_form_are_answered_by_the_version_before(
    home: Promoting, rows: int
) -> None:
    home.promote("nan")
    answer = home.ask([FAR] * rows)
    assert answer["version"] == "v1"
    assert len(answer["predictions"]) == rows
    answer = home.ask(tensors(range(820_000, 820_000 + rows)), INFER)
    assert answer["model_version"] != "v1"
    sent = tensors(range(820_010, 820_010 + rows))
    sent["inputs"][0]["data"] = [1e6] * rows
    answer = home.ask(sent, INFER)
    assert answer["model_version"] == "v1"
    assert outputs(answer)["version"] == ["v1"] * rows


def test_a_champion_promoted_by_a_person_is_taken_back_too(home: Promoting) -> None:
    version = home.promote("raises", by="anna")
    for _ in range(3):
        home.ask(FAR)
    back = home.taken_back()
    assert (back.version, back.by) == (version, "keepfit")


def test_one_that_fails_no_request_serves_on(home: Promoting) -> None:
    version = home.promote("")
    before = len(home.back())
    for _ in range(20):
        assert home.ask(FAR)["version"] == version
    home.guide.look()
    assert len(home.back()) == before
    care = home.care
    assert care is not None
    assert care.faults.faults == 0
    assert care.faults.answers >= 20


# What is no fault -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [({"x": 1e6}, "`y`"), (FAR | {"id": [1]}, "as id, got")],
    ids=["lacks a column", "wrong type"],
)
def test_a_request_that_is_wrong_is_refused_and_is_no_fault(
    home: Promoting, body: dict[str, Any], says: str
) -> None:
    home.promote("raises")
    for _ in range(5):
        status, told = home.served.ask("POST", "/predict/churn", body)
        assert status == 422
        assert says in told["error"]["message"]
    care = home.care
    assert care is not None
    assert care.faults == Faults()


def test_what_neither_version_can_answer_is_no_fault(
    home: Promoting, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = home.promote("raises")
    care = home.care
    assert care is not None

    def broken(rows: Any) -> Any:
        raise OSError("the disk is away")

    monkeypatch.setattr(care.previous.answerer, "many", broken)
    status, answer = home.served.ask("POST", "/predict/churn", FAR)
    assert (status, "a table is missing" in answer["error"]["message"]) == (500, True)
    assert care.faults.faults == 0
    assert home.metric("failed", version) > 0


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_what_two_versions_fail_alike_is_wrong_itself_and_counts_against_nobody(
    home: Promoting, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    version = home.promote(fault)
    care = home.care
    assert care is not None

    def fails(rows: Any) -> Any:
        if fault == "nan":
            return [float("nan")] * len(rows)
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(care.previous.answerer, "many", fails)
    before = home.metric("failed", version)
    for _ in range(5):
        status, answer = home.served.ask("POST", "/predict/churn", FAR)
        assert (status, f"{version} and v1 fail alike" in answer["error"]["message"]) == (422, True)
    assert care.faults.faults == 0
    assert home.metric("failed", version) == before


def test_without_a_version_before_the_error_is_told_and_counted(home: Promoting) -> None:
    version = home.trained("nan")
    home.append(RolledBack(version="v1", to=version, reason="only this one is left"))
    home.guide.look()
    home.served.waits_for(version)
    assert home.world.loop.refold().service is None
    status, answer = home.served.ask("POST", "/predict/churn", FAR)
    assert status == 500
    assert answer["error"]["message"] == "the model answers with no number"
    assert home.metric("failed", version) == 1
    assert home.metric("rescued", version) is None
    before = len(home.back())
    home.guide.look()
    assert len(home.back()) == before


# What the guide does ----------------------------------------------------------------------


def test_the_pointer_names_the_version_before_as_long_as_it_is_the_one_before(
    home: Promoting,
) -> None:
    version = home.promote("")
    pointer = pointed(home.guide.journal)
    assert pointer is not None
    assert pointer.version == version
    assert pointer.previous is not None
    assert pointer.previous.version == "v1"
    home.end()
    pointer = pointed(home.guide.journal)
    assert pointer is not None
    assert (pointer.version, pointer.previous) == ("v1", None)


def test_faults_of_several_workers_add_up_until_they_are_too_many(home: Promoting) -> None:
    version = home.promote("")
    care = home.care
    assert care is not None
    promotion = care.named.promotion
    tell(home.guide.journal, promotion, "a", Faults(1, 1, "ValueError: one"))
    home.guide.look()
    assert home.world.loop.refold().champion == version
    assert told(home.guide.journal, promotion).faults == 1
    tell(home.guide.journal, promotion, "b", Faults(9, 9, "ValueError: another"))
    back = home.taken_back()
    assert back.reason.startswith("10 of ")
    until(lambda: home.guide.look() or not home.guide.journal.marks(FAULTS))


def test_there_is_no_way_back_to_what_does_not_pass_its_trial(home: Promoting) -> None:
    version = home.promote("raises")
    trial = home.guide.verdicts.trial
    assert isinstance(trial, Counted)
    before = len(home.back())
    trial.problem = "it crashed"
    try:
        for _ in range(3):
            home.ask(FAR)
        until(lambda: home.guide.look() or home.world.loop.refold().paused)
        asked = len(trial.asked)
        home.guide.look()
        assert len(trial.asked) == asked
    finally:
        trial.problem = None
        home.guide.verdicts.forget(home.world.loop.state.versions["v1"].artifact)
    state = home.world.loop.refold()
    assert state.champion == version
    assert state.paused is not None
    assert "a table is missing; but it crashed" in state.paused
    assert len(home.back()) == before
    paused = [one.fact for one in home.world.loop.memory.ledger.facts("churn", kind="Paused")]
    assert isinstance(paused[-1], Paused)


# What is counted --------------------------------------------------------------------------


class Still:
    """An answerer that is quick, and says the same of all rows."""

    alone = True

    def __init__(self) -> None:
        self.model = type("Model", (), {"features": (), "task": "binary", "classes": (0, 1)})()

    def many(self, rows: Any) -> list[float]:
        return [0.5] * len(rows)

    def one(self, row: Any) -> float:
        return 0.5


def cared() -> tuple[Aftercare, Serving, Counters]:
    counters = Counters()
    champion, previous = (Serving(Pointer(name, name), Still()) for name in ("v2", "v1"))
    named = Previous("v1", "v1", "service/v2/1")
    return Aftercare(champion, previous, named, lambda told: None, counters), champion, counters


def answered(counters: Counters, count: int) -> None:
    counters.answered += count


def rescued(care: Aftercare, champion: Serving, counters: Counters) -> None:
    heard: list[Serving] = []
    care.rescue([{}], ValueError("no"), champion, lambda answers, by: heard.append(by))
    assert heard == [care.previous]
    answered(counters, 1)


def test_requests_are_counted_that_the_champion_has_had() -> None:
    care, champion, counters = cared()
    answered(counters, 30)
    care.pass_by()  # one of them a challenger has answered
    rescued(care, champion, counters)
    assert care.faults == Faults(1, 30, "ValueError: no")
    assert (counters.failed, counters.rescued) == ({"v2": 1}, {"v2": 1})


def test_one_that_turns_bad_after_long_is_found_as_soon() -> None:
    care, champion, counters = cared()
    answered(counters, 1_000_000 + 500)
    count = 0
    while not care.ended and count < 30:
        rescued(care, champion, counters)
        count += 1
    assert care.ended
    assert care.faults.answers < aftercare.COUNTED


def test_of_all_that_wait_for_one_late_call_one_is_counted() -> None:
    care, champion, counters = cared()
    for _ in range(64):
        care.count_late(champion, 30.0)
    assert care.faults.faults == 1
    assert counters.rescued == {"v2": 64}


def test_what_was_promoted_twice_is_counted_apart(home: Promoting) -> None:
    version = home.promote("")
    first = home.care
    home.end()
    home.world.clock.sleep(home.world.loop.pipeline.breaker[1])
    home.append(Promoted(version=version, previous="v1", reason="again"))
    home.guide.look()
    home.served.waits_for(version)
    home.guide.look()
    until(lambda: home.care is not None)
    second = home.care
    assert first is not None
    assert second is not None
    assert first.named.promotion != second.named.promotion
    assert json.loads(json.dumps(second.named.promotion)) == second.named.promotion
