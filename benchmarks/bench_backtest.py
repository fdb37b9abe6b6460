"""What the loop costs beside its fits: a weekly backtest of flights against a loop by hand.

Both make the same fits on the same rows, the same predictions and the same metric, for the
same policies; the hand-written loop keeps nothing, checks nothing and records nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

PARAMETERS = {"n_estimators": 100, "num_leaves": 31, "learning_rate": 0.1}
SINCE = datetime(2013, 2, 1, tzinfo=UTC)
EVERY = timedelta(days=7)
DELAY = timedelta(hours=24)


def by_hand() -> dict[str, list[float]]:
    """Train each week on all rows whose labels are in; answer each week for never, every four weeks and always."""
    import lightgbm as lgb
    import numpy as np
    import polars as pl
    from sklearn.metrics import roc_auc_score

    from keepfit import datasets

    rows = datasets.flights().sort("scheduled_at", "id")
    times = rows["scheduled_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    known_at = rows["landed_at"].to_numpy().astype("datetime64[us]").astype(np.int64)
    late = rows["late"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    features = rows.drop("id", "scheduled_at", "landed_at", "late")
    texts = [name for name, dtype in features.schema.items() if dtype == pl.String]
    encoded = features.with_columns(pl.col(texts).cast(pl.Categorical).to_physical())
    table = encoded.cast(pl.Float64).fill_null(np.nan).to_numpy()
    codes = [features.columns.index(name) for name in texts]

    def micro(moment: datetime) -> int:
        return int(moment.timestamp() * 1_000_000)

    def fit(now: datetime) -> lgb.LGBMClassifier:
        # As keepfit does: of rows younger than labels take, those with one are not like the others.
        mask = (times <= micro(now - DELAY)) & (known_at <= micro(now)) & ~np.isnan(late)
        model = lgb.LGBMClassifier(
            **PARAMETERS,
            random_state=0,
            deterministic=True,
            force_row_wise=True,
            verbosity=-1,
            n_jobs=os.cpu_count(),
        )
        return model.fit(table[mask], late[mask].astype(np.int64), categorical_feature=codes)

    models: dict[str, lgb.LGBMClassifier] = {}
    values: dict[str, list[float]] = {"never": [], "every 28 d": [], "always": []}
    now, week = SINCE, 0
    newest = fit(now)
    models = dict.fromkeys(values, newest)
    while now < datetime(2014, 1, 1, tzinfo=UTC):
        then, now, week = now, now + EVERY, week + 1
        mask = (times > micro(then)) & (times <= micro(now)) & ~np.isnan(late)
        if not mask.any():
            break
        said: dict[int, np.ndarray] = {}
        for policy, model in models.items():
            if id(model) not in said:
                said[id(model)] = model.predict_proba(table[mask])[:, 1]
            values[policy].append(float(roc_auc_score(late[mask], said[id(model)])))
        newest = fit(now)
        models["always"] = newest
        if week % 4 == 0:
            models["every 28 d"] = newest
    return values


def keepfit_loop() -> dict[str, list[float]]:
    """The same through keepfit, with checks, drift, ledger and every decision recorded."""
    import lightgbm as lgb

    from keepfit import Challenger, Pipeline, datasets, sources, triggers

    with tempfile.TemporaryDirectory() as home:
        flights = Pipeline(
            "flights",
            sources.Frame(
                datasets.flights(),
                id="id",
                time="scheduled_at",
                label="late",
                known_at="landed_at",
                label_delay=DELAY,
            ),
            lgb.LGBMClassifier(**PARAMETERS),
            metric="roc_auc",
            every="7d",
            trigger=triggers.AfterRows(1),
            challengers=[Challenger()],
            gate=[],
            enough=1,
            home=Path(home),
        )
        result = flights.backtest(since=SINCE)
        flights.close()
    return {policy.name: [window.value for window in policy.windows] for policy in result.policies}


def measured(which: str) -> tuple[float, dict[str, list[float]]]:
    """Return CPU seconds of a whole process and its workers, and the values it found."""

    before = _children()
    done = subprocess.run(
        [sys.executable, __file__, "--run", which],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    return _children() - before, json.loads(done.stdout.splitlines()[-1])


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> list[str]:
    """Return the lines of the report."""
    rounds = [(measured("keepfit"), measured("hand")) for _ in range(3)]
    ratios = sorted(ours / theirs for (ours, _), (theirs, _) in rounds)
    (ours, mine), (theirs, hand) = rounds[-1]
    level = [
        f"| {policy} | {_mean(hand[policy]):.4f} | {_mean(mine[policy]):.4f} |"
        for policy in ("never", "every 28 d", "always")
    ]
    return [
        "## A weekly backtest of flights, against a loop by hand",
        "",
        "Whole-process CPU seconds, workers included; the same fits, predictions and metrics; three pairs.",
        "",
        "| | CPU seconds (last pair) |",
        "|---|---|",
        f"| keepfit | {ours:.1f} |",
        f"| by hand | {theirs:.1f} |",
        f"| **ratio, median of {len(ratios)}** | "
        f"**{ratios[len(ratios) // 2]:.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f}) |",
        "",
        "| mean weekly AUC | by hand | keepfit |",
        "|---|---|---|",
        *level,
        "",
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", choices=["hand", "keepfit"])
    which = parser.parse_args().run
    if which:
        print(json.dumps(by_hand() if which == "hand" else keepfit_loop()))
    else:
        print("\n".join(main()))
