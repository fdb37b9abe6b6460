"""Runs the benchmarks and writes BENCHMARKS.md beside this file.

Every `bench_*.py` is one, with a `main` that returns lines of Markdown. All of them together
write the report; with names, or quick, they print theirs instead.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("numpy", "polars", "scikit-learn", "scipy")


def main() -> int:
    """Run what the command line asks for; 1 when a benchmark broke."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that all works")
    parser.add_argument(
        "--streams", type=Path, help="a folder of Parquet files; else where KEEPFIT_STREAMS says"
    )
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(names))
    if unknown:
        parser.error(f"expected names of {', '.join(names)}, got {', '.join(unknown)}")
    if asked.streams:
        os.environ["KEEPFIT_STREAMS"] = str(asked.streams.resolve())
    broken: list[str] = []
    lines = [*_head(), *_reports(asked.names or names, broken, quick=asked.quick)]
    report = "\n".join(lines).rstrip() + "\n"
    if asked.names or asked.quick:
        print(report, end="")
    else:
        (HERE / "BENCHMARKS.md").write_text(report, encoding="utf-8")
    return 1 if broken else 0


def _reports(names: list[str], broken: list[str], *, quick: bool) -> Iterator[str]:
    """Yield the lines of every benchmark; one that breaks is a line, and the others run."""
    for name in names:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        run = importlib.import_module(f"bench_{name}").main
        shrinks = "quick" in inspect.signature(run).parameters
        try:
            yield from run(quick=quick) if shrinks else run()
        except Exception as error:
            traceback.print_exc()
            broken.append(name)
            yield from (f"## bench_{name} broke", "", f"{type(error).__name__}: {error}", "")


def _head() -> list[str]:
    """Return what the figures depend on: when, what and where."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    changed = " with changes" if _git("status", "--porcelain", "--", "src", "benchmarks") else ""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, "
        f"commit {commit}{changed}; Python {platform.python_version()}, {versions}; "
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}. "
        "Times are this machine's; what counts is the ratio within one run.",
        "",
    ]


def _git(*words: str) -> str:
    command = ["git", *words]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    """Return the processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    sys.exit(main())
