"""Trees that models share: what they answer is LightGBM's answer to the bit."""

from __future__ import annotations

import re
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.learners import forest, leaves
from tests.test_leaves import KINDS, QUIET, text_of, trained
from tests.trainings import fit, labelled

ONE_SCORE = ("binary", "regression")


def model_of(kind: str, **settings: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    estimator, make = KINDS[kind]
    table, known = make()
    table[::5, 2] = np.nan
    return trained(estimator(**(QUIET | settings)), table, known), table, known


def learnt(text: str, booster: Any, table: np.ndarray, known: np.ndarray) -> str:
    places = np.asarray(booster.predict(table, pred_leaf=True), dtype=np.int64)
    return leaves.moved(text, places, known, keep=0.5)


@pytest.mark.parametrize("kind", ONE_SCORE)
def test_answers_of_shared_trees_are_those_of_lightgbm_to_the_bit(kind: str) -> None:
    booster, table, known = model_of(kind, n_estimators=60, num_leaves=31)
    text = text_of(booster)
    later = learnt(text, booster, table[:300], known[:300])
    for one in (text, later):
        found = forest.leaves_of(one)
        assert found is not None
        expected = lgb.Booster(model_str=one).predict(table)
        np.testing.assert_array_equal(found.answer(table, 1), expected)
    assert not np.array_equal(booster.predict(table), lgb.Booster(model_str=later).predict(table))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.integers(1, 60))
def test_rows_from_anywhere_are_answered_alike(seed: int, scale: float, count: int) -> None:
    text = text_of(model_of("binary")[0])
    random = np.random.default_rng(seed)
    rows = random.normal(scale=scale, size=(count, 4))
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.05] = 0.0
    found = forest.leaves_of(text)
    assert found is not None
    np.testing.assert_array_equal(found.answer(rows, 1), lgb.Booster(model_str=text).predict(rows))


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 40))
def test_trees_are_added_up_one_after_the_other(seed: int, trees: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    said = random.normal(size=(trees, rows)) * 10.0 ** random.integers(-9, 9, (trees, 1))
    one_by_one = np.zeros(rows)
    for one in said:
        one_by_one += one
    np.testing.assert_array_equal(forest.added(said), one_by_one)


def test_models_that_learn_leaves_share_the_trees_and_others_do_not() -> None:
    booster, table, known = model_of("binary")
    text = text_of(booster)
    first, second = forest.leaves_of(text), forest.leaves_of(learnt(text, booster, table, known))
    other = forest.leaves_of(text_of(model_of("binary", num_leaves=5)[0]))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.forest is second.forest
    assert first.forest is not other.forest


def test_rows_are_sent_through_shared_trees_once(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, table, known = model_of("binary", random_state=7, bagging_fraction=0.5, bagging_freq=1)
    asked: list[int] = []
    find = forest.Forest.find

    def counted(self: forest.Forest, rows: np.ndarray, threads: int) -> Any:
        asked.append(len(rows))
        return find(self, rows, threads)

    monkeypatch.setattr(forest.Forest, "find", counted)
    text = text_of(booster)
    for one in (text, learnt(text, booster, table, known)):
        found = forest.leaves_of(one)
        assert found is not None
        found.answer(table[:100], 1)
        found.answer(np.asfortranarray(table[:100]), 1)
    assert asked == [100]
    changed = table[:100].copy()
    changed[0, 0] += 1e-9
    found.answer(changed, 1)
    assert asked == [100, 100]


@pytest.mark.parametrize(
    ("estimator", "odd"),
    [
        (lgb.LGBMRegressor(**QUIET, objective="poisson"), ""),
        (lgb.LGBMRegressor(**QUIET, linear_tree=True), ""),
        (lgb.LGBMRegressor(**QUIET, boosting_type="rf", subsample=0.5, subsample_freq=1), ""),
        (lgb.LGBMClassifier(**QUIET, objective="multiclass", num_class=3), ""),
        (lgb.LGBMRegressor(**QUIET), "nan"),
    ],
    ids=["poisson", "linear", "forest", "classes", "nan"],
)
def test_where_answers_are_more_than_a_sum_of_leaves_lightgbm_is_asked(
    estimator: Any, odd: str
) -> None:
    table = KINDS["regression"][1]()[0]
    booster = trained(estimator, table, np.abs(table[:, 0]).round().clip(max=2))
    text = text_of(booster)
    if odd:
        text = re.sub(r"\nleaf_value=\S+", f"\nleaf_value={odd}", text, count=1)
    assert forest.leaves_of(text) is None


def test_many_rows_are_left_to_lightgbm_and_not_remembered() -> None:
    found = forest.leaves_of(text_of(model_of("binary")[0]))
    assert found is not None
    table = np.zeros((forest.MOST // 20 + 1, 4))
    assert found.answer(table, 1) is None
    assert found.answer(table[:-1], 1) is not None
    assert found.forest.places(table, 1).shape == (20, len(table))


def test_chances_of_steep_scores_are_lightgbms() -> None:
    text = re.sub(r"\ntree_sizes=.*", "", text_of(model_of("binary")[0]))
    text = re.sub(r"\nleaf_value=\S+", "\nleaf_value=-1000", text)
    table = KINDS["binary"][1]()[0]
    found = forest.leaves_of(text)
    assert found is not None
    assert found.answer(table, 1) is None
    steep = lgb.Booster(model_str=text).predict(table)
    assert steep.min() == 0.0


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_a_model_answers_few_rows_and_many_alike(count: int) -> None:
    random = np.random.default_rng(1)
    rows = labelled(random.integers(0, 2, 300), a=random.normal(size=300), b=random.random(300))
    model = fit(lgb.LGBMClassifier(**QUIET), rows)
    updated = fit(lgb.LGBMClassifier(**QUIET), rows.tail(40), previous=model, update="leaves")
    for one in (model, updated):
        expected = lgb.Booster(model_str=one.text).predict(one.table(rows))[:count]
        np.testing.assert_array_equal(one.predict(rows.head(count)), expected)
