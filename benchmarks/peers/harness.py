"""What every tool's process does alike: load the arrays, warm up, time, measure memory, answer.

Runs in the peers' environments, so it imports nothing but the standard library and NumPy, and
pandas where the tool's table is one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

WARM = 2_000
"""Rows of the first call, which is not timed: what is imported late or compiled is there then."""


@dataclass(frozen=True)
class Columns:
    """Rows as arrays: numbers as float64, categories as texts, times in UTC as datetime64."""

    numbers: dict[str, np.ndarray]
    categories: dict[str, np.ndarray]
    times: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Columns:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            levels = {k[7:]: stored[k] for k in stored.files if k.startswith("levels_")}
            numbers = {k[2:]: stored[k] for k in stored.files if k.startswith("n_")}
            times = {k[2:]: stored[k] for k in stored.files if k.startswith("t_")}
            categories = {
                name: texts.astype(object)[stored[f"c_{name}"]] for name, texts in levels.items()
            }
        return cls(numbers, categories, times)

    @staticmethod
    def save(
        path: Path,
        numbers: Mapping[str, np.ndarray],
        categories: Mapping[str, tuple[np.ndarray, np.ndarray]],
        times: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write numbers, times, and categories as codes with their texts."""
        arrays = {f"n_{name}": values for name, values in numbers.items()}
        arrays |= {f"t_{name}": values for name, values in (times or {}).items()}
        for name, (codes, levels) in categories.items():
            arrays |= {f"c_{name}": codes, f"levels_{name}": levels}
        np.savez(path, **arrays)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.numbers.values())))

    def part(self, start: int, rows: int) -> Columns:
        """Return copies of some rows."""
        cut = slice(start, start + rows)
        kinds = (self.numbers, self.categories, self.times)
        return Columns(*({name: kind[name][cut].copy() for name in kind} for kind in kinds))


class DriftTool:
    """One tool and one way of using it; only `fit` and `check` are timed.

    Parameters
    ----------
    batch
        How many rows the batches will have; None when all rows are compared at once.
    """

    def __init__(self, batch: int | None = None) -> None:
        self.batch = batch

    def table(self, columns: Columns) -> Any:
        """Return the rows in the form that the tool takes; a pandas frame unless it says else."""
        import pandas as pd

        times = {name: pd.Series(at).dt.tz_localize("UTC") for name, at in columns.times.items()}
        return pd.DataFrame({**columns.numbers, **columns.categories, **times})

    def fit(self, reference: Any) -> Any:
        """Return what a check needs; the rows themselves for a tool that cannot keep a reference."""
        return reference

    def check(self, fitted: Any, rows: Any) -> Any:
        """Compare rows with the reference, whole."""
        raise NotImplementedError

    def flagged(self, result: Any) -> list[str]:
        """Return the columns that the tool calls drifted."""
        raise NotImplementedError

    def statistics(self, result: Any) -> dict[str, float]:
        """Return the Kolmogorov-Smirnov statistic of each number, where the tool has it."""
        return {}

    def state(self, fitted: Any) -> int:
        """Return how many bytes the fitted reference takes when it is stored."""
        return len(pickle.dumps(fitted))

    def files(self, reference: str, current: str) -> Any:
        """Compare Parquet files, read by the tool's own means."""
        raise NotImplementedError


