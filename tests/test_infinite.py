"""Infinite labels count as missing, and what memory holds is what another process would read."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from keepfit import Pipeline, sources
from keepfit.batch import ID, KNOWN_AT, LABEL, TIME, Batch
from keepfit.beside import standard_errors
from keepfit.clock import utc
from keepfit.facts import Answer, Found, Judged, Outcome, Quarantined, Scored, Verdict
from keepfit.ledger import Ledger
from keepfit.past import number
from keepfit.registry import State
from keepfit.registry.level import beneath
from keepfit.registry.versions import Side

ROWS = 480
INF = math.inf


class Wild(LinearRegression):
    """Answers some rows beyond all numbers."""

    def predict(self, table):
        found = super().predict(table)
        found[np.asarray(table)[:, 0] > 2.0] = INF
        return found


def made(home: Path, labels: dict[int, float], estimator=None, every: str = "20min", **more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    y = x + 0.1 * rng.normal(size=ROWS)
    y[list(labels)] = list(labels.values())
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    rows = {
        "id": range(ROWS),
        "time": [begin + timedelta(minutes=i) for i in range(ROWS)],
        "x": x,
        "label": y,
    }
    source = sources.Frame(pl.DataFrame(rows), id="id", time="time", label="label")
    return Pipeline("p", source, estimator or LinearRegression(), home=home, every=every, **more)


def facts_of(path: Path) -> list:
    with Ledger(path) as ledger:
        return [entry.fact for entry in ledger.facts("p")]


@pytest.mark.parametrize("value", [INF, -INF, 1e308])
def test_a_pipeline_lives_on_after_a_label_that_is_no_number(tmp_path: Path, value: float) -> None:
    labels = {301: value, 340: value}
    first = made(tmp_path, labels)
    first.run(once=True)
    assert "healthy" in str(first.status())
    first.run(once=True)
    known = first.loop().state.dumps()
    read = State().fold(first.loop().memory.ledger.facts("p"))
    assert known == read.dumps()
    first.close()
    second = made(tmp_path, labels)
    second.run(once=True)
    assert second.loop().state.champion == read.champion
    second.close()
    facts = facts_of(tmp_path)
    scored = [one for one in facts if isinstance(one, Scored)]
    assert len(scored) > 10
    told = [f for one in facts if isinstance(one, Found) for f in one.findings]
    said = [one.message for one in told if "infinite" in one.message and one.check == "source"]
    if math.isinf(value):
        assert said == [
            "1 of 20 labels is infinite and counts as missing (id 301)",
            "1 of 20 labels is infinite and counts as missing (id 340)",
        ]
        assert all(one.value is not None and one.value < 1 for one in scored)
        assert sorted(one.n for one in scored)[:3] == [19, 19, 20]
    else:
        assert not said
    assert not any(isinstance(one, Quarantined) for one in facts)


@pytest.mark.parametrize(("value", "metric"), [(INF, None), (-INF, "rmse"), (1e308, "rmse")])
def test_a_backtest_of_all_policies_lives_on_too(tmp_path: Path, value: float, metric) -> None:
    pipeline = made(tmp_path, dict.fromkeys(range(7, ROWS, 50), value), every="1h", metric=metric)
    result = pipeline.backtest(compare="all", jobs=1)
    pipeline.close()
    assert len(result.policies) > 5
    if math.isinf(value):
        assert all(one.value is None or one.value < 1 for one in result.policies)


def test_a_model_that_answers_beyond_all_numbers_does_not_end_the_loop(tmp_path: Path) -> None:
    pipeline = made(tmp_path, {}, Wild())
    pipeline.run(once=True)
    pipeline.run(once=True)
    state = pipeline.loop().state
    assert state.dumps() == State().fold(pipeline.loop().memory.ledger.facts("p")).dumps()
    pipeline.close()


def test_a_batch_tells_of_infinite_labels_and_leaves_them_out() -> None:
    at = [utc("2024-01-01")] * 5
    labels = pl.DataFrame(
        {ID: range(5), LABEL: [1.0, INF, -INF, None, INF], TIME: at, KNOWN_AT: at}
    )
    batch = Batch(rows=labels.clear(), labels=labels, cursor="")
    assert batch.labels.get_column(LABEL).to_list() == [1.0, None]
    [told] = batch.findings
    assert told.outcome is Outcome.WARN
    assert told.message == "3 of 5 labels are infinite and count as missing (id 1, 2, 4)"
    alone = Batch(rows=labels.clear(), labels=labels[1:3], cursor="")
    assert alone.labels.is_empty()
    assert not alone.empty, "what is told of it would be lost"
    whole = labels.with_columns(pl.col(ID).alias(LABEL))
    assert Batch(rows=labels.clear(), labels=whole, cursor="").labels is whole


def test_what_was_appended_is_returned_as_it_is_read() -> None:
    verdict = Verdict(gate="g", answer=Answer.REFUSE, reason="", value=-INF, low=math.nan)
    fact = Judged(version="v1", answer=Answer.REFUSE, verdicts=(verdict,), value=INF)
    with Ledger(":memory:") as ledger:
        ledger.append("p", [fact], at=utc("2024-01-01"))
        entries = ledger.appended("p", [fact, fact], at=utc("2024-01-02"))
        assert entries == list(ledger.facts("p", after=1))
        assert [entry.seq for entry in entries] == [2, 3]
        with ledger.together():
            waiting = ledger.appended("p", [fact], at=utc("2024-01-03"))
        assert waiting == list(ledger.facts("p", after=3))
        assert ledger.appended("p", [], at=utc("2024-01-03")) == []


@pytest.mark.parametrize("value", [INF, -INF, math.nan])
def test_a_value_that_is_not_finite_is_none(value: float) -> None:
    assert number(value) is None
    assert number(1e308) == 1e308


def test_values_whose_squares_are_no_numbers_are_compared_all_the_same() -> None:
    usual = [1.0, 1.1, 0.9, 1.0, 1.05]
    for unit in (1.0, 1e200, 1e308, 1e-300, 0.0):
        values = [value * unit for value in usual]
        assert (beneath(-2.0 * min(unit, 5e307), values) > 3.0) is (unit > 0)
        assert not beneath(0.95 * unit, values) > 3.0
    pairs = [Side(n=20, values={})] * 5
    assert not standard_errors([1e200, -1e200, 1e200, -1e200, 1e200], pairs) > 1
