"""Weights carried over from the champion, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from torch import Tensor, nn

Places = list[tuple[int, int]]
"""Pairs of places: in the new network, and in the champion."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's weights started from.

    ``copied`` are the names of weights taken over whole; ``partly`` those of which the
    shared columns or classes were; ``new`` start fresh; ``left`` the champion has and the
    new network has not. ``share`` is the part of all weights that was taken over. Columns
    and classes are those that the two do not share. ``rescaled`` says that labels lay so far off
    the champion's scale that they got one of their own.
    """

    start: str
    copied: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    share: float = 0.0
    new_columns: tuple[str, ...] = ()
    left_columns: tuple[str, ...] = ()
    new_classes: tuple[bool | int | str, ...] = ()
    left_classes: tuple[bool | int | str, ...] = ()
    rescaled: bool = False

    def __str__(self) -> str:
        said = [f"from {self.start}: {self.share:.0%} of the weights taken over"]
        parts = {
            "in part": self.partly,
            "new": self.new,
            "left over": self.left,
            "new columns": self.new_columns,
            "columns left over": self.left_columns,
            "new classes": self.new_classes,
            "classes left over": self.left_classes,
        }
        said += [f"{what} {_listed(names)}" for what, names in parts.items() if names]
        said += ["labels on a scale of their own"] * self.rescaled
        return "; ".join(said)


def _listed(names: tuple[bool | int | str, ...]) -> str:
    shown = ", ".join(map(str, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def places(new: list[tuple[str, str]], old: list[tuple[str, str]]) -> Places:
    """Return where the things that two lists share lie in each."""
    where = {one: i for i, one in enumerate(old)}
    return [(i, where[one]) for i, one in enumerate(new) if one in where]


def carry(
    net: nn.Module,
    champion: dict[str, Tensor],
    *,
    columns: tuple[str | None, Places | None],
    classes: tuple[set[str], Places | None],
    categories: dict[str, Places] | None = None,
) -> dict[str, float]:
    """Copy what fits from the champion's weights into a network, and return how much of each.

    ``columns`` names the weights whose columns are the inputs, with the inputs that both
    share (None: all of them, in one order). ``classes`` names those of the head, with the
    outputs that both share (None: all). ``categories`` names the embeddings that have grown,
    with the categories that both share.
    """
    import torch

    from keepfit.learners.torch.networks import tensors

    done: dict[str, float] = {}
    with torch.no_grad():
        for name, own in tensors(net).items():
            given = champion.get(name)
            if given is None or given.ndim != own.ndim:
                continue
            inner = columns[1] if name == columns[0] else None
            outer = classes[1] if name in classes[0] else None
            if categories and name in categories:
                # More categories may have longer embeddings, of which the first numbers are old.
                shared = min(own.shape[1], given.shape[1])
                outer, inner = categories[name], [(i, i) for i in range(shared)]
            part = _copy(own, given.to(own.device, own.dtype), outer, inner)
            if part:
                done[name] = part
    return done


def _copy(own: Tensor, given: Tensor, outer: Places | None, inner: Places | None) -> float:
    """Copy rows and columns that are shared; the others stay as they are."""
    import torch

    if outer is None and inner is None:
        if own.shape != given.shape:
            return 0.0
        own.copy_(given)
        return 1.0
    if own.ndim == 0:
        return 0.0
    kept = own.clone()
    rows = outer if outer is not None else _same(own, given, 0)
    if inner is None:
        if own.shape[1:] != given.shape[1:] or not rows:
            return 0.0
        to, at = zip(*rows, strict=True)
        kept[list(to)] = given[list(at)]
        share = len(rows) / int(own.shape[0])
    else:
        if not rows or not inner:
            return 0.0
        (to, at), (left, right) = zip(*rows, strict=True), zip(*inner, strict=True)
        part = given[list(at)][:, list(right)]
        kept[torch.tensor(to)[:, None], torch.tensor(left)] = part
        share = len(rows) * len(inner) / int(own.numel())
    own.copy_(kept)
    return share


def _same(own: Tensor, given: Tensor, dim: int) -> Places:
    size = own.shape[dim]
    return [(i, i) for i in range(size)] if size == given.shape[dim] else []
