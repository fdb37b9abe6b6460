"""Estimates without labels beside NannyML: what they cost, and how near they come."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from estimate_errors import Judged, Line, tally
from estimate_streams import Life, Stream, stream
from peers import Silent, Tool, say
from peers.estimating import Scored, spans
from peers.report import Answer, asked, cell, peak, seconds, table

CBPE = Tool("**keepfit** CBPE", "keepfit_estimates", "cbpe")
WEIGHTED = Tool("**keepfit** Weighted", "keepfit_estimates", "weighted")
DLE = Tool("**keepfit** DLE", "keepfit_estimates", "dle")
NANNYML_CBPE = Tool("NannyML CBPE", "nannyml_estimates", "cbpe", "nannyml")
NANNYML_DLE = Tool("NannyML DLE", "nannyml_estimates", "dle", "nannyml")

CHUNK = 10_000
STREAMS = ("weather_noaa", "bike_hour", "elec2", "metro_traffic")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sizes: Sequence[int] = (100_000, 1_000_000)
    repeats: int = 5
    budget: float = 20.0
    timeout: float = 900.0
    draws: int = 5
    streams: Sequence[str] = (*STREAMS, "flights")


@dataclass(frozen=True)
class Task:
    """What is predicted, which metrics of it are estimated, and by what."""

    tools: Sequence[Tool]
    metrics: Sequence[str]
    numbers: bool = False

    def asked_of(self, tool: Tool) -> Sequence[str]:
        """Return the metrics that a tool estimates."""
        return [one for one in self.metrics if tool.peer is None or one not in ABSENT]


ABSENT = ("log_loss",)
"""Metrics that NannyML does not estimate."""

CLASSES = Task((CBPE, WEIGHTED, NANNYML_CBPE), ("roc_auc", "accuracy", "f1", "log_loss"))
NUMBERS = Task((DLE, NANNYML_DLE), ("mae", "rmse"), numbers=True)
PREDICTED = {
    "bike_hour": ("hum", "windspeed"),
    "elec2": ("nswdemand",),
    "metro_traffic": ("temp",),
    "weather_noaa": ("visibility",),
}
"""Columns of streams that a regressor predicts from the others."""

QUICK = Scale(
    sizes=(50_000,),
    repeats=1,
    budget=1.0,
    timeout=120.0,
    draws=1,
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
        "Median seconds to fit on so many labelled rows and to estimate every chunk of as many "
        "others, in brackets how many times keepfit's. Of the largest size, the fit and the "
        "estimates apart, CPU of both, the peak of memory of the estimates beyond the loaded rows, "
        "and the mean distance from the realised value.",
        "",
        *table(["", *head, "fit", "estimates", "CPU", "peak MB", "error"], body),
        "",
        *([*silent, ""] if silent else []),
        "Largest difference between the two tools in any chunk, of the first metric: "
        f"{'; '.join(apart)}.",
        "",
    ]


def run(race: Race, folder: Path, scale: Scale) -> tuple[list[Answer], list[Answer]]:
    """Return both tools' answers at each size."""
    options = ("--chunk", CHUNK, "--repeats", scale.repeats, "--budget", scale.budget)
    found: tuple[list[Answer], list[Answer]] = ([], [])
    for rows in scale.sizes:
        name = f"{race.write.__name__}-{rows}"
        reference = race.write(folder / f"{name}-reference", rows, 1)
        question = (reference, _rows(race, folder, rows), "--metrics", race.metrics, *options)
        about = f"{race.name}, {rows:,} rows"
        for tool, answers in zip((race.ours, race.theirs), found, strict=True):
            answer = asked(tool, *question, about=about, timeout=scale.timeout)
            answers.append(answer if isinstance(answer, Silent) else _with_both(answer))
    return found


