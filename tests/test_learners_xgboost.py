"""XGBoost: what it learns as it is, and the traps of going on from a champion."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import learners
from keepfit.errors import ConfigError, SchemaMismatch, TrainingError
from keepfit.testing.learners import rows_to_learn
from tests.trainings import accuracy, fit, groups, labelled

xgboost = pytest.importorskip("xgboost")
XGBClassifier, XGBRegressor = xgboost.XGBClassifier, xgboost.XGBRegressor


def trees(model: Any) -> list[Any]:
    """Return the trees of a model as XGBoost writes them."""
    stored = json.loads(bytes(model.booster.save_raw("json")))
    found: list[Any] = stored["learner"]["gradient_booster"]["model"]["trees"]
    return found


def base_score(model: Any) -> str:
    stored = json.loads(bytes(model.booster.save_raw("json")))
    found: str = stored["learner"]["learner_model_param"]["base_score"]
    return found


def leaves(tree: Any) -> list[int]:
    return [node for node, left in enumerate(tree["left_children"]) if left == -1]


# What it is -------------------------------------------------------------------------------


def test_an_estimator_is_recognised_with_what_differs_from_its_defaults() -> None:
    learner = learners.resolve(XGBClassifier(n_estimators=200, eta=0.1))
    assert isinstance(learner, learners.XGBoost)
    assert learner.name == "XGBClassifier(n_estimators=200, eta=0.1)"
    assert learner.parameters["decay_rate"] is None
    assert repr(learners.XGBoost(XGBRegressor(), decay_rate=0.5)) == (
        "learners.XGBoost(XGBRegressor(), decay_rate=0.5)"
    )
    prints = {
        learners.XGBoost(XGBRegressor(max_depth=depth), decay_rate=rate).fingerprint
        for depth in (3, 4)
        for rate in (0.5, 0.9)
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (xgboost.XGBRanker(), "got XGBRanker"),
        (XGBClassifier(early_stopping_rounds=5), "early stopping"),
        (XGBClassifier(callbacks=[xgboost.callback.EarlyStopping(rounds=5)]), "early stopping"),
        (XGBClassifier(booster="gblinear"), "got 'gblinear'"),
        (XGBClassifier(missing=-999.0), "missing=-999.0"),
        (XGBClassifier(objective="reg:squarederror"), "got 'reg:squarederror'"),
        (XGBClassifier(objective=lambda y, p: (p - y, y)), "got a function"),
    ],
)
def test_what_cannot_train_is_refused_with_a_reason(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learners.resolve(wrong)
    with pytest.raises(ConfigError, match="expected a decay rate from 0 to 1, got 1.5"):
        learners.XGBoost(XGBClassifier(), decay_rate=1.5)


@pytest.mark.parametrize(
    "estimator",
    [
        XGBRegressor(objective="reg:absoluteerror"),
        XGBRegressor(objective=lambda y, p: (p - y, np.ones_like(p))),
        XGBRegressor(monotone_constraints=(1,)),
        XGBRegressor(booster="dart"),
        XGBRegressor(num_parallel_tree=4),
        xgboost.XGBRFRegressor(),
    ],
)
def test_leaves_that_refresh_would_spoil_are_not_updated(estimator: Any) -> None:
    learner = learners.resolve(estimator)
    with pytest.raises(ConfigError, match="expected a way that"):
        learners.validate(learner, "champion", "leaves")
    learners.validate(learner, "scratch", "all")


@pytest.mark.parametrize("kind", [XGBClassifier, xgboost.XGBRFClassifier])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_scratch_model_answers_as_the_estimator_itself_does(kind: Any, task: str) -> None:
    rows = rows_to_learn(task)
    settings = {"n_estimators": 8, "colsample_bytree": 0.7, "random_state": 5}
    model = fit(kind(**settings), rows)
    matrix, kinds = model.table(rows), model.booster.feature_types
    assert kinds == ["q", "q", "q", "c", "q", "q"]
    own = kind(**settings, feature_types=kinds, enable_categorical=True)
    shares = own.fit(matrix, model.codes(rows["_label"])).predict_proba(matrix)
    expected = shares if task == "multiclass" else shares[:, 1]
    np.testing.assert_allclose(model.predict(rows), expected, atol=1e-6)


@pytest.mark.parametrize("objective", ["binary:hinge", "binary:logitraw", "multi:softmax"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_every_objective_of_a_classifier_answers_probabilities(objective: str, task: str) -> None:
    rows = rows_to_learn(task)
    scores = fit(XGBClassifier(n_estimators=4, objective=objective), rows).predict(rows)
    assert ((scores >= 0) & (scores <= 1)).all()
    if task == "multiclass":
        np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "classes"),
    [([True, False, None], (False, True)), (["yes", "no", None], ("no", "yes")), ([7, 3], (3, 7))],
)
def test_labels_of_every_kind_are_classes_in_order(values: Any, classes: tuple[Any, ...]) -> None:
    rows = pl.concat([labelled(values, x=[1.0, 2.0, 3.0][: len(values)])] * 20)
    model = fit(XGBClassifier(n_estimators=2), rows)
    assert model.classes == learners.loads(model.dumps()).classes == classes
    scores = model.predict(rows)
    assert scores[0] > scores[1]


def test_the_weight_of_the_second_class_counts_in_every_way() -> None:
    rows = groups({"a": 0.4, "b": 0.6}, 400, seed=0)
    flat = fit(XGBClassifier(n_estimators=8), rows)
    heavy = XGBClassifier(n_estimators=8, scale_pos_weight=9.0)
    for update in ("all", "leaves"):
        assert fit(heavy, rows, flat, update).predict(rows).mean() > flat.predict(rows).mean()
    assert fit(heavy, rows).predict(rows).mean() > flat.predict(rows).mean() + 0.2


def test_constraints_name_columns() -> None:
    rows = rows_to_learn("regression")
    falling = {"monotone_constraints": {"value": -1}}
    model = fit(XGBRegressor(n_estimators=10, **falling), rows)
    steps = pl.concat([rows.head(1)] * 9).with_columns(value=pl.Series(np.linspace(-2, 2, 9)))
    for one in (model, fit(XGBRegressor(n_estimators=10, **falling), rows, model)):
        assert (np.diff(one.predict(steps)) <= 1e-6).all()
    apart = [["value"], ["other", "count", "group", "open", "seen_at"]]
    for tree in trees(fit(XGBRegressor(n_estimators=5, interaction_constraints=apart), rows)):
        inner = set(range(len(tree["left_children"]))) - set(leaves(tree))
        split = {model.features[tree["split_indices"][node]] for node in inner}
        assert split == {"value"} or "value" not in split
    with pytest.raises(ConfigError, match="got 'valeu'") as caught:
        fit(XGBRegressor(monotone_constraints={"valeu": 1}), rows)
    assert caught.value.hint == "the nearest is 'value'"


def test_an_objective_of_the_users_own_is_gone_on_with() -> None:
    def squares(labels: Any, predicted: Any) -> Any:
        return predicted - labels, np.ones_like(predicted)

    rows = rows_to_learn("regression")
    estimator = XGBRegressor(n_estimators=8, objective=squares)
    model = fit(estimator, rows, fit(estimator, rows))
    assert model.booster.num_boosted_rounds() == 16
    error = np.abs(model.predict(rows) - rows["_label"].to_numpy()).mean()
    assert error < rows["_label"].std() / 4  # type: ignore[operator]


# Going on from the champion ---------------------------------------------------------------


def test_left_alone_refresh_empties_the_leaves_that_no_row_reaches() -> None:
    rows = rows_to_learn("binary")
    champion = fit(XGBClassifier(n_estimators=4), rows)
    few = rows.filter(pl.col("value") > 0.0)
    matrix, known = champion.table(few), champion.codes(few["_label"])
    table = xgboost.DMatrix(
        matrix, known, feature_types=champion.booster.feature_types, enable_categorical=True
    )
    update = {"process_type": "update", "updater": "refresh", "objective": "binary:logistic"}
    alone = xgboost.train(update, table, num_boost_round=4, xgb_model=champion.booster)
    kept = rows.filter(pl.col("value") < -1.0)
    left, whole = alone.inplace_predict(champion.table(kept)), champion.predict(kept)
    assert np.abs(left - whole).mean() > 0.1
    ours = fit(XGBClassifier(n_estimators=4), few, champion, "leaves")
    np.testing.assert_allclose(ours.predict(kept), whole, atol=0.03)


@pytest.mark.parametrize("settings", [{}, {"reg_alpha": 0.1}], ids=["moved", "refreshed"])
def test_an_update_keeps_every_tree_and_adds_none(settings: dict[str, Any]) -> None:
    rows = rows_to_learn("multiclass")
    champion = model = fit(XGBClassifier(n_estimators=5, **settings), rows)
    for seed in range(1, 9):
        later = rows_to_learn("multiclass", seed=seed)
        model = fit(XGBClassifier(n_estimators=50, **settings), later, model, "leaves")
    assert model.booster.num_boosted_rounds() == 5
    assert len(trees(model)) == 15
    for old, new in zip(trees(champion), trees(model), strict=True):
        for field in ("left_children", "right_children", "split_indices", "categories"):
            assert old[field] == new[field]
        splits = sorted(set(range(len(old["left_children"]))) - set(leaves(old)))
        limits = [np.array(one["split_conditions"])[splits] for one in (old, new)]
        np.testing.assert_array_equal(*limits)


def test_the_decay_rate_says_how_far_leaves_move() -> None:
    champion = fit(XGBClassifier(n_estimators=5), rows_to_learn("binary"))
    later = rows_to_learn("binary", seed=1).with_columns(_label=1 - pl.col("_label"))

    def updated(rate: float) -> Any:
        learner = learners.XGBoost(XGBClassifier(), decay_rate=rate)
        return learner.fit(later, start="champion", update="leaves", previous=champion, seed=3)

    np.testing.assert_array_equal(updated(1.0).predict(later), champion.predict(later))
    right = [accuracy(updated(rate), later) for rate in (1.0, 0.5, 0.0)]
    assert right[0] < right[1] < right[2]


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_warm_start_moves_towards_the_new_rows(update: str) -> None:
    model = fit(XGBClassifier(n_estimators=20), groups({"a": 0.9, "b": 0.1}, 1_000, seed=0))
    drifted = groups({"a": 0.2, "b": 0.8}, 1_000, seed=1)
    stale = accuracy(model, drifted)
    learner = learners.XGBoost(XGBClassifier(n_estimators=20), decay_rate=0.5)
    for _ in range(3):
        model = learner.fit(drifted, start="champion", update=update, previous=model, seed=3)
    assert accuracy(model, drifted) > stale + 0.3


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_warm_start_counts_from_the_champions_base_score(update: str) -> None:
    """Another one would shift all that the champion's trees answer."""
    common = groups({"a": 0.9, "b": 0.8}, 600, seed=0)
    rare = groups({"a": 0.1, "b": 0.2}, 600, seed=1)
    champion = fit(XGBClassifier(n_estimators=5), common)
    for estimator in (XGBClassifier(n_estimators=5), XGBClassifier(n_estimators=5, base_score=0.5)):
        assert base_score(fit(estimator, rare, champion, update)) == base_score(champion)
    assert base_score(fit(XGBClassifier(n_estimators=5), rare)) != base_score(champion)


