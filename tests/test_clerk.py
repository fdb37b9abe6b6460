"""The office in a process of its own: what it is asked, how it fails, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from keepfit.errors import ConfigError, GateRefused, KeepfitError, VersionUnknown
from keepfit.server.app import Asked
from keepfit.server.clerk import Clerk
from keepfit.server.office import Hands
from tests.stories.test_serving import FILE, Home
from tests.waits import PATIENCE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("clerk")).trained()


@pytest.fixture
def file(home: Home) -> Iterator[Path]:
    """The pipeline's file, as it is again after each test."""
    yield home.file
    home.file.write_bytes(FILE.read_bytes())


def clerk(home: Home, idle: float = 60.0) -> Clerk:
    return Clerk(str(home.file), home.folder / ".keepfit", "churn", idle)


def during(clerk: Clerk, work: Callable[[Clerk], Awaitable[Any]]) -> Any:
    async def done() -> Any:
        try:
            return await work(clerk)
        finally:
            await asyncio.get_running_loop().run_in_executor(None, clerk.close)

    return asyncio.run(done())


def children() -> set[int]:
    """Return the processes of clerks that live."""
    found = set()
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie's words are gone too
            if "keepfit.server.clerk" in one.cmdline():
                found.add(one.pid)
    return found


def test_a_clerk_says_what_is_said_in_this_process(home: Home) -> None:
    async def asked(one: Clerk) -> Any:
        return await one.ask("status"), await one.ask("why", "v1")

    told, why = during(clerk(home), asked)
    hands = Hands(home.pipeline())
    here, reason = hands.status(), hands.why("v1")
    hands.close()
    assert told["champion"] == here["champion"]
    assert told.keys() == here.keys()
    assert why.keys() == reason.keys()


def test_a_hand_is_laid_on_and_its_errors_come_back_as_they_are(home: Home) -> None:
    async def paused(one: Clerk) -> None:
        assert (await one.ask("pause", Asked("too hot", by="ada")))["paused"]
        assert (await one.standing()).paused is not None
        assert (await one.ask("resume", Asked("cool")))["paused"] is None
        assert (await one.standing()).paused is None
        for version, kind in (("v99", VersionUnknown), (None, ConfigError)):
            with pytest.raises(kind) as told:
                await one.ask("promote", Asked("try", version=version))
            assert told.value.message
            assert told.value.hint
            assert type(told.value) is kind

    during(clerk(home), paused)
    assert issubclass(GateRefused, KeepfitError)


def test_nothing_is_begun_before_the_first_question_nor_kept_after_the_last(home: Home) -> None:
    async def idle(one: Clerk) -> None:
        assert (await one.standing()).champion == "v1"
        assert children() == set()
        await one.ask("status")
        assert len(children()) == 1
        end = time.monotonic() + PATIENCE
        while children():
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert (await one.ask("status"))["champion"]

    during(clerk(home, idle=0.2), idle)
    assert children() == set()


@pytest.mark.parametrize("gone", [False, True], ids=["going", "gone"])
def test_a_process_that_was_killed_is_begun_again(home: Home, gone: bool) -> None:
    async def killed(one: Clerk) -> None:
        await one.ask("status")
        (pid,) = children()
        first = one._child
        assert first is not None
        psutil.Process(pid).kill()
        if gone:
            first.wait(PATIENCE)
        else:
            with contextlib.suppress(KeepfitError):  # who asks while it ends is told so
                await one.ask("status")
        assert (await one.ask("status"))["champion"]
        assert [pipe.closed for pipe in (first.stdin, first.stdout) if pipe] == [True, True]

    during(clerk(home), killed)


def test_what_a_file_prints_is_no_answer(home: Home, file: Path) -> None:
    file.write_text("print('hello')\n" + file.read_text())

    async def asked(one: Clerk) -> Any:
        return await one.ask("status")

    assert during(clerk(home), asked)["champion"]


def test_a_file_that_no_longer_runs_is_told_and_may_be_mended(home: Home, file: Path) -> None:
    async def asked(one: Clerk) -> None:
        file.write_text("raise ValueError('not now')\n")
        with pytest.raises(KeepfitError, match="not now"):
            await one.ask("status")
        file.write_bytes(FILE.read_bytes())
        assert (await one.ask("status"))["champion"]

    during(clerk(home), asked)


def test_a_file_that_ends_its_process_is_told(home: Home, file: Path) -> None:
    file.write_text("import os\nos._exit(3)\n")

    async def asked(one: Clerk) -> None:
        with pytest.raises(KeepfitError, match="ended before it had answered"):
            await one.ask("status")

    during(clerk(home), asked)
