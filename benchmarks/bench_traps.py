"""What drift tools say of data as it breaks in life: alarms that are due, and some that are not."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_drift import TOOLS
from peers import Silent, Tool
from peers.harness import Columns
from peers.report import Answer, asked, table

ROWS = 50_000
BATCH = 10_000

# These take one array, or one column at a time, and so do not see what a table is missing.
WITHOUT = ("alibi_detect_drift", "frouros_drift", "scipy_drift", "floor")
ASKED = tuple(tool for tool in TOOLS if tool.module not in WITHOUT)

Made = Mapping[str, Any]
"""Values of the column `x` under the kind they are of: numbers, categories or times."""

Make = Callable[[np.random.Generator], Made]


@dataclass(frozen=True)
class Trap:
    """A column `x` that breaks, or does not, among others that stay as they were.

    ``reference`` and ``current`` make its values; nothing made is a column that is gone.
    """

    name: str
    due: bool
    reference: Make
    current: Make

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both sides and return where they are."""
        paths = []
        for seed, (side, made) in enumerate(
            {"reference": self.reference, "current": self.current}.items()
        ):
            rng = np.random.default_rng(seed)
            numbers = {name: rng.normal(size=ROWS) for name in ("a", "b")}
            categories = {"c": _texts(rng, 5)}
            extra = made(rng)
            path = folder / f"{side}.npz"
            Columns.save(
                path,
                {**numbers, **extra.get("numbers", {})},
                {**categories, **extra.get("categories", {})},
                extra.get("times"),
            )
            paths.append(path)
        return paths[0], paths[1]


def _texts(rng: np.random.Generator, levels: int) -> tuple[np.ndarray, np.ndarray]:
    codes = rng.integers(0, levels, ROWS).astype(np.int16)
    return codes, np.array([f"level {i}" for i in range(levels)])


def _normal(rng: np.random.Generator) -> Made:
    return {"numbers": {"x": rng.normal(size=ROWS)}}


def _with(value: float, share: float, shift: float = 0.0) -> Make:
    """Return normal numbers, moved, of which a share has another value; one per batch at least."""

    def made(rng: np.random.Generator) -> Made:
        values = rng.normal(shift, 1.0, ROWS)
        step = int(1 / share) if share else BATCH
        values[::step] = value
        return {"numbers": {"x": values}}

    return made


def _text_for_numbers(rng: np.random.Generator) -> Made:
    levels = np.array([f"{value:.1f}" for value in np.linspace(-3, 3, 61)])
    codes = np.clip(np.round(rng.normal(size=ROWS) * 10) + 30, 0, 60).astype(np.int16)
    return {"categories": {"x": (codes, levels)}}


def _thousand(rng: np.random.Generator) -> Made:
    return {"categories": {"x": _texts(rng, 1_000)}}


def _times(year: int) -> Make:
    def made(rng: np.random.Generator) -> Made:
        minutes = rng.integers(0, 365 * 24 * 60, ROWS)
        return {"times": {"x": np.datetime64(f"{year}-01-01", "us") + minutes.astype("m8[m]")}}

    return made


TRAPS = (
    Trap("all values missing", True, _normal, _with(np.nan, 1.0)),
    Trap("a third missing that was not", True, _normal, _with(np.nan, 1 / 3)),
    Trap("numbers that came as text", True, _normal, _text_for_numbers),
    Trap("the column is gone", True, _normal, lambda rng: {}),
    Trap("moved by 1 sd, with a value of 1e12", True, _normal, _with(1e12, 0.0, 1.0)),
    Trap("moved by 1 sd, with an infinity", True, _normal, _with(np.inf, 0.0, 1.0)),
    Trap("times with a zone, a year later", True, _times(2023), _times(2024)),
    Trap("nothing, with an infinity", False, _normal, _with(np.inf, 0.0)),
    Trap("nothing, 1,000 categories", False, _thousand, _thousand),
)


def verdict(trap: Trap, answer: Answer) -> str:
    """Return what a tool did, and whether it was right."""
    if isinstance(answer, Silent):
        return "error" if str(answer).startswith("failed") else "–"
    said = [("x" in batch) for batch in answer["flagged"]]
    if all(said):
        word = "alarm"
    elif any(said):
        word = f"alarm in {sum(said)} of {len(said)}"
    else:
        word = "quiet"
    right = all(one is trap.due for one in said)
    return f"{'✓' if right else '✗'} {word}"


def main(*, quick: bool = False) -> list[str]:
    """Return the lines of the report."""
    asks = ASKED[:3] if quick else ASKED
    body = []
    errors: dict[str, list[str]] = {}
    for trap in TRAPS:
        with tempfile.TemporaryDirectory() as folder:
            paths = trap.write(Path(folder))
            row = []
            for tool in asks:
                answer = _asked(tool, trap, paths)
                row.append(verdict(trap, answer))
                if isinstance(answer, Silent):
                    errors.setdefault(f"{tool.label}: {answer}", []).append(trap.name)
        body.append([trap.name, *row])
    return [
        "## Broken data, and what the tools say of it",
        "",
        f"One column of four, {ROWS:,} rows as reference and batches of {BATCH:,}; each tool at its "
        "own limits. ✓ is an alarm in every batch where one is due, and none where nothing happened; "
        "an error is no report on any column, and what it says stands below.",
        "",
        *table(["column", *(tool.label for tool in asks)], body),
        "",
        *(f"- {reason} ({', '.join(where)})" for reason, where in errors.items()),
        "",
    ]


def _asked(tool: Tool, trap: Trap, paths: tuple[Path, Path]) -> Answer:
    options = ("--rows", BATCH, "--repeats", ROWS // BATCH, "--budget", 5)
    return asked(tool, "batches", *paths, *options, about=trap.name, timeout=300.0)


if __name__ == "__main__":
    print("\n".join(main(quick="--quick" in sys.argv)))
