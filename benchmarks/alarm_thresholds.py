"""Simulates the thresholds of keepfit.drift.alarms: `python benchmarks/alarm_thresholds.py`.

A world draws references and batches from the same stream: the curve of a block is a
Brownian bridge (what sampling does to a distribution function) plus block effects, of where
values lie and of how far out, that resemble the ones before. Distances and moves are taken as
the product takes them: of a block to the other blocks, of a batch to all blocks.

How alike blocks are is estimated in each reference, as the product does, and moves its
threshold between a lower and an upper one. Of all pairs that keep the budget in every world,
with a margin of 1.64 standard errors, the one that reacts fastest where blocks are
independent is taken. The budget is kept in two ways: by the alarms per batch of references
that stay, and by those of a stream that takes a new reference after each alarm.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np

from keepfit.drift.alarms import bets, moves, scores
from keepfit.drift.alarms.alarm import _AGAIN as AGAIN
from keepfit.drift.alarms.thresholds import BATCHES, MOST_MOVED, share

BLOCKS = {False: (3, 4, 6, 8, 13, 26, 52, 104), True: (3, 4, 6, 13, 26, 52, 104)}
"""Blocks of references, for alarms on distances alone and for those on moves as well."""

TRIED = np.exp(np.linspace(math.log(0.2), math.log(1e5), 20))
ROWS = 500.0
POINTS = np.array([0.25, 0.5, 0.75])
MISSING = 0.2
"""The deviation of a row in what is missing: about one in twenty is."""

APART = {1: 2.0, 5: 4.0, 50: 4.0, 500: 4.0}
"""Times the lower threshold that the upper one is at most; one column shows little of either."""

MARGIN = 1.64


class World(NamedTuple):
    """Columns, how alike neighbouring blocks and columns are, and what a block effect is worth."""

    columns: int
    alike: float = 0.0
    effect: float = 1.0
    shared: float = 0.0
    freedom: float = math.inf
    signed: bool = True
    """Whether columns have a location and a scale, as numbers have and categories have not."""


WORLDS = {
    1: (
        World(1),
        World(1, 0.6, 1e3),
        World(1, 0.6, 1.0),
        World(1, 0.3, 1.0, freedom=4),
        World(1, 0.3, 1.0, signed=False),
    ),
    5: (
        World(5, effect=2.0, shared=0.3),
        World(5),
        World(5, 0.3, 1.0, 0.3, freedom=4),
        World(5, 0.6, 2.5, 0.3),
        World(5, 0.6, 2.0, 0.8),
        World(5, 0.6, 2.0, 0.3, signed=False),
    ),
    50: (
        World(50),
        World(50, 0.6, 2.5, 0.3),
        World(50, 0.6, 1.0, 0.9),
        World(50, 0.3, 1.0, 0.3, freedom=5),
        World(50, 0.6, 1.0, 0.3, signed=False),
    ),
    500: (
        World(500),
        World(500, 0.6, 1.0),
        World(500, 0.6, 1.5, 0.6),
        World(500, 0.6, 1.0, 0.3, signed=False),
    ),
}
REFERENCES = {1: 600, 5: 400, 50: 150, 500: 40}


class Lives(NamedTuple):
    """References and the batches after them, as the detector sees them."""

    now: np.ndarray
    news: np.ndarray
    columns: np.ndarray
    moves: np.ndarray
    share: np.ndarray


class Alarms(NamedTuple):
    """Alarms of each reference at each threshold tried, and the batches to the first."""

    many: np.ndarray
    first: np.ndarray
    share: np.ndarray
    length: int


def effects(world: World, rng: np.random.Generator, references: int, length: int) -> np.ndarray:
    """Return what happens to the columns in each block, with unit variance."""
    shape = (references, length, world.columns + 1)
    draws = rng.standard_normal(shape)
    if world.freedom < math.inf:
        spread = math.sqrt(world.freedom / (world.freedom - 2))
        draws = rng.standard_t(world.freedom, shape) / spread
    for t in range(1, length):
        draws[:, t] = world.alike * draws[:, t - 1] + math.sqrt(1 - world.alike**2) * draws[:, t]
    own, common = draws[..., :-1], draws[..., -1:]
    return np.asarray(math.sqrt(1 - world.shared) * own + math.sqrt(world.shared) * common)


def blocks_of(
    world: World, rng: np.random.Generator, references: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each block adds to the distribution function of each column, and its missing."""
    where, out, missing = (effects(world, rng, references, length) for _ in range(3))
    walk = rng.standard_normal((*where.shape, POINTS.size + 1)).cumsum(axis=-1)
    walk /= math.sqrt(POINTS.size + 1)
    curves = walk[..., :-1] - POINTS * walk[..., -1:]
    spread = np.sqrt(POINTS * (1 - POINTS))
    curves += world.effect * where[..., None] * spread
    # Blocks differ less in how far out values lie than in where they lie.
    curves += world.effect / 2 * out[..., None] * spread * np.sign(0.5 - POINTS)
    return curves, MISSING * (rng.standard_normal(where.shape) + world.effect * missing)