def test_another_learning_rate_is_for_the_new_trees_alone() -> None:
    rows = rows_to_learn("binary")
    champion = fit(XGBClassifier(n_estimators=5, learning_rate=0.5), rows)
    model = fit(XGBClassifier(n_estimators=5, learning_rate=0.01), rows, champion)
    for old, new in zip(trees(champion), trees(model)[:5], strict=True):
        assert old["split_conditions"] == new["split_conditions"]
    np.testing.assert_allclose(model.predict(rows), champion.predict(rows), atol=0.03)


def test_trees_grow_to_five_times_the_estimators_own_and_no_further() -> None:
    rows = rows_to_learn("multiclass")
    model = fit(XGBClassifier(n_estimators=3), rows)
    for turn in range(2, 6):
        model = fit(XGBClassifier(n_estimators=3), rows, model)
        assert model.booster.num_boosted_rounds() == 3 * turn
    with pytest.raises(TrainingError, match="expected at most 15 rounds") as caught:
        fit(XGBClassifier(n_estimators=3), rows, model)
    assert caught.value.hint == "a training from scratch is due"


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_what_the_champion_has_no_place_for_asks_for_scratch(update: str) -> None:
    rows = rows_to_learn("binary")
    champion = fit(XGBClassifier(n_estimators=4), rows)
    with pytest.raises(TrainingError, match="got one"):
        fit(XGBClassifier(), rows.filter(pl.col("_label") == 1), champion, update)
    third = rows.with_columns(_label=pl.int_range(pl.len()) % 3)
    with pytest.raises(TrainingError, match="the new class 2"):
        fit(XGBClassifier(), third, champion, update)
    with pytest.raises(SchemaMismatch, match="column `value` is missing"):
        fit(XGBClassifier(), rows.drop("value"), champion, update)
    with pytest.raises(TrainingError, match="can go on with"):
        fit(XGBRegressor(), rows_to_learn("regression"), champion, update)


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_trees_that_learn_something_else_are_not_added_up(update: str) -> None:
    """Trees of counts add up to logarithms: the answers of both together mean nothing."""
    rows = rows_to_learn("regression").with_columns(pl.col("_label").abs())
    counts = fit(XGBRegressor(n_estimators=4, objective="count:poisson"), rows)
    with pytest.raises(TrainingError, match="learns reg:squarederror, got one that learnt count"):
        fit(XGBRegressor(n_estimators=4), rows, counts, update)
    same = fit(XGBRegressor(n_estimators=4, objective="count:poisson"), rows, counts, update)
    assert (same.predict(rows) > 0).all()


