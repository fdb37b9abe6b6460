"""The office in a process of its own: ``python -m keepfit.server.clerk FILE HOME``.

Looking into a pipeline and laying a hand on it take the pipeline's file, and all that it imports:
150 MB and two seconds for what is asked for now and then. So a process does it that begins with
the first question and ends some time after the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from keepfit import errors
from keepfit.errors import KeepfitError
from keepfit.home import places
from keepfit.server.app import Asked
from keepfit.server.models import logger
from keepfit.server.office import Hands

if TYPE_CHECKING:
    from keepfit.ledger import Ledger
    from keepfit.ledger.steps import Steps
    from keepfit.registry import State

IDLE = 60.0
"""Seconds after the last question until the process ends."""


class _Question(msgspec.Struct):
    """What is asked: the name of a method of `Hands`, and what it is given."""

    method: str
    given: list[Asked | str]


class _Answer(msgspec.Struct, omit_defaults=True):
    """What it returned, or the error that it raised."""

    value: Any = None
    error: str = ""
    message: str = ""
    hint: str | None = None


class Clerk:
    """The `Office` of a server: another process does the work, one question at a time.

    How a pipeline stands it reads by itself.

    Parameters
    ----------
    file, home, name
        Of the pipeline.
    idle
        Seconds after the last question until that process ends.
    """

    def __init__(self, file: str, home: Path, name: str, idle: float = IDLE) -> None:
        self._file, self._home, self._name, self._idle = file, home, name, idle
        # The ledger stays with the thread that opened it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keepfit clerk")
        self._child: subprocess.Popen[bytes] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._ledger: Ledger | None = None
        self._state: State | None = None

    async def ask(self, what: str, *given: Asked | str) -> dict[str, Any]:
        """Return what the process says, which may take a while."""
        loop = asyncio.get_running_loop()
        self._stay()
        try:
            return await loop.run_in_executor(self._thread, self._asked, what, list(given))
        finally:
            self._stay()  # of several who asked, the last says when it ends
            self._ending = loop.call_later(self._idle, self._thread.submit, self._end)

    async def standing(self) -> State:
        """Return what the facts so far add up to, to be looked at."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._folded)

    async def stepping(self) -> Steps:
        """Return how the loop comes through its steps."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._stepped)

    def _folded(self) -> State:
        from keepfit.registry import State

        if self._state is None:
            self._state = State()
        self._state.fold(self._book().facts(self._name, after=self._state.seq))
        return self._state

    def _stepped(self) -> Steps:
        from keepfit.ledger.steps import steps_of

        return steps_of(self._book(), self._name)

    def _book(self) -> Ledger:
        from keepfit.ledger import Ledger

        if self._ledger is None:
            self._ledger = Ledger(places(self._home)["ledger"])
        return self._ledger

    def close(self) -> None:
        """End the process, and let go of the ledger."""
        self._stay()
        self._thread.submit(self._end).result()
        if self._ledger is not None:
            self._thread.submit(self._ledger.close).result()
        self._thread.shutdown()

    def _stay(self) -> None:
        """Let the process go on until it is said again when it ends."""
        if self._ending is not None:
            self._ending.cancel()

    def _asked(self, method: str, given: list[Asked | str]) -> dict[str, Any]:
        """Put a question to the process, which is begun where there is none.

        Raises
        ------
        KeepfitError
            What the method raised, or the process ended.
        """
        if self._child is not None and self._child.poll() is not None:
            self._end()
        self._child = self._child or self._begun()
        answer = _told(self._child, _Question(method, given))
        if answer is None:
            self._end()
            raise KeepfitError(
                f"the process that looks after {self._name!r} ended before it had answered",
                hint="the server's log says why; ask again",
            )
        if answer.error:
            kind = getattr(errors, answer.error, KeepfitError)
            raise kind(answer.message, hint=answer.hint)
        value: dict[str, Any] = answer.value
        return value

    def _begun(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "keepfit.server.clerk", self._file, str(self._home)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _end(self) -> None:
        """End the process, which ends when nobody can ask it any more."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(OSError):  # it did not live to read the last question
            child.stdin.close()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _told(child: subprocess.Popen[bytes], question: _Question) -> _Answer | None:
    """Return what a process answers, or None where it ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(question) + b"\n")
        child.stdin.flush()
        return msgspec.json.decode(child.stdout.readline(), type=_Answer)
    except (OSError, msgspec.MsgspecError):
        return None


def main(file: str, home: str) -> None:
    """Answer questions, a line each, until no more can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    out = _answers()
    hands: Hands | None = None
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=_Question)
        try:
            hands = hands or _opened(file, home)
            answer = _Answer(getattr(hands, question.method)(*question.given))
        except KeepfitError as error:
            answer = _Answer(None, type(error).__name__, error.message, error.hint)
        except Exception as error:
            logger.exception("%s went wrong", question.method)
            hint = "the server's log has the whole way there"
            answer = _Answer(None, "KeepfitError", f"{type(error).__name__}: {error}", hint)
        out.write(msgspec.json.encode(answer) + b"\n")
        out.flush()
    if hands is not None:
        hands.close()


def _answers() -> IO[bytes]:
    """Return where answers go; what a pipeline's file prints goes where errors do."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


def _opened(file: str, home: str) -> Hands:
    from keepfit.cli.finding import load

    return Hands(load(file, Path(home)))


if __name__ == "__main__":
    main(*sys.argv[1:])
