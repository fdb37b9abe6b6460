"""Leaves of scikit-learn's trees that learn from new rows, and what must not change in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from keepfit import learners
from keepfit.challenger import default
from keepfit.errors import ConfigError, TrainingError
from keepfit.learners import foliage
from tests.trainings import accuracy, fit, labelled

CLASSIFIERS: list[Any] = [
    HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5),
    GradientBoostingClassifier(n_estimators=20),
    GradientBoostingClassifier(n_estimators=20, init="zero", subsample=0.7),
    RandomForestClassifier(10, min_samples_leaf=3),
    ExtraTreesClassifier(10, min_samples_leaf=3, bootstrap=True),
    DecisionTreeClassifier(min_samples_leaf=5, criterion="entropy"),
]
REGRESSORS: list[Any] = [
    HistGradientBoostingRegressor(max_iter=20, l2_regularization=0.5),
    GradientBoostingRegressor(n_estimators=20),
    RandomForestRegressor(10, min_samples_leaf=3),
    ExtraTreesRegressor(10, min_samples_leaf=3),
    DecisionTreeRegressor(min_samples_leaf=5),
]


def rows(task: str, count: int = 600, seed: int = 0, gaps: bool = False) -> pl.DataFrame:
    """Return rows of two numbers and a category, and their labels."""
    draw = np.random.default_rng(seed)
    x, y, kind = draw.normal(size=count), draw.normal(size=count), draw.integers(0, 3, count)
    signal = x + (kind == 1) * y + 0.3 * draw.normal(size=count)
    known = {
        "regression": 50 + signal,
        "binary": (signal > 0).astype(int),
        "multiclass": np.digitize(signal, [-0.6, 0.6]),
    }[task]
    x = np.where(draw.random(count) < 0.1, np.nan, x) if gaps else x
    return labelled(known, x=x, y=y, kind=[f"kind {one}" for one in kind])


def tasks() -> list[Any]:
    found = [(one, task) for one in CLASSIFIERS for task in ("binary", "multiclass")]
    return [*found, *((one, "regression") for one in REGRESSORS)]


def name(value: Any) -> str:
    return value if isinstance(value, str) else learners.resolve(value).name


every = pytest.mark.parametrize(("estimator", "task"), tasks(), ids=name)


def error(model: Any, held: pl.DataFrame) -> float:
    """Return the loss that a model's leaves are to make small."""
    known, scores = model.codes(held["_label"]), model.predict(held)
    if model.task == "regression":
        return float(np.mean((known - scores) ** 2))
    chances = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores
    return float(-np.log(np.clip(chances[np.arange(len(known)), known], 1e-3, 1)).mean())


def parts(model: Any) -> list[Any]:
    """Return what of a model's trees is not the values of their leaves."""
    estimator = model.estimator
    if hasattr(estimator, "_predictors"):
        nodes = [one.nodes.copy() for step in estimator._predictors for one in step]
        for one in nodes:
            one["value"][one["is_leaf"].astype(bool)] = 0.0
        return [one.tolist() for one in nodes]
    trees = np.ravel(getattr(estimator, "estimators_", [estimator]))
    return [
        (one.tree_.feature.tolist(), one.tree_.threshold.tolist(), one.tree_.children_left.tolist())
        for one in trees
    ]


def others() -> list[Any]:
    """Return boosted trees of other libraries, whose leaves move as these do."""
    catboost, xgboost = pytest.importorskip("catboost"), pytest.importorskip("xgboost")
    drawn = {"iterations": 40, "depth": 4}
    grown = {"n_estimators": 20, "max_depth": 3, "reg_lambda": 5.0}
    classifiers = [catboost.CatBoostClassifier(**drawn), xgboost.XGBClassifier(**grown)]
    regressors = [catboost.CatBoostRegressor(**drawn), xgboost.XGBRegressor(**grown)]
    found = [(one, task) for one in classifiers for task in ("binary", "multiclass")]
    return [*found, *((one, "regression") for one in regressors)]


elsewhere = pytest.mark.parametrize(("estimator", "task"), others(), ids=name)


def turned(found: pl.DataFrame, task: str) -> pl.DataFrame:
    """Return rows whose labels stand on their head."""
    known = found["_label"]
    return found.with_columns(_label=100.0 - known if task == "regression" else known.max() - known)


WEIGHTS = pl.Series([3.0 if one % 3 == 0 else 1.0 for one in range(90)])


def weighed(estimator: Any, champion: Any, new: pl.DataFrame, heavy: pl.DataFrame) -> Any:
    """Return the champion after an update in which every third row weighs three, which it heeds."""
    plain = fit(estimator, new, champion, "leaves")
    model = fit(estimator, new.with_columns(_weight=WEIGHTS), champion, "leaves")
    assert error(model, heavy) < error(plain, heavy)
    return model


