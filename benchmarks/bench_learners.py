"""Keepfit without settings with other learners than LightGBM, beside each window in hindsight.

The first and naive Bayes have no cheap update: what there is for them are windows trained from
scratch, and which of them, and when. Of the others the champion learns new rows between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from peers import say
from peers.report import table
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stream_models import FIRST, STREAMS, Scale, Table, at_hand, lived, paced, stream_of, table_of

LEARNERS: dict[str, Callable[[], Any]] = {
    "a line": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "a line, step by step": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "naive Bayes": GaussianNB,
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0),
    "a forest": lambda: RandomForestClassifier(20, min_samples_leaf=5, random_state=0, n_jobs=1),
}
BY_HAND = {
    # Keepfit brings numbers on one scale, as whoever trains a line does.
    "a line, step by step": lambda: make_pipeline(
        StandardScaler(), LEARNERS["a line, step by step"]()
    ),
}
WINDOWS = (1, 2, 5, 10, 20, 40, None)


def main(*, quick: bool = False) -> Iterator[str]:
    """Yield the report."""
    scale = Scale(streams=("bike_hour",), batches=40) if quick else Scale()
    folder, known = at_hand(scale.streams if quick else STREAMS)
    yield from [
        "## Other learners",
        "",
        f"Streams in {scale.batches} batches, a batch a day: accuracy in per cent, the mean over batches "
        f"from the {FIRST + 1}th on. The windows are trained with every batch, without a gate, and the "
        "best is picked in hindsight; keepfit has no settings but source, estimator, metric and "
        "cadence. CPU is that of the fits beside those of every batch on all rows.",
        "",
    ]
    rows = []
    for name in known:
        for learner, make in LEARNERS.items():
            say(f"{name}, {learner}")
            by_hand = BY_HAND.get(learner, make)
            rows.append([name, learner, *_cells(name, make, by_hand, folder, scale)])
    heads = ["stream", "learner", "best window", "it reaches", "**keepfit**", "difference"]
    yield from [*table([*heads, "CPU of fits"], rows), ""]
    if rows:
        away = np.mean([float(row[5]) for row in rows])
        yield from [f"The mean of the differences is {away:+.1f}.", ""]


def _cells(
    name: str, make: Callable[[], Any], by_hand: Callable[[], Any], folder: Path, scale: Scale
) -> list[str]:
    """Return which window does best, what it and keepfit reach, and what that costs."""
    rows = table_of(name, folder, 0, scale)
    found = {length: _window(rows, by_hand, length, scale) for length in WINDOWS}
    best = max(found, key=lambda length: found[length][0])
    frame = paced(stream_of(name, folder, 0), scale)
    since = frame["time"][0] + timedelta(days=FIRST)
    told = lived(name, frame, make(), metric="accuracy", since=since)
    value, top = 100 * float(told.value or 0.0), found[best][0]
    share = f"{100 * told.fit_cpu_seconds / found[None][1]:.0f} %"
    window = "all rows" if best is None else f"{best} batches" if best > 1 else "1 batch"
    return [window, f"{top:.1f}", f"{value:.1f}", f"{value - top:+.1f}", share]


def _window(
    known: Table, make: Callable[[], Any], length: int | None, scale: Scale
) -> tuple[float, float]:
    """Return what a window trained with every batch reaches, and the CPU seconds of its fits."""
    rows, labels, cuts = np.nan_to_num(known.rows), known.labels, known.cuts
    right, spent = [], 0.0
    for batch in range(FIRST, scale.batches):
        learnt = slice(0 if length is None else cuts[max(0, batch - length)], cuts[batch])
        ahead = slice(cuts[batch], cuts[batch + 1])
        said = np.full(len(labels[ahead]), labels[learnt][0])
        if np.unique(labels[learnt]).size > 1:
            started = time.process_time()
            model = make().fit(rows[learnt], labels[learnt])
            spent += time.process_time() - started
            said = model.predict(rows[ahead])
        right.append(100 * np.mean(said == labels[ahead]))
    return float(np.mean(right)), spent


if __name__ == "__main__":
    print("\n".join(main()))
