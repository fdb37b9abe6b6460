"""Loading a model beside those that answer: what is held back meanwhile, and how it ends."""

from __future__ import annotations

import gc
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepfit.artifacts import Artifacts
from keepfit.errors import ArtifactCorrupt
from keepfit.learners.models import MAGIC
from keepfit.server.loading import HANDED_OVER, beside_answers
from keepfit.server.models import Models, Pointer

NAME = "brought_by_a_model"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Collect again what a test froze, and forget what it brought."""
    interval = sys.getswitchinterval()
    yield
    sys.modules.pop(NAME, None)
    sys.setswitchinterval(interval)
    gc.unfreeze()
    gc.enable()


def test_the_collector_waits_and_the_lock_is_handed_over_sooner() -> None:
    interval = sys.getswitchinterval()
    with beside_answers():
        assert not gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(HANDED_OVER)
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_all_is_as_before_when_a_model_does_not_load(tmp_path: Path) -> None:
    interval = sys.getswitchinterval()
    artifacts = Artifacts(tmp_path)
    digest = artifacts.put(MAGIC + b"no model")
    with pytest.raises(ArtifactCorrupt):
        Models(artifacts).load(Pointer("v1", digest))
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with beside_answers():
        pass
    assert not gc.isenabled()


def test_what_modules_brought_is_taken_for_what_stays() -> None:
    before = gc.get_freeze_count()
    with beside_answers():
        sys.modules[NAME] = types.ModuleType(NAME)
    assert gc.get_freeze_count() > before


def test_cycles_of_a_model_without_new_modules_are_still_collected() -> None:
    before = gc.get_freeze_count()
    with beside_answers():
        pass
    assert gc.get_freeze_count() == before


def test_loads_of_one_process_come_one_after_the_other() -> None:
    interval, inside, let_go = sys.getswitchinterval(), threading.Event(), threading.Event()

    def load() -> None:
        with beside_answers():
            inside.set()
            let_go.wait(60)

    first = threading.Thread(target=load)
    first.start()
    assert inside.wait(60)
    second = threading.Thread(target=load)
    second.start()
    let_go.set()
    first.join(60)
    second.join(60)
    # Had they been at it together, the second would have put back what the first had set.
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(interval)
