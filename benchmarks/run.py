"""Runs every benchmark and writes BENCHMARKS.md beside this file."""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("bench_start", "bench_step", "bench_backtest")


def main() -> None:
    """Write the report."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit or 'unknown'}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores. "
        "Times are this machine's; what counts is the ratio within one run.",
        "",
    ]
    for name in BENCHMARKS:
        print(name, flush=True)
        lines += importlib.import_module(name).main()
    (HERE / "BENCHMARKS.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
