"""Leaves of LightGBM's trees that learn from new rows, and what must not change in them."""

from __future__ import annotations

import re
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

from keepfit.learners import leaves
from keepfit.learners.lightgbm import BoosterModel
from tests.trainings import accuracy, fit, labelled

QUIET: dict[str, Any] = {"verbosity": -1, "n_jobs": 1, "n_estimators": 20, "num_leaves": 7}


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4))


def trained(estimator: Any, table: np.ndarray, known: np.ndarray) -> Any:
    return estimator.fit(table, known).booster_


def text_of(booster: Any) -> str:
    text: str = booster.model_to_string(num_iteration=-1)
    return text


def moved(booster: Any, table: np.ndarray, known: np.ndarray, **settings: Any) -> Any:
    places = np.asarray(booster.predict(table, pred_leaf=True), dtype=np.int64)
    places = places.reshape(len(table), -1)
    text = leaves.moved(text_of(booster), places, known, **({"keep": 0.9} | settings))
    return lgb.Booster(model_str=text)


def binary(seed: int = 0, count: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    table = rows(count, seed)
    return table, (table[:, 0] + table[:, 1] ** 2 > 1).astype(int)


def numbers(seed: int = 0, count: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    table = rows(count, seed)
    return table, 1_000 + 3 * table[:, 0] + table[:, 1]


KINDS = {
    "binary": (lgb.LGBMClassifier, binary),
    "multiclass": (
        lgb.LGBMClassifier,
        lambda **k: (t := rows(2_000, 0), np.digitize(t[:, 0], [-0.5, 0.5])),
    ),
    "regression": (lgb.LGBMRegressor, numbers),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_all_is_kept_of_does_not_change_and_the_text_is_read_whole(kind: str) -> None:
    make, data = KINDS[kind]
    table, known = data()
    booster = trained(make(**QUIET), table, known)
    assert leaves.known(text_of(booster))
    again = moved(booster, table[:300], known[:300], keep=1.0)
    assert np.array_equal(again.predict(table), booster.predict(table))
    assert again.num_trees() == booster.num_trees()
    sizes = re.search(r"^tree_sizes=(.*)$", text_of(again), re.MULTILINE)
    assert sizes is not None
    assert len(sizes[1].split()) == booster.num_trees()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_leaves_without_rows_stay_as_they_are(kind: str) -> None:
    make, data = KINDS[kind]
    table, known = data()
    booster = trained(make(**QUIET), table, known)
    one = table[:1].repeat(50, axis=0)
    again = moved(booster, one, known[:1].repeat(50))
    places = np.asarray(booster.predict(table, pred_leaf=True)).reshape(len(table), -1)
    apart = (places != places[0]).all(axis=1)
    assert apart.any()
    assert np.array_equal(again.predict(table[apart]), booster.predict(table[apart]))
    assert not np.array_equal(again.predict(one[:1]), booster.predict(one[:1]))


def test_an_average_far_from_zero_is_not_forgotten_as_the_librarys_own_refit_forgets_it() -> None:
    table, known = numbers()
    booster = trained(lgb.LGBMRegressor(**QUIET), table, known)
    half = table[:, 0] > 0.5
    ours = moved(booster, table[half][:60], known[half][:60])
    theirs = booster.refit(table[half][:60], known[half][:60], decay_rate=0.9)
    other = table[:, 0] < -1
    assert np.abs(ours.predict(table[other]) - known[other]).mean() < 1.0
    assert np.abs(theirs.predict(table[other]) - known[other]).mean() > 10.0


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_tree_that_sees_its_own_rows_again_with_labels_moved_takes_its_share(keep: float) -> None:
    table, known = numbers()
    booster = trained(lgb.LGBMRegressor(**(QUIET | {"n_estimators": 1})), table, known)
    again = moved(booster, table, known + 10.0, keep=keep)
    change = again.predict(table) - booster.predict(table)
    assert change.mean() == pytest.approx((1 - keep) * 10.0, rel=0.15)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_few_rows_do_not_leave_leaves_to_a_penalty(kind: str) -> None:
    make, data = KINDS[kind]
    table, known = data()
    booster = trained(make(**QUIET, reg_lambda=50.0), table, known)
    again = booster
    for first in range(0, 2_000, 100):
        again = moved(again, table[first : first + 100], known[first : first + 100], keep=0.5)
    told, before = again.predict(table), booster.predict(table)
    # With all of it beside a twentieth of the rows, leaves would be a fraction of what they were.
    assert np.std(told) > 0.9 * np.std(before)


def test_it_follows_labels_that_changed_and_passes_what_it_was_told() -> None:
    table, known = binary(count=4_000)
    frame = pl.DataFrame(table, schema=["a", "b", "c", "d"])
    first = labelled(known, **{name: frame[name] for name in frame.columns})
    turned = labelled(1 - known, **{name: frame[name] for name in frame.columns})
    champion = fit(lgb.LGBMClassifier(**QUIET), first)
    model = champion
    for _ in range(40):
        model = fit(lgb.LGBMClassifier(**QUIET), turned, model, "leaves")
    assert accuracy(champion, turned) < 0.1
    assert accuracy(model, turned) > 0.9


def test_weights_count_as_rows_do() -> None:
    table, known = binary()
    booster = trained(lgb.LGBMClassifier(**QUIET), table, known)
    some, labels = table[:200], 1 - known[:200]
    twice = moved(booster, np.vstack([some, some]), np.concatenate([labels, labels]))
    weighed = moved(booster, some, labels, weight=np.full(200, 2.0))
    assert np.allclose(twice.predict(table), weighed.predict(table))


@pytest.mark.parametrize(
    "estimator",
    [
        lgb.LGBMRegressor(objective="poisson", **QUIET),
        lgb.LGBMRegressor(objective="huber", **QUIET),
        lgb.LGBMRegressor(reg_alpha=0.5, **QUIET),
        lgb.LGBMRegressor(linear_tree=True, **QUIET),
        lgb.LGBMClassifier(scale_pos_weight=3.0, **QUIET),
        lgb.LGBMClassifier(is_unbalance=True, **QUIET),
        lgb.LGBMClassifier(objective="cross_entropy", **QUIET),
        lgb.LGBMClassifier(objective="binary", sigmoid=2.0, **QUIET),
    ],
    ids=["poisson", "huber", "alpha", "linear", "scaled", "unbalanced", "entropy", "sigmoid"],
)
def test_what_is_not_known_here_is_left_to_the_library(estimator: Any) -> None:
    table, known = binary()
    assert not leaves.known(text_of(trained(estimator, table, known)))


def test_a_model_of_stumps_that_found_nothing_moves_with_the_average() -> None:
    table = np.zeros((100, 4))
    known = np.arange(100, dtype=float)
    booster = trained(lgb.LGBMRegressor(**QUIET), table, known)
    again = moved(booster, table, known + 100.0)
    assert again.predict(table[:1])[0] == pytest.approx(59.5, abs=0.6)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_trees_of_numbers_answer_every_row_with_one_and_odd_leaves_leave_it_open(kind: str) -> None:
    estimator, make = KINDS[kind]
    table, known = make()
    text = text_of(trained(estimator(**QUIET), table, known))
    assert leaves.finite(text)
    assert np.isfinite(lgb.Booster(model_str=text).predict(np.full((1, 4), np.inf))).all()
    for odd in ("nan", "inf", "-inf"):
        assert not leaves.finite(re.sub(r"\nleaf_value=\S+", f"\nleaf_value={odd}", text, count=1))


def test_of_trees_whose_answers_may_overflow_it_is_left_open_that_they_are_numbers() -> None:
    table = rows(500, 0)
    counts = np.exp(table[:, 0]).round()
    booster = trained(lgb.LGBMRegressor(**QUIET, objective="poisson"), table, counts)
    assert not leaves.finite(text_of(booster))


def test_a_model_with_an_odd_leaf_is_asked_and_one_of_numbers_is_not() -> None:
    model = fit(lgb.LGBMClassifier(**QUIET), labelled(np.arange(100) % 2, a=np.arange(100.0)))
    assert model.finite
    odd = BoosterModel(model.head, re.sub(r"leaf_value=\S+", "leaf_value=nan", model.text, count=1))
    assert not odd.finite
