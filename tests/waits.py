"""Waiting for what happens by itself, however busy the machine is that the tests share."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 200.0
"""Seconds after which what is waited for will not come any more; less than a test may take.

A machine with many more tests at work than cores lets a process wait for half a minute.
"""


def until(holds: Callable[[], object], seconds: float = PATIENCE, pause: float = 0.01) -> None:
    """Wait until something holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(pause)
