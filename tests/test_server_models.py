"""What serves: the champion once it was tried, swapped beside the old one; faults stay outside."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from lightgbm import LGBMClassifier

from keepfit.facts import Entry, Signalled
from keepfit.hand import Hand
from keepfit.journal import EVENT, Journal, New, Writer
from keepfit.learners.models import MAGIC
from keepfit.loop import SAVED_EVERY
from keepfit.registry import Version
from keepfit.server.follower import Follower
from keepfit.server.guide import UNREAD, Guide
from keepfit.server.models import Models, Pointer, point, pointed
from keepfit.server.trial import NICER, Request, Trial, Verdict, tried
from tests.servers import World, sent
from tests.waits import until

FOREST = LGBMClassifier(n_estimators=5, verbosity=-1)


class Counted(Trial):
    """Trials in this process, counted, with an answer that a test may set.

    Those of the versions ``held`` do not end.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.asked, self.held = world, list[str](), set[str]()
        self.problem: str | None = None
        self._found = Verdict()

    def prepare(self) -> None:
        pass

    def begin(self, request: Request) -> None:
        self.asked.append(request.version)
        if self.problem is not None:
            self._found = Verdict(problem=self.problem)
        else:
            self._found = tried(request, self.world.loop.memory)

    def verdict(self) -> Verdict | None:
        return None if self.asked[-1] in self.held else self._found


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, learner=FOREST)
    world.steps()
    return world


@pytest.fixture
def guide(world: World) -> Iterator[Guide]:
    with contextlib.closing(Guide(world.made.home, "churn", Counted(world))) as guide:
        yield guide


def trials(guide: Guide) -> Counted:
    assert isinstance(guide.verdicts.trial, Counted)
    return guide.verdicts.trial


def followed(guide: Guide) -> Follower:
    follower = Follower(guide.journal.path, guide.artifacts)
    follower.look(guide.journal)
    return follower


def champion(world: World) -> Version:
    return world.loop.refold().version("champion")


def request(world: World, digest: str) -> Request:
    return Request(str(world.made.home), "churn", "v9", digest, [3, 2, 1])


def ended(trial: Trial, asked: Request) -> Verdict:
    """Return how a trial ended, once it has."""
    trial.begin(asked)
    found: list[Verdict | None] = []
    until(lambda: found.append(trial.verdict()) or found[-1])
    verdict = found[-1]
    assert verdict is not None
    return verdict


def stored(world: World) -> bytes:
    return world.loop.memory.artifacts.get(champion(world).artifact)


def truncated(content: bytes) -> bytes:
    """Return a model whose trees end in the middle, as bytes that decode."""
    parts = msgspec.msgpack.decode(content[len(MAGIC) :])
    inner = parts["content"]
    parts["content"] = inner[: inner.index(b"leaf_value") + 30]
    return MAGIC + msgspec.msgpack.encode(parts)


def test_the_champion_serves_once_it_was_tried(world: World, guide: Guide) -> None:
    guide.look()
    serving = followed(guide).current
    assert serving is not None
    assert (serving.version, serving.ids, serving.classes) == ("v1", "number", (0, 1))
    row = world.frame.row(0, named=True)
    model = world.loop.scorer.model(champion(world))
    assert serving.answerer.one(row) == model.predict(world.frame.head(1))[0]
    guide.look()
    assert trials(guide).asked == ["v1"]


def test_before_there_is_a_champion_nothing_serves(tmp_path: Path) -> None:
    world = World(tmp_path)
    with contextlib.closing(Guide(world.made.home, "churn", Counted(world))) as guide:
        guide.look()
        assert followed(guide).current is None


def test_a_pointer_that_stands_is_followed_without_another_trial(
    world: World, guide: Guide
) -> None:
    guide.look()
    with contextlib.closing(Guide(world.made.home, "churn", Counted(world))) as again:
        again.look()
        assert trials(again).asked == []
        assert followed(again).current is not None


