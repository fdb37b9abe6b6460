"""The children of a server: one that dies is started again, also when that fails at first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keepfit.server import process
from keepfit.server.process import Family
from tests.waits import until

SOON = 60


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RESTED", 0.0)
    monkeypatch.setattr(process, "WATCHED_EVERY", 0.01)


def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    tries = 0

    def start() -> subprocess.Popen[bytes]:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            raise OSError("no memory for another process")
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[-1]

    family = Family([start])
    try:
        with family.watched():
            started[0].kill()
            until(lambda: len(started) == 2)
        assert started[1].poll() is None
    finally:
        family.end()
    assert started[1].poll() is not None
    said = [one.message for one in caplog.records if "cannot be started" in one.message]
    assert len(said) == 2
