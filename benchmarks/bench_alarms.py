"""How often alarms are false, and how late they are, beside River's detectors and a fixed rule.

`python benchmarks/bench_alarms.py [FOLDER]`; the folder of Parquet streams is otherwise
named by KEEPFIT_STREAMS, and without one only a made-up stream is used. River is needed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from river import drift
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from keepfit.drift.alarms import Alarm

BUDGET = 30
BLOCKS = 26
ROWS = 96
BEFORE = 5
WITHIN = 40
QUIET = 3
UNCHANGED = int(os.environ.get("KEEPFIT_BENCH_RUNS", "24"))
TRIALS = int(os.environ.get("KEEPFIT_BENCH_TRIALS", "24"))
POINTS = 80
MOST_EARLY = 0.7
"""Share of lives with a false alarm before the change beyond which a detector counts as loud."""
UNTUNED = 3.0
"""Batches that a tuned detector may wait longer than it had to."""
PROMISED = int(os.environ.get("KEEPFIT_BENCH_BATCHES", "9000"))

REAL = ("elec2", "bike_hour", "weather_noaa", "metro_traffic")
LOSSES = {"sea_50k": (6_000, 12_500, 25_000), "mixed_abrupt": (5_000, 10_000, 20_000)}

Flags = np.ndarray
"""Whether a detector signals, batch by batch."""


class Life(NamedTuple):
    """A reference of blocks and the batches after it, as rows, distances and one score each."""

    reference: list[np.ndarray]
    batches: list[np.ndarray]
    history: np.ndarray
    distances: np.ndarray
    past: np.ndarray
    scores: np.ndarray


Draw = Callable[[np.random.Generator, bool], np.ndarray]
"""Returns the rows of a block: of the usual stream, or of the changed one."""


def life(draw: Draw, rng: np.random.Generator, batches: list[np.ndarray]) -> Life:
    """Return a reference with the distances of its blocks and of batches."""
    reference = [draw(rng, False) for _ in range(BLOCKS)]
    everything = np.concatenate(reference)
    grid = np.nanquantile(everything, np.linspace(0, 1, POINTS), axis=0)
    blocks = np.array([_curves(block, grid) for block in reference])
    rest = (blocks.sum(axis=0) - blocks) / (BLOCKS - 1)
    history = np.abs(blocks - rest).max(axis=1)
    whole = blocks.mean(axis=0)
    distances = np.array([np.abs(_curves(batch, grid) - whole).max(axis=0) for batch in batches])
    mean, spread = history.mean(axis=0), np.maximum(history.std(axis=0, ddof=1), 1e-3)
    past, scores = (((d - mean) / spread).max(axis=1) for d in (history, distances))
    return Life(reference, batches, history, distances, past, scores)


def _curves(rows: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return distribution functions on a grid, with the share of missing values on top."""
    found = np.empty((POINTS + 1, rows.shape[1]))
    for j in range(rows.shape[1]):
        there = np.sort(rows[~np.isnan(rows[:, j]), j])
        found[:-1, j] = np.searchsorted(there, grid[:, j], side="right") / max(1, there.size)
        found[-1, j] = 1 - there.size / rows.shape[0]
    return found


# The detectors: each returns a flag per batch, at a setting that is tuned for all but ours.


def ours(run: Life, _: float) -> Flags:
    alarm = Alarm.calibrate(run.history, [ROWS] * BLOCKS, batches=BUDGET)
    state, flags = None, []
    for distances in run.distances:
        state = alarm.advance(state, distances, ROWS)
        flags.append(state.fired)
    return np.array(flags)


def per_column(run: Life, k: float) -> Flags:
    """The rule of chunks: a column beyond mean plus k standard deviations of the reference's."""
    return run.scores > k


def on_scores(make: Callable[[float], drift.ADWIN]) -> Callable[[Life, float], Flags]:
    def flags(run: Life, setting: float) -> Flags:
        detector = make(setting)
        for value in run.past:
            detector.update(float(value))
        return np.array([_told(detector, [value]) for value in run.scores])

    return flags


