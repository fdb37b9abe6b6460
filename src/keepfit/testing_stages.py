"""What every check, detector, trigger and selection must do, a stranger's too."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keepfit.batch import Batch, Roles
from keepfit.facts import (
    AnyFact,
    Arrived,
    ColumnDrift,
    Decided,
    Decision,
    Drifted,
    Finding,
    Found,
    Scored,
    Signalled,
    decode,
    encode,
)
from keepfit.profile import Profile
from keepfit.protocols import (
    Check,
    CheckContext,
    Detector,
    Evidence,
    Moment,
    Selection,
    Trigger,
)

if TYPE_CHECKING:
    import polars as pl

_START = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


def check_check(check: Check) -> None:
    """Assert that a check answers findings about any batch, and changes nothing.

    Examples
    --------
    >>> from keepfit import checks
    >>> check_check(checks.Nulls())

    Raises
    ------
    AssertionError
        The check breaks a promise; the message says which, and on what batch.
    """
    assert isinstance(check, Check), f"{check!r} has no name or no method check()"
    assert check.name, f"{check!r} has an empty name"
    reference = Profile.of(_rows(400, seed=1))
    for place, rows in _batches():
        labels = rows.select("_id", _label=_numbers(rows.height, 2))
        for known in (None, reference):
            batch = Batch(rows=rows, labels=labels, cursor="")
            context = CheckContext(
                now=_START + 9 * _DAY,
                roles=Roles(time="time", id="id", label="label"),
                number=9,
                reference=known,
                arrived=[_arrived(number) for number in range(1, 9)],
            )
            before = rows.clone()
            findings = tuple(check.check(batch, context))
            where = f"{check.name} on {place}, {'with' if known else 'without'} a reference"
            assert findings, f"{where}: expected one finding or more, got none"
            assert all(isinstance(one, Finding) and one.message for one in findings), (
                f"{where}: expected findings with a message, got {findings!r}"
            )
            _kept(Found(batch=9, findings=findings), where)
            assert tuple(check.check(batch, context)) == findings, f"{where}: not the same twice"
            assert rows.equals(before), f"{where}: the rows were changed"


def check_detector(detector: Detector) -> None:
    """Assert that a detector is quiet on its reference, sees what is gone, and orders columns.

    Examples
    --------
    >>> from keepfit import drift
    >>> check_detector(drift.Columns())

    Raises
    ------
    AssertionError
        The detector breaks a promise; the message says which, and on what rows.
    """
    assert isinstance(detector, Detector), f"{detector!r} has no name or no method check()"
    assert detector.name, f"{detector!r} has an empty name"
    reference = Profile.of(_rows(2_000, seed=1))
    stored = Profile.loads(reference.dumps())
    for place, rows in _batches():
        where = f"{detector.name} on {place}"
        before = rows.clone()
        found = tuple(detector.check(reference, rows))
        _measured(found, where)
        assert tuple(detector.check(stored, rows)) == found, f"{where}: a stored reference differs"
        assert rows.equals(before), f"{where}: the rows were changed"
    still = detector.check(reference, _rows(1_000, seed=2))
    moved = [one.column for one in still if one.drifted]
    assert not moved, f"{detector.name}: {moved} did not move and are called drifted"
    gone = {one.column: one for one in detector.check(reference, _rows(500, seed=2).drop("number"))}
    assert gone.get("number") is None or gone["number"].drifted, (
        f"{detector.name}: the column `number` is gone and is not called drifted"
    )


def check_trigger(trigger: Trigger) -> None:
    """Assert that a trigger is a pure function whose answers can be kept.

    Examples
    --------
    >>> from keepfit import triggers
    >>> check_trigger(triggers.Every("28d") | triggers.OnDecay())

    Raises
    ------
    AssertionError
        The trigger breaks a promise; the message says which, and on what evidence.
    """
    assert isinstance(trigger, Trigger), f"{trigger!r} has no method decide()"
    for place, evidence in _evidences():
        where = f"{trigger!r} {place}"
        before = copy.deepcopy(evidence)
        decision = trigger.decide(evidence)
        assert isinstance(decision, Decision), f"{where}: expected a Decision, got {decision!r}"
        assert decision.reason, f"{where}: a {'yes' if decision.train else 'no'} without a reason"
        assert decision.trigger, f"{where}: the decision does not say which trigger it is"
        assert evidence == before, f"{where}: the evidence was changed"
        assert trigger.decide(before) == decision, f"{where}: not the same twice"
        _kept(Decided(batch=9, decision=decision), where)


def check_selection(selection: Selection) -> None:
    """Assert that a selection chooses an ordered part of the rows, the same every time.

    Examples
    --------
    >>> from keepfit import selection
    >>> check_selection(selection.Sliding("7d"))

    Raises
    ------
    AssertionError
        The selection breaks a promise; the message says which, and on what rows.
    """
    import polars as pl

    assert isinstance(selection, Selection), f"{selection!r} has no method select()"
    for place, rows in (
        ("200 rows", _labelled(200)),
        ("one row", _labelled(1)),
        ("no rows", _labelled(0)),
    ):
        for since in (None, _START - _DAY, _START + 3 * _DAY, _START + 99 * _DAY):
            where = f"{selection!r} on {place}, trained before to {since}"
            moment = Moment(as_of=_START + 50 * _DAY, since=since, seed=7)
            before = rows.clone()
            chosen = selection.select(rows, moment)
            assert rows.equals(before), f"{where}: the rows were changed"
            assert chosen.schema == rows.schema, f"{where}: other columns or types"
            assert chosen["_id"].is_unique().all(), f"{where}: a row was chosen twice"
            part = rows.filter(pl.col("_id").is_in(chosen["_id"].implode()))
            assert chosen.equals(part), f"{where}: rows added, changed or out of order"
            again = selection.select(rows.clone(), moment)
            assert chosen.equals(again), f"{where}: not the same twice"


def _kept(fact: Found | Decided, where: str) -> None:
    assert decode(encode(fact)) == fact, f"{where}: the ledger does not give back what it was given"


def _measured(found: tuple[ColumnDrift, ...], where: str) -> None:
    names = [one.column for one in found]
    assert len(names) == len(set(names)), f"{where}: a column came twice, {names!r}"
    for one in found:
        assert math.isfinite(one.value), f"{where}: `{one.column}` has the value {one.value!r}"
        assert 0 < one.limit < math.inf, f"{where}: `{one.column}` has the limit {one.limit!r}"
    ratios = [one.value / one.limit for one in found]
    assert ratios == sorted(ratios, reverse=True), f"{where}: the worst column does not come first"


def _rows(count: int, *, seed: int) -> pl.DataFrame:
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    times = pl.Series([_START + timedelta(minutes=i) for i in range(count)], dtype=_time())
    return pl.DataFrame(
        {
            "_id": pl.Series(range(count), dtype=pl.Int64),
            "_time": times,
            "_arrived_at": times,
            "number": rng.normal(size=count),
            "whole": rng.integers(0, 50, count),
            "text": rng.choice(["a", "b", "c"], count),
            "flag": rng.random(count) < 0.5,
            "holes": np.where(rng.random(count) < 0.3, np.nan, rng.normal(size=count)),
            "constant": [1.0] * count,
            "empty": pl.Series([None] * count, dtype=pl.Float64),
        }
    )


def _batches() -> Iterator[tuple[str, pl.DataFrame]]:
    import polars as pl

    rows = _rows(300, seed=2)
    number = pl.col("number")
    yield "300 rows", rows
    yield "no rows", rows.clear()
    yield "one row", rows.head(1)
    yield "a column gone", rows.drop("number", "text")
    yield "a new column", rows.with_columns(new=number)
    yield "text for numbers", rows.with_columns(number.cast(pl.String))
    yield "all missing", rows.with_columns(pl.lit(None).alias(name) for name in ("number", "text"))
    yield "infinite values", rows.with_columns(number / 0.0)
    yield (
        "one wild value",
        rows.with_columns(
            pl.when(pl.col("_id") == 7).then(1e300).otherwise(number).alias("number")
        ),
    )
    yield "new categories", rows.with_columns(text=pl.lit("new"))
    yield "a list column", rows.with_columns(number=pl.concat_list("number", "holes"))
    yield "no features", rows.select("_id", "_time", "_arrived_at")


def _labelled(count: int) -> pl.DataFrame:
    import polars as pl

    times = pl.Series([_START + timedelta(hours=i // 3) for i in range(count)], dtype=_time())
    frame = pl.DataFrame({"_id": pl.Series(range(count), dtype=pl.Int64), "_time": times})
    return frame.with_columns(_label=_numbers(count, 2), x=_numbers(count, 7))


def _numbers(count: int, modulus: int) -> pl.Series:
    import polars as pl

    return pl.Series([i % modulus for i in range(count)], dtype=pl.Int64)


def _time() -> pl.DataType:
    import polars as pl

    return pl.Datetime("us", "UTC")


def _arrived(number: int) -> Arrived:
    return Arrived(
        batch=number,
        rows=300,
        labels=300,
        cursor="",
        digest="",
        from_=_START + (number - 1) * _DAY,
        to=_START + number * _DAY,
    )


def _evidences() -> Iterator[tuple[str, Evidence]]:
    moment = _START + 40 * _DAY
    nothing = Evidence(now=_START, watermark=_START, first_at=_START)
    moved = ColumnDrift(column="age", method="KS", value=0.5, limit=0.1)
    facts: list[AnyFact] = [
        *(_arrived(number) for number in range(1, 40)),
        Drifted(batch=3, detector="Columns()", columns=(moved,), of=9, rows_to=_START + 3 * _DAY),
        Signalled(event="new_prices"),
        *(
            Scored(
                batch=n, version="v1", metric="roc_auc", value=value, n=300, to=_START + n * _DAY
            )
            for n, value in enumerate([0.7, None, 0.6, 0.5, 0.5, 0.4, 0.3], start=1)
        ),
    ]
    yield "before anything came", nothing
    yield (
        "before any champion",
        Evidence(now=moment, watermark=moment, first_at=_START, labelled=500),
    )
    for promised in (None, 0.7):
        yield (
            f"with a champion that promised {promised}",
            Evidence(
                now=moment + _DAY,
                watermark=moment,
                first_at=_START,
                trained_at=_START + _DAY,
                champion="v1",
                trained_to=_START + _DAY,
                labelled=9_000,
                labelled_to=moment - _DAY,
                promised=promised,
                facts=tuple(facts),
                trainings=((_START + _DAY, 12.5),),
            ),
        )
