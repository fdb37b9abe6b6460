"""Keepfit without settings where one class is rare and its concept turns, beside each window."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import numpy as np
from hindsight import BATCHES, FIRST, ROWS, TREES, WINDOWS, Stream, default, reached, timed
from peers import say
from peers.report import table

RARE, DRAWS = 0.03, 5
TURNS = ("at the half", "at 0.35, and back at 0.7", "slowly", "nothing")


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    draws = 1 if quick else DRAWS
    yield from [
        "## A rare class whose concept turns",
        "",
        f"{ROWS:,} rows in {BATCHES} batches with {100 * RARE:.0f} % of positives, LightGBM with {TREES} trees. "
        f"Average precision in per cent, the mean over batches from the {FIRST + 1}th on and over "
        f"{'one draw' if draws == 1 else f'{draws} draws'}. What matters of "
        "six numbers is others from the half on, from 0.35 to 0.7 alone, ever more, or the same. The "
        "windows are trained with every batch, without a gate; keepfit has no settings but source, "
        "estimator, metric and cadence. CPU is that of the fits beside those of every batch on all rows.",
        "",
    ]
    rows = []
    for turn in TURNS:
        say(turn)
        streams = [_stream(turn, seed) for seed in range(draws)]
        found = {
            name: [reached(one, length) for one in streams] for name, length in WINDOWS.items()
        }
        values = {name: mean(value for value, _ in each) for name, each in found.items()}
        best = max(values, key=lambda name: values[name])
        ours = [default(one) for one in streams]
        value = mean(one for one, _ in ours)
        share = sum(spent for _, spent in ours) / sum(spent for _, spent in found["all rows"])
        cells = f"{values[best]:.1f}", f"{value:.1f}", f"{value - values[best]:+.1f}"
        rows.append([turn, best, *cells, f"{share:.0%}".replace("%", " %")])
    yield from table(
        ["what changes", "best window", "it reaches", "**keepfit**", "difference", "CPU of fits"],
        rows,
    )
    yield ""


def _stream(turn: str, seed: int) -> Stream:
    draw = np.random.default_rng(seed)
    rows, place = draw.normal(size=(ROWS, 6)), np.arange(ROWS) / ROWS
    before, after = np.array([1.2, 1, 0, 0, 0.5, 0]), np.array([0, 0, 1.2, 1, 0.5, 0])
    turned = {
        "at the half": place >= 0.5,
        "at 0.35, and back at 0.7": (place >= 0.35) & (place <= 0.7),
        "slowly": place,
        "nothing": np.zeros(ROWS),
    }[turn][:, None]
    scores = (rows * (before + turned * (after - before))).sum(axis=1)
    scores = 1.5 * (scores - np.quantile(scores, 1 - RARE)) + 0.7 * draw.logistic(size=ROWS)
    return Stream(timed(rows, (scores > 0.3).astype(int)), "average_precision")
