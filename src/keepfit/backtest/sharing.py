"""What several processes share: trainings, each done once, and what models answered."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.artifacts import Artifacts

if TYPE_CHECKING:
    import numpy as np

WAIT = 0.02
"""Seconds between two looks at a training that another process is at."""

Asked = tuple[str, int, int]
"""A model by its digest, a place in the history, and a count of rows."""


class Trainings(Artifacts):
    """A store whose trainings are divided among processes: what one is at, others wait for.

    A process that asks for the record of a training that does not exist takes it on, by a file
    named by its key, until it keeps the record or asks for another one, as it does when the
    training failed. What a process took on that is no more is anyone's again.
    """

    def __init__(self, url_or_path: str | os.PathLike[str], claims: Path) -> None:
        super().__init__(url_or_path)
        self._claims = claims
        self._held: Path | None = None
        claims.mkdir(parents=True, exist_ok=True)

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return the record under a key, waiting for who makes it; None where it is ours to make."""
        self.release()
        claim = self._claims / hashlib.sha256(key.encode()).hexdigest()
        known = super().recall(key)
        while known is None and not _taken(claim):
            time.sleep(WAIT)
            known = super().recall(key)
        if known is None:
            self._held = claim
            known = super().recall(key)  # it may have been kept before the claim was ours
        return known

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Keep the record of a training, and let the others have it."""
        super().remember(key, value)
        self.release()

    def release(self) -> None:
        """Let go of the training this process took on last."""
        if self._held is not None:
            self._held.unlink(missing_ok=True)
            self._held = None


def _taken(claim: Path) -> bool:
    """Return whether a claim is ours now; that of a process which has ended is taken away."""
    try:
        handle = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        # Two that take it away at once may train the same twice, which costs time and no more.
        if _ended(claim):
            claim.unlink(missing_ok=True)
        return False
    with os.fdopen(handle, "w") as file:
        file.write(str(os.getpid()))
    return True


def _ended(claim: Path) -> bool:
    import psutil

    try:
        text = claim.read_text()
    except FileNotFoundError:
        return False
    if not text.isdecimal():
        return False  # its process has not written itself down yet
    try:
        return bool(psutil.Process(int(text)).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Answers(MutableMapping[Asked, "np.ndarray"]):
    """What models said of rows, in memory and on disk for the other processes.

    The folder belongs to one backtest: places are those of its history.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._here: dict[Asked, np.ndarray] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, asked: Asked) -> np.ndarray:
        import numpy as np

        if asked not in self._here:
            try:
                self._here[asked] = np.load(self._file(asked))
            except (OSError, ValueError):
                raise KeyError(asked) from None
        return self._here[asked]

    def __setitem__(self, asked: Asked, scores: np.ndarray) -> None:
        import numpy as np

        self._here[asked] = scores
        file = self._file(asked)
        unfinished = file.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as opened:
            np.save(opened, scores)
        unfinished.replace(file)

    def __delitem__(self, asked: Asked) -> None:
        self._file(asked).unlink(missing_ok=True)
        del self._here[asked]

    def __iter__(self) -> Iterator[Asked]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)

    def _file(self, asked: Asked) -> Path:
        artifact, place, rows = asked
        return self._folder / f"{artifact[:32]}-{place}-{rows}.npy"
