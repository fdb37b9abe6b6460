"""What another pipeline's champion is worth as a start: quality with a third of rows or epochs."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peers.report import table

from keepfit import Challenger, Pipeline, datasets, executors, learners, sources, triggers

START = datetime(2024, 1, 1, tzinfo=UTC)
EPOCHS = 12
"""Epochs of a network from scratch on flights; a transfer has a third of them."""

READING = 30
"""Epochs of a network from scratch on digits."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    seeds: int = 8
    donor_rows: int = 30_000
    rows: int = 4_500
    images: int = 150


QUICK = Scale(seeds=2, donor_rows=6_000, rows=1_500, images=90)


@dataclass(frozen=True)
class Domain:
    """Two streams of one kind: the donor's rows, those to learn from anew, and those that judge."""

    name: str
    donor: pl.DataFrame
    anew: Callable[[int], tuple[pl.DataFrame, pl.DataFrame]]
    metric: str


def main(*, quick: bool = False) -> list[str]:
    """Return the report as lines of Markdown."""
    scale = QUICK if quick else Scale()
    rows = [line for case in _cases(scale) for line in case]
    head = ("domains", "learner", "metric", "donor as it is", "scratch", "a third", "difference")
    return [
        "## A start from another pipeline's champion",
        "",
        f"Each figure is a mean over {scale.seeds} draws of rows and seeds; the difference is "
        "that of the transfer with a third to scratch with all, paired by draw, with a 95 % "
        "interval. Positive: the transfer is better, though it had a third. The donor as it is "
        "has seen no row of the second domain. Inverted digits are a world turned around, where "
        "what the donor knows is a hindrance; once something serves, a gate keeps such a model out.",
        "",
        *table(head, rows),
        "",
    ]


