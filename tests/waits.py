"""Waiting for what happens by itself, however busy the machine is that the tests share."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 200.0
"""Seconds after which what is waited for will not come any more; less than a test may take.

A machine with many more tests at work than cores lets a process wait for half a minute.
"""


def until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something holds, and fail if it does not in time.

    What comes soon is seen soon. What takes long is asked for less often: whoever asks takes
    the cores away from what is waited for.
    """
    end, pause = time.monotonic() + seconds, 0.005
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(pause)
        pause = min(1.3 * pause, 0.2)