def on_rows(make: Callable[[float], drift.ADWIN], every: int = 1) -> Callable[[Life, float], Flags]:
    def flags(run: Life, setting: float) -> Flags:
        found = np.zeros(len(run.batches), dtype=bool)
        past = np.concatenate(run.reference)
        centre, spread = np.nanmean(past, axis=0), np.nanstd(past, axis=0) + 1e-9
        for j in range(past.shape[1]):
            detector = make(setting)
            _told(detector, (past[::every, j] - centre[j]) / spread[j])
            for t, batch in enumerate(run.batches):
                found[t] |= _told(detector, (batch[::every, j] - centre[j]) / spread[j])
        return found

    return flags


def _told(detector: drift.ADWIN, values: np.ndarray) -> bool:
    told = False
    for value in values:
        if value == value:
            detector.update(float(value))
            told |= detector.drift_detected
    return told


def _page_hinkley(threshold: float) -> drift.PageHinkley:
    return drift.PageHinkley(min_instances=5, delta=0.1, threshold=threshold, alpha=1.0)


# A greater setting is always a quieter detector; bounds of the search beside each.
DETECTORS = {
    "keepfit": (ours, None),
    "mean + k sd per column": (per_column, (0.5, 50.0)),
    "Page-Hinkley on scores": (on_scores(_page_hinkley), (0.5, 500.0)),
    "ADWIN on scores": (
        on_scores(lambda s: drift.ADWIN(delta=math.exp(-s), clock=1, grace_period=5)),
        (0.05, 300.0),
    ),
    "KSWIN on scores": (
        on_scores(lambda s: drift.KSWIN(alpha=math.exp(-s), window_size=26, stat_size=6, seed=1)),
        (0.5, 40.0),
    ),
    "Page-Hinkley on rows": (on_rows(_page_hinkley), (5.0, 50_000.0)),
    "ADWIN on rows": (on_rows(lambda s: drift.ADWIN(delta=math.exp(-s))), (0.5, 600.0)),
    "KSWIN on rows": (
        on_rows(
            lambda s: drift.KSWIN(alpha=math.exp(-s), window_size=100, stat_size=30, seed=1), 8
        ),
        (2.0, 100.0),
    ),
}


def alarms(flags: Flags) -> np.ndarray:
    """Return which flags are alarms: those after three batches without one, or the first."""
    quiet, found = QUIET, np.zeros(flags.size, dtype=bool)
    for t, flag in enumerate(flags):
        found[t] = flag and quiet >= QUIET
        quiet = 0 if flag else quiet + 1
    return found


def rate(detector: Callable, setting: float, lives: list[Life]) -> tuple[float, float]:
    """Return alarms per batch and their standard error over references."""
    raw = [detector(run, setting) for run in lives]
    shares = np.array([(f if detector is ours else alarms(f)).mean() for f in raw])
    return float(shares.mean()), float(shares.std(ddof=1) / math.sqrt(len(lives)))


def delay(detector: Callable, setting: float, run: Life) -> float:
    """Return batches from the change to the first alarm after it; NaN after a false alarm."""
    flags = detector(run, setting)
    if flags[:BEFORE].any():
        return math.nan
    after = np.flatnonzero(flags[BEFORE:])
    return float(after[0] + 1) if after.size else WITHIN + 1.0


def delays(detector: Callable, setting: float, lives: list[Life]) -> np.ndarray:
    return np.array([delay(detector, setting, run) for run in lives])


def quiet(detector: Callable, setting: float, lives: list[Life]) -> float:
    """Return how long a detector waits, on average, where nothing changes."""
    found = delays(detector, setting, lives)
    return 0.0 if np.isnan(found).mean() > MOST_EARLY else float(np.nanmean(found))


def tuned(
    detector: Callable, bounds: tuple[float, float], lives: list[Life], least: float
) -> float:
    """Return the most sensitive setting that waits as long where nothing changes.

    The time to the first false alarm is held equal, as is usual for change detectors: by the
    alarms per batch, a detector that signals in every batch would have alarmed once.
    """
    still, loud = math.log(bounds[1]), math.log(bounds[0])
    step = (still - loud) / 12
    while still - step > loud and quiet(detector, math.exp(still - step), lives) >= least:
        still -= step
    loud = still - step
    for _ in range(5):
        middle = (loud + still) / 2
        if quiet(detector, math.exp(middle), lives) < least:
            loud = middle
        else:
            still = middle
    return math.exp(still)


