import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from keepfit import drift, triggers
from keepfit.errors import ConfigError
from keepfit.facts import (
    AnyFact,
    Arrived,
    Assessed,
    ColumnDrift,
    Cost,
    Decided,
    Decision,
    Drifted,
    Estimated,
    Overridden,
    Quarantined,
    Scored,
    Signalled,
    TrainingFailed,
    decode,
    encode,
)
from keepfit.protocols import Evidence, Trigger

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def evidence(day: float = 10, facts: Sequence[AnyFact] = (), **more: Any) -> Evidence:
    moment = START + day * DAY
    return Evidence(
        **(
            {
                "now": moment,
                "watermark": moment,
                "first_at": START,
                "facts": facts,
                "champion": "v1",
            }
            | more
        )
    )


def arrived(batch: int, rows: int) -> Arrived:
    return Arrived(batch=batch, rows=rows, labels=0, cursor="", digest="")


def scored(batch: int, value: float | None, **more: Any) -> Scored:
    given: dict[str, Any] = {"version": "v1", "metric": "roc_auc", "n": 2_000}
    given |= {"from_": START + (batch - 1) * 7 * DAY, "to": START + batch * 7 * DAY}
    if value is not None and "error" not in more:
        more["error"] = 0.012
    error = more.pop("error", None)
    if error is not None and value is not None:
        given |= {"low": value - 1.96 * error, "high": value + 1.96 * error}
    return Scored(batch=batch, value=value, **(given | more))


def estimated(batch: int, value: float, trust: float) -> Estimated:
    found = scored(batch, value)
    return Estimated(
        batch=batch,
        version=found.version,
        metric=found.metric,
        value=value,
        n=found.n,
        low=found.low or value,
        high=found.high or value,
        trust=trust,
        unlike=0.0,
        from_=found.from_,
        to=found.to,
    )


def drifted(
    batch: int, *columns: str, detector: str = "Columns()", rows_to: datetime | None = None
) -> Drifted:
    moved = tuple(ColumnDrift(column=name, method="KS", value=0.31, limit=0.12) for name in columns)
    return Drifted(batch=batch, detector=detector, columns=moved, of=41, rows_to=rows_to)


@dataclass(frozen=True, repr=False)
class Says(triggers.Rule):
    train: bool

    def decide(self, evidence: Evidence) -> Decision:
        return Decision(
            train=self.train, trigger=self.name, reason=f"says {'yes' if self.train else 'no'}"
        )


YES, NO = Says(True), Says(False)


class Foreign:
    """A stranger's trigger: no base class, one method."""

    def decide(self, evidence: Evidence) -> Decision:
        return Decision(train=True, trigger="foreign", reason="always")


# Every ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "trained", "train"),
    [
        (27, None, False),
        (28, None, True),
        (30, None, True),
        (30, 28, False),
        (30, 3, True),
        (55, 30, False),
        (56, 30, True),
    ],
)
def test_every_fires_on_a_grid_from_the_first_row(
    day: int, trained: int | None, train: bool
) -> None:
    trained_at = None if trained is None else START + trained * DAY
    assert triggers.Every("28d").decide(evidence(day, trained_at=trained_at)).train is train


def test_every_catches_up_once_after_a_long_silence() -> None:
    late = evidence(300, trained_at=START + 28 * DAY)
    assert triggers.Every("28d").decide(late).train
    after = evidence(301, trained_at=START + 300 * DAY)
    assert not triggers.Every("28d").decide(after).train


def test_every_counts_on_the_watermark_and_not_on_the_clock() -> None:
    backlog = evidence(10, now=START + 400 * DAY)
    assert not triggers.Every("28d").decide(backlog).train


def test_every_takes_a_cron_expression_in_utc() -> None:
    mondays = triggers.Every("0 3 * * 1")
    assert not mondays.decide(evidence(0.1)).train  # 2024-01-01 is a Monday, 02:24
    assert mondays.decide(evidence(0.125)).train
    trained = START + timedelta(hours=3)
    assert not mondays.decide(evidence(6, trained_at=trained)).train
    assert mondays.decide(evidence(30, trained_at=trained)).train


def test_every_says_when_it_is_due_next() -> None:
    decision = triggers.Every("28d").decide(evidence(3))
    assert decision.reason == "next due 2024-01-29, the first row was 2024-01-01"
    assert decision.evidence["due"] == "2024-01-29"
    assert triggers.Every("9000w").decide(evidence(3)).train is False
    assert "never" in triggers.Every("999999w").decide(evidence(3)).reason


def test_every_takes_a_length_as_the_loop_knows_it() -> None:
    assert repr(triggers.Every(timedelta(days=30))) == 'Every("30d")'


# AfterRows ------------------------------------------------------------------------------


