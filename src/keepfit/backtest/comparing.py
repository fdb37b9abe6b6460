"""Plays all policies, asks their models about what came later, and ranks what was found."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from keepfit import executors
from keepfit.backtest.matrix import Life, asked
from keepfit.backtest.outcome import Policy
from keepfit.backtest.policies import Rule, chosen, fitted
from keepfit.backtest.processes import ENDED, Processes, Setting, useful
from keepfit.backtest.ranking import Found, ranked
from keepfit.backtest.stage import Progress
from keepfit.errors import ConfigError

if TYPE_CHECKING:
    from keepfit.backtest.compared import Compared
    from keepfit.backtest.plan import Plan
    from keepfit.backtest.stage import Listen, Stage, Tell
    from keepfit.batch import Batch, Roles
    from keepfit.facts import Entry
    from keepfit.pipeline import Pipeline
    from keepfit.protocols import Trigger


@dataclass(frozen=True, slots=True)
class Play:
    """The task of living one policy through the history."""

    rule: Rule

    def do(self, stage: Stage, tell: Tell | None = None) -> tuple[Policy, list[Entry]]:
        """Return what the policy was worth, and its facts where they are not in the ledger yet."""
        policy = self.rule.of(stage.pipeline)
        found = stage.play(policy, progress=tell)
        apart = stage.ledger is not stage.own
        return found, list(stage.ledger.facts(policy.name)) if apart else []


@dataclass(frozen=True, slots=True)
class Comparing:
    """The policies to compare with the pipeline's own, and what to say about those left out."""

    rules: tuple[Rule, ...]
    notes: tuple[str, ...]
    within: float | None = None

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        plan: Plan,
        wanted: str | Trigger | Sequence[str | Trigger],
        within: float | None = None,
    ) -> Comparing:
        """Return the comparison that was asked for.

        Raises
        ------
        ConfigError
            A name is not known, something is neither a name nor a trigger, or what is too
            small to matter is negative.
        """
        if within is not None and not 0 <= within < float("inf"):
            raise ConfigError(f"expected within= of zero or more, got {within!r}")
        return cls(*chosen(pipeline, plan, wanted), within)

    def run(
        self,
        stage: Stage,
        history: Batch,
        ledger: Path,
        jobs: int | None,
        listen: Listen | None,
        progress: Tell | None,
    ) -> Compared:
        """Play the pipeline's own policy, then the others, then ask all models and rank."""
        began = time.monotonic()
        own = stage.play(stage.pipeline, listen=listen, progress=progress)
        count = useful(jobs, time.monotonic() - began, len(self.rules))
        # The dearest first, so that no process works on alone in the end.
        fitting, said = fitted(self.rules, stage.scorer.last_metric)
        rules = sorted(fitting, key=lambda rule: rule.kind != "always")
        with _Crew(stage, history, ledger, count) as crew:
            told = _added_up(progress, len(rules), stage.rows)
            played = crew.ask([Play(rule) for rule in rules], told)
            policies = {own.name: own}
            for policy, entries in played:
                policies[policy.name] = policy
                _keep(stage, policy.name, entries)
            lives = {name: Life.of(stage.ledger.facts(name)) for name in policies}
            always = lives[next(rule.name for rule in rules if rule.kind == "always")]
            tasks, left_out = asked(list(lives.values()), always)
            answers = crew.ask(tasks, None)
        notes = [*self.notes, *said, *crew.notes]
        notes += [left_out] if left_out else []
        yours = Rule(own.name, _inner(stage.pipeline), "yours")
        found = Found(policies, lives, tasks, answers, tuple(notes))
        return ranked(stage, (yours, *fitting), found, self.within)


def _inner(pipeline: Pipeline) -> Trigger:
    trigger: Trigger = getattr(pipeline.trigger, "trigger", pipeline.trigger)
    return trigger


def _keep(stage: Stage, name: str, entries: Sequence[Entry]) -> None:
    """Put the facts of a policy that was played elsewhere into the ledger, in one go."""
    if entries:
        found = [entry.fact for entry in entries]
        stage.ledger.append(name, found, at=[entry.at for entry in entries], expected_seq=0)


def _added_up(progress: Tell | None, policies: int, rows: int) -> Tell | None:
    """Return how far all policies are together, as one."""
    if progress is None:
        return None
    done: dict[str, int] = {}
    tell = progress

    def told(one: Progress) -> None:
        done[one.policy] = one.done_rows
        tell(Progress(f"{policies} policies", one.at, sum(done.values()), rows * policies))

    return told


class _Roles:
    """Stands for a source in another process, which reads the history from a file."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles


class _Crew:
    """Does tasks in processes, or here where that does not pay or cannot be."""

    def __init__(self, stage: Stage, history: Batch, ledger: Path, count: int) -> None:
        self._stage, self._history, self._ledger, self._count = stage, history, ledger, count
        self._stack = ExitStack()
        self.notes: list[str] = []
        self._processes: Processes | None = None

    def __enter__(self) -> _Crew:
        if self._count > 1:
            self._processes = self._started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, problem, trace)

    def ask(self, tasks: Sequence[Any], progress: Tell | None) -> list[Any]:
        """Return what each task answers, in their order."""
        answers = [ENDED] * len(tasks)
        if self._processes is not None:
            answers = self._processes.ask(tasks, progress)
            self.notes = [f"played in one process: {why}" for why in self._processes.problems[:1]]
        # What ended with its process, or was never handed out, is done here.
        return [
            task.do(self._stage, progress) if answer is ENDED else answer
            for task, answer in zip(tasks, answers, strict=True)
        ]

    def _started(self) -> Processes | None:
        stage, folder = self._stage, self._stage.pipeline.home / "backtest" / "shared"
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        setting = Setting(
            pipeline=_sent(stage.pipeline, stage.scorer.spec),
            plan=stage.plan,
            ledger=str(self._ledger),
            artifacts=str(folder.parent / "artifacts"),
            claims=str(folder / "claims"),
            answers=str(folder / "answers"),
        )
        try:
            return self._stack.enter_context(Processes(self._count, setting, self._history))
        except Exception as problem:
            # A pipeline that holds what cannot be sent away (an open file, a connection).
            self.notes = [f"played in one process: {type(problem).__name__}: {problem}"]
            return None


def _sent(pipeline: Pipeline, metric: Any) -> Pipeline:
    """Return the pipeline as another process gets it: without its rows, training where it is."""
    executor = pipeline._executor
    here = executor is None or type(executor) is executors.Local and not _limited(executor)
    return pipeline.changed(
        source=_Roles(pipeline.source.roles),
        metric=metric,
        _executor=executors.Inline() if here else executor,
    )


def _limited(executor: Any) -> bool:
    """Return whether limits were stated; those by default are met by no honest training."""
    return any(one not in (None, math.inf) for one in (executor.seconds, executor.bytes))
