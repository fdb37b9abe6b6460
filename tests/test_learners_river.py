"""River: models that learn row by row, and the traps of going on with their state."""

import json
import numbers
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit import learners
from keepfit.challenger import default
from keepfit.errors import ConfigError, SchemaMismatch, TrainingError
from keepfit.testing.learners import rows_to_learn
from tests.trainings import accuracy, fit, groups, labelled

pytest.importorskip("river")
from river import (
    base,
    cluster,
    compose,
    dummy,
    ensemble,
    feature_extraction,
    forest,
    imblearn,
    linear_model,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    stats,
    tree,
)


def prepared(model: Any) -> Any:
    """Return a pipeline that scales numbers and spreads texts in front of a model."""
    numeric = compose.SelectType(numbers.Number) | preprocessing.StandardScaler()
    return (numeric + (compose.SelectType(str) | preprocessing.OneHotEncoder())) | model


def logistic(rate: float = 0.1) -> Any:
    return linear_model.LogisticRegression(optim.SGD(rate))


# What it is -------------------------------------------------------------------------------


def test_without_recipes_the_champion_learns_new_rows_one_by_one() -> None:
    for model, expected in (
        (tree.HoeffdingTreeClassifier(), ["all"]),
        (preprocessing.StandardScaler() | linear_model.LogisticRegression(), ["all"]),
        # It counts its oldest rows as much as the newest.
        (preprocessing.StandardScaler() | naive_bayes.GaussianNB(), []),
    ):
        made = default(learners.resolve(model))
        assert [one.update for one in made if one.updates] == expected


def test_models_and_pipelines_are_recognised_as_the_expression_that_makes_them() -> None:
    learner = learners.resolve(prepared(linear_model.LinearRegression(l2=0.5)))
    assert isinstance(learner, learners.River)
    assert learner.name == (
        "((SelectType(Number) | StandardScaler()) + (SelectType(str) | OneHotEncoder()))"
        " | LinearRegression(l2=0.5)"
    )
    json.dumps(learner.parameters, allow_nan=False)
    bagging = ensemble.BaggingClassifier(logistic(), n_models=3)
    assert learners.resolve(bagging).name == (
        "BaggingClassifier(model=LogisticRegression(optimizer=SGD(lr=Constant(learning_rate=0.1))),"
        " n_models=3)"
    )
    assert repr(learners.River(naive_bayes.GaussianNB(), at_once=50)) == (
        "learners.River(GaussianNB(), at_once=50)"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (cluster.KMeans(), "got KMeans"),
        (preprocessing.StandardScaler(), "got StandardScaler"),
        (preprocessing.StandardScaler() | cluster.KMeans(), "got Pipeline"),
    ],
)
def test_what_neither_classifies_nor_regresses_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(
        ConfigError, match=f"expected a classifier or a regressor of River's, {said}"
    ):
        learners.resolve(wrong)


def test_rows_are_learnt_at_once_by_models_that_can_alone() -> None:
    with pytest.raises(ConfigError, match="many rows at once, got HoeffdingTreeClassifier"):
        learners.River(tree.HoeffdingTreeClassifier(), at_once=10)
    several = feature_extraction.PolynomialExtender() | logistic()
    with pytest.raises(ConfigError, match="many rows at once"):
        learners.River(several, at_once=10)
    with pytest.raises(ConfigError, match="a number of rows, got 0"):
        learners.River(logistic(), at_once=0)


def test_leaves_are_not_updated() -> None:
    with pytest.raises(ConfigError, match="expected a way that"):
        learners.validate(learners.resolve(logistic()), "champion", "leaves")


PRINTS = """
from river import compose, ensemble, linear_model, naive_bayes, neighbors, tree
from keepfit import learners
for model in (neighbors.KNNClassifier(), ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier()),
              compose.Select("a", "b", "c", "d") | naive_bayes.GaussianNB(),
              linear_model.LogisticRegression(l2=0.5)):
    learner = learners.resolve(model)
    print(learner.fingerprint, learner.name.replace(" ", ""))
"""


def test_a_fingerprint_is_the_same_in_every_process_and_after_learning() -> None:
    def prints(seed: str) -> list[str]:
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", PRINTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    found = prints("1")
    assert prints("2") == found
    assert len(set(found)) == 8
    learnt = linear_model.LogisticRegression(l2=0.5)
    learnt.learn_one({"x": 1.0}, True)
    assert learners.resolve(learnt).fingerprint == found[6]


# Rows as River takes them -----------------------------------------------------------------


class Witness(base.Classifier):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, Any], Any]] = []

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.shown.append((dict(x), y))
        x.clear()

    def predict_proba_one(self, x: dict[str, Any], **kwargs: Any) -> dict[Any, float]:
        return {}


