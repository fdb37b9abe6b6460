"""Adopting a registered model: which are taken, which are not, and what is said of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from keepfit import Pipeline
from keepfit.errors import ConfigError, SchemaMismatch, SourceError
from keepfit.mirror import Settings
from keepfit.mirror.store import package
from tests.mlflows import registered
from tests.shell import FILE, keepfit
from tests.worlds import live, pipeline, stream

FRAME = stream(20, 50)
TABLE = FRAME.select("x", "y").to_pandas()
LABELS = FRAME.get_column("label").to_numpy()
WORDS = np.where(LABELS == 1, "yes", "no")


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    return registered(tmp_path, mlflow_tables)


@pytest.fixture
def made(tmp_path: Path) -> Pipeline:
    return pipeline(FRAME, tmp_path / ".keepfit")


def register(settings: Settings, flavor: str, model: Any, name: str = "churn", **given: Any) -> str:
    """Register a model as its owner would, and return what it is called."""
    mlflow, library = package(), package(f"mlflow.{flavor}")
    mlflow.set_tracking_uri(settings.tracking_uri)
    found = mlflow.get_experiment_by_name("elsewhere")
    if found is None:
        mlflow.create_experiment("elsewhere", artifact_location=settings.artifacts)
    mlflow.set_experiment("elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mlflow.start_run():
            library.log_model(
                model, name="model", registered_model_name=name, pip_requirements=[], **given
            )
    return f"models:/{name}/1"


def pickled(settings: Settings, model: Any, **given: Any) -> str:
    return register(settings, "sklearn", model, serialization_format="cloudpickle", **given)


def adopted(made: Pipeline, settings: Settings, spec: str, **given: Any) -> Any:
    """Adopt a model, and return what the pipeline predicts with it."""
    from keepfit import load

    made.adopt(spec, reason="served so far", tracking_uri=settings.tracking_uri, **given)
    try:
        return load("churn@champion", home=made.home)
    finally:
        made.close()


def boosted(kind: str) -> tuple[str, Any]:
    import lightgbm
    import xgboost

    if kind == "lightgbm":
        data = lightgbm.Dataset(TABLE, LABELS)
        settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
        return kind, lightgbm.train(settings, data, 10)
    if kind == "xgboost":
        return kind, xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(TABLE, LABELS)
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False, thread_count=1)
    return kind, model.fit(TABLE, LABELS)


@pytest.mark.parametrize("kind", ["catboost", "lightgbm", "xgboost"])
def test_boosted_trees_are_taken_without_trust_and_answer_as_before(
    made: Pipeline, settings: Settings, kind: str
) -> None:
    flavor, model = boosted(kind)
    champion = adopted(made, settings, register(settings, flavor, model))
    expected = model.predict_proba(TABLE)[:, 1] if kind != "lightgbm" else model.predict(TABLE)
    answered = champion.predict(FRAME).get_column("probability").to_numpy()
    assert np.allclose(answered, expected)
    assert champion.version.origin.flavor == kind


def test_texts_are_the_categories_that_a_booster_was_trained_with(
    made: Pipeline, settings: Settings
) -> None:
    import lightgbm

    table = FRAME.select("kind", "x").to_pandas().astype({"kind": "category"})
    target = (FRAME.get_column("kind") == "c").to_numpy() ^ (LABELS == 1)
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    model = lightgbm.train(parameters, lightgbm.Dataset(table, target), 10)
    champion = adopted(made, settings, register(settings, "lightgbm", model))
    few = FRAME.filter(FRAME.get_column("kind") != "a")
    for rows in (FRAME, few, few.head(1)):
        known = rows.select("kind", "x").to_pandas().astype({"kind": table["kind"].dtype})
        answered = champion.predict(rows).get_column("probability").to_numpy()
        assert np.allclose(answered, model.predict(known))


def test_a_pickle_is_opened_only_on_a_persons_word(made: Pipeline, settings: Settings) -> None:
    model = LogisticRegression().fit(TABLE, LABELS)
    spec = pickled(settings, model)
    with pytest.raises(ConfigError, match="can run code when it is opened") as raised:
        adopted(made, settings, spec)
    assert "--trust" in str(raised.value.hint)
    champion = adopted(made, settings, spec, trust=True)
    answered = champion.predict(FRAME).get_column("probability").to_numpy()
    assert np.allclose(answered, model.predict_proba(TABLE)[:, 1])


def test_nothing_is_opened_without_trust(made: Pipeline, settings: Settings) -> None:
    opened = made.home / "opened"

    class Trap(LogisticRegression):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return Path.touch, (opened,)

    made.home.mkdir(parents=True)
    with pytest.raises(ConfigError, match="can run code"):
        adopted(made, settings, pickled(settings, Trap().fit(TABLE, LABELS)))
    assert not opened.exists()


def test_classes_are_those_that_the_model_names(tmp_path: Path, settings: Settings) -> None:
    import polars as pl

    frame = FRAME.with_columns(pl.Series("label", WORDS))
    made = pipeline(frame, tmp_path / ".keepfit")
    model = LogisticRegression().fit(TABLE, WORDS)
    champion = adopted(made, settings, pickled(settings, model), trust=True)
    assert champion.model.classes == ("no", "yes")
    said = champion.predict(frame)
    assert said.get_column("prediction").to_list() == model.predict(TABLE).tolist()


def test_a_regressor_is_taken_where_labels_are_numbers(tmp_path: Path, settings: Settings) -> None:
    import polars as pl

    frame = FRAME.with_columns((pl.col("x") * 3.0).alias("label"))
    made = pipeline(frame, tmp_path / ".keepfit", metric="mae", learner=LinearRegression())
    model = LinearRegression().fit(TABLE, frame.get_column("label").to_numpy())
    champion = adopted(made, settings, pickled(settings, model), trust=True)
    assert np.allclose(champion.predict(frame).get_column("prediction"), frame["label"])


def rule(base: Any) -> Any:
    """Return a model of a person's own making; MLflow warns of types that it would like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        class Rule(base):  # type: ignore[misc]
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                return 1.0 / (1.0 + np.exp(-model_input["x"].to_numpy()))

    return Rule()


