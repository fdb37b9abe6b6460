"""How often alarms are false, and how late they are, beside River's detectors and NannyML's rule.

`python benchmarks/bench_alarms.py [--quick] [FOLDER]`; the folder of Parquet streams is
otherwise named by KEEPFIT_STREAMS, and without one only a made-up stream is used. River is
needed. KSWIN is held against batches only: of rows it reads a few thousand a second.
"""

from __future__ import annotations

import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from alarm_streams import (
    BEFORE,
    BLOCKS,
    ROWS,
    WITHIN,
    Draw,
    Life,
    Shift,
    apart,
    changed,
    life,
    sampled,
    worlds,
)
from river import drift
from scipy.special import ndtri

from keepfit.drift.alarms import Alarm

BUDGET = 30
QUIET = 3
UNCHANGED, TRIALS = 48, 24
MOST_EARLY = 0.7
"""Share of lives with a false alarm before the change beyond which a detector counts as loud."""
UNTUNED = 3.0
"""Batches that a tuned detector may wait longer than it had to."""
PROMISED = 9_000
"""Batches of streams that do not change, a setting."""

Flags = np.ndarray
"""Whether a detector signals, batch by batch."""


# The detectors: each returns a flag per batch, at a setting that is tuned for all but ours.


def ours(run: Life, _: float) -> Flags:
    rows = [ROWS] * BLOCKS
    alarm = Alarm.calibrate(
        run.history, rows, batches=BUDGET, moves=run.past_moves, noise=run.noise
    )
    state, flags = None, []
    for distances, moves in zip(run.distances, run.moves, strict=True):
        state = alarm.advance(state, distances, ROWS, moves)
        flags.append(state.fired)
    return np.array(flags)


def per_column(run: Life, k: float) -> Flags:
    """NannyML's rule with KS: a column beyond mean plus k standard deviations of the reference's."""
    return run.scores > k


def on_scores(make: Callable[[float], drift.ADWIN]) -> Callable[[Life, float], Flags]:
    def flags(run: Life, setting: float) -> Flags:
        detector = make(setting)
        for value in run.past:
            detector.update(float(value))
        return np.array([_told(detector, [value]) for value in run.scores])

    return flags


def on_rows(make: Callable[[float], drift.ADWIN]) -> Callable[[Life, float], Flags]:
    def flags(run: Life, setting: float) -> Flags:
        found = np.zeros(len(run.batches), dtype=bool)
        past = np.concatenate(run.reference)
        centre, spread = np.nanmean(past, axis=0), np.nanstd(past, axis=0) + 1e-9
        for j in range(past.shape[1]):
            detector = make(setting)
            _told(detector, (past[:, j] - centre[j]) / spread[j])
            for t, batch in enumerate(run.batches):
                found[t] |= _told(detector, (batch[:, j] - centre[j]) / spread[j])
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
    "NannyML's rule, mean + k sd": (per_column, (0.5, 50.0)),
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


class Compared(NamedTuple):
    """One stream: how each detector fared, by its title."""

    stream: str
    shifts: tuple[str, ...]
    rates: dict[str, tuple[float, float]]
    still: dict[str, np.ndarray]
    """Batches waited where nothing changes."""
    delays: dict[str, dict[str, np.ndarray]]
    """Batches waited, by shift."""


def compare(
    world: tuple[str, Draw, dict[str, Shift | None]], unchanged: int, trials: int
) -> Compared:
    """Return how the detectors fare on one stream."""
    name, draw, shifts = world
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    usual = [
        life(draw, rng, [draw(rng, False) for _ in range(3 * BUDGET)]) for _ in range(unchanged)
    ]
    still = [_until(run, BEFORE + WITHIN) for run in usual]
    lives = {
        what: [life(draw, rng, changed(draw, shift, rng)) for _ in range(trials)]
        for what, shift in shifts.items()
    }
    least = quiet(ours, 1.0, still)
    found = Compared(name, tuple(shifts), {}, {}, {})
    for title, (detector, bounds) in DETECTORS.items():
        setting = tuned(detector, bounds, still, least) if bounds else 1.0
        found.rates[title] = rate(detector, setting, usual)
        found.still[title] = delays(detector, setting, still)
        found.delays[title] = {
            what: delays(detector, setting, runs) for what, runs in lives.items()
        }
        print(f"{name}: {title}", file=sys.stderr, flush=True)
    return found


def table(one: Compared) -> list[str]:
    """Return the table of one stream."""
    lines = [
        f"### {one.stream}",
        "",
        "| | false alarms per budget | no change | "
        + " | ".join(one.shifts)
        + " | mean delay | beyond keepfit's |",
        "|---" * (len(one.shifts) + 5) + "|",
    ]
    least = np.nanmean(one.still["keepfit"])
    for title, by_shift in one.delays.items():
        found, error = one.rates[title]
        cells = " | ".join(_interval(values) for values in (one.still[title], *by_shift.values()))
        share = f"{found * BUDGET:.2f} ± {1.96 * error * BUDGET:.2f}"
        mark = " †" if np.nanmean(one.still[title]) > least + UNTUNED else ""
        whole = np.concatenate(list(by_shift.values()))
        beyond = _beyond([one], title)
        lines.append(f"| {title}{mark} | {share} | {cells} | **{_interval(whole)}** | {beyond} |")
    return [*lines, ""]


