"""Gates promote at most the stated share of what they should not, and say what they saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from keepfit import gates, metrics
from keepfit.errors import ConfigError
from keepfit.facts import Answer, Verdict
from keepfit.protocols import Comparison

ACCURACY = metrics.get("accuracy", task="binary")
AUC = metrics.get("roc_auc", task="binary")
LOOKS = 5
GROWTH = 1.25
UNITS = 40
"""Units of time in the first look of the simulations; the rows of a unit share an effect."""


def compare(labels, challenger, champion, metric=ACCURACY, **more) -> Comparison:
    rows = len(labels)
    return Comparison(
        metric=metric,
        labels=np.asarray(labels),
        challenger=np.asarray(challenger, dtype=np.float64),
        champion=None if champion is None else np.asarray(champion, dtype=np.float64),
        **({"times": np.arange(rows) * 60_000_000, "rows": pl.DataFrame()} | more),
    )


def right(hits: np.ndarray) -> np.ndarray:
    """Return scores for labels of 1 that are right where told."""
    return np.where(hits, 0.9, 0.1)


def effects(rng: np.random.Generator, rows: int, memory: float) -> np.ndarray:
    """Return one effect per row: shared by units of time, resembling that of the unit before."""
    unit_rows = int(rows / GROWTH ** (LOOKS - 1) / UNITS)
    units = -(-rows // unit_rows)
    steps = rng.normal(size=units)
    for unit in range(1, units):
        steps[unit] = memory * steps[unit - 1] + np.sqrt(1 - memory**2) * steps[unit]
    return np.repeat(steps, unit_rows)[:rows]


def by_rows(
    rng, rows: int, gain: float, memory: float | None, strength: float = 0.15
) -> Comparison:
    """Return models that differ on a fifth of the rows, the challenger ``gain`` more often right."""
    differ = rng.random(rows) < 0.2
    swing = 0.0 if memory is None else strength * effects(rng, rows, memory)
    wins = rng.random(rows) < 0.5 + gain / 0.4 + swing
    both = rng.random(rows) < 0.75
    challenger, champion = np.where(differ, wins, both), np.where(differ, ~wins, both)
    return compare(np.ones(rows, dtype=np.int64), right(challenger), right(champion))


def by_ranks(rng, rows: int, worse: float, memory: float | None) -> Comparison:
    """Return models whose scores carry the same signal, the challenger's with more noise."""
    labels = (rng.random(rows) < 0.3).astype(np.int64)
    common = labels + rng.normal(size=rows)
    swing = 0.0 if memory is None else 0.35 * effects(rng, rows, memory)
    challenger = common + swing * (labels - 0.3) + (0.4 + worse) * rng.normal(size=rows)
    champion = common - swing * (labels - 0.3) + 0.4 * rng.normal(size=rows)
    return compare(labels, challenger, champion, AUC)


def first(comparison: Comparison, rows: int, look: int) -> Comparison:
    return replace(
        comparison,
        labels=comparison.labels[:rows],
        challenger=comparison.challenger[:rows],
        champion=comparison.champion[:rows],
        times=comparison.times[:rows],
        look=look,
    )


def lives(gate, make, rows: int, times: int, seed: int = 0, **world) -> float:
    """Return the share of challengers that pass at any look, each with a quarter more rows."""
    passed = 0
    for life in range(times):
        rng = np.random.default_rng([seed, life])
        whole = make(rng, int(rows * GROWTH ** (LOOKS - 1)), **world)
        for look in range(1, LOOKS + 1):
            seen = first(whole, int(rows * GROWTH ** (look - 1)), look)
            answer = gate.judge(seen).answer
            if answer != Answer.NOT_ENOUGH:
                passed += answer == Answer.PROMOTE
                break
    return passed / times


def above(share: float, times: int) -> float:
    """Return what a true share does not exceed in so many lives, but for one time in a thousand."""
    return share + 3.09 * np.sqrt(share * (1 - share) / times)


MEMORIES = [None, 0.0, 0.3, 0.6]


@pytest.mark.parametrize("memory", MEMORIES)
def test_equal_challengers_beat_in_at_most_the_stated_share(memory):
    world = {"gain": 0.0, "memory": memory, "strength": 0.3}
    assert lives(gates.Beats(), by_rows, 1_200, 250, **world) <= above(0.05, 250)