def apart(curves: np.ndarray, missing: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and moves, from differences of distribution functions and of missing."""
    moves = np.stack(
        [-curves.mean(axis=-1), (curves[..., 0] - curves[..., -1]) / 4, missing], axis=-1
    )
    if not signed:
        moves[..., :2] = np.nan
    return np.abs(curves).max(axis=-1), moves


def lives(world: World, blocks: int, length: int, references: int, seed: int) -> Lives:
    """Return what a detector sees of many references, and of the batches after each."""
    rng = np.random.default_rng([seed, blocks, world.columns])
    found = []
    scale = 1 / math.sqrt(ROWS) / max(1.0, world.effect)
    chunk = max(1, int(1e6 / ((blocks + length) * world.columns * POINTS.size)))
    for start in range(0, references, chunk):
        many = min(chunk, references - start)
        drawn = [scale * part for part in blocks_of(world, rng, many, blocks + length)]
        whole = [part[:, :blocks].mean(axis=1, keepdims=True) for part in drawn]
        rest = zip(drawn, whole, strict=True)
        inside = [(part[:, :blocks] - mean) * blocks / (blocks - 1) for part, mean in rest]
        after = [part[:, blocks:] - mean for part, mean in zip(drawn, whole, strict=True)]
        found.append(seen(apart(*inside, world.signed), apart(*after, world.signed)))
    return Lives(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def seen(
    inside: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Return what a detector makes of the distances and moves of blocks, and of batches."""
    columns = inside[0].shape[-1]
    sizes, rows = (np.full(one[0].shape[:2], ROWS) for one in (inside, after))
    weights = np.full(columns, 1 / columns)
    standard, excesses = scores.standardise(inside[0], sizes)
    combined = scores.combine(excesses, weights)
    level = scores.level(combined, weights)
    alike = scores.alike(excesses, combined)
    excesses = scores.excess(standard, after[0], rows)
    now = scores.standing(level, scores.combine(excesses, weights))
    before = np.concatenate([np.zeros_like(now[:, :1]), now[:, :-1]], axis=1)
    steady = scores.steadied(excesses, inside[0].shape[1], alike)
    moved = moves.directions(moves.usual(inside[1], sizes), after[1], rows)
    shares = np.array([share(a) for a in alike])
    news = scores.news(level, now, before)
    return now, news, steady.astype(np.float32), moved.astype(np.float32), shares


def alarms(seen: Lives, budget: float, length: int, *, moved: bool) -> Alarms:
    """Return the alarms at each threshold tried; the budget raises it after an alarm."""
    references, _, columns, ways = seen.moves.shape
    shape = (references, TRIED.size)
    weights = np.full(columns, 1 / columns, dtype=np.float32)
    there = np.isfinite(seen.moves[:, 0])[:, None] & moved
    sums = np.zeros((*shape, scores.SCORES, len(bets.SIZES)))
    each = np.zeros((*shape, columns), dtype=np.float32)
    ways_each = np.zeros((*shape, columns, ways), dtype=np.float32)
    quiet, since = np.full(shape, bets.CALM), np.full(shape, np.inf)
    many, first = np.zeros(shape), np.full(shape, np.inf)
    for t in range(length):
        armed = quiet >= bets.CALM
        since += 1
        sums = bets.bet(sums, seen.news[:, t, None]) * armed[..., None, None]
        each = bets.bet_each(each, seen.columns[:, t, None]) * armed[..., None]
        if moved:
            now = np.nan_to_num(seen.moves[:, t, None])
            ways_each = bets.bet_each(ways_each, now) * armed[..., None, None]
        limits = np.where(since <= budget, AGAIN * TRIED, TRIED)
        own = bets.of_columns(each, ways_each, there)
        fired = bets.evidence(sums, own, weights, moved=moved) >= limits
        many += fired
        first = np.where(fired & np.isinf(first), t + 1, first)
        since[fired] = 0
        calm = (seen.now[:, t].max(axis=-1) < bets.NORMAL)[:, None]
        quiet = np.where(armed, bets.CALM, np.where(calm, quiet + 1, 0))
        quiet[fired] = 0
        sums[fired], each[fired], ways_each[fired] = 0.0, 0.0, 0.0
    return Alarms(many, first, seen.share, length)


def spent(found: Alarms, budget: float, low: float, high: float) -> float:
    """Return how much of the budget is used at most, by thresholds at two places of those tried."""
    place = low + found.share * (high - low)
    left = np.minimum(place.astype(int), TRIED.size - 2)
    part, rows = place - left, np.arange(place.size)

    def at(values: np.ndarray) -> np.ndarray:
        return (1 - part) * values[rows, left] + part * values[rows, left + 1]

    first = np.minimum(found.first, found.length)
    return budget * max(
        _ratio(at(found.many), np.full(place.size, found.length)),
        _ratio(at(np.isfinite(found.first)), at(first)),
    )


def _ratio(events: np.ndarray, batches: np.ndarray) -> float:
    """Return events per batch with the margin of their error."""
    rate = events.mean() / batches.mean()
    error = (events - rate * batches).std() / math.sqrt(events.size) / batches.mean()
    return float(rate + MARGIN * error)


def pair(worlds: list[Alarms], budget: float, usual: float, apart: float) -> tuple[float, float]:
    """Return the thresholds that keep the budget and are lowest where the share is as usual."""
    step = math.log(TRIED[1] / TRIED[0])
    best = (math.inf, TRIED.size - 1.0, TRIED.size - 1.0)
    for high in range(TRIED.size):
        low, top = max(0.0, high - math.log(apart) / step), float(high)
        if low > best[0]:
            break
        if any(spent(world, budget, top, top) > 1 for world in worlds):
            continue
        while top - low > 0.1:
            middle = (low + top) / 2
            if any(spent(world, budget, middle, high) > 1 for world in worlds):
                low = middle
            else:
                top = middle
        best = min(best, (top + usual * (high - top), top, float(high)))
    low, high = (float(TRIED[0] * math.exp(place * step)) for place in best[1:])
    return low, high


def thresholds(columns: int, blocks: int, seed: int = 1, *, moved: bool = True) -> np.ndarray:
    """Return the lower and upper thresholds, a column for each budget in `BATCHES`."""
    lengths = [40 + 5 * batches // 2 for batches in BATCHES]
    found: list[list[Alarms]] = [[] for _ in BATCHES]
    for world in WORLDS[columns]:
        seen = lives(world, blocks, max(lengths), REFERENCES[world.columns], seed)
        for i, (batches, length) in enumerate(zip(BATCHES, lengths, strict=True)):
            found[i].append(alarms(seen, batches, length, moved=moved))
    usual = float(found[0][0].share.mean())
    pairs = [pair(*each, usual, APART[columns]) for each in zip(found, BATCHES, strict=True)]
    # A greater budget of batches never takes less evidence.
    return np.maximum.accumulate(np.array(pairs).T, axis=1)


def smoothed(found: list[np.ndarray]) -> list[np.ndarray]:
    """Raise what lies below the middle of its neighbours: so low only by the simulation's luck."""
    middles = (np.sqrt(before * after) for before, after in zip(found, found[2:], strict=False))
    inner = [np.maximum(one, middle) for one, middle in zip(found[1:-1], middles, strict=True)]
    return [found[0], *inner, found[-1]]


def main() -> None:
    """Print the table as it stands in keepfit.drift.alarms.thresholds."""
    columns = [int(text) for text in sys.argv[1:]] or list(WORLDS)
    for moved, name in ((False, "_DISTANCES"), (True, "_MOVES")):
        print(f"{name}: _Table = {{")
        for many in columns if not moved else [one for one in columns if one <= MOST_MOVED]:
            found = [thresholds(many, blocks, moved=moved) for blocks in BLOCKS[moved]]
            for blocks, rows in zip(BLOCKS[moved], smoothed(found), strict=True):
                print(f"    ({many}, {blocks}): (")
                for row in rows:
                    print(f"        ({', '.join(f'{value:.3g}' for value in row)}),")
                print("    ),", flush=True)
        print("}")


if __name__ == "__main__":
    main()