def summary(streams: list[Compared]) -> list[str]:
    """Return the table over all streams: the mean delay on each, and over all changes."""
    names = [one.stream for one in streams]
    lines = [
        "### All streams: mean delay",
        "",
        "| | " + " | ".join(names) + " | all changes | beyond keepfit's |",
        "|---" * (len(names) + 3) + "|",
    ]
    for title in DETECTORS:
        each = [np.concatenate(list(one.delays[title].values())) for one in streams]
        cells = " | ".join(f"{np.nanmean(values):.1f}" for values in each)
        whole = _interval(np.concatenate(each))
        lines.append(f"| {title} | {cells} | **{whole}** | {_beyond(streams, title)} |")
    kinds = list(dict.fromkeys(what for one in streams for what in one.shifts))
    lines += ["", "| | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for title in DETECTORS:
        found = [
            np.concatenate([one.delays[title][what] for one in streams if what in one.shifts])
            for what in kinds
        ]
        lines.append(f"| {title} | " + " | ".join(_interval(values) for values in found) + " |")
    return [*lines, ""]


def _beyond(streams: list[Compared], title: str) -> str:
    """Return by how much a detector is later than keepfit, on the same changes."""
    if title == "keepfit":
        return ""
    pairs = [
        one.delays[title][what] - one.delays["keepfit"][what]
        for one in streams
        for what in one.shifts
    ]
    return _interval(np.concatenate(pairs), "+")


def _until(run: Life, batches: int) -> Life:
    return run._replace(
        batches=run.batches[:batches],
        distances=run.distances[:batches],
        moves=run.moves[:batches],
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
    Setting(5, 26, 30),
    Setting(50, 4, 20, 0.6),
    Setting(50, 13, 30, 0.6, 0.2),
    Setting(50, 26, 90, 0.6),
    Setting(50, 104, 30, 0.3),
    Setting(50, 26, 30),
    Setting(50, 28, 30, 0.0, 0.1, 0.5),
    Setting(50, 28, 30, 0.3, 0.1, 0.5),
    Setting(500, 8, 20, 0.6),
    Setting(500, 26, 30, 0.3),
    Setting(500, 52, 45, 0.6),
    Setting(500, 26, 30),
    Setting(500, 28, 30, 0.0, 0.1, 0.5),
    Setting(500, 28, 30, 0.3, 0.1, 0.5),
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
        history, moves = apart(usual - rest)
        rows = [200] * setting.blocks
        noise = sampled(whole)
        alarm = Alarm.calibrate(history, rows, batches=setting.budget, moves=moves, noise=noise)
        state, fired = None, []
        for distances, moved in zip(*apart(curves[setting.blocks :] - whole), strict=True):
            state = alarm.advance(state, distances, 200, moved)
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
        shares = counts.reshape(setting.columns, -1).cumsum(axis=1) / 200
        # The last row is the share of missing values, as `alarm_streams.apart` reads it: none.
        yield np.where(np.arange(edges.size + 1) < edges.size, shares, 0.0).T


def promise(settings: tuple[Setting, ...], batches: int) -> list[str]:
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
        "| alarms per budget | at least | at most | with a new reference | at least | at most "
        "| references |",
        "|---" * 13 + "|",
    ]
    for setting in settings:
        references = max(100, batches // (3 * setting.budget * (1 + setting.columns // 50)))
        found = false_alarms(setting, references)
        cells = [f"{value:g}" for value in setting]
        for rate, error in (found[:2], found[2:]):
            cells += [f"**{rate:.2f}**", f"{max(0.0, rate - 1.64 * error):.2f}"]
            cells += [f"{rate + 1.64 * error:.2f}"]
        lines.append(f"| {' | '.join(cells)} | {references} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def main(folder: str | None = None, *, quick: bool = False) -> list[str]:
    """Return the lines of the report; quick is to see that all works, with wide intervals."""
    named = folder or os.environ.get("KEEPFIT_STREAMS")
    unchanged, trials = (8, 3) if quick else (UNCHANGED, TRIALS)
    lines = [
        "## Alarms",
        "",
        f"Delays in batches of {ROWS} rows from a change to the alarm, {WITHIN + 1} where none "
        f"came within {WITHIN}; {trials} changes each, with 95 % intervals. The budget is one false "
        f"alarm in {BUDGET} batches, references have {BLOCKS} blocks. keepfit sees the reference "
        "alone; the others are tuned to wait, where nothing changes, as long as keepfit turned out "
        f"to do, on the unchanged stream itself ({unchanged} lives), which nobody has in advance. "
        "A change that no detector sees has the delay of no change. Beyond keepfit's: the mean "
        "difference on the same changes. NannyML's rule is a limit of each column's "
        "Kolmogorov-Smirnov distance at mean plus k standard deviations of the reference's. "
        "† at its most sensitive setting still quieter.",
        "",
    ]
    every = list(worlds(Path(named) if named else None))
    names = [name for name, *_ in every]
    # Not forked: a copy of threads that have read a file would wait for ever.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        told = pool.submit(
            promise, SETTINGS[::5] if quick else SETTINGS, PROMISED // (6 if quick else 1)
        )
        streams = list(pool.map(partial(named_stream, named, unchanged, trials), names))
        lines += told.result()
    lines += summary(streams)
    for one in streams:
        lines += table(one)
    return lines


def named_stream(folder: str | None, unchanged: int, trials: int, name: str) -> Compared:
    """Return how the detectors fare on a stream of that name."""
    found = {world[0]: world for world in worlds(Path(folder) if folder else None)}
    return compare(found[name], unchanged, trials)


if __name__ == "__main__":
    asked = [word for word in sys.argv[1:] if word != "--quick"]
    print("\n".join(main(*asked[:1], quick="--quick" in sys.argv)))
