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
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from peers import say
from peers.report import table
from scipy import stats
from stream_models import (
    FIRST,
    FLIGHTS,
    STREAMS,
    Scale,
    at_hand,
    lived,
    paced,
    stream_of,
    table_of,
    trained,
)
from stream_paths import OFFLINE, PRICES, accuracy, cost, every, policies

NO_SETTINGS = "**keepfit**, no settings"
ALWAYS = "**keepfit**, every batch on all rows, no gate"
BY_HAND = "by hand"
FOREST = "River's adaptive random forest, 10 trees"

ALL = (*STREAMS, FLIGHTS)

Found = dict[tuple[str, str], list[tuple[float, float, float]]]

QUICK = Scale(streams=("bike_hour",), seeds=2, batches=40, trees=30, forest=False)


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
    table = table_of(name, folder, seed, scale)
    rows, labels, cuts, _ = table
    right, fits = [], 0.0
    for batch in range(FIRST, scale.batches):
        started = time.process_time()
        model = table.fit(slice(cuts[batch]), scale, seed)
        fits += time.process_time() - started
        ahead = slice(cuts[batch], cuts[batch + 1])
        right.append(np.mean(model.predict(rows[ahead]) == labels[ahead]))
    return 100 * float(np.mean(right)), fits


def by_forest(name: str, folder: Path, seed: int, scale: Scale) -> tuple[float, float]:
    """Let River's adaptive random forest learn row by row what a batch brought, its answers first."""
    from river import forest

    rows, labels, cuts, codes = table_of(name, folder, seed, scale)
    model = forest.ARFClassifier(n_models=10, seed=seed, nominal_attributes=codes or None)
    right = np.zeros(len(labels))
    started = time.process_time()
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        # What is missing is left out: a NaN is no number to its trees.
        batch = [
            {column: value for column, value in enumerate(row) if value == value}
            for row in rows[first:last].tolist()
        ]
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
    frame = paced(stream_of(name, folder, seed), scale)
    learner = lgb.LGBMClassifier(n_estimators=scale.trees, n_jobs=1, random_state=seed)
    since = frame["time"][0] + timedelta(days=FIRST)
    policy = lived(name, frame, learner, metric="accuracy", since=since, **parts)
    return 100 * float(policy.value or 0.0), policy.fit_cpu_seconds


def main(*, quick: bool = False, scale: Scale | None = None) -> Iterator[str]:
    """Yield the report."""
    scale = scale or (QUICK if quick else Scale(streams=ALL))
    folder, known = at_hand(scale.streams)
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
    rows = []
    for policy in dict.fromkeys(policy for policy, _ in found):
        cells = [found[policy, name][0] for name in known]
        rows.append([policy, *map(_cell, cells), _cell(np.mean(cells, axis=0))])
    yield from [
        f"{scale.batches} batches, LightGBM with {scale.trees} trees on one thread, all rows of a "
        "stream: accuracy in per cent / CPU of the fits in per cent of those of "
        "every batch on all rows, and, where the policy ran in a process of its own, CPU of the "
        "whole process in per cent of a loop by hand that fits with every batch on all rows. "
        "Labels come at the end of each batch. CARA, RetrainOpt and UPF train with each of the "
        f"first {OFFLINE} batches, and learn from these trainings, which count.",
        "",
        *table(["policy", *known, "mean"], rows),
        "",
        *_gaps(found, known, scale.seeds),
    ]


def _gaps(found: Found, known: Sequence[str], seeds: int) -> list[str]:
    """Return keepfit's gap to the best fixed policy of each stream."""
    drawn = (
        f" It is the mean over {seeds} seeds: of all rows of the stream, and of nine tenths of "
        "them that each other seed draws at random, in order of time. In brackets its t interval "
        "of 95 % over the seeds: how much hangs on which rows there were. Draws share most of "
        "their rows, so that it is narrower than one over streams would be."
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


def _cell(cell: Sequence[float] | np.ndarray) -> str:
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
        streams=asked.names or ALL,
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
