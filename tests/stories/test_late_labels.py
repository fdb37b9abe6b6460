"""Labels of which one class comes early: only rows old enough to be complete teach and judge."""

from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from tests.worlds import DAY, START, live

from keepfit import Challenger, Pipeline, executors, gates, maturity, selection, sources, triggers
from keepfit.batch import TIME
from keepfit.facts import Judged, TrainingStarted
from keepfit.lake.fresh import Fresh
from keepfit.ledger import Ledger
from keepfit.preview import preview

DAYS, ROWS = 84, 80
LATE = timedelta(days=14)

SINCE = Challenger(select=selection.SinceLast(), start="champion", update="leaves")
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "no gate": {"gate": [], "challengers": [Challenger()], "trigger": triggers.Every("7d")},
    "since last": {
        "gate": [gates.NoWorse()],
        "challengers": [Challenger(), SINCE],
        "trigger": triggers.Every("7d"),
    },
}


def churn(early: bool, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows, and labels: a yes within days where it is early, a no after two weeks."""
    rng = np.random.default_rng(seed)
    size = DAYS * ROWS
    x = rng.normal(size=(size, 2))
    label = (rng.random(size) < 1 / (1 + np.exp(1.4 - 1.5 * x[:, 0]))).astype(np.int64)
    delay = np.where((label == 1) & early, rng.uniform(0, 10, size), LATE.days)
    day = np.arange(size) / ROWS
    names = [f"r{place}" for place in range(size)]
    at, told = ([START + float(one) * DAY for one in days] for days in (day, day + delay))
    rows = pl.DataFrame({"id": names, "time": at, "a": x[:, 0], "b": x[:, 1]})
    return rows, pl.DataFrame({"id": names, "told": told, "label": label}).sort("told")


def made(home: Path, early: bool, **parts: Any) -> Pipeline:
    rows, labels = churn(early)
    return Pipeline(
        "late",
        sources.Frame(rows, id="id", time="time", label_delay=LATE),
        LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbosity=-1),
        labels=sources.Frame(labels, id="id", time="told", label="label"),
        metric="log_loss",
        every="7d",
        home=home,
        executor=executors.Inline(),
        **parts,
    )


@pytest.mark.parametrize("parts", RECIPES.values(), ids=RECIPES)
def test_early_labels_of_one_class_neither_teach_nor_judge(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    values = []
    for early in (True, False):
        home = tmp_path / str(early)
        pipeline = made(home, early, **parts)
        values.append(pipeline.backtest(compare=False)["late"].value)
        pipeline.close()
        ledger = Ledger(home / "backtest" / "ledger.db")
        found = [(entry.at, entry.fact) for entry in ledger.facts("late")]
        ledger.close()
        begun = [(at, fact) for at, fact in found if isinstance(fact, TrainingStarted)]
        assert len(begun) > 4
        assert all(fact.snapshot.to <= at - LATE for at, fact in begun)
        if parts.get("gate") != []:
            assert any(isinstance(fact, Judged) for _, fact in found)
    # A model of the early labels says yes to most rows: a log loss above 0.8.
    assert values[0] == pytest.approx(values[1], abs=0.02)
    assert values[1] < 0.55


def test_what_is_counted_is_what_is_read_and_a_training_reads_the_same_rows_again(
    tmp_path: Path,
) -> None:
    pipeline = made(tmp_path, early=True, trigger=triggers.Every("7d"), gate=[])
    loop = live(pipeline, START + 42 * DAY)
    for _ in range(6):
        loop.step()
    now = loop.clock.now()
    assert maturity.horizon(loop, now) == now - LATE
    rows = loop.labelled(now)
    assert rows.get_column(TIME).max() <= now - LATE
    assert maturity.count(loop, now, None) == rows.height == 28 * ROWS + 1
    later = START + 20 * DAY
    assert maturity.count(loop, now, later) == loop.labelled(now, after=later).height == 8 * ROWS
    assert maturity.count(loop, now, now - DAY) == 0
    version = loop.state.version("champion")
    read = loop.turns.rows_of(version)
    loop.turns._rows.clear()
    assert loop.turns.rows_of(version).equals(read)
    pipeline.close()


def lagging(lag: Any, home: Path, trigger: Any = None, **roles: Any) -> Pipeline:
    """Return a pipeline over rows whose labels come after a lag, in days, given their labels."""
    rows, labels = churn(early=True)
    label = labels.sort(pl.col("id").str.slice(1).cast(pl.Int64)).get_column("label").to_numpy()
    rng = np.random.default_rng(1)
    known = [None if np.isinf(one) else float(one) * DAY for one in lag(label, rng)]
    told = rows.get_column("time") + pl.Series(known, dtype=pl.Duration("us"))
    came = pl.when(told.is_not_null()).then(pl.Series(label)).alias("label")
    frame = rows.with_columns(came, told.alias("told"))
    return Pipeline(
        "lagging",
        sources.Frame(frame, id="id", time="time", label="label", known_at="told", **roles),
        LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1),
        metric="log_loss",
        challengers=[Challenger()],
        trigger=triggers.Every("7d") if trigger is None else trigger,
        gate=[],
        every="7d",
        home=home,
        executor=executors.Inline(),
    )


def few_never(label: Any, rng: np.random.Generator) -> Any:
    """Labels that come at once, but for one in fifty."""
    return np.where(rng.random(label.size) < 0.02, np.inf, 0)


def within_three(label: Any, rng: np.random.Generator) -> Any:
    """Labels that come within three days, those of one class at once; one in fifty never does."""
    late = np.where(label == 1, rng.uniform(0, 3, label.size), 0)
    return np.where(rng.random(label.size) < 0.02, np.inf, late)


@pytest.mark.parametrize(
    ("lag", "days"),
    [(lambda label, _: label * 0, 0), (lambda label, _: label * 0 + 2, 2), (few_never, 0)],
    ids=["at once", "two days", "at once or never"],
)
def test_labels_that_come_sooner_than_stated_teach_as_soon_as_they_are_complete(
    tmp_path: Path, lag: Any, days: int
) -> None:
    pipeline = lagging(lag, tmp_path, label_delay=LATE)
    pipeline.backtest(compare=False)
    pipeline.close()
    ages = newest(tmp_path)[4:-1]  # the last step lies after the last row
    assert len(ages) > 4
    assert ages == pytest.approx([days] * len(ages), abs=0.7)


def newest(home: Path) -> list[float]:
    """Return how many days old the newest row was that each training of a backtest learnt."""
    ledger = Ledger(home / "backtest" / "ledger.db")
    found = [(entry.at, entry.fact) for entry in ledger.facts("lagging")]
    ledger.close()
    begun = [(at, fact) for at, fact in found if isinstance(fact, TrainingStarted)]
    return [(at - fact.snapshot.to) / DAY for at, fact in begun]


def test_a_live_loop_counts_what_it_reads_where_one_class_comes_later(tmp_path: Path) -> None:
    loop = live(lagging(within_three, tmp_path, label_delay=LATE), START)
    for _ in range(50):
        loop.clock.sleep(DAY)
        loop.step()
    now = loop.clock.now()
    rows = loop.labelled(now)
    # What is read once a day is known up to a day later.
    assert DAY * 2.5 < now - maturity.horizon(loop, now) < DAY * 4.5
    assert maturity.count(loop, now, None) == rows.height
    assert rows.get_column(TIME).max() <= maturity.horizon(loop, now)
    assert loop.turns.rows_of(loop.state.version("champion")).height
    loop.pipeline.close()


def test_a_moment_may_be_told_in_any_time_zone(tmp_path: Path) -> None:
    made = lagging(within_three, tmp_path, label_delay=LATE)
    loop, east = made.loop(), timezone(timedelta(hours=5))
    for day in range(0, 42, 7):
        made.step((START + day * DAY).astimezone(east))
    assert loop.state.champion is not None
    made.close()


def test_what_a_step_costs_does_not_grow_with_the_rows_since_the_last_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    scan = Fresh._take_in

    def counted(self: Any, versions: pl.DataFrame, labels: pl.DataFrame) -> None:
        read.append(versions.height)
        scan(self, versions, labels)

    monkeypatch.setattr(Fresh, "_take_in", counted)
    made = lagging(within_three, tmp_path, label_delay=LATE, trigger=triggers.OnEvent("told"))
    loop = live(made)
    for _ in range(50):
        loop.clock.sleep(DAY)
        loop.step()
    assert loop.state.champion is not None
    # Each row when it comes, and once more when its label does.
    assert max(read[5:]) <= 5 * ROWS
    made.close()


UNEVEN = "labels of 1 come sooner than those of 0: half of them within "


def warned(home: Path) -> list[str]:
    ledger = Ledger(home / "backtest" / "ledger.db")
    found = [entry.fact for entry in ledger.facts("lagging", kind="Found")]
    ledger.close()
    return [f.message for fact in found for f in fact.findings if f.check == "labels"]


def early_yes(label: Any, rng: np.random.Generator) -> Any:
    return np.where(label == 1, rng.uniform(0, 10, label.size), 14)


def test_labels_of_one_class_that_come_early_are_told_of_where_no_delay_is_stated(
    tmp_path: Path,
) -> None:
    pipeline = lagging(early_yes, tmp_path)
    pipeline.backtest(compare=False)
    told = warned(tmp_path)
    # Whenever the batches have doubled, from when there are some labels of either.
    assert 1 <= len(told) <= 3
    assert all(one.startswith(UNEVEN) for one in told)
    loop = live(pipeline, START)
    for _ in range(5):
        loop.clock.sleep(7 * DAY)
        loop.step()
    for days in (0, 7):  # without new rows, and with some
        loop.clock.sleep(days * DAY)
        found = [one for one in preview(loop).findings if one.check == "labels"]
        assert len(found) == 1
        assert found[0].message.startswith(UNEVEN)
        assert "label_delay" in found[0].hint
    pipeline.close()


def any_time(label: Any, rng: np.random.Generator) -> Any:
    return rng.uniform(0, 14, label.size)


@pytest.mark.parametrize(
    ("lag", "roles"),
    [(early_yes, {"label_delay": LATE}), (any_time, {}), (lambda label, _: label * 0 + 9, {})],
    ids=["stated", "all alike", "fixed"],
)
def test_nothing_is_told_of_labels_where_a_delay_is_stated_or_no_class_comes_early(
    tmp_path: Path, lag: Any, roles: dict[str, Any]
) -> None:
    pipeline = lagging(lag, tmp_path, **roles)
    pipeline.backtest(compare=False)
    assert warned(tmp_path) == []
    assert not [one for one in pipeline.check().findings if one.check == "labels"]
    pipeline.close()


def test_without_a_stated_delay_every_known_label_counts(tmp_path: Path) -> None:
    rows, labels = churn(early=True)
    pipeline = Pipeline(
        "told",
        sources.Frame(rows, id="id", time="time"),
        LGBMClassifier(n_estimators=5, n_jobs=1, verbosity=-1),
        labels=sources.Frame(labels, id="id", time="told", label="label"),
        every="7d",
        home=tmp_path,
        executor=executors.Inline(),
    )
    loop = live(pipeline, START + 42 * DAY)
    for _ in range(6):
        loop.step()
    now = loop.clock.now()
    assert maturity.horizon(loop, now) == now
    known = labels.filter(pl.col("told") <= now).height
    assert maturity.count(loop, now, None) == loop.labelled(now).height == known
    pipeline.close()
