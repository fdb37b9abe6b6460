"""A class that comes late where nothing but warm starts is asked for: it is learnt all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from tests.worlds import DAY, START, live, pipeline, play

from keepfit import Challenger, learners, selection, triggers
from keepfit.facts import Answer, Verdict
from keepfit.loop import Loop
from keepfit.protocols import Comparison
from keepfit.registry import Version
from keepfit.reproduce import reproduce
from keepfit.results import Why

pytestmark = pytest.mark.story

DAYS, ROWS = 16, 60
LATE = 8
"""The day with which the third class comes."""

WHY = "has no place for `c`"


def history(days: int = DAYS) -> pl.DataFrame:
    """Two classes by one column, and from some day on a third by another."""
    rng = np.random.default_rng(0)
    size = days * ROWS
    x, z = rng.normal(size=(2, size))
    label = np.where(x > 0, "b", "a")
    label[(np.arange(size) >= LATE * ROWS) & (z > 0.5)] = "c"
    times = pl.datetime_range(START, START + days * DAY, DAY / ROWS, eager=True)[:size]
    return pl.DataFrame({"id": np.arange(size), "time": times, "x": x, "z": z, "label": label})


def lived(
    home: Path,
    learner: Any,
    *others: Challenger,
    update: str = "all",
    days: int = DAYS,
    **parts: Any,
) -> Loop:
    warm = Challenger(select=selection.SinceLast(), start="champion", update=update, name="warm")
    wanted = {"metric": "accuracy", "trigger": triggers.Every("2d"), "enough": 50, "gate": []}
    made = pipeline(
        history(days), home, learner=learner, challengers=[warm, *others], **(wanted | parts)
    )
    loop = live(made, START + DAY)
    play(loop, days)
    return loop


def classes(loop: Loop) -> tuple[Any, ...]:
    found: tuple[Any, ...] = loop.scorer.model(
        loop.state.versions[loop.state.champion or ""]
    ).classes
    return found


def versions(loop: Loop) -> list[Version]:
    return [one for one in loop.state.versions.values() if one.challenger == "warm"]


@pytest.mark.parametrize(
    ("learner", "update"),
    [
        (SGDClassifier(loss="log_loss"), "all"),
        (LGBMClassifier(n_estimators=4, num_leaves=7, verbosity=-1), "leaves"),
    ],
)
def test_a_class_without_a_place_is_learnt_from_scratch_and_kept(
    learner: Any, update: str, tmp_path: Path
) -> None:
    loop = lived(tmp_path / "home", learner, update=update)
    assert classes(loop) == ("a", "b", "c")
    afresh = [one for one in versions(loop) if one.afresh]
    assert len({one.turn for one in afresh}) == 1, "then warm starts go on"
    assert versions(loop)[-1].start == "champion"
    began = afresh[-1]
    before = [one.name for one in versions(loop) if one.state != "failed" and not one.afresh]
    assert began.afresh.endswith(WHY)
    assert began.afresh.split()[0] in before
    assert began.snapshot.rows > LATE * ROWS, "all rows so far"
    entries = list(loop.memory.ledger.facts("churn"))
    told = repr(Why.of("churn", loop.state, began.name, entries))
    assert f"from scratch, because {began.afresh}" in " ".join(told.split())
    assert reproduce(live(loop.pipeline), began.name).same


def test_warm_starts_leave_the_class_to_a_recipe_that_learns_it(tmp_path: Path) -> None:
    whole = Challenger(select=selection.Expanding(), name="whole")
    loop = lived(tmp_path / "home", SGDClassifier(loss="log_loss"), whole)
    assert not any(one.afresh for one in versions(loop))
    assert classes(loop) == ("a", "b", "c")


class TwoClasses:
    """A gate that lets no model pass that gives the third class a chance."""

    name = "TwoClasses()"

    def judge(self, comparison: Comparison) -> Verdict:
        scores = comparison.challenger
        more = scores.ndim == 2 and bool((scores[:, 2:] > 0).any())
        answer = Answer.REFUSE if more else Answer.PROMOTE
        return Verdict(gate=self.name, answer=answer, reason="for the test", rows=len(scores))


def tried(loop: Loop) -> list[int]:
    """Return how many warm starts came before, between and after what began afresh."""
    turns = {one.turn: bool(one.afresh) for one in versions(loop) if one.final_of is None}
    found = [0]
    for _, afresh in sorted(turns.items()):
        found = [*found, 0] if afresh else [*found[:-1], found[-1] + 1]
    return found


@pytest.mark.parametrize(
    ("learner", "gate"),
    [
        (LogisticRegression(solver="liblinear"), []),
        (SGDClassifier(loss="log_loss"), [TwoClasses()]),
    ],
    ids=["a learner of two classes", "a gate that refuses the third"],
)
def test_where_the_class_is_not_learnt_warm_starts_go_on_and_it_is_tried_ever_more_seldom(
    learner: Any, gate: list[Any], tmp_path: Path
) -> None:
    loop = lived(tmp_path / "home", learner, days=26, gate=gate)
    assert classes(loop) == ("a", "b")
    before, *between, _ = tried(loop)
    assert before >= 3
    assert between == [1, 3]
    began = max(one.turn for one in versions(loop) if one.afresh)
    champion = loop.state.versions[loop.state.champion or ""]
    assert (champion.start, champion.turn >= began - 1) == ("champion", True)
    assert champion.snapshot.unlearnt


def test_a_donor_that_does_not_know_the_class_is_no_recipe_that_learns_it(tmp_path: Path) -> None:
    learner = SGDClassifier(loss="log_loss")
    donor = pipeline(history(4), tmp_path / "donor", learner=learner, metric="accuracy", enough=50)
    play(live(donor, START + DAY), 4)
    other = Challenger(start="churn@champion", home=tmp_path / "donor", name="other")
    assert classes(lived(tmp_path / "home", learner, other)) == ("a", "b", "c")


def test_a_network_from_the_champion_gets_an_output_for_the_class(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    loop = lived(tmp_path / "home", learners.Torch(hidden=(8,), epochs=4, lr=0.02))
    assert classes(loop) == ("a", "b", "c")
    first, *rest = versions(loop)
    assert first.start == "scratch"
    assert {one.start for one in rest} == {"champion"}
    assert not any(one.afresh for one in rest)


def test_a_loss_that_was_made_for_two_classes_does_not_end_all_training(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.nets import Small

    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    loop = lived(tmp_path / "home", learners.Torch(Small, loss=loss, epochs=1, lr=0.02))
    champion = loop.state.versions[loop.state.champion or ""]
    assert champion.turn >= loop.state.turn - 1
    assert champion.snapshot.unlearnt
