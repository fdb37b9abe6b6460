"""Which recipes of a turn are trained on all their rows: parts of them show first who falls behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from keepfit.batch import TIME, border
from keepfit.facts import Cost, Fact, Sampled, TrainingFailed
from keepfit.training import cost_of, fitted

if TYPE_CHECKING:
    import polars as pl

    from keepfit.metrics.evidence import Gain
    from keepfit.protocols import Comparison, Model, Result
    from keepfit.registry import State, Version
    from keepfit.turn import Turn

MANY = 30_000
"""Rows from which on a part of them is tried first. With fewer it saves little, and tells less."""

THIRD, NINTH, SMALLEST = 3, 9, 27
"""The parts of its rows that a recipe is tried on: one in so many."""

NAMED = {THIRD: "a third", NINTH: "a ninth", SMALLEST: "a 27th"}
TO_ALL = {THIRD: 1, NINTH: 2}
"""How often a part is to be tripled until it is all rows."""

FEWEST = 1_000
"""Rows that a part has at least."""

JUDGES, JUDGED = 5_000, 9
"""The newest rows, so many or one in so many of the fewest, that no part has and that judge all."""

SURE = 2.0
"""Standard errors by which a recipe must be behind."""

LET_OFF = 8
"""In its 8th, 64th, 512th try, and so on, a recipe is trained whatever a part of its rows says."""

HOPELESS = ("timed out", "out of memory")
"""How a training may end on a part of its rows that would not end better on all of them."""


@dataclass(slots=True, eq=False)
class Entrant:
    """A recipe in the trial of its turn: its rows before those that judge, and what came of it."""

    version: Version
    rows: pl.DataFrame
    leads: bool = False
    cost: Cost = field(default_factory=Cost)
    models: dict[int, Model] = field(default_factory=dict)
    told: str = ""
    ended: str = ""
    beaten: bool = False

    @property
    def least(self) -> int:
        """The rows of the largest part that it was tried on."""
        return part_size(self.rows.height, min(self.models, default=NINTH))

    def fact(self) -> Fact:
        """Return what came of it, as it is kept."""
        name = self.version.name
        if self.ended:
            return TrainingFailed(
                version=name, reason=self.ended, message=self.told, cost=self.cost
            )
        return Sampled(
            version=name, rows=self.least, reason=self.told, cost=self.cost, skipped=self.beaten
        )


class Halving:
    """The part of a turn that tries dear recipes on parts of their rows before all are taken.

    Those that start from scratch on many rows, and of which no record says that they do better than
    the one to beat, are fitted on a ninth of their rows, as is that one: the leader, or where none
    is the recipe of what serves. They are asked about the newest rows, which no part has; the
    holdout is left to the gate. The best of them is the measure. Who is not behind it for sure is
    trained; so is the leader in any case. Of the others a 27th tells how fast they learn: where one
    would be behind for sure though it gained with every tripling of its rows as much as with the
    last, and the best gained nothing, it is not trained. Where it might catch up, a third of the
    rows decides by the same rule.

    Learning curves are steep at first (over the logarithm of rows they are convex where they are
    powers of rows), so that their last slope is no less than what is to come. Where a recipe takes
    off late, that does not hold: in its 8th, 64th, … try it is trained all the same.

    Windows of one learner are hardly ever far apart until something has changed: until then a turn
    of nothing else has no trial.

    Only rows say whether a recipe is dear. A forecast would too; but it is of CPU seconds, and the
    same backtest would not give the same facts twice.

    References
    ----------
    Jamieson and Talwalkar, Non-stochastic best arm identification (2016) and Li et al., Hyperband
    (2018), for parts that triple; Maron and Moore, Hoeffding races (1994), for leaving out those
    that are behind for sure, however many, and not a half of them whatever they reach; Mohr and
    van Rijn, Fast and informative model selection using learning curve cross-validation (2023), for
    the bound by the last slope.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn, self.loop = turn, turn.loop

    def sampled(self, version: Version, at: datetime) -> bool:
        """Try the recipes of a version's turn, once, if it is one to be tried; whether it was."""
        versions = self._entering(version)
        if not versions or not self.turn.allowance.pays(_seconds(versions)):
            return False
        rows = {one.name: self.turn.rows_of(one) for one in versions}
        judging, since = judges(list(rows.values()))
        until = since - self.loop.pipeline.embargo
        entrants = [self._entrant(one, rows[one.name], until) for one in versions]
        Race(self, judging, entrants).run()
        self.loop.append([one.fact() for one in entrants], at)
        return True

    def _entrant(self, version: Version, rows: pl.DataFrame, until: datetime) -> Entrant:
        leader = self.turn.standings().leader()
        leads = leader is not None and leader.name == version.challenger
        return Entrant(version, rows.slice(0, border(rows.get_column(TIME), until, "left")), leads)

    def _entering(self, version: Version) -> list[Version]:
        """Return the versions of a turn that are tried beside each other, the one to beat first."""
        state, standings = self.loop.state, self.turn.standings()
        turn = state.of_turn(version.turn)
        if state.champion is None or not self.loop.pipeline.gate:
            return []
        if any(one.sampled is not None for one in turn) or not self._able(version):
            return []
        leader = standings.leader()
        first = _serving(state) if leader is None else leader.name
        able = sorted(filter(self._able, turn), key=lambda one: one.challenger != first)
        known = [
            one
            for one in able
            if one.challenger == first or standings.proven(one.challenger, first)
        ]
        tried = [one for one in able if one not in known and self._dear(one)]
        found = [*known[:1], *tried] if tried else []
        if version not in found or len(found) < 2:
            return []
        apart = len(set(map(self._way, found))) > 1 or standings.level.since is not None
        return found if apart else []

    def _able(self, version: Version) -> bool:
        """Whether a version is still to be trained, and by a recipe from scratch."""
        again = version.final_of or version.retry_of or version.afresh
        waits = version.state == "training" and version.start == "scratch" and not again
        return waits and self.turn.challenger(version) is not None

    def _way(self, version: Version) -> tuple[str, str, str] | None:
        challenger = self.turn.challenger(version)
        return None if challenger is None else challenger.way

    def _dear(self, version: Version) -> bool:
        """Whether a version has many rows, and its recipe is not let off this time."""
        tries = self.loop.state.recipes[version.challenger].trainings
        return version.snapshot.rows >= MANY and not let_off(tries)

    def fit(self, one: Entrant, part: int) -> bool:
        """Fit a recipe on a part of its rows; whether a model came of it."""
        version, loop = one.version, self.loop
        challenger = self.turn.challenger(version)
        assert challenger is not None
        learner = challenger.learner or loop.pipeline.learner
        rows = drawn(one.rows, part, version.seed)
        key = f"{version.key} {rows.height} of {one.rows.height} rows"
        found = fitted(loop, key, lambda: self.turn.task(version, learner, rows))
        one.cost = _sum(one.cost, cost_of(found))
        if not isinstance(found, dict):
            one.told = _trouble(part, rows.height, found)
            # A smaller part than one that a model came of tells of no larger one.
            if found.reason in HOPELESS and part != SMALLEST:
                one.ended = found.reason or ""
            return False
        try:
            one.models[part] = loop.scorer.load(found["artifact"])
        except Exception as error:  # a model of the user's own may fail in any way it likes
            one.told = f"{_on(part, rows.height)} it tells nothing: {error!r}"
            return False
        return True


