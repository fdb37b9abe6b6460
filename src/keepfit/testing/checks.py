"""What every check promises, as a check that one of your own can be put to."""

from __future__ import annotations

from keepfit.batch import Batch, Roles
from keepfit.facts import Finding, Found
from keepfit.profile import Profile
from keepfit.protocols import Check, CheckContext
from keepfit.testing import made


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
    reference = Profile.of(made.rows(400, seed=1))
    for place, rows in made.batches():
        labels = rows.select("_id", _label=made.numbers(rows.height, 2))
        for known in (None, reference):
            batch = Batch(rows=rows, labels=labels, cursor="")
            context = CheckContext(
                now=made.START + 9 * made.DAY,
                roles=Roles(time="time", id="id", label="label"),
                number=9,
                reference=known,
                arrived=[made.arrived(number) for number in range(1, 9)],
            )
            before = rows.clone()
            findings = tuple(check.check(batch, context))
            where = f"{check.name} on {place}, {'with' if known else 'without'} a reference"
            assert findings, f"{where}: expected one finding or more, got none"
            assert all(isinstance(one, Finding) and one.message for one in findings), (
                f"{where}: expected findings with a message, got {findings!r}"
            )
            made.kept(Found(batch=9, findings=findings), where)
            assert tuple(check.check(batch, context)) == findings, f"{where}: not the same twice"
            assert rows.equals(before), f"{where}: the rows were changed"
