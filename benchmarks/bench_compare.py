"""What it costs to compare all policies, beside the fits and predictions they have in common.

`keepfit backtest FILE --compare all` plays a dozen policies over a history. The floor is the union
of what they need: each distinct fit, and each distinct prediction of a model for rows, once. Both
are metered within the run itself, on the CPU clock: a fit is a learner's (without writing its model
down) or a probe's, with the table of numbers that it learns from; a prediction a model's or a
probe's. What is done twice counts once in the floor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import lightgbm as lgb
import polars as pl
from peers.report import table
from stream_models import FIRST, STREAMS, Scale, at_hand, paced, stream_of

FLIGHTS = "flights, weekly"
KINDS = ("fits", "predictions", "fits of probes", "predictions of probes")
TABLES = "tables of probes"


class Meter:
    """CPU seconds of what is called, each distinct thing once, and not of what it calls again."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.again = 0.0
        self.own = 0.0
        self._seen: set[Any] = set()
        self._inside = False

    def watch(self, owner: Any, name: str, kind: str, key: Callable[..., Any] | None) -> None:
        """Meter a method; ``key`` says of its arguments what makes a call distinct, else all are."""
        method = getattr(owner, name)
        function = method.__func__ if isinstance(method, type(self.watch)) else method

        @wraps(function)
        def metered(*given: Any, **named: Any) -> Any:
            if self._inside:
                return function(*given, **named)
            self._inside = True
            started = time.process_time()
            try:
                return function(*given, **named)
            finally:
                spent = time.process_time() - started
                self._inside = False
                self._count(kind, spent, None if key is None else (name, key(*given, **named)))

        bound = isinstance(method, type(self.watch))
        setattr(owner, name, classmethod(metered) if bound else metered)

    def _count(self, kind: str, spent: float, what: Any) -> None:
        started = time.process_time()
        if what is not None and what in self._seen:
            self.again += spent
        else:
            self._seen.add(what)
            self.seconds[kind] = self.seconds.get(kind, 0.0) + spent
            self.counts[kind] = self.counts.get(kind, 0) + 1
        self.own += time.process_time() - started


def one(name: str, folder: Path, scale: Scale) -> dict[str, Any]:
    """Compare all policies on a history in this process, and return what it cost."""
    # What policies and probes are made of is there before, as LightGBM is: it is no fit of either.
    import river.drift  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    from keepfit.learners.boosting import Boosting
    from keepfit.learners.models import FittedModel
    from keepfit.probes import trial

    meter = Meter()
    made: dict[int, tuple[Any, int]] = {}

    def asked(model: Any, rows: pl.DataFrame, *_: Any, **__: Any) -> Any:
        # By what the model is, for one that is opened twice answers the same.
        started = time.process_time()
        if id(model) not in made:
            made[id(model)] = model, hash(model.dumps())
        found = made[id(model)][1], rows.height, rows.get_column("_id").hash().sum()
        meter.own += time.process_time() - started
        return found

    meter.watch(Boosting, "fit", "fits", None)
    meter.watch(FittedModel, "predict", "predictions", asked)
    meter.watch(trial.Trial, "_table", TABLES, None)  # of numbers, as a learner's fit makes it
    meter.watch(trial, "_fitted", "fits of probes", None)
    meter.watch(trial, "answers", "predictions of probes", None)
    with tempfile.TemporaryDirectory() as home:
        pipeline, since = (
            _flights(Path(home), scale)
            if name == FLIGHTS
            else _stream(name, folder, Path(home), scale)
        )
        started = time.process_time()
        told = pipeline.backtest(since=since, compare="all", jobs=1)
        total = time.process_time() - started - meter.own
        pipeline.close()
    return {
        "policies": len(told.policies),
        "total": total,
        "seconds": meter.seconds,
        "counts": meter.counts,
        "again": meter.again,
    }


