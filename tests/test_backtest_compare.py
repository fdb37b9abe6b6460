"""Policies side by side: which are played, that processes change nothing, and what is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from keepfit import Ledger, Pipeline, executors, gates, selection, triggers
from keepfit.backtest import Compared, policies
from keepfit.backtest.matrix import Life
from keepfit.backtest.plan import Plan
from keepfit.backtest.processes import useful
from keepfit.backtest.sharing import Answers, Trainings
from keepfit.challenger import Challenger
from keepfit.errors import ConfigError
from keepfit.facts import (
    Answer,
    Decided,
    Decision,
    Drifted,
    Judged,
    Probed,
    Promoted,
    Scored,
    TrainingStarted,
    comparable,
)
from keepfit.protocols import Evidence
from tests.waits import PATIENCE
from tests.worlds import pipeline, source, stream

SLIDING = [Challenger(select=selection.Sliding("5d"))]


def small(home: Path, **parts: Any) -> Pipeline:
    """Return a pipeline over a few days, in the middle of which the concept flips."""
    settings: dict[str, Any] = {
        "trigger": triggers.Every("6d"),
        "challengers": SLIDING,
        "metric": "accuracy",
        "enough": 10,
        "gate": [],
    }
    days = parts.pop("days", 16)
    return pipeline(stream(days, 40, flip_at=days // 2), home, **(settings | parts))


def compared(made: Pipeline, wanted: Any, **options: Any) -> Compared:
    found = made.backtest(compare=wanted, **options)
    assert isinstance(found, Compared)
    return found


def facts_in(home: Path) -> dict[str, list[tuple[int, Any, Any]]]:
    """Return all facts of the last backtest, without what was measured with a stopwatch."""
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        return {
            name: [(e.seq, e.at, comparable(e.fact)) for e in ledger.facts(name)]
            for name in ledger.pipelines()
        }


# Which are played -----------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return _plan(small(tmp_path, days=24))


def test_all_are_the_known_policies_with_a_grid_of_periods(tmp_path: Path, plan: Plan) -> None:
    rules, left_out = policies.chosen(small(tmp_path), plan, "all")
    assert [rule.name for rule in rules] == [
        *("never", "every 2 d", "every 4 d", "every 8 d"),
        *("OnDecay()", "OnDrift()", "OnDrift(ADWIN())", "Pays()", "always"),
    ]
    assert left_out == ()


def test_without_river_adwin_is_left_out_and_said_so(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "find_spec", lambda name: None)
    rules, left_out = policies.chosen(small(tmp_path), plan, "all")
    assert "OnDrift(ADWIN())" not in [rule.name for rule in rules]
    assert left_out == ("ADWIN is left out: the package `river` is not installed",)
    with pytest.raises(ConfigError, match="river") as asked_for:
        policies.chosen(small(tmp_path), plan, "ADWIN")
    assert asked_for.value.hint == 'pip install "keepfit[river]"'


def test_policies_are_named_or_given_and_ones_own_is_not_played_twice(
    tmp_path: Path, plan: Plan
) -> None:
    wanted = ["OnDecay", triggers.Every("6d"), triggers.Every("3d") | triggers.OnDecay()]
    rules, _ = policies.chosen(small(tmp_path), plan, wanted)
    names = [rule.name for rule in rules]
    assert names == ["never", "OnDecay()", 'Every("3d") | OnDecay()', "always"]


def test_triggers_of_ones_own_are_called_by_their_class(tmp_path: Path, plan: Plan) -> None:
    class Own:
        def decide(self, evidence: Evidence) -> Decision:
            return Decision(train=False, trigger="Own", reason="no")

    wanted = [Own(), Own(), triggers.Every("9d") | Own()]
    rules, _ = policies.chosen(small(tmp_path), plan, wanted)
    assert [rule.name for rule in rules[1:-1]] == ["Own()", "Own() 2", 'Every("9d") | Own()']


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [("OnDecy", "OnDecay"), (["perodic"], "periodic"), ([3], "trigger")],
    ids=["a name", "in a list", "a number"],
)
def test_what_is_no_policy_is_refused_before_anything_runs(
    tmp_path: Path, wanted: Any, heard: str
) -> None:
    with pytest.raises(ConfigError, match=r"expected") as refused:
        small(tmp_path).backtest(compare=wanted)
    assert heard in f"{refused.value.message} {refused.value.hint}"
    assert not (tmp_path / "backtest").exists()


def test_a_policy_keeps_the_guards_and_never_its_maximum_age_too(tmp_path: Path) -> None:
    made = small(tmp_path, cooldown="2d", max_age="9d", enough=7)
    for rule in policies.chosen(made, plan=_plan(made), wanted="OnDrift")[0]:
        guarded = rule.of(made).trigger
        assert isinstance(guarded, triggers.Guarded)
        assert (guarded.cooldown, guarded.enough) == ("2d", 7)
        assert guarded.max_age == "9d"
        assert len(rule.of(made).detectors) == (rule.name == "OnDrift()")


def test_never_is_not_played_beside_itself(tmp_path: Path, plan: Plan) -> None:
    made = small(tmp_path, trigger=triggers.OnEvent(), max_age="9d")
    rules, left_out = policies.chosen(made, plan, "OnDecay")
    assert [rule.name for rule in rules] == ["OnDecay()", "always"]
    assert left_out == ("never is left out: it is the pipeline's own trigger",)


def test_never_is_played_as_it_would_be_written(tmp_path: Path) -> None:
    # By its age the pipeline is trained before its own trigger asks: never is no cheaper.
    made = small(tmp_path / "aged", trigger=triggers.Every("40d"), max_age="4d")
    aged = compared(made, "never", jobs=1)
    assert aged["never"].trainings == aged["churn"].trainings > 2
    assert aged["never"].windows == aged["churn"].windows
    assert (aged.recommended, aged.doubt) == ("always", None)
    assert any("is 4 d old, by the pipeline's max_age" in note for note in aged.notes)
    own = compared(small(tmp_path / "own", trigger=triggers.OnEvent()), "never", jobs=1)
    assert {one.name for one in own.standings} == {"churn", "always"}
    assert own.standing("churn").policy.trainings == 1
    assert own.recommended == "always"
    text = " ".join(own.because())
    assert "churn (yours) is worse" in text or own.doubt is not None


def _plan(made: Pipeline) -> Plan:
    return Plan.of(made, made.source.history(), None, None, "0s")


def test_pays_counts_another_loss_where_the_metric_has_none_for_a_row() -> None:
    from keepfit import metrics

    rules = [policies.Rule("Pays()", triggers.Pays()), policies.Rule("x", triggers.Every("1d"))]
    found, said = policies.fitted(rules, metrics.get("roc_auc", task="binary"))
    assert [rule.name for rule in found] == ['Pays(cost="log_loss")', "x"]
    assert "roc_auc" in said[0]
    assert policies.fitted(rules, metrics.get("accuracy", task="binary")) == (tuple(rules), [])


def test_nothing_is_trained_while_only_labels_come_as_it_would_serve_no_row(tmp_path: Path) -> None:
    """What the wait for the last labels costs is no part of what a policy costs."""
    made = small(tmp_path, days=24, trigger=triggers.EachStep(), roles={"label_delay": "8d"})
    found = compared(made, ["Pays", triggers.Every("2d")], jobs=1)
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        for name in ledger.pipelines():
            rows = [entry.at for entry in ledger.facts(name, kind="Arrived")]
            last = max(made.source.history().rows.get_column("_arrived_at"))
            trained = [entry.at for entry in ledger.facts(name, kind="TrainingStarted")]
            assert max(rows) > last + timedelta(days=2)
            assert trained
            assert max(trained) < last + made.every  # type: ignore[operator]
            probed = [entry.at for entry in ledger.facts(name, kind="Probed")]
            assert not probed or max(probed) < last + made.every  # type: ignore[operator]
    # Labels that are late hold each step's training back, and none of the steps.
    yours, always = found["churn"], found["always"]
    assert yours.trainings == always.trainings


# Playing --------------------------------------------------------------------------------


@pytest.mark.story
def test_processes_change_no_fact_and_share_their_trainings(tmp_path: Path) -> None:
    wanted = ["OnDecay", triggers.Every("2d")]
    results = [
        compared(small(tmp_path / name), wanted, jobs=jobs)
        for name, jobs in (("one", 1), ("two", 2))
    ]
    one, two = facts_in(tmp_path / "one"), facts_in(tmp_path / "two")
    assert one == two
    assert list(one) == sorted(["churn", "never", "OnDecay()", 'Every("2d")', "always"])
    for name in one:
        windows = [result[name].windows for result in results]
        assert windows[0] == windows[1]
    regrets = [{s.name: s.regret for s in result.standings} for result in results]
    assert regrets[0] == regrets[1]
    assert results[1].notes == ()
    assert not (tmp_path / "two" / "backtest" / "shared").exists()
    artifacts = [
        sorted(file.name for file in (tmp_path / name / "backtest" / "artifacts").iterdir())
        for name in ("one", "two")
    ]
    assert artifacts[0] == artifacts[1]


class Deadly(LogisticRegression):
    """Ends any process but the one it was made in."""

    home: int

    def fit(self, X: Any, y: Any) -> Deadly:
        if os.getpid() != int(os.environ["KEEPFIT_TEST_PID"]):
            os._exit(3)
        return super().fit(X, y)


@pytest.mark.story
def test_a_policy_whose_process_dies_is_played_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPFIT_TEST_PID", str(os.getpid()))
    made = small(tmp_path / "two", learner=Deadly())
    found = compared(made, [triggers.Every("2d")], jobs=2)
    assert "played in one process" in found.notes[0]
    made = small(tmp_path / "one", learner=Deadly())
    compared(made, [triggers.Every("2d")], jobs=1)
    kinds = (Decided, Scored)
    one, two = (
        {
            name: [(seq, at, fact) for seq, at, fact in entries if isinstance(fact, kinds)]
            for name, entries in facts_in(tmp_path / home).items()
        }
        for home in ("one", "two")
    )
    assert one == two


def test_what_cannot_be_sent_away_is_played_here_and_said_so(tmp_path: Path) -> None:
    class Holding(executors.Inline):
        lock = None

        def __init__(self) -> None:
            self.lock = threading.Lock()

    found = compared(small(tmp_path, executor=Holding()), "never", jobs=2)
    assert found.notes[0].startswith("played in one process: ")
    assert found["always"].trainings > found["never"].trainings == 1


def test_a_policy_decides_as_the_pipeline_would_with_its_trigger(tmp_path: Path) -> None:
    compared(small(tmp_path / "among"), [triggers.Every("3d")])
    small(tmp_path / "alone", trigger=triggers.Every("3d")).backtest(compare=False)
    kinds = (Decided, TrainingStarted, Judged, Promoted, Scored)
    among, alone = (
        [(at, fact) for _, at, fact in facts_in(tmp_path / home)[name] if isinstance(fact, kinds)]
        for home, name in (("among", 'Every("3d")'), ("alone", "churn"))
    )
    assert among == alone


class OnAnyDrift:
    """A trigger of the user's own, which looks at what the detectors found."""

    def __repr__(self) -> str:
        return "OnAnyDrift()"

    reads_estimates = False

    def decide(self, evidence: Evidence) -> Decision:
        seen = any(isinstance(fact, Drifted) for fact in evidence.facts)
        return Decision(train=seen, trigger="OnAnyDrift", reason="drift" if seen else "none")


