"""Networks: keepfit's own for tables, the user's from a factory, and either without its weights."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from keepfit.errors import ArtifactCorrupt, ExtraMissing, TrainingError
from keepfit.learners import estimators

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor, nn


class Shape(msgspec.Struct, frozen=True):
    """What a network is built for: its inputs, its outputs, and the layers of keepfit's own."""

    numbers: int
    categories: dict[str, int]
    flat: int
    outputs: int
    hidden: tuple[int, ...] = ()


def embedded(categories: int) -> int:
    """Return how many numbers stand for a category out of so many.

    Examples
    --------
    >>> [embedded(n) for n in (2, 12, 1_000)]
    [3, 7, 50]
    """
    return min(50, math.ceil(1.6 * math.pow(categories, 0.56)))


# Building ---------------------------------------------------------------------------------


def build(network: Any, shape: Shape, classes: int) -> nn.Module:
    """Return a network with fresh weights: the user's, or keepfit's own for None.

    Raises
    ------
    TrainingError
        The factory returned something else.
    """
    if network is None:
        return _tabular()(shape)
    if estimators.derives(network, "torch", "Module"):
        return _whole(copy.deepcopy(network), shape)
    places, names = asked(network, shape, classes)
    made = network(*places, **names)
    if not estimators.derives(made, "torch", "Module"):
        raise TrainingError(
            f"expected {estimators.described(network)}() to return a torch.nn.Module, got {made!r}"
        )
    return _whole(made, shape)


def _whole(net: nn.Module, shape: Shape) -> nn.Module:
    """Return a network whose lazy layers, which learn their sizes from rows, know them."""
    import torch

    lazy = (getattr(one, "has_uninitialized_params", None) for one in net.modules())
    if any(ask() for ask in lazy if ask is not None):
        numbers = torch.zeros(2, shape.numbers)
        codes = torch.zeros(2, len(shape.categories), dtype=torch.int64)
        with torch.no_grad(), tried(net, shape):
            net.eval()(*inputs_of(net, shape, numbers, codes))
    return net


@contextlib.contextmanager
def tried(net: nn.Module, shape: Shape) -> Iterator[None]:
    """Say of a network that does not take the rows what it has to take.

    Raises
    ------
    TrainingError
        It failed inside.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"expected a network for {shape.flat:,} inputs ({shape.numbers:,} numbers, "
            f"{len(shape.categories):,} categories), got an error: {reason}",
            hint=_way_out(net, shape),
        ) from error


def _way_out(net: nn.Module, shape: Shape) -> str:
    from torch.nn import Conv2d, Unflatten

    layers = list(net.modules())
    unfolds = any(isinstance(layer, Unflatten) for layer in layers)
    for layer in layers:
        if isinstance(layer, Conv2d) and not unfolds:
            colours = layer.in_channels
            side = math.isqrt(shape.flat // colours)
            square = colours * side * side == shape.flat
            size = f"{side}, {side}" if square else "rows, columns"
            return (
                "an image comes as a row of numbers: "
                f"begin with nn.Unflatten(1, ({colours}, {size}))"
            )
    return "let the factory ask for them: def network(inputs, classes)"


def asked(factory: Any, shape: Shape, classes: int) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that a factory asks for: by name, else inputs and classes in order."""
    have = {
        "inputs": shape.flat,
        "classes": classes or 1,
        "outputs": shape.outputs,
        "numbers": shape.numbers,
        "categories": tuple(shape.categories.values()),
    }
    taken = inspect.signature(factory).parameters.values()
    needed = [one for one in taken if one.default is one.empty]
    named = {one.name: have[one.name] for one in taken if one.name in have}
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    others = [one.name for one in needed if one.name not in have and one.kind not in open_ended]
    left = [have[name] for name in ("inputs", "classes") if name not in named]
    given = named | dict(zip(others, left, strict=False))
    first = [one.name for one in taken if one.kind is one.POSITIONAL_ONLY and one.name in given]
    return [given.pop(name) for name in first], given


