"""What policies of training reach on real streams, and what they cost, beside keepfit.

A stream is cut into a hundred batches; labels come at the end of each, and the first ten
train the first model. Every recipe is trained at every batch once, and asked about all that
comes later; a policy is then a path through these models, and costs the fits on it.

LightGBM draws nothing as it is set here. What a seed draws are the rows: the first keeps all of a
stream, each other a random nine tenths, in the order of time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
from peers import say
from peers.report import table
from policies import Base, Forecaster, Learned, Policy, tuned
from scipy import stats

STREAMS = ("elec2", "weather_noaa", "bike_hour", "metro_traffic", "sea_50k", "mixed_abrupt")
FIRST = 10
WINDOWS = {"all rows": None, "40 batches": 40, "20 batches": 20, "10 batches": 10, "5 batches": 5}
BASE = "20 batches"
DECAY = 0.9
KEPT = 0.9
"""The share of a stream's rows that a seed above 0 draws."""

CHAIN = 20
"""Leaf refits in a row, at most."""

OFFLINE = 10
"""Batches with which a published policy learns, a model being trained at each."""

PRICES = (0.01, 0.1)
"""What a training costs, in mean losses of a batch: a point of accuracy on a batch, and ten."""


NO_SETTINGS = "**keepfit**, no settings"
ALWAYS = "**keepfit**, every batch on all rows, no gate"
BY_HAND = "by hand"
FOREST = "River's adaptive random forest, 10 trees"

Found = dict[tuple[str, str], list[tuple[float, float, float]]]


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


QUICK = Scale(streams=("bike_hour",), seeds=2, batches=40, trees=30, forest=False)


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


def stream_of(name: str, folder: Path, seed: int) -> pl.DataFrame:
    """Return a stream in order of time: all of it, or the nine tenths that a seed draws."""
    frame = pl.read_parquet(folder / f"{name}.parquet").sort("time", "id")
    if not seed:
        return frame
    drawn = np.random.default_rng(seed).permutation(frame.height)
    return frame[np.sort(drawn[: round(KEPT * frame.height)])]


