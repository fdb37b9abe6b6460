"""The same loop on the past, under the pipeline's own policy and under others."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit import interrupts, lazy
from keepfit.artifacts import Artifacts
from keepfit.backtest.outcome import Backtest, Policy, Window
from keepfit.backtest.plan import Plan
from keepfit.backtest.policies import Wanted, plain
from keepfit.backtest.stage import Progress, Stage
from keepfit.lake import Replay
from keepfit.ledger import Ledger
from keepfit.scoring import Scorer

if TYPE_CHECKING:
    from keepfit.backtest.compared import Compared, Hindsight, Standing
    from keepfit.backtest.judging import Difference
    from keepfit.backtest.measures import Measures
    from keepfit.facts import Entry
    from keepfit.pipeline import Pipeline

__all__ = [
    "Backtest",
    "Compared",
    "Difference",
    "Hindsight",
    "Measures",
    "Policy",
    "Progress",
    "Standing",
    "Window",
    "backtest",
]

# Most backtests compare no triggers: what tells of that comes when first asked for.
_HOMES = dict.fromkeys(("Compared", "Hindsight", "Standing"), "compared")
_HOMES |= {"Difference": "judging", "Measures": "measures"}

__getattr__ = lazy.names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)


@interrupts.orderly()
def backtest(
    pipeline: Pipeline,
    *,
    since: str | datetime | None = None,
    every: str | timedelta | None = None,
    training_time: str | timedelta = "0s",
    compare: Wanted = True,
    within: float | None = None,
    jobs: int | None = None,
    listen: Callable[[Entry], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Backtest:
    """Run the loop over the past, and the policies to compare it with.

    Rows arrive and labels become known when they did; at each moment the model that would
    have been serving answers. Models that policies have in common are trained once, and
    kept: a backtest that was interrupted goes on quickly when it is run again.

    Parameters
    ----------
    pipeline
        What to run.
    since
        When the first model is trained; when a tenth of the rows has come when not given.
    every
        How far one step reaches; the pipeline's, else one per cent of the history, in which the
        first and the last hundredth of the rows do not count.
    training_time
        How long a training takes on the simulated clock; until it is over the old model serves.
    compare
        Whether to run ``never``, ``every …`` and ``always`` too, with one recipe and no gate.
        ``"all"``, or some of ``"periodic"``, ``"OnDecay"``, ``"OnDrift"``, ``"ADWIN"`` and
        ``"Pays"``, or triggers, run the pipeline itself under each of them, beside never,
        always and the best in hindsight; see `Compared`.
    within
        The difference of the metric that is too small to matter, when one policy is
        recommended; 0.01 where the metric is at most 1 and greater is better, and 2 % of its
        value elsewhere, when not given.
    jobs
        How many processes play the other policies; a process per CPU where that pays when
        not given. It changes no fact.
    listen
        Called with every fact of the pipeline's own run, in order.
    progress
        Called after every step of every policy.

    Raises
    ------
    SourceError
        There is nothing to read.
    ConfigError
        ``since`` lies outside the history, there is one moment only, a policy is
        unknown, or ``within`` is negative.
    """
    history = pipeline.source.history()
    plan = Plan.of(pipeline, history, since, every, training_time)
    comparing = None
    if not isinstance(compare, bool):
        from keepfit.backtest.comparing import Comparing

        comparing = Comparing.of(pipeline, plan, compare, within)
    folder = pipeline.home / "backtest"
    artifacts = Artifacts(folder / "artifacts", durable=False)
    ledger_file = folder / f"ledger-{os.getpid()}.db"
    ledger = Ledger(ledger_file, durable=False)
    stage = Stage(
        pipeline=pipeline,
        plan=plan,
        replay=Replay(history, roles=pipeline.source.roles),
        rows=history.rows.height,
        own=ledger,
        ledger=ledger,
        artifacts=artifacts,
        scorer=Scorer(artifacts, pipeline.metric, shared=True),
    )
    pipeline.executor  # noqa: B018  made once here, so that every policy shares the worker
    try:
        if comparing is not None:
            return comparing.run(stage, history, ledger_file, jobs, listen, progress)
        policies = [stage.play(pipeline, listen=listen, progress=progress)]
        others = plain(pipeline, plan.every) if compare else ()
        policies += [stage.play(policy, progress=progress) for policy in others]
        return Backtest(**stage.told(), policies=tuple(policies))
    finally:
        ledger.close()
        _settle(ledger_file, folder / "ledger.db")


def _settle(written: Path, kept: Path) -> None:
    """Put a finished ledger where the next reader looks for it; two backtests do not mix."""
    if not written.exists():
        return
    for suffix in ("-wal", "-shm"):
        Path(f"{kept}{suffix}").unlink(missing_ok=True)
    os.replace(written, kept)
    for suffix in ("-wal", "-shm"):
        Path(f"{written}{suffix}").unlink(missing_ok=True)
