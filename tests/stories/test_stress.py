"""Under load, again and again: versions change, and processes are killed at random moments.

KEEPFIT_STRESS says how often; `make stress` takes a hundred times of each, and holds how long
answers take while versions change against how long they take without.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from statistics import median

import pytest
from tests.stories.test_serving import Home
from tests.stress import TREES, killed, swapped

TURNS = int(os.environ.get("KEEPFIT_STRESS", "6"))
TIMED = TURNS >= 50
BLOCKS = 10 if TIMED else 3
QUIET = 3.0 if TIMED else 0.1
MINUTES = 30 if TURNS > 20 else 10
pytestmark = [
    pytest.mark.story,
    pytest.mark.timeout(60 * MINUTES),
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]


def test_no_request_fails_and_no_answer_is_of_another_version_while_versions_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = swapped(Home(tmp_path, TREES).trained(), TURNS, blocks=BLOCKS, quiet=QUIET)
    assert found.failed == []
    assert found.wrong == []
    assert found.served == found.versions
    if TIMED:
        with capsys.disabled():
            print(f"\np99 of {found.answers:,} answers under 64 connections, ms:")
            print("  quiet", _told(found.quiet))
            print("  while versions change", _told(found.busy))
        assert median(found.busy) <= 2 * median(found.quiet)


def _told(windows: list[float]) -> str:
    each = " ".join(f"{1e3 * one:.1f}" for one in windows)
    return f"{1e3 * median(windows):.1f}, of windows {each}"


def test_whatever_is_killed_and_when_what_was_told_is_kept_has_landed_once(tmp_path: Path) -> None:
    found = killed(Home(tmp_path).trained(), TURNS, random.Random(7))
    assert found.doubled == 0
    assert found.lost == {"predictions": [], "labels": [], "rows": []}
    assert min(found.told.values()) > 10 * TURNS