def _cases(scale: Scale) -> Iterator[list[Sequence[str]]]:
    flights = _flights(scale)
    leaves = Challenger(start="donor@champion", update="leaves")
    yield _measured(flights, "LightGBM, more trees", _trees(), _trees(), scale)
    yield _measured(flights, "LightGBM, leaves", _trees(), _trees(), scale, recipe=leaves)
    yield _measured(flights, "network, a third of rows", _net(), _net(l2sp=0.01), scale)
    third = _net(epochs=EPOCHS // 3, l2sp=0.01)
    yield _measured(flights, "network, a third of epochs", _net(), third, scale, share=1.0)
    for what, change in CHANGES.items():
        digits = _digits(what, change, scale)
        # A third of the rows in twice the epochs: fewer steps of the optimiser all the same.
        moved = _reader(epochs=2 * READING)
        yield _measured(digits, "network, a third of rows", _reader(), moved, scale)
        third = _reader(epochs=READING // 3)
        yield _measured(digits, "network, a third of epochs", _reader(), third, scale, share=1.0)
    what = next(iter(CHANGES))
    flat = _digits(what, CHANGES[what], scale, flat=True)
    yield _measured(flat, "LightGBM, more trees", _trees(15), _trees(15), scale)


def _measured(
    domain: Domain,
    what: str,
    learner: Any,
    moved: Any,
    scale: Scale,
    *,
    share: float = 1 / 3,
    recipe: Challenger | None = None,
) -> list[Sequence[str]]:
    """Return the line of one learner on one pair of domains: how it was, anew, and moved over."""
    start = recipe or Challenger(start="donor@champion")
    found: list[tuple[float, float, float]] = []
    for seed in range(scale.seeds):
        rows, judges = domain.anew(seed)
        few = rows.sample(round(rows.height * share), seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            donor = _champion("donor", domain.donor, learner, home, Challenger(), seed)
            scratch = _champion("scratch", rows, learner, home, Challenger(), seed)
            transfer = _champion("transfer", few, moved, home, start, seed)
        told = [_quality(one, judges, domain.metric) for one in (donor, scratch, transfer)]
        found.append((told[0], told[1], told[2]))
    values = np.array(found)
    means = [f"{one:.3f}" for one in values.mean(axis=0)]
    return [(domain.name, what, domain.metric, *means, _interval(values[:, 2] - values[:, 1]))]


def _champion(
    name: str, rows: pl.DataFrame, learner: Any, home: Path, recipe: Challenger, seed: int
) -> Any:
    """Return the model that serves once a pipeline has seen its rows."""
    pipeline = Pipeline(
        name,
        sources.Frame(rows.sort("time"), id="id", time="time", label="label"),
        learner,
        every="3650d",
        checks=[],
        trigger=triggers.Every("3650d"),
        challengers=[recipe],
        gate=[],
        enough=10,
        seed=seed,
        home=home,
        executor=executors.Inline(),
    )
    pipeline.run(once=True)
    loop = pipeline.loop()
    version = loop.state.version("champion")
    model = learners.loads(loop.memory.artifacts.get(version.artifact))
    pipeline.close()
    return model


def _quality(model: Any, judges: pl.DataFrame, metric: str) -> float:
    """Return how good a model is on rows it has not seen, of which it may lack columns."""
    from sklearn.metrics import roc_auc_score

    gone = [name for name in model.features if name not in judges.columns]
    scores = model.predict(judges.with_columns(pl.lit(None).alias(name) for name in gone))
    labels = model.codes(judges["label"])
    if metric == "roc_auc":
        return float(roc_auc_score(labels, scores))
    return float((scores.argmax(axis=1) == labels).mean())


def _interval(values: np.ndarray) -> str:
    """Return the mean of paired differences with Student's interval."""
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


# Flights: from Newark to LaGuardia --------------------------------------------------------


def _flights(scale: Scale) -> Domain:
    """Return flights of one airport until June, and those of another afterwards."""
    rows = datasets.flights().drop_nulls("late").drop("landed_at")
    rows = rows.rename({"scheduled_at": "time", "late": "label"})
    summer, autumn = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC)
    donor = rows.filter(pl.col("origin") == "EWR", pl.col("time") < summer)
    other = rows.filter(pl.col("origin") == "LGA", pl.col("time") >= summer)
    new = other.filter(pl.col("time") < autumn)
    judges = other.filter(pl.col("time") >= autumn)

    def anew(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        return new.sample(scale.rows, seed=seed), judges

    several = donor.sample(min(scale.donor_rows, donor.height), seed=0)
    return Domain("flights, EWR to LGA", several, anew, "roc_auc")


def _trees(leaves: int = 31) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=60, num_leaves=leaves, learning_rate=0.05)


def _net(**how: Any) -> Any:
    settings = {"epochs": EPOCHS, "lr": 2e-3, "hidden": (64, 32), "task": "classification"}
    return learners.Torch(**(settings | how))


# Digits, seen otherwise -------------------------------------------------------------------


def _rotated(images: np.ndarray) -> np.ndarray:
    from scipy.ndimage import rotate

    turned: np.ndarray = rotate(images, 10.0, axes=(1, 2), reshape=False, order=1)
    return turned


def _lighter(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(8).normal(scale=0.1, size=images.shape)
    lighter: np.ndarray = np.clip(0.6 * images + 0.2 + noise, 0.0, 1.0)
    return lighter


def _moved(images: np.ndarray) -> np.ndarray:
    return np.roll(images, 1, axis=2)


def _inverted(images: np.ndarray) -> np.ndarray:
    inverted: np.ndarray = 1.0 - images
    return inverted


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotated by 10°": _rotated,
    "on a lighter ground": _lighter,
    "one pixel to the right": _moved,
    "inverted": _inverted,
}


def _digits(
    what: str, change: Callable[[np.ndarray], np.ndarray], scale: Scale, *, flat: bool = False
) -> Domain:
    """Return scikit-learn's digits, half of them as they are, the others changed.

    An image is one column, or (``flat``) a column for each pixel.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = pixels[order].reshape(-1, 8, 8) / 16.0, labels[order]
    donor = _frame(images[:900], labels[:900], flat)
    changed = _frame(change(images[900:]), labels[900:], flat)

    def anew(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        mixed = changed.sample(fraction=1.0, shuffle=True, seed=seed)
        return mixed.head(scale.images), mixed.slice(scale.images)

    return Domain(f"digits, {what}", donor, anew, "accuracy")


def _frame(images: np.ndarray, labels: np.ndarray, flat: bool) -> pl.DataFrame:
    at = [START + timedelta(minutes=i) for i in range(len(labels))]
    pixels = images.reshape(len(images), -1)
    named: dict[str, Any] = {"pixels": pixels.tolist()}
    if flat:
        named = {f"pixel_{i:02}": pixels[:, i] for i in range(pixels.shape[1])}
    return pl.DataFrame({"id": range(len(labels)), "time": at, **named, "label": labels})


def _reader(**how: Any) -> Any:
    return learners.Torch(network, **({"epochs": READING, "lr": 3e-3, "batch_size": 32} | how))


def network(inputs: int, classes: int) -> Any:
    """Return a small network of convolutions over images of eight by eight pixels."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, classes),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, to see that all works")
    print("\n".join(main(quick=parser.parse_args().quick)))