def test_leaves_of_trees_that_are_dropped_at_random_are_not_updated() -> None:
    rows = rows_to_learn("binary")
    champion = fit(XGBClassifier(n_estimators=4, booster="dart", rate_drop=0.5), rows)
    with pytest.raises(TrainingError, match="a champion of booster 'gbtree'"):
        fit(XGBClassifier(n_estimators=4), rows, champion, "leaves")


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_new_category_and_a_missing_class_leave_what_was_learnt(update: str) -> None:
    rows = rows_to_learn("multiclass")
    champion = fit(XGBClassifier(n_estimators=8), rows)
    new = pl.when(pl.col("group") == "south").then(pl.lit("east")).otherwise("group")
    later = rows.filter(pl.col("_label") != "mid").with_columns(group=new)
    model = fit(XGBClassifier(n_estimators=8), later, champion, update)
    assert model.head.encoding == champion.head.encoding
    assert model.classes == ("high", "low", "mid")
    unseen = rows.with_columns(group=pl.lit("east"))
    gone = rows.with_columns(group=pl.lit(None, dtype=pl.String))
    np.testing.assert_array_equal(model.predict(unseen), model.predict(gone))
    assert accuracy(model, rows.filter(pl.col("_label") != "mid")) > 0.8


# Repeatable, quick, told -------------------------------------------------------------------


