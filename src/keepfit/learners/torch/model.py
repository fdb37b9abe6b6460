"""A trained network: its weights, how rows become its inputs, and where it started from."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import ArtifactCorrupt
from keepfit.learners.models import FittedModel, Head
from keepfit.learners.torch.networks import Packed, Shape
from keepfit.learners.torch.problems import Problem
from keepfit.learners.torch.tables import Preparation, Table
from keepfit.learners.torch.transfer import Transfer

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from torch import nn

ROWS = 4_096
"""Rows answered at a time."""

LARGE = 1_000_000
"""Weights from which a network answers on a card, where there is one."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is as bytes, beside its head.

    ``plan`` is the network without its weights; empty for keepfit's own, which is built
    from its shape and so needs no code to be opened. ``exact`` says that it answers in double
    precision. ``until`` is the event time of the
    newest row it has seen, in microseconds.
    """

    preparation: Preparation
    problem: Problem
    shape: Shape
    plan: bytes
    weights: dict[str, Packed]
    transfer: Transfer
    history: tuple[tuple[float, float | None], ...] = ()
    best: int | None = None
    exact: bool = True
    until: int | None = None


class TorchModel(FittedModel):
    """A trained network, with what it needs to answer rows."""

    def __init__(self, head: Head, content: Content, encoded: bytes | None = None) -> None:
        super().__init__(head)
        self.held = content
        self._encoded = encoded

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model needs."""
        return self.held.preparation.features

    @property
    def transfer(self) -> Transfer:
        """What its weights started from: what was copied, what was new, what was left over."""
        return self.held.transfer

    @property
    def history(self) -> tuple[tuple[float, float | None], ...]:
        """The mean loss of each epoch, with that of the rows held back; empty for a loop of one's own."""
        return self.held.history

    @cached_property
    def net(self) -> nn.Module:
        """The network, with its weights."""
        return self._restored()

    def _restored(self) -> nn.Module:
        from keepfit.learners.torch import networks

        return networks.restored(self.held.plan, self.held.shape, self.held.weights)

    @cached_property
    def _answering(self) -> tuple[nn.Module, Any]:
        """Return the network that answers, with its device.

        In double precision a row is answered alike alone and among others, on one thread and
        on many; a card that is quick in it is rare, so there large networks keep theirs.
        """
        from keepfit.learners.torch import devices

        large = sum(one.numel() for one in self.net.parameters()) >= LARGE
        device = devices.pick(None if large else "cpu")
        net = self._restored().to(device)
        return (net.double() if self.held.exact and device.type == "cpu" else net), device

    def table(self, rows: pl.DataFrame) -> Table:
        """Return rows in the form that the network was trained on.

        Raises
        ------
        SchemaMismatch
            A column is missing.
        """
        return self.held.preparation.table(rows)

    def answer(self, table: Table) -> np.ndarray:
        """Return scores of rows in the model's own form, of which there is at least one."""
        import numpy as np

        from keepfit.learners.torch import losses, networks

        (net, device), held = self._answering, self.held
        import torch  # which is there, or there would be no network

        found = []
        with torch.inference_mode():
            for first in range(0, len(table), ROWS):
                part = slice(first, first + ROWS)
                numbers = torch.from_numpy(table.numbers[part]).to(device)
                codes = torch.from_numpy(table.codes[part]).to(device)
                outputs = net(*networks.inputs_of(net, held.shape, numbers, codes))
                shaped = losses.shaped(outputs, held.problem, held.shape.flat)
                found.append(losses.scores(shaped, held.problem))
        return np.concatenate(found)

    def content(self) -> bytes:
        """Return what was learnt, as bytes."""
        if self._encoded is None:
            self._encoded = msgspec.msgpack.encode(self.held)
        return self._encoded

    def inherited(self, donor: FittedModel) -> tuple[tuple[str, ...], float | None]:
        """Return in words what a transfer left of a donor's weights, and their share of all."""
        done = self.transfer
        several = {"whole": done.copied, "in part": done.partly, "new": done.new}
        if isinstance(donor, TorchModel):
            before = {one.name: one for one in donor.held.preparation.numbers}
            mine = self.held.preparation.numbers
            moved = [one.name for one in mine if one != before.get(one.name, one)]
            several["on a scale of their own"] = (*moved, *["the labels"] * done.rescaled)
        return tuple(f"{how}: {', '.join(one)}" for how, one in several.items() if one), done.share

    def importances(self) -> dict[str, float]:
        """Return the length of the first weights per column; empty where they cannot be told."""
        import numpy as np

        from keepfit.learners.torch import networks

        first = networks.first_weight(self.net, self.held.shape)
        if first is None:
            return {}
        norms = networks.column_norms(self.net.get_parameter(first))
        origins = origins_of(self.net, self.held.preparation, self.held.shape)
        squares = dict.fromkeys(self.features, 0.0)
        for (column, _), norm in zip(origins, norms, strict=True):
            squares[column] += float(norm) ** 2
        return {name: float(np.sqrt(one)) for name, one in squares.items()}


def origins_of(net: nn.Module, preparation: Preparation, shape: Shape) -> list[tuple[str, str]]:
    """Return where each input of a network's first weights comes from: a column, and which part."""
    from keepfit.learners.torch import networks

    if not networks.takes_codes(net):
        return preparation.flat
    embedded = [
        (name, f"embedded {i}")
        for name, codes in shape.categories.items()
        for i in range(networks.embedded(codes - 1))
    ]
    return preparation.wide + (embedded if networks.is_own(net) else [])


def grown_of(
    net: nn.Module, preparation: Preparation, before: Preparation
) -> dict[str, list[tuple[int, int]]]:
    """Return by the name of its weights each embedding that has grown, with the rows it shares.

    keepfit's own network has an embedding per category. In one of the user's an embedding
    belongs to the category in whose place it stands, as long as that place has not moved.
    """
    from keepfit.learners.torch import networks

    old, new = (dict(zip(_named(p), p.codes, strict=True)) for p in (before, preparation))
    rows = {name: min(old.get(name, 0), count) for name, count in new.items()}
    if networks.is_own(net):
        names = zip((f"embeddings.{key}.weight" for key in net.embeddings), new, strict=True)
    elif list(new)[: len(old)] == list(old):
        names = zip(networks.embeddings_of(net, tuple(new.values())), new, strict=False)
    else:
        return {}
    return {
        weight: [(i, i) for i in range(rows[name])]
        for weight, name in names
        if name in old and old[name] != new[name]
    }


def _named(preparation: Preparation) -> list[str]:
    return [one.name for one in preparation.categories]


def restore(head: Head, content: bytes) -> TorchModel:
    """Return the model that a head and bytes of `content` are.

    Raises
    ------
    ArtifactCorrupt
        They are none.
    """
    try:
        held = msgspec.msgpack.decode(content, type=Content)
    except msgspec.MsgspecError as error:
        raise ArtifactCorrupt(f"expected a network with its weights, got {error}") from error
    return TorchModel(head, held, content)
