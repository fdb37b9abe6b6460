"""One wrong label among many: training goes on without it, and a real new class is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from lightgbm import LGBMClassifier
from tests.worlds import DAY, START, live, pipeline, play, stream

from keepfit import Challenger, Pipeline, selection, triggers
from keepfit.facts import Entry, Found, Scored, TrainingFailed, TrainingStarted
from keepfit.results import Status


def lived(frame: pl.DataFrame, home: Path, **parts: Any) -> tuple[Pipeline, list[Entry]]:
    made = pipeline(
        frame,
        home,
        learner=LGBMClassifier(n_estimators=10, verbose=-1),
        metric="accuracy",
        every="5d",
        trigger=triggers.AfterRows(400),
        challengers=[
            Challenger(select=selection.SinceLast(), start="champion", update="leaves"),
            Challenger(select=selection.Expanding()),
        ],
        **parts,
    )
    loop = live(made, START)
    entries = play(loop, 11, every=5 * DAY)
    return made, entries


def of(entries: list[Entry], kind: type) -> list[Any]:
    return [entry.fact for entry in entries if isinstance(entry.fact, kind)]


def test_a_wrong_label_stops_no_training_and_is_told(tmp_path: Path) -> None:
    frame = stream(60)
    wrong = frame.row(2_222, named=True)["id"]
    frame = frame.with_columns(
        label=pl.when(pl.col("id") == wrong)
        .then(pl.lit(7, frame.schema["label"]))
        .otherwise("label")
    )
    made, entries = lived(frame, tmp_path / "home")
    assert not [one for one in of(entries, TrainingFailed) if one.reason == "raised"]
    started = of(entries, TrainingStarted)
    without = [fact for fact in started if fact.snapshot.unlearnt]
    assert without
    assert all(fact.snapshot.unlearnt == {"7": 1} for fact in without)
    warned = [
        one.message
        for found in of(entries, Found)
        for one in found.findings
        if one.check == "Classes"
    ]
    told = [fact.unlearnt for fact in of(entries, Scored) if fact.unlearnt]
    assert any("`7` is none of the champion's 2 classes" in one for one in warned)
    assert told == [{"7": 1}]
    state = made.loop().state
    assert state.versions[state.champion or ""].state == "champion"
    status = Status.of("churn", state)
    assert status.condition == "healthy"
    assert "left out 1 row whose label is no class yet: 1 × `7`" in repr(status)
    newest = state.versions[without[-1].version]
    again = made.loop().turns.rows_of(newest)
    assert again.height == newest.snapshot.rows
    made.close()


def test_a_new_class_that_grows_is_learnt_from_scratch(tmp_path: Path) -> None:
    frame = stream(60)
    late = (pl.col("time") >= START + 25 * DAY) & (pl.col("id").hash(seed=1) % 4 == 0)
    frame = frame.with_columns(
        label=pl.when(late).then(pl.lit(2, frame.schema["label"])).otherwise("label")
    )
    made, entries = lived(frame, tmp_path / "home")
    assert not [one for one in of(entries, TrainingFailed) if one.reason == "raised"]
    loop = made.loop()
    knows = [
        loop.scorer.model(version).classes
        for version in loop.state.versions.values()
        if version.artifact
    ]
    assert knows[0] == (0, 1)
    assert (0, 1, 2) in knows
    assert loop.scorer.model(loop.state.versions[loop.state.champion or ""]).classes == (0, 1, 2)
    made.close()