def test_promotion_and_rollback_swap_by_pointer_and_load_each_model_once(
    world: World, guide: Guide
) -> None:
    guide.look()
    follower = followed(guide)
    world.loop.train("another")
    other = [name for name in world.loop.refold().versions if name != "v1"][-1]
    served = []
    for _ in range(3):
        if world.loop.refold().champion == "v1":
            Hand(world.loop, "better").promote(other, force=True)
        else:
            Hand(world.loop, "worse").promote("v1", force=True)
        guide.look()
        follower.look(guide.journal)
        assert follower.current is not None
        served.append(follower.current.version)
    assert set(served) <= {"v1", other}
    assert served[0] != served[1]
    assert trials(guide).asked.count("v1") == 1
    assert trials(guide).asked.count(other) <= 1


def test_what_fails_its_trial_does_not_serve_and_a_fact_says_why(
    world: World, guide: Guide
) -> None:
    guide.look()
    point(guide.journal, Pointer("v0", "0" * 64))
    trials(guide).problem = "it crashed"
    guide.verdicts.forget(champion(world).artifact)
    guide.look()
    guide.look()
    assert pointed(guide.journal) == Pointer("v0", "0" * 64)
    told = [
        entry.fact
        for entry in world.loop.memory.ledger.facts("churn", kind="Signalled")
        if isinstance(entry.fact, Signalled)
    ]
    assert [(fact.event, fact.data) for fact in told] == [
        ("not served", {"version": "v1", "serving": "v0", "reason": "it crashed"})
    ]
    assert guide.refused == {champion(world).artifact: "it crashed"}


def test_a_file_that_kills_the_process_that_loads_it_kills_only_a_child(world: World) -> None:
    trial = Trial()
    digest = world.loop.memory.artifacts.put(truncated(stored(world)))
    verdict = ended(trial, request(world, digest))
    trial.close()
    assert verdict.problem.startswith(("the process that loaded it", "LightGBMError"))


def test_a_trial_in_a_child_passes_a_model_that_answers(world: World) -> None:
    trial = Trial()
    trial.prepare()
    verdict = ended(trial, request(world, champion(world).artifact))
    trial.close()
    assert verdict == Verdict(rows=100, ids="number")


def test_the_next_trial_has_imported_what_the_model_before_needed(tmp_path: Path) -> None:
    with contextlib.closing(Trial()) as trial:
        # The library behind LightGBM answers its trees, without the package.
        for name, learner, needed in (("trees", FOREST, []), ("linear", None, ["sklearn"])):
            (tmp_path / name).mkdir()
            world = World(tmp_path / name, learner=learner)
            world.steps()
            ended(trial, request(world, champion(world).artifact))
            trial.prepare()
            assert trial._ready is not None
            assert trial._ready.args[3:] == needed


def test_a_trial_that_does_not_end_is_ended(world: World) -> None:
    trial = Trial(seconds=0.01)
    verdict = ended(trial, request(world, champion(world).artifact))
    assert verdict.problem == "it took longer than 0.01 s to load and answer"


def test_a_model_that_answers_otherwise_than_it_did_fails_its_trial(world: World) -> None:
    world.write(sent(world.frame.slice(1_000, 20), "v1", [0.123] * 20, world.clock.now()))
    world.steps()
    number = world.loop.state.batch
    asked = Request(str(world.made.home), "churn", "v1", champion(world).artifact, [number])
    verdict = tried(asked, world.loop.memory)
    assert "does not answer 20 stored rows as it did" in verdict.problem


def test_a_damaged_artifact_stays_outside_and_the_old_one_serves_on(
    world: World, guide: Guide
) -> None:
    guide.look()
    follower = followed(guide)
    point(guide.journal, Pointer("v2", "f" * 64))
    follower.look(guide.journal)
    follower.look(guide.journal)
    assert follower.current is not None
    assert follower.current.version == "v1"
    assert follower.problem.startswith("v2 does not load")


@pytest.mark.skipif(not hasattr(os, "nice"), reason="priorities of POSIX")
def test_a_trial_gives_way_to_those_that_answer() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    trial = Trial()
    trial.prepare()
    assert trial._ready is not None
    pid = trial._ready.pid
    until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == min(mine + NICER, 19))
    trial.close()


def test_a_model_is_loaded_once_while_it_is_of_use(world: World, guide: Guide) -> None:
    models = Models(guide.artifacts)
    pointer = Pointer("v1", champion(world).artifact)
    assert models.load(pointer).answerer is models.load(pointer).answerer


def event(id_: str, position: int = 0) -> New:
    body = msgspec.json.encode({"type": "prices", "source": "shop", "id": id_})
    return New(EVENT, f"shop {id_}", position, None, None, body)


