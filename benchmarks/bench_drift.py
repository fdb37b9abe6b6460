"""Drift beside the peers: the same arrays, a fresh process for each tool, one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peers import Silent, Tool, python, say
from peers.harness import WARM, Columns
from peers.report import Answer, asked, cell, milliseconds, peak, repeats, seconds, table

OURS = Tool("**keepfit**, all statistics", "keepfit_drift", "everything")
NANNYML = Tool("NannyML, default", "nannyml_drift", "jensen-shannon", "nannyml")
SCIPY = Tool("SciPy `ks_2samp` in a loop, numbers only", "scipy_drift", "ks")
TOOLS = (
    OURS,
    NANNYML,
    Tool("NannyML, KS and chi-square", "nannyml_drift", "ks", "nannyml"),
    Tool("Evidently, default preset", "evidently_drift", "preset", "evidently"),
    Tool("Evidently, PSI only", "evidently_drift", "psi", "evidently"),
    Tool("alibi-detect, texts made codes before", "alibi_detect_drift", "tabular", "alibi_detect"),
    Tool("deepchecks, FeatureDrift", "deepchecks_drift", "feature", "deepchecks"),
    Tool("whylogs, profiles compared", "whylogs_drift", "profiles", "whylogs"),
    Tool("frouros, KS, numbers only", "frouros_drift", "ks", "frouros"),
    Tool("frouros, PSI, numbers only", "frouros_drift", "psi", "frouros"),
    SCIPY,
    Tool("floor: `np.sort` of the numbers, 2 threads", "floor", "sort"),
    Tool("alibi-detect, texts as they come", "alibi_detect_drift", "objects", "alibi_detect"),
)
IMPORTS = {
    OURS: "import numpy, polars; from keepfit import drift; drift.Reference",
    NANNYML: "import nannyml",
    TOOLS[3]: "import evidently, evidently.presets",
    TOOLS[5]: "from alibi_detect.cd import TabularDrift",
    TOOLS[6]: "from deepchecks.tabular.checks import FeatureDrift",
    TOOLS[7]: "import whylogs",
    TOOLS[8]: "import frouros.detectors.data_drift",
}

NUMBERS = [f"number_{i:02}" for i in range(20)]
CATEGORIES = {"two": 2, "five": 5, "ten": 10, "fifty": 50, "hundred": 100}
SHIFTED = {*NUMBERS[:10], "two", "ten"}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sizes: Sequence[int] = (10_000, 100_000, 1_000_000)
    references: Sequence[int] = (100_000, 1_000_000)
    rows_in_files: int = 5_000_000
    rows_per_file: int = 1_000_000
    repeats: int = 11
    batches: int = 200
    starts: int = 5
    budget: float = 10.0
    timeout: float = 900.0


QUICK = Scale(
    sizes=(10_000,),
    references=(20_000,),
    rows_in_files=200_000,
    rows_per_file=100_000,
    repeats=3,
    batches=5,
    starts=1,
    budget=1.0,
    timeout=120.0,
)


def numbers(rng: np.random.Generator, rows: int, *, moved: bool) -> dict[str, np.ndarray]:
    """Return normal, skewed, heavy and counted numbers; the first ten move by 0.6 deviations."""
    made = {}
    for i, name in enumerate(NUMBERS):
        by = 0.6 if moved and name in SHIFTED else 0.0
        match i % 4:
            case 0:
                values = rng.normal(by, 1.0, rows)
            case 1:
                values = rng.lognormal(0.5 * by, 0.5, rows)
            case 2:
                values = rng.exponential(1.0 + by, rows)
            case _:
                values = rng.poisson(20 + by * 20**0.5, rows).astype(np.float64)
        made[name] = values
    return made


def categories(
    rng: np.random.Generator, rows: int, *, moved: bool
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return codes and texts of categories, the first the most frequent; two of them move."""
    made = {}
    for name, levels in CATEGORIES.items():
        share = 1.0 / np.arange(1, levels + 1)
        if moved and name in SHIFTED:
            share = share / 2 + share[::-1] / 2
        edges = np.cumsum(share / share.sum())
        codes = np.searchsorted(edges, rng.random(rows), side="right").clip(max=levels - 1)
        made[name] = (codes.astype(np.int16), np.array([f"{name} {i}" for i in range(levels)]))
    return made


def written(folder: Path, rows: int) -> tuple[Path, Path]:
    """Write arrays of both sides and return where they are."""
    paths = []
    for side, seed in (("reference", 1), ("current", 2)):
        path = folder / f"{side}-{rows}.npz"
        if not path.exists():
            rng, moved = np.random.default_rng([seed, rows]), side == "current"
            Columns.save(path, numbers(rng, rows, moved=moved), categories(rng, rows, moved=moved))
        paths.append(path)
    return paths[0], paths[1]


