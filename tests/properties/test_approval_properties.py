"""Whatever a loop and people write, one version at most waits for a person, and it is findable."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.lives import DAY, START, Life, yes

from keepfit import facts
from keepfit.errors import KeepfitError
from keepfit.facts import Answer
from keepfit.registry import State, answerable

ACTS = ("train", "ask", "approve", "decline", "harm", "last", "hand", "back")
acts = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 5)), max_size=25)


class Played:
    """Facts as a loop and people may write them, folded one by one."""

    def __init__(self) -> None:
        self.life = Life()
        self.state = State()
        self.at = START
        self.life.arrived(self.at)

    def play(self, act: str, place: int) -> None:
        self.at += DAY
        state, names = self.state, list(self.state.versions)
        version = names[place % len(names)] if names else "v1"
        getattr(self, act)(version) if names or act == "train" else None
        new = [entry for entry in self.life.entries if entry.seq > state.seq]
        self.state = state.fold(new)

    def train(self, _: str) -> None:
        name = f"v{len(self.state.versions) + 1}"
        self.life.decided(self.at, yes()).started(self.at, name).trained(self.at, name)

    def ask(self, _: str) -> None:
        request, waiting = self.state.request, self.state.waiting
        if not waiting or (request is not None and waiting[-1] == request.version):
            return
        asked = facts.ApprovalAsked(
            version=waiting[-1],
            reason="no worse",
            until=self.at + 5 * DAY,
            remind=DAY,
            replaces=None if request is None else request.version,
        )
        self.life.judged(self.at, waiting[-1], Answer.NOT_ENOUGH, 0.01).add(self.at, asked)

    def approve(self, version: str) -> None:
        self.life.add(self.at, facts.Approved(version=version, reason="r", by="ada"))

    def decline(self, version: str) -> None:
        self.life.add(self.at, facts.Declined(version=version, reason="r", by="bob"))

    def harm(self, version: str) -> None:
        self.life.judged(self.at, version, Answer.REFUSE, -0.1, during="approval")

    def last(self, _: str) -> None:
        request = self.state.request
        if request is None or request.said is None:
            return
        approved = isinstance(request.said, facts.Approved)
        answer = Answer.PROMOTE if approved else Answer.REFUSE
        self.life.judged(self.at, request.version, answer, 0.01)
        if approved:
            self.life.promoted(self.at, request.version, self.state.champion)

    def hand(self, version: str) -> None:
        if version != self.state.champion:
            self.life.promoted(self.at, version, self.state.champion, by="ada")

    def back(self, _: str) -> None:
        champion, previous = self.state.champion, self.state.previous
        if champion is not None and previous is not None:
            back: Any = facts.RolledBack(version=champion, to=previous, reason="worse")
            self.life.add(self.at, back)


@given(acts)
def test_at_most_one_version_waits_for_a_person(played: list[tuple[str, int]]) -> None:
    life = Played()
    for act, place in played:
        life.play(act, place)
        state = life.state
        asked = [] if state.request is None else [state.request.version]
        states = {name: one.state for name, one in state.versions.items()}
        assert [name for name in states if states[name] == "waiting for approval"] == asked
        assert set(asked) <= set(state.waiting)
        assert len(set(state.waiting)) == len(state.waiting)
        assert {states[name] for name in state.waiting} <= {"waiting", "waiting for approval"}
        if asked:
            assert state.version("challenger").name == asked[0]


@given(acts)
def test_the_first_word_on_what_waits_is_the_one_that_counts(
    played: list[tuple[str, int]],
) -> None:
    life = Played()
    for act, place in played:
        before = life.state.request
        version, said = (None, None) if before is None else (before.version, before.said)
        life.play(act, place)
        after = life.state.request
        if said is not None and after is not None and after.version == version:
            assert after.said == said
        for name in life.state.versions:
            free = after is not None and after.version == name and after.said is None
            assert may(life.state, name, life) == (free and life.at < after.fact.until)  # type: ignore[union-attr]


def may(state: State, name: str, life: Played) -> bool:
    """Return whether a person may say something of a version."""
    try:
        return answerable(state, name, life.at).name == name
    except KeepfitError:
        return False


@given(acts)
def test_what_waits_is_the_same_after_a_restart(played: list[tuple[str, int]]) -> None:
    life = Played()
    for act, place in played:
        life.play(act, place)
    assert State.loads(life.state.dumps()).request == life.state.request
    assert life.life.state().request == life.state.request
