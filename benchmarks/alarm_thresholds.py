"""Simulates the thresholds of keepfit.drift.alarms: `python benchmarks/alarm_thresholds.py`.

A world draws references and batches from the same stream: the curve of a block is a
Brownian bridge (what sampling does to a distribution function) plus a block effect that
resembles the one before it. Distances are taken as the product takes them: of a block to
the other blocks, of a batch to all blocks. The threshold is the one at which the world with
the most alarms keeps the budget, with a margin of 1.64 standard errors.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np

from keepfit.drift.alarms import bets, scores

BLOCKS = (3, 4, 6, 8, 13, 26, 52, 104)
BATCHES = (5, 10, 20, 45, 90)
TRIED = np.exp(np.linspace(math.log(0.2), math.log(1e7), 50))


class World(NamedTuple):
    """Columns, how alike neighbouring blocks and columns are, and what a block effect is worth."""

    columns: int
    alike: float = 0.0
    effect: float = 1.0
    shared: float = 0.0
    freedom: float = math.inf
    points: int = 3


WORLDS = {
    5: (
        World(1),
        World(1, 0.6, 1e3, points=1),
        World(1, 0.3, 1.0, freedom=4),
        World(5, 0.6, 2.5, 0.3),
        World(5, 0.6, 2.0, 0.8),
    ),
    50: (
        World(50),
        World(50, 0.6, 2.5, 0.3),
        World(50, 0.6, 1.0, 0.9),
        World(50, 0.3, 1.0, 0.3, freedom=5),
    ),
    500: (World(500, 0.6, 1.0, points=2), World(500, 0.6, 1.5, 0.6, points=2)),
}
REFERENCES = {1: 600, 5: 500, 50: 200, 500: 40}


def curves(world: World, rng: np.random.Generator, references: int, length: int) -> np.ndarray:
    """Return what each block adds to the distribution function of each column."""
    shape = (references, length, world.columns + 1)
    draws = rng.standard_normal(shape)
    if world.freedom < math.inf:
        spread = math.sqrt(world.freedom / (world.freedom - 2))
        draws = rng.standard_t(world.freedom, shape) / spread
    for t in range(1, length):
        draws[:, t] = world.alike * draws[:, t - 1] + math.sqrt(1 - world.alike**2) * draws[:, t]
    effects = (
        math.sqrt(1 - world.shared) * draws[..., :-1] + math.sqrt(world.shared) * draws[..., -1:]
    )
    at = np.arange(1, world.points + 1) / (world.points + 1)
    walk = rng.standard_normal((*effects.shape, world.points + 1)).cumsum(axis=-1)
    walk /= math.sqrt(world.points + 1)
    bridge = walk[..., :-1] - at * walk[..., -1:]
    return bridge + world.effect * effects[..., None] * np.sqrt(at * (1 - at))


def distances(curves: np.ndarray, blocks: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of the blocks to the others, and of the batches to all blocks."""
    total = curves[:, :blocks].sum(axis=1, keepdims=True)
    rest = (total - curves[:, :blocks]) / (blocks - 1)
    inside = np.abs(curves[:, :blocks] - rest).max(axis=-1)
    return inside * scale, np.abs(curves[:, blocks:] - total / blocks).max(axis=-1) * scale


def values(world: World, blocks: int, length: int, references: int, seed: int) -> tuple:
    """Return the normal values of batches, and what they add to the ones before."""
    rng = np.random.default_rng([seed, blocks, world.columns])
    whole, added = [], []
    size = 500.0
    scale = 1 / math.sqrt(size) / max(1.0, world.effect)
    weights = np.full(world.columns, 1 / world.columns)
    chunk = max(1, int(2e6 / ((blocks + length) * world.columns * world.points)))
    for start in range(0, references, chunk):
        many = min(chunk, references - start)
        history, batches = distances(curves(world, rng, many, blocks + length), blocks, scale)
        standard, excesses = scores.standardise(history, np.full((many, blocks), size))
        level = scores.level(scores.combine(excesses, weights), weights)
        excesses = scores.excess(standard, batches, np.full((many, length), size))
        now = scores.standing(level, scores.combine(excesses, weights))
        before = np.concatenate([np.zeros_like(now[:, :1]), now[:, :-1]], axis=1)
        whole.append(now)
        added.append(scores.news(level, now, before))
    return np.concatenate(whole), np.concatenate(added)


def rates(now: np.ndarray, new: np.ndarray, tried: np.ndarray, lengths: list[int]) -> list[tuple]:
    """Return alarms per batch at each threshold over each length, with their standard errors."""
    references = now.shape[0]
    sums = np.zeros((references, tried.size, scores.SCORES, len(bets.SIZES)))
    quiet = np.full((references, tried.size), bets.CALM)
    alarms = np.zeros((references, tried.size))
    found = []
    for t in range(max(lengths)):
        armed = quiet >= bets.CALM
        sums = bets.bet(sums, new[:, t][:, None, :]) * armed[..., None, None]
        fired = bets.evidence(sums) >= tried
        alarms += fired
        calm = (now[:, t].max(axis=-1) < bets.NORMAL)[:, None]
        quiet = np.where(armed, bets.CALM, np.where(calm, quiet + 1, 0))
        quiet = np.where(fired, 0, quiet)
        sums *= ~fired[..., None, None]
        if t + 1 in lengths:
            rate = alarms / (t + 1)
            found.append((rate.mean(axis=0), rate.std(axis=0) / math.sqrt(references)))
    return found


def thresholds(columns: int, blocks: int, seed: int = 1) -> list[float]:
    """Return the threshold for each budget in `BATCHES`."""
    found = np.zeros(len(BATCHES))
    lengths = [40 + 5 * batches // 2 for batches in BATCHES]
    for world in WORLDS[columns]:
        now, new = values(world, blocks, max(lengths), REFERENCES[world.columns], seed)
        for i, (rate, error) in enumerate(rates(now, new, TRIED, lengths)):
            beyond = np.flatnonzero(rate + 1.64 * error > 1 / BATCHES[i])
            place = 0 if not beyond.size else min(int(beyond[-1]) + 1, TRIED.size - 1)
            found[i] = max(found[i], TRIED[place])
    return found.tolist()


def main() -> None:
    """Print the table as it stands in keepfit.drift.alarms.thresholds."""
    columns = [int(text) for text in sys.argv[1:]] or list(WORLDS)
    for many in columns:
        for blocks in BLOCKS:
            row = ", ".join(f"{value:.3g}" for value in thresholds(many, blocks))
            print(f"    ({many}, {blocks}): ({row}),", flush=True)


if __name__ == "__main__":
    main()
