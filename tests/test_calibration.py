"""Recalibration: what scores say is mended, how they rank is kept, and the model inside stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from keepfit import Challenger, gates, learners, selection, triggers
from keepfit.errors import ConfigError, LabelsMissing, TrainingError
from keepfit.learners import maps
from keepfit.learners.calibration import CalibratedModel
from keepfit.reproduce import reproduce
from keepfit.results import Why
from keepfit.testing.learners import rows_to_learn
from tests.worlds import DAY, START, live, pipeline, play, stream

SMALL = {"n_estimators": 20, "num_leaves": 7, "verbosity": -1}


def rows(
    n: int, positive: float, seed: int = 0, classes: int = 2, apart: float = 1.0
) -> pl.DataFrame:
    """Return rows whose classes look alike whatever their shares: a prior shift moves these alone."""
    rng = np.random.default_rng(seed)
    rest = (1.0 - positive) / (classes - 1)
    shares = [rest] * (classes - 1) + [positive]
    label = rng.choice(classes, size=n, p=shares)
    x = apart * label + rng.normal(size=n)
    return pl.DataFrame({"x": x, "y": rng.normal(size=n), "_label": label})


def champion(learner: Any, given_rows: pl.DataFrame) -> Any:
    made = learners.resolve(learner)
    return made.fit(given_rows, start="scratch", update="all", previous=None, seed=0)


def recalibrated(base: Any, given_rows: pl.DataFrame, **how: Any) -> CalibratedModel:
    return learners.Calibration(**how).fit(
        given_rows, start="champion", update="calibration", previous=base, seed=0
    )


@pytest.mark.parametrize(
    ("n", "method"), [(120, "prior"), (1_000, "platt"), (12_000, "isotonic")], ids=str
)
def test_the_rows_at_hand_choose_the_map_and_each_mends_a_prior_shift(n: int, method: str) -> None:
    base = champion(LogisticRegression(), rows(4_000, 0.5))
    model = recalibrated(base, rows(n, 0.1, seed=1))
    assert model.map.method == method
    judges = rows(5_000, 0.1, seed=2)
    known = judges["_label"].to_numpy()
    before, after = base.predict(judges), model.predict(judges)
    assert log_loss(known, after) < log_loss(known, before) - 0.1
    assert roc_auc_score(known, after) == pytest.approx(roc_auc_score(known, before), abs=1e-12)
    assert after.mean() == pytest.approx(0.1, abs=0.03)


def test_shares_are_met_without_labels_where_the_old_ones_are_known() -> None:
    # The further apart classes lie, the surer rows without labels tell their shares.
    base = champion(LogisticRegression(), rows(4_000, 0.5, apart=3.0))
    unlabelled = rows(4_000, 0.1, seed=1, apart=3.0).with_columns(
        _label=pl.lit(None, dtype=pl.Int64)
    )
    model = recalibrated(base, unlabelled, prior=0.5)
    assert model.predict(unlabelled).mean() == pytest.approx(0.1, abs=0.02)
    with pytest.raises(LabelsMissing):
        recalibrated(base, unlabelled)


@pytest.mark.parametrize(("n", "method"), [(90, "prior"), (900, "platt"), (9_000, "isotonic")])
def test_several_classes_are_mended_too(n: int, method: str) -> None:
    base = champion(LogisticRegression(), rows(6_000, 1 / 3, classes=3))
    model = recalibrated(base, rows(n, 0.7, seed=1, classes=3), method=method)
    judges = rows(5_000, 0.7, seed=2, classes=3)
    known = judges["_label"].to_numpy()
    after = model.predict(judges)
    assert after.shape == (5_000, 3)
    assert np.allclose(after.sum(axis=1), 1.0)
    assert log_loss(known, after) < log_loss(known, base.predict(judges)) - 0.05


@pytest.mark.parametrize(
    ("n", "method"), [(20, "linear"), (400, "linear"), (3_000, "isotonic")], ids=str
)
def test_values_are_moved_to_where_they_lie_now(n: int, method: str) -> None:
    def values(count: int, seed: int, rise: float = 0.0) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=count)
        return pl.DataFrame({"x": x, "_label": 2 * x + rise + 0.1 * rng.normal(size=count)})

    base = champion(LGBMRegressor(**SMALL), values(2_000, 0))
    model = recalibrated(base, values(n, 1, rise=5.0))
    assert model.map.method == method
    judges = values(2_000, 2, rise=5.0)
    wrong = np.abs(model.predict(judges) - judges["_label"].to_numpy()).mean()
    assert wrong < 1.0 < np.abs(base.predict(judges) - judges["_label"].to_numpy()).mean()


def test_a_recalibrated_model_is_a_model_with_the_champion_inside() -> None:
    base = champion(LGBMClassifier(**SMALL), rows_to_learn("binary"))
    model = recalibrated(base, rows_to_learn("binary", seed=1))
    again = learners.loads(model.dumps())
    given_rows = rows_to_learn("binary", seed=2)
    assert (again.predict(given_rows) == model.predict(given_rows)).all()
    assert again.dumps() == model.dumps()
    assert again.base.dumps() == base.dumps()
    assert again.features == base.features
    assert again.importances() == base.importances()
    assert again.classes == base.classes
    assert again.predict(given_rows.head(0)).shape == (0,)


def test_maps_are_replaced_and_never_nested() -> None:
    base = champion(LogisticRegression(), rows(2_000, 0.5))
    once = recalibrated(base, rows(1_000, 0.2, seed=1))
    twice = recalibrated(once, rows(1_000, 0.8, seed=2))
    assert twice.base is base
    assert twice.digest == once.digest
    alone = recalibrated(base, rows(1_000, 0.8, seed=2))
    assert twice.dumps() == alone.dumps()


def test_scores_that_rank_the_wrong_way_round_are_not_turned_around() -> None:
    base = champion(LogisticRegression(), rows(2_000, 0.5))
    turned = rows(600, 0.3, seed=1).with_columns(_label=1 - pl.col("_label"))
    assert recalibrated(base, turned, method="platt").map.method == "prior"


def test_labels_of_other_classes_alone_are_refused() -> None:
    base = champion(LogisticRegression(), rows(500, 0.5))
    with pytest.raises(TrainingError, match="expected labels that the champion knows"):
        recalibrated(base, rows(100, 0.5).with_columns(_label=pl.col("_label") + 7))


def test_nothing_to_recalibrate_is_told() -> None:
    with pytest.raises(TrainingError, match="expected a champion to recalibrate"):
        recalibrated(None, rows(100, 0.5))


@pytest.mark.parametrize(
    "how", [{"method": "plat"}, {"prior": 1.5}, {"prior": (0.5, 0.6)}], ids=str
)
def test_settings_are_checked_at_once(how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        learners.Calibration(**how)


# Maps -------------------------------------------------------------------------------------

probabilities = st.lists(st.floats(0.001, 0.999), min_size=8, max_size=60, unique=True)


@settings(max_examples=60)
@given(probabilities, st.integers(0, 2**31), st.sampled_from(["isotonic", "platt", "prior"]))
def test_every_map_of_probabilities_rises_and_stays_between_0_and_1(
    scores: list[float], seed: int, method: str
) -> None:
    given_scores = np.array(scores)
    hits = np.random.default_rng(seed).random(given_scores.size) < given_scores
    if method == "isotonic":
        made = maps.Map("isotonic", knots=(maps.isotonic(given_scores, hits, probabilities=True),))
    elif method == "platt":
        line = maps.platt(given_scores, hits)
        if line is None:
            return
        made = maps.Map("platt", slopes=(line[0],), points=(line[1],))
    else:
        made = maps.prior_shift(given_scores, maps.shares_of(hits.astype(int), given_scores))
    grid = np.linspace(0.0, 1.0, 201)
    mapped = made.apply(grid)
    assert (np.diff(mapped) >= -1e-12).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert np.isfinite(mapped).all()
    apart = np.sort(given_scores)
    apart = apart[np.r_[True, np.diff(apart) > 1e-3]]
    if method != "platt":
        assert (np.diff(made.apply(apart)) > 0).all()


def test_levels_that_differ_by_rounding_alone_are_one() -> None:
    scores, known = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.1 + 0.2, 0.5, 0.6])
    assert known[0] < known[1]
    knots = maps.isotonic(scores, known, probabilities=False)
    assert [at for at, _ in knots] == pytest.approx([0.15, 0.3, 0.4])
    made = maps.Map("isotonic", knots=(knots,), probabilities=False)
    assert (np.diff(made.apply(scores)) > 1e-3).all()


@given(probabilities, st.floats(0.05, 0.95))
def test_a_prior_shift_meets_the_shares_it_is_given(scores: list[float], share: float) -> None:
    made = maps.prior_shift(np.array(scores), np.array([1 - share, share]))
    assert made.apply(np.array(scores)).mean() == pytest.approx(share, abs=1e-4)


def test_scores_that_say_what_is_are_left_as_they_are() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.02, 0.98, size=50_000)
    hits = rng.random(scores.size) < scores
    slope, point = maps.platt(scores, hits) or (0.0, 0.0)
    assert (slope, point) == pytest.approx((1.0, 0.0), abs=0.05)
    knots = maps.isotonic(scores, hits, probabilities=True)
    grid = np.linspace(0.05, 0.95, 50)
    assert np.abs(maps.Map("isotonic", knots=(knots,)).apply(grid) - grid).max() < 0.05


@pytest.mark.parametrize("base", [0.01, 0.1])
def test_few_rows_of_classes_as_rare_as_ever_hardly_move_scores(base: float) -> None:
    rng = np.random.default_rng(1)
    moved = []
    for _ in range(60):
        hits = rng.random(20) < base
        # What a model that knows the classes says: their shares, times how much a row tells.
        scores = 1 / (
            1 + np.exp(-(1.5 * rng.normal(1.5 * hits) - 1.125 + np.log(base / (1 - base))))
        )
        made = maps.prior_shift(scores, maps.shares_of(hits.astype(int), scores))
        moved.append(made.apply(scores).mean() / scores.mean())
    assert np.median(moved) == pytest.approx(1.0, abs=0.25)


def test_shares_of_many_rows_are_those_of_their_labels() -> None:
    known = np.repeat([0, 1, 2], [7_000, 2_990, 10])
    found = maps.shares_of(known, np.full((10_000, 3), 1 / 3))
    assert found == pytest.approx([0.7, 0.299, 0.001], abs=0.001)


# In a pipeline ----------------------------------------------------------------------------


def rarer(days: int, per_day: int, at: int) -> pl.DataFrame:
    """Return a stream whose second class becomes rare on a day, and looks as before."""
    frame = stream(days, per_day, noise=1.0)
    rng = np.random.default_rng(5)
    late = frame["time"] >= START + at * DAY
    gone = late & (frame["label"] == 1) & pl.Series(rng.random(frame.height) < 0.85)
    return frame.filter(~gone)


def lived(home: Path, **parts: Any) -> Any:
    defaults: dict[str, Any] = {
        "metric": "log_loss",
        "trigger": triggers.Every("5d"),
        "challengers": [
            Challenger(select=selection.Expanding(), every=100),
            Challenger(update="calibration"),
        ],
        "gate": [gates.NoWorse(within=0.01, min_blocks=2)],
        "learner": LGBMClassifier(**SMALL),
    }
    loop = live(pipeline(rarer(24, 300, at=12), home, **(defaults | parts)), START + 24 * DAY)
    play(loop, 1)
    return loop


def test_a_prior_shift_is_followed_without_training_anew(tmp_path: Path) -> None:
    loop = lived(tmp_path / "home")
    champion_ = loop.state.versions[loop.state.champion]
    assert champion_.update == "calibration"
    assert champion_.start == "champion"
    assert champion_.parent is not None
    scored = [one.value for one in loop.state.since if type(one).__name__ == "Scored"]
    assert scored
    model = loop.scorer.model(champion_)
    assert isinstance(model, CalibratedModel)
    assert not isinstance(model.base, CalibratedModel)
    assert model.digest == loop.state.versions["v1"].artifact
    assert reproduce(loop, champion_.name).same
    told = repr(Why.of("churn", loop.state, champion_.name, loop.memory.ledger.facts("churn")))
    assert f"all of model {model.digest[:8]}, with" in told


def test_maps_say_what_they_are() -> None:
    assert "shares" in str(maps.Map("prior", points=(0.0, 1.0)))
    assert str(maps.Map("platt", slopes=(0.5,), points=(-1.0,))).endswith("0.5 and -1")
    assert "2 levels" in str(maps.Map("isotonic", knots=(((0.1, 0.2), (0.5, 0.6)),)))


def test_a_warm_start_goes_on_from_the_model_inside(tmp_path: Path) -> None:
    loop = lived(
        tmp_path / "home",
        challengers=[
            Challenger(select=selection.Expanding(), every=100),
            Challenger(update="calibration"),
            Challenger(select=selection.SinceLast(), start="champion", update="leaves", every=2),
        ],
        gate=[],
    )
    versions = loop.state.versions.values()
    after = [
        one
        for one in versions
        if one.update == "leaves"
        and one.parent
        and loop.state.versions[one.parent].update == "calibration"
    ]
    assert after
    assert all(one.state != "failed" for one in after)


def test_a_recalibrated_champion_ties_at_a_gate_on_ranks(tmp_path: Path) -> None:
    loop = lived(
        tmp_path / "home", metric="roc_auc", gate=[gates.NoWorse(within=0.001, min_blocks=2)]
    )
    judged = [one.judged for one in loop.state.versions.values() if one.update == "calibration"]
    values = [(one.value, one.champion_value) for one in judged if one is not None]
    assert values
    assert all(new == pytest.approx(old, abs=1e-9) for new, old in values)


def test_calibration_starts_from_the_champion_on_rows_it_has_not_seen() -> None:
    recipe = Challenger(update="calibration")
    assert recipe.start == "champion"
    assert recipe.select == selection.SinceLast()
    assert recipe.name == "SinceLast, from champion, calibration"
    assert isinstance(recipe.learner, learners.Calibration)
    own = learners.Calibration(method="platt")
    assert Challenger(update="calibration", learner=own).learner is own
    with pytest.raises(ConfigError, match="expected a way that LGBMClassifier"):
        Challenger(update="calibration", learner=LGBMClassifier())


def test_a_pipeline_of_calibration_alone_has_nothing_to_calibrate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a challenger that trains the first model"):
        pipeline(stream(2), tmp_path, challengers=[Challenger(update="calibration")])


@pytest.mark.parametrize("sure", [1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 2.0])
def test_a_line_over_log_odds_is_the_best_one_however_over_sure_scores_are(
    sure: float, shift: float
) -> None:
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=4_000)
    hits = rng.random(z.size) < 1 / (1 + np.exp(-(z + shift)))
    scores = 1 / (1 + np.exp(-np.clip(sure * z, -20, 20)))
    found = maps.platt(scores, hits)
    assert found is not None
    odds = np.log(scores / (1 - scores))
    best = LogisticRegression(C=1e8, max_iter=2_000).fit(odds[:, None], hits)
    least = log_loss(hits, best.predict_proba(odds[:, None])[:, 1])
    ours = log_loss(hits, maps.Map("platt", *((one,) for one in found)).apply(scores))
    assert ours == pytest.approx(least, abs=1e-4)
