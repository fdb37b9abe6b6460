"""A share of what would be stopped is let through: by whose choice, how often, with what weight."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from catboost import CatBoostClassifier
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from scipy.stats import binomtest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from keepfit import Explore, learners
from keepfit.errors import ConfigError, KeepfitError
from keepfit.explore import BY_ITSELF, Draws, observed, repeated, secret_of, weighted, weights
from keepfit.facts import TrainingFailed
from tests.worlds import live, pipeline, play, stream

SECRET = b"a secret of these tests"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"share": 0.0, "passes_below": 0.4}, "above 0 and up to 1, got 0.0"),
        ({"share": 1.5, "passes_below": 0.4}, "above 0 and up to 1, got 1.5"),
        ({"share": True, "passes_below": 0.4}, "above 0 and up to 1, got True"),
        ({"share": 0.1}, "one of passes_below and passes_above, got 0"),
        ({"share": 0.1, "passes_below": 0.4, "passes_above": 0.6}, "passes_above, got 2"),
        ({"share": 0.1, "passes_below": float("nan")}, "a finite number as the cut-off, got nan"),
        ({"share": 0.1, "passes_above": "high"}, "a finite number as the cut-off, got 'high'"),
        ({"share": 0.1, "passes_above": 1, "heaviest": 0.5}, "heaviest to be 1 or more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_written_wrongly_is_told_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Explore(**given)


def test_a_pipeline_explores_only_with_what_can_weigh(tmp_path: Path) -> None:
    explore = Explore(0.1, passes_below=0.4)
    frame = stream(2)
    assert pipeline(frame, tmp_path, explore=explore).explore == explore
    with pytest.raises(ConfigError, match="an Explore, got 0.1"):
        pipeline(frame, tmp_path, explore=0.1)
    with pytest.raises(ConfigError, match="a metric that takes weights"):
        pipeline(frame, tmp_path, explore=explore, metric=lambda labels, scores: 0.5)


def test_models_that_cannot_be_cut_off_are_told_apart() -> None:
    below = Explore(0.1, passes_below=0.4)
    assert below.misfit("binary") is None
    assert "several classes" in str(below.misfit("multiclass"))
    score = Explore(0.1, passes_above=600)
    assert score.misfit("regression") is None
    assert "between 0 and 1" in str(score.misfit("binary"))


def test_a_model_of_several_classes_is_not_promoted_to_explore_with(tmp_path: Path) -> None:
    explore = Explore(0.1, passes_below=0.4)
    several = {"roles": {"label": "kind"}, "metric": "log_loss", "exclude": ["label"]}
    loop = live(pipeline(stream(3), tmp_path, explore=explore, enough=1, **several))
    failed = [e.fact for e in play(loop, 4) if isinstance(e.fact, TrainingFailed)]
    assert failed
    assert {one.reason for one in failed} == {"cannot be explored"}
    assert "the labels have several classes" in failed[0].message
    assert loop.state.champion is None
    loop.memory.close()


# Who is let through -----------------------------------------------------------------------


@given(st.floats(0, 1), st.integers() | st.text(), st.floats(0.01, 1))
def test_a_row_passes_by_itself_or_by_chance_or_not(score: float, id_: Any, share: float) -> None:
    explore = Explore(share, passes_below=0.4)
    found = Draws(explore, "churn", SECRET).of(id_, score)
    if score < 0.4:
        assert found == BY_ITSELF
    else:
        assert found.probability == share
        assert found.passed == found.explored
    assert found == Draws(explore, "churn", SECRET).of(id_, score)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_the_share_that_is_let_through_is_the_stated_one(share: float) -> None:
    draws = Draws(Explore(share, passes_above=0.0), "churn", SECRET)
    rows = 20_000
    through = sum(draws.of(id_, -1.0).passed for id_ in range(rows))
    # One in a million tests of a right share would fail; the seed is the secret's.
    assert binomtest(through, rows, share).pvalue > 1e-6


def test_pipelines_and_secrets_let_others_through() -> None:
    explore = Explore(0.5, passes_below=0.4)

    def through(name: str, secret: bytes) -> list[bool]:
        draws = Draws(explore, name, secret)
        return [draws.of(id_, 0.9).passed for id_ in range(2_000)]

    first = through("churn", SECRET)
    for other in (through("fraud", SECRET), through("churn", b"another secret")):
        same = sum(a == b for a, b in zip(first, other, strict=True))
        assert binomtest(same, 2_000, 0.5).pvalue > 1e-6


def test_a_larger_share_lets_the_same_rows_through_and_more() -> None:
    small, large = (Draws(Explore(s, passes_below=0.4), "churn", SECRET) for s in (0.05, 0.2))
    ids = range(5_000)
    assert {i for i in ids if small.of(i, 0.9).passed} < {i for i in ids if large.of(i, 0.9).passed}


def test_several_scores_cannot_be_cut_off() -> None:
    with pytest.raises(KeepfitError, match="one score of each row"):
        Draws(Explore(0.1, passes_below=0.4), "churn", SECRET).of(1, (0.2, 0.3, 0.5))


# The secret -------------------------------------------------------------------------------

ASKING = "import sys; from pathlib import Path; from keepfit.explore import secret_of; "


def test_processes_that_ask_at_once_have_one_secret(tmp_path: Path) -> None:
    code = f"{ASKING} print(secret_of(Path(sys.argv[1])).hex())"
    home = tmp_path / "home"
    command = [sys.executable, "-c", code, str(home)]
    asked = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = {one.communicate()[0].strip() for one in asked}
    assert told == {secret_of(home).hex()}
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert secret_of(tmp_path / "other").hex() not in told


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_the_secret_is_its_owners_alone(tmp_path: Path) -> None:
    secret_of(tmp_path)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_secret_that_was_cut_short_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(KeepfitError, match="a secret of 32 bytes"):
        secret_of(tmp_path)


# Weights ----------------------------------------------------------------------------------


def rows_of(propensity: list[float | None], passed: list[bool | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {"x": range(len(passed)), "_propensity": propensity, "_passed": passed},
        schema_overrides={"_propensity": pl.Float64, "_passed": pl.Boolean},
    )


def test_what_was_stopped_counts_for_nothing_and_the_rest_by_its_probability() -> None:
    rows = observed(rows_of([None, 0.05, 0.05, 0.2], [None, True, False, True]))
    assert rows.get_column("x").to_list() == [0, 1, 3]
    assert weights(rows, Explore(0.05, passes_below=0.4)).tolist() == [1.0, 20.0, 5.0]  # type: ignore[union-attr]
    seen = weighted(rows)
    assert seen.columns == ["x", "_weight"]
    assert seen.get_column("_weight").to_list() == [1.0, 20.0, 5.0]


@pytest.mark.parametrize(("heaviest", "most"), [(None, 5.0), (8.0, 8.0), (1.0, 1.0)])
def test_no_row_weighs_more_than_is_allowed(heaviest: float | None, most: float) -> None:
    explore = Explore(0.2, passes_below=0.4, heaviest=heaviest)
    found = weights(rows_of([0.01, None], [True, None]), explore)
    assert (1.0 if found is None else found[0]) == most


def test_rows_that_nobody_explored_are_as_they_were() -> None:
    plain = pl.DataFrame({"x": [1, 2]})
    assert observed(plain) is plain
    assert weights(plain) is None
    assert weighted(plain).columns == ["x"]
    assert observed(rows_of([None, None], [None, None])).columns == ["x"]


@given(st.lists(st.sampled_from([None, 0.05, 0.3, 0.4]), max_size=60))
def test_rows_are_repeated_as_often_as_they_weigh(propensity: list[float | None]) -> None:
    rows = rows_of(propensity, [None if one is None else True for one in propensity])
    found = repeated(rows).get_column("x")
    weight = [1.0 if one is None else 1 / one for one in propensity]
    assert found.is_sorted()
    assert abs(found.len() - sum(weight)) <= 1
    counts = dict(found.value_counts().rows())
    assert all(abs(counts[place] - one) < 1.001 for place, one in enumerate(weight))


LEARNERS = {
    "logistic": LogisticRegression(),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "histogram": HistGradientBoostingClassifier(max_iter=20),
    "forest": RandomForestClassifier(10),
    "descent": SGDClassifier(loss="log_loss", random_state=0),
    "lightgbm": LGBMClassifier(n_estimators=20, verbosity=-1),
    "xgboost": XGBClassifier(n_estimators=20),
    "catboost": CatBoostClassifier(iterations=20),
    "line": LinearRegression(),
}
WAYS = [(name, start, update) for name in LEARNERS for start, update in (("scratch", "all"),)]
WAYS += [
    (name, "champion", "all")
    for name in ("logistic", "forest", "descent", "lightgbm", "xgboost", "catboost")
]
WAYS += [(name, "champion", "leaves") for name in ("lightgbm", "xgboost")]


def mixed(heavy: float) -> pl.DataFrame:
    """Return rows of two opposite rules: those of the second weigh so much."""
    rng = np.random.default_rng(0)
    x, second = rng.normal(size=1_200), np.arange(1_200) % 2 == 1
    frame = pl.DataFrame({"_id": range(1_200), "x": x, "_label": ((x > 0) ^ second).astype(int)})
    return frame.with_columns(_weight=np.where(second, heavy, 1.0))


@pytest.mark.parametrize(("name", "start", "update"), WAYS)
def test_a_learner_believes_the_rows_that_weigh_more(name: str, start: str, update: str) -> None:
    learner = learners.resolve(LEARNERS[name])
    assert learners.weighs(learner)
    even = learner.fit(mixed(1.0), start="scratch", update="all", previous=None, seed=0)
    previous = None if start == "scratch" else even
    asked = pl.DataFrame({"x": [-1.0, 1.0]})
    for heavy, falls in ((20.0, True), (0.05, False)):
        model = learner.fit(mixed(heavy), start=start, update=update, previous=previous, seed=0)
        low, high = model.predict(asked).tolist()
        assert (low > high) == falls, (low, high)
        assert model.features == ("x",)


def test_weights_of_rows_and_of_classes_are_multiplied() -> None:
    frame = mixed(5.0)
    by_class = {0: 1.0, 1: 3.0}
    both = frame.with_columns(_weight=pl.col("_weight") * pl.col("_label").replace_strict(by_class))
    fit = {"start": "scratch", "update": "all", "previous": None, "seed": 0}
    for made in (LGBMClassifier(n_estimators=5, verbosity=-1), LogisticRegression()):
        weighing = learners.resolve(made.set_params(class_weight=by_class)).fit(frame, **fit)  # type: ignore[arg-type]
        plain = learners.resolve(made.set_params(class_weight=None)).fit(both, **fit)  # type: ignore[arg-type]
        np.testing.assert_allclose(weighing.predict(frame), plain.predict(frame), rtol=1e-6)


def test_an_objective_of_ones_own_is_not_told_of_weights() -> None:
    def squared(labels: Any, scores: Any) -> Any:
        return scores - labels, np.ones_like(labels)

    assert not learners.weighs(learners.resolve(LGBMRegressor(objective=squared)))
    assert learners.weighs(learners.resolve(LGBMRegressor(objective="huber")))
