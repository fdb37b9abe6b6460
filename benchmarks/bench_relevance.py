"""What half of the rows is worth when relevance chooses it, beside a random half and all rows."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peers import say
from peers.report import table

from keepfit import selection
from keepfit.protocols import Moment
from keepfit.relevance.rows import Weighing, weigh

STREAMS = ("elec2", "weather_noaa", "bike_hour", "metro_traffic", "sea_50k", "mixed_abrupt")
FIRST = 10
"""The hundredths of a stream before the first training."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    streams: Sequence[str] = ("flights", *STREAMS)
    seeds: int = 5
    every: Sequence[int] = (2, 5)
    trees: int = 60
    thin: int = 2


QUICK = Scale(streams=("bike_hour",), seeds=2, every=(15,), trees=20)


@dataclass
class Stream:
    """A stream in order of time, and models trained on parts of it."""

    name: str
    rows: pl.DataFrame
    trees: int
    known: dict[int, Weighing] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, folder: Path | None, scale: Scale) -> Stream | None:
        """Read a stream; None where it is not at hand."""
        if name == "flights":
            from keepfit import datasets

            rows = datasets.flights().drop_nulls("late").sort("scheduled_at", "id")
            rows = rows.drop("landed_at").rename({"scheduled_at": "time", "late": "label"})
            rows = rows.gather_every(scale.thin)
        else:
            path = folder / f"{name}.parquet" if folder else None
            if path is None or not path.exists():
                return None
            rows = pl.read_parquet(path)
        # An id is the place, so that a selection says which rows it took.
        rows = rows.rename({"time": "_time", "label": "_label"}).drop("id")
        rows = rows.with_columns(pl.col("_label").cast(pl.Int64)).with_row_index("_id")
        return cls(name, rows, scale.trees)

    @cached_property
    def labels(self) -> np.ndarray:
        return self.rows["_label"].to_numpy()

    @cached_property
    def matrix(self) -> tuple[np.ndarray, list[int]]:
        columns, categories = [], []
        for values in self.rows.drop("_id", "_time", "_label"):
            if values.dtype == pl.String:
                categories.append(len(columns))
                columns.append(values.fill_null("").rank("dense").cast(pl.Float64).to_numpy())
            else:
                columns.append(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
        return np.column_stack(columns), categories

    def trained(self, places: np.ndarray) -> Any:
        """Return a model trained on the rows at some places."""
        import lightgbm as lgb

        features, categories = self.matrix
        model = lgb.LGBMClassifier(
            n_estimators=self.trees, n_jobs=1, random_state=0, verbosity=-1, deterministic=True
        )
        return model.fit(
            features[places], self.labels[places], categorical_feature=categories or "auto"
        )

    def weighed(self, upto: int) -> Weighing:
        """Return what the first rows can teach, found out once for all seeds."""
        if upto not in self.known:
            self.known[upto] = weigh(self.rows[:upto], task="binary")
        return self.known[upto]

    def relevant(self, upto: int, seed: int, share: float) -> np.ndarray:
        """Return places that relevance chooses of the first rows."""
        moment = Moment(
            as_of=datetime(2100, 1, 1, tzinfo=UTC),
            seed=seed,
            relevance=lambda _: self.weighed(upto).weights,
        )
        chosen = selection.Relevant(share).select(self.rows[:upto], moment)
        return chosen["_id"].to_numpy()

    def life(self, policy: str, seed: int, every: int, share: float = 0.5) -> np.ndarray:
        """Return the mean roc_auc and log loss of steps, each scored before it is learnt from."""
        edges = [self.rows.height * step // 100 for step in range(101)]
        rng = np.random.default_rng(seed)
        scored: list[tuple[float, float]] = []
        for first in range(FIRST, 100, every):
            upto, last = edges[first], min(100, first + every)
            places = np.arange(upto)
            if policy == "random":
                places = np.sort(rng.choice(upto, round(share * upto), replace=False))
            elif policy == "relevant":
                places = self.relevant(upto, seed, share)
            coming = slice(upto, edges[last])
            said = self.trained(places).predict_proba(self.matrix[0][coming])[:, 1]
            for step in range(first, last):
                cut = slice(edges[step] - upto, edges[step + 1] - upto)
                scored.append(_scores(self.labels[coming][cut], said[cut]))
        return np.nanmean(np.array(scored), axis=0)


def _scores(labels: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import log_loss, roc_auc_score

    if len(set(labels.tolist())) < 2:
        return float("nan"), float("nan")
    return float(roc_auc_score(labels, said)), float(log_loss(labels, said))


def _compared(stream: Stream, every: int, seeds: int) -> tuple[list[str], bool]:
    """Return a line of the table, and whether relevance won beyond chance."""
    full = stream.life("all", 0, every)
    lives = {
        policy: np.array([stream.life(policy, seed, every) for seed in range(seeds)])
        for policy in ("random", "relevant")
    }
    gains = lives["relevant"] - lives["random"]
    low, high = _interval(gains[:, 0])
    worse_low, worse_high = _interval(gains[:, 1])
    rows = stream.rows.height
    trained = [rows * step // 100 for step in range(FIRST, 100, every)]
    chosen = Counter(stream.weighed(upto).chosen for upto in trained).most_common()
    cells = [
        stream.name,
        f"{full[0]:.4f}",
        f"{lives['random'][:, 0].mean():.4f}",
        f"{lives['relevant'][:, 0].mean():.4f}",
        f"{gains[:, 0].mean():+.4f} [{low:+.4f}, {high:+.4f}]",
        f"{gains[:, 1].mean():+.4f} [{worse_low:+.4f}, {worse_high:+.4f}]",
        "; ".join(f"{name} ({times})" for name, times in chosen),
    ]
    return cells, low > 0


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return an interval of 95 % of a mean over seeds."""
    from scipy.stats import t

    half = float(t.isf(0.025, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half


def main(*, quick: bool = False, streams: Path | None = None) -> list[str]:
    """Return the lines of the report; ``streams`` is a folder of Parquet files."""
    scale = QUICK if quick else Scale()
    if streams is None and os.environ.get("KEEPFIT_STREAMS"):
        streams = Path(os.environ["KEEPFIT_STREAMS"])
    return report(scale, streams)


def report(scale: Scale, folder: Path | None) -> list[str]:
    """Return the lines of the report at a scale."""
    found = {name: Stream.read(name, folder, scale) for name in scale.streams}
    absent = [name for name, stream in found.items() if stream is None]
    streams = [stream for stream in found.values() if stream is not None]
    lines = [
        "## Half the rows: chosen by relevance, or at random",
        "",
        f"LightGBM ({scale.trees} trees) trained anew, now and then, on all rows so far, on a random "
        "half, or on the half that `selection.Relevant()` keeps; each hundredth of a stream is "
        f"scored before it is learnt from. Mean roc_auc over the hundredths and {scale.seeds} seeds; "
        "differences are paired by seed, with their interval at 95 %. Of the flights every "
        f"{scale.thin}. row is taken. The last column says which weighing of older rows was used, "
        "and how often.",
        "",
    ]
    for every in scale.every:
        lines += _trained_every(every, streams, scale.seeds)
    return [*lines, *([f"Streams not at hand: {', '.join(absent)}.", ""] if absent else [])]


def _trained_every(every: int, streams: Sequence[Stream], seeds: int) -> list[str]:
    """Return the table of trainings at one distance."""
    body, won = [], []
    for stream in streams:
        cells, better = _compared(stream, every, seeds)
        body.append(cells)
        won.extend([stream.name] if better else [])
        say(f"every {every} %: {' | '.join(cells)}")
    head = ["", "all rows", "random half", "relevant half", "gain in roc_auc", "change of log loss"]
    return [
        f"### Trained every {every} % of the stream",
        "",
        *table([*head, "weighings"], body),
        "",
        f"Better than the random half beyond chance: {', '.join(won) or 'nowhere'}.",
        "",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--streams", type=Path)
    asked = parser.parse_args()
    print("\n".join(main(quick=asked.quick, streams=asked.streams)))
