"""A version trained again from its record is the same one, and what is not is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.worlds import DAY, START, live, pipeline, play, stream

from keepfit import Challenger, gates, selection, triggers
from keepfit.errors import ConfigError, VersionUnknown
from keepfit.loop import Loop
from keepfit.reproduce import reproduce

SMALL = {"n_estimators": 10, "num_leaves": 7, "verbosity": -1}


def lived(tmp_path: Path, frame: pl.DataFrame | None = None, **parts: Any) -> Loop:
    rows = stream(12, 60) if frame is None else frame
    defaults: dict[str, Any] = {"trigger": triggers.Every("4d"), "gate": [], "enough": 100}
    loop = live(pipeline(rows, tmp_path / "home", **(defaults | parts)), START + 12 * DAY)
    play(loop, 1)
    return loop


def again(loop: Loop, tmp_path: Path, **parts: Any) -> Loop:
    """Return a loop on the same home whose pipeline has other parts."""
    return live(pipeline(stream(12, 60), tmp_path / "home", **parts), START + 12 * DAY)


@pytest.mark.parametrize(
    "learner",
    [LogisticRegression(), RandomForestClassifier(5), LGBMClassifier(**SMALL)],
    ids=["linear", "forest", "boosted"],
)
def test_every_version_is_trained_again_to_the_byte(tmp_path: Path, learner: Any) -> None:
    loop = lived(tmp_path, learner=learner)
    names = list(loop.state.versions)
    assert len(names) >= 2
    before = loop.memory.ledger.seq("churn")
    for name in names:
        told = reproduce(loop, name)
        assert (told.same, told.reproduced, told.differences) == (True, True, ())
        assert told.rows == loop.state.versions[name].snapshot.rows
    assert loop.memory.ledger.seq("churn") == before
    assert "the same model, to the byte" in repr(told)


@pytest.mark.parametrize(
    "learner",
    [HistGradientBoostingClassifier(max_iter=10), RandomForestClassifier(5, min_samples_leaf=5)],
    ids=["histograms", "forest"],
)
def test_a_version_whose_leaves_learnt_is_trained_again_to_the_byte(
    tmp_path: Path, learner: Any
) -> None:
    challengers = [
        Challenger(select=selection.SinceLast(), start="champion", update="leaves"),
        Challenger(),
    ]
    loop = lived(tmp_path, learner=learner, challengers=challengers, trigger=triggers.Every("2d"))
    updated = [one.name for one in loop.state.versions.values() if one.update == "leaves"]
    assert len(updated) >= 2
    for name in updated:
        told = reproduce(loop, name)
        assert (told.same, told.reproduced, told.differences) == (True, True, ())


@pytest.mark.parametrize(
    "challenger",
    [
        Challenger(select=selection.Sliding("5d")),
        Challenger(select=selection.Replay(new=0.5, buffer=200)),
        Challenger(select=selection.Relevant()),
        Challenger(start="champion", update="leaves"),
    ],
    ids=repr,
)
def test_rows_and_starts_are_those_of_then(tmp_path: Path, challenger: Challenger) -> None:
    loop = lived(tmp_path, learner=LGBMClassifier(**SMALL), challengers=[challenger])
    newest = list(loop.state.versions)[-1]
    assert newest != "v1"
    # Rows that came, and labels corrected, since then change nothing.
    assert reproduce(
        again(loop, tmp_path, learner=LGBMClassifier(**SMALL), challengers=[challenger]), newest
    ).same


def test_a_final_fit_takes_the_rows_of_its_recipe(tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "challengers": [Challenger(select=selection.Sliding("3d"))],
        "gate": [gates.NoWorse(within=0.5, min_blocks=2)],
        "final_fit": "all",
    }
    loop = lived(tmp_path, stream(12, 200), **parts)
    finals = [name for name, one in loop.state.versions.items() if one.final_of]
    assert finals
    fresh = live(pipeline(stream(12, 200), tmp_path / "home", **parts), START + 12 * DAY)
    assert reproduce(fresh, finals[-1]).same


def test_what_differs_is_told(tmp_path: Path) -> None:
    loop = lived(tmp_path, learner=LogisticRegression())
    other = again(loop, tmp_path, learner=LogisticRegression(C=0.01))
    told = reproduce(other, "v1")
    assert not told.same
    assert not told.reproduced
    assert told.furthest is not None
    assert told.furthest > 0
    assert told.compared == told.rows
    parts = {(one.part, one.name): (one.a, one.b) for one in told.differences}
    assert parts["parameters", "C"] == (1.0, 0.01)
    assert ("code", "fingerprint") in parts
    assert "parameters: C was 1.0, is 0.01" in repr(told)
    assert told.to_dict()["reproduced"] is False
    assert "C" in told.to_frame()["name"].to_list()


def test_a_model_that_is_gone_is_trained_again_to_the_byte(tmp_path: Path) -> None:
    loop = lived(tmp_path)
    kept = tmp_path / "home" / "artifacts" / loop.state.versions["v1"].artifact
    kept.unlink()
    assert reproduce(again(loop, tmp_path), "v1").same


def test_a_column_that_is_left_out_by_now_is_told(tmp_path: Path) -> None:
    told = reproduce(again(lived(tmp_path), tmp_path, exclude=["y"]), "v1")
    assert (told.reproduced, told.compared, told.furthest) == (False, 0, None)
    assert ("column y", "there", None) in [(one.name, one.a, one.b) for one in told.differences]
    assert "the one kept answers none of the rows" in repr(told)


def test_packages_of_another_version_are_told(tmp_path: Path) -> None:
    loop = lived(tmp_path)
    version = loop.state.versions["v1"]
    version.packages = {**version.packages, "scikit-learn": "0.1"}
    told = reproduce(loop, "v1")
    assert told.same
    [one] = told.differences
    assert (one.part, one.name, one.a) == ("packages", "scikit-learn", "0.1")


def test_a_package_that_was_not_recorded_then_is_none_that_has_changed(tmp_path: Path) -> None:
    loop = lived(tmp_path)
    version = loop.state.versions["v1"]
    version.packages = {name: one for name, one in version.packages.items() if name != "scipy"}
    assert reproduce(loop, "v1").differences == ()


class Within(ClassifierMixin, BaseEstimator):
    """An estimator of the user's own that is made with another package inside."""

    def fit(self, rows: Any, labels: Any) -> Within:
        import lightgbm

        self.model = lightgbm.LGBMClassifier(**SMALL).fit(rows, labels)
        self.classes_ = self.model.classes_
        return self

    def predict_proba(self, rows: Any) -> Any:
        return self.model.predict_proba(rows)

    def predict(self, rows: Any) -> Any:
        return self.model.predict(rows)


