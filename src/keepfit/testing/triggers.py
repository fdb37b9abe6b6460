"""What every trigger promises, as a check that one of your own can be put to."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from keepfit.facts import (
    AnyFact,
    ColumnDrift,
    Decided,
    Decision,
    Drifted,
    Probed,
    Scored,
    Signalled,
)
from keepfit.protocols import Evidence, Trigger
from keepfit.testing import made


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
        made.kept(Decided(batch=9, decision=decision), where)


def _evidences() -> Iterator[tuple[str, Evidence]]:
    moment = made.START + 40 * made.DAY
    nothing = Evidence(now=made.START, watermark=made.START, first_at=made.START)
    moved = ColumnDrift(column="age", method="KS", value=0.5, limit=0.1)
    facts: list[AnyFact] = [
        *(made.arrived(number) for number in range(1, 40)),
        Drifted(
            batch=3, detector="Columns()", columns=(moved,), of=9, rows_to=made.START + 3 * made.DAY
        ),
        Signalled(event="new_prices"),
        *(
            Scored(
                batch=n,
                version="v1",
                metric="roc_auc",
                value=value,
                n=300,
                to=made.START + n * made.DAY,
            )
            for n, value in enumerate([0.7, None, 0.6, 0.5, 0.5, 0.4, 0.3], start=1)
        ),
        *(_probed(n, gap) for n, gap in enumerate([0.0, 0.01, 0.05], start=1)),
    ]
    yield "before anything came", nothing
    yield (
        "before any champion",
        Evidence(now=moment, watermark=moment, first_at=made.START, labelled=500),
    )
    for promised in (None, 0.7):
        yield (
            f"with a champion that promised {promised}",
            Evidence(
                now=moment + made.DAY,
                watermark=moment,
                first_at=made.START,
                trained_at=made.START + made.DAY,
                champion="v1",
                trained_to=made.START + made.DAY,
                labelled=9_000,
                labelled_to=moment - made.DAY,
                promised=promised,
                facts=tuple(facts),
                trainings=((made.START + made.DAY, 12.5),),
                probed=tuple(_probed(n, 0.001 * n) for n in range(1, 6)),
            ),
        )


def _probed(number: int, gap: float) -> Probed:
    return Probed(
        batch=number,
        version="v1",
        reason="the first since the last training",
        recipe="Expanding()",
        loss="accuracy",
        rows=900,
        stale=0.3,
        fresh=0.3 - gap,
        gap=gap,
        error=0.01,
        age=100 * number,
        training_seconds=4.5,
    )