@dataclass(slots=True)
class Race:
    """The trial of a turn's recipes beside each other, on the rows that judge them."""

    halving: Halving
    judging: pl.DataFrame
    entrants: list[Entrant]

    def run(self) -> None:
        """Try all on a ninth of their rows, and those that may catch up on a third."""
        running = [one for one in self.entrants if self.halving.fit(one, NINTH)]
        for part in (NINTH, THIRD):
            if len(running) < 2:
                return
            best = self._best(running, part)
            others = [one for one in running if one is not best]
            unsure = [one for one in others if self._undecided(one, best, part)]
            running = [one for one in unsure if part == NINTH and self.halving.fit(one, THIRD)]
            if running and self.halving.fit(best, THIRD):
                running.insert(0, best)

    def _best(self, running: Sequence[Entrant], part: int) -> Entrant:
        best = running[0]
        for one in running[1:]:
            gain = self._gain(one.models[part], best.models[part])[1]
            if gain is not None and gain.mean.mean > 0:
                best = one
        best.told = f"{_on(part, best.least)}, the best of {len(running)}"
        return best

    def _undecided(self, one: Entrant, best: Entrant, part: int) -> bool:
        """Whether a recipe is behind the best for sure, and may catch up; one that may not is beaten."""
        comparison, gain = self._gain(one.models[part], best.models[part])
        if comparison is None:
            one.told = f"{_on(part, one.least)}, not to be compared with {best.version.challenger}"
            return False
        new, old = self.halving.turn.values(comparison)
        values = "" if new is None or old is None else f" {new:,.4g} against {old:,.4g}"
        said = f"{comparison.metric.name}{values} of {best.version.challenger}"
        one.told = f"{_on(part, one.least)}, {said}"
        if one.leads or gain is None or gain.mean.mean + SURE * error_of(gain) >= 0:
            return False
        smaller = one.models.get(part * 3)
        if smaller is None and self.halving.fit(one, part * 3):
            smaller = one.models[part * 3]
        slope = None if smaller is None else self._gain(one.models[part], smaller)[1]
        if slope is None:
            return False
        one.beaten = behind(gain, slope, TO_ALL[part])
        one.told += ": not expected to pass" if one.beaten else ""
        return not one.beaten

    def _gain(self, new: Model, old: Model) -> tuple[Comparison | None, Gain | None]:
        return gain_on(self.halving.turn, self.judging, new, old)


