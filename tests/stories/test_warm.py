"""Warm starts for a long time: where the champion has grown too large, one from scratch follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from tests.trainings import fit
from tests.worlds import DAY, START, live, pipeline, play, stream
from xgboost import XGBClassifier

from keepfit import Challenger, gates, learners, selection, triggers
from keepfit.facts import TrainingFailed
from keepfit.loop import Loop
from keepfit.registry import Version
from keepfit.reproduce import reproduce
from keepfit.results import Why
from keepfit.results.sentences import Story

pytestmark = pytest.mark.story

SMALL = {
    "lightgbm": LGBMClassifier(n_estimators=4, num_leaves=7, verbosity=-1),
    "xgboost": XGBClassifier(n_estimators=4, max_depth=3),
    "forest": RandomForestClassifier(n_estimators=4, max_depth=4),
}
GROWN = "has grown as large as warm starts may make it"


class Silent:
    """A learner that cannot be asked how large its models are: it fails where they are too large."""

    def __init__(self, inner: Any) -> None:
        self.inner = learners.resolve(inner)
        self.name, self.fingerprint = self.inner.name, self.inner.fingerprint
        self.parameters = self.inner.parameters

    def fit(self, *rows: Any, **how: Any) -> Any:
        """Train as the learner inside does."""
        return self.inner.fit(*rows, **how)


def lived(home: Path, learner: Any, **parts: Any) -> Loop:
    """Return a life in which nothing but warm starts is asked for, on what is new."""
    warm = Challenger(select=selection.SinceLast(), start="champion")
    defaults: dict[str, Any] = {
        "challengers": [warm],
        "trigger": triggers.Every("1d"),
        "enough": 50,
        "gate": [],
    }
    made = pipeline(stream(20, 60), home, learner=learner, **(defaults | parts))
    loop = live(made, START + DAY)
    play(loop, 20)
    return loop


def trained(loop: Loop) -> list[Version]:
    return [one for one in loop.state.versions.values() if one.artifact]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_warm_starts_go_on_for_ever(name: str, tmp_path: Path) -> None:
    loop = lived(tmp_path / "home", SMALL[name])
    every = list(loop.state.versions.values())
    assert [one.name for one in every if one.state == "failed"] == []
    assert len(every) >= 15
    starts = [one.start for one in every]
    assert [i for i, start in enumerate(starts) if start == "scratch"][:3] == [0, 5, 10]
    assert [bool(one.afresh) for one in every[1:]] == [one == "scratch" for one in starts[1:]]
    first, again = every[0], every[5]
    assert again.parent is None
    assert again.snapshot.rows > every[4].snapshot.rows + first.snapshot.rows, "all rows so far"
    assert again.state != "refused"


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_training_from_scratch_between_warm_starts_is_told_and_reproduced(
    name: str, tmp_path: Path
) -> None:
    loop = lived(tmp_path / "home", SMALL[name])
    begun = [one for one in trained(loop) if one.afresh]
    assert begun
    entries = list(loop.memory.ledger.facts("churn"))
    for one in (begun[0], begun[-1]):
        assert one.afresh == f"v{int(one.name[1:]) - 1} {GROWN}"
        told = repr(Why.of("churn", loop.state, one.name, entries))
        assert f"from scratch, because {one.afresh}" in told
        again = live(loop.pipeline)
        assert reproduce(again, one.name).same
        follower = next(v for v in trained(loop) if v.parent == one.name)
        assert reproduce(again, follower.name).same
    story = Story()
    lines = [line.text for entry in entries if (line := story.line(entry)) is not None]
    assert any(f"but from scratch: {begun[0].afresh}" in text for text in lines)


@pytest.mark.parametrize("final_fit", ["all", "update"])
def test_a_last_fit_begins_afresh_as_its_winner_did(final_fit: str, tmp_path: Path) -> None:
    passes = gates.Fresher(within=0.4)
    loop = lived(tmp_path / "home", SMALL["lightgbm"], gate=passes, final_fit=final_fit)
    every = list(loop.state.versions.values())
    assert [one.name for one in every if one.state == "failed"] == []
    final = [one for one in every if one.final_of]
    winners = [loop.state.versions[one.final_of or ""] for one in final]
    pairs = [(one, was) for one, was in zip(final, winners, strict=True) if was.afresh]
    assert pairs
    for one, was in pairs:
        if final_fit == "all":
            assert (one.start, one.afresh) == ("scratch", was.afresh)
            assert one.snapshot.rows > was.snapshot.rows
        else:
            assert (one.start, one.afresh, one.parent) == ("champion", "", was.name)
        assert reproduce(live(loop.pipeline), one.name).same


def test_a_learner_that_cannot_be_asked_fails_once_and_begins_afresh(tmp_path: Path) -> None:
    loop = lived(tmp_path / "home", Silent(SMALL["lightgbm"]))
    every = list(loop.state.versions.values())
    failed = [i for i, one in enumerate(every) if one.state == "failed"]
    assert failed
    assert all(every[i + 1].afresh for i in failed if i + 1 < len(every))
    facts = [entry.fact for entry in loop.memory.ledger.facts("churn")]
    assert all(learners.DUE in one.message for one in facts if isinstance(one, TrainingFailed))
    assert every[-1].snapshot.batch >= loop.state.batch - 1


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_learner_says_when_a_model_is_full(name: str) -> None:
    from keepfit.testing.learners import rows_to_learn

    rows, learner = rows_to_learn("binary", mixed=False), learners.resolve(SMALL[name])
    model, said = None, []
    for _ in range(5):
        model = fit(SMALL[name], rows, previous=model)
        said.append(learners.full(learner, model))
    assert said == [False, False, False, False, True]
    larger = type(SMALL[name])(**SMALL[name].get_params() | {"n_estimators": 5})
    assert not learners.full(learners.resolve(larger), model), "25 are allowed of five each time"