def test_after_rows_counts_what_arrived_since() -> None:
    rows = [arrived(1, 60), arrived(2, 39)]
    assert not triggers.AfterRows(100).decide(evidence(facts=rows)).train
    decision = triggers.AfterRows(99).decide(evidence(facts=rows))
    assert (decision.train, decision.reason) == (True, "99 new rows, 99 asked for")


def test_after_rows_leaves_out_quarantined_batches_until_they_are_let_in() -> None:
    apart = [arrived(1, 60), arrived(2, 60), Quarantined(batch=2, rows=60, reason="broken")]
    assert triggers.AfterRows(61).decide(evidence(facts=apart)).evidence["rows"] == 60
    let_in = [*apart, Overridden(what="batch", reason="looked at", by="ada", batch=2)]
    assert triggers.AfterRows(61).decide(evidence(facts=let_in)).train


def test_after_rows_can_count_labelled_rows() -> None:
    labelled = triggers.AfterRows(100, labelled=True)
    assert not labelled.decide(evidence(facts=[arrived(1, 500)], labelled=99)).train
    assert labelled.decide(evidence(labelled=100)).train


# OnEvent --------------------------------------------------------------------------------


def test_on_event_answers_to_its_event_or_to_any() -> None:
    facts = [Signalled(event="new_prices"), Signalled(event="new_prices")]
    assert triggers.OnEvent().decide(evidence(facts=facts)).train
    decision = triggers.OnEvent("new_prices").decide(evidence(facts=facts))
    assert (decision.train, decision.reason) == (True, "signalled: `new_prices`")
    assert not triggers.OnEvent("new_shop").decide(evidence(facts=facts)).train
    assert not triggers.OnEvent().decide(evidence()).train


# OnDrift --------------------------------------------------------------------------------


def test_on_drift_waits_for_the_labels_of_the_drifted_rows_and_then_trains() -> None:
    seen = [drifted(9, "plan_type", rows_to=START + 9 * DAY)]
    waiting = triggers.OnDrift().decide(evidence(10, seen, labelled_to=START + 4 * DAY))
    assert not waiting.train
    assert waiting.evidence["waiting"]
    assert waiting.reason == (
        "plan_type KS 0.31 (1 of 41 columns drifted); waiting for labels of the drifted rows "
        "to 2024-01-10, labelled to 2024-01-05"
    )
    assert not triggers.OnDrift().decide(evidence(10, seen)).train
    assert triggers.OnDrift().decide(evidence(30, seen, labelled_to=START + 9 * DAY)).train


def test_on_drift_waits_for_the_first_drifted_batch_and_not_for_the_last() -> None:
    seen = [drifted(9, "a", rows_to=START + 9 * DAY), drifted(20, "b", rows_to=START + 20 * DAY)]
    assert triggers.OnDrift().decide(evidence(20, seen, labelled_to=START + 9 * DAY)).train


def test_on_drift_counts_columns_over_batches() -> None:
    two = triggers.OnDrift(at_least=2)
    first, second = drifted(1, "a", rows_to=START), drifted(2, "a", rows_to=START)
    third = drifted(3, "b", rows_to=START + 3 * DAY)
    labelled = START + 2 * DAY
    assert two.decide(evidence(facts=[first, second], labelled_to=labelled)).reason == (
        "1 columns drifted, 2 asked for"
    )
    assert not two.decide(evidence(facts=[first, second, third], labelled_to=labelled)).train
    assert two.decide(evidence(facts=[first, second, third], labelled_to=START + 3 * DAY)).train


def test_on_drift_listens_to_its_own_detector() -> None:
    class Mine:
        name = "Mine()"

        def check(self, reference: Any, rows: Any) -> Sequence[ColumnDrift]:
            return ()

    mine = Mine()
    seen = [drifted(1, "a", rows_to=START)]
    assert not triggers.OnDrift(mine).decide(evidence(facts=seen, labelled_to=START)).train
    seen = [drifted(1, "a", detector="Mine()", rows_to=START)]
    assert triggers.OnDrift(mine).decide(evidence(facts=seen, labelled_to=START)).train
    tree = triggers.Guarded(
        triggers.Every("7d") | (triggers.OnDrift(mine) & ~triggers.OnDrift(mine))
    )
    assert triggers.detectors(tree) == (mine,)
    assert triggers.detectors(triggers.Every("7d") | triggers.OnDrift()) == ()


def test_on_drift_without_an_end_of_the_rows_waits_for_any_new_label() -> None:
    seen = [drifted(1, "a")]
    assert not triggers.OnDrift().decide(evidence(facts=seen)).train
    assert triggers.OnDrift().decide(evidence(facts=seen, labelled=5)).train