def written_files(folder: Path, rows: int, per_file: int) -> tuple[Path, Path]:
    """Write Parquet files of both sides, with a small one to warm up, and return their folders."""
    folders = []
    for side, seed in (("reference", 1), ("current", 2)):
        into = folder / side
        into.mkdir()
        rng, moved = np.random.default_rng([seed, rows]), side == "current"
        frame = _frame(rng, WARM, moved=moved)
        frame.write_parquet(into / "warm.parquet")
        for i in range(rows // per_file):
            frame = _frame(rng, per_file, moved=moved)
            frame.write_parquet(into / f"rows-{i:03}.parquet")
        folders.append(into)
    return folders[0], folders[1]


def _frame(rng: np.random.Generator, rows: int, *, moved: bool) -> pl.DataFrame:
    texts = {
        name: pl.Series(levels).gather(codes)
        for name, (codes, levels) in categories(rng, rows, moved=moved).items()
    }
    return pl.DataFrame({**numbers(rng, rows, moved=moved), **texts})


def once(folder: Path, scale: Scale) -> list[str]:
    """Fit and check, everything computed once, at each size."""
    columns: list[list[Answer]] = []
    for rows in scale.sizes:
        options = ("--repeats", scale.repeats, "--budget", scale.budget)
        paths = written(folder, rows)
        columns.append(
            [
                asked(
                    t, "once", *paths, *options, about=f"once, {rows:,} rows", timeout=scale.timeout
                )
                for t in TOOLS
            ]
        )
    head = [f"{rows:,} rows a side" for rows in scale.sizes]
    body = []
    for i, tool in enumerate(TOOLS):
        cells = [cell(answers[i], answers[0], seconds) for answers in columns]
        last = columns[-1][i]
        costs = [cell(last, columns[-1][0], seconds, "cpu"), peak(last), repeats(last)]
        body.append([tool.label, *cells, *costs])
    exact = columns[-1][TOOLS.index(SCIPY)]
    differences = [
        f"{tool.label} {_difference(answer, exact)}"
        for tool, answer in zip(TOOLS, columns[-1], strict=True)
        if tool is not SCIPY and not isinstance(answer, Silent) and answer["statistics"]
    ]
    return [
        "### Reference against current, everything computed once",
        "",
        "Median seconds to fit and check, after a first call on 2,000 rows, and in brackets how many "
        "times keepfit's. CPU seconds and the peak of memory beyond the loaded rows at the largest size.",
        "",
        *table(["", *head, "CPU", "peak MB", "runs"], body),
        "",
        *silences(columns, scale.sizes),
        f"Largest difference of a KS statistic from SciPy's, which is exact: {'; '.join(differences)}.",
        "",
    ]


def verdicts(answers: Sequence[Answer]) -> list[str]:
    """Return what the tools said of the batches, and so that each computed what its label says."""
    body = []
    for tool, answer in zip(TOOLS, answers, strict=True):
        if isinstance(answer, Silent) or tool.module == "floor":
            continue
        seen = set(NUMBERS) if "numbers only" in tool.label else {*NUMBERS, *CATEGORIES}
        said = [set(batch) & seen for batch in answer["flagged"]]
        found, false = (
            statistics.mean(len(batch & columns) for batch in said)
            for columns in (SHIFTED, seen - SHIFTED)
        )
        row = [f"{found:.1f} of {len(seen & SHIFTED)}", f"{false:.1f} of {len(seen - SHIFTED)}"]
        body.append([tool.label, *row, len(said)])
    return [
        "What they said, each at its own limits: of the columns that had moved and of those that "
        "had not, how many were called drifted in a batch, on average.",
        "",
        *table(["", "moved, found", "unmoved, flagged", "batches"], body),
        "",
    ]


def _difference(answer: dict[str, Any], exact: Answer) -> str:
    if isinstance(exact, Silent):
        return "–"
    values = exact["statistics"]
    pairs = [(value, values[name]) for name, value in answer["statistics"].items()]
    return f"{max(abs(one - other) for one, other in pairs):.1g}"


def silences(answers: Sequence[Sequence[Answer]], sizes: Sequence[int]) -> list[str]:
    """Return why tools gave no answer, a line each."""
    reasons: dict[str, list[str]] = {}
    for found, rows in zip(answers, sizes, strict=True):
        for tool, answer in zip(TOOLS, found, strict=True):
            if isinstance(answer, Silent):
                reasons.setdefault(f"{tool.label}: {answer}", []).append(f"{rows:,}")
    lines = [f"- {reason} ({', '.join(at)} rows)" for reason, at in reasons.items()]
    return [*lines, ""] if lines else []


def batches(folder: Path, scale: Scale) -> list[str]:
    """Fit once and check batches of 10,000 rows."""
    columns: list[list[Answer]] = []
    _, current = written(folder, max(scale.references))
    for rows in scale.references:
        options = ("--repeats", scale.batches, "--budget", scale.budget)
        reference, _ = written(folder, rows)
        question = ("batches", reference, current, *options)
        about = f"batches, reference of {rows:,}"
        columns.append(
            [asked(tool, *question, about=about, timeout=scale.timeout) for tool in TOOLS]
        )
    body = []
    for i, tool in enumerate(TOOLS):
        cells = [cell(answers[i], answers[0], milliseconds) for answers in columns]
        last = columns[-1][i]
        body.append([tool.label, *cells, *_fitted(last), repeats(last)])
    head = [f"reference of {rows:,}" for rows in scale.references]
    return [
        "### A batch of 10,000 rows against a fitted reference",
        "",
        "Median milliseconds of a check. Fitting, and the bytes of the stored reference, at the "
        "largest size; a tool without a size keeps the rows themselves or cannot be stored.",
        "",
        *table(["", *head, "fit", "peak of a fit, MB", "state", "checks"], body),
        "",
        *silences(columns, scale.references),
        *verdicts(columns[-1]),
    ]


def _fitted(answer: Answer) -> list[str]:
    if isinstance(answer, Silent):
        return ["–", "–", "–"]
    state = answer["state"]
    size = "–" if state is None else f"{state / 1e3:,.0f} kB"
    return [seconds(answer["fit"]["wall"]), peak(answer["fit"]), size]


def files(folder: Path, scale: Scale) -> list[str]:
    """Fit and check Parquet files, read by the tools themselves."""
    paths = written_files(folder, scale.rows_in_files, scale.rows_per_file)
    ours, theirs = (
        asked(tool, "files", *paths, about="files", timeout=scale.timeout)
        for tool in (OURS, NANNYML)
    )
    body = [
        [tool.label, cell(answer, ours, seconds), cell(answer, ours, seconds, "cpu"), peak(answer)]
        for tool, answer in ((OURS, ours), (NANNYML, theirs))
    ]
    return [
        f"### {scale.rows_in_files:,} rows a side, from Parquet",
        "",
        f"The same columns in files of {scale.rows_per_file:,} rows: read, fitted and checked. "
        "The peak is all memory beyond the process after its imports, the rows included.",
        "",
        *table(["", "wall", "CPU", "peak MB"], body),
        "",
    ]


def start(folder: Path, scale: Scale) -> list[str]:
    """Import, and the first report of a process."""
    paths = written(folder, 1_000)
    floor = _started([sys.executable, "-c", "import numpy, polars"], scale.starts)
    took = {tool: _starts(tool, code, paths, scale) for tool, code in IMPORTS.items()}
    ours = took[OURS]
    body = [["floor: `import numpy, polars`", milliseconds(floor), "–"]]
    for tool, answer in took.items():
        cells = [cell(answer, ours, milliseconds, what) for what in ("import", "first")]
        body.append([tool.label, *cells])
    return [
        "### From nothing",
        "",
        f"Whole processes, median of {scale.starts}: the import alone, and a report on 1,000 rows.",
        "",
        *table(["", "import", "first report"], body),
        "",
    ]


def _starts(tool: Tool, code: str, paths: tuple[Path, Path], scale: Scale) -> Answer:
    say(f"{tool.label.replace('**', '')}: start")
    try:
        where = sys.executable if tool.peer is None else str(python(tool.peer))
        first = [_timed(lambda: tool.ask("first", *paths)) for _ in range(scale.starts + 1)][1:]
        return {
            "import": _started([where, "-c", code], scale.starts),
            "first": statistics.median(first),
        }
    except Silent as silent:
        return silent
    except subprocess.CalledProcessError:
        return Silent(f"failed: `{code}`")


def _started(command: Sequence[str], repeats: int) -> float:
    """Return the median seconds of a process, the first left out."""

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True)

    return statistics.median([_timed(run) for _ in range(repeats + 1)][1:])


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(*, quick: bool = False) -> list[str]:
    """Return the lines of the report."""
    scale = QUICK if quick else Scale()
    lines = [
        "## Drift, beside the peers",
        "",
        "20 numbers (normal, skewed, heavy, counts) and 5 categories (2 to 100 values as texts); "
        "10 numbers and 2 categories move. Each tool in an environment of its own, in a fresh "
        "process, with the threads it takes by default. Loading the rows is not timed.",
        "",
    ]
    for part in (once, batches, files, start):
        with tempfile.TemporaryDirectory() as folder:
            lines += part(Path(folder), scale)
    return lines


if __name__ == "__main__":
    print("\n".join(main(quick="--quick" in sys.argv)))
