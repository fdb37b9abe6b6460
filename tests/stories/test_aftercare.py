"""A champion that fails after its promotion: on a simulated clock, and in processes under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.stories.test_canary import Rolling, asked_until_taken_back
from tests.stories.test_rollout import backtested, days_of, made, of, state_of
from tests.waits import until
from tests.worlds import live, play, source, stream

from keepfit import gates, triggers
from keepfit.facts import Entry, Found, Paused, Promoted, RolledBack
from keepfit.loop import Loop

# On a simulated clock -----------------------------------------------------------------------


@pytest.mark.parametrize("rollout", [None, []], ids=["no rollout", "watched"])
@pytest.mark.parametrize(("then", "says"), [("raise", "a lookup table is missing"), ("nan", "no")])
def test_a_champion_that_fails_is_taken_back_and_never_becomes_previous(
    tmp_path: Path, then: str, says: str, rollout: list[Any] | None
) -> None:
    entries = backtested(tmp_path, then, rollout=rollout, gate=[])
    promoted, back = of(entries, Promoted, "v2")[0], of(entries, RolledBack, "v2")[0]
    assert promoted.at < back.at
    assert (back.fact.to, back.fact.share, back.fact.by) == ("v1", None, "keepfit")
    assert says in back.fact.reason
    assert back.fact.rows > 0
    for seq in range(len(entries)):
        state = state_of(entries[: seq + 1])
        if state.previous is not None:
            assert state.versions[state.previous].state != "rolled back"


def failing(home: Path, then: str = "raise", **parts: Any) -> tuple[Loop, list[Entry]]:
    """Play until a champion is taken back, and return what was written."""
    loop = live(made(home, then, rollout=None, gate=[], **parts))
    entries: list[Entry] = []
    while not of(entries, RolledBack):
        assert len(entries) < 2_000
        entries += play(loop, 1)
    return loop, entries


@pytest.mark.parametrize("then", ["raise", "nan"])
def test_rows_that_a_champion_fails_are_answered_by_the_version_before(
    tmp_path: Path, then: str
) -> None:
    loop, _ = failing(tmp_path, then)
    scored = loop.memory.lake.scored(loop.state.batch, loop.clock.now())
    assert scored.get_column("_score").is_finite().all()
    assert set(scored.get_column("_version")) <= {"v1", "v2"}
    assert "v1" in set(scored.get_column("_version"))


def test_champions_that_fail_count_as_bad_promotions(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"breaker": "2 per 40d", "trigger": triggers.Every("8d")}
    entries = backtested(tmp_path, "raise", rollout=None, gate=[], **parts)
    (paused,) = of(entries, Paused)
    undone = [one.fact.version for one in of(entries, RolledBack)]
    assert paused.fact.reason == f"2 promotions were taken back within 40 d: {', '.join(undone)}"


def test_what_another_process_takes_back_counts_too_though_no_rows_come(tmp_path: Path) -> None:
    loop = live(made(tmp_path, rollout=None, gate=gates.NoWorse(), breaker="1 per 40d"))
    while loop.state.champion != "v2":
        play(loop, 1)
    assert not loop.step().entries
    back = RolledBack(version="v2", to="v1", reason="2 of 2 answers failed: no number")
    loop.memory.ledger.append("churn", [back], at=loop.clock.now())
    loop.step()
    assert loop.state.paused == "1 promotion was taken back within 40 d: v2"


def test_one_that_fails_without_a_version_before_goes_on_and_is_told_of(tmp_path: Path) -> None:
    frame = days_of(stream(60, per_day=100))
    loop = live(made(tmp_path, "raise", source=source(frame), rollout=None, gate=[]))
    while loop.state.champion != "v2":
        play(loop, 1)
    loop.append([RolledBack(version="v1", to="v2", reason="by hand")], loop.clock.now())
    assert loop.state.service is None
    entries = play(loop, 30)
    told = [one.fact for one in of(entries, Found) if one.fact.failing]
    assert told
    assert "a lookup table is missing" in told[0].findings[0].message
    assert loop.state.champion not in (None, "v2")


# In processes under load --------------------------------------------------------------------


@pytest.mark.story
@pytest.mark.parametrize("fault", ["raises", "slow", "nan"])
def test_a_bad_champion_is_taken_back_under_load_and_no_request_fails(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPFIT_FAULT", fault)
    monkeypatch.setenv("KEEPFIT_CANARY", "1h")
    home = Rolling(tmp_path)
    home.begin()
    pipeline = home.pipeline()
    pipeline.promote("v2", reason="it cannot wait", force=True)
    pipeline.close()
    with home.running("serve", "--workers", "2") as server:
        server.all_serving()
        # The version before is tried once the champion serves; then it is at hand.
        until(lambda: 'keepfit_at_hand{pipeline="churn",version="v1"} 2.0' in server.metrics())
        made = asked_until_taken_back(home, server)
    assert [one.wrong for one in made] == [[]] * 6
    ((_, back),) = home.facts("RolledBack")
    assert (back.version, back.to, back.by, back.share) == ("v2", "v1", "keepfit", None)
    answers = [answer for one in made for answer in one.told]
    assert all(0 <= answer["probability"] <= 1 for answer in answers)
    assert {answer["version"] for answer in answers} <= {"v1", "v2"}
    # Every second row is far out: those the version before has answered from the first on.
    far = [answer for answer in answers if answer["id"] % 2]
    assert {answer["version"] for answer in far} == {"v1"}
