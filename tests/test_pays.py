"""The trigger that weighs what a training saves against what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keepfit import triggers
from keepfit.errors import ConfigError
from keepfit.facts import AnyFact, Arrived, ColumnDrift, Cost, Drifted, Probed, Scored
from keepfit.protocols import Evidence
from keepfit.triggers.ageing import Course, Gap, Rate

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def arrived(batch: int, rows: int = 500) -> Arrived:
    return Arrived(batch=batch, rows=rows, labels=rows, cursor="", digest="")


def probed(gap: float, error: float = 0.01, age: int = 1_000, **more: Any) -> Probed:
    given: dict[str, Any] = {"batch": age // 500, "version": "v1", "reason": "asked"}
    given |= {"recipe": "Expanding()", "loss": "accuracy", "rows": 900}
    given |= {"stale": 0.3, "fresh": 0.3 - gap, "training_seconds": 40.0}
    return Probed(gap=gap, error=error, age=age, **(given | more))


def evidence(*facts: AnyFact, probes: Sequence[Probed] = (), **more: Any) -> Evidence:
    moment = START + 10 * DAY
    given: dict[str, Any] = {"now": moment, "watermark": moment, "first_at": START}
    given |= {"champion": "v1", "labelled": 1_000, "facts": facts, "probed": probes}
    return Evidence(**(given | more))


def lived(batches: int, *after: AnyFact, rows: int = 500) -> list[AnyFact]:
    return [*(arrived(number, rows) for number in range(1, batches + 1)), *after]


# Construction ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_error": 1.0}, "both prices"),
        ({"per_cpu_second": 1.0}, "both prices"),
        ({"per_error": 0.0, "per_cpu_second": 1.0}, "per_error above zero"),
        ({"per_error": 1.0, "per_cpu_second": -1.0}, "per_cpu_second of zero or more"),
        ({"per_error": math.nan, "per_cpu_second": 1.0}, "per_error above zero"),
        ({"worth": 0.0}, "worth above zero"),
        ({"cost": 3}, "a metric's name or a function"),
    ],
    ids=repr,
)
def test_what_cannot_be_weighed_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        triggers.Pays(**options)


def test_a_cost_function_is_shown_by_its_name_and_not_by_its_place_in_memory() -> None:
    def false_alarms(labels: Any, scores: Any) -> Any:
        return scores

    assert repr(triggers.Pays(cost=false_alarms)) == "Pays(cost=false_alarms)"


def test_only_a_trigger_that_weighs_asks_for_probes() -> None:
    trigger = triggers.Guarded(triggers.Every("7d") | triggers.Pays(worth=2.0), max_age="90d")
    assert triggers.probing(trigger) == (triggers.Pays(worth=2.0),)
    assert triggers.probing(triggers.default()) == ()


# The decision ---------------------------------------------------------------------------


def test_training_pays_when_it_saves_more_errors_than_its_price() -> None:
    # A turn costs 40 s at 0.1, the price of 4 errors at 1; at stake are 0.01 on 2,000 rows, 20.
    # So a fifth of an error is taken off: 0.028 a row count, and save 56 errors on the next
    # 2,000 rows, less the 20 that were surely lost while the gap opened.
    facts = lived(4, probed(0.03, age=2_000))
    decision = triggers.Pays(per_error=1.0, per_cpu_second=0.1).decide(evidence(*facts))
    assert decision.train
    assert decision.evidence["saved"] == pytest.approx(36.0)
    assert decision.evidence["regret"] == pytest.approx(20.0)
    assert decision.evidence["price"] == pytest.approx(4.0)
    assert "36 errors on the next 2,000 rows, 4 pay for it (40 CPU s at 0.1" in decision.reason


@pytest.mark.parametrize(("per_cpu_second", "train"), [(0.49, True), (0.51, False)])
def test_the_price_of_a_second_decides_at_the_point_where_both_sides_are_equal(
    per_cpu_second: float, train: bool
) -> None:
    facts = lived(4, probed(0.03, age=2_000))
    trigger = triggers.Pays(per_error=1.0, per_cpu_second=per_cpu_second)
    assert trigger.decide(evidence(*facts)).train is train


@pytest.mark.parametrize(("worth", "train"), [(0.26, True), (0.24, False)])
def test_without_prices_a_point_is_worth_a_share_of_training_with_every_batch(
    worth: float, train: bool
) -> None:
    # A turn is to save 0.01 / worth errors for each of the 500 rows of a batch: 20 at 0.25.
    facts = lived(4, probed(0.03, age=2_000))
    decision = triggers.Pays(worth=worth).decide(evidence(*facts))
    assert decision.train is train
    assert decision.evidence["price"] == pytest.approx(5.0 / worth)
    assert "training_seconds" not in decision.evidence


def test_a_point_of_a_loss_without_bounds_is_a_hundredth_of_the_best_constant_answer() -> None:
    facts = lived(4, probed(3.0, error=1.0, age=2_000, scale=200.0, loss="mae"))
    decision = triggers.Pays(worth=0.5).decide(evidence(*facts))
    assert decision.evidence["price"] == pytest.approx(200.0 * 500 * 0.01 / 0.5)
    assert "of mae" in decision.reason


def test_a_gap_that_is_not_sure_does_not_pay_and_the_no_says_all_the_figures() -> None:
    decision = triggers.Pays(worth=1.0).decide(evidence(*lived(4, probed(0.002, age=2_000))))
    assert not decision.train
    for told in ("save 0 errors", "next 2,000 rows", "5 pay for it", "0.0020 ± 0.0100", "none"):
        assert told in decision.reason
    assert decision.evidence["sure"] == 0.0


def test_what_was_lost_already_pays_too_where_the_gap_no_longer_grows() -> None:
    # The gap was at once as large as it is now: a fresh model will have it again as soon.
    facts = lived(10, probed(0.05, age=500), probed(0.03, age=5_000))
    decision = triggers.Pays(worth=1.0).decide(evidence(*facts))
    assert decision.train
    assert decision.evidence["saved"] < decision.evidence["price"] < decision.evidence["regret"]
    assert "would have saved" in decision.reason


def test_without_champion_probe_or_price_the_answer_is_no_with_its_reason() -> None:
    trigger = triggers.Pays(per_error=1.0, per_cpu_second=1.0)
    assert trigger.decide(evidence(champion=None)).reason == "no champion yet"
    assert "not measured yet" in trigger.decide(evidence(arrived(1))).reason
    unknown = evidence(*lived(4, probed(0.5, age=2_000, training_seconds=None)))
    assert "what a training costs is not known" in trigger.decide(unknown).reason
    assert not trigger.decide(unknown).train


def test_a_probe_of_another_champion_counts_for_nothing_now() -> None:
    decision = triggers.Pays().decide(evidence(*lived(4, probed(0.5, version="v0"))))
    assert "not measured yet" in decision.reason


# How a gap opens ------------------------------------------------------------------------


def test_a_gap_is_drawn_to_the_usual_by_how_unsure_it_is() -> None:
    drawn = Gap(0.04, 0.02).drawn_to(Gap(0.02, 0.01))
    assert drawn.value == pytest.approx((0.04 / 4 + 0.02) / (1 / 4 + 1))
    assert drawn.error < 0.01
    assert Gap(0.2, 0.02).drawn_to(Gap(0.02, 0.01)) == Gap(0.2, 0.02)
    assert Gap(0.2, 0.02).drawn_to(None) == Gap(0.2, 0.02)


def test_the_usual_rate_is_found_from_earlier_reigns_with_their_scatter() -> None:
    even = Rate.of(
        [probed(age * 1e-5, error=0.002, age=age) for age in (1_000, 2_000, 3_000, 4_000)]
    )
    assert even is not None
    assert even.mean == pytest.approx(1e-5)
    gaps = ((0.0, 1_000), (0.06, 2_000), (0.0, 3_000), (0.12, 4_000))
    uneven = Rate.of([probed(gap, error=0.002, age=age) for gap, age in gaps])
    assert uneven is not None
    assert uneven.error > 5 * even.error
    assert Rate.of([probed(0.01)] * 3) is None


def test_many_probes_without_a_gap_silence_a_doubtful_one() -> None:
    still = [probed(0.0, error=0.005, age=age) for age in (2_000, 4_000, 6_000, 8_000)]
    doubtful = lived(8, probed(0.015, age=4_000))
    trigger = triggers.Pays(worth=1.0)
    assert trigger.decide(evidence(*doubtful)).train
    decision = trigger.decide(evidence(*doubtful, probes=still))
    assert not decision.train
    assert "beside earlier probes" in decision.reason


def test_regret_is_the_area_under_the_gap_until_now() -> None:
    facts = lived(6, probed(0.02, error=0.0, age=1_000), probed(0.04, error=0.0, age=2_000))
    course = Course.of(evidence(*facts))
    assert course.regret == pytest.approx(1_000 * 0.01 + 1_000 * 0.03 + 1_000 * 0.04)
    assert course.saved(5.0) == pytest.approx(3_000 * 0.04 - course.regret)


@pytest.mark.parametrize(("price", "sure"), [(0.0, 0.03), (10.0, 0.02), (20.0, 0.01), (1e9, 0.01)])
def test_the_cheaper_a_training_the_less_doubt_counts(price: float, sure: float) -> None:
    # At stake are 0.02 on a thousand rows.
    assert Gap(0.03, 0.02).sure(1_000, price) == pytest.approx(sure)
    assert Gap(0.03, 0.0).sure(1_000, price) == 0.03
    assert Gap(-0.03, 0.02).sure(1_000, price) == 0.0


# Probes ---------------------------------------------------------------------------------


def test_a_probe_waits_for_labelled_rows_and_then_for_a_quarter_more_rows() -> None:
    trigger = triggers.Pays()
    assert trigger.wants_probe(evidence(arrived(1), labelled=199)) == ""
    assert trigger.wants_probe(evidence(arrived(1), champion=None)) == ""
    assert "first" in trigger.wants_probe(evidence(arrived(1)))
    taken = probed(0.012, age=2_000)
    assert trigger.wants_probe(evidence(*lived(4, taken))) == ""
    assert "2,500 rows" in trigger.wants_probe(evidence(*lived(4, taken, arrived(5))))


def test_before_a_training_the_gap_is_measured_again() -> None:
    facts = lived(4, probed(0.025, age=2_000), arrived(5, 100))
    trigger = triggers.Pays(worth=0.2785)
    assert not trigger.decide(evidence(*facts[:-1])).train
    assert trigger.decide(evidence(*facts)).train
    assert "would pay by now" in trigger.wants_probe(evidence(*facts))
    assert not trigger.wants_probe(evidence(*facts, probed(0.025, age=2_100)))


def test_no_probe_is_taken_where_even_the_largest_gap_would_not_pay() -> None:
    facts = lived(4, probed(0.0, age=2_000), arrived(5))
    assert triggers.Pays(worth=1.0).wants_probe(evidence(*facts))
    assert not triggers.Pays(worth=0.01).wants_probe(evidence(*facts))


def test_earlier_reigns_spare_the_first_probe_while_the_gap_cannot_be_large() -> None:
    usual = [probed(age * 1e-6, error=0.001, age=age) for age in (5_000, 9_000, 9_500, 9_900)]
    trigger = triggers.Pays(worth=1.0)
    assert not trigger.wants_probe(evidence(arrived(1), probes=usual))
    assert trigger.wants_probe(evidence(*lived(8), probes=usual))


def scored(batch: int, value: float, **more: Any) -> Scored:
    given: dict[str, Any] = {"version": "v1", "metric": "accuracy", "n": 500}
    return Scored(batch=batch, value=value, **(given | more))


@pytest.mark.parametrize(
    ("newest", "better", "asks"), [(0.6, True, True), (0.81, True, False), (0.95, False, True)]
)
def test_a_striking_window_asks_for_a_probe(newest: float, better: bool, asks: bool) -> None:
    usual = [scored(batch, 0.8 + 0.01 * (batch % 2)) for batch in range(5)]
    facts = [*lived(4), *usual, probed(0.0, age=2_000), scored(5, newest)]
    told = triggers.Pays().wants_probe(evidence(*facts, greater_is_better=better))
    assert bool(told) is asks


def test_drift_asks_for_a_probe_once() -> None:
    moved = ColumnDrift(column="age", method="KS", value=0.5, limit=0.1)
    drift = Drifted(batch=4, detector="KS()", columns=(moved,), of=3)
    facts = lived(4, probed(0.0, age=2_000), drift)
    assert triggers.Pays().wants_probe(evidence(*facts)) == "KS() saw drift in batch 4"
    assert not triggers.Pays().wants_probe(evidence(*facts, probed(0.0, age=2_000)))


# What a probe costs ---------------------------------------------------------------------


def paid(seconds: float, count: int = 4, **more: Any) -> list[Probed]:
    """Return probes of earlier reigns, in which the gap opened slowly, that cost so much."""
    ages = [(k + 2) * 1_000 for k in range(count)]
    given = {"error": 0.005, "training_seconds": 1.0, "cost": Cost(cpu_seconds=seconds)} | more
    return [probed(age * 1e-5, age=age, **given) for age in ages]


def weighed(
    *facts: AnyFact, seconds: float, turn: Sequence[float] = (0.4, 0.6), **more: Any
) -> Any:
    """Return evidence after four probes of so many seconds, and a turn of two trainings."""
    trainings = [(START, 99.0), *((START + DAY, one) for one in turn)]
    return evidence(*facts, **({"probes": paid(seconds), "trainings": trainings} | more))


@pytest.mark.parametrize(("seconds", "train"), [(0.9, False), (1.1, True)])
def test_a_training_takes_the_place_of_a_probe_that_costs_more(seconds: float, train: bool) -> None:
    told = weighed(*lived(4), seconds=seconds)
    trigger = triggers.Pays(worth=1.0)
    assert bool(trigger.wants_probe(told)) is not train
    decision = trigger.decide(told)
    assert decision.train is train
    if train:
        assert decision.reason.startswith("in the place of a probe, which costs more CPU than a")
        assert decision.reason.endswith("the first since the last training")


def test_a_turn_is_as_dear_as_it_was_forecast_or_as_the_newest_one_was() -> None:
    trigger = triggers.Pays(worth=1.0)
    forecast = weighed(*lived(4), seconds=2.0, probes=paid(2.0, training_seconds=3.0))
    assert trigger.wants_probe(forecast)
    assert trigger.wants_probe(weighed(*lived(4), seconds=2.0, turn=(1.5, 1.5)))
    assert not trigger.wants_probe(weighed(*lived(4), seconds=2.0, turn=(1.5,)))


def test_what_a_probe_costs_is_known_from_the_fourth_on_and_the_odd_one_does_not_count() -> None:
    trigger = triggers.Pays(worth=1.0)
    assert trigger.wants_probe(weighed(*lived(4), seconds=9.0, probes=paid(9.0, count=3)))
    assert trigger.wants_probe(weighed(*lived(4), seconds=9.0, trainings=()))
    odd = [*paid(90.0, count=1), *paid(0.1, count=3)]
    assert trigger.wants_probe(weighed(*lived(4), seconds=9.0, probes=odd))


def test_where_no_gap_could_pay_a_cheap_training_is_none_that_takes_a_probes_place() -> None:
    told = weighed(*lived(4), seconds=2.0)
    for trigger in (triggers.Pays(worth=0.001), triggers.Pays(per_error=1.0, per_cpu_second=1e9)):
        decision = trigger.decide(told)
        assert not decision.train
        assert "no gap can be wide enough to pay yet; another costs more CPU" in decision.reason
    few = triggers.Pays(worth=1.0).decide(weighed(arrived(1), seconds=2.0, labelled=199))
    assert few.reason.endswith("199 new labelled rows, 200 asked for")