def test_a_pipeline_gets_the_columns_as_they_are_without_what_is_missing() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    rows = labelled(
        ["no", "yes", "no"],
        number=[0.5, float("inf"), float("nan")],
        great=[1e39, 1e38, -1e300],
        whole=[3, None, 5],
        text=["a", None, "b"],
        flag=[True, False, None],
        at=[moment, None, moment],
    )
    model = fit(compose.Discard("unheard of") | Witness(), rows)
    assert model.estimator["Witness"].shown == [
        ({"number": 0.5, "whole": 3, "text": "a", "flag": True, "at": moment}, False),
        ({"great": 1e38, "flag": False}, True),
        ({"whole": 5, "text": "b", "at": moment}, False),
    ]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_pipeline_that_takes_no_text_names_the_column(at_once: int) -> None:
    rows = labelled([0, 1, 0, 1], number=[0.5, 1.5, 2.5, 3.5], text=["a", "b", "a", "b"])
    scaled = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    with pytest.raises(
        TrainingError, match="expected columns of numbers.* got 'a' in `text`"
    ) as no:
        fit(learners.River(scaled, at_once=at_once), rows)
    assert "SelectType" in str(no.value.hint)


def test_a_model_alone_gets_numbers_without_gaps() -> None:
    rows = groups({"a": 0.9, "b": 0.1}, 200, seed=0)
    gaps = rows.with_columns(noise=pl.when(pl.int_range(pl.len()) > 9).then("noise"))
    shown = fit(Witness(), gaps).estimator.shown
    assert {frozenset(row) for row, _ in shown} == {frozenset({"noise", "group=1", "group=2"})}
    assert np.mean([row["noise"] for row, _ in shown]) == pytest.approx(0.0, abs=1.0)


def test_trees_get_categories_as_codes() -> None:
    rows = groups({"a": 0.95, "b": 0.05, "c": 0.95}, 2_000, seed=0)
    model = fit(tree.HoeffdingTreeClassifier(grace_period=50), rows)
    assert model.table(rows)[:, 0].max() == 2.0 or model.table(rows)[:, 1].max() == 2.0
    assert accuracy(model, rows) > 0.9


def test_parameters_name_labels_as_the_user_does() -> None:
    rows = rows_to_learn("binary").with_columns(
        _label=pl.when(pl.col("value") > 1.0).then(pl.lit("rare")).otherwise(pl.lit("common"))
    )
    counts = {}
    for share in (0.16, 0.5):
        wanted = {"rare": share, "common": 1.0 - share}
        bayes = imblearn.RandomSampler(naive_bayes.GaussianNB(), wanted, sampling_rate=1.0, seed=1)
        counts[share] = fit(bayes, rows).predict(rows).mean()
    assert counts[0.5] > counts[0.16] + 0.02


def test_a_scale_of_labels_is_undone_in_answers() -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label") * 100.0 + 1_000.0)
    scaled = preprocessing.TargetStandardScaler(linear_model.LinearRegression(optim.SGD(0.05)))
    answers = fit(scaled, rows).predict(rows)
    assert np.abs(answers - rows["_label"].to_numpy()).mean() < 60.0


def test_texts_may_be_taken_apart_by_the_pipeline() -> None:
    words = ["good fine", "bad poor", "fine", "poor", "good", "bad"] * 30
    rows = labelled([1, 0, 1, 0, 1, 0] * 30, said=[f"{text} {i}" for i, text in enumerate(words)])
    bag = feature_extraction.BagOfWords(on="said") | naive_bayes.MultinomialNB()
    assert accuracy(fit(bag, rows), rows) == 1.0


@pytest.mark.parametrize("at_once", [2, 7, 1_000])
def test_rows_learnt_at_once_come_to_what_rows_learnt_alone_do(at_once: int) -> None:
    rows = rows_to_learn("binary")
    alone = learners.River(naive_bayes.GaussianNB())
    many = learners.River(naive_bayes.GaussianNB(), at_once=at_once)
    how: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None, "seed": 3}
    one, other = alone.fit(rows, **how), many.fit(rows, **how)
    np.testing.assert_allclose(one.predict(rows), other.predict(rows), rtol=1e-6)


def test_rows_with_gaps_are_learnt_alone_and_poison_no_average() -> None:
    rows = rows_to_learn("regression").select("_label", "value", "other")
    scaled = preprocessing.StandardScaler() | linear_model.LinearRegression(optim.SGD(0.05))
    learner = learners.River(scaled, at_once=20)
    model = learner.fit(rows, start="scratch", update="all", previous=None, seed=3)
    assert rows["other"].null_count() > 20
    assert np.isfinite(model.predict(rows)).all()
    seen = model.estimator["StandardScaler"].counts
    assert seen["value"] == 400
    assert seen["other"] == 400 - rows["other"].null_count()


