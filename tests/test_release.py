"""What a release does at its edges: gates that are not live, and a way back that is barred."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from keepfit import gates
from keepfit.errors import RollbackFailed
from keepfit.facts import Answer, Judged, Paused, Promoted, RolledBack, Verdict
from keepfit.protocols import Comparison
from tests.lives import DAY, START
from tests.test_release_rates import PER_DAY, Played

LENGTH = 13 * PER_DAY


class Asked:
    """A gate that a person answers: of live rows it has nothing to say."""

    name = "Asked"
    live = False

    def judge(self, comparison: Comparison) -> Verdict:
        return Verdict(gate=self.name, answer=Answer.NOT_ENOUGH, reason="nobody has answered yet")


def served(gain: float) -> Played:
    """Return a release in which v2 serves, and does so much better than v1."""
    rng = np.random.default_rng(0)
    played = Played(gates.NoWorse(within=0.02), rng.choice([0.0, np.sign(gain)], LENGTH))
    played.pipeline.breaker = 1, timedelta(days=30)
    played.append_decision([Promoted(version="v2", previous="v1", reason="")], START)
    return played


def advance(played: Played) -> None:
    played.day += 1
    played.release.advance(START + played.day * DAY)


def test_a_gate_that_is_not_live_is_not_asked_about_live_rows() -> None:
    played = Played(Asked(), np.zeros(LENGTH))
    last = played.play()
    assert isinstance(last, Promoted)
    assert last.reason.endswith("; no gate on live rows")


def test_without_any_gate_the_time_decides() -> None:
    played = Played(gates.Beats(), np.zeros(LENGTH))
    played.pipeline.gate = []
    last = played.play()
    assert isinstance(last, Promoted)
    assert last.reason == "after shadow 2 d, canary 10 % 4 d; no gate"


def test_a_challenger_without_evidence_is_taken_back_at_the_limit() -> None:
    played = Played(gates.NoWorse(within=0.02), np.zeros(LENGTH))
    played.labelled = lambda now, **_: Played.labelled(played, now).clear()  # type: ignore[method-assign]
    last = played.play()
    assert isinstance(last, RolledBack)
    assert last.reason == "0 labelled live rows in 12 d are not enough evidence"
    assert played.day == 12


def test_the_way_back_is_gone_only_by_a_version_that_answers_as_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def otherwise(*_: Any) -> int:
        raise RollbackFailed("v1 does not answer 20 stored rows as it did")

    monkeypatch.setattr("keepfit.release.verified", otherwise)
    monkeypatch.setattr("keepfit.live.Live.answers", lambda *_: True)
    played = served(-1.0)
    advance(played)
    looked, paused = played.said
    assert isinstance(looked, Judged)
    assert isinstance(paused, Paused)
    assert paused.reason.endswith("; but v1 does not answer 20 stored rows as it did")
    assert played.state.champion == "v2"
    advance(played)
    assert [type(fact) for fact in played.said] == [Judged]


def test_a_version_that_cannot_answer_any_more_is_not_gone_back_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keepfit.live.Live.answers", lambda *_: False)
    played = served(-1.0)
    advance(played)
    assert played.state.champion == "v2"
    assert [type(fact) for fact in played.said] == [Promoted]


def test_one_promotion_taken_back_may_be_enough_to_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepfit.release.verified", lambda *_: 7)
    monkeypatch.setattr("keepfit.live.Live.answers", lambda *_: True)
    played = served(-1.0)
    advance(played)
    assert (played.state.champion, played.state.previous) == ("v1", None)
    assert played.state.versions["v2"].state == "rolled back"
    assert played.state.paused == "1 promotion was taken back within 30 d: v2"
    assert played.state.service is None
