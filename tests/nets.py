"""Small networks of PyTorch for tests, and how they are trained and looked into."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from keepfit.testing.learners import rows_to_learn

torch = pytest.importorskip("torch")

from keepfit.learners.torch import Torch, TorchModel  # noqa: E402


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread: the machine is shared with other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Small(torch.nn.Module):  # type: ignore[misc]
    """Two layers below a head."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(inputs, 16)
        self.second = torch.nn.Linear(16, 16)
        self.head = torch.nn.Linear(16, classes)

    def forward(self, x: Any) -> Any:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class Apart(torch.nn.Module):  # type: ignore[misc]
    """Takes numbers and codes apart."""

    def __init__(self, numbers: int, categories: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.inside = torch.nn.ModuleList(torch.nn.Embedding(size, 2) for size in categories)
        self.head = torch.nn.Linear(numbers + 2 * len(categories), outputs)

    def forward(self, numbers: Any, codes: Any) -> Any:
        found = [one(codes[:, i]) for i, one in enumerate(self.inside)]
        return self.head(torch.cat([numbers, *found], dim=1))


def fit(learner: Torch, rows: pl.DataFrame, *, seed: int = 3, **how: Any) -> TorchModel:
    defaults: dict[str, Any] = {"start": "scratch", "update": "all", "previous": None}
    return learner.fit(rows, **{**defaults, **how}, seed=seed)


def accuracy(model: Any, rows: pl.DataFrame) -> float:
    scores = model.predict(rows)
    chosen = (scores > 0.5).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    return float((chosen == model.codes(rows["_label"])).mean())


def weights(model: TorchModel) -> dict[str, np.ndarray]:
    return {name: one.numpy().copy() for name, one in model.net.state_dict().items()}


def changed(one: TorchModel, other: TorchModel) -> set[str]:
    """Return the modules whose weights differ."""
    left, right = weights(one), weights(other)
    return {name.partition(".")[0] for name in left if (left[name] != right[name]).any()}


def learner(network: Any = Small, **how: Any) -> Torch:
    return Torch(network, **{"lr": 0.01, "epochs": 4, "batch_size": 64, **how})


def my_loop(net: Any, batch: Any) -> None:
    """Train as a user's file does."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(6):
        for inputs, labels in batch:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs), labels).backward()
            optimiser.step()


def pretrained(inputs: int, classes: int) -> Any:
    """Return a network whose two first layers come with weights, as from a file."""
    net = Small(inputs, classes)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        loaded = Small(inputs, classes)
    net.first.load_state_dict(loaded.first.state_dict())
    net.second.load_state_dict(loaded.second.state_dict())
    return net


def untrained(network: Any = pretrained, **how: Any) -> TorchModel:
    return fit(learner(network, lr=0.0, weight_decay=0.0, **how), rows_to_learn("binary"))