class Meter:
    """Wall seconds, CPU seconds and the peak of resident memory beyond the start."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        gc.collect()
        _give_back()
        self._start = _status("VmRSS")
        self._resets = _reset_peak()

    def time(self, work: Callable[[], Any]) -> Any:
        """Return what a call returns, timed."""
        cpu, wall = _cpu(), time.perf_counter()
        result = work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(_cpu() - cpu)
        return result

    def answer(self) -> dict[str, Any]:
        """Return the medians, how often was measured, and the peak in MB where it is known."""
        peak = _status("VmHWM") if self._resets else None
        known = peak is not None and self._start is not None
        return {
            "wall": statistics.median(self.wall),
            "cpu": statistics.median(self.cpu),
            "repeats": len(self.wall),
            "peak": max(0.0, peak - self._start) / 1e3 if known else None,
        }


def _cpu() -> float:
    """Return the CPU seconds of all threads so far, and of child processes that ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _status(key: str) -> float | None:
    """Return a line of Linux' account of this process, in kB; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) for line in lines if line.startswith(key)), None)


def _reset_peak() -> bool:
    """Let the peak of resident memory start anew, so that loading is not counted."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Return freed memory to the system, so that its reuse is counted as use."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def drift(tools: Mapping[str, type[DriftTool]]) -> None:
    """Answer one question about drift, on the command line, with one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=tools)
    parser.add_argument("task", choices=["once", "batches", "files", "first"])
    parser.add_argument("reference", type=Path)
    parser.add_argument("current", type=Path)
    parser.add_argument("--repeats", type=int, default=1, help="the most to measure")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds after which to stop")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of a batch")
    asked = parser.parse_args()
    tool = tools[asked.tool](asked.rows if asked.task == "batches" else None)
    answers = {"once": _once, "batches": _batches, "files": _files, "first": _first}
    print(json.dumps(answers[asked.task](tool, asked)))


def _once(tool: DriftTool, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit on the reference and check the current rows, everything computed once."""
    reference, current = _loaded(tool, asked)
    meter = Meter()
    result = None
    for _ in repeats(asked.repeats, asked.budget):
        result = None
        result = meter.time(lambda: tool.check(tool.fit(reference), current))
    return meter.answer() | {"statistics": tool.statistics(result)}


def _batches(tool: DriftTool, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit once, then check batches of the current rows."""
    columns = Columns.load(asked.reference)
    _warm(tool, columns)
    reference = tool.table(columns)
    columns = Columns.load(asked.current)
    # No tool sees the same batch twice in a row: what it remembers of one is not measured.
    starts = range(0, min(columns.rows, 20 * asked.rows), asked.rows)
    if len(starts) < 2:
        raise ValueError(f"expected rows for two batches of {asked.rows}, got {columns.rows}")
    batches = [tool.table(columns.part(start, asked.rows)) for start in starts]
    del columns
    fitting = Meter()
    fitted = fitting.time(lambda: tool.fit(reference))
    fit = fitting.answer()
    flagged = [tool.flagged(tool.check(fitted, batches[-1]))]
    meter = Meter()
    for i in repeats(asked.repeats, asked.budget):
        result = meter.time(partial(tool.check, fitted, batches[i % len(batches)]))
        if len(flagged) < len(batches):
            flagged.append(tool.flagged(result))
    return meter.answer() | {"fit": fit, "flagged": flagged, "state": _size(tool, fitted)}


def _files(tool: DriftTool, asked: argparse.Namespace) -> dict[str, Any]:
    """Read, fit and check files; memory counts from the process after its imports."""
    small = str(asked.reference / "warm.parquet")
    tool.files(small, small)
    meter = Meter()
    reference, current = (str(p / "rows-*.parquet") for p in (asked.reference, asked.current))
    result = meter.time(lambda: tool.files(reference, current))
    return meter.answer() | {"flagged": tool.flagged(result)}


def _first(tool: DriftTool, asked: argparse.Namespace) -> dict[str, Any]:
    """Make the first report of a process, on few rows."""
    reference = tool.table(Columns.load(asked.reference))
    current = tool.table(Columns.load(asked.current))
    return {"flagged": tool.flagged(tool.check(tool.fit(reference), current))}


def _loaded(tool: DriftTool, asked: argparse.Namespace) -> tuple[Any, Any]:
    """Return both tables, after a first call on few rows."""
    columns = Columns.load(asked.reference)
    _warm(tool, columns)
    reference = tool.table(columns)
    del columns
    return reference, tool.table(Columns.load(asked.current))


def _warm(tool: DriftTool, columns: Columns) -> None:
    few = tool.table(columns.part(0, WARM))
    tool.check(tool.fit(few), few)


def repeats(most: int, budget: float) -> Iterator[int]:
    """Count up to the most, or until the seconds are spent; once in any case."""
    start = time.perf_counter()
    for i in range(most):
        if i and time.perf_counter() - start > budget:
            return
        yield i


def _size(tool: DriftTool, fitted: Any) -> int | None:
    """Return the bytes of the stored reference; None where it cannot be stored."""
    try:
        return tool.state(fitted)
    except Exception:  # what cannot be pickled says so in a hundred ways
        return None