def test_threads_leave_no_trace_in_a_model() -> None:
    rows = rows_to_learn("binary", height=3_000)
    one, two = (fit(XGBClassifier(n_estimators=5, n_jobs=jobs), rows) for jobs in (1, 2))
    assert one.content() == two.content()


def test_a_seed_is_set_where_the_user_left_it_open() -> None:
    rows = rows_to_learn("binary")

    def contents(**own: Any) -> set[bytes]:
        learner = learners.resolve(XGBClassifier(n_estimators=5, subsample=0.5, **own))
        how: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None}
        return {learner.fit(rows, seed=seed, **how).content() for seed in (1, 2)}

    assert len(contents()) == 2
    assert len(contents(random_state=1)) == len(contents(seed=1)) == 1


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    rows = rows_to_learn("binary")
    champion = fit(XGBClassifier(n_estimators=3, unheard_of=1), rows)
    fit(XGBClassifier(n_estimators=3), rows, champion, "leaves")
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_importances_name_columns() -> None:
    found = fit(XGBClassifier(n_estimators=5), rows_to_learn("binary")).importances()
    assert set(found) == {"value", "other", "count", "group", "open", "seen_at"}
    assert max(found, key=found.__getitem__) == "value"


def test_one_row_is_refused() -> None:
    with pytest.raises(TrainingError, match="two labelled rows or more"):
        fit(XGBRegressor(), labelled([1.0], x=[1.0]))
