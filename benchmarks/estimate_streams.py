"""Streams whose performance is to be estimated: as they came, and with their mix changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peers.estimating import Scored

SLOPES = (2.0, -2.0, 4.0, -4.0)
"""How much the rows of a chunk favour high values of a feature, by its ranks; low where negative."""


def stream(name: str, streams: Path | None) -> pl.DataFrame | None:
    """Return a stream in time order, with the column `label`; None where it is not at hand."""
    if name == "flights":
        from keepfit import datasets

        rows = datasets.flights().drop_nulls("late").sort("scheduled_at", "id")
        return rows.drop("id", "landed_at").rename({"scheduled_at": "time", "late": "label"})
    path = streams / f"{name}.parquet" if streams else None
    return pl.read_parquet(path).drop("id") if path and path.exists() else None


@dataclass(frozen=True)
class Life:
    """Scores of a stream: of its reference, and of what came then, in chunks."""

    stream: str
    reference: Path
    rows: Path
    chunk: int


@dataclass(frozen=True)
class Stream:
    """A stream in three parts: rows that train a model, its reference, and what comes then.

    Parameters
    ----------
    name
        What the report calls it.
    frame
        Its rows in time order, with the columns `time` and `label`.
    numbers
        Whether labels are numbers, not classes 0 and 1.
    """

    name: str
    frame: pl.DataFrame
    numbers: bool = False

    def in_time(self, folder: Path) -> Life:
        """Score the stream as it came."""
        order = np.arange(self.frame.height)
        whole = (order.size - self._end) // self._chunk * self._chunk
        return self._scored(folder, order, self._trained(order), order[self._end :][:whole])

    def mixed(self, folder: Path, seed: int) -> Life:
        """Score the stream with time taken out, as if the mix of rows changed."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(self.frame.height)
        model = self._trained(order)
        later = self._features.resampled(model, order[self._end :], self._chunk, rng)
        return self._scored(folder, order, model, later)

    @property
    def _train(self) -> int:
        return int(0.3 * self.frame.height)

    @property
    def _end(self) -> int:
        return int(0.5 * self.frame.height)

    @property
    def _chunk(self) -> int:
        return 5_000 if self.frame.height > 100_000 else 500

    @cached_property
    def _features(self) -> Features:
        return Features.of(self.frame.drop("label", "time"))

    @cached_property
    def _labels(self) -> np.ndarray:
        return self.frame["label"].cast(pl.Float64 if self.numbers else pl.Int64).to_numpy()

    def _trained(self, order: np.ndarray) -> Any:
        """Return the model whose performance is to be estimated."""
        import lightgbm as lgb

        kind = lgb.LGBMRegressor if self.numbers else lgb.LGBMClassifier
        rows = order[: self._train]
        model = kind(n_estimators=100, random_state=0, verbosity=-1)
        return model.fit(self._features.matrix[rows], self._labels[rows])

    def _scored(self, folder: Path, order: np.ndarray, model: Any, later: np.ndarray) -> Life:
        """Write what the model answers of its reference, and of later rows."""
        answers = model.predict if self.numbers else model.predict_proba
        found = np.asarray(answers(self._features.matrix))
        scores = found if self.numbers else found[:, 1]
        parts = {"reference": order[self._train : self._end], "rows": later}
        for part, which in parts.items():
            self._features.save(folder / part, self._labels[which], scores[which], which)
        return Life(self.name, folder / "reference", folder / "rows", self._chunk)


@dataclass(frozen=True)
class Features:
    """The features of a stream as arrays, texts as codes."""

    numbers: dict[str, np.ndarray]
    categories: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Features:
        """Return the columns of a frame."""
        numbers, categories = {}, {}
        for column in frame:
            if column.dtype == pl.String:
                levels = column.fill_null("").unique().sort()
                codes = column.fill_null("").cast(pl.Enum(levels)).to_physical()
                categories[column.name] = (
                    codes.to_numpy().astype(np.int32),
                    levels.to_numpy().astype(str),
                )
            else:
                values = column.cast(pl.Float64).fill_null(float("nan"))
                numbers[column.name] = values.to_numpy()
        return cls(numbers, categories)

    @cached_property
    def matrix(self) -> np.ndarray:
        """All of them, a column each."""
        codes = [codes for codes, _ in self.categories.values()]
        return np.column_stack([*self.numbers.values(), *codes])

    def resampled(
        self, model: Any, pool: np.ndarray, chunk: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw chunks that favour high, then low values of each of the five most used features."""
        drawn = []
        for used in np.argsort(-model.booster_.feature_importance("gain"))[:5]:
            values = np.nan_to_num(self.matrix[pool, used])
            ranks = np.searchsorted(np.sort(values), values) / pool.size
            for slope in SLOPES:
                weights = np.exp(slope * ranks)
                drawn.append(rng.choice(pool, chunk, replace=False, p=weights / weights.sum()))
        return np.concatenate(drawn)

    def save(self, folder: Path, labels: np.ndarray, scores: np.ndarray, which: np.ndarray) -> None:
        """Write some rows, and what a model answered."""
        numbers = {name: values[which] for name, values in self.numbers.items()}
        categories = {n: (codes[which], all_) for n, (codes, all_) in self.categories.items()}
        Scored.save(folder, labels, scores, numbers, categories)