def test_blocks_taken_for_independent_would_pass_far_more_equal_challengers():
    # What the test above would not forgive: the same figures, the plain t interval of blocks.
    passed = 0
    for life in range(250):
        rng = np.random.default_rng([0, life])
        made = by_rows(rng, int(1_200 * GROWTH**4), 0.0, 0.6, strength=0.3)
        gains = made.challenger.round() - made.champion.round()
        blocks = np.array([part.mean() for part in np.array_split(gains[:1_200], 64)])
        # The t quantile at 63 degrees of freedom that leaves 2.5 %: half of the level.
        passed += blocks.mean() > 1.998 * blocks.std(ddof=1) / 8
    assert passed / 250 > above(0.05, 250)


@pytest.mark.parametrize("memory", [None, 0.3, 0.6])
def test_challengers_of_equal_area_beat_in_at_most_the_stated_share(memory):
    share = lives(gates.Beats(), by_ranks, 1_000, 100, worse=0.0, memory=memory)
    assert share <= above(0.05, 100)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("rows", [300, 1_500])
def test_challengers_at_the_margin_pass_in_at_most_the_stated_share(memory, rows):
    gate = gates.NoWorse(within=0.02)
    share = lives(gate, by_rows, rows, 120, gain=-0.02, memory=memory)
    assert share <= above(0.3, 120)


def loss_of_area(memory: float | None, worse: float) -> float:
    """Return the true loss on average over all rows of many worlds."""
    losses = []
    for life in range(250):
        made = by_ranks(np.random.default_rng([9, life]), 2_441, worse, memory)
        champion = AUC.value(made.labels, made.champion)
        losses.append(champion - AUC.value(made.labels, made.challenger))
    return float(np.mean(losses))


@pytest.mark.parametrize("memory", [None, 0.5])
def test_challengers_whose_area_is_at_the_margin_pass_in_at_most_the_stated_share(memory):
    loss = loss_of_area(memory, worse=0.25)
    assert 0.01 < loss < 0.05
    gate = gates.NoWorse(within=loss)
    share = lives(gate, by_ranks, 1_000, 80, worse=0.25, memory=memory)
    assert share <= above(0.3, 80)


@pytest.mark.parametrize(("rows", "least"), [(500, 0.2), (2_000, 0.5), (5_000, 0.85)])
def test_equal_challengers_mostly_pass_as_no_worse(rows, least):
    share = lives(gates.NoWorse(), by_ranks, rows, 50, worse=0.0, memory=None)
    assert share >= least


def test_better_challengers_pass_both_gates():
    for gate in (gates.NoWorse(), gates.Beats(margin=0.01)):
        assert lives(gate, by_rows, 2_000, 40, gain=0.08, memory=0.3) >= 0.9


def test_challengers_that_only_add_mistakes_are_not_let_in_by_rows_without_one():
    # One row in a hundred is worse and none better: most short holdouts show no difference.
    def seldom(rng, rows):
        hits = rng.random(rows) < 0.8
        return compare(
            np.ones(rows, dtype=np.int64), right(hits & (rng.random(rows) > 0.0125)), right(hits)
        )

    for rows in (90, 400):
        assert lives(gates.NoWorse(within=0.01), seldom, rows, 150) <= above(0.3, 150)


def test_challengers_of_one_turn_share_the_level():
    gate = gates.Beats()
    passed = 0
    for life in range(200):
        made = [by_rows(np.random.default_rng([life, i]), 1_000, 0.0, None) for i in range(4)]
        passed += any(
            gate.judge(replace(one, challengers=4)).answer == Answer.PROMOTE for one in made
        )
    assert passed / 200 <= above(0.05, 200)


def test_a_verdict_is_a_sentence_with_its_figures():
    made = by_rows(np.random.default_rng(3), 4_000, 0.05, None)
    verdict = gates.Beats(margin=0.002).judge(made)
    assert verdict.answer is Answer.PROMOTE
    assert verdict.gate == "Beats champion by 0.0020"
    low, high = f"{verdict.low:+.4f}", f"{verdict.high:+.4f}"
    assert verdict.reason == f"{verdict.value:+.4f} [{low}, {high}], needs +0.0020"
    assert verdict.rows == 4_000
    gain = ACCURACY.value(made.labels, made.challenger) - ACCURACY.value(made.labels, made.champion)
    assert verdict.value == pytest.approx(gain)
    assert verdict.low < verdict.value < verdict.high


