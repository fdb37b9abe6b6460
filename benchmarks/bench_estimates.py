"""Estimates without labels beside NannyML: what they cost, and how near they come."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from peers import Silent, Tool, say
from peers.estimating import Scored, spans
from peers.report import Answer, asked, cell, peak, seconds, table

CBPE = Tool("**keepfit** CBPE", "keepfit_estimates", "cbpe")
WEIGHTED = Tool("**keepfit** Weighted", "keepfit_estimates", "weighted")
DLE = Tool("**keepfit** DLE", "keepfit_estimates", "dle")
NANNYML_CBPE = Tool("NannyML CBPE", "nannyml_estimates", "cbpe", "nannyml")
NANNYML_DLE = Tool("NannyML DLE", "nannyml_estimates", "dle", "nannyml")
JUDGED = (CBPE, WEIGHTED, NANNYML_CBPE)

CHUNK = 10_000
STREAMS = ("weather_noaa", "bike_hour", "elec2", "metro_traffic")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    reference: int = 100_000
    sizes: Sequence[int] = (100_000, 1_000_000)
    repeats: int = 5
    budget: float = 20.0
    timeout: float = 900.0
    streams: Sequence[str] = (*STREAMS, "flights")


QUICK = Scale(
    reference=20_000,
    sizes=(50_000,),
    repeats=1,
    budget=1.0,
    timeout=120.0,
    streams=("bike_hour",),
)


@dataclass(frozen=True)
class Race:
    """One question to keepfit and to NannyML, on the same scores."""

    name: str
    ours: Tool
    theirs: Tool
    metrics: str
    write: Callable[[Path, int, int], Path]

    @property
    def first(self) -> str:
        """The metric whose values are compared."""
        return self.metrics.split(",")[0]


def classified(folder: Path, rows: int, seed: int) -> Path:
    """Write scores that are too sure of themselves, of rows that become easier with time."""
    if not folder.exists():
        rng = np.random.default_rng(seed)
        odds = rng.normal(-1.0, np.linspace(1.5, 2.0, rows))
        labels = (rng.random(rows) < _chance(odds)).astype(np.int64)
        Scored.save(folder, labels, _chance(1.5 * odds + 0.3))
    return folder


def regressed(folder: Path, rows: int, seed: int) -> Path:
    """Write ten features and answers whose error depends on two of them, which move."""
    if not folder.exists():
        rng = np.random.default_rng(seed)
        columns = {f"x{i}": rng.normal(size=rows) for i in range(10)}
        columns["x0"] += np.linspace(0, 0.5, rows)
        answers = 10 + 2 * columns["x0"] + columns["x1"] * columns["x2"]
        noise = 0.5 + np.abs(columns["x0"]) + (columns["x3"] > 0.5)
        Scored.save(folder, answers + rng.normal(size=rows) * noise, answers, columns)
    return folder


def _chance(odds: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-odds))


RACES = (
    Race("roc_auc", CBPE, NANNYML_CBPE, "roc_auc", classified),
    Race("five metrics", CBPE, NANNYML_CBPE, "roc_auc,f1,precision,recall,accuracy", classified),
    Race("mae", DLE, NANNYML_DLE, "mae", regressed),
)


def costs(folder: Path, scale: Scale) -> list[str]:
    """Measure fits and estimates in chunks, and how far the values lie apart."""
    body: list[list[str]] = []
    silent: list[str] = []
    apart: list[str] = []
    for race in RACES:
        ours, theirs = run(race, folder, scale)
        for tool, answers in ((race.ours, ours), (race.theirs, theirs)):
            body.append([f"{tool.label}, {race.name}", *_cells(race, answers, ours, folder, scale)])
            if isinstance(answers[-1], Silent):
                silent.append(f"- {tool.label}, {race.name}: {answers[-1]}")
        apart.append(f"{race.name} {_apart(ours[-1], theirs[-1], race.first)}")
    head = [f"{rows:,} rows" for rows in scale.sizes]
    return [
        f"### In chunks of {CHUNK:,}",
        "",
        f"Median seconds to estimate every chunk after a fit on {scale.reference:,} rows, in "
        "brackets how many times keepfit's; CPU, the peak of memory beyond the loaded rows, and the "
        "mean distance from the realised value at the largest size.",
        "",
        *table(["", "fit", *head, "CPU", "peak MB", "error"], body),
        "",
        *([*silent, ""] if silent else []),
        "Largest difference between the two tools in any chunk, of the first metric: "
        f"{'; '.join(apart)}.",
        "",
    ]


def run(race: Race, folder: Path, scale: Scale) -> tuple[list[Answer], list[Answer]]:
    """Return both tools' answers at each size."""
    options = ("--chunk", CHUNK, "--repeats", scale.repeats, "--budget", scale.budget)
    reference = race.write(folder / f"{race.write.__name__}-reference", scale.reference, 1)
    found: tuple[list[Answer], list[Answer]] = ([], [])
    for rows in scale.sizes:
        question = (reference, _rows(race, folder, rows), "--metrics", race.metrics, *options)
        about = f"{race.name}, {rows:,} rows"
        for tool, answers in zip((race.ours, race.theirs), found, strict=True):
            answers.append(asked(tool, *question, about=about, timeout=scale.timeout))
    return found


