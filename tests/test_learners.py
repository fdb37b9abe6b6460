"""Learners: recognition, encoding, labels, starts, and models as bytes."""

import importlib
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from keepfit import learners, pickles, worker
from keepfit.challenger import default
from keepfit.errors import (
    ArtifactCorrupt,
    ConfigError,
    ExtraMissing,
    LabelsMissing,
    SchemaMismatch,
    TrainingError,
)
from keepfit.learners import lightgbm
from keepfit.learners.encoding import LARGEST, Encoding
from keepfit.learners.used import used
from keepfit.testing.learners import rows_to_learn
from tests.trainings import accuracy, fit, groups, labelled

# Recognition ------------------------------------------------------------------------------


def test_estimators_are_recognised_by_their_family() -> None:
    assert isinstance(learners.resolve(LGBMClassifier()), learners.LightGBM)
    assert isinstance(learners.resolve(Ridge()), learners.Sklearn)
    own = learners.resolve(Ridge())
    assert learners.resolve(own) is own


def test_a_name_shows_the_parameters_that_are_not_the_defaults() -> None:
    assert learners.resolve(LGBMClassifier(n_estimators=200, max_bin=63)).name == (
        "LGBMClassifier(n_estimators=200, max_bin=63)"
    )
    assert learners.resolve(make_pipeline(OneHotEncoder(), Ridge(alpha=0.5))).name == (
        "Pipeline(OneHotEncoder(), Ridge(alpha=0.5))"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (LGBMClassifier, "got the class LGBMClassifier"),
        (KMeans(), "expected a classifier or a regressor, got KMeans"),
        (LGBMRanker(), "expected an estimator or a learner, got LGBMRanker"),
        (OneHotEncoder(), "expected an estimator or a learner"),
        ("lightgbm", "expected an estimator or a learner, got 'lightgbm'"),
        (LGBMClassifier(early_stopping_round=5), "early stopping"),
        (LGBMClassifier(objective=lambda y, p: (y - p, y)), "objective"),
    ],
)
def test_what_cannot_train_is_refused_with_a_reason(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        learners.resolve(wrong)


@pytest.mark.parametrize(
    ("estimator", "start", "update", "said"),
    [
        (LogisticRegression(), "champion", "leaves", "LightGBM"),
        (HistGradientBoostingClassifier(), "champion", "all", "scratch"),
        (KNeighborsClassifier(), "champion", "all", "scratch"),
        (LGBMClassifier(), "pretrained", "all", "pretrained"),
        (LGBMClassifier(), "scratch", "leaves", "champion's trees"),
        (LGBMClassifier(boosting_type="rf"), "champion", "all", "scratch"),
        (LGBMClassifier(boosting_type="dart"), "champion", "leaves", "boosting"),
        (LGBMRegressor(objective="fair"), "champion", "leaves", "objective"),
        (LGBMRegressor(), "champion", "head", "neural"),
        (LGBMRegressor(), "champoin", "all", "the nearest is 'champion'"),
        (LGBMRegressor(), "champion", "leafs", "the nearest is 'leaves'"),
    ],
)
def test_a_way_that_a_learner_cannot_train_is_refused(
    estimator: Any, start: str, update: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        learners.validate(learners.resolve(estimator), start, update)


@pytest.mark.parametrize(
    ("estimator", "update"),
    [
        (LGBMClassifier(), "leaves"),
        (SGDClassifier(), "all"),
        (MLPClassifier(), None),  # learns little of rows that it sees once
        (GaussianNB(), None),  # counts its oldest rows as much as the newest
        (LogisticRegression(), None),
    ],
    ids=lambda one: type(one).__name__,
)
def test_without_recipes_the_champion_learns_new_rows_where_that_follows_them(
    estimator: Any, update: str | None
) -> None:
    updates = [one for one in default(learners.resolve(estimator)) if one.updates]
    assert [(one.update, repr(one.select)) for one in updates] == (
        [] if update is None else [(update, "SinceLast()")]
    )


def test_a_way_that_a_learner_can_train_is_let_through() -> None:
    learners.validate(learners.resolve(LGBMClassifier()), "champion", "leaves")
    learners.validate(learners.resolve(SGDClassifier()), "champion", "all")
    learners.validate(learners.resolve(HistGradientBoostingClassifier()), "scratch", "all")


def test_training_leaves_the_estimator_as_it_was() -> None:
    estimator = LGBMClassifier(n_estimators=3)
    before = estimator.get_params()
    fit(estimator, rows_to_learn("binary"))
    assert estimator.get_params() == before
    assert not hasattr(estimator, "fitted_")


def test_a_fingerprint_tells_classes_and_parameters_apart() -> None:
    prints = [
        learners.resolve(estimator).fingerprint
        for estimator in (Ridge(), Ridge(alpha=2.0), LGBMRegressor(), LGBMRegressor(n_estimators=9))
    ]
    assert len(set(prints)) == 4
    assert learners.resolve(Ridge()).fingerprint == prints[0]
    assert learners.LightGBM(LGBMRegressor(), decay_rate=0.5).fingerprint != prints[2]


PRINTS = """
import sys
sys.path[:0] = sys.argv[1:]
from keepfit import learners, pickles, worker
import mine
print(pickles.fingerprint(mine.Mine()), learners.resolve(mine.Mine(2)).fingerprint)
print("sklearn" in sys.modules, "lightgbm" in sys.modules)
"""
MINE = """
from collections import Counter
WORDS = {"a", "b", "c", "d", "e"}
def scale(x, by=3):
    return [one * by for one in x if one not in {"x", "y", "z"}]
class Mine:
    def __init__(self, depth=1): self.depth = depth
    def fit(self, X, y): self.seen = Counter(scale(y)); return self
    def predict(self, X): return [self.depth * len(WORDS)] * len(X)
"""


class Own(BaseEstimator):
    """An estimator of the user's own."""

    def fit(self, rows: Any, labels: Any) -> "Own":
        return self


def test_a_fingerprint_is_the_same_once_the_estimator_was_sent_to_a_worker() -> None:
    before = pickles.fingerprint(Own())
    pickles.dumps_once(Own())
    assert "__slotnames__" in vars(Own)
    assert pickles.fingerprint(Own()) == before


class Odd:
    """Something that fails when it is looked at."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("not now")


NEIGHBOURS = """
def doubled(rows):
    from . import trainings
    from .xgboost import nothing
    import lightgbm
    return odd
"""


def test_packages_are_found_beside_neighbours_and_what_fails_when_looked_at() -> None:
    names: dict[str, Any] = {"__name__": "own.recipes", "odd": Odd()}
    exec(NEIGHBOURS, names)
    made = make_pipeline(FunctionTransformer(names["doubled"]), Ridge())
    assert used(made) & {"", "trainings", "xgboost", "lightgbm"} == {"lightgbm"}
    assert {"scikit-learn", "lightgbm"} <= worker._packages(learners.resolve(made)).keys()


def test_what_a_learner_is_made_with_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(worker, "used", lambda parts: asked.append(parts) or used(parts))
    made = learners.resolve(Ridge())
    assert worker._packages(made) == worker._packages(made)
    assert len(asked) == 1
    assert "lightgbm" in worker._packages(learners.resolve(LGBMRegressor()))
    assert len(asked) == 2


def test_versions_are_those_of_what_is_imported_under_a_name_else_of_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "published_otherwise", ModuleType("published_otherwise"))
    assert worker._version("published_otherwise") is None
    monkeypatch.setattr(sys.modules["published_otherwise"], "__version__", "1.2", raising=False)
    assert worker._version("published_otherwise") == "1.2"
    monkeypatch.delitem(sys.modules, "sklearn")
    assert worker._version("sklearn") == sklearn.__version__


def run_fingerprints(folder: Any, hash_seed: str) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        # What Python keeps of a file would stand for the next one of the same second and length.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", PRINTS, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_fingerprint_is_the_same_in_every_process_and_changes_with_the_users_code(
    tmp_path: Any,
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    first, imported = run_fingerprints(tmp_path, "1")
    assert run_fingerprints(tmp_path, "2")[0] == first
    assert imported == "False False"  # a recognised estimator brings its package along, no other
    (tmp_path / "mine.py").write_text(MINE.replace("by=3", "by=4"))
    assert not set(run_fingerprints(tmp_path, "1")[0].split()) & set(first.split())


# Encoding ---------------------------------------------------------------------------------


def test_columns_of_every_kind_become_numbers() -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "whole": [3, None, 5],
            "real": [0.5, float("inf"), None],
            "flag": [True, None, False],
            "text": ["b", None, "a"],
            "kind": pl.Series(["y", "x", None], dtype=pl.Categorical),
            "day": [date(2024, 1, 1), None, date(1970, 1, 2)],
            "moment": [moment, None, moment],
            "local": [moment.replace(tzinfo=None), None, None],
            "_label": [1, 0, 1],
        }
    )
    encoding = Encoding.learn(rows)
    gap, noon = np.nan, moment.timestamp()
    wanted = [
        [3, 0.5, 1, 1, 1, noon - 43_200, noon, noon],
        [gap, gap, gap, gap, 0, gap, gap, gap],
        [5, gap, 0, 0, gap, 86_400, noon, gap],
    ]
    np.testing.assert_array_equal(encoding.matrix(rows), wanted)
    assert encoding.categorical == [3, 4]


def test_columns_of_no_use_are_left_out_with_the_reason() -> None:
    rows = pl.DataFrame(
        {
            "name": [f"row {i}" for i in range(100)],
            "empty": pl.Series([None] * 100, dtype=pl.Float64),
            "infinite": [float("inf")] * 100,
            "too great": [1e39] * 100,
            "null": [None] * 100,
            "list": [[1, 2]] * 100,
            "constant": [7] * 100,
            "_label": [0, 1] * 50,
        }
    )
    encoding = Encoding.learn(rows)
    assert encoding.features == ("constant",)
    assert encoding.dropped == {
        "name": "nearly every value is different (100 of 100)",
        "empty": "all values are missing",
        "infinite": "all values are missing",
        "too great": "all values are missing",
        "null": "values of type Null",
        "list": "values of type List(Int64)",
    }


def test_rows_without_a_column_of_use_are_refused() -> None:
    with pytest.raises(TrainingError, match="expected a column to learn from, got none"):
        fit(Ridge(), labelled([1.0, 2.0], empty=[None, None]))


def test_of_very_many_categories_the_most_frequent_are_kept() -> None:
    common = [f"c{i:04}" for i in range(999)] * 3
    rare = [f"r{i:04}" for i in range(500)]
    encoding = Encoding.learn(pl.DataFrame({"text": common + rare}))
    kept = encoding.columns[0].categories
    assert kept == (*sorted(set(common)), "r0000")
    assert np.isnan(encoding.matrix(pl.DataFrame({"text": ["r0001"]}))[0, 0])


def test_codes_depend_neither_on_order_nor_on_frequency() -> None:
    one = Encoding.learn(pl.DataFrame({"text": ["b", "a", "c", "c"]}))
    other = Encoding.learn(pl.DataFrame({"text": ["c", "b", "b", "a"]}))
    assert one == other


def test_columns_may_arrive_in_another_type() -> None:
    rows = pl.DataFrame({"number": [1.5, 2.5], "code": ["3", "4"], "flag": [True, False]})
    encoding = Encoding.learn(rows.with_columns(_label=pl.Series([0, 1])))
    strange = pl.DataFrame(
        {"number": [" 2.5", "n/a"], "code": [4.0, None], "flag": ["FALSE", "maybe"]}
    )
    np.testing.assert_array_equal(encoding.matrix(strange), [[2.5, 1, 0], [np.nan] * 3])
    whole = pl.DataFrame({"number": [True, None], "code": [3, 5], "flag": [1, 0]})
    np.testing.assert_array_equal(encoding.matrix(whole), [[1, 0, 1], [np.nan, np.nan, 0]])
    nothing = pl.DataFrame({"number": [[1]], "code": [[1]], "flag": [date(2024, 1, 1)]})
    assert np.isnan(encoding.matrix(nothing)).all()


@pytest.mark.parametrize("wild", [1e39, -1e39, 1e200, 1.7976931348623157e308])
@pytest.mark.parametrize("dtype", [pl.Float64, pl.String], ids=str)
def test_a_number_that_no_single_precision_holds_is_missing(wild: float, dtype: Any) -> None:
    encoding = Encoding.learn(pl.DataFrame({"number": [1.5, 2.5], "text": ["a", "b"]}))
    values = pl.Series([wild, 2.0, None]).cast(dtype)
    matrix = encoding.matrix(pl.DataFrame({"number": values, "text": "a"}))
    np.testing.assert_array_equal(matrix[:, 0], [np.nan, 2.0, np.nan])


WILD = {
    "forest": RandomForestClassifier(5),
    "tree": DecisionTreeClassifier(),
    "linear": LogisticRegression(),
    "bayes": GaussianNB(),
    "boosting": LGBMClassifier(n_estimators=5, verbosity=-1),
}


@pytest.mark.parametrize("wild", [1e39, -1e200, 1.7976931348623157e308])
@pytest.mark.parametrize("name", WILD)
def test_one_wild_number_is_learnt_and_answered_as_a_missing_one(name: str, wild: float) -> None:
    rows = rows_to_learn("binary")
    here = pl.int_range(pl.len()) == 7
    gap = rows.with_columns(pl.when(~here).then(pl.col("value")).alias("value"))
    odd = rows.with_columns(pl.when(here).then(wild).otherwise(pl.col("value")).alias("value"))
    model = fit(WILD[name], rows)
    np.testing.assert_array_equal(model.predict(odd), model.predict(gap))
    assert np.isfinite(model.predict(odd)).all()
    assert fit(WILD[name], odd).dumps() == fit(WILD[name], gap).dumps()


def test_a_missing_column_is_named_with_the_nearest_new_one() -> None:
    encoding = Encoding.learn(pl.DataFrame({"tenure": [1, 2], "age": [3, 4]}))
    with pytest.raises(SchemaMismatch, match="column `tenure` is missing") as caught:
        encoding.matrix(pl.DataFrame({"tenures": [1], "age": [2]}))
    assert "`tenures`" in str(caught.value.hint)


cells = st.one_of(st.none(), st.floats(), st.just(float("inf")))


@given(
    numbers=st.lists(cells, min_size=3, max_size=12),
    texts=st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=12, max_size=12),
)
@settings(max_examples=60)
def test_a_matrix_has_no_infinity_and_each_row_its_own_cells(
    numbers: list[float | None], texts: list[str | None]
) -> None:
    rows = pl.DataFrame(
        {"number": pl.Series(numbers, dtype=pl.Float64), "text": texts[: len(numbers)], "one": 1},
        schema_overrides={"text": pl.String},
    )
    encoding = Encoding.learn(rows)
    matrix = encoding.matrix(rows)
    assert not np.isinf(matrix).any()
    np.testing.assert_array_equal(encoding.matrix(rows.reverse())[::-1], matrix)
    if "text" in encoding.features:
        place = encoding.features.index("text")
        back = [
            None if np.isnan(c) else encoding.columns[place].categories[int(c)]
            for c in matrix[:, place]
        ]
        assert back == rows["text"].to_list()


def test_two_thousand_columns_are_learnt() -> None:
    random = np.random.default_rng(0)
    wide = pl.DataFrame(random.normal(size=(60, 2_000)), schema=[f"c{i}" for i in range(2_000)])
    rows = wide.with_columns(_label=(pl.col("c7") > 0).cast(pl.Int64))
    for estimator in (LGBMClassifier(n_estimators=2), LogisticRegression()):
        model = fit(estimator, rows)
        assert len(model.features) == 2_000
        assert np.isfinite(model.predict(rows)).all()


# Labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([True, False, None], (False, True)),
        (["yes", "no", None], ("no", "yes")),
        ([7, 3, None], (3, 7)),
        ([1.0, 0.0, float("nan")], (0, 1)),
        (pl.Series(["b", "a", None], dtype=pl.Enum(["b", "a"])), ("a", "b")),
        (pl.Series([1, 0, None], dtype=pl.UInt8), (0, 1)),
    ],
)
def test_labels_of_every_kind_are_classes_in_order(values: Any, classes: tuple[Any, ...]) -> None:
    labels = pl.Series("_label", values)
    rows = pl.concat([pl.DataFrame({"_label": labels, "x": [1.0, 2.0, 3.0]})] * 20)
    model = fit(LGBMClassifier(n_estimators=2, min_child_samples=1), rows)
    assert model.classes == classes
    assert model.task == "binary"
    assert model.codes(labels).tolist() == [1, 0, -1]
    scores = model.predict(rows)
    assert scores[0] > scores[1]  # the probability of the second class
    assert learners.loads(model.dumps()).classes == classes


def test_labels_may_arrive_in_another_type_than_they_were_learnt_in() -> None:
    whole = fit(GaussianNB(), labelled([0, 1, 0, 1], x=[1, 2, 1, 2]))
    assert whole.codes(pl.Series([1.0, 0.5, None])).tolist() == [1, -1, -1]
    assert whole.codes(pl.Series(["1", "one"])).tolist() == [1, -1]
    assert whole.codes(pl.Series([True, False])).tolist() == [1, 0]
    assert whole.codes(pl.Series([-1, 0, 1, 2], dtype=pl.Int8)).tolist() == [-1, 0, 1, -1]
    assert whole.codes(pl.Series([2**31, 1], dtype=pl.UInt32)).tolist() == [-1, 1]
    truth = fit(GaussianNB(), labelled([False, True, False, True], x=[1, 2, 1, 2]))
    assert truth.codes(pl.Series([1, 0, 2])).tolist() == [1, 0, -1]
    assert truth.codes(pl.Series(["true", "False", "?"])).tolist() == [1, 0, -1]
    texts = fit(GaussianNB(), labelled(["1", "2", "1", "2"], x=[1, 2, 1, 2]))
    assert texts.codes(pl.Series([2, 1, 3])).tolist() == [1, 0, -1]
    assert texts.codes(pl.Series([2.0, 1.5])).tolist() == [1, -1]


def test_values_of_a_regression_are_codes_as_they_are() -> None:
    model = fit(Ridge(), labelled([0.5, 2.0, 1.0], x=[1, 2, 3]))
    assert model.task == "regression"
    assert model.classes == ()
    np.testing.assert_array_equal(model.codes(pl.Series([2, None])), [2.0, np.nan])


@pytest.mark.parametrize(
    ("estimator", "labels", "error", "said"),
    [
        (LGBMClassifier(), [1, 1, 1], TrainingError, "got one: all 3 labels are 1"),
        (Ridge(), [None, None, None], LabelsMissing, "0 of 3 rows have a label"),
        (Ridge(), [float("inf")] * 3, LabelsMissing, "0 of 3 rows have a label"),
        (Ridge(), ["a", "b", "c"], ConfigError, "expected labels that are numbers, got String"),
        (GaussianNB(), [0.5, 1.5, 2.0], ConfigError, "expected whole numbers as the classes"),
        (GaussianNB(), [[1], [2], [1]], ConfigError, "expected labels that are classes"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(
    estimator: Any, labels: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        fit(estimator, labelled(labels, x=[1.0, 2.0, 3.0]))


def test_one_row_is_refused() -> None:
    with pytest.raises(TrainingError, match="two labelled rows or more"):
        fit(LGBMRegressor(), labelled([1.0], x=[1.0]))


@pytest.mark.parametrize("kind", [LGBMClassifier, LogisticRegression, RandomForestClassifier])
def test_class_weights_name_labels(kind: Any) -> None:
    rows = groups({"a": 0.4, "b": 0.6}, 400, seed=0).select(
        "group", pl.col("_label").cast(pl.String)
    )
    rows = rows.with_columns(pl.col("_label").replace({"0": "no", "1": "yes"}))
    flat = fit(kind(), rows).predict(rows).mean()
    tilted = fit(kind(class_weight={"yes": 9.0, "no": 1.0}), rows).predict(rows).mean()
    assert tilted > flat + 0.2
    with pytest.raises(ConfigError, match="expected class weights for the labels"):
        fit(kind(class_weight={"maybe": 2.0}), rows)


# LightGBM ---------------------------------------------------------------------------------


def test_a_scratch_model_answers_as_the_estimator_itself_does() -> None:
    rows = rows_to_learn("binary")
    estimator = LGBMClassifier(
        n_estimators=10, subsample=0.7, subsample_freq=1, random_state=5, verbosity=-1
    )
    model = fit(estimator, rows)
    matrix = model.table(rows)
    same = estimator.fit(matrix, rows["_label"].to_numpy(), categorical_feature=[3])
    np.testing.assert_allclose(model.predict(rows), same.predict_proba(matrix)[:, 1], atol=1e-6)


OPEN = {"random_state": 5, "n_jobs": 1, "verbosity": -1, "deterministic": True}


class OwnFit(LGBMRegressor):
    """An estimator of the user's, whose `fit` takes less and does more."""

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, categorical_feature: Any = None
    ) -> Any:
        return super().fit(X, y + 1, sample_weight, categorical_feature=categorical_feature)


@pytest.mark.parametrize(
    "estimator",
    [
        LGBMClassifier(n_estimators=20, **OPEN, force_row_wise=True),
        LGBMRegressor(objective="quantile", **OPEN, force_row_wise=True),
        LGBMRegressor(boosting_type="dart", **OPEN, force_row_wise=True),
        OwnFit(n_estimators=20, **OPEN, force_row_wise=True),
    ],
    ids=("classes", "quantile", "dart", "own"),
)
def test_trees_are_to_the_bit_those_that_the_estimator_grows(estimator: Any) -> None:
    rows = rows_to_learn("binary")
    model = fit(estimator, rows)
    matrix = model.table(rows)
    estimator.fit(matrix, rows["_label"].to_numpy(), categorical_feature=[3])
    whole = estimator.booster_.model_to_string().partition("[num_threads")
    assert model.text.startswith(whole[0])
    assert whole[2].endswith(model.text[-100:])


@pytest.mark.filterwarnings("ignore:Found .* in params")
@pytest.mark.parametrize(
    ("shape", "stated", "straight"),
    [
        ("binary", {}, True),
        ("binary", {"subsample": 0.5, "subsample_freq": 1, "random_state": 5}, True),
        ("binary", {"is_unbalance": True, "max_bin": 15, "n_jobs": 2}, True),
        ("binary", {"boosting": "goss", "num_iterations": 7, "seed": 4}, True),
        ("multiclass", {"colsample_bytree": 0.5, "extra_trees": True}, True),
        ("multiclass", {"objective": "ova"}, True),
        ("regression", {"objective": "huber", "reg_lambda": 2.0}, True),
        ("regression", {"boosting_type": "dart", "path_smooth": 1.0}, True),
        ("binary", {"class_weight": "balanced"}, False),
        ("binary", {"metric": "auc"}, False),
        ("binary", {"app": "cross_entropy"}, False),
        ("binary", {"n_jobs": -1}, False),
        ("multiclass", {"num_class": 3}, False),
        ("regression", {"random_state": np.random.RandomState(3)}, False),
        ("regression", {"objective": lambda known, scores: (scores - known, known * 0 + 1)}, False),
    ],
)
def test_trees_are_the_same_whether_the_estimator_hands_the_rows_on_or_is_left_out(
    shape: str, stated: dict[str, Any], straight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown() -> str:
        # A random state moves on with each training.
        if isinstance(state := stated.get("random_state"), np.random.RandomState):
            state.seed(3)
        made = (LGBMRegressor if shape == "regression" else LGBMClassifier)(n_estimators=12)
        return str(fit(made.set_params(**stated), rows_to_learn(shape)).text)

    handed_on = lightgbm._grown
    asked: list[Any] = []
    monkeypatch.setattr(lightgbm, "_grown", lambda *all_: asked.append(0) or handed_on(*all_))
    text = grown()
    assert bool(asked) is not straight
    monkeypatch.setattr(lightgbm.LightGBM, "_parameters", lambda *_: None)
    assert grown() == text


def test_new_leaves_read_the_champions_categories() -> None:
    """Left alone, LightGBM gives categories new codes, and old trees then read other ones."""
    shares = {"a": 0.05, "b": 0.95, "c": 0.05, "d": 0.95, "e": 0.05}
    champion = fit(LGBMClassifier(n_estimators=20), groups(shares, 2_000, seed=0))
    fewer = {name: shares[name] for name in ("b", "c", "e")} | {"new": 0.5}
    later = groups(fewer, 1_000, seed=1)
    held = groups(fewer, 1_000, seed=2)
    updated = fit(LGBMClassifier(n_estimators=20), later, champion, update="leaves")
    assert updated.head.encoding == champion.head.encoding
    known = held.filter(pl.col("group") != "new")
    assert accuracy(champion, known) > 0.9
    assert accuracy(updated, known) > 0.9
    missing = held.with_columns(group=pl.lit(None, dtype=pl.String))
    unseen = held.with_columns(group=pl.lit("new"))
    np.testing.assert_array_equal(updated.predict(unseen), updated.predict(missing))


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_warm_start_moves_towards_the_new_rows(update: str) -> None:
    before, after = {"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.8}
    model = fit(LGBMClassifier(n_estimators=20), groups(before, 1_000, seed=0))
    drifted = groups(after, 1_000, seed=1)
    stale = accuracy(model, drifted)
    learner = learners.LightGBM(LGBMClassifier(n_estimators=20), decay_rate=0.5)
    for _ in range(3):
        model = learner.fit(drifted, start="champion", update=update, previous=model, seed=3)
    assert accuracy(model, drifted) > stale + 0.3


def test_trees_grow_to_five_times_the_estimators_own_and_no_further() -> None:
    rows = rows_to_learn("binary")
    model = fit(LGBMClassifier(n_estimators=4), rows)
    for turn in range(2, 6):
        model = fit(LGBMClassifier(n_estimators=4), rows, model)
        assert model.booster.current_iteration() == 4 * turn
    with pytest.raises(TrainingError, match="expected at most 20 rounds") as caught:
        fit(LGBMClassifier(n_estimators=4), rows, model)
    assert caught.value.hint == "a training from scratch is due"


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_warm_start_on_one_class_or_a_new_one_asks_for_scratch(update: str) -> None:
    rows = rows_to_learn("binary")
    champion = fit(LGBMClassifier(n_estimators=4), rows)
    with pytest.raises(TrainingError, match="got one"):
        fit(LGBMClassifier(), rows.filter(pl.col("_label") == 1), champion, update)
    with pytest.raises(TrainingError, match="the new class 2"):
        fit(
            LGBMClassifier(), rows.with_columns(_label=pl.int_range(pl.len()) % 3), champion, update
        )


@pytest.mark.filterwarnings("ignore:Found .application. in params")
@pytest.mark.parametrize("name", ["objective", "application"])
@pytest.mark.parametrize(
    ("stated", "task", "learnt"),
    [
        ("multiclass", "binary", "binary"),
        ("ova", "binary", "binary"),
        ("binary", "binary", "binary"),
        ("binary", "multiclass", "multiclass"),
        ("multiclassova", "multiclass", "multiclassova"),
        ("cross_entropy", "binary", "cross_entropy"),
    ],
)
def test_the_objective_follows_the_classes(name: str, stated: str, task: str, learnt: str) -> None:
    rows = rows_to_learn(task)
    estimator = LGBMClassifier(n_estimators=9, verbosity=-1, **{name: stated})
    model = fit(estimator, rows)
    assert model.objective == learnt
    assert accuracy(model, rows) > 0.6
    assert fit(estimator, rows, model).objective == learnt


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_a_warm_start_may_miss_one_class_of_several(update: str) -> None:
    rows = rows_to_learn("multiclass")
    champion = fit(LGBMClassifier(n_estimators=8), rows)
    model = fit(
        LGBMClassifier(n_estimators=8), rows.filter(pl.col("_label") != "mid"), champion, update
    )
    assert model.classes == ("high", "low", "mid")
    assert model.predict(rows).shape == (400, 3)
    assert accuracy(model, rows.filter(pl.col("_label") != "mid")) > 0.8


def test_a_champion_of_another_kind_is_not_gone_on_from() -> None:
    rows = rows_to_learn("binary")
    linear, trees = fit(SGDClassifier(), rows), fit(LGBMClassifier(n_estimators=2), rows)
    for estimator, champion in (
        (LGBMClassifier(), linear),
        (SGDClassifier(), trees),
        (GaussianNB(), linear),
    ):
        with pytest.raises(TrainingError, match="can go on with"):
            fit(estimator, rows, champion)
    learner = learners.resolve(SGDClassifier())
    with pytest.raises(TrainingError, match="got none"):
        learner.fit(rows, start="champion", update="all", previous=None, seed=0)


def test_a_warm_start_without_a_champions_column_names_it() -> None:
    rows = rows_to_learn("binary")
    champion = fit(LGBMClassifier(n_estimators=2), rows)
    with pytest.raises(SchemaMismatch, match="column `value` is missing"):
        fit(LGBMClassifier(n_estimators=2), rows.drop("value"), champion)


def test_threads_leave_no_trace_in_a_model() -> None:
    rows = rows_to_learn("binary")
    one, two = (fit(LGBMClassifier(n_estimators=5, n_jobs=jobs), rows) for jobs in (1, 2))
    assert one.content() == two.content()
    forests = (fit(RandomForestClassifier(5, n_jobs=jobs), rows) for jobs in (1, 2))
    assert len({forest.content() for forest in forests}) == 1


def test_a_seed_is_set_where_the_user_left_it_open() -> None:
    rows = rows_to_learn("binary")
    for kind in (LGBMClassifier, RandomForestClassifier):
        sampled = {"subsample": 0.5, "subsample_freq": 1} if kind is LGBMClassifier else {}
        learner, own = (
            learners.resolve(kind(n_estimators=5, **sampled, **seed))
            for seed in ({}, {"random_state": 1})
        )

        def contents(learner: Any, rows: pl.DataFrame = rows) -> set[bytes]:
            how = {"start": "scratch", "update": "all", "previous": None}
            return {learner.fit(rows, seed=seed, **how).content() for seed in (1, 2)}

        assert len(contents(learner)) == 2
        assert len(contents(own)) == 1


@pytest.mark.parametrize("objective", ["regression_l1", "huber", "poisson", "tweedie"])
def test_regressions_of_many_objectives_start_from_the_champion(objective: str) -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label").abs() + 0.1)
    champion = fit(LGBMRegressor(n_estimators=8, objective=objective), rows)
    for update in ("leaves", "all"):
        model = fit(LGBMRegressor(n_estimators=8, objective=objective), rows, champion, update)
        assert np.isfinite(model.predict(rows)).all()


@pytest.mark.parametrize("update", ["leaves", "all"])
def test_trees_that_add_up_to_logarithms_are_not_added_to_others(update: str) -> None:
    rows = rows_to_learn("regression").with_columns(pl.col("_label").abs() + 0.1)
    counts = fit(LGBMRegressor(n_estimators=4, objective="poisson"), rows)
    with pytest.raises(TrainingError, match="learns regression, got one that learnt poisson"):
        fit(LGBMRegressor(n_estimators=4), rows, counts, update)
    means = fit(LGBMRegressor(n_estimators=4), rows)
    with pytest.raises(TrainingError, match="learns tweedie, got one that learnt regression"):
        fit(LGBMRegressor(n_estimators=4, objective="tweedie"), rows, means, update)


def test_importances_name_columns() -> None:
    rows = rows_to_learn("binary")
    for estimator in (
        LGBMClassifier(n_estimators=5),
        LogisticRegression(),
        RandomForestClassifier(5),
    ):
        found = fit(estimator, rows).importances()
        assert set(found) == {"value", "other", "count", "group", "open", "seen_at"}
        assert max(found, key=found.__getitem__) in ("value", "group")
    assert fit(HistGradientBoostingClassifier(max_iter=2), rows).importances() == {}


# scikit-learn -----------------------------------------------------------------------------


def test_partial_fit_and_warm_start_go_on_from_the_champion() -> None:
    rows, later = rows_to_learn("binary"), rows_to_learn("binary", seed=1)
    forest = fit(RandomForestClassifier(4), rows)
    grown = fit(RandomForestClassifier(4), later, forest)
    assert len(grown.estimator.estimators_) == 8
    assert len(forest.estimator.estimators_) == 4
    for _ in range(3):
        grown = fit(RandomForestClassifier(4), later, grown)
    with pytest.raises(TrainingError, match="expected at most 20 estimators"):
        fit(RandomForestClassifier(4), later, grown)
    bayes = fit(GaussianNB(), rows)
    assert fit(GaussianNB(), later, bayes).estimator.class_count_.sum() == 800


def test_balanced_classes_need_rows_of_each_to_go_on() -> None:
    learner = learners.resolve(SGDClassifier(class_weight="balanced"))
    rows = rows_to_learn("binary")
    champion = learner.fit(rows, start="scratch", update="all", previous=None, seed=1)
    ones = rows.filter(pl.col("_label") == 1)
    with pytest.raises(TrainingError, match="got none of 0"):
        learner.fit(ones, start="champion", update="all", previous=champion, seed=1)
    plain = learners.resolve(SGDClassifier())
    champion = plain.fit(rows, start="scratch", update="all", previous=None, seed=1)
    plain.fit(ones, start="champion", update="all", previous=champion, seed=1)


def test_growing_needs_rows_of_every_class() -> None:
    rows = rows_to_learn("multiclass")
    champion = fit(RandomForestClassifier(4), rows)
    with pytest.raises(TrainingError, match="got none of 'mid'"):
        fit(RandomForestClassifier(4), rows.filter(pl.col("_label") != "mid"), champion)


def test_a_pipeline_of_scikit_learn_gets_the_columns_as_they_are() -> None:
    rows = rows_to_learn("binary")
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["group"]), ("passthrough", ["value"])
    )
    model = fit(make_pipeline(prepare, LogisticRegression()), rows)
    assert accuracy(model, rows) > 0.9
    missing = rows.with_columns(value=pl.col("value").cast(pl.String), group=pl.lit(None))
    assert np.isfinite(model.predict(missing)).all()


def test_a_pipeline_of_scikit_learn_that_takes_no_text_is_told_of_which_columns() -> None:
    rows = rows_to_learn("binary")
    with pytest.raises(
        TrainingError, match=r"takes no text, got some in `group`: could not"
    ) as told:
        fit(make_pipeline(StandardScaler(), LogisticRegression()), rows)
    assert "OneHotEncoder" in str(told.value.hint)


def test_a_pipeline_of_scikit_learn_that_takes_no_infinite_values_is_told_where_they_are() -> None:
    rows = rows_to_learn("binary").select("_id", "_time", "_label", "value")
    odd = rows.with_columns(
        value=pl.when(pl.int_range(pl.len()) == 3).then(np.inf).otherwise("value")
    )
    with pytest.raises(
        TrainingError, match=r"takes no infinite values, got some in `value`: Input X"
    ):
        fit(make_pipeline(StandardScaler(), LogisticRegression()), odd)
    with pytest.raises(ValueError, match="contains NaN"):
        fit(
            make_pipeline(StandardScaler(), LogisticRegression()),
            odd.with_columns(value=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(1.0)),
        )


@pytest.mark.parametrize("estimator", [RidgeClassifier(), SGDClassifier(loss="hinge")])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_classifier_without_probabilities_ranks_by_its_decisions(
    estimator: Any, task: str
) -> None:
    rows = rows_to_learn(task)
    model = fit(estimator, rows)
    decided = model.estimator.decision_function(model.table(rows))
    scores = model.predict(rows)
    if task == "binary":
        np.testing.assert_array_equal(scores > 0.5, decided > 0)
        assert scores.argmax() == decided.argmax()
    else:
        np.testing.assert_array_equal(scores.argmax(axis=1), decided.argmax(axis=1))


def test_estimators_that_need_it_get_numbers_without_gaps_from_zero_to_one() -> None:
    rows = rows_to_learn("binary")
    model = fit(MultinomialNB(), rows)
    table = model.table(rows.with_columns(value=-99.0))
    assert table.min() == 0.0
    assert np.isfinite(table).all()


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Float64, [1.5, None, float("inf"), float("nan"), -0.0]),
        (pl.Float64, [LARGEST, 1e39, -1e200, -LARGEST, 1.7976931348623157e308]),
        (pl.Float32, [0.1, None, float("-inf"), 3.4e38, 1.0]),
        (pl.Int64, [2**53 + 1, None, -(2**63), 0, 2**63 - 1]),
        (pl.UInt64, [2**64 - 1, 2**53 + 1, 0, None, 1]),
        (pl.Int8, [1, 2, 3, 4, -128]),
    ],
    ids=str,
)
def test_numbers_are_the_same_matrix_copied_or_asked_for(
    dtype: Any, values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pl.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    rows = pl.DataFrame({"b": pl.Series(values, dtype=dtype), "a": [1, 2, 3, 4, 5]})
    encoding = Encoding.learn(known)
    copied = encoding.matrix(rows)
    monkeypatch.setattr("keepfit.learners.encoding.FEW_ROWS", 0)
    asked = encoding.matrix(rows)
    np.testing.assert_array_equal(copied, asked)
    assert copied.flags.f_contiguous
    assert copied.flags.writeable
    assert encoding.matrix(rows.clear()).shape == (0, 2)


def test_rare_categories_share_a_column() -> None:
    names = [f"g{i:03}" for i in range(150)] * 4
    rows = labelled([0, 1] * 300, group=names)
    model = fit(LogisticRegression(), rows)
    table = model.table(rows)
    assert table.shape == (600, 101)
    assert (table.sum(axis=1) == 1).all()
    assert table[:, 100].sum() == 200
    assert model.table(labelled([0], group=["unheard of"])).sum() == 0


def test_a_search_is_kept_as_the_estimator_it_found() -> None:
    rows = rows_to_learn("binary")
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=2)
    one, two = fit(search, rows), fit(search, rows)
    assert one.dumps() == two.dumps()  # the record of a search holds how long it took
    np.testing.assert_array_equal(learners.loads(one.dumps()).predict(rows), two.predict(rows))


