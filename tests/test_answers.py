"""What a model says of rows though it fails some: which ones, at what cost, and what they count."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import answers, unknown
from keepfit.answers import LONE, TRIES
from keepfit.artifacts import Artifacts
from keepfit.batch import BATCH, ID, LABEL, SCORE, VERSION
from keepfit.errors import SchemaMismatch
from keepfit.facts import Arrived, Entry, Finding, Found, Outcome, Scored
from keepfit.footprint import Race
from keepfit.gates import FasterThan, StableScores
from keepfit.lake import Delta
from keepfit.learners.labels import codes
from keepfit.metrics import get
from keepfit.protocols import Comparison
from keepfit.registry import State
from keepfit.results.sentences import Story
from keepfit.scoring import Scorer
from tests.lakes import some_batch

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Asked:
    """Answers rows by their id, raises where one is odd, and counts how often it was asked."""

    def __init__(self, odd: Callable[[np.ndarray], Any]) -> None:
        self.odd, self.sizes = odd, list[int]()

    def __call__(self, at: int, rows: pl.DataFrame) -> np.ndarray:
        ids = rows.get_column("id").to_numpy()
        assert ids[0] == at
        self.sizes.append(len(ids))
        if np.any(self.odd(ids)):
            raise ValueError(f"an odd row among {len(ids):,}")
        return ids / 1_000


# Which rows are odd -------------------------------------------------------------------------


def test_one_odd_row_is_not_the_fault_of_all() -> None:
    ask = Asked(lambda ids: ids == 32_123)
    said = answers.asked(ask, pl.DataFrame({"id": range(100_000)}))
    assert np.flatnonzero(~said.right).tolist() == [32_123]
    assert np.isnan(said.scores[32_123])
    assert (said.scores[said.right] == np.flatnonzero(said.right) / 1_000).all()
    assert said.why == "ValueError: an odd row among 100,000"
    assert len(ask.sizes) < 50


@pytest.mark.parametrize(("infinite", "odd"), [((7, 57), (7, 57)), ((7, 57, 58, 59), (58,))])
def test_rows_with_infinite_values_are_asked_apart_from_the_others(
    infinite: tuple[int, ...], odd: tuple[int, ...]
) -> None:
    ask = Asked(lambda ids: np.isin(ids, odd))
    x = [float("inf") if place in infinite else 0.5 for place in range(1_000)]
    said = answers.asked(ask, pl.DataFrame({"id": range(1_000), "x": x}))
    assert np.flatnonzero(~said.right).tolist() == list(odd)
    assert ask.sizes[:2] == [1_000, 1_000 - infinite[-1] - 1]
    assert len(ask.sizes) <= 10


def test_an_odd_row_is_found_where_infinite_values_are_no_fault() -> None:
    ask = Asked(lambda ids: ids == 900)
    x = [float("inf") if place == 7 else 0.5 for place in range(1_000)]
    said = answers.asked(ask, pl.DataFrame({"id": range(1_000), "x": x}))
    assert np.flatnonzero(~said.right).tolist() == [900]


def test_what_answers_no_row_with_infinite_values_or_without_is_given_up_on_soon() -> None:
    ask = Asked(lambda ids: ids >= 0)
    x = [float("inf") if place % 50 == 7 else 0.5 for place in range(1_000)]
    said = answers.asked(ask, pl.DataFrame({"id": range(1_000), "x": x}))
    assert not said.right.any()
    assert ask.sizes == [1_000, 49, *[1] * LONE]


def test_more_runs_than_are_asked_are_halved_as_others_are() -> None:
    ask = Asked(lambda ids: ids % 100 == 3)
    x = [float("inf") if place % 2 else 0.5 for place in range(1_000)]
    said = answers.asked(ask, pl.DataFrame({"id": range(1_000), "x": x}))
    assert np.flatnonzero(~said.right).tolist() == list(range(3, 1_000, 100))
    assert len(ask.sizes) < 200


def test_what_answers_no_row_is_given_up_on_soon() -> None:
    ask = Asked(lambda ids: ids >= 0)
    said = answers.asked(ask, pl.DataFrame({"id": range(100_000)}), 3)
    assert said.scores.shape == (100_000, 3)
    assert not said.right.any()
    assert ask.sizes == [100_000, *[1] * LONE]


def test_many_odd_rows_cost_no_more_than_is_stated_and_most_others_are_answered() -> None:
    odd = np.random.default_rng(0).random(100_000) < 0.002
    ask = Asked(lambda ids: odd[ids])
    said = answers.asked(ask, pl.DataFrame({"id": range(100_000)}))
    assert len(ask.sizes) <= 1 + LONE + TRIES
    assert not said.right[odd].any()
    assert said.right.mean() > 0.8


@pytest.mark.parametrize("rows", [0, 1, 2, LONE, LONE + 1])
def test_few_rows_are_asked_one_by_one(rows: int) -> None:
    said = answers.asked(Asked(lambda ids: ids == 0), pl.DataFrame({"id": range(rows)}))
    assert said.right.tolist() == [place > 0 for place in range(rows)]


def test_rows_that_all_can_be_answered_are_asked_at_once() -> None:
    ask = Asked(lambda ids: ids < 0)
    said = answers.asked(ask, pl.DataFrame({"id": range(100)}))
    assert (ask.sizes, said.right.all(), said.error) == ([100], True, None)


def test_what_is_no_number_and_what_has_another_shape_is_no_answer() -> None:
    rows = pl.DataFrame({"id": range(3)})
    said = answers.asked(lambda at, part: np.array([0.5, np.inf, np.nan]), rows)
    assert (said.right.tolist(), said.why) == ([True, False, False], "no number")
    assert np.isnan(said.scores[1:]).all()
    wide = answers.asked(lambda at, part: np.zeros((part.height, 2)), rows)
    assert not wide.right.any()
    assert "expected scores of the shape (3,), got (3, 2)" in wide.why


def test_a_missing_column_is_missing_from_all_rows() -> None:
    calls = []

    def answer(at: int, rows: pl.DataFrame) -> np.ndarray:
        calls.append(at)
        raise SchemaMismatch("column `x` is missing")

    said = answers.asked(answer, pl.DataFrame({"id": range(100)}))
    assert (calls, said.right.any()) == ([0], False)
    assert isinstance(said.error, SchemaMismatch)


# What is kept of them -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "scores",
    [
        np.array([0.1, np.nan, 0.9]),
        np.array([[0.1, 0.2, 0.7], [np.nan] * 3, [1.0, 0.0, 0.0]]),
        np.full((2, 3), np.nan),
    ],
)
def test_rows_without_an_answer_are_kept_as_such(scores: np.ndarray) -> None:
    kept = answers.stored(scores)
    assert kept.null_count() == int(np.isnan(scores.reshape(len(scores), -1)).any(axis=1).sum())
    several = 3 if scores.ndim == 2 else 0
    assert np.array_equal(answers.restored(kept, several), scores, equal_nan=True)


def test_answers_of_two_classes_beside_those_of_three_are_kept_and_come_back() -> None:
    two, three = np.array([0.1, np.nan]), np.array([[0.2, 0.3, 0.5], [np.nan] * 3])
    kept = answers.alike(answers.stored(two), answers.stored(three))
    assert [one.to_list() for one in kept] == [[[0.9, 0.1], None], [[0.2, 0.3, 0.5], None]]
    together = pl.concat(kept)
    assert np.array_equal(answers.restored(together, 0)[:2], two, equal_nan=True)
    assert np.array_equal(answers.restored(together, 3)[2:], three, equal_nan=True)
    assert answers.alike(kept[0])[0] is kept[0]


def test_a_lake_keeps_the_answers_of_a_batch_of_which_some_have_none(tmp_path: Path) -> None:
    lake = Delta(tmp_path)
    lake.land(some_batch([(1, 0, 0, 5), (2, 1, 1, 6)]), 1)
    said = answers.stored(np.array([[0.1, 0.2, 0.7], [np.nan] * 3]))
    lake.predict_land(1, pl.DataFrame({ID: [1, 2], VERSION: ["v1", "v1"], SCORE: said}))
    for one in (lake, Delta(tmp_path)):
        assert one.scored(1, NOW).get_column(SCORE).to_list() == [[0.1, 0.2, 0.7], None]


def test_a_finding_says_who_failed_how_many_rows_and_why() -> None:
    said = pl.DataFrame({VERSION: ["v1", "v2", "v2"], SCORE: [None, None, 0.3]})
    reasons = {"v2": "ValueError: Input X contains infinity\nor more", "v1": "no number"}
    first, second = sorted(answers.failed(said, reasons), key=lambda one: one.message)
    assert first.message == "v1 could not answer 1 of 1 rows: no number"
    assert second.message == (
        "v2 could not answer 1 of 2 rows: ValueError: Input X contains infinity"
    )
    assert (second.outcome, second.value) == (Outcome.WARN, 1)
    assert not list(answers.failed(said.tail(1), reasons))


def test_what_is_found_after_the_checks_lets_no_batch_in_twice() -> None:
    failed = Finding(check="answers", outcome=Outcome.WARN, message="v1 could not answer")
    state = State(champion="v1")
    facts: list[Any] = [
        Arrived(batch=1, rows=9, labels=0, cursor="", digest=""),
        Found(batch=1, findings=()),
        Found(batch=1, findings=(failed,)),
    ]
    for seq, fact in enumerate(facts, 1):
        state.fold([Entry(pipeline="p", seq=seq, at=NOW, fact=fact)])
    assert [one.batch for one in state.let_in] == [one.batch for one in state.unscored] == [1]
    assert (state.checked, state.unserved) == (1, [])


def test_a_check_may_have_the_name_of_such_a_finding() -> None:
    few = Finding(check="answers", outcome=Outcome.WARN, message="few answers")
    facts: list[Any] = [
        Arrived(batch=1, rows=9, labels=0, cursor="", digest=""),
        Found(batch=1, findings=(few,)),
    ]
    state = State()
    for seq, fact in enumerate(facts, 1):
        state.fold([Entry(pipeline="p", seq=seq, at=NOW, fact=fact)])
    assert ([one.batch for one in state.let_in], state.checked) == ([1], 1)


def test_a_warning_that_stands_is_told_once_and_again_after_a_batch_without_it() -> None:
    failed = Finding(check="answers", outcome=Outcome.WARN, message="v1 could not answer")
    null = Finding(check="Nulls", outcome=Outcome.WARN, message="x is null", column="x")
    facts = [Found(batch=n, findings=(one,)) for n in (1, 2, 4) for one in (null, failed)]
    lines = Story().lines(
        Entry(pipeline="p", seq=seq, at=NOW, fact=fact) for seq, fact in enumerate(facts, 1)
    )
    assert [line.loud for line in lines] == [True, True, False, False, False, True]


# What they count ----------------------------------------------------------------------------


def model(*classes: Any, says: Callable[[pl.DataFrame], np.ndarray]) -> Any:
    task = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")

    def known(labels: pl.Series) -> np.ndarray:
        return codes(labels, classes) if classes else labels.to_numpy()

    return SimpleNamespace(classes=classes, task=task, codes=known, predict=says)


def test_no_answer_is_the_wrong_class_and_the_far_end_of_numbers() -> None:
    two = unknown.as_wrong("binary", np.array([0, 1, 1]), np.array([np.nan, np.nan, 0.7]))
    assert two.tolist() == [1.0, 0.0, 0.7]
    scores = np.array([[np.nan] * 3, [0.2, 0.2, 0.6]])
    assert unknown.as_wrong("multiclass", np.array([1, 2]), scores)[0].tolist() == [0.5, 0.0, 0.5]
    labels = np.arange(101.0)
    labels[50] = 1e9
    said = np.where(np.isin(np.arange(101), (2, 50, 99)), np.nan, labels)
    found = unknown.as_wrong("regression", labels, said)
    assert (found[2], found[50], found[99]) == (pytest.approx(100.0), 1.0, 1.0)
    assert unknown.as_wrong("regression", labels, labels) is labels


@pytest.mark.parametrize(
    ("labels", "off"), [([5.0], 5.0), ([0.0, 0.0], 1.0), ([0.0] * 995 + [50.0] * 5, 0.25)]
)
def test_where_labels_are_mostly_one_number_no_answer_is_still_wrong(
    labels: list[float], off: float
) -> None:
    known = np.array(labels)
    found = unknown.as_wrong("regression", known, np.full(known.size, np.nan))
    assert abs(found - known)[known == known[0]] == pytest.approx(off, rel=0.01)
    assert (found != known).all()


@pytest.mark.parametrize(
    ("metric", "value"), [("accuracy", 0.5), ("roc_auc", 0.25), ("log_loss", None)]
)
def test_the_metric_of_a_batch_counts_what_was_not_answered(
    tmp_path: Path, metric: str, value: float | None
) -> None:
    rows = pl.DataFrame(
        {
            VERSION: ["v1", "v1", "v1", "v1", None],
            SCORE: [0.1, 0.9, None, None, None],
            LABEL: [0, 1, 0, 1, 1],
        }
    )
    scorer, state = Scorer(Artifacts(tmp_path), metric), State(champion="v1")
    state.versions["v1"] = SimpleNamespace(artifact="a")  # type: ignore[assignment]
    scorer._models["a"] = model(0, 1, says=lambda rows: rows)  # type: ignore[arg-type, return-value]
    scored = scorer.score(state, Arrived(batch=1, rows=5, labels=5, cursor="", digest=""), rows)
    assert (scored.n, scored.failed, scored.reason) == (4, 2, None)
    assert scored.value is not None
    assert scored.value > 5 if value is None else scored.value == pytest.approx(value)
    told = Story().line(Entry(pipeline="p", seq=1, at=NOW, fact=scored)).text
    assert told.endswith("v1 on 4 rows, 2 rows not answered")
    none = scorer.score(
        state,
        Arrived(batch=1, rows=5, labels=5, cursor="", digest=""),
        rows.with_columns(pl.lit(None, pl.Float64).alias(SCORE)),
    )
    assert isinstance(none, Scored)
    assert (none.n, none.failed) == (4, 4)
    assert none.value is not None


def test_what_does_not_serve_is_measured_so_too(tmp_path: Path) -> None:
    scorer, version = Scorer(Artifacts(tmp_path), "accuracy"), SimpleNamespace(artifact="a")
    scorer._models["a"] = model(0, 1, says=failing(*range(30), says=0.0))  # type: ignore[arg-type]
    value = scorer.reached(version, 1, ROWS, ROWS[LABEL], ())  # type: ignore[arg-type]
    assert value == pytest.approx(5 / 40)
    served = ROWS.select(LABEL, pl.lit("v1").alias(VERSION)).with_columns(
        pl.Series(SCORE, [None, 0.0] * 20)
    )
    version.name = "v1"
    assert scorer.errors(version, served) == [1.0] * 40  # type: ignore[arg-type]


# Two models side by side --------------------------------------------------------------------


def failing(*ids: int, says: Any = None) -> Callable[[pl.DataFrame], np.ndarray]:
    def predict(rows: pl.DataFrame) -> np.ndarray:
        if rows["id"].is_in(list(ids)).any():
            raise ValueError("an odd row")
        return rows["id"].to_numpy() / 100 if says is None else np.full(rows.height, says)

    return predict


ROWS = pl.DataFrame({"id": range(40), LABEL: [0, 1] * 20})


def beside(folder: Path, new: Any, old: Any) -> tuple[np.ndarray, np.ndarray]:
    scorer = Scorer(Artifacts(folder), "accuracy")
    both = (model(0, 1, says=one) for one in (new, old))
    return unknown.beside(scorer, *both, ROWS)[2:]


def test_the_same_rows_are_asked_of_a_model_once_and_others_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lately, asked = answers.Lately(), list[int]()

    def predict(rows: pl.DataFrame) -> np.ndarray:
        asked.append(rows.height)
        return rows["a"].to_numpy() / 2

    one, other = (SimpleNamespace(task="binary", classes=(0, 1), predict=predict) for _ in "ab")
    rows = pl.DataFrame({"a": [0.0, 1.0, None, 0.5]}).fill_null(float("nan"))
    first = lately.of(one, rows)
    assert np.isnan(first.scores[2])
    first.scores[:] = 9.0  # whoever asks may do with it what he likes
    again = lately.of(one, rows.clone())
    assert (again.scores[1], again.right.tolist()) == (0.5, [True, True, False, True])
    assert asked == [4]
    lately.of(other, rows)
    lately.of(one, rows.with_columns(a=pl.col("a") + 1))
    lately.of(one, rows.cast(pl.Float32))
    assert asked == [4] * 4
    monkeypatch.setattr(answers, "FEW", 3)
    lately.of(one, rows)
    assert asked == [4] * 5


def test_rows_that_a_model_fails_are_asked_again() -> None:
    lately = answers.Lately()
    odd = SimpleNamespace(task="binary", classes=(0, 1), predict=failing(3))
    assert (~lately.of(odd, ROWS).right).sum() == 1
    odd.predict = failing()
    assert lately.of(odd, ROWS).right.all()


def test_what_the_champion_cannot_answer_counts_against_it(tmp_path: Path) -> None:
    ours, theirs = beside(tmp_path, failing(), failing(3, 4))
    assert (theirs[3], theirs[4], theirs[5]) == (0.0, 1.0, 0.05)
    assert ours[3] == 0.03


def test_what_neither_can_answer_counts_against_both(tmp_path: Path) -> None:
    ours, theirs = beside(tmp_path, failing(3), failing(3, 4))
    assert (ours[3], ours[4]) == (0.0, 0.04)
    assert (theirs[3], theirs[4]) == (0.0, 1.0)


def test_who_raises_where_the_champion_answers_cannot_take_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an odd row"):
        beside(tmp_path, failing(3, 5), failing(3, 4))
    with pytest.raises(ValueError, match="an odd row"):
        beside(tmp_path, failing(*range(40)), failing(*range(40)))


def test_whoever_answers_is_better_than_a_champion_that_answers_nothing(tmp_path: Path) -> None:
    ours, theirs = beside(tmp_path, failing(), failing(*range(40)))
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).all()
    comparison = Comparison(
        metric=get("accuracy", task="binary"),
        labels=np.zeros(200, dtype=int),
        challenger=np.zeros(200),
        champion=np.full(200, np.nan),
        times=np.arange(200),
        rows=pl.DataFrame(),
    )
    assert StableScores(0.01).judge(comparison).reason == "the champion gives no finite score"


def test_models_race_on_the_rows_that_both_can_answer() -> None:
    rows = ROWS.with_columns(pl.lit(1).alias(BATCH))
    new, old = (model(0, 1, says=failing(*odd)) for odd in ((38, 39), (37, 38, 39)))
    race = Race(rows, (new, old))
    assert all(took > 0 for took in race.seconds(1))
    gone = Race(rows, (new, model(0, 1, says=failing(*range(40)))))
    took, none = gone.seconds(1)
    assert took > none == 0.0
    own = SimpleNamespace(seconds=lambda rows: took)
    theirs = SimpleNamespace(seconds=lambda rows: none)
    assert "the champion answers no row" in FasterThan(times=1.5)._judged(own, theirs).reason
