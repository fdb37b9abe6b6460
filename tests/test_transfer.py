"""Learners that start from a model of another stream: what is matched, kept, new and said."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from keepfit import Challenger, learners
from keepfit.errors import ConfigError, TrainingError
from keepfit.learners.encoding import Encoding

SMALL = {"n_estimators": 20, "num_leaves": 7, "verbosity": -1, "min_child_samples": 5}


def domain(n: int = 600, seed: int = 0, groups: str = "abc", **more: Any) -> pl.DataFrame:
    """Return rows whose label follows a number and a category, as in every domain."""
    rng = np.random.default_rng(seed)
    value, other = rng.normal(size=n), rng.normal(size=n)
    group = rng.choice(list(groups), size=n)
    effect = np.array(["abcdef".index(one) - 1.0 for one in group])
    label = (value + effect + 0.3 * rng.normal(size=n) > 0).astype(np.int64)
    return pl.DataFrame(
        {"value": value, "other": other, "group": group, "_label": label}
    ).with_columns(**more)


def started(learner: Any, donor: Any, rows: pl.DataFrame, update: str = "all") -> Any:
    made = learners.resolve(learner)
    return made.fit(rows, start="transfer", update=update, previous=donor, seed=3)


def scratch(learner: Any, rows: pl.DataFrame) -> Any:
    made = learners.resolve(learner)
    return made.fit(rows, start="scratch", update="all", previous=None, seed=3)


def accuracy(model: Any, rows: pl.DataFrame) -> float:
    return float(((model.predict(rows) > 0.5) == rows["_label"].to_numpy()).mean())


# Encodings --------------------------------------------------------------------------------


def test_codes_of_a_donor_stay_and_new_categories_come_behind_them() -> None:
    donor = Encoding.learn(domain(groups="bc"))
    grown = donor.adapted(domain(groups="abcd"), grow=True)
    assert grown.columns[2].categories == ("b", "c", "a", "d")
    rows = domain(groups="bc", seed=5)
    assert (grown.matrix(rows) == donor.matrix(rows)).all()


def test_new_columns_come_last_or_are_left_out_with_the_reason() -> None:
    donor = Encoding.learn(domain())
    rows = domain(extra=pl.lit(1.5))
    assert donor.adapted(rows, grow=True).features == ("value", "other", "group", "extra")
    fixed = donor.adapted(rows, grow=False)
    assert fixed.features == ("value", "other", "group")
    assert fixed.dropped["extra"] == "the donor has no place for it"


def test_a_column_that_is_not_here_keeps_its_place_and_is_missing() -> None:
    donor = Encoding.learn(domain())
    adapted = donor.adapted(domain().drop("other"), grow=True)
    assert adapted.features == ("value", "group")
    matrix = adapted.matrix(domain().drop("other"))
    assert matrix.shape == (600, 3)
    assert np.isnan(matrix[:, 1]).all()
    # It stays so when the column comes back.
    assert np.isnan(adapted.matrix(domain())[:, 1]).all()


def test_a_column_of_another_kind_is_not_the_same_column() -> None:
    rows = domain(other=pl.col("group"))
    adapted = Encoding.learn(domain()).adapted(rows, grow=True)
    assert adapted.features == ("value", "group")
    assert "another kind of values" in adapted.dropped["other"]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_moment_is_not_the_number_that_had_its_name(reverse: bool) -> None:
    number = domain()
    moment = number.with_columns(pl.from_epoch(pl.int_range(pl.len())).alias("other"))
    theirs, ours = (moment, number) if reverse else (number, moment)
    learner = LGBMClassifier(**SMALL)
    donor = scratch(learner, theirs)
    report = learners.transferred(donor, started(learner, donor, ours))
    assert report.columns == ("value", "group")
    assert report.gone_columns == report.unused == ("other",)


def test_true_and_false_are_the_number_that_had_their_name() -> None:
    truths = domain().with_columns(pl.col("other") > 0)
    adapted = Encoding.learn(domain()).adapted(truths, grow=True)
    assert adapted.features == ("value", "other", "group")


def test_streams_without_a_column_in_common_are_told_so() -> None:
    rows = domain().rename({"value": "a", "other": "b", "group": "c"})
    with pytest.raises(TrainingError, match="expected rows with a column of 'value', 'other'"):
        Encoding.learn(domain()).adapted(rows, grow=True)


@given(
    st.sets(st.sampled_from("abcdef"), min_size=2), st.sets(st.sampled_from("abcdef"), min_size=2)
)
def test_an_adapted_encoding_reads_what_the_donor_knew_as_the_donor_did(
    theirs: set[str], ours: set[str]
) -> None:
    old = domain(60, groups="".join(sorted(theirs)))
    new = domain(60, seed=1, groups="".join(sorted(ours)))
    donor = Encoding.learn(old)
    grown, fixed = (donor.adapted(new, grow=grow) for grow in (True, False))
    assert (grown.matrix(old) == donor.matrix(old)).all()
    assert not np.isnan(grown.matrix(new)).any()
    unseen = ~new["group"].is_in(list(set(old["group"])))
    assert (np.isnan(fixed.matrix(new)[:, 2]) == unseen.to_numpy()).all()


# LightGBM ---------------------------------------------------------------------------------


def test_trees_are_kept_and_new_ones_read_new_columns_and_categories() -> None:
    learner = LGBMClassifier(**SMALL)
    donor = scratch(learner, domain(groups="abc"))
    rng = np.random.default_rng(9)
    rows = domain(300, seed=1, groups="cde", extra=pl.Series(rng.normal(size=300)))
    rows = rows.with_columns(_label=(pl.col("extra") > 0).cast(pl.Int64))
    model = started(learner, donor, rows)
    assert model.booster.num_trees() == 40
    assert model.importances()["extra"] > 0
    assert accuracy(model, rows) > 0.9
    report = learners.transferred(donor, model)
    assert report.columns == ("value", "other", "group")
    assert report.new_columns == ("extra",)
    assert report.categories == {"group": 2}
    assert report.parts == ("20 trees kept, 20 new",)
    assert report.share == 0.5
    again = learners.loads(model.dumps())
    assert (again.predict(rows) == model.predict(rows)).all()


def test_a_transferred_booster_answers_as_its_donor_before_it_learns() -> None:
    donor = scratch(LGBMClassifier(**SMALL), domain())
    rows = domain(200, seed=2, groups="abcd", extra=pl.lit(0.0))
    known = rows.filter(pl.col("group") != "d")
    adapted = donor.adapted(rows, grow=False)
    assert (adapted.predict(known) == donor.predict(known)).all()


def test_leaves_are_moved_and_no_tree_is_new() -> None:
    learner = learners.LightGBM(LGBMClassifier(**SMALL), decay_rate=0.1)
    donor = scratch(learner, domain())
    rows = domain(400, seed=1).with_columns(_label=1 - pl.col("_label"))
    model = started(learner, donor, rows, "leaves")
    assert accuracy(donor, rows) < 0.2
    assert accuracy(model, rows) > 0.8
    assert learners.transferred(donor, model).parts == ("20 trees kept, their leaves moved",)


def test_a_donor_of_another_kind_is_refused() -> None:
    regressor = scratch(LGBMRegressor(**SMALL), domain(_label=pl.col("value")))
    with pytest.raises(TrainingError, match="can go on with"):
        started(LGBMClassifier(**SMALL), regressor, domain())


def test_a_class_that_the_donor_does_not_know_is_refused() -> None:
    donor = scratch(LGBMClassifier(**SMALL), domain())
    with pytest.raises(TrainingError, match="new class 2"):
        started(LGBMClassifier(**SMALL), donor, domain(_label=pl.col("_label") + 1))


# scikit-learn -----------------------------------------------------------------------------


def test_an_estimator_that_learns_on_goes_on_from_its_donor() -> None:
    learner = SGDClassifier(loss="log_loss", random_state=0)
    donor = scratch(learner, domain(2_000))
    few = domain(40, seed=4, groups="abcd", extra=pl.lit(1.0))
    model = started(learner, donor, few)
    assert accuracy(model, domain(1_000, seed=5)) > 0.8
    assert (model.estimator.coef_ != donor.estimator.coef_).any()
    report = learners.transferred(donor, model)
    assert report.unused == ("extra",)
    assert report.columns == ("value", "other", "group")
    assert "went on from all that SGDClassifier" in report.parts[0]


def test_a_forest_keeps_its_trees() -> None:
    learner = RandomForestClassifier(5, random_state=0)
    donor = scratch(learner, domain())
    model = started(learner, donor, domain(100, seed=1))
    assert len(model.estimator.estimators_) == 10


# PyTorch ----------------------------------------------------------------------------------


def net(**how: Any) -> Any:
    pytest.importorskip("torch")
    return learners.Torch(**{"lr": 0.0, "weight_decay": 0.0, "epochs": 1, "hidden": (8,), **how})


def test_embeddings_grow_and_keep_what_they_knew() -> None:
    donor = scratch(net(lr=0.01, epochs=3), domain(groups="bcd"))
    rows = domain(groups="abcdef", seed=1, extra=pl.col("value"))
    # What does not learn shows what was carried over.
    model = started(net(), donor, rows)
    assert model.head.encoding.columns[2].categories == ("b", "c", "d", "a", "e", "f")
    old, new = (m.net.embeddings["of_group"].weight.detach() for m in (donor, model))
    assert new.shape[0] == 7
    shared = old.shape[1]
    assert (new[:4, :shared] == old).all()
    assert not (new[4:, :shared] == 0).all()
    report = learners.transferred(donor, model)
    assert report.categories == {"group": 3}
    assert report.new_columns == ("extra",)
    assert report.share is not None
    assert 0 < report.share < 1
    assert any(part.startswith("in part: ") for part in report.parts)


def test_a_network_without_one_of_its_columns_keeps_the_others() -> None:
    donor = scratch(net(lr=0.01), domain())
    rows = domain(seed=1).drop("other")
    model = started(net(distil=0.5), donor, rows)
    assert model.features == ("value", "group")
    assert model.transfer.left_columns == ("other",)
    assert np.isfinite(model.predict(rows)).all()


def test_the_same_domain_is_taken_over_whole() -> None:
    rows = domain()
    donor = scratch(net(lr=0.01), rows)
    model = started(net(), donor, rows)
    assert (model.predict(rows) == donor.predict(rows)).all()
    assert learners.transferred(donor, model).share == 1.0


def test_embeddings_of_a_users_own_network_grow_in_their_places() -> None:
    nets = pytest.importorskip("tests.nets")
    learner = net(network=nets.Apart, hidden=(128, 64))
    donor = scratch(net(network=nets.Apart, hidden=(128, 64), lr=0.01), domain(groups="bc"))
    model = started(learner, donor, domain(groups="abcd"))
    old, new = (m.net.inside[0].weight.detach() for m in (donor, model))
    assert (new[:3] == old).all()
    assert new.shape[0] == 5


def moved(donor: Any, model: Any) -> list[str]:
    """Return the weights of a model that are not its donor's."""
    old, new = (m.net.state_dict() for m in (donor, model))
    return [name for name in new if not (new[name] == old[name]).all()]