def table_of(
    name: str, folder: Path, seed: int, scale: Scale
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a stream's rows as numbers, its labels, and where batches end."""
    frame = stream_of(name, folder, seed)
    labels = frame["label"].cast(pl.Int64).to_numpy()
    features = frame.drop("id", "time", "label")
    rows = features.cast(dict.fromkeys(features.columns, pl.Float64)).to_numpy()
    return rows, labels, np.linspace(0, len(labels), scale.batches + 1).round().astype(int)


def settings(scale: Scale, seed: int) -> dict[str, Any]:
    """Return the parameters of the estimator: the same for all."""
    found = {"n_estimators": scale.trees, "verbosity": -1, "n_jobs": 1, "random_state": seed}
    return found | {"deterministic": True, "force_row_wise": True}


def trained(name: str, folder: Path, seed: int, scale: Scale) -> Models:
    """Train every recipe at every batch."""
    rows, labels, cuts = table_of(name, folder, seed, scale)
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
            booster = (
                lgb.LGBMClassifier(**settings(scale, seed)).fit(rows[part], labels[part]).booster_
            )
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


# Policies -------------------------------------------------------------------------------

Path_ = list[tuple[tuple[str, int, int], bool]]
"""For each batch the model that serves it, and whether it was fitted for it."""


def every(recipe: str, steps: int) -> Callable[[Models], Path_]:
    """Train a recipe at equal distances."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        newest = (recipe, FIRST, 0)
        for batch in range(FIRST, models.last):
            due = (batch - FIRST) % steps == 0 and (recipe, batch, 0) in models.wrong
            newest = (recipe, batch, 0) if due else newest
            found.append((newest, due))
        return found

    return path


def leaves(steps: int) -> Callable[[Models], Path_]:
    """Train on the base window at equal distances, and refit leaves with every batch between."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        start = FIRST
        for batch in range(FIRST, models.last):
            if (batch - FIRST) % steps == 0 and (BASE, batch, 0) in models.wrong:
                start = batch
            found.append(((BASE, start, min(batch - start, CHAIN - 1)), True))
        return found

    return path


def on_error(make: Callable[[], Any], recipe: str = BASE) -> Callable[[Models], Path_]:
    """Train when a detector of River's sees the error rise."""

    def path(models: Models) -> Path_:
        found: Path_ = []
        detector, newest, due = make(), (recipe, FIRST, 0), True
        for batch in range(FIRST, models.last):
            if due and (recipe, batch, 0) in models.wrong:
                newest, detector = (recipe, batch, 0), make()
            found.append((newest, due))
            due = False
            for wrong in models.errors(newest, batch).tolist():
                detector.update(wrong)
                due = due or detector.drift_detected
        return found

    return path


def published(
    make: Callable[[np.ndarray, int], Policy], recipe: str = BASE
) -> Callable[[Models], Path_]:
    """Train when a published policy says so, that learnt from the first batches.

    It is made from the losses of these, and from how many batches there are.
    """

    def path(models: Models) -> Path_:
        found: Path_ = []
        newest, due, policy = (recipe, FIRST, 0), True, None
        for batch in range(FIRST, models.last):
            newest = (recipe, batch, 0) if due and (recipe, batch, 0) in models.wrong else newest
            found.append((newest, due))
            # The policies count batches from the one whose end the first model was trained at.
            number = batch - FIRST + 1
            if number == OFFLINE:
                policy = make(_matrix(models, recipe), models.last - FIRST + 1)
            loss = models.error(newest, batch)
            due = number < OFFLINE or (policy is not None and policy.after(number, loss))
        return found

    return path


def _matrix(models: Models, recipe: str) -> np.ndarray:
    """Return the loss of each model of the first batches on each later one of them."""
    matrix = np.full((OFFLINE, OFFLINE + 1), np.nan)
    newest = (recipe, FIRST, 0)
    for i in range(OFFLINE):
        # Rows of one class make no model: the one before serves on.
        newest = (recipe, FIRST + i, 0) if (recipe, FIRST + i, 0) in models.wrong else newest
        for t in range(i + 1, OFFLINE + 1):
            matrix[i, t] = models.error(newest, FIRST + t - 1)
    return matrix


def cara(kind: str, price: float) -> Callable[[Models], Path_]:
    """Train as CARA does, at a price."""
    return published(lambda matrix, batches: tuned(kind, matrix, price))


def imitating(kind: type[Base | Learned], price: float) -> Callable[[Models], Path_]:
    """Train as the optimal strategy did beforehand, at a price."""

    def make(matrix: np.ndarray, batches: int) -> Policy:
        policy = kind.learnt(matrix, price)
        policy.trained = OFFLINE - 1
        return policy

    return published(make)


def upf(price: float) -> Callable[[Models], Path_]:
    """Train as UPF does, at a price."""

    def make(matrix: np.ndarray, batches: int) -> Policy:
        policy = Forecaster(price, batches).learn(matrix)
        policy.serving = OFFLINE - 1
        return policy

    return published(make)


def hindsight(models: Models) -> Path_:
    """Serve every batch by the model that does best on it; what it costs does not count."""
    found: Path_ = []
    for batch in range(FIRST, models.last):
        keys = [
            key
            for key in models.wrong
            if key[1] == batch - key[2] or (not key[2] and key[1] <= batch)
        ]
        found.append((min(keys, key=lambda key: models.error(key, batch)), False))
    return found


def oracle(share: float) -> Callable[[Models], Path_]:
    """Return the best path that costs at most a share of training each batch on all rows."""

    def path(models: Models) -> Path_:
        budget = share * cost(models, every("all rows", 1)(models))
        low, high, best = 0.0, 10.0, _cheapest(models, 10.0)
        for _ in range(20):
            price = (low + high) / 2
            tried = _cheapest(models, price)
            if cost(models, tried) <= budget:
                high, best = price, tried
            else:
                low = price
        return best

    return path


def _cheapest(models: Models, price: float) -> Path_:
    """Return the path of least error and price of fits together (dynamic programming)."""
    fresh = [key for key in models.wrong if key[2] == 0]
    ahead, after = 0.0, {}
    for batch in reversed(range(FIRST, models.last)):
        keep = {
            key: models.error(key, batch) + min(after.get(key, (0.0,))[0], ahead)
            for key in fresh
            if key[1] <= batch
        }
        new = [key for key in keep if key[1] == batch]
        starts = min((keep[key] + price * models.cpu[key], key) for key in new) if new else None
        after = {key: (value, starts) for key, value in keep.items()}
        ahead = float("inf") if starts is None else starts[0]
        _plan[batch] = (starts, keep)
    found: Path_ = []
    serving: tuple[str, int, int] | None = None
    for batch in range(FIRST, models.last):
        starts, keep = _plan[batch]
        change = starts is not None and (serving is None or starts[0] < keep[serving])
        serving = starts[1] if change else serving
        found.append((serving, change))
    return found


_plan: dict[int, Any] = {}


def cost(models: Models, path: Path_) -> float:
    """Return the CPU seconds of the fits on a path."""
    return sum(models.cpu[key] for key in {key for key, fitted in path if fitted})


def accuracy(models: Models, path: Path_) -> float:
    """Return the share of rows answered right, in per cent."""
    found = [models.error(key, batch) for batch, (key, _) in enumerate(path, FIRST)]
    return 100 * (1 - float(np.mean(found)))


def policies() -> dict[str, Callable[[Models], Path_]]:
    """Return the policies by name."""
    from river import drift
    from river.drift import binary

    return {
        "never": every("all rows", 10**6),
        "every batch, all rows": every("all rows", 1),
        **{f"every batch, {name}": every(name, 1) for name in WINDOWS if name != "all rows"},
        "every 5th, 20 batches": every("20 batches", 5),
        "every 10th, all rows": every("all rows", 10),
        "every 5th on 20 batches, leaves between": leaves(5),
        "every 10th on 20 batches, leaves between": leaves(10),
        "ADWIN on the error": on_error(drift.ADWIN),
        "DDM on the error": on_error(binary.DDM),
        "KSWIN on the error": on_error(lambda: drift.KSWIN(seed=0)),
        **{
            f"CARA, {name}, a training costs {price:g}": cara(kind, price)
            for kind, name in (("T", "threshold"), ("CT", "cumulative"), ("P", "periodic"))
            for price in PRICES
        },
        **{
            f"{name}, a training costs {price:g}": imitating(kind, price)
            for name, kind in (("RetrainOpt, base", Base), ("RetrainOpt, learned", Learned))
            for price in PRICES
        },
        **{f"UPF, a training costs {price:g}": upf(price) for price in PRICES},
        "oracle at a quarter of the cost": oracle(0.25),
        "the best of all for each batch": hindsight,
    }


def settings_of_keepfit() -> dict[str, dict[str, Any]]:
    """Return keepfit's settings by what they are called: none, those of Pays, and always."""
    from keepfit import Challenger, gates, selection, triggers

    return {
        NO_SETTINGS: {},
        **{
            f"**keepfit**, Pays on 20 batches, a training costs {price:g}": {
                "trigger": triggers.Pays(worth=0.01 / price),
                "challengers": Challenger(select=selection.Sliding(20)),
                "gate": gates.Fresher(),
                "enough": 50,
            }
            for price in PRICES
        },
        ALWAYS: {
            "trigger": triggers.AfterRows(1),
            "challengers": Challenger(),
            "gate": [],
            "enough": 1,
        },
    }


def alone(name: str, folder: Path, seed: int, scale: Scale, policy: str) -> tuple[float, ...]:
    """Return accuracy, CPU seconds of fits, and of the whole process that this took."""
    sizes = ("--batches", str(scale.batches), "--trees", str(scale.trees))
    done = subprocess.run(
        [sys.executable, __file__, name, *sizes, "--one", str(folder), str(seed), policy],
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def one(name: str, folder: Path, seed: int, scale: Scale, policy: str) -> list[float]:
    """Run one policy in this process, and return what `alone` does."""
    if policy == BY_HAND:
        value, fits = by_hand(name, folder, seed, scale)
    elif policy == FOREST:
        value, fits = by_forest(name, folder, seed, scale)
    else:
        value, fits = by_keepfit(name, folder, seed, scale, settings_of_keepfit()[policy])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return [value, fits, sum(u.ru_utime + u.ru_stime for u in used)]


def by_hand(name: str, folder: Path, seed: int, scale: Scale) -> tuple[float, float]:
    """Train with every batch on all rows, and answer the next: no more than that."""
    rows, labels, cuts = table_of(name, folder, seed, scale)
    right, fits = [], 0.0
    for batch in range(FIRST, scale.batches):
        started = time.process_time()
        model = lgb.LGBMClassifier(**settings(scale, seed))
        model.fit(rows[: cuts[batch]], labels[: cuts[batch]])
        fits += time.process_time() - started
        ahead = slice(cuts[batch], cuts[batch + 1])
        right.append(np.mean(model.predict(rows[ahead]) == labels[ahead]))
    return 100 * float(np.mean(right)), fits


def by_forest(name: str, folder: Path, seed: int, scale: Scale) -> tuple[float, float]:
    """Let River's adaptive random forest learn row by row what a batch brought, its answers first."""
    from river import forest

    rows, labels, cuts = table_of(name, folder, seed, scale)
    model = forest.ARFClassifier(n_models=10, seed=seed)
    right = np.zeros(len(labels))
    started = time.process_time()
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        batch = [dict(enumerate(row)) for row in rows[first:last].tolist()]
        for i, row in enumerate(batch, first):
            right[i] = model.predict_one(row) == labels[i]
        # Labels come at the end of a batch, to this one as to the others.
        for row, label in zip(batch, labels[first:last].tolist(), strict=True):
            model.learn_one(row, label)
    parts = [right[cuts[b] : cuts[b + 1]].mean() for b in range(FIRST, scale.batches)]
    return 100 * float(np.mean(parts)), time.process_time() - started


def by_keepfit(
    name: str, folder: Path, seed: int, scale: Scale, parts: dict[str, Any]
) -> tuple[float, float]:
    """Return accuracy and CPU seconds of training of keepfit."""
    from keepfit import Pipeline, executors, sources

    frame = stream_of(name, folder, seed)
    # A batch is a day: the cadence of the table, whatever the rows' own times are.
    cuts = np.linspace(0, frame.height, scale.batches + 1).round().astype(int)
    batch = np.searchsorted(cuts, np.arange(frame.height), side="right") - 1
    inside = (np.arange(frame.height) - cuts[batch]) / np.diff(cuts)[batch]
    start = frame["time"].min()
    micro = ((batch + inside) * 86_400e6).astype(np.int64)
    frame = frame.with_columns(time=pl.lit(start) + pl.Series(micro).cast(pl.Duration("us")))
    with tempfile.TemporaryDirectory() as home:
        pipeline = Pipeline(
            name,
            sources.Frame(frame, id="id", time="time", label="label"),
            lgb.LGBMClassifier(n_estimators=scale.trees, n_jobs=1, random_state=seed),
            metric="accuracy",
            every="1d",
            home=Path(home),
            executor=executors.Inline(),
            **parts,
        )
        told = pipeline.backtest(since=start + timedelta(days=FIRST), compare=False)
        pipeline.close()
    policy = told[name]
    return 100 * float(policy.value or 0.0), policy.fit_cpu_seconds


def main(*, quick: bool = False, scale: Scale | None = None) -> Iterator[str]:
    """Yield the report."""
    scale = scale or (QUICK if quick else Scale())
    folder = Path(os.environ.get("KEEPFIT_STREAMS", ""))
    known = [name for name in scale.streams if (folder / f"{name}.parquet").is_file()]
    yield from ["## Policies of training, on streams", ""]
    if not known:
        yield from ["No streams: KEEPFIT_STREAMS names no folder that holds them.", ""]
        return
    started = time.monotonic()
    found: Found = {}
    for name in known:
        for seed in range(scale.seeds):
            measured(found, name, folder, seed, scale)
    yield from told(found, known, scale)
    yield from [f"All of this took {(time.monotonic() - started) / 60:.0f} min.", ""]


def measured(found: Found, name: str, folder: Path, seed: int, scale: Scale) -> None:
    """Add what policies reach on a stream: accuracy, CPU of fits and of the process in %.

    Above seed 0 these are the fixed ones and keepfit without settings, and the CPU of a process
    is not asked for.
    """
    started = time.monotonic()
    hand = (math.nan,) * 3 if seed else alone(name, folder, seed, scale, BY_HAND)
    models = trained(name, folder, seed, scale)
    whole = cost(models, every("all rows", 1)(models))
    for policy, make in policies().items():
        if seed and not _is_fixed(policy):
            continue
        path = make(models)
        fits = 100 * cost(models, path) / whole
        found.setdefault((policy, name), []).append((accuracy(models, path), fits, math.nan))
    first = [*settings_of_keepfit(), *([FOREST] if scale.forest else [])]
    for policy in [NO_SETTINGS] if seed else first:
        value, fits, process = alone(name, folder, seed, scale, policy)
        shares = 100 * fits / (whole if seed else hand[1]), 100 * process / hand[2]
        found.setdefault((policy, name), []).append((value, *shares))
    say(f"{name}, seed {seed}: {(time.monotonic() - started) / 60:.1f} min")


def _is_fixed(policy: str) -> bool:
    """Return whether a policy trains a window at a fixed rhythm, or never."""
    return policy == "never" or policy.startswith("every ")


def told(found: Found, known: Sequence[str], scale: Scale) -> Iterator[str]:
    """Yield the table of all policies, and how keepfit without settings stands beside them."""
    rows = [
        [policy, *(_cell(found[policy, name][0]) for name in known)]
        for policy in dict.fromkeys(policy for policy, _ in found)
    ]
    yield from [
        f"{scale.batches} batches, LightGBM with {scale.trees} trees on one thread, all rows of a "
        "stream: accuracy in per cent / CPU of the fits in per cent of those of "
        "every batch on all rows, and, where the policy ran in a process of its own, CPU of the "
        "whole process in per cent of a loop by hand that fits with every batch on all rows. "
        "Labels come at the end of each batch. CARA, RetrainOpt and UPF learn "
        "beforehand from trainings that are not counted.",
        "",
        *table(["policy", *known], rows),
        "",
        *_gaps(found, known, scale.seeds),
    ]


def _gaps(found: Found, known: Sequence[str], seeds: int) -> list[str]:
    """Return keepfit's gap to the best fixed policy of each stream."""
    drawn = (
        f" It is the mean of {seeds} seeds: all rows of the stream, and {seeds - 1} times nine "
        "tenths of them, drawn at random and in order of time. In brackets its t interval of 95 % "
        "over the seeds: how much hangs on which rows there were. Draws share most of their rows, "
        "so that it is narrower than one over streams would be."
        if seeds > 1
        else ""
    )
    return [
        "Keepfit without settings, beside the best policy in hindsight of those that train a "
        f"window at a fixed rhythm: accuracy less that one's in points.{drawn} CPU is that of "
        "all rows.",
        "",
        *table(
            ["stream", "best fixed policy", "difference", "CPU of fits", "whole process"],
            [_beside(found, name) for name in known],
        ),
        "",
    ]


def _beside(found: Found, name: str) -> list[str]:
    fixed = [policy for policy, stream in found if stream == name and _is_fixed(policy)]
    best = max(fixed, key=lambda policy: np.mean([cell[0] for cell in found[policy, name]]))
    ours, theirs = (np.array(found[policy, name]) for policy in (NO_SETTINGS, best))
    gap = with_interval(ours[:, 0] - theirs[:, 0])
    _, fits, process = ours[0]
    always = 100 * process / found[ALWAYS, name][0][2]
    shares = f"{process:.0f} % of the loop by hand, {always:.0f} % of keepfit's always"
    return [name, best, gap, f"{fits:.0f} %", shares]


def with_interval(gaps: np.ndarray) -> str:
    """Return a mean with its t interval of 95 %, where there are several."""
    text = f"{gaps.mean():+.2f}"
    if len(gaps) < 2:
        return text
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    return f"{text} [{gaps.mean() - half:+.2f}, {gaps.mean() + half:+.2f}]"


def _cell(cell: tuple[float, float, float]) -> str:
    value, fits, process = cell
    return f"{value:.1f} / {fits:.0f}" + ("" if math.isnan(process) else f" / {process:.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="STREAM", help="those to run; else all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=Scale.seeds)
    parser.add_argument("--batches", type=int, default=Scale.batches)
    parser.add_argument("--trees", type=int, default=Scale.trees)
    parser.add_argument(
        "--no-forest", action="store_true", help="leave out River's, which takes minutes"
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = Scale(
        streams=asked.names or STREAMS,
        seeds=asked.seeds,
        batches=asked.batches,
        trees=asked.trees,
        forest=not asked.no_forest,
    )
    if asked.one:
        (stream,), (place, seed_, policy_) = asked.names, asked.one
        print(json.dumps(one(stream, Path(place), int(seed_), size, policy_)))
    else:
        print("\n".join(main(scale=QUICK if asked.quick else size)))
