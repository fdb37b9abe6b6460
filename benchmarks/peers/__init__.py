"""Other tools, each in a virtual environment of its own, asked in a fresh process.

`peers/<module>.py` holds what is written for one tool, in that tool's own words; what it needs
stands in `peers/requirements/<peer>.txt`. Environments are made when first asked for and kept in
`.bench/`, or where KEEPFIT_BENCH says. A peer that cannot be installed, fails or takes too long
is a line in the report and never the end of the run.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BENCHMARKS = Path(__file__).parent.parent
REQUIREMENTS = Path(__file__).parent / "requirements"

TIMEOUT = 900.0
"""Seconds that one question to one tool may take."""

QUIET = {
    "ANONYMIZED_TELEMETRY": "0",
    "DEEPCHECKS_DISABLE_LATEST": "1",
    "DO_NOT_TRACK": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "PYTHONWARNINGS": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "WHYLOGS_NO_ANALYTICS": "1",
}
"""No telemetry, no look for newer versions, no warnings."""


class Silent(Exception):
    """A tool that gave no answer, and why."""


@dataclass(frozen=True)
class Tool:
    """One way of using one tool.

    Parameters
    ----------
    label
        What the report calls it.
    module
        The script in this package that knows it.
    name
        The name in that script's `TOOLS`.
    peer
        The environment it lives in; None for keepfit's own.
    distribution
        The package whose version the report shows.
    """

    label: str
    module: str
    name: str
    peer: str | None = None
    distribution: str | None = None

    def ask(self, *question: object, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return what the tool's script prints when it is asked in a fresh process."""
        command = [*self._command(), *map(str, question)]
        try:
            done = subprocess.run(
                command,
                cwd=BENCHMARKS,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Silent(f"over {timeout:.0f} s") from None
        if done.returncode:
            raise Silent(f"failed: {_last_line(done.stderr) or f'exit {done.returncode}'}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def begin(self, *question: object, stdout: IO[str], stderr: int) -> subprocess.Popen[str]:
        """Start the tool's script in a process of its own, and leave it running."""
        return subprocess.Popen(
            [*self._command(), *map(str, question)],
            cwd=BENCHMARKS,
            env=_environment() | {"OMP_NUM_THREADS": "1"},
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def _command(self) -> list[str]:
        where = sys.executable if self.peer is None else str(python(self.peer))
        return [where, "-m", f"peers.{self.module}", self.name]

    def version(self) -> str:
        """Return the version of the tool's package, or nothing where it has none."""
        if self.distribution is None:
            return ""
        code = f"import importlib.metadata as m; print(m.version({self.distribution!r}))"
        where = sys.executable if self.peer is None else str(python(self.peer))
        done = subprocess.run([where, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def __str__(self) -> str:
        return self.label


def say(*words: object) -> None:
    """Tell the person who waits what is going on."""
    print(f"{time.strftime('%H:%M:%S')}", *words, file=sys.stderr, flush=True)


def cache() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ.get("KEEPFIT_BENCH") or BENCHMARKS.parent / ".bench").resolve()


@functools.cache
def python(peer: str) -> Path:
    """Return the Python of a peer's environment, made now when it is not there yet."""
    outcome = _made(peer)
    if isinstance(outcome, Silent):
        raise outcome
    return outcome


@functools.cache
def _made(peer: str) -> Path | Silent:
    """Make an environment once per run, and remember that it could not be made."""
    wanted = (REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8") + sys.version
    folder = cache() / peer
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return inside
    say(f"installing {peer} into {folder} …")
    pip = [
        inside,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]
    for command in (
        [sys.executable, "-m", "venv", folder],
        [*pip, REQUIREMENTS / f"{peer}.txt"],
    ):
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            say(f"{peer} is left out: {_last_line(done.stderr)}")
            return Silent(f"not installed: {_last_line(done.stderr)}")
    stamp.write_text(wanted, encoding="utf-8")
    return inside


def _environment() -> dict[str, str]:
    """Return this process' environment, quiet, and without a path into another tool's packages."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | QUIET


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1][:160].replace("|", "/")