# The streams.


def features(frame: pl.DataFrame) -> np.ndarray:
    """Return the features as numbers with unit spread."""
    x = frame.drop("id", "time", "label").to_numpy().astype(np.float64)
    return (x - np.nanmean(x, axis=0)) / (np.nanstd(x, axis=0) + 1e-9)


def chunks(x: np.ndarray) -> Draw:
    """Return blocks of neighbouring rows from anywhere in a stream: unchanged by construction."""

    def draw(rng: np.random.Generator, _: bool) -> np.ndarray:
        start = int(rng.integers(0, x.shape[0] - ROWS))
        return x[start : start + ROWS].copy()

    return draw


def made() -> np.ndarray:
    """Return made-up rows of eight numbers that depend on each other and on the rows before."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30_000, 9))
    for t in range(1, noise.shape[0]):
        noise[t] += 0.5 * noise[t - 1]
    return noise[:, :8] + 0.7 * noise[:, 8:]


def losses(frame: pl.DataFrame, trained: int, until: int, end: int) -> Draw:
    """Return the champion's loss per row before and after a concept changes."""
    x, y = features(frame), frame["label"].to_numpy()
    model = DecisionTreeClassifier(max_depth=6, random_state=0).fit(x[:trained], y[:trained])
    if np.unique(y).size == 2 and x.shape[1] <= 3:
        model = LogisticRegression().fit(x[:trained], y[:trained])
    wrong = (model.predict(x) != y).astype(np.float64)

    def draw(rng: np.random.Generator, changed: bool) -> np.ndarray:
        part = wrong[until:end] if changed else wrong[trained:until]
        return rng.choice(part, size=(ROWS, 1))

    return draw


Shift = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


def _moved(by: float, columns: int = 2) -> Shift:
    def shift(rows: np.ndarray, rng: np.random.Generator, _: int) -> np.ndarray:
        rows[:, :columns] += by
        return rows

    return shift


def _scaled(rows: np.ndarray, rng: np.random.Generator, _: int) -> np.ndarray:
    rows[:, :2] *= 1.6
    return rows


def _share(rows: np.ndarray, rng: np.random.Generator, _: int) -> np.ndarray:
    rows[rng.random(rows.shape[0]) < 0.25, 0] = 0.0
    return rows


def _lost(rows: np.ndarray, rng: np.random.Generator, _: int) -> np.ndarray:
    rows[rng.random(rows.shape[0]) < 0.1, 0] = np.nan
    return rows


def _gradual(rows: np.ndarray, rng: np.random.Generator, step: int) -> np.ndarray:
    rows[:, :2] += 0.05 * step
    return rows


SHIFTS: dict[str, Shift] = {
    "mean of 2 columns, 0.25 sd": _moved(0.25),
    "mean of 2 columns, 0.5 sd": _moved(0.5),
    "mean of 2 columns, 1 sd": _moved(1.0),
    "mean of all, 0.25 sd": _moved(0.25, 1_000),
    "scale × 1.6 of 2": _scaled,
    "one value takes 25 % of a column": _share,
    "10 % missing in a column": _lost,
    "gradual, 0.05 sd a batch": _gradual,
}


def worlds(folder: Path | None) -> Iterator[tuple[str, Draw, dict[str, Shift | None]]]:
    """Yield a name, the blocks, and the changes of each stream."""
    yield "made up", chunks(made()), dict(SHIFTS)
    for name in REAL if folder else ():
        path = folder / f"{name}.parquet"
        if path.exists():
            yield name, chunks(features(pl.read_parquet(path))), dict(SHIFTS)
    for name, cuts in LOSSES.items() if folder else ():
        path = folder / f"{name}.parquet"
        if path.exists():
            yield f"{name}, loss", losses(pl.read_parquet(path), *cuts), {"concept": None}


