"""Keepfit without settings on streams that generators make, beside each window in hindsight.

The other streams here are real, or turn once or twice. These turn again and again, slowly, fast
or never, in all rows or a part of them, and some have numbers to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from hindsight import COLUMNS, HOW, ROWS, Stream, compared, timed
from peers import say
from peers.report import table


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    made = generators()
    names = list(made)[:2] if quick else list(made)
    yield from [
        "## Streams that generators make",
        "",
        f"{ROWS:,} rows. {HOW}",
        "",
    ]
    rows = []
    for name in names:
        say(name)
        rows.append([name, *compared(made[name]())])
    yield from table(["stream", *COLUMNS], rows)
    yield ""


def generators() -> dict[str, Callable[[], Stream]]:
    """Return what makes each stream, by what it is called."""
    from river.datasets import synth

    def one(made: Any, *, numbers: bool = False) -> Callable[[], Stream]:
        return lambda: Stream(_frame([(made, ROWS)]), "mae" if numbers else "accuracy")

    def parts(kind: Any, turns: Sequence[int], **known: Any) -> Callable[[], Stream]:
        each = ROWS // len(turns)
        made = [
            (kind(classification_function=turn, seed=i, **known), each)
            for i, turn in enumerate(turns)
        ]
        return lambda: Stream(_frame(made), "accuracy")

    def moved(
        seed: int, *, classes: int, columns: int, centres: int, speed: float
    ) -> Callable[[], Stream]:
        made = synth.RandomRBFDrift(
            seed_model=seed,
            seed_sample=seed,
            n_classes=classes,
            n_features=columns,
            n_centroids=centres,
            change_speed=speed,
            n_drift_centroids=20,
        )
        return one(made)

    noisy, free = {"perturbation": 0.05}, {"balance_classes": False}
    even = {"balance_classes": True, "has_noise": True}
    moving = {"n_features": 10, "sigma": 0.1}
    return {
        "Agrawal, as it is": one(synth.Agrawal(classification_function=6, seed=1, **noisy)),
        "Agrawal, five concepts": parts(synth.Agrawal, [0, 3, 6, 2, 4], **noisy),
        "Agrawal, two in turns, ten batches each": parts(synth.Agrawal, [1, 4] * 5, **noisy),
        "STAGGER, three in turns, 17 batches each": parts(synth.STAGGER, [0, 1, 2] * 2, **free),
        "Sine, four concepts": parts(synth.Sine, [0, 1, 2, 3], **even),
        "Sine, turning around every ten batches": parts(synth.Sine, [0, 1] * 5, **even),
        "Mixed, turning around every ten batches": parts(synth.Mixed, [0, 1] * 5, **free),
        "Hyperplane, slow": one(
            synth.Hyperplane(seed=1, n_drift_features=5, mag_change=0.0005, **moving)
        ),
        "Hyperplane, fast": one(
            synth.Hyperplane(seed=2, n_drift_features=8, mag_change=0.01, **moving)
        ),
        "RBF, centres that move": moved(1, classes=4, columns=8, centres=30, speed=0.0005),
        "RBF, centres that move fast": moved(2, classes=3, columns=6, centres=20, speed=0.005),
        "Random tree, as it is": one(synth.RandomTree(seed_tree=1, seed_sample=1, n_classes=3)),
        "Friedman, as it is": one(synth.Friedman(seed=1), numbers=True),
        "Friedman, in a part of the rows": one(
            synth.FriedmanDrift(drift_type="lea", position=(4_000, 8_000, 14_000), seed=1),
            numbers=True,
        ),
        "Friedman, all at once": one(
            synth.FriedmanDrift(
                drift_type="gra", position=(7_000, 14_000), transition_window=2_000, seed=1
            ),
            numbers=True,
        ),
        "A border that turns by 43 degrees a batch": _turning,
        "Slopes that wander": _wandering,
    }


def _turning() -> Stream:
    """Return two classes on either side of a line that turns, and bends."""
    rows, noise = _numbers(0)
    angle = 2 * np.pi * 12 * np.arange(ROWS) / ROWS
    score = 1.8 * (rows[:, 0] * np.cos(angle) + rows[:, 1] * np.sin(angle))
    score += 0.7 * np.sin(2 * rows[:, 0]) * rows[:, 1]
    return Stream(
        timed(rows, (1.5 * score + noise.logistic(size=ROWS) > 0).astype(int)), "accuracy"
    )


def _wandering() -> Stream:
    """Return numbers whose slopes are a random walk."""
    rows, noise = _numbers(11)
    slopes = np.cumsum(noise.normal(size=rows.shape) * 0.03, axis=0)
    return Stream(timed(rows, (rows * slopes).sum(axis=1) + noise.normal(size=ROWS)), "mae")


def _numbers(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    noise = np.random.default_rng(seed)
    return noise.normal(size=(ROWS, 5)), noise


def _frame(made: Sequence[tuple[Any, int]]) -> pl.DataFrame:
    """Return what generators make one after the other, a batch a day."""
    rows: list[dict[str, Any]] = []
    labels: list[Any] = []
    for generator, many in made:
        for x, y in generator.take(many):
            rows.append({str(name): value for name, value in x.items()})
            labels.append(y)
    return timed(pl.DataFrame(rows, infer_schema_length=None), labels)