@pytest.mark.parametrize("own", [True, False], ids=["keepfit's", "the user's"])
def test_a_head_alone_learns_rows_with_columns_and_categories_that_the_donor_lacks(
    own: bool,
) -> None:
    nets = pytest.importorskip("tests.nets")
    learner = net(
        lr=0.01, epochs=3, **({} if own else {"network": nets.Apart, "hidden": (128, 64)})
    )
    donor = scratch(learner, domain(town=pl.col("group").replace("a", "b")))
    rows = domain(groups="abcf", seed=1, town=pl.col("group"), extra=pl.col("value") * 2)
    rows = rows.with_columns(text=pl.concat_list("value", "other"))
    # In another order, and far off the scale of one number.
    rows = rows.select(
        "town", "text", "extra", "group", pl.col("other") * 40 + 1_000, "value", "_label"
    )
    model = started(learner, donor, rows, update="head")
    assert model.features == donor.features == ("value", "other", "group", "town")
    assert {name.partition(".")[0] for name in moved(donor, model)} == {"head"}
    report = learners.transferred(donor, model)
    assert (report.share, report.unused, report.categories) == (1.0, ("extra", "text"), {})
    assert "on a scale of their own: other" in report.parts
    assert np.isfinite(model.predict(rows)).all()


def test_a_head_alone_needs_a_column_that_the_donor_knows() -> None:
    donor = scratch(net(), domain())
    with pytest.raises(TrainingError, match="a column that the donor knows"):
        started(net(), donor, domain().select("_label", more="value"), update="head")


