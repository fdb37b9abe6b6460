"""What a training may take where nobody has stated a limit: far more than an honest one does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LEAST_SECONDS = 3_600.0
"""Seconds that any training may take."""

TIMES = 20
"""How many times as long as expected a training may take."""

UNKNOWN_SECONDS = 86_400.0
"""Seconds that a training may take of which no other one tells how long it takes."""

SHARE = 0.9
"""The share of the memory there is that a training may hold."""

_GROUPS = Path("/sys/fs/cgroup")
_PROCESSES = Path("/proc")
_KEPT = re.compile(rb"^Pss_(?:Anon|Shmem): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a training may take of something, as it was stated, or by default."""

    most: float
    stated: bool = False

    @classmethod
    def of(cls, *stated: float | None) -> Limit | None:
        """Return the first limit that was stated; None where none was."""
        return next((cls(one, stated=True) for one in stated if one is not None), None)

    def told(self, name: str) -> str:
        """Return what a person should know of a limit that nobody has stated, or ``""``."""
        if self.stated:
            return ""
        return (
            ", the limit where none is stated\n\n"
            f"hint: executors.Local({name}=…) states another, {name}=math.inf none"
        )


def seconds(expected: float | None) -> float:
    """Return how long a training may take.

    Parameters
    ----------
    expected
        The seconds it takes at most, as those before it tell; None where none does.

    Examples
    --------
    >>> seconds(2.5), seconds(7_200.0), seconds(None)
    (3600.0, 144000.0, 86400.0)
    """
    return UNKNOWN_SECONDS if expected is None else max(LEAST_SECONDS, TIMES * expected)


def memory() -> int:
    """Return how many bytes a training may hold: a share of the machine's, or of its container's."""
    import psutil

    return int(SHARE * min((psutil.virtual_memory().total, *_allowed())))


def _allowed() -> Iterable[int]:
    """Yield the limits of the control groups (v2) that this process is in, where they can be read."""
    try:
        lines = (_PROCESSES / "self" / "cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        return
    place = _GROUPS / own.strip("/")
    for folder in (place, *place.parents):
        # Where there is none the file is missing, or says "max".
        with contextlib.suppress(OSError, ValueError):
            yield int((folder / "memory.max").read_text())
        if folder == _GROUPS:
            return


def kept(processes: Iterable[int]) -> int | None:
    """Return the bytes that nothing but the end of processes gives back; None where it is not known.

    What several share counts once, and files that they map not at all: the system takes such
    pages when it needs them.
    """
    held = 0
    for process in processes:
        try:
            told = (_PROCESSES / str(process) / "smaps_rollup").read_bytes()
        except ProcessLookupError:
            continue
        except OSError:
            return None
        found = _KEPT.findall(told)
        if not found:
            return None
        held += sum(1024 * int(one) for one in found)
    return held
