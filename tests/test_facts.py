from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from keepfit import facts
from keepfit.facts import Answer, Cost, Decision, Fact, Finding, Outcome

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
SNAPSHOT = facts.Snapshot(
    batch=3,
    as_of=NOON,
    selection="Expanding()",
    rows=10,
    digest="d",
    from_=NOON,
    to=NOON,
    excluded=(2,),
)
DRIFT = facts.ColumnDrift(column="age", method="KS", value=0.3, limit=0.1)
YES = Decision(
    train=True,
    trigger="A | B",
    reason="28 d are over",
    evidence={"yes": 1, "due": "2024-01-01"},
    parts=(Decision(train=False, trigger="B", reason="no drift"),),
)
EXAMPLES: list[Fact] = [
    facts.Arrived(batch=1, rows=10, labels=8, cursor="c", digest="d", from_=NOON, to=NOON, late=1),
    facts.Found(
        batch=1, findings=(Finding(check="Nulls", outcome=Outcome.WARN, message="m", value=0.5),)
    ),
    facts.Quarantined(batch=1, rows=10, reason="`age` is all missing"),
    facts.Scored(batch=1, version="v1", metric="roc_auc", value=None, n=0, reason="one class"),
    facts.Compared(batch=2, metric="roc_auc", n=10, values={"v1": 0.7, "v2": 0.71}),
    facts.Estimated(
        batch=2,
        version="v1",
        metric="roc_auc",
        value=0.7,
        n=10,
        low=0.6,
        high=0.8,
        trust=0.9,
        unlike=0.01,
        from_=NOON,
        to=NOON,
    ),
    facts.DetectorAdvanced(batch=1, detector="Columns()", columns=(DRIFT,)),
    facts.Drifted(batch=1, detector="Columns()", columns=(DRIFT,), of=20, rows_to=NOON),
    facts.Assessed(
        batch=1, version="v1", verdict="learn", reasons=("new", "harmful"), rows=10, harm=0.02
    ),
    facts.Probed(
        batch=1,
        version="v1",
        reason="the first since the last training",
        recipe="Expanding()",
        loss="accuracy",
        rows=900,
        stale=0.25,
        fresh=0.22,
        gap=0.03,
        error=0.01,
        drawn=(944, 2000),
        from_=NOON,
        to=NOON,
        training_seconds=4.5,
        cost=Cost(cpu_seconds=0.1),
    ),
    facts.Decided(batch=1, decision=YES, watermark=NOON, turn=1),
    facts.TrainingStarted(
        version="v1",
        turn=1,
        challenger="c",
        snapshot=SNAPSHOT,
        start="scratch",
        update="all",
        seed=0,
        ready_at=NOON,
        key="k",
    ),
    facts.Sampled(version="v1", rows=9, reason="r", cost=Cost(cpu_seconds=2.0), skipped=True),
    facts.Trained(version="v1", artifact="a", reference="r", cost=Cost(cpu_seconds=2.0), code="c"),
    facts.Adopted(
        version="v1",
        artifact="a",
        origin=facts.Origin(
            uri="models:/churn/3", model="churn", version="3", digest="d", flavor="sklearn"
        ),
        trained_to=NOON,
        reason="served so far",
        by="ada",
    ),
    facts.TrainingFailed(version="v1", reason="raised", message="m", cost=Cost()),
    facts.Judged(
        version="v1",
        answer=Answer.PROMOTE,
        verdicts=(facts.Verdict(gate="NoWorse", answer=Answer.PROMOTE, reason="r", low=-0.1),),
    ),
    facts.Promoted(version="v1", reason="no champion yet"),
    facts.RolledOut(
        version="v2",
        champion="v1",
        rollout="churn/v2/9",
        share=0.05,
        stage=2,
        stages=2,
        until=NOON,
        limit=NOON,
        unit="customer",
    ),
    facts.RolledBack(version="v2", to="v1", reason="worse", share=0.05),
    facts.ApprovalAsked(
        version="v2", reason="no worse", until=NOON, remind=timedelta(days=1), replaces="v1"
    ),
    facts.Approved(version="v2", reason="looked at", by="ada"),
    facts.Declined(version="v2", reason="not now", by="ada"),
    facts.Paused(reason="holiday", by="ada"),
    facts.Resumed(reason="back", by="ada"),
    facts.Overridden(what="batch", reason="looked at", by="ada", batch=1),
    facts.Signalled(event="new_prices", data={"list": 7}),
]


def test_there_is_an_example_of_every_kind() -> None:
    assert {fact.kind for fact in EXAMPLES} == set(facts.KINDS)


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: fact.kind)
def test_a_fact_is_read_back_as_it_was_written(fact: Fact) -> None:
    body = facts.encode(fact)
    assert facts.decode(body) == fact
    assert msgspec.json.decode(body)["kind"] == fact.kind


def test_what_is_no_fact_is_refused() -> None:
    for body in (b'{"kind": "Wished"}', b'{"kind": "Promoted"}', b"[]", b"{}"):
        with pytest.raises(msgspec.ValidationError):
            facts.decode(body)


def test_a_field_that_a_newer_version_added_is_passed_over() -> None:
    body = facts.encode(facts.Paused(reason="r")).replace(b"{", b'{"until": "later",', 1)
    assert facts.decode(body) == facts.Paused(reason="r")


def test_two_trainings_that_differ_in_what_they_took_are_comparable() -> None:
    for slow in EXAMPLES:
        if isinstance(slow, facts.Sampled | facts.Trained | facts.TrainingFailed):
            quick = msgspec.structs.replace(slow, cost=Cost(cpu_seconds=1.0, peak_bytes=7))
            assert slow != quick
            assert facts.comparable(slow) == facts.comparable(quick)
        elif isinstance(slow, facts.Probed):
            dear = msgspec.structs.replace(slow, cost=Cost(), training_seconds=9.0)
            assert facts.comparable(slow) == facts.comparable(dear) != slow
        else:
            assert facts.comparable(slow) is slow


def test_a_fact_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        facts.Paused(reason="r").reason = "other"  # type: ignore[misc]


def test_a_column_drifted_when_its_value_is_above_the_limit() -> None:
    assert DRIFT.drifted
    assert not msgspec.structs.replace(DRIFT, value=0.1).drifted