def test_histogram_boosting_reads_wide_categories_in_order() -> None:
    names = [f"g{i:03}" for i in range(300)] * 4
    rows = labelled([int(name > "g150") for name in names], group=names)
    assert (
        accuracy(fit(HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2), rows), rows)
        == 1
    )


class Constant(ClassifierMixin, BaseEstimator):
    """An estimator of the user's own, with chance and a set in its code."""

    def fit(self, X: Any, y: Any) -> "Constant":
        self.classes_ = np.unique(y)
        self.words_ = sorted({"a", "b"} | {"c"})
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[-1] if "c" in {"c", "d", "e"} else 0)


def test_an_estimator_of_the_users_own_trains_and_travels_by_value() -> None:
    rows = rows_to_learn("multiclass")
    model = fit(Constant(), rows)
    assert model.predict(rows).tolist() == [[0.0, 0.0, 1.0]] * 400
    content = model.dumps()
    assert b"Constant" in content
    assert learners.loads(content).dumps() == content == fit(Constant(), rows).dumps()


def test_a_tree_leaves_no_trace_of_the_memory_it_lay_in() -> None:
    rows = rows_to_learn("binary")
    first = fit(DecisionTreeClassifier(), rows).dumps()
    litter = [np.full(20_000, i, dtype=np.uint8) for i in range(200)]
    del litter
    assert fit(DecisionTreeClassifier(), rows).dumps() == first