def test_names_say_margin_and_slice():
    assert gates.NoWorse(0.002).name == "No worse than champion within 0.0020"
    assert gates.NoWorse(slice="carrier").name == "No worse than champion in each carrier"
    assert gates.Beats().name == "Beats champion"
    assert gates.AtLeast(0.7).name == "At least 0.7000"
    assert repr(gates.NoWorse(0.01, slice="carrier", level=0.9)) == (
        'NoWorse(0.01, slice="carrier", level=0.9)'
    )
    assert eval(repr(gates.Beats(0.1, looks=3)), vars(gates)) == gates.Beats(0.1, looks=3)


def test_a_challenger_shown_to_be_worse_is_refused_at_once():
    verdict = gates.NoWorse(0.01).judge(by_rows(np.random.default_rng(0), 4_000, -0.1, None))
    assert verdict.answer is Answer.REFUSE
    assert verdict.high < verdict.needs == -0.01
    assert verdict.reason.endswith("needs -0.0100")


def test_what_is_not_shown_waits_for_rows_and_is_refused_after_its_looks():
    made = by_rows(np.random.default_rng(0), 1_000, 0.0, None)
    answers = [gates.Beats().judge(replace(made, look=look)) for look in (1, 4, 5, 6)]
    assert [one.answer for one in answers] == [Answer.NOT_ENOUGH] * 2 + [Answer.REFUSE] * 2
    assert answers[0].reason.endswith("; look 1 of 5")
    assert answers[2].reason.endswith("; not shown in 5 looks")
    assert answers[3].reason == "not shown in 5 looks"


def test_every_look_and_challenger_spends_its_part_of_the_level():
    made = by_rows(np.random.default_rng(0), 1_000, 0.0, None)
    gate = gates.Beats(level=0.9)
    spent = [gate._tail(replace(made, look=look)) for look in range(1, 6)]
    assert spent == pytest.approx([0.05, 0.025, 0.0125, 0.00625, 0.00625])
    assert sum(spent) == pytest.approx(0.1)
    lows = [gate.judge(replace(made, challengers=n)).low for n in (1, 2, 5)]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 3


def test_too_few_rows_are_not_enough_evidence_and_the_reason_says_so():
    verdict = gates.NoWorse().judge(by_rows(np.random.default_rng(0), 20, 0.0, None))
    assert verdict.answer is Answer.NOT_ENOUGH
    assert "effective blocks of time in 20 rows, needs 8; more labelled" in verdict.reason
    assert verdict.value is None


def test_rows_that_all_resemble_their_neighbours_are_few_blocks():
    # Six stretches of 500 rows, in each of which one model is right throughout.
    hits = np.repeat([True, False, True, True, False, True], 500)
    made = compare(np.ones(3_000, dtype=np.int64), right(hits), right(~hits))
    verdict = gates.Beats().judge(made)
    assert verdict.answer is Answer.NOT_ENOUGH
    assert "effective blocks" in verdict.reason


def test_nothing_to_judge_is_not_enough_evidence():
    none = compare(np.array([], dtype=np.int64), [], [])
    assert gates.NoWorse().judge(none).reason == "no labelled rows to judge on yet"
    for rows in (1, 2, 7):
        few = compare(np.ones(rows, dtype=np.int64), np.full(rows, 0.7), np.full(rows, 0.6))
        for metric in (ACCURACY, AUC):
            assert gates.Beats().judge(replace(few, metric=metric)).answer is Answer.NOT_ENOUGH


def test_one_class_has_no_area_to_compare():
    rng = np.random.default_rng(0)
    made = compare(np.zeros(2_000, dtype=np.int64), rng.random(2_000), rng.random(2_000), AUC)
    assert gates.NoWorse().judge(made).answer is Answer.NOT_ENOUGH