def test_on_drift_ignores_columns_within_their_limit() -> None:
    still = ColumnDrift(column="a", method="KS", value=0.1, limit=0.2)
    fact = Drifted(batch=1, detector="Columns()", columns=(still,), of=3, rows_to=START)
    assert (
        triggers.OnDrift()
        .decide(evidence(facts=[fact], labelled_to=START))
        .reason.startswith("no drift")
    )


# OnRelevance ----------------------------------------------------------------------------


def assessed(batch: int, verdict: str = "learn", rows: int = 300, **more: Any) -> Assessed:
    given = {"version": "v1", "reasons": (f"because of batch {batch}",), "rows": rows} | more
    return Assessed(batch=batch, verdict=verdict, **given)


def came(batch: int, rows: int = 300) -> Arrived:
    return msgspec.structs.replace(arrived(batch, rows), to=START + batch * DAY)


def test_on_relevance_trains_when_batches_worth_learning_from_hold_enough_labelled_rows() -> None:
    trigger = triggers.OnRelevance(500)
    one = [came(1), assessed(1)]
    early = trigger.decide(evidence(facts=one, labelled_to=START + 9 * DAY))
    assert not early.train
    assert early.reason == "300 rows worth learning from, 500 asked for"
    two = [*one, came(2), assessed(2, "keep"), came(3), assessed(3)]
    decision = trigger.decide(evidence(facts=two, labelled_to=START + 3 * DAY))
    assert decision.train
    assert decision.reason == "600 rows in 2 batches worth learning from: because of batch 3"
    assert decision.evidence["needs"] == 500


def test_on_relevance_waits_for_the_labels_of_the_rows_that_made_it_enough() -> None:
    trigger = triggers.OnRelevance(500)
    facts = [fact for n in range(1, 5) for fact in (came(n), assessed(n))]
    for labelled_to in (None, START + DAY):
        waiting = trigger.decide(evidence(facts=facts, labelled_to=labelled_to, labelled=9))
        assert not waiting.train
        assert waiting.evidence["waiting"]
        assert "waiting for their labels to 2024-01-03" in waiting.reason
    # Two batches held enough, so that later ones do not put it off.
    assert trigger.decide(evidence(facts=facts, labelled_to=START + 2 * DAY)).train


def test_on_relevance_of_rows_without_an_end_waits_for_any_new_label() -> None:
    trigger = triggers.OnRelevance(1)
    assert not trigger.decide(evidence(facts=[assessed(1)], labelled=0)).train
    assert trigger.decide(evidence(facts=[assessed(1)], labelled=5)).train


@pytest.mark.parametrize(("keeps", "train"), [(0, True), (2, True), (3, False)])
def test_on_relevance_may_ask_for_a_share_of_all_rows_beside_their_number(
    keeps: int, train: bool
) -> None:
    facts: list[AnyFact] = [came(1), assessed(1), came(2), assessed(2)]
    facts += [fact for n in range(3, 3 + keeps) for fact in (came(n), assessed(n, "keep"))]
    trigger = triggers.OnRelevance(500, share=0.5)
    assert trigger.decide(evidence(facts=facts, labelled_to=START + 9 * DAY)).train is train


def test_on_relevance_counts_the_latest_word_on_a_batch_and_none_that_was_set_apart() -> None:
    trigger = triggers.OnRelevance(300)
    known = {"labelled_to": START + 9 * DAY}
    taken_back = [came(1), assessed(1, estimated=True), assessed(1, "keep")]
    assert not trigger.decide(evidence(facts=taken_back, **known)).train
    apart = [came(1), assessed(1), Quarantined(batch=1, rows=300, reason="")]
    assert not trigger.decide(evidence(facts=apart, **known)).train
    let_in = [*apart, Overridden(what="batch", reason="", by="", batch=1)]
    assert trigger.decide(evidence(facts=let_in, **known)).train


def test_on_relevance_leaves_out_what_an_earlier_champion_had_to_learn() -> None:
    facts = [came(1), assessed(1, version="v1")]
    known = {"facts": facts, "labelled_to": START + 9 * DAY}
    assert triggers.OnRelevance(300).decide(evidence(**known, champion="v1")).train
    assert not triggers.OnRelevance(300).decide(evidence(**known, champion="v2")).train


# OnDecay --------------------------------------------------------------------------------


def windows(values: Sequence[float | None], **more: Any) -> list[Scored]:
    return [scored(i + 1, value, **more) for i, value in enumerate(values)]


def decay(values: Sequence[float | None], promised: float | None = 0.7, **more: Any) -> Decision:
    better = more.pop("greater_is_better", True)
    trigger = more.pop("trigger", triggers.OnDecay())
    facts = windows(values, **more)
    return trigger.decide(
        evidence(7 * len(values), facts, promised=promised, greater_is_better=better)
    )


