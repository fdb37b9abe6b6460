"""Leaves of rows looked up in tables: they are those that LightGBM finds."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.learners.paths import BLOCK, TOGETHER, Paths
from keepfit.learners.texts import Trees
from tests.test_leaves import QUIET, text_of

NUMBERS, CODES = (0, 1, 2), (3, 4)


def table_of(count: int, seed: int, *, missing: float = 0.0) -> np.ndarray:
    """Return three columns of numbers and two of codes, (count, 5)."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 3)).round(1)
    codes = np.column_stack([random.integers(0, 70, count), random.integers(0, 4, count)])
    table = np.asfortranarray(np.hstack([numbers, codes]))
    table[random.random(table.shape) < missing] = np.nan
    return table


def grown(*, missing: float = 0.0, codes: tuple[int, ...] = (), **more: Any) -> Any:
    table = table_of(1_500, 0, missing=missing)
    told = np.nan_to_num(table)
    known = (told[:, 0] * told[:, 1] > 0.2) ^ (told[:, 3] % 7 < 3) ^ (told[:, 4] == 2)
    estimator = lgb.LGBMClassifier(**(QUIET | {"num_leaves": 31, "min_child_samples": 5} | more))
    return estimator.fit(table, known, categorical_feature=list(codes) or "auto").booster_


def paths_of(booster: Any) -> Paths | None:
    trees = Trees.apart(text_of(booster))[0]
    return Paths.of(trees, np.zeros((len(trees.parts), 1), dtype=np.int64))


def found(booster: Any, table: np.ndarray) -> np.ndarray:
    """Return the leaves that LightGBM finds, (trees, rows)."""
    return np.asarray(booster.predict(table, pred_leaf=True)).reshape(len(table), -1).T


GROWN = {
    "numbers": {},
    "missing": {"missing": 0.1},
    "codes": {"codes": CODES, "missing": 0.1},
    "stumps": {"num_leaves": 2},
    "wide": {"num_leaves": 64, "min_child_samples": 1},
    "many": {"n_estimators": TOGETHER + 5, "num_leaves": 4},
}


@pytest.fixture(scope="module", params=sorted(GROWN))
def both(request: pytest.FixtureRequest) -> tuple[Any, Paths]:
    booster = grown(**GROWN[request.param])
    paths = paths_of(booster)
    assert paths is not None
    return booster, paths


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, BLOCK + 50), st.sampled_from([1.0, 1e-3, 1e300]))
def test_leaves_are_those_that_lightgbm_finds(
    both: tuple[Any, Paths], seed: int, count: int, scale: float
) -> None:
    booster, paths = both
    table = table_of(count, seed, missing=0.2)
    random = np.random.default_rng(seed)
    table[:, NUMBERS] *= scale
    table[:, CODES[0]] += random.choice([0.0, 0.5, -3.0, 1e6], count)
    table[random.random(table.shape) < 0.1] = 0.0
    table[random.random(table.shape) < 0.05] = np.inf
    table[random.random(table.shape) < 0.05] = -np.inf
    # What is no whole number of 32 bits is no code, and LightGBM leaves open what it makes of it.
    table[:, CODES] = np.where(np.isinf(table[:, CODES]), np.nan, table[:, CODES])
    np.testing.assert_array_equal(paths.leaves(table), found(booster, table))


def test_numbers_at_a_threshold_go_left_and_the_next_ones_right(both: tuple[Any, Paths]) -> None:
    booster, paths = both
    trees = Trees.apart(text_of(booster))[0]
    lines = [one for line in trees.lines("threshold") for one in line.split()]
    at = np.array([float(one) for one in lines if one != "inf"])
    table = np.repeat(at, 5).reshape(-1, 5)
    for rows in (table, np.nextafter(table, np.inf), np.nextafter(table, -np.inf)):
        rows = np.clip(rows, -1e9, 1e9)
        np.testing.assert_array_equal(paths.leaves(rows), found(booster, rows))


def test_trees_that_found_nothing_to_split_have_one_leaf() -> None:
    booster = lgb.LGBMRegressor(**QUIET).fit(np.zeros((100, 2)), np.arange(100.0)).booster_
    paths = paths_of(booster)
    assert paths is not None
    rows = np.ones((3, 2))
    np.testing.assert_array_equal(paths.leaves(rows), found(booster, rows))


@pytest.mark.parametrize(
    "odd",
    [{"zero_as_missing": True}, {"num_leaves": 65, "min_child_samples": 1}],
    ids=["zeros", "leaves"],
)
def test_of_trees_that_tables_cannot_hold_there_are_none(odd: dict[str, Any]) -> None:
    assert paths_of(grown(**odd)) is None


def test_a_threshold_that_is_no_number_is_left_to_lightgbm() -> None:
    trees, lines = Trees.apart(text_of(grown(n_estimators=1)))
    text = trees.written([np.array(lines[0].split(), dtype=float)]).replace(
        "threshold=", "threshold=x", 1
    )
    assert Paths.of(Trees.apart(text)[0], np.zeros((1, 1), dtype=np.int64)) is None


@pytest.mark.parametrize("kind", sorted(GROWN))
def test_gains_are_those_that_lightgbm_adds_up(kind: str) -> None:
    text = text_of(grown(**GROWN[kind]))
    expected = lgb.Booster(model_str=text).feature_importance(importance_type="gain")
    np.testing.assert_array_equal(Trees.apart(text)[0].gains(5), expected)


def test_a_text_taken_apart_is_put_together_again() -> None:
    text = text_of(grown(codes=CODES))
    trees, lines = Trees.apart(text)
    again = trees.written([np.array(line.split(), dtype=float) for line in lines])
    booster = lgb.Booster(model_str=again)
    table = table_of(50, 1)
    assert Trees.apart(again)[0].key == trees.key
    np.testing.assert_array_equal(
        booster.predict(table), lgb.Booster(model_str=text).predict(table)
    )
