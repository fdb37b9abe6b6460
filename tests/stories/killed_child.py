"""A live loop over flights that kills itself: run by test_killed.py as a process of its own.

Usage: killed_child.py FOLDER. Each line that it reads is HOME, PHASE and SECONDS of a run; it
writes how that ended. With the phase ``never`` a run goes to the end; with ``any`` it kills
itself that many seconds after its first step began; otherwise that many seconds after the named
phase of a step began for the first time.

Each run is a process of its own, forked where nothing but imports has happened, before polars
has threads that a fork would miss: a hundred interpreters would import for longer than they work.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from typing import Any

import deltalake  # noqa: F401  # what a run would import by itself, each anew
import numpy as np
import polars as pl
import scipy.special  # noqa: F401

import keepfit.drift.alarms.moves
import keepfit.lake.tables
import keepfit.landing
import keepfit.metrics.areas
import keepfit.metrics.classes
import keepfit.worker  # noqa: F401
from keepfit import (
    Challenger,
    Pipeline,
    executors,
    gates,
    selection,
    sources,
    triggers,
    turn,
)
from keepfit.loop import Loop
from keepfit.watch import Watch

FEATURES = ("distance", "temp", "wind_speed", "minute_of_day")


class Ridge:
    """A linear model of the label, solved at once: quick to import and to train."""

    name = "Ridge()"
    fingerprint = "ridge-1"
    parameters: dict[str, Any] = {}

    def fit(
        self, rows: pl.DataFrame, *, start: str, update: str, previous: Any, seed: int
    ) -> Answering:
        """Return the weights."""
        table = _table(rows)
        labels = rows["_label"].cast(pl.Float64).to_numpy()
        gram = table.T @ table + np.eye(table.shape[1])
        return Answering(np.linalg.solve(gram, table.T @ labels))


class Answering:
    """Weights that answer rows."""

    task = "binary"
    classes = (False, True)
    features = FEATURES

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Return scores between 0 and 1."""
        return np.clip(_table(rows) @ self.weights, 0.0, 1.0)

    def codes(self, labels: pl.Series) -> np.ndarray:
        """Return 0 and 1."""
        return labels.cast(pl.Int64).to_numpy()

    def dumps(self) -> bytes:
        """Return the weights as bytes."""
        return pickle.dumps(self)


def _table(rows: pl.DataFrame) -> np.ndarray:
    columns = rows.select(pl.col(FEATURES).cast(pl.Float64).fill_null(0.0).fill_nan(0.0))
    return np.column_stack([np.ones(rows.height), columns.to_numpy()]) / 100.0


def main(folder: str, home: str, phase: str, seconds: float) -> None:
    """Run the loop until nothing is waiting, or until killed."""
    if phase != "never":
        _kill_within("step" if phase == "any" else phase, seconds)
    flights = Pipeline(
        "flights",
        sources.Parquet(
            folder,
            id="id",
            time="scheduled_at",
            label="late",
            known_at="landed_at",
            label_delay="12h",
        ),
        Ridge(),
        metric="roc_auc",
        every="12h",
        trigger=triggers.Every("2d"),
        challengers=[
            Challenger(select=selection.Sliding("3d"), name="sliding"),
            Challenger(name="all"),
        ],
        gate=[gates.NoWorse(within=0.05, min_blocks=4)],
        enough=100,
        home=home,
        executor=executors.Inline(),
    )
    flights.run(once=True)


def _kill_after(seconds: float) -> None:
    def work() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=work, daemon=True).start()


def _kill_within(phase: str, seconds: float) -> None:
    owner: Any = (
        turn
        if phase == "train"
        else turn.Turn
        if phase in ("start", "finish", "judge")
        else Watch
        if phase == "predict"
        else Loop
    )
    inner = getattr(owner, phase)

    def armed(self: Any, *args: Any, **options: Any) -> Any:
        _kill_after(seconds)
        return inner(self, *args, **options)

    setattr(owner, phase, armed)


def serve(folder: str) -> None:
    """Fork a run for each line, and write the status it ended with."""
    for line in sys.stdin:
        home, phase, seconds = line.rstrip("\n").split("\t")
        run = os.fork()
        if not run:
            main(folder, home, phase, float(seconds))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