@pytest.mark.parametrize("metric", [ACCURACY, AUC, metrics.get("log_loss", task="binary")])
def test_scores_that_all_tie_are_no_worse_and_beat_nothing(metric):
    labels = (np.arange(2_000) % 3 == 0).astype(np.int64)
    same = compare(labels, np.full(2_000, 0.4), np.full(2_000, 0.4), metric)
    assert gates.NoWorse().judge(same).answer is Answer.PROMOTE
    assert gates.Beats().judge(same).answer is Answer.NOT_ENOUGH
    assert gates.NoWorse().judge(same).value == 0


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(odd):
    made = by_rows(np.random.default_rng(0), 2_000, 0.05, None)
    broken = made.challenger.copy()
    broken[[5, 9]] = odd
    for gate in (gates.NoWorse(), gates.Beats(), gates.AtLeast(0.5)):
        for champion in (made.champion, None):
            verdict = gate.judge(replace(made, challenger=broken, champion=champion))
            assert verdict.answer is Answer.REFUSE
            assert verdict.reason == "2 of 2,000 scores are not finite"


def test_a_champion_that_fails_on_rows_is_compared_on_the_others():
    made = by_rows(np.random.default_rng(0), 2_000, 0.05, None)
    broken = made.champion.copy()
    broken[:100] = np.nan
    verdict = gates.NoWorse().judge(replace(made, champion=broken))
    assert (verdict.answer, verdict.rows) == (Answer.PROMOTE, 1_900)
    verdict = gates.NoWorse().judge(replace(made, champion=np.full(2_000, np.nan)))
    assert verdict.reason == "the champion gives no finite score"
    floor = gates.AtLeast(0.5).judge(replace(made, champion=np.full(2_000, np.nan)))
    assert (floor.answer, floor.rows) == (Answer.PROMOTE, 2_000)
    labels = made.labels.astype(float)
    labels[:300] = np.nan
    assert gates.NoWorse().judge(replace(made, labels=labels)).rows == 1_700


def test_without_a_champion_the_challenger_passes():
    made = replace(by_rows(np.random.default_rng(0), 50, 0.0, None), champion=None)
    for gate in (gates.NoWorse(), gates.Beats()):
        verdict = gate.judge(made)
        assert (verdict.answer, verdict.reason) == (Answer.PROMOTE, "no champion yet")


def test_the_margin_left_out_is_one_point_or_two_per_cent_of_a_loss():
    rng = np.random.default_rng(0)
    made = by_rows(rng, 2_000, 0.0, None)
    assert gates.NoWorse().judge(made).needs == -0.01
    values = rng.normal(1_000, 10, 2_000)
    guesses = [values + rng.normal(0, 50, 2_000) for _ in range(2)]
    mae = metrics.get("mae", task="regression")
    verdict = gates.NoWorse().judge(compare(values, *guesses, mae))
    assert verdict.needs == pytest.approx(-0.02 * mae.value(values, guesses[1]))
    assert f"needs {verdict.needs:+.4f}" in verdict.reason


@pytest.mark.parametrize("name", ["mae", "rmse", "mape", "r2", "pinball"])
def test_a_gain_in_a_loss_is_positive_and_in_units_of_the_metric(name):
    rng = np.random.default_rng(0)
    values = rng.normal(100, 10, 3_000)
    better, worse = values + rng.normal(0, 2, 3_000), values + rng.normal(0, 3, 3_000)
    metric = metrics.get(name, task="regression")
    verdict = gates.Beats().judge(compare(values, better, worse, metric))
    gain = metric.value(values, better) - metric.value(values, worse)
    assert verdict.answer is Answer.PROMOTE
    assert verdict.value == pytest.approx(gain if metric.greater_is_better else -gain)
    assert gates.NoWorse().judge(compare(values, worse, better, metric)).answer is Answer.REFUSE


def test_metrics_of_several_classes_and_of_ones_own_are_compared_too():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 3_000)
    near = rng.dirichlet([1.0] * 3, 3_000) + 0.6 * (labels[:, None] == np.arange(3))
    near /= near.sum(axis=1, keepdims=True)
    far = rng.dirichlet([1.0] * 3, 3_000)

    def sureness(y, p):
        return float(p[np.arange(len(y)), y].mean())

    for name in ("log_loss", "roc_auc", "f1", "balanced_accuracy", "brier", sureness):
        metric = metrics.get(name, task="multiclass")
        assert gates.Beats().judge(compare(labels, near, far, metric)).answer is Answer.PROMOTE
        assert gates.NoWorse().judge(compare(labels, far, near, metric)).answer is Answer.REFUSE


BY_CLASS = ("roc_auc", "average_precision", "f1", "balanced_accuracy")