def test_an_imputer_is_shown_what_is_missing_and_shares_nothing() -> None:
    """River's own copies of an imputer share its statistics."""
    rows = rows_to_learn("regression").select("_label", "value", "other")
    imputer = preprocessing.StatImputer(("other", stats.Mean()))
    pipeline = imputer | preprocessing.StandardScaler() | linear_model.LinearRegression()
    assert learners.resolve(pipeline).name.startswith("StatImputer")
    model = fit(pipeline, rows)
    assert imputer.stats["other"].get() == 0.0
    assert model.estimator["StatImputer"].stats["other"].get() == pytest.approx(
        rows["other"].mean()
    )
    assert model.estimator["StandardScaler"].counts["other"] == 400
    assert fit(pipeline, rows).dumps() == model.dumps()


def test_a_pipeline_that_takes_no_row_without_a_value_says_which() -> None:
    rows = rows_to_learn("binary").select("_label", "value", "other")
    picky = compose.Select("value", "other") | preprocessing.StandardScaler() | logistic()
    with pytest.raises(SchemaMismatch, match="expected a value of `other` in every row") as caught:
        fit(picky, rows)
    assert "StatImputer" in str(caught.value.hint)
    model = fit(picky, rows.drop_nulls())
    with pytest.raises(SchemaMismatch, match="expected a value of `other`"):
        model.predict(rows)


def test_a_missing_column_is_named() -> None:
    rows = rows_to_learn("binary")
    for model in (logistic(), prepared(logistic())):
        champion = fit(model, rows)
        with pytest.raises(SchemaMismatch, match="column `value` is missing"):
            fit(model, rows.drop("value"), champion)


# Answers ----------------------------------------------------------------------------------


def test_a_model_that_knows_nothing_of_a_row_says_so_evenly() -> None:
    rows = rows_to_learn("multiclass")
    scores = fit(compose.Select("value") | Silent(), rows).predict(rows)
    np.testing.assert_allclose(scores, 1.0 / 3.0)


class Silent(base.Classifier):
    """Has an answer for no row."""

    _multiclass = True

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        pass

    def predict_proba_one(self, x: dict[str, Any], **kwargs: Any) -> dict[Any, float]:
        return {}


def test_a_class_that_has_not_come_yet_has_probability_zero() -> None:
    rows = labelled([0, 0, 0, 1], x=[1.0, 2.0, 3.0, 50.0])
    model = fit(naive_bayes.GaussianNB(), rows)
    model.estimator.class_counts.pop(True)
    np.testing.assert_array_equal(model.predict(rows), 0.0)


class Labels(base.Classifier):
    """Names a class, and knows no probabilities."""

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        pass

    def predict_one(self, x: dict[str, Any], **kwargs: Any) -> bool:
        return x["value"] > 0.5


def test_a_model_without_probabilities_answers_with_its_class() -> None:
    rows = rows_to_learn("binary")
    scores = fit(compose.Select("value") | Labels(), rows).predict(rows)
    np.testing.assert_array_equal(scores, (rows["value"] > 0.5).cast(pl.Float64).to_numpy())


def test_a_model_of_two_classes_refuses_three() -> None:
    with pytest.raises(ConfigError, match="expected labels of two classes .* got 3") as caught:
        fit(logistic(), rows_to_learn("multiclass"))
    assert "OneVsRestClassifier" in str(caught.value.hint)
    with pytest.raises(TrainingError, match="got one"):
        fit(logistic(), labelled([1, 1], x=[1.0, 2.0]))


def test_answers_depend_on_no_earlier_question() -> None:
    rows = rows_to_learn("binary")
    for model in (naive_bayes.GaussianNB(), forest.ARFClassifier(n_models=2), prepared(logistic())):
        first = fit(model, rows)
        content, answers = first.dumps(), first.predict(rows)
        strange = rows.with_columns(value=pl.lit(1e9), group=pl.lit("never seen"))
        first.predict(strange)
        np.testing.assert_array_equal(first.predict(rows), answers)
        assert first.dumps() == content


# Going on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [logistic(), prepared(logistic())], ids=["alone", "pipeline"])
def test_a_warm_start_goes_on_with_the_new_rows_where_the_champion_stopped(model: Any) -> None:
    rows, later = groups({"a": 0.9, "b": 0.1}, 400, 0), groups({"a": 0.2, "b": 0.8}, 400, 1)
    champion = fit(model, rows)
    content = champion.dumps()
    went_on = fit(model, later, champion)
    assert champion.dumps() == content
    assert accuracy(champion, later) < 0.4
    assert accuracy(went_on, later) > 0.7


