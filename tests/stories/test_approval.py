"""A person's word on a simulated clock: asked for, given, refused, missed, replaced, not lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from tests.test_alerts import Receiver
from tests.worlds import DAY, START, live, pipeline, play, stream

from keepfit import Challenger, Ledger, gates, rollouts, selection, triggers
from keepfit.alerts import Settings, Target, Teller
from keepfit.errors import ConfigError, GateRefused, VersionUnknown
from keepfit.facts import (
    Answer,
    ApprovalAsked,
    Approved,
    Declined,
    Entry,
    Judged,
    Promoted,
    RolledOut,
    TrainingStarted,
)
from keepfit.hand import Hand
from keepfit.loop import Loop
from keepfit.pipeline import Pipeline
from keepfit.results import Status, Why


def made(home: Path, **parts: Any) -> Pipeline:
    defaults: dict[str, Any] = {
        "features": ["x", "y"],
        "trigger": triggers.Every("6d"),
        "challengers": [Challenger(select=selection.Sliding("6d"))],
        "gate": [gates.NoWorse(), gates.Approval(expires="4d")],
        "final_fit": None,
    }
    rows = parts.pop("rows", stream(30, per_day=200))
    return pipeline(rows, home, **(defaults | parts))


def of(entries: list[Entry], kind: type, version: str | None = None) -> list[Entry]:
    found = [one for one in entries if isinstance(one.fact, kind)]
    return found if version is None else [one for one in found if one.fact.version == version]


def until_asked(loop: Loop, version: str) -> list[Entry]:
    """Play until a person is asked about a version."""
    entries: list[Entry] = []
    for _ in range(60):
        entries += play(loop, 1)
        if loop.state.request is not None and loop.state.request.version == version:
            return entries
    raise AssertionError(f"nobody was asked about {version}")


def hand(loop: Loop, reason: str = "looks right") -> Hand:
    return Hand(loop, reason, "ada")


def second(home: Path, **parts: Any) -> Loop:
    """Return a loop whose first version serves, and whose second waits for a person."""
    loop = live(made(home, **parts))
    until_asked(loop, "v1")
    hand(loop).approve("v1")
    until_asked(loop, "v2")
    return loop


# Asked ----------------------------------------------------------------------------------


def test_nothing_serves_before_a_person_has_said_so(tmp_path: Path) -> None:
    loop = live(made(tmp_path))
    entries = play(loop, 3)
    assert [one.fact.version for one in of(entries, ApprovalAsked)] == ["v1"]
    assert loop.state.champion is None
    assert not of(entries, Promoted)
    assert [one.fact.version for one in of(entries, TrainingStarted)] == ["v1"]
    hand(loop).approve("v1")
    assert loop.state.champion is None
    step = loop.step()
    (promoted,) = of(list(step.entries), Promoted)
    assert promoted.fact.version == loop.state.champion == "v1"
    assert promoted.fact.reason == "approved by ada: looks right; no champion yet"


def test_before_the_first_serves_the_trigger_goes_on_from_what_waits(tmp_path: Path) -> None:
    loop = live(made(tmp_path, gate=[gates.NoWorse(), gates.Approval()]))
    entries = play(loop, 15)
    asked = [one.fact for one in of(entries, ApprovalAsked)]
    assert [one.replaces for one in asked] == [None, "v1", "v2"]
    days = [one.at for one in of(entries, ApprovalAsked)]
    assert days[2] - days[1] == 6 * DAY
    hand(loop).approve("challenger")
    loop.step()
    assert loop.state.champion == "v3"


def test_what_the_other_gates_refuse_waits_for_nobody(tmp_path: Path) -> None:
    gate = [gates.AtLeast(0.999), gates.Approval()]
    loop = live(made(tmp_path, gate=gate))
    until_asked(loop, "v1")
    hand(loop).approve("v1")
    entries = play(loop, 30)
    refused = [one.fact for one in of(entries, Judged) if one.fact.answer == Answer.REFUSE]
    assert refused
    assert not of(entries, ApprovalAsked)
    assert {one.gate for fact in refused for one in fact.verdicts} == {gates.AtLeast(0.999).name}


def test_approved_it_serves_with_the_next_step_and_says_by_whom(tmp_path: Path) -> None:
    loop = second(tmp_path)
    assert loop.state.champion == "v1"
    hand(loop).approve("challenger")
    entries = list(loop.step().entries)
    (judged,) = of(entries, Judged, "v2")
    assert judged.fact.answer == Answer.PROMOTE
    assert [one.gate for one in judged.fact.verdicts] == [
        gates.NoWorse().name,
        gates.Approval().name,
    ]
    assert judged.fact.verdicts[-1].reason == "approved by ada: looks right"
    assert (loop.state.champion, loop.state.previous) == ("v2", "v1")
    assert loop.state.request is None


def test_waiting_spends_nothing_of_the_other_gates_level(tmp_path: Path) -> None:
    loop = second(tmp_path, gate=[gates.NoWorse(), gates.Approval()])
    before = loop.state.versions["v2"].judged
    entries = play(loop, 4)
    again = [one.fact for one in of(entries, Judged, "v2")]
    assert {one.during for one in again} == {"approval"}
    assert loop.state.versions["v2"].judged == before


# Not approved ---------------------------------------------------------------------------


def test_refused_it_does_not_serve_and_the_reason_is_kept(tmp_path: Path) -> None:
    loop = second(tmp_path)
    hand(loop, "the plan changed").refuse("v2")
    (judged,) = of(list(loop.step().entries), Judged, "v2")
    assert judged.fact.answer == Answer.REFUSE
    assert judged.fact.verdicts[-1].reason == "refused by ada: the plan changed"
    assert loop.state.versions["v2"].state == "refused"
    assert loop.state.champion == "v1"
    with pytest.raises(ConfigError, match="waits for approval, got v2, which is refused"):
        hand(loop).approve("v2")
    with pytest.raises(GateRefused, match="refused by ada: the plan changed"):
        hand(loop).promote("v2", force=False)


def test_nobody_answers_and_its_time_is_over(tmp_path: Path) -> None:
    loop = second(tmp_path)
    asked = loop.state.request
    assert asked is not None
    assert asked.fact.until - asked.since == 4 * DAY
    entries = play(loop, 3)
    assert loop.state.request is not None
    loop.clock.sleep(DAY)
    with pytest.raises(ConfigError, match="waits no longer"):
        hand(loop).approve("v2")
    entries += loop.step().entries
    last = of(entries, Judged, "v2")[-1].fact
    assert last.answer == Answer.REFUSE
    assert last.verdicts[-1].reason == f"nobody approved it by {asked.fact.until:%Y-%m-%d %H:%M}"
    assert loop.state.champion == "v1"
    assert loop.state.request is None


def test_a_request_ends_in_time_although_no_rows_come(tmp_path: Path) -> None:
    loop = second(tmp_path, rows=stream(9, per_day=200))
    loop.clock.sleep(6 * DAY)
    entries = list(loop.step().entries) + list(loop.step().entries)
    assert of(entries, Judged, "v2")[-1].fact.answer == Answer.REFUSE


def test_what_does_harm_while_it_waits_is_refused(tmp_path: Path) -> None:
    # The world turns over for a few days only: v2 learns that, and then it is as it was.
    rows = stream(60, per_day=200)
    odd = pl.col("time").is_between(START + 11 * DAY, START + 22 * DAY)
    turned = rows.with_columns(label=pl.when(odd).then(1 - pl.col("label")).otherwise("label"))
    loop = second(
        tmp_path,
        rows=turned,
        gate=[gates.NoWorse(), gates.Approval(expires="60d")],
        trigger=triggers.Every("20d"),
        metric="accuracy",
    )
    entries = play(loop, 14)
    (refused,) = [one.fact for one in of(entries, Judged, "v2") if one.fact.answer == Answer.REFUSE]
    assert refused.during == "approval"
    assert loop.state.request is None
    assert loop.state.versions["v2"].state == "refused"
    assert loop.state.champion == "v1"


# Replaced -------------------------------------------------------------------------------


def test_a_later_challenger_that_passes_takes_its_place(tmp_path: Path) -> None:
    loop = second(tmp_path, gate=[gates.NoWorse(), gates.Approval(expires="60d")])
    entries = until_asked(loop, "v3")
    (asked,) = of(entries, ApprovalAsked)
    assert asked.fact.replaces == "v2"
    assert loop.state.versions["v2"].state == "superseded"
    with pytest.raises(ConfigError, match="got v2, which is superseded") as raised:
        hand(loop).approve("v2")
    assert "v3 waits, since" in str(raised.value.hint)
    assert "instead of v2" in str(raised.value.hint)
    assert "v3 passed too, and waits in its place" in shown(loop, "v2")
    hand(loop).approve("v3")
    loop.step()
    assert loop.state.champion == "v3"


def test_while_the_next_is_trained_and_refused_it_still_waits(tmp_path: Path) -> None:
    given = made(tmp_path, gate=[gates.NoWorse(), gates.Approval(expires="60d")])
    loop = second(tmp_path, gate=given.gate)
    other = made(tmp_path, learner=DummyClassifier(), gate=given.gate)
    loop.memory.close()
    loop = live(other, loop.clock.now())
    entries = play(loop, 12)
    # What learnt nothing is trained once more before it is judged.
    (refused,) = [one.fact for one in of(entries, Judged, "v4") if not one.fact.during]
    assert refused.answer == Answer.REFUSE
    assert loop.state.request is not None
    assert loop.state.request.version == "v2"
    hand(loop).approve("v2")
    loop.step()
    assert loop.state.champion == "v2"


def test_an_answer_that_came_before_its_place_was_taken_counts(tmp_path: Path) -> None:
    given = [gates.NoWorse(), gates.Approval(expires="60d")]
    loop = second(tmp_path, gate=given)
    person = live(made(tmp_path, gate=given), loop.clock.now())
    asked, spoken = loop.turns.asking._ask, []

    def meanwhile(*given: Any) -> None:
        if not spoken:
            spoken.append(hand(person).approve("v2"))
        asked(*given)

    loop.turns.asking._ask = meanwhile  # type: ignore[method-assign]
    for _ in range(12):
        play(loop, 1)
        if spoken:
            break
    loop.step()
    assert spoken
    assert [at_version for _, at_version in loop.state.reigns] == ["v1", "v2"]
    person.memory.close()


def test_another_champion_sends_it_back_to_the_other_gates(tmp_path: Path) -> None:
    loop = second(tmp_path, gate=[gates.NoWorse(), gates.Approval(expires="60d")])
    until_asked(loop, "v3")
    hand(loop, "by hand").promote("v2", force=True)
    assert loop.state.request is None
    assert loop.state.versions["v3"].state == "waiting"
    judged = of(play(loop, 1), Judged, "v3")[0].fact
    # It begins anew, against what serves now.
    assert (judged.champion, judged.look, judged.during) == ("v2", 1, "")


# A person ---------------------------------------------------------------------------------


def test_the_first_word_counts_and_the_second_is_told_so(tmp_path: Path) -> None:
    loop = second(tmp_path)
    hand(loop).approve("v2")
    for say in (hand(loop).approve, hand(loop).refuse):
        with pytest.raises(ConfigError, match="v2 was approved already, by ada on"):
            say("v2")
    loop.step()
    facts = list(loop.memory.ledger.facts("churn"))
    assert len(of(facts, Approved, "v2")) == 1
    assert not of(facts, Declined)
    with pytest.raises(ConfigError, match="got v2, which is champion"):
        hand(loop).approve("v2")


def test_a_version_that_does_not_wait_cannot_be_approved(tmp_path: Path) -> None:
    loop = second(tmp_path)
    seq = loop.state.seq
    with pytest.raises(ConfigError, match="got v1, which is champion"):
        hand(loop).approve("v1")
    with pytest.raises(VersionUnknown, match="'v99'"):
        hand(loop).approve("v99")
    with pytest.raises(ConfigError, match="expected a reason"):
        hand(loop, " ")
    with pytest.raises(GateRefused) as raised:
        hand(loop).promote("v2", force=False)
    assert "`keepfit approve v2" in str(raised.value.hint)
    assert loop.refold().seq == seq


def test_a_process_killed_between_the_word_and_the_promotion_loses_nothing(tmp_path: Path) -> None:
    loop = second(tmp_path)
    hand(loop).approve("v2")
    now = loop.clock.now()
    loop.memory.close()
    again = live(made(tmp_path, gate=[gates.NoWorse(), gates.Approval(expires="4d")]), now)
    assert again.state.request is not None
    assert again.state.champion == "v1"
    again.clock.sleep(timedelta(days=30))
    while again.step().backlog:
        pass
    assert ("v2", 1) in [(version, place) for place, (_, version) in enumerate(again.state.reigns)]


def test_a_word_given_during_a_pause_is_taken_up_after_it(tmp_path: Path) -> None:
    loop = second(tmp_path)
    hand(loop, "holidays").pause()
    hand(loop).approve("v2")
    play(loop, 8)
    assert loop.state.champion == "v1"
    hand(loop, "back").resume()
    loop.step()
    assert loop.state.champion == "v2"


# With the rest of a release -----------------------------------------------------------------


def test_the_rollout_begins_once_a_person_has_said_so(tmp_path: Path) -> None:
    loop = second(tmp_path, rollout=[rollouts.Canary(0.2, "3d")])
    play(loop, 2)
    assert loop.state.rollout is None
    hand(loop).approve("v2")
    entries = list(loop.step().entries)
    assert of(entries, RolledOut, "v2")
    assert loop.state.rollout is not None
    entries = play(loop, 4)
    (promoted,) = of(entries, Promoted)
    assert promoted.fact.reason.startswith("after canary 20 % 3 d; ")


def test_it_learns_its_holdout_after_it_was_approved(tmp_path: Path) -> None:
    loop = second(tmp_path, final_fit="all")
    hand(loop).approve("v2")
    entries = list(loop.step().entries)
    (started,) = of(entries, TrainingStarted)
    assert started.fact.final_of == "v2"
    assert loop.state.champion == started.fact.version
    assert not of(entries, ApprovalAsked)


def test_a_backtest_asks_nobody_and_says_so(tmp_path: Path) -> None:
    made(tmp_path).backtest(compare=False)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        entries = list(ledger.facts("churn"))
    assert len(of(entries, Promoted)) > 1
    assert not of(entries, ApprovalAsked)
    passed = [one.fact for one in of(entries, Judged) if one.fact.answer == Answer.PROMOTE]
    assert {one.verdicts[-1].reason for one in passed} == {
        "taken as approved: a backtest asks nobody"
    }


def test_people_are_told_that_it_waits_until_one_of_them_has_answered(tmp_path: Path) -> None:
    loop = live(made(tmp_path, gate=[gates.NoWorse(), gates.Approval(remind="2d")]))
    desk = Receiver()
    targets = (Target(desk.url, "desk", about=("waiting for approval", "promoted")),)
    teller = Teller(loop.memory.ledger, "churn", Settings(targets), clock=loop.clock)

    def days(count: int) -> None:
        for _ in range(count):
            play(loop, 1)
            teller.look()

    days(4)
    assert desk.titles() == ["churn: v1 waiting for approval"] * 2
    hand(loop).approve("v1")
    teller.look()
    days(3)
    desk.close()
    assert desk.titles()[2:] == ["churn: v1 promoted", "churn: v2 waiting for approval"]


# What people read ---------------------------------------------------------------------------


def shown(loop: Loop, version: str) -> str:
    return repr(Why.of("churn", loop.refold(), version, loop.memory.ledger.facts("churn")))


def test_status_and_why_say_since_when_until_when_and_what_to_type(tmp_path: Path) -> None:
    loop = second(tmp_path)
    request = loop.state.request
    assert request is not None
    since, until = request.since, request.fact.until
    status = Status.of("churn", loop.state)
    for told in (repr(status), shown(loop, "v2")):
        assert f"{since:%Y-%m-%d}" in told
        assert f"{until:%Y-%m-%d}" in told
        assert "`keepfit approve v2 --reason …`" in told
    assert status.to_dict()["approval"]["version"] == "v2"
    assert status.to_dict()["waiting"] == []
    hand(loop).approve("v2")
    assert "approved by ada: looks right; the loop's next step takes it up" in repr(
        Status.of("churn", loop.refold())
    )


def test_a_pipeline_without_the_gate_keeps_to_what_was_asked(tmp_path: Path) -> None:
    loop = second(tmp_path)
    now = loop.clock.now()
    loop.memory.close()
    again = live(made(tmp_path, gate=gates.NoWorse(), learner=LogisticRegression()), now)
    again.step()
    assert again.state.champion == "v1"
    hand(again).approve("v2")
    again.step()
    assert again.state.champion == "v2"
