"""Where a network computes, and how: device, threads, seeds, all left as they were."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

from keepfit.errors import ConfigError

WORK = 100
"""Multiplications that cost a thread as much as one number of the other learners does."""


def pick(wanted: str | None) -> Any:
    """Return the device that is asked for, or the best there is.

    Raises
    ------
    ConfigError
        There is no such device.
    """
    import torch

    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"expected a device of this machine, got {wanted!r}: {reason}",
            hint='leave device= out, or write device="cpu"',
        ) from error
    return device


def half(device: Any, mixed: bool) -> bool:
    """Return whether a device computes in bfloat16; it needs no scaling of losses."""
    import torch

    return mixed and device.type == "cuda" and torch.cuda.is_bf16_supported()


def mixed_seed(*parts: int | str) -> int:
    """Return a seed made of others, of no pattern that they have."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextlib.contextmanager
def seeded(device: Any, *parts: int | str) -> Iterator[None]:
    """Seed all that torch draws, and leave its state as it was."""
    import torch

    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(mixed_seed(*parts))
        yield


@contextlib.contextmanager
def steady(device: Any, threads: int) -> Iterator[None]:
    """Compute on so many threads, and with the same results each time."""
    import torch

    before = torch.get_num_threads()
    if before != threads:
        torch.set_num_threads(threads)
    try:
        with _same_on_cards(device):
            yield
    finally:
        if before != threads:
            torch.set_num_threads(before)


def _same_on_cards(device: Any) -> Any:
    import torch

    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