def test_going_on_is_the_same_as_never_having_stopped() -> None:
    rows = rows_to_learn("binary")
    model = prepared(forest.ARFClassifier(n_models=3, seed=7))
    whole = fit(model, rows)
    halves = fit(model, rows[200:], learners.loads(fit(model, rows[:200]).dumps()))
    np.testing.assert_array_equal(halves.predict(rows), whole.predict(rows))


def test_training_leaves_the_users_model_as_it_was_and_learns_nothing_from_it() -> None:
    rows = rows_to_learn("binary")
    inner = [logistic(), tree.HoeffdingTreeClassifier(grace_period=50)]
    voting = ensemble.VotingClassifier(inner)
    fresh = fit(voting, rows)
    assert inner[0].weights == {}
    for row, label in zip(rows.select("value").to_dicts(), rows["_label"].to_list(), strict=True):
        voting.learn_one(row, bool(label))
    assert fit(voting, rows).dumps() == fresh.dumps()
    assert "value" in inner[0].weights


def test_what_the_champion_has_no_place_for_asks_for_scratch() -> None:
    rows = rows_to_learn("binary")
    champion = fit(logistic(), rows)
    with pytest.raises(TrainingError, match="the new class 2"):
        fit(logistic(), rows.with_columns(_label=pl.int_range(pl.len()) % 3), champion)
    with pytest.raises(TrainingError, match="can go on with"):
        fit(naive_bayes.GaussianNB(), rows, champion)
    with pytest.raises(TrainingError, match="can go on with"):
        fit(logistic(rate=0.5), rows, champion)
    with pytest.raises(TrainingError, match="got none"):
        learners.resolve(logistic()).fit(
            rows, start="champion", update="all", previous=None, seed=0
        )
    alone = fit(logistic(), rows.filter(pl.col("_label") == 1), champion)
    assert alone.predict(rows).mean() > champion.predict(rows).mean()


def test_a_new_category_is_learnt_by_a_pipeline_and_missing_to_a_model_alone() -> None:
    rows, later = groups({"a": 0.9, "b": 0.1}, 400, 0), groups({"new": 0.95, "b": 0.1}, 400, 1)
    gone = later.with_columns(group=pl.lit(None, dtype=pl.String))
    alone = fit(logistic(), later, fit(logistic(), rows))
    np.testing.assert_array_equal(
        alone.predict(later.with_columns(group=pl.lit("new"))), alone.predict(gone)
    )
    pipeline = fit(prepared(logistic()), later, fit(prepared(logistic()), rows))
    assert accuracy(pipeline, later) > 0.85


# Repeatable -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        neighbors.KNNClassifier(n_neighbors=3),
        tree.HoeffdingAdaptiveTreeClassifier(grace_period=50),
        ensemble.SRPClassifier(tree.HoeffdingTreeClassifier(), n_models=2),
        forest.AMFClassifier(n_estimators=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_chance_that_river_leaves_to_the_system_is_seeded(model: Any) -> None:
    rows = rows_to_learn("binary", height=150)
    one, two = fit(model, rows), fit(model, rows)
    assert one.dumps() == two.dumps()


def test_generators_of_chance_do_not_swell_a_model() -> None:
    rows = rows_to_learn("binary", height=150)
    content = fit(naive_bayes.GaussianNB(), rows).content()
    assert len(content) < 10_000  # one generator is 2.5 kB, and each Gaussian holds one


def test_a_seed_is_set_where_the_user_left_it_open() -> None:
    rows = rows_to_learn("binary", height=200)

    def contents(**own: Any) -> int:
        bagging = ensemble.BaggingClassifier(logistic(), n_models=3, **own)
        learner = learners.resolve(preprocessing.StandardScaler() | bagging)
        numeric = rows.drop("group", "seen_at")
        how: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None}
        return len(
            {learner.fit(numeric, seed=seed, **how).predict(numeric).tobytes() for seed in (1, 2)}
        )

    assert contents() == 2
    assert contents(seed=1) == 1


def test_importances_are_weights_by_column() -> None:
    rows = rows_to_learn("binary")
    found = fit(logistic(), rows).importances()
    assert set(found) == {"value", "other", "count", "group", "open", "seen_at"}
    assert max(found, key=found.__getitem__) == "value"
    assert fit(tree.HoeffdingTreeClassifier(), rows).importances() == {}
    assert fit(prepared(logistic()), rows).importances() == {}


def test_a_regression_of_a_mean_answers_numbers() -> None:
    rows = labelled([1.0, 2.0, 6.0], x=[1.0, 2.0, 3.0])
    model = fit(dummy.StatisticRegressor(stats.Mean()), rows)
    np.testing.assert_allclose(model.predict(rows), 3.0)
