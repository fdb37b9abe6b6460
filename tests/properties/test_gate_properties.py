"""A gate is monotone in its margin and in the challenger, and repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit import gates, metrics
from keepfit.facts import Answer
from keepfit.protocols import Comparison

ORDER = [Answer.REFUSE, Answer.NOT_ENOUGH, Answer.PROMOTE]
NAMES = ("accuracy", "roc_auc", "log_loss", "f1")


@st.composite
def comparisons(draw):
    rows = draw(st.integers(0, 1_500))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = (rng.random(rows) < draw(st.sampled_from([0.02, 0.3, 0.5, 1.0]))).astype(np.int64)
    digits = draw(st.sampled_from([1, 3]))
    common = rng.normal(size=rows)

    def scores(noise: float) -> np.ndarray:
        raw = labels - 0.5 + common + noise * rng.normal(size=rows)
        return np.round(1 / (1 + np.exp(-raw)), digits)

    return Comparison(
        metric=metrics.get(draw(st.sampled_from(NAMES)), task="binary"),
        labels=labels,
        challenger=scores(draw(st.sampled_from([0.0, 0.3, 2.0]))),
        champion=scores(draw(st.sampled_from([0.0, 0.3, 2.0]))),
        times=np.arange(rows),
        rows=pl.DataFrame({"group": rng.choice(["a", "b"], size=rows)}),
        look=draw(st.integers(1, 7)),
        challengers=draw(st.integers(1, 4)),
    )


margins = st.floats(0, 0.2)


@given(comparisons(), margins, margins, st.sampled_from([None, "group"]))
@settings(max_examples=150)
def test_a_wider_margin_never_answers_worse(comparison, one, other, column):
    narrow, wide = sorted((one, other))
    strict = gates.NoWorse(narrow, slice=column).judge(comparison)
    mild = gates.NoWorse(wide, slice=column).judge(comparison)
    assert ORDER.index(mild.answer) >= ORDER.index(strict.answer)


@given(comparisons(), margins, margins, st.sampled_from([None, "group"]))
@settings(max_examples=150)
def test_a_greater_gain_asked_for_never_answers_better(comparison, one, other, column):
    small, great = sorted((one, other))
    mild = gates.Beats(small, slice=column).judge(comparison)
    strict = gates.Beats(great, slice=column).judge(comparison)
    assert ORDER.index(mild.answer) >= ORDER.index(strict.answer)
    assert ORDER.index(gates.NoWorse(0.0, level=0.95, slice=column).judge(comparison).answer) >= (
        ORDER.index(mild.answer)
    )


@given(comparisons())
@settings(max_examples=100)
def test_a_verdict_says_the_same_twice_and_its_figures_are_in_order(comparison):
    gate = gates.NoWorse(0.01)
    verdict = gate.judge(comparison)
    assert gate.judge(comparison) == verdict
    assert verdict.reason
    if verdict.value is not None:
        assert verdict.low <= verdict.value <= verdict.high
        if verdict.answer is Answer.PROMOTE:
            assert verdict.low >= verdict.needs


@given(comparisons())
@settings(max_examples=100)
def test_nobody_is_proven_better_in_both_directions(comparison):
    gate = gates.Beats()
    turned = replace(comparison, challenger=comparison.champion, champion=comparison.challenger)
    answers = [gate.judge(one).answer for one in (comparison, turned)]
    assert answers.count(Answer.PROMOTE) < 2
    later = replace(comparison, look=99)
    assert gate.judge(later).answer is not Answer.PROMOTE


@given(comparisons(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_in_which_rows_are_handed_over_does_not_matter(comparison, random):
    order = list(range(len(comparison.labels)))
    random.shuffle(order)
    shuffled = replace(
        comparison,
        labels=comparison.labels[order],
        challenger=comparison.challenger[order],
        champion=comparison.champion[order],
        times=comparison.times[order],
        rows=comparison.rows[order] if order else comparison.rows,
    )
    gate = gates.NoWorse(0.01, slice="group")
    assert gate.judge(shuffled) == gate.judge(comparison)


@given(comparisons())
@settings(max_examples=60)
def test_more_challengers_and_later_looks_make_it_no_easier(comparison):
    gate = gates.Beats()
    first = replace(comparison, look=1, challengers=1)
    later = replace(comparison, look=4, challengers=3)
    if gate.judge(later).answer is Answer.PROMOTE:
        assert gate.judge(first).answer is Answer.PROMOTE