def changed(draw: Draw, shift: Shift | None, rng: np.random.Generator) -> list[np.ndarray]:
    """Return batches of which the first few are as before."""
    batches = [draw(rng, False) for _ in range(BEFORE)]
    for step in range(1, WITHIN + 1):
        rows = draw(rng, shift is None)
        batches.append(rows if shift is None else shift(rows, rng, step))
    return batches


def compare(name: str, draw: Draw, shifts: dict[str, Shift | None]) -> list[str]:
    """Return the table of one stream."""
    rng = np.random.default_rng(len(name))
    usual = [
        life(draw, rng, [draw(rng, False) for _ in range(3 * BUDGET)]) for _ in range(UNCHANGED)
    ]
    still = [_until(run, BEFORE + WITHIN) for run in usual]
    lives = {
        what: [life(draw, rng, changed(draw, shift, rng)) for _ in range(TRIALS)]
        for what, shift in shifts.items()
    }
    lines = [
        f"### {name}",
        "",
        "| | false alarms per budget | no change | "
        + " | ".join(lives)
        + " | mean delay | beyond keepfit's |",
        "|---" * (len(lives) + 5) + "|",
    ]
    least = quiet(ours, 1.0, still)
    reference = None
    for title, (detector, bounds) in DETECTORS.items():
        setting = tuned(detector, bounds, still, least) if bounds else 1.0
        found, error = rate(detector, setting, usual)
        waited = delays(detector, setting, still)
        each = [delays(detector, setting, runs) for runs in lives.values()]
        whole = np.concatenate(each)
        reference = whole if reference is None else reference
        cells = " | ".join(_interval(values) for values in (waited, *each))
        share = f"{found * BUDGET:.2f} ± {1.96 * error * BUDGET:.2f}"
        beyond = "" if detector is ours else _interval(whole - reference, "+")
        mark = " †" if np.nanmean(waited) > least + UNTUNED else ""
        lines.append(f"| {title}{mark} | {share} | {cells} | **{_interval(whole)}** | {beyond} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def _until(run: Life, batches: int) -> Life:
    return run._replace(
        batches=run.batches[:batches],
        distances=run.distances[:batches],
        scores=run.scores[:batches],
    )


def _interval(values: np.ndarray, sign: str = "") -> str:
    kept = values[~np.isnan(values)]
    if kept.size < 2:
        return "-"
    error = 1.96 * kept.std(ddof=1) / math.sqrt(kept.size)
    return f"{kept.mean():{sign}.1f} ± {error:.1f}"


# The promise: raw rows of streams that do not change.


class Setting(NamedTuple):
    """A stream that does not change; effects and weekends are in standard deviations of rows."""

    columns: int
    blocks: int
    budget: int
    alike: float = 0.0
    effect: float = 0.1
    week: float = 0.0


SETTINGS = (
    Setting(5, 4, 10),
    Setting(5, 4, 30, 0.6, 0.2),
    Setting(5, 8, 20, 0.6, 0.2),
    Setting(5, 13, 13, 0.3),
    Setting(5, 26, 45, 0.6, 0.2),
    Setting(5, 28, 90, 0.3, 0.1, 0.5),
    Setting(5, 52, 90, 0.6, 0.2),
    Setting(5, 104, 30, 0.0, 0.1, 0.5),
    Setting(50, 4, 20, 0.6),
    Setting(50, 13, 30, 0.6, 0.2),
    Setting(50, 26, 90, 0.6),
    Setting(50, 104, 30, 0.3),
    Setting(500, 8, 20, 0.6),
    Setting(500, 26, 30, 0.3),
    Setting(500, 52, 45, 0.6),
)


class Spent(NamedTuple):
    """Alarms per budget with standard errors: of references that stay, and of ones renewed."""

    staying: float
    staying_error: float
    renewed: float
    renewed_error: float


def false_alarms(setting: Setting, references: int) -> Spent:
    """Return the false alarms per budget, over references."""
    edges = ndtri(np.arange(1, 40) / 40)
    rng = np.random.default_rng([setting.columns, setting.blocks, setting.budget])
    length = 3 * setting.budget
    counts, firsts = [], []
    for _ in range(references):
        curves = np.array(list(_blocks(setting, rng, setting.blocks + length, edges)))
        usual, whole = curves[: setting.blocks], curves[: setting.blocks].mean(axis=0)
        rest = (whole * setting.blocks - usual) / (setting.blocks - 1)
        history = np.abs(usual - rest).max(axis=-1)
        alarm = Alarm.calibrate(history, [200] * setting.blocks, batches=setting.budget)
        state, fired = None, []
        for curve in curves[setting.blocks :]:
            state = alarm.advance(state, np.abs(curve - whole).max(axis=-1), 200)
            fired.append(state.fired)
        counts.append(sum(fired))
        firsts.append(fired.index(True) + 1 if any(fired) else length)
    staying = _ratio(np.array(counts), np.full(references, length))
    renewed = _ratio(np.minimum(counts, 1), np.array(firsts))
    return Spent(*(value * setting.budget for value in (*staying, *renewed)))


def _ratio(events: np.ndarray, batches: np.ndarray) -> tuple[float, float]:
    """Return events per batch with their standard error."""
    found = events.mean() / batches.mean()
    error = (events - found * batches).std(ddof=1) / math.sqrt(events.size) / batches.mean()
    return float(found), float(error)


def _blocks(
    setting: Setting, rng: np.random.Generator, many: int, edges: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the distribution functions of blocks of 200 rows; a third of an effect is shared."""
    last = rng.normal(size=setting.columns + 1)
    offsets = (edges.size + 1) * np.arange(setting.columns)
    for place in range(many):
        fresh = math.sqrt(1 - setting.alike**2) * rng.normal(size=last.size)
        last = setting.alike * last + fresh
        effects = setting.effect * (math.sqrt(2 / 3) * last[:-1] + math.sqrt(1 / 3) * last[-1])
        effects += setting.week * (place % 7 >= 5)
        x = rng.normal(size=(200, setting.columns)) + effects
        bins = np.searchsorted(edges, x) + offsets
        counts = np.bincount(bins.ravel(), minlength=(edges.size + 1) * setting.columns)
        yield counts.reshape(setting.columns, -1).cumsum(axis=1)[:, :-1] / 200


def promise() -> list[str]:
    """Return the table of false alarms on streams that do not change."""
    lines = [
        "### Streams that do not change",
        "",
        "Batches of 200 rows; block effects resemble the one before by the autocorrelation. "
        "Alarms per budget are to be 1 or less, of references that stay for three budgets and "
        "of a stream that takes a new reference after each alarm; the bounds are one-sided, "
        "95 %.",
        "",
        "| columns | blocks | batches per alarm | autocorrelation | effect, sd | weekend, sd "
        "| alarms per budget | at least | with a new reference | at least | references |",
        "|---" * 11 + "|",
    ]
    for setting in SETTINGS:
        references = max(12, PROMISED // (3 * setting.budget * (1 + setting.columns // 50)))
        found = false_alarms(setting, references)
        cells = [f"{value:g}" for value in setting]
        for rate, error in (found[:2], found[2:]):
            cells += [f"**{rate:.2f}**", f"{max(0.0, rate - 1.64 * error):.2f}"]
        lines.append(f"| {' | '.join(cells)} | {references} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def main(folder: str | None = None) -> list[str]:
    """Return the lines of the report."""
    named = folder or os.environ.get("KEEPFIT_STREAMS")
    lines = [
        "## Alarms",
        "",
        f"Delays in batches of {ROWS} rows from a change to the alarm, {WITHIN + 1} where none "
        f"came within {WITHIN}; {TRIALS} changes each, with 95 % intervals. The budget is one false "
        f"alarm in {BUDGET} batches, references have {BLOCKS} blocks. keepfit sees the reference "
        "alone; the others are tuned to wait, where nothing changes, as long as keepfit turned out "
        f"to do, on the unchanged stream itself ({UNCHANGED} lives), which nobody has in advance. "
        "A change that no detector sees has the delay of no change. Beyond keepfit's: the mean "
        "difference on the same changes. † at its most sensitive setting still quieter.",
        "",
    ]
    lines += promise()
    for name, draw, shifts in worlds(Path(named) if named else None):
        lines += compare(name, draw, shifts)
    return lines


if __name__ == "__main__":
    print("\n".join(main(*sys.argv[1:2])))
