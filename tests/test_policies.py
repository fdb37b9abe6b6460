"""The published policies of the benchmarks, on matrices small enough to be worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from benchmarks.policies import (
    Base,
    CaraCT,
    CaraP,
    CaraT,
    Forecaster,
    Learned,
    Rccda,
    cost,
    cost_of,
    oracle,
    tuned,
    walked,
)
from stream_models import BASE, FIRST, Models
from stream_paths import published

AGEING = np.array(
    [[max(0.0, 0.1 * (t - i - 1)) if t > i else np.nan for t in range(8)] for i in range(7)]
)
"""A fresh model loses nothing on the next batch, and a tenth more with each one after."""

TURNED = np.array(
    [[(0.9 if t >= 4 > i else 0.1) if t > i else np.nan for t in range(8)] for i in range(7)]
)
"""Models of before batch 4 fail from there on."""


def test_a_strategy_costs_its_losses_and_its_trainings() -> None:
    # Batch 0 serves 1, 2, 3: 0.0, 0.1, 0.2; batch 3 serves 4 to 7: 0.0, 0.1, 0.2, 0.3.
    assert cost([3], AGEING, 0.5) == pytest.approx(0.3 + 0.6 + 0.5)
    assert cost([], AGEING, 0.5) == pytest.approx(2.1)


def test_cara_with_a_threshold_trains_when_a_batch_costs_more() -> None:
    assert walked(CaraT(0.15), AGEING) == [3, 6]
    assert walked(CaraT(9.0), AGEING) == []


def test_cara_with_a_cumulative_threshold_trains_when_the_sum_costs_more() -> None:
    # 0.0 + 0.1 + 0.2 exceeds 0.25 after batch 3, and again after batch 6.
    assert walked(CaraCT(0.25), AGEING) == [3, 6]
    assert walked(CaraCT(0.35), AGEING) == [4]


def test_periodic_cara_trains_at_equal_distances_from_its_offset() -> None:
    assert walked(CaraP(2, 1), AGEING) == [1, 3, 5]
    assert walked(CaraP(3, 2), AGEING) == [2, 5]


@pytest.mark.parametrize("kind", ["T", "CT", "P"])
@pytest.mark.parametrize("price", [0.01, 0.2, 100.0])
@pytest.mark.parametrize("matrix", [AGEING, TURNED], ids=["ageing", "turned"])
def test_a_tuned_cara_is_between_the_optimum_and_never(
    kind: str, price: float, matrix: np.ndarray
) -> None:
    found = cost_of(tuned(kind, matrix, price), matrix, price)
    assert cost(oracle(matrix, price), matrix, price) <= found + 1e-12
    assert found <= cost([], matrix, price) + 1e-12


def test_tuned_thresholds_find_the_one_training_that_is_worth_it() -> None:
    assert walked(tuned("T", TURNED, 0.5), TURNED) == [4]
    assert walked(tuned("CT", TURNED, 0.5), TURNED) == [4]
    assert walked(tuned("P", TURNED, 0.5), TURNED) == [4]


@pytest.mark.parametrize("price", [0.0, 0.05, 0.3, 5.0])
def test_the_oracle_is_the_best_of_all_strategies(price: float) -> None:
    rng = np.random.default_rng(0)
    matrix = np.where(np.isnan(AGEING), np.nan, rng.random(AGEING.shape))
    every = itertools.chain.from_iterable(
        itertools.combinations(range(1, 7), count) for count in range(7)
    )
    best = min(cost(list(plan), matrix, price) for plan in every)
    assert cost(oracle(matrix, price), matrix, price) == pytest.approx(best)


def ageing(batches: int, rate: float, noise: float = 0.003) -> np.ndarray:
    rng = np.random.default_rng(0)
    i, t = np.indices((batches - 1, batches))
    losses = 0.1 + rate * (t - i - 1) + noise * rng.normal(size=i.shape)
    return np.where(t > i, losses, np.nan)


def test_upf_forecasts_how_a_model_ages_and_trains_when_that_is_dearer() -> None:
    matrix = ageing(12, 0.03)
    cheap = Forecaster(price=0.1, batches=40, horizon=5).learn(matrix)
    dear = Forecaster(price=50.0, batches=40, horizon=5).learn(matrix)
    keep, train = cheap.forecast(12, 0.0)
    # A model of age 0 loses 0.03 * 12 a batch less than one of age 12, over five batches.
    assert keep - (train - cheap.price) == pytest.approx(5 * 0.03 * 12, rel=0.15)
    assert cheap.after(12, 0.1 + 0.03 * 11)
    assert cheap.serving == 12
    assert not dear.after(12, 0.1 + 0.03 * 11)


def test_upf_does_not_train_where_models_do_not_age() -> None:
    still = Forecaster(price=0.05, batches=40, horizon=5).learn(ageing(12, 0.0))
    assert [still.after(batch, 0.1) for batch in range(12, 16)] == [False] * 4
    assert not Forecaster(price=0.0, batches=40).after(1, 0.9)


def test_base_trains_as_seldom_as_the_optimum_did() -> None:
    # Of seven batches the optimum trains after one.
    assert oracle(TURNED, 0.5) == [4]
    assert Base.learnt(TURNED, 0.5).period == 7
    assert walked(Base(2.5), AGEING) == [3, 6]
    assert walked(Base.learnt(AGEING, 100.0), AGEING) == []


def test_learned_does_on_what_taught_it_what_the_optimum_does() -> None:
    # The optimum knows where the matrix ends, and trains no more before that.
    assert oracle(AGEING, 0.3) == [2, 4]
    assert walked(Learned.learnt(AGEING, 0.3), AGEING) == [2, 4, 6]
    assert walked(Learned.learnt(TURNED, 0.5), TURNED) == oracle(TURNED, 0.5)
    assert walked(Learned.learnt(AGEING, 100.0), AGEING) == []


def test_learned_looks_at_losses_beyond_the_first_their_sum_and_the_age() -> None:
    seen: list[tuple[float, float, float]] = []

    def choose(state: tuple[float, float, float]) -> bool:
        seen.append(state)
        return len(seen) == 3

    assert walked(Learned(choose), AGEING + 0.5) == [3]
    expected = [(0.0, 0.0, 1), (0.1, 0.1, 2), (0.2, 0.3, 3), (0.0, 0.0, 1), (0.1, 0.1, 2)]
    assert np.allclose(seen[:5], expected)


def test_rccda_trains_where_losses_rise_by_more_than_its_queue_is_long() -> None:
    policy = Rccda(share=0.25, level=1.0, rise=0.5, weight=10.0)
    steps = [
        (0.10, False, 0.00),
        (0.11, False, 0.00),  # 10 * (1.0 * 0.01 + 0.5 * 0.01) = 0.15, below 0.5 - 0.25
        (0.13, True, 0.75),  # 10 * (1.0 * 0.03 + 0.5 * 0.02) = 0.4
        (0.13, False, 0.50),  # 0.3, below 0.75 + 0.5 - 0.25
        (0.19, True, 1.25),  # 1.2
    ]
    for batch, (loss, due, queue) in enumerate(steps, 1):
        assert policy.after(batch, loss) == due
        assert policy.queue == pytest.approx(queue)


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_rccda_keeps_to_its_share_however_losses_move(share: float) -> None:
    policy = Rccda(share, level=2.5, rise=0.5)
    losses = np.random.default_rng(0).random(2_000)
    trained = sum(policy.after(batch, loss) for batch, loss in enumerate(losses.tolist()))
    # No loss of at most 1 can exceed a queue as long as the most that it counts.
    assert 0.8 * share * 2_000 < trained <= share * 2_000 + 10 * (2.5 + 0.5) + 1


def test_what_learns_nothing_beforehand_is_asked_from_the_first_batch_on() -> None:
    models = Models(np.arange(FIRST + 8))
    for batch in range(FIRST, models.last):
        models.wrong[BASE, batch, 0] = np.full(models.last - batch, False)
    path = published(lambda matrix, batches: Rccda(0.1, 1.0, 0.1), offline=1)(models)
    assert [fitted for _, fitted in path] == [True] + [False] * 6
    learnt = published(lambda matrix, batches: CaraT(0.5), offline=4)(models)
    assert [fitted for _, fitted in learnt] == [True] * 4 + [False] * 3