@pytest.mark.parametrize("trigger", [triggers.Pays(), OnAnyDrift()])
def test_a_trigger_that_heeds_drift_is_shown_it_among_others_too(
    tmp_path: Path, trigger: Any
) -> None:
    moved = {"metric": "accuracy", "enough": 10, "gate": []}
    rows = stream(40, 60, shift_at=25)
    pipeline(rows, tmp_path / "among", trigger=triggers.Every("20d"), **moved).backtest(
        compare=[trigger], jobs=1
    )
    pipeline(rows, tmp_path / "alone", trigger=trigger, **moved).backtest(compare=False)
    kinds = (Decided, Drifted, Probed, TrainingStarted)
    among, alone = (
        [(at, fact) for _, at, fact in facts_in(tmp_path / home)[name] if isinstance(fact, kinds)]
        for home, name in (("among", repr(trigger)), ("alone", "churn"))
    )
    assert any(isinstance(fact, Drifted) for _, fact in alone)
    assert among == alone


def test_processes_are_started_only_where_they_pay() -> None:
    assert useful(None, seconds=0.01, tasks=10) == 1
    assert useful(4, seconds=0.01, tasks=10) == 4
    assert useful(40, seconds=0.01, tasks=10) == 10
    assert 1 <= useful(None, seconds=1e4, tasks=3) <= 3


