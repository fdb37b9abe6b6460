"""Every learner keeps what the protocol promises."""

from collections.abc import Callable
from numbers import Number
from typing import Any

import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from keepfit import learners
from keepfit.testing import check_learner

CLASSIFIERS = [
    LGBMClassifier(n_estimators=15),
    LogisticRegression(),
    SGDClassifier(),
    HistGradientBoostingClassifier(max_iter=15),
    RandomForestClassifier(15),
    GaussianNB(),
    MLPClassifier((8,), solver="sgd", learning_rate_init=0.1, max_iter=25, tol=0.05),
]
REGRESSORS = [
    LGBMRegressor(n_estimators=15),
    HistGradientBoostingRegressor(max_iter=15),
    Ridge(),
    DecisionTreeRegressor(max_depth=4),
]


def prepared(river: Any, model: Any) -> Any:
    """Return a pipeline of River's that scales numbers and spreads texts in front of a model."""
    numeric = river.compose.SelectType(Number) | river.preprocessing.StandardScaler()
    texts = river.compose.SelectType(str) | river.preprocessing.OneHotEncoder()
    return (numeric + texts) | model


EXTRAS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("xgboost", "binary", lambda xgboost: xgboost.XGBClassifier(n_estimators=10)),
    ("xgboost", "multiclass", lambda xgboost: xgboost.XGBClassifier(n_estimators=10)),
    ("xgboost", "regression", lambda xgboost: xgboost.XGBRegressor(n_estimators=10)),
    ("xgboost", "binary", lambda xgboost: xgboost.XGBRFClassifier(n_estimators=10)),
    ("xgboost", "binary", lambda xgboost: xgboost.XGBClassifier(n_estimators=10, booster="dart")),
    ("catboost", "binary", lambda catboost: catboost.CatBoostClassifier(iterations=15)),
    ("catboost", "multiclass", lambda catboost: catboost.CatBoostClassifier(iterations=15)),
    ("catboost", "regression", lambda catboost: catboost.CatBoostRegressor(iterations=30)),
    (
        "river.api",
        "binary",
        lambda river: river.linear_model.LogisticRegression(river.optim.SGD(0.1)),
    ),
    ("river.api", "regression", lambda river: river.linear_model.LinearRegression()),
    (
        "river.api",
        "multiclass",
        lambda river: river.linear_model.SoftmaxRegression(river.optim.SGD(0.1)),
    ),
    ("river.api", "multiclass", lambda river: river.tree.HoeffdingTreeClassifier(grace_period=50)),
    ("river.api", "regression", lambda river: river.tree.HoeffdingTreeRegressor(grace_period=50)),
    ("river.api", "multiclass", lambda river: river.forest.ARFClassifier(n_models=3)),
    ("river.api", "binary", lambda river: river.naive_bayes.GaussianNB()),
    (
        "river.api",
        "binary",
        lambda river: learners.River(river.naive_bayes.GaussianNB(), at_once=50),
    ),
    (
        "river.api",
        "binary",
        lambda river: prepared(river, river.linear_model.LogisticRegression(river.optim.SGD(0.1))),
    ),
    (
        "river.api",
        "regression",
        lambda river: prepared(river, river.linear_model.LinearRegression()),
    ),
]


def name(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name)
def test_a_classifier_keeps_the_contract(estimator: Any, task: str) -> None:
    check_learner(learners.resolve(estimator), task=task)


@pytest.mark.parametrize("estimator", REGRESSORS, ids=name)
def test_a_regressor_keeps_the_contract(estimator: Any) -> None:
    check_learner(learners.resolve(estimator), task="regression")


@pytest.mark.parametrize(("package", "task", "build"), EXTRAS)
def test_a_learner_of_an_extra_keeps_the_contract(
    package: str, task: str, build: Callable[[Any], Any]
) -> None:
    check_learner(learners.resolve(build(pytest.importorskip(package))), task=task)


def test_a_pipeline_of_scikit_learn_keeps_the_contract_on_numbers() -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    check_learner(learners.resolve(estimator), mixed=False)


class Forgetful:
    """Breaks a promise: its models answer NaN where a category is new."""

    name = "Forgetful()"
    fingerprint = "0"

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}
        self.inner = learners.resolve(Ridge())

    def fit(self, rows: Any, **how: Any) -> Any:
        model = self.inner.fit(rows, **how)
        model.estimator.coef_ = model.estimator.coef_ * float("nan")
        return model


def test_the_contract_finds_a_learner_whose_models_answer_nan() -> None:
    with pytest.raises(AssertionError, match="answers are finite"):
        check_learner(Forgetful(), task="regression")
