"""What keepfit answers: the sentence of every fact, the status, the reasons, the differences."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import msgspec
import polars as pl
import pytest

from keepfit import facts
from keepfit.clock import utc
from keepfit.errors import ConfigError, NoChampion, VersionUnknown
from keepfit.facts import KINDS, Answer, Cost, Decision, Entry, Finding, Outcome, Verdict
from keepfit.registry import State
from keepfit.results import Diff, Fold, Log, Status, Story, Why, sentence
from keepfit.results.sentences import cause, figure, figures, mean, waits
from tests.lives import DAY, START, Life, churn, golden, no, waiting, yes


def told(fact: facts.Fact) -> str:
    return str(sentence(Entry(pipeline="churn", seq=1, at=utc("2024-03-01"), fact=fact)))  # type: ignore[arg-type]


# Sentences ------------------------------------------------------------------------------


def test_every_kind_of_fact_has_a_sentence() -> None:
    by_kind = {entry.fact.kind: entry for entry in churn().entries}
    others = [
        facts.TrainingFailed(
            version="v1", reason="raised", message="ValueError: no rows", cost=Cost()
        ),
        facts.Sampled(version="v2", rows=9, reason="behind", cost=Cost(), skipped=True),
        facts.RolledBack(version="v2", to="v1", reason="errors"),
        facts.Paused(reason="holidays"),
        facts.Resumed(reason="back", by="anna"),
        facts.Overridden(what="quarantine", reason="it was right", by="anna", batch=3),
        facts.Signalled(event="prices", data={"list": 7}),
        facts.Compared(batch=1, metric="roc_auc", n=9, values={"v1": 0.7, "v2": 0.71}),
        facts.Estimated(
            batch=1,
            version="v1",
            metric="roc_auc",
            value=0.7,
            n=9,
            low=0.6,
            high=0.8,
            trust=1.0,
            unlike=0.0,
        ),
        facts.DetectorAdvanced(batch=1, detector="KS()", columns=()),
        facts.RolledOut(
            version="v2",
            champion="v1",
            rollout="churn/v2/9",
            share=0.05,
            stage=2,
            stages=2,
            until=START + 3 * DAY,
            limit=START + 6 * DAY,
        ),
        facts.Assessed(batch=1, version="v1", verdict="learn", reasons=("new",), rows=10),
        facts.Adopted(
            version="v1",
            artifact="a",
            origin=facts.Origin(
                uri="models:/churn/3", model="churn", version="3", digest="d", flavor="sklearn"
            ),
            trained_to=START,
            reason="served so far",
            by="ada",
        ),
        facts.ApprovalAsked(version="v2", reason="r", until=START, remind=DAY),
        facts.Approved(version="v2", reason="r", by="ada"),
        facts.Declined(version="v2", reason="r", by="ada"),
        facts.Probed(
            batch=1,
            version="v1",
            reason="the first since the last training",
            recipe="Expanding()",
            loss="accuracy",
            rows=900,
            stale=0.25,
            fresh=0.22,
            gap=0.03,
            error=0.01,
        ),
    ]
    for fact in others:
        by_kind[fact.kind] = Entry(pipeline="churn", seq=1, at=START, fact=fact)  # type: ignore[arg-type]
    assert set(by_kind) == set(KINDS)
    for entry in by_kind.values():
        line = sentence(entry)
        assert line.glyph
        assert line.what
        assert line.text


def test_the_whole_life_reads_as_it_should() -> None:
    golden("log", repr(Log.of("churn", churn().entries)))


def test_a_training_is_named_after_what_fired() -> None:
    assert cause(yes()) == "schedule"
    assert cause(yes("OnDrift()", "temp KS 0.4")) == "drift"
    assert cause(Decision(train=True, trigger="hand", reason="anna: now")) == "by hand"
    assert cause(Decision(train=True, trigger="first", reason="no champion yet")) == "first"


def test_waiting_for_labels_is_told_once_and_again_when_it_changes() -> None:
    life = Life().arrived("2024-01-08")
    for labelled_to in ("2024-01-01", "2024-01-02"):
        life.decided("2024-01-08", waiting(labelled_to=labelled_to))
    life.decided("2024-01-09", waiting(rows_to="2024-03-16"))
    lines = [line for line in Story().lines(life.entries) if line.what == "waiting"]
    assert [line.loud for line in lines] == [True, False, True]
    assert lines[0].text == "for labels of the drifted rows to 2024-03-09"


def test_a_decision_that_waits_for_nothing_is_no_waiting() -> None:
    assert waits(no()) is None


def test_a_standing_warning_is_told_once() -> None:
    finding = Finding(check="Nulls", outcome=Outcome.WARN, message="age: 4 % missing", column="age")
    life = Life()
    for week in range(3):
        life.arrived(START + week * DAY).checked(START + week * DAY, finding)
    lines = [line for line in Story().lines(life.entries) if line.what == "warned"]
    assert [line.loud for line in lines] == [True, False, False]


def test_the_verdict_that_decided_gives_the_figures() -> None:
    passed = Verdict(
        gate="NoWorse()", answer=Answer.PROMOTE, reason="fine", value=0.01, low=0.0, high=0.02
    )
    failed = Verdict(
        gate="NoWorse(slice='carrier')",
        answer=Answer.REFUSE,
        reason="worse",
        slice="carrier AA",
        value=-0.03,
        low=-0.05,
        high=-0.01,
        needs=-0.01,
    )
    judged = facts.Judged(
        version="v2", answer=Answer.REFUSE, verdicts=(passed, failed), champion="v1"
    )
    assert told(judged).endswith("carrier AA: -0.0300 [-0.0500, -0.0100], needs -0.0100")


def test_a_verdict_without_figures_gives_its_reason() -> None:
    verdict = Verdict(gate="Differs", answer=Answer.REFUSE, reason="the same model as the champion")
    assert figures(verdict) == "the same model as the champion"


def test_a_quantity_has_no_sign_and_a_gain_has() -> None:
    quantity = Verdict(
        gate="AtLeast(0.7)", answer=Answer.PROMOTE, reason="", value=0.71, low=0.705, needs=0.7
    )
    assert figures(quantity) == "0.710 (at least 0.705), needs 0.700"
    assert figure(0.5, sign=True) == "+0.5000"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.8712, "0.871"), (0.0004, "0.0004"), (0.0, "0.000"), (31.25, "31.25"), (1234.5, "1,234")],
)
def test_a_figure_has_the_digits_a_reader_needs(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_a_person_is_named_and_keepfit_is_not() -> None:
    assert "by anna: too early" in told(facts.Paused(reason="too early", by="anna"))
    assert told(facts.Paused(reason="three rollbacks")).endswith("three rollbacks")
    forced = facts.Promoted(version="v2", reason="board", previous="v1", by="anna", forced=True)
    assert told(forced).endswith("replaces v1, by anna, against its gate: board")


@pytest.mark.parametrize(
    "behind",
    [
        "",
        "\nit saw 12 rows",
        "\n\nhint: take more rows",
        '\n\n  File "model.py", line 7, in fit\n    raise ValueError("one class")',
    ],
)
def test_a_failure_shows_what_was_wrong_and_not_what_stands_behind_it(behind: str) -> None:
    failed = facts.TrainingFailed(
        version="v4",
        reason="raised",
        message=f"ValueError: one class{behind}",
        cost=Cost(wall_seconds=3),
    )
    assert told(failed).endswith("✕ v4 failed       raised: ValueError: one class  3 s")


def test_a_training_that_is_run_once_more_is_no_event_and_one_that_fails_again_is() -> None:
    at = utc("2024-03-01")
    snapshot = facts.Snapshot(
        batch=1, as_of=at, selection="Expanding()", rows=10, digest="d", from_=at, to=at
    )
    story, state = Story(), State()
    for version, before in (("v2", None), ("v3", "v2")):
        started = facts.TrainingStarted(
            version=version,
            turn=1,
            challenger="Expanding()",
            snapshot=snapshot,
            start="scratch",
            update="all",
            seed=1,
            ready_at=at,
            key=version,
            retry_of=before,
        )
        failed = facts.TrainingFailed(
            version=version, reason=facts.UNLEARNT, message="answers worse", cost=Cost()
        )
        entries = [
            Entry(pipeline="churn", seq=seq, at=at, fact=fact)
            for seq, fact in enumerate((started, failed), start=state.seq + 1)
        ]
        _, line = story.lines(entries)
        state = state.fold(entries)
        assert line.loud == (before is not None)
        assert state.counts.failed == (before is not None)
        assert ("again" in line.what, "failed" in line.what) == (not line.loud, line.loud)


def test_quiet_facts_add_up_to_one_line() -> None:
    life = Life()
    for week in range(1, 5):
        at = START + week * timedelta(days=7)
        life.arrived(at, 1_500).checked(at).scored(at, "v1", 0.80 + week / 100, 0.02)
    fold = Fold()
    for entry in life.entries:
        fold.add(entry.fact)
    line = fold.line(life.entries[-1].at)
    assert (line.what, line.text) == (
        "28 d",
        "6,000 rows in 4 batches, roc_auc 0.825 [0.815, 0.835]",
    )


def test_windows_without_an_interval_have_a_mean_without_one() -> None:
    fold = Fold()
    fold.add(facts.Scored(batch=1, version="v1", metric="mae", value=3.0, n=9))
    fold.add(facts.Scored(batch=2, version="v1", metric="mae", value=5.0, n=9))
    assert fold.line(START).text == "0 rows, mae 4.000"


def test_a_window_weighs_as_many_rows_as_it_has() -> None:
    large = facts.Scored(
        batch=1, version="v1", metric="roc_auc", value=0.55, low=0.5, high=0.6, n=496
    )
    small = msgspec.structs.replace(large, batch=2, value=0.3, low=0.0, high=0.6, n=4)
    centre, low, high = mean([large, small])
    assert centre == pytest.approx(0.548)
    assert (low, high) == pytest.approx((0.4983, 0.5977), abs=1e-4)


# Status ---------------------------------------------------------------------------------


def test_the_status_is_one_screen() -> None:
    shown = repr(Status.of("churn", churn().state()))
    golden("status", shown)
    assert len(shown.splitlines()) <= 24
    assert max(map(len, shown.splitlines())) <= 86


def test_of_many_batches_in_quarantine_the_newest_are_shown_and_the_others_counted() -> None:
    status = Status.of("churn", churn().state())
    for many, shown, told in ((4, 4, False), (5, 3, True), (17, 3, True)):
        held = tuple(replace(status.quarantined[0], batch=i + 1, rows=100) for i in range(many))
        text = repr(replace(status, quarantined=held))
        assert text.count("100 rows, ") == shown
        assert (f"{many - 3} batches up to {many - 3}, {(many - 3) * 100:,} rows" in text) == told
        assert f"--accept {many} " in text


def test_the_performance_is_that_of_rows_enough_and_not_of_a_batch_of_one() -> None:
    life = Life().arrived("2024-01-08").checked("2024-01-08").scored("2024-01-08", "v1", 0.8)
    shown = repr(Status.of("churn", life.state()))
    assert "roc_auc 0.800 [0.790, 0.810], v1 on 1,900 rows to 2024-01-07" in shown
    days = [("2024-01-09", "v1", 0.7, 400), ("2024-01-10", "v1", 0.6, 100)]
    for day, version, value, n in [*days, ("2024-01-11", "v2", 0.0, 1)]:
        life.arrived(day).checked(day).scored(day, version, value, n=n)
    status = Status.of("churn", life.state())
    found = status.performance
    assert found.value == pytest.approx((400 * 0.7 + 100 * 0.6) / 501)
    assert (found.n, found.batches, found.versions) == (501, 3, ("v1", "v2"))
    assert "0.679" in repr(status)
    shown = " ".join(repr(status).split())
    assert "v1 to v2 on 501 rows in 3 batches to 2024-01-10" in shown
    assert status.scored.n == 1
    assert status.to_dict()["performance"]["n"] == 501
    # A batch of one class has no area, and says nothing of how it goes.
    none = facts.Scored(
        batch=9, version="v2", metric="roc_auc", value=None, n=1, reason="one class"
    )
    assert Status.of("churn", life.add("2024-01-12", none).state()).performance == found
    life.arrived("2024-01-13").checked("2024-01-13").scored("2024-01-13", "v2", 0.75, n=500)
    assert Status.of("churn", life.state()).performance.batches == 1


def test_what_was_corrected_counts_once() -> None:
    life = Life().arrived("2024-01-08", rows=100).checked("2024-01-08")
    life.arrived("2024-01-15", rows=10, corrections=9, revised=4, relabelled=5)
    status = Status.of("churn", life.checked("2024-01-15").state())
    assert (status.rows, status.labels) == (106, 105)
    assert "106 rows and 105 labels in 2 batches" in repr(status)


def test_an_empty_pipeline_says_so() -> None:
    status = Status.of("churn", State())
    assert status.condition == "empty"
    assert repr(status).startswith("churn · empty\nNo rows have arrived yet.")
    assert status.to_dict()["champion"] is None


def test_the_condition_follows_the_facts() -> None:
    life = Life().arrived("2024-01-08").checked("2024-01-08")
    assert Status.of("churn", life.state()).condition == "collecting"
    life.decided("2024-01-08", yes("first")).started("2024-01-08", "v1")
    assert Status.of("churn", life.state()).condition == "training"
    life.trained("2024-01-08", "v1").promoted("2024-01-08", "v1")
    assert Status.of("churn", life.state()).condition == "healthy"
    life.arrived("2024-01-15").add(
        "2024-01-15", facts.Quarantined(batch=2, rows=5, reason="all null")
    )
    assert Status.of("churn", life.state()).condition == "blocked"
    life.add("2024-01-16", facts.Paused(reason="holidays", by="anna"))
    paused = Status.of("churn", life.state())
    assert paused.condition == "paused"
    assert "Paused: holidays." in repr(paused)
    assert "keepfit resume" in repr(paused)


def test_staleness_is_the_age_of_the_newest_row_trained_on() -> None:
    state = churn().state()
    assert Status.of("churn", state).staleness == timedelta(days=22)
    later = Status.of("churn", state, utc("2024-05-01"))
    assert later.staleness == timedelta(days=31)
    assert later.to_dict()["staleness"] == timedelta(days=31).total_seconds()
    assert "v3 has served for 30 d" in repr(later)


def test_a_champion_of_few_rows_says_what_it_went_on_from() -> None:
    life = Life().arrived("2024-01-08").checked("2024-01-08")
    life.started("2024-01-08", "v1").trained("2024-01-08", "v1").promoted("2024-01-08", "v1")
    assert Status.of("churn", life.state()).started_from is None
    life.arrived("2024-01-15").checked("2024-01-15")
    warm = {"parent": "v1", "start": "champion", "update": "leaves"}
    life.started("2024-01-15", "v2", rows=68, **warm).trained("2024-01-15", "v2")
    status = Status.of("churn", life.promoted("2024-01-15", "v2").state())
    assert (status.started_from, status.update) == ("v1", "leaves")
    assert ", from v1, leaves only\n" in repr(status)
    assert "trained on 68 rows" in repr(status)


def test_the_next_training_is_announced() -> None:
    life = Life().arrived("2024-01-08").checked("2024-01-08").decided("2024-01-08", yes("first"))
    life.started("2024-01-08", "v1").trained("2024-01-08", "v1").promoted("2024-01-08", "v1")
    life.arrived("2024-01-15").checked("2024-01-15").decided("2024-01-15", no())
    assert "training is due on 2024-03-31" in repr(Status.of("churn", life.state()))


def test_a_status_is_json_and_a_frame() -> None:
    status = Status.of("churn", churn().state())
    found = json.loads(json.dumps(status.to_dict()))
    assert found["champion"] == "v3"
    assert found["waiting"][0]["version"] == "v4"
    assert found["quarantined"][0]["batch"] == 10
    frame = status.to_frame()
    assert frame.height == 1
    assert frame["watermark"].dtype == pl.Datetime("us", "UTC")
    assert frame["staleness"].dtype == pl.Duration("us")


# Why ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_the_chain_behind_a_version_is_told_whole(version: str) -> None:
    life = churn()
    golden(f"why_{version}", repr(Why.of("churn", life.state(), version, life.entries)))


def test_the_last_no_is_explained_as_fully_as_a_yes() -> None:
    life = Life().arrived("2024-01-08").decided("2024-01-08", no())
    why = Why.of("churn", life.state(), None, life.entries)
    golden("why_no", repr(why))
    assert why.state == "no"
    assert isinstance(why.entries[0].fact, facts.Decided)


@pytest.mark.parametrize("gain", [-0.01, 0.012])
def test_a_gain_that_is_no_difference_of_the_values_beside_it_says_why(gain: float) -> None:
    verdict = Verdict(
        gate="No worse than champion", answer=Answer.PROMOTE, reason="r", value=gain, rows=9
    )
    life = churn()
    shown = repr(
        Why.of("churn", life.state(), "v3", [_judged_by(one, verdict) for one in life.entries])
    )
    assert "roc_auc 0.872 against 0.860" in shown
    assert ("a mean over blocks of time" in " ".join(shown.split())) == (gain == -0.01)


def _judged_by(entry: Entry, verdict: Verdict) -> Entry:
    if not isinstance(entry.fact, facts.Judged):
        return entry
    return msgspec.structs.replace(
        entry, fact=msgspec.structs.replace(entry.fact, verdicts=(verdict,))
    )


def test_a_failed_training_is_explained() -> None:
    life = (
        Life().arrived("2024-01-08").decided("2024-01-08", yes("first")).started("2024-01-08", "v1")
    )
    life.add(
        "2024-01-08",
        facts.TrainingFailed(
            version="v1", reason="out of memory", message="needed 9 GiB, limit 4 GiB", cost=Cost()
        ),
    )
    shown = repr(Why.of("churn", life.state(), "v1", life.entries))
    assert "churn · v1 failed: its training" in shown
    assert "✕ out of memory: needed 9 GiB, limit 4 GiB" in shown
    assert "failed: its training of 2024-01-08 ended without a model" in shown


def test_what_happened_after_a_promotion_is_told() -> None:
    life = churn().add(
        "2024-04-25", facts.RolledBack(version="v3", to="v1", reason="losses rose", by="anna")
    )
    shown = repr(Why.of("churn", life.state(), "v3", life.entries))
    assert "● promoted on 2024-04-01, replacing v1" in shown
    assert "↩ rolled back on 2024-04-25 to v1: losses rose" in shown
    assert "champion again on 2024-04-25" in repr(Why.of("churn", life.state(), "v1", life.entries))


def test_every_look_of_the_gate_is_told() -> None:
    life = churn().judged("2024-04-29", "v4", Answer.PROMOTE, 0.004, champion="v3", look=2)
    shown = repr(Why.of("churn", life.state(), "v4", life.entries))
    assert "on 2024-04-22" in shown
    assert "on 2024-04-29 (look 2)" in shown


def test_a_why_is_json_and_a_frame() -> None:
    life = churn()
    why = Why.of("churn", life.state(), "champion", life.entries)
    found = json.loads(json.dumps(why.to_dict()))
    assert found["version"] == "v3"
    assert [fact["kind"] for fact in found["facts"]] == [
        "Decided",
        "TrainingStarted",
        "Trained",
        "Judged",
        "Promoted",
    ]
    assert why.to_frame()["kind"].to_list() == [fact["kind"] for fact in found["facts"]]


def test_what_is_not_there_cannot_be_explained() -> None:
    life = Life().arrived("2024-01-08")
    with pytest.raises(VersionUnknown, match="got 'v7'"):
        Why.of("churn", life.state(), "v7", life.entries)
    with pytest.raises(NoChampion):
        Why.of("churn", life.state(), "champion", life.entries)
    with pytest.raises(VersionUnknown, match="not decided anything yet"):
        Why.of("churn", life.state(), None, life.entries)


# Diff and log ---------------------------------------------------------------------------


def test_only_what_differs_is_shown() -> None:
    diff = Diff.of(churn().state(), "v1", "v2")
    golden("diff", repr(diff))
    assert diff.same == ("code", "parameters", "packages", "features")
    assert {one.name for one in diff.differences if one.part == "recipe"} == {
        "start",
        "update",
        "parent",
    }


def test_a_version_does_not_differ_from_itself() -> None:
    diff = Diff.of(churn().state(), "v1", "v1")
    assert repr(diff) == "v1 and v1 do not differ"
    assert diff.to_frame().height == 0


def test_changed_parameters_and_packages_are_named() -> None:
    life = churn()
    life.started("2024-05-01", "v5").trained(
        "2024-05-01",
        "v5",
        parameters={"n_estimators": 300, "max_depth": 4},
        packages={"lightgbm": "4.8.0", "polars": "2.1.0"},
    )
    diff = Diff.of(life.state(), "v4", "v5")
    changed = {(one.part, one.name): (one.a, one.b) for one in diff.differences}
    assert changed["parameters", "learning_rate"] == (0.1, None)
    assert changed["parameters", "max_depth"] == (None, 4)
    assert changed["packages", "lightgbm"] == ("4.7.0", "4.8.0")
    assert json.loads(json.dumps(diff.to_dict()))["a"] == "v4"
    assert diff.to_frame().columns == ["part", "name", "v4", "v5"]


def test_the_log_is_newest_first_and_filtered() -> None:
    entries = churn().entries
    log = Log.of("churn", entries)
    assert [entry.seq for entry in log] == list(range(len(entries), 0, -1))
    promoted = Log.of("churn", entries, kinds=["promoted"])
    assert [entry.fact.kind for entry in promoted] == ["Promoted", "Promoted"]
    assert all(
        entry.at >= utc("2024-04-01") for entry in Log.of("churn", entries, since="2024-04-01")
    )
    assert len(Log.of("churn", entries, limit=3)) == 3
    assert log.to_frame().height == len(entries)
    assert len(log.to_dict()["facts"]) == len(entries)


def test_a_filtered_log_still_knows_what_came_before() -> None:
    trained = Log.of("churn", churn().entries, kinds=["Trained"])
    assert [line.what for line in trained.lines] == [
        "v4 schedule",
        "v3 drift",
        "v2 schedule",
        "v1 first",
    ]


def test_an_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="got 'Promotd'") as caught:
        Log.of("churn", [], kinds=["Promotd"])
    assert caught.value.hint == "did you mean 'Promoted'?"


def test_the_interval_of_a_mean_stays_where_those_of_its_windows_are() -> None:
    windows = [
        facts.Scored(batch=n, version="v1", metric="roc_auc", value=value, low=low, high=1.0, n=50)
        for n, (value, low) in enumerate([(0.99, 0.90), (1.0, 0.68)], start=1)
    ]
    centre, low, high = mean(windows)
    assert centre == pytest.approx(0.995)
    assert 0.68 < low < centre < high <= 1.0
    unsure = facts.Scored(batch=3, version="v1", metric="roc_auc", value=0.9, n=1)
    assert mean([*windows, unsure])[1:] == (None, None)
    assert mean(windows[:1]) == pytest.approx((0.99, 0.90, 1.0))
