"""What a step costs when nothing is new, and whether a step grows dearer with history."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from keepfit import Pipeline, executors, facts, sources, triggers
from keepfit.clock import SimulatedClock
from keepfit.home import Memory
from keepfit.lake import Replay
from keepfit.ledger import Ledger
from keepfit.loop import Loop

START = datetime(2024, 1, 1, tzinfo=UTC)


def stream(days: int, per_day: int = 200) -> pl.DataFrame:
    """Return made-up rows of ten numbers."""
    rng = np.random.default_rng(0)
    n = days * per_day
    x = rng.normal(size=(n, 10))
    epoch = int(START.timestamp() * 1e6)
    at = pl.Series(epoch + np.arange(n) * (86_400_000_000 // per_day)).cast(
        pl.Datetime("us", "UTC")
    )
    label = (x[:, 0] + rng.normal(size=n) > 0).astype(np.int64)
    return pl.DataFrame(
        {"id": np.arange(n), "time": at, "label": label, **{f"x{i}": x[:, i] for i in range(10)}}
    )


def made(source: sources.Frame | sources.Parquet, home: Path) -> Pipeline:
    """Return a pipeline that trains once and then only collects, checks, scores and decides."""
    return Pipeline(
        "steady",
        source,
        LogisticRegression(),
        metric="roc_auc",
        every="1d",
        trigger=triggers.OnEvent("never"),
        home=home,
        executor=executors.Inline(),
    )


def idle() -> float:
    """Return the milliseconds of an idle step on real stores with 10,000 facts in the ledger."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        rows.mkdir()
        frame = stream(20)
        for day in range(20):
            frame.slice(day * 200, 200).write_parquet(rows / f"{day:03}.parquet")
        pipeline = made(
            sources.Parquet(str(rows), id="id", time="time", label="label"), Path(folder) / "home"
        )
        pipeline.run(once=True)
        loop = pipeline.loop()
        filler = facts.Decided(
            batch=loop.state.batch,
            decision=facts.Decision(train=False, trigger="OnEvent", reason="nothing yet"),
        )
        while loop.memory.ledger.seq("steady") < 10_000:
            loop.memory.ledger.append("steady", [filler] * 500, at=loop.clock.now())
        loop.step()
        return 1000 * statistics.median(timed(loop.step) for _ in range(50))


def growth(live: bool) -> tuple[Took, Took]:
    """Return the median milliseconds of the steps around the 50th and the 500th."""
    with tempfile.TemporaryDirectory() as folder:
        frame = stream(530)
        source = sources.Frame(frame, id="id", time="time", label="label")
        pipeline = made(source, Path(folder))
        if live:
            loop = pipeline.loop()
            took = [measured(loop.step) for _ in range(525)]
        else:
            history = source.history()
            replay = Replay(history, roles=source.roles)
            ledger = Ledger(Path(folder) / "ledger.db", durable=False)
            clock = SimulatedClock(START)
            memory = Memory(ledger, replay.lake(), pipeline.memory().artifacts)
            loop = Loop(pipeline, memory, clock, source=replay.source(), every=timedelta(days=1))
            took = []
            for _ in range(525):
                clock.sleep(timedelta(days=1))
                took.append(measured(loop.step))
        return median(took[30:70]), median(took[480:520])


class Took(NamedTuple):
    """Milliseconds of a step: by the clock on the wall, and of this process on all cores."""

    wall: float
    cpu: float


def median(took: list[Took]) -> Took:
    """Return the median of each of the two clocks."""
    return Took(*(statistics.median(times) for times in zip(*took, strict=True)))


def measured(work: Callable[[], object]) -> Took:
    """Return what a call takes; the CPU time says the same on a machine that others use too."""
    cpu = time.process_time()
    wall = timed(work)
    return Took(1000 * wall, 1000 * (time.process_time() - cpu))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> list[str]:
    """Return the lines of the report."""
    resting = idle()
    lines = [
        "## A step",
        "",
        "| | ms | CPU ms |",
        "|---|---|---|",
        f"| idle step, folder of 20 files, 10,000 facts in the ledger | {resting:.2f} | |",
    ]
    for live, name in ((False, "backtest"), (True, "live, Delta lake")):
        early, late = growth(live)
        lines += [
            f"| {name}: steps 30 to 70 | {early.wall:.2f} | {early.cpu:.2f} |",
            f"| {name}: steps 480 to 520 | {late.wall:.2f} (**{late.wall / early.wall:.2f}×**) "
            f"| {late.cpu:.2f} (**{late.cpu / early.cpu:.2f}×**) |",
        ]
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(main()))
