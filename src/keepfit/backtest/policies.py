"""The policies a backtest compares: the same pipeline under other triggers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from keepfit import drift, facts, probes, triggers
from keepfit.backtest.code import called, code_of
from keepfit.challenger import Challenger
from keepfit.clock import duration, humanise
from keepfit.errors import ConfigError, nearest
from keepfit.protocols import Evidence, Trigger

if TYPE_CHECKING:
    from keepfit.backtest.plan import Plan
    from keepfit.facts import Decision
    from keepfit.pipeline import Pipeline
    from keepfit.protocols import Metric

EVERY_STEPS = 4
"""Steps between the trainings of the scheduled policy."""

PERIODS = (2, 4, 8, 16, 32)
"""Steps between the trainings of the periodic policies that are tried."""

FEWEST = 2
"""Trainings after the first that a period leaves room for, to be tried."""

NAMES = ("never", "periodic", "OnDecay", "OnDrift", "ADWIN", "Pays", "always", "oracle")
"""What can be compared by name."""

Wanted = bool | str | Trigger | Sequence[str | Trigger]
"""What ``compare=`` takes: yes or no, ``"all"``, names, triggers."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy: a name, the trigger behind it, and which kind of policy it is.

    ``kind`` is one of ``"yours"``, ``"never"``, ``"periodic"``, ``"always"``, ``"trigger"``.
    """

    name: str
    trigger: Trigger
    kind: str = "trigger"

    def of(self, pipeline: Pipeline) -> Pipeline:
        """Return the pipeline with this trigger: all else is its own, its guards too.

        Under the pipeline's own maximum age ``never`` trains too, as it would once written.
        """
        if self.kind == "yours":
            return pipeline
        guards = pipeline.trigger
        assert isinstance(guards, triggers.Guarded)
        guarded = replace(guards, trigger=self.trigger)
        budgeted = (drift.Alarms(budget) for budget in triggers.budgets(guarded))
        watching = (*triggers.detectors(guarded), *budgeted)
        # A pipeline that names no detector has this one. It takes its time, so that it watches
        # where a trigger may look at what it says.
        if not watching and (triggers.probing(guarded) or code_of(self.trigger) is None):
            watching = (drift.Alarms(),)
        return pipeline.changed(name=self.name, trigger=guarded, detectors=watching)


class _Never:
    """Trains once and never again."""

    reads_estimates: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Decision:
        """Return no."""
        return facts.Decision(train=False, trigger="Never()", reason="trained once, never again")


def plain(pipeline: Pipeline, every: timedelta) -> Iterator[Pipeline]:
    """Yield never, every few steps and always as anyone would write them: one recipe, no gate."""
    schedule = EVERY_STEPS * every
    bare: list[tuple[str, Any]] = [
        ("never", _Never()),
        (f"every {humanise(schedule)}", triggers.Every(schedule)),
        ("always", triggers.AfterRows(1)),
    ]
    for name, trigger in bare:
        yield pipeline.changed(
            name=name if name != pipeline.name else f"{name} (policy)",
            trigger=triggers.Guarded(trigger, enough=1),
            challengers=(Challenger(),),
            gate=(),
            detectors=(),
            final_fit=None,
            rollout=None,
        )


# Named, or one's own --------------------------------------------------------------------


def chosen(
    pipeline: Pipeline, plan: Plan, wanted: str | Trigger | Sequence[str | Trigger]
) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """Return the rules to compare beside the pipeline's own, and why some are left out.

    ``never`` and ``always`` are always among them, but for a ``never`` that is the pipeline's
    own: the cost of all is told as a share of ``always``, whose models are those that the best
    in hindsight is made of.

    Raises
    ------
    ConfigError
        A name is not known, or something is neither a name nor a trigger.
    """
    listed = _listed(wanted)
    rules = [Rule(_free("never", pipeline), triggers.OnEvent(), "never")]
    left_out = []
    for one in listed:
        if isinstance(one, str):
            found, why = _named(one, plan, all_=wanted == "all")
            rules += found
            left_out += [why] if why else []
        else:
            rules.append(_own(one, {rule.name for rule in rules} | {pipeline.name}))
    rules.append(Rule(_free("always", pipeline), triggers.AfterRows(1), "always"))
    own = pipeline.trigger
    mine = repr(own.trigger) if isinstance(own, triggers.Guarded) else repr(own)
    distinct = {repr(rule.trigger): rule for rule in reversed(rules)}
    kept = [
        rule
        for rule in rules
        if distinct[repr(rule.trigger)] is rule
        and (rule.kind == "always" or repr(rule.trigger) != mine)
    ]
    age = max_age(pipeline)
    if all(rule.kind != "never" for rule in kept):
        left_out.append("never is left out: it is the pipeline's own trigger")
    elif age is not None:
        told = f"never trains once the champion's newest row is {humanise(age)} old"
        left_out.append(f"{told}, by the pipeline's max_age, as it would when written")
    return tuple(kept), tuple(left_out)


def max_age(pipeline: Pipeline) -> timedelta | None:
    """Return the maximum age that a pipeline states; None where it states none."""
    age = getattr(pipeline.trigger, "max_age", None)
    return None if age is None else duration(age)


def fitted(rules: Sequence[Rule], metric: Metric | None) -> tuple[tuple[Rule, ...], list[str]]:
    """Return rules as they fit a metric that is known by now, and what was changed.

    `triggers.Pays` weighs losses of rows; where the metric is no mean of such (roc_auc), it
    counts one of the same task in its place.
    """
    if metric is None:
        return tuple(rules), []
    said = []
    found = []
    for rule in rules:
        other = _with_cost(rule.trigger, metric)
        if other is not None:
            said.append(f"{rule.name} weighs another loss: {other!r}, as {metric.name} has none")
        found.append(rule if other is None else replace(rule, name=repr(other), trigger=other))
    return tuple(found), said


def _with_cost(trigger: Trigger, metric: Metric) -> Trigger | None:
    if not isinstance(trigger, triggers.Pays) or trigger.cost is not None:
        return None
    try:
        probes.check(trigger, metric)
    except ConfigError:
        tasks = getattr(metric, "tasks", ())
        return replace(trigger, cost="mae" if tuple(tasks) == ("regression",) else "log_loss")
    return None


def _listed(wanted: str | Trigger | Sequence[str | Trigger]) -> list[str | Trigger]:
    if wanted == "all":
        return [name for name in NAMES if name not in ("never", "always", "oracle")]
    if isinstance(wanted, str):
        return [name.strip() for name in wanted.split(",") if name.strip()]
    return list(wanted) if isinstance(wanted, Sequence) else [wanted]


def _named(name: str, plan: Plan, *, all_: bool) -> tuple[list[Rule], str]:
    """Return the rules behind a name, and why there is none."""
    if name in ("never", "always", "oracle"):
        return [], ""  # these are there in any case
    if name == "periodic":
        return _periodic(plan), ""
    if name not in NAMES:
        near = nearest(name, NAMES)
        raise ConfigError(
            f"expected all, or some of {', '.join(NAMES)}, got {name!r}",
            hint=f"the nearest is {near!r}" if near else "a trigger of your own is given in Python",
        )
    made, why = _trigger(name)
    if made is None and not all_:
        raise ConfigError(why, hint='pip install "keepfit[river]"' if name == "ADWIN" else None)
    return ([] if made is None else [_own(made)]), why


def _trigger(name: str) -> tuple[Trigger | None, str]:
    if name == "ADWIN":
        if find_spec("river") is None:
            return None, "ADWIN is left out: the package `river` is not installed"
        return triggers.OnDrift(drift.ADWIN()), ""
    kind = getattr(triggers, name, None)
    if kind is None:
        return None, f"{name} is left out: this keepfit has no such trigger"
    try:
        made: Trigger = kind()
    except (ConfigError, TypeError) as problem:
        said = problem.message if isinstance(problem, ConfigError) else str(problem)
        return None, f"{name} is left out: {said}"
    return made, ""


def _periodic(plan: Plan) -> list[Rule]:
    """Return a grid of periods, each of which leaves room for a few trainings."""
    fitting = [steps for steps in PERIODS if steps * FEWEST <= plan.steps] or [PERIODS[0]]
    lengths = [_round(steps * plan.every) for steps in fitting]
    return [
        Rule(f"every {humanise(length)}", triggers.Every(length), "periodic") for length in lengths
    ]


def _round(length: timedelta) -> timedelta:
    """Return a length of time in whole seconds, as code can state it."""
    return timedelta(seconds=max(1, round(length.total_seconds())))


def _own(trigger: Any, taken: Collection[str] = ()) -> Rule:
    """Return the rule of a trigger; two of the user's own making may be called the same."""
    triggers.resolve(trigger)
    name = called(trigger)
    if name in taken and code_of(trigger) is None:
        name = next(told for n in count(2) if (told := f"{name} {n}") not in taken)
    return Rule(name, trigger)


def _free(name: str, pipeline: Pipeline) -> str:
    return name if name != pipeline.name else f"{name} (policy)"
