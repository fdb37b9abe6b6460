"""Patterns on names of parameters: what is frozen, thaws, learns at its own rate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from keepfit.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import nn


def matches(pattern: str, name: str) -> bool:
    r"""Return whether a pattern is for a name, or for a module that the name lies in.

    Examples
    --------
    >>> matches("layer[1-3]", "layer2.conv.weight"), matches("layer1", "layer10.weight")
    (True, False)
    >>> matches("*.bias", "fc.bias"), matches(r"encoder\.\d+", "encoder.12.weight")
    (True, True)
    """
    parts = name.split(".")
    prefixes = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(_fits(pattern, prefix) for prefix in prefixes)


def _fits(pattern: str, name: str) -> bool:
    if fnmatchcase(name, pattern):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False


def chosen(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names of parameters that a pattern is for.

    Raises
    ------
    ConfigError
        It is for none.
    """
    found = [name for name in names if matches(pattern, name)]
    if found:
        return found
    near = nearest(pattern, _modules(names)) or nearest(pattern, names)
    raise ConfigError(
        f"expected a pattern for some of {len(names):,} parameters, got {pattern!r}, for none",
        hint=f"the nearest name is {near!r}" if near else f"there are {', '.join(names[:4])} …",
    )


def _modules(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in names if "." in name})


def names_of(net: nn.Module) -> dict[str, str]:
    """Return every name of each parameter, with its first: weights that are tied have several."""
    first = {id(one): name for name, one in net.named_parameters()}
    return {name: first[id(one)] for name, one in net.named_parameters(remove_duplicate=False)}


def head_of(net: nn.Module, pattern: str | None) -> set[str]:
    """Return the parameters of the head: what a pattern says, else the last module that has any."""
    names = list(names_of(net))
    if pattern is not None:
        return set(chosen(pattern, names))
    last = names[-1].rpartition(".")[0] if names else ""
    return {name for name in names if name.rpartition(".")[0] == last}


def groups(names: Sequence[str]) -> list[list[str]]:
    """Return names in groups, the last first: one per module below what all have in common.

    Examples
    --------
    >>> groups(["net.body.0.weight", "net.body.0.bias", "net.body.2.weight"])
    [['net.body.2.weight'], ['net.body.0.weight', 'net.body.0.bias']]
    """
    parts = [name.split(".") for name in names]
    shared = 0
    while parts and all(len(one) > shared + 2 and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    found: dict[str, list[str]] = {}
    for name, one in zip(names, parts, strict=True):
        found.setdefault(one[shared], []).append(name)
    return list(reversed(found.values()))


def rate_groups(
    named: dict[str, nn.Parameter], lr: float | dict[str, float]
) -> list[tuple[float, dict[str, nn.Parameter]]]:
    """Return parameters by learning rate.

    Raises
    ------
    ConfigError
        A pattern is for no parameter, or a parameter has no rate.
    """
    if not isinstance(lr, dict):
        return [(float(lr), named)]
    for pattern in lr:
        chosen(pattern, list(named))
    found: dict[str, dict[str, nn.Parameter]] = {pattern: {} for pattern in lr}
    for name, parameter in named.items():
        first = next((pattern for pattern in lr if matches(pattern, name)), None)
        if first is None:
            raise ConfigError(
                f"expected a learning rate for every parameter, got none for `{name}`",
                hint='name the rate of all others last: {"head": 1e-3, "*": 1e-4}',
            )
        found[first][name] = parameter
    return [(float(lr[pattern]), held) for pattern, held in found.items() if held]