def _flights(home: Path, scale: Scale) -> tuple[Any, Any]:
    """Return a pipeline of a year of flights, week by week, without settings."""
    from keepfit import Pipeline, datasets, executors, sources

    source = sources.Frame(
        datasets.flights(),
        id="id",
        time="scheduled_at",
        label="late",
        known_at="landed_at",
        label_delay="24h",
    )
    estimator = lgb.LGBMClassifier(n_estimators=scale.trees, n_jobs=1)
    made = Pipeline(
        "flights",
        source,
        estimator,
        metric="roc_auc",
        every="7d",
        home=home,
        executor=executors.Inline(),
    )
    return made, None


def _stream(name: str, folder: Path, home: Path, scale: Scale) -> tuple[Any, Any]:
    """Return a pipeline of a stream, a batch a day, without settings."""
    from keepfit import Pipeline, executors, sources

    frame = paced(stream_of(name, folder, 0), scale)
    made = Pipeline(
        name,
        sources.Frame(frame, id="id", time="time", label="label"),
        lgb.LGBMClassifier(n_estimators=scale.trees, n_jobs=1, random_state=0),
        metric="accuracy",
        every="1d",
        home=home,
        executor=executors.Inline(),
    )
    return made, frame["time"][0] + timedelta(days=FIRST)


def alone(name: str, folder: Path, scale: Scale) -> dict[str, Any]:
    """Return what `one` does, run in a process of its own."""
    sizes = ("--batches", str(scale.batches), "--trees", str(scale.trees))
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(folder), name, *sizes],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(*, quick: bool = False, scale: Scale | None = None) -> Iterator[str]:
    """Yield the report."""
    scale = scale or (Scale(streams=("bike_hour",), batches=40, trees=30) if quick else Scale())
    folder, known = at_hand(scale.streams)
    yield from ["## Comparing all policies, beside what they have in common", ""]
    yield from [
        '`compare="all"` without settings in one process, LightGBM with '
        f"{scale.trees} trees on one thread: CPU seconds. The floor is each distinct fit and each "
        "distinct prediction once, how many and what they take, the probes' of `Pays` among them; streams are cut into "
        f"{scale.batches} batches.",
        "",
    ]
    found = {name: alone(name, folder, scale) for name in (*known, *(() if quick else (FLIGHTS,)))}
    rows = [_row(name, told) for name, told in found.items()]
    if len(found) > 1:
        rows.append(_row("all of them", _together(list(found.values()))))
    heads = ["history", "policies", "fits", "predictions", "probes' fits", "probes' predictions"]
    yield from [
        *table([*heads, "asked twice", "all of it", "beside the floor"], rows),
        "",
    ]


def _row(name: str, found: dict[str, Any]) -> list[str]:
    counts, floor = found["counts"], sum(found["seconds"].values())
    seconds = Counter(found["seconds"])
    seconds["fits of probes"] += seconds[TABLES]
    return [
        name,
        f"{found['policies']}",
        *(f"{counts.get(kind, 0):,}: {seconds[kind]:.1f}" for kind in KINDS),
        f"{found['again']:.1f}",
        f"{found['total']:.1f}",
        f"**{found['total'] / floor:.2f}×**",
    ]


def _together(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what several comparisons cost as one."""

    def summed(what: str) -> Counter[str]:
        return sum((Counter(one[what]) for one in found), Counter())

    plain = {what: sum(one[what] for one in found) for what in ("policies", "total", "again")}
    return plain | {"seconds": summed("seconds"), "counts": summed("counts")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="STREAM", help="those to run; else all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--batches", type=int, default=Scale.batches)
    parser.add_argument("--trees", type=int, default=Scale.trees)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked_ = parser.parse_args()
    size = Scale(streams=asked_.names or STREAMS, batches=asked_.batches, trees=asked_.trees)
    if asked_.one:
        print(json.dumps(one(asked_.one[1], Path(asked_.one[0]), size)))
    else:
        print("\n".join(main(quick=asked_.quick, scale=None if asked_.quick else size)))