def test_on_decay_sees_a_clear_drop_within_a_few_windows_and_says_so() -> None:
    assert not decay([0.70, 0.71, 0.69]).train
    decision = decay([0.64, 0.65, 0.64, 0.65, 0.64])
    assert decision.train
    assert decision.reason == (
        "decayed: roc_auc 0.645 in the latest 4 of 5 windows, promised 0.700 with a margin of 0.010"
    )
    assert decision.evidence["sum"] >= decision.evidence["threshold"]


def test_on_decay_is_quiet_when_the_champion_gets_better_or_stays_within_the_margin() -> None:
    assert not decay([0.75] * 50).train
    assert not decay([0.70] * 200).train
    assert not decay([0.695] * 12).train


def test_one_freak_window_is_no_decay() -> None:
    assert not decay([0.7, 0.7, 0.7, 0.05]).train
    assert not decay(
        [0.2, 0.2, 1e9, 0.2], promised=0.2, greater_is_better=False, metric="mae", error=0.01
    ).train


@pytest.mark.parametrize("promised", [0.2, 200.0])
def test_on_decay_reads_losses_the_other_way_round(promised: float) -> None:
    scale = {"greater_is_better": False, "metric": "mae", "error": 0.02 * promised}
    assert decay([1.2 * promised] * 6, promised, **scale).train
    assert not decay([0.8 * promised] * 30, promised, **scale).train
    assert not decay([1.01 * promised] * 30, promised, **scale).train


def test_on_decay_knows_metrics_beyond_one() -> None:
    # Euros earned, and a scorer of scikit-learn that turns a loss negative.
    assert decay([9_000.0] * 6, 12_000.0, error=300.0).train
    assert not decay([12_100.0] * 30, 12_000.0, error=300.0).train
    assert decay([-30.0] * 6, -25.0, error=0.5).train
    assert not decay([-24.0] * 30, -25.0, error=0.5).train


def test_on_decay_leaves_out_windows_without_a_value_and_other_versions() -> None:
    drop = [0.64] * 5
    assert decay([None, *drop, None]).train
    others = [scored(i + 1, value, version="v0") for i, value in enumerate(drop)]
    assert not triggers.OnDecay().decide(evidence(facts=others, promised=0.7)).train


@pytest.mark.parametrize(("trust", "train"), [(0.2, False), (1.0, True)])
def test_estimates_stand_in_for_windows_where_they_are_trusted(trust: float, train: bool) -> None:
    facts = [estimated(i + 1, 0.64, trust) for i in range(5)]
    decision = triggers.OnDecay().decide(evidence(facts=facts, promised=0.7))
    assert decision.train == train
    assert ("of them estimated" in decision.reason) == train


def test_a_window_scored_again_counts_once_with_its_latest_value() -> None:
    facts = windows([0.64] * 5)
    corrected = [*facts, *windows([0.70] * 5)]
    decision = triggers.OnDecay().decide(evidence(40, corrected, promised=0.7))
    assert (decision.train, decision.evidence["windows"]) == (False, 5)


def test_without_a_promise_the_first_four_windows_make_one_and_it_is_called_provisional() -> None:
    learning = decay([0.7, 0.7, 0.7], None)
    assert (learning.train, learning.reason) == (False, "learning what v1 promises: 3 of 4 windows")
    judged = decay([0.70, 0.71, 0.69, 0.70, 0.63, 0.64, 0.63, 0.64, 0.63], None)
    assert judged.train
    assert judged.evidence["provisional"]
    assert "provisional, from the first 4 windows" in judged.reason
    assert not decay([0.70, 0.71, 0.69, 0.70], None).train


FIRST = {1: 0.70, 2: 0.71, 3: 0.69, 4: 0.70}


def alarmed(values: Sequence[float], **more: Any) -> tuple[list[int], Decision]:
    """Return the windows at which trainings that bring nothing are asked for, and the last alarm."""
    trigger, since, found = triggers.OnDecay(), [], []
    asked = list(more.pop("asked", []))
    for day, one in enumerate(windows(values)):
        since.append(one)
        seen = evidence(7 * day, since, promised=None, **{"first": FIRST, **more}, asked=asked)
        decision = trigger.decide(seen)
        if decision.train:
            found.append(day)
            # As a pipeline has it, a guard around the trigger.
            asked.append(Decision(train=True, trigger=trigger.name, reason="", parts=(decision,)))
            since = []
    return found, asked[-1].parts[0] if asked else Decision(train=False, trigger="", reason="")


def test_a_promise_stands_while_trainings_bring_no_other_champion() -> None:
    fell = alarmed([0.70, 0.71, 0.69, 0.70] + [0.4] * 40)
    assert len(fell[0]) >= 4, "it is tried again, and again"
    assert fell[1].evidence["promised"] == pytest.approx(0.70 - 0.00408, abs=1e-4)
    assert max(np.diff(fell[0])) <= 12
    assert np.all(np.diff(fell[0], 2) >= 0), "ever more is asked for"
    assert fell[1].evidence["alarms"] == len(fell[0]) - 1
    assert not alarmed([0.695, 0.70, 0.71] * 60)[0]


