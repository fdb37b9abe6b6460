"""What every drift detector promises, as a check that one of your own can be put to."""

from __future__ import annotations

import math

from keepfit.drift import Reference
from keepfit.facts import ColumnDrift
from keepfit.protocols import Detector
from keepfit.testing import made


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
    reference = Reference.fit(made.rows(2_000, seed=1), detectors=[detector])
    stored = Reference.loads(reference.dumps())
    for place, rows in made.batches():
        where = f"{detector.name} on {place}"
        before = rows.clone()
        found = tuple(detector.check(reference, rows))
        _measured(found, where)
        assert tuple(detector.check(stored, rows)) == found, f"{where}: a stored reference differs"
        assert rows.equals(before), f"{where}: the rows were changed"
    still = detector.check(reference, made.rows(1_000, seed=2))
    moved = [one.column for one in still if one.drifted]
    assert not moved, f"{detector.name}: {moved} did not move and are called drifted"
    gone = {
        one.column: one for one in detector.check(reference, made.rows(500, seed=2).drop("number"))
    }
    assert gone.get("number") is None or gone["number"].drifted, (
        f"{detector.name}: the column `number` is gone and is not called drifted"
    )


def _measured(found: tuple[ColumnDrift, ...], where: str) -> None:
    names = [one.column for one in found]
    assert len(names) == len(set(names)), f"{where}: a column came twice, {names!r}"
    for one in found:
        assert math.isfinite(one.value), f"{where}: `{one.column}` has the value {one.value!r}"
        assert 0 < one.limit < math.inf, f"{where}: `{one.column}` has the limit {one.limit!r}"
    ratios = [one.value / one.limit for one in found]
    assert ratios == sorted(ratios, reverse=True), f"{where}: the worst column does not come first"
