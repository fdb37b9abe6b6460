"""What holds of a trigger that weighs, whatever its probes measured."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit import triggers
from keepfit.facts import Arrived, Decided, Drifted, Probed, Scored, decode, encode
from keepfit.protocols import Evidence

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = 500

numbers = st.floats(-1.0, 1.0) | st.floats(-1e9, 1e9)
probes = st.builds(
    Probed,
    batch=st.integers(1, 30),
    version=st.sampled_from(["v1", "v2"]),
    reason=st.just("asked"),
    recipe=st.just("Expanding()"),
    loss=st.sampled_from(["accuracy", "mae"]),
    rows=st.integers(20, 2_000),
    stale=numbers,
    fresh=numbers,
    gap=numbers,
    error=st.floats(0, 1) | st.floats(0, 1e9),
    scale=st.floats(1e-3, 1e6),
    age=st.integers(0, 20_000),
    training_seconds=st.none() | st.floats(0, 1e6),
)
others = st.one_of(
    st.builds(
        Arrived,
        batch=st.integers(1, 30),
        rows=st.integers(0, 900),
        labels=st.just(0),
        cursor=st.just(""),
        digest=st.just(""),
    ),
    st.builds(
        Scored,
        batch=st.integers(1, 30),
        version=st.just("v1"),
        metric=st.just("accuracy"),
        value=st.none() | st.floats(0, 1),
        n=st.just(100),
    ),
    st.builds(
        Drifted,
        batch=st.integers(1, 30),
        detector=st.just("KS()"),
        columns=st.just(()),
        of=st.just(3),
    ),
)
evidences = st.builds(
    Evidence,
    now=st.just(START),
    watermark=st.just(START),
    first_at=st.just(START),
    champion=st.none() | st.just("v1"),
    labelled=st.integers(0, 2_000),
    greater_is_better=st.booleans(),
    facts=st.lists(probes | others, max_size=20).map(tuple),
    probed=st.lists(probes, max_size=8).map(tuple),
)
prices = st.one_of(
    st.builds(triggers.Pays, worth=st.floats(1e-3, 1e3)),
    st.builds(triggers.Pays, per_error=st.floats(1e-3, 1e3), per_cpu_second=st.floats(0, 1e3)),
)


@given(prices, evidences)
def test_the_same_facts_get_the_same_answer_in_words_that_can_be_kept(
    trigger: triggers.Pays, evidence: Evidence
) -> None:
    before = copy.deepcopy(evidence)
    decision = trigger.decide(evidence)
    assert decision == copy.deepcopy(trigger).decide(before)
    assert trigger.wants_probe(evidence) == trigger.wants_probe(before)
    assert evidence == before
    assert decision.reason
    kept = Decided(batch=1, decision=decision)
    assert decode(encode(kept)) == kept


@given(evidences, st.floats(1e-3, 1e3), st.floats(1.0, 1e3))
def test_whoever_trains_at_a_price_trains_at_a_lower_one(
    evidence: Evidence, price: float, dearer: float
) -> None:
    cheap = triggers.Pays(per_error=1.0, per_cpu_second=price)
    dear = triggers.Pays(per_error=1.0, per_cpu_second=price * dearer)
    assert cheap.decide(evidence).train >= dear.decide(evidence).train
    less, more = triggers.Pays(worth=price), triggers.Pays(worth=price * dearer)
    assert more.decide(evidence).train >= less.decide(evidence).train


@given(prices)
def test_a_trigger_that_weighs_is_written_as_python_that_makes_it(trigger: triggers.Pays) -> None:
    assert eval(repr(trigger), vars(triggers)) == trigger


def lived(
    trigger: triggers.Pays, gap: Callable[[int, int], float], batches: int, seed: int
) -> tuple[list[int], int]:
    """Return the batches at which a trigger trains, and how many probes it took.

    ``gap(batch, trained)`` is the true gap; a probe sees it through the noise of its rows.
    """
    rng = np.random.default_rng(seed)
    trained, taken, at = [], 0, 0
    since: list[Any] = []
    before: list[Probed] = []
    for batch in range(1, batches + 1):
        since.append(Arrived(batch=batch, rows=ROWS, labels=ROWS, cursor="", digest=""))
        age = (batch - at) * ROWS
        if trigger.wants_probe(_evidence(batch, age, since, before)):
            rows = min(age // 2, 2_000)
            error = 0.4 / rows**0.5
            since.append(_probed(batch, gap(batch, at) + rng.normal(0, error), error, rows, age))
            taken += 1
        if trigger.decide(_evidence(batch, age, since, before)).train:
            before = [*before, *(one for one in since if isinstance(one, Probed))][-64:]
            trained.append(batch)
            since, at = [], batch
    return trained, taken


def _probed(batch: int, gap: float, error: float, rows: int, age: int) -> Probed:
    return Probed(
        batch=batch,
        version="v1",
        reason="asked",
        recipe="Expanding()",
        loss="accuracy",
        rows=rows,
        stale=0.3,
        fresh=0.3 - gap,
        gap=float(gap),
        error=error,
        age=age,
    )


def _evidence(batch: int, labelled: int, since: list[Any], before: list[Probed]) -> Evidence:
    moment = START + batch * DAY
    return Evidence(
        now=moment,
        watermark=moment,
        first_at=START,
        champion="v1",
        labelled=labelled,
        facts=tuple(since),
        probed=tuple(before),
    )


def test_on_a_still_stream_it_hardly_trains_and_hardly_probes(seed: int) -> None:
    lives = [lived(triggers.Pays(), lambda batch, at: 0.0, 200, seed + i) for i in range(6)]
    # Training with every batch would be 1,200 trainings: of a hundred, at most three are in vain.
    assert sum(len(trained) for trained, _ in lives) <= 36
    assert sum(taken for _, taken in lives) <= 300


@pytest.mark.parametrize("rate", [0.002, 0.008])
@pytest.mark.parametrize("worth", [0.1, 1.0])
def test_where_the_gap_opens_evenly_it_trains_about_as_often_as_is_best(
    rate: float, worth: float, seed: int
) -> None:
    trained, _ = lived(triggers.Pays(worth=worth), lambda batch, at: rate * (batch - at), 200, seed)
    # Trained every n batches, a batch costs price / n + rate * n / 2: least at this n.
    best = (2 * 0.01 / worth / rate) ** 0.5
    assert 0.8 * best <= 200 / len(trained) <= 2.5 * best


def test_it_trains_within_a_few_batches_of_a_gap_that_opens_at_once(seed: int) -> None:
    def jumps(batch: int, at: int) -> float:
        return 0.15 if batch >= 100 > at else 0.0

    for i in range(6):
        trained, _ = lived(triggers.Pays(), jumps, 140, seed + i)
        first = next(batch for batch in trained if batch >= 100)
        # The next probe is due when the rows have grown by a quarter.
        assert first <= 126


def test_dearer_trainings_are_rarer(seed: int) -> None:
    counts = [
        len(lived(triggers.Pays(worth=w), lambda batch, at: 0.004 * (batch - at), 200, seed)[0])
        for w in (0.01, 0.1, 1.0, 10.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] / 4