def _rows(race: Race, folder: Path, rows: int) -> Path:
    return race.write(folder / f"{race.write.__name__}-{rows}", rows, 2)


def _cells(
    race: Race, answers: Sequence[Answer], ours: Sequence[Answer], folder: Path, scale: Scale
) -> list[str]:
    """Return a tool's line."""
    last = answers[-1]
    fit, error = "–", "–"
    if not isinstance(last, Silent):
        own = ours[-1] if isinstance(ours[-1], Silent) else ours[-1]["fit"]
        fit = cell(last["fit"], own, seconds)
        path = _rows(race, folder, scale.sizes[-1])
        away = _values(last, race.first) - realised(path, race.first, CHUNK)
        error = f"{np.abs(away).mean():.4f}"
    cells = [cell(answer, own, seconds) for answer, own in zip(answers, ours, strict=True)]
    return [fit, *cells, cell(last, ours[-1], seconds, "cpu"), peak(last), error]


def _apart(ours: Answer, theirs: Answer, metric: str) -> str:
    """Return how far the estimates of two tools lie apart, at most."""
    if isinstance(ours, Silent) or isinstance(theirs, Silent):
        return "–"
    return f"{np.abs(_values(ours, metric) - _values(theirs, metric)).max():.1g}"


def _values(answer: dict[str, Any], metric: str) -> np.ndarray:
    return np.array(answer["said"][metric], dtype=np.float64)[:, 0]


def realised(path: Path, metric: str, chunk: int) -> np.ndarray:
    """Return the metric of each chunk, from its labels."""
    from sklearn.metrics import mean_absolute_error, roc_auc_score

    measure = {"roc_auc": roc_auc_score, "mae": mean_absolute_error}[metric]
    rows = Scored.load(path)
    cuts = spans(len(rows.labels), chunk)
    return np.array([measure(rows.labels[cut], rows.scores[cut]) for cut in cuts])


@dataclass(frozen=True)
class Life:
    """A stream in three parts: rows that trained a model, its reference, and what came then."""

    stream: str
    reference: Path
    rows: Path
    chunk: int

    @property
    def chunks(self) -> int:
        """How many chunks came."""
        return len(Scored.load(self.rows).labels) // self.chunk


def stream(name: str, streams: Path | None) -> pl.DataFrame | None:
    """Return a stream in time order, with the column `label`; None where it is not at hand."""
    if name == "flights":
        from keepfit import datasets

        rows = datasets.flights().drop_nulls("late").sort("scheduled_at", "id")
        return rows.drop("id", "landed_at").rename({"scheduled_at": "time", "late": "label"})
    path = streams / f"{name}.parquet" if streams else None
    return pl.read_parquet(path).drop("id") if path and path.exists() else None


