"""Made streams, what a window trained with every batch reaches on them, and what keepfit does."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score
from stream_models import lived

ROWS, BATCHES, FIRST, TREES = 20_000, 100, 10, 60
DAY = 86_400_000_000
WINDOWS: dict[str, int | None] = {
    **{f"{n} batches": n for n in (2, 5, 10, 20, 40)},
    "1 batch": 1,
    "all rows": None,
}

HOW = (
    f"{BATCHES} batches, a batch a day, LightGBM with {TREES} trees. Of classes accuracy in per cent, of "
    f"numbers the mean absolute error; the mean over batches from the {FIRST + 1}th on. The windows are "
    "trained with every batch, without a gate; keepfit has no settings but source, estimator, metric and "
    "cadence. The difference is in points, of an error in per cent of it; CPU is that of the fits beside "
    "those of every batch on all rows."
)
"""How streams and windows are compared, as a report says it."""

COLUMNS = ("best window", "it reaches", "**keepfit**", "difference", "CPU of fits")


class Stream(NamedTuple):
    """What to measure: rows with their labels, batch by batch, and by what."""

    frame: pl.DataFrame
    metric: str

    @property
    def numbers(self) -> bool:
        return self.metric == "mae"

    def estimator(self) -> Any:
        kind = lgb.LGBMRegressor if self.numbers else lgb.LGBMClassifier
        return kind(n_estimators=TREES, n_jobs=1, random_state=0, verbose=-1)

    def value(self, model: Any, rows: np.ndarray, labels: np.ndarray) -> float:
        """Return what a model reaches; shares in per cent."""
        if self.metric == "average_precision":
            if not labels.any():
                return float("nan")
            return float(100 * average_precision_score(labels, model.predict_proba(rows)[:, 1]))
        said = model.predict(rows)
        return float(
            np.abs(said - labels).mean() if self.numbers else 100 * (said == labels).mean()
        )


class Alone(NamedTuple):
    """A model of rows with one label."""

    label: Any

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self.label)

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return np.full((len(rows), 2), 0.5)


def timed(rows: Any, labels: Any) -> pl.DataFrame:
    """Return rows with their labels, a batch a day."""
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    times = start + np.arange(len(rows)) * (BATCHES * DAY // len(rows))
    return pl.DataFrame(rows).with_columns(
        id=pl.Series(np.arange(len(rows))),
        time=pl.Series(times).cast(pl.Datetime("us", "UTC")),
        label=pl.Series(labels),
    )


def reached(stream: Stream, length: int | None) -> tuple[float, float]:
    """Return what a window trained with every batch reaches, and the CPU seconds of its fits."""
    taken = stream.frame.drop("id", "time", "label")
    rows = taken.select(pl.all().cast(pl.Float64)).to_numpy()
    labels = stream.frame.get_column("label").to_numpy()
    cuts = np.linspace(0, len(labels), BATCHES + 1).round().astype(int)
    values, spent = [], 0.0
    for batch in range(FIRST, BATCHES):
        known = slice(0 if length is None else cuts[max(0, batch - length)], cuts[batch])
        ahead = slice(cuts[batch], cuts[batch + 1])
        model: Any = Alone(labels[known][0])
        if np.unique(labels[known]).size > 1:
            started = time.process_time()
            model = stream.estimator().fit(rows[known], labels[known])
            spent += time.process_time() - started
        values.append(stream.value(model, rows[ahead], labels[ahead]))
    return float(np.nanmean(values)), spent


def default(stream: Stream) -> tuple[float, float]:
    """Return what keepfit without settings reaches, and the CPU seconds of its fits."""
    told = lived(
        "made",
        stream.frame,
        stream.estimator(),
        metric=stream.metric,
        since=stream.frame["time"][0] + timedelta(days=FIRST),
    )
    return float(told.value or 0.0) * (1 if stream.numbers else 100), told.fit_cpu_seconds


def compared(stream: Stream) -> list[str]:
    """Return which window does best, what it and keepfit reach, and what that costs."""
    sign = -1.0 if stream.numbers else 1.0
    found = {name: reached(stream, length) for name, length in WINDOWS.items()}
    best = max(found, key=lambda name: sign * found[name][0])
    value, spent = default(stream)
    top = found[best][0]
    away = sign * (value - top) * (100 / top if stream.numbers else 1.0)
    digits = 3 if stream.numbers else 1
    share = f"{100 * spent / found['all rows'][1]:.0f} %"
    unit = " %" if stream.numbers else ""
    return [best, f"{top:.{digits}f}", f"{value:.{digits}f}", f"{away:+.1f}{unit}", share]