@elsewhere
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_leaves_of_other_libraries_follow_and_do_no_harm(
    estimator: Any, task: str, gaps: bool
) -> None:
    champion, held = fit(estimator, rows(task, gaps=gaps)), rows(task, 2_000, 99, gaps)
    model = champion
    for seed in range(1, 6):
        model = fit(estimator, rows(task, 300, seed, gaps), model, "leaves")
    assert error(model, held) < 1.1 * error(champion, held)
    for seed in range(6, 13):
        model = fit(estimator, turned(rows(task, 300, seed, gaps), task), model, "leaves")
    stale = error(champion, turned(held, task))
    assert error(model, turned(held, task)) < 0.3 * stale
    again = fit(estimator, turned(held, task), champion, "leaves")
    assert again.content() == fit(estimator, turned(held, task), champion, "leaves").content()


@elsewhere
def test_leaves_of_other_libraries_heed_what_rows_weigh(estimator: Any, task: str) -> None:
    champion, new = fit(estimator, rows(task)), rows(task, 90, seed=1)
    heavy = new.gather_every(3)
    model = weighed(estimator, champion, new, heavy)
    # A row that weighs three is as three rows.
    other = fit(estimator, pl.concat([new, heavy, heavy]), champion, "leaves")
    np.testing.assert_allclose(model.predict(new), other.predict(new), rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_leaves_follow_what_changed_and_trees_stay(estimator: Any, task: str, gaps: bool) -> None:
    before = rows(task, gaps=gaps)
    champion = fit(estimator, before)
    *later, last = [turned(rows(task, 300, seed, gaps), task) for seed in range(1, 9)]
    model = champion
    for one in later:
        model = fit(estimator, one, model, "leaves")
    assert error(model, last) < 0.5 * error(champion, last)
    assert parts(model) == parts(champion)
    # The champion itself is as it was, and trainings repeat.
    again = fit(estimator, before)
    assert again.content() == champion.content()
    assert fit(estimator, last, champion, "leaves").content() == (
        fit(estimator, last, again, "leaves").content()
    )


@every
def test_more_rows_of_the_same_kind_do_no_harm(estimator: Any, task: str) -> None:
    champion, held = fit(estimator, rows(task)), rows(task, 2_000, seed=99)
    model = champion
    for seed in range(1, 6):
        model = fit(estimator, rows(task, 300, seed), model, "leaves")
    assert error(model, held) < 1.1 * error(champion, held)


@every
def test_what_rows_weigh_counts_in_an_update(estimator: Any, task: str) -> None:
    champion, new = fit(estimator, rows(task)), rows(task, 90, seed=1)
    heavy = new.gather_every(3)
    model = weighed(estimator, champion, new, heavy)
    if "Gradient" in type(estimator).__name__:
        # Boosted trees count rows, and not what they weigh: what all together say is no more.
        other = fit(estimator, new.with_columns(_weight=1000 * WEIGHTS), champion, "leaves")
        near = {"rtol": 0.02, "atol": 0.02}
    else:
        other = fit(estimator, pl.concat([new, heavy, heavy]), champion, "leaves")
        near = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(model.predict(new), other.predict(new), **near)


@pytest.mark.parametrize("estimator", [CLASSIFIERS[0], CLASSIFIERS[3], CLASSIFIERS[5]], ids=name)
def test_weights_of_classes_count_in_an_update(estimator: Any) -> None:
    champion, new = fit(estimator, rows("binary")), rows("binary", 300, seed=1)
    found = []
    for weights in (None, {0: 1.0, 1: 20.0}, "balanced"):
        own = type(estimator)(**{**estimator.get_params(), "class_weight": weights})
        found.append(fit(own, new, champion, "leaves").predict(new).mean())
    assert found[1] > found[0] + 0.01
    assert abs(found[2] - found[0]) < found[1] - found[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.booleans())
def test_a_leaf_of_a_tree_moves_by_how_many_rows_reach_it(
    seed: int, count: int, classify: bool
) -> None:
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(200, 2)).astype(np.float32)
    known = (table[:, 0] > 0).astype(int) if classify else table[:, 0].astype(float)
    kind = DecisionTreeClassifier if classify else DecisionTreeRegressor
    tree = kind(max_leaf_nodes=6, random_state=0).fit(table, known)
    before = tree.tree_.value[:, 0, :].copy()
    new = draw.normal(size=(count, 2)).astype(np.float32)
    labels = draw.integers(0, 2, count) if classify else draw.normal(size=count)
    foliage.move(tree, new, labels, None, 1)
    after, places = tree.tree_.value[:, 0, :], tree.apply(new)
    memory = 100 / (100 + count)  # half of 200 rows
    for leaf in range(tree.tree_.node_count):
        came = labels[places == leaf]
        if not len(came):
            np.testing.assert_array_equal(after[leaf], before[leaf])
            continue
        told = np.eye(2)[came].mean(axis=0) if classify else came.mean()
        fresh = len(came) * (1 - memory)
        old = tree.tree_.n_node_samples[leaf] * count / 200 * memory
        share = fresh / (fresh + old)
        np.testing.assert_allclose(after[leaf], before[leaf] + share * (told - before[leaf]))