def test_numbers_that_lie_far_off_the_donors_scale_get_their_own() -> None:
    donor = scratch(net(lr=0.01), domain())
    rows = domain(seed=1).with_columns(pl.col("other") * 40 + 1_000)
    model = started(net(), donor, rows)
    scales = {one.name: one for one in model.held.preparation.numbers}
    before = {one.name: one for one in donor.held.preparation.numbers}
    assert scales["value"] == before["value"]
    assert scales["other"].shift == pytest.approx(1_000, rel=0.05)
    assert scales["other"].width == pytest.approx(40, rel=0.2)
    assert "on a scale of their own: other" in learners.transferred(donor, model).parts


# What cannot ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(),
        learners.LightGBM(LGBMClassifier(boosting_type="rf")),
        MLPClassifier(early_stopping=True),
        BaggingClassifier(oob_score=True),
    ],
    ids=["histograms", "rf", "network", "bagging"],
)
def test_an_estimator_that_cannot_go_on_says_so_at_once(estimator: Any) -> None:
    with pytest.raises(ConfigError, match="got start='PIPELINE@VERSION'"):
        Challenger(start="other@champion", learner=estimator)
    with pytest.raises(ConfigError, match="got start='champion'"):
        Challenger(start="champion", learner=estimator)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(),
        MLPClassifier(early_stopping=True, solver="lbfgs", max_iter=9),
        BaggingClassifier(),
        SGDClassifier(early_stopping=True),
        RandomForestClassifier(20, oob_score=True),
    ],
    ids=["network", "lbfgs", "bagging", "descent", "forest"],
)
@pytest.mark.filterwarnings("ignore")
def test_estimators_like_those_go_on(estimator: Any) -> None:
    donor = scratch(estimator, domain())
    assert np.isfinite(started(estimator, donor, domain(seed=1)).predict(domain())).all()
