"""The rows of one training as tensors, and the order in which its epochs take them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keepfit.errors import TrainingError
from keepfit.learners.torch.devices import mixed_seed
from keepfit.learners.torch.networks import Shape, inputs_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from torch import Tensor, nn

    from keepfit.learners.torch.tables import Table

FEWEST = 10
"""Rows from which some are held back to stop training on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Rows with labels; ``taught`` are the champion's answers, of the classes at ``places``.

    ``new``, ``old`` and ``tail`` say which rows are newer than the champion's, which it has
    seen, and which are held back.
    """

    numbers: Tensor
    codes: Tensor
    labels: Tensor
    new: Tensor
    old: Tensor
    tail: Tensor
    taught: Tensor | None = None
    places: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def at(
        self, places: Tensor, net: nn.Module, shape: Shape, device: Any
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return inputs and labels of some rows, on a device."""
        numbers, codes = self.numbers[places].to(device), self.codes[places].to(device)
        return inputs_of(net, shape, numbers, codes), self.labels[places].to(device)

    def order(self, replay: float, *seeds: int | str) -> Tensor:
        """Return the rows of an epoch, shuffled: the new ones, and a sample of the old."""
        import torch

        draw = torch.Generator().manual_seed(mixed_seed(*seeds, "order"))
        wanted = round(len(self.new) * replay / (1.0 - replay))
        older = self.old[torch.randperm(len(self.old), generator=draw)[:wanted]]
        both = torch.cat([self.new, older])
        return both[torch.randperm(len(both), generator=draw)]


def lesson_of(
    table: Table,
    labels: Tensor,
    rows: pl.DataFrame,
    *,
    until: int | None,
    replay: float,
    tail: float | None,
    taught: Tensor | None = None,
    places: list[int] | None = None,
) -> Lesson:
    """Return the rows of a training, those held back and those the champion has seen set apart.

    ``until`` is the event time, in microseconds, of the newest row that the champion saw.
    """
    import numpy as np
    import torch

    times = times_of(rows)
    by_time = np.arange(len(table)) if times is None else np.argsort(times, kind="stable")
    held = 0 if tail is None or len(table) < FEWEST else max(1, round(tail * len(table)))
    kept = np.sort(by_time[: len(table) - held])
    old = np.zeros(len(kept), dtype=bool)
    if replay and until is not None and times is not None:
        old = times[kept] <= until
        # All new or all old: there is nothing to mix.
        old &= bool((~old).any())
    return Lesson(
        numbers=torch.from_numpy(table.numbers),
        codes=torch.from_numpy(table.codes),
        labels=labels,
        new=torch.from_numpy(kept[~old]),
        old=torch.from_numpy(kept[old]),
        tail=torch.from_numpy(np.sort(by_time[len(table) - held :])),
        taught=taught,
        places=places or [],
    )


def times_of(rows: pl.DataFrame) -> np.ndarray | None:
    """Return the event times of rows in microseconds, or None where they have none."""
    import numpy as np
    import polars as pl

    from keepfit.batch import TIME

    if TIME not in rows.columns or not rows.schema[TIME].is_temporal():
        return None
    times = rows.get_column(TIME).cast(pl.Datetime("us")).cast(pl.Int64)
    return np.asarray(times.to_numpy(), dtype=np.int64)


def steps(order: Tensor, size: int) -> Iterator[Tensor]:
    """Yield rows per step; a last row alone joins the step before, as normalisation needs two."""
    first = 0
    while first < len(order):
        end = first + size
        if len(order) - end == 1 and size > 1:
            end += 1
        yield order[first:end]
        first = end


@contextlib.contextmanager
def enough_rows(size: int) -> Iterator[None]:
    """Say of a step of one row that normalisation cannot learn from it.

    Raises
    ------
    TrainingError
        It could not.
    """
    try:
        yield
    except ValueError as error:
        # PyTorch knows which networks need more: one of images may not, nor one that is frozen.
        if not str(error).startswith("Expected more than 1 value per channel when training"):
            raise
        raise TrainingError(
            "expected two rows or more per step, which batch normalisation learns from, got one",
            hint="take more with batch_size= (1 here), or normalise each row: nn.LayerNorm"
            if size == 1
            else "train on more rows, or freeze the normalisation: it keeps its statistics then",
        ) from error


class Passes:
    """The rows that a training loop of the user's own is given.

    Each pass over it gives pairs of inputs and labels, in a new order. Inputs are what the
    network is called with: a tensor, or a pair of numbers and codes.
    """

    def __init__(
        self, lesson: Lesson, net: nn.Module, shape: Shape, device: Any, *how: float
    ) -> None:
        self._lesson, self._net, self._shape, self._device = lesson, net, shape, device
        size, self._replay, seed = how
        self._size, self._seed, self._passes = int(size), int(seed), 0

    def __len__(self) -> int:
        rows = len(self._lesson.order(self._replay, self._seed))
        return max(1, -(-rows // self._size) - (rows > 1 and rows % self._size == 1))

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        self._passes += 1
        order = self._lesson.order(self._replay, self._seed, self._passes)
        for places in steps(order, self._size):
            inputs, labels = self._lesson.at(places, self._net, self._shape, self._device)
            yield (inputs if len(inputs) > 1 else inputs[0]), labels
