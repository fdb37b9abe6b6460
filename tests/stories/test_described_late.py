"""What has a last fit before it serves is described only where it comes to serve without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightgbm import LGBMClassifier
from tests.spoiling import spoil_last_fits
from tests.worlds import live, pipeline, play, stream

from keepfit import Challenger, Ledger, gates, selection, triggers
from keepfit.facts import DetectorAdvanced, Promoted, Trained
from keepfit.hand import Hand
from keepfit.loop import Loop
from keepfit.registry import State, Version

pytestmark = pytest.mark.story

PARTS: dict[str, Any] = {
    "trigger": triggers.Every("10d"),
    "gate": [gates.NoWorse(within=0.05)],
}
NEVER: dict[str, Any] = {**PARTS, "gate": [gates.Beats(margin=0.9)]}
"""Parts of a pipeline whose gate lets nothing pass."""


def lived(home: Path, **parts: Any) -> tuple[State, list[Any]]:
    """Return what the facts of a backtest add up to, and the facts."""
    made = pipeline(stream(40), home, **(PARTS | parts))
    made.backtest(compare=False)
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        entries = list(ledger.facts("churn"))
    return State().fold(entries), [entry.fact for entry in entries]


def refused(home: Path, **parts: Any) -> tuple[Loop, Version]:
    """Return a live loop, and the first challenger that its gate did not let pass."""
    loop = live(pipeline(stream(40), home, **(NEVER | parts)))
    play(loop, 25)
    return loop, loop.state.versions["v2"]


def test_a_trial_is_not_described_and_its_last_fit_is(tmp_path: Path) -> None:
    state, _ = lived(tmp_path, final_fit="all")
    finals = [one for one in state.versions.values() if one.final_of]
    assert finals
    for final in finals:
        assert final.reference
        assert not state.versions[final.final_of or ""].reference
    assert state.versions["v1"].reference == state.anchor


def test_a_last_fit_that_updates_its_winner_is_described_by_the_rows_of_that(
    tmp_path: Path,
) -> None:
    parts: dict[str, Any] = {
        "learner": LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1),
        "challengers": [
            Challenger(),
            Challenger(select=selection.SinceLast(), start="champion", update="leaves"),
        ],
    }
    at_once, _ = lived(tmp_path / "at_once", **parts, final_fit=None)
    state, _ = lived(tmp_path / "late", **parts, final_fit="update")
    winners = {one.final_of or "": one for one in state.versions.values() if one.final_of}
    [trial] = [one for one in at_once.of_turn(2) if one.update == "all"]
    assert trial.name in winners
    assert not state.versions[trial.name].reference
    assert winners[trial.name].reference == trial.reference


def test_a_trial_without_a_last_fit_is_described_at_once(tmp_path: Path) -> None:
    state, facts = lived(tmp_path, final_fit=None)
    assert len(state.versions) > 2
    assert all(one.reference for one in facts if isinstance(one, Trained))
    assert not any(one.reference for one in facts if isinstance(one, Promoted))


def test_a_winner_whose_last_fit_failed_is_described_when_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_last_fits(monkeypatch)
    state, facts = lived(tmp_path, final_fit="all")
    late = {one.version: one.reference for one in facts if isinstance(one, Promoted)}
    first, *winners = late
    assert winners
    assert not late[first]
    for winner in winners:
        assert late[winner]
        assert state.versions[winner].reference == late[winner]
    # Whatever serves, drift is measured: a fact a batch, from the first promotion on.
    measured = {one.batch for one in facts if isinstance(one, DetectorAdvanced)}
    assert measured >= set(range(max(measured) - 10, max(measured) + 1))


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A challenger that was refused, described at its training."""
    return refused(tmp_path_factory.mktemp("at_once"), final_fit=None)[1]


@pytest.mark.parametrize("later", ["all", None])
def test_what_a_person_promotes_is_described_as_at_its_training(
    later: str | None, at_once: Version, tmp_path: Path
) -> None:
    loop, trial = refused(tmp_path / "late", final_fit="all")
    loop.pipeline.final_fit = later
    assert trial.artifact == at_once.artifact
    assert not trial.reference
    Hand(loop, "I know better").promote("v2", force=True)
    promoted = loop.state.versions["v2"]
    assert promoted.state == "champion"
    assert promoted.reference == at_once.reference
    play(loop, 3)
    *_, newest = loop.memory.ledger.facts("churn", kind="DetectorAdvanced")
    assert newest.fact.batch == loop.state.batch
    assert {one.column for one in newest.fact.columns} == {"x", "y", "kind"}
