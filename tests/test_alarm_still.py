"""Columns that become constant or lose all their values: said at once, once, and only if new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from keepfit.batch import TIME
from keepfit.drift import Alarms, Reference
from keepfit.drift.alarms.still import _constant
from keepfit.facts import ColumnDrift
from keepfit.results.sentences import moved

EVERY = timedelta(days=7)
ROWS = 7 * 24


def frame(rng, start, weeks):
    """Return hours of a number that wanders widely from week to week, and others beside it."""
    rows = weeks * ROWS
    first = datetime(2024, 1, 1, tzinfo=UTC) + start * EVERY
    level = np.repeat(rng.normal(0, 2, weeks), ROWS)
    rain = np.where(np.repeat(np.arange(weeks) % 2, ROWS) == 0, 0.0, rng.gamma(1.0, size=rows))
    return pl.DataFrame(
        {
            TIME: [first + timedelta(hours=i) for i in range(rows)],
            "price": level + rng.normal(size=rows),
            "town": rng.choice(["a", "b", "c", "d"], rows),
            "rain": rain,
            "rare": np.where(rng.random(rows) < 0.02, 1.0, 0.0),
        }
    )


def fitted(rng, weeks, thin=1, **options):
    detector = Alarms("1 per 364d", **options)
    past = frame(rng, -weeks, weeks).gather_every(thin)
    return detector, Reference.fit(past, detectors=[detector], every=EVERY)


def said(detector, reference, batches, state=None):
    found = []
    for batch in batches:
        got = detector.accumulate(reference, batch, state)
        state = got.state
        found.append({one.column: one for one in got.alarm})
    return found, state


BROKEN = {
    "constant number": ("price", pl.lit(0.5)),
    "constant category": ("town", pl.lit("b")),
    "missing number": ("price", pl.lit(None, dtype=pl.Float64)),
    "missing category": ("town", pl.lit(None, dtype=pl.String)),
    "constant with gaps": (
        "price",
        pl.when(pl.int_range(pl.len()) % 100 < 40).then(None).otherwise(0.5),
    ),
    "not a number": ("price", pl.lit(float("nan"))),
}


@pytest.mark.parametrize("thin", [1, 5])
@pytest.mark.parametrize("weeks", [2, 3, 4, 8, 13])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_column_that_breaks_alarms_in_the_first_batch_of_a_short_reference(
    seed, broken, weeks, thin
):
    name, value = BROKEN[broken]
    rng = np.random.default_rng([seed, weeks, thin])
    detector, reference = fitted(rng, weeks, thin)
    batches = [frame(rng, week, 1).with_columns(value.alias(name)) for week in range(4)]
    found, _ = said(detector, reference, batches)
    assert name in found[0]
    assert found[0][name].value > found[0][name].limit > 0.01
    assert not any(name in one for one in found[1:])


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ([0.5, None, float("nan"), 0.5], True),
        ([None, 0.5, 1.0], False),
        ([7] * 99 + [8], False),
        (["a", "b"], False),
        ([[1, 2], [1, 2]], True),
        ([[1, 2], [2, 1]], False),
    ],
)
def test_a_column_is_constant_where_all_its_values_are_one(values, constant):
    assert _constant(pl.Series(values)) is constant


def test_it_is_said_again_when_it_has_moved_in_between(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 4)
    usual = [frame(rng, week, 1) for week in range(4)]
    stuck = usual[0].with_columns(price=pl.lit(1.0))
    found, _ = said(detector, reference, [stuck, stuck, usual[1], stuck])
    assert [one["price"].method if "price" in one else "" for one in found] == [
        "constant",
        "",
        "",
        "constant",
    ]


def test_another_reference_does_not_say_it_again(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 4)
    stuck = frame(rng, 0, 1).with_columns(price=pl.lit(1.0))
    _, state = said(detector, reference, [stuck])
    lasting = {key: value for key, value in state.items() if key in ("anchor", "muted")}
    found, _ = said(detector, fitted(rng, 5)[1], [stuck], lasting)
    assert "price" not in found[0]


def test_what_often_stands_still_is_no_alarm(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 6)
    dry = frame(rng, 0, 1).with_columns(rain=pl.lit(0.0), rare=pl.lit(0.0))
    found, _ = said(detector, reference, [dry])
    assert not {"rain", "rare"} & set(found[0])


def test_a_column_that_is_left_out_may_stand_still(seed):
    rng = np.random.default_rng(seed)
    detector, reference = fitted(rng, 4, exclude=["price"])
    found, _ = said(detector, reference, [frame(rng, 0, 1).with_columns(price=pl.lit(1.0))])
    assert "price" not in found[0]


def test_no_limit_is_zero(seed):
    rng = np.random.default_rng(seed)
    past = frame(rng, -26, 26).with_columns(price=rng.normal(size=26 * ROWS), flag=0.0)
    detector = Alarms("1 per 364d")
    reference = Reference.fit(past, detectors=[detector], every=EVERY)
    batches = [
        frame(rng, week, 1).with_columns(
            price=rng.normal(size=ROWS), flag=(pl.int_range(pl.len()) < 20).cast(pl.Float64)
        )
        for week in range(6)
    ]
    found, _ = said(detector, reference, batches)
    flags = [one["flag"] for one in found if "flag" in one]
    assert flags
    assert all(one.value > one.limit >= 2 / ROWS for one in flags)


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [
        (0.31, 0.12, "x: KS 0.31 > 0.12"),
        (0.0071, 0.003, "x: KS 0.0071 > 0.0030"),
        (0.0, 0.0031, "x: KS 0.0000 ≤ 0.0031"),
    ],
)
def test_a_small_limit_is_not_shown_as_zero(value, limit, words):
    assert moved(ColumnDrift(column="x", method="KS", value=value, limit=limit)) == words
