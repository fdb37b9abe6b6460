"""The log folder of a Delta table on a local disk, asked without listing it."""

from __future__ import annotations

import json
import os
from contextlib import suppress

_CHECKPOINT = ".checkpoint.parquet"
_DIGITS = 20


class Log:
    """What can be known of a table's log by looking up single files.

    Listing the folder costs as much as it holds commits, and a step looks for new ones
    several times. An object store lists from a name onwards and needs none of this.

    Parameters
    ----------
    folder
        Where the table lies.

    Examples
    --------
    >>> Log("/nowhere").ends_at(0), Log("/nowhere").checkpoint()
    (False, -1)
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "_delta_log")

    def ends_at(self, version: int) -> bool:
        """Return whether a commit is there and the newest."""
        return self._has(version) and not self._has(version + 1) and self.checkpoint() <= version

    def _has(self, version: int) -> bool:
        return os.path.exists(os.path.join(self._folder, f"{version:0{_DIGITS}}.json"))

    def checkpoint(self) -> int:
        """Return the commit that the newest checkpoint stands for; -1 when there is none."""
        try:
            with open(os.path.join(self._folder, "_last_checkpoint"), "rb") as file:
                return int(json.load(file)["version"])
        except (OSError, ValueError, KeyError):
            return -1

    def trim(self) -> None:
        """Remove commits that two checkpoints have replaced.

        One would do for those who come new; the other is for those who listed the folder
        just before, and for a look at what was noted of the last batches.
        """
        names = [name for name in os.listdir(self._folder) if name[:_DIGITS].isdigit()]
        checkpoints = sorted(int(n[:_DIGITS]) for n in names if n.endswith(_CHECKPOINT))
        for name in names:
            if len(checkpoints) > 1 and int(name[:_DIGITS]) < checkpoints[-2]:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, name))
