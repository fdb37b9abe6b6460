"""Streams cut into batches, and every recipe trained at every batch of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import polars as pl

STREAMS = ("elec2", "weather_noaa", "bike_hour", "metro_traffic", "sea_50k", "mixed_abrupt")
FLIGHTS = "flights"
"""A stream that comes with keepfit, ten times as long as the others."""

FIRST = 10
WINDOWS = {"all rows": None, "40 batches": 40, "20 batches": 20, "10 batches": 10, "5 batches": 5}
BASE = "20 batches"
DECAY = 0.9
KEPT = 0.9
"""The share of a stream's rows that a seed above 0 draws."""

CHAIN = 20
"""Leaf refits in a row, at most."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    streams: Sequence[str] = STREAMS
    seeds: int = 3
    """Those above 0 are for the interval of keepfit's gap, and run what that needs alone."""
    batches: int = 100
    trees: int = 100
    forest: bool = True
    """Whether River's forest is grown too, for the first seed: it takes minutes."""


@dataclass
class Models:
    """Every recipe trained at every batch: which later rows it gets wrong, and its CPU seconds."""

    cuts: np.ndarray
    wrong: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)
    """By recipe, batch of training, and leaf refits since then: errors from there on."""
    cpu: dict[tuple[str, int, int], float] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return len(self.cuts) - 1

    def errors(self, key: tuple[str, int, int], batch: int) -> np.ndarray:
        """Return the errors of a model on a later batch, row by row."""
        start = self.cuts[key[1] + key[2]]
        return self.wrong[key][self.cuts[batch] - start : self.cuts[batch + 1] - start]

    def error(self, key: tuple[str, int, int], batch: int) -> float:
        return float(self.errors(key, batch).mean())


def at_hand(names: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the folder that KEEPFIT_STREAMS names, and which of the streams are at hand."""
    folder = Path(os.environ.get("KEEPFIT_STREAMS", ""))
    held = (folder / f"{name}.parquet" for name in names)
    return folder, [
        n for n, path in zip(names, held, strict=True) if n == FLIGHTS or path.is_file()
    ]


def stream_of(name: str, folder: Path, seed: int) -> pl.DataFrame:
    """Return a stream in order of time: all of it, or the nine tenths that a seed draws."""
    frame = (_flights() if name == FLIGHTS else pl.read_parquet(folder / f"{name}.parquet")).sort(
        "time", "id"
    )
    if not seed:
        return frame
    drawn = np.random.default_rng(seed).permutation(frame.height)
    return frame[np.sort(drawn[: round(KEPT * frame.height)])]


def _flights() -> pl.DataFrame:
    """Return the flights of a year that landed, as the other streams are laid out."""
    from keepfit import datasets

    rows = datasets.flights().drop_nulls("late").drop("landed_at")
    return rows.rename({"scheduled_at": "time", "late": "label"})


def paced(frame: pl.DataFrame, scale: Scale) -> pl.DataFrame:
    """Return a stream with a batch a day, whatever the rows' own times are."""
    cuts = np.linspace(0, frame.height, scale.batches + 1).round().astype(int)
    batch = np.searchsorted(cuts, np.arange(frame.height), side="right") - 1
    inside = (np.arange(frame.height) - cuts[batch]) / np.diff(cuts)[batch]
    micro = ((batch + inside) * 86_400e6).astype(np.int64)
    start = frame["time"].min()
    return frame.with_columns(time=pl.lit(start) + pl.Series(micro).cast(pl.Duration("us")))


class Table(NamedTuple):
    """A stream's rows as numbers, its labels, where batches end, and which columns are codes."""

    rows: np.ndarray
    labels: np.ndarray
    cuts: np.ndarray
    codes: list[int]

    def fit(self, part: slice, scale: Scale, seed: int) -> lgb.LGBMClassifier:
        """Return the estimator trained on some of the rows."""
        known = {"categorical_feature": self.codes} if self.codes else {}
        estimator = lgb.LGBMClassifier(**settings(scale, seed))
        return estimator.fit(self.rows[part], self.labels[part], **known)


def table_of(name: str, folder: Path, seed: int, scale: Scale) -> Table:
    """Return a stream as numbers; of texts it is the codes."""
    frame = stream_of(name, folder, seed)
    labels = frame["label"].cast(pl.Int64).to_numpy()
    features = frame.drop("id", "time", "label")
    codes = [place for place, dtype in enumerate(features.dtypes) if dtype == pl.String]
    features = features.with_columns(pl.col(pl.String).cast(pl.Categorical).to_physical())
    rows = features.cast(dict.fromkeys(features.columns, pl.Float64)).to_numpy()
    cuts = np.linspace(0, len(labels), scale.batches + 1).round().astype(int)
    return Table(rows, labels, cuts, codes)


def settings(scale: Scale, seed: int) -> dict[str, Any]:
    """Return the parameters of the estimator: the same for all."""
    found = {"n_estimators": scale.trees, "verbosity": -1, "n_jobs": 1, "random_state": seed}
    return found | {"deterministic": True, "force_row_wise": True}


def trained(name: str, folder: Path, seed: int, scale: Scale) -> Models:
    """Train every recipe at every batch."""
    table = table_of(name, folder, seed, scale)
    rows, labels, cuts, _ = table
    models = Models(cuts)

    def keep(key: tuple[str, int, int], booster: Any, started: float) -> None:
        models.cpu[key] = time.process_time() - started
        # What comes of leaves is asked about the next batch alone: then they move again.
        last = cuts[min(key[1] + key[2] + 1, scale.batches)] if key[2] else None
        ahead = slice(cuts[key[1] + key[2]], last)
        said = booster.predict(rows[ahead], num_threads=1) >= 0.5
        models.wrong[key] = said != labels[ahead]

    for batch in range(FIRST, scale.batches):
        for recipe, length in WINDOWS.items():
            first = 0 if length is None else max(0, batch - length)
            part = slice(cuts[first], cuts[batch])
            if labels[part].min() == labels[part].max():
                continue
            started = time.process_time()
            booster = table.fit(part, scale, seed).booster_
            keep((recipe, batch, 0), booster, started)
            if recipe == BASE:
                for since in range(1, min(CHAIN, scale.batches - batch)):
                    new = slice(cuts[batch + since - 1], cuts[batch + since])
                    started = time.process_time()
                    booster = booster.refit(
                        rows[new], labels[new], decay_rate=DECAY, num_threads=1,
                        dataset_params={"verbosity": -1},
                    )  # fmt: skip
                    keep((recipe, batch, since), booster, started)
    return models


def lived(
    name: str,
    frame: pl.DataFrame,
    learner: Any,
    *,
    metric: str,
    since: datetime | None = None,
    **parts: Any,
) -> Any:
    """Return what a pipeline reaches on rows with a batch a day, trained in this process.

    ``parts`` are its settings beside source, estimator, metric and cadence.
    """
    from keepfit import Pipeline, executors, sources

    with tempfile.TemporaryDirectory() as home:
        pipeline = Pipeline(
            name,
            sources.Frame(frame, id="id", time="time", label="label"),
            learner,
            metric=metric,
            every="1d",
            home=Path(home),
            executor=executors.Inline(),
            **parts,
        )
        told = pipeline.backtest(since=since, compare=False)[name]
        pipeline.close()
    return told