def gain_on(
    turn: Turn, rows: pl.DataFrame, new: Model, old: Model
) -> tuple[Comparison | None, Gain | None]:
    """Return two models on rows that judge, and what the one gains over the other."""
    from keepfit.metrics.evidence import cleaned, gain_of

    try:
        found = cleaned(turn.comparison(rows, new, old, look=1))
        own = found.labels, found.challenger, found.champion, found.weights
        return found, gain_of(found.metric, *own)
    except Exception:  # a model of the user's own may fail in any way it likes
        return None, None


def behind(gain: Gain, slope: Gain, steps: int) -> bool:
    """Return whether a recipe is behind for sure, however well it goes on.

    Parameters
    ----------
    gain
        Of the recipe over the best, on the same part of their rows.
    slope
        Of the recipe over itself on a third of that part.
    steps
        How often the part is to be tripled until it is all rows.
    """
    reached = gain.mean.mean + steps * max(slope.mean.mean, 0.0)
    return reached + SURE * math.hypot(error_of(gain), steps * error_of(slope)) < 0


def let_off(tries: int) -> bool:
    """Return whether a recipe is trained in a try whatever parts of its rows say."""
    rest = tries
    while rest and rest % LET_OFF == 0:
        rest //= LET_OFF
    return rest == 1 and tries > 1


def part_size(rows: int, part: int) -> int:
    """Return how many of some rows one in so many are; not fewer than tell something."""
    return min(rows, max(FEWEST, rows // part))


def drawn(rows: pl.DataFrame, part: int, seed: int) -> pl.DataFrame:
    """Return one in so many rows: of each stretch of time one, by chance, as time may have a rhythm."""
    import numpy as np

    size = part_size(rows.height, part)
    if size == rows.height:
        return rows
    edges = np.linspace(0, rows.height, size + 1).astype(np.intp)
    return rows[edges[:-1] + np.random.default_rng(seed).integers(np.diff(edges))]


def judges(rows: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, datetime]:
    """Return the newest rows that judge models of parts of some rows, and since when they are.

    As new as the newest of the fewest; of those, the widest choice: it is the least biased.
    """
    fewest = min(rows, key=len).get_column(TIME)
    since: datetime = fewest[-max(1, min(JUDGES, fewest.len() // JUDGED))]
    new = [one.slice(border(one.get_column(TIME), since, "left")) for one in rows]
    return max(new, key=len).tail(JUDGES), since


def _serving(state: State) -> str:
    """Return the recipe that made what serves; where it was updated since, what was updated."""
    version = state.root(state.versions.get(state.champion or ""))
    return "" if version is None else version.challenger


def _seconds(versions: Sequence[Version]) -> float:
    """Return the CPU seconds that a trial takes at most, as far as they are forecast."""
    told = (0.0 if one.forecast is None else one.forecast.seconds for one in versions)
    return sum(told) * sum(1 / part for part in NAMED)


def error_of(gain: Gain) -> float:
    """Return the standard error of a gain, with what a single row can move it."""
    return math.hypot(gain.mean.error, gain.slack)


def _on(part: int, rows: int) -> str:
    return f"on {NAMED[part]} of its rows ({rows:,})"


def _trouble(part: int, rows: int, ended: Result) -> str:
    """Return why a training on a part of its rows has no model."""
    said = ended.message.strip()
    if ended.reason in HOPELESS:
        return f"{_on(part, rows)} already: {said}"
    return f"{_on(part, rows)} it tells nothing: {ended.reason}: {said.partition(chr(10))[0]}"


def _sum(one: Cost, other: Cost) -> Cost:
    return Cost(
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        wall_seconds=one.wall_seconds + other.wall_seconds,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
    )