@cache
def _tabular() -> Any:
    """Return the class of keepfit's own network; it needs torch, which may not be installed."""
    import torch
    from torch import nn

    # mypy is told that torch may be absent, and takes its classes for anything.
    class Tabular(nn.Module):  # type: ignore[misc]
        """An embedding per category and the numbers, through layers with ReLU between."""

        def __init__(self, shape: Shape) -> None:
            super().__init__()
            self.embeddings = nn.ModuleDict()
            for name, codes in shape.categories.items():
                embedding = nn.Embedding(codes, embedded(codes - 1))
                # What is missing starts at nothing, and stays there while nothing is missing.
                nn.init.zeros_(embedding.weight[0].detach())
                self.embeddings[_key(name, self.embeddings)] = embedding
            width = shape.numbers + sum(one.embedding_dim for one in self.embeddings.values())
            layers: list[nn.Module] = []
            for size in shape.hidden:
                layers += [nn.Linear(width, size), nn.ReLU()]
                width = size
            self.body = nn.Sequential(*layers)
            self.head = nn.Linear(width, shape.outputs)

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            found = [one(codes[:, i]) for i, one in enumerate(self.embeddings.values())]
            return self.head(self.body(torch.cat([numbers, *found], dim=1)))

    return Tabular


def _key(name: str, taken: Any) -> str:
    """Return a column's name as a module can have it, ``of_`` in front: names may be methods."""
    key = "of_" + re.sub(r"\W", "_", name)
    while key in taken:
        key += "_"
    return key


# Answering --------------------------------------------------------------------------------


