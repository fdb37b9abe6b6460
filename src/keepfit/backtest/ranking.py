"""From what was played and asked to a comparison: measures, regret, and the one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from keepfit import triggers
from keepfit.backtest.code import called, code_of
from keepfit.backtest.compared import Compared, Hindsight, Standing
from keepfit.backtest.judging import Difference, cheapest, difference, margin
from keepfit.backtest.matrix import Ask, Life, filled
from keepfit.backtest.measures import Measures, measured
from keepfit.backtest.oracle import Oracle
from keepfit.backtest.policies import max_age
from keepfit.clock import humanise
from keepfit.loop import DAY

if TYPE_CHECKING:
    from keepfit.backtest.outcome import Policy
    from keepfit.backtest.policies import Rule
    from keepfit.backtest.stage import Stage


FEW = 8
"""Windows below which a comparison says that it rests on few, as gates ask for blocks of time."""

ALIKE = 0.25
"""The share by which the step of a backtest may differ from the live one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was played and asked.

    ``policies`` and ``lives`` say by name what each was worth and what it did; ``tasks`` which
    models were asked about which batches, and ``answers`` the metric on each.
    """

    policies: Mapping[str, Policy]
    lives: Mapping[str, Life]
    tasks: Sequence[Ask]
    answers: Sequence[Sequence[float]]
    notes: tuple[str, ...] = ()


def ranked(
    stage: Stage, rules: Sequence[Rule], found: Found, within: float | None = None
) -> Compared:
    """Return the comparison of policies, the pipeline's own first among the rules.

    ``within`` is the difference that is too small to matter; the usual one when not given.
    """
    metric = stage.scorer.last_metric
    better = metric is None or metric.greater_is_better
    told = stage.told() | {
        "policies": tuple(found.policies[rule.name] for rule in rules),
        "greater_is_better": better,
        "every": stage.plan.every,
        "notes": found.notes,
    }
    if not found.tasks:
        standings = [_bare(rule, found.policies[rule.name]) for rule in rules]
        return Compared(**told, standings=tuple(standings))
    age = max_age(stage.pipeline)
    ranking = _Ranking(rules, found, 1.0 if better else -1.0, within, aged=age is not None)
    told["notes"] += (*ranking.few(), *_stepped(stage))
    return Compared(
        **told,
        standings=ranking.standings(),
        oracle=ranking.hindsight(),
        recommended=ranking.recommended,
        margin=ranking.margin,
        doubt=ranking.doubt(),
        max_age=age or _whole(stage.plan.last - stage.plan.since),
    )


def _bare(rule: Rule, policy: Policy) -> Standing:
    return Standing(
        policy=policy,
        kind=rule.kind,
        trigger=called(rule.trigger),
        code=code_of(rule.trigger),
        share=None,
        regret=None,
        beside=None,
        measures=Measures(),
    )


def _stepped(stage: Stage) -> tuple[str, ...]:
    """Return what to say where the live loop would not step as the policies did."""
    live, played = stage.pipeline.every or DAY, stage.plan.every
    if abs(played / live - 1) <= ALIKE:
        return ()
    return (
        f"played in steps of {humanise(played)}, and the live loop takes steps of "
        f"{humanise(live)}: state the same one (every) for what is found here to hold there",
    )


class _Ranking:
    def __init__(
        self,
        rules: Sequence[Rule],
        found: Found,
        sign: float,
        within: float | None,
        *,
        aged: bool,
    ) -> None:
        better = sign > 0
        self.rules, self.sign = rules, sign
        self.policies, self.lives = found.policies, found.lives
        lives = list(found.lives.values())
        self.matrix = filled(lives, found.tasks, found.answers, greater_is_better=better)
        self.oracle = Oracle(
            self.matrix.losses, self.matrix.starts, max(_trainings(life) for life in lives)
        )
        batches = self.matrix.batches.tolist()
        self.values = {
            name: [life.realised[batch] for batch in batches] for name, life in self.lives.items()
        }
        self.costs = {name: policy.fit_cpu_seconds for name, policy in self.policies.items()}
        own = rules[0].name
        usual = margin(float(np.mean(self.values[own])), greater_is_better=better)
        self.margin = usual if within is None else within
        self.idle = {rule.name for rule in rules if _idle(rule, self.lives[rule.name], aged)}
        self.recommended = cheapest(
            self.values, self.costs, own, sign=sign, within=self.margin, idle=self.idle
        )

    def few(self) -> tuple[str, ...]:
        """Return what to say where there are so few windows that chance decides."""
        many = self.matrix.batches.size
        if many >= FEW:
            return ()
        rests = "on 1 window" if many == 1 else f"on {many} windows"
        return (f"all of it rests {rests}, which is few: a shorter step (every) makes more",)

    def standings(self) -> tuple[Standing, ...]:
        """Return where each policy stands, the cheapest first."""
        found = [self._standing(rule) for rule in self.rules]
        return tuple(sorted(found, key=lambda one: one.policy.fit_cpu_seconds))

    def doubt(self) -> Difference | None:
        """Return how ``never`` stands beside the best, where it may be as good and is not shown to be."""
        worth = {name: self.sign * float(np.mean(each)) for name, each in self.values.items()}
        best = max(worth, key=lambda name: worth[name])
        never = next((rule.name for rule in self.rules if _unasked(rule)), None)
        if never not in self.idle or never is None or worth[never] >= worth[best]:
            return None
        beside = difference(self.values[never], self.values[best], sign=self.sign)
        return None if beside.high < 0 or beside.low >= -self.margin else beside

    def hindsight(self) -> tuple[Hindsight, ...]:
        """Return the front of what models could have been worth, by number of trainings."""
        return tuple(
            Hindsight(
                trainings=k,
                value=-self.sign * self.oracle.loss(k),
                fit_cpu_seconds=float(
                    sum(self.matrix.cpu[model] for model in {r.model for r in self.oracle.path(k)})
                ),
            )
            for k in range(1, self.oracle.enough + 1)
        )

    def _standing(self, rule: Rule) -> Standing:
        policy, life = self.policies[rule.name], self.lives[rule.name]
        always = next(self.costs[one.name] for one in self.rules if one.kind == "always")
        values, taken = self.values[rule.name], self.values[self.recommended]
        loss = -self.sign * float(np.mean(values))
        return Standing(
            policy=policy,
            kind=rule.kind,
            trigger=called(rule.trigger),
            code=code_of(rule.trigger),
            share=policy.fit_cpu_seconds / always if always > 0 else None,
            regret=loss - self.oracle.loss(_trainings(life)),
            beside=None
            if rule.name == self.recommended
            else difference(values, taken, sign=self.sign),
            measures=self._measures(life),
        )

    def _measures(self, life: Life) -> Measures:
        matrix = self.matrix
        served = [matrix.place(life.served[batch]) for batch in matrix.batches.tolist()]
        reigns = self.oracle.path(_trainings(life))
        return measured(
            trained=[matrix.window(batch + 1) for batch in life.turns[1:]],
            oracle=[reign.window for reign in reigns[1:]],
            serving=served,
            losses=matrix.losses,
            starts=matrix.starts,
            margin=self.margin,
        )


def _trainings(life: Life) -> int:
    """Return how many reigns there could have been at most: one for each turn, or those there were."""
    serving = [life.served[batch] for batch in sorted(life.served)]
    reigns = 1 + sum(a != b for a, b in pairwise(serving))  # what is rolled back to reigns again
    return max(reigns, len(life.turns), len(life.promoted))


def _idle(rule: Rule, life: Life, aged: bool) -> bool:
    """Return whether a policy is worth what not training is worth, on this history.

    One's own that watches for a reason to train and saw none may stay as it is; ``never``
    trains where the pipeline has a maximum age.
    """
    if rule.kind == "yours" and not _unasked(rule):
        return False
    return rule.kind == "never" and not aged or len(life.turns) <= 1


def _unasked(rule: Rule) -> bool:
    """Return whether a policy trains by its guards alone, and on events that nobody sends."""
    return isinstance(rule.trigger, triggers.OnEvent)


def _whole(length: timedelta) -> timedelta:
    """Return a length of time in the largest unit of which it has ten or more, rounded up."""
    units = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1))
    unit = next((one for one in units if length >= 10 * one), timedelta(seconds=1))
    return max(1, -(-length // unit)) * unit
