"""CatBoost: what it learns as it is, and the traps of going on from a champion."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import learners
from keepfit.errors import ConfigError, SchemaMismatch, TrainingError
from keepfit.testing.learners import rows_to_learn
from tests.trainings import accuracy, fit, groups, labelled

catboost = pytest.importorskip("catboost")
CatBoostClassifier, CatBoostRegressor = catboost.CatBoostClassifier, catboost.CatBoostRegressor


# What it is -------------------------------------------------------------------------------


def test_an_estimator_is_recognised_with_what_differs_from_its_defaults() -> None:
    learner = learners.resolve(CatBoostClassifier(iterations=200, class_weights=[1.0, 2.0]))
    assert isinstance(learner, learners.CatBoost)
    assert learner.name == "CatBoostClassifier(iterations=200, class_weights=[1.0, 2.0])"
    assert learner.parameters == {"class_weights": [1.0, 2.0], "iterations": 200}
    prints = {
        learners.resolve(kind(depth=depth)).fingerprint
        for kind in (CatBoostClassifier, CatBoostRegressor)
        for depth in (3, 4)
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (catboost.CatBoostRanker(), "got CatBoostRanker"),
        (CatBoostClassifier(early_stopping_rounds=5), "early stopping"),
        (CatBoostClassifier(od_type="Iter", od_wait=3), "early stopping"),
        (CatBoostClassifier(use_best_model=True), "early stopping"),
        (CatBoostClassifier(text_features=["words"]), "got text_features"),
        (CatBoostClassifier(cat_features=[0]), "name columns, got \\[0\\]"),
        (CatBoostClassifier(loss_function="MultiLogloss"), "got MultiLogloss"),
        (CatBoostRegressor(loss_function="RMSEWithUncertainty"), "one value per row"),
        (CatBoostRegressor(objective="MultiQuantile:alpha=0.1,0.9"), "one value per row"),
    ],
)
def test_what_cannot_train_is_refused_with_a_reason(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learners.resolve(wrong)


def test_leaves_that_hold_something_else_and_a_gpu_know_no_way_that_catboost_has_not() -> None:
    learner = learners.resolve(CatBoostClassifier())
    learners.validate(learner, "champion", "all")
    learners.validate(learner, "champion", "leaves")
    for other in (
        CatBoostClassifier(loss_function="MultiClassOneVsAll"),
        CatBoostClassifier(auto_class_weights="Balanced"),
        CatBoostClassifier(grow_policy="Lossguide"),
        CatBoostRegressor(loss_function="Quantile:alpha=0.9"),
        CatBoostRegressor(monotone_constraints={"value": 1}),
    ):
        with pytest.raises(ConfigError, match="expected a way that"):
            learners.validate(learners.resolve(other), "champion", "leaves")
    with pytest.raises(ConfigError, match="expected a way that"):
        learners.validate(learners.resolve(CatBoostClassifier(task_type="GPU")), "champion", "all")


@pytest.mark.parametrize("estimator", [CatBoostClassifier, CatBoostRegressor])
def test_new_leaves_are_refused_where_the_champion_learnt_something_else(estimator: Any) -> None:
    classify = estimator is CatBoostClassifier
    rows = rows_to_learn("binary" if classify else "regression")
    loss = "CrossEntropy" if classify else "MAE"
    champion = fit(estimator(iterations=2, loss_function=loss), rows)
    with pytest.raises(TrainingError, match="can go on with"):
        fit(estimator(iterations=2), rows, champion, "leaves")


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_scratch_model_answers_as_the_estimator_itself_does(task: str) -> None:
    rows = rows_to_learn(task)
    model = fit(CatBoostClassifier(iterations=8, random_seed=5), rows)
    frame = rows.select(model.features).with_columns(
        pl.col("group").fill_null("?"),
        pl.col("seen_at").dt.epoch("us") / 1e6,
        pl.col("open").cast(pl.Float64),
    )
    own = CatBoostClassifier(
        iterations=8,
        random_seed=5,
        verbose=False,
        allow_writing_files=False,
        cat_features=["group"],
    )
    own.fit(frame.to_pandas(), model.codes(rows["_label"]))
    shares = own.predict_proba(frame.to_pandas())
    expected = shares if task == "multiclass" else shares[:, 1]
    np.testing.assert_allclose(model.predict(rows), expected, atol=0.01)


@pytest.mark.parametrize(
    ("values", "classes"),
    [([True, False, None], (False, True)), (["yes", "no", None], ("no", "yes")), ([7, 3], (3, 7))],
)
def test_labels_of_every_kind_are_classes_in_order(values: Any, classes: tuple[Any, ...]) -> None:
    rows = pl.concat([labelled(values, x=[1.0, 2.0, 3.0][: len(values)])] * 20)
    model = fit(CatBoostClassifier(iterations=2), rows)
    assert model.classes == learners.loads(model.dumps()).classes == classes
    scores = model.predict(rows)
    assert scores[0] > scores[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": {"yes": 9.0, "no": 1.0}},
        {"class_weights": {"no": 1.0, "yes": 9.0}},
        {"class_weights": {"yes": 9.0}},
        {"class_weights": [1.0, 9.0]},
        {"scale_pos_weight": 9.0},
    ],
)
def test_class_weights_name_labels_and_leave_the_order_of_classes(settings: Any) -> None:
    """CatBoost alone takes the order of the weights for the order of the classes."""
    rows = groups({"a": 0.4, "b": 0.6}, 400, seed=0)
    rows = rows.with_columns(pl.col("_label").cast(pl.String).replace({"0": "no", "1": "yes"}))
    flat = fit(CatBoostClassifier(iterations=10), rows)
    tilted = fit(CatBoostClassifier(iterations=10, **settings), rows)
    assert tilted.predict(rows).mean() > flat.predict(rows).mean() + 0.2
    grown = fit(CatBoostClassifier(iterations=10, **settings), rows, tilted)
    assert grown.predict(rows).mean() > flat.predict(rows).mean() + 0.2


def test_a_class_weight_for_a_label_that_does_not_occur_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected class weights for the labels"):
        fit(CatBoostClassifier(class_weights={"maybe": 2.0}), rows_to_learn("binary"))


def test_probabilities_of_one_against_all_add_up_to_one() -> None:
    rows = rows_to_learn("multiclass")
    model = fit(CatBoostClassifier(iterations=5, loss_function="MultiClassOneVsAll"), rows)
    np.testing.assert_allclose(model.predict(rows).sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("loss", ["RMSE", "MAE", "Quantile:alpha=0.5", "Poisson", "Huber:delta=1"])
def test_a_regression_answers_in_the_labels_own_unit_after_loading_too(loss: str) -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label").abs() + 3.0)
    model = fit(CatBoostRegressor(iterations=60, learning_rate=0.3, loss_function=loss), rows)
    loaded = learners.loads(model.dumps())
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert np.abs(model.predict(rows) - rows["_label"].to_numpy()).mean() < 0.5


@pytest.mark.parametrize("name", ["loss_function", "objective"])
@pytest.mark.parametrize("loss", ["Logloss", "CrossEntropy"])
def test_a_loss_of_two_classes_gives_way_to_one_of_several(name: str, loss: str) -> None:
    rows = rows_to_learn("multiclass")
    estimator = CatBoostClassifier(iterations=9, **{name: loss})
    model = fit(estimator, rows)
    assert model.loss == "MultiClass"
    assert accuracy(model, rows) > 0.6
    assert fit(estimator, rows, model).loss == "MultiClass"
    assert fit(estimator, rows_to_learn("binary")).loss == loss


def test_columns_of_one_value_are_refused_with_what_to_do() -> None:
    rows = labelled([0, 1] * 20, same=[3.0] * 40)
    with pytest.raises(TrainingError, match="can learn from, and CatBoost says: All") as caught:
        fit(CatBoostClassifier(iterations=3), rows)
    assert "at least has to vary" in str(caught.value.hint)


def test_a_column_of_numbers_may_be_named_as_categories() -> None:
    rows = rows_to_learn("binary").with_columns(
        _label=(pl.col("count") % 2).cast(pl.Int64), count=pl.col("count").cast(pl.Float64)
    )
    named = CatBoostClassifier(iterations=3, depth=2, cat_features=["count"], one_hot_max_size=20)
    model = fit(named, rows)
    assert accuracy(model, rows) > accuracy(
        fit(CatBoostClassifier(iterations=3, depth=2), rows), rows
    )
    assert accuracy(fit(named, rows, learners.loads(model.dumps())), rows) > 0.6
    assert np.isfinite(model.predict(rows.with_columns(count=None))).all()


# Going on from the champion ---------------------------------------------------------------


def test_a_warm_start_moves_towards_the_new_rows() -> None:
    model = fit(CatBoostClassifier(iterations=20), groups({"a": 0.9, "b": 0.1}, 1_000, seed=0))
    drifted = groups({"a": 0.2, "b": 0.8}, 1_000, seed=1)
    stale = accuracy(model, drifted)
    for _ in range(3):
        model = fit(CatBoostClassifier(iterations=20), drifted, model)
    assert accuracy(model, drifted) > stale + 0.3


def test_the_champions_learning_rate_stays_where_it_is_left_open() -> None:
    """CatBoost chooses one by the number of rows, and would learn faster from fewer."""
    rows = rows_to_learn("binary")
    champion = fit(CatBoostClassifier(iterations=10), rows)
    few = rows.head(60)
    rates = [
        fit(CatBoostClassifier(iterations=10, **own), few, before).settings["learning_rate"]
        for own, before in (({}, None), ({}, champion), ({"learning_rate": 0.125}, champion))
    ]
    assert rates[0] != pytest.approx(rates[1])
    assert rates[1] == pytest.approx(champion.settings["learning_rate"])
    assert rates[2] == 0.125


def test_trees_grow_to_five_times_the_estimators_own_and_no_further() -> None:
    rows = rows_to_learn("binary")
    model = fit(CatBoostClassifier(n_estimators=3), rows)
    for turn in range(2, 6):
        model = fit(CatBoostClassifier(n_estimators=3), rows, model)
        assert model.trees.tree_count_ == 3 * turn
    with pytest.raises(TrainingError, match="expected at most 15 trees") as caught:
        fit(CatBoostClassifier(n_estimators=3), rows, model)
    assert caught.value.hint == "a training from scratch is due"


def test_the_trees_of_the_champion_stay_as_they_are() -> None:
    rows = rows_to_learn("regression")
    champion = fit(CatBoostRegressor(iterations=10), rows)
    grown = fit(
        CatBoostRegressor(iterations=10), rows.with_columns(pl.col("_label") + 5.0), champion
    )
    old, new = champion.trees.get_leaf_values(), grown.trees.get_leaf_values()
    np.testing.assert_array_equal(new[: len(old)], old)
    assert grown.trees.get_scale_and_bias() == champion.trees.get_scale_and_bias()
    assert grown.predict(rows).mean() > champion.predict(rows).mean() + 1.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grow_policy": "Lossguide"}, "symmetric"),
        ({"nan_mode": "Max"}, "Nan value treatment"),
    ],
)
def test_a_champion_of_parameters_that_do_not_add_up_asks_for_scratch(
    settings: Any, said: str
) -> None:
    rows = rows_to_learn("binary")
    champion = fit(CatBoostClassifier(iterations=4), rows)
    with pytest.raises(
        TrainingError, match=f"can go on with, and CatBoost says: .*{said}"
    ) as caught:
        fit(CatBoostClassifier(iterations=4, **settings), rows, champion)
    assert "scratch" in str(caught.value.hint)


@pytest.mark.parametrize(
    "settings", [{"depth": 3}, {"border_count": 16}, {"boosting_type": "Ordered"}]
)
def test_a_champion_of_other_parameters_is_gone_on_from_where_trees_add_up(settings: Any) -> None:
    rows = rows_to_learn("binary")
    champion = fit(CatBoostClassifier(iterations=4), rows)
    model = fit(CatBoostClassifier(iterations=4, **settings), rows, champion)
    assert model.trees.tree_count_ == 8
    assert accuracy(model, rows) > 0.9


def test_trees_that_learn_something_else_are_not_added_up() -> None:
    """Trees of counts add up to logarithms: the answers of both together mean nothing."""
    rows = rows_to_learn("regression").with_columns(pl.col("_label").abs())
    counts = fit(CatBoostRegressor(iterations=4, loss_function="Poisson"), rows)
    with pytest.raises(TrainingError, match="learns RMSE, got one that learnt Poisson"):
        fit(CatBoostRegressor(iterations=4), rows, counts)
    several = rows_to_learn("multiclass")
    against = CatBoostClassifier(iterations=4, loss_function="MultiClassOneVsAll")
    with pytest.raises(TrainingError, match="got one that learnt MultiClassOneVsAll"):
        fit(CatBoostClassifier(iterations=4), several, fit(against, several))


def test_what_the_champion_has_no_place_for_asks_for_scratch() -> None:
    rows, several = rows_to_learn("binary"), rows_to_learn("multiclass")
    champion = fit(CatBoostClassifier(iterations=4), rows)
    with pytest.raises(TrainingError, match="got one"):
        fit(CatBoostClassifier(), rows.filter(pl.col("_label") == 1), champion)
    third = rows.with_columns(_label=pl.int_range(pl.len()) % 3)
    with pytest.raises(TrainingError, match="the new class 2"):
        fit(CatBoostClassifier(), third, champion)
    with pytest.raises(SchemaMismatch, match="column `value` is missing"):
        fit(CatBoostClassifier(), rows.drop("value"), champion)
    with pytest.raises(TrainingError, match="can go on with"):
        fit(CatBoostRegressor(), rows_to_learn("regression"), champion)
    other = fit(CatBoostClassifier(iterations=4), several)
    with pytest.raises(TrainingError, match="got none of 'mid'"):
        fit(CatBoostClassifier(), several.filter(pl.col("_label") != "mid"), other)


def test_gaps_and_categories_that_the_champion_has_not_seen_are_learnt_from_and_answered() -> None:
    rows = rows_to_learn("binary", mixed=False).with_columns(
        group=pl.Series(["a", "b"] * 200), other=pl.col("value") * 2
    )
    champion = fit(CatBoostClassifier(iterations=5), rows)
    gap = pl.int_range(pl.len()) % 3 == 0
    later = rows.with_columns(
        value=pl.when(~gap).then("value"), group=pl.when(gap).then(pl.lit("new")).otherwise("group")
    )
    model = fit(CatBoostClassifier(iterations=5), later, champion)
    assert accuracy(model, later) > 0.8
    unseen, gone = (
        rows.with_columns(group=pl.lit(value, dtype=pl.String)) for value in ("newer", None)
    )
    np.testing.assert_array_equal(model.predict(unseen), model.predict(gone))


# Repeatable, quiet, told --------------------------------------------------------------------


def test_neither_threads_nor_the_hour_leave_a_trace_in_a_model() -> None:
    rows = rows_to_learn("binary", height=2_000)
    one, two = (fit(CatBoostClassifier(iterations=5, thread_count=count), rows) for count in (1, 2))
    assert one.content() == two.content()


def test_a_seed_is_set_where_the_user_left_it_open() -> None:
    rows = rows_to_learn("binary")

    def answers(**own: Any) -> set[bytes]:
        learner = learners.resolve(CatBoostClassifier(iterations=5, **own))
        how: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None}
        return {learner.fit(rows, seed=seed, **how).predict(rows).tobytes() for seed in (1, 2)}

    assert len(answers()) == 2
    assert len(answers(random_seed=1)) == len(answers(random_state=1)) == 1


def test_nothing_is_printed_nor_written_into_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = rows_to_learn("binary")
    champion = fit(CatBoostClassifier(iterations=3), rows)
    learners.loads(fit(CatBoostClassifier(iterations=3), rows, champion).dumps()).predict(rows)
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert os.listdir(tmp_path) == []


def test_importances_name_columns() -> None:
    found = fit(CatBoostClassifier(iterations=5), rows_to_learn("binary")).importances()
    assert set(found) == {"value", "other", "count", "group", "open", "seen_at"}
    assert max(found, key=found.__getitem__) == "value"
    assert sum(found.values()) == pytest.approx(100.0)


def test_labels_that_are_all_alike_are_named_as_the_reason_to_stand_still() -> None:
    learner = learners.resolve(CatBoostRegressor(iterations=2))
    rows = rows_to_learn("regression")
    champion = learner.fit(rows, start="scratch", update="all", previous=None, seed=1)
    alike = rows.with_columns(_label=pl.lit(1.0))
    with pytest.raises(TrainingError, match="targets are equal") as caught:
        learner.fit(alike, start="champion", update="all", previous=champion, seed=1)
    assert str(caught.value.hint).startswith("select more rows, of more than one label")