# Models as bytes --------------------------------------------------------------------------


def test_bytes_that_are_cut_off_are_no_model() -> None:
    content = fit(LGBMClassifier(n_estimators=2), rows_to_learn("binary")).dumps()
    with pytest.raises(ArtifactCorrupt, match="expected a model of keepfit"):
        learners.loads(content[:-100])


@pytest.mark.parametrize(
    ("package", "build"),
    [
        ("lightgbm", lambda lightgbm: lightgbm.LGBMClassifier(n_estimators=2)),
        ("xgboost", lambda xgboost: xgboost.XGBClassifier(n_estimators=2)),
        ("catboost", lambda catboost: catboost.CatBoostClassifier(iterations=2)),
        ("river", lambda river: importlib.import_module("river.naive_bayes").GaussianNB()),
    ],
)
def test_a_model_whose_package_is_missing_says_how_to_install_it(
    package: str, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few rows of two classes find their leaves in LightGBM's trees without the package.
    rows = rows_to_learn("multiclass")
    content = fit(build(pytest.importorskip(package)), rows).dumps()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraMissing, match=f"expected the package `{package}`") as caught:
        learners.loads(content).predict(rows)
    assert caught.value.hint == f'pip install "keepfit[{package}]"'


def test_a_model_says_what_it_is() -> None:
    model = fit(LGBMClassifier(n_estimators=2), rows_to_learn("multiclass"))
    assert repr(model) == "<BoosterModel LGBMClassifier(n_estimators=2): 3 classes, 6 columns>"
    assert model.dropped == {}


def test_a_model_may_be_pickled() -> None:
    rows = rows_to_learn("binary")
    for estimator in (LGBMClassifier(n_estimators=2), GaussianNB()):
        model = fit(estimator, rows)
        again = pickles.loads(pickles.dumps(model))
        np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
