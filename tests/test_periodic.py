"""A thread that looks again and again: at once, whatever goes wrong, and no more once closed."""

from __future__ import annotations

import logging
import threading
from itertools import count

import pytest

from keepfit.periodic import Periodic

LONG = 600.0
SOON = 30


def test_the_first_look_is_at_once_and_closing_does_not_wait_for_the_pause() -> None:
    seen = threading.Event()
    looking = Periodic(seen.set, LONG, name="seeing", failed=pytest.fail)
    looking.start()
    assert seen.wait(SOON)
    assert not looking.closed
    assert looking.close(SOON)
    assert looking.closed


def test_what_a_look_raises_is_told_while_it_is_handled_and_does_not_end_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks, again = count(), threading.Event()
    logger = logging.getLogger("keepfit.periodic.test")

    def look() -> None:
        if next(looks) < 2:
            raise OSError("the disk is away")
        again.set()

    with Periodic(look, 0.0, name="seeing", failed=lambda _: logger.exception("cannot look")):
        assert again.wait(SOON)
    assert [one.message for one in caplog.records] == ["cannot look"] * 2
    assert "OSError: the disk is away" in caplog.text


def test_a_look_that_is_on_is_waited_for_and_is_the_last() -> None:
    begun, go_on, looks = threading.Event(), threading.Event(), count(1)
    ended: list[int] = []

    def look() -> None:
        number = next(looks)
        begun.set()
        assert go_on.wait(SOON)
        ended.append(number)

    looking = Periodic(look, 0.0, name="seeing", failed=pytest.fail)
    looking.start()
    assert begun.wait(SOON)
    # It hangs: whoever closes waits no longer than they said.
    assert not looking.close(0.01)
    go_on.set()
    assert looking.close(SOON)
    assert ended == [1]


def test_one_that_never_began_is_closed_at_once() -> None:
    looking = Periodic(lambda: pytest.fail("it looked"), 0.0, name="seeing", failed=pytest.fail)
    assert looking.close()
    looking.start()
    assert looking.close(SOON)