def ranked(rng, rows: int, rare: float, noise: float = 0.4, signal: float = 1.2) -> Comparison:
    """Return two models that know as much as each other, or as ``noise`` says less."""
    labels = (rng.random(rows) < rare).astype(np.int64)
    common = signal * labels + rng.normal(size=rows)
    odds = np.log(rare / (1 - rare)) - signal**2 / 2
    ours, theirs = (common + spread * rng.normal(size=rows) for spread in (noise, 0.4))
    chances = (1 / (1 + np.exp(-signal * one - odds)) for one in (ours, theirs))
    return compare(labels, *chances)


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gain_is_the_difference_of_the_two_values_whatever_happens_between_blocks(name, weighted):
    # The challenger is sharper within each week, and its level moves from week to week.
    rng = np.random.default_rng(1)
    labels = (rng.random(4_000) < 0.3).astype(np.int64)
    week = np.repeat(rng.normal(size=40), 100)
    challenger = 1 / (1 + np.exp(-(2 * labels - 1 + 3 * week + 0.7 * rng.normal(size=4_000))))
    champion = 1 / (1 + np.exp(-(2 * labels - 1 + 1.2 * rng.normal(size=4_000))))
    metric = metrics.get(name, task="binary")
    weights = rng.choice([1.0, 10.0], 4_000) if weighted else None
    made = compare(labels, challenger, champion, metric, weights=weights)
    verdict = gates.NoWorse().judge(made)
    ours, theirs = (metric.value(labels, one, weights) for one in (challenger, champion))
    assert verdict.value == pytest.approx(ours - theirs, abs=1e-12)
    assert verdict.answer is Answer.REFUSE
    alone = gates.AtLeast(0.1).judge(made)
    assert alone.value == pytest.approx(ours, abs=1e-12)


def test_models_sharper_within_each_block_only_are_what_a_mean_over_blocks_would_promote():
    # What the test above would not forgive: areas of blocks of a week, and their mean.
    rng = np.random.default_rng(1)
    labels = (rng.random(4_000) < 0.3).astype(np.int64)
    challenger = 2 * labels + 3 * np.repeat(rng.normal(size=40), 100) + 0.7 * rng.normal(size=4_000)
    champion = 2 * labels + 1.2 * rng.normal(size=4_000)
    weeks = [slice(i, i + 100) for i in range(0, 4_000, 100)]
    gains = [
        AUC.value(labels[week], challenger[week]) - AUC.value(labels[week], champion[week])
        for week in weeks
    ]
    assert np.mean(gains) > 0.03
    assert AUC.value(labels, challenger) < AUC.value(labels, champion) - 0.05


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize(("rows", "rare"), [(200, 0.3), (500, 0.1), (4_000, 0.01)])
def test_equal_models_beat_in_at_most_the_stated_share_of_few_or_rare_rows(name, rows, rare):
    # One look of Beats(level=0.7) spends half of 0.3; of so few rows some are no evidence at all.
    gate, times, metric = gates.Beats(level=0.7), 400, metrics.get(name, task="binary")
    made = (ranked(np.random.default_rng([2, life]), rows, rare) for life in range(times))
    verdicts = [gate.judge(replace(one, metric=metric)) for one in made]
    judged = [one for one in verdicts if one.value is not None]
    assert len(judged) > times / 2
    passed = sum(one.answer == Answer.PROMOTE for one in judged)
    assert passed / len(judged) <= above(0.15, len(judged))
    if name == "roc_auc":  # and not far less often either: the interval is no wider than it must be
        assert passed / len(judged) >= 0.08


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize(("rows", "rare"), [(300, 0.3), (1_000, 0.1)])
def test_models_at_the_floor_pass_it_in_at_most_the_stated_share(name, rows, rare):
    metric = metrics.get(name, task="binary")
    large = ranked(np.random.default_rng(9), 400_000, rare, signal=2.0)
    gate = gates.AtLeast(metric.value(large.labels, large.challenger), level=0.7)
    times, passed = 300, 0
    for life in range(times):
        made = ranked(np.random.default_rng([3, life]), rows, rare, signal=2.0)
        passed += gate.judge(replace(made, metric=metric)).answer == Answer.PROMOTE
    assert passed / times <= above(0.15, times)


