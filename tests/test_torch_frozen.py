"""Networks of PyTorch of which a part is frozen: what stands still in it, and what two parts share."""

import copy
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from keepfit.errors import TrainingError
from keepfit.testing.learners import rows_to_learn
from tests import nets

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch  # noqa: E402
from keepfit.learners.torch.training import hold  # noqa: E402
from tests.nets import changed, fit, learner, my_loop, weights  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with nets.one_thread():
        yield


# Normalisation ----------------------------------------------------------------------------


def normed(inputs: int, classes: int) -> Any:
    """Return a network with normalisation in a body that comes with weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        body = torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.BatchNorm1d(8))
    return torch.nn.Sequential(body, torch.nn.ReLU(), torch.nn.Linear(8, classes))


def test_frozen_normalisation_keeps_its_statistics() -> None:
    rows = rows_to_learn("binary")
    held = weights(fit(learner(normed, freeze="0"), rows, start="pretrained"))
    free = weights(fit(learner(normed), rows, start="pretrained"))
    assert held["0.1.running_mean"].tolist() == [0.0] * 8
    assert held["0.1.num_batches_tracked"] == 0
    assert free["0.1.running_mean"].tolist() != [0.0] * 8


@pytest.mark.parametrize("copied", [False, True])
def test_frozen_normalisation_stands_still_in_a_loop_of_ones_own(copied: bool) -> None:
    def loop(net: Any, batch: Any) -> Any:
        net.train()
        my_loop(net, batch)
        return copy.deepcopy(net) if copied else None

    rows = rows_to_learn("binary")
    made = Torch(normed, train=loop, freeze="0")
    model = fit(made, rows, start="pretrained")
    assert weights(model)["0.1.running_mean"].tolist() == [0.0] * 8
    assert weights(model)["0.1.num_batches_tracked"] == 0
    free = fit(Torch(normed, train=loop), rows, start="pretrained")
    assert weights(free)["0.1.num_batches_tracked"] > 0
    assert not any(one._forward_pre_hooks for one in model.net.modules())
    assert fit(made, rows, start="pretrained").dumps() == model.dumps()


@pytest.mark.parametrize(
    ("made", "frozen", "still"),
    [
        ("one, norm, two", {"0."}, {"1"}),
        ("one, norm, two", {"2."}, set()),
        ("norm, one, two", {"1."}, {"0"}),
        ("norm, one, two", {"2."}, set()),
        ("one, Sequential(ReLU(), norm), two", {"0."}, {"1.1"}),
        ("one, Sequential(norm, two)", {"0."}, set()),
        ("one, Sequential(norm, two)", {"1."}, {"1.0"}),
        ("Sequential(one, norm, two), two", {"0."}, {"0.1"}),
        ("Sequential(one, norm, two, norm), two", {"0.0"}, {"0.1"}),
    ],
)
def test_normalisation_without_weights_stands_still_with_those_that_feed_it(
    made: str, frozen: set[str], still: set[str]
) -> None:
    from torch.nn import BatchNorm1d, Linear, ReLU, Sequential

    parts = made.replace("norm", "BatchNorm1d(2, affine=False)")
    parts = parts.replace("one", "Linear(2, 2)").replace("two", "Linear(2, 2)")
    known = {"BatchNorm1d": BatchNorm1d, "Linear": Linear, "ReLU": ReLU, "Sequential": Sequential}
    net = eval(f"Sequential({parts})", known)
    names = [name for name, _ in net.named_parameters()]
    hold(net, {name for name in names if name.startswith(tuple(frozen))})
    assert {name for name, one in net.named_modules() if name and not one.training} == still


def test_a_head_alone_learns_on_statistics_that_stand_still() -> None:
    def bare(inputs: int, classes: int) -> Any:
        norm = torch.nn.BatchNorm1d(8, affine=False)
        first, last = torch.nn.Linear(inputs, 8), torch.nn.Linear(8, classes)
        return torch.nn.Sequential(first, norm, torch.nn.ReLU(), last)

    rows = rows_to_learn("binary")
    champion = fit(learner(bare), rows)
    moved = rows.with_columns(pl.col("value") + 5.0)
    model = fit(learner(bare), moved, start="champion", update="head", previous=champion)
    assert changed(model, champion) == {"3"}


@pytest.mark.parametrize("loop", [None, my_loop])
def test_normalisation_that_has_one_row_to_learn_from_says_so(loop: Any) -> None:
    how: dict[str, Any] = {"epochs": 1} if loop is None else {"train": loop}
    rows = rows_to_learn("binary")
    champion = fit(Torch(normed, **how), rows)
    said = "two rows or more per step, which batch normalisation learns from, got one\n\nhint: "
    with pytest.raises(TrainingError, match=said + r"take more with batch_size= \(1 here\)"):
        fit(Torch(normed, batch_size=1, **how), rows)
    on: dict[str, Any] = {"start": "champion", "previous": champion}
    with pytest.raises(TrainingError, match=said + "train on more rows, or freeze"):
        fit(Torch(normed, **how), rows.head(1), **on)
    assert changed(fit(Torch(normed, freeze="0", **how), rows.head(1), **on), champion) == {"2"}


def test_other_errors_of_a_loop_of_ones_own_stay_what_they_are() -> None:
    def failing(net: Any, batch: Any) -> None:
        raise ValueError("my own")

    with pytest.raises(ValueError, match="^my own$"):
        fit(Torch(normed, train=failing), rows_to_learn("binary"))


# Weights that two modules share -----------------------------------------------------------


class Tied(nets.Small):
    """A network whose second layer has the weights of the one before it."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        self.between = torch.nn.Linear(16, 16)
        self.between.weight = self.second.weight

    def forward(self, x: Any) -> Any:
        inner = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(torch.relu(self.between(inner)))


@pytest.mark.parametrize("freeze", ["second", "between", "between.weight"])
def test_weights_that_are_shared_are_frozen_by_either_name(freeze: str) -> None:
    rows = rows_to_learn("binary")
    champion = fit(learner(Tied), rows)
    model = fit(learner(Tied, freeze=freeze), rows, start="champion", previous=champion)
    before, after = weights(champion), weights(model)
    moved = {name for name in before if (before[name] != after[name]).any()}
    free = {"first.weight", "first.bias", "head.weight", "head.bias"}
    biases = {"second.bias", "between.bias"} - {f"{freeze}.bias"}
    assert moved == free | biases
    assert Torch(Tied(9, 2), freeze=freeze).freeze == (freeze,)


def test_a_head_does_not_learn_what_it_shares_with_the_body() -> None:
    rows = rows_to_learn("binary")
    champion = fit(learner(Tied), rows)
    how: dict[str, Any] = {"start": "champion", "update": "head", "previous": champion}
    model = fit(learner(Tied, head="between"), rows, **how)
    assert changed(model, champion) == {"between"}
    assert (weights(model)["between.weight"] == weights(champion)["second.weight"]).all()
    with pytest.raises(TrainingError, match="shares all its weights with what is below"):
        fit(learner(Tied, head="between.weight"), rows, **how)
