"""Nothing sees the future: what happens later changes no fact that was written before."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worlds import DAY, START, pipeline, stream

from keepfit import Challenger, Ledger, drift, gates, selection, sources, triggers
from keepfit.facts import Promoted, Trained, comparable

DAYS = 24
AFTER = 3  # days of a future, of which all is another: what follows them is compared with nothing
TRIGGERS = {
    "every": lambda: triggers.Every("3d"),
    "rows": lambda: triggers.AfterRows(150, labelled=True),
    "drift": lambda: triggers.OnDrift(drift.Columns()) | triggers.OnDecay(),
    "pays": lambda: triggers.Pays(cost="log_loss") | triggers.Every("9d"),
    "relevance": lambda: triggers.OnRelevance(100) | triggers.Every("6d"),
    "joined": lambda: (
        (triggers.Every("2d") & ~triggers.OnDecay())
        | triggers.AtLeast(2, triggers.Every("4d"), triggers.AfterRows(100), triggers.OnDrift())
    ),
}
SELECTIONS = {
    "expanding": selection.Expanding,
    "sliding": lambda: selection.Sliding("5d"),
    "since last": selection.SinceLast,
    "relevant": selection.Relevant,
    "replay": lambda: selection.Replay(new=0.5, buffer=300),
}
GATES: dict[str, Any] = {
    "no worse": lambda: [gates.NoWorse(within=0.05, min_blocks=4)],
    "beats": lambda: [gates.Beats(min_blocks=4)],
    "at least": lambda: [gates.AtLeast(0.6)],
    "slice": lambda: [gates.NoWorse(within=0.1, slice="kind", min_blocks=4)],
    "none": list,
}
METRICS = ("roc_auc", "log_loss", "accuracy", "average_precision")


def facts_before(
    frame: pl.DataFrame, moment: datetime, parts: dict[str, Any], delay: str
) -> list[Any]:
    with TemporaryDirectory() as folder:
        made = pipeline(frame, Path(folder), roles={"label_delay": delay}, **parts)
        made.backtest(compare=False)
        with Ledger(Path(folder) / "backtest" / "ledger.db") as ledger:
            return [
                (e.seq, e.at, comparable(e.fact)) for e in ledger.facts("churn") if e.at < moment
            ]


def otherwise(
    frame: pl.DataFrame, after: datetime, label_after: datetime, seed: int
) -> pl.DataFrame:
    """Return the stream with other features after one moment and other labels after another."""
    rng = np.random.default_rng(seed)
    n = frame.height
    later = pl.col("time") > after
    return frame.with_columns(
        x=pl.when(later).then(pl.Series(rng.normal(5.0, 9.0, n))).otherwise(pl.col("x")),
        kind=pl.when(later).then(pl.lit("new")).otherwise(pl.col("kind")),
        label=pl.when(pl.col("time") > label_after)
        .then(1 - pl.col("label"))
        .otherwise(pl.col("label")),
    )


@settings(max_examples=24, deadline=None)
@given(
    trigger=st.sampled_from(sorted(TRIGGERS)),
    chosen=st.sampled_from(sorted(SELECTIONS)),
    gate=st.sampled_from(sorted(GATES)),
    metric=st.sampled_from(METRICS),
    day=st.integers(6, DAYS - 2),
    delay=st.integers(0, 4),
    seed=st.integers(0, 10),
)
def test_the_future_changes_no_fact_of_the_past(
    trigger: str, chosen: str, gate: str, metric: str, day: int, delay: int, seed: int
) -> None:
    frame = stream(min(day + AFTER, DAYS), 40, flip_at=12, seed=seed)
    moment = START + day * DAY
    parts = {
        "trigger": TRIGGERS[trigger](),
        "challengers": [Challenger(select=SELECTIONS[chosen](), name="chosen")],
        "gate": GATES[gate](),
        "metric": metric,
        "enough": 40,
    }
    changed = otherwise(frame, moment, moment - timedelta(days=delay), seed)
    told = f"{delay}d"
    assert facts_before(frame, moment, parts, told) == facts_before(changed, moment, parts, told)


def champion(frame: Any, home: Path, **roles: Any) -> list[str]:
    made = pipeline(frame, home, trigger=triggers.Every("5d"), roles=roles)
    made.backtest(compare=False)
    with Ledger(home / "backtest" / "ledger.db") as ledger:
        facts = [entry.fact for entry in ledger.facts("churn")]
    artifacts = {fact.version: fact.artifact for fact in facts if isinstance(fact, Trained)}
    return [artifacts[fact.version] for fact in facts if isinstance(fact, Promoted)]


@pytest.mark.parametrize("delivery", ["shuffled", "duplicated", "reversed"])
def test_the_same_rows_delivered_otherwise_give_the_same_champions(
    tmp_path: Path, delivery: str
) -> None:
    frame = stream(30, 50, flip_at=15)
    other = {
        "shuffled": frame.sample(fraction=1.0, shuffle=True, seed=1),
        "duplicated": pl.concat([frame, frame.sample(300, seed=2)]),
        "reversed": frame.reverse(),
    }[delivery]
    first = champion(frame, tmp_path / "one")
    assert len(first) >= 3
    assert champion(other, tmp_path / "two") == first


def test_the_same_rows_in_one_file_or_many_give_the_same_champions(tmp_path: Path) -> None:
    frame = stream(30, 50)
    roles = {"id": "id", "time": "time", "label": "label"}
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    frame.write_parquet(tmp_path / "one" / "all.parquet")
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    for number, part in enumerate(shuffled.iter_slices(170)):
        part.write_parquet(tmp_path / "many" / f"{number}.parquet")
    found = [
        champion(sources.Parquet(str(tmp_path / name), **roles), tmp_path / f"home-{name}")
        for name in ("one", "many")
    ]
    assert found[0] == found[1]