def lives(name: str, frame: pl.DataFrame, folder: Path) -> Iterator[tuple[str, Life]]:
    """Score a stream as it came, and, with time taken out, as if the mix of rows changed."""
    labels = frame["label"].cast(pl.Int64).to_numpy()
    columns = _Features.of(frame.drop("label", "time"))
    chunk = 5_000 if frame.height > 100_000 else 500
    train, end = int(0.3 * frame.height), int(0.5 * frame.height)
    order = np.arange(frame.height)
    later = order[end : end + (frame.height - end) // chunk * chunk]
    model = columns.trained(labels, order[:train])
    yield "time", columns.life(model, labels, order[train:end], later, folder / "time", chunk)
    rng = np.random.default_rng(0)
    order = rng.permutation(frame.height)
    model = columns.trained(labels, order[:train])
    drawn = columns.resampled(model, order[end:], chunk, rng)
    yield "mix", columns.life(model, labels, order[train:end], drawn, folder / "mix", chunk)


@dataclass(frozen=True)
class _Features:
    """The features of a stream as arrays, texts as codes."""

    numbers: dict[str, np.ndarray]
    categories: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> _Features:
        numbers, categories = {}, {}
        for column in frame:
            if column.dtype == pl.String:
                levels = column.fill_null("").unique().sort()
                codes = column.fill_null("").cast(pl.Enum(levels)).to_physical()
                categories[column.name] = (codes.to_numpy().astype(np.int32), levels.to_numpy())
            else:
                values = column.cast(pl.Float64).fill_null(float("nan"))
                numbers[column.name] = values.to_numpy()
        return cls(numbers, categories)

    @property
    def matrix(self) -> np.ndarray:
        codes = [codes for codes, _ in self.categories.values()]
        return np.column_stack([*self.numbers.values(), *codes])

    def trained(self, labels: np.ndarray, rows: np.ndarray) -> Any:
        """Return the model whose performance is to be estimated."""
        import lightgbm as lgb

        model = lgb.LGBMClassifier(n_estimators=100, random_state=0, verbosity=-1)
        return model.fit(self.matrix[rows], labels[rows])

    def resampled(
        self, model: Any, pool: np.ndarray, chunk: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw chunks that favour high, then low values of each of the five most used features."""
        drawn = []
        for used in np.argsort(-model.booster_.feature_importance("gain"))[:5]:
            values = np.nan_to_num(self.matrix[pool, used])
            ranks = np.searchsorted(np.sort(values), values) / pool.size
            for slope in (2.0, -2.0, 4.0, -4.0):
                weights = np.exp(slope * ranks)
                drawn.append(rng.choice(pool, chunk, replace=False, p=weights / weights.sum()))
        return np.concatenate(drawn)

    def life(
        self,
        model: Any,
        labels: np.ndarray,
        reference: np.ndarray,
        rows: np.ndarray,
        folder: Path,
        chunk: int,
    ) -> Life:
        """Write a reference and the rows that came then, scored by a model."""
        scores = model.predict_proba(self.matrix)[:, 1]
        for part, which in (("reference", reference), ("rows", rows)):
            numbers = {name: values[which] for name, values in self.numbers.items()}
            categories = {n: (codes[which], all_) for n, (codes, all_) in self.categories.items()}
            Scored.save(folder / part, labels[which], scores[which], numbers, categories)
        return Life(folder.parent.name, folder / "reference", folder / "rows", chunk)


def accuracy(folder: Path, scale: Scale, streams: Path | None) -> list[str]:
    """Compare estimated with realised roc_auc on streams."""
    body: dict[str, list[list[str]]] = {"time": [], "mix": []}
    absent = []
    for name in scale.streams:
        frame = stream(name, streams)
        if frame is None:
            absent.append(name)
            continue
        for kind, life in lives(name, frame, folder / name):
            body[kind].append(_judged(life, scale))
    head = ["", "chunks", "realised", "as in the reference", *(tool.label for tool in JUDGED)]
    return [
        "### Estimated against realised roc_auc",
        "",
        "A LightGBM model trained on the first 30 % of a stream, the next 20 % as reference, the "
        "rest in chunks. Mean distance of the estimate from the realised value, beside that of the "
        "reference's own roc_auc taken for every chunk; in brackets how often the realised value "
        "lay in keepfit's interval of 95 %, and half the interval's mean width.",
        "",
        *table(head, body["time"]),
        "",
        "The same with the rows shuffled first, and each chunk drawn with more of the high, or the "
        "low, values of one of the five features that the model uses most: only the mix changes.",
        "",
        *table(head, body["mix"]),
        "",
        *([f"Streams not at hand: {', '.join(absent)}.", ""] if absent else []),
    ]


def _judged(life: Life, scale: Scale) -> list[str]:
    truth = realised(life.rows, "roc_auc", life.chunk)
    reference = Scored.load(life.reference)
    before = realised(life.reference, "roc_auc", len(reference.labels))[0]
    cells = [f"{len(truth)} of {life.chunk:,}", f"{truth.mean():.3f}"]
    cells.append(f"{np.abs(truth - before).mean():.4f}")
    for tool in JUDGED:
        question = (life.reference, life.rows, "--chunk", life.chunk)
        answer = asked(tool, *question, about=life.stream, timeout=scale.timeout)
        if isinstance(answer, Silent):
            say(answer)
            cells.append("–")
            continue
        value, low, high = np.array(answer["said"]["roc_auc"], dtype=np.float64).T
        error = f"{np.abs(value - truth).mean():.4f}"
        # NannyML's band is three standard errors of sampling, not an interval at a level.
        ours = tool is not NANNYML_CBPE
        inside, half = ((low <= truth) & (truth <= high)).mean(), (high - low).mean() / 2
        cells.append(f"{error} ({100 * inside:.0f} %, ±{half:.3f})" if ours else error)
    return [life.stream, *cells]


def main(*, quick: bool = False, streams: Path | None = None) -> list[str]:
    """Return the lines of the report; ``streams`` is a folder of Parquet files."""
    scale = QUICK if quick else Scale()
    if streams is None and os.environ.get("KEEPFIT_STREAMS"):
        streams = Path(os.environ["KEEPFIT_STREAMS"])
    with tempfile.TemporaryDirectory() as folder:
        return [
            "## Estimates without labels, beside NannyML",
            "",
            *costs(Path(folder) / "costs", scale),
            *accuracy(Path(folder) / "streams", scale, streams),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--streams", type=Path)
    asked_for = parser.parse_args()
    print("\n".join(main(quick=asked_for.quick, streams=asked_for.streams)))