def test_leaves_that_do_not_hold_means_are_not_moved() -> None:
    others = [
        HistGradientBoostingRegressor(loss="quantile", quantile=0.9),
        HistGradientBoostingRegressor(loss="absolute_error"),
        HistGradientBoostingClassifier(monotonic_cst={"x": 1}),
        GradientBoostingClassifier(loss="exponential"),
        GradientBoostingRegressor(loss="huber"),
        RandomForestRegressor(criterion="absolute_error"),
        LogisticRegression(),
    ]
    for one in others:
        assert ("champion", "leaves") not in learners.resolve(one).ways
        with pytest.raises(ConfigError, match="leaves"):
            learners.validate(learners.resolve(one), "champion", "leaves")
    for one in (*CLASSIFIERS, *REGRESSORS):
        learner = learners.resolve(one)
        learners.validate(learner, "champion", "leaves")
        assert default(learner)[-1].update == "leaves"


def test_an_update_asks_for_what_it_cannot_go_on_without() -> None:
    champion, new = fit(CLASSIFIERS[0], rows("binary")), rows("binary", 50, seed=1)
    with pytest.raises(TrainingError, match="got one"):
        fit(CLASSIFIERS[0], new.filter(pl.col("_label") == 1), champion, "leaves")
    with pytest.raises(TrainingError, match="the new class 2"):
        fit(
            CLASSIFIERS[0],
            new.with_columns(_label=pl.int_range(pl.len()) % 3),
            champion,
            "leaves",
        )
    odd = fit(HistGradientBoostingRegressor(loss="absolute_error"), rows("regression"))
    with pytest.raises(TrainingError, match="whose leaves can learn") as caught:
        fit(REGRESSORS[0], rows("regression", 50), odd, "leaves")
    assert caught.value.hint == "start from scratch"


@pytest.mark.parametrize("count", [1, 7, 3_000])
@pytest.mark.parametrize(("estimator", "task"), tasks(), ids=name)
def test_answers_are_those_of_the_estimator_itself(estimator: Any, task: str, count: int) -> None:
    model, asked = fit(estimator, rows(task)), rows(task, count, seed=1)
    table, inside = model.table(asked), model.estimator
    told = inside.predict(table) if task == "regression" else inside.predict_proba(table)
    expected = told[:, 1] if task == "binary" else told
    np.testing.assert_array_equal(model.predict(asked), expected)


def test_a_forest_of_the_users_own_answers_itself() -> None:
    class Bold(RandomForestClassifier):
        def predict_proba(self, X: Any) -> Any:
            return np.round(super().predict_proba(X))

    scores = fit(Bold(5, max_depth=2), rows("binary")).predict(rows("binary"))
    assert set(scores) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "estimator", [CLASSIFIERS[0], CLASSIFIERS[1], CLASSIFIERS[3], CLASSIFIERS[5]], ids=name
)
def test_a_transfer_lets_the_leaves_of_a_donor_learn_what_both_have(estimator: Any) -> None:
    theirs = rows("binary").with_columns(other=pl.lit(1.0) * pl.int_range(pl.len()))
    donor = fit(estimator, theirs)
    ours = rows("binary", 400, seed=1).with_columns(_label=1 - pl.col("_label"))
    learner, model = learners.resolve(estimator), donor
    for _ in range(6):
        start = "transfer" if model is donor else "champion"
        model = learner.fit(ours, start=start, update="leaves", previous=model, seed=3)
    assert model.features == ("x", "y", "kind")
    held = rows("binary", 400, seed=2).with_columns(_label=1 - pl.col("_label"))
    assert accuracy(model, held) > 0.75
    report = learners.transferred(donor, model)
    assert report.columns == ("x", "y", "kind")
    assert report.gone_columns == ("other",)


def test_one_class_of_several_may_be_missing() -> None:
    champion = fit(CLASSIFIERS[0], rows("multiclass"))
    some = rows("multiclass", 300, seed=1).filter(pl.col("_label") != 1)
    model = fit(CLASSIFIERS[0], some, champion, "leaves")
    assert model.classes == (0, 1, 2)
    assert accuracy(model, some) > accuracy(champion, some) - 0.02


def test_categories_that_nobody_knows_and_one_row_are_taken() -> None:
    for estimator, task in tasks():
        champion = fit(estimator, rows(task))
        new = rows(task, 40, seed=1).with_columns(kind=pl.lit("new"))
        scores = fit(estimator, new, champion, "leaves").predict(rows(task))
        assert np.isfinite(scores).all()
    one = fit(
        REGRESSORS[0], rows("regression", 1), fit(REGRESSORS[0], rows("regression")), "leaves"
    )
    assert np.isfinite(one.predict(rows("regression"))).all()
