"""Rollouts under a simulated clock: what is good takes over in time, what is bad is taken back."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from tests.worlds import DAY, EVE, START, kinds, live, pipeline, play, source, stream

from keepfit import Ledger, gates, rollouts, selection, triggers
from keepfit.challenger import Challenger
from keepfit.facts import (
    Arrived,
    Decided,
    Entry,
    Judged,
    Paused,
    Promoted,
    Resumed,
    RolledBack,
    RolledOut,
    comparable,
)
from keepfit.loop import Loop
from keepfit.pipeline import Pipeline
from keepfit.registry import State

HONEST = 700
"""Versions of fewer rows than this do what they learnt for good."""


class Turncoat(ClassifierMixin, BaseEstimator):
    """Does well on the days it could be judged by, and then what ``then`` says.

    Columns are x, y and the day, on a scale of its own.
    """

    def __init__(self, then: str = "honest") -> None:
        self.then = then

    def fit(self, X: np.ndarray, y: np.ndarray) -> Turncoat:
        self.classes_ = np.unique(y)
        self.inner_ = LogisticRegression().fit(X[:, :2], y)
        days = X[:, 2]
        turns = self.then != "honest" and len(y) >= HONEST
        self.turns_at_ = days.max() + 0.4 * np.ptp(days) if turns else np.inf
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        said = self.inner_.predict_proba(X[:, :2])
        turned = X[:, 2] > self.turns_at_
        if turned.any() and self.then == "raise":
            raise ValueError("a lookup table is missing")
        said[turned] = said[turned, ::-1] if self.then == "worse" else np.nan
        return said

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def days_of(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(day=((pl.col("time") - START).dt.total_days()).cast(pl.Float64))


def made(home: Path, then: str = "honest", **parts: Any) -> Pipeline:
    rows = parts.pop("source", days_of(stream(60, per_day=100)))
    defaults: dict[str, Any] = {
        "features": ["x", "y", "day"],
        "learner": Turncoat(then),
        "trigger": triggers.Every("10d"),
        "challengers": [Challenger(select=selection.Sliding("10d"))],
        "gate": gates.NoWorse(),
        "rollout": [rollouts.Shadow("3d"), rollouts.Canary(0.2, "4d")],
        "every": "1d",
    }
    return pipeline(rows, home, **(defaults | parts))


def of(entries: list[Entry], kind: type, version: str | None = None) -> list[Entry]:
    found = [one for one in entries if isinstance(one.fact, kind)]
    return found if version is None else [one for one in found if one.fact.version == version]


def backtested(home: Path, then: str = "honest", **parts: Any) -> list[Entry]:
    given = made(home, then, **parts)
    given.backtest(compare=False)
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        return list(ledger.facts("churn"))


def state_of(entries: list[Entry]) -> State:
    return State().fold(entries)


# What is good ---------------------------------------------------------------------------


def test_a_good_challenger_takes_over_after_its_time(tmp_path: Path) -> None:
    entries = backtested(tmp_path)
    first, second = of(entries, RolledOut, "v2")
    assert [(one.fact.share, one.fact.stage) for one in (first, second)] == [(0.0, 1), (0.2, 2)]
    assert second.at - first.at == 3 * DAY
    (promoted,) = of(entries, Promoted, "v2")
    assert promoted.at - second.at == 4 * DAY
    assert promoted.fact.reason.startswith("after shadow 3 d, canary 20 % 4 d; ")
    assert promoted.fact.previous == "v1"
    assert not of(entries, RolledBack)


def test_the_same_backtest_twice_gives_the_same_facts(tmp_path: Path) -> None:
    one, other = (
        [
            (entry.at, comparable(entry.fact))
            for entry in backtested(tmp_path / name, learner=LogisticRegression())
        ]
        for name in ("one", "other")
    )
    assert any(isinstance(fact, RolledOut) for _, fact in one)
    assert one == other


def test_labels_that_come_late_are_waited_for(tmp_path: Path) -> None:
    entries = backtested(tmp_path, roles={"label_delay": "5d"})
    (promoted,) = of(entries, Promoted, "v2")
    assert promoted.at - of(entries, RolledOut, "v2")[0].at == timedelta(days=3 + 4 + 5)
    looks = of(entries, Judged, "v2")
    (judged,) = [one.fact for one in looks if one.fact.during == "end of rollout"]
    # No label was used before it was mature: of twelve days of a hundred rows five are missing.
    assert judged.rows == pytest.approx(700, abs=101)


def test_a_ramp_goes_through_its_shares(tmp_path: Path) -> None:
    entries = backtested(tmp_path, rollout=rollouts.Ramp((0.1, 0.3, 0.6), "2d"))
    stages = of(entries, RolledOut, "v2")
    assert [one.fact.share for one in stages] == [0.1, 0.3, 0.6]
    assert len({one.fact.rollout for one in stages}) == 1
    assert of(entries, Promoted, "v2")


def test_while_one_is_rolled_out_nothing_else_is_trained(tmp_path: Path) -> None:
    entries = backtested(tmp_path, trigger=triggers.Every("4d"))
    begun, ended = of(entries, RolledOut, "v2")[0].at, of(entries, Promoted, "v2")[0].at
    between = [one.fact for one in of(entries, Decided) if begun < one.at < ended]
    assert between
    assert {one.decision.trigger for one in between} == {"rollout"}
    after = next(one for one in of(entries, Decided) if one.at >= ended)
    assert after.fact.decision.train


def test_the_challenger_answers_its_share_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    given = made(tmp_path, rollout=rollouts.Canary(0.2, "5d"))
    loop = live(given)
    entries = play(loop, 12)
    (stage,) = of(entries, RolledOut)
    loop.memory.close()
    again = live(given, loop.clock.now())
    assert again.state.rollout == loop.state.rollout
    entries = play(again, 5)
    (promoted,) = of(entries, Promoted)
    assert promoted.at - stage.at == 5 * DAY
    assignment = rollouts.Assignment(stage.fact.rollout, 0.2)
    for arrived in of(entries, Arrived):
        if arrived.seq < promoted.seq and arrived.fact.rows:
            scored = again.memory.lake.scored(arrived.fact.batch, again.clock.now())
            ids, versions = scored.get_column("_id").to_list(), scored.get_column("_version")
            drawn = assignment.of(ids)
            assert [name == "v2" for name in versions] == drawn
            assert sum(drawn) <= max(1, len(drawn) / 2)


# What is bad ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "says"),
    [("worse", "worse on"), ("raise", "lookup table"), ("nan", "no number")],
)
def test_a_bad_challenger_is_taken_back(tmp_path: Path, then: str, says: str) -> None:
    entries = backtested(tmp_path, then)
    back = of(entries, RolledBack)[0]
    assert says in back.fact.reason
    assert (back.fact.version, back.fact.to, back.fact.by) == ("v2", "v1", "keepfit")
    state = state_of(entries)
    assert (state.champion, state.previous, state.paused) == ("v1", None, None)
    assert state.versions["v2"].state == "rolled back"
    assert [one.fact.version for one in of(entries, Promoted)] == ["v1"]


@pytest.mark.parametrize("then", ["raise", "nan"])
def test_rows_that_the_challenger_cannot_answer_are_the_champions(
    tmp_path: Path, then: str
) -> None:
    loop = live(made(tmp_path, then, rollout=rollouts.Canary(0.5, "9d")))
    entries = play(loop, 16)
    back = of(entries, RolledBack)[0]
    batch = next(one.fact.batch for one in of(entries, Arrived) if one.at == back.at)
    scored = loop.memory.lake.scored(batch, loop.clock.now())
    assert scored.get_column("_score").is_finite().all()
    assert set(scored.get_column("_version")) == {"v1"}


def test_too_few_labels_end_a_rollout_and_say_so(tmp_path: Path) -> None:
    frame = days_of(stream(60, per_day=100))
    late = (pl.col("day") >= 12) & (pl.col("id") % 50 != 0)
    frame = frame.with_columns(label=pl.when(late).then(None).otherwise(pl.col("label")))
    entries = backtested(tmp_path, source=source(frame))
    back = of(entries, RolledBack)[0]
    assert "labelled live rows" in back.fact.reason
    assert "not enough evidence" in back.fact.reason
    begun = of(entries, RolledOut, "v2")[0].at
    assert back.at - begun == timedelta(days=2 * (3 + 4))


# After promotion ------------------------------------------------------------------------


def test_a_champion_that_turns_bad_is_taken_back_and_never_becomes_previous(
    tmp_path: Path,
) -> None:
    entries = backtested(tmp_path, "worse", rollout=[])
    assert of(entries, Promoted, "v2")
    back = of(entries, RolledBack, "v2")[0]
    assert back.fact.to == "v1"
    assert back.fact.share is None
    assert back.fact.rows > 0
    for seq in range(len(entries)):
        state = state_of(entries[: seq + 1])
        if state.previous is not None:
            assert state.versions[state.previous].state != "rolled back"


def test_too_many_bad_promotions_pause_the_pipeline_until_somebody_resumes(
    tmp_path: Path,
) -> None:
    parts = {"rollout": [], "breaker": "2 per 40d", "trigger": triggers.Every("8d")}
    entries = backtested(tmp_path, "worse", **parts)
    paused = of(entries, Paused)
    assert len(paused) == 1
    undone = [one.fact.version for one in of(entries, RolledBack)]
    assert paused[0].fact.reason == (
        f"2 promotions were taken back within 40 d: {', '.join(undone)}"
    )
    assert not [one for one in of(entries, Promoted) if one.at > paused[0].at]
    state = state_of(entries)
    assert state.paused
    resumed = Resumed(reason="the day is out of the features", by="anna")
    state.fold([Entry(pipeline="churn", seq=state.seq + 1, at=entries[-1].at, fact=resumed)])
    assert state.paused is None
    assert state.undone == []


def test_without_a_rollout_what_passes_is_promoted_at_once_and_not_watched(
    tmp_path: Path,
) -> None:
    entries = backtested(tmp_path, "worse", rollout=None)
    assert not of(entries, RolledOut)
    assert not of(entries, RolledBack)
    assert not [one for one in of(entries, Judged) if one.fact.during]
    assert len(of(entries, Promoted)) > 1


# The human hand -------------------------------------------------------------------------


def rolling(home: Path, start: datetime = EVE) -> tuple[Pipeline, Loop]:
    given = made(home)
    loop = live(given, start)
    play(loop, 11)
    given._live = loop
    assert loop.state.rollout is not None
    return given, loop


def test_a_persons_rollback_takes_back_what_is_being_rolled_out(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path)
    assert given.rollback(reason="a customer complains") == "v1"
    assert (loop.state.champion, loop.state.rollout) == ("v1", None)
    assert loop.state.versions["v2"].state == "rolled back"


def test_a_persons_promotion_ends_the_rollout(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path)
    given.promote("challenger", reason="seen enough")
    assert (loop.state.champion, loop.state.previous, loop.state.rollout) == ("v2", "v1", None)


def test_another_version_promoted_by_hand_ends_the_rollout_too(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path)
    loop.clock.sleep(DAY)
    loop.step()
    given.train(reason="a new column")
    given.promote("v3", reason="it must be this one", force=True)
    assert (loop.state.champion, loop.state.rollout) == ("v3", None)
    assert loop.state.versions["v2"].state == "superseded"


def test_what_another_process_takes_back_is_not_promoted(tmp_path: Path) -> None:
    _, loop = rolling(tmp_path)
    rollout = loop.state.rollout
    assert rollout is not None
    fact = rollout.fact
    back = RolledBack(version="v2", to="v1", reason="too slow", share=fact.share)
    with Ledger(tmp_path / "ledger.db") as other:
        other.append("churn", [back], at=loop.clock.now(), expected_seq=loop.state.seq)
    # The loop has not heard of it, and would go to the next stage.
    loop.release.advance(fact.until)
    assert (loop.state.champion, loop.state.rollout) == ("v1", None)
    assert loop.state.versions["v2"].state == "rolled back"


def test_a_pause_holds_a_rollout_where_it_is(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path)
    given.pause(reason="holidays")
    assert not of(play(loop, 6), RolledOut)
    given.resume(reason="back")
    (staged,) = of(play(loop, 1), RolledOut)
    assert staged.fact.stage == 2


def test_what_a_person_trains_meanwhile_waits_for_its_turn(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path)
    loop.clock.sleep(DAY)
    loop.step()
    step = given.train(reason="a new column")
    assert "Judged" not in kinds(list(step.entries))
    assert loop.state.waiting == ["v3"]
    given.rollback(reason="make room")
    entries = play(loop, 1)
    assert {one.fact.version for one in of(entries, Judged)} == {"v3"}


def test_status_and_why_tell_of_it(tmp_path: Path) -> None:
    given, loop = rolling(tmp_path, START)
    status = given.status()
    assert status.rollout is not None
    assert (status.rollout.version, status.rollout.share) == ("v2", 0.0)
    since = status.rollout.since
    assert f"v2, shadow since {since:%Y-%m-%d}, stage 1 of 2" in repr(status)
    assert status.to_dict()["rollout"]["stages"] == 2
    assert "being rolled out" in repr(given.why("v2"))
    assert f"◐ shadow from {since:%Y-%m-%d}, beside v1" in repr(given.why("v2"))
    play(loop, 8)
    told = repr(given.why("v2"))
    ended = f"{since + 7 * DAY:%Y-%m-%d}"
    assert f"● promoted on {ended}, replacing v1: after shadow 3 d, canary" in told
    # Of the looks that decided nothing the last is shown, however many there were.
    assert told.count("· compared on") + told.count("… compared on") == 1
    assert told.count("✓ compared on") == 1
