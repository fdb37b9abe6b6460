"""The live loop on real stores: files that come, labels that come late, people's hands."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.worlds import DAY, START, kinds, live, pipeline, play, stream

from keepfit import Challenger, checks, errors, gates, load, sources, triggers
from keepfit.facts import Arrived, Promoted, Scored, TrainingStarted
from keepfit.loop import Step

ROLES = {"id": "id", "time": "time", "label": "label"}


def drop(folder: Path, frame: pl.DataFrame, name: str) -> None:
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / f"{name}.parquet")


def days(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    return frame.filter(
        (pl.col("time") >= START + first * DAY) & (pl.col("time") < START + last * DAY)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    drop(tmp_path / "rows", days(stream(40), 0, 10), "first")
    return tmp_path / "rows"


def test_a_backlog_is_stepped_in_cadence_order(folder: Path, tmp_path: Path) -> None:
    loop = live(
        pipeline(
            sources.Parquet(str(folder), **ROLES),
            tmp_path / "home",
            trigger=triggers.Every("30d"),
        ),
        START + 20 * DAY,
    )
    entries = play(loop, 1)
    arrived = [entry.fact for entry in entries if isinstance(entry.fact, Arrived)]
    assert [fact.rows for fact in arrived] == [100] * 10
    assert sum(isinstance(entry.fact, Promoted) for entry in entries) == 1


def test_a_step_with_nothing_new_writes_nothing(folder: Path, tmp_path: Path) -> None:
    loop = live(
        pipeline(sources.Parquet(str(folder), **ROLES), tmp_path / "home"), START + 20 * DAY
    )
    play(loop, 1)
    before = loop.state.seq
    for _ in range(3):
        assert loop.step().idle
    assert loop.memory.ledger.seq("churn") == before


def test_rows_that_never_cease_to_come_wait_for_the_next_look(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pipeline(sources.Parquet(str(folder), **ROLES), tmp_path / "home")
    loop = live(made, START + 40 * DAY)
    loop.run(once=True, poll=DAY)
    step, steps, looks = loop.step, list[Step](), list[int]()

    def stepped() -> Step:
        assert len(steps) < 30, "it rests"
        rows = days(stream(40), 10 + len(steps), 11 + len(steps))
        drop(folder, rows.head(10), f"more-{len(steps)}")
        steps.append(step())
        return steps[-1]

    def sleep(length: timedelta) -> None:
        assert length == timedelta(minutes=1)
        looks.append(len(steps))
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "step", stepped)
    monkeypatch.setattr(loop.clock, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        loop.run(once=False, poll=timedelta(minutes=1))
    assert all(kinds(list(one.entries)).count("Arrived") == 1 for one in steps)
    assert looks == [2, 4, 6], "what came is followed up, once"


def test_a_new_process_goes_on_where_the_old_one_stopped(folder: Path, tmp_path: Path) -> None:
    frame = stream(40)
    play(
        live(pipeline(sources.Parquet(str(folder), **ROLES), tmp_path / "home"), START + 20 * DAY),
        1,
    )
    drop(folder, days(frame, 10, 12), "second")
    loop = live(
        pipeline(sources.Parquet(str(folder), **ROLES), tmp_path / "home"), START + 30 * DAY
    )
    entries = play(loop, 1)
    arrived = [entry.fact for entry in entries if isinstance(entry.fact, Arrived)]
    assert [fact.batch for fact in arrived] == [11, 12]
    assert kinds(entries).count("Scored") >= 2


def test_labels_that_come_later_by_id_are_scored_and_trained_on(tmp_path: Path) -> None:
    frame = stream(20)
    drop(tmp_path / "rows", days(frame, 0, 10).drop("label"), "rows")
    labels = tmp_path / "labels"
    known = frame.select("id", "label", known=pl.col("time") + 2 * DAY)
    drop(labels, known.head(400), "first")
    made = pipeline(
        sources.Parquet(str(tmp_path / "rows"), id="id", time="time"),
        tmp_path / "home",
        labels=sources.Parquet(str(labels), id="id", time="known", label="label"),
        trigger=triggers.Every("30d"),
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    assert loop.state.champion == "v1"
    trained = loop.state.versions["v1"].snapshot
    assert trained.rows <= 400
    before = loop.state.counts.labels
    drop(labels, known.slice(400, 600), "second")
    entries = play(loop, 1)
    assert loop.state.counts.labels == before + 600
    assert [entry.fact.n for entry in entries if isinstance(entry.fact, Scored)]


def test_a_person_promotes_and_rolls_back_and_the_reason_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    made = pipeline(
        sources.Parquet(str(folder), **ROLES),
        tmp_path / "home",
        trigger=triggers.Every("3d"),
        gate=[],
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    champion, previous = loop.state.champion, loop.state.previous
    assert previous is not None
    assert made.rollback(reason="the new one is odd", by="ann") == previous
    assert loop.state.champion == previous
    assert loop.state.versions[champion].state == "rolled back"
    fact = next(e.fact for e in loop.memory.ledger.facts("churn", kind="RolledBack"))
    assert (fact.by, fact.reason) == ("ann", "the new one is odd")
    assert fact.rows > 0
    with pytest.raises(errors.RollbackFailed):
        made.rollback(reason="again")
    made.promote(champion, reason="it was not odd", by="ann")
    assert loop.state.champion == champion
    with pytest.raises(errors.VersionUnknown, match="v99"):
        made.promote("v99", reason="typing")
    with pytest.raises(errors.ConfigError, match="reason"):
        made.promote("v1", reason=" ")


def test_a_refused_challenger_is_promoted_only_with_force(folder: Path, tmp_path: Path) -> None:
    made = pipeline(
        sources.Parquet(str(folder), **ROLES),
        tmp_path / "home",
        trigger=triggers.Every("3d"),
        gate=[gates.AtLeast(0.9999)],
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    refused = next(v.name for v in loop.state.versions.values() if v.judged is not None)
    with pytest.raises(errors.GateRefused, match="AtLeast|At least") as refusal:
        made.promote(refused, reason="I know better")
    assert "--force" in (refusal.value.hint or "")
    made.promote(refused, reason="I know better", force=True)
    assert loop.state.champion == refused


def test_a_paused_loop_collects_and_scores_and_does_not_train(folder: Path, tmp_path: Path) -> None:
    frame = stream(40)
    made = pipeline(
        sources.Parquet(str(folder), **ROLES), tmp_path / "home", trigger=triggers.Every("2d")
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    made.pause(reason="audit", by="bo")
    drop(folder, days(frame, 10, 16), "second")
    found = kinds(play(loop, 1))
    assert "Scored" in found
    assert "TrainingStarted" not in found
    made.resume(reason="audit over", by="bo")
    assert "TrainingStarted" in kinds(play(loop, 1))


def test_a_quarantined_batch_can_be_accepted(folder: Path, tmp_path: Path) -> None:
    frame = stream(40)
    made = pipeline(
        sources.Parquet(str(folder), **ROLES),
        tmp_path / "home",
        checks=[checks.Nulls(at_most=0.5)],
        trigger=triggers.Every("30d"),
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    drop(folder, days(frame, 10, 11).with_columns(x=pl.lit(None, dtype=pl.Float64)), "broken")
    entries = play(loop, 1)
    assert "Quarantined" in kinds(entries)
    assert loop.state.excluded == (11,)
    with pytest.raises(errors.VersionUnknown, match="quarantine"):
        made.accept(3, reason="typing")
    made.accept(reason="the sensor was off, and that is known")
    assert loop.refold().excluded == ()
    entries = play(loop, 1)
    assert [e.fact.batch for e in entries if isinstance(e.fact, Scored)] == [11]


def test_an_event_from_outside_trains(folder: Path, tmp_path: Path) -> None:
    made = pipeline(
        sources.Parquet(str(folder), **ROLES),
        tmp_path / "home",
        trigger=triggers.OnEvent("release"),
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    drop(folder, days(stream(40), 10, 14), "second")
    play(loop, 1)
    assert len(loop.state.versions) == 1
    made.signal("holiday")
    assert "TrainingStarted" not in kinds(play(loop, 1))
    made.signal("release", number=7)
    assert "TrainingStarted" in kinds(play(loop, 1))


def test_a_person_trains_now_and_the_gate_still_judges(folder: Path, tmp_path: Path) -> None:
    made = pipeline(
        sources.Parquet(str(folder), **ROLES), tmp_path / "home", trigger=triggers.OnEvent()
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    made._live = loop
    drop(folder, days(stream(40), 10, 20), "second")
    play(loop, 1)
    step = made.train(reason="new region opened", by="ann")
    started = [entry.fact for entry in step.entries if isinstance(entry.fact, TrainingStarted)]
    assert len(started) == 1
    assert "Judged" in kinds(list(step.entries))


def test_two_loops_on_one_home_never_have_two_champions(folder: Path, tmp_path: Path) -> None:
    loops = [
        live(
            pipeline(
                sources.Parquet(str(folder), **ROLES),
                tmp_path / "home",
                trigger=triggers.Every("2d"),
            ),
            START + 20 * DAY,
        )
        for _ in range(2)
    ]
    for _ in range(40):
        for loop in loops:
            loop.step()
    states = [loop.refold() for loop in loops]
    assert states[0].dumps() == states[1].dumps()
    arrived = [e.fact for e in loops[0].memory.ledger.facts("churn", kind="Arrived")]
    assert sum(fact.rows for fact in arrived) == 1000
    champions = [v.name for v in states[0].versions.values() if v.state == "champion"]
    assert champions == [states[0].champion]


def test_the_champion_answers_outside_the_loop(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(errors.ConfigError, match="home"):
        load("churn@champion", home=home)
    loop = live(pipeline(sources.Parquet(str(folder), **ROLES), home), START + 20 * DAY)
    play(loop, 1)
    rows = days(stream(40), 10, 11)
    said = load("churn@champion", home=home).predict(rows)
    assert said.columns == ["prediction", "probability"]
    assert said.height == rows.height
    assert (said["prediction"] == rows["label"]).mean() > 0.8
    assert load("churn", home=home).predict(rows.to_pandas()).equals(said)
    with pytest.raises(errors.VersionUnknown, match="churn"):
        load("chrun@champion", home=home)
    with pytest.raises(errors.SchemaMismatch, match="x"):
        load("churn", home=home).predict(rows.drop("x"))


def test_the_first_version_needs_enough_labels(tmp_path: Path) -> None:
    drop(tmp_path / "rows", stream(1, 50), "few")
    made = pipeline(
        sources.Parquet(str(tmp_path / "rows"), **ROLES),
        tmp_path / "home",
        challengers=[Challenger()],
    )
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    assert loop.state.champion is None
    assert loop.state.last_decision is not None
    assert "50" in loop.state.last_decision.decision.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop("y"), "y"),
        (lambda rows: rows.with_columns(pl.col("y").cast(pl.String)), "String"),
    ],
)
def test_a_column_that_goes_or_turns_to_text_is_blocked_until_a_person_accepts_it(
    change, said: str, folder: Path, tmp_path: Path
) -> None:
    made = pipeline(
        sources.Parquet(str(folder), **ROLES), tmp_path / "home", checks=[checks.Schema()]
    )
    play(live(made, START + 20 * DAY), 1)
    drop(folder, change(days(stream(40), 10, 11)), "second")
    loop = live(made, START + 20 * DAY)
    play(loop, 1)
    quarantined = [
        e.fact for e in loop.memory.ledger.facts("churn") if e.fact.kind == "Quarantined"
    ]
    assert [fact.batch for fact in quarantined] == [11]
    assert "`y`" in quarantined[0].reason
    assert said in quarantined[0].reason
    loop.pipeline.accept(reason="the source changed", schema=True)
    drop(folder, change(days(stream(40), 11, 13)), "third")
    again = live(made, START + 20 * DAY)
    play(again, 1)
    assert again.state.excluded == (11,)
    assert again.state.let_in[-1].batch == 13
