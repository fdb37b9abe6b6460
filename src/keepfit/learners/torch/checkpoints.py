"""The state of a training after an epoch, from which it goes on after it was cut off."""

from __future__ import annotations

import contextlib
import os
import pickle
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""How often a training that was given no folder writes its state."""

OLD = 7 * 86_400.0
"""Seconds after which the state of a training that nobody went on with is thrown away."""


class Checkpoint:
    """One file, named by what makes two trainings the same.

    It is written beside its place and then moved there, so that it is whole or absent. A
    file that cannot be read is no reason to fail: the training starts anew.
    """

    def __init__(self, folder: str | Path | None, key: str) -> None:
        self._given = folder is not None
        self._folder = Path(folder) if folder is not None else _own_folder()
        self._path = self._folder / f"{key}.checkpoint"
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state that was kept, or None."""
        import torch

        if not self._path.exists() or not self._trusted():
            return None
        try:
            found: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
            return None
        return found

    def write(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state, where the last one is old enough and there is room for it."""
        import torch

        if not self._given and time.monotonic() - self._written < SECONDS:
            return
        # A full disk is an error of the system's or of torch's.
        with contextlib.suppress(OSError, RuntimeError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._trusted():
                return
            handle, beside = tempfile.mkstemp(dir=self._folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save(state(), file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, self._path)
            except BaseException:
                Path(beside).unlink(missing_ok=True)
                raise
        self._written = time.monotonic()

    def _trusted(self) -> bool:
        return self._given or _is_mine(self._folder)

    def remove(self) -> None:
        """Throw the state away: the training has ended."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _own_folder() -> Path:
    """Return this user's folder among temporary files, without what has grown old in it."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"keepfit-checkpoints-{user}"
    with contextlib.suppress(OSError):
        oldest = time.time() - OLD
        for path in folder.iterdir() if _is_mine(folder) else ():
            if path.stat().st_mtime < oldest:
                path.unlink()
    return folder


def _is_mine(folder: Path) -> bool:
    """Return whether a folder is this user's own: what lies in another's is not to be trusted."""
    if not hasattr(os, "getuid"):
        return folder.is_dir()
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
