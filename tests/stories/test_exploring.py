"""Labels exist only for what passes: what a share let through at random is worth, on a clock."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from scipy.stats import binomtest
from sklearn.neighbors import KNeighborsClassifier
from tests.servers import micro
from tests.stories.test_serving import Home, Server, workers_of
from tests.waits import until
from tests.worlds import DAY, START, MovedClock, pipeline

from keepfit import Challenger, Explore, learners, selection, sources, triggers
from keepfit.explore import BY_ITSELF, Draws
from keepfit.facts import Arrived, DetectorAdvanced, Fact, Probed, Scored
from keepfit.journal import ANSWER, LABEL, PASSAGE, Journal, New, Writer, journal_of
from keepfit.landing import served
from keepfit.loop import Loop

CUT, SHARE, PER_DAY = 0.5, 0.2, 300
BEFORE, MOVED, DAYS = 8, 12, 34
ROLES = {"id": "id", "time": "time", "label": "bad", "label_delay": "1d"}


def day(number: int) -> pl.DataFrame:
    """Return a day of loans: bad ones have a high x, until from one day on z makes up for it."""
    rng = np.random.default_rng(number)
    x, z = rng.normal(size=(2, PER_DAY))
    risky = (x > 0) & ((z < 0) | (number < MOVED))
    bad = rng.random(PER_DAY) < np.where(risky, 0.85, 0.1)
    at = START + number * DAY
    return pl.DataFrame(
        {
            "id": number * PER_DAY + np.arange(PER_DAY),
            "time": [at + i * timedelta(seconds=60) for i in range(PER_DAY)],
            "x": x,
            "z": z,
            "bad": bad.astype(int),
        }
    )


@dataclass
class Lender:
    """Lends by the champion's scores, and learns of a loan only that it made how it ended."""

    folder: Path
    explore: Explore | None
    trigger: Any = field(default_factory=lambda: triggers.Every("4d"))
    facts: list[Fact] = field(default_factory=list)
    answered: list[pl.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = self.folder / "rows"
        rows.mkdir(parents=True)
        pl.concat(map(day, range(BEFORE))).write_parquet(rows / "before.parquet")
        made = pipeline(
            sources.Parquet(str(rows), **ROLES),
            self.folder / "home",
            metric="brier",
            learner=LGBMClassifier(n_estimators=30, num_leaves=7, verbosity=-1),
            challengers=[Challenger(select=selection.Sliding("10d"))],
            trigger=self.trigger,
            enough=1,
            explore=self.explore,
        )
        memory, self.clock = made.memory(), MovedClock(START + BEFORE * DAY)
        self.loop = Loop(made, memory, self.clock, **served(made, memory))
        self.draws = None
        if self.explore is not None:
            self.draws = Draws(self.explore, made.name, b"a secret of this story")
        self.steps()

    def live(self, to: int = DAYS) -> None:
        """Lend day by day."""
        writer = Writer(journal_of(self.folder / "home", "churn"))
        owed: list[New] = []
        for number in range(BEFORE, to):
            entries, later = self.lend(number)
            writer.write([*entries, *owed])
            owed = later
            self.clock.sleep(DAY)
            self.steps()
        writer.close()

    def lend(self, number: int) -> tuple[list[New], list[New]]:
        """Return a day's answers, and the labels that come of them a day later."""
        rows, at = day(number), micro(START + number * DAY)
        version = self.loop.state.versions[self.loop.state.champion or ""]
        scores = self.loop.scorer.model(version).predict(rows).tolist()
        entries: list[New] = []
        owed: list[New] = []
        passed = []
        for row, score in zip(rows.to_dicts(), scores, strict=True):
            id_, bad = row.pop("id"), row.pop("bad")
            body = msgspec.json.encode(row)
            entries.append(New(ANSWER, id_, at, version.name, score, body))
            passage = BY_ITSELF if self.draws is None else self.draws.of(id_, score)
            if passage is not BY_ITSELF:
                told = b"1" if passage.passed else b"0"
                entries.append(New(PASSAGE, id_, at, None, passage.probability, told))
            passed.append(score < CUT if self.draws is None else passage.passed)
            if passed[-1]:
                label = str(bad).encode()
                owed.append(
                    New(LABEL, id_, at + micro(START + DAY) - micro(START), None, None, label)
                )
        self.answered.append(rows.with_columns(score=pl.Series(scores), passed=pl.Series(passed)))
        return entries, owed

    def steps(self) -> None:
        while True:
            step = self.loop.step()
            self.facts += [entry.fact for entry in step.entries]  # type: ignore[misc]
            if not step.backlog and step.idle:
                return


@pytest.fixture(scope="module")
def exploring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    lender = Lender(tmp_path_factory.mktemp("exploring"), Explore(SHARE, passes_below=CUT))
    lender.live()
    yield lender
    lender.loop.pipeline.close()


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    lender = Lender(tmp_path_factory.mktemp("blind"), None)
    lender.live()
    yield lender
    lender.loop.pipeline.close()


def made_up_for(lender: Lender) -> pl.DataFrame:
    """Return the latest days' rows that are good now, and were bad."""
    return pl.concat(lender.answered[-5:]).filter((pl.col("x") > 0.2) & (pl.col("z") > 0.2))


def losses(lender: Lender, since: int) -> pl.DataFrame:
    """Return the loss of each day from one on: over all loans, and as the loop scored it."""
    told = {fact.from_: fact.value for fact in lender.facts if isinstance(fact, Scored)}
    days = pl.DataFrame(
        {
            "whole": float(((rows["score"] - rows["bad"]) ** 2).mean()),  # type: ignore[arg-type]
            "told": told.get(rows["time"][0]),
        }
        for rows in lender.answered
        if rows["time"][0] >= START + since * DAY
    )
    return days.drop_nulls()


@pytest.mark.story
def test_who_never_sees_what_it_stops_stays_wrong_about_it_and_does_not_know(
    blind: Lender,
) -> None:
    stopped = made_up_for(blind)
    assert stopped.get_column("bad").mean() < 0.2  # type: ignore[operator]
    assert stopped.get_column("score").mean() > 0.6  # type: ignore[operator]
    days = losses(blind, MOVED)
    assert days.height > 15
    assert (days["whole"] > 1.5 * days["told"]).mean() > 0.9  # type: ignore[operator]


@pytest.mark.story
def test_who_lets_a_share_through_sees_that_it_changed_and_learns_it(exploring: Lender) -> None:
    now_good = made_up_for(exploring)
    assert now_good.get_column("bad").mean() < 0.2  # type: ignore[operator]
    assert now_good.get_column("score").mean() < 0.3  # type: ignore[operator]
    assert now_good.get_column("passed").mean() > 0.8  # type: ignore[operator]


@pytest.mark.story
def test_what_is_scored_of_the_share_is_the_loss_over_all_rows(exploring: Lender) -> None:
    days = losses(exploring, BEFORE)
    away = days.select(pl.col("told") - pl.col("whole")).to_series()
    error = away.std() / away.len() ** 0.5  # type: ignore[operator]
    assert away.len() > 20
    assert abs(away.mean()) < 4 * error  # type: ignore[arg-type, operator]
    # The bound is narrow enough to tell: without weights the same rows are off by more.
    seen = [rows.filter("passed") for rows in exploring.answered]
    plain = [float(((rows["score"] - rows["bad"]) ** 2).mean()) for rows in seen]  # type: ignore[arg-type]
    assert abs(np.mean(plain[: away.len()]) - days["whole"].mean()) > 4 * error  # type: ignore[operator]


@pytest.mark.story
def test_the_share_let_through_is_the_stated_one_and_is_told(exploring: Lender) -> None:
    arrived = [fact for fact in exploring.facts if isinstance(fact, Arrived)]
    drawn, through = sum(fact.drawn for fact in arrived), sum(fact.explored for fact in arrived)
    answers = pl.concat(exploring.answered)
    assert drawn == answers.filter(pl.col("score") >= CUT).height
    assert through == answers.filter("passed").height - answers.filter(pl.col("score") < CUT).height
    assert binomtest(through, drawn, SHARE).pvalue > 1e-6


@pytest.mark.story
def test_the_gate_weighs_what_it_sees(exploring: Lender) -> None:
    loop = exploring.loop
    rows = loop.labelled(exploring.clock.now())
    model: Any = loop.scorer.model(loop.state.versions[loop.state.champion or ""])
    comparison = loop.turns.comparison(rows, model, model, look=1)
    drawn = rows.get_column("_propensity").is_not_null().to_numpy()
    assert 0 < drawn.sum() < rows.height
    assert comparison.weights is not None
    np.testing.assert_array_equal(comparison.weights, np.where(drawn, 1 / SHARE, 1.0))
    weighed = np.average(
        (comparison.challenger - comparison.labels) ** 2, weights=comparison.weights
    )
    assert loop.turns.values(comparison) == pytest.approx((weighed, weighed))


@pytest.mark.story
def test_a_learner_that_takes_no_weights_is_shown_rows_as_often(exploring: Lender) -> None:
    loop = exploring.loop
    champion = loop.state.versions[loop.state.champion or ""]
    weighing = loop.turns.task(champion, loop.pipeline.learner).rows
    counting = loop.turns.task(champion, learners.resolve(KNeighborsClassifier())).rows
    own = {"_weight", "_propensity", "_passed"}
    assert own & set(weighing.columns) == {"_weight"}
    assert own & set(counting.columns) == set()
    weight = dict(weighing.select("_id", "_weight").iter_rows())
    assert set(weight.values()) == {1.0, 1 / SHARE}
    assert dict(counting.get_column("_id").value_counts().iter_rows()) == weight


@pytest.mark.story
def test_what_a_training_would_gain_is_measured_over_all_rows(tmp_path: Path) -> None:
    """What moved lies where nine of ten are stopped: by the labels alone it is a small part."""
    explore = Explore(0.1, passes_below=CUT)
    lender = Lender(tmp_path, explore, triggers.Every("3650d"))
    lender.live(MOVED + 8)
    loop, now = lender.loop, lender.clock.now()
    champion = loop.state.versions["v1"]

    def probed(heaviest: float | None) -> Probed:
        loop.pipeline.explore = dataclasses.replace(explore, heaviest=heaviest)
        found = loop.prober._probed(champion, None, "asked", now)
        assert found is not None
        return found

    whole, alone = probed(None), probed(1.0)
    latest = pl.concat(lender.answered[-4:])
    truth = float(((latest["score"] - latest["bad"]) ** 2).mean())  # type: ignore[arg-type]
    assert whole.stale == pytest.approx(truth, rel=0.2)
    assert alone.stale < 0.7 * truth
    assert whole.gap > 2 * alone.gap
    loop.pipeline.close()


@pytest.mark.story
def test_what_is_stopped_is_no_drift(exploring: Lender) -> None:
    """Rows arrive as ever; that most of those with a high x have no label moves nothing."""
    looked = [fact for fact in exploring.facts if isinstance(fact, DetectorAdvanced)]
    columns = [one for fact in looked for one in fact.columns]
    assert len(looked) > 20
    assert not any(one.drifted for one in columns)


@pytest.mark.story
def test_a_training_with_weights_is_made_again_to_the_byte(exploring: Lender) -> None:
    found = exploring.loop.pipeline.reproduce()
    assert found.same
    assert found.differences == ()


def predicted(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what rows are answered; a worker that has just begun has nothing to serve yet."""
    told: dict[str, Any] = {}

    def answered() -> bool:
        told.update(server.ask("POST", "/predict/churn", rows))
        return "predictions" in told

    until(answered)
    found: list[dict[str, Any]] = told["predictions"]
    return found


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="several workers need a socket handed down")
def test_workers_let_the_same_rows_through_and_still_do_after_they_were_killed(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    text = home.file.read_text().replace("import Challenger", "import Challenger, Explore")
    explored = "    explore=Explore(0.3, passes_below=0.4),\n    enough=1,"
    home.file.write_text(text.replace("    enough=1,", explored))
    home.trained()
    rows = [{"id": i, "x": i % 7 - 3, "y": 0.5, "kind": "a"} for i in range(90_000, 90_060)]
    found = []
    for how in (signal.SIGKILL, signal.SIGTERM):
        server = Server(home, "serve", "--workers", "2")
        found += [predicted(server, rows) for _ in range(10)]
        if how == signal.SIGKILL:
            for worker in workers_of(server):
                os.kill(worker, how)
        server.end(how)
    assert all(one == found[0] for one in found)
    told = {one["id"]: one["pass"] for one in found[0] if one["pass_probability"] < 1}
    assert set(told.values()) == {True, False}
    with contextlib.closing(Journal(journal_of(tmp_path / ".keepfit", "churn"))) as journal:
        kept = journal.after(0, kinds=(PASSAGE,))
    assert len(kept) == len(found) * len(told)
    assert {(one.id, one.body == b"1") for one in kept} == set(told.items())