# What is shared -------------------------------------------------------------------------


def test_a_training_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    first, second = (Trainings(tmp_path / "a", tmp_path / "claims") for _ in range(2))
    assert first.recall("key") is None
    heard: list[Any] = []
    waiting = threading.Thread(target=lambda: heard.append(second.recall("key")))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    first.remember("key", {"artifact": "x"})
    waiting.join(PATIENCE)
    assert heard == [{"artifact": "x"}]


def test_a_training_that_failed_or_whose_process_ended_is_anyones_again(tmp_path: Path) -> None:
    first, second = (Trainings(tmp_path / "a", tmp_path / "claims") for _ in range(2))
    assert first.recall("failed") is None
    assert first.recall("another") is None
    assert second.recall("failed") is None, "the first went on without keeping a record"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert first._held is not None
    first._held.write_text(str(ended.pid))
    assert second.recall("another") is None, "its process has ended"


def test_answers_are_there_for_the_other_processes(tmp_path: Path) -> None:
    here, there = Answers(tmp_path), Answers(tmp_path)
    asked = ("a" * 64, 10**9, 3)
    assert asked not in here
    here[asked] = np.array([0.1, 0.2, 0.3])
    assert asked in there
    assert there[asked].tolist() == [0.1, 0.2, 0.3]
    assert (asked[0], 0, 3) not in there