def signalled(world: World) -> list[Entry]:
    return list(world.loop.memory.ledger.facts("churn", kind="Signalled"))


def test_events_reach_the_ledger_once_each_also_when_a_guide_dies(
    world: World, guide: Guide
) -> None:
    writer = Writer(guide.journal.path)
    writer.write([event("1"), event("2"), event("1")])
    guide.look()
    guide.look()
    # A guide that died between the fact and its mark begins again one event back.
    guide.journal.set_mark("events", 0)
    writer.write([event("3")])
    writer.close()
    with contextlib.closing(Guide(world.made.home, "churn", Counted(world))) as again:
        again.look()
    told = [entry.fact for entry in signalled(world)]
    assert [(fact.event, fact.data["id"]) for fact in told if isinstance(fact, Signalled)] == [
        ("prices", "1"),
        ("prices", "2"),
        ("prices", "3"),
    ]


def test_a_storm_of_events_is_handed_on_in_order_and_at_once(world: World, guide: Guide) -> None:
    guide.look()
    writer = Writer(guide.journal.path)
    writer.write([event(str(number)) for number in range(300)])
    writer.close()
    guide.look()
    entries = signalled(world)
    told = [entry.fact.data["id"] for entry in entries if isinstance(entry.fact, Signalled)]
    assert told == [str(number) for number in range(300)]
    assert len({entry.at for entry in entries}) == 1


def test_a_deep_event_that_an_older_version_took_holds_up_nothing(
    world: World, guide: Guide
) -> None:
    deep = b"[" * 5_000 + b"]" * 5_000
    body = b'{"type":"prices","source":"shop","id":"deep","data":%s}' % deep
    writer = Writer(guide.journal.path)
    # Before it was looked at what an event is, it was taken as it came.
    writer.write([New(EVENT, "shop deep", 0, None, None, body), event("after")])
    writer.close()
    guide.look()
    told = [
        entry.fact.data["id"] for entry in signalled(world) if isinstance(entry.fact, Signalled)
    ]
    assert told == ["deep", "after"]
    world.steps()


def test_an_event_that_is_none_holds_up_nothing(world: World, guide: Guide) -> None:
    writer = Writer(guide.journal.path)
    writer.write([New(EVENT, "shop 1", 0, None, None, b'{"source":"shop","id":"1"}')])
    writer.write([event("after")])
    writer.close()
    guide.look()
    told = [entry.fact.event for entry in signalled(world) if isinstance(entry.fact, Signalled)]
    assert told == [UNREAD, "prices"]


def test_an_event_with_a_number_that_no_cache_holds_does_not_stop_the_loop(world: World) -> None:
    many = [{"number": 10**30, "n": n} for n in range(SAVED_EVERY + 1)]
    for data in many:
        world.loop.append([Signalled(event="prices", data=data)], world.clock.now())
    world.loop = world.opened()
    world.steps()


def test_events_are_handed_on_once_when_a_guide_dies_before_it_marks_them(
    world: World, guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(guide.journal.path)
    writer.write([event(str(number)) for number in range(30)])
    writer.close()

    def died(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(guide.journal, "set_mark", died)
        with pytest.raises(OSError, match="killed"):
            guide.look()
    assert len(signalled(world)) == 30
    guide.look()
    assert len(signalled(world)) == 30


def test_what_has_landed_and_is_old_is_forgotten(world: World, guide: Guide) -> None:
    rows = world.frame.slice(1_000, 30)
    world.write(sent(rows, "v1", [0.5] * 30, world.clock.now()))
    guide.look()
    later = world.clock.now().timestamp() + 60
    assert guide.tidy(before=later) == 0
    world.steps()
    guide.look()
    assert guide.tidy(before=0) == 0
    assert guide.tidy(before=later) == 29  # and the newest


def test_a_follower_and_a_guide_run_on_their_own(world: World) -> None:
    swapped = threading.Event()
    guide = Guide(world.made.home, "churn")
    follower = Follower(guide.journal.path, guide.artifacts, lambda serving: swapped.set())
    guide.start()
    follower.start()
    assert swapped.wait(60)
    follower.close()
    guide.close()
    journal = Journal(guide.journal.path)
    assert pointed(journal) is not None
    journal.close()
