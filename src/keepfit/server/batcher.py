"""Requests that wait for a model are answered together: whatever is there, never for a set time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from keepfit.server.quick import Answer, Row

if TYPE_CHECKING:
    from keepfit.server.models import Serving

Answers = list[Answer] | Exception
Told = list[tuple[Callable[[Answers], None], Answers]]

MOST = 5_000
"""Rows that are answered together at most."""


class _Request(NamedTuple):
    serving: Serving
    rows: Sequence[Row]
    done: Callable[[Answers], None]


class Batcher:
    """A thread that answers what came in while it answered what was there before.

    Parameters
    ----------
    deliver
        Takes what to tell whom, in the batcher's thread.
    most
        Rows that may wait; a request beyond it is refused.
    """

    def __init__(self, deliver: Callable[[Told], None], most: int = 50_000) -> None:
        self._deliver, self._most = deliver, most
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._rows = 0
        self._thread = threading.Thread(target=self._run, name="keepfit batcher", daemon=True)
        self._thread.start()

    def submit(
        self, serving: Serving, rows: Sequence[Row], done: Callable[[Answers], None]
    ) -> bool:
        """Hand in rows; return False, and do nothing, when too many wait."""
        with self._lock:
            if self._rows and self._rows + len(rows) > self._most:
                return False
            self._rows += len(rows)
        self._requests.put(_Request(serving, rows, done))
        return True

    def close(self) -> None:
        """Answer what waits, and end."""
        self._requests.put(None)
        self._thread.join()

    def end(self) -> None:
        """Answer what waits, and end, though nobody waits for it."""
        self._requests.put(None)

    def _run(self) -> None:
        while (first := self._requests.get()) is not None:
            waiting = [first]
            count = len(first.rows)
            ended = False
            while count < MOST and not ended:
                try:
                    one = self._requests.get_nowait()
                except queue.Empty:
                    break
                ended = one is None
                if one is not None:
                    waiting.append(one)
                    count += len(one.rows)
            told = self._answered(waiting)
            with self._lock:
                self._rows -= count
            self._deliver(told)
            if ended:
                return

    def _answered(self, waiting: list[_Request]) -> Told:
        told: Told = []
        # During a swap there are two versions at work: each request ends with its own.
        for serving in dict.fromkeys(one.serving for one in waiting):
            told += _together(serving, [one for one in waiting if one.serving is serving])
        return told


def _together(serving: Serving, requests: Sequence[_Request]) -> Told:
    rows = [row for one in requests for row in one.rows]
    try:
        answers = serving.answerer.many(rows)
    except Exception as error:
        if len(requests) == 1:
            return [(requests[0].done, error)]
        # A row that a model cannot answer is no reason to refuse the others.
        return [told for one in requests for told in _together(serving, [one])]
    told: Told = []
    first = 0
    for one in requests:
        told.append((one.done, answers[first : first + len(one.rows)]))
        first += len(one.rows)
    return told
