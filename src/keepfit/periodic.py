"""Looking at something again and again, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Periodic:
    """A thread that looks at something at once and then after every pause, until it is closed.

    What goes wrong in a look does not end the thread. In a ``with`` it looks from beginning to end.

    Parameters
    ----------
    look
        What is done; never twice at a time.
    pause
        Seconds from the end of a look to the next.
    name
        The thread's.
    failed
        Hears what a look raised, while it is being handled: ``logger.exception`` knows of it.

    Examples
    --------
    >>> seen = threading.Event()
    >>> with Periodic(seen.set, 60.0, name="seeing", failed=print):
    ...     seen.wait(30)
    True
    """

    def __init__(
        self,
        look: Callable[[], object],
        pause: float,
        *,
        name: str,
        failed: Callable[[Exception], object],
    ) -> None:
        self._look, self._pause, self._failed = look, pause, failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it was told to end; it may still be at its last look."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self, seconds: float | None = None) -> bool:
        """Look no more, and wait for the look that is on, for so many seconds at most.

        Returns whether it has ended. One that was never started is closed at once.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception as error:  # whoever is looked after needs the next look all the more
                self._failed(error)
            self._stop.wait(self._pause)