def takes_codes(net: nn.Module) -> bool:
    """Return whether a network takes numbers and codes apart: its `forward` has two arguments."""
    taken = inspect.signature(net.forward).parameters.values()
    needed = [
        one
        for one in taken
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 2


def inputs_of(net: nn.Module, shape: Shape, numbers: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Return what a network is called with: one tensor, or numbers and codes."""
    import torch
    from torch.nn import functional

    like = next((one.dtype for one in net.parameters() if one.is_floating_point()), numbers.dtype)
    numbers = numbers.to(like)
    if takes_codes(net):
        return numbers, codes
    ones = [
        functional.one_hot(codes[:, i], size)[:, 1:].to(like)
        for i, size in enumerate(shape.categories.values())
    ]
    return (torch.cat([numbers, *ones], dim=1) if ones else numbers,)


def is_own(net: nn.Module) -> bool:
    """Return whether a network is keepfit's own."""
    return isinstance(net, _tabular())


def first_weight(net: nn.Module, shape: Shape) -> str | None:
    """Return the name of the weights that meet a network's inputs, where there are such."""
    width = shape.numbers if takes_codes(net) else shape.flat
    if is_own(net):
        return "body.0.weight" if len(net.body) else "head.weight"
    first = next(iter(net.named_parameters()), None)
    if first is None or first[1].ndim != 2 or first[1].shape[1] != width:
        return None
    return str(first[0])


def embeddings_of(net: nn.Module, codes: tuple[int, ...]) -> list[str]:
    """Return the names of embeddings' weights, where there is one for each category's codes."""
    from torch import nn

    found = {
        f"{name}.weight": one.num_embeddings
        for name, one in net.named_modules()
        if isinstance(one, nn.Embedding)
    }
    return list(found) if tuple(found.values()) == codes else []


def exact(net: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Return whether a network answers in double precision: one that casts inside may not."""
    import torch

    try:
        with torch.no_grad():
            copy.deepcopy(net).cpu().double().eval()(
                *(one.cpu().double() if one.is_floating_point() else one.cpu() for one in inputs)
            )
    except (RuntimeError, TypeError):
        return False
    return True


# Without weights --------------------------------------------------------------------------


class Packed(msgspec.Struct, frozen=True):
    """A tensor as bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes


def pack(tensor: Tensor) -> Packed:
    """Return a tensor as bytes."""
    import torch

    held = tensor.detach().cpu().contiguous()
    content = held.reshape(-1).view(torch.uint8).numpy().tobytes() if held.numel() else b""
    return Packed(str(held.dtype).removeprefix("torch."), tuple(held.shape), content)


def unpack(packed: Packed) -> Tensor:
    """Return the tensor that bytes are.

    Raises
    ------
    ArtifactCorrupt
        They are none.
    """
    import torch

    dtype = getattr(torch, packed.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ArtifactCorrupt(f"expected a type of numbers, got {packed.dtype!r}")
    if not packed.content:
        return torch.zeros(packed.shape, dtype=dtype)
    try:
        return torch.frombuffer(bytearray(packed.content), dtype=dtype).reshape(packed.shape)
    except (RuntimeError, ValueError) as error:
        raise ArtifactCorrupt(
            f"expected weights of shape {packed.shape}, got {len(packed.content):,} bytes"
        ) from error


def tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters and buffers by name, those too that it does not save itself."""
    named = [
        *net.named_parameters(remove_duplicate=False),
        *net.named_buffers(remove_duplicate=False),
    ]
    return dict(named)


def skeleton(net: nn.Module, network: Any, classes: int) -> bytes:
    """Return a network without its weights, as bytes that can run the code of its classes.

    A network that cannot be pickled (one with parametrised weights) is kept as its factory,
    which then runs again where the model is opened.

    Raises
    ------
    TrainingError
        The network cannot be pickled.
    """
    import torch

    from keepfit import pickles

    try:
        bare = copy.deepcopy(net).cpu().eval()
        empty = {
            name: torch.empty_like(one, device="meta", requires_grad=False)
            for name, one in tensors(bare).items()
        }
        install(bare, empty)
        return pickles.dumps(bare)
    except Exception as error:
        if not estimators.derives(network, "torch", "Module"):
            with contextlib.suppress(Exception):
                return pickles.dumps(_Made(network, classes))
        raise TrainingError(
            f"expected a network that can be kept as bytes, got {type(net).__name__}: {error}",
            hint="hand over a function that makes it, instead of the network",
        ) from error


@dataclass(frozen=True)
class _Made:
    """A factory in the place of what it makes."""

    network: Any
    classes: int


def restored(plan: bytes, shape: Shape, weights: dict[str, Packed]) -> nn.Module:
    """Return the network that a skeleton and weights are; without a skeleton keepfit's own.

    Raises
    ------
    ArtifactCorrupt
        The weights are not those of the network.
    ExtraMissing
        PyTorch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ExtraMissing(
            "expected the package `torch` to read this model, and it is not installed",
            hint='pip install "keepfit[torch]"',
        ) from None
    from keepfit import pickles

    net = pickles.loads(plan) if plan else _tabular()(shape)
    if isinstance(net, _Made):
        net = build(net.network, shape, net.classes)
    wanted = {name: tuple(one.shape) for name, one in tensors(net).items()}
    if wanted != {name: one.shape for name, one in weights.items()}:
        raise ArtifactCorrupt("expected the weights of the network, got those of another one")
    install(net, {name: unpack(one) for name, one in weights.items()})
    return net.eval()


def install(net: nn.Module, values: dict[str, Tensor]) -> None:
    """Put tensors in the place of parameters and buffers, for a network that only answers."""
    from torch import nn

    for name, value in values.items():
        path, _, own = name.rpartition(".")
        owner = net.get_submodule(path)
        if own in owner._parameters:
            owner._parameters[own] = nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[own] = value


def column_norms(weight: Tensor) -> np.ndarray:
    """Return the length of each input's weights."""
    import numpy as np

    return np.asarray(weight.detach().cpu().double().norm(dim=0).numpy(), dtype=np.float64)
