"""What poisoned trainings cost: keepfit's default, beside the same recipes without a gate.

One training in ten learns other rows than its own. Every life is lived clean and with each kind
of poison, with the default gate and with none, on the same rows; what a seed draws are the rows
(`stream_models`) and which trainings are poisoned.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import polars as pl
from bench_streams import with_interval
from peers import say
from peers.report import table
from stream_models import FIRST, STREAMS, Scale, at_hand, paced, stream_of
from stream_poisons import ONE_IN, Poison, Poisoned, foreign, scaled, shuffled

CLEAN = "clean"
KINDS = ("labels shuffled", "rows of another stream", "a column scaled")
GATES = ("default", "none")
AT_ONCE = 2
"""Processes that run at a time."""

QUICK = Scale(streams=("bike_hour",), seeds=2, batches=40, trees=30)


class Life(NamedTuple):
    """A stream lived through: accuracy in per cent, trainings poisoned, and those of them that served."""

    accuracy: float
    poisoned: int
    served: int


Found = dict[tuple[str, int, str, str], Life]
"""By stream, seed, gate and kind of poison."""


def main(*, quick: bool = False, scale: Scale | None = None) -> Iterator[str]:
    """Yield the report."""
    scale = scale or (QUICK if quick else Scale())
    folder, known = at_hand(scale.streams)
    yield from ["## Poisoned trainings, on streams", ""]
    if not known:
        yield from ["No streams: KEEPFIT_STREAMS names no folder that holds them.", ""]
        return
    started = time.monotonic()
    keys = list(product(known, range(scale.seeds), GATES, (CLEAN, *KINDS)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lives = pool.map(lambda key: alone(*key, folder, scale), keys)
        found = dict(zip(keys, lives, strict=True))
    yield from told(found, known, scale)
    yield from [f"All of this took {(time.monotonic() - started) / 60:.0f} min.", ""]


def alone(name: str, seed: int, gate: str, kind: str, folder: Path, scale: Scale) -> Life:
    """Live through a stream in a process of its own."""
    sizes = ("--batches", str(scale.batches), "--trees", str(scale.trees))
    done = subprocess.run(
        [sys.executable, __file__, name, *sizes, "--one", str(folder), str(seed), gate, kind],
        check=True,
        capture_output=True,
        text=True,
    )
    life = Life(*json.loads(done.stdout.splitlines()[-1]))
    say(f"{name}, seed {seed}, gate {gate}, {kind}: {life.accuracy:.2f}")
    return life


def one(name: str, seed: int, gate: str, kind: str, folder: Path, scale: Scale) -> Life:
    """Live through a stream in this process."""
    from keepfit import Pipeline, sources

    frame = paced(stream_of(name, folder, seed), scale)
    executor = Poisoned(poison_of(kind, name, folder), seed)
    parts: dict[str, Any] = {} if gate == GATES[0] else {"gate": []}
    with tempfile.TemporaryDirectory() as home:
        pipeline = Pipeline(
            name,
            sources.Frame(frame, id="id", time="time", label="label"),
            lgb.LGBMClassifier(n_estimators=scale.trees, n_jobs=1, random_state=seed),
            metric="accuracy",
            every="1d",
            home=Path(home),
            executor=executor,
            **parts,
        )
        since = frame["time"][0] + timedelta(days=FIRST)
        told = pipeline.backtest(since=since, compare=False)
        pipeline.close()
        served = _served(Path(home), name, executor.poisoned)
    return Life(100 * float(told[name].value or 0.0), sum(executor.poisoned), served)


def poison_of(kind: str, name: str, folder: Path) -> Poison | None:
    """Return a poison by its name; None where all stays clean."""
    if kind == KINDS[1]:
        other = STREAMS[(STREAMS.index(name) + 1) % len(STREAMS)]
        return foreign(pl.read_parquet(folder / f"{other}.parquet"))
    return {KINDS[0]: shuffled, KINDS[2]: scaled}.get(kind)


def _served(home: Path, name: str, poisoned: Sequence[bool]) -> int:
    """Return how many poisoned trainings came to serve, by themselves or with a last fit on them.

    Their facts come in the order they ran in.
    """
    from keepfit import Ledger
    from keepfit.facts import Promoted, Sampled, Trained, TrainingFailed, TrainingStarted

    with Ledger(home / "backtest" / "ledger.db") as ledger:
        told = [entry.fact for entry in ledger.facts(name)]
    ended = [fact.version for fact in told if isinstance(fact, Trained | TrainingFailed)]
    # Before the first of them windows were tried on history.
    trials = sum(isinstance(fact, Sampled) for fact in told)
    bad = {version for version, was in zip(ended, poisoned[trials:], strict=True) if was}
    promoted = {fact.version for fact in told if isinstance(fact, Promoted)}
    started = [fact for fact in told if isinstance(fact, TrainingStarted)]
    winners = {fact.final_of for fact in started if fact.version in promoted}
    return len(bad & (promoted | winners))


def told(found: Found, known: Sequence[str], scale: Scale) -> Iterator[str]:
    """Yield the tables."""
    rows = [[name] for name in known] + ([list(known)] if len(known) > 1 else [])
    yield from [
        f"{scale.batches} batches, LightGBM with {scale.trees} trees on one thread, labels at the "
        f"end of each batch, {scale.seeds} seeds: all rows of the stream, and nine tenths of them "
        "that each other seed draws, in order of time. Brackets are t intervals of 95 % over the "
        "seeds. Without a gate the same recipes run, and the one that leads so far is promoted, else "
        "the dearest, whatever it is.",
        "",
        *table(
            ["stream", "default", "no gate", "what the gate gains, points"],
            [_clean(found, names, scale) for names in rows],
        ),
        "",
        f"One training in {ONE_IN} learns its rows with the labels shuffled among them, rows of "
        "another stream in their place (columns by position), or its rows with one column, drawn "
        "at random, times 1,000: accuracy less that of the clean life, in points.",
        "",
        *table(
            ["stream", *(f"{kind}, {_named(gate)}" for kind in KINDS for gate in GATES)],
            [_harm(found, names, scale) for names in rows],
        ),
        "",
        *(f"- {_shares(found, kind)}" for kind in KINDS),
        "",
    ]


def _named(gate: str) -> str:
    return "default" if gate == GATES[0] else "no gate"


def _over(found: Found, names: Sequence[str], gate: str, kind: str, scale: Scale) -> np.ndarray:
    """Return the accuracy of each seed, over streams the mean of theirs."""
    lives = [[found[name, seed, gate, kind] for seed in range(scale.seeds)] for name in names]
    return np.array([[life.accuracy for life in one] for one in lives]).mean(axis=0)


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "mean"


def _clean(found: Found, names: Sequence[str], scale: Scale) -> list[str]:
    gated, free = (_over(found, names, gate, CLEAN, scale) for gate in GATES)
    return [_label(names), f"{gated.mean():.1f}", f"{free.mean():.1f}", with_interval(gated - free)]


def _harm(found: Found, names: Sequence[str], scale: Scale) -> list[str]:
    gaps = [
        _over(found, names, gate, kind, scale) - _over(found, names, gate, CLEAN, scale)
        for kind in KINDS
        for gate in GATES
    ]
    return [_label(names), *(with_interval(gap) for gap in gaps)]


def _shares(found: Found, kind: str) -> str:
    """Return how many of the poisoned trainings came to serve."""
    said = []
    for gate in GATES:
        lives = [life for key, life in found.items() if key[2:] == (gate, kind)]
        poisoned, served = (sum(column) for column in list(zip(*lives, strict=True))[1:])
        said.append(f"{served} of {poisoned} with {_named(gate)}")
    return f"Poisoned trainings that came to serve, {kind}: {', '.join(said)}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="STREAM", help="those to run; else all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=Scale.seeds)
    parser.add_argument("--batches", type=int, default=Scale.batches)
    parser.add_argument("--trees", type=int, default=Scale.trees)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = Scale(
        streams=asked.names or STREAMS,
        seeds=asked.seeds,
        batches=asked.batches,
        trees=asked.trees,
    )
    if asked.one:
        (stream,), (place, seed_, gate_, kind_) = asked.names, asked.one
        print(json.dumps(one(stream, int(seed_), gate_, kind_, Path(place), size)))
    else:
        print("\n".join(main(scale=QUICK if asked.quick else size)))
