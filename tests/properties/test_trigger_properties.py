"""What holds of every trigger, on every run of facts."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit import triggers
from keepfit.facts import (
    Arrived,
    ColumnDrift,
    Cost,
    Decided,
    Drifted,
    Estimated,
    Overridden,
    Quarantined,
    Scored,
    Signalled,
    TrainingFailed,
    decode,
    encode,
)
from keepfit.protocols import Evidence, Trigger

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

moments = st.integers(0, 400).map(lambda hours: START + timedelta(hours=6 * hours))
batches = st.integers(1, 30)
finite = st.floats(0, 1) | st.floats(-1e9, 1e9)
facts = st.lists(
    st.one_of(
        st.builds(
            Arrived,
            batch=batches,
            rows=st.integers(0, 500),
            labels=st.just(0),
            cursor=st.just(""),
            digest=st.just(""),
        ),
        st.builds(Quarantined, batch=batches, rows=st.integers(0, 500), reason=st.just("broken")),
        st.builds(
            Overridden,
            what=st.just("batch"),
            reason=st.just("r"),
            by=st.just("ada"),
            batch=st.none() | batches,
        ),
        st.builds(Signalled, event=st.sampled_from(["prices", "shop"])),
        st.builds(
            Drifted,
            batch=batches,
            detector=st.just("Columns()"),
            columns=st.lists(
                st.builds(
                    ColumnDrift,
                    column=st.sampled_from("abc"),
                    method=st.just("KS"),
                    value=st.floats(0, 1),
                    limit=st.just(0.1),
                ),
                max_size=3,
            ).map(tuple),
            of=st.just(3),
            rows_to=st.none() | moments,
        ),
        st.builds(
            Scored,
            batch=batches,
            version=st.sampled_from(["v1", "v2"]),
            metric=st.just("roc_auc"),
            value=st.none() | finite,
            n=st.integers(0, 500),
            low=st.none() | finite,
            high=st.none() | finite,
            from_=st.none() | moments,
            to=st.none() | moments,
        ),
        st.builds(
            Estimated,
            batch=batches,
            version=st.sampled_from(["v1", "v2"]),
            metric=st.just("roc_auc"),
            value=finite,
            n=st.integers(0, 500),
            low=finite,
            high=finite,
            trust=st.floats(0, 1),
            unlike=st.floats(0, 1),
            from_=st.none() | moments,
            to=st.none() | moments,
        ),
        st.builds(
            TrainingFailed,
            version=st.just("v2"),
            reason=st.just("raised"),
            message=st.just(""),
            cost=st.just(Cost()),
            retry_at=st.none() | moments,
        ),
    ),
    max_size=25,
)
evidences = st.builds(
    Evidence,
    now=moments,
    watermark=moments,
    first_at=st.just(START),
    trained_at=st.none() | moments,
    champion=st.none() | st.just("v1"),
    trained_to=st.none() | moments,
    labelled=st.integers(0, 1_000),
    labelled_to=st.none() | moments,
    promised=st.none() | finite,
    greater_is_better=st.booleans(),
    facts=facts,
    trainings=st.lists(st.tuples(moments, st.floats(0, 500)), max_size=5),
)
leaves = st.one_of(
    st.builds(triggers.Every, st.sampled_from(["1d", "28d", "0 3 * * 1"])),
    st.builds(triggers.AfterRows, st.integers(1, 2_000), labelled=st.booleans()),
    st.builds(triggers.OnEvent, st.none() | st.just("prices")),
    st.builds(triggers.OnDrift, at_least=st.integers(1, 3)),
    st.builds(
        triggers.OnDecay,
        st.none() | st.floats(0, 0.1),
        alarms=st.sampled_from(["1 per 90d", "3 per 30d"]),
    ),
)


def joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda pair: pair[0] | pair[1]),
        pairs.map(lambda pair: pair[0] & pair[1]),
        pairs.map(lambda pair: pair[0] & ~pair[1]),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda many: triggers.AtLeast(len(many), *many)
        ),
    )


rules = st.recursive(leaves, joined, max_leaves=5)
guarded = st.builds(
    triggers.Guarded,
    rules,
    cooldown=st.none() | st.just("3d"),
    budget=st.none() | st.sampled_from(["2 per 30d", "600s per 30d"]),
    enough=st.integers(1, 500),
    max_age=st.none() | st.just("40d"),
)


@settings(max_examples=200)
@given(rules | guarded, evidences)
def test_a_trigger_says_the_same_of_the_same_facts_and_changes_none(
    trigger: Trigger, evidence: Evidence
) -> None:
    before = copy.deepcopy(evidence)
    first = trigger.decide(evidence)
    assert trigger.decide(evidence) == first == copy.deepcopy(trigger).decide(before)
    assert evidence == before
    assert first.reason
    decided = Decided(batch=1, decision=first)
    assert decode(encode(decided)) == decided


@given(rules)
def test_a_trigger_is_written_as_python_that_makes_it(rule: triggers.Rule) -> None:
    assert eval(repr(rule), vars(triggers)) == rule


@given(st.lists(leaves, min_size=2, max_size=4), evidences)
def test_joins_follow_logic(parts: list[Any], evidence: Evidence) -> None:
    said = [part.decide(evidence).train for part in parts]
    assert triggers.AnyOf(*parts).decide(evidence).train == any(said)
    assert triggers.AllOf(*parts).decide(evidence).train == all(said)
    for n in range(1, len(parts) + 1):
        assert triggers.AtLeast(n, *parts).decide(evidence).train == (sum(said) >= n)
    assert (parts[0] & ~parts[1]).decide(evidence).train == (said[0] and not said[1])


@given(guarded, evidences)
def test_a_guard_only_ever_holds_back_or_forces_for_age(
    guards: triggers.Guarded, evidence: Evidence
) -> None:
    decision = guards.decide(evidence)
    inner = guards.trigger.decide(evidence)
    assert decision.parts == (inner,)
    if decision.train:
        assert evidence.labelled >= guards.enough
        assert inner.train or decision.trigger in ("first", "max_age")
    if decision.evidence["held_by"]:
        assert not decision.train


def lived(trigger: Trigger, stream: list[Any], promised: float) -> list[int]:
    """Return the batches at which a trigger trains, its evidence starting anew after each."""
    trained, since, trained_at = [], [], None
    for number, fact in enumerate(stream):
        since.append(fact)
        moment = START + (number + 1) * 7 * DAY
        evidence = Evidence(
            now=moment,
            watermark=moment,
            first_at=START,
            trained_at=trained_at,
            champion="v1",
            trained_to=trained_at,
            labelled=100,
            labelled_to=moment,
            promised=promised,
            facts=tuple(since),
        )
        if trigger.decide(evidence).train:
            trained.append(number)
            since, trained_at = [], moment
    return trained


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_on_a_still_stream_the_rate_of_decay_alarms_returns_to_the_budget(
    noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weeks = 600
    values = 0.7 + rng.normal(0, noise, weeks)
    values[:10] -= 0.1
    stream = [
        Scored(
            batch=i,
            version="v1",
            metric="roc_auc",
            value=float(value),
            n=2_000,
            low=float(value) - 0.02,
            high=float(value) + 0.02,
            from_=START + i * 7 * DAY,
            to=START + (i + 1) * 7 * DAY,
        )
        for i, value in enumerate(values)
    ]
    trained = lived(triggers.OnDecay(alarms="1 per 70d"), stream, promised=0.7)
    assert trained[0] < 6
    quiet = [number for number in trained if number >= 20]
    # 58 alarms in 580 weeks are the budget; counts around it are no wider than Poisson's.
    assert len(quiet) <= 58 + 2.33 * 58**0.5


@pytest.mark.parametrize(
    ("trigger", "most"),
    [
        (triggers.Every("28d"), 26),
        (triggers.AfterRows(400), 26),
        (triggers.Guarded(triggers.AfterRows(1), cooldown="28d", enough=1), 26),
    ],
    ids=repr,
)
def test_after_it_fires_a_trigger_starts_anew(trigger: Trigger, most: int) -> None:
    stream = [Arrived(batch=i, rows=100, labels=0, cursor="", digest="") for i in range(104)]
    trained = lived(trigger, stream, promised=0.7)
    assert len(trained) in (most - 1, most)
    assert set(np.diff(trained)) == {4}
