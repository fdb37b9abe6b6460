"""Quick answers are the model's answers: to the last bit from trees, to 1e-12 from products."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from keepfit import learners
from keepfit.errors import ArtifactCorrupt, SchemaMismatch
from keepfit.learners.encoding import LARGEST, Column, Encoding
from keepfit.server.cells import cells
from keepfit.server.forest import Forest, Libraries, libraries
from keepfit.server.linear import Folded
from keepfit.server.quick import AT_ONCE, Frames, Matrix, quickest
from keepfit.server.trees import Trees

ESTIMATORS: dict[str, tuple[Any, str, type]] = {
    "trees binary": (LGBMClassifier(n_estimators=9, verbosity=-1), "two", Trees),
    "trees multiclass": (LGBMClassifier(n_estimators=5, verbosity=-1), "three", Trees),
    "trees numbers": (LGBMRegressor(n_estimators=9, verbosity=-1), "amount", Trees),
    "logistic": (LogisticRegression(max_iter=300), "two", Folded),
    "softmax": (LogisticRegression(max_iter=300), "three", Folded),
    "least squares": (LinearRegression(), "amount", Folded),
    "ridge": (Ridge(), "amount", Folded),
    "descent": (SGDClassifier(loss="log_loss"), "two", Folded),
    "histograms": (HistGradientBoostingClassifier(max_iter=5), "two", Matrix),
    "forest": (RandomForestClassifier(n_estimators=4), "three", Matrix),
}
EXACT = {"trees binary", "trees multiclass", "trees numbers", "histograms", "forest"}


def rows(n: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    kind = rng.choice(["a", "b", "c", "7", "true"], size=n)
    gaps = rng.random(n) < 0.1
    return pl.DataFrame(
        {
            "_id": np.arange(n),
            "x": pl.Series(np.where(gaps, np.nan, x)).fill_nan(None),
            "count": rng.integers(0, 9, size=n),
            "kind": kind,
            "flag": rng.random(n) < 0.5,
            "at": pl.Series(rng.integers(0, 10**9, size=n) * 10**6).cast(pl.Datetime("us", "UTC")),
            "two": (x + (kind == "a") > 0).astype(np.int64),
            "three": np.digitize(x, [-0.5, 0.5]),
            "amount": x * 3 + (kind == "b"),
        }
    )


@cache
def fitted(name: str) -> Any:
    estimator, label, _ = ESTIMATORS[name]
    frame = rows().rename({label: "_label"}).drop({"two", "three", "amount"} - {label})
    return learners.resolve(estimator).fit(
        frame, start="scratch", update="all", previous=None, seed=0
    )


VALUES = {
    "x": st.none()
    | st.floats(-5, 5)
    | st.integers(-9, 9)
    | st.sampled_from([" 1.5 ", "x", "1_0", 1e39, -1e300]),
    "count": st.none() | st.integers(0, 9) | st.floats(0, 9) | st.sampled_from(["3", "", "1e1"]),
    "kind": st.none()
    | st.sampled_from(["a", "b", "c", "7", "never seen", " a"])
    | st.sampled_from([7, 7.0, 7.5, True, False, -1, 1e300, 1e-9]),
    "flag": st.none()
    | st.booleans()
    | st.sampled_from(["true", " False", "1", "no", 0, 1, 2, 0.5]),
    "at": st.none()
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.sampled_from(
        ["2024-03-09", "2024-03-09 10:00:00", "soon", "2024-03-09T10:00:00+02:00", 7]
    ),
}
ROW = st.fixed_dictionaries(VALUES)


def agree(name: str, quick: Any, slow: np.ndarray) -> None:
    if name in EXACT:
        assert np.asarray(quick).tolist() == slow.tolist()
    else:
        np.testing.assert_allclose(quick, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_each_model_finds_its_quickest_way(name: str) -> None:
    assert type(quickest(fitted(name))) is ESTIMATORS[name][2]


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@given(row=ROW)
@example(row={"x": None, "count": None, "kind": None, "flag": None, "at": None})
def test_one_row_is_answered_as_the_model_answers_it(name: str, row: dict[str, Any]) -> None:
    model = fitted(name)
    slow = model.predict(pl.DataFrame({key: [value] for key, value in row.items()}))
    agree(name, quickest(model).one(row), slow[0])


@pytest.mark.parametrize("name", ["trees binary", "trees multiclass", "logistic", "histograms"])
@given(many=st.lists(ROW, min_size=1, max_size=5))
def test_many_rows_are_answered_as_one_by_one(name: str, many: list[dict[str, Any]]) -> None:
    answerer = quickest(fitted(name))
    found = answerer.many(many)
    for row, answer in zip(many, found, strict=True):
        agree(name, answer, np.asarray(answerer.one(row)))


COLUMNS = (
    Column("number", "number"),
    Column("boolean", "boolean"),
    Column("time", "time"),
    Column("category", "category", ("", "0", "1", "3", "0.5", "1e-9", "nan", "true", "ä")),
    Column("gone", "gone"),
)
JSON = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["0", "1", " 1 ", "+3", ".5", "5.", "1e5", "TRUE", "inf", "nan", "0.5", "1e999"]
    )
    | st.sampled_from([0.5, 3.0, 1e-9, -0.0, 1e19, "ä", "0x10", "1 000", "١"])
    | st.sampled_from([LARGEST, -LARGEST, 1e39, -1e39, "1e39", "-1e200"])
)


@given(value=JSON)
def test_a_value_becomes_the_number_that_it_becomes_in_a_frame(value: Any) -> None:
    row = {column.name: value for column in COLUMNS}
    frame = pl.DataFrame({name: [one] for name, one in row.items()})
    slow = Encoding(COLUMNS).matrix(frame)[0].tolist()
    quick = [cell(value) for cell in cells(COLUMNS)]
    assert list(map(repr, quick)) == list(map(repr, slow))


@given(moment=st.datetimes(timezones=st.timezones()) | st.datetimes())
def test_a_time_becomes_the_number_that_it_becomes_in_a_frame(moment: Any) -> None:
    test_a_value_becomes_the_number_that_it_becomes_in_a_frame.hypothesis.inner_test(  # type: ignore[attr-defined]
        value=moment.isoformat()
    )


@pytest.mark.parametrize("wild", [1e39, -1e39, 1e308, 10**39])
@pytest.mark.parametrize("name", ["trees", "logistic", "forest"])
def test_numbers_alone_are_missing_where_they_are_too_great(name: str, wild: float) -> None:
    estimator = {
        "trees": LGBMClassifier(n_estimators=9, verbosity=-1),
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(4),
    }[name]
    frame = rows().select("_id", "x", "count", _label="two")
    model = learners.resolve(estimator).fit(
        frame, start="scratch", update="all", previous=None, seed=0
    )
    quick = quickest(model)
    told = [{"x": 0.5, "count": 3}, {"x": wild, "count": 3}, {"x": -wild, "count": 3}]
    slow = model.predict(pl.DataFrame({"x": [0.5, None, None], "count": [3, 3, 3]}))
    np.testing.assert_allclose(quick.many(told), slow, rtol=1e-12)
    np.testing.assert_allclose([quick.one(row) for row in told], slow, rtol=1e-12)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler()], ids=["standard", "range"])
def test_a_pipeline_of_a_scaler_and_a_linear_estimator_is_folded(scaler: Any) -> None:
    frame = rows().select("_id", "count", x=pl.col("x").fill_null(0), _label="two")
    made = learners.resolve(make_pipeline(scaler, LogisticRegression()))
    model = made.fit(frame, start="scratch", update="all", previous=None, seed=0)
    quick = quickest(model)
    assert isinstance(quick, Folded)
    slow = model.predict(frame)
    for i, row in enumerate(frame.select("x", "count").head(50).to_dicts()):
        assert math.isclose(quick.one(row), slow[i], rel_tol=1e-12)  # type: ignore[arg-type]


def test_a_pipeline_that_is_not_folded_answers_through_a_frame() -> None:
    frame = rows().select("_id", "count", x=pl.col("x").fill_null(0), _label="two")
    made = learners.resolve(make_pipeline(StandardScaler(), RandomForestClassifier(3)))
    model = made.fit(frame, start="scratch", update="all", previous=None, seed=0)
    quick = quickest(model)
    assert isinstance(quick, Frames)
    assert quick.many(frame.head(20).to_dicts()) == model.predict(frame.head(20)).tolist()


@pytest.mark.parametrize("name", ["trees binary", "logistic", "histograms"])
def test_a_row_without_a_column_is_told_which_and_what_comes_near(name: str) -> None:
    row = {"x": 1.0, "count": 1, "kinds": "a", "flag": True, "at": None}
    with pytest.raises(SchemaMismatch, match="`kind`, which the model needs") as told:
        quickest(fitted(name)).one(row)
    assert told.value.hint == "the nearest key sent is `kinds`"


@pytest.mark.parametrize("count", [1, 2, AT_ONCE, AT_ONCE + 1, 1_000])
@pytest.mark.parametrize("name", ["trees binary", "trees multiclass", "trees numbers"])
def test_trees_answer_a_matrix_of_any_length_to_the_last_bit(name: str, count: int) -> None:
    model = fitted(name)
    table = np.random.default_rng(1).normal(size=(count, len(model.features)))
    assert Trees(model, _found()).answer(table).tolist() == model.answer(table).tolist()


@pytest.mark.parametrize("text", ["", "tree\n", "no trees at all"])
def test_a_text_without_trees_is_refused(text: str) -> None:
    with pytest.raises(ArtifactCorrupt, match="expected trees that answer"):
        Forest(_found(), text, 3)


def test_trees_answer_without_the_packages_that_training_brings(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(fitted("trees binary").dumps())
    script = """
import sys
from keepfit.learners import loads
from keepfit.server.quick import quickest
answerer = quickest(loads(open(sys.argv[1], "rb").read()))
print(answerer.one({"x": 0.5, "count": 3, "kind": "a", "flag": True, "at": None}))
print(*sorted({"lightgbm", "sklearn", "pandas", "polars", "scipy", "pyarrow"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "model")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    row = {"x": 0.5, "count": 3, "kind": "a", "flag": True, "at": None}
    assert float(told[0]) == quickest(fitted("trees binary")).one(row)
    assert told[1] == ""


def _found() -> Libraries:
    found = libraries()
    assert found is not None
    return found
