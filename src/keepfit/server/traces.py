"""What went wrong inside the server, in its log: whole the first time, then counted for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

EVERY = 60.0
"""Seconds between two errors of one kind that are written whole: thousands may come in a second."""

MOST = 256
"""Kinds of errors that are known at once at most."""

_log = logging.getLogger("keepfit.server")


class Traces:
    """Writes errors with the whole way there, those of one kind not more often than now and then.

    Errors are of one kind when they are of one type and were raised at one place.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[type[Exception], str], tuple[float, int]] = {}

    def write(self, error: Exception) -> None:
        """Write an error of which whoever asked is told that the log has more."""
        key, now = (type(error), _place(error)), self._clock()
        since, left_out = self._seen.get(key, (-EVERY, 0))
        if now - since < EVERY:
            self._seen[key] = since, left_out + 1
            return
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen[key] = now, 0
        more = f" ({left_out:,} more like it since the last one that was told)" if left_out else ""
        told = f"{type(error).__name__}: {error}"
        _log.error("a request was not answered: %s%s", told, more, exc_info=error)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


TRACES = Traces()
"""Those of this process."""
