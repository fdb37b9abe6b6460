from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from keepfit.facts import ColumnDrift, Finding, Outcome, decode, encode
from keepfit.profile import Profile
from keepfit.relevance import Change, Known, RowMemory, Told, Usual, assess, row_relevance
from keepfit.relevance.memory import CELLS, SAMPLE
from keepfit.relevance.rows import RULE, SAME, weigh


def table(count: int, seed: int = 0, shift: float = 0.0) -> pl.DataFrame:
    """Return rows of two numbers and a category, without order in time."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "x": rng.normal(shift, 1, count),
            "size": rng.integers(0, 12, count),
            "plan": rng.choice(["a", "b", "c"], count),
        }
    )


def memory_of(rows: pl.DataFrame) -> RowMemory:
    return RowMemory.fit(rows, Profile.of(rows))


def drift(column: str, value: float) -> ColumnDrift:
    return ColumnDrift(column=column, method="KS", value=value, limit=0.1)


TRAINED = table(5_000)
MEMORY = memory_of(TRAINED)
HARM = Change(metric="log_loss", value=0.2, low=0.15, margin=0.02)


# Memory ---------------------------------------------------------------------------------


def test_a_memory_knows_its_own_rows_and_near_ones_and_no_others() -> None:
    assert MEMORY.redundant(TRAINED) == 1.0
    near = TRAINED.with_columns(pl.col("x") + 1e-9)
    assert MEMORY.redundant(near) > 0.99  # type: ignore[operator]
    assert MEMORY.redundant(TRAINED.with_columns(plan=pl.lit("new"))) == 0.0
    assert MEMORY.redundant(TRAINED.with_columns(x=pl.lit(99.0))) == 0.0
    assert MEMORY.redundant(TRAINED.with_columns(size=pl.lit(None, dtype=pl.Int64))) == 0.0


def test_rows_that_follow_a_rhythm_are_told_from_none_like_them() -> None:
    count = 24 * (SAMPLE - 1) + 1
    rows = table(count).with_columns(size=np.arange(count) % 24)
    told = memory_of(rows).told(rows[500:1_500])
    assert told is not None
    assert told.auc <= told.limit


def test_a_value_between_the_few_that_occurred_is_near_none_of_them() -> None:
    rows = pl.DataFrame({"x": [0.0, 1.0, 2.0] * 50})
    memory = memory_of(rows)
    assert memory.redundant(pl.DataFrame({"x": [1.0]})) == 1.0
    assert memory.redundant(pl.DataFrame({"x": [1.5]})) == 0.0


def test_a_memory_is_given_back_by_its_bytes() -> None:
    again = RowMemory.loads(MEMORY.dumps())
    assert again == MEMORY
    assert again.redundant(table(300, 1)) == MEMORY.redundant(table(300, 1))


def test_a_memory_of_many_different_rows_stays_below_a_megabyte_and_fair() -> None:
    rng = np.random.default_rng(3)
    rows = pl.DataFrame({f"x{i}": rng.normal(size=400_000) for i in range(8)})
    memory = memory_of(rows)
    assert len(memory.dumps()) <= 1_000_000
    assert len(memory.cells) == 4 * CELLS
    half = pl.concat([rows.head(5_000), rows.head(5_000).select(pl.all() + 0.9)])
    # Of 10,000 rows about 3,750 are asked for; half of all are known, give or take 5 deviations.
    assert memory.redundant(half) == pytest.approx(0.5, abs=0.05)


def test_nothing_is_redundant_where_nothing_can_be_compared() -> None:
    lists = pl.DataFrame({"embedding": [[0.1, 0.2]] * 100})
    assert memory_of(lists).redundant(lists) is None
    assert memory_of(lists).told(lists) is None
    assert MEMORY.redundant(TRAINED.clear()) is None
    assert MEMORY.told(table(20)) is None


def test_rows_that_moved_are_told_apart_and_the_column_betrays_them() -> None:
    told = MEMORY.told(table(800, 1, shift=0.8))
    assert told is not None
    assert told.apart
    assert told.columns == ("x",)
    # The best there is for two normal distributions 0.8 apart is 0.714.
    assert told.auc == pytest.approx(0.714, abs=0.03)


def test_rows_of_the_same_kind_are_told_apart_no_oftener_than_stated() -> None:
    aucs = [one for seed in range(200) if (one := MEMORY.told(table(300, 100 + seed)))]
    assert not any(one.apart for one in aucs)
    assert np.mean([one.auc for one in aucs]) == pytest.approx(0.5, abs=0.01)


def test_a_column_that_lost_its_values_or_left_its_range_is_seen() -> None:
    lost = MEMORY.lost(table(500, 1).with_columns(x=pl.lit(9999.0), plan=pl.lit(None)))
    assert lost["x"] == 1.0
    assert lost["plan"] == 1.0
    assert lost["size"] == 0.0
    assert MEMORY.lost(table(500, 1).drop("size"))["size"] == 1.0
    assert MEMORY.lost(table(500, 1).with_columns(pl.col("size").cast(pl.String)))["size"] == 1.0


# What is usual --------------------------------------------------------------------------


def test_what_is_usual_is_met_by_rows_of_the_same_kind() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    labels = (rng.random(20_000) < scores).astype(int)
    usual = Usual.of(scores[:10_000], labels[:10_000])
    later, known = scores[10_000:], labels[10_000:]
    assert usual.informative(later).mean() == pytest.approx(usual.expected(later), abs=0.02)
    assert usual.expected(later) == pytest.approx(0.2, abs=0.001)
    some = np.where(rng.random(10_000) < 0.5, known, -1)
    for given in (known, some):
        found = usual.informative(later, given).mean()
        assert found == pytest.approx(usual.expected(later, given), abs=0.02)


def test_a_row_is_informative_when_the_champion_is_undecided_or_surely_wrong() -> None:
    rng = np.random.default_rng(0)
    scores = np.clip(rng.normal(0.15, 0.05, 1_000), 0.01, 0.3)
    usual = Usual.of(scores, (rng.random(1_000) < scores).astype(int))
    asked, labels = np.array([0.5, 0.1, 0.02, 0.1]), np.array([-1, -1, 1, 0])
    assert usual.informative(asked, labels).tolist() == [True, False, True, False]


def test_several_classes_and_values_have_their_usual_too() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 2_000)
    usual = Usual.of(scores, rng.integers(0, 3, 2_000))
    sure, unsure = np.array([[0.98, 0.01, 0.01]]), np.array([[0.4, 0.39, 0.21]])
    assert not usual.informative(sure)[0]
    assert usual.informative(unsure)[0]
    values = Usual.of(np.zeros(500), rng.normal(size=500), regression=True)
    assert values.informative(np.zeros(3), np.array([0.1, 9.0, np.nan])).tolist() == [
        False,
        True,
        False,
    ]


# Verdicts -------------------------------------------------------------------------------


def verdict(rows: pl.DataFrame, **known: Any) -> str:
    fact = assess(3, "v1", rows, Known(**({"memory": MEMORY} | known)))
    assert decode(encode(fact)) == fact
    assert fact.reasons
    return fact.verdict


def test_a_blocked_batch_is_for_quarantine_and_not_valid() -> None:
    finding = Finding(check="Schema", outcome=Outcome.BLOCK, message="a column is gone")
    fact = assess(3, "v1", table(300), Known(memory=MEMORY, findings=[finding], change=HARM))
    assert (fact.verdict, fact.valid, fact.reasons) == ("quarantine", False, ("a column is gone",))


def test_a_harmful_batch_is_learnt_from_whether_it_looks_new_or_not() -> None:
    fact = assess(3, "v1", table(300, 1), Known(memory=MEMORY, change=HARM))
    assert fact.verdict == "learn"
    assert fact.harm == 0.2
    assert fact.reasons == ("log_loss is worse by 0.200 (at least 0.150, 0.020 allowed)",)


@pytest.mark.parametrize(
    "change",
    [
        Change(metric="log_loss", value=0.1, low=0.01),
        Change(metric="log_loss", value=0.1, low=0.09, margin=0.1),
        Change(metric="log_loss", value=-0.1, low=-0.2),
        Change(metric="log_loss", value=float("nan"), low=float("nan")),
    ],
)
def test_a_change_within_its_margin_or_within_chance_does_no_harm(change: Change) -> None:
    assert verdict(table(300, 1), change=change) in ("ignore", "keep")


def test_a_new_batch_is_learnt_from_when_the_champion_is_less_certain_of_it() -> None:
    usual = Usual.of(np.random.default_rng(0).beta(0.5, 0.5, 3_000))
    moved = table(800, 1, shift=0.8)
    unsure, sure = np.full(800, 0.5), np.full(800, 0.999)
    fact = assess(3, "v1", moved, Known(memory=MEMORY, usual=usual, scores=unsure))
    assert fact.verdict == "learn"
    assert fact.informative == 1.0
    auc = MEMORY.told(moved).auc  # type: ignore[union-attr]
    assert fact.reasons[0] == f"told apart from the training rows with AUC {auc:.2f}; x betrays it"
    assert (
        fact.reasons[1] == "the champion is uncertain or wrong on 100% of the rows, 20% as a rule"
    )
    assert verdict(moved, usual=usual, scores=sure) == "keep"
    assert verdict(table(800, 1), usual=usual, scores=unsure) == "keep"


def test_the_domain_classifier_of_the_loop_is_believed_before_the_own_one() -> None:
    told = Told(auc=0.71, limit=0.6, columns=("origin", "hour"))
    fact = assess(3, "v1", table(300, 1), Known(memory=MEMORY, told=told))
    assert fact.new == 0.71
    assert fact.reasons[0] == (
        "told apart from the training rows with AUC 0.71; origin and hour betray it"
    )


def test_drift_counts_by_the_importance_of_columns_where_nobody_knows_what_it_does() -> None:
    moved = [drift("x", 0.4), drift("plan", 0.05)]
    assert verdict(table(300, 1), moved=moved, weights={"x": 6.0, "plan": 4.0}) == "learn"
    assert verdict(table(300, 1), moved=moved, weights={"x": 4.0, "plan": 6.0}) != "learn"
    assert verdict(table(300, 1), moved=moved) != "learn"
    calm = Change(metric="log_loss", value=0.0, low=-0.05)
    assert verdict(table(300, 1), moved=moved, weights={"x": 1.0}, change=calm) != "learn"


def test_what_moved_in_several_batches_together_is_told_so() -> None:
    moved, weights = [drift("x", 0.4)], {"x": 6.0, "plan": 4.0}
    one = Known(memory=MEMORY, moved=moved, weights=weights)
    assert assess(3, "v1", table(300, 1), one).reasons[0] == (
        "x moved, which carries 60% of the champion's importance"
    )
    several = Known(memory=MEMORY, moved=moved, weights=weights, together=4)
    assert assess(3, "v1", table(300, 1), several).reasons[0] == (
        "x moved in 4 batches together, which carries 60% of the champion's importance"
    )


def test_a_harmful_batch_whose_weighty_column_broke_is_for_quarantine() -> None:
    broken = table(300, 1).with_columns(x=pl.lit(9999.0))
    fact = assess(
        3, "v1", broken, Known(memory=MEMORY, change=HARM, weights={"x": 1.0, "plan": 1.0})
    )
    assert fact.verdict == "quarantine"
    assert fact.reasons[0] == (
        "100% more values of x than before are missing or beyond all known ones"
    )
    assert verdict(broken, change=HARM, weights={"plan": 1.0, "size": 1.0}) == "learn"
    assert verdict(broken) == "keep"


def test_a_concept_that_turns_is_learnt_from_and_never_set_apart() -> None:
    # The rows look as they did; what they mean has changed.
    assert verdict(table(300, 1), change=HARM, weights={"x": 1.0}) == "learn"


def test_a_batch_of_near_duplicates_is_ignored_and_another_is_kept() -> None:
    assert verdict(TRAINED.head(400)) == "ignore"
    rng = np.random.default_rng(1)
    many = pl.DataFrame({f"x{i}": rng.normal(size=3_000) for i in range(8)})
    fact = assess(3, "v1", many.tail(1_000), Known(memory=memory_of(many.head(2_000))))
    assert fact.verdict == "keep"
    (said,) = fact.reasons
    assert said.startswith("nothing tells it from the training rows as a whole, though ")
    assert said.endswith("% of its rows are near copies of none")


def test_a_batch_about_which_nothing_is_known_is_kept() -> None:
    fact = assess(3, "v1", table(0), Known())
    assert (fact.verdict, fact.rows) == ("keep", 0)
    assert fact.new is None
    assert fact.redundant is None
    assert verdict(table(0)) == "keep"
    assert verdict(table(1)) in ("keep", "ignore")


def test_on_a_stream_that_does_not_change_hardly_any_batch_is_learnt_from() -> None:
    rng = np.random.default_rng(7)
    chance = rng.beta(2, 3, 3_000)
    usual = Usual.of(chance, (rng.random(3_000) < chance).astype(int))
    learnt, batches = 0, 600
    for seed in range(batches):
        rows = table(200, 1_000 + seed)
        scores = rng.beta(2, 3, 200)
        labels = (rng.random(200) < scores).astype(int)
        # The true change is zero, and the interval is right.
        value = rng.normal(0, 0.02)
        change = Change(metric="log_loss", value=value, low=value - 1.645 * 0.02)
        known = Known(memory=MEMORY, usual=usual, scores=scores, labels=labels, change=change)
        fact = assess(seed, "v1", rows, known)
        assert fact.verdict in ("ignore", "keep", "learn")
        learnt += fact.verdict == "learn"
    # One in 500 is promised; as many as this are seen once in a thousand runs of the test.
    assert learnt <= binom.isf(0.001, batches, 1 / 500)


# Rows -----------------------------------------------------------------------------------


def stream(labels: np.ndarray, x: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"x": x, "noise": np.arange(x.size) % 7, "_label": labels})


def test_newer_rows_count_more_where_the_concept_turned() -> None:
    x = np.random.default_rng(0).normal(size=4_000)
    turned = np.where(np.arange(4_000) < 2_000, x > 0, x < 0)
    found = weigh(stream(turned, x), task="binary")
    assert found.chosen != RULE
    assert found.weights[2_000:].mean() > 3 * found.weights[:2_000].mean()


def test_rows_of_a_concept_that_comes_back_count_more_than_newer_ones_of_another() -> None:
    x = np.random.default_rng(0).normal(size=6_000)
    place = np.arange(6_000)
    turned = np.where((place >= 2_000) & (place < 5_000), x < 0, x > 0)
    found = weigh(stream(turned, x), task="binary")
    assert found.chosen == SAME
    assert np.median(found.weights[:2_000]) > 5 * np.median(found.weights[2_000:5_000])


def test_newer_rows_count_a_little_more_on_most_streams_that_do_not_change() -> None:
    chosen = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=1_500)
        labels = (rng.random(1_500) < 1 / (1 + np.exp(-x))).astype(int)
        found = weigh(stream(labels, x), task="binary")
        chosen.append(found.chosen)
        if found.chosen == RULE:
            assert 2 < found.weights[-1] / found.weights[0] < 3
    assert chosen.count(RULE) >= 10


def test_relevance_knows_several_classes_and_values() -> None:
    x = np.random.default_rng(0).normal(size=3_000)
    late = np.arange(3_000) >= 1_500
    classes = np.where(late, -1, 1) * np.digitize(x, [-0.5, 0.5])
    values = np.where(late, -x, x)
    for labels, task in ((classes, "multiclass"), (values, "regression")):
        weights = row_relevance(stream(labels, x), task=task)
        assert weights[1_500:].mean() > 2 * weights[:1_500].mean()


@pytest.mark.parametrize("count", [0, 1, 399])
def test_a_few_rows_count_alike(count: int) -> None:
    rows = stream(np.arange(count) % 2, np.zeros(count))
    assert row_relevance(rows, task="binary").tolist() == [1.0] * count


def test_relevance_survives_columns_of_every_kind_and_a_label_that_never_changes() -> None:
    count = 1_000
    rows = pl.DataFrame(
        {
            "_id": range(count),
            "wild": [float("inf"), float("nan"), None, 1e300] * 250,
            "empty": pl.Series([None] * count, dtype=pl.Float64),
            "text": [f"t{i}" for i in range(count)],
            "flag": [True, None] * 500,
            "list": [[1.0]] * count,
            "_label": ["only"] * count,
        }
    )
    weights = row_relevance(rows, task="binary")
    assert weights.shape == (count,)
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert row_relevance(rows, task="binary").tolist() == weights.tolist()