def _with_both(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with what fit and estimates take together."""
    both = {what: answer["fit"][what] + answer[what] for what in ("wall", "cpu")}
    return answer | {"both": both}


def _rows(race: Race, folder: Path, rows: int) -> Path:
    return race.write(folder / f"{race.write.__name__}-{rows}", rows, 2)


def _cells(
    race: Race, answers: Sequence[Answer], ours: Sequence[Answer], folder: Path, scale: Scale
) -> list[str]:
    """Return a tool's line."""
    last = answers[-1]
    error = "–"
    if not isinstance(last, Silent):
        path = _rows(race, folder, scale.sizes[-1])
        away = _values(last, race.first) - realised(path, race.first, CHUNK)
        error = f"{np.abs(away).mean():.4f}"
    return [
        *(
            cell(_part(answer, "both"), _part(own, "both"), seconds)
            for answer, own in zip(answers, ours, strict=True)
        ),
        cell(_part(last, "fit"), _part(ours[-1], "fit"), seconds),
        cell(last, ours[-1], seconds),
        cell(_part(last, "both"), _part(ours[-1], "both"), seconds, "cpu"),
        peak(last),
        error,
    ]


def _part(answer: Answer, name: str) -> Answer:
    return answer if isinstance(answer, Silent) else answer[name]


def _apart(ours: Answer, theirs: Answer, metric: str) -> str:
    """Return how far the estimates of two tools lie apart, at most."""
    if isinstance(ours, Silent) or isinstance(theirs, Silent):
        return "–"
    return f"{np.abs(_values(ours, metric) - _values(theirs, metric)).max():.1g}"


def _values(answer: dict[str, Any], metric: str) -> np.ndarray:
    return np.array(answer["said"][metric], dtype=np.float64)[:, 0]


def realised(path: Path, metric: str, chunk: int) -> np.ndarray:
    """Return the metric of each chunk, from its labels."""
    from sklearn import metrics

    def labelled(measure: Callable[..., float]) -> Callable[..., float]:
        return lambda labels, scores: measure(labels, scores > 0.5)

    measure: Callable[..., float] = {
        "accuracy": labelled(metrics.accuracy_score),
        "f1": labelled(metrics.f1_score),
        "log_loss": metrics.log_loss,
        "mae": metrics.mean_absolute_error,
        "rmse": metrics.root_mean_squared_error,
        "roc_auc": metrics.roc_auc_score,
    }[metric]
    rows = Scored.load(path)
    cuts = spans(len(rows.labels), chunk)
    return np.array([measure(rows.labels[cut], rows.scores[cut]) for cut in cuts])


def accuracy(folder: Path, scale: Scale, streams: Path | None) -> list[str]:
    """Compare estimated with realised values on streams."""
    absent: list[str] = []
    found = {task: _judged(task, folder, scale, streams, absent) for task in (CLASSES, NUMBERS)}
    mixed = MIXED.format(last=scale.draws - 1)
    return [
        "### Estimated against realised",
        "",
        "A LightGBM model trained on the first 30 % of a stream, the next 20 % as reference, the "
        "rest in chunks. Mean distance of the estimate from the realised value, beside that of the "
        "reference's own value taken for every chunk; in brackets how often the realised value "
        "lay in keepfit's interval of 95 %, and half the interval's mean width. NannyML's band is "
        "three standard errors of sampling, not an interval at a level, and it has no log_loss.",
        "",
        *_in_time(CLASSES, found[CLASSES]["time"]),
        "",
        mixed,
        "",
        *_mixed(CLASSES, found[CLASSES]["mix"]),
        "",
        "Regressors of a column from the others; all but the realised value in units of the "
        "reference's own.",
        "",
        *_in_time(NUMBERS, found[NUMBERS]["time"]),
        "",
        mixed,
        "",
        *_mixed(NUMBERS, found[NUMBERS]["mix"]),
        "",
        *([f"Streams not at hand: {', '.join(sorted(set(absent)))}.", ""] if absent else []),
    ]


MIXED = (
    "The same with the rows shuffled first, and each chunk drawn with more of the high, or the "
    "low, values of one of the five features that the model uses most: only the mix changes. "
    "A figure is the mean over draws of the shuffle, and with it of the model, the reference and "
    "the chunks: seeds 0 to {last}. After each of keepfit's columns stands its mean error less "
    "NannyML's, paired by draw, with the t interval of 95 % over the draws: below zero keepfit is "
    "nearer. Draws share a stream's rows, so that it is narrower than one over streams would be."
)
ABOUT = ("", "metric", "chunks", "realised", "as in the reference")


def _in_time(task: Task, lines: Sequence[Line]) -> list[str]:
    """Return the table of the streams as they came."""
    labels = [tool.label for tool in task.tools]
    body = [[*line.about(), *(_nearness(line, tool) for tool in task.tools)] for line in lines]
    return table([*ABOUT, *labels], body)


def _mixed(task: Task, lines: Sequence[Line]) -> list[str]:
    """Return the table of changed mixes, with differences to the peer, and a tally of them."""
    *ours, peer = task.tools
    labels = [name for tool in ours for name in (tool.label, "less NannyML's")]
    body = [
        [
            *line.about(),
            *(cell for tool in ours for cell in _beside(line, tool, peer)),
            _nearness(line, peer),
        ]
        for line in lines
    ]
    sums = "; ".join(tally(tool.label, peer.label, lines) for tool in ours)
    return [*table([*ABOUT, *labels, peer.label], body), "", f"{sums}."]


def _beside(line: Line, tool: Tool, peer: Tool) -> list[str]:
    """Return how far a tool's estimates are, and how much farther than a peer's."""
    gap = line.difference(tool.label, peer.label)
    return [_nearness(line, tool), "–" if gap is None else str(gap)]


def _nearness(line: Line, tool: Tool) -> str:
    """Return how far a tool's estimates are, and how good keepfit's intervals."""
    return line.error(tool.label) + (line.interval(tool.label) if tool.peer is None else "")


def _judged(
    task: Task, folder: Path, scale: Scale, streams: Path | None, absent: list[str]
) -> dict[str, list[Line]]:
    """Return a line per stream and metric: of streams in time, and under changes of the mix."""
    found: dict[str, list[Line]] = {"time": [], "mix": []}
    for name in scale.streams:
        frame = stream(name, streams)
        if frame is None:
            absent.append(name)
            continue
        for target in PREDICTED.get(name, ()) if task.numbers else ("label",):
            rows, place = Stream(name, frame), folder / name / target
            if task.numbers:
                chosen = frame.drop("label").rename({target: "label"}).drop_nulls("label")
                rows = Stream(f"{name}, {target}", chosen, numbers=True)
            lives = [rows.mixed(place / str(seed), seed) for seed in range(scale.draws)]
            found["time"] += _lines([rows.in_time(place / "time")], task, scale)
            found["mix"] += _lines(lives, task, scale)
    return found


def _lines(lives: Sequence[Life], task: Task, scale: Scale) -> list[Line]:
    """Return a line per metric, of the draws of a stream."""
    said = [_said(life, task, scale) for life in lives]
    return [
        Line(
            lives[0].stream,
            metric,
            lives[0].chunk,
            [_one(life, answers, metric, task) for life, answers in zip(lives, said, strict=True)],
        )
        for metric in task.metrics
    ]


def _said(life: Life, task: Task, scale: Scale) -> dict[str, dict[str, Any]]:
    """Return what each tool says of a life; those that do not answer are left out."""
    said = {}
    for tool in task.tools:
        wanted = ",".join(task.asked_of(tool))
        question = (life.reference, life.rows, "--chunk", life.chunk, "--metrics", wanted)
        answer = asked(tool, *question, about=life.stream, timeout=scale.timeout)
        if isinstance(answer, Silent):
            say(answer)
        else:
            said[tool.label] = answer["said"]
    return said


def _one(life: Life, said: dict[str, dict[str, Any]], metric: str, task: Task) -> Judged:
    rows = len(Scored.load(life.reference).labels)
    before = float(realised(life.reference, metric, rows)[0])
    return Judged(
        realised(life.rows, metric, life.chunk),
        before,
        before if task.numbers else 1.0,
        {tool: np.array(of[metric], dtype=float) for tool, of in said.items() if metric in of},
    )


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