def test_losses_that_are_not_the_metric_are_not_taken_for_it():
    class Squared(metrics.MAE):
        """Its losses are those of another measure."""

        contributions = None

        def _value(self, labels, scores, weights):
            return float(np.abs(labels - scores).mean())

        def losses(self, labels, scores):
            return 100 * (labels - scores) ** 2

    rng = np.random.default_rng(0)
    values = rng.normal(size=2_000)
    made = compare(values, values + 0.1 * rng.normal(size=2_000), values + rng.normal(size=2_000))
    verdict = gates.Beats().judge(replace(made, metric=Squared()))
    assert verdict.value == pytest.approx(0.9 * np.sqrt(2 / np.pi), rel=0.1)


def sliced(gains: dict[str, float], rows: int = 4_000) -> Comparison:
    parts = [
        by_rows(np.random.default_rng(i), rows, gain, None) for i, gain in enumerate(gains.values())
    ]
    order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("labels", "challenger", "champion", "times")
    }
    names = np.repeat(list(gains), rows)[order]
    return Comparison(
        metric=ACCURACY, rows=pl.DataFrame({"carrier": names, "distance": 1.0}), **joined
    )


def test_the_worst_slice_decides():
    made = sliced({"AA": 0.1, "B6": -0.12, "UA": 0.1})
    assert gates.NoWorse(0.01).judge(made).answer is Answer.PROMOTE
    verdict = gates.NoWorse(0.01, slice="carrier").judge(made)
    assert (verdict.answer, verdict.slice, verdict.rows) == (Answer.REFUSE, "B6", 4_000)
    assert verdict.reason.startswith("carrier B6: -0.1")
    assert verdict.gate == "No worse than champion within 0.0100 in each carrier"
    better = gates.NoWorse(0.01, slice="carrier").judge(sliced({"AA": 0.1, "B6": 0.05}))
    assert (better.answer, better.slice) == (Answer.PROMOTE, "B6")


def test_small_slices_are_judged_together_and_said():
    made = sliced({"AA": 0.1, "B6": 0.1})
    names = made.rows["carrier"].to_list()
    names[::10] = [f"tiny{i % 7}" for i in range(len(names[::10]))]
    names[1] = None
    frame = pl.DataFrame({"carrier": names})
    verdict = gates.NoWorse(0.01, slice="carrier").judge(replace(made, rows=frame))
    assert verdict.answer is Answer.PROMOTE
    assert verdict.reason.endswith("; 8 of 10 with fewer than 500 rows judged together as other")
    few = ["rare" if i % 100 == 0 else "AA" for i in range(len(names))]
    verdict = gates.NoWorse(0.01, slice="carrier").judge(
        replace(made, rows=pl.DataFrame({"carrier": few}))
    )
    assert verdict.slice == "AA"
    assert verdict.reason.endswith("; 1 of 2 with fewer than 500 rows left out")


def test_slices_may_be_numbers_and_an_unknown_column_is_an_error_with_the_nearest():
    made = sliced({"AA": 0.1, "B6": 0.1})
    assert gates.NoWorse(slice="distance").judge(made).slice == "1.0"
    with pytest.raises(ConfigError, match="the nearest is 'carrier'"):
        gates.NoWorse(slice="carier").judge(made)


def test_a_challenger_bad_in_one_slice_passes_in_at_most_the_stated_share():
    gate = gates.NoWorse(0.02, slice="carrier")
    passed = 0
    for life in range(150):
        rng = np.random.default_rng([7, life])
        bad, good = by_rows(rng, 1_000, -0.02, None), by_rows(rng, 1_000, 0.1, None)
        both = {
            name: np.concatenate([getattr(bad, name), getattr(good, name)])
            for name in ("labels", "challenger", "champion", "times")
        }
        frame = pl.DataFrame({"carrier": np.repeat(["AA", "B6"], 1_000)})
        made = Comparison(metric=ACCURACY, rows=frame, **both)
        passed += gate.judge(made).answer == Answer.PROMOTE
    assert passed / 150 <= above(0.3, 150)