def test_a_champion_after_an_alarm_far_below_what_was_promised_has_not_made_good() -> None:
    before = alarmed([0.70, 0.71, 0.69, 0.70] + [0.4] * 8)[1]
    collapsed = {day: 0.4 for day in range(1, 5)}
    found, last = alarmed([0.4] * 300, first=collapsed, asked_before=[before])
    assert last.evidence["promised"] == before.evidence["promised"]
    assert last.evidence["before"]
    assert "by the champion before" in last.reason
    assert found[2] < 20, "three tries at once"
    assert min(np.diff(found[2:])) >= 90 / 7, "then within the budget"
    assert len(found) > 10, "and never again none"
    assert not alarmed([0.4] * 300, first=collapsed)[0], "without an alarm it is its own promise"


def test_a_champion_a_little_below_what_was_promised_makes_its_own_promise() -> None:
    before = alarmed([0.70, 0.71, 0.69, 0.70] + [0.4] * 8)[1]
    near = {day: 0.64 for day in range(1, 5)}
    assert not alarmed([0.64] * 100, first=near, asked_before=[before])[0]
    held = triggers.OnDecay().decide(
        evidence(7, windows([0.4] * 3), promised=0.3, asked_before=[before])
    )
    assert held.evidence["promised"] == before.evidence["promised"], "a gate's value too"


def test_alarms_at_luck_are_no_more_than_when_it_was_learnt_anew(seed: int) -> None:
    many = 0
    for life in range(20):
        values = 0.7 + np.random.default_rng([seed, life]).normal(0, 0.02, 60)
        first = dict(enumerate(values[:4].tolist(), start=1))
        many += len(alarmed(values.tolist(), first=first)[0])
    # One in 13 windows is the budget: 92 in 20 lives.
    assert many <= 10


def test_windows_without_an_interval_first_teach_their_spread() -> None:
    assert not decay([0.5, 0.5, 0.5], error=None).train
    assert decay([0.5, 0.51, 0.5, 0.51, 0.5, 0.5, 0.5], error=None).train


def test_the_threshold_is_the_number_of_windows_in_the_alarm_budget() -> None:
    weekly = decay([0.7] * 4)
    assert weekly.evidence["threshold"] == pytest.approx(90 / 7)
    rare = decay([0.7] * 4, trigger=triggers.OnDecay(alarms="2 per 365d"))
    assert rare.evidence["threshold"] == pytest.approx(365 / 14)
    assert decay([0.7], from_=START, to=START + DAY).evidence["threshold"] == pytest.approx(90)
    assert decay([0.7], from_=None, to=None).evidence["threshold"] == pytest.approx(90)
    assert decay([0.7] * 4, trigger=triggers.OnDecay(alarms="50 per 1d")).evidence["threshold"] == 2


def test_on_decay_before_any_champion_or_any_window_says_no() -> None:
    assert triggers.OnDecay().decide(evidence(champion=None)).reason == "no champion yet"
    assert "no window scored" in triggers.OnDecay().decide(evidence(promised=0.7)).reason


Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "small": lambda rng, n: rng.normal(0, 0.005, n),
    "of the interval": lambda rng, n: rng.normal(0, 0.012, n),
    "beyond the interval": lambda rng, n: rng.normal(0, 0.03, n),
    "bad days": lambda rng, n: 0.02 - rng.exponential(0.02, n),
}


@cache
def run_lengths(
    noise: str, promised: float | None, mean: float, streams: int, longest: int
) -> np.ndarray:
    """Return the windows until the alarm on streams that do not change, cut at the longest."""
    rng = np.random.default_rng(20130101)
    trigger = triggers.OnDecay(alarms="1 per 35d")
    lengths = []
    for _ in range(streams):
        facts = windows((mean + NOISES[noise](rng, longest)).tolist())
        known = (
            n
            for n in range(1, longest + 1)
            if trigger.decide(evidence(7 * n, facts[:n], promised=promised)).train
        )
        lengths.append(next(known, longest))
    return np.array(lengths)


@pytest.mark.parametrize("noise", list(NOISES))
@pytest.mark.parametrize(
    ("promised", "mean"),
    [(0.70, 0.70), (0.70, 0.69), (None, 0.70)],
    ids=["as promised", "at the margin", "provisional"],
)
def test_the_average_run_length_on_a_still_stream_respects_the_alarm_budget(
    noise: str, promised: float | None, mean: float
) -> None:
    # One alarm per 35 days is five weekly windows. Cutting the streams at four times that
    # makes their mean smaller, so the bound is a safe one. 99.9 % lower confidence bound of
    # the mean against the budget: it fails when the rate is above the budget for sure.
    lengths = run_lengths(noise, promised, mean, 120, 20)
    upper = lengths.mean() + 3.1 * lengths.std(ddof=1) / math.sqrt(lengths.size)
    assert upper >= 5
    if mean == 0.70:
        lower = lengths.mean() - 3.1 * lengths.std(ddof=1) / math.sqrt(lengths.size)
        assert lower >= 5