def test_any_pyfunc_is_taken_that_answers_scores(made: Pipeline, settings: Settings) -> None:
    pyfunc = package("mlflow.pyfunc")

    signature = package("mlflow.models").infer_signature(TABLE[["x"]])
    spec = register(
        settings, "pyfunc", None, python_model=rule(pyfunc.PythonModel), signature=signature
    )
    champion = adopted(made, settings, spec, trust=True)
    expected = 1.0 / (1.0 + np.exp(-FRAME.get_column("x").to_numpy()))
    assert np.allclose(champion.predict(FRAME).get_column("probability"), expected)


# What is not taken ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("churn@champion", "expected a registered model"),
        ("models:/churn@champion", "expected a registered model"),
        ("models:/churn/7", "expected a registered model"),
    ],
)
def test_what_is_not_there_is_said(
    made: Pipeline, settings: Settings, spec: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        adopted(made, settings, spec)


def test_a_column_that_the_source_lacks_is_named(made: Pipeline, settings: Settings) -> None:
    table = TABLE.rename(columns={"y": "tenure"})
    spec = pickled(settings, LogisticRegression().fit(table, LABELS))
    with pytest.raises(SchemaMismatch, match="`tenure`"):
        adopted(made, settings, spec, trust=True)


def test_other_classes_than_the_sources_are_refused(made: Pipeline, settings: Settings) -> None:
    spec = pickled(settings, LogisticRegression().fit(TABLE, WORDS))
    with pytest.raises(ConfigError, match="expected labels among the classes"):
        adopted(made, settings, spec, trust=True)


def test_a_model_without_names_of_columns_is_refused(made: Pipeline, settings: Settings) -> None:
    spec = pickled(settings, LogisticRegression().fit(TABLE.to_numpy(), LABELS))
    with pytest.raises(ConfigError, match="which columns it needs"):
        adopted(made, settings, spec, trust=True)


def test_a_source_without_rows_is_said(tmp_path: Path, settings: Settings) -> None:
    made = pipeline(FRAME.clear(), tmp_path / ".keepfit")
    spec = register(settings, *boosted("xgboost"))
    with pytest.raises(SourceError, match="expected rows"):
        adopted(made, settings, spec)


def test_where_something_serves_nothing_is_adopted(made: Pipeline, settings: Settings) -> None:
    spec = register(settings, *boosted("xgboost"))
    adopted(made, settings, spec)
    with pytest.raises(ConfigError, match="in which v1 serves"):
        adopted(made, settings, spec)


def test_without_an_address_it_is_asked_for(
    made: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="address of an MLflow"):
        made.adopt("models:/churn/1", reason="served so far")
    made.close()


# Looking at it ----------------------------------------------------------------------------


def test_the_command_adopts_and_says_where_the_champion_comes_from(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "rows").mkdir()
    FRAME.write_parquet(tmp_path / "rows" / "first.parquet")
    (tmp_path / "churn.py").write_text(FILE)
    (tmp_path / "keepfit.toml").write_text(
        f'[mlflow]\ntracking_uri = "{settings.tracking_uri}"\nname = "ours"\n'
    )
    spec = register(settings, *boosted("lightgbm"))
    said = keepfit(
        tmp_path, "adopt", "churn.py", spec, "--reason", "served so far",
        "--trained-to", "2024-01-10", "--json",
    )  # fmt: skip
    assert said.status == 0
    assert said.told == {
        "pipeline": "churn", "champion": "v1", "origin": "models:/churn/1",
        "trained_to": "2024-01-10T00:00:00+00:00",
    }  # fmt: skip
    told = " ".join(keepfit(tmp_path, "why", "v1").out.split())
    assert "models:/churn/1, opened by lightgbm" in told
    assert "its training rows are unknown: all to 2024-01-10 may have been among them" in told
    assert "trained elsewhere, on rows to 2024-01-10" in keepfit(tmp_path, "status").out
    assert "v1 adopted" in keepfit(tmp_path, "log").out


def test_rows_to_the_day_it_was_registered_may_have_taught_it(
    made: Pipeline, settings: Settings
) -> None:
    spec = register(settings, *boosted("xgboost"))
    champion = adopted(made, settings, spec)
    assert champion.version.snapshot.to >= live(made).clock.now()
