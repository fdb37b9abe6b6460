"""Keepfit without settings where each step brings few rows, beside each window in hindsight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from hindsight import BATCHES, COLUMNS, HOW, Stream, compared, timed
from peers import say
from peers.report import table
from stream_models import STREAMS, at_hand, stream_of

ONE_IN = 5
"""Rows of a stream of which one is taken."""


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    folder, known = at_hand(STREAMS)
    made: dict[str, Callable[[], Stream]] = {
        f"{name}, one row in {ONE_IN}": lambda name=name: thinned(name, folder) for name in known
    }
    made |= {
        f"A value that climbs, {rows} rows a step": lambda rows=rows: climbing(rows)
        for rows in (12, 40)
    }
    made["Counts by the hour, 40 rows a step"] = counts
    yield from [
        "## Few rows a step",
        "",
        HOW,
        "",
    ]
    rows = []
    for name in list(made)[-1:] if quick else made:
        say(name)
        stream = made[name]()
        rows.append([name, f"{stream.frame.height / BATCHES:.0f}", *compared(stream)])
    yield from table(["stream", "rows a batch", *COLUMNS], rows)
    yield ""


def thinned(name: str, folder: Path) -> Stream:
    """Return a stream of which most rows are left out."""
    frame = stream_of(name, folder, 0).gather_every(ONE_IN)
    labels = frame.get_column("label").to_numpy()
    rows = frame.drop("id", "time", "label")
    texts = pl.selectors.string() | pl.selectors.categorical()
    codes = texts.cast(pl.String).cast(pl.Categorical).to_physical().cast(pl.Float64)
    return Stream(timed(rows.with_columns(codes), labels), "accuracy")


def climbing(per_step: int) -> Stream:
    """Return a value that climbs beyond all that was seen, and its last five."""
    noise = np.random.default_rng(8)
    value = np.cumsum(noise.normal(0.1, 0.6, size=per_step * BATCHES + 5))
    before = {f"before{i}": value[5 - i : -i] for i in range(1, 6)}
    return Stream(timed(pl.DataFrame(before), value[5:]), "mae")


def counts() -> Stream:
    """Return how many come in each hour: more by day, on some days of the week, and with the months."""
    noise = np.random.default_rng(9)
    at = np.arange(40 * BATCHES)
    hour, day = at % 24, at // 24 % 7
    warm = np.sin(2 * np.pi * at / at.size) + 0.3 * noise.normal(size=at.size)
    busy = np.exp(-((hour - 8) ** 2) / 6) + np.exp(-((hour - 18) ** 2) / 8)
    mean = 20 + (150 * busy * (day < 5) + 90 * np.exp(-((hour - 14) ** 2) / 20) * (day >= 5)) * (
        1 + 0.5 * warm + at / at.size
    )
    rows = {"hour": hour, "day": day, "warm": warm}
    return Stream(timed(pl.DataFrame(rows), noise.poisson(mean).astype(float)), "mae")