def test_a_drop_of_five_points_of_auc_is_found_within_a_few_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    delays = []
    for _ in range(60):
        facts = windows((0.65 + rng.normal(0, 0.012, 15)).tolist())
        found = (
            n
            for n in range(1, 16)
            if triggers.OnDecay().decide(evidence(7 * n, facts[:n], promised=0.7)).train
        )
        delays.append(next(found, 15))
    assert np.mean(delays) < 5
    assert max(delays) < 12


# Joins ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "train"),
    [
        (YES | NO, True),
        (NO | NO, False),
        (YES & NO, False),
        (YES & YES, True),
        (YES & ~NO, True),
        (YES & ~YES, False),
        ((NO | YES) & ~NO, True),
        (triggers.AtLeast(2, YES, NO, YES), True),
        (triggers.AtLeast(2, YES, NO, NO), False),
        (Foreign() | NO, True),
        (NO | Foreign(), True),
        (Foreign() & NO, False),
    ],
)
def test_triggers_are_joined_as_they_read(trigger: Trigger, train: bool) -> None:
    assert trigger.decide(evidence()).train is train


def test_a_joined_trigger_asks_and_records_every_part() -> None:
    decision = (YES | NO | triggers.AtLeast(1, NO, YES)).decide(evidence())
    assert [part.train for part in decision.parts] == [True, False, True]
    assert [part.train for part in decision.parts[2].parts] == [False, True]
    assert decision.reason == "says yes; says yes"
    assert (NO & YES).decide(evidence()).reason == "says no"
    assert (YES & ~YES).decide(evidence()).reason == "held back: says yes"


def test_a_joined_trigger_is_written_as_it_was_joined() -> None:
    a, b, c = triggers.Every("28d"), triggers.OnDrift(), triggers.AfterRows(5)
    assert repr(a | b | c) == 'Every("28d") | OnDrift() | AfterRows(5)'
    assert repr((a | b) & ~c) == '(Every("28d") | OnDrift()) & ~AfterRows(5)'
    assert repr(a & ~(b & c)) == 'Every("28d") & ~(OnDrift() & AfterRows(5))'
    assert (
        repr(triggers.AtLeast(2, a, b & c)) == 'AtLeast(2, Every("28d"), OnDrift() & AfterRows(5))'
    )
    assert repr(a & b | c) == '(Every("28d") & OnDrift()) | AfterRows(5)'
    assert ((a | b) | c).decide(evidence()).parts == (a | (b | c)).decide(evidence()).parts
    assert ~~a is a
    assert (a | b) == (a | b) != (a & b)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: YES | ~NO,
        lambda: ~NO | YES,
        lambda: triggers.AtLeast(1, YES, ~NO),
        lambda: (~YES & ~NO) | YES,
        lambda: triggers.resolve(~YES),
        lambda: triggers.resolve(~YES & ~NO),
        lambda: triggers.Guarded(~YES),
    ],
)
def test_a_negation_stands_only_beside_another_trigger(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="beside another trigger") as error:
        wrong()
    assert "a & ~b" in (error.value.hint or "")
    triggers.resolve((~YES & ~NO) & YES)


@pytest.mark.parametrize(
    "wrong", [lambda: triggers.resolve([YES, NO]), lambda: YES | [NO], lambda: [NO] | YES]
)  # type: ignore[arg-type, operator, list-item]
def test_a_list_of_triggers_fails_with_the_way_to_join_them(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="got a list") as error:
        wrong()
    assert "a | b" in (error.value.hint or "")


