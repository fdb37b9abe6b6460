"""What goes on while a model is tried: events, faults and people's hands wait for no trial."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from keepfit.hand import Hand
from keepfit.journal import Writer
from keepfit.rollouts import Faults
from keepfit.server.follower import tell
from keepfit.server.guide import Guide
from keepfit.server.models import point, pointed
from keepfit.server.trial import Request, Trial, Verdict
from keepfit.server.verdicts import Verdicts
from tests.servers import World
from tests.test_server_aftercare import Promoting
from tests.test_server_models import FOREST, Counted, champion, event, signalled
from tests.waits import until

WAITING = """
import pathlib, sys, time
sys.stdin.read()
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("{}")
"""


class Waiting(Trial):
    """Trials in a process that says nothing until there is a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.children = list[subprocess.Popen[bytes]]()

    def prepare(self) -> None:
        self._ready = subprocess.Popen(
            [sys.executable, "-c", WAITING, str(self.file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.children.append(self._ready)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, learner=FOREST)
    world.steps()
    return world


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Promoting]:
    with contextlib.closing(Promoting(tmp_path)) as home:
        yield home


def trials(home: Promoting) -> Counted:
    assert isinstance(home.guide.verdicts.trial, Counted)
    return home.guide.verdicts.trial


def serving(guide: Guide) -> str | None:
    found = pointed(guide.journal)
    return None if found is None else found.version


# Events -----------------------------------------------------------------------------------


def test_an_event_reaches_the_ledger_while_a_model_is_tried(world: World, tmp_path: Path) -> None:
    done, trial = tmp_path / "done", Waiting(tmp_path / "done")
    guide = Guide(world.made.home, "churn", trial)
    guide.start()
    writer = Writer(guide.journal.path)
    try:
        until(lambda: trial.children)
        writer.write([event("1")])
        until(lambda: signalled(world))
        # Its trial is on, so nothing serves yet.
        assert trial.children[0].poll() is None
        assert serving(guide) is None
        done.touch()
        until(lambda: serving(guide) == "v1")
    finally:
        writer.close()
        guide.close()
    assert len(trial.children) == 1


def test_a_guide_that_is_closed_ends_the_trial_that_is_on(world: World, tmp_path: Path) -> None:
    trial = Waiting(tmp_path / "never")
    guide = Guide(world.made.home, "churn", trial)
    guide.look()
    guide.close()
    assert [child.poll() is None for child in trial.children] == [False]


# Faults -----------------------------------------------------------------------------------


def test_a_challenger_that_fails_is_taken_back_while_another_model_is_tried(
    home: Promoting,
) -> None:
    version = home.roll_out("", 0.5)
    other = home.trained("other")
    trials(home).held = {other}
    home.guide.look()
    assert home.guide.verdicts.busy
    tell(home.guide.journal, f"r/{version}", "a", Faults(9, 9, "ValueError: one"))
    home.guide.look()
    assert [one.version for one in home.back()] == [version]
    assert home.guide.verdicts.busy
    home.guide.look()
    until(lambda: home.now() is None)
    assert trials(home).asked.count(other) == 1


def test_a_champion_that_fails_is_taken_back_while_another_model_is_tried(
    home: Promoting,
) -> None:
    home.promote("")
    care = home.care
    assert care is not None
    other = home.trained("other")
    trials(home).held = {other}
    home.guide.look()
    assert home.guide.verdicts.busy
    tell(home.guide.journal, care.named.promotion, "a", Faults(9, 9, "ValueError: one"))
    back = home.taken_back()
    # What serves again has answered stored rows before; whose trial it ended begins anew.
    assert (back.to, back.rows > 0) == ("v1", True)
    assert trials(home).asked[-3:] == [other, "v1", other]


def test_a_champion_that_is_tried_holds_up_no_fault_of_the_challenger(home: Promoting) -> None:
    version = home.roll_out("", 0.5)
    found = pointed(home.guide.journal)
    assert found is not None
    assert found.challenge is not None
    # A champion by a person's hand, of which nothing is known yet.
    home.guide.verdicts.forget(champion(home.world).artifact)
    point(home.guide.journal, replace(found, version="v0", digest="0" * 64))
    trials(home).held = {"v1"}
    home.guide.look()
    assert pointed(home.guide.journal) == replace(found, version="v0", digest="0" * 64)
    tell(home.guide.journal, f"r/{version}", "a", Faults(9, 9, "ValueError: one"))
    home.guide.look()
    found = pointed(home.guide.journal)
    assert found is not None
    assert (found.version, found.challenge) == ("v0", None)
    assert [one.version for one in home.back()] == [version]
    trials(home).held = set()
    home.guide.look()
    assert serving(home.guide) == "v1"


# Hands ------------------------------------------------------------------------------------


def test_who_is_taken_back_while_tried_never_serves(home: Promoting) -> None:
    version = home.trained("")
    trials(home).held = {version}
    home.guide.look()
    Hand(home.world.loop, "better").promote(version, force=True)
    home.guide.look()
    assert serving(home.guide) == "v1"
    Hand(home.world.loop, "worse after all").promote("v1", force=True)
    home.guide.look()
    trials(home).held = set()
    home.guide.look()
    home.guide.look()
    assert serving(home.guide) == "v1"
    assert trials(home).asked.count(version) == 1


# One at a time ----------------------------------------------------------------------------


class Held(Trial):
    """Trials that end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.on = list[str](), ""
        self.done = set[str]()

    def begin(self, request: Request) -> None:
        self.begun.append(request.digest)
        self.on = request.digest

    def verdict(self) -> Verdict | None:
        return Verdict(rows=1) if self.on in self.done else None


def asked(digest: str) -> Request:
    return Request("home", "churn", digest, digest, [])


def test_one_waits_for_another_unless_it_has_to_be_known_first() -> None:
    trial = Held()
    verdicts = Verdicts(trial)
    assert verdicts.ask(asked("a")) is None
    assert verdicts.ask(asked("b")) is None
    assert trial.begun == ["a"]
    assert verdicts.ask(asked("c"), first=True) is None
    assert verdicts.ask(asked("d"), first=True) is None
    assert verdicts.ask(asked("a")) is None
    assert trial.begun == ["a", "c"]
    trial.done = {"a", "c", "d"}
    verdicts.look()
    assert [verdicts.ask(asked(one)) for one in "cad"] == [Verdict(rows=1)] * 3
    assert trial.begun == ["a", "c", "a", "d"]


@pytest.mark.parametrize("first", [False, True], ids=["any", "first"])
def test_a_trial_for_which_nobody_asks_any_more_holds_up_no_other(first: bool) -> None:
    trial = Held()
    verdicts = Verdicts(trial)
    verdicts.ask(asked("a"), first=first)
    for _ in range(3):
        verdicts.look()
        verdicts.ask(asked("a"), first=first)
        verdicts.ask(asked("b"), first=first)
    assert trial.begun == ["a"]
    for _ in range(3):
        verdicts.look()
        verdicts.ask(asked("b"), first=first)
    assert trial.begun == ["a", "b"]


def test_what_a_trial_has_shown_is_kept_when_nobody_asks_at_its_end() -> None:
    trial = Held()
    verdicts = Verdicts(trial)
    verdicts.ask(asked("a"))
    trial.done = {"a"}
    verdicts.look()
    assert not verdicts.busy
    assert verdicts.ask(asked("a")) == Verdict(rows=1)
    assert trial.begun == ["a"]


def test_a_person_who_promotes_another_does_not_wait_for_the_one_before(home: Promoting) -> None:
    hanging, other = home.trained("hangs"), home.trained("other")
    trials(home).held = {hanging}
    for version in (hanging, other):
        Hand(home.world.loop, "a person").promote(version, force=True)
        home.guide.look()
    home.guide.look()
    assert serving(home.guide) == other


def test_what_failed_as_it_was_looked_at_ahead_is_tried_anew_once_promoted(home: Promoting) -> None:
    other = home.trained("other")
    trials(home).problem = "it took longer than 60 s to load and answer"
    home.guide.look()
    assert trials(home).asked.count(other) == 1
    trials(home).problem = None
    Hand(home.world.loop, "a person").promote(other, force=True)
    home.guide.look()
    assert serving(home.guide) == other
    assert trials(home).asked.count(other) == 2