def test_at_least_is_a_floor_for_gains_and_a_ceiling_for_losses():
    made = replace(by_rows(np.random.default_rng(0), 4_000, 0.0, None), champion=None)
    value = ACCURACY.value(made.labels, made.challenger)
    passed = gates.AtLeast(value - 0.05).judge(made)
    assert (passed.answer, passed.value) == (Answer.PROMOTE, pytest.approx(value))
    assert f"needs at least {value - 0.05:.4f}" in passed.reason
    assert gates.AtLeast(value + 0.05).judge(made).answer is Answer.REFUSE
    assert gates.AtLeast(value).judge(made).answer is Answer.NOT_ENOUGH
    loss = metrics.get("log_loss", task="binary")
    made = replace(made, metric=loss)
    value = loss.value(made.labels, made.challenger)
    verdict = gates.AtLeast(value + 0.1).judge(made)
    assert verdict.answer is Answer.PROMOTE
    assert verdict.low < verdict.value < verdict.high <= verdict.needs
    assert f"needs at most {value + 0.1:.4f}" in verdict.reason
    assert gates.AtLeast(value - 0.1).judge(made).answer is Answer.REFUSE


@pytest.mark.parametrize("seed", range(3))
def test_a_challenger_just_below_the_floor_seldom_passes(seed):
    rng = np.random.default_rng(seed)
    passed = sum(
        gates.AtLeast(0.8)
        .judge(compare(np.ones(600, dtype=np.int64), right(rng.random(600) < 0.8), None))
        .answer
        == Answer.PROMOTE
        for _ in range(200)
    )
    assert passed / 200 <= above(0.2, 200)


def test_gates_together_promote_only_when_all_do():
    def said(answer):
        return Verdict(gate="g", answer=answer, reason="r")

    promote, refuse, wait = map(said, (Answer.PROMOTE, Answer.REFUSE, Answer.NOT_ENOUGH))
    assert gates.combine([promote, promote]) is Answer.PROMOTE
    assert gates.combine([promote, wait]) is Answer.NOT_ENOUGH
    assert gates.combine([wait, refuse, promote]) is Answer.REFUSE
    assert gates.combine([]) is Answer.PROMOTE


def test_a_gate_is_one_a_list_or_the_default():
    assert gates.resolve(None) == [gates.NoWorse()]
    assert gates.resolve(gates.Beats()) == [gates.Beats()]
    assert gates.resolve((gates.Beats(), gates.AtLeast(0.7))) == [gates.Beats(), gates.AtLeast(0.7)]
    assert gates.resolve([]) == []


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (gates.Beats, "gates.Beats()"),
        ([gates.AtLeast], "gates.AtLeast(0.7)"),
        ("no worse", "gate=gates.NoWorse(within=0.01)"),
        (0.01, "a list of gates"),
    ],
)
def test_what_is_no_gate_is_refused_with_a_hint(wrong, hint):
    with pytest.raises(ConfigError, match="expected a gate") as caught:
        gates.resolve(wrong)
    assert hint in str(caught.value.hint)


def test_gates_joined_by_an_operator_are_answered_with_a_list():
    for join in (lambda a, b: a & b, lambda a, b: a | b):
        with pytest.raises(ConfigError, match="expected a list of gates") as caught:
            join(gates.NoWorse(), gates.AtLeast(0.7))
        assert "gate=[NoWorse(), AtLeast(0.7)]" in str(caught.value.hint)


def test_the_holdout_is_the_largest_that_a_gate_asks_for():
    assert gates.holdout([gates.NoWorse(), gates.Beats(holdout=0.4)]) == 0.4
    four_weeks = gates.NoWorse(holdout="28d")
    assert gates.holdout([four_weeks, gates.Beats(holdout="2w")]) == timedelta(days=28)
    assert gates.holdout([four_weeks, gates.Beats(holdout=0.5)]) == timedelta(days=28)
    assert gates.holdout([]) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: gates.NoWorse(-0.1),
        lambda: gates.NoWorse("0.1"),
        lambda: gates.NoWorse(float("nan")),
        lambda: gates.Beats(-0.1),
        lambda: gates.AtLeast(None),
        lambda: gates.NoWorse(level=1.0),
        lambda: gates.NoWorse(level=0.2),
        lambda: gates.NoWorse(looks=0),
        lambda: gates.NoWorse(min_blocks=64),
        lambda: gates.NoWorse(min_blocks=8.5),
        lambda: gates.NoWorse(slice=""),
        lambda: gates.NoWorse(holdout=1.5),
        lambda: gates.NoWorse(holdout="0d"),
        lambda: gates.NoWorse(holdout="a week"),
        lambda: gates.NoWorse(holdout=True),
    ],
)
def test_an_argument_out_of_range_fails_at_construction(make):
    with pytest.raises(ConfigError, match="expected"):
        make()
