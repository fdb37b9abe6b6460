"""Loading a model beside those that answer, without holding them up."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

HANDED_OVER = 0.0005
"""Seconds after which a thread that loads hands Python's lock to one that waits; else it is 5 ms."""

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def beside_answers() -> Iterator[None]:
    """Let other threads of this process go on answering while one loads a model.

    A model of another library than the one before brings a thousand modules and more. Python's
    collector of cycles looks at all that they hold, again and again while it grows, which stops
    every thread for up to 0.4 s. So it waits meanwhile, and what came is then taken for what stays.
    """
    with _one_at_a_time:
        modules, interval, collected = len(sys.modules), sys.getswitchinterval(), gc.isenabled()
        gc.disable()
        sys.setswitchinterval(HANDED_OVER)
        try:
            yield
        finally:
            sys.setswitchinterval(interval)
            # Only then: of models that come and go some are cycles, which are to be collected.
            if len(sys.modules) > modules:
                gc.freeze()
            if collected:
                gc.enable()