# What is told ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    home = tmp_path_factory.mktemp("found")
    return compared(small(home, gate=None), ["OnDecay", "periodic"], jobs=1)


def test_standings_are_in_order_of_cost_and_none_beats_hindsight(found: Compared) -> None:
    costs = [one.policy.fit_cpu_seconds for one in found.standings]
    assert costs == sorted(costs)
    assert {one.kind for one in found.standings} == {
        *("yours", "never", "periodic", "trigger", "always")
    }
    for one in found.standings:
        assert one.regret is not None
        assert one.regret >= -1e-12
    assert found.standing("always").share == 1.0
    best = [point.value for point in found.oracle]
    assert best == sorted(best)
    assert best[-1] >= max(one.value for one in found.policies if one.value is not None)
    with pytest.raises(KeyError):
        found.standing("sometimes")


def test_the_comparison_prints_and_turns_into_data(found: Compared) -> None:
    text = repr(found)
    for words in (
        "regret",
        "precision",
        "hit rate",
        "lag",
        "(yours)",
        "best in hindsight",
        "take ",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 90
    told = json.loads(json.dumps(found.to_dict()))
    assert told["recommended"]["policy"] == found.recommended
    assert {"policy", "value", "regret", "precision", "need", "hit_rate", "lag_windows"} <= set(
        told["policies"][0]
    )
    assert [point["trainings"] for point in told["oracle"]] == list(range(1, len(told["oracle"]) + 1))  # fmt: skip
    ranking = found.ranking()
    assert ranking.height == len(found.standings)
    assert ranking["share_of_always"].max() == pytest.approx(1.0, abs=0.5)
    assert found.to_frame()["policy"].n_unique() == len(found.policies)


def test_probes_are_paid_for_where_policies_are_ranked(tmp_path: Path) -> None:
    result = compared(small(tmp_path, days=24), [triggers.Pays()], jobs=1, since="2024-01-06")
    pays, always = result.standing("Pays()"), result.standing("always")
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        probing = [e.fact.cost.cpu_seconds for e in ledger.facts("Pays()", kind="Probed")]
    assert probing
    assert pays.policy.probe_cpu_seconds == pytest.approx(sum(probing))
    assert pays.policy.fit_cpu_seconds > pays.policy.probe_cpu_seconds
    assert pays.share == pays.policy.fit_cpu_seconds / always.policy.fit_cpu_seconds
    # Which is dearer hangs on the machine; what stands last is what cost most, probes among it.
    costs = [one.policy.fit_cpu_seconds for one in result.standings]
    assert costs == sorted(costs)
    text = " ".join(result.table().split())
    assert f"Pays() took {pays.policy.fit_cpu_seconds:.2f} s of CPU, of which probes" in text
    assert "always took" not in text


def test_a_gate_that_could_not_decide_is_named_with_what_helps(tmp_path: Path) -> None:
    rows = stream(16, 10)
    made = small(tmp_path, trigger=triggers.Every("3d"), gate=gates.NoWorse(within=0.001), enough=5)
    result = compared(made.changed(source=source(rows)), "never", jobs=1)
    always = result["always"]
    assert always.undecided > always.judged / 2 > 1
    assert always.undecided_by == "No worse than champion within 0.0010"
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        said = {e.fact.version: e.fact.answer for e in ledger.facts("always", kind="Judged")}
    assert (always.judged, always.undecided) == (
        len(said),
        sum(answer == Answer.NOT_ENOUGH for answer in said.values()),
    )
    text = " ".join(result.table().split())
    assert 'the gate "No worse than champion within 0.0010" had not enough evidence on ' in text
    assert f"evidence on {always.undecided} of {always.judged} challengers of always" in text
    assert "a longer holdout decides more, and gates.Fresher() promotes unless harm" in text
    assert f" {always.promoted} of {always.trainings} " in text
    assert max(map(len, result.table().splitlines())) <= 84


def test_where_gates_decide_nothing_is_said_of_them(found: Compared) -> None:
    assert found["never"].undecided == 0
    decided = [one for one in found.policies if 2 * one.undecided <= one.judged]
    text = " ".join(found.undecided())
    assert all(f"challengers of {one.name}" not in text for one in decided)


def test_without_any_window_nothing_is_recommended(tmp_path: Path) -> None:
    frame = stream(24, 40).with_columns(label=pl.lit(None, pl.Int64))
    made = pipeline(frame, tmp_path, trigger=triggers.Every("6d"), enough=10)
    result = compared(made, "never", jobs=1)
    assert result.recommended is None
    assert "no policy was scored" in repr(result)
    assert (
        "churn has no value: nothing was trained, no champion yet; held by too few labelled rows"
        in " ".join(repr(result).split())
    )
    assert result.to_dict()["recommended"] is None


def test_where_nothing_shows_that_never_is_as_good_what_trains_is_taken(tmp_path: Path) -> None:
    # Nothing changes, so that all differences are noise.
    made = small(tmp_path).changed(source=source(stream(24, 40)))
    wanted = [triggers.Every("3d")]
    open_ = compared(made, wanted, within=0.0, jobs=1)
    beside = open_.doubt
    assert beside is not None
    assert beside.low < beside.value < 0 <= beside.high
    results = [
        compared(made, wanted, within=within, jobs=1)
        for within in (-(beside.value + beside.low) / 2, -beside.low + 1e-9)
    ]
    found = [(one.standing(str(one.recommended)).kind, one.age is None) for one in results]
    assert found[0] in (("trigger", True), ("yours", True), ("always", True))
    assert found[1] == ("never", False)
    texts = [" ".join(one.because()) for one in results]
    assert "not to train again is cheaper, but not shown to lose no more than" in texts[0]
    assert str(beside) in texts[0]
    assert "max_age=" not in texts[0]
    assert "max_age=" in texts[1]
    assert "not shown" not in texts[1]


def test_that_a_comparison_rests_on_few_windows_is_told(tmp_path: Path) -> None:
    few = compared(small(tmp_path, every="4d"), "never", jobs=1)
    [said] = [note for note in few.notes if "windows, which is few" in note]
    assert said in few.table().replace("\n  ", " ")
    assert said in few.to_dict()["notes"]
    many = compared(small(tmp_path), "never", jobs=1)
    assert not any("which is few" in note for note in many.notes)


def test_steps_that_a_live_loop_would_not_take_are_told(tmp_path: Path) -> None:
    told = [
        [note for note in compared(made, "never", jobs=1, **options).notes if "live loop" in note]
        for made, options in (
            (small(tmp_path), {}),
            (small(tmp_path), {"every": "2d"}),
            (small(tmp_path, every=None), {"every": "2d"}),
        )
    ]
    assert told[0] == []
    assert told[1] == told[2]
    assert "played in steps of 2 d, and the live loop takes steps of 1 d" in told[1][0]


class Failing(LogisticRegression):
    def fit(self, X: Any, y: Any) -> Failing:
        raise ValueError("no good\nat all")


@pytest.mark.parametrize(
    ("parts", "rows", "heard"),
    [
        ({"learner": Failing()}, stream(8, 40), "failed, ValueError: no good"),
        (
            {"enough": 5_000},
            stream(8, 40),
            "held by too few labelled rows (320 new, 5,000 asked for)",
        ),
    ],
    ids=["failed", "too few"],
)
def test_a_backtest_that_scored_nothing_says_why(
    tmp_path: Path, parts: dict[str, Any], rows: pl.DataFrame, heard: str
) -> None:
    result = small(tmp_path, **parts).changed(source=source(rows)).backtest(compare=False)
    assert result.policies[0].value is None
    text = " ".join(repr(result).split())
    assert "churn has no value: " in text
    assert heard in text
    assert "at all" not in text
    assert heard in str(result.to_dict()["policies"][0]["unscored"])


def test_the_table_says_what_the_policies_beside_the_pipeline_train(tmp_path: Path) -> None:
    said = "the others train one recipe on all rows so far, without a gate"
    made = small(tmp_path)
    assert repr(made.backtest()).endswith(said)
    assert said not in repr(made.backtest(compare=False))


def test_models_that_take_their_time_are_not_served_early(tmp_path: Path) -> None:
    made = small(tmp_path)
    result = compared(made, "never", jobs=1, training_time="30h")
    with Ledger(tmp_path / "backtest" / "ledger.db") as ledger:
        life = Life.of(ledger.facts("always"))
        arrived = {e.fact.batch: e.at for e in ledger.facts("always", kind="Arrived")}
        ready = {
            e.fact.version: e.fact.ready_at for e in ledger.facts("always", kind="TrainingStarted")
        }
    for version, artifact in life.artifacts.items():
        first = arrived.get(life.starts[artifact])
        assert first is None or ready[version] < first <= ready[version] + timedelta(days=1)
    assert result.standing("always").regret is not None


def test_of_a_loss_less_is_better_everywhere(tmp_path: Path) -> None:
    rows = stream(16, 40)
    frame = rows.with_columns(label=10 * pl.col("x") + pl.col("y"))
    made = small(tmp_path, metric="mae", learner=LinearRegression())
    result = compared(made.changed(source=source(frame)), "OnDecay", jobs=1)
    assert not result.greater_is_better
    values = [point.value for point in result.oracle]
    assert values == sorted(values, reverse=True)
    assert all(one.regret is not None and one.regret >= -1e-12 for one in result.standings)
    best = min(one.value for one in result.policies if one.value is not None)
    assert values[-1] <= best + 1e-12