def test_or_and_and_not_in_words_fail_with_the_signs_to_write() -> None:
    for wrong in (lambda: YES or NO, lambda: YES and NO, lambda: not YES):
        with pytest.raises(ConfigError, match="true or false is asked"):
            wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: triggers.Every("monthly"),
        lambda: triggers.Every("0d"),
        lambda: triggers.Every("99 3 * * 1"),
        lambda: triggers.AfterRows(0),
        lambda: triggers.OnDrift("KS"),  # type: ignore[arg-type]
        lambda: triggers.OnDrift(at_least=0),
        lambda: triggers.OnDecay(-0.1),
        lambda: triggers.OnDecay(float("nan")),
        lambda: triggers.OnDecay(alarms="rarely"),
        lambda: triggers.OnDecay(alarms="0 per 90d"),
        lambda: triggers.OnDecay(alarms="600s per 90d"),
        lambda: triggers.OnEvent(""),
        lambda: triggers.OnEvent(" "),
        lambda: triggers.OnEvent(3),  # type: ignore[arg-type]
        lambda: triggers.AtLeast(0, YES),
        lambda: triggers.AtLeast(3, YES, NO),
        lambda: triggers.resolve(triggers.Every),  # type: ignore[arg-type]
        lambda: triggers.resolve("28d"),  # type: ignore[arg-type]
        lambda: triggers.Guarded(YES, cooldown="soon"),
        lambda: triggers.Guarded(YES, budget="3"),
        lambda: triggers.Guarded(YES, budget="3 per 0d"),
        lambda: triggers.Guarded(YES, enough=0),
        lambda: triggers.Guarded(YES, max_age="old"),
        lambda: triggers.OnRelevance(0),
        lambda: triggers.OnRelevance(share=1.1),
        lambda: triggers.OnRelevance(share=float("nan")),
    ],
)
def test_a_trigger_written_wrongly_fails_before_it_sees_data(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        wrong()


@pytest.mark.parametrize(
    "written", ["often", "-1 per 90d", "600s per 90d", "1 per month", "1 per 0d"]
)
@pytest.mark.parametrize(
    "made",
    [
        lambda alarms: triggers.OnDrift(alarms=alarms),
        lambda alarms: triggers.OnDecay(alarms=alarms),
        drift.Alarms,
    ],
    ids=["OnDrift", "OnDecay", "Alarms"],
)
def test_where_alarms_are_counted_a_count_is_asked_for(
    made: Callable[[str], object], written: str
) -> None:
    said = rf"expected a count above zero per length of time, got '{written}'\n\nhint: .*1 per 90d"
    with pytest.raises(ConfigError, match=said):
        made(written)


@pytest.mark.parametrize("written", ["-1 per 90d", "600s per month"])
def test_a_budget_written_wrongly_is_told_with_both_ways_to_write_it(written: str) -> None:
    with pytest.raises(ConfigError, match=rf"budget: expected a rate, got '{written}'.*\n") as told:
        triggers.Guarded(YES, budget=written)
    assert told.value.hint == 'write "3 per 30d" or "600s per 30d"'


def test_no_trigger_is_each_step() -> None:
    assert repr(triggers.resolve(None)) == "EachStep()"
    foreign = Foreign()
    assert triggers.resolve(foreign) is foreign


# Guards ---------------------------------------------------------------------------------


def test_the_first_training_waits_for_enough_labelled_rows_and_for_nothing_else() -> None:
    guarded = triggers.Guarded(NO, cooldown="7d", budget="1 per 900d", enough=100)
    few = guarded.decide(evidence(champion=None, labelled=99))
    assert not few.train
    assert few.reason == "no champion yet; held by too few labelled rows (99 new, 100 asked for)"
    first = guarded.decide(evidence(champion=None, labelled=100))
    assert (first.train, first.trigger, first.reason) == (True, "first", "no champion yet")


def guard_says(trigger: Trigger = YES, *, day: float = 10, **more: Any) -> Decision:
    guards = {
        name: more.pop(name) for name in ("cooldown", "budget", "enough", "max_age") if name in more
    }
    given = {"labelled": 500, "trained_at": START + 5 * DAY, "trained_to": START + 4 * DAY} | more
    return triggers.Guarded(trigger, **guards).decide(evidence(day, **given))


def test_a_yes_passes_when_no_guard_holds_it_and_a_no_stays_a_no() -> None:
    yes = guard_says(cooldown="5d", budget="2 per 30d", max_age="1d")
    assert (yes.train, yes.reason, yes.trigger) == (True, "says yes", "Says(True)")
    assert [part.reason for part in yes.parts] == ["says yes"]
    no = guard_says(NO, labelled=0, cooldown="900d")
    assert (no.train, no.reason) == (False, "says no")


def test_the_cool_down_counts_event_time_since_the_last_decision_to_train() -> None:
    held = guard_says(cooldown="7d", now=START + 900 * DAY)
    assert not held.train
    assert held.evidence["held_by"] == ["the cool-down"]
    assert (
        held.reason
        == "says yes; held by the cool-down (5 d since the last training, 7 d asked for)"
    )
    assert guard_says(cooldown="7d", day=12).train


def test_the_budget_counts_trainings_or_their_seconds_in_its_period() -> None:
    past = [(START + day * DAY, 100.0) for day in (-30, 1, 5)]
    assert not guard_says(budget="2 per 30d", trainings=past).train
    assert guard_says(budget="3 per 30d", trainings=past).train
    assert not guard_says(budget="200s per 30d", trainings=past).train
    assert guard_says(budget="201s per 30d", trainings=past).train
    assert guard_says(budget="2 per 30d", trainings=past, day=31).train
    assert triggers.Guarded(YES, budget="2 per 30d").period == 30 * DAY
    assert triggers.Guarded(YES).period is None


def test_tries_of_a_first_champion_that_failed_are_held_to_the_budget() -> None:
    past = [(START + day * DAY, 1.0) for day in (8, 9)]
    first = {"champion": None, "trainings": past, "day": 10}
    assert guard_says(budget="2 per 30d", **first).evidence["held_by"] == ["the budget"]
    assert guard_says(budget="3 per 30d", **first).train


def test_a_training_needs_enough_new_labelled_rows() -> None:
    held = guard_says(labelled=99, enough=100)
    assert (held.train, held.evidence["held_by"]) == (False, ["too few labelled rows"])


@pytest.mark.parametrize(
    ("learnt", "needed"),
    [(0, 200), (1, 10), (900, 10), (4_000, 40), (20_000, 200), (10**9, 200)],
    ids=str,
)
def test_what_is_enough_hangs_on_what_the_champion_learnt_where_nothing_is_said(
    learnt: int, needed: int
) -> None:
    held = guard_says(labelled=needed - 1, learnt=learnt)
    assert (held.train, held.evidence["held_by"]) == (False, ["too few labelled rows"])
    assert f"({needed - 1:,} new, {needed:,} asked for)" in held.reason
    assert guard_says(labelled=needed, learnt=learnt).train
    assert not guard_says(labelled=needed, learnt=learnt, enough=needed + 1).train


def test_a_challenger_at_the_gate_is_waited_for_as_long_as_few_rows_are_new() -> None:
    assert not guard_says(labelled=199, learnt=900, waiting=("v2",)).train
    assert guard_says(labelled=200, learnt=900, waiting=("v2",)).train


def test_the_first_training_needs_a_hundred_labelled_rows_where_nothing_is_said() -> None:
    assert not guard_says(champion=None, labelled=99).train
    assert guard_says(champion=None, labelled=100).train


def test_an_old_champion_trains_though_the_trigger_says_no_but_not_beyond_its_guards() -> None:
    aged = guard_says(NO, day=40, max_age="30d")
    assert (aged.train, aged.trigger) == (True, "max_age")
    assert aged.reason == "the champion's newest row is 36 d old, 30 d allowed"
    assert not guard_says(NO, day=34, max_age="30d").train
    assert not guard_says(NO, day=40, max_age="30d", labelled=0).train
    spent = [(START + 39 * DAY, 1.0)]
    assert not guard_says(NO, day=40, max_age="30d", budget="1 per 30d", trainings=spent).train


def test_an_old_champion_is_not_trained_past_while_a_younger_challenger_waits() -> None:
    waiting = {"day": 40, "max_age": "30d", "trained_at": START + 12 * DAY, "waiting": ("v2",)}
    held = guard_says(NO, **waiting)
    assert (held.train, held.evidence["held_by"]) == (False, ["the gate"])
    assert held.reason == (
        "the champion's newest row is 36 d old, 30 d allowed; "
        "held by the gate (v2 of 28 d ago waits there for evidence)"
    )
    assert guard_says(NO, **(waiting | {"trained_at": START + 9 * DAY})).train
    assert guard_says(NO, **(waiting | {"waiting": ()})).train
    # What the trigger itself asks for takes the place of what waits.
    assert guard_says(YES, **waiting).train


def test_every_guard_that_holds_is_named() -> None:
    held = guard_says(cooldown="7d", budget="1 per 30d", enough=1_000, trainings=[(START, 1.0)])
    assert held.evidence["held_by"] == ["the cool-down", "the budget", "too few labelled rows"]


def test_a_failed_training_is_not_tried_again_before_its_back_off_is_over() -> None:
    failed = TrainingFailed(
        version="v2", reason="raised", message="", cost=Cost(), retry_at=START + 12 * DAY
    )
    assert guard_says(facts=[failed]).evidence["held_by"] == ["the back-off"]
    assert guard_says(facts=[failed], day=12).train
    first = triggers.Guarded(NO).decide(evidence(champion=None, labelled=500, facts=[failed]))
    assert not first.train


def test_a_decision_can_be_kept_as_a_fact() -> None:
    facts = [arrived(1, 50), drifted(1, "a", rows_to=START), scored(1, 0.5), Signalled(event="e")]
    trigger = triggers.Guarded(
        (triggers.Every("1d") | triggers.OnDrift() | triggers.OnEvent() | triggers.OnDecay())
        & ~triggers.AfterRows(10**9),
        cooldown="1d",
        budget="9s per 1d",
        max_age="1d",
    )
    decided = Decided(
        batch=1, decision=trigger.decide(evidence(9, facts, promised=0.7, labelled=900))
    )
    assert decode(encode(decided)) == decided
