"""The parts of a pipeline, and the hands that people lay on it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit import checks as checks_
from keepfit import clock as clock_
from keepfit import drift, gates, given, learners, rollouts, triggers
from keepfit.challenger import Challenger
from keepfit.errors import ConfigError
from keepfit.explore import Explore
from keepfit.protocols import Check, Detector, Executor, Gate, Learner, Source, Trigger

if TYPE_CHECKING:
    from keepfit.backtest import Backtest
    from keepfit.facts import Entry
    from keepfit.hand import Hand
    from keepfit.home import Memory
    from keepfit.loop import Loop, Step
    from keepfit.results import Checked, Reproduced, Status, Why
    from keepfit.rollouts.stages import Rollout


class Pipeline:
    """A model that is kept current: where its rows come from, how it learns, what it must show.

    Everything after the first three has a default that works: Schema and Nulls checks; with
    every step that brings labels, the recipe that the evidence asks for, of three windows, the
    rows since what serves last fell, and an update of the champion; promotion unless the new
    model is shown to be worse.

    Parameters
    ----------
    name
        Letters, digits, ``_`` and ``-``; the ledger knows the pipeline by it.
    source
        Where rows come from, and which columns play which part.
    learner
        An estimator (scikit-learn, LightGBM, XGBoost, CatBoost, River) or a Learner.
    metric
        A name, a function ``f(labels, scores)`` or a scikit-learn scorer; by task when not given.
    labels
        A second source, whose labels are joined by id.
    features, exclude
        The columns to learn from, or those to leave out; all that have no other role.
    every
        How much event time one step reaches: ``"7d"``.
    checks, trigger, challengers, gate
        The stages; a list means all of them for checks and gate, alternatives for challengers.
        Where there is a gate, a training that did not learn its rows is run once more before
        that: its model answers them worse than the champion, to which they are new. ``gate=[]``
        promotes whatever was trained.
    final_fit
        ``"all"`` fits the winner's recipe again, on its holdout too, before it serves;
        ``"update"`` lets the winner learn its holdout by the first recipe that starts from the
        champion. Where that goes wrong twice, the winner serves as it passed.
    rollout
        How what passed the gate takes over: ``[rollouts.Shadow("1d"), rollouts.Canary(0.05,
        "3d")]``. What was promoted is then watched, and taken back if it is shown to be worse
        than the version before. At once and not watched when not given; ``[]`` watches only.
        One that fails to answer what the version before it answers is taken back in any case.
    unit
        The column whose values a canary keeps together, as a customer's number; the id when
        not given.
    explore
        What share of the rows that the score would stop is let through, where only what passes
        gets a label: ``Explore(0.05, passes_below=0.4)``.
    breaker
        Champions taken back, within a time, that pause the pipeline.
    cooldown, budget, enough, max_age
        Guards around the trigger: least event time between trainings, ``"3 per 30d"`` or
        ``"600s per 30d"``, new labelled rows a training needs, a hundredth of what the champion
        was trained on when not given (`triggers.Guarded`), and the age of the champion's newest
        row at which to train whatever the trigger says.
    embargo
        Event time left out between the rows that train and those that judge.
    seed
        Fixes every random choice.
    home
        The folder of ledger, lake and artifacts; ``.keepfit`` beside the file when not given.
    executor
        Where trainings run; a warm worker process on this machine when not given, where one
        that hangs or fills the memory is ended. ``executors.Local(seconds=…, bytes=…)`` limits it
        more closely.

    Raises
    ------
    ConfigError
        An argument is written wrongly; nothing was read yet.

    Examples
    --------
    >>> import polars as pl
    >>> from sklearn.linear_model import LogisticRegression
    >>> from keepfit import Pipeline, sources
    >>> rows = pl.DataFrame({"seen_at": [], "amount": [], "churned": []})
    >>> Pipeline("churn", sources.Frame(rows, time="seen_at", label="churned"), LogisticRegression())
    Pipeline('churn', Frame(0 rows, time='seen_at', label='churned'), LogisticRegression())
    """

    def __init__(
        self,
        name: str,
        source: Source,
        learner: Any,
        *,
        metric: Any = None,
        labels: Source | None = None,
        features: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        every: str | timedelta | None = None,
        checks: Check | Sequence[Check] | None = None,
        trigger: Trigger | None = None,
        challengers: Challenger | Sequence[Challenger] | None = None,
        gate: Gate | Sequence[Gate] | None = None,
        final_fit: str | None = None,
        rollout: Rollout | Sequence[Rollout] | None = None,
        unit: str | None = None,
        explore: Explore | None = None,
        breaker: str = "3 per 30d",
        cooldown: str | timedelta | None = None,
        budget: str | None = None,
        enough: int | None = None,
        max_age: str | timedelta | None = None,
        embargo: str | timedelta = "0s",
        seed: int = 0,
        home: str | Path | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.name = given.named(name)
        self.source = given.sourced(source, labels)
        self.learner: Learner = learners.resolve(learner)
        self.metric = given.metric(metric)
        self.features, self.exclude = given.columns(features, exclude)
        self.every = None if every is None else given.positive("every", clock_.duration(every))
        self.checks: tuple[Check, ...] = tuple(checks_.resolve(checks))
        self.trigger: Trigger = triggers.Guarded(
            triggers.resolve(trigger),
            cooldown=cooldown,
            budget=budget,
            enough=enough,
            max_age=max_age,
        )
        if triggers.probing(self.trigger):
            from keepfit import probes

            probes.check(self.trigger, self.metric)
        budgeted = (drift.Alarms(budget) for budget in triggers.budgets(self.trigger))
        self.detectors: tuple[Detector, ...] = (
            *triggers.detectors(self.trigger),
            *budgeted,
        ) or (drift.Alarms(),)
        self.challengers = given.challengers(challengers, self.learner)
        # Small trainings with every step cannot prove anything; what does harm is held back.
        often = trigger is None and gate is None
        self.gate: tuple[Gate, ...] = tuple(gates.resolve(gates.Fresher() if often else gate))
        self.final_fit = given.final_fit(final_fit, self.challengers, default=challengers is None)
        self.rollout = None if rollout is None else rollouts.resolve(rollout)
        self.unit = given.unit(unit)
        self.explore = given.explore(explore, self.metric)
        self.breaker = given.breaker(breaker)
        self.embargo = clock_.duration(embargo)
        self.seed = seed
        self.home = Path(home) if home is not None else _beside_the_file() / ".keepfit"
        self._executor = executor
        self._live: Loop | None = None

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {self.source!r}, {self.learner.name})"

    @property
    def executor(self) -> Executor:
        """Where trainings run."""
        if self._executor is None:
            from keepfit.executors import Local

            self._executor = Local()
        return self._executor

    def changed(self, **parts: Any) -> Pipeline:
        """Return a copy with other parts, as a backtest's policies are made; nothing is checked again."""
        other = copy.copy(self)
        other._live = None
        for part, value in parts.items():
            if not hasattr(other, part):
                raise ConfigError(f"expected a part of a pipeline, got {part!r}")
            setattr(other, part, value)
        return other

    # The loop ---------------------------------------------------------------------------

    def step(self, now: datetime | None = None) -> Step:
        """Run the line once, at a moment: collect, check, score, decide, train, judge, promote.

        Idempotent: after a crash it goes on where it stopped; with nothing new it does nothing.
        """
        return self.loop().step(None if now is None else clock_.utc(now))

    def run(
        self,
        *,
        once: bool = False,
        poll: str | timedelta = "1min",
        listen: Callable[[Entry], None] | None = None,
    ) -> Step:
        """Run the live loop until it is interrupted, or until nothing is waiting.

        Parameters
        ----------
        once
            Work off what is waiting, then return.
        poll
            How long to wait when nothing was new.
        listen
            Called with every fact, in order.

        Returns
        -------
        The last step, which says whether another process holds the pipeline.
        """
        loop = self.loop()
        loop.listen = listen or loop.listen
        return loop.run(once=once, poll=clock_.duration(poll))

    def backtest(self, since: str | datetime | None = None, **options: Any) -> Backtest:
        """Run the loop over the past, next to never, every n steps and always.

        See :func:`keepfit.backtest.backtest` for the options.
        """
        from keepfit.backtest import backtest

        return backtest(self, since=since, **options)

    def loop(self) -> Loop:
        """Return the live loop: these parts, bound to their memory and the wall clock."""
        if self._live is None:
            from keepfit.landing import served
            from keepfit.loop import Loop

            memory = self.memory()
            self._live = Loop(self, memory, clock_.WallClock(), **served(self, memory))
        return self._live

    def _hand(self, reason: str, by: str | None) -> Hand:
        from keepfit.hand import Hand

        return Hand(self.loop(), reason, by)

    def memory(self) -> Memory:
        """Open the stores of this pipeline."""
        from keepfit.home import open_memory

        return open_memory(self.home, self.name)

    def close(self) -> None:
        """Let go of the worker process and of the stores."""
        if self._executor is not None:
            self._executor.close()
        if self._live is not None:
            self._live.memory.close()
            self._live = None

    # The human hand ---------------------------------------------------------------------

    def status(self) -> Status:
        """Return what serves, how current it is, what was decided last and what comes next."""
        from keepfit.ledger.steps import steps_of
        from keepfit.results import Status

        loop = self.loop()
        steps = steps_of(loop.memory.ledger, self.name)
        return Status.of(self.name, loop.refold(), steps=steps)

    def check(self) -> Checked:
        """Return what the rows not read yet hold, and what a step would do; nothing is written.

        Raises
        ------
        SourceError
            There is nothing to read from.
        """
        from keepfit.preview import preview

        return preview(self.loop())

    def reproduce(self, version: str = "champion") -> Reproduced:
        """Train a version again from its record and compare; nothing is written.

        Raises
        ------
        VersionUnknown
            No version has this name, or it never became a model.
        ConfigError
            Its recipe is no longer in the pipeline.
        TrainingError
            The training ends without a model.
        """
        from keepfit.reproduce import reproduce

        return reproduce(self.loop(), version)

    def why(self, version: str = "champion") -> Why:
        """Return the chain of facts behind a version.

        Raises
        ------
        VersionUnknown
            No version has this name.
        """
        from keepfit.results import Why

        loop = self.loop()
        return Why.of(self.name, loop.refold(), version, loop.memory.ledger.facts(self.name))

    def promote(
        self, version: str, *, reason: str, force: bool = False, by: str | None = None
    ) -> None:
        """Make a version the champion.

        The champion it replaces becomes ``previous``, so that `rollback` is immediate. A
        version that its gate refused can be promoted only with ``force``; the reason is kept.

        Raises
        ------
        ConfigError
            It is the champion already.
        GateRefused
            The gate refused this version and ``force`` is false.
        VersionUnknown
            No version has this name, or it has no model.
        """
        self._hand(reason, by).promote(version, force=force)

    def adopt(
        self,
        model: str,
        *,
        reason: str,
        by: str | None = None,
        trained_to: str | datetime | None = None,
        trust: bool = False,
        tracking_uri: str = "",
        registry_uri: str = "",
    ) -> str:
        """Make a model that was trained elsewhere the first champion, and return its version.

        Parameters
        ----------
        model
            A registered model of MLflow: ``"models:/churn@champion"``, ``"models:/churn/3"``.
        trained_to
            The event time up to which rows may have taught it: only later ones judge. The
            moment when it was registered where it is not given.
        trust
            Open it, though opening a pickle or code of others runs what is in it.
        tracking_uri, registry_uri
            Which MLflow; that of ``keepfit.toml`` or ``MLFLOW_TRACKING_URI`` where not given.

        Raises
        ------
        ConfigError
            Something serves already, there is no such model, it is not trusted, or it does not
            answer rows of the source.
        SchemaMismatch
            The source lacks a column.
        SourceError
            There are no rows to try it on.
        """
        from keepfit.adopt import adopt

        hand = self._hand(reason, by)
        return adopt(
            hand.loop,
            model,
            reason=hand.reason,
            by=hand.by,
            trained_to=None if trained_to is None else clock_.utc(trained_to),
            trust=trust,
            tracking_uri=tracking_uri,
            registry_uri=registry_uri,
        ).version

    def approve(self, version: str, *, reason: str, by: str | None = None) -> None:
        """Let a version serve that waits for a person, as `gates.Approval` asks for.

        The loop's next step takes it up, whichever process that runs in: with its final fit
        and its rollout, where there are any. ``"challenger"`` is whichever version waits now.

        Raises
        ------
        ConfigError
            It does not wait for approval: somebody has answered, another took its place, or its
            time is over.
        VersionUnknown
            No version has this name.
        """
        self._hand(reason, by).approve(version)

    def refuse(self, version: str, *, reason: str, by: str | None = None) -> None:
        """Refuse a version that waits for a person; the loop's next step takes it up.

        Raises
        ------
        ConfigError
            It does not wait for approval: somebody has answered, another took its place, or its
            time is over.
        VersionUnknown
            No version has this name.
        """
        self._hand(reason, by).refuse(version)

    def rollback(self, *, reason: str, by: str | None = None) -> str:
        """Take back what was released last, and return the name of the version that serves.

        While a challenger is being rolled out that is what is taken back. Otherwise the previous
        champion is champion again: before it serves it answers stored rows, and must answer
        them as it did.

        Raises
        ------
        RollbackFailed
            There is no previous version, or it answers otherwise than it did.
        """
        return self._hand(reason, by).rollback()

    def pause(self, *, reason: str, by: str | None = None) -> None:
        """Go on collecting and scoring, and neither train nor promote, until `resume`."""
        self._hand(reason, by).pause()

    def resume(self, *, reason: str, by: str | None = None) -> None:
        """End a pause."""
        self._hand(reason, by).resume()

    def train(self, *, reason: str, by: str | None = None) -> Step:
        """Train the challengers now, whatever the trigger says; the gate still judges."""
        return self._hand(reason, by).train()

    def accept(
        self, batch: int | None = None, *, reason: str, schema: bool = False, by: str | None = None
    ) -> None:
        """Let a quarantined batch in, or (``schema``) the changed columns from the next batch on.

        Raises
        ------
        VersionUnknown
            The batch is not in quarantine.
        """
        self._hand(reason, by).accept(batch, schema=schema)

    def signal(self, event: str, **data: Any) -> None:
        """Record an event from outside, for `triggers.OnEvent`."""
        from keepfit.facts import Signalled

        loop = self.loop()
        loop.append([Signalled(event=event, data=data)], loop.clock.now())


def _beside_the_file() -> Path:
    frame = sys._getframe(1)
    while (
        frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "keepfit"
    ):
        frame = frame.f_back
    file = frame.f_globals.get("__file__")
    return Path(file).resolve().parent if file else Path.cwd()
