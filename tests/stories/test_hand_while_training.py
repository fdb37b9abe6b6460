"""A person's hand while the loop trains: it holds at once, and what was trained meets what serves."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.worlds import DAY, START, live, pipeline, stream

from keepfit import Challenger, Pipeline, executors, facts, gates, triggers
from keepfit.errors import LedgerConflict, RollbackFailed
from keepfit.loop import Loop

pytestmark = pytest.mark.story


class Held(executors.Inline):
    """Trains in this process, and not before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.open = threading.Event(), threading.Event()
        self.open.set()
        self.turns = 0

    def run(self, *given: Any, **more: Any) -> Any:
        """Train, once that is let."""
        self.begun.set()
        until = time.monotonic() + 60
        while not self.open.wait(0.01) and not self.turns:
            assert time.monotonic() < until
        self.turns = max(0, self.turns - 1)
        return super().run(*given, **more)

    def turn(self) -> None:
        """Let one training go on."""
        self.turns = 1


def made(home: Path, **more: Any) -> Pipeline:
    parts: dict[str, Any] = {
        "executor": Held(),
        "trigger": triggers.Every("5d"),
        "gate": gates.Fresher(),
        "challengers": [Challenger()],
        "features": ["x", "y"],
        "enough": 50,
    }
    return pipeline(stream(40), home, **(parts | more))


def step_to(loop: Loop, day: int) -> None:
    while loop.clock.now() < START + day * DAY:
        loop.clock.sleep(DAY)
        while loop.step().backlog:
            pass


class Training:
    """A loop in a thread, which has what it opens for itself, at the moment when it trains."""

    def __init__(self, loop: Loop, **more: Any) -> None:
        self.held = Held()
        self.held.open.clear()
        self.made = made(loop.pipeline.home, executor=self.held, **more)
        self.since = loop.clock.now()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.held.begun.wait(60)

    def _run(self) -> None:
        loop = live(self.made, self.since)
        while not self.held.begun.is_set():
            loop.clock.sleep(DAY)
            while loop.step().backlog:
                pass

    def end(self) -> None:
        self.held.open.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


def trained_twice(home: Path, **more: Any) -> Loop:
    """Return a loop with a champion and a previous one."""
    loop = live(made(home, **more))
    while loop.state.previous is None:
        step_to(loop, round((loop.clock.now() - START) / DAY) + 1)
        assert loop.clock.now() < START + 35 * DAY
    return loop


def kinds(loop: Loop, kind: str) -> list[Any]:
    return [entry.fact for entry in loop.memory.ledger.facts("churn", kind=kind)]


def test_a_rollback_holds_at_once_and_the_training_meets_what_serves_then(tmp_path: Path) -> None:
    loop = trained_twice(tmp_path, final_fit=None)
    before, bad = loop.state.previous, loop.state.champion
    training = Training(loop, final_fit=None)
    began = time.monotonic()
    assert made(tmp_path).rollback(reason="it harms", by="ada") == before
    assert time.monotonic() - began < 30  # the training still waits
    assert training.thread.is_alive()
    standing = live(made(tmp_path)).refold()
    assert (standing.champion, standing.versions[bad or ""].state) == (before, "rolled back")
    training.end()
    last = kinds(loop, "Judged")[-1]
    assert last.champion == before
    promoted = kinds(loop, "Promoted")[-1]
    assert (promoted.version, promoted.previous) == (last.version, before)
    assert loop.refold().previous == before


def test_a_winner_that_learns_its_holdout_is_not_released_against_another_champion(
    tmp_path: Path,
) -> None:
    loop = trained_twice(tmp_path, final_fit="all")
    before, bad = loop.state.previous, loop.state.champion
    training = Training(loop, final_fit="all")
    training.held.begun.clear()
    training.held.turn()
    assert training.held.begun.wait(60)  # the challenger has passed, and learns its holdout
    assert made(tmp_path).rollback(reason="it harms", by="ada") == before
    training.end()
    last = kinds(loop, "Judged")[-1]
    (verdict,) = last.verdicts
    assert (verdict.gate, str(verdict.answer)) == ("Current", "refuse")
    assert f"was held against {bad}, and {before} serves now" in verdict.reason
    assert loop.refold().champion == before


def test_a_promotion_holds_while_a_training_runs(tmp_path: Path) -> None:
    loop = trained_twice(tmp_path, final_fit=None)
    before = loop.state.previous
    assert before is not None
    training = Training(loop, final_fit=None)
    made(tmp_path).promote(before, reason="the season is back", by="ada", force=True)
    assert live(made(tmp_path)).refold().champion == before
    training.end()
    assert kinds(loop, "Judged")[-1].champion == before


def test_of_two_people_at_once_the_second_is_told_how_things_stand(tmp_path: Path) -> None:
    loop = trained_twice(tmp_path, final_fit=None)
    before = loop.state.previous
    training = Training(loop, final_fit=None)
    said: list[Any] = []

    def rolls_back() -> None:
        try:
            said.append(made(tmp_path).rollback(reason="it harms", by="ada"))
        except RollbackFailed as error:
            said.append(error)

    people = [threading.Thread(target=rolls_back) for _ in range(2)]
    for one in people:
        one.start()
    for one in people:
        one.join(60)
    training.end()
    assert said.count(before) == 1
    assert len([fact for fact in kinds(loop, "RolledBack") if fact.by == "ada"]) == 1


def test_a_word_that_others_overtake_is_formed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = trained_twice(tmp_path, final_fit=None)
    hand, before, bad = made(tmp_path), loop.state.previous, loop.state.champion
    other = live(made(tmp_path))
    written = []
    real = Loop.append_decision

    def overtaken(self: Loop, new: Any, at: Any) -> bool:
        if len(written) < 3:
            written.append(1)
            other.append([facts.Paused(reason="busy")], other.clock.now())
        return real(self, new, at)

    monkeypatch.setattr(Loop, "append_decision", overtaken)
    assert hand.rollback(reason="it harms", by="ada") == before
    assert len(written) == 3
    monkeypatch.setattr(Loop, "append_decision", lambda *_: False)
    with pytest.raises(LedgerConflict, match="kept writing"):
        hand.promote(bad or "", reason="why not", force=True)
