"""What alarms are compared on: lives with a reference, streams that change, and ones that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

BLOCKS = 26
ROWS = 96
BEFORE = 5
WITHIN = 40
POINTS = 80
FLIPPED = 0.15
"""Share of labels that are flipped, in real streams."""

REAL = ("elec2", "bike_hour", "weather_noaa", "metro_traffic")
LOSSES = {"sea_50k": (6_000, 12_500, 25_000), "mixed_abrupt": (5_000, 10_000, 20_000)}


class Life(NamedTuple):
    """A reference of blocks and the batches after it, as rows, distances and one score each.

    ``history`` and ``distances`` are for keepfit, with the signed moves and the noise of sampling
    that it reads from the same distribution functions; ``past`` and ``scores`` are one number a
    batch, for others.
    """

    reference: list[np.ndarray]
    batches: list[np.ndarray]
    history: np.ndarray
    distances: np.ndarray
    past_moves: np.ndarray
    moves: np.ndarray
    noise: np.ndarray
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
    whole = blocks.mean(axis=0)
    history, past_moves = apart(blocks - rest)
    distances, moves = apart(np.array([_curves(batch, grid) for batch in batches]) - whole)
    mean, spread = history.mean(axis=0), np.maximum(history.std(axis=0, ddof=1), 1e-3)
    past, scores = (((d - mean) / spread).max(axis=1) for d in (history, distances))
    noise = sampled(whole)
    return Life(reference, batches, history, distances, past_moves, moves, noise, past, scores)


def apart(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and moves, from differences of what `_curves` returns.

    Points at even shares: the mean of a difference is that of the ranks, and with the sign of
    the side on which a point lies, that of how far the ranks lie from the middle.
    """
    numbers, missing = curves[..., :-1, :], curves[..., -1, :]
    points = numbers.shape[-2]
    side = np.sign((points - 1) / 2 - np.arange(points))[:, None]
    out = (numbers * side).mean(axis=-2)
    return np.abs(curves).max(axis=-2), np.stack([-numbers.mean(axis=-2), out, missing], axis=-1)


def sampled(whole: np.ndarray) -> np.ndarray:
    """Return what sampling adds to the squares of distances and moves, times the rows.

    Of independent rows, shares p up to q have the covariance p (1 - q) / n.
    """
    numbers, missing = whole[:-1].T, whole[-1]
    points = numbers.shape[1]
    alike = (
        np.minimum(numbers[:, :, None], numbers[:, None]) - numbers[:, :, None] * numbers[:, None]
    )
    side = np.sign((points - 1) / 2 - np.arange(points))
    gone = missing * (1 - missing)
    least = np.maximum((numbers * (1 - numbers)).max(axis=1), gone)
    out = np.einsum("i,cij,j->c", side, alike, side) / points**2
    return np.maximum(np.stack([least, alike.mean(axis=(1, 2)), out, gone], axis=-1), 0.0)


def _curves(rows: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return distribution functions on a grid, with the share of missing values on top."""
    found = np.empty((POINTS + 1, rows.shape[1]))
    for j in range(rows.shape[1]):
        there = np.sort(rows[~np.isnan(rows[:, j]), j])
        found[:-1, j] = np.searchsorted(there, grid[:, j], side="right") / max(1, there.size)
        found[-1, j] = 1 - there.size / rows.shape[0]
    return found


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


def flips(frame: pl.DataFrame) -> Draw:
    """Return the champion's loss in blocks of neighbouring rows; then some labels are flipped."""
    x, y = features(frame), frame["label"].to_numpy()
    trained = y.size // 3
    model = DecisionTreeClassifier(max_depth=6, random_state=0).fit(x[:trained], y[:trained])
    right = (model.predict(x) == y)[trained:]

    def draw(rng: np.random.Generator, changed: bool) -> np.ndarray:
        start = int(rng.integers(0, right.size - ROWS))
        flipped = rng.random(ROWS) < FLIPPED * changed
        return (right[start : start + ROWS] == flipped).astype(np.float64)[:, None]

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
            frame = pl.read_parquet(path)
            yield name, chunks(features(frame)), dict(SHIFTS)
            yield f"{name}, loss", flips(frame), {f"{FLIPPED:.0%} of labels flipped": None}
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