@pytest.mark.parametrize(
    "learner",
    [make_pipeline(StandardScaler(), LGBMClassifier(**SMALL)), Within()],
    ids=["a step", "in one's own code"],
)
def test_packages_inside_an_estimator_are_recorded_too(tmp_path: Path, learner: Any) -> None:
    loop = lived(tmp_path, stream(12, 60).drop("kind"), learner=learner)
    version = loop.state.versions["v1"]
    assert {"lightgbm", "scikit-learn", "scipy", "python"} <= set(version.packages)
    version.packages = {**version.packages, "lightgbm": "0.1"}
    [one] = reproduce(loop, "v1").differences
    assert (one.part, one.name, one.a) == ("packages", "lightgbm", "0.1")


def test_numbers_are_compared_too(tmp_path: Path) -> None:
    frame = stream(12, 60).with_columns(label=pl.col("x") * 2 + pl.col("y"))
    loop = lived(tmp_path, frame, learner=LGBMRegressor(**SMALL), metric="mae")
    assert reproduce(loop, "champion").same
    other = live(
        pipeline(
            frame,
            tmp_path / "home",
            learner=LGBMRegressor(**{**SMALL, "num_leaves": 4}),
            metric="mae",
        ),
        START + 12 * DAY,
    )
    told = reproduce(other, "champion")
    assert told.changed is not None
    assert told.changed > 0.5


def test_what_cannot_be_trained_again_says_why(tmp_path: Path) -> None:
    loop = lived(tmp_path)
    with pytest.raises(VersionUnknown):
        reproduce(loop, "v99")
    other = again(loop, tmp_path, challengers=[Challenger(select=selection.Sliding("2d"))])
    with pytest.raises(ConfigError, match="expected the recipe 'Expanding' of v1"):
        reproduce(other, "v1")
