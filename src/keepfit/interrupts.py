"""Signals that end a command, taken where nothing is half done.

Python runs the handler of a signal between any two instructions, also those by which a library
in C or Rust calls back. What a handler raises there may be lost, or come out as another error:
a panic of Polars, a statement that SQLite takes for failed. So while the loop works, Ctrl-C and
SIGTERM wait for the next fact; where it waits for others, or lets others work, they are taken at
once. So is a second one: whoever asks twice means now.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from keepfit.errors import KeepfitError

TAKEN = (signal.SIGINT, signal.SIGTERM)

_handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
"""What handles the signals itself; empty where nobody asked for order."""

_held = False
_came: int | None = None
"""The signal that came, until it is known to have been heard."""


@contextmanager
def orderly() -> Iterator[None]:
    """Let signals wait while they are `held`; what handles them is what did before.

    Only the main thread of a process is sent signals; elsewhere this does nothing.
    """
    global _came, _held
    if _handlers or not _main():
        yield
        return
    for number in TAKEN:
        before = signal.getsignal(number)
        if callable(before):
            _handlers[number] = before
            signal.signal(number, _hear)
    try:
        yield
    except (KeyboardInterrupt, KeepfitError):
        raise
    except BaseException:
        check()  # a library tripped over the signal
        raise
    finally:
        for taken, handler in _handlers.items():
            signal.signal(taken, handler)
        _handlers.clear()
        _came, _held = None, False


@contextmanager
def held() -> Iterator[None]:
    """Let signals wait for the next `check`, at the latest for the end of this."""
    with _holding(True):
        yield
    check()


@contextmanager
def free() -> Iterator[None]:
    """Take signals at once again: what follows may take long, and can be cut off anywhere.

    One that got lost in there is taken at the end.
    """
    check()
    with _holding(False):
        yield
    check()


@contextmanager
def handed_on() -> Iterator[None]:
    """Let Ctrl-C wait in a process that is begun in here, until that one says `ready`.

    While Python and what it imports are loaded, nothing could take it but with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ready() -> None:
    """Take Ctrl-C from now on, where whoever began this process has let it wait."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def check() -> None:
    """Take a signal that came."""
    global _came
    if _came is None or not _main():
        return
    number, _came = _came, None
    _handlers[number](number, None)


@contextmanager
def _holding(wanted: bool) -> Iterator[None]:
    global _held
    if not _handlers or not _main():
        yield
        return
    before, _held = _held, wanted
    try:
        yield
    finally:
        _held = before


def _hear(number: int, frame: FrameType | None) -> None:
    global _came
    first, _came = _came is None, number
    if not (_held and first):
        _handlers[number](number, frame)


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
